"""The hotline desk: one form, and beside it what would become of the call as it is typed."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import quote

from sqlalchemy import ColumnElement, and_, or_, select
from starlette.responses import Response
from starlette.routing import BaseRoute

from schemas.errors import Rejected
from schemas.times import DAY
from schemas.vocabulary import CATEGORIES, Role
from sinks.database import reading
from sinks.tables import assignments, incident_tips, incidents
from stations.pages.report import place_of, submission, townships
from stations.pages.site import Preview, Site, Visit, see

ROLES: Final[tuple[Role, ...]] = ("hotline", "county", "admin")
#: The source of calls whose operator's token names none.
SOURCE: Final = "hotline:desk"
#: How long ago an incident was last told of that may be the caller's, where nothing better is known.
RECENT_MS: Final = 2 * DAY
#: From so many characters on there is something to look at.
LEAST: Final = 4


def routes(site: Site) -> list[BaseRoute]:
    """`/desk`, what would become of a call, and what became of the one before."""
    return [
        site.route("/desk", _page, roles=ROLES),
        site.route("/desk", _take, "POST", roles=ROLES),
        site.route("/desk/preview", _preview, "POST", roles=ROLES),
        site.route("/desk/taken", _taken, roles=ROLES),
    ]


def _page(visit: Visit, status: int = 200, problem: str | None = None, seen: dict[str, Any] | None = None) -> Response:
    county = visit.county()
    receipt = visit.asked("receipt", 40)
    fields = ("text", "area", "place", "name", "phone", "category_hint")
    return visit.site.render(
        visit,
        "desk.html",
        status,
        county=county,
        townships=townships(county),
        categories=CATEGORIES,
        message_id=visit.first("message_id", 64) or visit.pages.entropy(16).hex(),
        given={name: visit.first(name) for name in fields},
        receipt=receipt,
        tip=visit.asked("tip", 36),
        became=_became(visit),
        problem=problem,
        seen=seen,
    )


def _drafted(visit: Visit) -> dict[str, Any]:
    """The form as a submission."""
    document = submission(visit)
    hint = visit.first("category_hint", 20)
    return {**document, **({"category_hint": hint} if hint in CATEGORIES else {})}


async def _take(visit: Visit) -> Response:
    if visit.first("check", 1):  # without a script: look first
        return await _looked_at(visit)
    principal = visit.principal
    document = _drafted(visit)
    if principal.source is None:
        document["source"] = SOURCE
    document["channel"] = "hotline"
    try:
        taken = await visit.pages.take(document, principal)
    except Rejected as error:
        if error.status not in (409, 422):
            raise
        return _page(visit, error.status, visit.shown.refusal("report_" + error.slug, error.status))
    return see(f"/desk?receipt={quote(str(taken['receipt']))}&tip={quote(str(taken['tip_id']))}")


async def _looked_at(visit: Visit) -> Response:
    from starlette.concurrency import run_in_threadpool

    seen = await run_in_threadpool(_seen, visit)
    return _page(visit, seen=seen)


def _preview(visit: Visit) -> Response:
    return visit.site.render(visit, "_preview.html", seen=_seen(visit))


def _taken(visit: Visit) -> Response:
    return visit.site.render(visit, "_taken.html", tip=visit.asked("tip", 36), became=_became(visit))


def _became(visit: Visit) -> dict[str, Any] | None:
    """The incident of the call that was taken: `known` as far as an operator may see it; None while it is undecided."""
    of_tip = select(incident_tips.c.incident_id).where(incident_tips.c.tip_id == visit.asked("tip", 36))
    with reading(visit.pages.desk.engine) as connection:
        incident = connection.execute(of_tip.where(incident_tips.c.county == visit.county().id)).scalar()
    if incident is None:
        return None
    return {"known": next(iter(_told(visit, incidents.c.incident_id == incident)), None)}


def _seen(visit: Visit) -> dict[str, Any] | None:
    """What would become of the call; None while there is too little to say."""
    text = visit.first("text")
    if len(text) < LEAST:
        return None
    county = visit.county()
    draft: dict[str, Any] = {"text": text}
    if place := place_of(visit):
        draft["place"] = place
    if (hint := visit.first("category_hint", 20)) in CATEGORIES:
        draft["category_hint"] = hint
    preview = visit.pages.preview(county.id, draft)
    return {"preview": preview, "likely": _known(visit, preview)}


def _known(visit: Visit, preview: Preview) -> list[dict[str, Any]]:
    """The likely incidents with what an operator may tell the caller: what, where, how far it is.

    Where incidents are not remembered, the latest ones of the same kind in the same township, with no probability.
    """
    if preview.likely is not None:
        chances = {one.incident_id: one.probability for one in preview.likely[:5]}
        found = _told(visit, incidents.c.incident_id.in_(sorted(chances))) if chances else []
        for row in found:
            row["probability"] = chances[row["incident_id"]]
        return sorted(found, key=lambda row: -row["probability"])
    township = "/".join((preview.area or "").split("/")[:2])
    if "/" not in township:
        return []
    here = or_(incidents.c.area == township, incidents.c.area.startswith(township + "/", autoescape=True))
    recent = incidents.c.last_received_at >= visit.pages.clock() - RECENT_MS
    alike = incidents.c.category == preview.category
    found = _told(visit, and_(here, recent, alike, incidents.c.merged_into.is_(None)))
    return [{**row, "probability": None} for row in found[:5]]


def _told(visit: Visit, condition: ColumnElement[bool]) -> list[dict[str, Any]]:
    """Incidents of the county, the latest first, without those of restricted stations."""
    columns = [
        incidents.c[name]
        for name in ("incident_id", "title", "category", "subtype", "area", "last_received_at", "tips", "urgent")
    ]
    statement = (
        select(*columns, assignments.c.status, assignments.c.station)
        .outerjoin(assignments, assignments.c.incident_id == incidents.c.incident_id)
        .where(condition, incidents.c.county == visit.county().id)
        .order_by(incidents.c.last_received_at.desc(), incidents.c.incident_id)
        .limit(20)
    )
    with reading(visit.pages.desk.engine) as connection:
        rows = [dict(row) for row in connection.execute(statement).mappings()]
    stations = visit.county().stations
    return [row for row in rows if row["station"] is None or not stations[row["station"]].restricted]
