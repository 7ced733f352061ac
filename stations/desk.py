"""The stations' desk: every move on an assignment, each one transaction under the row's lock.

Who may see what: a station its own queue and, read-only, what it is cc of; the county, and the installation's admin,
every queue of the county. Anything else does not exist for the caller (404). Before a move is judged, and before a
claim looks for what is open, what came due by `now` is settled in the same transaction: the answer is the same whether
or not the scan has been by.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import ColumnElement, Connection, Engine, and_, bindparam, or_, select

from schemas.errors import Mistake, Rejected, Unavailable
from schemas.vocabulary import STATUSES
from sinks.database import reading, writing
from sinks.failpoints import reach
from sinks.outbox import put, put_closure
from sinks.station_queue import Assignment, Book, Event, is_restricted, read_stream
from sinks.tables import NEVER, assignment_cc, assignments, station_events
from stations import documents
from stations.escalate import catch_up, count, escalate, record, settle_due
from stations.ladder import Ladders
from stations.lifecycle import (
    LEASE_S,
    MOST_LEASE_S,
    WORKERS,
    Actor,
    Move,
    NotAllowed,
    allowed,
    check_body,
    invalid,
    make,
    misasked,
    refusal,
)
from streams.ports import Metrics, Principal
from streams.stages.county import County

MOST_CLAIMED: Final = 100
MOST_LISTED: Final = 500

#: Order of a queue: urgent first, then by due time; resolved ones last.
_ORDER: Final = (assignments.c.rank, assignments.c.due_at, assignments.c.id)
_FIELDS: Final = tuple(assignments.c[name] for name in Assignment.__struct_fields__)

_CLAIMABLE: Final = (
    select(assignments.c.id)
    .where(assignments.c.station == bindparam("at"), assignments.c.status == "open")
    .order_by(*_ORDER)
    .limit(bindparam("most"))
    .with_for_update(skip_locked=True)
)

_ONE_TAG: Final = re.compile(r'"[^"]*"')

#: What a reporter is told when a move is made; each status once.
_TOLD: Final[dict[Move, str]] = {"acknowledge": "in_work", "start": "in_work", "resolve": "closed"}


class Page(msgspec.Struct, frozen=True):
    """Some items of a list, and where to go on (None at its end)."""

    items: tuple[dict[str, Any], ...]
    next_cursor: str | None


class StreamEvent(msgspec.Struct, frozen=True):
    """One entry of a station's stream: its gapless number, what is told of it, and the assignment as it is by now (None
    where the station no longer sees it)."""

    number: int
    kind: str
    document: dict[str, Any]
    now: Assignment | None


class Desk:
    """The moves and lists of one installation's stations. Safe between threads."""

    def __init__(
        self,
        engine: Engine,
        counties: Mapping[str, County],
        metrics: Metrics,
        announce: Callable[[frozenset[str]], None] = lambda _: None,
        mask: Callable[[str], str] = str,
    ) -> None:
        """`announce` is called with the stations whose stream grew, after each commit; `mask` blots people's numbers out."""
        self.engine = engine
        self.counties = counties
        self.ladders = {name: Ladders(county) for name, county in counties.items()}
        self.metrics = metrics
        self.announce = announce
        self._mask = mask

    def county_changed(self, county: County) -> None:
        """Another directory of a county is in force from now on."""
        self.counties = {**self.counties, county.id: county}
        self.ladders = {**self.ladders, county.id: Ladders(county)}

    # --- who may ----------------------------------------------------------------------------------------------------

    def county_of(self, station: str) -> County:
        """The county of a station. Raises Rejected (404)."""
        found = next((county for county in self.counties.values() if station in county.stations), None)
        if found is None:
            raise hidden()
        return found

    def open_queue(self, principal: Principal, station: str) -> County:
        """The county of a station whose queue the caller may see. Raises Rejected (404)."""
        county = self.county_of(station)
        if principal.role not in WORKERS or not _in_scope(principal, county.id, (station,)):
            raise hidden()
        return county

    def holds(self, principal: Principal, item: Assignment) -> bool:
        """Whether the caller may work on an assignment."""
        return principal.role in WORKERS and _in_scope(principal, item.county, (item.station,))

    def sees(self, principal: Principal, item: Assignment, cc: Collection[str]) -> bool:
        """Whether the caller may see an assignment."""
        return principal.role in WORKERS and _in_scope(principal, item.county, (item.station, *cc))

    def show(self, item: Assignment, cc: Collection[str], principal: Principal) -> dict[str, Any]:
        """An assignment as the caller sees it; without a `role` when it is the caller's no more."""
        role: documents.Part | None = "cc" if self.sees(principal, item, cc) else None
        if self.holds(principal, item):
            role = "holder"
        return documents.assignment(item, cc, self.counties[item.county].offset_minutes, role)

    # --- lists ------------------------------------------------------------------------------------------------------

    def settle(self, now: int) -> None:
        """Settles what is due at `now`, before a reader looks: a list shows no lease that has lapsed.

        Never fails: who only reads does without while the database takes no writes.
        """
        with contextlib.suppress(Unavailable):
            settled = escalate(self.engine, self.ladders, self.metrics, now=now)
            if settled.stations:
                self.announce(settled.stations)

    def listed(
        self,
        principal: Principal,
        station: str,
        *,
        statuses: Sequence[str] = (),
        cursor: str | None = None,
        limit: int = 100,
    ) -> Page:
        """A station's queue, its own items and those it is cc of: urgent first, then by due time, resolved ones last.

        No statuses means all. Raises Rejected: 404, or 422 for a status or cursor that is none.
        """
        self.open_queue(principal, station)
        unknown = [status for status in statuses if status not in STATUSES]
        if unknown:
            raise misasked("status", f"choose among {', '.join(STATUSES)}")
        after = None if cursor is None else _read_cursor(cursor)
        with reading(self.engine) as connection:
            found = _queue(connection, station, statuses, after, limit + 1)
            cc = _cc_of(connection, [item.id for item in found])
        shown = [self.show(item, cc[item.id], principal) for item in found[:limit]]
        for document, item in zip(shown, found, strict=False):
            document["role"] = documents.part(item, cc[item.id], station)
        more = len(found) > limit
        return Page(tuple(shown), _cursor(found[limit - 1]) if more else None)

    def get(self, principal: Principal, identity: str) -> dict[str, Any]:
        """One assignment. Raises Rejected (404)."""
        with reading(self.engine) as connection:
            item, cc = find(connection, identity)
        if item is None or not self.sees(principal, item, cc):
            raise hidden()
        return self.show(item, cc, principal)

    def stream(
        self, principal: Principal, station: str, after: int | None, limit: int = 200
    ) -> tuple[int, list[StreamEvent]]:
        """Up to `limit` events of a station's stream with number > `after`, and the number to go on from.

        `after` None gives none: only the number of the last one. One that was never given (the store was put back from a
        backup) is taken for the last, so that what follows is not missed. Each tells of the assignment as it was right
        after it, if the station saw it then; of what has become restricted since, those who must not see it hear nothing
        more. Raises Rejected (404).
        """
        county = self.open_queue(principal, station)
        with reading(self.engine) as connection:
            rows = [] if after is None else read_stream(connection, station, after, limit)
            if not rows:
                mine = select(station_events.c.number).where(station_events.c.station == station)
                newest = connection.execute(mine.order_by(station_events.c.number.desc()).limit(1)).scalar() or 0
                return newest if after is None else min(after, newest), []
            items = by_ids(connection, {row.state.id for row in rows})
            cc = _cc_of(connection, list(items))
        events = []
        for row in rows:
            item, state, offset = items.get(row.state.id), row.state, county.offset_minutes
            now = item if item is not None and documents.part(item, cc[item.id], station) else None
            told = now is not None or (item is not None and not is_restricted(county, item.station))
            role = documents.part(state, state.cc, station)
            shown = documents.assignment(state, state.cc, offset, role) if told and role is not None else None
            at = documents.moment(row.at, offset)
            document = {"number": row.number, "kind": row.kind, "at": at, "assignment_id": state.id, "assignment": shown}
            events.append(StreamEvent(row.number, row.kind, document, now))
        return rows[-1].number, events

    # --- moves ------------------------------------------------------------------------------------------------------

    def claim(
        self, principal: Principal, station: str, *, limit: int = 1, lease_s: int = LEASE_S, now: int
    ) -> list[dict[str, Any]]:
        """Claims up to `limit` open items, the most urgent and then the soonest due first. Two callers never get the
        same.

        Raises Rejected: 404, 422.
        """
        self.open_queue(principal, station)
        faults = [Mistake("/limit", f"must be from 1 to {MOST_CLAIMED}")] if not 1 <= limit <= MOST_CLAIMED else []
        faults += [Mistake("/lease_s", f"must be from 1 to {MOST_LEASE_S}")] if not 1 <= lease_s <= MOST_LEASE_S else []
        if faults:
            raise invalid(faults)
        with writing(self.engine) as connection:
            book, happened = Book(connection), list[Event]()
            taken = self._ready(book, connection, station, (limit, now), happened)
            actor = Actor(principal.token_id, principal.role)
            for item in taken:
                ladders = self.ladders[item.county]
                event = make(ladders, item, (), "claim", {"lease_s": lease_s}, actor=actor, now=now)
                record(book, ladders, item, event)
            stations = book.save()
            shown = [self.show(item, book.cc(item), principal) for item in taken]
            reach("move.before_commit")
        count(self.metrics, happened)
        self._moved("claim", stations, len(taken))
        return shown

    def _ready(
        self, book: Book, connection: Connection, station: str, terms: tuple[int, int], happened: list[Event]
    ) -> list[Assignment]:
        """Up to (limit, now) items, locked, that are open on the station's queue, in its order, once what came due is
        settled: what a lapsed lease left, and what climbed to it, are among them."""
        limit, now = terms
        happened += settle_due(book, connection, self.ladders, now=now, first=station)
        while True:
            ids = _claimable(connection, station, [item.id for item in book.items()], limit)
            for item in book.load(ids=ids):
                happened += catch_up(book, self.ladders[item.county], item, now)
            ready = [item for item in book.items() if item.status == "open" and item.station == station]
            if len(ids) < limit or len(ready) >= limit:
                return sorted(ready, key=lambda item: (item.rank, item.due_at, item.id))[:limit]

    def move(
        self, principal: Principal, identity: str, move: Move, document: object, *, if_match: str | None, now: int
    ) -> dict[str, Any]:
        """Makes a move on one assignment and returns it as it is then.

        Raises Rejected, with nothing done: 404 for what the caller does not see, 403 for a cc station, 428 without
        If-Match, 400 for one without quotes, 412 for a stale one, 409 (NotAllowed) with the moves that are allowed, 422 for a body that does not
        fit.
        """
        with writing(self.engine) as connection:
            book = Book(connection)
            item = next(iter(book.load(ids=(identity,))), None)
            if item is None or not self.sees(principal, item, book.cc(item)):
                raise hidden()
            if not self.holds(principal, item):
                raise read_only()
            ladders = self.ladders[item.county]
            happened = catch_up(book, ladders, item, now)
            check_match(if_match, (item.lease_token if item.status == "claimed" else item.revision,))
            if happened and not self.holds(principal, item):
                raise stale()
            event = self._make(book, item, principal, move, document, now)
            self._tell(connection, item, move, now)
            stations = book.save()
            shown = self.show(item, book.cc(item), principal)
            reach("move.before_commit")
        count(self.metrics, happened)
        if event.kind == "returned":
            self.metrics.count("tipline_bounced_total", station=event.from_station or "", reason=event.data["code"])
        self._moved(move, stations, 1)
        return shown

    def _make(
        self, book: Book, item: Assignment, principal: Principal, move: Move, document: object, now: int
    ) -> Event:
        ladders, actor = self.ladders[item.county], Actor(principal.token_id, principal.role)
        refused = refuse(ladders, item, move)
        if refused is not None:
            raise refused
        body = self.without_numbers(check_body(move, document))
        # Those whom the route named may take it over; those who passed it on have had it.
        neighbours = [name for name, origin in book.cc(item).items() if origin == "route"]
        event = make(ladders, item, neighbours, move, body, actor=actor, now=now)
        record(book, ladders, item, event)
        return event

    def without_numbers(self, body: dict[str, Any]) -> dict[str, Any]:
        """The body of a move or correction. Raises Rejected (422) where its words hold somebody's number: the history
        goes to other systems, and numbers are nowhere but sealed."""
        words = [name for name in ("reason", "text") if name in body and self._mask(body[name]) != body[name]]
        if words:
            detail = "holds a phone, card, identity or account number: leave it out, or send it in as a tip, which seals it"
            raise Rejected(422, "identity", "Numbers of people do not belong into the history", [Mistake(f"/{name}", detail) for name in words])
        return body

    def _tell(self, connection: Connection, item: Assignment, move: Move, now: int) -> None:
        """What others must hear: the fold of a closing or reopening, the reporters of their tip's status."""
        if move in ("resolve", "reopen"):
            put_closure(connection, item, closed=move == "resolve", at=now, now=now)
        if move in _TOLD:
            status = _TOLD[move]
            value = msgspec.json.encode({"incident_id": item.incident_id, "status": status, "at": now})
            key = f"{item.incident_id}/{status}"
            put(connection, "reply", county=item.county, key=key, target=item.incident_id, value=value, now=now)

    def _moved(self, move: Move, stations: frozenset[str], times: int) -> None:
        reach("move.after_commit")
        if times:
            self.metrics.count("tipline_station_moves_total", times, move=move)
        if stations:
            self.announce(stations)


