"""A stations' office for tests: desk, incidents and clock over one database, time by hand."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
from sqlalchemy import Engine, select

from schemas.codec import decode_input
from schemas.records import Decision, Input
from sinks.database import open_database, reading, writing
from sinks.sink import apply_outputs
from sinks.station_queue import assignment_id
from sinks.tables import assignment_events, assignments, outbox
from stations.desk import Desk
from stations.escalate import escalate
from stations.incidents import Incidents
from streams.ports import MetricName, Principal
from streams.stages.county import County
from tests.contracts.made import COUNTY, START, ident

LIUCHU = "village-xiliangwa-liuchu"
MEDIATION = "mediation-xiliangwa"
POLICE = "police-xiliangwa"


class Counted:
    """`streams.ports.Metrics` that remembers its counters."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, tuple[tuple[str, str], ...]]] = Counter()

    def count(self, name: MetricName, amount: float = 1, **labels: str) -> None:
        self.counts[name, tuple(sorted(labels.items()))] += int(amount)

    def observe(self, name: MetricName, value: float, **labels: str) -> None:
        """Not looked at."""

    def gauge(self, name: MetricName, value: float, **labels: str) -> None:
        """Not looked at."""


def station(name: str) -> Principal:
    return Principal(token_id=f"token-{name}", role="station", station=name, county=COUNTY)


OFFICER = Principal(token_id="token-county", role="county", county=COUNTY)


class Office:
    """Everything a station does, with `now` advanced by hand."""

    def __init__(self, url: str, county: County, now: int = START) -> None:
        self.url, self.county, self.now = url, county, now
        self.metrics = Counted()
        self.engine: Engine = open_database(url)
        self.restart()

    def restart(self) -> None:
        """Forgets everything that is not in the database."""
        self.engine.dispose()
        self.engine = open_database(self.url)
        self.desk = Desk(self.engine, {COUNTY: self.county}, self.metrics)
        self.incidents = Incidents(self.desk)

    def close(self) -> None:
        self.engine.dispose()

    # --- what happens
    # ---------------------------------------------------------------------------------------------------

    def decide(self, *decisions: Decision) -> None:
        with writing(self.engine) as connection:
            apply_outputs(connection, COUNTY, decisions, now=self.now, county_config=self.county)

    def tick(self, now: int | None = None) -> int:
        """Settles all that is due; returns how many events that made."""
        self.now = self.now if now is None else now
        total = 0
        while events := escalate(self.engine, self.desk.ladders, self.metrics, now=self.now).events:
            total += len(events)
        return total

    def claim(self, name: str, limit: int = 1, **terms: Any) -> list[dict[str, Any]]:
        return self.desk.claim(station(name), name, limit=limit, now=self.now, **terms)

    def move(
        self, incident: str, move: Any, *, by: Principal | None = None, match: str | None = "", **body: Any
    ) -> dict[str, Any]:
        """A move on the incident's assignment, by its station and with the right If-Match unless told otherwise."""
        row = self.row(incident)
        if match == "":
            match = f'"{row["lease_token"] if row["status"] == "claimed" else row["revision"]}"'
        who = by or station(row["station"])
        return self.desk.move(who, row["id"], move, body or None, if_match=match, now=self.now)

    def correct(self, incident: str, action: Any, *, by: Principal = OFFICER, **body: Any) -> dict[str, Any]:
        tag = self.incidents.get(OFFICER, ident(incident)).etag
        return self.incidents.correct(by, ident(incident), action, body, if_match=tag, now=self.now)

    # --- what is so
    # -----------------------------------------------------------------------------------------------------

    def row(self, incident: str) -> dict[str, Any]:
        with reading(self.engine) as connection:
            wanted = select(assignments).where(assignments.c.id == assignment_id(ident(incident)))
            return dict(connection.execute(wanted).mappings().one())

    def history(self, incident: str) -> list[dict[str, Any]]:
        with reading(self.engine) as connection:
            wanted = select(assignment_events).where(assignment_events.c.incident_id == ident(incident))
            rows = connection.execute(wanted.order_by(assignment_events.c.number)).mappings()
            return [{**row, "data": msgspec.json.decode(row["data"])} for row in rows]

    def kinds(self, incident: str) -> list[str]:
        return [event["kind"] for event in self.history(incident)]

    def sent(self, kind: str = "input") -> list[Input]:
        """What waits in the outbox."""
        with reading(self.engine) as connection:
            values = connection.execute(select(outbox.c.value).where(outbox.c.kind == kind).order_by(outbox.c.id))
            return [decode_input(value) for value in values.scalars()]
