"""Who acts: a case down the county's routing tree, first match, the root for all that is left. Pure and total."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

import msgspec

from schemas.records import AreaCandidate, Reason
from schemas.vocabulary import Category, Channel, Level, Link
from streams.stages.clock import due
from streams.stages.county import KNOWN, Active, Area, County, Match, Route, fill, is_within


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """What routing looks at. Times in ms since 1970; `text` normalised; the located bits are those of `Located`."""

    category: Category
    subtype: str | None
    urgent: bool
    confidence: float
    area: str | None
    precision: Literal["none", "county", "township", "village"]
    candidates: tuple[AreaCandidate, ...] = ()
    cc_areas: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    zones: tuple[str, ...] = ()
    channel: Channel
    source: str
    text: str
    link: Link
    occurred_at: int
    received_at: int


class Routed(msgspec.Struct, frozen=True):
    """Where a case goes. `due_at` is ms since 1970, null where nobody need act or the route has no ladder."""

    station: str
    cc: tuple[str, ...]
    route_id: str
    level: Level
    ladder: str | None
    due_at: int | None
    no_action: bool
    reasons: tuple[Reason, ...]


class Tried(msgspec.Struct, frozen=True):
    """One node of the tree that was asked: its `depth`, whether it matched, and if not what it missed."""

    route_id: str
    depth: int
    matched: bool
    missed: str | None


class _View:
    """A case as the tree sees it: the area looked up, derived flags added, cues searched at most once each."""

    __slots__ = ("area", "case", "cues", "flags", "known")

    def __init__(self, county: County, case: Case, path: str | None, flags: frozenset[str]) -> None:
        self.case = case
        self.area: Area | None = county.areas.get(path) if path is not None else None
        self.known = KNOWN.get(self.area.level, 0) if self.area is not None else 0
        self.flags = flags
        self.cues: dict[str, str | None] = {}


def route(county: County, case: Case) -> Routed:
    """The station for a case; every case has one.

    An urgent case whose township is unknown is tried with its best candidate area (flag `best_candidate`), and one that
    still ends at the triage desk goes to the duty desk instead, with triage as cc.
    """
    view = _view(county, case)
    node, station, reasons = _walk(county, view, None)
    return _routed(county, view, node, station, reasons)


def trace(county: County, case: Case) -> tuple[Routed, tuple[Tried, ...]]:
    """The same answer as `route`, and every node that was asked, in order."""
    view, tried = _view(county, case), list[Tried]()
    node, station, reasons = _walk(county, view, tried)
    return _routed(county, view, node, station, reasons), tuple(tried)


def _view(county: County, case: Case) -> _View:
    flags = set(case.flags)
    if case.confidence < county.thresholds["confidence_to_route"]:
        flags.add("uncertain")
    path = case.area
    if case.urgent and (path is None or KNOWN[case.precision] < KNOWN["township"]):
        best = _best_candidate(county, case)
        if best is not None:
            path = best
            flags.add("best_candidate")
    return _View(county, case, path, frozenset(flags))


def _best_candidate(county: County, case: Case) -> str | None:
    """The likeliest area that names a township; by path among equals."""
    fitting = [c for c in case.candidates if c.area in county.areas and county.areas[c.area].township is not None]
    return min(fitting, key=lambda c: (-c.score, c.area)).area if fitting else None


def _walk(county: County, view: _View, tried: list[Tried] | None) -> tuple[Route, str, list[Reason]]:
    """Down the tree: the node that has the case, its station, and what matched on the way."""
    node, depth = county.routes, 0
    station, reasons = node.station, list[Reason]()
    if tried is not None:
        tried.append(Tried(node.id, 0, True, None))
    while True:
        depth += 1
        for child in node.routes:
            missed = _missed(county, child.match, view) or (
                _missed_window(child.active, view) if child.active else None
            )
            filled = None if missed else fill(child.station, view.area)
            if missed is None and (filled is None or filled not in county.stations):
                missed = f"station {child.station} cannot be filled"
            if tried is not None:
                tried.append(Tried(child.id, depth, missed is None, missed))
            if missed is None and filled is not None:
                node, station = child, filled
                reasons += [
                    Reason("cue", view.cues[name] or "", f"list {name}")
                    for name in child.match.cue or ()
                    if view.cues.get(name)
                ]
                break
        else:
            return node, station, reasons


def _missed(county: County, match: Match, view: _View) -> str | None:
    """The first key that does not hold, or None; in the order that fails fastest."""
    case = view.case
    if match.urgent is not None and match.urgent != case.urgent:
        return "urgent"
    if match.category is not None and case.category not in match.category:
        return "category"
    if match.subtype is not None and case.subtype not in match.subtype:
        return "subtype"
    if match.area_known is not None and view.known < match.area_known:
        return "area_known"
    if match.flag is not None and match.flag.isdisjoint(view.flags):
        return "flag"
    if match.link is not None and case.link not in match.link:
        return "link"
    if match.channel is not None and case.channel not in match.channel:
        return "channel"
    if match.area is not None and (
        view.area is None or not any(is_within(view.area.path, prefix) for prefix in match.area)
    ):
        return "area"
    if match.source is not None and match.source.fullmatch(case.source) is None:
        return "source"
    if match.cue is not None and not any(_has_cue(county, view, name) for name in match.cue):
        return "cue"
    return None


def _has_cue(county: County, view: _View, name: str) -> bool:
    if name not in view.cues:
        view.cues[name] = county.cues[name].find(view.case.text.lower())
    return view.cues[name] is not None


def _missed_window(active: Active, view: _View) -> str | None:
    """A window looks at when it happened, and only while it is still on: half-open, at exactly `to` it is over."""
    case = view.case
    if not active.start_ms <= case.occurred_at < active.end_ms or case.received_at >= active.end_ms:
        return "active"
    inside = (
        active.within is None
        or active.within in case.zones
        or (view.area is not None and is_within(view.area.path, active.within))
    )
    return None if inside else "within"


def _routed(county: County, view: _View, node: Route, station: str, reasons: list[Reason]) -> Routed:
    case = view.case
    why = {filled: f"with {node.id}" for template in node.cc if (filled := fill(template, view.area)) is not None}
    reasons.insert(0, Reason("route", node.id, f"{station} at {node.level}"))
    ladder = node.ladder
    if case.urgent and not node.no_action and station == county.desks["triage"]:
        station, why = county.desks["duty"], {county.desks["triage"]: "instead of it the duty desk acts", **why}
        ladder = county.urgent_ladder
        reasons.append(Reason("urgent", "", "an urgent case does not wait at the triage desk"))
    if "best_candidate" in view.flags and view.area is not None:
        reasons.append(Reason("urgent", view.area.path, "routed by the best candidate area"))
    for path, other in _other_sides(county, view, station):
        why.setdefault(other, f"for {path}")
    cc = _allowed(county, station, why)
    reasons += [Reason("cc", one, why[one]) for one in cc]
    return Routed(
        station=station,
        cc=cc,
        route_id=node.id,
        level=node.level,
        ladder=ladder,
        due_at=None if node.no_action else _due(county, ladder, node.level, case.received_at),
        no_action=node.no_action,
        reasons=tuple(reasons),
    )


def _other_sides(county: County, view: _View, station: str) -> list[tuple[str, str]]:
    """(path, who would have the case there) beyond each near border; for a neighbour the desk that speaks with them."""
    found = []
    for path in view.case.cc_areas:
        area = county.areas.get(path)
        if area is None:
            continue
        if area.desk is not None:
            found.append((path, area.desk))
            continue
        _, other, _ = _walk(county, _View(county, view.case, path, view.flags), None)
        if other not in (station, county.desks["triage"]):
            found.append((path, other))
    return found


def _allowed(county: County, station: str, cc: Collection[str]) -> tuple[str, ...]:
    """Known stations without the one that acts; a restricted station's cases stay among restricted ones."""
    if not cc:
        return ()
    known = [s for s in cc if s != station and s in county.stations]
    own = county.stations.get(station)
    return tuple(s for s in known if own is None or not own.restricted or county.stations[s].restricted)


def _due(county: County, ladder_id: str | None, level: str, received_at: int) -> int | None:
    ladder = county.ladders.get(ladder_id) if ladder_id else None
    rung = ladder.rung(level) if ladder else None
    return due(received_at, rung.claim.ms, rung.claim.clock, county.calendar, county.offset_minutes) if rung else None
