"""The statistics page: what, where and when, to look at rather than to read; the figures to take away."""

from __future__ import annotations

import re
from datetime import date, timedelta
from typing import Any, Final

import msgspec
from starlette.responses import Response
from starlette.routing import BaseRoute

from schemas.errors import Mistake, Rejected
from schemas.times import DAY, MINUTE, format_time, parse_time
from sinks import statistics
from sinks.database import reading
from stations.api import READERS
from stations.pages.shading import shaded
from stations.pages.site import Site, Visit
from stations.status import columns, figures, settled_by_level

#: Days that may be chosen; 0 is all there is.
SPANS: Final = (7, 30, 90, 365, 0)
#: What may be taken away: the page is of one county, and knows who settled what besides.
DOWNLOADS: Final = (*(name for name in statistics.GROUPS if name != "county"), "level")
_DAY: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


class Bar(msgspec.Struct, frozen=True):
    """A bar: its name, its figure in words, and its length in percent of the longest."""

    label: str
    words: str
    share: float


class Span(msgspec.Struct, frozen=True):
    """A time, [start, end) in ms; None: unbounded. `days` None: chosen by its dates."""

    start: int | None
    end: int | None
    days: int | None
    first: str
    last: str


def routes(site: Site) -> list[BaseRoute]:
    """`/statistics` and its downloads."""
    return [
        site.route("/statistics", _page, roles=READERS),
        site.route("/statistics/figures.{form}", _figures, roles=READERS),
    ]


def _span(visit: Visit) -> Span:
    offset, now = visit.county().offset_minutes, visit.pages.clock()
    first, last = visit.asked("from", 10), visit.asked("to", 10)
    if _DAY.fullmatch(first) or _DAY.fullmatch(last):
        return Span(_midnight(first, offset, 0), _midnight(last, offset, 1), None, first, last)
    asked = visit.asked("days", 4)
    days = int(asked) if asked.isdecimal() and int(asked) in SPANS else 30
    if not days:
        return Span(None, None, 0, "", "")
    today = (now + offset * MINUTE) // DAY * DAY - offset * MINUTE
    return Span(today - (days - 1) * DAY, today + DAY, days, "", "")


def _midnight(day: str, offset: int, later: int) -> int | None:
    try:
        moment = parse_time(f"{date.fromisoformat(day) + timedelta(days=later)}T00:00:00Z")
    except (ValueError, OverflowError):
        return None
    return moment - offset * MINUTE


def _rows(visit: Visit, by: list[str], span: Span) -> list[dict[str, Any]]:
    county = visit.county()
    station = visit.principal.station if visit.principal.role == "station" else None
    with reading(visit.pages.desk.engine) as connection:
        return figures(
            connection,
            by,
            county=county.id,
            from_ms=span.start,
            to_ms=span.end,
            station=station,
            offset_minutes=county.offset_minutes,
        )


def _page(visit: Visit) -> Response:
    county, span, w = visit.county(), _span(visit), visit.shown
    categories, townships = _rows(visit, ["category"], span), _rows(visit, ["township"], span)
    subtypes = [row for row in _rows(visit, ["category", "subtype"], span) if row["subtype"]]
    hours = {row["hour_of_day"]: row["incidents"] for row in _rows(visit, ["hour_of_day"], span)}
    channels = _rows(visit, ["channel"], span)
    return visit.site.render(
        visit,
        "statistics.html",
        county=county,
        span=span,
        spans=SPANS,
        tips=sum(row["tips"] for row in categories),
        incidents=sum(row["incidents"] for row in categories),
        categories=_bars([(w.word("category", row["category"]), row["incidents"]) for row in categories]),
        subtypes=_bars([(w.kind(row["category"], row["subtype"]), row["incidents"]) for row in subtypes]),
        townships=_bars([(w.area(row["township"]), row["incidents"]) for row in townships]),
        hours=_lengths([(f"{hour}:00", hours.get(hour, 0)) for hour in range(24)]),
        days=_filled(_rows(visit, ["day"], span), span, visit),
        channels=_bars([(w.word("channel", row["channel"]), row["tips"]) for row in channels]),
        levels=_levels(visit, span),
        map=shaded(county.outlines, {row["township"] or "": row["incidents"] for row in townships}),
        downloads=DOWNLOADS,
    )


def _levels(visit: Visit, span: Span) -> list[Bar]:
    """Where incidents were settled; not for a station, which sees its own only."""
    if visit.principal.role == "station":
        return []
    with reading(visit.pages.desk.engine) as connection:
        rows = settled_by_level(connection, visit.county().id, span.start, span.end)
    return [
        Bar(visit.shown.word("level", row["level"]), f"{row['share']:.0%}", round(100 * row["share"], 1))
        for row in rows
    ]


def _bars(counts: list[tuple[str, int]]) -> list[Bar]:
    """Those that count anything, the most first."""
    return _lengths(sorted((one for one in counts if one[1]), key=lambda one: -one[1]))


def _lengths(counts: list[tuple[str, int]]) -> list[Bar]:
    most = max((count for _, count in counts), default=0) or 1
    return [Bar(label, str(count), round(100 * count / most, 1)) for label, count in counts]


def _filled(rows: list[dict[str, Any]], span: Span, visit: Visit) -> list[dict[str, Any]]:
    """A row for every day from the first to the last, at most two years of them: a gap is a zero, not nothing."""
    if not rows:
        return []
    known = {row["day"]: row for row in rows}
    first, last = min(known), max(known)
    if span.days and span.start is not None and span.end is not None:
        offset = visit.county().offset_minutes
        first, last = format_time(span.start, offset)[:10], format_time(span.end - 1, offset)[:10]
    day, end = date.fromisoformat(first), date.fromisoformat(last)
    day = max(day, end - timedelta(days=730))
    found = []
    while day <= end:
        name = day.isoformat()
        found.append(known.get(name, {"day": name, "tips": 0, "incidents": 0}))
        day += timedelta(days=1)
    return found


def _figures(visit: Visit) -> Response:
    form = visit.request.path_params["form"]
    by = [name for name in visit.asked("by").split(",") if name] or ["category"]
    if form not in ("csv", "json") or any(name not in DOWNLOADS for name in by):
        raise Rejected(404, "not_found", "No such figures", [Mistake("/by", ", ".join(DOWNLOADS))])
    try:
        rows = _rows(visit, by, _span(visit))
    except ValueError as error:
        raise Rejected(404, "not_found", "No such figures", [Mistake("/by", str(error))]) from None
    name = f'attachment; filename="tipline-{"-".join(by)}.{form}"'
    if form == "json":
        return Response(
            msgspec.json.encode({"rows": rows}), media_type="application/json", headers={"content-disposition": name}
        )
    # A byte order mark, for the spreadsheets that would otherwise take UTF-8 for something else.
    text = "\ufeff" + statistics.to_csv(rows, columns(by))
    return Response(text, media_type="text/csv; charset=utf-8", headers={"content-disposition": name})
