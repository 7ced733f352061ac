"""The whole HTTP side of a distributed installation: the door over a spool, the stations' API and the clocks over the database."""

from __future__ import annotations

import logging
import threading
from typing import Any

from sqlalchemy import select

from producers.hooks import FILE_NAME, HookFile
from producers.http import Door, Limits
from schemas.codec import decode_input
from schemas.errors import Unavailable
from schemas.topics import TIPS
from sinks.database import reading
from sinks.sink import undecided
from sinks.tables import counters
from sinks.tokens import DatabaseAuthority
from stations.pages import Part
from stations.service import Service, receipt_status
from streams.distributed.envelope import of_input
from streams.distributed.past import ends_of
from streams.distributed.publisher import Publisher
from streams.distributed.relay import Positions, Relay, RelayPlan, Spool
from streams.distributed.sink import in_force
from streams.distributed.topics import read_layout, refuse_later
from streams.pipeline import Facts
from streams.ports import Bundle
from streams.stages.county import compile_county
from tipline.apply import put_in_force, refuse_dropping
from tipline.county import county_digest
from tipline.distributed import LastingAuthority, in_time, keys_of_log, servers
from tipline.metrics import PrometheusMetrics
from tipline.model import load_model
from tipline.ops_http import Health
from tipline.outside import make_outside
from tipline.pages import Reach, make_pages
from tipline.serve import Embedded
from tipline.store import Store, entropy, now_ms

_log = logging.getLogger("tipline.gateway")

#: Records that may wait for the relay before the door answers 503.
SPOOL_RECORDS = 1_000_000
_WATCH_S = 0.5
#: After the last answers, which may take four seconds, so long until threads that wait for Kafka or the database are cut short.
_STOP_S = 4.0
_COUNTIES_EVERY = 120
#: How often the ends of `tips` are asked for: in a thread of its own, so that no page waits for a broker that is away.
_ENDS_S = 10.0


