"""The house holds: who imports whom is import-linter's; what it cannot see is checked here."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from tests.conftest import LONG, TESTS

ROOT = Path(__file__).parents[2]
PACKAGES = ("schemas", "producers", "streams", "sinks", "stations", "tipline")
PURE = ("schemas", "streams/stages", "streams/pipeline.py", "streams/ports.py")
BANNED_CALLS = {
    "time.time",
    "time.time_ns",
    "datetime.now",
    "datetime.utcnow",
    "uuid.uuid4",
    "uuid.uuid1",
    "os.environ",
    "os.getenv",
    "open",
    "print",
}


def test_importing_the_contract_and_the_stages_loads_no_driver() -> None:
    code = (
        "import sys, schemas.validation, schemas.records, streams.ports, streams.pipeline, producers, sinks, stations;"
        "print([m for m in ('faust', 'kafka', 'aiokafka', 'sqlalchemy', 'sqlite3', 'starlette', 'uvicorn', 'asyncio') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"


def _dotted(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


@pytest.mark.parametrize("room", PURE)
def test_the_core_reads_no_clock_no_environment_and_no_file(room: str) -> None:
    target = ROOT / room
    files = sorted(target.rglob("*.py")) if target.is_dir() else [target]
    found = [
        f"{path.name}:{node.lineno}: {name}"
        for path in files
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call | ast.Attribute)
        for name in [_dotted(node.func if isinstance(node, ast.Call) else node)]
        if name in BANNED_CALLS or any(name.endswith("." + banned) for banned in BANNED_CALLS if "." in banned)
    ]
    assert found == []


@pytest.mark.parametrize("name", PACKAGES)
def test_no_other_distribution_ships_our_top_level_names(name: str) -> None:
    assert set(packages_distributions().get(name, ["tipline"])) == {"tipline"}


def test_nothing_is_named_utils() -> None:
    assert [
        p
        for package in PACKAGES
        for p in (ROOT / package).rglob("*.py")
        if p.stem in ("utils", "helpers", "common", "misc")
    ] == []


def test_the_files_that_begin_first_are_there() -> None:
    assert [name for name in LONG if not (TESTS / name).is_file()] == []
