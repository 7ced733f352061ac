"""Classify: category, subtype, urgency and confidence of a text, with the words that weighed most.

A small model over character 1-4-grams (for Latin: words and word pairs) and word classes is read from one file that
`training/train.py` writes; a few rules speak first where the field has certainty. Scoring needs numpy only.
The method: multinomial logistic regression over TF-IDF values, averaged with a network of one hidden layer over the
same values; see docs/quality.md for its figures. The word classes are part of the file, so that a model decides alike
whatever comes after it.
"""

from __future__ import annotations

import hashlib
import io
import math
import re
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, cast

import msgspec
import numpy as np

from schemas.records import Reason
from schemas.vocabulary import CATEGORIES, Category
from streams.stages import cues
from streams.stages.pair import Weights, aligned
from streams.stages.traits import MEANING_LENGTH, MEANING_ZERO

LONGEST_GRAM: Final = 4
_PART = re.compile(r"[a-z][a-z']*|[^a-z]+")
#: Amounts, times and tokens of sealed numbers say that there is a number, not which.
_NUMBER = re.compile(r"\[[a-z_]+:[0-9a-f]+\]|[0-9]+(?:\.[0-9]+)?")


def grams_of(text: str) -> set[str]:
    """Normalised text -> its n-grams: of Latin, words and pairs (`w:` before them); of all else, 1-4 characters."""
    found: set[str] = set()
    before = ""
    for part in _PART.findall(_NUMBER.sub("0", text)):
        if "a" <= part[0] <= "z":
            found.add("w:" + part)
            if before:
                found.add(f"w:{before} {part}")
            before = part
            continue
        if part != " ":
            before = ""
        size = len(part)
        found.update(part[i:j] for i in range(size) for j in range(i + 1, min(i + LONGEST_GRAM, size) + 1))
    return found


class Vocabulary:
    """Grams and word classes with their row numbers. Training and scoring both call `rows`, so they cannot differ.

    Every beginning of a listed n-gram is listed too, so that a walk may stop at the first one that is not.
    Rows are numbered: plain grams, then grams that belong to a class, then the classes.
    """

    __slots__ = ("_classes", "_first_in_class", "_row", "grams", "size")

    def __init__(self, grams: Sequence[str], classes: Mapping[str, Sequence[str]]) -> None:
        """`grams` as `arranged` gives them; `classes`: name -> its grams."""
        self.grams = tuple(grams)
        self._row = {gram: i for i, gram in enumerate(grams)}
        members: dict[str, list[int]] = {}
        for i, name in enumerate(sorted(classes)):
            for gram in classes[name]:
                members.setdefault(gram, []).append(len(grams) + i)
        self._first_in_class = len(grams) - len(members)
        self._classes = tuple(tuple(members[gram]) for gram in self.grams[self._first_in_class :])
        self.size = len(grams) + len(classes)

    @staticmethod
    def arranged(kept: Iterable[str], classes: Mapping[str, Sequence[str]]) -> list[str]:
        """The order of rows: what is kept for itself and beginnings of words, then what belongs to a class."""
        members = {gram for grams in classes.values() for gram in grams}
        beginnings = {g[:i] for g in members if not g.startswith("w:") for i in range(1, len(g))}
        return sorted((set(kept) | beginnings) - members) + sorted(members)

    def rows(self, text: str) -> tuple[list[int], list[int]]:
        """Normalised text -> the rows of its grams and of its classes, each once, in order of appearance."""
        get = self._row.get
        found: list[int] = []
        add = found.append
        before = ""
        for part in _PART.findall(_NUMBER.sub("0", text)):
            if "a" <= part[0] <= "z":
                if (row := get("w:" + part)) is not None:
                    add(row)
                if before and (row := get(f"w:{before} {part}")) is not None:
                    add(row)
                before = part
                continue
            if part != " ":
                before = ""
            for i in range(len(part)):
                if (row := get(part[i])) is not None:
                    add(row)
                    if (row := get(part[i : i + 2])) is not None:
                        add(row)
                        if (row := get(part[i : i + 3])) is not None:
                            add(row)
                            if (row := get(part[i : i + 4])) is not None:
                                add(row)
        # The last characters of a part give the same slice more than once: once is enough.
        once = list(dict.fromkeys(found))
        first, classes = self._first_in_class, self._classes
        return once, list(dict.fromkeys([c for row in once if row >= first for c in classes[row - first]]))


