"""A process that claims and completes until nothing is left; the kill tests run eight of them."""

from __future__ import annotations

import time

from sqlalchemy import Engine, func, select

from sinks.database import reading
from sinks.tables import assignments
from stations.desk import Desk
from tests.contracts.made import COUNTY, anping
from tests.contracts.office import POLICE, Counted, station


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def resolved(engine: Engine) -> int:
    """How many are settled."""
    with reading(engine) as connection:
        found = connection.execute(select(func.count()).where(assignments.c.status == "resolved")).scalar_one()
    return int(found)


def work(url: str, total: int) -> None:
    """Claims up to three at a time for a second, and resolves each by its token, until all of `total` are resolved."""
    from schemas.errors import Rejected
    from sinks.database import open_database

    engine = open_database(url)
    desk, me = Desk(engine, {COUNTY: anping()}, Counted()), station(POLICE)
    while True:
        # No scan runs beside them: each ends the leases of the dead itself.
        items = desk.claim(me, POLICE, limit=3, lease_s=1, now=now_ms())
        if not items:
            if resolved(engine) == total:
                return
            time.sleep(0.01)
        for item in items:
            try:
                match = f'"{item["lease"]["token"]}"'
                desk.move(me, item["id"], "resolve", {"outcome": "settled"}, if_match=match, now=now_ms())
            except Rejected as error:
                assert error.status == 412, error  # the lease ran out while others had the processor
