"""What the public may know of a tip, at which level things are settled, and the figures that may be asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal

import msgspec
from sqlalchemy import Connection, func, select

from sinks import statistics
from sinks.station_queue import Assignment, assignment_id
from sinks.tables import assignment_events, assignments, incident_tips, incidents
from stations.desk import find

PublicStatus = Literal["received", "with_station", "in_work", "closed"]

#: From an assignment's status to what the reporter is told.
PUBLIC: Final[dict[str, PublicStatus]] = {
    "open": "with_station",
    "claimed": "with_station",
    "acknowledged": "in_work",
    "in_progress": "in_work",
    "resolved": "closed",
}

#: Closed by a decision, not settled by anybody: no part of what is settled at a level.
UNSETTLED: Final = ("no_action", "moved", "merged")

_SINCE: Final[dict[PublicStatus, tuple[str, ...]]] = {
    "with_station": ("dispatched", "reopened"),
    "in_work": ("acknowledged", "started"),
    "closed": ("resolved", "closed"),
    "received": (),
}


class Status(msgspec.Struct, frozen=True):
    """A public status and since when (ms); `at` None: since the tip came."""

    status: PublicStatus
    at: int | None


def of_tip(connection: Connection, tip_id: str) -> Status:
    """A tip's public status, through merges; `received` while undecided."""
    found = connection.execute(
        select(incident_tips.c.incident_id, incident_tips.c.received_at).where(incident_tips.c.tip_id == tip_id)
    ).first()
    return Status("received", None) if found is None else of_incident(connection, found[0])


def of_incident(connection: Connection, incident_id: str) -> Status:
    """An incident's public status, through merges."""
    seen = {incident_id}
    while True:
        row = connection.execute(select(incidents).where(incidents.c.incident_id == incident_id)).mappings().first()
        if row is None or row["merged_into"] is None or row["merged_into"] in seen:
            break
        incident_id = row["merged_into"]
        seen.add(incident_id)
    if row is None:
        return Status("received", None)
    item, _ = find(connection, assignment_id(incident_id))
    if item is None:
        # Publicity and noise: kept and counted, nobody need act.
        return Status("closed", row["received_at"]) if row["no_action"] else Status("received", row["received_at"])
    status = PUBLIC[item.status]
    return Status(status, _since(connection, item, status))


def _since(connection: Connection, item: Assignment, status: PublicStatus) -> int:
    newest = select(func.max(assignment_events.c.at)).where(assignment_events.c.assignment_id == item.id)
    first_of = newest.where(assignment_events.c.kind.in_(_SINCE[status]))
    found = connection.execute(first_of).scalar()
    return item.dispatched_at if found is None else int(found)


def figures(
    connection: Connection,
    by: Sequence[str],
    *,
    county: str | None = None,
    from_ms: int | None = None,
    to_ms: int | None = None,
    station: str | None = None,
    offset_minutes: int = 0,
) -> list[dict[str, Any]]:
    """The figures that may be asked for, wherever somebody asks: those of `sinks.statistics`, or `level` alone.

    Times in ms. Raises ValueError for a group that does not exist.
    """
    if "level" not in by:
        try:
            return statistics.query(
                connection,
                by,
                county=county,
                from_ms=from_ms,
                to_ms=to_ms,
                station=station,
                offset_minutes=offset_minutes,
            )
        except ValueError as error:
            raise ValueError(f"{error}; or level alone") from None
    if list(by) != ["level"]:
        raise ValueError("level stands alone: it counts where incidents were settled")
    return settled_by_level(connection, county, from_ms, to_ms, station)


def columns(by: Sequence[str]) -> list[str]:
    """The columns of `figures`, in their order."""
    return [*by, "tips", "incidents", *(["share"] if "level" in by else [])]


def settled_by_level(
    connection: Connection,
    county: str | None = None,
    from_ms: int | None = None,
    to_ms: int | None = None,
    station: str | None = None,
) -> list[dict[str, Any]]:
    """Settled incidents by the level that settled them: [{level, tips, incidents, share}].

    A reopened one counts where it was settled last, a merged one not beside its survivor. `from_ms` and `to_ms` bound
    when it was settled; `station` asks for what that station settled.
    """
    tips = func.sum(incidents.c.tips)
    wanted = select(assignments.c.resolved_level, func.count(), tips).join(
        incidents, incidents.c.incident_id == assignments.c.incident_id
    )
    wanted = wanted.where(assignments.c.status == "resolved", assignments.c.resolved_level.is_not(None))
    wanted = wanted.where(assignments.c.outcome.not_in(UNSETTLED))
    if county is not None:
        wanted = wanted.where(assignments.c.county == county)
    if station is not None:
        wanted = wanted.where(assignments.c.station == station)
    if from_ms is not None:
        wanted = wanted.where(assignments.c.resolved_at >= from_ms)
    if to_ms is not None:
        wanted = wanted.where(assignments.c.resolved_at < to_ms)
    found = {
        level: (int(n), int(t)) for level, n, t in connection.execute(wanted.group_by(assignments.c.resolved_level))
    }
    total = sum(n for n, _ in found.values())
    order = [level for level in ("village", "township", "county") if level in found]
    return [
        {
            "level": level,
            "tips": found[level][1],
            "incidents": found[level][0],
            "share": round(found[level][0] / total, 4),
        }
        for level in order
    ]