# --- refusals ---------------------------------------------------------------------------------------------------------


#: What If-Match says for an assignment.
ASSIGNMENT_TAG: Final = "the ETag of GET /v1/assignments/{id} as it is (while claimed the lease token in quotes, otherwise the revision in quotes)"


def hidden() -> Rejected:
    """404: it does not exist, or not for this caller."""
    return Rejected(404, "not_found", "There is nothing here, or nothing that this token may see")


def read_only() -> Rejected:
    """403: a cc station reads along."""
    return Rejected(403, "read_only", "This station reads along (cc) and may not change it")


def stale() -> Rejected:
    """412: it has changed since it was read."""
    return Rejected(412, "stale", "It has changed since you read it: read it again, then decide")


def check_match(if_match: str | None, current: Collection[object], told: str = ASSIGNMENT_TAG) -> None:
    """Raises Rejected: 428 without If-Match, 400 when it is not one value in quotes, 412 when it names none of the
    current versions. `told` says where the value is from; never which it is: a lease's is its holder's, and whoever has not read
    what they change shall read it."""
    if if_match is None:
        detail = f"If-Match is missing: send back {told}"
        raise Rejected(428, "if_match_required", "Say which version you have read", [Mistake("", detail)])
    if not _ONE_TAG.fullmatch(if_match.strip()):
        detail = f"If-Match must be one value in double quotes: send back {told}, quotes and all"
        raise Rejected(400, "malformed", "The header If-Match cannot be read", [Mistake("", detail)])
    if if_match.strip() not in {f'"{version}"' for version in current}:
        raise stale()


