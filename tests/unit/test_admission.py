"""Admission: what becomes of a submission, and that the two validators agree on what one is."""

from __future__ import annotations

import itertools
import json
import os
import re
import uuid
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from producers.admission import admit, channel_of
from producers.keyring import Keyring
from schemas.codec import decode_input, encode
from schemas.errors import Rejected
from schemas.records import NAMESPACE
from schemas.validation import is_valid, mistakes, schema
from streams.ports import Admitted, Principal

KEYRING = Keyring.create(os.urandom)
BOUND = Principal("t1", "intake", source="wechat:xiliangwa-3")
FREE = Principal("t2", "intake")
NOW = 1_769_817_600_000


def admitted(submission: Any, principal: Principal = BOUND, now: int = NOW) -> Admitted:
    return admit(submission, principal, "anping", now, KEYRING, os.urandom)


def refused(submission: Any, principal: Principal = BOUND) -> Rejected:
    with pytest.raises(Rejected) as caught:
        admitted(submission, principal)
    return caught.value


FULL: dict[str, Any] = {
    "text": "张某（13812345678）在市场被骗，转到6222021234567890123",
    "channel": "hotline",
    "source": "wechat:xiliangwa-3",
    "message_id": "m1",
    "reported_at": "2026-01-31T08:00:00+08:00",
    "occurred_at": "2026-01-30T23:00:00+08:00",
    "place": {"text": "市场东门，找138 1234 5678", "lat": 38, "lon": 115.5, "area": "anping/xiliangwa"},
    "reporter": {"id": "v201", "name": "李四", "phone": "13987654321"},
    "attachments": [
        {"url": "https://example.org/13812345678.jpg", "name": "13812345678.jpg", "media_type": "image/jpeg"}
    ],
    "in_reply_to": "m0",
    "category_hint": "fraud",
    "lang": "zh-CN",
}
SECRETS = ("13812345678", "138 1234 5678", "6222021234567890123", "13987654321", "李四", "v201")


def card_number(first17: str) -> str:
    """The seventeen digits with the check digit that belongs to them."""
    return first17 + "10X98765432"[sum(int(digit) * 2 ** (17 - place) for place, digit in enumerate(first17)) % 11]


CARD = card_number("13112519800212123")


@pytest.mark.parametrize("source", ["hotline:13812345678", "wechat:dashao-13812345678", "wechat:8613812345678", f"bot:{CARD}"])
def test_a_source_that_is_a_persons_number_is_refused(source: str) -> None:
    error = refused({"text": "x", "source": source}, FREE)
    assert error.status == 422 and [one.pointer for one in error.mistakes] == ["/source"]
    assert "reporter.phone" in error.mistakes[0].detail and not re.search(r"\d{6}", error.mistakes[0].detail)
    # Whoever made the token answers for its source: what worked goes on working.
    assert admitted({"text": "x"}, Principal("t", "intake", source=source)).tip.source == source


@pytest.mark.parametrize("field", ["message_id", "in_reply_to"])
@pytest.mark.parametrize("value", [CARD, CARD.lower(), f"case-{CARD}-2", "tel:13812345678", "phone=13812345678", "+86 13812345678", "手机13812345678-1"])
def test_an_id_that_holds_a_persons_number_is_refused(field: str, value: str) -> None:
    error = refused({"text": "x", field: value})
    assert error.status == 422 and [one.pointer for one in error.mistakes] == [f"/{field}"]
    assert "keyed hash" in error.mistakes[0].detail and not re.search(r"\d{6}", error.mistakes[0].detail)


@pytest.mark.parametrize(
    "value",
    [
        "20260609051233", "1769817600", "1769817600000", "13812345678", "7461829301847562019", "-1001234567890:77", "5812345678:12",
        "131125202606090001", card_number("13112520260609000"), CARD[:-1] + ("1" if CARD[-1] == "0" else "0"),
        card_number("13112519800231123"), card_number("99112519800212123"), "a" + CARD, CARD + "0", "1212-13812345678", "hotel13812345678x",
        "3f0c1c52-7d8e-5b0a-9f0e-0d6b7a4c1e21", "row-0123456789abcdef0123456789abcdef-2", "62220212345678901234",
    ],
)  # fmt: skip
def test_ordinary_ids_pass(value: str) -> None:
    assert admitted({"text": "x", "message_id": value, "in_reply_to": value}).tip.message_id == value


