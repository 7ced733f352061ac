"""The stations' queue: one assignment an incident, its cc stations and its history.

Two hands write here, each in its own transaction and under the row's lock: the sink, which follows decisions
(`follow`, `merge`),
and the stations' desk. The sink inserts an assignment only if absent and never resets its status. Both write through a
`Book`,
so that no change goes without its event and no event without its numbers.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Literal, Protocol, TypeVar

import msgspec
from sqlalchemy import BindParameter, Connection, bindparam, delete, select, update

from schemas.vocabulary import Level, Status
from sinks.database import insert_new, take_numbers, upsert
from sinks.tables import NEVER, assignment_cc, assignment_events, assignments, station_events

_NAMESPACE: Final = uuid.UUID("6f1f6f0e-3c1c-5c5e-9d5f-7a1d1e0a5a10")

#: Who did what no person did.
MACHINE: Final = "tipline"

_T = TypeVar("_T")

ClockName = Literal["claim", "act", "resolve"]
Origin = Literal["route", "work"]


class StationInfo(Protocol):
    """What the queue asks of a station."""

    @property
    def restricted(self) -> bool:
        """Whether only restricted stations may see its items."""


class CountyConfig(Protocol):
    """What the sinks ask of a county. `streams.stages.county.County` is one."""

    @property
    def offset_minutes(self) -> int:
        """The county's offset from UTC."""

    @property
    def stations(self) -> Mapping[str, StationInfo]:
        """Its stations by id."""


class Assignment(msgspec.Struct, kw_only=True):
    """One incident on one station's queue: a row of `assignments`. Times in ms since 1970."""

    id: str
    incident_id: str
    county: str
    station: str
    status: Status
    level: Level
    category: str
    subtype: str | None
    urgent: bool
    area: str | None
    title: str
    corroborations: int
    #: The ladder follows from the route.
    route_id: str
    #: When it was put on its first queue; never later than any of its tips' arrival.
    dispatched_at: int
    #: When it reached its present level: its clocks count from here.
    since: int
    #: The running clock, and when it ends; NEVER where none runs.
    clock: ClockName = "claim"
    due_at: int = NEVER
    #: The running clock ended and there is no level above.
    overdue: bool = False
    #: When something must be done by itself: the lease's end or the clock's.
    wake_at: int = NEVER
    revision: int = 1
    #: Number of its last event.
    events: int = 0
    #: Fencing: the revision its latest claim made. It only grows, and no later revision equals it.
    lease_token: int | None = None
    lease_expires: int | None = None
    lease_holder: str | None = None
    owner: str | None = None
    outcome: str | None = None
    resolved_at: int | None = None
    resolved_level: str | None = None
    returns: int = 0
    #: Stations that returned it, comma-separated: it does not go back to them.
    returned_by: str = ""
    #: A person moved it, or it climbed: a new route no longer moves it.
    touched: bool = False
    merged_into: str | None = None
    #: Order on a queue before the due time: 0 urgent, 1 not, 2 resolved.
    rank: int = 1


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of an assignment's history: what, when, who and why."""

    kind: str
    at: int
    actor: str = MACHINE
    role: str = "machine"
    reason: str | None = None
    from_station: str | None = None
    data: dict[str, Any] = {}


class State(Assignment, kw_only=True):
    """An assignment with its cc stations, as it was after an event: what its history carries, enough to put it back."""

    cc: dict[str, Origin] = {}


class StreamRow(msgspec.Struct, frozen=True):
    """An event in a station's stream: its gapless number, and the assignment as it was right after it."""

    number: int
    kind: str
    at: int
    state: State


_COLUMNS: Final = tuple(Assignment.__struct_fields__)

