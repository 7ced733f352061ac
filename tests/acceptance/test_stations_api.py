"""The stations' HTTP side: every token of every role against every route, then what the answers look like."""

from __future__ import annotations

import asyncio
import gc
import json
import threading
import tracemalloc
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import msgspec
import pytest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.routing import Route

from schemas.times import DAY, MINUTE
from schemas.validation import mistakes
from schemas.vocabulary import ROLES
from sinks import web
from stations import streams
from stations.lifecycle import MOVES
from stations.service import Outside, Service, receipt_status
from streams.ports import Principal
from streams.stages.county import County
from tests.contracts.made import COUNTY, START, anping, decision, ident
from tests.contracts.office import LIUCHU, MEDIATION, POLICE, Office
from tests.waiting import until

WORK = {"station", "county", "admin"}
COUNTING = WORK | {"statistician", "ops"}

#: Who may use each route. A new route fails the test until it stands here.
ROUTES: dict[str, set[str]] = {
    "GET /v1/stations/{station}/assignments": WORK,
    "POST /v1/stations/{station}/claim": WORK,
    "GET /v1/stations/{station}/events": WORK,
    "GET /v1/assignments/{id}": WORK,
    **{f"POST /v1/assignments/{{id}}/{move}": WORK for move in MOVES if move != "claim"},
    "GET /v1/incidents/{id}": WORK,
    **{f"POST /v1/incidents/{{id}}/{action}": WORK for action in ("merge", "split", "relabel", "relocate")},
    "GET /v1/statistics": COUNTING,
}


class Tokens:
    """Tokens named `<role>` or `station:<station>` or `county:<county>`."""

    def __init__(self) -> None:
        self.revoked: set[str] = set()

    def principal(self, token: str) -> Principal | None:
        role, _, scope = token.partition(":")
        if role not in ROLES or token in self.revoked:
            return None
        if role == "station":
            return Principal(token, "station", station=scope or "police-chengyouzi", county=COUNTY)
        return Principal(token, role, county=scope or (COUNTY if role != "admin" else None))  # type: ignore[arg-type]


class Answer(msgspec.Struct):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """Calls the app without a socket."""

    def __init__(self, app: Starlette) -> None:
        self._app = app

    def __call__(
        self,
        method: str,
        path: str,
        token: str | None = None,
        body: Any = None,
        *,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        given = {
            **({"authorization": f"Bearer {token}"} if token else {}),
            **({"content-type": "application/json"} if raw else {}),
        }
        return asyncio.run(self._call(method, path, {**given, **(headers or {})}, raw))

    async def _call(self, method: str, path: str, headers: dict[str, str], raw: bytes) -> Answer:
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": raw, "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        await self._app(scope(method, path, headers), receive, send)
        fields = {k.decode(): v.decode() for k, v in sent[0]["headers"]}
        return Answer(sent[0]["status"], fields, b"".join(part.get("body", b"") for part in sent[1:]))


def scope(method: str, path: str, headers: dict[str, str]) -> dict[str, Any]:
    plain, _, query = path.partition("?")
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": plain,
        "raw_path": plain.encode(),
        "query_string": query.encode(),
        "headers": [(k.lower().encode(), v.encode("latin-1")) for k, v in headers.items()],
        "server": ("test", 80),
        "client": ("127.0.0.1", 1),
        "root_path": "",
    }


class Side:
    """An office with its HTTP side."""

    def __init__(self, url: str, county: County) -> None:
        self.office = Office(url, county)
        self.tokens = Tokens()
        self.service = Service(
            self.office.engine,
            {COUNTY: county},
            lambda: self.office.now,
            self.office.metrics,
            lambda county, key, value: 1,
            Outside(),
        )
        self.routes: list[Route] = self.service.routes(self.tokens)
        self.app = Starlette(routes=self.routes, exception_handlers={HTTPException: web.http_problem})
        self.call = Client(self.app)

    def close(self) -> None:
        self.office.close()


@pytest.fixture(scope="module")
def county() -> County:
    return anping()


@pytest.fixture
def side(database_url: str, county: County) -> Iterator[Side]:
    made = Side(database_url, county)
    made.office.decide(
        decision(
            "a",
            "a",
            station=POLICE,
            route_id="police",
            level="township",
            category="theft",
            subtype="burglary",
            cc=(MEDIATION,),
        ),
        decision("b", "b", position=2),
    )
    yield made
    made.close()


