"""Putting things into the outbox: in the transaction of what they follow from, each once by its key."""

from __future__ import annotations

import uuid
from typing import Final, Literal

from sqlalchemy import Connection

from schemas.codec import encode
from schemas.records import Change, Closure, Correction
from schemas.times import format_time
from sinks.database import insert_new
from sinks.station_queue import Assignment
from sinks.tables import outbox

#: `input`: a record for the county's input; `reply`: an incident's new public status; `answer`: it, for one reporter.
OutboxKind = Literal["input", "reply", "answer"]

_NAMESPACE: Final = uuid.UUID("a4d0a1de-0e5c-5d0e-8f43-2b7c0c8f7e11")


def put(
    connection: Connection, kind: OutboxKind, *, county: str, key: str, target: str, value: bytes, now: int
) -> None:
    """One thing to send; nothing happens when its key is there already."""
    row = {"kind": kind, "county": county, "key": key, "target": target, "value": value}
    insert_new(connection, outbox, [{**row, "created_at": now, "next_at": now, "attempts": 0}])


def put_input(connection: Connection, record: Correction | Closure | Change, key: str, *, now: int) -> None:
    """A record that must go into its county's input."""
    put(connection, "input", county=record.county, key=key, target="tips", value=encode(record), now=now)


def derived_id(*parts: str) -> str:
    """An id that follows from what it is for, so that a repeat names the same thing."""
    return str(uuid.uuid5(_NAMESPACE, "/".join(parts)))


def put_closure(connection: Connection, item: Assignment, *, closed: bool, at: int, now: int) -> None:
    """Tells the fold that an incident was closed or opened again, by the event that just did so."""
    closure_id = derived_id("closure", item.id, str(item.events))
    closure = Closure(
        county=item.county,
        closure_id=closure_id,
        incident_id=item.incident_id,
        closed=closed,
        at=format_time(at),
        outcome=item.outcome if closed else None,
    )
    put_input(connection, closure, closure_id, now=now)
