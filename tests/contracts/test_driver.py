"""The batched driver: batches instead of records, commits in order, back-pressure by partition, and the private parts of Faust
that it leans on."""

from __future__ import annotations

import asyncio
import inspect
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

import pytest

from tests.conftest import missing

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

if find_spec("faust") is None:
    missing("the extra `distributed`", module=True)

import faust  # noqa: E402
from faust.transport import consumer as faust_consumer  # noqa: E402
from faust.transport.drivers import aiokafka as base  # noqa: E402
from faust.types import TP  # noqa: E402

from streams.distributed.driver import MOST_IN_FLIGHT, BatchSchema, Consumer, Producer, Transport  # noqa: E402

PART = TP("tips", 0)


class _Bare(Consumer):
    """The consumer without its threads."""

    def __init__(self) -> None:
        self._handed = {}
        self._room = asyncio.Event()
        self._unacked_messages = set()
        self._waiting_for_ack = None
        self._read_offset = {}
        self._fetch_generation = 7
        self._hole = {}
        self.app = SimpleNamespace(consumer_generation_id=7)

    def __repr__(self) -> str:
        return "bare"


def _records(begin: int, count: int) -> list[Any]:
    return [
        SimpleNamespace(topic="tips", partition=0, offset=n, timestamp=1000 + n, timestamp_type=0, key=b"k", value=b"v%d" % n, headers=[])
        for n in range(begin, begin + count)
    ]


def _hand_out(consumer: _Bare, begin: int, count: int) -> Any:
    from collections import deque

    message = consumer._batch(PART, _records(begin, count))
    consumer._handed.setdefault(PART, deque()).append(message)
    return message


def test_registered_and_pinned() -> None:
    from faust.transport.drivers import by_url

    assert faust.__version__ == "0.15.3"
    assert by_url("batched://localhost:9092") is Transport
    assert (Transport.Consumer, Transport.Producer) == (Consumer, Producer)


@pytest.mark.parametrize(
    ("owner", "name", "parameters"),
    [
        (faust_consumer.Consumer, "_drain_messages", ["self", "fetcher"]),
        (faust_consumer.Consumer, "_wait_next_records", ["self", "timeout"]),
        (faust_consumer.Consumer, "_getmany", ["self", "active_partitions", "timeout"]),
        (faust_consumer.Consumer, "_new_offset", ["self", "tp"]),
        (faust_consumer.Consumer, "_filter_tps_with_pending_acks", ["self", "topics"]),
        (faust_consumer.Consumer, "ack", ["self", "message"]),
        (faust_consumer.Consumer, "on_partitions_revoked", ["self", "revoked"]),
        (faust_consumer.Consumer, "perform_seek", ["self"]),
        (base.Producer, "_settings_extra", ["self"]),
        (base.Producer, "_ensure_producer", ["self"]),
    ],
)
def test_the_parts_of_faust_that_are_replaced_or_called_are_there(owner: Any, name: str, parameters: list[str]) -> None:
    assert list(inspect.signature(getattr(owner, name)).parameters) == parameters


def test_faust_still_commits_by_what_we_replace() -> None:
    source = inspect.getsource(faust_consumer.Consumer)
    assert "self._filter_tps_with_pending_acks(topics)" in source
    assert "offset = self._new_offset(tp)" in source
    assert "fetcher._drain_messages" in source or "_drain_messages" in inspect.getsource(faust_consumer.Fetcher)


def test_a_batch_is_one_message_with_the_offset_of_its_last_record() -> None:
    message = _Bare()._batch(PART, _records(10, 5))
    assert (message.offset, message.tp, message.generation_id) == (14, PART, 7)
    assert BatchSchema().loads_value(None, message) is message.value
    assert [r.offset for r in message.value] == [10, 11, 12, 13, 14]


def test_offsets_are_committed_in_the_order_of_the_batches() -> None:
    async def scene() -> None:
        consumer = _Bare()
        first, second, third = (_hand_out(consumer, n, 10) for n in (0, 10, 20))
        assert consumer._new_offset(PART) is None
        assert consumer.ack(second)
        assert consumer._new_offset(PART) is None  # the one before it is not done
        assert consumer.ack(first)
        assert not consumer.ack(first)
        assert consumer._new_offset(PART) == 20
        assert consumer._new_offset(PART) is None
        consumer.ack(third)
        assert list(consumer._filter_tps_with_pending_acks()) == [PART]
        assert consumer._new_offset(PART) == 30

    asyncio.run(scene())


