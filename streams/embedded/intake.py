"""The embedded log `tips`: one SQLite file, `intake.db`.

One accept is one fsynced commit. Callers that come while a commit is under way wait together, and the next commit takes
all of them: whoever gets the lock first commits for the others (group commit). There is no thread to start or to lose.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from schemas.codec import decode_input, encode
from schemas.errors import TiplineError, Unavailable
from sinks.failpoints import reach
from streams.ports import Accepted, Admitted, Row, Sealed

_log = logging.getLogger("tipline.intake")

#: Numbered by their place: `PRAGMA user_version` says how many have run. Append only.
MIGRATIONS: Final = (
    """
    CREATE TABLE tips (
        position INTEGER PRIMARY KEY,  -- 1, 2, 3, ... without a gap: rows are never deleted
        county TEXT NOT NULL,
        key TEXT NOT NULL UNIQUE,      -- the record's own id
        type TEXT NOT NULL,
        tip_id TEXT,
        source TEXT,
        message_id TEXT,
        digest BLOB,
        receipt TEXT,
        accepted_at TEXT,
        value BLOB NOT NULL
    ) STRICT;
    CREATE UNIQUE INDEX tips_message ON tips (source, message_id) WHERE message_id IS NOT NULL;
    CREATE INDEX tips_county ON tips (county, position);
    CREATE INDEX tips_receipt ON tips (receipt) WHERE receipt IS NOT NULL;
    CREATE TABLE identities (
        tip_id TEXT NOT NULL,
        kind TEXT NOT NULL,
        token TEXT NOT NULL,
        key_id TEXT NOT NULL,
        wrapped_key BLOB NOT NULL,
        nonce BLOB NOT NULL,
        ciphertext BLOB NOT NULL,
        PRIMARY KEY (tip_id, kind, token)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX identities_token ON identities (token);
    """,
)

_INSERT_TIP = """INSERT INTO tips (county, key, type, tip_id, source, message_id, digest, receipt, accepted_at, value)
                 VALUES (?, ?, 'tip', ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"""
_INSERT_OTHER = "INSERT INTO tips (county, key, type, value) VALUES (?, ?, ?, ?) ON CONFLICT (key) DO NOTHING"
#: From the newest tip on backwards: a CROSS JOIN keeps SQLite from beginning with all identities.
_NEWEST_SEALED = """SELECT i.tip_id, i.token, i.kind, i.key_id, i.wrapped_key, i.nonce, i.ciphertext
                    FROM tips t CROSS JOIN identities i ON i.tip_id = t.tip_id ORDER BY t.position DESC LIMIT 1"""
_INSERT_IDENTITY = "INSERT INTO identities VALUES (?, ?, ?, ?, ?, ?, ?)"
_KNOWN = "SELECT tip_id, receipt, digest FROM tips WHERE key = ? OR (source = ? AND message_id = ?) LIMIT 1"

#: Records of one commit at most: bounds how long a caller waits behind others.
MAX_GROUP: Final = 2_000
_PAGE = 4096
#: Errors of a record or of ours, not of the disk: waiting does not mend them.
_FAULTS = (sqlite3.IntegrityError, sqlite3.DataError, sqlite3.ProgrammingError)


class BadStore(TiplineError):
    """The file is not ours, was written by a later version, or cannot promise durability; the message says which."""

    exit_code = 65


class _Pending:
    """One caller's records, and the answer once there is one."""

    __slots__ = ("admitted", "answer", "done", "error")

    def __init__(self, admitted: Sequence[Admitted]) -> None:
        self.admitted = admitted
        self.answer: list[Accepted] = []
        self.error: Exception | None = None
        self.done = False


class SqliteIntake:
    """Implements the ports Intake and InputLog over one file. Safe for threads; several processes may open one file."""

    def __init__(
        self, path: Path, *, max_bytes: int | None = None, max_pending: int = 20_000, busy_ms: int = 10_000
    ) -> None:
        """Opens the file, creates or migrates it. `max_bytes` caps the database (not its WAL); `max_pending` caps the
        records that wait for a commit. Raises BadStore, Unavailable, or OSError when the file cannot be opened at all."""
        self._path = path
        self._max_pending = max_pending
        self._lock = threading.Lock()  # the write connection
        self._queue: deque[_Pending] = deque()
        self._waiting = 0
        self._queue_lock = threading.Lock()
        self._read_lock = threading.Lock()
        self._grown = threading.Condition()
        self._wakes = 0
        self._closed = False
        try:
            self._write = _open(path, busy_ms)
            _migrate(self._write, path)
            self._reader = _open(path, busy_ms)
            self._reader.execute("PRAGMA query_only = ON")
        except sqlite3.Error as error:
            if _name_of(error) in ("SQLITE_NOTADB", "SQLITE_CORRUPT"):
                raise BadStore(f"{path}: {error}. Restore the last good backup, or name another --data") from None
            raise Unavailable(f"{path}: {error}") from None
        self.limit_bytes(max_bytes)
        self._end = self._last()

    def close(self) -> None:
        """Closes the file. Callers that wait get Unavailable."""
        with self._lock, self._read_lock:
            self._closed = True
            self._write.close()
            self._reader.close()
        self.wake()

    def limit_bytes(self, max_bytes: int | None) -> None:
        """Caps the database file from now on; None takes the cap away."""
        pages = 2**32 - 2 if max_bytes is None else max(1, max_bytes // _PAGE)
        with self._lock:
            self._write.execute(f"PRAGMA max_page_count = {pages}")

    # --- the door's side ---

    def accept(self, admitted: Sequence[Admitted]) -> list[Accepted]:
        """Appends all in one fsynced commit, together with whoever else waits. See `streams.ports.Intake`.

        Raises Unavailable: nothing of these is stored. (After an I/O error at the commit itself a crash may still bring
        them back; sending the same again is then answered `redelivered`.)
        """
        if not admitted:
            return []
        pending = _Pending(admitted)
        with self._queue_lock:
            if self._waiting + len(admitted) > self._max_pending:
                raise Unavailable("too many tips wait to be stored", retry_after=1)
            self._queue.append(pending)
            self._waiting += len(admitted)
        while not pending.done:
            with self._lock:
                if not pending.done:
                    self._commit_group()
        if pending.error is not None:
            raise pending.error
        return pending.answer

    def _commit_group(self) -> None:
        """Commits what waits, oldest first, and answers each. Never raises for a caller's error; holds the lock."""
        group = self._take_group()
        try:
            self._store(group)
        except Unavailable as error:
            _answer_all(group, error)
        except Exception as error:  # a record that cannot be stored must not take the others with it
            if len(group) == 1:
                _answer_all(group, error)
            else:
                self._one_by_one(group)
        except BaseException:
            _answer_all(group, Unavailable("interrupted"))
            raise

    def _take_group(self) -> list[_Pending]:
        with self._queue_lock:
            group = [self._queue.popleft()]
            size = len(group[0].admitted)
            while self._queue and size + len(self._queue[0].admitted) <= MAX_GROUP:
                group.append(self._queue.popleft())
                size += len(group[-1].admitted)
            self._waiting -= size
        return group

    def _one_by_one(self, group: list[_Pending]) -> None:
        for pending in group:
            try:
                self._store([pending])
            except Exception as error:
                _answer_all([pending], error)

    def _store(self, group: list[_Pending]) -> None:
        reach("accept.before_begin")
        answers = self._transaction(lambda: [[self._insert(one) for one in p.admitted] for p in group])
        for pending, answer in zip(group, answers, strict=True):
            pending.answer = answer
            pending.done = True

    def _transaction(self, work: Callable[[], Any]) -> Any:
        """Runs `work` in one commit, then wakes those who wait for records. Raises Unavailable when SQLite cannot."""
        connection = self._write
        if self._closed:
            raise Unavailable("the log of tips is closed")
        try:
            connection.execute("BEGIN IMMEDIATE")
            result = work()
            reach("accept.before_commit")
            connection.execute("COMMIT")
        except BaseException as error:
            _roll_back(connection)
            if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, _FAULTS):
                raise _unavailable(error) from None
            raise
        reach("accept.after_commit")
        self._announce()
        return result

    def _insert(self, admitted: Admitted) -> Accepted:
        tip = admitted.tip
        key = tip.tip_id
        row = (tip.county, key, key, tip.source, tip.message_id, admitted.digest, admitted.receipt, tip.received_at)
        if self._write.execute(_INSERT_TIP, (*row, encode(tip))).rowcount == 1:
            if admitted.identities:
                self._write.executemany(_INSERT_IDENTITY, [_identity_row(key, one) for one in admitted.identities])
            return Accepted(key, admitted.receipt, "accepted")
        tip_id, receipt, digest = self._write.execute(_KNOWN, (key, tip.source, tip.message_id)).fetchone()
        return Accepted(tip_id, receipt, "redelivered" if digest == admitted.digest else "conflict")

    # --- the runtime's side ---

    def append(self, county: str, key: str, value: bytes) -> int | None:
        """Appends a record that is no tip, once by its `key`; durable on return. Its position, or None when known.

        Raises BadRecord for what is no record, Unavailable.
        """
        tag = str(decode_input(value).__struct_config__.tag)

        def insert() -> int | None:
            cursor = self._write.execute(_INSERT_OTHER, (county, key, tag, value))
            return cursor.lastrowid if cursor.rowcount == 1 else None

        with self._lock:
            reach("accept.before_begin")
            position: int | None = self._transaction(insert)
        return position

    def read(self, county: str, after: int, limit: int) -> list[Row]:
        """Up to `limit` rows of a county with position > `after`, in order."""
        query = "SELECT position, key, value FROM tips WHERE county = ? AND position > ? ORDER BY position LIMIT ?"
        return [Row(*row) for row in self._select(query, county, after, limit)]

    def end(self, county: str) -> int:
        """The last position of a county, 0 when it has none."""
        position: int = self._select("SELECT coalesce(max(position), 0) FROM tips WHERE county = ?", county)[0][0]
        return position

    def counties(self) -> list[str]:
        """Counties that have records, in order of name."""
        return [row[0] for row in self._select("SELECT DISTINCT county FROM tips ORDER BY county")]

    def wait(self, seen: int, timeout: float | None = None) -> int:
        """Blocks until a record beyond position `seen` (of any county) is committed, or `timeout` seconds are over.

        The last position. What another process appended is noticed only when the time is over.
        """
        with self._grown:
            wakes = self._wakes
            if self._grown.wait_for(lambda: self._end > seen or self._wakes != wakes, timeout):
                return self._end
        return self._last()

    def wake(self) -> None:
        """Lets everyone in `wait` return at once, for a stop."""
        with self._grown:
            self._wakes += 1
            self._grown.notify_all()

    def _announce(self) -> None:
        last = self._write.execute("SELECT max(position) FROM tips").fetchone()[0] or 0
        with self._grown:
            self._end = last
            self._grown.notify_all()

    def _last(self) -> int:
        last: int = self._select("SELECT coalesce(max(position), 0) FROM tips")[0][0]
        return last

    # --- look-ups ---

    def has_tips(self) -> bool:
        """Whether anything was ever accepted here."""
        return bool(self._select("SELECT 1 FROM tips WHERE type = 'tip' LIMIT 1"))

    def lookup(self, tip_id: str) -> bytes | None:
        """The record of a tip, or None."""
        rows = self._select("SELECT value FROM tips WHERE key = ? AND type = 'tip'", tip_id)
        return rows[0][0] if rows else None

    def by_receipt(self, receipt: str) -> str | None:
        """The tip that a receipt was given for, or None."""
        rows = self._select("SELECT tip_id FROM tips WHERE receipt = ?", receipt)
        return rows[0][0] if rows else None

    # --- identities ---

    def identities(self, tip_id: str) -> list[Sealed]:
        """What was sealed out of a tip."""
        query = "SELECT token, kind, key_id, wrapped_key, nonce, ciphertext FROM identities WHERE tip_id = ?"
        return [Sealed(*row) for row in self._select(query, tip_id)]

    def newest_sealed(self) -> tuple[str, Sealed] | None:
        """An identity of the last tip that has any, with the tip's id; None when nothing is sealed."""
        return _sealed(self._select(_NEWEST_SEALED))

    def tips_with(self, token: str) -> list[str]:
        """Tips that hold an identity with this token or pseudonym."""
        return [row[0] for row in self._select("SELECT DISTINCT tip_id FROM identities WHERE token = ?", token)]

    def sealed_otherwise(self, key_id: str, limit: int) -> list[str]:
        """Up to `limit` tips whose identities are sealed by another key than `key_id`."""
        query = "SELECT DISTINCT tip_id FROM identities WHERE key_id <> ? LIMIT ?"
        return [row[0] for row in self._select(query, key_id, limit)]

    def reseal(self, tip_id: str, identities: Sequence[Sealed]) -> None:
        """Puts new seals in place of a tip's old ones. Raises Unavailable."""

        def swap() -> None:
            self._write.execute("DELETE FROM identities WHERE tip_id = ?", (tip_id,))
            self._write.executemany(_INSERT_IDENTITY, [_identity_row(tip_id, one) for one in identities])

        with self._lock:
            self._transaction(swap)

    def erase(self, *tip_ids: str) -> int:
        """Destroys tips' identities with their data keys, in the file and in its WAL; how many. Raises Unavailable."""

        def delete() -> int:
            return self._write.executemany("DELETE FROM identities WHERE tip_id = ?", [(tip_id,) for tip_id in tip_ids]).rowcount

        with self._lock:
            erased: int = self._transaction(delete)
            with self._read_lock:  # no reader of ours may keep the old pages in the WAL
                self._write.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        return erased

    def _select(self, query: str, *values: Any) -> list[Any]:
        try:
            with self._read_lock:
                if self._closed:
                    raise Unavailable("the log of tips is closed")
                return self._reader.execute(query, values).fetchall()
        except sqlite3.DatabaseError as error:
            raise _unavailable(error) from None


def newest_sealed(connection: sqlite3.Connection) -> tuple[str, Sealed] | None:
    """As the method of this name, of a log that nobody has opened."""
    return _sealed(connection.execute(_NEWEST_SEALED).fetchall())


def _sealed(rows: list[Any]) -> tuple[str, Sealed] | None:
    return (rows[0][0], Sealed(*rows[0][1:])) if rows else None


def _answer_all(group: list[_Pending], error: Exception) -> None:
    for pending in group:
        pending.error = error
        pending.done = True


def _identity_row(tip_id: str, one: Sealed) -> tuple[str, str, str, str, bytes, bytes, bytes]:
    return (tip_id, one.kind, one.token, one.key_id, one.wrapped_key, one.nonce, one.ciphertext)


def _roll_back(connection: sqlite3.Connection) -> None:
    try:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
    except sqlite3.Error as error:  # SQLite rolls back by itself after the gravest errors
        _log.warning("roll back: %s", _name_of(error))


def _unavailable(error: sqlite3.Error) -> Unavailable:
    name = _name_of(error)
    _log.error("the log of tips cannot be used: %s", name)
    return Unavailable(f"the log of tips cannot be used: {name}")


def _name_of(error: sqlite3.Error) -> str:
    """SQLite's name of an error; never its text, which may hold values."""
    return getattr(error, "sqlite_errorname", type(error).__name__)


def make_private(path: Path) -> None:
    """Makes a database's file, readable by its owner alone, where there is none; its WAL takes the mode from there.

    A file that exists must never be opened and closed beside SQLite: closing any descriptor of it drops the locks of
    this process's connections, and the next process that closes the database deletes the WAL which they still write to.
    """
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))


