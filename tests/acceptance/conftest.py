"""A real `tipline serve` on a free port, stopped by its pid."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

if TYPE_CHECKING:
    from tests.town import Town

TIPLINE = Path(sys.executable).with_name("tipline")


class Answer(NamedTuple):
    """An HTTP answer: status, headers in lower case, body."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Serving:
    """A running service with its data directory."""

    def __init__(self, data: Path, environ: dict[str, str] | None = None) -> None:
        self.data = data
        self.environ = {**{k: v for k, v in os.environ.items() if not k.startswith("TIPLINE_")}, "TIPLINE_DATA": str(data), **(environ or {})}
        self.process: subprocess.Popen[str] | None = None
        self.url = ""

    def start(self) -> None:
        with (self.data.parent / "serve.log").open("a") as log:
            self.process = subprocess.Popen([TIPLINE, "serve", "--port", "0"], env=self.environ, stdout=subprocess.PIPE, stderr=log, text=True)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert "ready at" in line, (line, (self.data.parent / "serve.log").read_text())
        self.url = line.split()[-1]

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        self.close()

    def stop(self) -> int:
        assert self.process is not None
        self.process.terminate()
        code = self.process.wait(15)
        self.close()
        return code

    def close(self) -> None:
        if self.process is not None and self.process.stdout is not None:
            self.process.stdout.close()

    def cli(self, *arguments: str, input: str | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run([TIPLINE, *arguments], env=self.environ, capture_output=True, text=True, input=input, timeout=60, check=False)

    def token(self, role: str, *scope: str) -> str:
        done = self.cli("token", "create", "--role", role, *scope)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def call(self, method: str, path: str, token: str | None = None, body: Any = None, headers: dict[str, str] | None = None) -> Answer:
        data = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json", **(headers or {})}, method=method)
        if token:
            request.add_header("Authorization", f"Bearer {token}")
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return Answer(answer.status, {k.lower(): v for k, v in answer.headers.items()}, answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, {k.lower(): v for k, v in error.headers.items()}, error.read())


@pytest.fixture
def make_serving(tmp_path: Path) -> Iterator[Callable[..., Serving]]:
    """Makes services; those still running at the end are killed."""
    made: list[Serving] = []

    def make(environ: dict[str, str] | None = None, start: bool = True) -> Serving:
        one = Serving(tmp_path / f"data{len(made)}", environ)
        made.append(one)
        if start:
            one.start()
        return one

    yield make
    for one in made:
        if one.process is not None and one.process.poll() is None:
            one.process.kill()
            one.process.wait()
        one.close()


@pytest.fixture
def serving(make_serving: Callable[..., Serving]) -> Serving:
    """A fresh service."""
    return make_serving()


@pytest.fixture
def town(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Town]:
    """A whole installation in this process, verified at its end."""
    from tests.town import Town

    made = Town(tmp_path / "data", monkeypatch)
    yield made
    made.close()
