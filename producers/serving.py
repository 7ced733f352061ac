"""How a channel's endpoint is served: errors answered in the channel's own form and counted, its time taken."""

from __future__ import annotations

from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import Response

from producers.http import Door
from schemas.errors import Rejected, Unavailable
from sinks import web

#: How a channel is told of an error.
Refuse = Callable[[Request, Rejected | Unavailable], Response]


def as_problem(_request: Request, error: Rejected | Unavailable) -> Response:
    """The usual form: a problem document."""
    return web.problem_response(error)


def served(door: Door, path: str, endpoint: web.Endpoint, refuse: Refuse = as_problem) -> web.Endpoint:
    """The endpoint of the route `path`, ready for Starlette."""

    async def told(request: Request) -> Response:
        try:
            return await endpoint(request)
        except (Rejected, Unavailable) as error:
            count_refused(door, error)
            return refuse(request, error)

    guarded = web.guarded(told, lambda: door.entropy(8).hex())

    async def timed(request: Request) -> Response:
        began = door.clock()
        response = await guarded(request)
        seconds = max(0, door.clock() - began) / 1000
        door.metrics.observe("tipline_http_seconds", seconds, route=path, status=f"{response.status_code // 100}xx")
        return response

    return timed


def count_refused(door: Door, error: Rejected | Unavailable) -> None:
    """Counts what was not stored, by the name of its problem."""
    reason = error.slug if isinstance(error, Rejected) else "unavailable"
    door.metrics.count("tipline_refused_total", reason=reason)
