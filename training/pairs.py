"""Learns how much each feature of a pair of tips counts (`streams.stages.pair`): `python training/pairs.py`.

Four things speak of it. The incident files are dense with look-alikes: another victim, another day, another problem at
the same place. They are told once more with one of two silent about the place, or about names and numbers: our writers name
more than people do. Mingled days lay the incidents of several files over the same days, with single texts between them, as a
county's ordinary day is: there nearly every pair that is looked at are strangers, and without them a shared kind and hour
would seem to say much. Thresholds are chosen, and figures taken, by running the very `Groups` of the fold over dense files
and mingled days.

The classifier has read these texts with their labels, so on them it errs less than on tips to come. The traits therefore
come from classifiers that have not read the file at hand, and what is measured is measured with weights that have not
seen it either. Called by `train.py`; alone it learns the pairs of the model file anew and writes both file and page.
"""

from __future__ import annotations

import json
import math
import random
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import train
from scipy.optimize import minimize

from schemas.records import Place, Tip
from schemas.times import DAY, HOUR
from streams.pipeline import Fold, analyse
from streams.stages import pair
from streams.stages.classify import Model
from streams.stages.concepts import COUNT
from streams.stages.group import Groups, Thresholds
from streams.stages.normalise import normalise
from streams.stages.traits import Traits
from tipline.county import find_county, load_county

FOLDS = 5
C = 1.5
#: Mingled days: how often each fold's files are laid over each other, over how many days, with how many single texts.
MINGLED, MINGLED_DAYS, MINGLED_SINGLES = 4, 3, 500
#: What a pair of strangers counts beside a pair of the dense files: between a desk that sees one incident an hour and a
#: county that sees hundreds of tips a day. At equal shares of wrong merges 0.032 finds more pairs than 0.012 and 0.02.
STRANGER_WEIGHT = 0.032
#: What a pair counts in which one of the two keeps quiet about the place, or about names and numbers.
RETOLD_WEIGHT = 0.25
JOINS = tuple(round(0.3 + 0.05 * i, 2) for i in range(9))
#: Share of incidents of a mingled day that may hold tips of two. Mingled days are much harder than real ones, since their
#: files name the same few villages and six of them are nothing but look-alikes: on the demo's day a fourth as many are wrong.
MOST_FALSE = 0.14
#: Of true pairs this share scores at least `suggest`.
SUGGESTED = 0.7
_CHANNELS = {"wechat": "volunteer"}
#: What is shared never speaks against one incident, and what differs never for it: writers who set look-alikes minutes apart
#: would teach that a theft told twice within six minutes is two. Other features, and most products, are free.
_SPEAK_FOR = frozenset(
    "dice containment terms terms_share rare_terms leaves_agree categories_agree things sites happenings concepts_share colours_same makes_same rare_things rare_sites rare_happenings rare_share rare_kind "
    "same_village same_place place_told near same_reporter same_reporter_soon same_reporter_follow_up money_same money_rare quantity_same names_same surnames_same forwarded_same "
    "place_terms place_soon meaning at_once within_hours kind_at_once concepts_at_once".split()
)
_SPEAK_AGAINST = frozenset(
    "categories_apart things_apart sites_apart happenings_apart colours_apart makes_apart places_apart townships_apart far given_apart gap over_10_min over_1_h over_3_h over_8_h over_16_h "
    "same_reporter_apart same_reporter_another same_reporter_two loot_apart fight_apart hurt_apart stranger_another another_late money_conflict quantity_apart surnames_apart here_apart here_unlike theft_at_once theft_things_apart places_apart_at_once here_things_apart".split()
)


class Told(NamedTuple):
    """One line of an incident file, or one single text: its traits and the incident it belongs to."""

    file: str
    incident: str
    traits: Traits


Day = list[tuple[Traits, str]]


class Scored(NamedTuple):
    """How a partition compares with the true one."""

    precision: float
    recall: float
    f1: float
    bcubed: float
    false_merges: float


