"""Rows of a file or of standard input: NDJSON, or CSV by the file's name."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from producers.parsing import Parsed, csv_rows, ndjson_rows

_CHUNK = 1 << 16


@contextmanager
def read_rows(name: str) -> Iterator[tuple[Iterator[Parsed], int | None]]:
    """(rows, about how many) of the file `name`; `-` is standard input, whose length is not known."""
    if name == "-":
        yield ndjson_rows(iter(lambda: sys.stdin.buffer.read(_CHUNK), b"")), None
        return
    path = Path(name)
    if path.suffix.lower() == ".csv":
        with path.open(encoding="utf-8-sig", newline="") as text:
            total = max(0, sum(1 for _ in text) - 1)
            text.seek(0)
            yield csv_rows(text), total
        return
    with path.open("rb") as file:
        total = sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(_CHUNK), b""))
        file.seek(0, io.SEEK_SET)
        yield ndjson_rows(iter(lambda: file.read(_CHUNK), b"")), total
