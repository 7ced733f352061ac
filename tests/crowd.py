"""A crowd at a running service: four clients that post until they are told to stop, stations that work meanwhile."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

from schemas.times import DAY, SECOND, format_time
from tipline.commands.verify import check_store
from tipline.settings import load_settings
from tipline.store import Store, now_ms
from tipline.testing import Client, Ledger, Lost, Sender, Served, make_token
from tipline.verify import Report

CLIENTS = 4
#: Fixed for the run, so that a message sent again has the same content.
EIGHTY_DAYS_AGO = now_ms() - 80 * DAY
QUALITY = Path(__file__).parent / "quality"
TEXTS = [
    json.loads(line)
    for name in ("group-a.jsonl", "group-b.jsonl")
    for line in QUALITY.joinpath(name).read_text("utf-8").splitlines()
]


class Crowd:
    """Four clients that post until they are told to stop, and stations that work meanwhile."""

    def __init__(self, served: Served, folder: Path, stations: bool = False) -> None:
        self.served = served
        self.ledger = Ledger(folder / "ledger.ndjson")
        self._stop = threading.Event()
        self.settled = 0
        self._numbers = count()
        self.errors: list[BaseException] = []
        self._threads = [self._thread(self._post, n, make_token(served.data, "intake")) for n in range(CLIENTS)]
        if stations:
            self._threads.append(self._thread(self._work, make_token(served.data, "county")))

    def _thread(self, work: Callable[..., None], *arguments: Any) -> threading.Thread:
        def run() -> None:
            try:
                work(*arguments)
            except BaseException as error:
                self.errors.append(error)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        return thread

    @property
    def accepted(self) -> int:
        return self.ledger.counts["ok"]

    def wait_for(self, more: int, seconds: float = 60) -> None:
        """Until so many more are accepted."""
        wanted, end = self.accepted + more, time.monotonic() + seconds
        while self.accepted < wanted:
            assert not self.errors, self.errors
            assert time.monotonic() < end, f"{self.accepted} accepted, {wanted} awaited\n{self.served.log_end()}"
            time.sleep(0.002)

    def working(self) -> bool:
        """Whether every client is still at it: a kill that nobody felt is none."""
        return all(thread.is_alive() for thread in self._threads) and not self._stop.is_set()

    def finish(self) -> None:
        """Lets each get its last answer."""
        self._stop.set()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive()
        assert not self.errors, self.errors

    def _post(self, client: int, token: str) -> None:
        source = f"wechat:xiliangwa-{client}"
        with Client(self.served, token, timeout=10) as link:
            sender = Sender(link, self.ledger)
            while not self._stop.is_set():
                sender.post(tip(next(self._numbers), source))

    def _work(self, token: str) -> None:
        queues = ["county-triage", "police-county", *(f"police-{place}" for place in ("anping", "xiliangwa", "madian"))]
        with Client(self.served, token, timeout=10) as client:
            for turn in count():
                if self._stop.wait(0.02):
                    return
                try:
                    self._settle(client, queues[turn % len(queues)])
                except Lost:
                    time.sleep(0.05)

    def _settle(self, client: Client, station: str) -> None:
        claimed = client.send(f"/v1/stations/{station}/claim", {"limit": 2, "lease_s": 60})
        for item in claimed.document["items"] if claimed.status == 200 else []:
            path = f"/v1/assignments/{item['id']}"
            taken = client.send(f"{path}/acknowledge", {}, {"if-match": f'"{item["lease"]["token"]}"'})
            if taken.status == 200:
                body, version = {"outcome": "settled", "text": "办结"}, {"if-match": f'"{taken.document["revision"]}"'}
                self.settled += client.send(f"{path}/resolve", body, version).status == 200


def tip(number: int, source: str) -> dict[str, Any]:
    """One of many tips: natural texts, each round of them five days after the one before."""
    turn, index = divmod(number, len(TEXTS))
    told = TEXTS[index]
    at = EIGHTY_DAYS_AGO + turn % 16 * 5 * DAY + index * 600 * SECOND
    place = {"place": {"text": told["place_text"]}} if told["place_text"] else {}
    reporter = {"id": f"v{number % 97}", "phone": "13800138127"}
    reported_at = format_time(at, 480)
    return {"text": told["text"], "source": source, "message_id": f"m{number}", "reported_at": reported_at, "reporter": reporter, **place}  # fmt: skip


def settle(served: Served, seconds: float = 60) -> None:
    """Until everything accepted is decided."""
    end = time.monotonic() + seconds
    with Client(served, make_token(served.data, "ops")) as client:
        while b'tipline_lag_records{county="anping"} 0.0' not in client.get("/metrics").body:
            assert time.monotonic() < end, served.log_end()
            time.sleep(0.05)


def checked(data: Path, ledger: Path, **options: Any) -> Report:
    """The report of `verify`, which must have found nothing."""
    store = Store(load_settings({}, {"data": str(data)}), create=False)
    try:
        report = check_store(store, ledger=ledger, **options)
    finally:
        store.close()
    assert report.ok, report.findings
    return report
