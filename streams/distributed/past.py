"""The past of a county: its partition of `decisions`, read from its beginning to its end, into a decider.

Why the topic itself and no table of Faust's: a changelog table would write the state a second time, beside the decisions
that hold it already, and the two can differ after a kill (a counter kept so stood at 24,100 after 20,000 events and four
kills). The log is the one truth, it is read at some 30,000 outputs a second, and a takeover that finds the log where it
left it reads nothing at all.
"""

from __future__ import annotations

import gc
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, Final

from kafka import KafkaConsumer, TopicPartition

from schemas.codec import decode_input
from schemas.errors import BadRecord
from schemas.records import Change
from schemas.topics import DECISIONS, TIPS
from streams.distributed.decider import Decider
from streams.distributed.envelope import Assembler, Group, decode_told, is_ours
from streams.distributed.topics import BadTopics, edges, later, reaching
from streams.ports import Bundle

_CHUNK: Final = 2000
_SILENCE: Final = 30


def consumer(servers: Sequence[str]) -> Any:
    """A consumer without a group, for reading a partition through."""
    return KafkaConsumer(
        bootstrap_servers=list(servers),
        enable_auto_commit=False,
        bootstrap_timeout_ms=10_000,
        max_poll_records=_CHUNK,
        max_partition_fetch_bytes=8 * 1024 * 1024,
        fetch_max_bytes=32 * 1024 * 1024,
    )


def end_of(servers: Sequence[str], topic: str, partition: int) -> int:
    """The offset that the next record of a partition will have. Raises NoBroker."""
    return ends_of(servers, topic, [partition])[partition]


def ends_of(servers: Sequence[str], topic: str, partitions: Collection[int]) -> dict[int, int]:
    """The same of several partitions at once."""
    with reaching(servers):
        reader = consumer(servers)
        try:
            ends = reader.end_offsets([TopicPartition(topic, number) for number in partitions])
            return {part.partition: end for part, end in ends.items()}
        finally:
            reader.close()


def read_through(servers: Sequence[str], topic: str, partition: int, begin: int = 0) -> Iterator[list[Any]]:
    """The records of a partition from `begin` to its present end, some thousand at a time. Raises NoBroker."""
    with reaching(servers):
        reader = consumer(servers)
        try:
            part = TopicPartition(topic, partition)
            reader.assign([part])
            end = reader.end_offsets([part])[part]
            reader.seek(part, begin)
            silent = 0
            while reader.position(part) < end:
                records = reader.poll(1000).get(part, [])
                silent = 0 if records else silent + 1
                if silent > _SILENCE:
                    raise BadTopics(f"partition {partition} of {topic} cannot be read past offset {reader.position(part)}")
                yield records
        finally:
            reader.close()


def rebuild(servers: Sequence[str], partition: int, decider: Decider, careful: bool = False) -> int:
    """Puts a decider into the state that the log `decisions` tells -> the log's end. Raises NoBroker, BadTopics."""
    decider.begin_anew(careful)
    # Nothing of what is built here is garbage: looking for some, again and again, would take a third of the time.
    gc.disable()
    try:
        end = _rebuild(servers, partition, decider)
    finally:
        gc.enable()
    gc.freeze()
    return end


def _rebuild(servers: Sequence[str], partition: int, decider: Decider) -> int:
    assembler = Assembler(decode=decode_told)
    end = 0
    for records in read_through(servers, DECISIONS, partition):
        groups: list[Group] = []
        for record in records:
            end = record.offset + 1
            try:
                group = assembler.feed(record.offset, record.value or b"", record.headers)
            except BadRecord as error:
                if is_ours(record.headers):  # Going on without it would make a state that the log does not tell.
                    raise BadTopics(f"{later(DECISIONS, partition, record.offset)} ({error.reason})") from None
                continue
            if group is not None:
                groups.append(group)
        decider.restore(groups)
    return end


def first_bundles(servers: Sequence[str], partitions: Iterable[int]) -> dict[int, Bundle]:
    """The county file with which each partition of `tips` begins. Raises NoBroker, BadTopics."""
    wanted = list(partitions)
    with reaching(servers):
        found = {partition: _bundle(partition, record) for partition, record in edges(servers, TIPS, wanted, last=False)}
    if empty := [partition for partition in wanted if partition not in found]:
        raise BadTopics(f"partition {empty[0]} of {TIPS} is empty")
    return found


def _bundle(partition: int, record: Any) -> Bundle:
    try:
        change = decode_input(record.value or b"")
    except BadRecord:
        change = None
    if isinstance(change, Change) and change.bundle is not None:
        return change.bundle
    raise BadTopics(f"partition {partition} of {TIPS} does not begin with a county file: make the topic with `tipline topics create`")
