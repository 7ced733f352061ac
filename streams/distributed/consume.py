"""A station's queue as its own system reads it: the topic `queue.<station>`, once through, going on where it stopped."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec
from kafka import KafkaConsumer
from kafka.structs import OffsetAndMetadata

from schemas.topics import queue_topic
from streams.distributed.topics import BadTopics, reaching

_POLL_MS: Final = 500


class Reading(msgspec.Struct, frozen=True):
    """What to read, and when to stop."""

    station: str
    #: Readers of one group share the queue; each goes on where the group stopped.
    group: str
    limit: int | None = None
    silence_s: float | None = None


def read_queue(servers: Sequence[str], wanted: Reading, stop: threading.Event) -> Iterator[bytes]:
    """Changes of a station's queue, the oldest first, until `stop`, the limit, or a silence of `silence_s`.

    A document counts as read when the next one is asked for. Raises NoBroker, BadTopics.
    """
    topic = queue_topic(wanted.station)
    with reaching(servers):
        consumer = KafkaConsumer(
            bootstrap_servers=list(servers), group_id=wanted.group, enable_auto_commit=False, auto_offset_reset="earliest", bootstrap_timeout_ms=10_000, session_timeout_ms=10_000
        )
        try:
            if topic not in consumer.topics():
                raise BadTopics(f"there is no topic {topic}: give the station `queue_topic: true` in the county's stations.yaml, then run `tipline topics create`")
            consumer.subscribe([topic])
            yield from _read(consumer, wanted, stop)
        finally:
            consumer.close()


def _read(consumer: Any, wanted: Reading, stop: threading.Event) -> Iterator[bytes]:
    heard, shown = time.monotonic(), 0
    while not stop.is_set() and (wanted.silence_s is None or time.monotonic() - heard < wanted.silence_s):
        for part, records in consumer.poll(_POLL_MS).items():
            for record in records:
                heard = time.monotonic()
                yield record.value
                shown += 1
                if shown == wanted.limit:
                    consumer.commit({part: OffsetAndMetadata(record.offset + 1, "", -1)})
                    return
            consumer.commit({part: OffsetAndMetadata(records[-1].offset + 1, "", -1)})
