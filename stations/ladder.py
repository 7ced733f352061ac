"""The ladder: how long each clock runs, and who is next. Pure: times come in, times and places go out.

Three clocks run from the moment an assignment reached its level (`since`): claim, act, resolve. Which one is running
follows from the status; only work moves it on. Returns, transfers, edits and an empty rota stop none of them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Final

import msgspec

from schemas.vocabulary import LEVELS, Level, Status
from sinks.station_queue import Assignment, ClockName
from sinks.tables import NEVER
from streams.stages.clock import due
from streams.stages.county import County, Ladder, Limit, Route, Rung, fill

#: The clock that runs in a status; none once it is resolved.
RUNNING: Final[dict[Status, ClockName]] = {
    "open": "claim",
    "claimed": "act",
    "acknowledged": "act",
    "in_progress": "resolve",
}


class Step(msgspec.Struct, frozen=True):
    """A place on the ladder."""

    station: str
    level: Level


class Ladders:
    """A county's ladders, by the route that led to them."""

    def __init__(self, county: County) -> None:
        self.county = county
        self._routes = {route.id: route for route in _walk(county.routes)}

    def of(self, item: Assignment) -> Ladder:
        """The ladder of an item: its route's, as routing chose it; an urgent one never waits by the triage desk's clocks.

        Where a newer county directory dropped the route, or the route names none, the root's holds: nothing is without.
        """
        route = self._routes.get(item.route_id, self.county.routes)
        urgent = item.urgent and route.station == self.county.desks["triage"]
        name = self.county.urgent_ladder if urgent else route.ladder or self.county.routes.ladder
        return self.county.ladders[name or self.county.urgent_ladder]

    def ends(self, item: Assignment, clock: ClockName, since: int) -> int:
        """When a clock of the item's level ends if it started at `since`; NEVER where the ladder sets no limit.

        A level without an act limit has until the resolve limit to act.
        """
        limit = _limit(self._rung(item), clock)
        if limit is None:
            return NEVER
        return due(since, limit.ms, limit.clock, self.county.calendar, self.county.offset_minutes)

    def _rung(self, item: Assignment) -> Rung:
        ladder = self.of(item)
        # A transfer may lead to a level that the ladder does not name: the next above it tells the limits.
        return ladder.rung(item.level) or ladder.above(item.level) or ladder.rungs[-1]

    def above(self, item: Assignment) -> Step | None:
        """The next level's station: the first rung above that can be filled for the area and is another station."""
        ladder = self.of(item)
        if item.station == ladder.arbiter:
            return None
        area = self.county.areas.get(item.area) if item.area is not None else None
        for rung in ladder.rungs:
            station = fill(rung.station, area)
            higher = LEVELS.index(rung.level) > LEVELS.index(item.level)
            if higher and station in self.county.stations and station != item.station:
                return Step(station, rung.level)
        return None

    def arbiter(self, item: Assignment) -> str:
        """Who has the last word about an item."""
        return self.of(item).arbiter

    def after_return(self, item: Assignment, cc: Collection[str]) -> Step | None:
        """Where an item that its station returns goes, this return counted in `item.returns`; None: it must stay.

        First to a cc station that has not returned it yet, else to the triage desk; after N returns to the arbiter.
        What is restricted goes from hand to hand among the restricted only.
        """
        ladder = self.of(item)
        arbiter = ladder.arbiter
        if item.station == arbiter:
            return None
        stations, closed = self.county.stations, self.restricted(item)
        gone = {item.station, *item.returned_by.split(",")}
        if item.returns < ladder.return_limit and not closed:
            triage = self.county.desks["triage"]
            for station in (*sorted(cc), triage):
                if station in stations and station not in gone and not stations[station].restricted:
                    return Step(station, self.level_of(station))
        return Step(arbiter, self.level_of(arbiter))

    def restricted(self, item: Assignment) -> bool:
        """Whether the item is of the restricted by its route, not only where it lies: then it stays with them."""
        arbiter = self.county.stations.get(self.of(item).arbiter)
        return arbiter is not None and arbiter.restricted

    def level_of(self, station: str) -> Level:
        """The level a station works at, by the areas it serves."""
        known = self.county.stations.get(station)
        depth = min((path.count("/") for path in known.areas), default=0) if known is not None else 0
        levels: tuple[Level, ...] = ("county", "township", "village")
        return levels[min(depth, 2)]


def _walk(route: Route) -> Iterator[Route]:
    yield route
    for child in route.routes:
        yield from _walk(child)


def _limit(rung: Rung, clock: ClockName) -> Limit | None:
    if clock == "claim":
        return rung.claim
    return rung.act or rung.resolve if clock == "act" else rung.resolve


def run_clock(ladders: Ladders, item: Assignment, now: int) -> None:
    """Sets the clock that runs in the item's status, counted from `since`.

    An act clock that has ended was stopped by work before, or it would have sent the item up: who takes the item over
    has its time again, but not beyond the resolve clock.
    """
    item.overdue = False
    if item.status == "resolved":
        item.due_at = NEVER
        return
    item.clock = RUNNING[item.status]
    item.due_at = ladders.ends(item, item.clock, item.since)
    if item.clock == "act" and item.due_at <= now:
        last = ladders.ends(item, "resolve", item.since)
        fresh = ladders.ends(item, "act", now)
        item.due_at = min(fresh, last) if last > now else fresh


def lay_open(ladders: Ladders, item: Assignment, now: int) -> None:
    """Opens an item again where it lay in somebody's hands: its claim clock goes on as if it had never been claimed.

    If that has ended, the item has until the clock that ran, but no longer than a fresh claim's time: nothing gained
    by passing on.
    """
    was_open = item.status == "open"
    item.status, item.lease_expires, item.lease_holder, item.owner = "open", None, None, None
    if was_open:
        return
    end = ladders.ends(item, "claim", item.since)
    running, item.clock = item.due_at, "claim"
    item.due_at = end if now < end else min(running, ladders.ends(item, "claim", now))
    item.overdue = item.overdue and item.due_at <= now


def arrive(ladders: Ladders, item: Assignment, step: Step, at: int) -> None:
    """Puts an item on a higher level's queue; that level's clocks run from `at`."""
    item.station, item.level, item.since = step.station, step.level, at
    item.status, item.lease_expires, item.lease_holder, item.owner = "open", None, None, None
    item.touched = True
    run_clock(ladders, item, at)
