"""The history of stations' work, out of the database: to `assignments`, and to `queue.<station>` for stations that ask.

Both are outboxes: the rows were written in the transaction of the work itself, and are marked only after the broker's word.
A crash in between sends some again, with the same `ce_id`: `<assignment>/<number>`, `<station>/<number>`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

import msgspec
from sqlalchemy import Engine, select, update

from schemas.errors import Unavailable
from schemas.times import format_time
from schemas.topics import ASSIGNMENTS, queue_topic
from sinks.database import reading, writing
from sinks.sink import position, set_position
from sinks.station_queue import Assignment, is_restricted, read_stream
from sinks.tables import assignment_events
from streams.distributed.envelope import headers
from streams.distributed.publisher import Publisher
from streams.ports import Clock
from streams.stages.county import County

_log = logging.getLogger("tipline.events")

_CONSUMER: Final = "queue"
_LIMIT: Final = 500
_IDLE_S: Final = 0.5
_PUT_OFF_MS: Final = 60_000

#: An assignment as `assignment.v1.json`: (assignment, cc stations, county's UTC offset in minutes, the station it is shown to).
Show = Callable[[Assignment, Collection[str], int, str], dict[str, Any]]


class EventRelay:
    """Sends what waits. One thread at a time may call it."""

    def __init__(self, engine: Engine, publisher: Publisher, counties: Callable[[], Mapping[str, County]], show: Show, clock: Clock) -> None:
        self._engine = engine
        self._publisher = publisher
        self._counties = counties
        self._show = show
        self._clock = clock
        self._put_off: dict[str, int] = {}

    def run(self, stop: threading.Event) -> None:
        """Sends until `stop` is set; a broker or database that is away is asked again."""
        while not stop.is_set():
            try:
                if not self.run_once():
                    stop.wait(_IDLE_S)
            except Unavailable as away:
                _log.warning("%s; trying again", away)
                stop.wait(2.0)

    def run_once(self) -> int:
        """Sends what waits now -> how many. Raises Unavailable."""
        sent = self._history()
        now = self._clock()
        for county in self._counties().values():
            for station in county.stations.values():
                if station.queue_topic and self._put_off.get(station.id, 0) <= now:
                    sent += self._queue_of(county, station.id, now)
        return sent

    def _queue_of(self, county: County, station: str, now: int) -> int:
        """One station's queue; one that does not take records holds the others up only once in a while."""
        try:
            return self._queue(county, station)
        except Unavailable as away:
            _log.warning("%s. Is there a topic %s? `tipline topics create` makes it", away, queue_topic(station))
            self._put_off[station] = now + _PUT_OFF_MS
            return 0

    def _history(self) -> int:
        with reading(self._engine) as connection:
            wanted = select(assignment_events).where(assignment_events.c.relayed_at.is_(None)).order_by(assignment_events.c.id)
            rows = [dict(row) for row in connection.execute(wanted.limit(_LIMIT)).mappings()]
        if not rows:
            return 0
        self._publisher.send(ASSIGNMENTS, 0, [self._event(row) for row in rows])
        with writing(self._engine) as connection:
            ids = [row["id"] for row in rows]
            connection.execute(update(assignment_events).where(assignment_events.c.id.in_(ids)).values(relayed_at=self._clock()))
        return len(rows)

    def _event(self, row: Mapping[str, Any]) -> tuple[bytes, bytes, list[tuple[str, bytes]]]:
        offset = self._offset(row["county"])
        at = format_time(row["at"], offset)
        document = {name: row[name] for name in ("assignment_id", "number", "incident_id", "county", "kind", "actor", "role", "station", "from_station", "reason")}
        document |= {"at": at, "data": msgspec.Raw(row["data"].encode()), "state": msgspec.Raw(row["state"].encode())}
        identity = f"{row['assignment_id']}/{row['number']}"
        return row["station"].encode(), msgspec.json.encode(document), headers("assignment_event", identity, row["county"], at)

    def _queue(self, county: County, station: str) -> int:
        with reading(self._engine) as connection:
            after = position(connection, _CONSUMER, "station_events", station)
            rows = read_stream(connection, station, after, _LIMIT)
        if not rows:
            return 0
        made = []
        for row in rows:
            item, at = row.state, format_time(row.at, county.offset_minutes)
            if is_restricted(county, item.station) and station not in (item.station, *item.cc):
                continue  # It went where this station must not look: what became of it is not told.
            document = self._show(item, item.cc, county.offset_minutes, station)
            made.append((item.id.encode(), msgspec.json.encode(document), headers("assignment", f"{station}/{row.number}", county.id, at)))
        self._publisher.send(queue_topic(station), 0, made)
        with writing(self._engine) as connection:
            set_position(connection, _CONSUMER, "station_events", station, rows[-1].number)
        return len(rows)

    def _offset(self, county: str) -> int:
        known = self._counties().get(county)
        return known.offset_minutes if known is not None else 0
