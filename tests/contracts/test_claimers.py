"""Eight claimers, killed again and again: every item is settled, and settled once. And holders that are paused."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from collections import Counter
from multiprocessing.process import BaseProcess

import pytest
from sqlalchemy import select

from sinks.database import open_database, reading, writing
from sinks.sink import apply_outputs
from sinks.tables import assignment_events, assignments
from tests.contracts.claimer import now_ms, resolved, work
from tests.contracts.made import COUNTY, HOUR, anping, decision
from tests.contracts.office import POLICE

_spawn = multiprocessing.get_context("forkserver")
_spawn.set_forkserver_preload(["tests.contracts.claimer", "sqlalchemy.dialects.sqlite", "psycopg"])


def _fill(url: str, start: int, end: int) -> None:
    """Puts the items number `start` to `end` on the queue."""
    now = now_ms()
    engine, county = open_database(url), anping()
    given = {"station": POLICE, "route_id": "police", "level": "township", "category": "theft", "subtype": "burglary"}
    made = [decision(f"t{n}", f"i{n}", received=now, due=now + HOUR, position=n, **given) for n in range(start, end)]
    with writing(engine) as connection:
        apply_outputs(connection, COUNTY, made, now=now, county_config=county)
    engine.dispose()


def _start(url: str, total: int) -> BaseProcess:
    process = _spawn.Process(target=work, args=(url, total), daemon=True)
    process.start()
    return process


def _run(url: str, *, items: int, kills: int) -> None:
    """Kills a claimer at work each time some more items are settled. The last items come after the last kill, so that
    nobody has gone home before."""
    share = items // (kills + 1)
    _fill(url, 0, share)
    pick, workers, engine = random.Random(items), [_start(url, items) for _ in range(8)], open_database(url)
    for number in range(1, kills + 1):
        _fill(url, number * share, items if number == kills else (number + 1) * share)
        while resolved(engine) < number * share - share // 2:
            time.sleep(0.005)
        victim = pick.randrange(8)
        pid = workers[victim].pid
        assert workers[victim].is_alive() and pid is not None
        os.kill(pid, signal.SIGKILL)
        workers[victim].join()
        workers[victim] = _start(url, items)
    for worker in workers:
        worker.join(120)
        assert worker.exitcode == 0
    engine.dispose()


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
    _run(database_url, items=300, kills=10)
    _check(database_url, 300)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_eight_claimers_under_a_hundred_kills_lose_and_double_nothing(database_url: str) -> None:
    _run(database_url, items=3000, kills=100)
    _check(database_url, 3000)