@pytest.mark.parametrize("source", ["telegram:-1001234567890", "telegram:5812345678", "wecom:1000002", "sensor:20260609051233", "wechat:138123456789", "bot:7461829301847562019"])
def test_ordinary_sources_pass(source: str) -> None:
    assert admitted({"text": "x", "source": source}, FREE).tip.source == source


def test_nothing_that_identifies_is_left_in_the_record() -> None:
    one = admitted(FULL)
    shown = encode(one.tip).decode() + one.receipt + one.digest.hex() + repr(one.identities)
    assert not [secret for secret in SECRETS if secret in shown]
    tip = one.tip
    assert re.fullmatch(r"张某（\[phone:\w{8}\]）在市场被骗，转到\[card:\w{8}\]", tip.text)
    token = re.search(r"\[phone:\w{8}\]", tip.text)
    assert token is not None
    assert tip.place is not None and tip.place.text == f"市场东门，找{token[0]}"
    assert tip.attachments[0].url == f"https://example.org/{token[0]}.jpg"
    assert tip.attachments[0].name == f"{token[0]}.jpg"
    opened = {(s.kind, KEYRING.open_sealed(tip.tip_id, s)) for s in one.identities}
    assert opened == {
        ("phone", "13812345678"),
        ("card", "6222021234567890123"),
        ("reporter.id", "v201"),
        ("reporter.name", "李四"),
        ("reporter.phone", "13987654321"),
    }


def test_the_rest_is_kept() -> None:
    tip = admitted(FULL).tip
    assert tip.received_at == "2026-01-31T00:00:00Z"
    assert (tip.county, tip.channel, tip.source, tip.message_id) == ("anping", "hotline", "wechat:xiliangwa-3", "m1")
    assert (tip.reported_at, tip.occurred_at) == (FULL["reported_at"], FULL["occurred_at"])
    assert tip.place is not None and (tip.place.lat, tip.place.lon, tip.place.area) == (38.0, 115.5, "anping/xiliangwa")
    assert (tip.in_reply_to, tip.category_hint, tip.lang) == ("m0", "fraud", "zh-CN")
    assert decode_input(encode(tip)) == tip
    assert not mistakes("tip", json.loads(encode(tip)))


@given(st.integers(-(10**9), 10**9))
def test_odd_reported_times_stay_as_sent(shift: int) -> None:
    tip = admitted({"text": "x", "reported_at": "2026-01-31T08:00:00+08:00"}, now=NOW + shift * 1000).tip
    assert tip.reported_at == "2026-01-31T08:00:00+08:00"


def test_ids() -> None:
    one = admitted({"text": "x", "message_id": "m1"})
    assert one.tip.tip_id == str(uuid.uuid5(NAMESPACE, "wechat:xiliangwa-3\x1fm1"))
    assert NAMESPACE == uuid.uuid5(uuid.NAMESPACE_URL, "urn:tipline:tip")
    again = admitted({"message_id": "m1", "text": "x", "source": "wechat:xiliangwa-3"}, now=NOW + 9)
    assert (again.tip.tip_id, again.receipt, again.digest) == (one.tip.tip_id, one.receipt, one.digest)
    assert admitted({"text": "y", "message_id": "m1"}).digest != one.digest
    nameless = [admitted({"text": "x"}) for _ in range(3)]
    assert len({n.tip.tip_id for n in nameless}) == 3
    assert uuid.UUID(nameless[0].tip.tip_id).version == 4


def test_the_digest_needs_the_key() -> None:
    other = admit({"text": "x"}, BOUND, "anping", NOW, Keyring.create(os.urandom), os.urandom)
    assert other.digest != admitted({"text": "x"}).digest


def test_a_number_changed_is_other_content() -> None:
    """Though its token may collide one day, the digest is of the submission as sent."""
    a, b = admitted({"text": "找13812345678"}), admitted({"text": "找13812345679"})
    assert a.digest != b.digest
    assert a.tip.text != b.tip.text


def test_pseudonyms() -> None:
    def pseudonym(reporter: dict[str, str], source: str = "bot:a") -> str | None:
        return admitted({"text": "x", "source": source, "reporter": reporter}, FREE).tip.reporter

    assert re.fullmatch(r"v-[0-9a-f]{8}", pseudonym({"id": "v201"}) or "")
    assert pseudonym({"id": "v201"}) == pseudonym({"id": " v201", "name": "x", "phone": "1"})
    assert pseudonym({"id": "v201"}) != pseudonym({"id": "v201"}, "bot:b"), "another pseudonym at another source"
    assert pseudonym({"phone": "13812345678"}) == pseudonym({"phone": "+86 138-1234-5678"})
    assert pseudonym({"phone": "13812345678"}) != pseudonym({"id": "13812345678"})
    assert pseudonym({"name": "张伟"}) != pseudonym({"name": "张伟"}), "a name alone names nobody for sure"
    assert pseudonym({}) is None


