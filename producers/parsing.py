"""Strict parsing of what arrives: JSON, NDJSON, CSV and CloudEvents. Pure; every failure is a `Rejected`.

Three JSON parsers read three different documents out of the same odd bytes. So one parser stands at the edge and
refuses all of it: duplicate keys, NaN, lone surrogates, U+0000, a byte order mark, deep nesting, integers beyond 2**53.
"""

from __future__ import annotations

import base64
import binascii
import csv
import json
from collections.abc import Iterator, Mapping
from typing import Any, Final, TextIO
from urllib.parse import unquote

import msgspec
import orjson

from schemas.errors import Mistake, Rejected

#: Bytes of one submission.
MAX_BYTES: Final = 64 * 1024
#: Levels of nesting; a submission needs three, a CloudEvent around it four.
MAX_DEPTH: Final = 8
#: Integers beyond this are not the same number in every program.
MAX_INT: Final = 2**53

#: CloudEvents attribute -> the submission's field that it fills.
EVENT_FIELDS: Final = {"id": "message_id", "source": "source", "time": "reported_at"}

_NUMERIC_COLUMNS = frozenset({"place.lat", "place.lon"})
_COLUMNS = frozenset(
    {
        "text", "channel", "source", "message_id", "reported_at", "occurred_at", "in_reply_to", "category_hint", "lang",
        "place.text", "place.lat", "place.lon", "place.area", "reporter.id", "reporter.name", "reporter.phone",
    }
)  # fmt: skip


class Parsed(msgspec.Struct, frozen=True):
    """A row of a file: the line it starts on (1 is the first), and the submission or why there is none."""

    line: int
    submission: Any = None
    problem: Rejected | None = None


def too_large(limit: int = MAX_BYTES) -> Rejected:
    """The refusal of a body of more than `limit` bytes."""
    return Rejected(413, "too_large", f"The body is too large: at most {limit} bytes")


def strict_json(raw: bytes, limit: int = MAX_BYTES) -> Any:
    """Bytes -> document. Raises Rejected: 413 beyond `limit` bytes, 400 for what is not plain unambiguous JSON."""
    if len(raw) > limit:
        raise too_large(limit)
    try:
        document = orjson.loads(raw)
        json.loads(raw.decode(), object_pairs_hook=_no_twins, parse_int=_small_int)
    except (ValueError, RecursionError) as error:
        raise _malformed(error) from None
    if b"\\u0000" in raw or raw.count(b"[") + raw.count(b"{") > MAX_DEPTH:
        _inspect(document, "", 1)
    return document


class _Twin(ValueError):
    """A key occurs twice in one object."""


class _LongInt(ValueError):
    """An integer beyond MAX_INT."""


def _no_twins(pairs: list[tuple[str, Any]]) -> None:
    if len(pairs) > 1 and len({key for key, _ in pairs}) != len(pairs):
        raise _Twin


def _small_int(digits: str) -> int:
    if len(digits) > 17 or abs(number := int(digits)) > MAX_INT:
        raise _LongInt
    return number


def _malformed(error: Exception) -> Rejected:
    if isinstance(error, _Twin):
        detail = "a key occurs twice in one object"
    elif isinstance(error, _LongInt):
        detail = f"an integer is beyond {MAX_INT}"
    elif isinstance(error, RecursionError):
        detail = f"nested more than {MAX_DEPTH} deep"
    elif isinstance(error, orjson.JSONDecodeError):
        detail = f"not JSON in UTF-8, at line {error.lineno}, column {error.colno}"
    else:
        detail = "not JSON in UTF-8"
    return malformed(detail)


def malformed(detail: str, pointer: str = "") -> Rejected:
    """The refusal of bytes that cannot be read; `detail` must not quote them."""
    return Rejected(400, "malformed", "The body cannot be read", [Mistake(pointer, detail)])


def _inspect(node: Any, pointer: str, depth: int) -> None:
    """Refuses U+0000 and deep nesting. Keys that hold U+0000 are left out of the pointer."""
    if isinstance(node, str):
        if "\0" in node:
            raise malformed("holds the character U+0000", pointer)
        return
    if not isinstance(node, dict | list):
        return
    if depth > MAX_DEPTH:
        raise malformed(f"nested more than {MAX_DEPTH} deep")
    if isinstance(node, dict):
        if any("\0" in key for key in node):
            raise malformed("a key holds the character U+0000", pointer)
        for key, value in node.items():
            _inspect(value, f"{pointer}/{key.replace('~', '~0').replace('/', '~1')}"[:200], depth + 1)
    else:
        for index, value in enumerate(node):
            _inspect(value, f"{pointer}/{index}", depth + 1)


