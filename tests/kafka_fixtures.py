"""A real Kafka broker (KRaft, one node) from Maven's jars: started once a run, killed and restarted where a test says so.

`deploy/kafka/fetch.sh` puts the jars into `.kafka/libs`. Without Java or the jars, tests are skipped with the reason; where
CI=true they fail.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ports import free_ports

ROOT = Path(__file__).parents[1]
LIBS = ROOT / ".kafka" / "libs"
_CLUSTER = "dGlwbGluZS1mb3ItdGVzdA"


class Broker:
    """One broker on a free loopback port. `kill` is SIGKILL; the log survives on the disk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port, self._controller = free_ports(2)
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        self._settings = folder / "server.properties"
        self._settings.write_text(self._properties(), "utf-8")
        self._run("kafka.tools.StorageTool", "format", "-t", _CLUSTER, "-c", str(self._settings), "--ignore-formatted")

    @property
    def address(self) -> str:
        """HOST:PORT."""
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """What TIPLINE_LOG takes."""
        return f"kafka://{self.address}"

    @property
    def pid(self) -> int | None:
        """Of the process, while it runs."""
        return None if self._process is None or self._process.poll() is not None else self._process.pid

    def start(self, timeout: float = 60) -> None:
        """Starts it and waits until it answers."""
        log = (self.folder / "broker.log").open("ab")
        self._process = subprocess.Popen(_java("kafka.Kafka", str(self._settings)), stdout=log, stderr=log, start_new_session=True)
        log.close()
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise RuntimeError(f"Kafka ended at its start:\n{self.tail()}")
            if _answers(self.port):
                return
            time.sleep(0.1)
        raise RuntimeError(f"Kafka does not answer after {timeout} s:\n{self.tail()}")

    def kill(self) -> None:
        """SIGKILL, as a power cut of the process."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Ends it in good order; at the latest after ten seconds it is killed."""
        self._end(signal.SIGTERM)

    def pause(self) -> None:
        """SIGSTOP: the port stays open and nobody answers."""
        if self.pid is not None:
            os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        if self.pid is not None:
            os.kill(self.pid, signal.SIGCONT)

    def tail(self) -> str:
        """The end of its log."""
        return (self.folder / "broker.log").read_text("utf-8", "replace")[-3000:]

    def _end(self, number: int) -> None:
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        process.send_signal(number)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)

    def _run(self, main: str, *arguments: str) -> None:
        done = subprocess.run(_java(main, *arguments), capture_output=True, check=False, timeout=60)
        if done.returncode:
            raise RuntimeError(f"{main}: {done.stdout.decode()}{done.stderr.decode()}")

    def _properties(self) -> str:
        return "\n".join(
            (
                "process.roles=broker,controller",
                "node.id=1",
                f"controller.quorum.voters=1@127.0.0.1:{self._controller}",
                f"listeners=PLAINTEXT://127.0.0.1:{self.port},CONTROLLER://127.0.0.1:{self._controller}",
                f"advertised.listeners=PLAINTEXT://127.0.0.1:{self.port}",
                "controller.listener.names=CONTROLLER",
                "listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
                f"log.dirs={self.folder / 'data'}",
                "offsets.topic.replication.factor=1",
                "offsets.topic.num.partitions=2",
                "transaction.state.log.replication.factor=1",
                "transaction.state.log.min.isr=1",
                "transaction.state.log.num.partitions=2",
                "share.coordinator.state.topic.replication.factor=1",
                "share.coordinator.state.topic.min.isr=1",
                "group.initial.rebalance.delay.ms=0",
                "group.min.session.timeout.ms=1000",
                "broker.session.timeout.ms=2000",  # a killed one may come back at once
                "broker.heartbeat.interval.ms=500",
                "auto.create.topics.enable=false",
                "num.network.threads=2",
                "num.io.threads=2",
            )
        )


def _java(main: str, *arguments: str) -> list[str]:
    options = ["-Xms128m", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"]
    return ["java", *options, "-cp", f"{LIBS}/*", main, *arguments]


def _answers(port: int) -> bool:
    """Whether the broker serves metadata; an open port alone comes too early."""
    from kafka import KafkaAdminClient
    from kafka.errors import KafkaError

    try:
        with socket.create_connection(("127.0.0.1", port), 0.5):
            pass
        admin = KafkaAdminClient(bootstrap_servers=f"127.0.0.1:{port}", request_timeout_ms=3000, bootstrap_timeout_ms=3000)
    except (OSError, KafkaError):
        return False
    try:
        admin.list_topics()
    except KafkaError:
        return False
    finally:
        admin.close()
    return True


def _missing(what: str) -> None:
    if os.environ.get("CI") == "true":
        pytest.fail(f"missing: {what}")
    pytest.skip(f"missing: {what}")


def new_broker() -> Broker:
    """A broker of one's own, not started; for tests that kill it. Call `discard` at the end."""
    if shutil.which("java") is None:
        _missing("Java 17, which Kafka runs on")
    if not LIBS.is_dir():
        _missing("Kafka's jars: run deploy/kafka/fetch.sh")
    return Broker(Path(tempfile.mkdtemp(prefix="tl-kafka-")))


def discard(broker: Broker) -> None:
    """Kills it and removes its files."""
    broker.kill()
    shutil.rmtree(broker.folder, ignore_errors=True)


@pytest.fixture(scope="session")
def kafka_broker() -> Iterator[Broker]:
    """A broker that lives as long as the session. A test that kills it starts it again."""
    broker = new_broker()
    try:
        broker.start()
        yield broker
    finally:
        discard(broker)
