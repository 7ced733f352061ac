"""The HTTP door: `POST /v1/tips`, `/v1/tips/batch`, and what a channel may ask afterwards.

A request is answered 202 after its fsynced commit, never before. Requests that come while a commit is under way share
the next one: `Publisher` hands the log everything that waits, in one blocking call on a thread of its own.
"""

from __future__ import annotations

import asyncio
import functools
import math
import re
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from producers import parsing
from producers.admission import admit
from producers.keyring import Entropy, Keyring, normal_receipt
from schemas import problems, validation
from schemas.codec import decode_input
from schemas.errors import Conflict, Mistake, Rejected, Unavailable
from schemas.records import Tip
from schemas.vocabulary import Role
from sinks import web
from streams.ports import Accepted, Admitted, Authority, Clock, Intake, Metrics, Principal

#: Roles that may bring tips in, and those that may ask what became of one.
POSTERS: Final[frozenset[Role]] = frozenset({"intake", "hotline", "county", "admin"})
READERS: Final[frozenset[Role]] = frozenset({"intake", "hotline", "county", "ops", "admin"})

JSON: Final = "application/json"
EVENT: Final = "application/cloudevents+json"
NDJSON: Final = frozenset({"application/x-ndjson", "application/ndjson", "application/jsonl", "application/jsonlines"})

#: Lines of a batch that share a commit.
BATCH_CHUNK: Final = 256

_TIP_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True, slots=True)
class Limits:
    """What one caller, and all together, may ask of the door."""

    #: Bytes of one submission, of one batch; lines of one batch.
    body_bytes: int = parsing.MAX_BYTES
    batch_bytes: int = 16 * 1024 * 1024
    batch_lines: int = 10_000
    #: Tips a second and token in the long run, and at once after a pause. A batch counts by its lines.
    per_second: float = 500.0
    burst: float = 5_000.0
    #: Tips that may wait for a commit, of all callers.
    pending: int = 5_000
    #: Seconds a client may take to send a body, or the next piece of a batch.
    body_seconds: float = 30.0


class Publisher:
    """Brings admitted tips into the log, as few commits as possible. For one event loop."""

    def __init__(self, intake: Intake, max_pending: int) -> None:
        self._intake = intake
        self._max_pending = max_pending
        self._queue: list[tuple[Sequence[Admitted], asyncio.Future[list[Accepted]]]] = []
        self._pending = 0
        self._busy = False
        self._alone = 0
        self._thread = ThreadPoolExecutor(1, "tipline-publisher")

    def close(self) -> None:
        """Waits for the commit under way; then accepts nothing more."""
        self._thread.shutdown()

    async def publish(self, admitted: Sequence[Admitted]) -> list[Accepted]:
        """Answers once the commit is durable, in order. Raises Unavailable when nothing of these was stored."""
        if self._pending + len(admitted) > self._max_pending:
            raise Unavailable("too many tips wait to be stored", retry_after=1)
        waiter: asyncio.Future[list[Accepted]] = asyncio.get_running_loop().create_future()
        self._queue.append((admitted, waiter))
        self._pending += len(admitted)
        if not self._busy:
            self._busy = True
            self._next()
        return await waiter

    def _next(self) -> None:
        if self._alone:
            self._alone -= 1
            group, self._queue = self._queue[:1], self._queue[1:]
        else:
            group, self._queue = self._queue, []
        together = [one for admitted, _ in group for one in admitted]
        try:
            job = asyncio.get_running_loop().run_in_executor(self._thread, self._intake.accept, together)
        except RuntimeError:  # closed
            self._fail(group, Unavailable("the door is closing"))
            return
        job.add_done_callback(functools.partial(self._done, group))

    def _done(self, group: list[Any], job: asyncio.Future[list[Accepted]]) -> None:
        error = Unavailable("the door is closing") if job.cancelled() else job.exception()
        if error is not None and len(group) > 1 and not isinstance(error, Unavailable):
            self._queue[:0] = group  # one of them is at fault: it must not take the others with it
            self._alone += len(group)
            self._next()
            return
        if error is not None:
            self._fail(group, error)
            return
        answers = iter(job.result())
        for admitted, waiter in group:
            own = [next(answers) for _ in admitted]
            self._pending -= len(own)
            if not waiter.done():
                waiter.set_result(own)
        self._go_on()

    def _fail(self, group: list[Any], error: BaseException) -> None:
        for admitted, waiter in group:
            self._pending -= len(admitted)
            if not waiter.done():
                waiter.set_exception(error)
        self._go_on()

    def _go_on(self) -> None:
        if self._queue:
            self._next()
        else:
            self._busy = False