class LineSplitter:
    """Cuts chunks of bytes into lines without ever holding more than one line of `limit` bytes.

    Lines are counted from 1. Blank ones are counted and left out; one that is too long comes out as None.
    """

    def __init__(self, limit: int = MAX_BYTES) -> None:
        self._limit = limit
        self._rest = bytearray()
        self._skipping = False
        #: Lines that have ended.
        self.line = 0

    def feed(self, chunk: bytes) -> Iterator[tuple[int, bytes | None]]:
        """The lines that end in `chunk`: (number, bytes without the line end, or None when too long)."""
        pieces = chunk.split(b"\n")
        for piece in pieces[:-1]:
            self._take(piece)
            yield from self._cut()
        self._take(pieces[-1])

    def finish(self) -> Iterator[tuple[int, bytes | None]]:
        """The last line, when it had no line end."""
        if self._rest or self._skipping:
            yield from self._cut()

    def _take(self, piece: bytes) -> None:
        if self._skipping or len(self._rest) + len(piece) > self._limit + 1:  # one more for a carriage return
            self._skipping = True
            self._rest.clear()
        else:
            self._rest += piece

    def _cut(self) -> Iterator[tuple[int, bytes | None]]:
        self.line += 1
        line, skipped = bytes(self._rest).removesuffix(b"\r"), self._skipping
        self._rest.clear()
        self._skipping = False
        if skipped:
            yield self.line, None
        elif line.strip():
            yield self.line, line


def ndjson_rows(chunks: Iterator[bytes]) -> Iterator[Parsed]:
    """Submissions of an NDJSON file, bad lines in their place. A byte order mark at the start is overlooked."""
    splitter = LineSplitter()
    first = True
    for chunk in chunks:
        data = chunk.removeprefix(b"\xef\xbb\xbf") if first else chunk
        first = False
        for number, line in splitter.feed(data):
            yield _parsed(number, line)
    for number, line in splitter.finish():
        yield _parsed(number, line)


def _parsed(number: int, line: bytes | None) -> Parsed:
    try:
        if line is None:
            raise too_large()
        return Parsed(number, strict_json(line))
    except Rejected as error:
        return Parsed(number, problem=error)


def csv_rows(file: TextIO) -> Iterator[Parsed]:
    """Submissions of a CSV file: the first row names the fields, dotted where nested (`place.text`, `reporter.id`).

    Empty cells are absent fields. A bad row comes in its place; a bad header raises Rejected before any row. A file in
    another encoding than UTF-8 is read with `errors="surrogateescape"`, so that only the rows that break it are bad.
    """
    reader = csv.reader(file, strict=True)  # a quote that is never closed would swallow the rows after it
    try:
        header = [name.strip().removeprefix("\ufeff") for name in next(reader, [])]
    except csv.Error:
        raise malformed("the header row is no CSV") from None
    _check_header(header)
    yield from _csv_body(reader, header)


def _csv_body(reader: Any, header: list[str]) -> Iterator[Parsed]:
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error:
            yield Parsed(line, problem=malformed("the row is no CSV"))
            continue
        if cells is None:
            return
        if any(cells):
            yield _csv_row(line, header, cells)


def _check_header(header: list[str]) -> None:
    if not header:
        raise _bad_header("the file is empty")
    if any(_foreign(name) for name in header):
        raise malformed(_NOT_UTF8)
    # A name may be a file's first tip where the names are missing: columns are told by their number.
    unknown = [str(number) for number, name in enumerate(header, start=1) if name not in _COLUMNS]
    if unknown:
        raise _bad_header(f"unknown: column {', '.join(unknown[:20])}")
    if len(set(header)) != len(header):
        raise _bad_header("a name stands twice")
    if "text" not in header:
        raise _bad_header("there is no column `text`")


def _bad_header(fault: str) -> Rejected:
    detail = f"{fault}; name each column once, `text` among them; known are {', '.join(sorted(_COLUMNS))}"
    return Rejected(422, "csv_header", "The first row of the CSV file must name its columns", [Mistake("", detail)])