def test_source_is_the_tokens() -> None:
    assert admitted({"text": "x"}).tip.source == "wechat:xiliangwa-3"
    error = refused({"text": "x", "source": "wechat:other"})
    assert (error.status, error.slug, error.mistakes[0].pointer) == (403, "source", "/source")
    error = refused({"text": "x"}, FREE)
    assert (error.status, error.mistakes[0].pointer) == (422, "/source")
    assert admitted({"text": "x", "source": "bot:a"}, FREE).tip.source == "bot:a"


@pytest.mark.parametrize(
    ("source", "channel"),
    [
        ("wechat:a", "volunteer"), ("volunteer:a", "volunteer"), ("hotline:12345", "hotline"), ("bot:x", "bot"),
        ("sensor:gate-1", "bot"), ("web:public", "web"), ("school:1", "partner"), ("wechatty", "partner"),
    ],
)  # fmt: skip
def test_channel_of_the_source(source: str, channel: str) -> None:
    assert channel_of(source, FREE) == channel
    assert admitted({"text": "x", "source": source}, FREE).tip.channel == channel


def test_a_hotlines_token_makes_it_a_hotline() -> None:
    assert channel_of("anping-110", Principal("t", "hotline")) == "hotline"


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"text": ""}, "/text"),
        ({"text": " \t\n"}, "/text"),
        ({"text": "x" * 4001}, "/text"),
        ({"text": None}, "/text"),
        ({"text": ["x"]}, "/text"),
        ({"text": "a\0b"}, "/text"),
        ({"channel": "fax"}, "/channel"),
        ({"source": "Wechat group 3"}, "/source"),
        ({"message_id": ""}, "/message_id"),
        ({"message_id": "a\nb"}, "/message_id"),
        ({"message_id": "m" * 201}, "/message_id"),
        ({"reported_at": "yesterday"}, "/reported_at"),
        ({"reported_at": "2026-01-31T08:00:00"}, "/reported_at"),
        ({"reported_at": "2026-02-30T08:00:00Z"}, "/reported_at"),
        ({"occurred_at": "2016-12-31T23:59:60Z"}, "/occurred_at"),
        ({"place": {"lat": 91, "lon": 0}}, "/place/lat"),
        ({"place": {"lat": 38.2}}, "/place"),
        ({"place": {"lat": True, "lon": 1}}, "/place/lat"),
        ({"place": {"area": "Anping/../x"}}, "/place/area"),
        ({"place": "市场"}, "/place"),
        ({"reporter": {"wechat": "x"}}, "/reporter/wechat"),
        ({"attachments": [{"url": "a b"}]}, "/attachments/0/url"),
        ({"attachments": [{}] * 21}, "/attachments"),
        ({"attachments": [{"sha256": "00"}]}, "/attachments/0/sha256"),
        ({"category_hint": "murder"}, "/category_hint"),
        ({"lang": "Chinese please"}, "/lang"),
        ({"colour": "red"}, "/colour"),
        ({"a/b~c": "red"}, "/a~1b~0c"),
    ],
)
def test_mistakes_are_pointed_at(change: dict[str, Any], pointer: str) -> None:
    error = refused({"text": "x", **change})
    assert error.status == 422
    assert pointer in [one.pointer for one in error.mistakes]


def test_what_is_missing_is_pointed_at_once() -> None:
    assert [one.pointer for one in refused({"source": "wechat:a"}).mistakes] == ["/text"]
    assert refused({"13812345678": "x", "text": "x"}).mistakes[0].pointer == "/[phone:????????]"


@pytest.mark.parametrize("document", [None, [], "x", 3, {}, True])
def test_no_submission_at_all(document: Any) -> None:
    assert refused(document).status == 422


def test_refusals_repeat_nothing() -> None:
    canary = "李四13812345678"
    for change in (
        {"reported_at": canary},
        {"channel": canary},
        {"place": {"area": canary}},
        {"lang": canary},
        {"text": 7},
    ):
        assert "13812345678" not in repr(refused({"text": canary, **change}).mistakes)
    assert "13812345678" not in repr(refused({"text": "x", canary: 1}).mistakes)