class Buckets:
    """A token bucket for each bearer token. A request may overdraw it once; the debt is then waited for."""

    def __init__(self, per_second: float, burst: float) -> None:
        self._rate = per_second / 1000
        self._burst = burst
        self._state: dict[str, tuple[float, int]] = {}

    def take(self, name: str, cost: float, now: int) -> None:
        """Takes `cost` at `now` (ms). Raises TooMany while the bucket is empty."""
        level, then = self._state.get(name, (self._burst, now))
        level = min(self._burst, level + max(0, now - then) * self._rate)
        if level <= 0:
            raise web.TooMany(max(1, math.ceil(-level / self._rate / 1000)))
        self._state[name] = (level - cost, now)

    def charge(self, name: str, cost: float, now: int) -> None:
        """Takes `cost` without asking, for work that is done already."""
        level, then = self._state.get(name, (self._burst, now))
        self._state[name] = (level - cost, then)


@dataclass(slots=True)
class Door:
    """All that the routes need. One for a process; `close` it at the end.

    `decision_of` gives the latest decision of a tip (as `schemas.records.public` shows it), `lookup` its record in the
    log, `status_of_receipt` {`status`, `at`}; each None when unknown. They may block: they run on threads.
    """

    intake: Intake
    authority: Authority
    keyring: Keyring
    counties: Sequence[str]
    clock: Clock
    entropy: Entropy
    metrics: Metrics
    decision_of: Callable[[str], dict[str, Any] | None]
    status_of_receipt: Callable[[str], dict[str, Any] | None]
    lookup: Callable[[str], bytes | None]
    limits: Limits = field(default_factory=Limits)
    publisher: Publisher = field(init=False)
    buckets: Buckets = field(init=False)

    def __post_init__(self) -> None:
        self.publisher = Publisher(self.intake, self.limits.pending)
        self.buckets = Buckets(self.limits.per_second, self.limits.burst)
        validation.prepare("submission")

    def close(self) -> None:
        """Waits for the commit under way; nothing is accepted afterwards."""
        self.publisher.close()

    def admit(self, submission: Any, principal: Principal, received_at: int) -> Admitted:
        """The submission as an admitted tip of the principal's county. Raises Rejected."""
        return admit(submission, principal, self.county_of(principal), received_at, self.keyring, self.entropy)

    async def take(self, submission: Any, principal: Principal, received_at: int) -> Accepted:
        """One submission from any channel into the log; the answer is durable. Raises Rejected, Unavailable."""
        admitted = self.admit(submission, principal, received_at)
        accepted = (await self.publisher.publish([admitted]))[0]
        self.metrics.observe("tipline_accept_seconds", max(0, self.clock() - received_at) / 1000)
        self.count(accepted, admitted)
        if accepted.outcome == "conflict":
            raise conflict()
        return accepted

    def count(self, accepted: Accepted, admitted: Admitted) -> None:
        """Counts one answer of the log."""
        if accepted.outcome == "accepted":
            self.metrics.count("tipline_accepted_total", channel=admitted.tip.channel)
        elif accepted.outcome == "redelivered":
            self.metrics.count("tipline_redelivered_total", channel=admitted.tip.channel)

    def county_of(self, principal: Principal) -> str:
        """The county that a token's tips belong to. Raises Rejected (403)."""
        county = principal.county or (self.counties[0] if len(self.counties) == 1 else None)
        if county is None or county not in self.counties:
            raise Rejected(403, "county", "The token is bound to none of this installation's counties")
        return county