# Statements are built once: building one costs as much as running it.
_WANTED: Final[BindParameter[Any]] = bindparam("wanted", expanding=True)
_ALL: Final = select(*(assignments.c[name] for name in _COLUMNS)).order_by(assignments.c.id)
#: By whether to skip rows that another transaction has locked.
_BY_ID: Final = {
    skip: _ALL.where(assignments.c.id.in_(_WANTED)).with_for_update(skip_locked=skip) for skip in (False, True)
}
_BY_INCIDENT: Final = {
    skip: _ALL.where(assignments.c.incident_id.in_(_WANTED)).with_for_update(skip_locked=skip) for skip in (False, True)
}
_CC_OF: Final = select(assignment_cc).where(assignment_cc.c.assignment_id.in_(_WANTED))
_STREAM: Final = (
    select(station_events.c.number, station_events.c.kind, station_events.c.at, assignment_events.c.state)
    .join(
        assignment_events,
        (assignment_events.c.assignment_id == station_events.c.assignment_id)
        & (assignment_events.c.number == station_events.c.event_number),
    )
    .where(station_events.c.station == bindparam("at"), station_events.c.number > bindparam("after"))
    .order_by(station_events.c.number)
    .limit(bindparam("most"))
)
_REPLACE: Final = (
    update(assignments)
    .where(assignments.c.id == bindparam("b_id"))
    .values({name: bindparam(f"b_{name}") for name in _COLUMNS if name != "id"})
)

_encode: Final = msgspec.json.Encoder().encode


def assignment_id(incident_id: str) -> str:
    """The assignment's id: derived, so that every writer names it alike."""
    return str(uuid.uuid5(_NAMESPACE, incident_id))


def wake(item: Assignment) -> int:
    """When something must be done about an assignment by itself; NEVER when it rests."""
    if item.status == "resolved":
        return NEVER
    clock = NEVER if item.overdue else item.due_at
    return min(clock, item.lease_expires) if item.status == "claimed" and item.lease_expires is not None else clock


