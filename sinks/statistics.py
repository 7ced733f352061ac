"""Counts of tips and incidents by county, category, subtype, area, hour of the incident, channel, link and station.

A tip counts once, in the cell of its latest decision; an incident counts once, in the cell of its lead: the tip with
the smallest (occurred_at, tip_id). The table is kept by adding and subtracting contributions; `recount` derives it from
the log by other code, so that one can check the other.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cache
from typing import Any, Final

from sqlalchemy import Connection, Executable, bindparam, delete, func, select

from schemas.records import Decision, Output
from schemas.times import HOUR, MINUTE, format_time, parse_time
from sinks.database import insert
from sinks.tables import DIMENSIONS, incident_tips, statistics

#: county, category, subtype, area, hour, channel, link, station; a missing one is "".
Cell = tuple[str, str, str, str, int, str, str, str]

#: Cell -> (tips, incidents).
Counts = dict[Cell, tuple[int, int]]

#: What one may group by. `day` and `hour_of_day` are read off the hour, in the county's time.
GROUPS: Final = (
    "category",
    "subtype",
    "area",
    "township",
    "hour",
    "day",
    "hour_of_day",
    "channel",
    "link",
    "station",
    "county",
)

_PLAIN: Final = ("category", "subtype", "area", "hour", "channel", "link", "station", "county")

#: A spreadsheet takes a cell that begins like this for a formula.
_DANGEROUS: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "\0", "＝", "＋", "－", "＠")


def hour_start(ms: int, offset_minutes: int) -> int:
    """Start of the local hour that holds the moment, as ms since 1970 (UTC)."""
    offset = offset_minutes * MINUTE
    return (ms + offset) // HOUR * HOUR - offset


def cell_of(row: Mapping[str, Any]) -> Cell:
    """The cell a row of `incident_tips` counts in."""
    return (
        row["county"],
        row["category"],
        row["subtype"] or "",
        row["area"] or "",
        row["hour"],
        row["channel"],
        row["link"],
        row["station"],
    )


def add(connection: Connection, before: Mapping[Cell, tuple[int, int]], after: Mapping[Cell, tuple[int, int]]) -> None:
    """Takes the contributions `before` out of the table and puts `after` in; leaves no empty cell behind."""
    changed: list[dict[str, Any]] = []
    for cell in sorted({*before, *after}):
        tips = after.get(cell, (0, 0))[0] - before.get(cell, (0, 0))[0]
        incidents = after.get(cell, (0, 0))[1] - before.get(cell, (0, 0))[1]
        if tips or incidents:
            changed.append({**dict(zip(DIMENSIONS, cell, strict=True)), "tips": tips, "incidents": incidents})
    if not changed:
        return
    connection.execute(_adding(connection.dialect.name), changed)
    if emptied := [{f"b_{name}": row[name] for name in DIMENSIONS} for row in changed if row["tips"] < 0]:
        connection.execute(_SWEEP, emptied)


@cache
def _adding(dialect: str) -> Executable:
    statement = insert(dialect, statistics)
    total = {name: statistics.c[name] + statement.excluded[name] for name in ("tips", "incidents")}
    return statement.on_conflict_do_update(index_elements=list(DIMENSIONS), set_=total)


_SWEEP: Final = delete(statistics).where(
    *(statistics.c[name] == bindparam(f"b_{name}") for name in DIMENSIONS),
    statistics.c.tips == 0,
    statistics.c.incidents == 0,
)


def recount(outputs: Iterable[Output], offset_minutes: int) -> Counts:
    """The table as the log says it should be, from the highest revision of each tip. For checks: memory grows with the
    tips."""
    latest: dict[str, Decision] = {}
    for output in outputs:
        if isinstance(output, Decision) and (
            output.tip_id not in latest or latest[output.tip_id].revision < output.revision
        ):
            latest[output.tip_id] = output
    firsts: dict[str, tuple[int, str]] = {}
    for tip_id, decision in latest.items():
        mine = (parse_time(decision.occurred_at), tip_id)
        firsts[decision.incident_id] = min(firsts.get(decision.incident_id, mine), mine)
    tips: Counter[Cell] = Counter()
    incidents: Counter[Cell] = Counter()
    for tip_id, decision in latest.items():
        cell = _cell_of_decision(decision, offset_minutes)
        tips[cell] += 1
        incidents[cell] += firsts[decision.incident_id][1] == tip_id
    return {cell: (n, incidents[cell]) for cell, n in tips.items()}


def _cell_of_decision(decision: Decision, offset_minutes: int) -> Cell:
    occurred = parse_time(decision.occurred_at)
    since_hour = (occurred // MINUTE + offset_minutes) % 60 * MINUTE + occurred % MINUTE
    return (
        decision.county,
        decision.category,
        decision.subtype or "",
        decision.area or "",
        occurred - since_hour,
        decision.channel,
        decision.link,
        decision.station,
    )


def stored(connection: Connection, county: str | None = None) -> Counts:
    """The table as it stands, of one county or all."""
    statement = select(*(statistics.c[name] for name in DIMENSIONS), statistics.c.tips, statistics.c.incidents)
    if county is not None:
        statement = statement.where(statistics.c.county == county)
    return {(r[0], r[1], r[2], r[3], r[4], r[5], r[6], r[7]): (r[8], r[9]) for r in connection.execute(statement)}


def query(
    connection: Connection,
    by: Sequence[str],
    *,
    county: str | None = None,
    from_ms: int | None = None,
    to_ms: int | None = None,
    station: str | None = None,
    offset_minutes: int = 0,
) -> list[dict[str, Any]]:
    """Rows of the chosen groups with their `tips` and `incidents`, ordered by group.

    `from_ms` and `to_ms` bound the incident's hour, [from, to). Hours come as RFC 3339 at the offset, missing values
    as None. Raises ValueError for a group that does not exist.
    """
    unknown = [name for name in by if name not in GROUPS]
    if unknown or len(set(by)) != len(by):
        wrong = ", ".join(unknown) or "the same thing twice"
        raise ValueError(f"cannot group by {wrong}: choose among {', '.join(GROUPS)}")
    columns = sorted({_source(name) for name in by})
    statement = select(
        *(statistics.c[name] for name in columns), func.sum(statistics.c.tips), func.sum(statistics.c.incidents)
    )
    for column, wanted in ((statistics.c.county, county), (statistics.c.station, station)):
        statement = statement if wanted is None else statement.where(column == wanted)
    statement = statement if from_ms is None else statement.where(statistics.c.hour >= from_ms)
    statement = statement if to_ms is None else statement.where(statistics.c.hour < to_ms)
    totals: dict[tuple[Any, ...], list[int]] = {}
    for *values, tips, incidents in connection.execute(statement.group_by(*(statistics.c[name] for name in columns))):
        if tips is None:
            continue
        known = dict(zip(columns, values, strict=True))
        cell = totals.setdefault(tuple(_shown(name, known, offset_minutes) for name in by), [0, 0])
        cell[0] += int(tips)
        cell[1] += int(incidents)
    ordered = sorted(totals.items(), key=lambda item: tuple((value is not None, value) for value in item[0]))
    return [{**dict(zip(by, group, strict=True)), "tips": n[0], "incidents": n[1]} for group, n in ordered]


def _source(group: str) -> str:
    return group if group in _PLAIN else {"township": "area", "day": "hour", "hour_of_day": "hour"}[group]


def _shown(group: str, row: Mapping[str, Any], offset_minutes: int) -> str | int | None:
    value = row[_source(group)]
    if group == "hour":
        return format_time(value, offset_minutes)
    if group == "day":
        return format_time(value, offset_minutes)[:10]
    if group == "hour_of_day":
        return int((value + offset_minutes * MINUTE) // HOUR % 24)
    if group == "township":
        return "/".join(value.split("/")[:2]) if value.count("/") else None
    return value or None


def to_csv(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """RFC 4180, with a header; a cell that a spreadsheet would run as a formula gets a leading apostrophe."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(columns)
    writer.writerows([safe_cell(row[name]) for name in columns] for row in rows)
    return out.getvalue()


def safe_cell(value: object) -> object:
    """A value as it may stand in a spreadsheet's cell. Numbers stay numbers, None is empty."""
    if value is None:
        return ""
    return "'" + value if isinstance(value, str) and value.startswith(_DANGEROUS) else value


def contributions(tips: Iterable[Mapping[str, Any]], leads: Collection[str | None]) -> Counts:
    """What the given tips (rows of `incident_tips`) contribute to the table; those of `leads` stand for their
    incidents."""
    total: Counts = {}
    for row in tips:
        cell = cell_of(row)
        counted, incidents = total.get(cell, (0, 0))
        total[cell] = (counted + 1, incidents + (row["tip_id"] in leads))
    return total


def tips_of(connection: Connection, incident_id: str) -> list[dict[str, Any]]:
    """The tips of an incident, as rows, by when it happened as they tell it: the first is its `lead`."""
    statement = (
        select(incident_tips)
        .where(incident_tips.c.incident_id == incident_id)
        .order_by(incident_tips.c.occurred_at, incident_tips.c.tip_id)
    )
    return [dict(row) for row in connection.execute(statement).mappings()]
