"""The topics: their settings, their making and checking, and which partition is whose.

Each county has one partition of its own, the same number in `tips`, `decisions` and `dead_letters`: its records are one
order, its positions are offsets + 1, and no other county's load stands before it. Whose a partition is, its first record
says: `topics create` gives a new county the lowest free partition and writes its county file there as the first `change`.
So the answer stands in the log itself, never moves when counties are added, and every gateway, worker and sink reads the
same one. A producer names the partition; the key's hash is never asked.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import msgspec
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType, NewPartitions, NewTopic
from kafka.errors import KafkaError

from schemas.errors import TiplineError
from schemas.times import DAY
from schemas.topics import ASSIGNMENTS, DEAD_LETTERS, DECISIONS, TIPS, queue_topic
from streams.distributed.envelope import KEYRING, Sendable, is_later

#: Topics of which each county has a partition of its own.
PER_COUNTY: Final = (TIPS, DECISIONS, DEAD_LETTERS)

#: A county file or the change of a large incident is one record.
MAX_MESSAGE_BYTES: Final = 8 * 1024 * 1024
_QUEUE_RETENTION_MS: Final = 90 * DAY
_EXISTS: Final = 36
_CONNECT_MS: Final = 5_000


class NoBroker(TiplineError):
    """No broker answers, or it refuses; the message has the address and what to check."""


class BadTopics(TiplineError):
    """Topics that are missing, too small, or laid out otherwise than they must be."""


class BadAddress(TiplineError):
    """TIPLINE_LOG is not like kafka://HOST:PORT."""


class Layout(msgspec.Struct, frozen=True):
    """Which partition is which county's, and whose keys the installation has."""

    partitions: Mapping[str, int]
    #: Fingerprints of keyrings that the counties' first records name: one, unless somebody made topics with another.
    keyrings: frozenset[str] = frozenset()

    def partition(self, county: str) -> int:
        """The county's partition. Raises BadTopics for a county that has none."""
        if county not in self.partitions:
            known = ", ".join(sorted(self.partitions)) or "none"
            raise BadTopics(f"{county} has no partition of its own in the topic {TIPS} (counties there: {known}): run `tipline topics create --county DIR` with its directory first")
        return self.partitions[county]


def servers_of(url: str) -> list[str]:
    """`kafka://HOST:PORT[,HOST:PORT]` -> bootstrap servers. Raises BadAddress."""
    scheme, _, rest = url.partition("://")
    servers = [part.strip() for part in rest.rstrip("/").split(",")]
    good = scheme == "kafka" and all(host and port.isdigit() and 0 < int(port) < 65536 for host, _, port in (s.rpartition(":") for s in servers))
    if not good:
        raise BadAddress(f"{url!r} is no address of Kafka: write TIPLINE_LOG like kafka://HOST:9092, several brokers with commas")
    return servers


@contextmanager
def reaching(servers: Sequence[str]) -> Iterator[None]:
    """Turns Kafka's errors into NoBroker."""
    try:
        yield
    except KafkaError as error:
        raise NoBroker(
            f"no Kafka broker answers at {', '.join(servers)} ({type(error).__name__}): check that it runs, that TIPLINE_LOG names it, "
            "and that its advertised address can be reached from here"
        ) from None


@contextmanager
def _admin(servers: Sequence[str]) -> Iterator[Any]:
    with reaching(servers):
        admin = KafkaAdminClient(bootstrap_servers=list(servers), bootstrap_timeout_ms=_CONNECT_MS, request_timeout_ms=15_000)
        try:
            yield admin
        finally:
            admin.close()


def connect(servers: Sequence[str]) -> None:
    """Raises NoBroker where no broker answers."""
    with _admin(servers) as admin:
        admin.list_topics()


# --- which partition is whose ---------------------------------------------------------------------------------------------


def read_layout(servers: Sequence[str]) -> Layout:
    """Reads whose each partition of `tips` is. Raises NoBroker, or BadTopics where the topics are not made yet."""
    with _admin(servers) as admin:
        counts = partition_counts(admin)
    if missing := [name for name in (*PER_COUNTY, ASSIGNMENTS) if not counts.get(name)]:
        raise BadTopics(f"the broker at {', '.join(servers)} has no topic {', '.join(missing)}: run `tipline topics create` first")
    for name in PER_COUNTY:
        if counts[name] < counts[TIPS]:
            raise BadTopics(f"the topic {name} has {counts[name]} partitions and {TIPS} has {counts[TIPS]}: run `tipline topics create`, which adds the missing ones")
    with reaching(servers):
        return _owners(servers, counts[TIPS])


def partition_counts(admin: Any) -> dict[str, int]:
    """Topic -> number of its partitions, of all topics of ours that exist."""
    return {found["name"]: len(found["partitions"]) for found in admin.describe_topics() if not found["error_code"]}


def _owners(servers: Sequence[str], count: int) -> Layout:
    owners: dict[str, int] = {}
    keyrings: set[str] = set()
    for partition, record in edges(servers, TIPS, range(count), last=False):
        county = (record.key or b"").decode("utf-8", "replace")
        if county in owners:
            raise BadTopics(f"two partitions of {TIPS} begin as those of {county!r}: {owners[county]} and {partition}. Another program wrote there; make the topic anew")
        owners[county] = partition
        keyrings |= {value.decode("utf-8", "replace") for name, value in record.headers if name == KEYRING}
    return Layout(owners, frozenset(keyrings))