class Book:
    """Assignments under change in one transaction: load, change in memory with an event for each change, save once.

    Not for use by several threads. Nothing is written before `save`.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._items: dict[str, Assignment] = {}
        self._by_incident: dict[str, str] = {}
        self._cc: dict[str, dict[str, Origin]] = {}
        self._new: set[str] = set()
        self._dirty: set[str] = set()
        self._dirty_cc: set[str] = set()
        self._events: list[dict[str, Any]] = []
        self._seen: list[tuple[str, dict[str, Any]]] = []

    def load(
        self, *, ids: Collection[str] = (), incidents: Collection[str] = (), skip_locked: bool = False
    ) -> list[Assignment]:
        """Reads and locks assignments (in the order of their ids, so that nobody deadlocks) with their cc stations."""
        rows: list[Assignment] = []
        for statement, wanted in ((_BY_ID, ids), (_BY_INCIDENT, incidents)):
            for part in chunks(sorted(wanted)):
                found = self._connection.execute(statement[skip_locked], {"wanted": part})
                rows += [Assignment(**dict(zip(_COLUMNS, row, strict=True))) for row in found]
        return self._take(rows)

    def _take(self, rows: Iterable[Assignment]) -> list[Assignment]:
        fresh = [row for row in rows if row.id not in self._items]
        for row in fresh:
            self._items[row.id], self._by_incident[row.incident_id], self._cc[row.id] = row, row.id, {}
        for part in chunks([row.id for row in fresh]):
            for row_id, station, origin in self._connection.execute(_CC_OF, {"wanted": part}):
                self._cc[row_id][station] = origin
        return fresh

    def items(self) -> list[Assignment]:
        """All that were loaded or added."""
        return list(self._items.values())

    def get(self, identity: str) -> Assignment | None:
        """A loaded or added assignment by its id."""
        return self._items.get(identity)

    def of_incident(self, incident_id: str) -> Assignment | None:
        """The loaded or added assignment of an incident."""
        return self._items.get(self._by_incident.get(incident_id, ""))

    def add(self, item: Assignment) -> None:
        """A new assignment; `record` its first event too."""
        self._items[item.id], self._by_incident[item.incident_id], self._cc[item.id] = item, item.id, {}
        self._new.add(item.id)

    def cc(self, item: Assignment) -> dict[str, Origin]:
        """Its cc stations and where each comes from; change them by `set_cc`."""
        return self._cc[item.id]

    def set_cc(self, item: Assignment, wanted: Mapping[str, Origin]) -> bool:
        """Sets the cc stations (never the holder itself); whether anything changed."""
        kept: dict[str, Origin] = {station: origin for station, origin in wanted.items() if station != item.station}
        if kept == self._cc[item.id]:
            return False
        self._cc[item.id] = kept
        self._dirty_cc.add(item.id)
        self._dirty.add(item.id)
        return True

    def record(self, item: Assignment, event: Event, *, also: Collection[str] = (), bump: bool = True) -> None:
        """Notes an event after its change was made to `item`. `also`: further stations whose stream shows it.

        `bump=False` leaves the revision alone, for what does not change the assignment itself.
        """
        # By its own events, not by this call: how the log was cut into calls must not show.
        item.revision += 1 if bump and item.events else 0
        item.revision = max(item.revision, 1)
        self._new_event(item, event, also)

    def _new_event(self, item: Assignment, event: Event, also: Collection[str]) -> None:
        item.events += 1
        self.touch(item)
        row = {
            "assignment_id": item.id,
            "number": item.events,
            "incident_id": item.incident_id,
            "county": item.county,
            "at": event.at,
            "kind": event.kind,
            "actor": event.actor,
            "role": event.role,
            "station": item.station,
            "from_station": event.from_station,
            "reason": event.reason,
            "data": _encode(event.data).decode(),
            "state": _encode(State(**msgspec.structs.asdict(item), cc=self._cc[item.id])).decode(),
            "relayed_at": None,
        }
        self._events.append(row)
        viewers = {item.station, *self._cc[item.id], *also}
        if event.from_station is not None:
            viewers.add(event.from_station)
        self._seen += [(station, row) for station in sorted(viewers)]

    def touch(self, item: Assignment) -> None:
        """Marks a change that needs no event of its own."""
        item.wake_at = wake(item)
        item.rank = 2 if item.status == "resolved" else 0 if item.urgent else 1
        self._dirty.add(item.id)

    def save(self) -> frozenset[str]:
        """Writes everything that changed; returns the stations whose stream grew."""
        new = [msgspec.structs.asdict(self._items[i]) for i in sorted(self._new)]
        changed = [msgspec.structs.asdict(self._items[i]) for i in sorted(self._dirty - self._new)]
        insert_new(self._connection, assignments, new)
        if changed:
            rows = [{f"b_{name}": value for name, value in row.items()} for row in changed]
            self._connection.execute(_REPLACE, rows)
        self._save_cc()
        if self._events:
            self._connection.execute(assignment_events.insert(), self._events)
        stations = self._save_streams()
        self._new, self._dirty, self._dirty_cc, self._events, self._seen = set(), set(), set(), [], []
        return stations

    def _save_cc(self) -> None:
        for part in chunks(sorted(self._dirty_cc - self._new)):
            self._connection.execute(delete(assignment_cc).where(assignment_cc.c.assignment_id.in_(part)))
        rows = [
            {"assignment_id": i, "station": s, "origin": o}
            for i in sorted(self._dirty_cc)
            for s, o in sorted(self._cc[i].items())
        ]
        if rows:
            self._connection.execute(assignment_cc.insert(), rows)

    def _save_streams(self) -> frozenset[str]:
        wanted: dict[str, int] = {}
        for station, _ in self._seen:
            wanted[station] = wanted.get(station, 0) + 1
        first = take_numbers(self._connection, {f"station/{station}": n for station, n in wanted.items()})
        following = {station: first[f"station/{station}"] for station in wanted}
        rows = []
        for station, event in self._seen:
            shown = {
                "assignment_id": event["assignment_id"],
                "event_number": event["number"],
                "kind": event["kind"],
                "at": event["at"],
            }
            rows.append({"station": station, "number": following[station], **shown})
            following[station] += 1
        if rows:
            self._connection.execute(station_events.insert(), rows)
        return frozenset(wanted)


def restore(connection: Connection, states: Iterable[str | bytes]) -> int:
    """Puts assignments back as the log of their events says: the last state of each wins -> how many.

    A rebuild replays the log of decisions first (`sinks.sink.apply_outputs`), which makes them, then this.
    """
    latest: dict[str, State] = {}
    for raw in states:
        state = msgspec.json.decode(raw, type=State)
        known = latest.get(state.id)
        if known is None or known.events < state.events:
            latest[state.id] = state
    for part in chunks(sorted(latest)):
        connection.execute(delete(assignment_cc).where(assignment_cc.c.assignment_id.in_(part)))
    upsert(connection, assignments, [{name: getattr(state, name) for name in _COLUMNS} for state in latest.values()])
    rows = [
        {"assignment_id": identity, "station": station, "origin": origin}
        for identity, state in sorted(latest.items())
        for station, origin in sorted(state.cc.items())
    ]
    if rows:
        connection.execute(assignment_cc.insert(), rows)
    return len(latest)


def read_stream(connection: Connection, station: str, after: int, limit: int) -> list[StreamRow]:
    """Up to `limit` events of a station's stream with number > `after`, in order."""
    rows = connection.execute(_STREAM, {"at": station, "after": after, "most": limit})
    return [StreamRow(number, kind, at, msgspec.json.decode(state, type=State)) for number, kind, at, state in rows]


