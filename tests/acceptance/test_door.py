"""The door from outside: every body gets its answer, every refusal is a problem, nothing answered 202 is lost."""

from __future__ import annotations

import asyncio
import base64
import io
import itertools
import json
import os
import random
import re
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec
import pytest
import uvicorn
import yaml
from openapi_spec_validator import validate
from starlette.applications import Starlette
from starlette.exceptions import HTTPException

from producers.client import Server, submit
from producers.http import POSTERS, READERS, Door, Limits, Publisher, intake_routes
from producers.keyring import Keyring
from producers.parsing import csv_rows, ndjson_rows
from schemas.errors import Rejected, Unavailable
from schemas.validation import schema
from sinks.web import http_problem
from streams.embedded.intake import SqliteIntake
from streams.ports import Accepted, Admitted, Principal

NOW = 1_769_817_600_000
KEYRING = Keyring.create(os.urandom)
SOURCE = "wechat:xiliangwa-3"


class MemoryAuthority:
    """Tokens by name."""

    def __init__(self) -> None:
        self.known = {
            "intake": Principal("t-intake", "intake", source=SOURCE, county="anping"),
            "other": Principal("t-other", "intake", source="bot:other", county="anping"),
            "free": Principal("t-free", "intake"),
            "hotline": Principal("t-hotline", "hotline", county="anping"),
            "county": Principal("t-county", "county", county="anping"),
            "admin": Principal("t-admin", "admin"),
            "ops": Principal("t-ops", "ops"),
            "station": Principal("t-station", "station", station="police-xiliangwa", county="anping"),
            "statistician": Principal("t-statistician", "statistician"),
            "elsewhere": Principal("t-elsewhere", "intake", county="raoyang"),
        }

    def principal(self, token: str) -> Principal | None:
        return self.known.get(token)


