"""A broker and a log of tips for the measurements of the distributed runtime."""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import NewTopic
from kafka.errors import KafkaError

from producers.keyring import Keyring, write_keyring
from schemas.codec import encode
from schemas.records import Change
from streams.breaker import Breaker
from streams.distributed import topics
from streams.distributed.app import GROUP
from streams.distributed.decider import Decider
from streams.distributed.envelope import of_input
from streams.pipeline import Fold
from streams.ports import Row
from tests.kafka_fixtures import Broker, discard, new_broker
from tests.tips_made import tips
from tipline.county import county_digest, load_county
from tipline.model import load_model

ROOT = Path(__file__).parents[1]


@contextmanager
def broker() -> Iterator[Broker]:
    """A broker of one's own."""
    one = new_broker()
    try:
        one.start()
        yield one
    finally:
        discard(one)


def anping() -> dict[str, object]:
    """The example county's bundle."""
    return load_county(ROOT / "examples" / "anping")


def _bundle(county: str) -> dict[str, object]:
    bundle = anping()
    bundle["county"] = {**bundle["county"], "id": county}  # type: ignore[dict-item]
    return bundle


def _first(county: str, bundle: dict[str, object]) -> Change:
    return Change(county=county, change_id="first", what="county", digest=county_digest(bundle), at="2026-01-01T00:00:00Z", bundle=bundle)


def fill(one: Broker, counties: list[str], count: int) -> None:
    """Makes the topics and writes `count` tips of each county."""
    servers = topics.servers_of(one.url)
    first = {county: [of_input(_first(county, _bundle(county)))] for county in counties}
    topics.create(servers, first, ["police-county", "police-anping"])
    pour(one, counties, count)


def pour(one: Broker, counties: list[str], count: int) -> None:
    """Writes `count` tips of each county into topics that are there."""
    servers = topics.servers_of(one.url)
    layout = topics.read_layout(servers)
    producer = KafkaProducer(bootstrap_servers=servers, batch_size=131072, linger_ms=5)
    for county in counties:
        for tip in tips(count, county):
            key, value, headers = of_input(tip)
            producer.send("tips", value, key=key, partition=layout.partition(county), headers=list(headers))
    producer.flush()
    producer.close()


def fold_alone(county: str, count: int) -> tuple[int, float]:
    """Decides the county's input of `fill` in this process -> (how many outputs, seconds of CPU)."""
    bundle = _bundle(county)
    decider = Decider(county, lambda recall: Fold(bundle, load_model(), recall), Breaker())
    records = [_first(county, bundle), *tips(count, county)]
    rows = [Row(position, county, encode(record)) for position, record in enumerate(records, start=1)]
    began = time.process_time()
    return len(decider.decide(rows).sendables), time.process_time() - began


def forget_decisions(one: Broker) -> None:
    """Empties `decisions` and forgets what the workers have read: the next one begins anew."""
    admin = KafkaAdminClient(bootstrap_servers=one.address)
    try:
        partitions = len(next(t for t in admin.describe_topics() if t["name"] == "decisions")["partitions"])
        admin.delete_topics(["decisions"])
        _until(lambda: "decisions" not in admin.list_topics())
        _until(lambda: _forgotten(admin))
        admin.create_topics([NewTopic("decisions", partitions, 1, topic_configs={"max.message.bytes": str(topics.MAX_MESSAGE_BYTES)})])
        _until(lambda: len(topics.partition_counts(admin)) > 3)
    finally:
        admin.close()


def all_have_joined(one: Broker, workers: int) -> None:
    """Waits until so many workers share the partitions."""
    admin = KafkaAdminClient(bootstrap_servers=one.address)
    try:
        _until(lambda: _shared_by(admin) == workers, 60)
    finally:
        admin.close()


def _shared_by(admin: Any) -> int:
    try:
        group = admin.describe_groups([GROUP])[GROUP]
    except KafkaError:  # no coordinator yet
        return 0
    return len(group["members"]) if group["group_state"] == "Stable" else 0


def _forgotten(admin: Any) -> bool:
    """Deletes the workers' group; while one that was killed a moment ago is still its member, it cannot be."""
    there = GROUP in {group["group_id"] for group in admin.list_groups()}
    if there:
        with contextlib.suppress(KafkaError):
            admin.delete_groups([GROUP])
    return not there


def _until(holds: Callable[[], bool], timeout: float = 30) -> None:
    deadline = time.monotonic() + timeout
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.1)


def wait_for(one: Broker, topic: str, total: int, watched: Sequence[psutil.Process] = (), timeout: float = 300) -> tuple[int, float, float]:
    """Waits until a topic holds `total` records -> (how many it holds, moment by the monotonic clock, seconds of CPU of the
    watched processes)."""
    consumer = KafkaConsumer(bootstrap_servers=one.address, enable_auto_commit=False)
    try:
        parts = [TopicPartition(topic, p) for p in sorted(consumer.partitions_for_topic(topic) or {0})]
        deadline = time.monotonic() + timeout
        while (now := sum(consumer.end_offsets(parts).values())) < total:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{topic} holds {now} of {total}")
            time.sleep(0.02)
        spent = [process.cpu_times() for process in watched]
        return now, time.monotonic(), sum(times.user + times.system for times in spent)
    finally:
        consumer.close()


def module(name: str, *arguments: str, **environ: str) -> subprocess.Popen[bytes]:
    """Runs a module of this checkout in a process of its own."""
    command = [sys.executable, "-m", name, *arguments]
    return subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT), **environ}, cwd=ROOT, stdout=subprocess.DEVNULL)


def keys(folder: str) -> str:
    """A keyring for one run -> its path."""
    path = Path(folder) / "keys.json"
    if not path.exists():
        write_keyring(path, Keyring.create(secrets.token_bytes))
    return str(path)