def paths(side: Side) -> list[tuple[str, str]]:
    return sorted((method, route.path) for route in side.routes for method in (route.methods or ()) if method != "HEAD")


def fill(path: str, side: Side, incident: str = "a", station: str = POLICE) -> str:
    identity = ident(incident) if "/incidents/" in path else side.office.row(incident)["id"]
    return path.replace("{station}", station).replace("{id}", identity)


BODIES: dict[str, Any] = {
    "return": {"reason": "属地不符"},
    "transfer": {"station": "police-madian", "reason": "x"},
    "escalate": {"reason": "x"},
    "resolve": {"outcome": "x"},
    "note": {"text": "x"},
    "merge": {"into": ident("b"), "reason": "x"},
    "split": {"tip_ids": [ident("a")], "reason": "x"},
    "relabel": {"urgent": True, "reason": "x"},
    "relocate": {"area": "anping/madian", "reason": "x"},
}


def body_for(path: str, method: str) -> Any:
    return None if method == "GET" else BODIES.get(path.rsplit("/", 1)[1], {})


def test_every_route_is_classified(side: Side) -> None:
    assert {f"{method} {path}" for method, path in paths(side)} == set(ROUTES)


def test_without_a_token_nothing_answers(side: Side) -> None:
    for method, path in paths(side):
        for token in (None, "nobody"):
            answer = side.call(method, fill(path, side), token, body_for(path, method))
            assert (answer.status, answer.headers["content-type"]) == (401, "application/problem+json"), path


@pytest.mark.parametrize("role", ROLES)
def test_every_role_against_every_route(side: Side, role: str) -> None:
    """403 for a role that may not; otherwise anything but: a foreign station's token meets 404 wherever an object is
    named."""
    for method, path in paths(side):
        if path.endswith("/events") and role in WORK - {"station"}:
            continue  # an endless answer; the stream has tests of its own
        answer = side.call(method, fill(path, side), role, body_for(path, method))
        if role not in ROUTES[f"{method} {path}"]:
            assert (answer.status, answer.json["type"]) == (403, "urn:tipline:problem:forbidden"), path
        elif role == "station" and "{" in path:
            assert (answer.status, answer.json["type"]) == (404, "urn:tipline:problem:not_found"), path
        else:
            assert answer.status in (200, 202, 409, 412, 422, 428), (path, answer)


@pytest.mark.parametrize(
    "token", ["county:raoyang", "admin:raoyang", "station:police-nowhere", "station:police-madian"]
)
def test_foreign_ids_do_not_exist(side: Side, token: str) -> None:
    for method, path in paths(side):
        if "{" not in path:
            continue
        for match in (None, '"1"'):
            headers = {"if-match": match} if match else {}
            answer = side.call(method, fill(path, side), token, body_for(path, method), headers=headers)
            assert answer.status == 404, (path, answer)
    assert side.office.kinds("a") == ["dispatched"]


@pytest.mark.parametrize("name", ["x", "%00", "..", "1" * 400, "police_nowhere", ident("nobody")])
def test_ids_that_are_none_do_not_exist(side: Side, name: str) -> None:
    for method, path in paths(side):
        if "{" in path:
            filled = path.replace("{station}", name).replace("{id}", name).replace("%00", "\0")
            assert side.call(method, filled, "county", body_for(path, method)).status == 404, path


def test_the_fields_of_each_answer_are_a_list(side: Side) -> None:
    item = side.call("GET", f"/v1/stations/{POLICE}/assignments", f"station:{POLICE}").json["items"][0]
    assert not mistakes("assignment", item)
    incident = side.call("GET", f"/v1/incidents/{ident('a')}", f"station:{POLICE}").json
    assert set(incident) == {
        "incident_id", "county", "category", "subtype", "urgent", "area", "station", "level", "route_id", "title", "pattern_id",
        "occurred_at", "received_at", "last_received_at", "corroborations", "no_action", "merged_into", "revision",
        "assignment", "tips", "timeline", "suggested", "linked",
    }  # fmt: skip
    assert not {"source", "reporter", "message_id", "phone", "name"} & set(incident["tips"][0])


