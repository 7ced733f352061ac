"""The reporter's pages: one box to tell what happened, and how it goes by receipt. For everybody, anonymous by default."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

import msgspec
import segno
from starlette.responses import Response
from starlette.routing import BaseRoute

from schemas.errors import Mistake, Rejected
from schemas.times import parse_time
from sinks import web
from stations.pages.site import Site, Visit, see
from streams.ports import Principal
from streams.stages.county import County

#: The source of reports by this page.
SOURCE: Final = "web:public"
#: The steps a reporter is told, in their order.
STEPS: Final = ("received", "with_station", "in_work", "closed")

_MESSAGE: Final = re.compile(r"[0-9a-zA-Z-]{16,64}")
_DEGREES: Final = re.compile(r"-?[0-9]{1,3}(\.[0-9]{1,12})?")
_RECEIPT: Final = re.compile(r"[0-9A-Za-z -]{16,40}")


def routes(site: Site) -> list[BaseRoute]:
    """`/`, `/report`, `/r/{receipt}` and what the page needs to work without a network."""
    return [
        site.route("/", _page),
        site.route("/report", _fresh_token),
        site.route("/report", _report, "POST"),
        site.route("/r", _look_up),
        site.route("/r/{receipt}", _receipt),
        site.route("/boundaries/{county}.json", _boundaries),
        site.route("/sw.js", _worker),
        site.route("/manifest.webmanifest", _manifest),
    ]


def _page(visit: Visit, status: int = 200, problem: str | None = None) -> Response:
    county = visit.county()
    return visit.site.render(
        visit,
        "report.html",
        status,
        county=county,
        counties=list(visit.pages.desk.counties.values()),
        townships=townships(county),
        message_id=visit.first("message_id", 64) or visit.pages.entropy(16).hex(),
        problem=problem,
        given={name: visit.first(name) for name in ("text", "area", "place", "name", "phone")},
    )


def townships(county: County) -> list[tuple[Any, list[Any]]]:
    """Each township with its villages."""
    found: dict[str, tuple[Any, list[Any]]] = {}
    for area in county.areas.values():
        if area.level == "township":
            found[area.path] = (area, [])
        elif area.level == "village":
            found[area.path.rpartition("/")[0]][1].append(area)
    return list(found.values())


def _fresh_token(visit: Visit) -> Response:
    """A form token for a report that was kept while there was no network."""
    return Response(msgspec.json.encode({"form_token": visit.token}), media_type="application/json")


async def _report(visit: Visit) -> Response:
    wants_json = "application/json" in visit.request.headers.get("accept", "")
    wait = visit.site.reports.take(visit.address, visit.pages.clock())
    if wait:
        if wants_json:
            raise web.TooMany(wait // 1000 + 1)
        return _page(visit, 429, visit.t("report.too_many"))
    principal = Principal(SOURCE, "intake", source=SOURCE, county=_county(visit).id)
    try:
        taken = await visit.pages.take(submission(visit), principal)
    except Rejected as error:
        if wants_json or error.status not in (409, 422):
            raise
        return _page(visit, error.status, visit.shown.refusal("report_" + error.slug, error.status))
    where = "/r/" + quote(str(taken["receipt"]))
    if wants_json:
        answer = {"receipt": taken["receipt"], "url": where}
        return Response(msgspec.json.encode(answer), 202, media_type="application/json")
    return see(where + "?new=1")


def _county(visit: Visit) -> County:
    return visit.pages.desk.counties.get(visit.first("county", 64)) or visit.county()


def submission(visit: Visit) -> dict[str, Any]:
    """The submission that the form says. Raises Rejected (422) for what is no number, time or text."""
    text, message_id = visit.first("text"), visit.first("message_id", 64)
    if not text:
        raise _bad("/text", "say what happened")
    if message_id and not _MESSAGE.fullmatch(message_id):
        raise _bad("/message_id", "16 to 64 letters, digits and dashes")
    found: dict[str, Any] = {"text": text, "lang": visit.lang}
    if message_id:
        found["message_id"] = message_id
    if place := place_of(visit):
        found["place"] = place
    reporter = {name: value for name in ("name", "phone") if (value := visit.first(name, 100))}
    if reporter:
        found["reporter"] = reporter
    if reported_at := visit.first("reported_at", 40):
        try:
            parse_time(reported_at)
        except (ValueError, OverflowError):
            raise _bad("/reported_at", "a date and time with offset") from None
        found["reported_at"] = reported_at
    return found


def place_of(visit: Visit) -> dict[str, Any]:
    """The place that the form says: words, an area of the list, a point of the map or of GPS."""
    place: dict[str, Any] = {}
    if words := visit.first("place", 200):
        place["text"] = words
    area = visit.first("area", 200)
    if area:
        if area not in _county(visit).areas:
            raise _bad("/area", "no area of this county")
        place["area"] = area
    lat, lon = visit.first("lat", 30), visit.first("lon", 30)
    if lat and lon:
        if not (
            _DEGREES.fullmatch(lat) and _DEGREES.fullmatch(lon) and abs(float(lat)) <= 90 and abs(float(lon)) <= 180
        ):
            raise _bad("/lat", "degrees, like 38.23")
        place["lat"], place["lon"] = float(lat), float(lon)
    return place


def _bad(pointer: str, detail: str) -> Rejected:
    return Rejected(422, "invalid", "The report cannot be taken as it is", [Mistake(pointer, detail)])


# --- the receipt ------------------------------------------------------------------------------------------------------


def _look_up(visit: Visit) -> Response:
    typed = visit.asked("receipt", 40)
    return see("/r/" + quote(typed, safe="") if typed else "/")


def _receipt(visit: Visit) -> Response:
    wait = visit.site.receipts.take(visit.address, visit.pages.clock())
    if wait:
        raise web.TooMany(wait // 1000 + 1)
    typed = visit.request.path_params["receipt"]
    status = visit.pages.status_of_receipt(typed) if _RECEIPT.fullmatch(typed) else None
    if status is None:
        return visit.site.render(
            visit, "receipt.html", 404, receipt=typed[:40], status=None, steps=STEPS, qr="", fresh=False, url=""
        )
    receipt = _tidy(typed)
    url = (visit.pages.public_url or str(visit.request.base_url)).rstrip("/") + "/r/" + receipt
    fresh = visit.asked("new") == "1"
    values: Mapping[str, Any] = {"receipt": receipt, "status": status, "url": url, "qr": _qr(url), "fresh": fresh}
    return visit.site.render(visit, "receipt.html", steps=STEPS, **values)


def _tidy(typed: str) -> str:
    signs = re.sub(r"[^0-9A-Za-z]", "", typed).upper()
    return "-".join(signs[start : start + 4] for start in range(0, len(signs), 4))


def _qr(url: str) -> str:
    """A QR code as SVG path data on a grid of modules, its quiet zone included: for a template's own <svg>."""
    rows = list(segno.make(url, error="m", micro=False).matrix_iter(border=2))
    path = "".join(f"M{x} {y}h1v1h-1z" for y, row in enumerate(rows) for x, dark in enumerate(row) if dark)
    return f"{len(rows)} {path}"


