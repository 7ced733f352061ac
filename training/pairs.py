"""Learns how much each feature of a pair of tips counts (`streams.stages.pair`), from the incidents under `incidents/`.

The classifier has read these incidents with their labels, so on them it errs less than on tips to come. The traits that
the weights are learned from therefore come from classifiers that have not read the file at hand. Thresholds are chosen,
and figures taken, by running the very `Groups` of the fold over files that the weights have not seen - as they stand,
dense with look-alikes, and thinned to half of their incidents, as a county's days more often are.
"""

from __future__ import annotations

import json
import random
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import train
from sklearn.linear_model import LogisticRegression

from schemas.records import Place, Tip
from schemas.times import HOUR
from streams.pipeline import Fold, analyse
from streams.stages import pair
from streams.stages.classify import Model
from streams.stages.group import Groups, Thresholds
from streams.stages.normalise import normalise
from streams.stages.traits import Traits
from tipline.county import find_county, load_county

FOLDS = 5
#: Pairs of strangers beside the pairs of the files.
STRANGERS = 8000
C = 1.5
JOINS = tuple(round(0.3 + 0.05 * i, 2) for i in range(9))
#: Share of incidents that may hold tips of two, in files full of look-alikes, thinned.
MOST_FALSE = 0.04
#: Of true pairs this share scores at least `suggest`.
SUGGESTED = 0.8
THINNED = 4
_CHANNELS = {"wechat": "volunteer"}


class Told(NamedTuple):
    """One line of an incident file: its traits and the incident it belongs to."""

    file: str
    incident: str
    traits: Traits


class Scored(NamedTuple):
    """How a partition compares with the true one."""

    precision: float
    recall: float
    f1: float
    bcubed: float
    false_merges: float


def learn(model_path: Path) -> tuple[list[float], dict[str, Any]]:
    """Model file -> (weights in the order of FEATURES, then the bias; thresholds and figures)."""
    told = read(Model(model_path.read_bytes()))
    pairs = [(a, b) for a, b in near_pairs(told) if not pair.forbidden(a.traits, b.traits)]
    features = np.array([pair.features(a.traits, b.traits) for a, b in pairs])
    same = np.array([a.incident == b.incident for a, b in pairs])
    fold_of = _folds(told)
    folds = np.array([fold_of[a.file] for a, _ in pairs])
    plain = np.array([pair.features(a, b) for a, b in strangers(told, STRANGERS)])
    held = np.zeros(len(pairs))
    by_fold: dict[int, list[float]] = {}
    for k in range(FOLDS):
        by_fold[k] = fitted(features[folds != k], same[folds != k], plain)
        held[folds == k] = 1 / (1 + np.exp(-(features[folds == k] @ by_fold[k][:-1] + by_fold[k][-1])))
    suggest = round(float(np.quantile(held[same], 1 - SUGGESTED)), 2)
    dense = {join: partition_scores(told, fold_of, by_fold, join, [1.0]) for join in JOINS}
    thinned = {join: partition_scores(told, fold_of, by_fold, join, [0.5] * THINNED) for join in JOINS}
    # A wrong merge hides an incident, a missed one costs a second look: the lowest threshold that merges few wrongly.
    join = next((j for j in JOINS if thinned[j].false_merges <= MOST_FALSE), JOINS[-1])
    figures = {
        "join": join,
        "suggest": min(suggest, round(join - 0.1, 2)),
        "pairs": len(pairs),
        "same": int(same.sum()),
        "dense": {str(j): dense[j]._asdict() for j in JOINS},
        "thinned": {str(j): thinned[j]._asdict() for j in JOINS},
    }
    return fitted(features, same, plain), figures


def fitted(features: Any, same: Any, plain: Any) -> list[float]:
    """Weights and bias of the regression; `plain` are pairs of strangers."""
    everything = np.vstack([features, plain])
    model = LogisticRegression(C=C, max_iter=3000).fit(everything, np.concatenate([same, np.zeros(len(plain), bool)]))
    return [round(float(w), 4) for w in (*model.coef_[0], model.intercept_[0])]


def read(model: Model) -> list[Told]:
    """All incident files, each through the fold's own stages with a classifier that has not read it."""
    files = sorted(train.HERE.glob("incidents/*.tsv"))
    lines = {f.name: [line.split("\t") for line in f.read_text("utf-8").splitlines()] for f in files}
    fold_of = {f.name: i % FOLDS for i, f in enumerate(files)}
    bundle = load_county(find_county("anping"))
    examples = train.read_examples()
    told: list[Told] = []
    for k in range(FOLDS):
        mine = [name for name in sorted(lines) if fold_of[name] == k]
        seen = {normalise(columns[9]).text for name in mine for columns in lines[name]}
        rest = [e for e in examples if not (e.voice.startswith("incidents") and e.text in seen)]
        fold = Fold(bundle, _built(rest, model), lambda _: None)
        for name in mine:
            for number, columns in enumerate(lines[name]):
                facts = analyse(fold.county, fold.model, _tip(f"{name}:{number:03}", columns))
                told.append(Told(name, columns[0], fold.traits(facts)))
    return sorted(told, key=lambda t: (t.file, t.traits.seen, t.traits.tip_id))


