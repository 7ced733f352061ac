"""The audit trail: who saw or changed what. Each row's hash covers the one before, so an edit, a gap or a swap
shows."""

from __future__ import annotations

import hashlib
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, select

from sinks.database import take_numbers
from sinks.tables import audit

#: What the first row's hash covers.
GENESIS: Final = bytes(32)

_encode: Final = msgspec.json.Encoder(order="sorted").encode


class AuditRow(msgspec.Struct, frozen=True):
    """One entry. `detail` is canonical JSON; it holds ids and reasons, never what was revealed."""

    seq: int
    at: int
    actor: str
    action: str
    subject: str
    detail: str
    hash: bytes


class Head(msgspec.Struct, frozen=True):
    """The last row's number and hash: kept in a second place, it betrays a trail that was cut short."""

    seq: int
    hash: bytes


def link(previous: bytes, seq: int, at: int, actor: str, action: str, subject: str, detail: str) -> bytes:
    """SHA-256 of the previous hash and the canonical row."""
    return hashlib.sha256(previous + _encode([seq, at, actor, action, subject, detail])).digest()


def append(
    connection: Connection, *, at: int, actor: str, action: str, subject: str, detail: dict[str, Any] | None = None
) -> Head:
    """Adds an entry in the caller's transaction; entries of other transactions wait until it ends."""
    seq = take_numbers(connection, {"audit": 1})["audit"]
    words = _encode(detail or {}).decode()
    previous = (
        GENESIS if seq == 1 else connection.execute(select(audit.c.hash).where(audit.c.seq == seq - 1)).scalar_one()
    )
    digest = link(previous, seq, at, actor, action, subject, words)
    row = {"seq": seq, "at": at, "actor": actor, "action": action, "subject": subject, "detail": words, "hash": digest}
    connection.execute(audit.insert(), [row])
    return Head(seq, digest)


def head(connection: Connection) -> Head | None:
    """The last entry's number and hash; None while there is none."""
    row = connection.execute(select(audit.c.seq, audit.c.hash).order_by(audit.c.seq.desc()).limit(1)).first()
    return None if row is None else Head(row[0], bytes(row[1]))


def listed(connection: Connection, *, after: int = 0, limit: int = 1000) -> list[AuditRow]:
    """Entries with seq > `after`, in order."""
    statement = select(audit).where(audit.c.seq > after).order_by(audit.c.seq).limit(limit)
    return [AuditRow(*row) for row in connection.execute(statement)]


def audit_entries(
    connection: Connection,
    *,
    action: str | None = None,
    before: int | None = None,
    since: int | None = None,
    limit: int | None = None,
) -> list[AuditRow]:
    """The newest entries first, of one action if it is named, with seq < `before`, from the time `since` on; `limit` None: all."""
    statement = select(audit).order_by(audit.c.seq.desc()).limit(limit)
    statement = statement if action is None else statement.where(audit.c.action == action)
    statement = statement if before is None else statement.where(audit.c.seq < before)
    statement = statement if since is None else statement.where(audit.c.at >= since)
    return [AuditRow(*row) for row in connection.execute(statement)]


def audit_actions(connection: Connection) -> list[str]:
    """The actions that stand in the trail, by name."""
    return list(connection.execute(select(audit.c.action).distinct().order_by(audit.c.action)).scalars())


def verify(connection: Connection, anchor: Head | None = None) -> str | None:
    """None when the whole chain holds, and reaches the anchored head if one is given; else what is wrong, in words."""
    previous, seq, anchored = GENESIS, 0, anchor is None
    while rows := listed(connection, after=seq):
        for row in rows:
            if row.seq != seq + 1:
                return f"entry {seq + 1} is missing"
            expected = link(previous, row.seq, row.at, row.actor, row.action, row.subject, row.detail)
            if expected != bytes(row.hash):
                return f"entry {row.seq} was changed, or an entry before it"
            previous, seq = expected, row.seq
            anchored = anchored or (anchor is not None and anchor.seq == seq and anchor.hash == expected)
    if anchored:
        return None
    return f"the trail ends at entry {seq} and does not hold the anchored entry {anchor.seq if anchor else 0}"