def test_the_whole_way_over_http(side: Side) -> None:
    me = f"station:{POLICE}"
    claimed = side.call("POST", f"/v1/stations/{POLICE}/claim", me, {"limit": 5, "lease_s": 60}).json["items"]
    assert [item["incident_id"] for item in claimed] == [ident("a")]
    path, token = f"/v1/assignments/{claimed[0]['id']}", claimed[0]["lease"]["token"]
    assert side.call("POST", f"{path}/acknowledge", me).status == 428
    assert side.call("POST", f"{path}/acknowledge", me, headers={"if-match": '"99"'}).status == 412
    answer = side.call("POST", f"{path}/acknowledge", me, headers={"if-match": f'"{token}"'})
    assert (answer.status, answer.json["status"]) == (200, "acknowledged")
    refused = side.call("POST", f"{path}/acknowledge", me, headers={"if-match": answer.headers["etag"]})
    assert (refused.status, refused.json["allowed"][0]) == (409, "start")
    missing = side.call("POST", f"{path}/return", me, {}, headers={"if-match": answer.headers["etag"]})
    assert (missing.status, missing.json["errors"][0]["pointer"]) == (422, "/reason")
    done = side.call(
        "POST", f"{path}/resolve", me, {"outcome": "settled"}, headers={"if-match": answer.headers["etag"]}
    )
    assert (done.status, done.json["status"]) == (200, "resolved")
    assert side.call("GET", path, me).headers["etag"] == done.headers["etag"]


def test_an_incident_has_an_etag_that_corrections_name(side: Side) -> None:
    path = f"/v1/incidents/{ident('a')}"
    seen = side.call("GET", path, "county")
    assert side.call("GET", path, "county", headers={"if-none-match": seen.headers["etag"]}).status == 304
    body = {"urgent": True, "reason": "有刀"}
    assert side.call("POST", f"{path}/relabel", "county", body).status == 428
    answer = side.call("POST", f"{path}/relabel", "county", body, headers={"if-match": seen.headers["etag"]})
    assert (answer.status, answer.json["status"]) == (202, "accepted")
    assert (
        side.call("POST", f"{path}/relabel", "county", body, headers={"if-match": seen.headers["etag"]}).status == 412
    )
    itself = {"into": ident("a"), "reason": "x"}
    etag = side.call("GET", path, "county").headers["etag"]
    assert side.call("POST", f"{path}/merge", "county", itself, headers={"if-match": etag}).status == 422


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b"\xff",
        b'{"text": NaN}',
        b'{"text":"a","text":"b"}',
        b"[" * 100_000,
        b'{"text":"\\ud800"}',
        b'"x"',
        b"0",
    ],
)
def test_a_body_that_is_none_is_refused(side: Side, body: bytes) -> None:
    path = fill("/v1/assignments/{id}/note", side)
    assert side.call("POST", path, f"station:{POLICE}", body, headers={"if-match": '"1"'}).status in (400, 413, 422)
    assert side.call("POST", f"/v1/stations/{POLICE}/claim", f"station:{POLICE}", body).status in (400, 413, 422)


def test_each_fault_of_a_claim_has_its_place(side: Side) -> None:
    answer = side.call("POST", f"/v1/stations/{POLICE}/claim", f"station:{POLICE}", {"limit": "a", "foo": 1})
    assert answer.status == 422 and {error["pointer"] for error in answer.json["errors"]} == {"/foo", "/limit"}


def test_a_body_too_large_or_of_another_kind_is_refused(side: Side) -> None:
    path, me = fill("/v1/assignments/{id}/note", side), f"station:{POLICE}"
    assert side.call("POST", path, me, {"text": "x" * 70_000}).status == 413
    assert side.call("POST", path, me, {"text": "x"}, headers={"content-type": "text/plain"}).status == 415


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=x", "limit=99999999999", "status=done", "cursor=%00", "cursor=x", "limit=-1", "statsu=open"]
)
def test_a_query_that_is_none_is_refused(side: Side, query: str) -> None:
    answer = side.call("GET", f"/v1/stations/{POLICE}/assignments?{query}", "county")
    assert (answer.status, answer.json["status"], answer.json["title"]) == (422, 422, "The query does not fit")
    assert [error["pointer"] for error in answer.json["errors"]] == ["/" + query.partition("=")[0]]


