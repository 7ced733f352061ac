"""Eight claimers, killed again and again: every item is settled, and settled once. And holders that are paused."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
from collections import Counter
from multiprocessing.process import BaseProcess

import pytest
from sqlalchemy import func, select

from sinks.database import open_database, reading, writing
from sinks.sink import apply_outputs
from sinks.tables import assignment_events, assignments
from tests.contracts.claimer import now_ms, work
from tests.contracts.made import COUNTY, HOUR, anping, decision
from tests.contracts.office import POLICE

_spawn = multiprocessing.get_context("forkserver")
_spawn.set_forkserver_preload(["tests.contracts.claimer", "sqlalchemy.dialects.sqlite", "psycopg"])


def _fill(url: str, items: int) -> None:
    now = now_ms()
    engine, county = open_database(url), anping()
    given = {"station": POLICE, "route_id": "police", "level": "township", "category": "theft", "subtype": "burglary"}
    made = [decision(f"t{n}", f"i{n}", received=now, due=now + HOUR, position=n, **given) for n in range(items)]
    for start in range(0, items, 500):
        with writing(engine) as connection:
            apply_outputs(connection, COUNTY, made[start : start + 500], now=now, county_config=county)
    engine.dispose()


def _resolved(url: str) -> int:
    engine = open_database(url)
    with reading(engine) as connection:
        found = connection.execute(select(func.count()).where(assignments.c.status == "resolved")).scalar_one()
    engine.dispose()
    return int(found)


def _start(url: str) -> BaseProcess:
    process = _spawn.Process(target=work, args=(url,), daemon=True)
    process.start()
    return process


def _run(url: str, *, items: int, kills: int) -> int:
    """Kills one claimer each time some more items are settled; returns how many kills hit a claimer at work."""
    _fill(url, items)
    pick, workers, hit = random.Random(items), [_start(url) for _ in range(8)], 0
    for number in range(kills):
        # Only after progress, so that the kills are spread over the whole run.
        while _resolved(url) < (number + 1) * items // (kills + 2):
            pass
        victim = pick.randrange(8)
        pid = workers[victim].pid
        if workers[victim].is_alive() and pid is not None:
            os.kill(pid, signal.SIGKILL)
            hit += 1
        workers[victim].join()
        workers[victim] = _start(url)
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    return hit


def _check(url: str, items: int) -> None:
    engine = open_database(url)
    with reading(engine) as connection:
        statuses = Counter(connection.execute(select(assignments.c.status)).scalars())
        settled = select(assignment_events.c.assignment_id).where(assignment_events.c.kind == "resolved")
        times = Counter(connection.execute(settled).scalars())
    engine.dispose()
    assert statuses == {"resolved": items}  # none lost
    assert len(times) == items and set(times.values()) == {1}  # none doubled


def test_eight_claimers_under_ten_kills_lose_and_double_nothing(database_url: str) -> None:
    assert _run(database_url, items=300, kills=10) >= 8
    _check(database_url, 300)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_eight_claimers_under_a_hundred_kills_lose_and_double_nothing(database_url: str) -> None:
    assert _run(database_url, items=3000, kills=100) >= 90
    _check(database_url, 3000)
