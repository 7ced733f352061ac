"""A transport for Faust that hands an agent one fetched batch of records as one event: scheme `batched://HOST:PORT`.

Faust's own driver makes an event, four asyncio tasks and a tracked acknowledgement for every record; that is most of its
cost. Here the records of one partition that one fetch brought are the value of one message (`Batch`), whose offset is that
of the last. Everything else - groups, rebalancing, committing, stopping - is Faust's.

What differs from the driver underneath, all in `Consumer`:

- `_drain_messages` turns the fetched mapping of partitions into one message a partition.
- A partition with `MOST_IN_FLIGHT` batches that are not acknowledged is not fetched from until one is. So a slow partition
  holds up no other, and memory is bounded by batches, not by luck.
- Offsets to commit follow from the batches in the order they were handed out: the last of the leading acknowledged ones.
  Faust's own bookkeeping by single offsets would take a batch for one record with a gap before it.

The producer is idempotent with `acks=all` and sends whole batches (`Producer.send_records`).

This leans on private parts of faust-streaming 0.15.3, which is pinned; `tests/contracts/test_driver.py` holds each of them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

from faust.serializers.schemas import Schema
from faust.transport.drivers import aiokafka as base
from faust.types import TP
from faust.types.tuples import ConsumerMessage, Message, ack_lock
from mode.utils.futures import notify

from streams.distributed.envelope import Sendable

#: Batches of one partition that may wait for their acknowledgement.
MOST_IN_FLIGHT: Final = 4


#: The delivery of one batch (its result has the offset of the first record), and how many records it has.
Sent = tuple["asyncio.Future[Any]", int]


class BatchSchema(Schema[Any, Any]):
    """Gives the agent a message's batch as it is: nothing is decoded here, so nothing can fail here."""

    def loads_key(self, app: Any, message: Any, **_: Any) -> None:
        """Batches have no key of their own."""

    def loads_value(self, app: Any, message: Any, **_: Any) -> Any:
        """The records (`aiokafka.structs.ConsumerRecord`), in order."""
        return message.value


