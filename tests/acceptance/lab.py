"""A distributed installation on this machine: a real broker, a real database, and the commands as processes."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any
from unittest import mock

import yaml
from kafka import KafkaAdminClient, KafkaProducer
from kafka.admin import ConfigResource, ConfigResourceType, NewPartitions
from sqlalchemy import Engine, text

from schemas.codec import decode_output
from schemas.records import Decision, Tip
from sinks.database import open_database, reading, writing
from sinks.tokens import ENTROPY_BYTES
from sinks.tokens import create as create_token
from streams.distributed import topics
from streams.distributed.envelope import Assembler, of_input
from streams.distributed.past import end_of, read_through
from streams.ports import Principal, Row
from tests.kafka_fixtures import Broker
from tests.ports import free_port
from tipline.cli import main
from tipline.distributed import create_topics
from tipline.settings import load_settings
from tipline.store import Store, now_ms

ROOT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))


_RUN = "from tipline.cli import main; main()"


class Child:
    """One command as a process, with its output kept."""

    def __init__(self, name: str, arguments: list[str], environ: dict[str, str], folder: Path, code: str | None = None) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        command = [sys.executable, "-c", code or _RUN, *arguments]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, env={**os.environ, **environ}, cwd=ROOT)
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as out:
            for line in out:
                self.lines.append(line.decode())

    def wait_for(self, words: str, timeout: float = 90) -> str:
        """The first line of its output that holds `words`."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            for line in list(self.lines):
                if words in line:
                    return line
            if self.process.poll() is not None:
                break
            time.sleep(0.02)
        raise AssertionError(f"{self.name} does not say {words!r} (exit {self.process.poll()}):\n{self.tail()}")

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.wait(10)
        self._reader.join(5)

    def stop(self) -> int:
        """SIGTERM -> exit code."""
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(15)
        self._reader.join(5)
        return code

    def tail(self) -> str:
        """The end of what it said."""
        return "".join(self.lines[-20:]) + self.log.read_text("utf-8", "replace")[-3000:]


