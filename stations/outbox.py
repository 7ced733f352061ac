"""What leaves: records back into the county's input, signed webhooks to stations' own systems, replies to reporters.

Each goes out at least once and carries a key under which the receiver knows a repeat: the input's own key, `webhook-id`,
or (incident, status, reporter). Several instances may run this: one at a time sends of a kind, by a turn that ends by
itself when its holder dies, so that only a crash repeats anything. A failure is tried again later, ever more slowly; it
never holds the others up.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, Literal

import msgspec
from sqlalchemy import Connection, Engine, and_, func, or_, select, update

from schemas.errors import Rejected, TiplineError, Unavailable
from schemas.records import Tip
from schemas.times import DAY, HOUR, SECOND, format_time, parse_time
from sinks.database import insert_new, reading, writing
from sinks.outbox import derived_id, put
from sinks.sink import position, set_position
from sinks.statistics import tips_of
from sinks.tables import decisions, incident_tips, incidents, outbox, positions
from stations.desk import Desk
from stations.status import of_incident
from streams.ports import Answering, Clock, Principal, Reply

#: Waiting after the first failure; it doubles up to the most.
FIRST_WAIT_MS: Final = SECOND
MOST_WAIT_MS: Final = HOUR
#: The input holds up corrections that people wait for: it is asked again sooner.
MOST_INPUT_WAIT_MS: Final = 15 * SECOND
#: After that nobody waits for a reply any more.
GIVE_UP_MS: Final = 3 * DAY
#: How long a turn lasts without a sign of life: longer than sending one thing may take.
TURN_MS: Final = 20 * SECOND
_BATCH: Final = 100

#: Appends to a county's input, once by key: `streams.ports.InputLog.append`.
Append = Callable[[str, str, bytes], int | None]

#: The record of a tip; None for an unknown one.
TipOf = Callable[[str], Tip | None]

_log: Final = logging.getLogger("tipline.stations")


class Row(msgspec.Struct, frozen=True):
    """A thing that waits in the outbox."""

    id: int
    county: str
    key: str
    target: str
    value: bytes
    next_at: int
    attempts: int


#: The log of decisions with where each tip is by now; a change of state has no tip.
_ARRIVED: Final = (
    select(
        decisions.c.seq,
        decisions.c.tip_id,
        decisions.c.revision,
        incidents.c.incident_id,
        incidents.c.no_action,
        incident_tips.c.source,
        incident_tips.c.received_at,
    )
    .outerjoin(incident_tips, incident_tips.c.tip_id == decisions.c.tip_id)
    .outerjoin(incidents, incidents.c.incident_id == incident_tips.c.incident_id)
    .order_by(decisions.c.seq)
    .limit(_BATCH)
)
_WAITING: Final = select(*(outbox.c[name] for name in Row.__struct_fields__)).where(outbox.c.done_at.is_(None))


class Hook(msgspec.Struct, frozen=True):
    """A station's own system: where it listens, and the secret it shares with us (raw bytes)."""

    station: str
    url: str
    secret: bytes

    def __repr__(self) -> str:
        return f"Hook({self.station!r})"


#: Posts a body with headers to a URL -> HTTP status; raises Unavailable when nobody answers, with words that are logged.
Post = Callable[[str, Mapping[str, str], bytes], int]


