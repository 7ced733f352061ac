"""The gateway's way to the log: what its spool accepted goes to Kafka, and to the database what other gateways answer from.

A tip is accepted by one fsynced commit to the spool; this carries it on. The relay's position in the spool moves only after
the broker's word, so a crash sends some records again: the fold knows them by their ids. A broker or a database that is away
holds nothing up at the door until the spool's cap; the two move on independently of each other.

Corrections, closures and changes go the same way: they are appended to the spool, once by their key.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec
from sqlalchemy import Connection, Engine

from schemas.codec import decode_input, encode
from schemas.errors import Unavailable
from schemas.records import Tip
from schemas.topics import TIPS
from sinks.accepted import record_of, tip_of
from sinks.database import insert_new, reading, writing
from sinks.tables import accepted, identities
from streams.distributed.envelope import Sendable, input_headers
from streams.distributed.publisher import Publisher
from streams.ports import Accepted, Admitted, InputLog, Intake, Metrics, Row, Sealed

_log = logging.getLogger("tipline.relay")

_BATCH: Final = 500
_WAIT_S: Final = 0.5
_RETRY_S: Final = 0.5

LOG: Final = "log"
STORE: Final = "store"
#: Up to where the identities that the database has are gone from the spool.
ERASED: Final = "erased"
#: They are destroyed there at the latest after so long, and sooner when there is nothing else to do.
_ERASE_S: Final = 10.0


class SpoolLog(Intake, InputLog, Protocol):
    """What the relay asks of the spool; `streams.embedded.intake.SqliteIntake` is one."""

    def counties(self) -> list[str]:
        """Counties that have records."""

    def wait(self, seen: int, timeout: float | None = None) -> int:
        """Blocks until there is a record beyond `seen`, or the time is over."""

    def identities(self, tip_id: str) -> list[Sealed]:
        """What was sealed out of a tip."""

    def erase(self, *tip_ids: str) -> int:
        """Destroys what was sealed out of tips."""

    def lookup(self, tip_id: str) -> bytes | None:
        """The record of a tip."""

    def by_receipt(self, receipt: str) -> str | None:
        """The tip that a receipt was given for."""


class Positions:
    """How far each county's records were carried: `relay.db` beside the spool. Losing the file repeats, and loses nothing."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        try:
            self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10)
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = NORMAL")
            self._connection.execute("CREATE TABLE IF NOT EXISTS carried (what TEXT, county TEXT, position INTEGER NOT NULL, PRIMARY KEY (what, county)) STRICT")
        except sqlite3.Error as error:
            raise Unavailable(f"{path}: {type(error).__name__}") from None

    def get(self, what: str, county: str) -> int:
        """The position up to which `what` (log or store) was carried; 0 at the start."""
        with self._lock:
            found = self._connection.execute("SELECT position FROM carried WHERE what = ? AND county = ?", (what, county)).fetchone()
        return found[0] if found else 0

    def put(self, what: str, county: str, position: int) -> None:
        """Notes it."""
        with self._lock:
            self._connection.execute("INSERT OR REPLACE INTO carried VALUES (?, ?, ?)", (what, county, position))

    def close(self) -> None:
        """Closes the file."""
        with self._lock:
            self._connection.close()


class Spool:
    """The spool as the door and the stations see it: accepts up to its cap of records that wait for the relay, and answers
    for tips of other gateways from the database."""

    def __init__(self, log: SpoolLog, positions: Positions, engine: Engine, max_records: int, max_bytes: int = 0) -> None:
        """`max_bytes` of 0 sets no cap in bytes."""
        self._log = log
        self._engine = engine
        self._max_records = max_records
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._records = 0
        self._bytes = 0
        for county in log.counties():
            after = positions.get(LOG, county)
            while rows := log.read(county, after, 5000):
                self._grow(len(rows), sum(len(row.value) for row in rows))
                after = rows[-1].position

    @property
    def waiting(self) -> int:
        """Records that wait for the relay."""
        return self._records

    def accept(self, admitted: Sequence[Admitted]) -> list[Accepted]:
        """As `streams.ports.Intake`; Unavailable also when the spool is at its cap."""
        # What is here already takes no room: it is looked for only when there is none.
        if not self._has_room(admitted) and not self._has_room([one for one in admitted if self._log.lookup(one.tip.tip_id) is None]):
            raise Unavailable("the spool is full: the log has been away for long", retry_after=10)
        answers = self._log.accept(admitted)
        fresh = [one for one, answer in zip(admitted, answers, strict=True) if answer.outcome == "accepted"]
        self._grow(len(fresh), sum(len(encode(one.tip)) for one in fresh))
        return answers

    def _has_room(self, admitted: Sequence[Admitted]) -> bool:
        size = sum(len(encode(one.tip)) for one in admitted)
        with self._lock:
            return not admitted or (self._records + len(admitted) <= self._max_records and not (self._max_bytes and self._bytes + size > self._max_bytes))

    def append(self, county: str, key: str, value: bytes) -> int | None:
        """As `streams.ports.InputLog`; corrections and closures have room above the cap, for there are few."""
        position = self._log.append(county, key, value)
        if position is not None:
            self._grow(1, len(value))
        return position

    def _grow(self, records: int, size: int) -> None:
        with self._lock:
            # Never below nothing: another process may have appended, such as `dead-letters replay`.
            self._records = max(0, self._records + records)
            self._bytes = max(0, self._bytes + size)

    def carried(self, rows: Sequence[Row]) -> None:
        """The relay's word that these are safe elsewhere."""
        self._grow(-len(rows), -sum(len(row.value) for row in rows))

    def lookup(self, tip_id: str) -> bytes | None:
        """The record of a tip, whichever gateway accepted it."""
        found = self._log.lookup(tip_id)
        if found is not None:
            return found
        with reading(self._engine) as connection:
            return record_of(connection, tip_id)

    def by_receipt(self, receipt: str) -> str | None:
        """The tip that a receipt was given for, whichever gateway gave it."""
        found = self._log.by_receipt(receipt)
        if found is not None:
            return found
        with reading(self._engine) as connection:
            return tip_of(connection, receipt)


