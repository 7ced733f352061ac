"""The officer's console: a station's queue, live, and the moves on its items."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any, Final
from urllib.parse import quote

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute

from schemas.errors import Rejected
from schemas.vocabulary import CATEGORIES
from sinks.database import reading
from stations.desk import StreamEvent
from stations.lifecycle import MOVES, WORKERS, Move
from stations.pages import accounts
from stations.pages.incident import after_refusal
from stations.pages.queue import VIEWS, Counts, Wanted, counted, listed
from stations.pages.site import Site, Visit, local, see
from streams.stages.county import County

#: How long a claim in the console holds before it must be accepted or released.
CLAIM_S: Final = 1800
#: Polls without an event after which the connection and the session are looked at again.
_QUIET: Final = 15
_RETRY_MS: Final = 2_000
#: Events that change nothing an officer sees on a queue.
_SILENT: Final = ("heartbeat",)
#: Events by which an item comes to a queue, or becomes urgent there.
_ARRIVALS: Final = ("dispatched", "reopened", "rerouted", "returned", "transferred", "escalated", "expired", "updated")


def routes(site: Site) -> list[BaseRoute]:
    """`/console` and what its queue needs."""
    return [
        site.route("/console", _queue, roles=WORKERS),
        site.route("/console/events", _events, roles=WORKERS),
        site.route("/console/claim", _claim_next, "POST", roles=WORKERS),
        *(site.route(f"/console/assignments/{{id}}/{move}", _mover(move), "POST", roles=WORKERS) for move in MOVES),
    ]


def station_of(visit: Visit) -> tuple[County, str]:
    """The station whose queue is asked for: a station's own, else the one of the query, else the first. Raises
    Rejected (404)."""
    principal = visit.principal
    county = visit.county()
    wanted = visit.asked("station", 128) or principal.station or county.desks["triage"]
    visit.pages.desk.open_queue(principal, wanted)
    return visit.pages.desk.county_of(wanted), wanted


def wanted_of(visit: Visit) -> Wanted:
    """The filters of the query; unknown ones are left out."""
    view, category = visit.asked("view"), visit.asked("category")
    return Wanted(
        view=view if view in VIEWS else "live",
        category=category if category in CATEGORIES else "",
        urgent=visit.asked("urgent") == "1",
        township=visit.asked("township"),
        words=visit.asked("words", 60),
        me=visit.principal.token_id,
    )


def _queue(visit: Visit) -> Response:
    county, station = station_of(visit)
    wanted, now = wanted_of(visit), visit.pages.clock()
    visit.pages.desk.settle(now)
    number, _ = visit.pages.desk.stream(visit.principal, station, None)
    with reading(visit.pages.desk.engine) as connection:
        items, following = listed(connection, station, wanted, after := visit.asked("after"))
        counts = counted(connection, station, now)
        holders = {item["lease_holder"] or item["owner"] for item in items} - {None}
        names = accounts.colleagues(connection, holders)
    return visit.site.render(
        visit,
        "_queue.html" if visit.partial else "console.html",
        county=county,
        station=station,
        stations=_choices(visit, county),
        townships=[area for area in county.areas.values() if area.level == "township"],
        wanted=wanted,
        items=items,
        counts=counts,
        number=number,
        after=after,
        following=following,
        names=names,
        now=now,
        said=_said(visit),
    )


def _choices(visit: Visit, county: County) -> list[str]:
    return [] if visit.principal.role == "station" else list(county.stations)


def _said(visit: Visit) -> str | None:
    """What the page says about the move just made, by its key; anything else in the address says nothing."""
    said = visit.asked("said", 20)
    return said if said in MOVES or said in ("none", "merge", "requested", "apart", "corrected") else None


# --- moves ------------------------------------------------------------------------------------------------------------


def _claim_next(visit: Visit) -> Response:
    """Claims the most urgent open item and opens it."""
    station = visit.first("station", 128)
    taken = visit.pages.desk.claim(visit.principal, station, lease_s=CLAIM_S, now=visit.pages.clock())
    if not taken:
        return see(f"/console?station={quote(station)}&said=none")
    return see(f"/console/incidents/{taken[0]['incident_id']}?said=claim")


def _mover(move: Move) -> Any:
    def moved(visit: Visit) -> Response:
        return _move(visit, move)

    return moved


def _move(visit: Visit, move: Move) -> Response:
    identity = visit.request.path_params["id"]
    back = local(visit.first("back", 500), "/console")
    try:
        document = visit.pages.desk.move(
            visit.principal,
            identity,
            move,
            _body(visit, move),
            if_match=f'"{visit.first("version", 20)}"',
            now=visit.pages.clock(),
        )
    except Rejected as error:
        if error.status in (409, 412, 422):
            return after_refusal(visit, identity, move, error)
        raise
    where = back if back.startswith("/console/incidents/") else _with_said(back, move)
    if back.startswith("/console/incidents/"):
        where = _after(visit, document, move)
    return see(where)


def _after(visit: Visit, document: dict[str, Any], move: Move) -> str:
    """The incident again, or the queue where it has gone to another station that the visitor does not work for."""
    station = visit.principal.station
    if station is not None and document["station"] != station and station not in document["cc"]:
        return f"/console?said={move}"
    return f"/console/incidents/{document['incident_id']}?said={move}"


def _with_said(back: str, move: Move) -> str:
    return back + ("&" if "?" in back else "?") + f"said={move}"


def _body(visit: Visit, move: Move) -> dict[str, Any]:
    """The move's body from the form: its fields, and words after a reason's code."""
    body: dict[str, Any] = {}
    for rule in MOVES[move].body:
        value = visit.first(rule.name)
        if rule.kind == "number":
            body[rule.name] = int(value) if value.isdecimal() and len(value) < 7 else CLAIM_S
        elif value:
            body[rule.name] = value
    words = visit.first("words", 900)
    if words and "reason" in {rule.name for rule in MOVES[move].body}:
        body["reason"] = f"{body['reason']}: {words}" if body.get("reason") else words
    return body


# --- live -------------------------------------------------------------------------------------------------------------


def _events(visit: Visit) -> Response:
    """A line for every change of the queue: of which items, and which urgent ones came. The page asks for what it shows.

    From after the number of the query, which is as old as the page: nothing is missed between the two, nor while the
    connection was broken.
    """
    _, station = station_of(visit)
    given = visit.request.headers.get("last-event-id", "") or visit.asked("after", 16)
    after = int(given) if given.isdecimal() and len(given) < 16 else None
    body = _follow(visit, station, after)
    return StreamingResponse(body, headers={"x-accel-buffering": "no"}, media_type="text/event-stream")


async def _follow(visit: Visit, station: str, after: int | None) -> AsyncIterator[bytes]:
    import asyncio

    hub, desk = visit.pages.hub, visit.pages.desk
    woken, quiet = hub.enter(station), 0
    try:
        number, events = await run_in_threadpool(desk.stream, visit.principal, station, after)
        yield f"retry: {_RETRY_MS}\nid: {number if after is None else after}\n\n".encode()
        while not hub.closed:
            changed = sorted({event.document["assignment_id"] for event in events if event.kind not in _SILENT})
            if changed:
                news = {"changed": changed, "urgent": _urgent(station, events)}
                yield b"id: %d\nevent: changed\ndata: %s\n\n" % (number, msgspec.json.encode(news))
            if not events:
                try:
                    await asyncio.wait_for(woken.wait(), 1.0)
                    woken.clear()
                    quiet = 0
                except TimeoutError:
                    quiet += 1
            if quiet >= _QUIET:
                quiet = 0
                if not await run_in_threadpool(_still_there, visit):
                    yield b"event: ended\ndata: 1\n\n"
                    return
                yield b": still here\n\n"
            if not hub.closed:
                number, events = await run_in_threadpool(desk.stream, visit.principal, station, number)
    finally:
        hub.leave(station, woken)


def _urgent(station: str, events: Sequence[StreamEvent]) -> list[str]:
    """The incidents that are new on this queue, urgent and still to be claimed: what the bell is for."""
    came = [event.now for event in events if event.kind in _ARRIVALS]
    mine = [item for item in came if item is not None and item.station == station]
    return sorted({item.incident_id for item in mine if item.urgent and item.status == "open"})


def _still_there(visit: Visit) -> bool:
    """Whether the session goes on; an open queue counts as looking at it."""
    from sinks.database import writing

    now = visit.pages.clock()
    with reading(visit.pages.desk.engine) as connection:
        found, due = accounts.find(connection, visit.secret or "", now=now)
    if found is not None and due:
        with writing(visit.pages.desk.engine) as connection:
            accounts.touch(connection, visit.secret or "", now=now)
    return found is not None and found.principal == visit.principal


__all__ = ["Counts", "routes", "station_of"]