class Gateway(Embedded):
    """As `Embedded`, with the spool for a log and no runtime of its own: workers decide, the sink writes the tables."""

    def __init__(self, store: Store, spool_records: int = SPOOL_RECORDS) -> None:
        """Opens the store and checks the topics. Raises TiplineError, all loudly."""
        self.store = store
        self.metrics = PrometheusMetrics()
        self.health = Health()
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self.fatal = None
        self.on_fatal = lambda: None
        bundles, self.origin = store.counties()
        self.counties = {bundle["county"]["id"]: compile_county(bundle) for bundle in bundles}
        layout = read_layout(servers(store))
        keys_of_log(store, layout)
        refuse_later(servers(store), layout)
        for county in self.counties:
            layout.partition(county)
        store.intake.limit_bytes(None)  # the cap is the spool's, on what is not relayed yet
        self.positions = Positions(store.path / "relay.db")
        self.spool = Spool(store.intake, self.positions, store.engine, spool_records, store.settings.max_bytes)
        self.publisher = Publisher(servers(store))
        self.relay = Relay(
            RelayPlan(
                log=store.intake,
                spool=self.spool,
                positions=self.positions,
                publisher=self.publisher,
                partition_of=layout.partition,
                engine=store.engine,
                receipt_of=store.keyring.receipt,
                metrics=self.metrics,
            )
        )
        self._renew(bundles)
        self.authority = LastingAuthority(DatabaseAuthority(store.engine, now_ms))  # type: ignore[assignment]
        self._partition_of = layout.partition
        #: Where each county's `tips` ended when last asked; None while the broker does not say.
        self._ends: dict[str, int] | None = None
        outside = make_outside(store, self.spool.lookup)
        self.service = Service(store.engine, self.counties, now_ms, self.metrics, self._publish, outside)
        self.door = Door(
            intake=self.spool,
            authority=self.authority,
            keyring=store.keyring,
            counties=tuple(self.counties),
            clock=now_ms,
            entropy=entropy,
            metrics=self.metrics,
            decision_of=self.decision_of,
            status_of_receipt=self.status_of_receipt,
            lookup=self.spool.lookup,
            limits=Limits(per_second=store.settings.rate, burst=store.settings.rate * 10),
        )
        self.hooks = HookFile(store.path / FILE_NAME, store.keyring, store.renewed_keyring)
        reach = Reach(self.status_of_receipt, self._likely, self._parts, self.spool.append)
        self.pages = make_pages(store, self.door, self.service, self.authority, reach)
        self.health.checks["runtime"] = self._runtime_alive
        self.health.checks["database"] = self._database_answers
        self.runtimes = []

    def _renew(self, bundles: list[Bundle]) -> None:
        """Puts a county's directory and the model in force where the tables say that others are."""
        refuse_dropping(self.store, bundles, self.origin)
        for bundle in bundles:
            county = bundle["county"]["id"]
            with reading(self.store.engine) as connection:
                known = in_force(connection, county) is not None
            if known:  # else the log begins with a directory that the sink has not applied yet
                if self.origin == "settings":
                    put_in_force(self.store, county, "county", county_digest(bundle), bundle)
                put_in_force(self.store, county, "model", load_model().digest)

    def status_of_receipt(self, receipt: str) -> dict[str, Any] | None:
        """A receipt's public status, whichever gateway gave it."""
        status: dict[str, Any] | None = receipt_status(self.store.engine, self.spool, receipt)
        return status

    def _likely(self, county: str, facts: Facts) -> list[tuple[str, float]] | None:
        """None: the incidents' memory is the workers', and a gateway has none of it."""
        return None

    def _parts(self) -> list[Part]:
        failing, ends = self.health.failing(), self._ends
        parts = [
            Part(name="intake", detail=", ".join(self.counties)),
            Part(name="spool", detail="waiting for the relay", lag=self.spool.waiting),
            Part(name="database", problem=failing.get("database")),
        ]
        for county in self.counties:
            if ends is None:
                parts.append(Part(name=f"runtime {county}", problem="Kafka does not say how much waits"))
                continue
            with reading(self.store.engine) as connection:
                parts.append(Part(name=f"runtime {county}", lag=undecided(connection, county, ends[county])))
        return parts

    def start(self) -> None:
        """Starts the threads: the relay's two, the stations' clock work and outbox, and the watches for what the sink writes and
        what waits for the workers."""
        self._spawn("relay-log", lambda: self.relay.run_log(self._stop))
        self._spawn("relay-store", lambda: self.relay.run_store(self._stop))
        self._spawn("clockwork", lambda: self.service.run(self._stop))
        self._spawn("outbox", lambda: self.service.send(self._stop))
        self._spawn("watch", self._watch)
        self._spawn("ends", self._ask_ends)

    def stop(self) -> None:
        """Ends the threads, then closes what is open. What waits in the spool is relayed after the next start."""
        in_time(_STOP_S)
        self._stop.set()
        self.service.announce(())  # wakes the clockwork
        self.publisher.close()
        super().stop()
        self.positions.close()

    def _publish(self, county: str, _key: str, value: bytes) -> int | None:
        """Puts a correction or closure on the log. Straight from the database's outbox, not by this gateway's spool: so
        they keep their order whichever gateway sends them. The fold knows a repeat by its id."""
        record = of_input(decode_input(value))
        return self.publisher.send(TIPS, self._partition_of(county), [record])[0] + 1

    def _watch(self) -> None:
        """Wakes live queues when the sink, or another gateway, has written to a station's stream."""
        seen: dict[str, int] = {}
        turn = 0
        while not self._stop.wait(_WATCH_S):
            try:
                with reading(self.store.engine) as connection:
                    wanted = select(counters.c.name, counters.c.value).where(counters.c.name.like("station/%"))
                    now = {name.removeprefix("station/"): value for name, value in connection.execute(wanted)}
                if turn % _COUNTIES_EVERY == 0:
                    self._look_for_counties()
            except Unavailable:
                continue
            turn += 1
            grown = frozenset(station for station, value in now.items() if seen.get(station) != value)
            if grown and seen:
                self.service.announce(grown)
            seen = now

    def _ask_ends(self) -> None:
        """How far the workers have to go: where the log of tips ends."""
        while True:
            try:
                numbers = {county: self._partition_of(county) for county in self.counties}
                ends = ends_of(servers(self.store), TIPS, numbers.values())
                self._ends = {county: ends[number] for county, number in numbers.items()}
            except Exception as error:  # a figure that cannot be had ends nothing
                if self._ends is not None:
                    _log.warning("where the log of tips ends cannot be asked: %s", type(error).__name__)
                self._ends = None
            if self._stop.wait(_ENDS_S):
                return

    def _look_for_counties(self) -> None:
        with reading(self.store.engine) as connection:
            for name, county in list(self.counties.items()):
                current = in_force(connection, name)
                if current is not None and current.digest != county.digest:
                    self.counties[name] = current
                    self.service.desk.county_changed(current)
