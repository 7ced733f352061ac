"""A process that claims and completes until nothing is left; the kill tests run eight of them."""

from __future__ import annotations

import time

from stations.desk import Desk
from stations.escalate import escalate
from stations.ladder import Ladders
from tests.contracts.made import COUNTY, anping
from tests.contracts.office import POLICE, Counted, station


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def work(url: str) -> None:
    """Claims up to three at a time for a second, and resolves each by its token."""
    from schemas.errors import Rejected
    from sinks.database import open_database

    engine, county, metrics = open_database(url), anping(), Counted()
    desk, ladders, me = Desk(engine, {COUNTY: county}, metrics), {COUNTY: Ladders(county)}, station(POLICE)
    while True:
        escalate(engine, ladders, metrics, now=now_ms())
        items = desk.claim(me, POLICE, limit=3, lease_s=1, now=now_ms())
        if not items and not desk.listed(me, POLICE, statuses=["open", "claimed"], limit=1).items:
            return
        for item in items:
            try:
                match = f'"{item["lease"]["token"]}"'
                desk.move(me, item["id"], "resolve", {"outcome": "settled"}, if_match=match, now=now_ms())
            except Rejected as error:
                assert error.status == 412, error  # the lease ran out while others had the processor