class Model:
    """The trained model, ready to score. Immutable; `digest` is the SHA-256 of its file."""

    __slots__ = (
        "_class_value",
        "_hidden",
        "_idf",
        "_meaning",
        "_of_category",
        "_output",
        "_weights",
        "_width",
        "_within",
        "digest",
        "leaves",
        "meta",
        "pair_weights",
        "temperature",
        "term_weights",
        "urgent_from",
        "vocabulary",
    )  # fmt: skip

    def __init__(self, data: bytes) -> None:
        """Reads a model file. Raises ValueError when it is none."""
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
                loaded = {name: arrays[name] for name in arrays.files}
            self.meta: dict[str, Any] = msgspec.json.decode(loaded["meta"].tobytes())
            grams = zlib.decompress(loaded["vocabulary"].tobytes()).decode().split("\n")
            classes = msgspec.json.decode(zlib.decompress(loaded["classes"].tobytes()), type=dict[str, list[str]])
            term_names = zlib.decompress(loaded["terms"].tobytes()).decode().split("\n")
            #: Columns: the leaves, then urgent, the hidden layer and, since 2026-11-28, what a text means. The last row is the bias.
            weighed = np.vstack([loaded["weights"] * loaded["scales"].astype(np.float32), loaded["bias"].astype(np.float32)])
            self._meaning = weighed.shape[1]
            if "meaning" in loaded:
                meant = loaded["meaning"] * loaded["meaning_scales"].astype(np.float32)
                weighed = np.hstack([weighed, np.vstack([meant, np.zeros(meant.shape[1], np.float32)])])
            self._weights = weighed
            self._output = loaded["output"].astype(np.float32)
            self._idf = np.append(loaded["idf"].astype(np.float32), np.float32(0))
            weights = loaded["term_weights"].tolist()
            pairs = self.meta["pairs"]
            self.pair_weights = Weights(aligned(pairs["features"]), tuple(pairs["concepts"]), dict(pairs["kinds"]))
        except (KeyError, OSError, ValueError, EOFError, zlib.error, zipfile.BadZipFile, msgspec.DecodeError) as error:
            raise ValueError(
                f"this is no model file of ours ({type(error).__name__}); train one with `python training/train.py`"
            ) from None
        self.digest = hashlib.sha256(data).hexdigest()
        self.vocabulary = Vocabulary(grams, classes)
        self.leaves: tuple[str, ...] = tuple(self.meta["leaves"])
        self._width = len(self.leaves)
        self._hidden = self._width + 1
        of = [CATEGORIES.index(cast(Category, leaf.split("/")[0])) for leaf in self.leaves]
        if of != sorted(of) or set(of) != set(range(len(CATEGORIES))):
            raise ValueError("this is no model file of ours (leaves out of order)")
        #: Leaves of one category stand side by side.
        first = [of.index(c) for c in range(len(CATEGORIES))]
        self._of_category = np.eye(len(CATEGORIES), dtype=np.float32)[of]
        self._within = [slice(a, b) for a, b in zip(first, [*first[1:], self._width], strict=True)]
        self._class_value = float(self.meta["class_value"])
        self.temperature = float(self.meta["temperature"])
        #: Probability from which a tip of each category is urgent.
        self.urgent_from: dict[str, float] = dict(self.meta["urgent_from"])
        self.term_weights: dict[str, float] = {n: w / 100 for n, w in zip(term_names, weights, strict=True)}

    def score(self, text: str) -> Scores:
        """Normalised text -> probabilities and what made them."""
        grams, classes = self.vocabulary.rows(text)
        count, width = len(grams), self._width
        at = np.array([*grams, *classes, -1], dtype=np.intp)
        values = self._idf.take(at)
        # Classes and the last row, which holds the bias, have no share in the length; their values are fixed.
        values *= 1.0 / (math.sqrt(float(values.dot(values))) or 1.0)
        values[count:] = self._class_value
        values[-1] = 1.0
        sums = values.dot(self._weights.take(at, axis=0))
        hidden = sums[self._hidden : self._meaning]
        logits = np.maximum(hidden, 0.0, out=hidden).dot(self._output)
        logits += sums[: self._hidden]
        leaf = logits[:width]
        leaf = np.exp(leaf - leaf[leaf.argmax()])
        category = leaf.dot(self._of_category)
        total = sum(category.tolist())
        leaf /= total
        category /= total
        urgent = 1.0 / (1.0 + math.exp(-max(-50.0, min(50.0, float(logits[-1])))))
        return Scores(leaf, category, urgent, at[:count], values[:count], sums[self._meaning :])

    def cues(self, scores: Scores, leaf: int, most: int = 4) -> list[tuple[str, float]]:
        """The grams that spoke most for a leaf, by its linear weights -> (words, weight), none inside another."""
        weight = scores.values * self._weights[scores.rows, leaf]
        found: list[tuple[str, float]] = []
        for i in weight.argsort()[:-15:-1].tolist():
            value = float(weight[i])
            if value <= 0 or len(found) >= most:
                break
            word = self.vocabulary.grams[scores.rows[i]].removeprefix("w:").strip()
            if len(word) > 1 and word.isalnum() and not any(word in other or other in word for other, _ in found):
                found.append((word, value))
        return found

    def knows_little(self, text: str, scores: Scores) -> bool:
        """Whether a text has letters and hardly a word of it was ever seen: another script, keys pressed at random."""
        if not any(map(str.isalpha, text)):
            return False
        known = 0
        for row in scores.rows.tolist():
            gram = self.vocabulary.grams[row]
            if gram.startswith("w:"):
                known += _FEW if len(gram) > 4 else 1  # a word says more than a letter or two
            else:
                known += any(map(str.isalpha, gram))
            if known >= _FEW:
                return False
        return True

    def best_leaf(self, scores: Scores, category: int) -> int:
        """The likeliest leaf of a category."""
        within = self._within[category]
        return int(within.start) + int(scores.leaf[within].argmax())

    def calibrated(self, scores: Scores, category: int) -> float:
        """A category's probability with the temperature that made it true on held-out voices."""
        power = 1.0 / self.temperature
        powered = [p**power for p in scores.category.tolist()]
        return float(powered[category] / sum(powered))