def chunks(items: Sequence[_T], size: int = 500) -> Iterator[Sequence[_T]]:
    """The items, so many at a time: databases bound the number of parameters."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """An incident as a whole after one record of the input: what its queue follows. Times in ms."""

    incident_id: str
    county: str
    category: str
    subtype: str | None
    urgent: bool
    area: str | None
    title: str
    corroborations: int
    station: str
    cc: tuple[str, ...]
    route_id: str
    level: Level
    no_action: bool
    #: The first of its tips' arrival, and the claim clock's end counted from there; NEVER without a ladder.
    received_at: int
    due_at: int
    #: When the record that caused this came, and what it was.
    at: int
    cause: str
    #: The station of its route before; None for a new incident.
    routed_before: str | None
    #: The tip that says it moved on, if one does.
    moved_on: str | None = None


_SHOWN: Final = ("category", "subtype", "urgent", "area", "title", "corroborations")


def follow(book: Book, told: Told, county: CountyConfig) -> Assignment | None:
    """Brings the incident's assignment in line with what is told; returns it when it was settled and is open again."""
    item = book.of_incident(told.incident_id)
    if item is None:
        if not told.no_action:
            _dispatch(book, told)
        return None
    if told.no_action:
        _close(book, item, "no_action", told.at)
        return None
    reopened = _reappear(book, item, told)
    _update(book, item, told)
    if not reopened:
        _reroute(book, item, told, county)
    return item if reopened else None


def _dispatch(book: Book, told: Told) -> None:
    item = Assignment(
        id=assignment_id(told.incident_id),
        incident_id=told.incident_id,
        county=told.county,
        station=told.station,
        status="open",
        level=told.level,
        category=told.category,
        subtype=told.subtype,
        urgent=told.urgent,
        area=told.area,
        title=told.title,
        corroborations=told.corroborations,
        route_id=told.route_id,
        dispatched_at=told.received_at,
        since=told.received_at,
        due_at=told.due_at,
    )
    book.add(item)
    book.set_cc(item, {station: "route" for station in told.cc})
    book.record(item, Event(kind="dispatched", at=told.at, reason=told.route_id))


def _close(book: Book, item: Assignment, outcome: str, at: int) -> None:
    """Nobody need act any more; said by a decision, not by a station."""
    if item.status == "resolved":
        return
    item.status, item.outcome, item.resolved_at = "resolved", outcome, at
    item.lease_expires = item.lease_holder = None
    book.record(item, Event(kind="closed", at=at, reason=outcome))


def _reappear(book: Book, item: Assignment, told: Told) -> bool:
    """A settled incident that moved on is open again; one report more of what was settled leaves it settled."""
    if item.status != "resolved":
        return False
    if not (told.moved_on is not None or item.outcome == "no_action" or item.merged_into is not None):
        return False
    since = told.received_at if told.moved_on is None else told.at
    item.status, item.clock, item.overdue, item.touched = "open", "claim", False, False
    item.owner = item.outcome = item.resolved_at = item.resolved_level = item.merged_into = None
    # Claim clocks count every hour, so the limit can be carried to the new start.
    item.since, item.due_at = since, told.due_at if told.due_at == NEVER else told.due_at + since - told.received_at
    book.record(item, Event(kind="reopened", at=told.at, reason=told.cause, data={"tip_id": told.moved_on}))
    return True


def _update(book: Book, item: Assignment, told: Told) -> None:
    changed = {name: value for name in _SHOWN if (value := getattr(told, name)) != getattr(item, name)}
    for name, value in changed.items():
        setattr(item, name, value)
    if item.since == item.dispatched_at:
        item.since = min(item.since, told.received_at)
    item.dispatched_at = min(item.dispatched_at, told.received_at)
    if changed.get("urgent") and item.status == "open":
        # Not before it was known: what should have been claimed by then is due at once.
        item.due_at = min(item.due_at, max(told.due_at, told.at))
    book.touch(item)
    if changed:
        book.record(item, Event(kind="updated", at=told.at, reason=told.cause, data=changed))


