"""The stations' side of HTTP: queues, moves, incidents, corrections, statistics and the live stream.

Roles: a station its own queue; county and admin every queue of the county; statistics also for statistician and ops.
Another role is refused (403), another station's object does not exist (404).
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

import orjson
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from schemas import problems
from schemas.errors import Mistake, Rejected
from schemas.times import parse_time
from schemas.vocabulary import Role
from sinks import statistics, web
from sinks.database import reading
from stations.desk import MOST_LISTED, Desk
from stations.incidents import ACTIONS, Action, Incidents, Seen
from stations.lifecycle import LEASE_S, MOVES, WORKERS, Move, NotAllowed, invalid, misasked, pointer
from stations.status import columns, figures
from stations.streams import Hub, follow
from streams.ports import Authority, Clock, Metrics, Principal

#: Who may see statistics; a station only its own.
READERS: Final[tuple[Role, ...]] = (*WORKERS, "statistician", "ops")

MAX_BODY: Final = 64 * 1024
_ID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_STATION: Final = re.compile(r"[a-z0-9_-]{1,128}")


@dataclass(frozen=True)
class Side:
    """What the stations' routes work with."""

    desk: Desk
    incidents: Incidents
    hub: Hub
    authority: Authority
    clock: Clock
    metrics: Metrics


Handler = Callable[[Side, Request], Awaitable[Response]]


def station_routes(side: Side) -> list[Route]:
    """All routes of this room. The app should take `sinks.web.http_problem` as the handler of HTTPException."""

    def route(path: str, handler: Handler, method: str = "POST") -> Route:
        return Route(path, _served(side, path, handler), methods=[method])

    return [
        route("/v1/stations/{station}/assignments", _list, "GET"),
        route("/v1/stations/{station}/claim", _claim),
        route("/v1/stations/{station}/events", _events, "GET"),
        route("/v1/assignments/{id}", _get_assignment, "GET"),
        *(route(f"/v1/assignments/{{id}}/{move}", _mover(move)) for move in MOVES if move != "claim"),
        route("/v1/incidents/{id}", _get_incident, "GET"),
        *(route(f"/v1/incidents/{{id}}/{action}", _corrector(action)) for action in ACTIONS),
        route("/v1/statistics", _statistics, "GET"),
    ]


def _served(side: Side, path: str, handler: Handler) -> web.Endpoint:
    """The endpoint with its errors answered as problems and its time taken."""

    async def answered(request: Request) -> Response:
        try:
            return await handler(side, request)
        except NotAllowed as error:
            document = {**problems.of_rejected(error), "allowed": list(error.allowed)}
            return Response(problems.encode(document), error.status, {"cache-control": "no-store"}, problems.MEDIA_TYPE)

    guarded = web.guarded(answered, lambda: format(side.clock(), "x"))

    async def timed(request: Request) -> Response:
        began = side.clock()
        response = await guarded(request)
        seconds = max(0, side.clock() - began) / 1000
        side.metrics.observe("tipline_http_seconds", seconds, route=path, status=f"{response.status_code // 100}xx")
        return response

    return timed


# --- what a request says
# ------------------------------------------------------------------------------------------------


def _identity(request: Request) -> str:
    found: str = request.path_params["id"]
    if not _ID.fullmatch(found):
        raise web.not_found()
    return found


def _station(request: Request) -> str:
    found: str = request.path_params["station"]
    if not _STATION.fullmatch(found):
        raise web.not_found()
    return found


async def _body(request: Request) -> Any:
    """The JSON body; None for none. Raises Rejected: 400, 408, 413, 415."""
    raw = await web.read_body(request, MAX_BODY)
    if not raw:
        return None
    web.media_type(request, ("application/json",))
    try:
        document = orjson.loads(raw)
        json.loads(raw, object_pairs_hook=_no_twins)
    except (ValueError, RecursionError):
        fault = Mistake("", "must be JSON in UTF-8, each key once")
        raise Rejected(400, "malformed", "The body cannot be read", [fault]) from None
    return document


def _no_twins(pairs: list[tuple[str, Any]]) -> None:
    if len({key for key, _ in pairs}) != len(pairs):
        raise ValueError


def _number(request: Request, name: str, default: int, most: int) -> int:
    given = request.query_params.get(name)
    if given is None:
        return default
    if not re.fullmatch(r"[0-9]{1,9}", given) or not 1 <= int(given) <= most:
        raise misasked(name, f"must be a whole number from 1 to {most}")
    return int(given)


def _moment(request: Request, name: str) -> int | None:
    given = request.query_params.get(name)
    if given is None:
        return None
    try:
        return parse_time(given)
    except (ValueError, OverflowError, IndexError):
        detail = "must be a date and time with offset, like 2026-01-31T08:00:00+08:00 (write + as %2B)"
        raise misasked(name, detail) from None


def _only(request: Request, *known: str) -> None:
    """Refuses a query with other parameters than these: a misspelt filter would filter nothing, and nobody would see it."""
    for name in request.query_params:
        if name not in known:
            raise misasked(name, f"unknown; there are {', '.join(known)}")


def _split(given: str | None) -> list[str]:
    return [part for part in (given or "").split(",") if part]


# --- queues
# -------------------------------------------------------------------------------------------------------------


async def _list(side: Side, request: Request) -> Response:
    principal = web.bearer(request, side.authority, WORKERS)
    _only(request, "status", "cursor", "limit")
    limit = _number(request, "limit", 100, MOST_LISTED)
    statuses, cursor = _split(request.query_params.get("status")), request.query_params.get("cursor")

    def listed() -> Any:
        side.desk.settle(side.clock())
        page = side.desk.listed(principal, _station(request), statuses=statuses, cursor=cursor, limit=limit)
        return {"items": page.items, "next_cursor": page.next_cursor}

    return web.answer(await run_in_threadpool(listed))