@pytest.mark.parametrize("path", ["/v1/statistics", f"/v1/stations/{POLICE}/events"])
def test_a_parameter_that_is_none_is_not_passed_over(side: Side, path: str) -> None:
    answer = side.call("GET", f"{path}?%2Fa=1", "county")
    assert answer.status == 422 and answer.json["errors"][0]["pointer"] == "/~1a"
    assert "unknown; there are " in answer.json["errors"][0]["detail"]


def test_statistics_over_http(side: Side) -> None:
    ask = lambda query, token="statistician": side.call("GET", f"/v1/statistics?{query}", token)  # noqa: E731
    assert ask("by=category").json["rows"] == [
        {"category": "dispute", "tips": 1, "incidents": 1},
        {"category": "theft", "tips": 1, "incidents": 1},
    ]
    assert ask("by=category", f"station:{POLICE}").json["rows"] == [{"category": "theft", "tips": 1, "incidents": 1}]
    csv = ask("by=station,hour&format=csv&from=2026-10-07T00:00:00%2B08:00")
    assert csv.headers["content-type"] == "text/csv; charset=utf-8"
    assert csv.body.decode().splitlines()[1] == f"{POLICE},2026-10-07T09:00:00+08:00,1,1"
    assert ask("by=level").json["rows"] == []
    side.office.claim(POLICE)
    side.office.move("a", "resolve", outcome="settled")
    settled = [{"level": "township", "tips": 1, "incidents": 1, "share": 1.0}]
    assert ask("by=level").json["rows"] == ask("by=level", f"station:{POLICE}").json["rows"] == settled
    assert ask("by=level", f"station:{LIUCHU}").json["rows"] == []
    assert ask("by=level&format=csv").body.decode().splitlines() == ["level,tips,incidents,share", "township,1,1,1.0"]
    for query in (
        "by=level,category",
        "by=weather",
        "by=category,category",
        "from=yesterday",
        "from=",
        "format=xml",
        "from=2026-10-07T00:00:00",
    ):
        assert ask(query).status == 422, query


def test_a_receipt_tells_the_public_status(side: Side) -> None:
    class Known:
        def by_receipt(self, receipt: str) -> str | None:
            return {"R1": ident("a")}.get(receipt)

        def lookup(self, tip_id: str) -> bytes | None:
            return None

    assert receipt_status(side.office.engine, Known(), "R1") == {"status": "with_station", "at": "2026-10-07T01:00:00Z"}
    assert receipt_status(side.office.engine, Known(), "R2") is None


# --- the live stream
# --------------------------------------------------------------------------------------------------------


#: Less than the smallest object and its place in a list: so much may stand for none.
BYTES_A_STREAM = 20


class Listener:
    """A client of the stream, inside the running loop."""

    def __init__(self, side: Side, station: str, token: str, after: str | None) -> None:
        headers = {"authorization": f"Bearer {token}", **({"last-event-id": after} if after is not None else {})}
        self._scope = scope("GET", f"/v1/stations/{station}/events", headers)
        self._left = asyncio.Event()
        self._parts: asyncio.Queue[bytes] = asyncio.Queue()
        self.task = asyncio.ensure_future(side.app(self._scope, self._receive, self._send))

    async def _receive(self) -> dict[str, Any]:
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        if self._left.is_set():
            raise OSError  # what a server of ASGI 2.4 does
        if message["type"] == "http.response.body" and message.get("body"):
            self._parts.put_nowait(message["body"])

    async def next(self) -> bytes:
        return await asyncio.wait_for(self._parts.get(), 10)

    async def leave(self) -> None:
        self._left.set()
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


def run(work: Callable[[], Awaitable[None]]) -> None:
    """Runs it, and waits for the threads of streams that were left: each reads to its end and gives its connection back."""
    asyncio.run(work())  # type: ignore[arg-type]
    until(lambda: not any(thread.name.startswith("AnyIO") for thread in threading.enumerate()))


