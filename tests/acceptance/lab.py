"""A distributed installation on this machine: a real broker, a real database, and the commands as processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kafka import KafkaAdminClient, KafkaProducer
from sqlalchemy import text

from schemas.codec import decode_output
from schemas.records import Decision, Tip
from sinks.database import open_database, reading
from streams.distributed import topics
from streams.distributed.envelope import Assembler, of_input
from streams.distributed.past import end_of, read_through
from streams.ports import Row
from tests.kafka_fixtures import Broker

ROOT = Path(__file__).parents[2]


_RUN = """
from tipline import cli
for name in ("gateway", "worker", "sink", "topics", "consume"):
    cli.COMMANDS.setdefault(name, (f"tipline.commands.{name}", name, ""))
cli.main()
"""


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

    def wait_for(self, words: str, timeout: float = 40) -> str:
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
        self.environ = {"TIPLINE_LOG": broker.url, "TIPLINE_DATABASE": database, "TIPLINE_KEYS": str(folder / "keys.json"), "PYTHONDONTWRITEBYTECODE": "1"}
        self._token = ""

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

    def run(self, *arguments: str, name: str = "run") -> str:
        """One command to its end -> its output; it must exit 0."""
        child = self.start(*arguments, name=name)
        code = child.process.wait(60)
        child._reader.join(5)
        assert code == 0, child.tail()
        return "".join(child.lines)

    def topics(self) -> None:
        """Makes the topics."""
        self.run("topics", "create")

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
        child = self.start("gateway", "--port", "0", *options, name=name)
        return child, child.wait_for("ready at").split()[-1]

    def end(self) -> None:
        """Kills what still runs."""
        for child in self.children:
            if child.process.poll() is None:
                child.kill()

    # --- tips -----------------------------------------------------------------------------------------------------------------

    def token(self) -> str:
        """An admin's token."""
        if not self._token:
            self._token = self.run("token", "create", "--role", "admin", name="gateway").strip().splitlines()[-1]
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
                return error.code, json.loads(error.read() or b"{}")

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
        engine = open_database(self.database)
        try:
            with reading(engine) as connection:
                return [tuple(row) for row in connection.execute(text(statement))]
        finally:
            engine.dispose()

    def wait_for_tips(self, count: int, timeout: float = 60) -> None:
        """Waits until the tables know so many tips."""
        self.wait_for("SELECT count(*) FROM incident_tips", count, timeout)

    def wait_for(self, question: str, count: int, timeout: float = 30) -> None:
        """Waits until the database answers a count with `count` or more."""
        deadline = time.monotonic() + timeout
        known = -1
        while time.monotonic() < deadline:
            known = self.rows(question)[0][0]
            if known >= count:
                return
            time.sleep(0.2)
        said = "\n".join(f"--- {child.name} (exit {child.process.poll()})\n{child.tail()}" for child in self.children if child.name != "run")
        raise AssertionError(f"{question}: {known} of {count} after {timeout} s\n{said}")


class KafkaLog:
    """The topic `tips` as `tipline.verify` reads a log. What a relay sent again after a crash is left out."""

    def __init__(self, servers: list[str]) -> None:
        self._servers = servers
        self._layout = topics.read_layout(servers)

    def counties(self) -> list[str]:
        """Counties that have records."""
        return sorted(self._layout.partitions)

    def read(self, county: str, after: int, limit: int) -> list[Row]:
        """Up to `limit` rows with position > `after`."""
        rows: list[Row] = []
        seen: set[bytes] = set()
        for records in read_through(self._servers, "tips", self._layout.partition(county)):
            for record in records:
                value = record.value or b""
                if value not in seen and record.offset >= after and len(rows) < limit:
                    rows.append(Row(record.offset + 1, (record.key or b"").decode(), value))
                if dict(record.headers).get("ce_type") == b"tipline.tip.v1":
                    seen.add(value)
        return rows

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
