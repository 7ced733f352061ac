"""The embedded runtime: one process, SQLite. Reads the log `tips` of a county, folds it, and writes decisions, the
sinks' rows and the read position in one transaction a batch.

After a crash the state is rebuilt from the decisions; the batch that was not committed is read again and gives the same
decisions, because the fold is pure. A record that cannot be read becomes a dead letter. A valid record on which our
own code fails becomes one too, but not without limit: see `Breaker`.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import msgspec
from sqlalchemy import Connection, Engine

from schemas.codec import decode_input, decode_output
from schemas.errors import BadRecord, Unavailable
from schemas.records import Decision, Input, Output, Tip
from schemas.times import parse_time
from schemas.topics import TIPS
from sinks.database import reading, writing
from sinks.failpoints import reach
from sinks.sink import DECIDED, AppliedEvents, apply_outputs, latest_decision, position, read_log, set_position
from streams.breaker import Breaker, Broken
from streams.pipeline import Facts, Fold, FoldFailed
from streams.ports import Clock, InputLog, Metrics, Row

__all__ = ["BATCH", "BadInput", "Breaker", "Broken", "DeadLetterSink", "FoldFactory", "Runtime"]

BATCH: Final = 256
_RECALLED: Final = 4096
_REBUILT: Final = 2000


class BadInput(msgspec.Struct, frozen=True):
    """A row that was put aside: reason is one of the dead letters'."""

    row: Row
    reason: str
    detail: str


class DeadLetterSink(Protocol):
    """Keeps what cannot be processed; seals the bytes before they are written."""

    def __call__(self, connection: Connection, county: str, bad: BadInput, now: int) -> None:
        """Writes one dead letter in the caller's transaction; the same (topic, position) once."""


FoldFactory = Callable[[Callable[[str], Decision | None]], Fold]


