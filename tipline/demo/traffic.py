"""The day's traffic: groups, hotlines and bots that post at speed, repeats, hostile bodies, and a watch on the tables."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import msgspec

from schemas.times import DAY
from tipline.demo.day import Row
from tipline.demo.hostile import Attempt, try_all
from tipline.testing import Answer, Client, Ledger, Sender, Served

CLIENTS: Final = 6
#: Every so many-th row is delivered once more, as a group's robot does after a lost connection.
REPEATED: Final = 9
#: Of the repeats, so many-th comes with other words under the same message id.
CHANGED: Final = 15


class Clock:
    """The day's clock, run fast: a day in so many seconds."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._began = time.monotonic()

    def begin(self) -> None:
        """The day begins."""
        self._began = time.monotonic()

    @property
    def now(self) -> int:
        """Ms since the day's midnight."""
        return round((time.monotonic() - self._began) / self._seconds * DAY)

    def wait_for(self, at: int) -> None:
        """Sleeps until the day has come so far."""
        time.sleep(max(0.0, self._began + at / DAY * self._seconds - time.monotonic()))


class Crew:
    """Threads whose first error is raised where they are waited for."""

    def __init__(self) -> None:
        self._threads: list[threading.Thread] = []
        self._errors: list[BaseException] = []

    def add(self, name: str, work: Callable[[], None]) -> None:
        """Starts a thread."""

        def run() -> None:
            try:
                work()
            except BaseException as error:
                self._errors.append(error)

        thread = threading.Thread(target=run, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def check(self) -> None:
        """Raises the first error there was."""
        if self._errors:
            raise self._errors[0]

    @property
    def busy(self) -> bool:
        """Whether one still works."""
        return any(thread.is_alive() for thread in self._threads)

    def join(self) -> None:
        """Waits for all. Raises the first error."""
        for thread in self._threads:
            thread.join()
        self.check()


class Traffic:
    """Everything that is sent in the day, and what was answered."""

    def __init__(
        self,
        served: Served,
        rows: Sequence[Row],
        tokens: Mapping[str, str],
        ledger: Ledger,
        clock: Clock,
        dated: tuple[int, int],
    ) -> None:
        """`tokens` by source, and by role under `role:…`. `dated`: the day's midnight, and its offset in minutes."""
        self._served = served
        self._rows = rows
        self._tokens = tokens
        self._ledger = ledger
        self._clock = clock
        self._dated = dated
        self.crew = Crew()
        #: Row id -> the 202's body; moments and seconds of each 202.
        self.answers: dict[str, dict[str, Any]] = {}
        self.accepted: list[tuple[str, float, float]] = []
        self.refused: list[tuple[Attempt, int]] = []
        self.repeats = 0
        self.repeats_alike = 0
        self.conflicts: list[int] = []

    def start(self) -> None:
        """Lets everyone begin."""
        self._clock.begin()
        for lane in _lanes(self._rows):
            self.crew.add("poster", lambda lane=lane: self._post(lane))  # type: ignore[misc]
        self.crew.add("repeats", self._repeat)
        self.crew.add("hostile", self._attack)

    @property
    def done(self) -> int:
        """Rows that have their answer."""
        return len(self.answers)

    def _client(self, name: str) -> Client:
        return Client(self._served, self._tokens[name])

    def _post(self, rows: Sequence[Row]) -> None:
        clients = {row.source: self._client(row.source) for row in rows}
        sender = Sender(next(iter(clients.values())), self._ledger)
        try:
            for row in rows:
                self._clock.wait_for(row.at)
                answer = self._send(sender, clients[row.source], row)
                if answer.status != 202:
                    raise AssertionError(f"row {row.id} was refused: {answer.status} {answer.body.decode()[:300]}")
                self.answers[row.id] = answer.document
        finally:
            self.accepted += sender.accepted
            for client in clients.values():
                client.close()

    def _send(self, sender: Sender, client: Client, row: Row) -> Answer:
        submission = row.submission(*self._dated)
        if not row.source.startswith("bot:"):
            return sender.post(submission, client=client)
        # Machines speak CloudEvents.
        data = {key: value for key, value in submission.items() if key not in ("source", "message_id", "reported_at")}
        event = {"specversion": "1.0", "type": "tipline.submission.v1", "id": row.id, "source": row.source}
        body = msgspec.json.encode({**event, "time": submission["reported_at"], "data": data})
        return sender.post(submission, body, {"content-type": "application/cloudevents+json"}, client)

    def _repeat(self) -> None:
        chosen = [row for row in self._rows if not row.source.startswith("bot:")][::REPEATED]
        for number, row in enumerate(chosen):
            while row.id not in self.answers:
                self.crew.check()
                time.sleep(0.01)
            with self._client(row.source) as client:
                sender = Sender(client, self._ledger)
                submission = row.submission(*self._dated)
                answer = sender.post(submission)
                self.repeats += 1
                self.repeats_alike += answer.status == 202 and answer.document == self.answers[row.id]
                if number % CHANGED == 0:
                    self.conflicts.append(sender.post({**submission, "text": "换了说法"}).status)

    def _attack(self) -> None:
        names = {"intake": "bot:form", "station": "role:station", "statistician": "role:statistician"}
        self._clock.wait_for(DAY // 6)
        clients = {who: self._client(name) for who, name in names.items()}
        # A restart in the middle is no answer: what must be refused is asked again.
        self.refused = _insist(lambda: try_all(clients.__getitem__), self.crew.check)
        for client in clients.values():
            client.close()


def _insist(work: Callable[[], Any], check: Callable[[], None]) -> Any:
    from tipline.testing import Lost

    while True:
        try:
            return work()
        except Lost:
            check()
            time.sleep(0.05)


def _lanes(rows: Sequence[Row]) -> list[list[Row]]:
    """The rows for each client: a source stays with one, in the order of the day, and no client has much more than
    others."""
    by_source: dict[str, list[Row]] = {}
    for row in rows:
        by_source.setdefault(row.source, []).append(row)
    lanes: list[list[Row]] = [[] for _ in range(CLIENTS)]
    for group in sorted(by_source.values(), key=len, reverse=True):
        min(lanes, key=len).extend(group)
    return [sorted(lane, key=lambda row: row.at) for lane in lanes if lane]


class Watch:
    """Notes when each tip's decision, and with it its place on a queue, can be read: from outside, every few ms."""

    def __init__(self, database: Path, every: float = 0.004) -> None:
        self._database = database
        self._every = every
        self._stop = threading.Event()
        self.seen: dict[str, float] = {}
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends it."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        after = 0
        with closing(sqlite3.connect(f"file:{self._database}?mode=ro", uri=True, timeout=5)) as connection:
            stopped = False
            while not stopped:
                # What was written before the end is still read after it.
                stopped = self._stop.wait(self._every)
                query = "SELECT seq, tip_id, revision FROM decisions WHERE seq > ? ORDER BY seq"
                rows = connection.execute(query, (after,)).fetchall()
                now = time.monotonic()
                for seq, tip_id, revision in rows:
                    after = seq
                    if revision == 1:
                        self.seen[tip_id] = now

    def seconds(self, accepted: Sequence[tuple[str, float, float]]) -> list[float]:
        """From each 202 to its decision."""
        return [max(0.0, self.seen[tip] - at) for tip, at, _ in accepted if tip in self.seen]


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which the share lies; 0 without values."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0
