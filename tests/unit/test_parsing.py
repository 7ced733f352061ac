"""Strict parsing: what is refused, what comes through, line by line."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.parsing import (
    MAX_BYTES,
    LineSplitter,
    binary_event,
    csv_rows,
    event_pointer,
    ndjson_rows,
    strict_json,
    structured_event,
)
from schemas.errors import Rejected

BAD = {
    "empty": b"",
    "blank": b"   ",
    "cut": b'{"text": "x"',
    "single quotes": b"{'text': 'x'}",
    "trailing comma": b'{"text": "x",}',
    "two documents": b'{"text":"x"}{"text":"y"}',
    "comment": b'{"text": "x"} // y',
    "NaN": b'{"text": "x", "place": {"lat": NaN, "lon": 1}}',
    "Infinity": b'{"lat": Infinity}',
    "-Infinity": b'{"lat": -Infinity}',
    "overflowing float": b'{"lat": 1e999}',
    "twin keys": b'{"text": "x", "text": "y"}',
    "twin keys, escaped": b'{"text": "x", "te\\u0078t": "y"}',
    "twin keys, nested": b'{"place": {"text": "x", "text": "y"}}',
    "twin keys in a list": b'[{"a": 1, "a": 1}]',
    "lone high surrogate": b'{"text": "\\ud800"}',
    "lone low surrogate": b'{"text": "\\udc00x"}',
    "surrogates the wrong way": b'{"text": "\\udc00\\ud800"}',
    "raw surrogate": b'{"text": "\xed\xa0\x80"}',
    "U+0000": b'{"text": "a\\u0000b"}',
    "U+0000 in a key": b'{"a\\u0000b": 1}',
    "raw NUL": b'{"text": "a\x00b"}',
    "raw newline in a string": b'{"text": "a\nb"}',
    "BOM": b'\xef\xbb\xbf{"text": "x"}',
    "UTF-16": '{"text": "x"}'.encode("utf-16"),
    "UTF-32": '{"text": "x"}'.encode("utf-32"),
    "overlong slash": b'{"text": "\xc0\xaf"}',
    "GBK": '{"text": "偷电缆"}'.encode("gbk"),
    "cut character": b'{"text": "\xe5\x81"}',
    "big integer": b'{"lat": 9007199254740993}',
    "5,000 digits": b'{"lat": ' + b"9" * 5000 + b"}",
    "deep lists": b"[" * 9 + b"]" * 9,
    "1,000 deep": b"[" * 1000 + b"]" * 1000,
    "30,000 deep": b"[" * 30_000 + b"]" * 30_000,
    "deep objects": b'{"a":' * 9 + b"1" + b"}" * 9,
    "leading zero": b'{"lat": 012}',
    "hexadecimal": b'{"lat": 0x1F}',
    "bare word": b"undefined",
}


@pytest.mark.parametrize("raw", BAD.values(), ids=BAD.keys())
def test_refuses(raw: bytes) -> None:
    with pytest.raises(Rejected) as caught:
        strict_json(raw)
    assert caught.value.status == 400
    assert caught.value.mistakes


def test_size_is_checked_first() -> None:
    fits = b'{"text":"' + b"x" * (MAX_BYTES - 11) + b'"}'
    assert len(fits) == MAX_BYTES
    assert strict_json(fits)
    with pytest.raises(Rejected) as caught:
        strict_json(fits + b" ")
    assert caught.value.status == 413


GOOD: list[Any] = [
    {"text": "\\u0000 as six characters is no NUL".replace("\\\\", "\\")},
    {"text": "😀 \u202e bidi \u200b zero width"},
    {"a": [[[[[[1]]]]]]},
    [2**53, -(2**53), 0.1, -0.0, True, None],
    {"a": [{} for _ in range(50)]},
]


@pytest.mark.parametrize("document", GOOD, ids=str)
def test_lets_through(document: Any) -> None:
    assert strict_json(json.dumps(document).encode()) == document
    assert strict_json(json.dumps(document, ensure_ascii=False).encode()) == document


def test_pointer_of_the_nul() -> None:
    with pytest.raises(Rejected) as caught:
        strict_json(b'{"place": {"text": "secret\\u0000"}}')
    assert caught.value.mistakes[0].pointer == "/place/text"
    assert "secret" not in str(caught.value.mistakes)


@given(st.binary(max_size=200))
def test_any_bytes_give_a_document_or_a_refusal(raw: bytes) -> None:
    try:
        strict_json(raw)
    except Rejected as error:
        assert error.status == 400


@given(
    st.lists(st.binary(max_size=30).filter(lambda b: b"\n" not in b and b.strip() and not b.endswith(b"\r"))), st.data()
)
def test_lines_come_out_whole_however_they_are_cut(lines: list[bytes], data: st.DataObject) -> None:
    whole = b"\n".join(lines)
    splitter, found, rest = LineSplitter(), [], whole
    while rest:
        cut = data.draw(st.integers(1, len(rest)))
        found += list(splitter.feed(rest[:cut]))
        rest = rest[cut:]
    found += list(splitter.finish())
    assert found == list(enumerate(lines, start=1))


def test_blank_and_long_lines() -> None:
    splitter = LineSplitter(limit=4)
    found = (
        list(splitter.feed(b"ab\r\n\n   \nabcd\r\nabcdef\nab"))
        + list(splitter.feed(b"cdef\nx"))
        + list(splitter.finish())
    )
    assert found == [(1, b"ab"), (4, b"abcd"), (5, None), (6, None), (7, b"x")]


def test_ndjson_keeps_bad_lines_in_their_place() -> None:
    rows = list(ndjson_rows(iter([b'\xef\xbb\xbf{"text": "a"}\n{"text', b'": }\n\n{"text": "b"}'])))
    assert [(row.line, row.submission, row.problem is None) for row in rows] == [
        (1, {"text": "a"}, True),
        (2, None, False),
        (4, {"text": "b"}, True),
    ]


def test_csv_names_fields_and_nests_them() -> None:
    file = io.StringIO(
        "\ufefftext,place.text,place.lat,place.lon,reporter.phone\n"
        '"两行\n一格",市场,38.2,115.5,13812345678\n'
        "x,,abc,1,\n"
        ",,,,\n"
        "a,b,c,d,e,f\n"
        "last,,,,\n",
        newline="",
    )
    rows = list(csv_rows(file))
    assert rows[0].line == 2
    assert rows[0].submission == {
        "text": "两行\n一格",
        "place": {"text": "市场", "lat": 38.2, "lon": 115.5},
        "reporter": {"phone": "13812345678"},
    }
    assert rows[1].submission == {"text": "x", "place": {"lat": "abc", "lon": 1.0}}
    assert rows[2].line == 6
    assert rows[2].problem is not None
    assert rows[3].submission == {"text": "last"}


def test_a_quote_that_is_never_closed_does_not_swallow_what_follows_in_silence() -> None:
    (row,) = csv_rows(io.StringIO('text,message_id\n"unclosed quote,x9\nnext,x10\n', newline=""))
    assert row.line == 2 and row.problem is not None


@pytest.mark.parametrize(
    "header", ["", "text,text", "text,color", "place.text", "text,place.text.x", "text,reporter.wechat"]
)
def test_csv_header_is_checked(header: str) -> None:
    with pytest.raises(Rejected) as caught:
        list(csv_rows(io.StringIO(header + "\nx,y\n")))
    assert caught.value.status == 422


EVENT: dict[str, Any] = {
    "specversion": "1.0",
    "id": "m1",
    "source": "wechat:xiliangwa-3",
    "type": "tip",
    "time": "2026-01-31T08:00:00+08:00",
    "data": {"text": "x"},
}
MAPPED = {"text": "x", "message_id": "m1", "source": "wechat:xiliangwa-3", "reported_at": "2026-01-31T08:00:00+08:00"}


def test_structured_event() -> None:
    assert structured_event(EVENT) == MAPPED
    coded = {**EVENT, "data_base64": base64.b64encode(b'{"text": "x"}').decode()}
    del coded["data"]
    assert structured_event(coded) == MAPPED
    assert structured_event({**EVENT, "traceparent": "00-ab", "data": {"text": "x", "message_id": "m1"}}) == MAPPED


def test_binary_event() -> None:
    headers = {"ce-specversion": "1.0", "ce-id": "m%201", "ce-source": "wechat:a", "ce-type": "tip", "host": "h"}
    assert binary_event(headers, {"text": "x"}) == {"text": "x", "message_id": "m 1", "source": "wechat:a"}
    with pytest.raises(Rejected):
        binary_event({**headers, "ce-id": "%ff"}, {"text": "x"})


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"id": None}, "/id"),
        ({"id": ""}, "/id"),
        ({"source": 3}, "/source"),
        ({"type": None}, "/type"),
        ({"specversion": "0.3"}, "/specversion"),
        ({"time": 7}, "/time"),
        ({"data": "text"}, "/data"),
        ({"datacontenttype": "text/plain"}, "/datacontenttype"),
        ({"data_base64": "e30="}, "/data_base64"),
        ({"data": {"text": "x", "message_id": "other"}}, "/id"),
        ({"data": {"text": "x", "source": "other"}}, "/source"),
    ],
)
def test_bad_events(change: dict[str, Any], pointer: str) -> None:
    with pytest.raises(Rejected) as caught:
        structured_event({**EVENT, **change})
    assert caught.value.status == 422
    assert pointer in [one.pointer for one in caught.value.mistakes]


@pytest.mark.parametrize("document", [None, [], "x", {**EVENT, "data_base64": "!!", "data": None}])
def test_no_events(document: Any) -> None:
    with pytest.raises(Rejected):
        structured_event(document)


def test_pointers_lead_into_the_event() -> None:
    assert event_pointer("/message_id") == "/id"
    assert event_pointer("/place/lat") == "/data/place/lat"