def learn(figures: dict[str, Any]) -> dict[str, Any]:
    """Figures of the classifier -> the model's `pairs`: weights, rarities, thresholds and how well they did."""
    told, singles = read(figures)
    nothing = rarities(told + singles)
    fold_of = {name: i % FOLDS for i, name in enumerate(sorted({t.file for t in told}))}
    single_fold = {name: i % FOLDS for i, name in enumerate(sorted({s.file for s in singles}))}
    dense = [(a, b) for a, b in near_pairs(told) if not pair.forbidden(a.traits, b.traits)]
    data = _Data([], [], [], [])
    for weight, pairs in ((1.0, dense), (RETOLD_WEIGHT, retold(told, placeless)), (RETOLD_WEIGHT, retold(told, numberless))):
        for a, b in pairs:
            row = pair.features(nothing, a.traits, b.traits)
            data.add(row, a.incident == b.incident, fold_of[a.file], weight)
    days: dict[int, Day] = {}
    for k in range(FOLDS):
        mine = [t for t in told if fold_of[t.file] == k]
        between = [s for s in singles if single_fold[s.file] == k]
        for turn in range(MINGLED):
            day = mingled(mine, between, turn)
            days.setdefault(k, day)
            for a, b in strangers(day, nothing):
                data.add(pair.features(nothing, a, b), False, k, STRANGER_WEIGHT)
    by_fold = {k: fitted(data, nothing, without=k) for k in range(FOLDS)}
    held = np.array([pair.score(by_fold[fold_of[a.file]], a.traits, b.traits) for a, b in dense])
    suggest = round(float(np.quantile(held[[a.incident == b.incident for a, b in dense]], 1 - SUGGESTED)), 2)
    files = {name: [(t.traits, t.incident) for t in told if t.file == name] for name in fold_of}
    of_dense = {
        j: averaged([(day, by_fold[fold_of[name]]) for name, day in files.items()], j, whole=True) for j in JOINS
    }
    of_mingled = {j: averaged([(day, by_fold[k]) for k, day in days.items()], j) for j in JOINS}
    for j in JOINS:
        print(j, "dense", of_dense[j], "mingled", of_mingled[j], flush=True)
    # A wrong merge hides an incident, a missed one costs a second look: the lowest threshold that merges few wrongly.
    join = next((j for j in JOINS if of_mingled[j].false_merges <= MOST_FALSE), JOINS[-1])
    weights = fitted(data, nothing)
    same = sum(a.incident == b.incident for a, b in dense)
    return {
        "features": weights.features,
        "concepts": weights.concepts,
        "kinds": weights.kinds,
        "join": join,
        "suggest": min(suggest, round(join - 0.1, 2)),
        "same": same,
        "apart": len(dense) - same,
        "strangers": data.weights.count(STRANGER_WEIGHT),
        "dense": of_dense[join]._asdict(),
        "mingled": of_mingled[join]._asdict(),
    }


class _Data(NamedTuple):
    """Pairs to learn from: features, whether the two tell of one incident, the fold that must not learn from it, weight."""

    rows: list[list[float]]
    same: list[bool]
    folds: list[int]
    weights: list[float]

    def add(self, row: list[float], same: bool, fold: int, weight: float) -> None:
        self.rows.append(row)
        self.same.append(same)
        self.folds.append(fold)
        self.weights.append(weight)


def fitted(data: _Data, nothing: pair.Weights, without: int | None = None) -> pair.Weights:
    """The logistic regression over all pairs, or those of all folds but one, with the signs that are known beforehand."""
    which = np.array([fold != without for fold in data.folds])
    same, counts = np.array(data.same)[which], np.array(data.weights)[which]
    rows = np.hstack([np.array(data.rows, np.float64)[which], np.ones((len(same), 1))])

    def cost(w: Any) -> tuple[float, Any]:
        logits, penalised = rows @ w, np.append(w[:-1], 0.0)
        loss = counts @ np.where(same, np.logaddexp(0, -logits), np.logaddexp(0, logits))
        wrong = counts * (1 / (1 + np.exp(-logits)) - same)
        return C * loss + penalised @ penalised / 2, C * (rows.T @ wrong) + penalised

    bounds = [(0 if f in _SPEAK_FOR else None, 0 if f in _SPEAK_AGAINST else None) for f in pair.FEATURES]
    found = minimize(
        cost, np.zeros(rows.shape[1]), jac=True, method="L-BFGS-B", bounds=[*bounds, (None, None)], options={"maxiter": 400}
    )
    return pair.Weights(tuple([round(float(w), 4) for w in found.x]), nothing.concepts, nothing.kinds)


def rarities(tips: Sequence[Told]) -> pair.Weights:
    """How rare concepts and kinds are among all texts; weights of nothing."""
    spoken, kinds = [0] * COUNT, Counter[str]()
    for t in tips:
        for i in range(COUNT):
            spoken[i] += t.traits.concepts >> i & 1
        for leaf, p in t.traits.leaves:
            kinds[leaf] += p  # type: ignore[assignment]
    concepts = tuple([round(math.log((len(tips) + 20) / (n + 4)), 2) for n in spoken])
    return pair.Weights(
        (0.0,) * (len(pair.FEATURES) + 1),
        concepts,
        {leaf: round(len(tips) / (n + 2), 2) for leaf, n in sorted(kinds.items())},
    )