def conflict() -> Conflict:
    """The refusal of an idempotency key that is known with other content."""
    return Conflict("send a new message_id for new content, or the very same content for a repeat")


def intake_routes(door: Door) -> list[Route]:
    """The door's routes. The app should also take `sinks.web.http_problem` as the handler of HTTPException."""

    def route(path: str, endpoint: Callable[[Door, Request], Any], method: str) -> Route:
        return Route(path, _served(door, path, endpoint), methods=[method])

    return [
        route("/v1/tips", _post_tip, "POST"),
        route("/v1/tips/batch", _post_batch, "POST"),
        route("/v1/tips/{tip_id}/decision", _get_decision, "GET"),
        route("/v1/receipts/{receipt}", _get_receipt, "GET"),
    ]


def _served(door: Door, path: str, endpoint: Callable[[Door, Request], Any]) -> web.Endpoint:
    """The endpoint with its errors answered, counted and its time taken."""

    async def counted(request: Request) -> Response:
        try:
            response: Response = await endpoint(door, request)
        except Rejected as error:
            door.metrics.count("tipline_refused_total", reason=error.slug)
            raise
        except Unavailable:
            door.metrics.count("tipline_refused_total", reason="unavailable")
            raise
        return response

    guarded = web.guarded(counted, lambda: door.entropy(8).hex())

    async def timed(request: Request) -> Response:
        began = door.clock()
        response = await guarded(request)
        seconds = max(0, door.clock() - began) / 1000
        door.metrics.observe("tipline_http_seconds", seconds, route=path, status=f"{response.status_code // 100}xx")
        return response

    return timed


async def _post_tip(door: Door, request: Request) -> Response:
    principal = web.bearer(request, door.authority, POSTERS)
    door.buckets.take(principal.token_id, 1, door.clock())
    media_type = web.media_type(request, (JSON, EVENT))
    raw = await web.read_body(request, door.limits.body_bytes, door.limits.body_seconds)
    received_at = door.clock()
    document = parsing.strict_json(raw, door.limits.body_bytes)
    if media_type == EVENT:
        accepted = await _take_event(door, document, principal, received_at)
    else:
        if "ce-specversion" in request.headers or "ce-id" in request.headers:
            document = parsing.binary_event(request.headers, document)
        accepted = await door.take(document, principal, received_at)
    return web.answer({"tip_id": accepted.tip_id, "receipt": accepted.receipt}, 202)


async def _take_event(door: Door, document: Any, principal: Principal, received_at: int) -> Accepted:
    submission = parsing.structured_event(document)
    try:
        return await door.take(submission, principal, received_at)
    except Rejected as error:
        found = [Mistake(parsing.event_pointer(one.pointer), one.detail) for one in error.mistakes]
        raise Rejected(error.status, error.slug, error.title, found) from None


class _Batch:
    """One batch under way: lines in, answers out, a commit for every BATCH_CHUNK good ones."""

    def __init__(self, door: Door, principal: Principal) -> None:
        self._door = door
        self._principal = principal
        self._waiting: list[tuple[int, Admitted]] = []
        self._answers: dict[int, dict[str, Any]] = {}
        self.stored = False

    async def add(self, line: int, raw: bytes | None) -> None:
        """Takes one line; a bad one is answered at once."""
        door = self._door
        try:
            if raw is None:
                raise parsing.too_large(door.limits.body_bytes)
            document = parsing.strict_json(raw, door.limits.body_bytes)
            self._waiting.append((line, door.admit(document, self._principal, door.clock())))
        except Rejected as error:
            self.refuse(line, error)
        if len(self._waiting) >= BATCH_CHUNK:
            await self.flush()

    def refuse(self, line: int, error: Rejected) -> None:
        """Answers a line that is not stored."""
        self._door.metrics.count("tipline_refused_total", reason=error.slug)
        self._answers[line] = {"line": line, "status": error.status, "problem": problems.of_rejected(error)}

    async def flush(self) -> None:
        """Stores what waits. Raises Unavailable when nothing of the batch could be stored so far."""
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        began = self._door.clock()
        try:
            accepted = await self._door.publisher.publish([admitted for _, admitted in waiting])
        except Unavailable as error:
            if not self.stored:
                raise
            for line, _ in waiting:
                self._answers[line] = {"line": line, "status": 503, "problem": problems.of_unavailable(error)}
            return
        self.stored = True
        self._door.metrics.observe("tipline_accept_seconds", max(0, self._door.clock() - began) / 1000)
        for (line, admitted), one in zip(waiting, accepted, strict=True):
            self._door.count(one, admitted)
            if one.outcome == "conflict":
                self.refuse(line, conflict())
            else:
                self._answers[line] = {"line": line, "status": 202, "tip_id": one.tip_id, "receipt": one.receipt}

    def body(self) -> bytes:
        """The answers as NDJSON, in the order of the lines."""
        return b"".join(orjson.dumps(self._answers[line]) + b"\n" for line in sorted(self._answers))