# --- without a network ------------------------------------------------------------------------------------------------


def _boundaries(visit: Visit) -> Response:
    county = visit.request.path_params["county"]
    if county not in visit.pages.desk.counties:
        raise web.not_found()
    features = [
        {
            "type": "Feature",
            "properties": {"area": path, "depth": path.count("/"), "name": visit.shown.short(path)},
            "geometry": geometry,
        }
        for path, geometry in visit.pages.desk.counties[county].outlines.shapes
    ]
    body = msgspec.json.encode({"type": "FeatureCollection", "features": features})
    return Response(body, media_type="application/geo+json", headers={"cache-control": "private, max-age=300"})


def _worker(visit: Visit) -> Response:
    """The service worker, with the files it keeps: its text changes with them, and so the browser takes it anew."""
    kept = [visit.site.asset(name) for name in ("style.css", "app.js", "report.js", "icon.svg")]
    source = visit.site.assets["worker.js"].body.decode()
    body = f"const KEPT = {msgspec.json.encode(['/', *kept]).decode()};\n{source}"
    return Response(body, media_type="text/javascript", headers={"cache-control": "no-cache"})


def _manifest(visit: Visit) -> Response:
    document = {
        "name": visit.t("site.name"),
        "short_name": "tipline",
        "start_url": "/",
        "display": "standalone",
        "background_color": "#ffffff",
        "theme_color": "#1f4f86",
        "icons": [{"src": visit.site.asset("icon.svg"), "sizes": "any", "type": "image/svg+xml"}],
    }
    return Response(msgspec.json.encode(document), media_type="application/manifest+json")
