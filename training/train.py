"""Trains the model file from the texts beside this script: `python training/train.py` (about two minutes).

Reads `texts/*.tsv` (label, urgent, channel, place, parties, amounts, text), `incidents/*.tsv` (incident, time,
channel, reporter, place, lat, lon, label, urgent, text) and `lexicon.tsv` (class, its words). Writes
`streams/model/model.npz` with its figures inside and `streams/model/README.md`. Fixed seeds, no network; needs the
`train` extra. The same inputs give the same bytes on the same machine. `--check` only prints the figures.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import sys
import zipfile
import zlib
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.linear_model import LogisticRegression, Ridge

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

import network  # noqa: E402

from schemas.vocabulary import CATEGORIES, SUBTYPES  # noqa: E402
from streams.stages import cues  # noqa: E402
from streams.stages.classify import LONGEST_GRAM, Vocabulary, grams_of  # noqa: E402
from streams.stages.normalise import normalise  # noqa: E402
from streams.stages.traits import term_set  # noqa: E402

LEAVES = tuple(f"{c}/{s}" for c in CATEGORIES for s in ((*SUBTYPES[c], "-") if c == "other" else SUBTYPES[c]))
C_LEAF, C_URGENT = 30.0, 20.0
MEANING_ALPHA = 0.5
MIN_DOCUMENTS = 3
#: What a word class counts beside the grams, whose values together have length 1.
CLASS_VALUE = 0.08
URGENT_WEIGHT = 2.0
SEEDS = (1, 2)
#: Shares of the regression and of each network in the answer.
LINEAR_SHARE = 0.5
NETWORK_SHARE = (1 - LINEAR_SHARE) / len(SEEDS)
#: From this probability on a tip is urgent. Urgent texts count double in training, so that it stands for 1 in 12: a missed
#: one is held to be as bad as eleven too many. Thresholds fitted to each category followed single voices.
URGENT_FROM = 0.15


class Example(NamedTuple):
    """One labelled text; `voice` is the file family it comes from, the unit of validation."""

    voice: str
    text: str
    leaf: str
    urgent: bool
    weight: float
    channel: str


def read_examples() -> list[Example]:
    """All texts under training/, normalised."""
    examples = []
    for path in sorted(HERE.glob("texts/*.tsv")):
        for line in path.read_text("utf-8").splitlines():
            label, urgent, channel, _, _, _, text = line.split("\t")
            examples.append(Example(path.name.split("-")[0], normalise(text).text, label, urgent == "1", 1.0, channel))
    for path in sorted(HERE.glob("incidents/*.tsv")):
        for line in path.read_text("utf-8").splitlines():
            columns = line.split("\t")
            # A follow-up carries its incident's label though its own words say little: it weighs half.
            text, label, urgent, voice = normalise(columns[9]).text, columns[7], columns[8], path.name.split("-")[0]
            channel = columns[2].replace("wechat", "volunteer")
            examples.append(Example("incidents-" + voice, text, label, urgent == "1", 0.5, channel))
    return [e for e in examples if e.text and e.leaf in LEAVES]


def read_classes() -> dict[str, list[str]]:
    """The lexicon: class -> its grams, as `grams_of` names them. A word longer than a gram counts by its beginning."""
    classes = {}
    for line in (HERE / "lexicon.tsv").read_text("utf-8").splitlines():
        name, words = line.split("\t")
        grams = set()
        for word in words.lower().split():
            if "a" <= word[0] <= "z":
                parts = word.split("_")[:2]
                grams.add("w:" + " ".join(parts))
                if len(parts) == 1:
                    grams.add(f"w:{word}s")
            else:
                grams.add(normalise(word).text[:LONGEST_GRAM])
        classes[name] = sorted(grams)
    return classes


class Vectors:
    """TF-IDF over grams seen in at least MIN_DOCUMENTS texts, and the classes of words."""

    def __init__(self, texts: list[str]) -> None:
        documents: Counter[str] = Counter()
        for text in texts:
            documents.update(grams_of(text))
        kept = {g for g, n in documents.items() if n >= MIN_DOCUMENTS}
        self.classes = read_classes()
        grams = Vocabulary.arranged(kept, self.classes)
        self.vocabulary = Vocabulary(grams, self.classes)
        # A class's word that was hardly seen speaks through its class alone.
        idf = [math.log((1 + len(texts)) / (1 + documents[g])) + 1 if g in kept else 0.0 for g in grams]
        self.idf = np.array(idf + [0.0] * len(self.classes), dtype=np.float16).astype(np.float32)

    def matrix(self, texts: list[str]) -> Any:
        """Texts -> rows, as `Model.score` computes them."""
        data: list[float] = []
        columns: list[int] = []
        starts = [0]
        for text in texts:
            grams, classes = self.vocabulary.rows(text)
            values = self.idf[grams] if grams else np.zeros(0)
            length = math.sqrt(float(values @ values)) or 1.0
            data.extend((values / length).tolist())
            data.extend([CLASS_VALUE] * len(classes))
            columns.extend(grams + classes)
            starts.append(len(columns))
        return csr_matrix((data, columns, starts), shape=(len(texts), self.vocabulary.size), dtype=np.float32)


class Parts(NamedTuple):
    """What is learned: the regression's weights and bias (leaves, then urgent), and the networks."""

    weights: Any
    bias: Any
    networks: tuple[network.Network, ...]