_NOT_UTF8: Final = "not UTF-8: save the file as `CSV UTF-8`, or convert it with `iconv -f GBK -t UTF-8`"


def _foreign(cell: str) -> bool:
    """Whether bytes that are no UTF-8 were carried along."""
    return any("\ud800" <= sign <= "\udfff" for sign in cell)


def _csv_row(line: int, header: list[str], cells: list[str]) -> Parsed:
    if len(cells) > len(header):
        return Parsed(line, problem=malformed(f"the row has {len(cells)} cells, the header {len(header)}"))
    submission: dict[str, Any] = {}
    for name, cell in zip(header, cells, strict=False):
        if cell:
            outer, _, inner = name.rpartition(".")
            (submission.setdefault(outer, {}) if outer else submission)[inner] = _cell(name, cell)
    if any(_foreign(cell) for cell in cells):
        return Parsed(line, problem=malformed(_NOT_UTF8))
    if any("\0" in cell for cell in cells):
        return Parsed(line, problem=malformed("holds the character U+0000"))
    return Parsed(line, submission)


def _cell(name: str, cell: str) -> str | float:
    if name not in _NUMERIC_COLUMNS:
        return cell
    try:
        return float(cell)
    except ValueError:
        return cell  # the schema says what is wrong with it


def structured_event(document: Any) -> dict[str, Any]:
    """CloudEvents 1.0 in structured mode -> submission. Raises Rejected (422)."""
    if not isinstance(document, dict):
        raise _bad_event([Mistake("", "must be of type object")])
    if document.get("datacontenttype", "application/json") != "application/json":
        raise _bad_event([Mistake("/datacontenttype", "must be application/json")])
    if "data" in document and "data_base64" in document:
        raise _bad_event([Mistake("/data_base64", "only one of data and data_base64")])
    if "data_base64" in document:
        data = strict_json(_base64(document["data_base64"]))
    else:
        data = document.get("data")
    return _from_event(document, data, "/")


def binary_event(headers: Mapping[str, str], data: Any) -> dict[str, Any]:
    """CloudEvents 1.0 in binary mode -> submission; `headers` by lower-case name. Raises Rejected (422)."""
    try:
        attributes = {
            name[3:]: unquote(value, errors="strict") for name, value in headers.items() if name.startswith("ce-")
        }
    except UnicodeDecodeError:
        raise _bad_event([Mistake("", "a ce- header is not percent-encoded UTF-8")]) from None
    return _from_event(attributes, data, "ce-")


def event_pointer(pointer: str) -> str:
    """Where in a structured event the submission's `pointer` lies."""
    for attribute, field in EVENT_FIELDS.items():
        if pointer == f"/{field}":
            return f"/{attribute}"
    return f"/data{pointer}"


def _base64(value: Any) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except (TypeError, ValueError, binascii.Error):
        raise _bad_event([Mistake("/data_base64", "must be base64")]) from None


def _from_event(attributes: Mapping[str, Any], data: Any, mark: str) -> dict[str, Any]:
    found = [
        Mistake(f"{mark}{name}", "required: a non-empty string")
        for name in ("id", "source", "type")
        if not (isinstance(attributes.get(name), str) and attributes[name])
    ]
    if attributes.get("specversion") != "1.0":
        found.append(Mistake(f"{mark}specversion", "must be 1.0"))
    if "time" in attributes and not isinstance(attributes["time"], str):
        found.append(Mistake(f"{mark}time", "must be of type string"))
    if not isinstance(data, dict):
        found.append(Mistake("/data", "must be a submission, as a JSON object"))
    if found:
        raise _bad_event(found)
    return _merge(attributes, data, mark)


def _merge(attributes: Mapping[str, Any], data: dict[str, Any], mark: str) -> dict[str, Any]:
    submission = dict(data)
    for attribute, field in EVENT_FIELDS.items():
        if attribute not in attributes:
            continue
        if submission.setdefault(field, attributes[attribute]) != attributes[attribute]:
            raise _bad_event([Mistake(f"{mark}{attribute}", f"differs from {field} in the data")])
    return submission


def _bad_event(found: list[Mistake]) -> Rejected:
    return Rejected(422, "cloudevent", "This is no CloudEvent 1.0 with a submission in it", found)