class Consumer(base.Consumer):
    """Faust's consumer, batch by batch."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        #: Batches handed out and not committed yet, oldest first.
        self._handed: dict[TP, deque[ConsumerMessage]] = {}
        self._room = asyncio.Event()
        #: The group's generation when the last fetch began.
        self._fetch_generation: Any = None
        #: Where records began after a gap, once seen.
        self._hole: dict[TP, int] = {}
        super().__init__(*args, **kwargs)

    # --- reading -----------------------------------------------------------------------------------------------------------

    async def _drain_messages(self, fetcher: Any) -> None:
        """Faust's fetcher runs this until it is stopped."""
        try:
            while not (self._stopped.is_set() or fetcher._stopped.is_set()):  # noqa: SLF001
                for tp, records in (await self._next_batches()).items():
                    message = self._batch(tp, records)
                    self._handed.setdefault(tp, deque()).append(message)
                    self._read_offset[tp] = message.offset + 1
                    await self.wait_first(self.callback(message), self.suspend_flow.wait())
        except self.consumer_stopped_errors:
            if not self.transport.app.should_stop:
                raise
        except asyncio.CancelledError:
            if not self.transport.app.should_stop:
                raise

    async def _next_batches(self) -> Mapping[TP, Sequence[Any]]:
        """What one fetch brought, less what was read before. A fetch that a rebalance, or a stop of the flow, overtook is
        dropped, and reading goes back to the committed offsets: the fetcher itself has moved on."""
        await asyncio.sleep(0)
        fetched, _ = await self._wait_next_records(1.0)
        if not fetched or self.should_stop:
            return {}
        if not self.flow_active or self.app.consumer_generation_id != self._fetch_generation:
            await self.perform_seek()
            return {}
        found = {}
        for tp, records in fetched.items():
            wanted = await self._unread(tp, records)
            if wanted:
                found[tp] = wanted
                self.app.monitor.track_tp_end_offset(tp, self.highwater(tp))
        return found

    async def _unread(self, tp: TP, records: Any) -> Any:
        """The records that come next. A gap before them is looked at twice: only a hole in the log itself stays one."""
        since = self._read_offset[tp] or 0
        begin = records[0].offset
        if begin < since:
            return [record for record in records if record.offset >= since]
        if begin > since and self._hole.get(tp) != begin:
            self._hole[tp] = begin
            await self.seek(tp, since)
            return []
        return records

    async def _getmany(self, active_partitions: Any, timeout: float) -> Any:
        """Fetches from those partitions that have room for another batch; waits where none has."""
        self._room.clear()
        ready = {tp for tp in active_partitions or () if self._in_flight(tp) < MOST_IN_FLIGHT}
        self._fetch_generation = self.app.consumer_generation_id
        if not ready:
            await self.wait_first(self._room.wait(), self.suspend_flow.wait(), timeout=timeout)
            return {}
        return await super()._getmany(ready, timeout)

    def _in_flight(self, tp: TP) -> int:
        return sum(not message.acked for message in self._handed.get(tp, ()))

    def _batch(self, tp: TP, records: Any) -> ConsumerMessage:
        last = records[-1]
        size = sum(len(record.value or b"") for record in records)
        return ConsumerMessage(
            last.topic,
            last.partition,
            last.offset,
            (last.timestamp or 0) / 1000,
            last.timestamp_type,
            None,
            None,
            records,
            None,
            0,
            size,
            TP(tp.topic, tp.partition),
            generation_id=self.app.consumer_generation_id,
        )

    # --- acknowledging and committing -----------------------------------------------------------------------------------

    def ack(self, message: Message) -> bool:
        """Marks a batch as done. Its offset is committed once those before it are done too."""
        with ack_lock:
            if message.acked:
                return False
            message.acked = True
            self._unacked_messages.discard(message)
        notify(self._waiting_for_ack)
        self._room.set()
        return True

    def _new_offset(self, tp: TP) -> int | None:
        handed = self._handed.get(tp)
        newest: int | None = None
        while handed and handed[0].acked:
            newest = handed.popleft().offset + 1
        return newest

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Any:
        return (tp for tp in list(self._handed) if topics is None or tp in topics or tp.topic in topics)

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Waits for the batches at work and commits them, then forgets the rest: their next owner reads them again."""
        await super().on_partitions_revoked(revoked)
        for tp in revoked:
            self._handed.pop(tp, None)
        self._room.set()


class Producer(base.Producer):
    """Faust's producer: idempotent, and with whole batches."""

    def _settings_extra(self) -> Mapping[str, Any]:
        return {"acks": "all", "enable_idempotence": True}

    async def send_records(self, topic: str, partition: int, records: Sequence[Sendable]) -> list[Sent]:
        """Queues records for one partition, in order -> a future and a count for each batch they make.

        Returns as soon as all are queued. A future is done when the broker has its batch on its word; each must be
        awaited, for it carries the failure if there is one.
        """
        producer = self._ensure_producer()
        sent: list[Sent] = []
        batch = producer.create_batch()
        for key, value, headers in records:
            if batch.append(timestamp=None, key=key, value=value, headers=headers) is None:
                sent.append((await producer.send_batch(batch, topic, partition=partition), batch.record_count()))
                batch = producer.create_batch()
                batch.append(timestamp=None, key=key, value=value, headers=headers)
        if batch.record_count():
            sent.append((await producer.send_batch(batch, topic, partition=partition), batch.record_count()))
        return sent


class Transport(base.Transport):
    """Faust's transport over aiokafka with the two above."""

    Consumer: ClassVar[type[Consumer]] = Consumer
    Producer: ClassVar[type[Producer]] = Producer
    driver_version = f"batched, {base.Transport.driver_version}"