def fit(matrix: Any, examples: list[Example]) -> Parts:
    """Two logistic regressions and the networks over one matrix."""
    sample = np.array([e.weight for e in examples])
    leaves = np.array([LEAVES.index(e.leaf) for e in examples])
    urgent = np.array([e.urgent for e in examples])
    leaf = LogisticRegression(C=C_LEAF, max_iter=200, tol=1e-3).fit(matrix, leaves, sample_weight=sample)
    hurry = LogisticRegression(C=C_URGENT, max_iter=200, tol=1e-3, class_weight={0: 1.0, 1: URGENT_WEIGHT})
    hurry.fit(matrix, urgent, sample_weight=sample)
    weights = np.zeros((matrix.shape[1], len(LEAVES) + 1), dtype=np.float32)
    bias = np.full(len(LEAVES) + 1, -20.0, dtype=np.float32)
    weights[:, leaf.classes_], bias[leaf.classes_] = leaf.coef_.T, leaf.intercept_
    weights[:, -1], bias[-1] = hurry.coef_[0], hurry.intercept_[0]
    targets = network.Targets(leaves, urgent.astype(np.float32), sample, len(LEAVES), URGENT_WEIGHT)
    return Parts(weights, bias, tuple(network.learn(matrix, targets, seed) for seed in SEEDS))


def meant(matrix: Any, texts: list[str]) -> dict[str, Any]:
    """Rows and their texts -> weights that say of a row what the teacher of `meaning.py` says of its text."""
    import meaning

    taught = meaning.read()
    keys = [meaning.key_of(text) for text in texts]
    known = [i for i, key in enumerate(keys) if key in taught]
    ridge = Ridge(alpha=MEANING_ALPHA, solver="sparse_cg", fit_intercept=False, tol=1e-3)
    ridge.fit(matrix[known], np.array([taught[keys[i]] for i in known]))
    weights, scales = quantise(ridge.coef_.T)
    return {"meaning": weights, "meaning_scales": scales}


def joined(parts: Parts) -> dict[str, Any]:
    """The parts as one: shares multiplied in, the networks' hidden layers side by side."""
    hidden = np.hstack([n.inner for n in parts.networks])
    weights, scales = quantise(np.hstack([LINEAR_SHARE * parts.weights, hidden]))
    bias = LINEAR_SHARE * parts.bias + NETWORK_SHARE * sum(n.outer_bias for n in parts.networks)
    return {
        "weights": weights,
        "scales": scales,
        "bias": np.concatenate([bias, *[n.inner_bias for n in parts.networks]]).astype(np.float32),
        "output": np.vstack([NETWORK_SHARE * n.outer for n in parts.networks]).astype(np.float32),
    }


