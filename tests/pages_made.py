"""The real service with its pages on a port of its own, for tests that look at pages as people do."""

from __future__ import annotations

import dataclasses
import http.client
import re
import secrets
import socket
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import msgspec
import uvicorn

from schemas.times import MINUTE
from schemas.vocabulary import CATEGORIES
from sinks.database import writing
from sinks.tables import assignments
from sinks.tokens import create
from stations.pages.accounts import create_user
from streams.ports import Principal
from tipline.serve import Embedded
from tipline.settings import load_settings
from tipline.store import Store, now_ms


class Answer(msgspec.Struct):
    """One answer of the service."""

    status: int
    headers: dict[str, str]
    cookies: dict[str, str]
    text: str

    @property
    def form_token(self) -> str:
        return field(self.text, "form_token")


def field(html: str, name: str) -> str:
    """The value of a page's first field of this name."""
    found = re.search(rf'name="{name}" value="([^"]*)"', html)
    assert found is not None, f"no field {name}"
    return found.group(1)


class Browser:
    """A browser without a script: cookies, links and forms, nothing else."""

    def __init__(self, port: int, lang: str = "zh") -> None:
        self._port = port
        self.cookies: dict[str, str] = {}
        self.lang = lang

    def ask(self, method: str, path: str, body: str | None = None, headers: dict[str, str] | None = None) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        sent = {"accept-language": self.lang, **(headers or {})}
        if self.cookies:
            sent["cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        if body is not None:
            sent.setdefault("content-type", "application/x-www-form-urlencoded")
        connection.request(method, path, body, sent)
        got = connection.getresponse()
        raw = got.read()
        headers_ = {name.lower(): value for name, value in got.getheaders()}
        set_ = [value for name, value in got.getheaders() if name.lower() == "set-cookie"]
        connection.close()
        fresh = {}
        for value in set_:
            name, _, rest = value.partition("=")
            fresh[name] = value
            kept = rest.split(";")[0].strip('"')
            self.cookies[name] = kept
            if not kept:
                del self.cookies[name]
        return Answer(got.status, headers_, fresh, raw.decode("utf-8", "replace"))

    def get(self, path: str, **headers: str) -> Answer:
        return self.ask("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})

    def post(self, path: str, fields: dict[str, str], **headers: str) -> Answer:
        return self.ask("POST", path, urlencode(fields), {n.replace("_", "-"): v for n, v in headers.items()})

    def follow(self, answer: Answer) -> Answer:
        """Where a form leads to."""
        assert answer.status == 303, (answer.status, answer.text[:2000])
        return self.get(answer.headers["location"])

    def log_in(self, token: str) -> Answer:
        page = self.get("/login")
        return self.post("/login", {"form_token": page.form_token, "token": token})


class House:
    """The running service; `path` must be a fresh directory."""

    def __init__(self, path: Path) -> None:
        self.store = Store(load_settings({}, {"data": str(path)}))
        self.embedded = Embedded(self.store)
        self.county = next(iter(self.embedded.counties.values()))
        self.pages = dataclasses.replace(self.embedded.pages, report_burst=1000)  # all reports come from here
        self.embedded.pages = self.pages
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        config = uvicorn.Config(
            self.embedded.app(), log_level="warning", access_log=False, lifespan="off", timeout_graceful_shutdown=2
        )
        self._server = uvicorn.Server(config)
        self._server.capture_signals = _no_signals  # type: ignore[method-assign]
        self._thread = threading.Thread(target=self._server.run, args=([self._listener],), daemon=True)

    def start(self) -> None:
        self.embedded.start()
        self._thread.start()

    def stop(self) -> None:
        self.embedded.service.close_streams()
        self._server.should_exit = True
        self._thread.join(15)
        self.embedded.stop()

    # --- for the tests

    def token(self, role: str, station: str | None = None, source: str | None = None, label: str | None = None) -> str:
        principal = Principal("", role, source=source, station=station, county=self.county.id)  # type: ignore[arg-type]
        with writing(self.store.engine) as connection:
            return create(connection, entropy=secrets.token_bytes(40), principal=principal, now=now_ms(), label=label)

    def user(self, name: str, password: str, role: str, station: str | None = None) -> str:
        principal = Principal("", role, station=station, county=self.county.id)  # type: ignore[arg-type]
        with writing(self.store.engine) as connection:
            return create_user(
                connection, name=name, password=password, principal=principal, entropy=secrets.token_bytes, now=now_ms()
            )

    def tell(self, text: str, **more: Any) -> str:
        """Submits a tip as a channel does and waits for its decision -> the incident's id."""
        import asyncio

        principal = Principal("t", "intake", source="wechat:xiliangwa-3", county=self.county.id)
        submission = {"text": text, "message_id": secrets.token_hex(8), **more}
        accepted = asyncio.run_coroutine_threadsafe(self.pages.take(submission, principal), self._loop()).result(30)
        return str(self.until(lambda: self.embedded.decision_of(accepted["tip_id"]))["incident_id"])

    def tell_all(self, submissions: list[dict[str, Any]], source: str) -> None:
        """Submits many at once and waits until the last is decided."""
        import asyncio

        principal = Principal("t", "intake", source=source, county=self.county.id)

        async def all_of_them() -> list[str]:
            taken = [self.pages.take({"message_id": secrets.token_hex(8), **one}, principal) for one in submissions]
            return [accepted["tip_id"] for accepted in await asyncio.gather(*taken)]

        for tip_id in asyncio.run_coroutine_threadsafe(all_of_them(), self._loop()).result(60):
            self.until(lambda tip_id=tip_id: self.embedded.decision_of(tip_id))  # type: ignore[misc]

    def fill_queue(self, station: str, titles: Sequence[str]) -> None:
        """Open items on a station's queue that no tip made: for what a queue looks like, not for work on it."""
        now, rows = self.pages.clock(), []
        for number, title in enumerate(titles):
            identity, urgent = str(uuid.uuid4()), number % 50 == 0
            rows.append({
                "id": identity, "incident_id": identity, "county": self.county.id, "station": station, "status": "open", "level": "township",
                "category": CATEGORIES[number % 5], "subtype": None, "urgent": urgent, "area": f"{self.county.id}/nanwangzhuang", "title": title,
                "corroborations": 1, "route_id": "r", "dispatched_at": now, "since": now, "clock": "claim", "due_at": now + MINUTE * (number + 600),
                "overdue": False, "wake_at": now + 10**9, "revision": 1, "events": 0, "returns": 0, "returned_by": "", "touched": False, "rank": 0 if urgent else 1,
            })  # fmt: skip
        with writing(self.store.engine) as connection:
            connection.execute(assignments.insert(), rows)

    def _loop(self) -> Any:
        import asyncio

        if not hasattr(self, "_own_loop"):
            self._own_loop = asyncio.new_event_loop()
            threading.Thread(target=self._own_loop.run_forever, daemon=True).start()
        return self._own_loop

    def until(self, question: Callable[[], Any], seconds: float = 60) -> Any:
        """Asks until the answer is truthy."""
        wait, deadline = threading.Event(), now_ms() + seconds * 1000
        while not (found := question()):
            assert now_ms() < deadline, ("it never happened", self.embedded.fatal)
            wait.wait(0.01)
        return found

    def browser(self, lang: str = "zh") -> Browser:
        return Browser(self.port, lang)


@contextmanager
def _no_signals() -> Iterator[None]:
    yield


@contextmanager
def living(path: Path) -> Iterator[House]:
    """A house, started and stopped."""
    house = House(path)
    house.start()
    try:
        yield house
    finally:
        house.stop()


def login_path(path: str) -> str:
    """Where a page sends those who are not logged in."""
    return "/login?next=" + quote(path, safe="")
