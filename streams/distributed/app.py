"""The Faust app around the fold: batches of `tips` in, `decisions` and `dead_letters` out, at least once, nothing lost.

How the two ways in which Faust loses events are closed:

- *An exception that leaves an agent.* None can: everything that an event sets off runs under `Room.guard`, which ends the
  process on any exception, with the reason, before anything is acknowledged.
- *A send that fails after the acknowledgement.* Streams run with `noack()`; a batch is acknowledged only when the broker has
  given its word for every output and every dead letter of it. A send that fails ends the process likewise.

A process that ends so is started again by whoever runs it, takes up its state from `decisions` and reads what was not
acknowledged. Outputs that it had written before are written again, with the same content, and known by their position.

Each partition has a `Seat`: its county's decider, its queue and its deliveries. Deciding and delivering overlap: while the
outputs of one batch are on their way, the next is decided (`driver.MOST_IN_FLIGHT` bounds how many).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

import faust
import msgspec
from yarl import URL

from schemas.topics import DEAD_LETTERS, DECISIONS, TIPS
from streams.breaker import Breaker
from streams.distributed.decider import Bad, Decider, MakeFold
from streams.distributed.driver import BatchSchema, Producer, Sent
from streams.distributed.envelope import Sendable, headers, is_later
from streams.distributed.past import end_of, first_bundles, rebuild
from streams.distributed.topics import MAX_MESSAGE_BYTES, BadTopics, later
from streams.ports import Bundle, Clock, Metrics, Row

_log = logging.getLogger("tipline.worker")

#: The consumer group of all workers.
GROUP: Final = "tipline-workers"
#: Records that one batch holds at most.
BATCH: Final = 500
#: A worker that is silent for so long loses its partitions.
SESSION_S: Final = 6.0


class Putaside(msgspec.Struct, frozen=True):
    """A record to put aside, with the place it came from."""

    bad: Bad
    county: str
    topic: str
    partition: int


class Plan(msgspec.Struct, kw_only=True):
    """What the shell gives a worker."""

    servers: Sequence[str]
    #: A county's bundle -> how to make its fold.
    fold_of: Callable[[Bundle], MakeFold]
    #: A dead letter as JSON (`dead_letter.v1.json`) with its bytes sealed, and its id.
    seal: Callable[[Putaside, int], tuple[str, bytes]]
    clock: Clock
    metrics: Metrics
    #: Ends the process with the reason; must not return.
    fatal: Callable[[BaseException], NoReturn]
    #: Directory that Faust may write into; nothing of worth is kept there.
    folder: Path
    #: A name that stays the same over restarts: the worker then gets its partitions back without a rebalance.
    instance: str | None = None
    batch: int = BATCH
    session_s: float = SESSION_S


class Room:
    """All seats of one worker."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.app = _app(plan)
        self._seats: dict[int, Seat] = {}
        topic = self.app.topic(TIPS, schema=BatchSchema())
        self.app.agent(topic, name="decide")(self._decide)
        self.app.on_partitions_assigned.connect(self._on_assigned)
        self.app.on_partitions_revoked.connect(self._on_revoked)
        #: Called once partitions are there to work on.
        self.on_ready: Callable[[Sequence[str]], None] = lambda _: None

    @property
    def producer(self) -> Producer:
        """Faust's producer: ours, by the driver."""
        producer: Any = self.app.producer
        return producer  # type: ignore[no-any-return]

    async def guard(self, work: Awaitable[None]) -> None:
        """Runs `work`; any exception of it ends the process."""
        try:
            await work
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            self.plan.fatal(error)

    async def _decide(self, stream: Any) -> None:
        async for event in stream.noack().events():
            await self.guard(self._seat(event))

    async def _seat(self, event: Any) -> None:
        partition = event.message.partition
        if partition not in self._seats:
            self._seats[partition] = Seat(self, partition)
        self._seats[partition].queue.put_nowait(event)  # the driver bounds how many there are

    async def _on_revoked(self, _app: Any, revoked: Any, **_: Any) -> None:
        for tp in revoked:
            if tp.topic == TIPS and tp.partition in self._seats:
                self._seats[tp.partition].trusted = False

    async def _on_assigned(self, _app: Any, assigned: Any, **_: Any) -> None:
        mine = {tp.partition for tp in assigned if tp.topic == TIPS}
        for partition in [p for p in self._seats if p not in mine]:
            self._seats.pop(partition).leave()
        _log.info("partitions of %s: %s", TIPS, sorted(mine))
        self.on_ready([str(p) for p in sorted(mine)])

    def leave(self) -> None:
        """Ends all seats; what they had not finished is read again by the next owner."""
        while self._seats:
            self._seats.popitem()[1].leave()


