"""What stations see: assignments and events as documents, times in RFC 3339 at the county's offset."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import msgspec

from schemas.times import format_time
from sinks.station_queue import Assignment
from sinks.tables import NEVER


def moment(ms: int | None, offset_minutes: int) -> str | None:
    """A time as RFC 3339; None for none."""
    return None if ms is None or ms >= NEVER else format_time(ms, offset_minutes)


#: What an assignment is to whom it is shown: its own to work on, or to read along.
Part = Literal["holder", "cc"]


def part(item: Assignment, cc: Iterable[str], station: str) -> Part | None:
    """A station's part in an assignment; None for one that it does not see."""
    return "holder" if station == item.station else "cc" if station in cc else None


def assignment(item: Assignment, cc: Iterable[str], offset_minutes: int, role: Part | None) -> dict[str, Any]:
    """The document `assignment.v1.json`. Without a `role`: it is told that it went away, and can read it no more."""
    lease = None
    if item.status == "claimed" and item.lease_expires is not None:
        expires = moment(item.lease_expires, offset_minutes)
        lease = {"token": item.lease_token, "expires_at": expires, "holder": item.lease_holder or ""}
    document = {
        "id": item.id,
        "incident_id": item.incident_id,
        "county": item.county,
        "station": item.station,
        "status": item.status,
        "level": item.level,
        "category": item.category,
        "subtype": item.subtype,
        "urgent": item.urgent,
        "area": item.area,
        "title": item.title,
        "corroborations": item.corroborations,
        "dispatched_at": moment(item.dispatched_at, offset_minutes),
        "due_at": moment(item.due_at, offset_minutes),
        "revision": item.revision,
        "cc": sorted(cc),
        "owner": item.owner,
        "outcome": item.outcome,
        "lease": lease,
    }
    return document if role is None else {**document, "role": role}


def event(row: Mapping[str, Any], offset_minutes: int) -> dict[str, Any]:
    """An entry of an assignment's history: what, when, who, why."""
    return {
        "kind": row["kind"],
        "at": moment(row["at"], offset_minutes),
        "number": row["number"],
        "by": row["actor"],
        "role": row["role"],
        "station": row["station"],
        "from_station": row["from_station"],
        "reason": row["reason"],
        "data": msgspec.json.decode(row["data"]),
    }
