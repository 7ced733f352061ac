"""Sealed identities where several machines work on one installation: in the database, and in no gateway's spool for long."""

from __future__ import annotations

from sqlalchemy import Engine, delete, select, text

from sinks.database import reading, writing
from sinks.tables import identities
from streams.ports import Sealed


class DatabaseIdentities:
    """The table `identities`, with the methods that the embedded log has for its own."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def identities(self, tip_id: str) -> list[Sealed]:
        """What was sealed out of a tip. Raises Unavailable."""
        columns = (identities.c[name] for name in ("token", "kind", "key_id", "wrapped_key", "nonce", "ciphertext"))
        with reading(self._engine) as connection:
            return [Sealed(*row) for row in connection.execute(select(*columns).where(identities.c.tip_id == tip_id))]

    def tips_with(self, token: str) -> list[str]:
        """Tips that hold an identity with this token or pseudonym. Raises Unavailable."""
        with reading(self._engine) as connection:
            return list(connection.execute(select(identities.c.tip_id).where(identities.c.token == token).distinct()).scalars())

    def erase(self, tip_id: str) -> int:
        """Destroys a tip's identities with their data key; how many. Raises Unavailable."""
        with writing(self._engine) as connection:
            gone: int = connection.execute(delete(identities).where(identities.c.tip_id == tip_id)).rowcount
        if self._engine.dialect.name == "postgresql" and gone:
            # A deleted row stands in its file until it is swept out.
            with self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                connection.execute(text("VACUUM identities"))
        return gone