def _built(examples: list[Any], model: Model) -> Model:
    """A model of fewer examples with the calibration of the whole one."""
    arrays, meta = train.build(examples, model.meta["figures"])
    meta["pair_weights"] = [0.0] * (len(pair.FEATURES) + 1)  # grouping is not run with it
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.npz"
        train.store(path, arrays, meta)
        return Model(path.read_bytes())


def _tip(tip_id: str, columns: list[str]) -> Tip:
    _, time, channel, reporter, place, lat, lon = columns[:7]
    return Tip(
        county="anping",
        tip_id=tip_id,
        source=f"{channel}:training",
        channel=_CHANNELS.get(channel, channel),  # type: ignore[arg-type]
        text=columns[9],
        received_at=time,
        reported_at=time,
        reporter=reporter,
        place=Place(text=_told(place), lat=_number(lat), lon=_number(lon)),
    )


def _told(column: str) -> str | None:
    return None if column == "-" else column


def _number(column: str) -> float | None:
    return None if column == "-" else float(column)


def _folds(told: Iterable[Told]) -> dict[str, int]:
    """File -> fold of the validation of weights; another cut than that of the classifiers."""
    return {name: i * FOLDS // max(1, len(files)) for files in [sorted({t.file for t in told})] for i, name in enumerate(files)}


def strangers(told: list[Told], count: int) -> list[tuple[Traits, Traits]]:
    """Pairs of tips of different files, moved into one window: what a county mostly sees beside its incidents.

    The incident files are written to be hard: another offence at the same place in the same hour. Without the plain
    pairs, a shared place would seem to say nothing.
    """
    chance = random.Random(0)
    found: list[tuple[Traits, Traits]] = []
    while len(found) < count:
        a, b = chance.choice(told), chance.choice(told)
        if a.file == b.file:
            continue
        moved = Traits.load(b.traits.tip_id, b.traits.dump())
        shift = a.traits.seen + chance.randrange(pair.LONGEST_WINDOW) - moved.seen
        moved.seen, moved.at = moved.seen + shift, moved.at + shift
        if not pair.forbidden(a.traits, moved):
            found.append((a.traits, moved))
    return found


def near_pairs(told: Iterable[Told]) -> Iterable[tuple[Told, Told]]:
    """Pairs of one file that could lie in one window."""
    by_file: dict[str, list[Told]] = defaultdict(list)
    for t in told:
        by_file[t.file].append(t)
    for tips in by_file.values():
        for a, b in combinations(tips, 2):
            if abs(a.traits.seen - b.traits.seen) <= 48 * HOUR:
                yield a, b


def partition_scores(told: list[Told], fold_of: dict[str, int], weights: dict[int, list[float]], join: float, shares: list[float]) -> Scored:
    """Runs grouping over every file with the weights of its fold, once for each share of the incidents, and averages."""
    runs = []
    for seed, share in enumerate(shares):
        truth: dict[str, str] = {}
        found: dict[str, str] = {}
        for name in sorted(fold_of):
            tips = [t for t in told if t.file == name]
            incidents = sorted({t.incident for t in tips})
            kept = set(random.Random(seed).sample(incidents, round(share * len(incidents))))
            groups = Groups(weights[fold_of[name]], Thresholds(join, join))
            mine = [t for t in tips if t.incident in kept]
            for position, t in enumerate(mine):
                groups.place(Traits.load(t.traits.tip_id, t.traits.dump()), position)
            truth.update({t.traits.tip_id: f"{name}/{t.incident}" for t in mine})
            found.update({tip_id: incident.id for incident in groups.incidents.values() for tip_id in incident.tips})
        runs.append(compared(truth, found))
    return Scored(*[round(sum(values) / len(runs), 4) for values in zip(*runs, strict=True)])


def compared(truth: dict[str, str], found: dict[str, str]) -> Scored:
    """Pairwise and B-cubed scores of a partition, and the share of its incidents that hold tips of two true ones."""
    both = Counter((truth[t], found[t]) for t in truth)
    of_truth, of_found = Counter(truth.values()), Counter(found[t] for t in truth)
    right, said, true = (sum(n * (n - 1) // 2 for n in c.values()) for c in (both, of_found, of_truth))
    precision, recall = right / max(1, said), right / max(1, true)
    purity = sum(both[truth[t], found[t]] / of_found[found[t]] for t in truth) / max(1, len(truth))
    whole = sum(both[truth[t], found[t]] / of_truth[truth[t]] for t in truth) / max(1, len(truth))
    mixed = sum(len({truth[t] for t in truth if found[t] == i}) > 1 for i in of_found)
    return Scored(precision, recall, _f1(precision, recall), _f1(purity, whole), mixed / max(1, len(of_found)))


def _f1(precision: float, recall: float) -> float:
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


if __name__ == "__main__":
    path = train.HERE.parent / "streams" / "model" / "model.npz"
    weights, figures = learn(path)
    with np.load(path) as loaded:
        arrays = {name: loaded[name] for name in loaded.files if name != "meta"}
        meta = json.loads(loaded["meta"].tobytes())
    train.store(path, arrays, {**meta, "pair_weights": weights, "pair_figures": figures})
    for name, weight in zip((*pair.FEATURES, "bias"), weights, strict=True):
        print(f"{name:24} {weight:7.2f}")
    print(json.dumps(figures))
