"""Bodies that must be refused, each with the status it must get: malformed, oversized, deceptive, and from the wrong hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec

from tipline.testing import Client

_GOOD: dict[str, Any] = {"text": "路灯坏了", "source": "bot:form"}


class Attempt(msgspec.Struct, frozen=True):
    """One request that must be refused: by whom, with what, and how the door must answer."""

    name: str
    status: int
    body: bytes
    headers: dict[str, str] = {}
    who: str = "intake"


def attempts() -> list[Attempt]:
    """All of them."""
    return [*_malformed(), *_invalid(), *_wrong_kind(), *_wrong_hand()]


def _malformed() -> list[Attempt]:
    raw: dict[str, bytes] = {
        "an empty body": b"",
        "no JSON": b"text=fire",
        "cut off": b'{"text": "fi',
        "twice the same key": b'{"text": "a", "text": "b"}',
        "NaN": b'{"text": "a", "place": {"lat": NaN, "lon": 1}}',
        "a number too large": b'{"text": "a", "place": {"lat": 1e999, "lon": 1}}',
        "half a surrogate": b'{"text": "\\ud83d"}',
        "bytes that are no UTF-8": b'{"text": "\xff\xfe"}',
        "UTF-16": json.dumps(_GOOD).encode("utf-16"),
        "a byte order mark": b"\xef\xbb\xbf" + json.dumps(_GOOD).encode(),
        "nested without end": b"[" * 20_000 + b"]" * 20_000,
        "two documents": b'{"text": "a"}{"text": "b"}',
        "a hidden NUL": b'{"text": "a\\u0000b"}',
    }
    return [Attempt(name, 400, body) for name, body in raw.items()]


def _invalid() -> list[Attempt]:
    made: dict[str, Any] = {
        "a list": [_GOOD],
        "a bare word": "fire",
        "nothing": None,
        "no text": {"source": "bot:form"},
        "blank text": {**_GOOD, "text": " \n\t　"},
        "a number for text": {**_GOOD, "text": 7},
        "a text too long": {**_GOOD, "text": "火" * 4001},
        "an unknown field": {**_GOOD, "admin": True},
        "a time without offset": {**_GOOD, "reported_at": "2026-01-01T00:00:00"},
        "a time in words": {**_GOOD, "reported_at": "yesterday"},
        "a point off the globe": {**_GOOD, "place": {"lat": 91.0, "lon": 115.0}},
        "half a point": {**_GOOD, "place": {"lat": 38.0}},
        "an unknown category": {**_GOOD, "category_hint": "gossip"},
        "a message_id that is a list": {**_GOOD, "message_id": ["1"]},
    }
    return [Attempt(name, 422, msgspec.json.encode(document)) for name, document in made.items()]


def _wrong_kind() -> list[Attempt]:
    good = msgspec.json.encode(_GOOD)
    return [
        Attempt("a body too large", 413, b'{"text": "' + b"a" * 70_000 + b'"}'),
        Attempt("a form", 415, b"text=fire", {"content-type": "application/x-www-form-urlencoded"}),
        Attempt("compressed", 415, good, {"content-encoding": "gzip"}),
        Attempt("another charset", 415, good, {"content-type": "application/json; charset=gbk"}),
    ]


def _wrong_hand() -> list[Attempt]:
    good = msgspec.json.encode(_GOOD)
    return [
        Attempt("without a token", 401, good, {"authorization": ""}),
        Attempt("a guessed token", 401, good, {"authorization": "Bearer tl_0000000000000000_guessed"}),
        Attempt("a station that reports", 403, good, who="station"),
        Attempt("a statistician that reports", 403, good, who="statistician"),
        Attempt("in another's name", 403, msgspec.json.encode({**_GOOD, "source": "hotline:110"})),
    ]


def try_all(client_of: Callable[[str], Client]) -> list[tuple[Attempt, int]]:
    """Makes every attempt -> each with the status it got. Raises Lost."""
    got: list[tuple[Attempt, int]] = []
    for attempt in attempts():
        headers = {"content-type": "application/json", **attempt.headers}
        answer = client_of(attempt.who).call("POST", "/v1/tips", attempt.body, headers)
        got.append((attempt, answer.status))
    return got