def refuse_later(servers: Sequence[str], layout: Layout) -> None:
    """Raises BadTopics where a later version of tipline has written the newest record of a log, NoBroker."""
    with reaching(servers):
        for topic in (TIPS, DECISIONS):
            for partition, record in edges(servers, topic, layout.partitions.values(), last=True):
                if is_later(record.headers):
                    raise BadTopics(later(topic, partition, record.offset))


def later(topic: str, partition: int, offset: int) -> str:
    """What to say of a record that a later version wrote."""
    return f"offset {offset} in partition {partition} of {topic} was written by a later version of tipline, whose records this one does not know: run that version. Nothing is lost"


def edges(servers: Sequence[str], topic: str, partitions: Iterable[int], *, last: bool) -> Iterator[tuple[int, Any]]:
    """The first or the last record of each partition that has one."""
    consumer = KafkaConsumer(bootstrap_servers=list(servers), enable_auto_commit=False, bootstrap_timeout_ms=_CONNECT_MS, max_poll_records=1)
    try:
        parts = [TopicPartition(topic, number) for number in partitions]
        begins, ends = consumer.beginning_offsets(parts), consumer.end_offsets(parts)
        # One after the other: one record of each is all that is wanted.
        for part in (p for p in parts if ends[p] > begins[p]):
            consumer.assign([part])
            consumer.seek(part, ends[part] - 1 if last else begins[part])
            found: list[Any] = []
            for _ in range(20):
                found = consumer.poll(1000, max_records=1).get(part, [])
                if found:
                    break
            if not found:
                raise BadTopics(f"partition {part.partition} of {topic} cannot be read")
            yield part.partition, found[0]
    finally:
        consumer.close()


# --- making ---------------------------------------------------------------------------------------------------------------


def create(servers: Sequence[str], first: Mapping[str, Sequence[Sendable]], stations: Sequence[str], replication: int = 1) -> list[str]:
    """Makes what is missing, adds partitions where there are too few, and gives new counties a partition each.

    `first` are the records with which a new county's input begins. Nothing that exists is changed otherwise, so it may run
    any number of times. Returns what was done and what was found, a line each. Raises NoBroker, BadTopics.
    """
    told: list[str] = []
    with _admin(servers) as admin:
        counts = partition_counts(admin)
        known = dict(_owners(servers, counts[TIPS]).partitions) if counts.get(TIPS) else {}
        fresh = sorted(set(first) - set(known))
        used = len(known) + len(fresh)
        wanted = {name: max(used, counts.get(TIPS, 0), 1) for name in PER_COUNTY} | {ASSIGNMENTS: 1}
        wanted |= {queue_topic(station): 1 for station in stations}
        for name, partitions in wanted.items():
            told.append(_make(admin, name, partitions, counts.get(name, 0), replication))
        told.extend(_differing(admin, list(wanted), replication))
    with reaching(servers):
        _begin(servers, known, fresh, first)
    layout = read_layout(servers)
    told.extend(f"{county}: partition {number}" + (" (new)" if county in fresh else "") for county, number in sorted(layout.partitions.items()))
    return told


def _settings(name: str, replication: int) -> dict[str, str]:
    return {
        "cleanup.policy": "delete",
        "retention.ms": str(_QUEUE_RETENTION_MS) if name.startswith("queue.") else "-1",
        "max.message.bytes": str(MAX_MESSAGE_BYTES),
        "min.insync.replicas": str(max(1, replication - 1)),
        "unclean.leader.election.enable": "false",
    }


def _make(admin: Any, name: str, partitions: int, existing: int, replication: int) -> str:
    if not existing:
        topic = NewTopic(name, partitions, replication, topic_configs=_settings(name, replication))
        answer = admin.create_topics([topic], raise_errors=False)["topics"][0]
        if answer["error_code"] not in (0, _EXISTS):
            raise BadTopics(f"the topic {name} cannot be made: {answer['error_message']}. With fewer brokers than {replication} give a smaller --replication")
        return f"{name}: made, {partitions} partition{'s' if partitions > 1 else ''}"
    if existing < partitions:
        admin.create_partitions({name: NewPartitions(partitions)})
        return f"{name}: had {existing} partitions, now {partitions}"
    return f"{name}: there, {existing} partition{'s' if existing > 1 else ''}"


def _differing(admin: Any, names: Sequence[str], replication: int) -> list[str]:
    """Settings of existing topics that would lose or refuse records, a warning each."""
    found = admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name) for name in names], config_filter="all")["topic"]
    warnings = []
    for name in names:
        for key, value in _settings(name, replication).items():
            is_ = found.get(name, {}).get(key, {}).get("value")
            if is_ is not None and is_ != value:
                warnings.append(f"{name}: WARNING: {key} is {is_}, should be {value}")
    return warnings


def _begin(servers: Sequence[str], known: Mapping[str, int], fresh: Sequence[str], first: Mapping[str, Sequence[Sendable]]) -> None:
    if not fresh:
        return
    taken = set(known.values())
    free = (number for number in range(len(known) + len(fresh) + len(taken)) if number not in taken)
    producer = KafkaProducer(bootstrap_servers=list(servers), acks="all", bootstrap_timeout_ms=_CONNECT_MS, max_request_size=MAX_MESSAGE_BYTES)
    try:
        for county in fresh:
            partition = next(free)
            waiting = [producer.send(TIPS, value, key=key, partition=partition, headers=list(headers)) for key, value, headers in first[county]]
            for future in waiting:
                future.get(20)
    finally:
        producer.close(timeout=5)
