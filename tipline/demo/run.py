"""One run of the demo: start, send, kill, work, stop, check."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

from schemas.errors import TiplineError
from schemas.times import DAY, HOUR, MINUTE, parse_offset
from tipline.demo.day import Row, identities, read_day, read_now
from tipline.demo.examples import Outcome, Seen, judge
from tipline.demo.traffic import Clock, Traffic, Watch
from tipline.demo.work import Stations
from tipline.settings import load_settings
from tipline.store import Store, now_ms
from tipline.testing import Client, Holder, Ledger, Sender, Served, make_tokens
from tipline.verify import Report

#: Seconds that the day's twenty-four hours take.
SECONDS: Final = 9.0
#: The hour of the day at which the service is killed.
KILLED_AT: Final = 10 * HOUR + 40 * MINUTE
ROLES: Final = ("county", "hotline", "ops", "statistician", "admin")


#: What verify says of things that are there twice.
_TWICE: Final = frozenset(
    {
        "the same tip stands in the log twice",
        "the same (source, message_id) was accepted twice",
        "one message was answered with several tip_ids",
        "several open for one incident",
    }
)


class DemoFailed(TiplineError):
    """The demo could not be run to its end; the message says what stood in the way."""


class Figures(msgspec.Struct, frozen=True):
    """What the clients saw: counts and seconds."""

    sent: int
    accepted: int
    redelivered: int
    redelivered_alike: int
    conflicts: int
    refused: int
    refused_wrongly: tuple[str, ...]
    #: Answers that never came, because of the kill; each was asked for again.
    unknown: int
    killed_at: int
    restart_seconds: float
    #: Seconds outside the outage; those that the outage fell into stand apart.
    accept_seconds: tuple[float, ...]
    queue_seconds: tuple[float, ...]
    across_seconds: tuple[float, ...]
    moves: dict[str, int]
    moves_refused: tuple[str, ...]
    seconds: float


class Result(msgspec.Struct, frozen=True):
    """A run: its rows, what was decided, what the queues hold, what was checked."""

    midnight: int
    offset_minutes: int
    bundle: dict[str, Any]
    rows: tuple[Row, ...]
    seen: Seen
    figures: Figures
    report: Report
    outcomes: tuple[Outcome, ...]

    @property
    def lost(self) -> int:
        """Accepted tips that are nowhere, by any account."""
        return sum(f.count for f in self.report.findings if f.check in ("accepted", "ledger") and f.what not in _TWICE)

    @property
    def doubled(self) -> int:
        """Tips that are there twice, and incidents that are on two queues."""
        return sum(f.count for f in self.report.findings if f.what in _TWICE)

    @property
    def faults(self) -> list[str]:
        """All that does not hold, in words; empty for a run that is well."""
        figures = self.figures
        found = [f"verify: {f.check}: {f.where}: {f.what} ({f.count})" for f in self.report.findings]
        found += [f"example {o.id}: not so: {missed}" for o in self.outcomes for missed in o.missed]
        found += [f"hostile body: {words}" for words in figures.refused_wrongly]
        found += [f"a station's move was refused: {words}" for words in figures.moves_refused]
        if figures.accepted != figures.sent:
            found.append(f"{figures.sent - figures.accepted} tips have no answer")
        if figures.redelivered_alike != figures.redelivered:
            found.append(f"{figures.redelivered - figures.redelivered_alike} repeats were answered otherwise")
        return found


class Access(msgspec.Struct, frozen=True):
    """How to reach the service while it stays up, and what came in just now."""

    url: str
    tokens: dict[str, str]
    now: tuple[Row, ...]


class Steps:
    """What the run tells whoever watches: a step begins, with so much to do; one thing is done."""

    def step(self, title: str, total: int | None = None) -> None:
        """A new step."""

    def advance(self) -> None:
        """One thing of the step is done."""

    def reach(self, done: int) -> None:
        """So many things of the step are done."""

    def say(self, words: str) -> None:
        """Something worth a line."""

    def finish(self) -> None:
        """No more steps follow."""


class Demo:
    """The demo in a directory. `run`, perhaps `serve_again`, always `close`."""

    def __init__(self, folder: Path, steps: Steps) -> None:
        self._folder = folder
        self._steps = steps
        self.data = folder / "data"
        self.served = Served(self.data, {"TIPLINE_RATE": "5000", "TIPLINE_LOG_LEVEL": "warning"})
        self._ledger = Ledger(folder / "ledger.ndjson")
        self._store = Store(load_settings({}, {"data": str(self.data)}))
        self.tokens: dict[str, str] = {}

    def close(self) -> None:
        """Ends the service, whatever it is doing."""
        self.served.close()
        self._store.close()

    def run(self) -> Result:
        """The whole day, checked. Raises NotReady or DemoFailed."""
        began = time.monotonic()
        bundle = self._store.bundles()[0]
        offset = parse_offset(bundle["county"]["utc_offset"])
        rows = read_day()
        midnight = _yesterday(now_ms(), offset)
        self._steps.step("启动 starting the service")
        self.served.start()
        self.tokens = self._make_tokens(rows, bundle)
        watch = Watch(self.data / "work.db")
        try:
            clock = Clock(SECONDS)
            traffic = Traffic(self.served, rows, self.tokens, self._ledger, clock, (midnight, offset))
            outage = self._send(traffic, clock, len(rows))
            self._wait_until_decided(traffic.done)
        finally:
            watch.stop()
        stations = self._work(bundle)
        self._wait_until_decided(traffic.done)
        self._steps.step("停机核对 stopping, then checking everything")
        if self.served.stop() != 0:
            raise DemoFailed(f"the service did not end in order:\n{self.served.log_end()}")
        report = self._verify(rows)
        seen = self._look(rows, traffic)
        unknown, took = self._ledger.counts["unknown"], time.monotonic() - began
        figures = _figures(rows, traffic, watch, stations, (outage, unknown, took))
        outcomes = judge(seen)
        return Result(midnight, offset, bundle, tuple(rows), seen, figures, report, tuple(outcomes))

    def serve_again(self) -> Access:
        """Up again with the day's data, to look around. The day was yesterday: what is reported now is not about it any more, so a few tips of
        the present hour come in, for the desk to recognise and for clocks that run. They are no part of what was checked."""
        self.served.start()
        rows, offset = read_now(), parse_offset(self._store.bundles()[0]["county"]["utc_offset"])
        for row in rows:
            with Client(self.served, self.tokens[row.source]) as client:
                Sender(client, self._ledger).post(row.submission(now_ms() - HOUR, offset))
        self._wait_until_decided(len(rows))
        shown = {role: self.tokens[f"role:{role}"] for role in ROLES}
        return Access(
            self.served.url,
            {"station (police-anping)": self.tokens["police-anping"]}
            | shown
            | {"intake (web:public)": self.tokens["web:public"]},
            tuple(rows),
        )

    def _make_tokens(self, rows: list[Row], bundle: Mapping[str, Any]) -> dict[str, str]:
        stations = [station["id"] for station in bundle["stations"]["stations"]]
        holders: dict[str, Holder] = {}
        for source in dict.fromkeys(row.source for row in rows):
            role = "hotline" if source.startswith("hotline:") else "intake"
            holders[source] = Holder(role, source=source)  # type: ignore[arg-type]
        holders |= {station: Holder("station", station=station) for station in stations}
        holders["role:station"] = Holder("station", station="police-anping")
        holders |= {f"role:{role}": Holder(role) for role in ROLES}
        return dict(zip(holders, make_tokens(self.data, list(holders.values())), strict=True))

    def _send(self, traffic: Traffic, clock: Clock, total: int) -> tuple[float, float]:
        """Lets the day happen, with a SIGKILL in its middle -> the moments of the kill and of being ready again."""
        self._steps.step("发送一天的线索 a day's tips, at speed", total)
        traffic.start()
        while clock.now < KILLED_AT:
            self._pause(traffic)
        killed = time.monotonic()
        self.served.kill()
        self._steps.say("SIGKILL：服务进程被强行杀死 · the service was killed in mid-traffic")
        restart = self.served.start()
        back = time.monotonic()
        self._steps.say(f"{restart:.1f} 秒后恢复，客户端继续 · back after {restart:.1f} s, the clients go on")
        while traffic.crew.busy:
            self._pause(traffic)
        traffic.crew.join()
        self._steps.reach(traffic.done)
        return killed, back

    def _pause(self, traffic: Traffic) -> None:
        time.sleep(0.02)
        traffic.crew.check()
        self._steps.reach(traffic.done)

    def _wait_until_decided(self, seconds: float) -> None:
        """Until no record waits for its decision; `seconds` is the longest that may take."""
        end = time.monotonic() + max(20.0, seconds / 10)
        with Client(self.served, self.tokens["role:ops"]) as client:
            while b'tipline_lag_records{county="anping"} 0.0' not in client.get("/metrics").body:
                if time.monotonic() > end:
                    raise DemoFailed(f"tips still wait for their decision:\n{self.served.log_end()}")
                time.sleep(0.03)

    def _work(self, bundle: Mapping[str, Any]) -> Stations:
        names = [station["id"] for station in bundle["stations"]["stations"]]
        self._steps.step("各站点处置 the stations at work", len(names))
        stations = Stations(self.served, self.tokens, self._steps.advance)
        stations.run(names)
        return stations

    def _verify(self, rows: list[Row]) -> Report:
        from tipline.commands.verify import check_store

        canaries = self._folder / "canaries.txt"
        canaries.write_text("\n".join(identities(rows)), "utf-8")
        try:
            return check_store(self._store, ledger=self._ledger.path, canary=canaries)
        finally:
            canaries.unlink()

    def _look(self, rows: list[Row], traffic: Traffic) -> Seen:
        with _tables(self._store) as (decided, queue):
            by_tip = {traffic.answers[row.id]["tip_id"]: row.id for row in rows if row.id in traffic.answers}
            return Seen({by_tip[tip]: decision for tip, decision in decided.items() if tip in by_tip}, queue)


@contextmanager
def _tables(store: Store) -> Iterator[tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]]]]:
    """(latest decision by tip, queue item by incident) as consumers see them."""
    from sqlalchemy import select

    from schemas.codec import decode_output
    from schemas.records import Decision, public
    from sinks.database import reading
    from sinks.tables import assignments, decisions

    with reading(store.engine) as connection:
        decided: dict[str, dict[str, Any]] = {}
        for value in connection.execute(select(decisions.c.value).order_by(decisions.c.seq)).scalars():
            output = decode_output(value)
            if isinstance(output, Decision):
                decided[output.tip_id] = public(output)
        queue = {row["incident_id"]: dict(row) for row in connection.execute(select(assignments)).mappings()}
        yield decided, queue


def _yesterday(now: int, offset_minutes: int) -> int:
    """Midnight at the beginning of the day before, local time."""
    offset = offset_minutes * MINUTE
    return (now + offset) // DAY * DAY - offset - DAY


def _figures(
    rows: list[Row], traffic: Traffic, watch: Watch, stations: Stations, told: tuple[tuple[float, float], int, float]
) -> Figures:
    (killed, back), unknown, seconds = told
    # An answer or a decision that the outage fell into says how long the restart took, not how quick the service is.
    accepts = [took for _, at, took in traffic.accepted if at < killed or at - took > back]
    waits = [(at, seen) for tip, at, _ in traffic.accepted if (seen := watch.seen.get(tip)) is not None]
    across = [max(0.0, seen - at) for at, seen in waits if at < back and seen > killed]
    wrong = tuple(f"{a.name}: {status}, not {a.status}" for a, status in traffic.refused if status != a.status)
    wrong += tuple(f"other words under a known message_id: {s}, not 409" for s in traffic.conflicts if s != 409)
    first = {body["tip_id"] for body in traffic.answers.values()}
    return Figures(
        sent=len(rows),
        accepted=len(first),
        redelivered=traffic.repeats,
        redelivered_alike=traffic.repeats_alike,
        conflicts=len(traffic.conflicts),
        refused=len(traffic.refused),
        refused_wrongly=wrong,
        unknown=unknown,
        killed_at=KILLED_AT,
        restart_seconds=back - killed,
        accept_seconds=tuple(accepts),
        queue_seconds=tuple(max(0.0, seen - at) for at, seen in waits if at >= back or seen <= killed),
        across_seconds=tuple(across),
        moves=dict(stations.moves),
        moves_refused=tuple(stations.refused),
        seconds=seconds,
    )


def everything(folder: Path, steps: Steps, after: Callable[[Demo, Result], None]) -> Result:
    """A run whose service is ended whatever happens; `after` may still use it."""
    demo = Demo(folder, steps)
    try:
        result = demo.run()
        after(demo, result)
        return result
    finally:
        demo.close()