class RelayPlan(msgspec.Struct, kw_only=True):
    """What the shell gives the relay."""

    log: SpoolLog
    spool: Spool
    positions: Positions
    publisher: Publisher
    #: A county's partition of `tips`.
    partition_of: Callable[[str], int]
    engine: Engine
    #: The receipt that a tip's reporter was given.
    receipt_of: Callable[[str], str]
    metrics: Metrics


class Relay:
    """Carries the spool on. `run_log` and `run_store` each in a thread of their own."""

    def __init__(self, plan: RelayPlan) -> None:
        self._plan = plan

    def run_log(self, stop: threading.Event) -> None:
        """To Kafka, until `stop` is set."""
        self._run(self.carry_to_log, stop)

    def run_store(self, stop: threading.Event) -> None:
        """To the database, until `stop` is set. Identities that it has then leave the spool: one place to erase them in."""
        erased = time.monotonic()

        def turn() -> int:
            nonlocal erased
            copied = self.carry_to_store()
            if not copied or time.monotonic() - erased > _ERASE_S:
                self.erase_carried()
                erased = time.monotonic()
            return copied

        self._run(turn, stop)

    def _run(self, carry: Callable[[], int], stop: threading.Event) -> None:
        seen, away_before = 0, False
        while not stop.is_set():
            try:
                carried = carry()
                if away_before:
                    _log.info("what waited is carried on")
                away_before = False
            except Unavailable as away:
                if not away_before:
                    _log.warning("%s; what is accepted waits in the spool", away)
                away_before = True
                stop.wait(_RETRY_S)
                continue
            if not carried:
                with contextlib.suppress(Unavailable):
                    seen = self._plan.log.wait(seen, _WAIT_S)

    def carry_to_log(self) -> int:
        """Sends one batch of each county -> how many records. Raises Unavailable."""
        sent = 0
        for county in self._plan.log.counties():
            rows = self._plan.log.read(county, self._plan.positions.get(LOG, county), _BATCH)
            if not rows:
                continue
            self._plan.publisher.send(TIPS, self._plan.partition_of(county), [_sendable(county, row) for row in rows])
            self._plan.positions.put(LOG, county, rows[-1].position)
            self._plan.spool.carried(rows)
            sent += len(rows)
        self._plan.metrics.gauge("tipline_spool_records", self._plan.spool.waiting)
        return sent

    def carry_to_store(self) -> int:
        """Copies one batch of each county into the database -> how many records. Raises Unavailable."""
        copied = 0
        for county in self._plan.log.counties():
            rows = self._plan.log.read(county, self._plan.positions.get(STORE, county), _BATCH)
            if not rows:
                continue
            tips = [tip for row in rows if isinstance(tip := decode_input(row.value), Tip)]
            sealed = [(tip.tip_id, one) for tip in tips for one in self._plan.log.identities(tip.tip_id)]
            with writing(self._plan.engine) as connection:
                self._store(connection, county, tips, sealed)
            self._plan.positions.put(STORE, county, rows[-1].position)
            copied += len(rows)
        return copied

    def erase_carried(self) -> int:
        """Destroys in the spool one batch of the identities that the database has -> how many. Raises Unavailable."""
        gone, positions = 0, self._plan.positions
        for county in self._plan.log.counties():
            upto = positions.get(STORE, county)
            rows = [row for row in self._plan.log.read(county, positions.get(ERASED, county), _BATCH) if row.position <= upto]
            if not rows:
                continue
            gone += self._plan.log.erase(*(tip.tip_id for row in rows if isinstance(tip := decode_input(row.value), Tip)))
            positions.put(ERASED, county, rows[-1].position)
        return gone

    def _store(self, connection: Connection, county: str, tips: Sequence[Tip], sealed: Sequence[tuple[str, Sealed]]) -> None:
        rows: list[dict[str, Any]] = [
            {"tip_id": tip.tip_id, "county": county, "receipt": self._plan.receipt_of(tip.tip_id), "value": encode(tip)} for tip in tips
        ]
        insert_new(connection, accepted, rows)
        insert_new(
            connection,
            identities,
            [
                {
                    "tip_id": tip_id,
                    "kind": one.kind,
                    "token": one.token,
                    "key_id": one.key_id,
                    "wrapped_key": one.wrapped_key,
                    "nonce": one.nonce,
                    "ciphertext": one.ciphertext,
                }
                for tip_id, one in sealed
            ],
        )


def _sendable(county: str, row: Row) -> Sendable:
    return county.encode(), row.value, input_headers(decode_input(row.value))