def test_too_many_numbers_for_their_tokens() -> None:
    error = refused({"text": "x", "place": {"text": "QQ12345 " * 25}})
    assert error.mistakes[0].pointer == "/place/text"
    assert "12345" not in repr(error.mistakes)


# --- the two validators say the same of every document ---

#: Where they are known to differ: NaN and lone surrogates, which `strict_json` lets nobody send; and some odd times (see
#: `_differ_knowingly`): the fast one's verdict is the door's, and `_check_times` catches what it lets through.
_SLOW = Draft202012Validator(schema("submission"), format_checker=Draft202012Validator.FORMAT_CHECKER)

_ODD = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**53), 2**53), st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(codec="utf-8"), max_size=10), st.just([]), st.just({}),
)  # fmt: skip
_TIMES = st.one_of(
    st.datetimes(timezones=st.timezones()).map(lambda t: t.isoformat()).filter(lambda t: len(t) < 33),
    st.sampled_from(
        ["2026-01-31T08:00:00+08:00", "2026-01-31T08:00:00Z", "2026-01-31T08:00:00", "2026-13-01T00:00:00Z", "now", ""]
    ),
    st.from_regex(
        r"20[0-9]{2}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-6][0-9]:[0-6][0-9](\.[0-9]{1,7})?(Z|[+-][01][0-9]:[0-5][0-9])",
        fullmatch=True,
    ),
)  # fmt: skip
_FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "text": st.text(st.characters(codec="utf-8"), max_size=30),
    "channel": st.sampled_from(["volunteer", "hotline", "fax"]),
    "source": st.from_regex(r"[A-Za-z0-9:._-]{0,12}", fullmatch=True),
    "message_id": st.text(max_size=12, alphabet="ab1 \n\t\x7f中"),
    "reported_at": _TIMES,
    "occurred_at": _TIMES,
    "place": st.fixed_dictionaries(
        {},
        optional={
            "text": st.text(max_size=4),
            "lat": st.floats(-100, 100) | st.integers(-100, 100),
            "lon": st.floats(-200, 200),
            "area": st.sampled_from(["anping", "anping/x", "/x", "A", "a//b", "安平"]),
            "zip": _ODD,
        },
    ),
    "reporter": st.dictionaries(st.sampled_from(["id", "name", "phone", "qq"]), st.text(max_size=4)),
    "attachments": st.lists(
        st.dictionaries(st.sampled_from(["url", "name", "sha256"]), st.text(max_size=4)), max_size=3
    ),
    "in_reply_to": st.text(max_size=4),
    "category_hint": st.sampled_from(["fraud", "dispute", "murder"]),
    "lang": st.sampled_from(["zh", "zh-CN", "z", "chinesisch!", "zh-"]),
    "more": _ODD,
}
_DOCUMENTS = st.fixed_dictionaries({}, optional={name: s | _ODD for name, s in _FIELDS.items()}) | _ODD


def _differ_knowingly(document: Any) -> bool:
    """Times whose day is right but whose hour, minute, second or offset only one of the two refuses."""
    times = [document.get(name) for name in ("reported_at", "occurred_at")] if isinstance(document, dict) else []
    return any(isinstance(t, str) and re.search(r":60|[+-](2[4-9]|[3-9]\d):|:\d\d[+-]\d\d:\d\d:\d\d", t) for t in times)


@settings(max_examples=2_000, deadline=None)
@given(_DOCUMENTS)
def test_the_two_validators_agree(document: Any) -> None:
    if not _differ_knowingly(document):
        assert is_valid("submission", document) == _SLOW.is_valid(document)


@settings(max_examples=1_000, deadline=None)
@given(_DOCUMENTS)
def test_any_document_is_admitted_or_refused(document: Any) -> None:
    try:
        one = admitted(document, FREE)
    except Rejected as error:
        assert error.status == 422
        assert error.mistakes
    else:
        assert not mistakes("tip", msgspec.json.decode(encode(one.tip)))
        assert decode_input(encode(one.tip)) == one.tip


def test_entropy_is_all_the_chance_there_is() -> None:
    def entropy(counter: itertools.count[int]) -> Any:
        return lambda size: next(counter).to_bytes(size, "big")

    both = [admit(FULL, BOUND, "anping", NOW, KEYRING, entropy(itertools.count())) for _ in range(2)]
    assert both[0] == both[1]