class Runtime:
    """Drives the fold of one county. One thread at a time may call it."""

    def __init__(
        self,
        county: str,
        log: InputLog,
        engine: Engine,
        make_fold: FoldFactory,
        dead_letters: DeadLetterSink,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self.county = county
        self._log = log
        self._engine = engine
        self._make_fold = make_fold
        self._dead_letters = dead_letters
        self._clock = clock
        self._metrics = metrics
        self._recalled: OrderedDict[str, Decision] = OrderedDict()
        self._breaker = Breaker()
        self._read_to = 0
        #: Held while the fold's state changes, and by those who look into it from other threads.
        self._state = threading.Lock()
        #: Called with what a committed batch changed.
        self.on_applied: Callable[[AppliedEvents], None] = lambda _: None
        self.fold = self._rebuild()

    # --- state -----------------------------------------------------------------------------------------------------------

    def _rebuild(self) -> Fold:
        """The fold as the committed decisions left it."""
        self._recalled.clear()
        fold = self._make_fold(self._recall)
        with reading(self._engine) as connection:
            after = 0
            while rows := read_log(connection, self.county, after, _REBUILT):
                fold.restore([decode_output(value) for _, value in rows])
                after = rows[-1][0]
            self._read_to = position(connection, DECIDED, TIPS, self.county)
        fold.position = max(fold.position, self._read_to)
        return fold

    def _recall(self, tip_id: str) -> Decision | None:
        found = self._recalled.get(tip_id)
        if found is not None:
            return found
        with reading(self._engine) as connection:
            value = latest_decision(connection, tip_id)
        decision = decode_output(value) if value is not None else None
        return decision if isinstance(decision, Decision) else None

    def _keep(self, outputs: Sequence[Output]) -> None:
        for output in outputs:
            if isinstance(output, Decision):
                self._recalled[output.tip_id] = output
                self._recalled.move_to_end(output.tip_id)
        while len(self._recalled) > _RECALLED:
            self._recalled.popitem(last=False)

    def likely(self, facts: Facts) -> list[tuple[str, float]]:
        """Incidents that a draft may tell of: (incident id, score), the likeliest first. From any thread."""
        with self._state:
            return self.fold.likely(facts)

    # --- one batch ---------------------------------------------------------------------------------------------------------

    def run_once(self, limit: int = BATCH) -> int:
        """Decides up to `limit` records and commits -> how many were read. Raises Broken or Unavailable."""
        rows = self._log.read(self.county, self._read_to, limit)
        if not rows:
            return 0
        started = self._clock()
        with self._state:
            outputs, bad, tips = self._decide(rows)
        reach("decide.before_begin")
        applied = self._write(rows, outputs, bad)
        reach("decide.after_commit")
        self._keep(outputs)
        self._read_to = rows[-1].position
        self._observe(started, outputs, bad, tips)
        self.on_applied(applied)
        return len(rows)

    def _decide(self, rows: Sequence[Row]) -> tuple[list[Output], list[BadInput], dict[str, Tip]]:
        records: list[tuple[int, Input]] = []
        bad: list[BadInput] = []
        by_position = {row.position: row for row in rows}
        for row in rows:
            try:
                record = decode_input(row.value)
                if record.county != self.county:
                    raise BadRecord("invalid", f"a record of another county in the input of {self.county}")
                records.append((row.position, record))
            except BadRecord as error:
                bad.append(BadInput(row, error.reason, error.detail))
        while True:
            try:
                outputs = self.fold.apply(records)
            except FoldFailed as failure:
                # The state may be half changed: rebuild it, put the one record aside, and decide the rest anew.
                self._breaker.record(True)
                bad.append(BadInput(by_position[failure.position], "fold_failed", type(failure.__cause__).__name__))
                records = [(at, record) for at, record in records if at != failure.position]
                self.fold = self._rebuild()
                continue
            for _ in records:
                self._breaker.record(False)
            return outputs, bad, {record.tip_id: record for _, record in records if isinstance(record, Tip)}

    def _write(self, rows: Sequence[Row], outputs: Sequence[Output], bad: Sequence[BadInput]) -> AppliedEvents:
        now = self._clock()
        try:
            with writing(self._engine) as connection:
                applied = apply_outputs(connection, self.county, outputs, now=now, county_config=self.fold.county)
                for one in bad:
                    self._dead_letters(connection, self.county, one, now)
                set_position(connection, DECIDED, TIPS, self.county, rows[-1].position)
                reach("decide.before_commit")
            return applied
        except Unavailable:
            # Nothing was written; the fold is ahead of the tables and must come back.
            self.fold = self._rebuild()
            raise

    def _observe(self, started: int, outputs: Sequence[Output], bad: Sequence[BadInput], tips: dict[str, Tip]) -> None:
        now = self._clock()
        self._metrics.observe("tipline_decide_seconds", max(0, now - started) / 1000)
        for output in outputs:
            if not isinstance(output, Decision):
                continue
            if output.revision == 1:
                self._metrics.count("tipline_decided_total", category=output.category, link=output.link)
                if output.tip_id in tips:
                    accepted = parse_time(tips[output.tip_id].received_at)
                    self._metrics.observe("tipline_end_to_end_seconds", max(0, now - accepted) / 1000)
            else:
                self._metrics.count("tipline_revised_total", cause=output.cause)
        for one in bad:
            self._metrics.count("tipline_dead_letters_total", reason=one.reason)
        self._metrics.gauge("tipline_lag_records", self._log.end(self.county) - self._read_to, county=self.county)

    # --- the loop ------------------------------------------------------------------------------------------------------------

    def run(self, stop: threading.Event, wait: Callable[[int, float], int], retry_s: float = 0.5) -> None:
        """Decides until `stop` is set. `wait(position, seconds)` returns when the log has grown past `position`, or at
        the latest after that time. A full or busy store is tried again; Broken ends the loop."""
        seen = 0
        while not stop.is_set():
            try:
                if self.run_once() == 0:
                    # The log is one for all counties: what came for another must not wake this one again.
                    seen = wait(max(seen, self._read_to), retry_s)
            except Unavailable as away:
                stop.wait(min(away.retry_after, retry_s))