class Outbox:
    """The sending side of one instance. One thread at a time may call it."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock
        #: Hooks that did not take an event: asked again at, and the wait after that.
        self._put_off: dict[Hook, tuple[int, int]] = {}

    # --- the county's input -----------------------------------------------------------------------------------------------

    def input(self, append: Append) -> int:
        """Puts waiting corrections and closures into their county's input -> how many. Safe to repeat: the input knows
        the key.

        A county's records keep their order: one that fails holds up those after it, and those of no other county.
        """
        if not self._waits("input"):
            return 0
        with self._turn("input") as mine:
            return sum(self._input(county, append, mine) for county in self._counties())

    def _counties(self) -> list[str]:
        wanted = select(outbox.c.county).where(outbox.c.kind == "input", outbox.c.done_at.is_(None)).distinct()
        with reading(self._engine) as connection:
            return sorted(connection.execute(wanted).scalars())

    def _input(self, county: str, append: Append, mine: Callable[[], bool]) -> int:
        wanted = _WAITING.where(outbox.c.kind == "input", outbox.c.county == county).order_by(outbox.c.id).limit(_BATCH)
        with reading(self._engine) as connection:
            rows = [Row(*row) for row in connection.execute(wanted)]
        for sent, row in enumerate(rows):
            if row.next_at > self._clock() or not mine():
                return sent
            try:
                append(row.county, row.key, row.value)
            except Unavailable as error:
                self._failed(row, str(error), MOST_INPUT_WAIT_MS)
                return sent
            self._done(row)
        return len(rows)

    # --- replies ----------------------------------------------------------------------------------------------------------

    def replies(self, channel: Answering, tip_of: TipOf, offsets: Mapping[str, int]) -> int:
        """Answers reporters: each hears once of every public status that their incident has or comes to -> how many."""
        arrived = [county for county in offsets if self._arrived(county)]
        if not arrived and not self._waits("reply"):
            return 0
        with self._turn("reply") as mine:
            for county in arrived:
                while mine() and self._greet(county, channel, tip_of):
                    pass
            if mine():
                self._address(tip_of)
            return self._answer(channel, tip_of, offsets, mine)

    def _arrived(self, county: str) -> bool:
        """Whether decisions were written that no reporter heard of."""
        with reading(self._engine) as connection:
            newest = connection.execute(select(func.max(decisions.c.seq)).where(decisions.c.county == county)).scalar()
            return newest is not None and newest > position(connection, "reply", "decisions", county)

    def _greet(self, county: str, channel: Answering, tip_of: TipOf) -> bool:
        """Tells whoever reported how their incident stands now: with a station, or in work since somebody else's report.
        Returns whether there may be more."""
        now = self._clock()
        with reading(self._engine) as connection:
            after = position(connection, "reply", "decisions", county)
            rows = connection.execute(_ARRIVED.where(decisions.c.county == county, decisions.c.seq > after)).all()
            told = [
                (row, of_incident(connection, row.incident_id))
                for row in rows
                if row.revision == 1 and not row.no_action and now - row.received_at < GIVE_UP_MS and channel.reaches(row.source)
            ]
        with writing(self._engine) as connection:
            for row, stands in told:
                if stands.status != "received":
                    since = max(row.received_at, stands.at or 0)
                    news = {"incident_id": row.incident_id, "status": stands.status, "at": since}
                    self._put_answer(connection, county, news, row.tip_id, row.source, tip_of)
            if rows:
                set_position(connection, "reply", "decisions", county, rows[-1].seq)
        return len(rows) == _BATCH

    def _address(self, tip_of: TipOf) -> None:
        """One thing to send for each reporter, instead of one for the incident: each is told, and fails, by itself."""
        with reading(self._engine) as connection:
            wanted = _WAITING.where(outbox.c.kind == "reply", outbox.c.next_at <= self._clock())
            rows = [Row(*row) for row in connection.execute(wanted.order_by(outbox.c.id).limit(_BATCH))]
            work = [(row, tips_of(connection, row.target)) for row in rows]
        for row, tips in work:
            told = msgspec.json.decode(row.value)
            with writing(self._engine) as connection:
                for tip in tips:
                    self._put_answer(connection, row.county, told, tip["tip_id"], tip["source"], tip_of)
                connection.execute(update(outbox).where(outbox.c.id == row.id).values(done_at=self._clock()))

    def _put_answer(
        self, connection: Connection, county: str, told: dict[str, Any], tip_id: str, source: str, tip_of: TipOf
    ) -> None:
        """A status for one reporter, once. Without a pseudonym each tip is a reporter of its own."""
        known = tip_of(tip_id)
        reporter = None if known is None else known.reporter
        who = f"{source}/{reporter}" if reporter is not None else tip_id
        key = derived_id("answer", told["incident_id"], told["status"], who)
        value = msgspec.json.encode({**told, "source": source, "reporter": reporter})
        put(connection, "answer", county=county, key=key, target=tip_id, value=value, now=self._clock())

    def _answer(
        self, channel: Answering, tip_of: TipOf, offsets: Mapping[str, int], mine: Callable[[], bool]
    ) -> int:
        with reading(self._engine) as connection:
            wanted = _WAITING.where(outbox.c.kind == "answer", outbox.c.next_at <= self._clock())
            rows = [Row(*row) for row in connection.execute(wanted.order_by(outbox.c.next_at, outbox.c.id).limit(_BATCH))]
        sent, away = 0, set[str]()
        for row in rows:
            reply = _reply(row, tip_of(row.target), offsets.get(row.county, 0))
            if not mine():
                return sent
            try:
                if reply.source in away:
                    raise Unavailable("the channel did not answer for another reporter")
                sent += channel.reply(reply)
            except Unavailable as error:
                away.add(reply.source)
                if self._clock() - parse_time(reply.at) > GIVE_UP_MS:
                    self._done(row, str(error))
                else:
                    self._failed(row, str(error), MOST_WAIT_MS)
            except TiplineError as error:
                self._done(row, str(error))
            else:
                self._done(row)
        return sent

    # --- stations' own systems --------------------------------------------------------------------------------------------

    def hook(self, desk: Desk, hook: Hook, post: Post) -> int:
        """Tells a station's system the events of its stream, in order, from where it stopped -> how many it took.

        `webhook-id` is `<station>/<number>`: the same event always has the same id. An event that is not taken (no 2xx)
        is sent again later, and those after it wait, so that the receiver sees them in order.
        """
        again, wait = self._put_off.get(hook, (0, FIRST_WAIT_MS))
        if again - wait <= self._clock() < again or not self._grown(desk, hook):
            return 0
        with self._turn(f"webhook/{hook.station}") as mine:
            return self._hook(desk, hook, post, mine)

    def _grown(self, desk: Desk, hook: Hook) -> bool:
        try:
            newest, _ = desk.stream(_as_station(desk, hook), hook.station, None)
        except Rejected:  # a newer county directory dropped the station
            return False
        return newest > self._told(hook)

    def _told(self, hook: Hook) -> int:
        with reading(self._engine) as connection:
            return position(connection, "webhook", "station_events", hook.station)

    def _hook(self, desk: Desk, hook: Hook, post: Post, mine: Callable[[], bool]) -> int:
        _, events = desk.stream(_as_station(desk, hook), hook.station, self._told(hook), _BATCH)
        for taken, event in enumerate(events):
            if not mine():
                return taken
            told = {"type": f"assignment.{event.kind}", "timestamp": event.document["at"], "data": event.document}
            body = msgspec.json.encode(told)
            headers = sign(hook.secret, f"{hook.station}/{event.number}", self._clock() // SECOND, body)
            try:
                status = post(hook.url, headers, body)
            except Unavailable as error:
                self._hold(hook, str(error))
                return taken
            if not 200 <= status < 300:
                self._hold(hook, f"answered {status}")
                return taken
            self._put_off.pop(hook, None)
            with writing(self._engine) as connection:
                set_position(connection, "webhook", "station_events", hook.station, event.number)
        return len(events)

    def _hold(self, hook: Hook, why: str) -> None:
        _, wait = self._put_off.get(hook, (0, FIRST_WAIT_MS))
        self._put_off[hook] = (self._clock() + wait, min(wait * 2, MOST_WAIT_MS))
        if wait == FIRST_WAIT_MS:
            _log.warning("the system of %s does not take its events: %s; it is asked again", hook.station, why)

    # --- rows -------------------------------------------------------------------------------------------------------------

    def _waits(self, kind: Literal["input", "reply"]) -> bool:
        kinds = ("reply", "answer") if kind == "reply" else (kind,)
        wanted = select(outbox.c.id).where(
            outbox.c.kind.in_(kinds), outbox.c.next_at <= self._clock(), outbox.c.done_at.is_(None)
        )
        with reading(self._engine) as connection:
            return connection.execute(wanted.limit(1)).first() is not None

    def _done(self, row: Row, error: str | None = None) -> None:
        values = {"done_at": self._clock(), "error": None if error is None else error[:500]}
        with writing(self._engine) as connection:
            connection.execute(update(outbox).where(outbox.c.id == row.id).values(**values))

    def _failed(self, row: Row, error: str, most: int) -> None:
        """Puts one off: 1 s after the first failure, then 2, 4, … up to `most`."""
        wait = min(FIRST_WAIT_MS << min(row.attempts, 20), most)
        values = {"attempts": row.attempts + 1, "next_at": self._clock() + wait, "error": error[:500]}
        with writing(self._engine) as connection:
            connection.execute(update(outbox).where(outbox.c.id == row.id).values(**values))

    # --- turns ------------------------------------------------------------------------------------------------------------

    @contextmanager
    def _turn(self, name: str) -> Iterator[Callable[[], bool]]:
        """Only one instance at a time sends of a kind. `mine()` asks for the turn, or keeps it: before each thing sent."""
        here = and_(positions.c.consumer == "turn", positions.c.topic == name, positions.c.part == "")
        held = 0

        def mine() -> bool:
            nonlocal held
            now = self._clock()
            if held - now > TURN_MS // 2:
                return True
            # A turn that ends later than one can last was taken before the clock was set back.
            free = or_(positions.c.position <= now, positions.c.position > now + TURN_MS, positions.c.position == held)
            with writing(self._engine) as connection:
                row = {"consumer": "turn", "topic": name, "part": "", "position": 0}
                insert_new(connection, positions, [row])
                taken = update(positions).where(here, free).values(position=now + TURN_MS)
                held = now + TURN_MS if connection.execute(taken).rowcount else 0
            return held > 0

        try:
            yield mine
        finally:
            if held:
                with writing(self._engine) as connection:
                    connection.execute(update(positions).where(here, positions.c.position == held).values(position=0))


def _as_station(desk: Desk, hook: Hook) -> Principal:
    """Whom a station's system acts for. Raises Rejected (404) for a station that is none."""
    county = desk.county_of(hook.station)
    return Principal(token_id="webhook", role="station", station=hook.station, county=county.id)


def _reply(row: Row, tip: Tip | None, offset: int) -> Reply:
    told = msgspec.json.decode(row.value)
    return Reply(
        key=row.key,
        source=told["source"],
        reporter=told["reporter"],
        tip_id=row.target,
        message_id=None if tip is None else tip.message_id,
        lang=None if tip is None else tip.lang,
        status=told["status"],
        at=format_time(told["at"], offset),
    )


def sign(secret: bytes, identity: str, timestamp_s: int, body: bytes) -> dict[str, str]:
    """The headers of the Standard Webhooks scheme: id, timestamp (s) and HMAC-SHA256 over `id.timestamp.body`."""
    digest = hmac.new(secret, f"{identity}.{timestamp_s}.".encode() + body, hashlib.sha256).digest()
    return {
        "content-type": "application/json",
        "webhook-id": identity,
        "webhook-timestamp": str(timestamp_s),
        "webhook-signature": "v1," + base64.b64encode(digest).decode(),
    }
