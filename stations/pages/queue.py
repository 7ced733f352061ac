"""A station's queue as the console asks for it: filtered, in order, a page at a time, with its figures."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import ColumnElement, Connection, and_, case, func, or_, select, tuple_

from sinks.tables import NEVER, assignment_cc, assignments, incident_tips, incidents

LIVE: Final = ("open", "claimed", "acknowledged", "in_progress")
#: What the tabs show; each a set of statuses.
VIEWS: Final[dict[str, tuple[str, ...]]] = {
    "live": LIVE,
    "open": ("open",),
    "mine": LIVE,
    "work": ("claimed", "acknowledged", "in_progress"),
    "done": ("resolved",),
}
PAGE: Final = 50

_COLUMNS: Final = (
    "id",
    "incident_id",
    "station",
    "status",
    "level",
    "category",
    "subtype",
    "urgent",
    "area",
    "title",
    "corroborations",
    "dispatched_at",
    "due_at",
    "overdue",
    "revision",
    "lease_token",
    "lease_expires",
    "lease_holder",
    "owner",
    "outcome",
    "resolved_at",
    "rank",
)
_CURSOR: Final = re.compile(r"(-?[0-9]{1,19})\.(-?[0-9]{1,19})\.([0-9a-f-]{36})")


class Wanted(msgspec.Struct, frozen=True):
    """What is asked of a queue."""

    view: str = "live"
    category: str = ""
    urgent: bool = False
    township: str = ""
    words: str = ""
    #: Who asks, for `mine`.
    me: str = ""

    @property
    def narrowed(self) -> bool:
        """Whether something may be hidden by a filter."""
        return bool(self.category or self.urgent or self.township or self.words)


class Counts(msgspec.Struct, frozen=True):
    """A station's own items at a glance."""

    open: int = 0
    work: int = 0
    overdue: int = 0
    urgent: int = 0


def listed(
    connection: Connection, station: str, wanted: Wanted, after: str = "", limit: int = PAGE
) -> tuple[list[dict[str, Any]], str | None]:
    """A page of the queue and the cursor of the next; `role` is holder or cc.

    Urgent first and then by due time; of what is closed, the latest first.
    """
    conditions = _conditions(wanted)
    table = assignments.c
    # Each a sequence of columns that only grows, so that one cursor serves both.
    order = (-table.resolved_at, table.due_at, table.id) if wanted.view == "done" else (table.rank, table.due_at, table.id)
    if (start := _after(after, order)) is not None:
        conditions.append(start)
    columns = [assignments.c[name] for name in _COLUMNS]
    read_along = select(assignment_cc.c.assignment_id).where(assignment_cc.c.station == station)
    rows: list[dict[str, Any]] = []
    # Two questions, each with an index of its own, rather than one with an OR and none.
    for mine in (assignments.c.station == station, assignments.c.id.in_(read_along)):
        statement = select(*columns).where(mine, *conditions)
        ordered = statement.order_by(*order).limit(limit + 1)
        rows += [dict(row) for row in connection.execute(ordered).mappings()]
    first = _minus_closed if wanted.view == "done" else _rank
    rows.sort(key=lambda row: (first(row), row["due_at"], row["id"]))
    shown = rows[:limit]
    doubtful = _suggested(connection, [row["incident_id"] for row in shown])
    for row in shown:
        row["role"] = "holder" if row["station"] == station else "cc"
        row["suggested"] = row["incident_id"] in doubtful
    last = shown[-1] if len(rows) > limit else None
    return shown, None if last is None else f"{first(last)}.{last['due_at']}.{last['id']}"


def _rank(row: Mapping[str, Any]) -> int:
    return int(row["rank"])


def _minus_closed(row: Mapping[str, Any]) -> int:
    return -int(row["resolved_at"] or 0)


def _conditions(wanted: Wanted) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = [assignments.c.status.in_(VIEWS[wanted.view])]
    if wanted.view == "mine":
        found.append(or_(assignments.c.owner == wanted.me, assignments.c.lease_holder == wanted.me))
    if wanted.category:
        found.append(assignments.c.category == wanted.category)
    if wanted.urgent:
        found.append(assignments.c.urgent.is_(True))
    if wanted.township:
        area = assignments.c.area
        found.append(or_(area == wanted.township, area.startswith(wanted.township + "/", autoescape=True)))
    for word in wanted.words.split()[:5]:
        found.append(assignments.c.title.contains(word, autoescape=True))
    return found


