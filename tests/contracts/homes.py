"""The homes of the pipeline behind one port: a county's records in, decisions, tables and dead letters out.

`Memory` is the fold by itself, a record at a time, and what the others are held against: every home feeds a mirror of that
kind with the same records, and `compare` says where the two differ. `Embedded` is the runtime of one machine on either
database; `Distributed` a worker, killed and started at will, with a sink for each database behind the same log.
"""

from __future__ import annotations

import sqlite3
import threading
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

import msgspec
from kafka import TopicPartition
from sqlalchemy import Engine, delete, select, text

from schemas.codec import decode_input, decode_output, encode
from schemas.errors import BadRecord
from schemas.records import Change, Correction, Decision, Input, Output, Tip, public
from schemas.topics import DEAD_LETTERS, DECISIONS, TIPS
from sinks import tables
from sinks.database import migrate, open_database, reading, writing
from sinks.dead_letters import DeadLetter, keep, listed
from sinks.sink import apply_outputs, position, read_log
from streams.distributed import topics
from streams.distributed.envelope import input_headers, of_input
from streams.distributed.past import consumer
from streams.distributed.publisher import Publisher
from streams.distributed.sink import CONSUMER, DECIDED, Sink, SinkPlan
from streams.embedded.runtime import BadInput, Runtime
from streams.pipeline import Fold, FoldFailed
from streams.ports import InputLog, Row
from streams.stages.county import compile_county
from tests.acceptance.lab import Child, Lab
from tests.contracts.cursed import cursed
from tipline.county import county_digest, find_county, load_county
from tipline.metrics import PrometheusMetrics
from tipline.model import load_model
from tipline.pages import replay
from tipline.serve import make_dead_letter
from tipline.settings import load_settings
from tipline.store import Store

_AT: Final = "2026-01-01T00:00:00Z"
_SPACE: Final = uuid.UUID(int=12)

#: What the tables must agree in. Serial numbers are a table's own, and so is a station's number: counties share stations' ids.
TABLES: Final = {
    "incidents": "*",
    "incident_tips": "*",
    "incident_sums": "*",
    "assignments": "*",
    "assignment_cc": "*",
    "statistics": "*",
    "decisions": "county, seq, tip_id, revision, position, kind, incident_id, change_key, value",
    "station_events": "station, assignment_id, event_number, kind, at",
    "assignment_events": "assignment_id, number, incident_id, county, at, kind, actor, station, from_station, reason, data, state",
}
_OF_COUNTY: Final = {
    "incident_sums": "incident_id IN (SELECT incident_id FROM incidents WHERE county = :county)",
    "assignment_cc": "assignment_id IN (SELECT id FROM assignments WHERE county = :county)",
    "station_events": "assignment_id IN (SELECT id FROM assignments WHERE county = :county)",
}

Rows = dict[str, list[tuple[Any, ...]]]


def rows_of(engine: Engine, county: str) -> Rows:
    """A county's rows in every table that a log of decisions makes, alike on both databases."""
    found: Rows = {}
    with reading(engine) as connection:
        for name, columns in TABLES.items():
            rows = connection.execute(text(f"SELECT {columns} FROM {name} WHERE {_OF_COUNTY.get(name, 'county = :county')}"), {"county": county})
            found[name] = sorted((_plain(tuple(row)) for row in rows), key=repr)
    return found


