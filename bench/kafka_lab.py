"""A broker and a log of tips for the measurements of the distributed runtime."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from producers.keyring import Keyring, write_keyring
from schemas.records import Change
from streams.distributed import topics
from streams.distributed.envelope import of_input
from tests.kafka_fixtures import Broker, discard, new_broker
from tests.tips_made import tips
from tipline.county import county_digest, load_county

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


def fill(one: Broker, counties: list[str], count: int) -> None:
    """Makes the topics and writes `count` tips of each county."""
    servers = topics.servers_of(one.url)
    first = {}
    for county in counties:
        bundle = anping()
        bundle["county"] = {**bundle["county"], "id": county}  # type: ignore[dict-item]
        change = Change(county=county, change_id="first", what="county", digest=county_digest(bundle), at="2026-01-01T00:00:00Z", bundle=bundle)
        first[county] = [of_input(change)]
    topics.create(servers, first, ["police-county", "police-anping"])
    layout = topics.read_layout(servers)
    producer = KafkaProducer(bootstrap_servers=servers, batch_size=131072, linger_ms=5)
    for county in counties:
        for tip in tips(count, county):
            key, value, headers = of_input(tip)
            producer.send("tips", value, key=key, partition=layout.partition(county), headers=list(headers))
    producer.flush()
    producer.close()


def ends(one: Broker, topic: str) -> dict[int, int]:
    """Partition -> end offset."""
    consumer = KafkaConsumer(bootstrap_servers=one.address, enable_auto_commit=False)
    try:
        parts = [TopicPartition(topic, p) for p in sorted(consumer.partitions_for_topic(topic) or {0})]
        return {part.partition: end for part, end in consumer.end_offsets(parts).items()}
    finally:
        consumer.close()


def wait_for(one: Broker, topic: str, total: int, timeout: float = 300) -> tuple[float, float]:
    """Waits until a topic holds `total` records -> (first growth, end) by the monotonic clock."""
    consumer = KafkaConsumer(bootstrap_servers=one.address, enable_auto_commit=False)
    parts = [TopicPartition(topic, p) for p in sorted(consumer.partitions_for_topic(topic) or {0})]
    before = sum(consumer.end_offsets(parts).values())
    began = 0.0
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        now = sum(consumer.end_offsets(parts).values())
        if not began and now > before:
            began = time.monotonic()
        if now >= total:
            consumer.close()
            return began, time.monotonic()
        time.sleep(0.05)
    raise TimeoutError(f"{topic} holds {now} of {total}")


def child(code: str, **environ: str) -> subprocess.Popen[bytes]:
    """Runs Python code of this checkout in a process of its own."""
    return subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT), **environ}, cwd=ROOT)


def command(code: str, *arguments: str, **environ: str) -> subprocess.Popen[bytes]:
    """Runs a command of tipline."""
    return subprocess.Popen([sys.executable, "-c", code, *arguments], env={**os.environ, "PYTHONPATH": str(ROOT), **environ}, cwd=ROOT, stdout=subprocess.DEVNULL)


def keys(folder: str) -> str:
    """A keyring for one run -> its path."""
    path = Path(folder) / "keys.json"
    if not path.exists():
        write_keyring(path, Keyring.create(secrets.token_bytes))
    return str(path)
