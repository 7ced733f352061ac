"""What the figures stand on: the machine, and a loop of plain work timed beside each measurement.

A figure by itself says more about the machine and its neighbours than about the code. So each is a ratio of two things in
one run, or stands beside the calibration: how many rounds of the same plain Python loop this core did just then.
"""

from __future__ import annotations

import json
import os
import platform
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple


class Figure(NamedTuple):
    """One line of the table: what, how much, and the aim it is held against (empty: none)."""

    what: str
    value: str
    aim: str = ""
    held: bool | None = None


def calibrate(seconds: float = 0.3) -> float:
    """Thousands of rounds a second of a fixed loop: small dictionaries, strings, JSON. One core, nothing of ours."""
    rounds, end = 0, time.perf_counter() + seconds
    began = time.perf_counter()
    while time.perf_counter() < end:
        for n in range(50):
            made = {"n": n, "text": "线索" * 4, "list": [n, n + 1]}
            json.loads(json.dumps(made))["text"].encode()
        rounds += 50
    return rounds / (time.perf_counter() - began) / 1000


def machine() -> list[Figure]:
    """The machine in a few lines."""
    model = next(
        (
            line.split(":", 1)[1].strip()
            for line in _lines("/proc/cpuinfo")
            if line.startswith(("model name", "Hardware"))
        ),
        platform.processor() or platform.machine(),
    )
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return [
        Figure("machine", f"{os.cpu_count()} cores, {model}"),
        Figure("software", f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, {platform.system()} {platform.release()}"),
        Figure("load before", load),
    ]  # fmt: skip


def _lines(path: str) -> Sequence[str]:
    try:
        return Path(path).read_text("utf-8", "replace").splitlines()
    except OSError:
        return ()


def sync_ms(times: int = 200) -> float:
    """Median ms of one SQLite commit with synchronous=FULL in WAL mode: what a durable answer costs here at least."""
    with tempfile.TemporaryDirectory() as folder:
        connection = sqlite3.connect(Path(folder) / "sync.db", isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("CREATE TABLE t (value BLOB)")
        taken = [timed(lambda: connection.execute("INSERT INTO t VALUES (zeroblob(700))")) for _ in range(times)]
        connection.close()
    return statistics.median(taken) * 1000


def timed(work: Callable[[], object]) -> float:
    """Seconds that the work took."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which the share lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
