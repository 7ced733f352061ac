"""Dead letters: admitted but not processable records, kept sealed, with the reason and the place they came from."""

from __future__ import annotations

import uuid
from typing import Any, Final, Literal

import msgspec
from sqlalchemy import Connection, func, select, update

from sinks.database import insert_new
from sinks.tables import dead_letters

_NAMESPACE: Final = uuid.UUID("1d2a7c8e-60b4-5a39-8a0e-0d7f6c5b4a32")

DeadStatus = Literal["kept", "replayed", "discarded"]


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """A row of `dead_letters`. `detail` never repeats the record's content; `at` in ms."""

    id: str
    county: str | None
    reason: str
    detail: str
    topic: str
    part: str
    position: int
    record_id: str | None
    sealed: bytes
    at: int
    status: DeadStatus = "kept"
    settled_at: int | None = None


def dead_letter_id(topic: str, part: str, position: int) -> str:
    """Derived from the record's place: the same poison read again is the same dead letter."""
    return str(uuid.uuid5(_NAMESPACE, f"{topic}/{part}/{position}"))


def keep(connection: Connection, letters: list[DeadLetter]) -> None:
    """Puts records aside; one that is there already stays as it is."""
    insert_new(connection, dead_letters, [msgspec.structs.asdict(letter) for letter in letters])


def find(connection: Connection, identity: str) -> DeadLetter | None:
    """A dead letter by its id."""
    row = connection.execute(select(dead_letters).where(dead_letters.c.id == identity)).mappings().first()
    return None if row is None else DeadLetter(**row)


def listed(
    connection: Connection,
    *,
    status: DeadStatus | None = "kept",
    county: str | None = None,
    after: tuple[int, str] | None = None,
    limit: int = 100,
) -> list[DeadLetter]:
    """Dead letters by (at, id), oldest first, after the given one."""
    statement = select(dead_letters).order_by(dead_letters.c.at, dead_letters.c.id).limit(limit)
    if status is not None:
        statement = statement.where(dead_letters.c.status == status)
    if county is not None:
        statement = statement.where(dead_letters.c.county == county)
    if after is not None:
        at, identity = after
        later = (dead_letters.c.at > at) | ((dead_letters.c.at == at) & (dead_letters.c.id > identity))
        statement = statement.where(later)
    return [DeadLetter(**row) for row in connection.execute(statement).mappings()]


def settle(connection: Connection, identity: str, status: Literal["replayed", "discarded"], *, now: int) -> bool:
    """Marks one as replayed or discarded; False when it is unknown or was settled before."""
    statement = update(dead_letters).where(dead_letters.c.id == identity, dead_letters.c.status == "kept")
    return connection.execute(statement.values(status=status, settled_at=now)).rowcount == 1


def counted(connection: Connection) -> dict[tuple[str, str], int]:
    """How many there are, by (reason, status)."""
    statement = select(dead_letters.c.reason, dead_letters.c.status, func.count())
    rows: list[Any] = list(connection.execute(statement.group_by(dead_letters.c.reason, dead_letters.c.status)))
    return {(reason, status): n for reason, status, n in rows}