def refuse(ladders: Ladders, item: Assignment, move: Move) -> Rejected | None:
    """The refusal (409) of a move that is not possible now."""
    why = refusal(ladders, item, move)
    return None if why is None else NotAllowed(move, allowed(ladders, item), why)


def _in_scope(principal: Principal, county: str, stations: Collection[str]) -> bool:
    if principal.role == "station":
        return principal.station in stations and principal.county in (None, county)
    return principal.county in (None, county)


# --- rows
# ---------------------------------------------------------------------------------------------------------------


def find(connection: Connection, identity: str) -> tuple[Assignment | None, list[str]]:
    """An assignment and its cc stations, without locking it."""
    item = by_ids(connection, {identity}).get(identity)
    return item, [] if item is None else _cc_of(connection, [identity])[identity]


def by_ids(connection: Connection, ids: Collection[str]) -> dict[str, Assignment]:
    """Assignments by id, without locking them."""
    found = connection.execute(select(*_FIELDS).where(assignments.c.id.in_(sorted(ids)))) if ids else ()
    return {item.id: item for item in map(_assignment, found)}


def _assignment(row: Any) -> Assignment:
    return Assignment(**dict(zip(Assignment.__struct_fields__, row, strict=True)))


def _queue(
    connection: Connection, station: str, statuses: Sequence[str], after: tuple[int, int, str] | None, limit: int
) -> list[Assignment]:
    read_along = select(assignment_cc.c.assignment_id).where(assignment_cc.c.station == station)
    found: list[Assignment] = []
    # Two questions, each with an index of its own, rather than one with an OR and none.
    for mine in (assignments.c.station == station, assignments.c.id.in_(read_along)):
        wanted = select(*_FIELDS).where(mine).order_by(*_ORDER).limit(limit)
        wanted = wanted.where(assignments.c.status.in_(statuses)) if statuses else wanted
        wanted = wanted.where(_later(after)) if after is not None else wanted
        found += map(_assignment, connection.execute(wanted))
    return sorted(found, key=lambda item: (item.rank, item.due_at, item.id))[:limit]