def read(figures: dict[str, Any]) -> tuple[list[Told], list[Told]]:
    """All incident files and all single texts through the fold's own stages, each with a classifier that has not read it."""
    incidents = {
        f.name: [line.split("\t") for line in f.read_text("utf-8").splitlines()]
        for f in sorted(train.HERE.glob("incidents/*.tsv"))
    }
    texts = {
        f.name: [line.split("\t") for line in f.read_text("utf-8").splitlines()]
        for f in sorted(train.HERE.glob("texts/*.tsv"))
    }
    bundle, examples = load_county(find_county("anping")), train.read_examples()
    told: list[Told] = []
    singles: list[Told] = []
    for k in range(FOLDS):
        mine, between = sorted(incidents)[k::FOLDS], sorted(texts)[k::FOLDS]
        seen = {normalise(columns[9]).text for name in mine for columns in incidents[name]}
        seen |= {normalise(columns[6]).text for name in between for columns in texts[name]}
        fold = Fold(bundle, _built([e for e in examples if e.text not in seen], figures), lambda _: None)
        for name in mine:
            for number, columns in enumerate(incidents[name]):
                tip = _tip(f"{name}:{number:03}", name, columns)
                told.append(Told(name, columns[0], fold.traits(analyse(fold.county, fold.model, tip))))
        for name in between:
            for number, (_, _, channel, place, _, _, text) in enumerate(texts[name]):
                key = f"{name}:{number:03}"
                tip = _tip(key, name, [key, _NOON, channel, f"r{number}", place, "-", "-", "", "", text])
                singles.append(Told(name, key, fold.traits(analyse(fold.county, fold.model, tip))))
    return sorted(told, key=lambda t: (t.file, t.traits.seen, t.traits.tip_id)), sorted(
        singles, key=lambda t: t.incident
    )


_NOON = "2026-01-01T12:00:00+08:00"


def _built(examples: list[Any], figures: dict[str, Any]) -> Model:
    """A model of fewer examples with the calibration of the whole one; it weighs no pairs."""
    arrays, meta = train.build(examples, figures)
    nothing = pair.Weights((0.0,) * (len(pair.FEATURES) + 1), (1.0,) * COUNT, {})
    meta["pairs"] = {"features": nothing.features, "concepts": nothing.concepts, "kinds": {}}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.npz"
        train.store(path, arrays, meta)
        return Model(path.read_bytes())


