"""From Kafka to the database: decisions and dead letters into tables, each batch with its offset in one transaction.

The offset in the database counts; none is committed to Kafka. So a batch is there whole or not at all, and after a crash or
a restored backup the sink reads on from where its tables stand. Outputs that repeat are passed over by their position; even
two sinks by mistake do no harm, for rows have natural keys and a county's counter row makes writers wait for each other.

The same process carries the history of stations' work out, to `assignments` and `queue.<station>`; see `events`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
from kafka import KafkaConsumer, TopicPartition
from sqlalchemy import Connection, Engine, select

from schemas.codec import decode_output
from schemas.errors import BadRecord, Unavailable
from schemas.records import Decision, Output, StateChange
from schemas.times import parse_time
from schemas.topics import DEAD_LETTERS, DECISIONS, TIPS
from sinks.database import reading, writing
from sinks.dead_letters import DeadLetter, keep
from sinks.sink import DECIDED, AppliedEvents, apply_outputs, position, set_position
from sinks.tables import decisions
from streams.distributed.envelope import Assembler, Group, is_ours
from streams.distributed.past import first_bundles
from streams.distributed.topics import BadTopics, Layout, NoBroker, later, reaching, read_layout, refuse_later
from streams.ports import Bundle, Clock, Metrics
from streams.stages.county import County, compile_county

_log = logging.getLogger("tipline.sink")

#: Under this name the sink's positions stand in the table `positions`.
CONSUMER: Final = "sink"
_POLL_MS: Final = 200
_BATCH: Final = 1000
_RETRY_S: Final = 1.0
#: How often the lag is measured, and new counties are looked for.
_EVERY_S: Final = 5.0
_LAYOUT_EVERY_S: Final = 30.0


class SinkPlan(msgspec.Struct, kw_only=True):
    """What the shell gives a sink."""

    servers: Sequence[str]
    engine: Engine
    clock: Clock
    metrics: Metrics
    #: Called with what a committed batch changed.
    on_applied: Callable[[str, AppliedEvents], None] = lambda county, applied: None
    #: Called when a county's directory has changed.
    on_county: Callable[[County], None] = lambda county: None


class _Reader:
    """One county's partition of `decisions`."""

    def __init__(self, county: str, config: County, done: int, offset: int) -> None:
        self.county = county
        self.config = config
        self.assembler = Assembler(done)
        self.offset = offset