class Scores:
    """What the model says of one text."""

    __slots__ = ("category", "leaf", "meant", "rows", "urgent", "values")

    def __init__(self, leaf: Any, category: Any, urgent: float, rows: Any, values: Any, meant: Any) -> None:
        self.leaf = leaf
        self.category = category
        self.urgent = urgent
        self.rows = rows
        self.values = values
        self.meant = meant

    def meaning(self) -> bytes:
        """What the text means as a direction: a byte a number, MEANING_ZERO for none; empty when nothing of it is known."""
        length = math.sqrt(float(self.meant.dot(self.meant)))
        if not length:
            return b""
        return bytes(np.clip(np.rint(self.meant * (MEANING_LENGTH / length)) + MEANING_ZERO, 0, 255).astype(np.uint8))


#: Texts of which fewer grams than this are known are not read: a person decides.
_FEW: Final = 2
#: The confidence of what was not read, below every county's threshold.
_UNREAD: Final = 0.1
_OTHER: Final = CATEGORIES.index("other")


class Classified(msgspec.Struct, frozen=True):
    """The answer. `leaves` are the likeliest (category/subtype, probability), at most three, for grouping."""

    category: Category
    subtype: str | None
    urgent: bool
    confidence: float
    leaves: tuple[tuple[str, float], ...]
    reasons: tuple[Reason, ...]
    #: What the text means, for grouping: `Scores.meaning`.
    meaning: bytes = b""


_EMPTY = Classified(
    "other", "noise", False, 0.99, (("other/noise", 0.99),), (Reason("rule", "empty", "the text is nothing but marks"),)
)


def classify(model: Model, text: str, channel: str = "volunteer", hint: Category | None = None) -> Classified:
    """Normalised `text` -> category, subtype, urgency, confidence and reasons. Never raises.

    A rule that fires decides its part alone. `hint` is the channel's own category: it decides where the text does not.
    """
    if not text:
        return _EMPTY
    rule = cues.ruled(text, channel)
    scores = model.score(text)
    unread = rule is None and model.knows_little(text, scores)
    reasons: list[Reason] = []
    if rule is not None:
        category, subtype, confidence = rule.category, rule.subtype, rule.confidence
        reasons.append(Reason("rule", rule.cue, rule.detail))
        leaves: tuple[tuple[str, float], ...] = ((f"{category}/{subtype or '-'}", confidence),)
    else:
        best = int(scores.category.argmax())
        confidence = model.calibrated(scores, best)
        if unread:
            best, confidence = _OTHER, min(confidence, _UNREAD)
        if hint is not None and confidence < 0.5 and hint != CATEGORIES[best]:
            best = CATEGORIES.index(hint)
            reasons.append(Reason("hint", hint, "the channel says so and the text does not decide"))
        category = CATEGORIES[best]
        leaf = model.best_leaf(scores, best)
        name = model.leaves[leaf]
        subtype = None if name.endswith("/-") or (unread and best == _OTHER) else name.partition("/")[2]
        likely = scores.leaf.argsort()[:-4:-1].tolist()
        share = scores.leaf[likely].tolist()
        leaves = tuple([(model.leaves[i], round(p, 3)) for i, p in zip(likely, share, strict=True) if p > 0.05])
        words = " ".join([word for word, _ in model.cues(scores, leaf)])
        where = f"weighed most for {category}/{subtype}" if subtype else f"weighed most for {category}"
        reasons.append(Reason("words", words, where) if words else Reason("words", "-", "no single word weighs much"))
    urgent, why = _urgent(model, 0.0 if unread else scores.urgent, text, category, subtype)
    if why is not None:
        reasons.append(why)
    return Classified(category, subtype, urgent, round(confidence, 3), leaves, tuple(reasons), scores.meaning())


def _urgent(
    model: Model, probability: float, text: str, category: Category, subtype: str | None
) -> tuple[bool, Reason | None]:
    """A rule that is certain, else the model."""
    if subtype in ("publicity", "noise"):
        return False, None
    rule = cues.urgency(text, category)
    if rule is not None:
        return rule.urgent, Reason("urgent" if rule.urgent else "not_urgent", rule.cue, rule.detail)
    if probability >= model.urgent_from[category]:
        return True, Reason("urgent", f"p={probability:.2f}", "reads like a thing that cannot wait an hour")
    return False, None
