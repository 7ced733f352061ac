"""Group: which tips tell of one incident. The only stage with a memory; still pure - its state changes by its input alone.

An edge between two tips is a symmetric function of the two (`streams.stages.pair`). Tips that edges connect, directly or
through others, form a component. A component is cut into incidents by joining its edges strongest first; two parts stay
apart where a gate or a person's split forbids one of their pairs, where together they would span too long, or where
their pairs on average speak against it. All of that depends on the set of tips alone, so within the grouping window the
partition does not depend on the order of arrival. Ids do: they are stable.

Candidates come from an index over evidence (places, terms, concepts, names, quantities, reporters, kind and time), kept
in buckets of time. A posting list is read from its newest entry back, at most `MOST_POSTINGS` entries, and a component
larger than `MOST_CUT` grows without being cut anew: beyond such load, and only then, order may show.
"""

from __future__ import annotations

import math
import uuid
from bisect import insort
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha1
from itertools import pairwise
from operator import itemgetter
from typing import Final, NamedTuple

import msgspec

from schemas.times import DAY, HOUR, MINUTE
from schemas.vocabulary import Link
from streams.stages import pair
from streams.stages.concepts import COUNT as CONCEPTS
from streams.stages.traits import Remembered, Traits

NAMESPACE: Final = uuid.UUID("5d0c8a52-7f3e-5a0b-9a53-6f0b6a1f7c11")

MOST_POSTINGS: Final = 32
#: Candidates that share the most evidence are scored; the others are too weak to join.
MOST_SCORED: Final = 20
#: A component of more tips than this is not cut anew for each that joins it.
MOST_CUT: Final = 32
#: Weight of shared evidence from which on a pair is scored; see `_keys`.
ENOUGH: Final = 45
#: Weight of what many tips share: a concept, a township, a likely kind, the hour.
_SOME: Final = 15
#: Weight of a reply and what it answers: always among those compared.
_ANSWERED: Final = 10_000
_MUCH: Final = 30
#: Tips of one kind this close in time are compared whatever their words; of any kind, if they share a little.
_KIND_SOON: Final = 90 * MINUTE
_SOON: Final = 45 * MINUTE
#: Terms and texts are compared for this long; names (for recurrences) for REMEMBERED.
HOT: Final = 84 * HOUR
REMEMBERED: Final = 90 * DAY
#: Longest time between the first and the last report of one incident.
SPAN: Final = 48 * HOUR
#: A report that comes this soon after its incident was closed still belongs to it.
GRACE: Final = 2 * HOUR
PATTERN_WINDOW: Final = 30 * DAY
RECURRENCE_WINDOW: Final = 60 * DAY
#: Scripts of frauds are compared for as long as patterns last: the newest of a kind.
_MOST_SCRIPTS: Final = 64
_SCRIPT_ALIKE: Final = 0.34
_SCRIPT_LENGTH: Final = 12
#: Two parts of a component join when the log-odds of their pairs are on average at least this (in thousandths).
AVERAGE: Final = -1000
_FORBIDDEN: Final = -(10**9)
#: A score that speaks neither for nor against.
_NEITHER: Final = 0.5
#: Log-odds of a score in ten thousandths, in thousandths; a score says no more than 0.02 or 0.98.
_ODDS: Final = tuple(round(1000 * math.log(p / (1 - p))) for n in range(10_001) for p in [min(max(n / 10_000, 0.02), 0.98)])
_NO_SCORES: Final[dict[str, float]] = {}
_NO_OVERRIDES: Final[dict[str, object]] = {}


class Thresholds(msgspec.Struct, frozen=True):
    """Edges at or above `join` make one incident; at or above `suggest` a person decides."""

    join: float = 0.5
    suggest: float = 0.25


class Incident:
    """One or more tips. `whole`: it is all of its component and every two tips of it fit, so that it need not be cut anew."""

    __slots__ = ("anchor", "closed_at", "id", "link", "link_to", "opened", "overrides", "pattern_id", "shown", "tips", "whole")

    def __init__(self, incident_id: str, anchor: str, opened: int) -> None:
        self.id = incident_id
        #: The tip that opened it: the id follows this tip when an incident is cut.
        self.anchor = anchor
        #: Position of the record that opened it; the earliest survives a merge.
        self.opened = opened
        #: By the incident's time, then id.
        self.tips: tuple[str, ...] = ()
        self.closed_at: int | None = None
        self.link: Link = "new"
        self.link_to: str | None = None
        self.pattern_id: str | None = None
        #: What persons set: category, subtype, urgent, area. Replaced, never changed in place.
        self.overrides = _NO_OVERRIDES
        self.whole = False
        #: Fingerprint of what its tips' decisions say at present; see `streams.pipeline`.
        self.shown = 0