def _tip(tip_id: str, file: str, columns: list[str]) -> Tip:
    _, time, channel, reporter, place, lat, lon = columns[:7]
    return Tip(
        county="anping",
        tip_id=tip_id,
        source=f"{channel}:{file}",
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


def near_pairs(told: Iterable[Told]) -> Iterator[tuple[Told, Told]]:
    """Pairs of one file that could lie in one window."""
    by_file: dict[str, list[Told]] = defaultdict(list)
    for t in told:
        by_file[t.file].append(t)
    for tips in by_file.values():
        for a, b in combinations(tips, 2):
            if abs(a.traits.seen - b.traits.seen) <= pair.LONGEST_WINDOW:
                yield a, b


# --- another voice ---------------------------------------------------------------------------------------------------


def placeless(tip: Traits) -> None:
    """Takes every place out of a tip."""
    tip.places, tip.villages = frozenset(), frozenset()
    tip.given, tip.area, tip.lat, tip.lon = "", None, None, None


def numberless(tip: Traits) -> None:
    """Takes names, sums and counts out of a tip."""
    tip.names, tip.money, tip.quantities = frozenset(), frozenset(), frozenset()


def retold(told: Sequence[Told], silence: Callable[[Traits], None]) -> Iterator[tuple[Told, Told]]:
    """The pairs of the files once more, as if one of the two had kept quiet about something that writers like to name and
    the next person in the street does not."""
    quiet = {}
    for t in told:
        tip = _copy(t.traits)
        silence(tip)
        tip.complete()
        quiet[t.traits.tip_id] = t._replace(traits=tip)
    for a, b in near_pairs(told):
        for one, other in ((quiet[a.traits.tip_id], b), (a, quiet[b.traits.tip_id])):
            if not pair.forbidden(one.traits, other.traits):
                yield one, other


# --- mingled days -------------------------------------------------------------------------------------------------------------


def mingled(told: Sequence[Told], singles: Sequence[Told], seed: int) -> Day:
    """Incidents of several files over the same few days, at their hours, with single texts between them -> (tip, incident).

    Days of one file stay apart as far as there are days: `yesterday's fire` is not laid beside today's. Of the single
    texts two in five come from a reporter of an incident: a volunteer tells of many things a day.
    """
    chance = random.Random(seed)
    by_incident: dict[tuple[str, str], list[Traits]] = defaultdict(list)
    began: dict[str, int] = {}
    for t in told:
        by_incident[t.file, t.incident].append(t.traits)
        began[t.file] = min(began.get(t.file, _day_of(t.traits)), _day_of(t.traits))
    first_day = {name: chance.randrange(MINGLED_DAYS) for name in sorted(began)}
    day: Day = []
    for key in sorted(by_incident):
        tips = by_incident[key]
        was = min(map(_day_of, tips))
        now = _BASE + (was - began[key[0]] + first_day[key[0]]) % MINGLED_DAYS
        day += [(_moved(t, (now - was) * DAY, t.reporter), "/".join(key)) for t in tips]
    reporters = sorted({t.reporter for t, _ in day if t.reporter})
    for s in chance.sample(list(singles), min(MINGLED_SINGLES, len(singles))):
        hour = min(23, max(0, int(chance.gauss(13, 5))))  # most tips come by day
        at = (_BASE + chance.randrange(MINGLED_DAYS)) * DAY + hour * HOUR + chance.randrange(HOUR) - _EAST
        day.append(
            (
                _moved(
                    s.traits,
                    at - s.traits.seen,
                    s.traits.reporter if chance.random() < 0.6 else chance.choice(reporters),
                ),
                s.incident,
            )
        )
    return sorted(day, key=lambda item: (item[0].seen, item[0].tip_id))


#: The county's own time begins its days so much before UTC; ms.
_EAST = 8 * HOUR
#: Number of the first mingled day since 1970.
_BASE = 20_000


def _day_of(tip: Traits) -> int:
    return (tip.seen + _EAST) // DAY


def _moved(tip: Traits, shift: int, reporter: str | None) -> Traits:
    moved = _copy(tip)
    moved.seen, moved.at, moved.reporter = moved.seen + shift, moved.at + shift, reporter
    return moved


def _copy(tip: Traits) -> Traits:
    return Traits.load(tip.tip_id, tip.dump())


def strangers(day: Day, nothing: pair.Weights) -> Iterator[tuple[Traits, Traits]]:
    """Pairs of two incidents that grouping looks at on such a day."""
    groups = Groups(nothing, Thresholds(1.0, 1.0))
    truth: dict[str, str] = {}
    for tip, incident in day:
        for other in groups.near(tip):
            if incident != truth[other.tip_id] and not pair.forbidden(tip, other):
                yield tip, other
        groups.remember(tip)
        truth[tip.tip_id] = incident


# --- measuring ----------------------------------------------------------------------------------------------------------------


def averaged(days: Sequence[tuple[Day, pair.Weights]], join: float, whole: bool = False) -> Scored:
    """Runs grouping over each day with its weights -> the mean of their figures; with `whole`, those of all tips together."""
    truth: dict[str, str] = {}
    found: dict[str, str] = {}
    scores = []
    for number, (day, weights) in enumerate(days):
        groups = Groups(weights, Thresholds(join, join))
        for position, (tip, _) in enumerate(day):
            groups.place(_copy(tip), position)
        true = {tip.tip_id: f"{number}/{incident}" for tip, incident in day}
        said = {tip_id: f"{number}/{incident.id}" for incident in groups.incidents.values() for tip_id in incident.tips}
        scores.append(compared(true, said))
        truth.update(true)
        found.update(said)
    if whole:
        scores = [compared(truth, found)]
    return Scored(*[round(sum(values) / len(scores), 4) for values in zip(*scores, strict=True)])


def compared(truth: dict[str, str], found: dict[str, str]) -> Scored:
    """Pairwise and B-cubed scores of a partition, and the share of its incidents that hold tips of two true ones."""
    both = Counter((truth[t], found[t]) for t in truth)
    of_truth, of_found = Counter(truth.values()), Counter(found[t] for t in truth)
    right, said, true = (sum(n * (n - 1) // 2 for n in c.values()) for c in (both, of_found, of_truth))
    precision, recall = right / max(1, said), right / max(1, true)
    purity = sum(both[truth[t], found[t]] / of_found[found[t]] for t in truth) / max(1, len(truth))
    whole = sum(both[truth[t], found[t]] / of_truth[truth[t]] for t in truth) / max(1, len(truth))
    inside: dict[str, set[str]] = defaultdict(set)
    for t, incident in truth.items():
        inside[found[t]].add(incident)
    mixed = sum(len(incidents) > 1 for incidents in inside.values())
    return Scored(precision, recall, _f1(precision, recall), _f1(purity, whole), mixed / max(1, len(of_found)))


def _f1(precision: float, recall: float) -> float:
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


if __name__ == "__main__":
    path = train.HERE.parent / "streams" / "model" / "model.npz"
    with np.load(path) as loaded:
        arrays = {name: loaded[name] for name in loaded.files if name != "meta"}
        meta = json.loads(loaded["meta"].tobytes())
    meta["pairs"] = learn(meta["figures"])
    train.store(path, arrays, meta)
    train.document(path, meta)