class Sink:
    """Applies both topics. One thread at a time may call it."""

    def __init__(self, plan: SinkPlan) -> None:
        """Connects. Raises NoBroker, BadTopics, Unavailable (the database)."""
        self._plan = plan
        self._readers: dict[int, _Reader] = {}
        self._layout = Layout({})
        with reaching(plan.servers):
            self._consumer: Any = KafkaConsumer(
                bootstrap_servers=list(plan.servers),
                enable_auto_commit=False,
                bootstrap_timeout_ms=10_000,
                max_poll_records=_BATCH,
                max_partition_fetch_bytes=4 * 1024 * 1024,
                reconnect_backoff_max_ms=1000,
            )
        self._look_around()
        refuse_later(plan.servers, self._layout)

    def close(self) -> None:
        """Leaves Kafka; the engine stays open."""
        self._consumer.close()

    @property
    def counties(self) -> dict[str, County]:
        """The counties with their directory in force."""
        return {reader.county: reader.config for reader in self._readers.values()}

    # --- which partitions ------------------------------------------------------------------------------------------------

    def _look_around(self) -> None:
        layout = read_layout(self._plan.servers)
        if layout.partitions == self._layout.partitions:
            return
        fresh = {partition: county for county, partition in layout.partitions.items() if partition not in self._readers}
        bundles = first_bundles(self._plan.servers, fresh)
        self._readers |= {partition: self._reader(county, partition, bundles[partition]) for partition, county in fresh.items()}
        self._layout = layout
        with reading(self._plan.engine) as connection:
            dead = {p: position(connection, CONSUMER, DEAD_LETTERS, str(p)) for p in self._readers}
        self._consumer.assign([TopicPartition(topic, p) for p in self._readers for topic in (DECISIONS, DEAD_LETTERS)])
        for number, reader in self._readers.items():
            self._consumer.seek(TopicPartition(DECISIONS, number), reader.offset)
            self._consumer.seek(TopicPartition(DEAD_LETTERS, number), dead[number])

    def _reader(self, county: str, partition: int, first: Bundle) -> _Reader:
        with reading(self._plan.engine) as connection:
            done = position(connection, DECIDED, TIPS, county)
            offset = position(connection, CONSUMER, DECISIONS, str(partition))
            config = in_force(connection, county) or compile_county(first)
        self._plan.on_county(config)
        return _Reader(county, config, done, offset)

    # --- the loop ------------------------------------------------------------------------------------------------------------

    def run(self, stop: threading.Event) -> None:
        """Applies until `stop` is set. A database that is away is asked again; what is no outage is raised."""
        measured = looked = time.monotonic()
        while not stop.is_set():
            self.run_once(stop)
            now = time.monotonic()
            if now - measured > _EVERY_S:
                self._measure_lag()
                measured = now
            if now - looked > _LAYOUT_EVERY_S:
                try:
                    self._look_around()
                except (NoBroker, Unavailable) as away:
                    _log.warning("%s", away)
                looked = now

    def run_once(self, stop: threading.Event) -> int:
        """Reads what there is and applies it -> how many records were read."""
        polled = self._consumer.poll(_POLL_MS, max_records=_BATCH)
        for part, records in polled.items():
            work = self._apply_decisions if part.topic == DECISIONS else self._apply_dead_letters
            work(part.partition, records, stop)
        return sum(map(len, polled.values()))

    def _persist(self, work: Callable[[Connection], Any], stop: threading.Event) -> Any:
        """`work` in one transaction, again and again while the database is away. None when stopped before it was done."""
        while True:
            try:
                with writing(self._plan.engine) as connection:
                    return work(connection)
            except Unavailable as away:
                _log.warning("%s; trying again", away)
                if stop.wait(_RETRY_S):
                    return None

    # --- decisions -----------------------------------------------------------------------------------------------------------

    def _apply_decisions(self, partition: int, records: Sequence[Any], stop: threading.Event) -> None:
        reader = self._readers[partition]
        groups = [group for record in records if (group := self._group(reader, record)) is not None]
        begun = reader.assembler.open_since()
        # A group that is not complete yet is read again after a restart, from its first output on.
        next_offset = records[-1].offset + 1 if begun is None else begun
        pieces = _cut_at_changes(groups)
        for number, piece in enumerate(pieces, start=1):
            upto = next_offset if number == len(pieces) else piece[-1].begin
            if not self._apply(reader, piece, upto, stop):
                return
        if not pieces:
            self._persist(lambda c: set_position(c, CONSUMER, DECISIONS, str(partition), next_offset), stop)

    def _group(self, reader: _Reader, record: Any) -> Group | None:
        try:
            return reader.assembler.feed(record.offset, record.value or b"", record.headers)
        except BadRecord as error:
            if is_ours(record.headers):
                raise BadTopics(f"{later(DECISIONS, record.partition, record.offset)} ({error.reason})") from None
            _log.error("offset %d in partition %d of %s is no record of ours: passed over", record.offset, record.partition, DECISIONS)
            return None

    def _apply(self, reader: _Reader, groups: Sequence[Group], upto: int, stop: threading.Event) -> bool:
        """Applies groups and notes the offset from which to read on; False when stopped before it was done."""
        outputs: list[Output] = [output for group in groups for output in group.outputs]
        partition = str(self._layout.partition(reader.county))

        def work(connection: Connection) -> AppliedEvents:
            applied = apply_outputs(connection, reader.county, outputs, now=self._plan.clock(), county_config=reader.config)
            set_position(connection, DECIDED, TIPS, reader.county, groups[-1].position)
            set_position(connection, CONSUMER, DECISIONS, partition, upto)
            return applied

        applied = self._persist(work, stop)
        if applied is None:
            return False
        self._observe(applied)
        self._plan.on_applied(reader.county, applied)
        for output in outputs:
            if isinstance(output, StateChange) and (config := _county_of(output)) is not None:
                reader.config = config
                self._plan.on_county(config)
        return True

    def _observe(self, applied: AppliedEvents) -> None:
        now = self._plan.clock()
        for decision in applied.decisions:
            if decision.revision == 1:
                self._plan.metrics.observe("tipline_end_to_end_seconds", max(0, now - parse_time(decision.received_at)) / 1000)

    def _measure_lag(self) -> None:
        """Faust's own figure moves only while it consumes; this one is measured at the log's end."""
        parts = [TopicPartition(TIPS, number) for number in self._readers]
        try:
            with reaching(self._plan.servers):
                ends = self._consumer.end_offsets(parts)
        except Exception as error:  # a figure that cannot be had ends nothing
            _log.warning("the lag cannot be measured: %s", error)
            return
        for number, reader in self._readers.items():
            behind = ends[TopicPartition(TIPS, number)] - reader.assembler.done
            self._plan.metrics.gauge("tipline_lag_records", max(0, behind), county=reader.county)

    # --- dead letters ----------------------------------------------------------------------------------------------------------

    def _apply_dead_letters(self, partition: int, records: Sequence[Any], stop: threading.Event) -> None:
        letters = [letter for record in records if (letter := _letter(record)) is not None]

        def work(connection: Connection) -> bool:
            keep(connection, letters)
            set_position(connection, CONSUMER, DEAD_LETTERS, str(partition), records[-1].offset + 1)
            return True

        self._persist(work, stop)


def _letter(record: Any) -> DeadLetter | None:
    import base64

    try:
        document = msgspec.json.decode(record.value or b"")
        return DeadLetter(
            id=document["id"],
            county=document.get("county"),
            reason=document["reason"],
            detail=document["detail"],
            topic=document["topic"],
            part=document.get("county") or str(document["partition"]),
            position=document["position"],
            record_id=document.get("record_id"),
            sealed=base64.b64decode(document["sealed"]),
            at=parse_time(document["at"]),
        )
    except (msgspec.DecodeError, KeyError, TypeError, ValueError) as error:
        _log.error("offset %d in partition %d of %s is no dead letter (%s): passed over", record.offset, record.partition, DEAD_LETTERS, type(error).__name__)
        return None


def _cut_at_changes(groups: Sequence[Group]) -> list[list[Group]]:
    """Pieces that are applied with one county directory each: a piece ends with the change of it."""
    pieces: list[list[Group]] = []
    current: list[Group] = []
    for group in groups:
        current.append(group)
        if any(isinstance(o, StateChange) and o.memory.get("change") for o in group.outputs):
            pieces.append(current)
            current = []
    return [*pieces, current] if current else pieces


def _county_of(output: StateChange) -> County | None:
    change = (output.memory or {}).get("change")
    return compile_county(change[2]) if change and change[0] == "county" and change[2] else None


def in_force(connection: Connection, county: str) -> County | None:
    """The county directory last put in force, as far as the tables know."""
    wanted = select(decisions.c.value).where(decisions.c.county == county, decisions.c.kind == "state_change")
    for value in connection.execute(wanted.order_by(decisions.c.seq.desc())).scalars():
        if b'"change"' not in value:
            continue
        output = decode_output(value)
        config = _county_of(output) if not isinstance(output, Decision) else None
        if config is not None:
            return config
    return None