async def _post_batch(door: Door, request: Request) -> Response:
    principal = web.bearer(request, door.authority, POSTERS)
    door.buckets.take(principal.token_id, 1, door.clock())
    web.media_type(request, NDJSON)
    web.refuse_long(request, door.limits.batch_bytes)
    door.county_of(principal)
    batch = _Batch(door, principal)
    lines, complete = 0, True
    async for line, raw in _lines(door.limits, request):
        lines += 1
        if line > door.limits.batch_lines or raw == _TOO_MUCH:
            batch.refuse(line, _batch_too_large(door.limits))
            complete = False
            break
        await batch.add(line, raw)
    await batch.flush()
    door.buckets.charge(principal.token_id, max(0, lines - 1), door.clock())
    headers = {"cache-control": "no-store"} | ({} if complete else {"connection": "close"})
    return Response(batch.body(), 200, headers, "application/x-ndjson")


#: Stands for the line at which a batch became too long.
_TOO_MUCH: Final = b"\n"


def _batch_too_large(limits: Limits) -> Rejected:
    detail = f"at most {limits.batch_lines} lines and {limits.batch_bytes} bytes: send this line and the rest again"
    return Rejected(413, "batch_too_large", "The batch is too large", [Mistake("", detail)])


async def _lines(limits: Limits, request: Request) -> AsyncIterator[tuple[int, bytes | None]]:
    splitter = parsing.LineSplitter(limits.body_bytes)
    stream, size = request.stream(), 0
    while (chunk := await _piece(stream, limits.body_seconds)) is not None:
        size += len(chunk)
        if size > limits.batch_bytes:
            yield splitter.line + 1, _TOO_MUCH
            return
        for line in splitter.feed(chunk):
            yield line
    for line in splitter.finish():
        yield line


async def _piece(stream: Any, seconds: float) -> bytes | None:
    try:
        async with asyncio.timeout(seconds):
            piece: bytes | None = await anext(stream, None)
            return piece
    except TimeoutError:
        raise web.slow_body() from None


async def _get_decision(door: Door, request: Request) -> Response:
    principal = web.bearer(request, door.authority, READERS)
    tip_id = request.path_params["tip_id"]
    if not _TIP_ID.fullmatch(tip_id):
        raise web.not_found()
    decision = await run_in_threadpool(door.decision_of, tip_id)
    if decision is not None:
        if not _may_see(principal, decision["source"], decision["county"]):
            raise web.not_found()
        return web.answer(decision)
    value = await run_in_threadpool(door.lookup, tip_id)
    tip = None if value is None else decode_input(value)
    if not isinstance(tip, Tip) or not _may_see(principal, tip.source, tip.county):
        raise web.not_found()
    return web.answer({"status": "pending"}, 202, {"retry-after": "1"})


def _may_see(principal: Principal, source: str, county: str) -> bool:
    return principal.source in (None, source) and principal.county in (None, county)


async def _get_receipt(door: Door, request: Request) -> Response:
    principal = web.bearer(request, door.authority)
    door.buckets.take(principal.token_id, 1, door.clock())
    receipt = normal_receipt(request.path_params["receipt"])
    status = None if receipt is None else await run_in_threadpool(door.status_of_receipt, receipt)
    if status is None:
        raise web.not_found()
    return web.answer(status)
