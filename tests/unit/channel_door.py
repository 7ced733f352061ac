"""A door over a real log, with the routes of a channel, called as a server calls them, without the network."""

from __future__ import annotations

import asyncio
import json
import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.routing import Route

from producers.http import Door, Limits
from producers.keyring import Keyring
from sinks.web import http_problem
from streams.embedded.intake import SqliteIntake
from streams.ports import Principal

NOW = 1_769_817_600_000
KEYRING = Keyring.create(os.urandom)

Pairs = Sequence[tuple[str, str]]


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


class Tokens:
    """Tokens by name."""

    known: ClassVar = {
        "bound": Principal("t-bound", "intake", source="open311:app", county="anping"),
        "free": Principal("t-free", "intake"),
        "station": Principal("t-station", "station", station="police-xiliangwa", county="anping"),
    }

    def principal(self, token: str) -> Principal | None:
        return self.known.get(token)


class House:
    """The door and a channel's routes. `now` is the clock."""

    def __init__(self, folder: Path, routes: Callable[[Door], list[Route]]) -> None:
        self.folder = folder
        self.intake = SqliteIntake(folder / "intake.db")
        self.now = NOW
        self.figures = Figures()
        self.statuses: dict[str, dict[str, Any]] = {}
        self.door = Door(
            self.intake, Tokens(), KEYRING, ["anping"], lambda: self.now, os.urandom, self.figures,
            lambda _: None, self.statuses.get, self.intake.lookup, Limits(per_second=1e9, burst=1e9),
        )  # fmt: skip
        self.routes = routes(self.door)
        self.app = Starlette(routes=self.routes, exception_handlers={HTTPException: http_problem})

    async def _call(self, method: str, path: str, query: str, body: bytes, headers: Pairs) -> Answer:
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "path": path,
            "raw_path": path.encode(), "query_string": query.encode(), "root_path": "", "scheme": "http",
            "server": ("test", 80), "client": ("test", 1),
            "headers": [(k.encode("latin-1"), v.encode("latin-1")) for k, v in headers],
        }  # fmt: skip
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        await self.app(scope, receive, send)
        head = {k.decode(): v.decode() for k, v in sent[0]["headers"]}
        return Answer(sent[0]["status"], head, b"".join(part.get("body", b"") for part in sent[1:]))

    def call(self, method: str, path: str, body: bytes = b"", headers: Pairs = (), query: str = "") -> Answer:
        return asyncio.run(self._call(method, path, query, body, headers))

    def tips(self) -> list[dict[str, Any]]:
        """What the log holds, in order."""
        return [json.loads(row.value) for row in self.intake.read("anping", 0, 10_000)]

    def refused(self, reason: str) -> int:
        return self.figures.counts["tipline_refused_total", reason]

    def close(self) -> None:
        self.door.close()
        self.intake.close()