def _open(path: Path, busy_ms: int) -> sqlite3.Connection:
    make_private(path)
    connection = sqlite3.connect(path, timeout=busy_ms / 1000, isolation_level=None, check_same_thread=False)
    connection.execute(f"PRAGMA page_size = {_PAGE}")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA fullfsync = ON")  # macOS: an fsync that reaches the disk
    connection.execute("PRAGMA secure_delete = ON")
    connection.execute("PRAGMA journal_size_limit = 67108864")
    mode = connection.execute("PRAGMA journal_mode").fetchone()[0]
    level = connection.execute("PRAGMA synchronous").fetchone()[0]
    if (mode, level) != ("wal", 2):
        connection.close()
        raise BadStore(f"{path}: no WAL with synchronous=FULL here ({mode}, {level}): put the data on a local disk")
    return connection


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    connection.execute("BEGIN IMMEDIATE")
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > len(MIGRATIONS):
        connection.execute("ROLLBACK")
        raise BadStore(f"{path} was written by a later version of tipline (format {version}): use that one")
    for number, script in enumerate(MIGRATIONS[version:], start=version + 1):
        for statement in _statements(script):
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {number}")
    connection.execute("COMMIT")
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)  # the file's own name must survive a power cut as well
    finally:
        os.close(directory)


def _statements(script: str) -> list[str]:
    lines = (line.partition("--")[0] for line in script.splitlines())
    return [statement for statement in " ".join(lines).split(";") if statement.strip()]
