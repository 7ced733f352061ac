"""The stations' room, assembled: routes, clockwork and figures. What the shell starts."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from sqlalchemy import Engine, func, select
from starlette.routing import Route

from schemas.codec import decode_input
from schemas.errors import BadRecord, Unavailable
from schemas.records import Tip
from schemas.times import format_time, parse_time
from sinks.database import reading
from sinks.tables import assignments
from stations.api import Side, station_routes
from stations.desk import Desk
from stations.escalate import escalate, next_due
from stations.incidents import Incidents
from stations.outbox import Append, Hook, Outbox, Post
from stations.status import of_tip
from stations.streams import Hub
from streams.ports import Answering, Authority, Clock, Metrics
from streams.stages.county import County

_log: Final = logging.getLogger("tipline.stations")

#: The longest wait, in ms, before the clockwork looks again at what other processes may have left.
_MOST_WAIT_MS: Final = 500

#: A tip's record in the log, by its id; None for an unknown one.
Lookup = Callable[[str], bytes | None]


class Receipts(Protocol):
    """What a receipt's status asks of the intake's store."""

    def by_receipt(self, receipt: str) -> str | None:
        """The tip of a receipt."""

    def lookup(self, tip_id: str) -> bytes | None:
        """The tip's record."""


def _unknown(_tip_id: str) -> bytes | None:
    return None


def _none() -> Sequence[Hook]:
    return ()


def _never() -> bool:
    return False


@dataclass(frozen=True)
class Outside:
    """What the stations' room may reach beyond the database, each by the shell's leave.

    `lookup` gives tips' texts and reporters to those who work on them; `hooks`, asked each time, with `post` tell
    stations' own systems; `channel` answers reporters where they wrote from; `mask` blots people's numbers out of a
    text. While `paused` says so, asked each time, nobody is told anything: it waits.
    """

    lookup: Lookup = _unknown
    hooks: Callable[[], Sequence[Hook]] = _none
    post: Post | None = None
    channel: Answering | None = None
    mask: Callable[[str], str] = str
    paused: Callable[[], bool] = _never


class Service:
    """The stations' work of one installation. `run` and `send` each in a thread of its own; everything else from any."""

    def __init__(
        self,
        engine: Engine,
        counties: Mapping[str, County],
        clock: Clock,
        metrics: Metrics,
        append: Append,
        outside: Outside | None = None,
    ) -> None:
        """`append` puts a record into a county's input, once by its key."""
        self.engine = engine
        self.clock = clock
        self.metrics = metrics
        self.hub = Hub()
        self._outside = outside or Outside()
        self.desk = Desk(engine, counties, metrics, self._changed, self._outside.mask)
        self.incidents = Incidents(self.desk, lambda tip_id: _text(self._outside.lookup, tip_id))
        self._append = append
        self._outbox = Outbox(engine, clock)
        self._nudges = {name: threading.Event() for name in ("clockwork", "outbox")}

    def routes(self, authority: Authority) -> list[Route]:
        """The HTTP routes of this room."""
        return station_routes(Side(self.desk, self.incidents, self.hub, authority, self.clock, self.metrics))

    def announce(self, stations: Collection[str]) -> None:
        """Wakes the live queues of stations; call it after a batch of decisions was committed."""
        self.hub.announce(stations)
        for nudge in self._nudges.values():
            nudge.set()

    def _changed(self, stations: frozenset[str]) -> None:
        self.announce(stations)

    def close_streams(self) -> None:
        """Ends the live streams, so that the server can stop."""
        self.hub.close()

    # --- the clockwork ------------------------------------------------------------------------------------------------

    def run(self, stop: threading.Event) -> None:
        """Escalates and ends leases until `stop` is set. It waits for nobody outside: a clock is due at its second."""
        self._until(stop, "clockwork", lambda: self.tick(self.clock()))

    def send(self, stop: threading.Event) -> None:
        """Empties the outbox until `stop` is set: the county's input, stations' own systems, replies to reporters."""
        self._until(stop, "outbox", self.send_once)

    def _until(self, stop: threading.Event, name: str, work: Callable[[], int]) -> None:
        """Repeats the work, which says how many ms it may rest. A database that is away is waited for, and told once."""
        told = ""
        while not stop.is_set():
            try:
                wait, told = work(), ""
            except Unavailable as error:
                if str(error) != told:
                    told = str(error)
                    _log.warning("the stations' %s waits: %s", name, told)
                wait = _MOST_WAIT_MS
            self._nudges[name].wait(wait / 1000)
            self._nudges[name].clear()

    def tick(self, now: int) -> int:
        """Settles what is due at `now` -> ms until there may be more."""
        while (settled := escalate(self.engine, self.desk.ladders, self.metrics, now=now)).events:
            self.announce(settled.stations)
        with reading(self.engine) as connection:
            due = next_due(connection, self.desk.counties)
        return _MOST_WAIT_MS if due is None else max(1, min(_MOST_WAIT_MS, due - now))

    def send_once(self) -> int:
        """Sends what waits -> ms until there may be more."""
        out = self._outside
        self._outbox.input(self._append)
        if out.paused():
            return _MOST_WAIT_MS
        if out.channel is not None:
            offsets = {name: county.offset_minutes for name, county in self.desk.counties.items()}
            self._outbox.replies(out.channel, lambda tip_id: _tip(out.lookup, tip_id), offsets)
        if out.post is not None:
            for hook in out.hooks():
                self._outbox.hook(self.desk, hook, out.post)
        return _MOST_WAIT_MS

    # --- figures ------------------------------------------------------------------------------------------------------

    def measure_queues(self) -> None:
        """Sets the gauges of depth and age for every station, empty ones too."""
        now = self.clock()
        depth: dict[tuple[str, str], int] = {}
        oldest: dict[str, int] = {}
        wanted = select(
            assignments.c.station, assignments.c.status, func.count(), func.min(assignments.c.dispatched_at)
        )
        with reading(self.engine) as connection:
            live = wanted.where(assignments.c.status != "resolved").group_by(
                assignments.c.station, assignments.c.status
            )
            for station, status, n, first in connection.execute(live):
                depth[station, status] = n
                oldest[station] = min(oldest.get(station, first), first)
        for county in self.desk.counties.values():
            for station in county.stations:
                for status in ("open", "claimed", "acknowledged", "in_progress"):
                    figure = depth.get((station, status), 0)
                    self.metrics.gauge("tipline_queue_depth", figure, station=station, status=status)
                age = max(0, now - oldest.get(station, now)) / 1000
                self.metrics.gauge("tipline_queue_oldest_seconds", age, station=station)


def receipt_status(engine: Engine, receipts: Receipts, receipt: str) -> dict[str, Any] | None:
    """The public status of a receipt: {status, at}; None for an unknown one."""
    tip_id = receipts.by_receipt(receipt)
    if tip_id is None:
        return None
    with reading(engine) as connection:
        status = of_tip(connection, tip_id)
    at = status.at
    if at is None:
        tip = _tip(receipts.lookup, tip_id)
        at = 0 if tip is None else parse_time(tip.received_at)
    return {"status": status.status, "at": format_time(at)}


def _tip(lookup: Lookup, tip_id: str) -> Tip | None:
    value = lookup(tip_id)
    try:
        record = None if value is None else decode_input(value)
    except BadRecord:
        return None
    return record if isinstance(record, Tip) else None


def _text(lookup: Lookup, tip_id: str) -> str | None:
    tip = _tip(lookup, tip_id)
    return None if tip is None else tip.text