async def _claim(side: Side, request: Request) -> Response:
    principal = web.bearer(request, side.authority, WORKERS)
    station = _station(request)
    side.desk.open_queue(principal, station)
    document = await _body(request)
    given = {"limit": 1, "lease_s": LEASE_S, **(document if isinstance(document, dict) else {})}
    faults = [Mistake("", "must be an object")] if document is not None and not isinstance(document, dict) else []
    unknown = [name for name in given if name not in ("limit", "lease_s")]
    faults += [Mistake(f"/{pointer(name)}", "unknown field; allowed are limit, lease_s") for name in unknown]
    numbers = [name for name in ("limit", "lease_s") if not isinstance(given[name], int) or isinstance(given[name], bool)]
    faults += [Mistake(f"/{name}", "must be a whole number") for name in numbers]
    if faults:
        raise invalid(faults)

    def claim() -> Any:
        limit, lease_s = given["limit"], given["lease_s"]
        return side.desk.claim(principal, station, limit=limit, lease_s=lease_s, now=side.clock())

    return web.answer({"items": await run_in_threadpool(claim)})


async def _get_assignment(side: Side, request: Request) -> Response:
    principal = web.bearer(request, side.authority, WORKERS)
    identity = _identity(request)

    def get() -> dict[str, Any]:
        side.desk.settle(side.clock())
        return side.desk.get(principal, identity)

    shown = await run_in_threadpool(get)
    return web.answer(shown, headers=_version(shown))


def _version(shown: dict[str, Any]) -> dict[str, str]:
    """The ETag of an assignment: what If-Match must say."""
    lease = shown["lease"]
    return {"etag": f'"{shown["revision"] if lease is None else lease["token"]}"'}


def _mover(move: Move) -> Handler:
    async def moved(side: Side, request: Request) -> Response:
        principal = web.bearer(request, side.authority, WORKERS)
        identity, if_match = _identity(request), request.headers.get("if-match")
        document = await _body(request)

        def make() -> dict[str, Any]:
            return side.desk.move(principal, identity, move, document, if_match=if_match, now=side.clock())

        shown = await run_in_threadpool(make)
        return web.answer(shown, headers=_version(shown))

    return moved


# --- incidents
# ----------------------------------------------------------------------------------------------------------


async def _get_incident(side: Side, request: Request) -> Response:
    principal = web.bearer(request, side.authority, WORKERS)
    identity = _identity(request)

    def get() -> Seen:
        side.desk.settle(side.clock())
        return side.incidents.get(principal, identity)

    seen = await run_in_threadpool(get)
    headers = {"etag": seen.etag, "cache-control": "no-store"}
    if request.headers.get("if-none-match") == seen.etag:
        return Response(status_code=304, headers=headers)
    return web.answer(seen.document, headers=headers)


def _corrector(action: Action) -> Handler:
    async def corrected(side: Side, request: Request) -> Response:
        principal = web.bearer(request, side.authority, WORKERS)
        identity, if_match = _identity(request), request.headers.get("if-match")
        document = await _body(request)

        def correct() -> dict[str, Any]:
            now = side.clock()
            return side.incidents.correct(principal, identity, action, document, if_match=if_match, now=now)

        return web.answer(await run_in_threadpool(correct), 202)

    return corrected


# --- statistics
# ---------------------------------------------------------------------------------------------------------


async def _statistics(side: Side, request: Request) -> Response:
    principal = web.bearer(request, side.authority, READERS)
    _only(request, "by", "from", "to", "format")
    by = _split(request.query_params.get("by", "category"))
    form = request.query_params.get("format", "json")
    if form not in ("json", "csv"):
        raise misasked("format", "must be json or csv")
    span = (_moment(request, "from"), _moment(request, "to"))
    rows = await run_in_threadpool(_counted, side, principal, by, span)
    if form == "csv":
        headers = {"cache-control": "no-store", "content-disposition": 'attachment; filename="statistics.csv"'}
        return Response(statistics.to_csv(rows, columns(by)), headers=headers, media_type="text/csv; charset=utf-8")
    return web.answer({"rows": rows})


def _counted(
    side: Side, principal: Principal, by: list[str], span: tuple[int | None, int | None]
) -> list[dict[str, Any]]:
    """The rows that the caller may see: its county's, a station its own."""
    counties = side.desk.counties
    county = principal.county or (next(iter(counties)) if len(counties) == 1 else None)
    offset = counties[county].offset_minutes if county is not None and county in counties else 0
    station = principal.station if principal.role == "station" else None
    with reading(side.desk.engine) as connection:
        try:
            return figures(
                connection, by, county=county, from_ms=span[0], to_ms=span[1], station=station, offset_minutes=offset
            )
        except ValueError as error:
            raise misasked("by", str(error)) from None


# --- the live stream
# ----------------------------------------------------------------------------------------------------


async def _events(side: Side, request: Request) -> Response:
    principal = web.bearer(request, side.authority, WORKERS)
    station = _station(request)
    side.desk.open_queue(principal, station)
    _only(request, "last_event_id")
    given = request.headers.get("last-event-id", request.query_params.get("last_event_id"))
    if given is not None and not re.fullmatch(r"[0-9]{1,15}", given):
        raise misasked("last_event_id", "must be the number of an event of this stream")

    def still_valid() -> bool:
        try:
            return web.bearer(request, side.authority, WORKERS) == principal
        except Rejected:
            return False

    after = None if given is None else int(given)
    body = follow(side.hub, side.desk, principal, station, after, still_valid)
    return StreamingResponse(
        body, headers={"cache-control": "no-store", "x-accel-buffering": "no"}, media_type="text/event-stream"
    )