def probabilities(matrix: Any, parts: Parts) -> tuple[Any, Any, Any]:
    """Rows -> (leaf, category, urgent) probabilities, as `Model.score` computes them."""
    logits = LINEAR_SHARE * (np.asarray(matrix @ parts.weights) + parts.bias)
    logits += NETWORK_SHARE * sum(n.logits(matrix) for n in parts.networks)
    leaf = np.exp(logits[:, :-1] - logits[:, :-1].max(axis=1, keepdims=True))
    leaf /= leaf.sum(axis=1, keepdims=True)
    within = [[i for i, name in enumerate(LEAVES) if name.startswith(c + "/")] for c in CATEGORIES]
    category = np.stack([leaf[:, columns].sum(1) for columns in within], axis=1)
    return leaf, category, 1 / (1 + np.exp(-logits[:, -1]))


class Answer(NamedTuple):
    """One held-out text: what it is and what was said of it."""

    truth: int
    said: int
    category: Any
    concrete: bool
    subtype_right: bool
    urgent: bool
    urgency: float
    voice: str


def held_out(examples: list[Example]) -> list[Answer]:
    """Leaves out one voice at a time and lets the others answer for it."""
    answers = []
    for voice in sorted({e.voice for e in examples if not e.voice.startswith("incidents")}):
        train = [e for e in examples if e.voice != voice]
        held = [e for e in examples if e.voice == voice]
        vectors = Vectors([e.text for e in train])
        parts = fit(vectors.matrix([e.text for e in train]), train)
        leaf, category, urgent = probabilities(vectors.matrix([e.text for e in held]), parts)
        for i, e in enumerate(held):
            name = e.leaf.split("/")[0]
            said = int(category[i].argmax())
            within = [k for k, other in enumerate(LEAVES) if other.startswith(CATEGORIES[said] + "/")]
            subtype_right = LEAVES[max(within, key=lambda k, i=i: leaf[i, k])] == e.leaf
            rule = cues.urgency(e.text, CATEGORIES[said])
            urgency = float(urgent[i]) if rule is None else float(rule.urgent)
            truth = CATEGORIES.index(name)  # type: ignore[arg-type]
            concrete = name != "other"
            answers.append(Answer(truth, said, category[i], concrete, subtype_right, e.urgent, urgency, voice))
        print(
            voice,
            len(held),
            _measured([a for a in answers if a.voice == voice], dict.fromkeys(CATEGORIES, URGENT_FROM)),
            flush=True,
        )
    return answers


def _measured(answers: list[Answer], urgent_from: dict[Any, float]) -> dict[str, Any]:
    f1 = {}
    for c, name in enumerate(CATEGORIES):
        both = sum(a.truth == a.said == c for a in answers)
        f1[name] = round(2 * both / max(1, sum(a.truth == c for a in answers) + sum(a.said == c for a in answers)), 4)
    concrete = [a for a in answers if a.concrete]
    hurried = [a.urgent for a in answers if a.urgency >= urgent_from[CATEGORIES[a.said]]]
    return {
        "macro_f1": round(sum(f1.values()) / len(f1), 4),
        "f1": f1,
        "subtype_accuracy": round(sum(a.subtype_right for a in concrete) / max(1, len(concrete)), 4),
        "urgent_recall": round(sum(hurried) / max(1, sum(a.urgent for a in answers)), 4),
        "urgent_precision": round(sum(hurried) / max(1, len(hurried)), 4),
    }