def _later(after: tuple[int, int, str]) -> ColumnElement[bool]:
    rank, due_at, identity = after
    same_rank = assignments.c.rank == rank
    same_due = and_(same_rank, assignments.c.due_at == due_at)
    return or_(
        assignments.c.rank > rank,
        and_(same_rank, assignments.c.due_at > due_at),
        and_(same_due, assignments.c.id > identity),
    )


def _claimable(connection: Connection, station: str, seen: Collection[str], limit: int) -> list[str]:
    wanted = _CLAIMABLE.where(assignments.c.id.not_in(sorted(seen))) if seen else _CLAIMABLE
    return list(connection.execute(wanted, {"at": station, "most": limit}).scalars())


def _cc_of(connection: Connection, ids: Sequence[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {identity: [] for identity in ids}
    if ids:
        wanted = select(assignment_cc.c.assignment_id, assignment_cc.c.station)
        for identity, station in connection.execute(wanted.where(assignment_cc.c.assignment_id.in_(ids))):
            found[identity].append(station)
    return {identity: sorted(stations) for identity, stations in found.items()}


# --- cursors
# ------------------------------------------------------------------------------------------------------------


def _cursor(item: Assignment) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode([item.rank, item.due_at, item.id])).decode().rstrip("=")


def _read_cursor(cursor: str) -> tuple[int, int, str]:
    try:
        raw = base64.b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4), b"-_", validate=True)
        rank, due_at, identity = msgspec.json.decode(raw, type=tuple[int, int, str])
    except (ValueError, binascii.Error, msgspec.DecodeError):
        raise _no_cursor() from None
    if not (0 <= rank <= 2 and abs(due_at) <= NEVER and "\0" not in identity):
        raise _no_cursor()
    return rank, due_at, identity


def _no_cursor() -> Rejected:
    return misasked("cursor", "not a cursor of this list: leave it out to begin again")
