"""A whole installation in this process, driven step by step: the app that `serve` serves, its runtimes and its outbox.

No socket and no thread: `work` does what the threads would until nothing is left, so that a test decides what comes when.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from schemas.vocabulary import Role
from tests.acceptance.test_stations_api import Answer, Client
from tipline import serve
from tipline.commands.verify import check_store
from tipline.settings import load_settings
from tipline.store import Store, now_ms
from tipline.testing import Holder, make_tokens


class Town:
    """The installation, with `ahead` ms added to the clock."""

    def __init__(self, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ahead = 0
        monkeypatch.setattr(serve, "now_ms", lambda: now_ms() + self.ahead)
        self.data = data
        self.embedded = serve.Embedded(Store(load_settings({}, {"data": str(data), "rate": 1e6})))
        self.app = self.embedded.app()
        self.call = Client(self.app)
        self._tokens: dict[Holder, str] = {}
        self.work()

    def token(self, role: Role, *, source: str | None = None, station: str | None = None) -> str:
        holder = Holder(role, source, station)
        if holder not in self._tokens:
            (self._tokens[holder],) = make_tokens(self.data, [holder])
        return self._tokens[holder]

    def work(self) -> None:
        """Decides, sends and escalates until nothing is left to do."""
        self.embedded.service.tick(self.embedded.service.clock())
        while True:
            self.embedded.service.send_once()
            if not any([runtime.run_once() for runtime in self.embedded.runtimes]):
                return

    def close(self) -> None:
        """Ends it. Whatever was done, the store holds what it must."""
        self.work()
        report = check_store(self.embedded.store)
        self.embedded.stop()
        assert report.ok, report.findings

    # --- what people do ---------------------------------------------------------------------------------------------------

    def tip(self, text: str, source: str = "wechat:xiliangwa-3", **more: Any) -> dict[str, Any]:
        """Sends a tip and has it decided -> its decision."""
        sent = self.call("POST", "/v1/tips", self.token("admin"), {"text": text, "source": source, **more})
        assert sent.status == 202, sent
        self.work()
        return {**self.decision(sent.json["tip_id"]), "receipt": sent.json["receipt"]}

    def decision(self, tip_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.call("GET", f"/v1/tips/{tip_id}/decision", self.token("admin")).json
        return found

    def incident(self, incident_id: str, token: str | None = None) -> dict[str, Any]:
        found: dict[str, Any] = self.call("GET", f"/v1/incidents/{incident_id}", token or self.token("county")).json
        return found

    def correct(self, incident_id: str, action: str, token: str | None = None, **body: Any) -> Answer:
        """A correction by the county, of what it has just read."""
        who = token or self.token("county")
        path = f"/v1/incidents/{incident_id}"
        read = {"if-match": self.call("GET", path, who).headers["etag"]}
        return self.call("POST", f"{path}/{action}", who, {"reason": "看过了", **body}, headers=read)

    def queue(self, station: str, status: str = "open") -> list[str]:
        path = f"/v1/stations/{station}/assignments?status={status}"
        items = self.call("GET", path, self.token("county")).json["items"]
        return [item["incident_id"] for item in items if item["role"] == "holder"]

    def claim(self, station: str, **body: Any) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.call(
            "POST", f"/v1/stations/{station}/claim", self.token("station", station=station), body
        ).json["items"]
        return found

    def move(self, item: dict[str, Any], move: str, **body: Any) -> dict[str, Any]:
        """A move by the station that has the item, of what is so now."""
        path, who = f"/v1/assignments/{item['id']}", self.token("county")
        read = {"if-match": self.call("GET", path, who).headers["etag"]}
        answer = self.call("POST", f"{path}/{move}", who, body, headers=read)
        assert answer.status == 200, answer
        return dict(answer.json)

    def counts(self, by: str) -> dict[Any, tuple[int, int]]:
        rows = self.call("GET", f"/v1/statistics?by={by}", self.token("county")).json["rows"]
        return {row[by]: (row["tips"], row["incidents"]) for row in rows}