def cross_validate(examples: list[Example]) -> dict[str, Any]:
    """Held-out figures with the temperature that suits them, and intervals of 95 %."""
    answers = held_out(examples)
    urgent_from = dict.fromkeys(CATEGORIES, URGENT_FROM)
    # Voices count alike, however many texts they have.
    size = Counter(a.voice for a in answers)
    weight = np.array([1 / size[a.voice] for a in answers])
    said, truth = np.array([a.category for a in answers]), np.array([a.truth for a in answers])
    temperature = min((round(0.3 + 0.05 * k, 2) for k in range(40)), key=lambda t: _log_loss(said, truth, weight, t))
    chance = np.random.default_rng(7)
    draws = [[answers[i] for i in chance.integers(0, len(answers), len(answers))] for _ in range(200)]
    figures = [_measured(draw, urgent_from) for draw in draws]
    names = ("macro_f1", "subtype_accuracy", "urgent_recall", "urgent_precision")
    return {
        "voices": sorted(size),
        "held_out": len(answers),
        **_measured(answers, urgent_from),
        "intervals": {
            n: [round(float(q), 3) for q in np.quantile([f[n] for f in figures], (0.025, 0.975))] for n in names
        },
        "urgent_from": urgent_from,
        "temperature": temperature,
    }


def _log_loss(said: Any, truth: Any, weight: Any, temperature: float) -> float:
    powered = said ** (1 / temperature)
    powered /= powered.sum(axis=1, keepdims=True)
    return float(-(weight * np.log(np.maximum(powered[np.arange(len(truth)), truth], 1e-9))).sum())


def term_weights(texts: list[str]) -> dict[str, int]:
    """Term -> weight in hundredths: 100 for a term never seen, 0 for one in 2 % of the texts or more."""
    documents: Counter[str] = Counter()
    for text in texts:
        documents.update(term_set(text))
    top = math.log1p(0.02 * len(texts))
    return {t: max(0, round(100 * (1 - math.log1p(n) / top))) for t, n in sorted(documents.items()) if n >= 2}


def quantise(weights: Any) -> tuple[Any, Any]:
    """Float weights -> int8 with a scale a column; loses under 0.5 % of a column's range."""
    scales = np.abs(weights).max(axis=0) / 127
    scales[scales == 0] = 1
    return np.round(weights / scales).astype(np.int8), scales.astype(np.float32)


def write(path: Path, arrays: dict[str, Any]) -> None:
    """An .npz whose bytes depend on its content alone (fixed dates, fixed order)."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(arrays):
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, np.ascontiguousarray(arrays[name]), allow_pickle=False)
            archive.writestr(
                zipfile.ZipInfo(f"{name}.npy", (2026, 1, 1, 0, 0, 0)), buffer.getvalue(), zipfile.ZIP_DEFLATED
            )


def packed(lines: list[str]) -> Any:
    """Lines -> one compressed array of bytes."""
    return np.frombuffer(zlib.compress("\n".join(lines).encode(), 9), dtype=np.uint8)


def describe(path: Path, meta: dict[str, Any]) -> str:
    """The model's page: hash, sizes, figures."""
    figures = meta["figures"]
    rows = [
        f"| {name.replace('_', ' ')} | {figures[name]:.3f} | {low:.3f} - {high:.3f} |"
        for name, (low, high) in figures["intervals"].items()
    ]
    return "\n".join(
        [
            "# The packaged model",
            "",
            "Written by `python training/train.py`; do not edit. What the figures mean: `docs/quality.md`.",
            "",
            f"- `{path.name}`: SHA-256 `{hashlib.sha256(path.read_bytes()).hexdigest()}`",
            f"- {path.stat().st_size / 1e6:.2f} MB; {meta['grams']} grams, {meta['classes']} word classes, {len(LEAVES)} leaves,",
            f"  {network.HIDDEN * len(SEEDS)} hidden units; {meta['examples']} texts",
            "- urgent from " + ", ".join(f"{p} ({name})" for name, p in figures["urgent_from"].items()),
            f"- temperature {figures['temperature']}",
            "",
            f"Each of {len(figures['voices'])} voices ({', '.join(figures['voices'])}) answered for by a model that had not seen",
            f"it, {figures['held_out']} texts, intervals of 95 % by bootstrap:",
            "",
            "| figure | value | interval |",
            "| --- | --- | --- |",
            *rows,
            "",
            "| category | F1 |",
            "| --- | --- |",
            *[f"| {name} | {value:.3f} |" for name, value in figures["f1"].items()],
            "",
            *_pairs_page(meta["pairs"]),
        ]
    )