class Placed(msgspec.Struct, frozen=True):
    """What placing a tip (or a correction) did: incidents whose tips changed, and ids that now answer with another."""

    changed: tuple[str, ...]
    merged: tuple[tuple[str, str], ...] = ()
    #: The strongest edge of the new tip: (tip id, score), or None.
    best: tuple[str, float] | None = None
    #: Why a new incident links to an older one.
    link_cue: str = ""


class _Edge(NamedTuple):
    tip: Traits
    score: float


class _Found(NamedTuple):
    """What a new tip meets: edges that join, the best that only suggests, the best to an incident closed before."""

    edges: list[_Edge]
    best: _Edge | None
    closed: _Edge | None


class _Script(NamedTuple):
    """A fraud's wording, kept longer than the tip's other traits."""

    tip_id: str
    seen: int
    grams: int
    gram_count: int
    length: int


def _better(one: _Edge | None, other: _Edge) -> _Edge:
    return other if one is None or (other.score, other.tip.tip_id) > (one.score, one.tip.tip_id) else one


class Groups:
    """The memory of grouping for one county."""

    def __init__(self, weights: pair.Weights, thresholds: Thresholds) -> None:
        self._weights = checked(weights)
        self.thresholds = thresholds
        #: All tips remembered: those of the last days with their traits.
        self.tips: dict[str, Remembered] = {}
        self.incidents: dict[str, Incident] = {}
        #: Incident id -> the one it was merged into.
        self.merged: dict[str, str] = {}
        #: Window number -> key -> tips, in order of arrival; most keys are one tip's alone, and then no list is made for it.
        self._index: dict[int, dict[str | int, Traits | list[Traits]]] = {}
        #: Name -> ids of tips, in order of arrival.
        self._named: dict[str, list[str]] = {}
        self._scripts: dict[str, deque[_Script]] = {}
        self._edges: dict[str, list[tuple[str, float]]] = {}
        #: Scores of pairs looked at, by both tips; only a saving of work.
        self._scores: dict[str, dict[str, float]] = {}
        self._must: dict[str, set[str]] = {}
        self._cannot: dict[str, set[str]] = {}
        #: Tips that a person's merge brought together.
        self._merged_by_hand: set[str] = set()
        self._hot: deque[Traits] = deque()
        self._kept: deque[str] = deque()
        self.newest = 0

    def use(self, weights: pair.Weights) -> None:
        """Puts a model's weights in force for pairs looked at from now on; edges stay as they were found."""
        self._weights = checked(weights)
        self._scores.clear()

    # --- a new tip ----------------------------------------------------------------------------------------------------

    def place(self, tip: Traits, position: int) -> Placed:
        """Finds the tip's edges, joins or opens an incident and remembers it."""
        keys = _keys(tip)
        found = self._find(tip, keys)
        self.remember(tip, keys)
        for other, score in found.edges:
            self._connect(tip.tip_id, other.tip_id, score)
        placed = self._join(tip, found.edges, position) if found.edges else self._alone(tip, position)
        incident = self.incidents[tip.incident]
        best, cue = found.best, ""
        for edge in found.edges:
            best = _better(best, edge)
        if len(incident.tips) == 1:
            cue = self._link(incident, tip, best, found.closed)
        patterned = self._find_pattern(incident, tip)
        changed = (*placed.changed, *(i for i in patterned if i not in placed.changed))
        return Placed(changed, placed.merged, (best.tip.tip_id, best.score) if best else None, cue)

    def _alone(self, tip: Traits, position: int) -> Placed:
        incident = self._open(tip.tip_id, position)
        incident.whole = True
        self._add(incident, tip)
        return Placed((incident.id,))

    def _join(self, tip: Traits, edges: Sequence[_Edge], position: int) -> Placed:
        joined = [self.incidents[i] for i in sorted({edge.tip.incident for edge in edges})]
        if sum(len(i.tips) for i in joined) >= MOST_CUT:
            return self._attach(tip, edges, position)
        if all(i.whole for i in joined) and self._fit_together(joined, tip):
            component = {tip.tip_id, *(t for i in joined for t in i.tips)}
            return self._apply(component, [sorted(component)], True, position)
        component = self._component(tip.tip_id, 2 * MOST_CUT)
        if len(component) > 2 * MOST_CUT:
            return self._attach(tip, edges, position)
        return self._recut(component, position)

    def remember(self, tip: Traits, keys: list[tuple[str | int, int]] | None = None) -> None:
        """Takes a tip into the index (also when the state is rebuilt) and lets go of what is too old."""
        self.tips[tip.tip_id] = tip
        index = self._index.setdefault(tip.seen // pair.LONGEST_WINDOW, {})
        for key in _posted(tip, _keys(tip) if keys is None else keys):
            if (postings := index.get(key)) is None:
                index[key] = tip
            elif isinstance(postings, Traits):
                index[key] = [postings, tip]
            else:
                postings.append(tip)
        for name in tip.names:
            self._named.setdefault(name, []).append(tip.tip_id)
        if tip.category == "fraud" and tip.length >= _SCRIPT_LENGTH:
            scripts = self._scripts.setdefault(tip.subtype or "", deque(maxlen=_MOST_SCRIPTS))
            scripts.append(_Script(tip.tip_id, tip.seen, tip.grams, tip.gram_count, tip.length))
        self._hot.append(tip)
        self._kept.append(tip.tip_id)
        self.newest = max(self.newest, tip.seen)
        self._forget()

    def restore(self, tip: Traits, edges: Iterable[tuple[str, float]]) -> None:
        """Takes a tip back from the log, with the edges it was given then."""
        self.remember(tip)
        for other, score in edges:
            if other in self.tips:
                self._connect(tip.tip_id, other, score)

    def _connect(self, a: str, b: str, score: float) -> None:
        self._edges.setdefault(a, []).append((b, score))
        self._edges.setdefault(b, []).append((a, score))

    def edges_of(self, tip_id: str) -> list[tuple[str, float]]:
        """The tip's edges, for the log."""
        return self._edges.get(tip_id, [])

    def _find(self, tip: Traits, keys: list[tuple[str | int, int]]) -> _Found:
        join, suggest = self.thresholds.join, self.thresholds.suggest
        edges: list[_Edge] = []
        best: _Edge | None = None
        closed: _Edge | None = None
        for other in self._candidates(tip, keys):
            score = self._drawn(tip, other)
            if score < suggest:
                continue
            self._keep(tip, other, score)
            if score < join or pair.too_short(tip, other):
                best = _better(best, _Edge(other, score))
            elif self._closed_before(other, tip):
                closed = _better(closed, _Edge(other, score))
            else:
                edges.append(_Edge(other, score))
        return _Found(edges, best, closed)

    def likely(self, draft: Traits, most: int) -> list[tuple[str, float]]:
        """Incidents that a draft may tell of -> (incident id, score), the likeliest first. Remembers nothing."""
        found: dict[str, float] = {}
        for other in self.near(draft):
            score = self._drawn(draft, other)
            if score >= self.thresholds.suggest and score > found.get(other.incident, 0.0):
                found[other.incident] = score
        return sorted(found.items(), key=lambda item: (-item[1], item[0]))[:most]

    def _drawn(self, a: Traits, b: Traits) -> float:
        """Score of the edge between two tips; below zero where there is none: a gate forbids it or nothing particular speaks for it."""
        if pair.forbidden(a, b) or not pair.particular(a, b):
            return -1.0
        return round(pair.score(self._weights, a, b), 4)

    def _looked_at(self, a: Traits, b: Traits) -> float:
        """Score of two tips that others connect: edge or none."""
        if (pair.goes_on(a) or pair.goes_on(b)) and not pair.answered(a, b):
            return _NEITHER  # Such a reply speaks of what it answers; of the rest it says nothing.
        return -1.0 if pair.forbidden(a, b) else round(pair.score(self._weights, a, b), 4)

    def _keep(self, a: Traits, b: Traits, score: float) -> None:
        self._scores.setdefault(a.tip_id, {})[b.tip_id] = score
        self._scores.setdefault(b.tip_id, {})[a.tip_id] = score

    def _odds(self, a: str, b: str) -> int:
        """Log-odds of a pair in thousandths, within bounds; whole numbers, so that sums do not depend on order."""
        score = self._scores.get(a, _NO_SCORES).get(b)
        if score is None:
            one, other = self.tips[a], self.tips[b]
            if not isinstance(one, Traits) or not isinstance(other, Traits):
                return 0  # Too long ago to be compared: nothing speaks for or against.
            score = self._looked_at(one, other)
            self._keep(one, other, score)
        return _FORBIDDEN if score < 0 else _ODDS[round(score * 10_000)]

    def near(self, tip: Traits) -> list[Traits]:
        """The remembered tips that a tip is compared with."""
        return self._candidates(tip, _keys(tip))

    def _candidates(self, tip: Traits, keys: list[tuple[str | int, int]]) -> list[Traits]:
        """Tips that share evidence and lie in the window: the most evidence first, then by id."""
        window = pair.LONGEST_WINDOW
        seen, number = tip.seen, tip.seen // window
        sought = _sought(tip, keys)
        found: dict[Traits, int] = {}
        weight_of = found.get
        answered = self.tips.get(tip.answers) if tip.answers is not None else None
        if isinstance(answered, Traits):
            found[answered] = _ANSWERED
        for index in [index for n in (number - 1, number, number + 1) if (index := self._index.get(n)) is not None]:
            posted = index.get
            for key, weight in sought:
                if (postings := posted(key)) is None:
                    continue
                if isinstance(postings, Traits):
                    found[postings] = weight_of(postings, 0) + weight
                    continue
                for other in postings if len(postings) <= MOST_POSTINGS else postings[-MOST_POSTINGS:]:
                    found[other] = weight_of(other, 0) + weight
        strong = [
            (-weight, other.tip_id, other)
            for other, weight in found.items()
            if weight >= ENOUGH and -window <= other.seen - seen <= window and other is self.tips.get(other.tip_id)
        ]
        strong.sort(key=itemgetter(0, 1))
        return [other for _, _, other in strong[:MOST_SCORED]]

    def _closed_before(self, other: Traits, tip: Traits) -> bool:
        incident = self.incidents.get(other.incident)
        return incident is not None and incident.closed_at is not None and tip.seen > incident.closed_at + GRACE

    # --- incidents ----------------------------------------------------------------------------------------------------

    def _open(self, anchor: str, position: int) -> Incident:
        """A new incident; its id follows from the tip that opens it and how many that tip has opened before."""
        turn = self.tips[anchor].opened + 1
        return self.adopt(Incident(_uuid5(anchor if turn == 1 else f"{anchor}/{turn}"), anchor, position))

    def adopt(self, incident: Incident) -> Incident:
        """Registers an incident (also when the state is rebuilt)."""
        self.incidents[incident.id] = incident
        anchor = self.tips.get(incident.anchor)
        if anchor is not None:
            anchor.opened += 1
        return incident

    def _add(self, incident: Incident, tip: Remembered) -> None:
        tips = list(incident.tips)
        insort(tips, tip.tip_id, key=self._order)
        incident.tips = tuple(tips)
        tip.incident = incident.id

    def _order(self, tip_id: str) -> tuple[int, str]:
        return self.tips[tip_id].at, tip_id

    def assign(self, tip: Remembered, incident: Incident) -> None:
        """Puts a remembered tip into an incident, out of the one it was in; for rebuilding."""
        before = self.incidents.get(tip.incident)
        if before is incident and tip.tip_id in incident.tips:
            return
        if before is not None and tip.tip_id in before.tips:
            before.tips = tuple([t for t in before.tips if t != tip.tip_id])
        self._add(incident, tip)

    def _fit_together(self, incidents: list[Incident], tip: Traits) -> bool:
        """Whether every pair across these whole incidents and the tip fits: then a cut would leave them together."""
        parts = [[tip.tip_id], *(i.tips for i in incidents)]
        members = [t for part in parts for t in part]
        if not self._span_fits(members) or any(t in self._cannot or t in self._must for t in members):
            return False
        return all(self._odds(a, b) >= AVERAGE for i, part in enumerate(parts) for other in parts[:i] for a in part for b in other)

    def _span_fits(self, members: Sequence[str]) -> bool:
        times = [self.tips[t].seen for t in members]
        return max(times) - min(times) <= SPAN

    def _attach(self, tip: Traits, edges: Sequence[_Edge], position: int) -> Placed:
        """Under load: the tip goes to its strongest neighbour whose incident it fits; nothing else moves."""
        for edge in sorted(edges, key=lambda e: (-e.score, e.tip.tip_id)):
            incident = self.incidents[edge.tip.incident]
            barred = self._cannot.get(tip.tip_id, set())
            some = incident.tips[:MOST_CUT]
            if self._span_fits([*incident.tips, tip.tip_id]) and barred.isdisjoint(incident.tips) and all(self._odds(t, tip.tip_id) > _FORBIDDEN for t in some):
                self._add(incident, tip)
                incident.whole = False
                return Placed((incident.id,))
        return self._alone(tip, position)

    def _component(self, start: str, most: int | None = None) -> set[str]:
        """The tips that edges and persons' links connect with one; no more than that there are too many, beyond `most`."""
        seen, queue = {start}, [start]
        while queue and (most is None or len(seen) <= most):
            tip_id = queue.pop()
            for other in (*[o for o, _ in self._edges.get(tip_id, ())], *self._must.get(tip_id, ())):
                if other not in seen and other in self.tips:
                    seen.add(other)
                    queue.append(other)
        return seen

    def _recut(self, component: set[str], position: int, prefer: str | None = None) -> Placed:
        """Cuts a component anew; a function of its tips, edges and persons' links alone."""
        parts = self._cut(component)
        whole = len(parts) == 1 and len(component) <= MOST_CUT and all(self._odds(a, b) >= AVERAGE for i, a in enumerate(parts[0]) for b in parts[0][:i])
        return self._apply(component, parts, whole, position, prefer)

    def _apply(self, component: set[str], parts: list[list[str]], whole: bool, position: int, prefer: str | None = None) -> Placed:
        """Makes incidents of parts. An id stays with the part that holds the tip which opened it; the earliest survives."""
        ids = {self.tips[t].incident for t in component} - {""}
        touched = [self.incidents[i] for i in sorted(ids)]
        before = {i.id: frozenset(i.tips) for i in touched}
        # Tips without an edge any more (long ago, or parted by a person) stay where they are.
        rest = {i.id: [t for t in i.tips if t not in component] for i in touched}
        anchors: dict[str, list[Incident]] = {}
        for incident in touched:
            anchors.setdefault(incident.anchor, []).append(incident)
        plan: list[tuple[Incident, list[str]]] = []
        merged: list[tuple[str, str]] = []
        for part in parts:
            held = sorted((i for t in part for i in anchors.get(t, ())), key=lambda i: (i.id != prefer, i.opened, i.id))
            survivor = held[0] if held else self._open(min(part, key=self._order), position)
            plan.append((survivor, [*part, *(t for i in held for t in rest.pop(i.id))]))
            for gone in held[1:]:
                self._end(gone, survivor)
                merged.append((gone.id, survivor.id))
        plan += [(self.incidents[i], members) for i, members in rest.items() if members]
        for survivor, members in plan:
            survivor.tips, survivor.whole = tuple(sorted(members, key=self._order)), whole
            for tip_id in members:
                self.tips[tip_id].incident = survivor.id
        for incident_id in [i for i, members in rest.items() if not members]:
            # The tip that opened it is not remembered: its id answers with the incident of its first tip.
            gone = self.incidents[incident_id]
            survivor = self.incidents[self.tips[min(before[incident_id], key=self._order)].incident]
            self._end(gone, survivor)
            merged.append((gone.id, survivor.id))
        changed = sorted(s.id for s, members in plan if before.get(s.id) != frozenset(members))
        return Placed(tuple(changed), tuple(merged))

    def _end(self, gone: Incident, survivor: Incident) -> None:
        survivor.overrides = {**gone.overrides, **survivor.overrides}
        survivor.pattern_id = survivor.pattern_id or gone.pattern_id
        if survivor.link in ("suggested", "recurrence") and survivor.link_to == gone.id:
            survivor.link, survivor.link_to = "new", None
        self.merged[gone.id] = survivor.id
        del self.incidents[gone.id]

    def _cut(self, component: set[str]) -> list[list[str]]:
        """The parts of a component: persons' links first, then edges from the strongest down, wherever two parts fit."""
        part_of = {t: t for t in component}
        members = {t: [t] for t in component}
        averaged = len(component) <= 2 * MOST_CUT
        forced = sorted({(min(t, o), max(t, o)) for t in component for o in self._must.get(t, ()) if o in component})
        weak = sorted({(-score, min(t, o), max(t, o)) for t in component for o, score in self._edges.get(t, ()) if o in component})
        for must, a, b in [*((True, a, b) for a, b in forced), *((False, a, b) for _, a, b in weak)]:
            one, other = part_of[a], part_of[b]
            if one == other or not (must or self._parts_fit(members[one], members[other], averaged)):
                continue
            for t in members[other]:
                part_of[t] = one
            members[one] += members.pop(other)
        return sorted(sorted(m) for m in members.values())

    def _parts_fit(self, one: list[str], other: list[str], averaged: bool) -> bool:
        if not self._span_fits([*one, *other]):
            return False
        if self._cannot and any(not self._cannot.get(t, set()).isdisjoint(other) for t in one):
            return False
        if not self._merged_by_hand.isdisjoint(one) or not self._merged_by_hand.isdisjoint(other):
            return True  # A person said that what looks apart is one: an edge to any of it is enough.
        return not averaged or sum(self._odds(a, b) for a in one for b in other) >= AVERAGE * len(one) * len(other)

    # --- links to older incidents and patterns -------------------------------------------------------------------------

    def _link(self, incident: Incident, tip: Traits, best: _Edge | None, closed: _Edge | None) -> str:
        """Sets link and link_to of a new incident; returns the cue."""
        if closed is not None:
            incident.link, incident.link_to = "recurrence", closed.tip.incident
            return "closed before"
        earlier, cue = self._recurs(tip)
        if earlier is not None:
            incident.link, incident.link_to = "recurrence", earlier
            return cue
        if best is not None:
            incident.link, incident.link_to = "suggested", best.tip.incident
            return f"p={best.score:.2f}"
        return ""

    def _recurs(self, tip: Traits) -> tuple[str | None, str]:
        """A later incident between the same parties: two shared names, or one in the same village."""
        if tip.category == "fraud" or not tip.names:
            return None, ""  # A swindler's alias is a pattern, not a recurrence.
        shared: dict[str, set[str]] = {}
        for name in sorted(tip.names):
            for other in self._recent_with(name):
                if other is not tip and 0 <= tip.seen - other.seen <= RECURRENCE_WINDOW and other.category != "fraud":
                    shared.setdefault(other.tip_id, set()).add(name)
        found: list[tuple[int, int, str]] = []
        for tip_id, names in shared.items():
            other = self.tips[tip_id]
            if "dispute" not in (tip.category, other.category) or pair.villages_apart(tip, other):
                continue
            village = tip.area is not None and tip.area == other.area and tip.area.count("/") == 2
            if len(names) >= 2 or (village and tip.category == other.category and tip.subtype == other.subtype):
                found.append((len(names), other.seen, tip_id))
        if not found:
            return None, ""
        _, _, tip_id = max(found)
        return self.tips[tip_id].incident, " ".join(sorted(shared[tip_id]))

    def _recent_with(self, name: str) -> list[Remembered]:
        """The newest tips that hold a name."""
        return [self.tips[t] for t in self._named.get(name, ())[-MOST_POSTINGS:]]

    def _find_pattern(self, incident: Incident, tip: Traits) -> tuple[str, ...]:
        """Links frauds of one script: the same trick in much the same words, or the same alias; never merges them.

        Returns the incidents whose pattern this tip changed.
        """
        if tip.category != "fraud" or incident.pattern_id is not None:
            return ()
        found = max(self._same_script(tip, incident), default=None)
        if found is None:
            return ()
        other = self.incidents[self.tips[found[1]].incident]
        began = other.pattern_id is None
        if began:
            other.pattern_id = _uuid5(f"pattern/{other.id}")
        incident.pattern_id = other.pattern_id
        return (incident.id, other.id) if began else (incident.id,)

    def _same_script(self, tip: Traits, incident: Incident) -> Iterator[tuple[float, str]]:
        """(likeness, tip) of frauds of other incidents told in much the same words or under the same alias."""
        for script in self._scripts.get(tip.subtype or "", ()):
            other = self.tips.get(script.tip_id)
            if other is None or other.incident == incident.id or abs(script.seen - tip.seen) > PATTERN_WINDOW:
                continue
            total = script.gram_count + tip.gram_count
            alike = 2 * (script.grams & tip.grams).bit_count() / total if total else 0.0
            if alike >= _SCRIPT_ALIKE and tip.length >= _SCRIPT_LENGTH:
                yield alike, script.tip_id
        for name in sorted(tip.names):
            for other in self._recent_with(name):
                if other.category == "fraud" and other.incident not in (incident.id, "") and abs(other.seen - tip.seen) <= PATTERN_WINDOW:
                    yield 1.0, other.tip_id

    def pattern_size(self, pattern_id: str) -> int:
        """How many incidents carry a pattern."""
        return sum(1 for i in self.incidents.values() if i.pattern_id == pattern_id)

    # --- persons' words --------------------------------------------------------------------------------------------------

    def resolve(self, incident_id: str) -> Incident | None:
        """The incident an id stands for now, following merges; None when it is not remembered."""
        while incident_id in self.merged:
            incident_id = self.merged[incident_id]
        return self.incidents.get(incident_id)

    def merge(self, gone: Incident, into: Incident, position: int) -> Placed:
        """A person's merge: binds one tip of each, for later arrivals too, and lifts an earlier split between them."""
        self.bind_all(gone.tips, into.tips)
        return self._recut(self._component(into.tips[0]), position, prefer=into.id)

    def split(self, incident: Incident, away: list[str], position: int) -> Placed:
        """A person's split: every tip of `away` is kept from every tip that stays, and those of `away` together."""
        stay = [t for t in incident.tips if t not in away]
        if incident.anchor in away:
            incident.anchor = stay[0]  # The id stays with those that stay.
        self.part_all(away, stay)
        first = self._recut(self._component(stay[0]), position)
        if self.tips[away[0]].incident != incident.id:
            return first
        second = self._recut(self._component(away[0]), position)
        changed = dict.fromkeys((incident.id, *first.changed, *second.changed, *(self.tips[t].incident for t in away)))
        return Placed(tuple(i for i in changed if i in self.incidents), first.merged + second.merged)

    def bind_all(self, gone: Sequence[str], into: Sequence[str]) -> None:
        """What a merge leaves behind: one tip of each side bound, no bar between the sides."""
        for a in gone:
            for b in into:
                self._cannot.get(a, set()).discard(b)
                self._cannot.get(b, set()).discard(a)
        self._bind(min(gone), min(into))
        self._merged_by_hand.update(gone, into)
        # What a person saw as one stays one, whatever its edges say.
        for side in (sorted(gone), sorted(into)):
            for a, b in pairwise(side):
                self._bind(a, b)

    def part_all(self, away: Sequence[str], stay: Sequence[str]) -> None:
        """What a split leaves behind: a bar between the sides, and each side bound together."""
        for a in away:
            for b in stay:
                for x, y in ((a, b), (b, a)):
                    self._cannot.setdefault(x, set()).add(y)
                    self._must.get(x, set()).discard(y)
        for side in (sorted(away), sorted(stay)):
            for a, b in pairwise(side):
                self._bind(a, b)

    def _bind(self, a: str, b: str) -> None:
        self._must.setdefault(a, set()).add(b)
        self._must.setdefault(b, set()).add(a)

    # --- forgetting -------------------------------------------------------------------------------------------------------

    def _forget(self) -> None:
        hot = self.newest - HOT
        while self._hot and self._hot[0].seen < hot:
            tip = self._hot.popleft()
            self._edges.pop(tip.tip_id, None)
            for other in self._scores.pop(tip.tip_id, ()):
                self._scores.get(other, {}).pop(tip.tip_id, None)
            self.tips[tip.tip_id] = tip.cooled()
            for number in [n for n in self._index if n < hot // pair.LONGEST_WINDOW]:
                del self._index[number]
        while self._kept and self.tips[self._kept[0]].seen < self.newest - REMEMBERED:
            self._let_go(self.tips.pop(self._kept.popleft()))

    def _let_go(self, tip: Remembered) -> None:
        for name in tip.names:
            named = self._named[name]
            named.remove(tip.tip_id)
            if not named:
                del self._named[name]
        self._must.pop(tip.tip_id, None)
        self._merged_by_hand.discard(tip.tip_id)
        self._cannot.pop(tip.tip_id, None)
        incident = self.incidents.get(tip.incident)
        if incident is not None and tip.tip_id in incident.tips:
            incident.tips = tuple([t for t in incident.tips if t != tip.tip_id])
            if not incident.tips:
                del self.incidents[incident.id]


def _uuid5(name: str) -> str:
    """A version 5 UUID (RFC 9562) of our namespace, in a fraction of the time that `uuid.uuid5` takes to make an object."""
    digest = sha1(NAMESPACE.bytes + name.encode(), usedforsecurity=False).digest()[:16]
    number = int.from_bytes(digest) & ~(0xF000 << 64) & ~(0xC000 << 48) | 5 << 76 | 1 << 63
    text = f"{number:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def checked(weights: pair.Weights) -> pair.Weights:
    """Raises ValueError for weights that were learned for other features: scores would mean nothing."""
    if len(weights.features) != len(pair.FEATURES) + 1 or len(weights.concepts) != CONCEPTS:
        raise ValueError(
            f"the model has {len(weights.features)} pair weights and {len(weights.concepts)} concepts, {len(pair.FEATURES) + 1} and {CONCEPTS} are needed; train it anew: python training/pairs.py"
        )
    return weights


def _keys(tip: Traits) -> list[tuple[str | int, int]]:
    """Evidence of a tip with its weight; two tips are compared when what they share weighs ENOUGH. Whole numbers: sums do not
    depend on order. Terms stand for themselves (two characters or a Latin word), the rest begins with a mark."""
    keys: list[tuple[str | int, int]] = [(term, int(weight * _MUCH)) for term, weight in tip.terms.items()]
    keys += [("@" + place, ENOUGH) for place in tip.places | tip.villages]
    keys += [("&" + name, ENOUGH) for name in tip.names]
    keys += [(f"¥{value:g}", ENOUGH if value >= 1000 else _MUCH) for value in tip.money]
    keys += [(f"#{value:g}{unit}", _MUCH) for value, unit in tip.quantities]
    keys += [("/" + leaf, _SOME) for leaf, _ in tip.leaves]
    if tip.area is not None:
        village = tip.area.count("/") == 2
        keys.append((tip.area, ENOUGH if village else _SOME))
        if village:
            keys.append((tip.area.rpartition("/")[0], _SOME))
    if tip.reporter is not None:
        keys.append(("^" + tip.reporter, ENOUGH))
    bits = tip.concepts
    while bits:
        lowest = bits & -bits
        keys.append((lowest.bit_length(), _SOME))
        bits ^= lowest
    return keys


def _posted(tip: Traits, keys: list[tuple[str | int, int]]) -> list[str | int]:
    """The keys under which a tip is found."""
    posted = [key for key, _ in keys]
    if tip.answers is not None:
        posted.append("<" + tip.answers)
    # Negative numbers are spells of time.
    posted.append(-(tip.seen // _SOON))
    posted += [f"{leaf}:{tip.seen // _KIND_SOON}" for leaf, _ in tip.leaves]
    if tip.lat is not None and tip.lon is not None:
        posted.append(f"{int(tip.lat * 200)},{int(tip.lon * 160)}")
    return posted


def _sought(tip: Traits, keys: list[tuple[str | int, int]]) -> list[tuple[str | int, int]]:
    """The keys a tip looks under, with the weight of what is found there."""
    spell = tip.seen // _SOON
    sought = [*keys, ("<" + tip.tip_id, _ANSWERED), (-spell + 1, _SOME), (-spell, _SOME), (-spell - 1, _SOME)]
    spell = tip.seen // _KIND_SOON
    sought += [(f"{leaf}:{n}", _MUCH) for leaf, _ in tip.leaves for n in (spell - 1, spell, spell + 1)]
    if tip.lat is not None and tip.lon is not None:
        # Cells of about 550 m and their neighbours: a radius of 450 m lies within.
        row, column = int(tip.lat * 200), int(tip.lon * 160)
        sought += [(f"{r},{c}", ENOUGH) for r in (row - 1, row, row + 1) for c in (column - 1, column, column + 1)]
    return sought
