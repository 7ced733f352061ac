"""The same work in several frameworks: `python -m bench.engines NAME`, with TIPLINE_LOG and TIPLINE_DATA set. Runs until killed.

Each reads the county's partition of `tips` from its beginning, decides with the one function (`Decider.decide`, in batches
where the framework has batches) and writes the outputs to `decisions`. Only `faust` is tipline's own worker, with all that
it guarantees. The others keep no state beyond the run and recover nothing: they are what the frameworks cost.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any

from schemas.topics import DECISIONS, TIPS
from streams.breaker import Breaker
from streams.distributed.app import BATCH
from streams.distributed.decider import Decider
from streams.distributed.envelope import Sendable
from streams.distributed.past import first_bundles
from streams.ports import Row
from tipline.distributed import fold_maker, logging_to_stderr, run_worker
from tipline.settings import load_settings
from tipline.store import Store

#: Name -> the package it needs beside tipline's own.
ENGINES = {"bare": "aiokafka", "faust": "faust", "quix": "quixstreams", "bytewax": "bytewax", "arroyo": "arroyo"}

_BYTES = 8 << 20


def installed() -> list[str]:
    """Engines that can be measured here, the bare loop first."""
    return [name for name, package in ENGINES.items() if package in sys.modules or find_spec(package) is not None]


def _store() -> Store:
    return Store(load_settings(os.environ))


def _server() -> str:
    return os.environ["TIPLINE_LOG"].removeprefix("kafka://")


def _decider() -> Decider:
    return Decider("anping", fold_maker(_store(), first_bundles([_server()], [0])[0]), Breaker())


def faust() -> None:
    """tipline's worker."""
    logging_to_stderr("warning")
    run_worker(_store(), None, None, lambda _: None)


def bare() -> None:
    """aiokafka alone: fetch, decide, send whole batches, some of them on their way at once."""
    asyncio.run(_bare())


async def _bare() -> None:
    from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

    decider = _decider()
    consumer = AIOKafkaConsumer(bootstrap_servers=_server(), enable_auto_commit=False, max_partition_fetch_bytes=_BYTES)
    producer = AIOKafkaProducer(bootstrap_servers=_server(), acks="all", enable_idempotence=True, max_batch_size=512 << 10, max_request_size=_BYTES)
    await consumer.start()
    await producer.start()
    part = TopicPartition(TIPS, 0)
    consumer.assign([part])
    await consumer.seek_to_beginning(part)
    waiting: list[Any] = []
    while True:
        found = (await consumer.getmany(part, timeout_ms=1000, max_records=BATCH)).get(part, [])
        batch = producer.create_batch()
        for key, value, headers in decider.decide([Row(r.offset + 1, "", r.value) for r in found]).sendables:
            if batch.append(timestamp=None, key=key, value=value, headers=headers) is None:
                waiting.append(await producer.send_batch(batch, DECISIONS, partition=0))
                batch = producer.create_batch()
                batch.append(timestamp=None, key=key, value=value, headers=headers)
        if batch.record_count():
            waiting.append(await producer.send_batch(batch, DECISIONS, partition=0))
        while len(waiting) > 8:
            await waiting.pop(0)


def quix() -> None:
    """Quix Streams: a data frame, record by record."""
    from quixstreams import Application, message_context

    decider = _decider()
    app = Application(
        broker_address=_server(), consumer_group=f"bench-{os.getpid()}", auto_offset_reset="earliest", loglevel="ERROR",
        producer_extra_config={"acks": "all", "enable.idempotence": True, "message.max.bytes": _BYTES},
    )  # fmt: skip
    frame = app.dataframe(app.topic(TIPS, value_deserializer="bytes", key_deserializer="bytes"))

    def decide(value: bytes) -> list[Sendable]:
        return decider.decide([Row(message_context().offset + 1, "", value)]).sendables

    frame = frame.apply(decide, expand=True)
    frame = frame.set_headers(lambda sendable, *_: list(sendable[2])).apply(lambda sendable: sendable[1])
    frame.to_topic(app.topic(DECISIONS, value_serializer="bytes", key_serializer="bytes"))
    app.run()


def bytewax() -> None:
    """Bytewax: a dataflow of batches."""
    import bytewax.operators as op
    from bytewax.connectors.kafka import KafkaSink, KafkaSinkMessage, KafkaSource
    from bytewax.dataflow import Dataflow
    from bytewax.testing import run_main

    decider = _decider()

    def decide(messages: Sequence[Any]) -> list[Any]:
        made = decider.decide([Row(message.offset + 1, "", message.value) for message in messages]).sendables
        return [KafkaSinkMessage(key, value, headers=list(headers)) for key, value, headers in made]

    flow = Dataflow("bench")
    read = op.input("read", flow, KafkaSource([_server()], [TIPS], tail=True, batch_size=BATCH))
    decided = op.flat_map_batch("decide", read, decide)
    settings = {"acks": "all", "enable.idempotence": "true", "message.max.bytes": str(_BYTES)}
    op.output("write", decided, KafkaSink([_server()], DECISIONS, add_config=settings))
    run_main(flow)


def arroyo() -> None:
    """sentry-arroyo: a stream processor with a step that batches."""
    from arroyo.backends import kafka
    from arroyo.processing import StreamProcessor
    from arroyo.processing.strategies import CommitOffsets, RunTask
    from arroyo.processing.strategies.batching import BatchStep
    from arroyo.types import Message, Topic

    decider = _decider()
    producer = kafka.KafkaProducer({"bootstrap.servers": _server(), "acks": "all", "enable.idempotence": True, "message.max.bytes": _BYTES})
    waiting: list[Any] = []

    class Factory:
        """What the processor makes its steps with."""

        def create_with_partitions(self, commit: Any, _partitions: Any) -> Any:
            return BatchStep(BATCH, 0.1, RunTask(decide, CommitOffsets(commit)))

        def shutdown(self) -> None:
            """Nothing to end."""

    def decide(message: Message[Any]) -> int:
        rows = [Row(value.offset + 1, "", value.payload.value) for value in message.payload]
        for key, value, headers in decider.decide(rows).sendables:
            waiting.append(producer.produce(Topic(DECISIONS), kafka.KafkaPayload(key, value, list(headers))))
        while len(waiting) > 8 * BATCH:
            waiting.pop(0).result(30)
        return len(rows)

    settings = kafka.configuration.build_kafka_consumer_configuration({}, bootstrap_servers=[_server()], auto_offset_reset="earliest", group_id=f"bench-{os.getpid()}")
    StreamProcessor(kafka.KafkaConsumer(settings), Topic(TIPS), Factory()).run()


if __name__ == "__main__":
    work: Callable[[], None] = globals()[sys.argv[1]]
    work()