class Seat:
    """One partition at work."""

    def __init__(self, room: Room, partition: int) -> None:
        self._room = room
        self._plan = room.plan
        self._partition = partition
        self._decider: Decider | None = None
        self._county = ""
        #: Where the log `decisions` ends when nobody but this seat has written since.
        self._end = -1
        #: False after a rebalance: somebody else may have decided in between.
        self.trusted = False
        self._on_the_way: set[asyncio.Task[None]] = set()
        self.queue: asyncio.Queue[Any] = asyncio.Queue()
        self._task = asyncio.create_task(room.guard(self._work()))

    def leave(self) -> None:
        """Gives the partition up."""
        self._task.cancel()

    async def _work(self) -> None:
        while True:
            event = await self.queue.get()
            started = self._plan.clock()
            await self._batch(event)
            self._plan.metrics.observe("tipline_decide_seconds", max(0, self._plan.clock() - started) / 1000)

    async def _batch(self, event: Any) -> None:
        """Decides a batch, puts its outputs on their way, and acknowledges it once they have arrived."""
        decider = await self._sit_down()
        if (newer := next((record for record in event.message.value if is_later(record.headers)), None)) is not None:
            raise BadTopics(later(TIPS, self._partition, newer.offset))
        rows: Sequence[Row] = _rows(event.message.value)
        sent: list[Sent] = []
        while rows:
            decided = decider.decide(rows)
            if decided.bad:
                # First, and awaited: what comes after must not stand in the log before a record is safely aside.
                await self._put_aside(decided.bad)
            if decided.sendables:
                sent += await self._room.producer.send_records(DECISIONS, self._partition, decided.sendables)
            self._count(decided.decisions)
            if decided.rebuild:
                await _delivered(sent)
                await asyncio.gather(*self._on_the_way)
                _log.warning("county %s: our code failed on a record; rebuilding the state", self._county)
                self._end = await asyncio.to_thread(rebuild, self._plan.servers, self._partition, decider, True)
            rows = decided.left
        task = asyncio.create_task(self._room.guard(self._confirm(event, sent)))
        self._on_the_way.add(task)
        task.add_done_callback(self._on_the_way.discard)

    async def _confirm(self, event: Any, sent: Sequence[Sent]) -> None:
        self._end = max(self._end, await _delivered(sent))
        event.ack()

    async def _sit_down(self) -> Decider:
        """The decider, in the state that the log tells."""
        if self._decider is not None and self.trusted:
            return self._decider
        decider = self._decider
        if decider is None:
            decider = self._decider = await asyncio.to_thread(self._new_decider)
        else:
            await asyncio.gather(*self._on_the_way)
        if self._end < 0 or self._end != await asyncio.to_thread(end_of, self._plan.servers, DECISIONS, self._partition):
            started = self._plan.clock()
            self._end = await asyncio.to_thread(rebuild, self._plan.servers, self._partition, decider)
            took = (self._plan.clock() - started) / 1000
            _log.info("county %s: %d tips remembered, position %d, in %.1f s", self._county, len(decider.memory), decider.fold.position, took)
        self.trusted = True
        return decider

    def _new_decider(self) -> Decider:
        bundle = first_bundles(self._plan.servers, [self._partition])[self._partition]
        self._county = bundle["county"]["id"]
        return Decider(self._county, self._plan.fold_of(bundle), Breaker())

    async def _put_aside(self, bad: Sequence[Bad]) -> None:
        now = self._plan.clock()
        letters: list[Sendable] = []
        for one in bad:
            identity, document = self._plan.seal(Putaside(one, self._county, TIPS, self._partition), now)
            letters.append((self._county.encode(), document, headers("dead_letter", identity, self._county)))
            self._plan.metrics.count("tipline_dead_letters_total", reason=one.reason)
        await _delivered(await self._room.producer.send_records(DEAD_LETTERS, self._partition, letters))

    def _count(self, decisions: Sequence[Any]) -> None:
        for decision in decisions:
            if decision.revision == 1:
                self._plan.metrics.count("tipline_decided_total", category=decision.category, link=decision.link)
            else:
                self._plan.metrics.count("tipline_revised_total", cause=decision.cause)


def _rows(records: Sequence[Any]) -> list[Row]:
    """Positions begin at 1: offset + 1."""
    return [Row(record.offset + 1, (record.key or b"").decode("utf-8", "replace"), record.value or b"") for record in records]


async def _delivered(sent: Sequence[Sent]) -> int:
    """Waits for the broker's word -> where the log then ends. Raises what went wrong."""
    end = -1
    for future, count in sent:
        end = max(end, (await future).offset + count)
    return end


def _app(plan: Plan) -> Any:
    return faust.App(
        GROUP,
        broker=[URL(f"batched://{server}") for server in plan.servers],
        datadir=str(plan.folder),
        web_enabled=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        stream_wait_empty=True,
        broker_max_poll_records=plan.batch,
        broker_commit_interval=1.0,
        broker_session_timeout=plan.session_s,
        broker_heartbeat_interval=min(1.0, plan.session_s / 4),
        broker_rebalance_timeout=60.0,
        broker_request_timeout=30.0,
        broker_check_crcs=True,
        consumer_group_instance_id=plan.instance,
        consumer_auto_offset_reset="earliest",
        consumer_max_fetch_size=MAX_MESSAGE_BYTES,
        producer_max_request_size=MAX_MESSAGE_BYTES,
        producer_max_batch_size=512 * 1024,
        producer_request_timeout=60.0,
    )


async def run(room: Room, stop: asyncio.Event) -> None:
    """Works until `stop` is set, then commits what is done and leaves the group."""
    app = room.app
    app.finalize()
    starting = asyncio.create_task(room.guard(app.start()))
    stopping = asyncio.create_task(stop.wait())
    crash = asyncio.create_task(app._crashed.wait())  # noqa: SLF001
    await asyncio.wait({stopping, crash}, return_when=asyncio.FIRST_COMPLETED)
    if not stop.is_set():
        room.plan.fatal(app.crash_reason or RuntimeError("Faust stopped by itself"))
    starting.cancel()
    await app.stop()
    room.leave()
