"""The clocks at work: leases that ran out, levels that did not act in time. Any number of instances may run it.

The scan reads an index on the moment something is due, so that it costs what is due, not what is open. Each item is
settled under its row's lock after a second look: what another instance did is not done again. Events are dated at the
moment they were due. Nothing else may depend on when the scan comes by: who claims or reads settles first, too.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

import msgspec
from sqlalchemy import BindParameter, Connection, Engine, bindparam, select

from sinks.database import reading, writing
from sinks.failpoints import reach
from sinks.station_queue import Assignment, Book, Event, may_see
from sinks.tables import assignments
from stations.ladder import Ladders
from stations.lifecycle import settle
from streams.ports import Metrics

#: Items settled in one transaction.
BATCH: Final = 200

#: An expression: no index on the county may draw a planner away from the one on the moment, for that costs what is open.
_COUNTY: Final = assignments.c.county.concat("")
_COUNTIES: Final[BindParameter[Any]] = bindparam("counties", expanding=True)
_OF_THESE: Final = select(assignments.c.id).where(_COUNTY.in_(_COUNTIES), assignments.c.wake_at <= bindparam("now"))
_DUE: Final = _OF_THESE.order_by(assignments.c.wake_at).limit(bindparam("most"))
#: Those of one station first: whoever waits for an answer about it must not miss one of its own.
_DUE_FIRST_AT: Final = (
    _OF_THESE.order_by(assignments.c.station != bindparam("first"), assignments.c.wake_at)
    .limit(bindparam("most"))
    .with_for_update(skip_locked=True)
)
_NEXT: Final = select(assignments.c.wake_at).where(_COUNTY.in_(_COUNTIES)).order_by(assignments.c.wake_at).limit(1)


class Settled(msgspec.Struct, frozen=True):
    """What one scan did: events that happened, and the stations that should hear of them."""

    events: tuple[Event, ...]
    stations: frozenset[str]


def catch_up(book: Book, ladders: Ladders, item: Assignment, now: int) -> list[Event]:
    """Settles a loaded item and records it; returns the events. A station that lost it upwards reads along."""
    events = []
    for event in settle(ladders, item, now):
        record(book, ladders, item, event)
        events.append(event)
    return events


def record(book: Book, ladders: Ladders, item: Assignment, event: Event) -> None:
    """Records an event of the work. Who had an item that climbed goes on seeing it; who may not see a restricted
    station's does not, however it came there."""
    cc = dict(book.cc(item))
    if event.kind == "escalated" and event.from_station is not None:
        cc[event.from_station] = "work"
    book.set_cc(item, may_see(ladders.county, item.station, cc))
    book.record(item, event, bump=event.kind != "noted")


def settle_due(
    book: Book,
    connection: Connection,
    ladders: Mapping[str, Ladders],
    *,
    now: int,
    limit: int = BATCH,
    first: str = "",
) -> list[Event]:
    """Settles up to `limit` items that are due at `now` in the book, those of station `first` first; returns the events.

    What another transaction has locked is left to it.
    """
    given = {"counties": sorted(ladders), "now": now, "most": limit, "first": first}
    ids = list(connection.execute(_DUE_FIRST_AT, given).scalars())
    events = []
    for item in book.load(ids=ids, skip_locked=True) if ids else ():
        events += catch_up(book, ladders[item.county], item, now)
    return events


def escalate(
    engine: Engine, ladders: Mapping[str, Ladders], metrics: Metrics, *, now: int, limit: int = BATCH
) -> Settled:
    """Settles up to `limit` items that are due at `now`, in one transaction. Call it again while it returns events."""
    with reading(engine) as connection:
        if connection.execute(_DUE, {"counties": sorted(ladders), "now": now, "most": 1}).first() is None:
            return Settled((), frozenset())
    with writing(engine) as connection:
        book = Book(connection)
        events = settle_due(book, connection, ladders, now=now, limit=limit)
        stations = book.save()
        reach("move.before_commit")
    reach("move.after_commit")
    count(metrics, events)
    return Settled(tuple(events), stations)


def next_due(connection: Connection, counties: Collection[str]) -> int | None:
    """The moment at which something of these counties is due next; None where there is nothing at all."""
    found = connection.execute(_NEXT, {"counties": sorted(counties)}).scalar()
    return None if found is None else int(found)


def count(metrics: Metrics, events: list[Event]) -> None:
    """Counts what the clocks did."""
    for event in events:
        if event.kind == "escalated":
            metrics.count("tipline_escalated_total", level=event.data["level"], clock=event.data["clock"])