def _pairs_page(learned: dict[str, Any]) -> list[str]:
    """What the page says of grouping: what the weights were learned from, and figures on files they have not seen."""
    if not learned["features"]:
        return []
    names = ("precision", "recall", "f1", "bcubed", "false_merges")
    return [
        f"Grouping: {len(learned['features'])} weights from {learned['same']} pairs of one incident, {learned['apart']} of look-alikes",
        f"and {learned['strangers']} of strangers on mingled days; joins from {learned['join']}, suggests from {learned['suggest']}.",
        "Each file answered for by weights and a classifier that had not seen it:",
        "",
        "| files | pairwise precision | recall | F1 | B-cubed F1 | falsely joined |",
        "| --- | --- | --- | --- | --- | --- |",
        *[
            f"| {kind} | " + " | ".join(f"{learned[kind][n]:.3f}" for n in names) + " |"
            for kind in ("dense", "mingled")
        ],
        "",
    ]


def build(examples: list[Example], figures: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """A model of these examples -> (arrays of its file, meta); `pairs` builds smaller ones the same way."""
    texts = [e.text for e in examples]
    vectors = Vectors(texts)
    matrix = vectors.matrix(texts)
    parts = fit(matrix, examples)
    terms = term_weights(texts)
    meta: dict[str, Any] = {
        "leaves": LEAVES,
        "examples": len(examples),
        "grams": len(vectors.vocabulary.grams),
        "classes": len(vectors.classes),
        "class_value": CLASS_VALUE,
        "temperature": figures["temperature"],
        "urgent_from": figures["urgent_from"],
        "figures": figures,
        "pairs": {"features": [], "concepts": [], "kinds": {}},
    }
    arrays = {
        **joined(parts),
        **meant(matrix, texts),
        "vocabulary": packed(list(vectors.vocabulary.grams)),
        "classes": packed([json.dumps(vectors.classes, ensure_ascii=False, sort_keys=True)]),
        "idf": vectors.idf.astype(np.float16),
        "terms": packed(list(terms)),
        "term_weights": np.array(list(terms.values()), dtype=np.uint8),
    }
    return arrays, meta


def store(path: Path, arrays: dict[str, Any], meta: dict[str, Any]) -> None:
    """Writes the model file."""
    write(
        path,
        {
            **arrays,
            "meta": np.frombuffer(json.dumps(meta, ensure_ascii=False, sort_keys=True).encode(), dtype=np.uint8),
        },
    )


def main() -> None:
    """Validates by voice, trains on everything, learns the pair weights, writes the file."""
    examples = read_examples()
    figures = cross_validate(examples)
    print(json.dumps(figures, ensure_ascii=False))
    if "--check" in sys.argv[1:]:
        return
    arrays, meta = build(examples, figures)
    path = HERE.parent / "streams" / "model" / "model.npz"
    path.parent.mkdir(exist_ok=True)
    import pairs

    meta["pairs"] = pairs.learn(figures)
    store(path, arrays, meta)
    document(path, meta)


def document(path: Path, meta: dict[str, Any]) -> None:
    """Writes the model's page beside it."""
    page = describe(path, meta)
    path.with_name("README.md").write_text(page, "utf-8")
    print(page)


if __name__ == "__main__":
    main()
