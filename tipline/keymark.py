"""Whose keys a store has. Its database keeps a mark of the keyring that it was written under; what was sealed last tells
it of a store from before there were marks. Another keyring would open nothing, and would not know resends again."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Final

from producers.keyring import BadKeyring, CannotOpen, Keyring
from schemas.errors import TiplineError
from streams.embedded.intake import newest_sealed
from streams.ports import Sealed

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from tipline.store import Store

#: The mark's row in the table `positions`: consumer and topic.
_ROW: Final = ("keyring", "fingerprint")


class OtherKeys(TiplineError):
    """The keyring is not the one that the store, the database or the topics were written under."""


def fingerprint(ring: Keyring) -> str:
    """What tells this keyring from others, and tells nothing of it. Rotations do not change it."""
    return ring.digest("store", "fingerprint").hex()[:32]


def mark_of(ring: Keyring) -> int:
    """The fingerprint as the database keeps it."""
    return int(fingerprint(ring)[:12], 16)


def known_mark(connection: Connection) -> int | None:
    """The mark in the database; None where nobody has put one."""
    from sqlalchemy import select

    from sinks.tables import positions

    found: int | None = connection.execute(select(positions.c.position).where(positions.c.consumer == _ROW[0])).scalar()
    return found


def put_mark(connection: Connection, ring: Keyring) -> None:
    """Puts the mark where there is none."""
    from sinks.database import insert_new
    from sinks.tables import positions

    row = {"consumer": _ROW[0], "topic": _ROW[1], "part": "", "position": mark_of(ring)}
    insert_new(connection, positions, [row])


def check_keys(store: Store) -> int | None:
    """Raises OtherKeys where the embedded store was written under another keyring -> its mark, None for none yet."""
    from sinks.database import reading

    with reading(store.engine) as connection:
        mark = known_mark(connection)
    _check(f"{store.keyring_path}: these are not the keys of the store in {store.path}", store.keyring, mark, store.intake.newest_sealed())
    return mark


def take_keys(store: Store) -> None:
    """As `check_keys`, and from now on the store knows its keyring."""
    from sinks.database import writing

    if check_keys(store) is None:
        with writing(store.engine) as connection:
            put_mark(connection, store.keyring)


def check_files(folder: Path, keys: Path) -> None:
    """As `check_keys`, of the files of a store at rest, which are only read. Raises BadKeyring too."""
    try:
        ring = Keyring.load(keys.read_bytes())
    except BadKeyring as error:
        raise BadKeyring(f"{keys}: {error}") from None
    with closing(sqlite3.connect(f"file:{folder / 'work.db'}?mode=ro", uri=True)) as work:
        try:
            found = work.execute("SELECT position FROM positions WHERE consumer = ?", _ROW[:1]).fetchone()
        except sqlite3.OperationalError:  # from before there was such a table
            found = None
    with closing(sqlite3.connect(f"file:{folder / 'intake.db'}?mode=ro", uri=True)) as intake:
        newest = newest_sealed(intake)
    _check(f"{keys}: these are not the keys of this store", ring, found[0] if found else None, newest)


def _check(words: str, ring: Keyring, mark: int | None, newest: tuple[str, Sealed] | None) -> None:
    fits = mark is None or mark == mark_of(ring)
    if fits and newest is not None:
        fits = newest[1].key_id in ring.ids and (mark is not None or _opens(ring, *newest))
    if not fits:
        raise OtherKeys(
            f"{words}, or a copy from before its last rotation: what is sealed in it would stay shut, and resends would be refused. "
            "Name the file with the keys that it was written under: restore --keys, TIPLINE_KEYS, or keys.json in its directory"
        )


def _opens(ring: Keyring, tip_id: str, sealed: Sealed) -> bool:
    try:
        ring.open_sealed(tip_id, sealed)
    except CannotOpen:
        return False
    return True