def _after(cursor: str, order: tuple[ColumnElement[Any], ...]) -> ColumnElement[bool] | None:
    found = _CURSOR.fullmatch(cursor)
    if found is None or max(abs(int(found.group(1))), abs(int(found.group(2)))) > NEVER:
        return None
    a, b, c = int(found.group(1)), int(found.group(2)), found.group(3)
    first, second, third = order
    return or_(first > a, and_(first == a, second > b), and_(first == a, second == b, third > c))


def _suggested(connection: Connection, incidents: Sequence[str]) -> set[str]:
    """Those of these incidents that may be the same as another one."""
    if not incidents:
        return set()
    here = select(incident_tips.c.incident_id).where(
        incident_tips.c.incident_id.in_(incidents), incident_tips.c.link == "suggested"
    )
    there = select(incident_tips.c.link_to).where(
        incident_tips.c.link_to.in_(incidents), incident_tips.c.link == "suggested"
    )
    return {*connection.execute(here).scalars(), *connection.execute(there).scalars()}


def counted(connection: Connection, station: str, now: int) -> Counts:
    """The station's own items that are not resolved."""
    table = assignments.c
    statement = select(
        func.sum(case((table.status == "open", 1), else_=0)),
        func.sum(case((table.status != "open", 1), else_=0)),
        func.sum(case((table.due_at <= now, 1), else_=0)),
        func.sum(case((table.urgent.is_(True), 1), else_=0)),
    ).where(table.station == station, table.status.in_(LIVE))
    found = connection.execute(statement).one()
    return Counts(*(int(n or 0) for n in found))


class Load(msgspec.Struct, frozen=True):
    """A station's load, for the county's view; `oldest` in ms, None without open items."""

    station: str
    open: int
    work: int
    overdue: int
    urgent: int
    oldest: int | None


def loads(connection: Connection, county: str, now: int) -> dict[str, Load]:
    """Every station of a county that has something to do."""
    table = assignments.c
    statement = (
        select(
            table.station,
            func.sum(case((table.status == "open", 1), else_=0)),
            func.sum(case((table.status != "open", 1), else_=0)),
            func.sum(case((table.due_at <= now, 1), else_=0)),
            func.sum(case((table.urgent.is_(True), 1), else_=0)),
            func.min(table.dispatched_at),
        )
        .where(table.county == county, table.status.in_(LIVE))
        .group_by(table.station)
    )
    found = {}
    for name, open_, work, overdue, urgent, oldest in connection.execute(statement):
        found[name] = Load(name, int(open_ or 0), int(work or 0), int(overdue or 0), int(urgent or 0), oldest)
    return found


def by_area(connection: Connection, county: str) -> dict[str, int]:
    """How many items are not resolved, by township path."""
    table = assignments.c
    statement = select(table.area, func.count()).where(table.county == county, table.status.in_(LIVE))
    found: dict[str, int] = {}
    for area, n in connection.execute(statement.group_by(table.area)):
        township = "/".join((area or "").split("/")[:2])
        if township.count("/"):
            found[township] = found.get(township, 0) + int(n)
    return found


def unacted(
    connection: Connection, county: str, after: tuple[int, str] | None, limit: int
) -> tuple[list[dict[str, Any]], str | None]:
    """A page of the incidents on which nobody need act, the newest first, and the cursor of the next."""
    table = incidents.c
    wanted = select(*(table[name] for name in ("incident_id", "category", "subtype", "area", "title", "corroborations", "received_at")))
    wanted = wanted.where(table.county == county, table.no_action.is_(True), table.tips > 0, table.merged_into.is_(None))
    if after is not None:
        wanted = wanted.where(tuple_(table.received_at, table.incident_id) < after)
    ordered = wanted.order_by(table.received_at.desc(), table.incident_id.desc()).limit(limit + 1)
    rows = [dict(row) for row in connection.execute(ordered).mappings()]
    last = rows[limit - 1] if len(rows) > limit else None
    return rows[:limit], None if last is None else f"{last['received_at']}.{last['incident_id']}"
