"""Live queues: server-sent events of a station's stream, resumable at any gateway by the event's number."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Collection
from typing import Final

import msgspec
from starlette.concurrency import run_in_threadpool

from stations.desk import Desk, StreamEvent
from streams.ports import Principal

#: Seconds after which the stream is read without having been woken: another process may have written.
POLL_S: Final = 1.0
#: Polls without an event after which a comment keeps the connection alive, and the token is looked at again.
QUIET_POLLS: Final = 15
#: Milliseconds after which a browser comes back.
RETRY_MS: Final = 2_000


class Hub:
    """Wakes the connections of stations whose stream grew. `announce` may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[str, set[tuple[asyncio.AbstractEventLoop, asyncio.Event]]] = {}
        self.closed = False

    def enter(self, station: str) -> asyncio.Event:
        """An event of the running loop that is set whenever the station's stream grows. Give it back with `leave`."""
        mine = asyncio.Event()
        with self._lock:
            self._waiting.setdefault(station, set()).add((asyncio.get_running_loop(), mine))
        return mine

    def leave(self, station: str, mine: asyncio.Event) -> None:
        """Forgets a connection."""
        with self._lock:
            kept = {entry for entry in self._waiting.get(station, ()) if entry[1] is not mine}
            if kept:
                self._waiting[station] = kept
            else:
                self._waiting.pop(station, None)

    def announce(self, stations: Collection[str]) -> None:
        """Wakes the connections of these stations."""
        with self._lock:
            entries = [entry for station in stations for entry in self._waiting.get(station, ())]
        _wake(entries)

    def close(self) -> None:
        """Ends every connection, after what it is just sending."""
        self.closed = True
        with self._lock:
            entries = [entry for waiting in self._waiting.values() for entry in waiting]
        _wake(entries)

    def connections(self) -> int:
        """How many are open."""
        with self._lock:
            return sum(map(len, self._waiting.values()))


def _wake(entries: Collection[tuple[asyncio.AbstractEventLoop, asyncio.Event]]) -> None:
    for loop, event in entries:
        if not loop.is_closed():
            loop.call_soon_threadsafe(event.set)


async def follow(
    hub: Hub,
    desk: Desk,
    principal: Principal,
    station: str,
    after: int | None,
    still_valid: Callable[[], bool],
) -> AsyncIterator[bytes]:
    """The stream as bytes of text/event-stream: from after the given number, or from now on.

    Ends when the hub closes or the token does. The first block only sets the id to come back with.
    """
    woken = hub.enter(station)
    quiet = 0
    try:
        number, events = await run_in_threadpool(desk.stream, principal, station, after)
        yield f"retry: {RETRY_MS}\nid: {events[0].number - 1 if events else number}\n\n".encode()
        while not hub.closed:
            for event in events:
                yield encode(event)
            if not events:
                quiet = 0 if await _woken(woken) else quiet + 1
                if quiet >= QUIET_POLLS:
                    quiet = 0
                    if not await run_in_threadpool(still_valid):
                        return
                    yield b": still here\n\n"
            if hub.closed:
                return
            number, events = await run_in_threadpool(desk.stream, principal, station, number)
    finally:
        hub.leave(station, woken)


async def _woken(event: asyncio.Event) -> bool:
    try:
        await asyncio.wait_for(event.wait(), POLL_S)
    except TimeoutError:
        return False
    event.clear()
    return True


def encode(event: StreamEvent) -> bytes:
    """One event in the words of text/event-stream. JSON holds no raw line ends, so one data line is enough."""
    data = msgspec.json.encode(event.document)
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (event.number, event.kind.encode(), data)
