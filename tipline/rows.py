"""Rows of a file or of standard input: NDJSON or CSV."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import IO

from producers.parsing import Parsed, csv_rows, ndjson_rows

_CHUNK = 1 << 16


@contextmanager
def read_rows(name: str, format_: str | None = None) -> Iterator[tuple[Iterator[Parsed], int | None]]:
    """(rows, about how many) of the file `name`; `-` is standard input, whose length is not known, nor is that of a pipe. `format_` is `csv` or
    `ndjson`; None goes by the name."""
    path = Path(name)
    csv = format_ == "csv" or (format_ is None and path.suffix.lower() == ".csv")
    source: IO[bytes] = sys.stdin.buffer if name == "-" else path.open("rb")
    with nullcontext(source) if name == "-" else source as file:
        total = max(0, _lines(file) - csv) if name != "-" and file.seekable() else None
        if not csv:
            yield ndjson_rows(iter(lambda: file.read(_CHUNK), b"")), total
            return
        with io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="") as text:
            yield csv_rows(text), total


def _lines(file: IO[bytes]) -> int:
    count = sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(_CHUNK), b""))
    file.seek(0)
    return count