def test_a_partition_without_room_is_not_fetched_from(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[set[TP]] = []
    other = TP("tips", 1)

    async def fetch(_: Any, partitions: set[TP], timeout: float) -> dict[TP, Any]:
        asked.append(partitions)
        return {}

    async def first_of(*waiting: Any, timeout: float | None = None) -> None:
        for one in waiting:
            one.close()

    monkeypatch.setattr(base.Consumer, "_getmany", fetch)

    async def scene() -> None:
        consumer = _Bare()
        consumer.suspend_flow = asyncio.Event()
        consumer.wait_first = first_of  # type: ignore[method-assign, assignment]
        handed = [_hand_out(consumer, n * 10, 10) for n in range(MOST_IN_FLIGHT)]
        await consumer._getmany({PART, other}, 1.0)
        assert asked == [{other}]
        assert await consumer._getmany({PART}, 0.01) == {}
        assert len(asked) == 1
        consumer.ack(handed[2])
        assert consumer._room.is_set()
        await consumer._getmany({PART, other}, 1.0)
        assert asked[1] == {PART, other}

    asyncio.run(scene())


class _Reading(_Bare):
    """The consumer with a fetcher that brings what it is told."""

    def __init__(self, since: int) -> None:
        super().__init__()
        self._read_offset = {PART: since}
        self.app.monitor = SimpleNamespace(track_tp_end_offset=lambda *_: None)
        self.flow_active = True
        self.records: dict[TP, Any] = {}
        self.sought: list[Any] = []

    should_stop = False  # type: ignore[assignment]

    def highwater(self, tp: TP) -> int:
        return 0

    async def _wait_next_records(self, timeout: float) -> Any:
        return self.records, None

    async def perform_seek(self) -> None:
        self.sought.append("committed")

    async def seek(self, partition: TP, offset: int) -> None:
        self.sought.append(offset)


def test_what_was_read_before_is_not_handed_out_again() -> None:
    async def scene() -> None:
        consumer = _Reading(since=12)
        consumer.records = {PART: _records(10, 5)}
        found = await consumer._next_batches()
        assert [r.offset for r in found[PART]] == [12, 13, 14]
        consumer.records = {PART: _records(5, 3)}
        assert await consumer._next_batches() == {}
        assert consumer.sought == []

    asyncio.run(scene())


def test_a_fetch_that_a_rebalance_overtook_is_dropped_and_read_again() -> None:
    async def scene() -> None:
        consumer = _Reading(since=10)
        consumer.records = {PART: _records(10, 5)}
        consumer.app.consumer_generation_id = 8
        assert await consumer._next_batches() == {}
        assert consumer.sought == ["committed"]
        consumer._fetch_generation = 8
        assert len((await consumer._next_batches())[PART]) == 5
        consumer.flow_active = False
        assert await consumer._next_batches() == {}
        assert consumer.sought == ["committed", "committed"]

    asyncio.run(scene())


def test_a_gap_is_looked_at_twice() -> None:
    async def scene() -> None:
        consumer = _Reading(since=10)
        consumer.records = {PART: _records(20, 5)}
        assert await consumer._next_batches() == {}
        assert consumer.sought == [10]
        consumer.records = {PART: _records(10, 15)}
        assert [r.offset for r in (await consumer._next_batches())[PART]] == list(range(10, 25))
        consumer._read_offset[PART] = 25
        consumer.records = {PART: _records(40, 2)}
        assert await consumer._next_batches() == {}
        assert [r.offset for r in (await consumer._next_batches())[PART]] == [40, 41]  # a hole in the log itself

    asyncio.run(scene())


def test_records_that_fill_more_than_one_batch_keep_their_order() -> None:
    class Batch:
        def __init__(self) -> None:
            self.values: list[bytes] = []

        def append(self, *, timestamp: None, key: bytes, value: bytes, headers: Any) -> object | None:
            if len(self.values) == 3:
                return None
            self.values.append(value)
            return object()

        def record_count(self) -> int:
            return len(self.values)

    class Fake:
        sent: list[list[bytes]] = []  # noqa: RUF012

        def create_batch(self) -> Batch:
            return Batch()

        async def send_batch(self, batch: Batch, topic: str, *, partition: int) -> Any:
            self.sent.append(batch.values)
            return asyncio.get_running_loop().create_future()

    async def scene() -> None:
        producer = Producer.__new__(Producer)
        fake = Fake()
        producer._ensure_producer = lambda: fake  # type: ignore[method-assign, assignment, return-value]
        sent = await producer.send_records("t", 0, [(b"k", b"%d" % n, []) for n in range(7)])
        assert [count for _, count in sent] == [3, 3, 1]
        assert [v for batch in fake.sent for v in batch] == [b"%d" % n for n in range(7)]
        assert await producer.send_records("t", 0, []) == []
        assert producer._settings_extra() == {"acks": "all", "enable_idempotence": True}

    asyncio.run(scene())
