"""The clocks at work: leases that ran out, levels that did not act in time. Any number of instances may run it.

The scan reads an index on the moment something is due, so that it costs what is due, not what is open. Each item is
settled under its
row's lock after a second look: what another instance did is not done again. Events are dated at the moment they were
due.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

import msgspec
from sqlalchemy import Connection, Engine, select

from sinks.database import reading, writing
from sinks.station_queue import Assignment, Book, Event
from sinks.tables import assignments
from stations.ladder import Ladders
from stations.lifecycle import settle
from streams.ports import Metrics

#: Items settled in one transaction.
BATCH: Final = 200


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
    """Records an event of the work. Who had an item that climbed goes on seeing it, unless it is restricted now."""
    cc = dict(book.cc(item))
    here = ladders.county.stations.get(item.station)
    if event.kind == "escalated" and event.from_station is not None and not (here is not None and here.restricted):
        cc[event.from_station] = "work"
    book.set_cc(item, cc)
    book.record(item, event, bump=event.kind != "noted")


def escalate(
    engine: Engine, ladders: Mapping[str, Ladders], metrics: Metrics, *, now: int, limit: int = BATCH
) -> Settled:
    """Settles up to `limit` items that are due at `now`, in one transaction. Call it again while it returns events."""
    with reading(engine) as connection:
        if not _due(connection, ladders, now, 1):
            return Settled((), frozenset())
    with writing(engine) as connection:
        book, events = Book(connection), list[Event]()
        for item in book.load(ids=_due(connection, ladders, now, limit, lock=True), skip_locked=True):
            events += catch_up(book, ladders[item.county], item, now)
        stations = book.save()
    count(metrics, events)
    return Settled(tuple(events), stations)


def _due(connection: Connection, ladders: Mapping[str, Ladders], now: int, limit: int, lock: bool = False) -> list[str]:
    wanted = select(assignments.c.id).where(assignments.c.wake_at <= now, assignments.c.county.in_(sorted(ladders)))
    wanted = wanted.order_by(assignments.c.wake_at).limit(limit)
    return list(connection.execute(wanted.with_for_update(skip_locked=True) if lock else wanted).scalars())


def next_due(connection: Connection, counties: Collection[str]) -> int | None:
    """The moment at which something of these counties is due next; None where there is nothing at all."""
    wanted = select(assignments.c.wake_at).where(assignments.c.county.in_(sorted(counties)))
    found = connection.execute(wanted.order_by(assignments.c.wake_at).limit(1)).scalar()
    return None if found is None else int(found)


def count(metrics: Metrics, events: list[Event]) -> None:
    """Counts what the clocks did."""
    for event in events:
        if event.kind == "escalated":
            metrics.count("tipline_escalated_total", level=event.data["level"], clock=event.data["clock"])