def _plain(row: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(bytes(v) if isinstance(v, memoryview) else int(v) if isinstance(v, bool) else v for v in row)


@cache
def bundle_of(county: str) -> dict[str, Any]:
    """Anping under another id, with all that lies in it."""
    bundle = load_county(find_county("anping"))
    moved: dict[str, Any] = {name: _moved(part, county) for name, part in bundle.items()}
    return {**moved, "county": {**moved["county"], "id": county}}


def _moved(part: Any, county: str) -> Any:
    """A part of the directory with the county's own area renamed. Ids stay: a township has the county's name."""
    if isinstance(part, dict):
        return {name: value if name == "id" else _moved(value, county) for name, value in part.items()}
    if isinstance(part, list):
        return [_moved(value, county) for value in part]
    if isinstance(part, str) and (part == "anping" or part.startswith("anping/")):
        return county + part.removeprefix("anping")
    return part


def first_changes(bundle: dict[str, Any]) -> list[Change]:
    """What a county's input begins with in every home."""
    county, digest = bundle["county"]["id"], county_digest(bundle)
    return [
        Change(county=county, change_id=f"county/{digest}/first", what="county", digest=digest, at=_AT, bundle=bundle),
        Change(county=county, change_id="model/first", what="model", digest=load_model().digest, at=_AT),
    ]


class Home(ABC):
    """One county's pipeline. After `feed` everything that was fed is decided and stands in the tables."""

    def __init__(self, store: Store, county: str, flag: Path, mirror: Home | None) -> None:
        self.store = store
        _ = store.keyring  # made while the store is empty
        self.county = county
        self.bundle = bundle_of(county)
        #: Beside the store's own, every database that must say the same.
        self.engines = [store.engine]
        self.mirror = mirror
        self._flag = flag
        self._marks = 0

    # --- what a home is made of ------------------------------------------------------------------------------------------

    @abstractmethod
    def append(self, value: bytes) -> None:
        """Puts a record at the end of the input."""

    @abstractmethod
    def settle(self) -> None:
        """Returns when the input is decided to its end and all of it stands in the tables."""

    @abstractmethod
    def restart(self) -> None:
        """The deciding part ends without a word and begins anew."""

    @abstractmethod
    def apply_again(self) -> None:
        """The whole log `decisions` into the same tables once more."""

    # --- what a test does ------------------------------------------------------------------------------------------------

    def feed(self, *records: Input | bytes) -> None:
        """Has records decided. They are made this county's, and their tips' ids its own."""
        values = [record if isinstance(record, bytes) else encode(self._own(record)) for record in records]
        self._marks += 1
        # The mark has an output for certain, so that its coming out says that all before it is done.
        mark = Change(county=self.county, change_id=f"mark/{self._marks}", what="model", digest=load_model().digest, at=_AT)
        self.take([*values, encode(mark)])

    def take(self, values: Sequence[bytes]) -> None:
        """Has bytes decided as they are, here and in the mirror."""
        for value in values:
            self.append(value)
        self.settle()
        if self.mirror is not None:
            self.mirror.take(values)

    def fail(self, on: bool) -> None:
        """Whether our code fails on cursed tips from now on."""
        self._flag.touch() if on else self._flag.unlink()

    def replay(self) -> None:
        """All dead letters back into the input. Raises BadRecord."""
        values: list[bytes] = []
        for letter in self.letters():
            replay(self.store, letter, lambda county, key, value: values.append(value))
        self.take([*values, encode(Change(county=self.county, change_id="replayed", what="model", digest=load_model().digest, at=_AT))])

    def _own(self, record: Input) -> Input:
        changed: dict[str, Any] = {"county": self.county}
        if isinstance(record, Tip):
            changed["tip_id"] = self.ident(record.tip_id)
        elif isinstance(record, Correction):
            changed["tip_ids"] = tuple(map(self.ident, record.tip_ids))
        return msgspec.structs.replace(record, **changed)

    def ident(self, name: str) -> str:
        """A tip's id by its name in the test."""
        return str(uuid.uuid5(_SPACE, f"{self.county}/{name}"))

    # --- what came of it -------------------------------------------------------------------------------------------------

    def decisions(self) -> dict[str, Decision]:
        """The latest decision of each tip, by its id."""
        latest: dict[str, Decision] = {}
        with reading(self.store.engine) as connection:
            for _, value in read_log(connection, self.county, 0, 1_000_000):
                output = decode_output(value)
                if isinstance(output, Decision):
                    latest[output.tip_id] = output
        return latest

    def said(self, name: str) -> Decision:
        """The latest decision of a tip."""
        return self.decisions()[self.ident(name)]

    def incident(self, name: str) -> str:
        """The incident that a tip is in."""
        return self.said(name).incident_id

    def partition(self, *names: str) -> set[frozenset[str]]:
        """These tips by incident."""
        decisions = self.decisions()
        by_incident: dict[str, set[str]] = {}
        for name in names:
            by_incident.setdefault(decisions[self.ident(name)].incident_id, set()).add(name)
        return {frozenset(tips) for tips in by_incident.values()}

    def queue(self) -> dict[str, tuple[str, int]]:
        """What stands open on the stations' queues: incident -> station, corroborations."""
        wanted = select(tables.assignments).where(tables.assignments.c.county == self.county, tables.assignments.c.status == "open")
        with reading(self.store.engine) as connection:
            return {row["incident_id"]: (row["station"], row["corroborations"]) for row in connection.execute(wanted).mappings()}

    def letters(self, engine: Engine | None = None) -> list[DeadLetter]:
        """What was put aside, in its order."""
        with reading(engine or self.store.engine) as connection:
            return sorted(listed(connection, status=None, county=self.county, limit=10_000), key=lambda letter: letter.position)

    def compare(self) -> None:
        """The mirror's decisions, tables and dead letters are these ones."""
        if self.mirror is None:
            return
        wanted = rows_of(self.mirror.store.engine, self.county)
        told = {tip_id: public(decision) for tip_id, decision in self.mirror.decisions().items()}
        assert {tip_id: public(decision) for tip_id, decision in self.decisions().items()} == told
        for engine in self.engines:
            found = rows_of(engine, self.county)
            for name in TABLES:
                assert found[name] == wanted[name], (engine.name, name)
            assert list(map(_told, self.letters(engine))) == list(map(_told, self.mirror.letters()))

    def close(self) -> None:
        """Lets everything go."""
        if self.mirror is not None:
            self.mirror.close()
        self.store.close()

    # --- shared ----------------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        for change in first_changes(self.bundle):
            self.append(encode(change))

    def _make_fold(self, recall: Any) -> Fold:
        return cursed(lambda r: Fold(self.bundle, load_model(), r, self.store.model), self._flag)(recall)

    def _put_aside(self, connection: Any, county: str, bad: BadInput, now: int) -> None:
        keep(connection, [make_dead_letter(self.store, county, bad, now)])

    def _read_again(self) -> None:
        with writing(self.store.engine) as connection:
            outputs = [decode_output(value) for _, value in read_log(connection, self.county, 0, 1_000_000)]
            apply_outputs(connection, self.county, outputs, now=0, county_config=compile_county(self.bundle))


def _told(letter: DeadLetter) -> tuple[Any, ...]:
    return letter.id, letter.reason, letter.detail, letter.topic, letter.position, bool(letter.sealed)


class Memory(Home):
    """The fold and nothing else, a record at a time; its tables are in memory too."""

    def __init__(self, folder: Path, county: str, flag: Path) -> None:
        super().__init__(Store(load_settings({}, {"data": str(folder), "database": "sqlite://"})), county, flag, None)
        self._input: list[bytes] = []
        self._outputs: list[Output] = []
        self._latest: dict[str, Decision] = {}
        self._done = 0
        self.restart()
        self._begin()

    def append(self, value: bytes) -> None:
        self._input.append(value)

    def settle(self) -> None:
        while self._done < len(self._input):
            self._done += 1
            row = Row(self._done, "", self._input[self._done - 1])
            outputs: list[Output] = []
            bad: list[BadInput] = []
            try:
                record = decode_input(row.value)
                if record.county != self.county:
                    raise BadRecord("invalid", f"a record of another county in the input of {self.county}")
                outputs = self.fold.apply([(row.position, record)])
            except BadRecord as error:
                bad.append(BadInput(row, error.reason, error.detail))
            except FoldFailed as failure:
                bad.append(BadInput(row, "fold_failed", type(failure.__cause__).__name__))
                self.restart()
            self._outputs += outputs
            self._latest.update({output.tip_id: output for output in outputs if isinstance(output, Decision)})
            with writing(self.store.engine) as connection:
                apply_outputs(connection, self.county, outputs, now=0, county_config=self.fold.county)
                for one in bad:
                    self._put_aside(connection, self.county, one, 0)

    def restart(self) -> None:
        self.fold = self._make_fold(self._latest.get)
        self.fold.restore(self._outputs)

    def apply_again(self) -> None:
        self._read_again()


class Embedded(Home):
    """The runtime of one machine over its log on disk, in small batches: they do not matter."""

    def __init__(self, folder: Path, county: str, flag: Path, database: str = "", mirror: Home | None = None, log: InputLog | None = None) -> None:
        """With a `log` of somebody else's it is that one which is decided."""
        super().__init__(Store(load_settings({}, {"data": str(folder), "database": database})), county, flag, mirror)
        self._log: InputLog = log or self.store.intake
        self._limit = 7 if log is None else 256
        self._appended = 0
        if log is None:
            self._begin()
        self.restart()

    def append(self, value: bytes) -> None:
        self._appended += 1
        key = str(self._appended)
        try:
            self.store.intake.append(self.county, key, value)
        except BadRecord:  # which the door keeps out; so it comes as from a program that is not ours
            with sqlite3.connect(self.store.path / "intake.db") as connection:
                connection.execute("INSERT INTO tips (county, key, type, value) VALUES (?, ?, 'tip', ?)", (self.county, key, value))
            connection.close()

    def settle(self) -> None:
        while self._runtime.run_once(self._limit):
            pass

    def restart(self) -> None:
        self._runtime = Runtime(self.county, self._log, self.store.engine, self._make_fold, self._put_aside, lambda: 0, PrometheusMetrics())

    def apply_again(self) -> None:
        self._read_again()


#: A worker that fails while the flag stands.
_WORKER = """
import os
from pathlib import Path
from tests.contracts.cursed import cursed
from tipline import cli, distributed
made = distributed.fold_maker
distributed.fold_maker = lambda store, bundle: cursed(made(store, bundle), Path(os.environ["FLAG"]))
cli.main()
"""


class Installation:
    """Kafka with a worker, and a sink for each database, for many counties at once."""

    def __init__(self, lab: Lab, databases: Sequence[str], counties: Sequence[str]) -> None:
        self._lab = lab
        self.servers = lab.servers
        self.flag = lab.folder / "flag"
        lab.environ["FLAG"] = str(self.flag)
        self.settings = load_settings({name: value for name, value in lab.environ.items() if name.startswith("TIPLINE")}, {"data": str(lab.folder / "here")})
        _ = Store(self.settings).keyring  # which the worker wants to find
        topics.create(self.servers, {county: [of_input(change) for change in first_changes(bundle_of(county))] for county in counties}, [])
        self.layout = topics.read_layout(self.servers)
        self.publisher = Publisher(self.servers)
        self._asker = consumer(self.servers)
        self.engines = [open_database(database) for database in databases]
        for engine in self.engines:
            migrate(engine)
        self._worker = self._start()
        self._sinks = [self._sink(engine) for engine in self.engines]
        self._worker.wait_for("is ready")

    def _start(self) -> Child:
        return self._lab.start("worker", "--name", "worker-1", name="worker-1", code=_WORKER)

    def _sink(self, engine: Engine) -> Sink:
        return Sink(SinkPlan(servers=self.servers, engine=engine, clock=lambda: 0, metrics=PrometheusMetrics()))

    def restart_worker(self) -> None:
        """SIGKILL, and up again: what is fed meanwhile waits for it."""
        self._worker.kill()
        self._worker = self._start()

    def restart_sinks(self) -> None:
        """They read on from where their databases stand."""
        for sink in self._sinks:
            sink.close()
        self._sinks = [self._sink(engine) for engine in self.engines]

    def settle(self, county: str) -> None:
        """Until all databases hold everything of a county."""
        partition = self.layout.partition(county)
        self._until((DECIDED, TIPS, county), self._end(TIPS, partition))
        # A dead letter is safe before anything that came after it is decided: now all of them are there.
        self._until((CONSUMER, DEAD_LETTERS, str(partition)), self._end(DEAD_LETTERS, partition))

    def _end(self, topic: str, partition: int) -> int:
        part = TopicPartition(topic, partition)
        end: int = self._asker.end_offsets([part])[part]
        return end

    def _until(self, mark: tuple[str, str, str], wanted: int) -> None:
        deadline = time.monotonic() + 60
        for engine, sink in zip(self.engines, self._sinks, strict=True):
            while (known := _position(engine, *mark)) < wanted:
                sink.run_once(threading.Event())
                assert time.monotonic() < deadline, f"{mark}: {known} of {wanted}\n{self._worker.tail()}"

    def close(self) -> None:
        """Ends everything but the broker."""
        for sink in self._sinks:
            sink.close()
        self._asker.close()
        self.publisher.close()
        for engine in self.engines:
            engine.dispose()
        self._lab.end()


def _position(engine: Engine, *part: str) -> int:
    with reading(engine) as connection:
        return position(connection, *part)


class Distributed(Home):
    """One county of an installation on Kafka."""

    def __init__(self, installation: Installation, county: str, mirror: Home) -> None:
        super().__init__(Store(installation.settings), county, installation.flag, mirror)
        self._all = installation
        self.engines = installation.engines
        self._partition = installation.layout.partition(county)

    def append(self, value: bytes) -> None:
        try:
            headers = input_headers(decode_input(value))
        except BadRecord:
            headers = []
        self._all.publisher.send(TIPS, self._partition, [(self.county.encode(), value, headers)])

    def settle(self) -> None:
        self._all.settle(self.county)

    def restart(self) -> None:
        self._all.restart_worker()

    def apply_again(self) -> None:
        marks = tables.positions.c
        for engine in self.engines:
            with writing(engine) as connection:
                connection.execute(delete(tables.positions).where(((marks.topic == DECISIONS) & (marks.part == str(self._partition))) | (marks.part == self.county)))
        self._all.restart_sinks()
        self.settle()