class Figures:
    """Metrics in a counter."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, ...]] = Counter()

    def count(self, name: str, amount: float = 1, **labels: str) -> None:
        self.counts[(name, *labels.values())] += int(amount)

    def observe(self, name: str, value: float, **labels: str) -> None:
        assert value >= 0

    def gauge(self, name: str, value: float, **labels: str) -> None:
        raise AssertionError("the door sets no gauges")


class Answer(msgspec.Struct):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.body)

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.body.splitlines()]


class House:
    """The app over a real log, called as a server calls it, without the network."""

    def __init__(self, intake: Any, limits: Limits | None = None) -> None:
        self.intake = intake
        self.now = NOW
        self.figures = Figures()
        self.decisions: dict[str, dict[str, Any]] = {}
        self.statuses: dict[str, dict[str, Any]] = {}
        self.door = Door(
            intake,
            MemoryAuthority(),
            KEYRING,
            ["anping"],
            lambda: self.now,
            os.urandom,
            self.figures,
            self.decisions.get,
            self.statuses.get,
            intake.lookup,
            limits or Limits(per_second=1e9, burst=1e9),
        )
        self.app = Starlette(routes=intake_routes(self.door), exception_handlers={HTTPException: http_problem})

    async def call(
        self, method: str, path: str, chunks: list[bytes], headers: list[tuple[str, str]] | None = None
    ) -> Answer:
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "path": path,
            "raw_path": path.encode(), "query_string": b"", "root_path": "", "scheme": "http", "server": ("test", 80),
            "client": ("test", 1), "headers": [(k.encode("latin-1"), v.encode("latin-1")) for k, v in headers or []],
        }  # fmt: skip
        pieces = iter(chunks)
        left = len(chunks)
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            nonlocal left
            left -= 1
            return {"type": "http.request", "body": next(pieces, b""), "more_body": left > 0}

        async def send(message: Any) -> None:
            sent.append(message)

        await self.app(scope, receive, send)
        head = {k.decode(): v.decode() for k, v in sent[0]["headers"]}
        return Answer(sent[0]["status"], head, b"".join(part.get("body", b"") for part in sent[1:]))

    def post(
        self,
        body: Any,
        *,
        token: str | None = "intake",
        kind: str | None = "application/json",
        path: str = "/v1/tips",
        headers: list[tuple[str, str]] | None = None,
    ) -> Answer:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        return asyncio.run(self.call("POST", path, [raw], self.headers(token, kind) + (headers or [])))

    def get(self, path: str, token: str | None = "intake", method: str = "GET") -> Answer:
        return asyncio.run(self.call(method, path, [], self.headers(token, None)))

    @staticmethod
    def headers(token: str | None, kind: str | None) -> list[tuple[str, str]]:
        found = [("authorization", f"Bearer {token}")] if token is not None else []
        return found + ([("content-type", kind)] if kind is not None else [])

    def rows(self) -> int:
        return int(self.intake.end("anping"))


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    intake = SqliteIntake(tmp_path / "intake.db")
    house = House(intake)
    yield house
    house.door.close()
    intake.close()


def check_problem(answer: Answer) -> Any:
    assert answer.headers["content-type"] == "application/problem+json"
    document = answer.document
    assert {"type", "title", "status", "errors"} <= set(document) <= {"type", "title", "status", "detail", "errors", "retry_after"}
    assert document["errors"]
    assert document["status"] == answer.status
    assert re.fullmatch(r"urn:tipline:problem:[a-z_]+", document["type"])
    assert document["title"]
    for error in document["errors"]:
        assert set(error) == {"pointer", "detail"}
        assert error["detail"]
    return document


# --- the plain way ---


def test_accepted(house: House) -> None:
    answer = house.post({"text": "偷电缆", "message_id": "m1"})
    assert answer.status == 202
    assert set(answer.document) == {"tip_id", "receipt"}
    assert answer.headers["cache-control"] == "no-store"
    assert house.intake.by_receipt(answer.document["receipt"]) == answer.document["tip_id"]
    again = house.post({"message_id": "m1", "text": "偷电缆"})
    assert (again.status, again.body) == (202, answer.body)
    other = house.post({"text": "偷电线", "message_id": "m1"})
    assert (other.status, check_problem(other)["type"]) == (409, "urn:tipline:problem:conflict")
    assert house.rows() == 1
    counts = house.figures.counts
    assert counts[("tipline_accepted_total", "volunteer")] == 1
    assert counts[("tipline_redelivered_total", "volunteer")] == 1
    assert counts[("tipline_refused_total", "conflict")] == 1


def test_a_redelivery_twenty_days_later_adds_nothing(house: House) -> None:
    body = {"message_id": "m1", "text": "村口路灯不亮", "reporter": {"phone": "13800138000"}}
    first = house.post(body)
    for days in (1, 20, 400):
        house.now = NOW + days * 86_400_000
        again = house.post(body)
        assert (again.status, again.body) == (202, first.body)
    assert house.rows() == 1
    assert house.figures.counts[("tipline_redelivered_total", "volunteer")] == 3


def test_what_is_stored(house: House) -> None:
    tip_id = house.post({"text": "找13812345678", "reporter": {"name": "李四"}}).document["tip_id"]
    tip = json.loads(house.intake.lookup(tip_id))
    assert tip["received_at"] == "2026-01-31T00:00:00Z"
    assert tip["county"] == "anping"
    assert {(s.kind, KEYRING.open_sealed(tip_id, s)) for s in house.intake.identities(tip_id)} == {
        ("phone", "13812345678"),
        ("reporter.name", "李四"),
    }


EVENT = {"specversion": "1.0", "id": "m1", "source": SOURCE, "type": "tip", "data": {"text": "x"}}


def test_cloud_events(house: House) -> None:
    plain = house.post({"text": "x", "message_id": "m1", "reported_at": "2026-01-31T08:00:00+08:00"})
    event = {**EVENT, "time": "2026-01-31T08:00:00+08:00"}
    structured = house.post(event, kind="application/cloudevents+json; charset=utf-8")
    heads = {"ce-specversion": "1.0", "ce-id": "m1", "ce-source": SOURCE, "ce-type": "t", "ce-time": event["time"]}
    binary = house.post({"text": "x"}, headers=[(k, str(v)) for k, v in heads.items()])
    assert {plain.body, structured.body, binary.body} == {plain.body}
    assert plain.status == structured.status == binary.status == 202
    assert house.rows() == 1
    bad = house.post(
        {**event, "data": {"text": "", "place": {"lat": 99, "lon": 0}}}, kind="application/cloudevents+json"
    )
    assert {error["pointer"] for error in check_problem(bad)["errors"]} == {"/data/text", "/data/place/lat"}
    bad = house.post({**event, "time": "now"}, kind="application/cloudevents+json")
    assert check_problem(bad)["errors"][0]["pointer"] == "/time"


def test_decision(house: House) -> None:
    tip_id = house.post({"text": "x"}).document["tip_id"]
    pending = house.get(f"/v1/tips/{tip_id}/decision")
    assert (pending.status, pending.document, pending.headers["retry-after"]) == (202, {"status": "pending"}, "1")
    assert house.get(f"/v1/tips/{tip_id}/decision", "other").status == 404, "another source's tip"
    assert house.get(f"/v1/tips/{tip_id}/decision", "elsewhere").status == 404, "another county's tip"
    house.decisions[tip_id] = {"tip_id": tip_id, "source": SOURCE, "county": "anping", "revision": 1}
    decided = house.get(f"/v1/tips/{tip_id}/decision")
    assert (decided.status, decided.document["revision"]) == (200, 1)
    for token, status in {
        "other": 404,
        "elsewhere": 404,
        "county": 200,
        "ops": 200,
        "station": 403,
        "nobody": 401,
    }.items():
        assert house.get(f"/v1/tips/{tip_id}/decision", token).status == status
    for unknown in ("00000000-0000-4000-8000-000000000000", "x", "../../etc/passwd", "%00", "'--"):
        check_problem(answer := house.get(f"/v1/tips/{unknown}/decision"))
        assert answer.status == 404


def test_receipt(house: House) -> None:
    receipt = house.post({"text": "x"}).document["receipt"]
    house.statuses[receipt] = {"status": "received", "at": "2026-01-31T00:00:00Z"}
    for typed in (receipt, receipt.lower(), receipt.replace("-", "")):
        assert house.get(f"/v1/receipts/{typed}", "station").document["status"] == "received"
    assert house.get(f"/v1/receipts/{receipt}", None).status == 401
    for unknown in ("AAAA-AAAA-AAAA-AAAA", "x", "é"):
        assert house.get(f"/v1/receipts/{unknown}").status == 404


# --- who may ---


@pytest.mark.parametrize("path", ["/v1/tips", "/v1/tips/batch"])
@pytest.mark.parametrize(
    "header",
    [None, "", "Bearer", "Bearer ", "Bearer wrong", "Basic aW50YWtl", "intake", "Bearer " + "x" * 9999, "Bearer é"],
)
def test_no_token(house: House, path: str, header: str | None) -> None:
    heads = [("authorization", header)] if header is not None else []
    answer = house.post({"text": "x"}, token=None, path=path, headers=heads)
    assert answer.status == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")
    check_problem(answer)


@pytest.mark.parametrize("path", ["/v1/tips", "/v1/tips/batch"])
@pytest.mark.parametrize(
    ("token", "status"),
    [
        *[("station", 403), ("statistician", 403), ("ops", 403), ("elsewhere", 403)],
        *[("intake", 0), ("hotline", 0), ("county", 0), ("admin", 0)],
    ],
)
def test_roles(house: House, path: str, token: str, status: int) -> None:
    kind = "application/json" if path == "/v1/tips" else "application/x-ndjson"
    answer = house.post({"text": "x", "source": SOURCE}, token=token, path=path, kind=kind)
    assert answer.status == (status or (202 if path == "/v1/tips" else 200))
    if status:
        check_problem(answer)
    assert house.rows() == (0 if status else 1)


def test_unknown_paths_and_methods_are_problems(house: House) -> None:
    assert check_problem(house.get("/v1/nothing"))["status"] == 404
    answer = house.get("/v1/tips")
    assert (check_problem(answer)["status"], answer.headers["allow"]) == (405, "POST")
    assert check_problem(house.get("/v1/tips", method="DELETE"))["status"] == 405


def test_rate_limit(tmp_path: Path) -> None:
    intake = SqliteIntake(tmp_path / "intake.db")
    house = House(intake, Limits(per_second=2, burst=5))
    statuses = [house.post({"text": "x"}).status for _ in range(7)]
    assert statuses == [202] * 5 + [429] * 2
    answer = house.post({"text": "x"})
    assert check_problem(answer)["type"] == "urn:tipline:problem:too_many"
    assert answer.headers["retry-after"] == "1"
    assert house.post({"text": "x"}, token="other").status == 202, "one token's noise is not another's"
    house.now += 1000
    assert [house.post({"text": "x"}).status for _ in range(3)] == [202, 202, 429]
    house.now += 60_000
    lines = b"\n".join(b'{"text": "x"}' for _ in range(25))
    assert len(house.post(lines, path="/v1/tips/batch", kind="application/x-ndjson").lines) == 25
    assert house.post({"text": "x"}).headers["retry-after"] == "10", "a batch counts by its lines"
    assert house.figures.counts[("tipline_refused_total", "too_many")] == 5
    house.door.close()
    intake.close()


# --- what cannot be stored ---


class Full:
    """A log without room."""

    def accept(self, admitted: list[Admitted]) -> list[Accepted]:
        raise Unavailable("disk full: /secret/path", retry_after=7)

    def lookup(self, tip_id: str) -> bytes | None:
        raise ZeroDivisionError("13812345678")

    def end(self, county: str) -> int:
        return 0


def test_full_disk(caplog: pytest.LogCaptureFixture) -> None:
    house = House(Full())
    for answer in (
        house.post({"text": "x"}),
        house.post({"text": "x"}, path="/v1/tips/batch", kind="application/x-ndjson"),
    ):
        document = check_problem(answer)
        assert (answer.status, answer.headers["retry-after"], document["retry_after"]) == (503, "7", 7)
        assert "secret" not in str(document)
    assert house.figures.counts[("tipline_refused_total", "unavailable")] == 2
    house.door.close()
    assert check_problem(house.post({"text": "x"}))["status"] == 503, "closed"


def test_faults_show_nothing(caplog: pytest.LogCaptureFixture) -> None:
    house = House(Full())
    answer = house.get("/v1/tips/00000000-0000-4000-8000-000000000000/decision")
    document = check_problem(answer)
    assert answer.status == 500
    reference = re.search(r"[0-9a-f]{16}", document["detail"])
    assert reference is not None
    assert reference[0] in caplog.text
    assert "ZeroDivisionError" in caplog.text
    for text in (caplog.text, str(document)):
        assert "13812345678" not in text
        assert "Traceback" not in text
    assert "lookup" not in str(document)
    house.door.close()


class Poisoned:
    """A log that chokes on one tip."""

    def accept(self, admitted: list[Admitted]) -> list[Accepted]:
        if any(one.tip.text == "poison" for one in admitted):
            raise ZeroDivisionError
        return [Accepted(one.tip.tip_id, one.receipt, "accepted") for one in admitted]

    def lookup(self, tip_id: str) -> bytes | None:
        return None


def test_one_tip_at_fault_takes_no_other_with_it() -> None:
    house = House(Poisoned())

    async def all_at_once() -> list[int]:
        texts = ["a", "b", "poison", "c"] * 5
        heads = house.headers("intake", "application/json")
        calls = [house.call("POST", "/v1/tips", [json.dumps({"text": text}).encode()], heads) for text in texts]
        return [answer.status for answer in await asyncio.gather(*calls)]

    assert asyncio.run(all_at_once()) == [202, 202, 500, 202] * 5
    house.door.close()


def test_requests_share_commits() -> None:
    """While one commit is under way all others gather; the next takes them together."""
    gate, groups = threading.Event(), []

    class Slow:
        def accept(self, admitted: list[Admitted]) -> list[Accepted]:
            groups.append(len(admitted))
            gate.wait(30)
            return [Accepted(one.tip.tip_id, one.receipt, "accepted") for one in admitted]

    async def go() -> None:
        publisher = Publisher(Slow(), 50)  # type: ignore[arg-type]
        house = House(Full())
        one = house.door.admit({"text": "x"}, Principal("t", "intake", source=SOURCE), NOW)
        tasks = [asyncio.create_task(publisher.publish([one])) for _ in range(50)]
        await asyncio.sleep(0)
        with pytest.raises(Unavailable):
            await publisher.publish([one])
        gone = tasks[7]
        gone.cancel()
        gate.set()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert sum(isinstance(answer, list) for answer in answers) == 49
        publisher.close()
        house.door.close()

    asyncio.run(go())
    assert groups == [1, 49]


# --- the batch ---


def batch(house: House, *lines: bytes | dict[str, Any], token: str = "intake") -> Answer:
    raw = b"\n".join(line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines)
    return house.post(raw, path="/v1/tips/batch", kind="application/x-ndjson", token=token)


def test_batch_imports_the_good_and_names_the_bad(house: House) -> None:
    answer = batch(
        house,
        {"text": "a", "message_id": "1"},
        b"{broken",
        b"",
        {"text": ""},
        {"text": "b", "message_id": "1"},
        {"text": "c", "source": "bot:stranger"},
        b'{"text":"' + b"x" * 70_000 + b'"}',
        {"text": "a", "message_id": "1"},
        {"text": "last"},
    )
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert [(line["line"], line["status"]) for line in answer.lines] == [
        (1, 202), (2, 400), (4, 422), (5, 409), (6, 403), (7, 413), (8, 202), (9, 202),
    ]  # fmt: skip
    for line in answer.lines:
        assert set(line) == (
            {"line", "status", "tip_id", "receipt"} if line["status"] == 202 else {"line", "status", "problem"}
        )
        if line["status"] != 202:
            assert line["problem"]["status"] == line["status"]
    assert answer.lines[0]["tip_id"] == answer.lines[6]["tip_id"]
    assert house.rows() == 2


def test_batch_in_any_pieces(house: House) -> None:
    raw = b"".join(
        json.dumps({"text": f"第{n}条", "message_id": str(n)}, ensure_ascii=False).encode() + b"\r\n"
        for n in range(600)
    )
    cuts = sorted(random.Random(5).sample(range(len(raw)), 97))
    chunks = [raw[a:b] for a, b in itertools.pairwise([0, *cuts, len(raw)])]
    heads = house.headers("intake", "application/x-ndjson")
    answer = asyncio.run(house.call("POST", "/v1/tips/batch", chunks, heads))
    assert [(line["line"], line["status"]) for line in answer.lines] == [(n, 202) for n in range(1, 601)]
    assert house.rows() == 600


def test_batch_caps(tmp_path: Path) -> None:
    intake = SqliteIntake(tmp_path / "intake.db")
    house = House(intake, Limits(per_second=1e9, burst=1e9, batch_lines=3, batch_bytes=300))
    answer = batch(house, *[{"text": "x"}] * 5)
    assert [(line["line"], line["status"]) for line in answer.lines] == [(1, 202), (2, 202), (3, 202), (4, 413)]
    assert answer.lines[3]["problem"]["type"] == "urn:tipline:problem:batch_too_large"
    heads = [*house.headers("intake", "application/x-ndjson"), ("content-length", "301")]
    answer = asyncio.run(house.call("POST", "/v1/tips/batch", [b""], heads))
    assert check_problem(answer)["status"] == 413
    heads = house.headers("intake", "application/x-ndjson")
    long = b'{"text": "' + b"x" * 280 + b'"}'
    answer = asyncio.run(house.call("POST", "/v1/tips/batch", [b'{"text": "x"}\n', long, long], heads))
    assert [(line["line"], line["status"]) for line in answer.lines] == [(1, 202), (2, 413)]
    house.door.close()
    intake.close()


def test_batch_that_runs_full(tmp_path: Path) -> None:
    """What was stored is answered so; the rest is 503, line by line, and finds room later."""
    intake = SqliteIntake(tmp_path / "intake.db", max_bytes=600_000)
    house = House(intake)
    lines = [{"text": "x" * 900, "message_id": str(n)} for n in range(1000)]
    first = batch(house, *lines).lines
    assert Counter(line["status"] for line in first) == {202: house.rows(), 503: 1000 - house.rows()}
    assert 0 < house.rows() < 1000
    intake.limit_bytes(None)
    assert {line["status"] for line in batch(house, *lines).lines} == {202}
    assert house.rows() == 1000
    house.door.close()
    intake.close()


def test_empty_batch(house: House) -> None:
    assert (batch(house, b"").status, batch(house, b"\n\n").body) == (200, b"")


# --- nasty bodies, each with its expected status ---


def _text(inner: bytes) -> bytes:
    return b'{"text": "' + inner + b'"}'


def _with(**more: Any) -> bytes:
    return json.dumps({"text": "x", **more}).encode()


NASTY: dict[str, tuple[int, bytes]] = {
    "empty": (400, b""),
    "blank": (400, b" \n "),
    "null": (422, b"null"),
    "true": (422, b"true"),
    "number": (422, b"12"),
    "string": (422, b'"text"'),
    "list": (422, b'[{"text": "x"}]'),
    "empty object": (422, b"{}"),
    "cut": (400, b'{"text": "x'),
    "rest after it": (400, b'{"text": "x"} x'),
    "two documents": (400, b'{"text": "x"}\n{"text": "y"}'),
    "single quotes": (400, b"{'text': 'x'}"),
    "trailing comma": (400, b'{"text": "x",}'),
    "comment": (400, b'/**/{"text": "x"}'),
    "form": (400, b"text=x"),
    "xml": (400, b"<!DOCTYPE x [<!ENTITY y SYSTEM 'file:///etc/passwd'>]><text>&y;</text>"),
    "duplicate key": (400, b'{"text": "x", "text": "y"}'),
    "duplicate key, escaped": (400, b'{"text": "x", "\\u0074ext": "y"}'),
    "duplicate key, nested": (400, b'{"text": "x", "place": {"lat": 1, "lon": 2, "lat": 3}}'),
    "NaN": (400, b'{"text": "x", "place": {"lat": NaN, "lon": 1}}'),
    "Infinity": (400, b'{"text": "x", "place": {"lat": Infinity, "lon": 1}}'),
    "1e999": (400, b'{"text": "x", "place": {"lat": 1e999, "lon": 1}}'),
    "5,000 digits": (400, b'{"text": "x", "place": {"lat": ' + b"1" * 5000 + b', "lon": 1}}'),
    "beyond 2**53": (400, b'{"text": "x", "place": {"lat": 9007199254740993, "lon": 1}}'),
    "latitude as text": (422, _with(place={"lat": "38.2", "lon": "115.5"})),
    "latitude beyond": (422, _with(place={"lat": 90.0001, "lon": 0})),
    "latitude as truth": (422, _with(place={"lat": True, "lon": 0})),
    "latitude alone": (422, _with(place={"lat": 38.2})),
    "negative zero": (202, b'{"text": "x", "place": {"lat": -0.0, "lon": -0}}'),
    "many digits": (202, b'{"text": "x", "place": {"lat": 38.' + b"1" * 400 + b', "lon": 1}}'),
    "exponent": (202, b'{"text": "x", "place": {"lat": 3.82E1, "lon": 1e-400}}'),
    "100k lists": (413, b"[" * 100_000),
    "30k lists": (400, b"[" * 30_000 + b"]" * 30_000),
    "900 deep": (400, b'{"text": ' + b"[" * 900 + b"]" * 900 + b"}"),
    "9 deep": (400, b'{"a":' * 9 + b"1" + b"}" * 9),
    "lone high surrogate": (400, _text(b"\\ud83d")),
    "lone low surrogate": (400, _text(b"\\ude00")),
    "surrogate pair": (202, _text(b"\\ud83d\\ude00")),
    "raw surrogate": (400, _text(b"\xed\xa0\x80")),
    "U+0000": (400, _text(b"a\\u0000b")),
    "U+0000 in a key": (400, b'{"text": "x", "a\\u0000": 1}'),
    "backslash u0000": (202, _text(b"a\\\\u0000b")),
    "raw NUL": (400, _text(b"a\x00b")),
    "raw control": (400, _text(b"a\x01b")),
    "raw newline": (400, _text(b"a\nb")),
    "escaped newline": (202, _text(b"a\\nb")),
    "U+FFFE": (202, _text(b"\\ufffe")),
    "invalid UTF-8": (400, _text(b"\xff\xfe")),
    "overlong": (400, _text(b"\xc0\xaf")),
    "cut character": (400, _text(b"\xe5\x81")),
    "beyond U+10FFFF": (400, _text(b"\xf4\x90\x80\x80")),
    "GBK": (400, _text("偷电缆".encode("gbk"))),
    "UTF-16": (400, '{"text": "x"}'.encode("utf-16")),
    "UTF-32": (400, '{"text": "x"}'.encode("utf-32")),
    "BOM": (400, b"\xef\xbb\xbf" + _text(b"x")),
    "bidi": (202, _text("a\u202eb\u2066c".encode())),
    "zero width": (202, _text("a\u200bb".encode())),
    "only zero width": (202, _text("\u200b".encode())),
    "homoglyph key": (422, '{"text": "x", "tехt": "y"}'.encode()),
    "combining storm": (202, _text(("e" + "\u0301" * 500).encode())),
    "blank text": (422, _text(b" \\t\\n ")),
    "full-width blank": (422, _text("\u3000".encode())),
    "4,000 characters": (202, _text("汉".encode() * 4000)),
    "4,001 characters": (422, _text("汉".encode() * 4001)),
    "4,000 beyond the BMP": (202, _text("😀".encode() * 4000)),
    "64 KiB": (422, _text(b"x" * (64 * 1024 - 12))),
    "64 KiB and one": (413, _text(b"x" * (64 * 1024 - 11))),
    "unknown field": (422, _with(priority="high")),
    "prototype": (422, b'{"text": "x", "__proto__": {"admin": true}}'),
    "received_at": (422, _with(received_at="2020-01-01T00:00:00Z")),
    "county": (422, _with(county="anping")),
    "tip_id": (422, _with(tip_id="00000000-0000-4000-8000-000000000000")),
    "null field": (422, _with(message_id=None)),
    "empty message_id": (422, _with(message_id="")),
    "long message_id": (422, _with(message_id="m" * 201)),
    "newline in message_id": (422, _with(message_id="a\r\nset-cookie: x")),
    "sql in message_id": (202, _with(message_id="'; DROP TABLE tips; --")),
    "template in text": (202, _with(text="{{7*7}} ${jndi:ldap://x} <script>alert(1)</script> =cmd|' /C calc'!A0")),
    "time without offset": (422, _with(reported_at="2026-01-31T08:00:00")),
    "time in words": (422, _with(reported_at="yesterday")),
    "30 February": (422, _with(reported_at="2026-02-30T08:00:00Z")),
    "leap second": (422, _with(reported_at="2016-12-31T23:59:60Z")),
    "year 0": (422, _with(occurred_at="0000-01-01T00:00:00Z")),
    "year 9999": (202, _with(occurred_at="9999-12-31T23:59:59-23:59")),
    "year 1": (202, _with(occurred_at="0001-01-01T00:00:00+23:59")),
    "time as number": (422, _with(reported_at=1769817600)),
    "wrong category": (422, _with(category_hint="murder")),
    "other's source": (403, _with(source="hotline:12345")),
    "wild source": (422, _with(source="../../etc")),
    "area upwards": (422, _with(place={"area": "anping/../raoyang"})),
    "21 attachments": (422, _with(attachments=[{}] * 21)),
    "attachment with blank url": (422, _with(attachments=[{"url": "java script:alert(1)"}])),
    "reporter as text": (422, _with(reporter="李四")),
    "reporter with more": (422, _with(reporter={"id": "x", "idcard": "y"})),
    "many keys": (422, json.dumps({f"k{n}": n for n in range(3000)}).encode()),
    "too many numbers": (422, _text(b"QQ12345 " * 500)),
}


@pytest.mark.parametrize(("status", "raw"), NASTY.values(), ids=NASTY.keys())
def test_nasty(house: House, status: int, raw: bytes) -> None:
    answer = house.post(raw)
    assert answer.status == status, answer.body[:500]
    assert house.rows() == (1 if status == 202 else 0)
    if status != 202:
        check_problem(answer)
    line = house.post(raw.replace(b"\n", b" "), path="/v1/tips/batch", kind="application/x-ndjson").lines
    assert [one["status"] for one in line] in ([status], [], [202], [400]), "a line of a batch fares no better"


def test_there_are_enough_of_them() -> None:
    assert len(NASTY) >= 60


HEADERS: dict[str, tuple[int, list[tuple[str, str]]]] = {
    "no type": (415, []),
    "form": (415, [("content-type", "application/x-www-form-urlencoded")]),
    "text": (415, [("content-type", "text/plain")]),
    "ndjson": (415, [("content-type", "application/x-ndjson")]),
    "event batch": (415, [("content-type", "application/cloudevents-batch+json")]),
    "two types": (415, [("content-type", "application/json"), ("content-type", "text/plain")]),
    "two in one": (415, [("content-type", "application/json, text/plain")]),
    "utf-16": (415, [("content-type", "application/json; charset=utf-16")]),
    "utf-8": (202, [("content-type", "Application/JSON; charset=UTF-8")]),
    "quoted utf-8": (202, [("content-type", 'application/json; charset="utf-8"')]),
    "gzip": (415, [("content-type", "application/json"), ("content-encoding", "gzip")]),
    "identity": (202, [("content-type", "application/json"), ("content-encoding", "identity")]),
    "half an event": (422, [("content-type", "application/json"), ("ce-id", "x")]),
    "event with bad bytes": (
        422,
        [("content-type", "application/json"), ("ce-specversion", "1.0"), ("ce-id", "%ff"), ("ce-source", SOURCE), ("ce-type", "t")],
    ),
    "long length": (413, [("content-type", "application/json"), ("content-length", "99999999999999999999999")]),
    "odd length": (202, [("content-type", "application/json"), ("content-length", "²")]),
}  # fmt: skip


@pytest.mark.parametrize(("status", "headers"), HEADERS.values(), ids=HEADERS.keys())
def test_headers(house: House, status: int, headers: list[tuple[str, str]]) -> None:
    answer = house.post({"text": "x"}, kind=None, headers=headers)
    assert answer.status == status, answer.body
    if status != 202:
        check_problem(answer)


def test_chunked_body_without_length_is_bounded(house: House) -> None:
    heads = house.headers("intake", "application/json")
    answer = asyncio.run(house.call("POST", "/v1/tips", [b"[" * 1000] * 1000, heads))
    assert check_problem(answer)["status"] == 413
    answer = asyncio.run(house.call("POST", "/v1/tips", [b'{"te', b'xt": "', b"x", b'"}'], heads))
    assert answer.status == 202


def test_slow_body(tmp_path: Path) -> None:
    house = House(Full(), Limits(body_seconds=0))

    async def never() -> Any:
        await asyncio.Event().wait()

    async def go(path: str, kind: str) -> int:
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "http", "method": "POST", "path": path, "query_string": b"", "root_path": "",
            "headers": [(k.encode(), v.encode()) for k, v in house.headers("intake", kind)],
        }  # fmt: skip
        await house.app(scope, never, send)
        return int(sent[0]["status"])

    assert asyncio.run(go("/v1/tips", "application/json")) == 408
    assert asyncio.run(go("/v1/tips/batch", "application/x-ndjson")) == 408
    house.door.close()


def test_refusals_repeat_no_value(house: House) -> None:
    canary = "李四13812345678"
    for name in schema("submission")["properties"]:
        for value in (canary * 400, {canary: canary}, [canary], {"id": [canary], "text": [canary], "lat": canary}):
            answer = house.post({"text": "x", name: value})
            if answer.status != 202:
                assert "13812345678" not in answer.body.decode()


# --- 10,000 mutated bodies ---


def _mutate(raw: bytearray, chance: random.Random) -> bytes:
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(raw) + 1)
        match chance.randrange(6):
            case 0:
                raw[at : at + 1] = bytes([chance.randrange(256)])
            case 1:
                del raw[at : at + chance.randint(1, 9)]
            case 2:
                raw[at:at] = chance.choice(
                    [
                        b'"',
                        b"{",
                        b"}",
                        b"[",
                        b"\\u0000",
                        b"\\ud800",
                        b"\xff",
                        b"\x00",
                        b"NaN",
                        b"1e999",
                        b"-",
                        b"null,",
                        b"9" * 40,
                    ]
                )
            case 3:
                raw[at:at] = raw[: chance.randint(0, len(raw))]
            case 4:
                raw[at:at] = bytes(chance.randrange(256) for _ in range(chance.randint(1, 8)))
            case _:
                other = chance.randrange(len(raw) + 1)
                raw[min(at, other) : max(at, other)] = b""
    return bytes(raw)


def test_ten_thousand_mutated_bodies(house: House) -> None:
    chance = random.Random(20260131)
    seed = json.dumps(
        {
            "text": "某印刷厂附近约300米电话线被盗割，电话13812345678",
            "message_id": "m1",
            "reported_at": "2026-01-31T08:00:00+08:00",
            "place": {"text": "市场", "lat": 38.2, "lon": 115.5},
            "reporter": {"id": "v201"},
        },
        ensure_ascii=False,
    ).encode()
    bodies = [_mutate(bytearray(seed), chance) for _ in range(10_000)]
    heads = house.headers("intake", "application/json")

    async def go() -> Counter[int]:
        found: Counter[int] = Counter()
        for start in range(0, len(bodies), 100):
            calls = [house.call("POST", "/v1/tips", [body], heads) for body in bodies[start : start + 100]]
            for answer in await asyncio.gather(*calls):
                found[answer.status] += 1
                if answer.status != 202:
                    check_problem(answer)
        return found

    found = asyncio.run(go())
    assert sum(found.values()) == 10_000
    assert set(found) <= {202, 400, 409, 413, 422}, found
    assert found[202] > 0 and found[400] > 5_000


# --- over the network: the server as it runs, and `submit` against it ---


@contextmanager
def serving(house: House) -> Iterator[str]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(128)  # from here on clients wait instead of being refused
        config = uvicorn.Config(house.app, log_level="critical", access_log=False, lifespan="off", ws="none")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


def no_pause(seconds: float) -> None:
    assert 0 <= seconds <= 30


def test_submit(house: House) -> None:
    rows = [
        {"text": "a"},
        {"text": "a"},
        {"text": ""},
        {"text": "b", "message_id": "mine"},
        {"text": "c", "message_id": "mine"},
    ]
    file = b"\n".join(json.dumps(row).encode() for row in rows) + b"\nbroken\n\n" + b'{"text": "last"}'
    with serving(house) as url:
        server = Server(url, "intake")
        first = list(submit(ndjson_rows(iter([file])), server, no_pause, batch=3))
        assert [(one["line"], one["status"]) for one in first] == [
            (1, 202), (2, 202), (3, 422), (4, 202), (5, 409), (6, 400), (8, 202),
        ]  # fmt: skip
        assert first[0]["receipt"] != first[1]["receipt"], "equal rows are rows of their own"
        assert list(submit(ndjson_rows(iter([file])), server, no_pause, batch=3)) == first
        assert house.rows() == 4
        assert list(submit(ndjson_rows(iter([file])), server, no_pause, patience=0)) == first
        table = io.StringIO("text,place.text,reporter.phone\n偷电缆,市场,13812345678\n,,\n,x,\n")
        assert [one["status"] for one in submit(csv_rows(table), server, no_pause)] == [202, 422]
        with pytest.raises(Rejected) as caught:
            list(submit(ndjson_rows(iter([file])), Server(url, "wrong"), no_pause))
        assert (caught.value.status, caught.value.slug) == (401, "unauthorized")
    with pytest.raises(Unavailable):
        list(submit(ndjson_rows(iter([file])), server, no_pause, patience=2))


@pytest.mark.parametrize(
    "url", ["", "localhost:8000", "ftp://x", "http://", "http://h:port", "http://h:99999", "http://["]
)
def test_submit_wants_a_url(url: str) -> None:
    with pytest.raises(ValueError, match="write it like"):
        Server(url, "t")


def test_submit_waits_for_room(tmp_path: Path) -> None:
    intake = SqliteIntake(tmp_path / "intake.db", max_bytes=200_000)
    house = House(intake)
    file = b"\n".join(json.dumps({"text": f"{n} " + "x" * 900}).encode() for n in range(700))
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        intake.limit_bytes(200_000 + 300_000 * len(pauses))

    with serving(house) as url:
        results = list(submit(ndjson_rows(iter([file])), Server(url, "intake"), pause))
    assert [one["status"] for one in results] == [202] * 700
    assert [one["line"] for one in results] == list(range(1, 701))
    assert house.rows() == 700
    assert pauses
    house.door.close()
    intake.close()


def test_submit_survives_lost_connections(tmp_path: Path) -> None:
    """A server that is shut in the middle and comes back: every row stored once."""
    intake = SqliteIntake(tmp_path / "intake.db")
    house = House(intake, Limits(per_second=1e9, burst=1e9, batch_lines=40))
    dropped: list[bool] = []
    app = house.app

    async def flaky(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and len(dropped) < 3:
            dropped.append(True)
            if len(dropped) == 2:  # stored, but the answer is lost
                await app(scope, receive, _nothing)
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"9")]})
            return  # the server closes the connection
        await app(scope, receive, send)

    async def _nothing(_message: Any) -> None:
        pass

    house.app = flaky  # type: ignore[assignment]
    file = b"\n".join(json.dumps({"text": f"{n}"}).encode() for n in range(100))
    with serving(house) as url:
        results = list(submit(ndjson_rows(iter([file])), Server(url, "intake"), no_pause))
    assert [one["status"] for one in results] == [202] * 100
    assert house.rows() == 100
    house.door.close()
    intake.close()


def test_concurrent_posts_over_the_network(house: House) -> None:
    """16 clients; each tip acknowledged is in the log, once."""
    import http.client

    def client(url: str, number: int, told: list[str]) -> None:
        link = http.client.HTTPConnection(url.removeprefix("http://"), timeout=30)
        for step in range(25):
            body = json.dumps({"text": "x", "message_id": f"{number % 8}-{step}"})
            link.request(
                "POST", "/v1/tips", body, {"authorization": "Bearer intake", "content-type": "application/json"}
            )
            response = link.getresponse()
            document = json.loads(response.read())
            assert response.status == 202
            told.append(document["tip_id"])
        link.close()

    told: list[str] = []
    with serving(house) as url:
        threads = [threading.Thread(target=client, args=(url, number, told)) for number in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(told) == 400
    assert {row.key for row in house.intake.read("anping", 0, 1000)} == set(told)
    assert house.rows() == 200


def test_nothing_identifying_reaches_a_file(tmp_path: Path) -> None:
    """Canaries in every field, then a search through every byte on the disk, plain and coded."""
    intake = SqliteIntake(tmp_path / "intake.db")
    house = House(intake)
    canaries = [f"139{n:08d}" for n in range(97, 100_000_000, 1_000_003)][:90]
    lines = []
    for number, canary in enumerate(canaries):
        name = f"金丝雀{number:04d}"
        lines.append(
            {
                "text": f"联系{canary[:3]} {canary[3:7]} {canary[7:]}",
                "place": {"text": f"市场 {canary}"},
                "reporter": {"id": name, "name": name, "phone": canary},
                "attachments": [{"url": f"https://x.example/{canary}", "name": f"{canary}.jpg"}],
            }
        )
    assert {line["status"] for line in batch(house, *lines).lines} == {202}
    disk = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    for canary in [*canaries, *(f"金丝雀{n:04d}" for n in range(90))]:
        spaced = f"{canary[:3]} {canary[3:7]} {canary[7:]}"
        for coded in (canary.encode(), spaced.encode(), canary.encode("utf-16-le"), canary.encode().hex().encode()):
            assert coded not in disk
        assert base64.b64encode(canary.encode())[:12] not in disk
    house.door.close()
    intake.close()


def test_a_closed_door_says_so(house: House) -> None:
    assert house.post({"text": "x"}).status == 202
    house.door.close()
    assert check_problem(house.post({"text": "x"}))["status"] == 503


# --- the description and the program say the same ---


def openapi() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(files("schemas").joinpath("openapi.yaml").read_text("utf-8"))
    return document


def test_the_description_is_openapi() -> None:
    validate(openapi())


@pytest.mark.parametrize("name", ["submission", "decision", "assignment"])
def test_the_description_repeats_the_schemas_word_for_word(name: str) -> None:
    own = {key: value for key, value in schema(name).items() if key not in ("$schema", "$id")}
    assert openapi()["components"]["schemas"][name.capitalize()] == own, f"copy json/{name}.v1.json into openapi.yaml"


def test_every_answer_of_the_door_is_described(house: House) -> None:
    paths = openapi()["paths"]
    for route in intake_routes(house.door):
        for method in (route.methods or set()) - {"HEAD"}:
            operation = paths[route.path][method.lower()]
            assert operation["x-roles"]
            assert {"401", "500", "503"} <= set(operation["responses"])
    assert set(paths["/v1/tips"]["post"]["x-roles"]) == POSTERS
    assert set(paths["/v1/tips/batch"]["post"]["x-roles"]) == POSTERS
    assert set(paths["/v1/tips/{tip_id}/decision"]["get"]["x-roles"]) == READERS
    statuses = {status for status, _ in [*NASTY.values(), *HEADERS.values()]} | {401, 403, 408, 429}
    assert {str(status) for status in statuses} <= set(paths["/v1/tips"]["post"]["responses"])