def _reroute(book: Book, item: Assignment, told: Told, county: CountyConfig) -> None:
    """A new route moves what nobody has touched; where somebody works, the new station reads along.

    What becomes restricted moves in any case: those who must not see it must not keep it.
    """
    wanted: dict[str, Origin] = {station: origin for station, origin in book.cc(item).items() if origin == "work"}
    wanted.update({station: "route" for station in told.cc if station not in wanted})
    restricted, new_route = is_restricted(county, told.station), told.route_id != item.route_id
    item.route_id = told.route_id
    book.touch(item)
    if item.status == "resolved":
        return
    wanted = may_see(county, told.station, wanted)
    free = not item.touched and item.status == "open"
    elsewhere = told.station not in (item.station, told.routed_before)
    if elsewhere and (restricted or free):
        _move(book, item, told, wanted)
        return
    if free and item.since == item.dispatched_at:
        item.due_at = max(told.due_at, told.at) if new_route else min(item.due_at, told.due_at)
        item.level = told.level
        book.touch(item)
    if elsewhere:
        wanted[told.station] = "work"
    if book.set_cc(item, may_see(county, item.station, wanted)):
        shown = {"cc": sorted(book.cc(item))}
        book.record(item, Event(kind="cc_changed", at=told.at, reason=told.cause, data=shown))


def may_see(county: CountyConfig, station: str, cc: Mapping[str, Origin]) -> dict[str, Origin]:
    """The cc stations that may read along what is on a station's queue: of a restricted one's, restricted ones only."""
    anybody = not is_restricted(county, station)
    return {name: origin for name, origin in cc.items() if anybody or is_restricted(county, name)}


def is_restricted(county: CountyConfig, station: str) -> bool:
    """Whether only restricted stations may see what is on this station's queue."""
    known = county.stations.get(station)
    return known is not None and known.restricted


def _move(book: Book, item: Assignment, told: Told, cc: Mapping[str, Origin]) -> None:
    before, item.station, item.level = item.station, told.station, told.level
    item.status, item.clock, item.due_at, item.overdue = "open", "claim", max(told.due_at, told.at), False
    item.lease_expires = item.lease_holder = item.owner = None
    book.set_cc(item, cc)
    shown = {"route_id": told.route_id}
    book.record(item, Event(kind="rerouted", at=told.at, reason=told.cause, from_station=before, data=shown))


def merge(book: Book, merged: str, into: str, *, at: int, cause: str) -> Assignment | None:
    """Closes a merged incident's assignment and moves its clocks to the survivor's, the earlier of each.

    An open one merged into a settled one by the machine opens it again (and is returned); a person who merges them
    says it is settled.
    """
    loser, survivor = book.of_incident(merged), book.of_incident(into)
    if loser is None or loser.merged_into == into:
        return None
    was_open = loser.status != "resolved"
    loser.status, loser.outcome, loser.merged_into = "resolved", "merged", into
    loser.resolved_at, loser.resolved_level, loser.lease_expires, loser.lease_holder = at, None, None, None
    book.record(
        loser,
        Event(kind="merged", at=at, reason=cause, data={"merged_into": into}),
        also=() if survivor is None else (survivor.station,),
    )
    if survivor is None:
        return None
    survivor.dispatched_at, survivor.since = (
        min(survivor.dispatched_at, loser.dispatched_at),
        min(survivor.since, loser.since),
    )
    if survivor.status == "resolved" and was_open and cause != "merge":
        survivor.status, survivor.clock, survivor.due_at, survivor.overdue = "open", "claim", loser.due_at, False
        survivor.owner = survivor.outcome = survivor.resolved_at = survivor.resolved_level = None
        book.record(survivor, Event(kind="reopened", at=at, reason=cause, data={"merged": merged}))
        return survivor
    if survivor.status != "resolved" and was_open:
        survivor.due_at = min(survivor.due_at, loser.due_at) if survivor.clock == loser.clock else survivor.due_at
        book.record(survivor, Event(kind="absorbed", at=at, reason=cause, data={"merged": merged}))
    return None


def abandon(book: Book, incident_id: str, at: int) -> None:
    """Closes the assignment of an incident that no tip belongs to any more."""
    item = book.of_incident(incident_id)
    if item is not None:
        _close(book, item, "moved", at)