def test_the_stream_tells_what_happens_and_resumes_where_it_stopped(side: Side) -> None:
    me = f"station:{POLICE}"

    async def scenario() -> None:
        first = Listener(side, POLICE, me, None)
        assert await first.next() == b"retry: 2000\nid: 1\n\n"
        await asyncio.to_thread(side.call, "POST", f"/v1/stations/{POLICE}/claim", me, {})
        event = await first.next()
        assert event.startswith(b"id: 2\nevent: claimed\ndata: {")
        assert json.loads(event.split(b"data: ")[1])["assignment"]["status"] == "claimed"
        await first.leave()
        side.office.now += 20 * MINUTE
        await asyncio.to_thread(side.service.tick, side.office.now)
        # Another gateway would answer the same: the number is all it needs.
        second = Listener(side, POLICE, me, "1")
        assert await second.next() == b"retry: 2000\nid: 1\n\n"
        assert (await second.next()).startswith(b"id: 2\nevent: claimed")
        assert (await second.next()).startswith(b"id: 3\nevent: expired")
        side.service.close_streams()
        await asyncio.wait_for(second.task, 10)
        assert side.service.hub.connections() == 0

    run(scenario)


def test_a_number_that_was_never_given_misses_nothing(side: Side) -> None:
    """The store was put back from a backup: its numbers are lower than the client's."""
    me = f"station:{POLICE}"

    async def scenario() -> None:
        listener = Listener(side, POLICE, me, "500")
        assert await listener.next() == b"retry: 2000\nid: 1\n\n"
        await asyncio.to_thread(side.call, "POST", f"/v1/stations/{POLICE}/claim", me, {})
        assert (await listener.next()).startswith(b"id: 2\nevent: claimed")
        await listener.leave()

    run(scenario)


def test_a_stream_ends_with_its_token(side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "POLL_S", 0.001)
    monkeypatch.setattr(streams, "QUIET_POLLS", 1)
    me = f"station:{POLICE}"

    async def scenario() -> None:
        listener = Listener(side, POLICE, me, "1")
        await listener.next()
        assert await listener.next() == b": still here\n\n"
        side.tokens.revoked.add(me)
        await asyncio.wait_for(listener.task, 10)

    run(scenario)


def test_streams_opened_and_closed_leave_nothing(side: Side) -> None:
    at_once, often = 50, 5

    async def rounds() -> int:
        """Opens and leaves many streams, and tells how many bytes Python's objects take then."""
        for _ in range(often):
            many = [Listener(side, POLICE, f"station:{POLICE}", "1") for _ in range(at_once)]
            for listener in many:
                await listener.next()
            assert side.service.hub.connections() == at_once
            for listener in many:
                await listener.leave()
            del many, listener
        assert side.service.hub.connections() == 0
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    async def scenario() -> None:
        await rounds()  # what is made once
        tracemalloc.start()
        try:
            # What grows to its size, such as a pool of connections, stops growing; what leaks grows with every stream.
            sizes = [await rounds() for _ in range(3)]
            while len(sizes) < 20 and sizes[-1] - sizes[-3] >= BYTES_A_STREAM * 2 * often * at_once:
                sizes.append(await rounds())
        finally:
            tracemalloc.stop()
        assert sizes[-1] - sizes[-3] < BYTES_A_STREAM * 2 * often * at_once, sizes

    run(scenario)


@pytest.mark.parametrize("after", ["x", "-1", "9" * 40])
def test_a_last_event_id_that_is_none_is_refused(side: Side, after: str) -> None:
    answer = side.call("GET", f"/v1/stations/{POLICE}/events", "county", headers={"last-event-id": after})
    assert answer.status == 422


# --- the clockwork
# ----------------------------------------------------------------------------------------------------------


def test_the_clockwork_escalates_and_says_when_to_come_back(side: Side) -> None:
    assert side.service.tick(START) == 500
    side.office.now = START + DAY - 7
    side.service.tick(side.office.now)
    assert side.service.tick(side.office.now) == 7
    side.office.now += 7
    side.service.tick(side.office.now)
    assert side.office.row("b")["level"] == "township"
    assert side.office.row("b")["station"] == MEDIATION
    side.service.measure_queues()


def test_a_cc_station_sees_and_may_not_change(side: Side) -> None:
    path = fill("/v1/assignments/{id}/note", side)
    answer = side.call("POST", path, f"station:{MEDIATION}", {"text": "x"}, headers={"if-match": '"1"'})
    assert (answer.status, answer.json["type"]) == (403, "urn:tipline:problem:read_only")
    assert side.call("GET", path.removesuffix("/note"), f"station:{MEDIATION}").json["role"] == "cc"
    assert side.call("GET", f"/v1/stations/{LIUCHU}/assignments", f"station:{MEDIATION}").status == 404
