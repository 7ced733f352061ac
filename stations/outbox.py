"""What leaves: records back into the county's input, signed webhooks to stations' own systems, replies to reporters.

Each goes out at least once and carries a key under which the receiver knows a repeat: the input's own key,
`webhook-id`, or
(incident, status, reporter). A failure is tried again later, ever more slowly; it never holds the others up.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

import msgspec
from sqlalchemy import Connection, Engine, select, update

from schemas.errors import TiplineError, Unavailable
from schemas.times import HOUR, SECOND, format_time
from sinks.database import reading, writing
from sinks.outbox import OutboxKind
from sinks.sink import position, set_position
from sinks.statistics import tips_of
from sinks.tables import outbox
from stations.desk import Desk
from streams.ports import Principal

#: Waiting after the first failure; it doubles up to the most.
FIRST_WAIT_MS: Final = SECOND
MOST_WAIT_MS: Final = HOUR
_BATCH: Final = 100

#: Appends to a county's input, once by key: `streams.ports.InputLog.append`.
Append = Callable[[str, str, bytes], int | None]


class Row(msgspec.Struct, frozen=True):
    """A thing that waits in the outbox."""

    id: int
    county: str
    key: str
    target: str
    value: bytes
    attempts: int


def waiting(connection: Connection, kind: OutboxKind, now: int, limit: int = _BATCH) -> list[Row]:
    """What is to be sent at `now`, oldest first."""
    columns = [outbox.c[name] for name in Row.__struct_fields__]
    wanted = select(*columns).where(outbox.c.kind == kind, outbox.c.next_at <= now, outbox.c.done_at.is_(None))
    return [Row(*row) for row in connection.execute(wanted.order_by(outbox.c.next_at, outbox.c.id).limit(limit))]


def done(engine: Engine, row: Row, now: int) -> None:
    """Marks one as sent."""
    with writing(engine) as connection:
        connection.execute(update(outbox).where(outbox.c.id == row.id).values(done_at=now, error=None))


def failed(engine: Engine, row: Row, error: str, now: int) -> None:
    """Puts one off: 1 s after the first failure, then 2, 4, … up to an hour."""
    wait = min(FIRST_WAIT_MS << min(row.attempts, 20), MOST_WAIT_MS)
    values = {"attempts": row.attempts + 1, "next_at": now + wait, "error": error[:500]}
    with writing(engine) as connection:
        connection.execute(update(outbox).where(outbox.c.id == row.id).values(**values))


def relay_input(engine: Engine, append: Append, *, now: int) -> int:
    """Puts waiting corrections and closures into their county's input -> how many. Safe to repeat: the input knows the
    key.

    Stops at the first failure, so that a county's records keep their order.
    """
    with reading(engine) as connection:
        rows = waiting(connection, "input", now)
    for sent, row in enumerate(rows):
        try:
            append(row.county, row.key, row.value)
        except Unavailable as error:
            failed(engine, row, str(error), now)
            return sent
        done(engine, row, now)
    return len(rows)


# --- replies
# ------------------------------------------------------------------------------------------------------------


class Reply(msgspec.Struct, frozen=True):
    """What a channel tells one reporter. `key` is (incident, status, reporter): the same key is never told twice."""

    key: str
    source: str
    reporter: str | None
    tip_id: str
    status: str
    at: str


class Answering(Protocol):
    """The outgoing side of a channel."""

    def reply(self, reply: Reply) -> None:
        """Tells the reporter, once a key. Raises Unavailable to be asked again later; any other TiplineError gives
        up."""


#: The pseudonym of a tip's reporter, None where there is none.
ReporterOf = Callable[[str], str | None]


def relay_replies(
    engine: Engine, channel: Answering, reporter_of: ReporterOf, offsets: Mapping[str, int], *, now: int
) -> int:
    """Answers the reporters of incidents whose public status changed, each reporter once a status -> how many
    answers."""
    with reading(engine) as connection:
        work = [(row, tips_of(connection, row.target)) for row in waiting(connection, "reply", now)]
    sent = 0
    for row, tips in work:
        told = msgspec.json.decode(row.value)
        try:
            for reply in _replies(told, tips, reporter_of, offsets.get(row.county, 0)):
                channel.reply(reply)
                sent += 1
        except Unavailable as error:
            failed(engine, row, str(error), now)
            continue
        except TiplineError as error:
            failed(engine, row, str(error), now)
        done(engine, row, now)
    return sent


def _replies(told: Mapping[str, Any], tips: list[dict[str, Any]], reporter_of: ReporterOf, offset: int) -> list[Reply]:
    replies: dict[str, Reply] = {}
    for tip in tips:
        reporter = reporter_of(tip["tip_id"])
        # Without a pseudonym each tip is a reporter of its own.
        who = f"{tip['source']}/{reporter}" if reporter is not None else tip["tip_id"]
        key = f"{told['incident_id']}/{told['status']}/{who}"
        at = format_time(told["at"], offset)
        replies.setdefault(key, Reply(key, tip["source"], reporter, tip["tip_id"], told["status"], at))
    return list(replies.values())


# --- webhooks
# -------------------------------------------------------------------------------------------------------------


class Hook(msgspec.Struct, frozen=True):
    """A station's own system: where it listens, and the secret it shares with us (raw bytes)."""

    station: str
    url: str
    secret: bytes


#: Posts a body with headers to a URL -> HTTP status; raises Unavailable when nobody answers.
Post = Callable[[str, Mapping[str, str], bytes], int]


def sign(hook: Hook, identity: str, timestamp_s: int, body: bytes) -> dict[str, str]:
    """The headers of the Standard Webhooks scheme: id, timestamp (s) and HMAC-SHA256 over `id.timestamp.body`."""
    digest = hmac.new(hook.secret, f"{identity}.{timestamp_s}.".encode() + body, hashlib.sha256).digest()
    return {
        "content-type": "application/json",
        "webhook-id": identity,
        "webhook-timestamp": str(timestamp_s),
        "webhook-signature": "v1," + base64.b64encode(digest).decode(),
    }


def relay_hook(desk: Desk, hook: Hook, post: Post, *, now: int, limit: int = _BATCH) -> int:
    """Tells a station's system the events of its stream, in order, from where it stopped -> how many it took.

    `webhook-id` is `<station>/<number>`: the same event always has the same id. An event that is not taken (no 2xx) is
    sent again next
    time, and those after it wait, so that the receiver sees them in order.
    """
    county = desk.county_of(hook.station)
    principal = Principal(token_id="webhook", role="station", station=hook.station, county=county.id)
    with reading(desk.engine) as connection:
        after = position(connection, "webhook", "station_events", hook.station)
    _, events = desk.stream(principal, hook.station, after, limit)
    taken = 0
    for event in events:
        body = msgspec.json.encode(
            {"type": f"assignment.{event.kind}", "timestamp": event.document["at"], "data": event.document}
        )
        headers = sign(hook, f"{hook.station}/{event.number}", now // SECOND, body)
        try:
            status = post(hook.url, headers, body)
        except Unavailable:
            break
        if not 200 <= status < 300:
            break
        taken, after = taken + 1, event.number
    if taken:
        with writing(desk.engine) as connection:
            set_position(connection, "webhook", "station_events", hook.station, after)
    return taken
