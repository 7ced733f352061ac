"""Opening the store: SQLite or PostgreSQL by URL, transactions that write, and migrations.

SQLite runs in WAL mode with `synchronous=FULL` (a commit is on the disk before it answers) and every transaction begins
IMMEDIATE, so that two writers wait for each other instead of failing half way. `reading` begins a deferred one that
never holds a writer up.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, Engine, Executable, Table, create_engine, event, inspect, make_url, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DatabaseError, OperationalError

from schemas.errors import TiplineError, Unavailable

if TYPE_CHECKING:
    from alembic.config import Config

#: The newest migration: what a database of this version carries.
HEAD: Final = "0004"

BUSY_TIMEOUT_MS: Final = 30_000


class _Turns:
    """A lock that is given in the order it was asked for.

    SQLite's writers poll for the file's lock; within a process they queue here instead, which is quicker and starves
    none.
    """

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._waiting: deque[threading.Lock] = deque()
        self._busy = False

    def __enter__(self) -> None:
        mine = threading.Lock()
        with self._guard:
            if not self._busy:
                self._busy = True
                return
            mine.acquire()
            self._waiting.append(mine)
        try:
            mine.acquire()
        except BaseException:  # interrupted: the turn must not be lost with us
            with self._guard:
                if mine in self._waiting:
                    self._waiting.remove(mine)
                    raise
            self.__exit__()
            raise

    def __exit__(self, *_: object) -> None:
        with self._guard:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._busy = False


_writers: WeakKeyDictionary[Engine, _Turns] = WeakKeyDictionary()

#: PostgreSQL's advisory lock under which migrations run, so that several processes may start at once.
_MIGRATION_LOCK: Final = 7_140_253


class FutureDatabase(TiplineError):
    """The database was written by a later version of tipline."""

    exit_code = 65


class BadDatabase(TiplineError):
    """The file is no database, or a damaged one."""

    exit_code = 65


def open_database(url: str, *, pool_size: int = 10) -> Engine:
    """`sqlite:////path` or `postgresql+psycopg://…` -> engine. Nothing is connected yet.

    Raises ValueError for any other kind of database.
    """
    parsed = make_url(url)
    backend = parsed.get_backend_name()
    if backend == "sqlite":
        return _open_sqlite(url, pool_size)
    if backend == "postgresql":
        return create_engine(
            parsed.set(drivername="postgresql+psycopg"), pool_size=pool_size, max_overflow=pool_size, pool_pre_ping=True
        )
    raise ValueError(
        f"{backend} is no database of ours: use sqlite:////path/to/file or postgresql+psycopg://user@host/name"
    )


def _open_sqlite(url: str, pool_size: int) -> Engine:
    # isolation_level None: the driver's own idea of when to begin would break BEGIN IMMEDIATE.
    arguments = {"isolation_level": None, "check_same_thread": False, "timeout": BUSY_TIMEOUT_MS / 1000}
    memory = make_url(url).database in (None, "", ":memory:")
    engine = (
        create_engine(url, connect_args=arguments)
        if memory
        else create_engine(url, connect_args=arguments, pool_size=pool_size, max_overflow=pool_size)
    )
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.execute("PRAGMA cache_size=-65536")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    reads = connection.get_execution_options().get("tipline_reads", False)
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """One transaction that may write; commits at the end, rolls back on an exception.

    Raises Unavailable when the database is away, or busy for longer than BUSY_TIMEOUT_MS.
    """
    with _writers.setdefault(engine, _Turns()) if engine.dialect.name == "sqlite" else nullcontext():
        try:
            with engine.begin() as connection:
                yield connection
        except OperationalError as error:
            raise _unavailable(error) from error


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """One transaction that only reads; it waits for no writer and holds none up. Raises Unavailable."""
    try:
        with engine.connect().execution_options(tipline_reads=True) as connection, connection.begin():
            yield connection
    except OperationalError as error:
        raise _unavailable(error) from error


def _unavailable(error: OperationalError) -> Unavailable:
    return Unavailable(f"the database does not answer: {type(error.orig).__name__}")


def insert(dialect: str, table: Table) -> sqlite.Insert | postgresql.Insert:
    """INSERT with `on_conflict_do_*` in the words of a database."""
    return sqlite.insert(table) if dialect == "sqlite" else postgresql.insert(table)


def upsert(connection: Connection, table: Table, rows: Sequence[dict[str, Any]], keep: Sequence[str] = ()) -> None:
    """Inserts rows (all with the same keys), or overwrites the row with the same primary key except its columns
    `keep`."""
    if rows:
        connection.execute(_upserting(connection.dialect.name, table, tuple(rows[0]), tuple(keep)), list(rows))


# Statements are made once: building one costs several times what running it does.
@cache
def _upserting(dialect: str, table: Table, names: tuple[str, ...], keep: tuple[str, ...]) -> Executable:
    key = [column.name for column in table.primary_key.columns]
    statement = insert(dialect, table)
    changed = {name: statement.excluded[name] for name in names if name not in key and name not in keep}
    return statement.on_conflict_do_update(index_elements=key, set_=changed)


def insert_new(connection: Connection, table: Table, rows: Sequence[dict[str, Any]]) -> None:
    """Inserts the rows that break no unique key; leaves the others alone."""
    if rows:
        connection.execute(_inserting_new(connection.dialect.name, table), list(rows))


@cache
def _inserting_new(dialect: str, table: Table) -> Executable:
    return insert(dialect, table).on_conflict_do_nothing()


def take_numbers(connection: Connection, wanted: dict[str, int]) -> dict[str, int]:
    """Takes `wanted[name]` numbers of each counter and returns the first of each.

    The counters' rows stay locked until the transaction ends, so numbers are gapless and commit in order. Names are
    locked in alphabetical order: two transactions never wait for each other crosswise.
    """
    first: dict[str, int] = {}
    statement = _taking(connection.dialect.name)
    for name in sorted(wanted):
        last: int = connection.execute(statement, {"name": name, "value": wanted[name]}).scalar_one()
        first[name] = last - wanted[name] + 1
    return first


@cache
def _taking(dialect: str) -> Executable:
    from sinks.tables import counters

    statement = insert(dialect, counters)
    added = {"value": counters.c.value + statement.excluded.value}
    return statement.on_conflict_do_update(index_elements=["name"], set_=added).returning(counters.c.value)


def version(connection: Connection) -> str | None:
    """The migration the database stands at; None for an empty one."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return None if found is None else str(found)


def migrate(engine: Engine) -> None:
    """Brings the database to HEAD; does nothing when it is there. Several processes may call it at once.

    Raises FutureDatabase when a later version wrote it, BadDatabase for what is none, Unavailable when it does not
    answer.
    """
    try:
        with reading(engine) as connection:
            current = version(connection)
    except DatabaseError as error:
        raise BadDatabase(
            f"{engine.url.database}: {error.orig}. Restore the last good backup, or name another --data"
        ) from None
    if current == HEAD:
        return
    with writing(engine) as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _MIGRATION_LOCK})
        _upgrade(connection)


def _upgrade(connection: Connection) -> None:
    from alembic import command
    from alembic.script import ScriptDirectory

    config = migrations(connection)
    current = version(connection)
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if current is not None and current not in known:
        raise FutureDatabase(
            f"the database stands at migration {current}, which this version does not know "
            f"(its newest is {HEAD}): run a newer tipline"
        )
    command.upgrade(config, "head")


def migrations(connection: Connection) -> Config:
    """Alembic's settings for the migrations of this package, run in the connection's transaction."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.attributes["connection"] = connection
    return config