class Lab:
    """Settings, processes and questions of one installation."""

    def __init__(self, broker: Broker, database: str, folder: Path) -> None:
        self.broker = broker
        self.database = database
        self.folder = folder
        self.children: list[Child] = []
        self.environ = {"TIPLINE_LOG": broker.url, "TIPLINE_DATABASE": database, "TIPLINE_KEYS": str(folder / "keys.json"), "TIPLINE_LOG_LEVEL": "info"}
        self._token = ""
        self._ports: dict[str, int] = {}

    @property
    def servers(self) -> list[str]:
        """Kafka's addresses."""
        return [self.broker.address]

    # --- processes ---------------------------------------------------------------------------------------------------------

    def start(self, *arguments: str, name: str = "", code: str | None = None) -> Child:
        """One command, with a data directory by its name."""
        name = name or arguments[0]
        child = Child(name, [*arguments, "--data", str(self.folder / name)], self.environ, self.folder, code)
        self.children.append(child)
        return child

    def run(self, *arguments: str, name: str = "run", code: int = 0) -> str:
        """One command to its end -> its output; it must exit with `code`."""
        child = self.start(*arguments, name=name)
        ended = child.process.wait(60)
        child._reader.join(5)
        assert ended == code, child.tail()
        return "".join(child.lines)

    def here(self, *arguments: str, **environ: str) -> tuple[int, str]:
        """One command within this process, which saves its start -> (exit code, what it said). For what opens no database."""
        said = io.StringIO()
        given = {**self.environ, **environ, "TIPLINE_DATA": str(self.folder / "here")}
        with mock.patch.dict(os.environ, given), contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            try:
                main(arguments)
            except SystemExit as leave:
                return int(leave.code or 0), said.getvalue()
        raise AssertionError("the command line always exits")

    def topics(self) -> None:
        """Makes the topics."""
        (self.folder / "topics").mkdir(exist_ok=True)
        create_topics(Store(load_settings(self.environ, {"data": str(self.folder / "topics")})), 1)

    def service(self, name: str) -> Child:
        """A service of docker-compose.yml: its very command and settings, but for addresses and ports of this machine."""
        service = COMPOSE["services"][name]
        settings = {key: self._of_this_machine(key, value) for key, value in service["environment"].items()}
        arguments = list(service["command"])
        for option in ("--port", "--metrics-port"):
            if option in arguments:
                at = arguments.index(option) + 1
                self._ports[name] = free_port()
                arguments[at] = str(self._ports[name])
        environ = {**settings, "TIPLINE_DATA": str(self.folder / name)}
        child = Child(name, arguments, environ, self.folder)
        self.children.append(child)
        return child

    def _of_this_machine(self, name: str, value: str) -> str:
        """The compose file may say nothing that the lab does not know the place of here."""
        return {"TIPLINE_LOG_LEVEL": value, **self.environ}[name]

    def healthy(self, child: Child, timeout: float = 90) -> None:
        """Waits until a service's own health check says that it is well."""
        name = child.name
        check = COMPOSE["services"][name]["healthcheck"]["test"]
        assert check[:2] == ["CMD", "python"]
        command = [sys.executable, *(re.sub(r":(8080|9100)/", f":{self._ports[name]}/", word) for word in check[2:])]
        deadline = time.monotonic() + timeout
        while (done := subprocess.run(command, capture_output=True, check=False, timeout=30)).returncode:
            assert child.process.poll() is None and time.monotonic() < deadline, f"{done.stderr.decode()}\n{child.tail()}"
            time.sleep(0.2)

    def worker(self, name: str = "worker-1", **changes: Any) -> Child:
        """A worker with a name of its own, ready."""
        child = self.start("worker", "--name", name, name=name, **changes)
        child.wait_for("is ready")
        return child

    def sink(self) -> Child:
        """The sink, ready."""
        child = self.start("sink")
        child.wait_for("is ready")
        return child

    def gateway(self, name: str = "gateway", *options: str) -> tuple[Child, str]:
        """A gateway, ready, and its URL."""
        child = self.start("gateway", "--port", str(free_port()), *options, name=name)  # on which it is found again after a kill
        return child, child.wait_for("ready at").split()[-1]

    def end(self) -> None:
        """Kills what still runs."""
        for child in self.children:
            if child.process.poll() is None:
                child.kill()
        self._engine.dispose()

    # --- tips -----------------------------------------------------------------------------------------------------------------

    def token(self) -> str:
        """An admin's token."""
        if not self._token:
            principal = Principal("", "admin", None, None, "anping")
            with writing(self._engine) as connection:
                self._token = create_token(connection, entropy=secrets.token_bytes(ENTROPY_BYTES), principal=principal, now=now_ms())
        return self._token

    def produce(self, records: Iterable[Tip | bytes], county: str = "anping") -> None:
        """Writes tips, or whatever bytes, past the gateway."""
        partition = topics.read_layout(self.servers).partition(county)
        producer = KafkaProducer(bootstrap_servers=self.servers, linger_ms=5, batch_size=65536)
        waiting = []
        for record in records:
            key, value, headers = of_input(record) if isinstance(record, Tip) else (county.encode(), record, [])
            waiting.append(producer.send("tips", value, key=key, partition=partition, headers=list(headers)))
        for future in waiting:
            future.get(30)
        producer.close()

    def post(self, url: str, submission: dict[str, Any], timeout: float = 10) -> tuple[int, dict[str, Any]]:
        """One tip over HTTP -> (status, body)."""
        request = urllib.request.Request(
            f"{url}/v1/tips", json.dumps(submission).encode(), {"authorization": f"Bearer {self.token()}", "content-type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=timeout) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                retry = {"retry-after": after} if (after := error.headers.get("retry-after")) else {}
                return error.code, {**json.loads(error.read() or b"{}"), **retry}

    # --- what came of it --------------------------------------------------------------------------------------------------

    def decided(self, county: str = "anping") -> dict[str, Decision]:
        """The latest decision of each tip, from the log `decisions`."""
        partition = topics.read_layout(self.servers).partition(county)
        assembler, latest = Assembler(), {}
        for records in read_through(self.servers, "decisions", partition):
            for record in records:
                group = assembler.feed(record.offset, record.value, record.headers)
                for output in group.outputs if group else ():
                    if isinstance(output, Decision):
                        latest[output.tip_id] = output
        return latest

    def repeats(self, county: str = "anping") -> int:
        """Outputs that stand in the log more than once."""
        partition = topics.read_layout(self.servers).partition(county)
        keys = [
            (output.tip_id, output.revision)
            for records in read_through(self.servers, "decisions", partition)
            for record in records
            if isinstance(output := decode_output(record.value), Decision)
        ]
        return len(keys) - len(set(keys))

    def rows(self, statement: str) -> list[Any]:
        """Rows of the database."""
        with reading(self._engine) as connection:
            return [tuple(row) for row in connection.execute(text(statement))]

    @cached_property
    def _engine(self) -> Engine:
        return open_database(self.database)

    @contextlib.contextmanager
    def database_away(self) -> Iterator[None]:
        """PostgreSQL refuses every connection to the database, and ends those that there are."""
        name = self._engine.url.database
        server = open_database(self._engine.url.set(database="postgres").render_as_string(hide_password=False))
        self._engine.dispose()
        try:
            with server.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                connection.execute(text(f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS false"))
                connection.execute(text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name"), {"name": name})
                yield
                connection.execute(text(f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS true"))
        finally:
            server.dispose()

    def execute(self, statement: str) -> None:
        """Changes the database past everybody."""
        with writing(self._engine) as connection:
            connection.execute(text(statement))

    def send(self, topic: str, key: bytes | None, value: bytes, headers: Any) -> None:
        """One record past everybody, into the first partition."""
        producer = KafkaProducer(bootstrap_servers=self.servers)
        producer.send(topic, value, key=key, partition=0, headers=list(headers)).get(30)
        producer.close()

    def widen(self, topic: str, partitions: int) -> None:
        """Adds partitions to a topic past everybody."""
        admin = KafkaAdminClient(bootstrap_servers=self.broker.address)
        try:
            admin.create_partitions({topic: NewPartitions(partitions)})
        finally:
            admin.close()

    def largest_message(self, topic: str, size: int) -> None:
        """Sets the size above which the broker refuses a record of a topic."""
        admin = KafkaAdminClient(bootstrap_servers=self.broker.address)
        try:
            admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, configs={"max.message.bytes": str(size)})])
        finally:
            admin.close()

    def wait_for_tips(self, count: int, timeout: float = 60) -> None:
        """Waits until the tables know so many tips."""
        self.wait_for("SELECT count(*) FROM incident_tips", count, timeout)

    def wait_for(self, question: str, count: int, timeout: float = 60) -> None:
        """Waits until the database answers a count with `count` or more."""
        deadline = time.monotonic() + timeout
        known = -1
        while time.monotonic() < deadline:
            known = self.rows(question)[0][0]
            if known >= count:
                return
            time.sleep(0.1)
        said = "\n".join(f"--- {child.name} (exit {child.process.poll()})\n{child.tail()}" for child in self.children if child.name != "run")
        raise AssertionError(f"{question}: {known} of {count} after {timeout} s\n{said}")


class KafkaLog:
    """The topic `tips` as `tipline.verify` reads a log. What a relay sent again after a crash is left out."""

    def __init__(self, servers: list[str]) -> None:
        self._servers = servers
        self._layout = topics.read_layout(servers)
        self._known: dict[str, list[Row]] = {}

    def counties(self) -> list[str]:
        """Counties that have records."""
        return sorted(self._layout.partitions)

    def read(self, county: str, after: int, limit: int) -> list[Row]:
        """Up to `limit` rows with position > `after`."""
        rows = self._rows(county)
        begin = bisect_right(rows, after, key=lambda row: row.position)
        return rows[begin : begin + limit]

    def _rows(self, county: str) -> list[Row]:
        """All rows, as the topic stood when it was first asked for them: it is asked piece by piece."""
        if county not in self._known:
            rows, seen = [], set[bytes]()
            for records in read_through(self._servers, "tips", self._layout.partition(county)):
                for record in records:
                    value = record.value or b""
                    if value not in seen:
                        rows.append(Row(record.offset + 1, (record.key or b"").decode(), value))
                    if dict(record.headers).get("ce_type") == b"tipline.tip.v1":
                        seen.add(value)
            self._known[county] = rows
        return self._known[county]

    def end(self, county: str) -> int:
        """The last position."""
        return end_of(self._servers, "tips", self._layout.partition(county))


def wipe(broker: Broker) -> None:
    """Removes all topics and groups: the next installation begins anew."""
    admin = KafkaAdminClient(bootstrap_servers=broker.address)
    try:
        names = [name for name in admin.list_topics() if not name.startswith("__")]
        if names:
            admin.delete_topics(names)
        for _ in range(100):
            if not [name for name in admin.list_topics() if not name.startswith("__")]:
                break
            time.sleep(0.05)
        groups = [group["group_id"] for group in admin.list_groups()]
        if groups:
            admin.delete_groups(groups)
    finally:
        admin.close()
