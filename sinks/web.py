"""What every HTTP room needs of Starlette: who calls, the body within its limit, problems as answers."""

from __future__ import annotations

import asyncio
import functools
import logging
import traceback
from collections.abc import Awaitable, Callable, Collection
from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from schemas import problems
from schemas.errors import Mistake, Rejected, Unavailable
from schemas.vocabulary import Role
from streams.ports import Authority, Principal

Endpoint = Callable[[Request], Awaitable[Response]]

#: Seconds a client may take to send one request's body.
BODY_SECONDS: Final = 30.0

_log = logging.getLogger("tipline.http")
_TITLES: Final = {
    404: "There is nothing here, or nothing that this token may see",
    405: "This method is not allowed here",
    406: "No such format",
}
_SLUGS: Final = {404: "not_found", 405: "method_not_allowed", 406: "not_acceptable"}


class TooMany(Rejected):
    """More requests than the token's rate allows. `retry_after` in seconds."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(429, "too_many", "Too many requests: slow down")
        self.retry_after = retry_after


def not_found() -> Rejected:
    """404, the same for what does not exist and for what the token may not see."""
    return Rejected(404, "not_found", _TITLES[404])


def bearer(request: Request, authority: Authority, roles: Collection[Role] | None = None) -> Principal:
    """Who calls. Raises Rejected: 401 without a valid token, 403 for a role not among `roles` (None: any).

    `authority` is asked on the event loop: it must answer from memory.
    """
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    principal = authority.principal(token.strip()) if scheme.lower() == "bearer" and 0 < len(token) <= 512 else None
    if principal is None:
        raise Rejected(401, "unauthorized", "A valid token is needed: Authorization: Bearer <token>")
    if roles is not None and principal.role not in roles:
        raise Rejected(403, "forbidden", f"The token's role ({principal.role}) may not do this")
    return principal


async def read_body(request: Request, limit: int, seconds: float = BODY_SECONDS) -> bytes:
    """The whole body. Raises Rejected: 413 beyond `limit` bytes (as soon as known), 408 when it comes too slowly."""
    refuse_long(request, limit)
    try:
        async with asyncio.timeout(seconds):
            return await _collect(request, limit)
    except TimeoutError:
        raise slow_body() from None


async def _collect(request: Request, limit: int) -> bytes:
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise too_large(limit)
        chunks.append(chunk)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def refuse_long(request: Request, limit: int) -> None:
    """Raises Rejected (413) when the request says that its body is longer than `limit` bytes."""
    declared = request.headers.get("content-length", "0")
    if declared.isdecimal() and int(declared[:20]) > limit:
        raise too_large(limit)


def too_large(limit: int) -> Rejected:
    """The refusal of a body of more than `limit` bytes."""
    return Rejected(413, "too_large", f"The body is too large: at most {limit} bytes")


def slow_body() -> Rejected:
    """The refusal of a body that does not arrive."""
    return Rejected(408, "slow_body", "The body came too slowly")


def media_type(request: Request, allowed: Collection[str]) -> str:
    """The body's media type, lower case, without parameters.

    Raises Rejected (415): none or several, one not `allowed`, another charset than UTF-8, or a Content-Encoding.
    """
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise _unsupported("send the body as it is: Content-Encoding is not supported")
    given = request.headers.getlist("content-type")
    name, _, parameters = (given[0] if len(given) == 1 else "").partition(";")
    name = name.strip().lower()
    charset = parameters.replace('"', "").replace(" ", "").lower()
    if name not in allowed:
        raise _unsupported(f"send exactly one Content-Type, one of {', '.join(sorted(allowed))}")
    if "charset=" in charset and "charset=utf-8" not in charset.split(";"):
        raise _unsupported("send the body in UTF-8")
    return name


def _unsupported(detail: str) -> Rejected:
    return Rejected(415, "unsupported", "This kind of body is not supported", [Mistake("", detail)])


def answer(document: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A JSON answer; never cached."""
    return Response(
        problems.encode(document), status, {"cache-control": "no-store", **(headers or {})}, "application/json"
    )


def problem_response(error: Rejected | Unavailable) -> Response:
    """The problem document of an error, with the headers that belong to it."""
    headers = {"cache-control": "no-store"}
    if isinstance(error, Unavailable):
        document = problems.of_unavailable(error)
        headers["retry-after"] = str(error.retry_after)
    else:
        document = problems.of_rejected(error)
    if isinstance(error, TooMany):
        document["retry_after"] = error.retry_after
        headers["retry-after"] = str(error.retry_after)
    elif document["status"] == 401:
        headers["www-authenticate"] = 'Bearer realm="tipline"'
    elif document["status"] in (408, 413):
        headers["connection"] = "close"  # the rest of the body is not read
    return Response(problems.encode(document), document["status"], headers, problems.MEDIA_TYPE)


def guarded(endpoint: Endpoint, reference: Callable[[], str]) -> Endpoint:
    """The endpoint, with every error answered as a problem.

    An unforeseen one is a 500 with nothing but `reference()`, under which the log has its type and place. Its message
    is logged nowhere: it may quote a tip.
    """

    @functools.wraps(endpoint)
    async def inner(request: Request) -> Response:
        try:
            return await endpoint(request)
        except (Rejected, Unavailable) as error:
            return problem_response(error)
        except HTTPException as error:
            return await http_problem(request, error)
        except ClientDisconnect:
            return problem_response(Rejected(400, "disconnected", "The client went away"))
        except Exception as error:  # the last net: nothing of ours may reach the caller
            name = reference()
            _log.error("fault %s: %s at %s", name, type(error).__name__, _place_of(error))
            return Response(problems.encode(problems.internal(name)), 500, media_type=problems.MEDIA_TYPE)

    return inner


def _place_of(error: Exception) -> str:
    frames = traceback.extract_tb(error.__traceback__)[-3:]
    return " < ".join(f"{frame.name}:{frame.lineno}" for frame in reversed(frames))


async def http_problem(_request: Request, error: Exception) -> Response:
    """Starlette's own 404 and 405 as problems: `exception_handlers={HTTPException: http_problem}`."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    headers = dict(getattr(error, "headers", None) or {})
    document = problems.problem(status, _SLUGS.get(status, "http"), _TITLES.get(status, "The request cannot be served"))
    return Response(problems.encode(document), status, headers, problems.MEDIA_TYPE)
