"""Channels that call us: who is let in, what becomes a tip, and that a sender that repeats itself changes nothing."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import random
import re
import secrets
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from cryptography.hazmat.primitives import padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from starlette.datastructures import Headers

from producers.hooks import BadHooks, Hook, HookFile, Secret, Unopened, secret_eq
from producers.keyring import Keyring
from producers.outgoing import Outgoing
from producers.webhook_standard import verified
from producers.webhook_telegram import submissions
from producers.webhook_wecom import flat_xml, opened, signature, wgs84
from producers.webhooks import CHANNELS, webhook_routes
from schemas.errors import Rejected, Unavailable
from tests.unit.channel_door import KEYRING, NOW, Answer, House

KEY = os.urandom(32)
STANDARD = Secret("whsec_" + base64.b64encode(KEY).decode())
TELEGRAM = Secret("a-secret-of-letters-and-digits-1")
AES = "".join(secrets.choice("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789") for _ in range(43))
WECOM = Secret("QDG6eKtoken", AES, "ww0123456789abcdef")
HOOKS = {
    (hook.kind, hook.source): hook
    for hook in (
        Hook("standard", "partner:water", "anping", STANDARD),
        Hook("telegram", "telegram:anping", None, TELEGRAM),
        Hook("wecom", "wecom:anping", "anping", WECOM),
        Hook("telegram", "telegram:elsewhere", "raoyang", TELEGRAM),
    )
}
SECONDS = NOW // 1000


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path, lambda door: webhook_routes(door, lambda kind, source: HOOKS.get((kind, source))))
    yield house
    house.close()


# --- Standard Webhooks ---


def sign(body: bytes, identity: str = "msg_1", at: int = SECONDS, key: bytes = KEY) -> list[tuple[str, str]]:
    digest = hmac.new(key, f"{identity}.{at}.".encode() + body, hashlib.sha256).digest()
    return [
        ("content-type", "application/json"),
        ("webhook-id", identity),
        ("webhook-timestamp", str(at)),
        ("webhook-signature", "v1," + base64.b64encode(digest).decode()),
    ]


def standard(house: House, body: bytes, headers: list[tuple[str, str]], source: str = "partner:water") -> Answer:
    return house.call("POST", f"/v1/webhooks/standard/{source}", body, headers)


BODY = json.dumps({"text": "水管爆了", "reporter": {"phone": "13812345678"}}).encode()


def test_a_signed_submission_is_a_tip_and_its_replay_the_same(house: House) -> None:
    first = standard(house, BODY, sign(BODY))
    assert (first.status, set(first.document)) == (202, {"tip_id", "receipt"})
    house.now += 60_000
    again = standard(house, BODY, sign(BODY))
    assert (again.status, again.body) == (202, first.body)
    resent = standard(house, BODY, sign(BODY, at=SECONDS + 60))
    assert (resent.status, resent.body) == (202, first.body)
    (tip,) = house.tips()
    assert (tip["source"], tip["message_id"], tip["county"]) == ("partner:water", "msg_1", "anping")
    assert b"13812345678" not in (house.folder / "intake.db").read_bytes()


def test_a_message_id_of_its_own_wins_and_other_content_is_a_conflict(house: House) -> None:
    own = json.dumps({"text": "x", "message_id": "m7"}).encode()
    assert standard(house, own, sign(own)).status == 202
    assert standard(house, own, sign(own, "msg_2")).status == 202
    assert [tip["message_id"] for tip in house.tips()] == ["m7"]
    other = json.dumps({"text": "y", "message_id": "m7"}).encode()
    assert standard(house, other, sign(other, "msg_3")).status == 409


@pytest.mark.parametrize(("seconds", "status"), [(-300, 202), (300, 202), (-301, 401), (301, 401), (-86400, 401)])
def test_a_timestamp_may_be_five_minutes_off(house: House, seconds: int, status: int) -> None:
    assert standard(house, BODY, sign(BODY, at=SECONDS + seconds)).status == status
    assert len(house.tips()) == (status == 202)


def test_a_thousand_flipped_bits_are_refused(house: House) -> None:
    headers, dice = sign(BODY), random.Random(8)
    for _ in range(1000):
        at, bit = dice.randrange(len(BODY)), 1 << dice.randrange(8)
        flipped = BODY[:at] + bytes([BODY[at] ^ bit]) + BODY[at + 1 :]
        assert standard(house, flipped, headers).status == 401
    assert house.tips() == []
    assert house.refused("unauthorized") == 1000


def test_the_published_example_of_the_scheme_is_proved() -> None:
    hook = Hook("standard", "partner:x", None, Secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"))
    headers = Headers(
        {
            "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
            "webhook-timestamp": "1614265330",
            "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
        }
    )
    body = b'{"test": 2432232314}'
    assert verified(hook, headers, body, 1_614_265_330_000) == "msg_p5jXN8AQM9LWM0D4loKWxJek"


def test_several_signatures_may_be_given(house: House) -> None:
    *rest, (name, good) = sign(BODY)
    for given, status in {
        f"v1,AAAA {good}": 202,
        f"v1a,AAAA {good} v1,": 202,
        good.replace("v1,", "v2,"): 401,
        good.removeprefix("v1,"): 401,
        good.rstrip("="): 401,
        good.replace(" ", "") + "x": 401,
        "": 401,
        " ".join(["v1,AAAA"] * 100 + [good]): 401,
    }.items():
        assert standard(house, BODY, [*rest, (name, given)]).status == status, given[:40]


def test_an_unknown_source_and_a_wrong_signature_look_alike(house: House) -> None:
    headers = sign(BODY)
    answers = {
        standard(house, BODY, headers, "partner:nobody").body,
        standard(house, BODY, headers, "").body or b"404",
        standard(house, BODY, sign(BODY, key=b"x" * 32)).body,
        standard(house, BODY, [("content-type", "application/json")]).body,
        standard(house, BODY, [*headers, ("webhook-id", "msg_2")]).body,
        standard(house, BODY, [one if one[0] != "webhook-timestamp" else (one[0], "²") for one in headers]).body,
        house.call("POST", "/v1/webhooks/telegram/telegram:nobody", b"{}").body,
        house.call("POST", "/v1/webhooks/telegram/telegram:anping", b"{}").body,
        house.call("GET", "/v1/webhooks/wecom/wecom:nobody").body,
        house.call("POST", "/v1/webhooks/wecom/wecom:anping", b"<xml/>").body,
    }
    unauthorized = [body for body in answers if json.loads(body)["status"] == 401]
    assert len(unauthorized) == 1
    assert len(answers) == 2, "and one 404 for no source at all"
    assert house.tips() == []


def test_what_is_signed_must_still_be_a_submission(house: House) -> None:
    for body, status in {
        b"{": 400,
        b"[]": 422,
        b'{"text": ""}': 422,
        b'{"text": "x", "source": "partner:other"}': 403,
        b'{"text": "x", "text": "y"}': 400,
        b" " * 70_000: 413,
    }.items():
        assert standard(house, body, sign(body)).status == status, body[:20]
    headers = [one for one in sign(BODY) if one[0] != "content-type"]
    assert standard(house, BODY, headers).status == 415


# --- Telegram ---

GROUP = -1001234567890
MESSAGE = {
    "message_id": 55,
    "from": {"id": 777000111, "is_bot": False, "first_name": "李四", "username": "lisi"},
    "chat": {"id": GROUP, "type": "supergroup", "title": "西两洼志愿者"},
    "date": SECONDS - 10,
    "text": "村东头电缆被偷了",
}


def telegram(house: House, update: Any, secret: str | None = TELEGRAM.key, source: str = "telegram:anping") -> Answer:
    body = update if isinstance(update, bytes) else json.dumps({"update_id": 1, **update}).encode()
    headers = [("content-type", "application/json")]
    if secret is not None:
        headers.append(("x-telegram-bot-api-secret-token", secret))
    return house.call("POST", f"/v1/webhooks/telegram/{source}", body, headers)


def test_a_group_message_is_a_tip(house: House) -> None:
    answer = telegram(house, {"message": MESSAGE})
    assert answer.status == 200
    assert telegram(house, {"message": MESSAGE}).body == answer.body
    (tip,) = house.tips()
    assert (tip["tip_id"], tip["source"], tip["message_id"]) == (
        answer.document["tip_id"],
        "telegram:anping",
        f"{GROUP}:55",
    )
    assert (tip["channel"], tip["reported_at"]) == ("volunteer", "2026-01-30T23:59:50Z")
    assert tip["reporter"].startswith("v-")
    assert "777000111" not in json.dumps(tip)
    assert "李四" not in json.dumps(tip, ensure_ascii=False)


def test_an_edited_message_follows_the_first(house: House) -> None:
    telegram(house, {"message": MESSAGE})
    edited = {**MESSAGE, "text": "村东头电缆被偷了，约300米", "edit_date": SECONDS}
    assert telegram(house, {"edited_message": edited}).status == 200
    assert telegram(house, {"edited_message": edited}).status == 200
    first, second = house.tips()
    assert second["in_reply_to"] == first["message_id"] == f"{GROUP}:55"
    assert second["message_id"] == f"{GROUP}:55:{SECONDS}"
    assert second["reporter"] == first["reporter"]
    assert second["reported_at"] == "2026-01-31T00:00:00Z"


def test_a_place_goes_with_the_words_or_alone(house: House) -> None:
    where = {"location": {"latitude": 38.2341, "longitude": 115.5201}}
    plain = {k: v for k, v in MESSAGE.items() if k != "text"}
    telegram(house, {"message": {**plain, "message_id": 1, "caption": "就在这里", **where}})
    telegram(house, {"message": {**plain, "message_id": 2, **where}})
    telegram(
        house,
        {"channel_post": {**plain, "message_id": 3, **where, "venue": {"title": "供销社", "address": "西两洼乡"}}},
    )
    telegram(
        house,
        {"message": {**MESSAGE, "message_id": 4, "reply_to_message": {"message_id": 1, "chat": {"id": GROUP}}}},
    )
    tips = house.tips()
    assert [tip["text"] for tip in tips[:3]] == ["就在这里", "位置", "供销社 西两洼乡"]
    assert [(tip["place"]["lat"], tip["place"]["lon"]) for tip in tips[:3]] == [(38.2341, 115.5201)] * 3
    assert tips[3]["in_reply_to"] == tips[0]["message_id"]


@pytest.mark.parametrize(
    "update",
    [
        {},
        {"callback_query": {"id": "1"}},
        {"message": {k: v for k, v in MESSAGE.items() if k != "text"}},
        {"message": {**MESSAGE, "text": " \n"}},
        {"message": {**MESSAGE, "text": "/start@tipline_bot"}},
        {"edited_message": {**MESSAGE, "text": "", "location": {"latitude": 38.2, "longitude": 115.5}}},
    ],
)
def test_what_is_no_tip_is_answered_and_counted(house: House, update: dict[str, Any]) -> None:
    answer = telegram(house, update)
    assert (answer.status, answer.document) == (200, {"ignored": True})
    assert house.refused("ignored") == 1
    assert house.tips() == []


def test_what_can_never_be_taken_is_not_asked_for_again(house: House) -> None:
    telegram(house, {"message": MESSAGE})
    for update, slug in [
        ({"message": {**MESSAGE, "text": "别的事"}}, "conflict"),
        ({"message": {**MESSAGE, "message_id": "55"}}, "invalid"),
        ({"message": {**MESSAGE, "message_id": 9, "location": {"latitude": 99, "longitude": 0}}}, "invalid"),
        ({"message": {**MESSAGE, "message_id": 9, "date": 10**15}}, "invalid"),
        (b"{", "malformed"),
    ]:
        answer = telegram(house, update)
        assert answer.status == 200
        assert answer.document["type"] == f"urn:tipline:problem:{slug}"
    assert len(house.tips()) == 1
    assert telegram(house, {"message": MESSAGE}, source="telegram:elsewhere").status == 403, (
        "ours to mend: it may retry"
    )


@pytest.mark.parametrize("secret", [None, "", TELEGRAM.key[:-1], TELEGRAM.key + "x", TELEGRAM.key.upper(), "é"])
def test_without_the_secret_nothing_is_read(house: House, secret: str | None) -> None:
    assert telegram(house, {"message": MESSAGE}, secret).status == 401
    assert house.tips() == []


def test_nothing_of_a_long_message_is_lost(house: House) -> None:
    text = "".join(chr(0x4E00 + n % 2000) for n in range(4096))
    assert telegram(house, {"message": {**MESSAGE, "text": text}}).status == 200
    first, rest = house.tips()
    assert first["text"] + rest["text"] == text
    assert rest["in_reply_to"] == first["message_id"]


def test_a_private_chat_is_not_named_in_the_log(house: House) -> None:
    own = {**MESSAGE, "chat": {"id": 777000111, "type": "private"}}
    assert telegram(house, {"message": own}).status == 200
    assert telegram(house, {"message": own}).status == 200
    (tip,) = house.tips()
    assert re.fullmatch(r"p-[0-9a-f]{16}:55", tip["message_id"])


def test_updates_of_any_shape_are_read_or_refused() -> None:
    dice = random.Random(5)
    odd = [None, 1, -1.5, True, "x", [], {}, [{}], {"id": {}}, 10**30]
    for _ in range(500):
        message = {**MESSAGE, dice.choice([*MESSAGE, "location", "edit_date", "reply_to_message"]): dice.choice(odd)}
        try:
            made = submissions({dice.choice(["message", "edited_message"]): message}, lambda c, m: f"{c}:{m}")
        except Rejected as error:
            assert error.status == 422
        else:
            assert all(one["text"] for one in made)


# --- WeCom: an encryptor of the test's own ---


def encrypted(message: bytes, receiver: str = WECOM.receive_id, aes_key: str = AES, pad: bytes | None = None) -> str:
    key = base64.b64decode(aes_key + "=")
    plain = os.urandom(16) + struct.pack(">I", len(message)) + message + receiver.encode()
    padder = padding.PKCS7(256).padder()
    padded = padder.update(plain) + padder.finalize() if pad is None else plain + pad
    cipher = Cipher(algorithms.AES(key), modes.CBC(key[:16])).encryptor()
    return base64.b64encode(cipher.update(padded) + cipher.finalize()).decode()


def query(ciphertext: str, token: str = WECOM.key, **more: str) -> str:
    parts = {"timestamp": str(SECONDS), "nonce": "1372623149"}
    joined = "".join(sorted([token, ciphertext, *parts.values()]))
    return urlencode({"msg_signature": hashlib.sha1(joined.encode()).hexdigest(), **parts, **more})


def envelope(ciphertext: str) -> bytes:
    return (
        f"<xml><ToUserName><![CDATA[{WECOM.receive_id}]]></ToUserName>"
        f"<Encrypt><![CDATA[{ciphertext}]]></Encrypt><AgentID><![CDATA[218]]></AgentID></xml>"
    ).encode()


def message(kind: str = "text", inner: str = "<Content><![CDATA[井盖丢了 & 有人摔倒]]></Content>") -> bytes:
    return (
        f"<xml><ToUserName><![CDATA[ww]]></ToUserName><FromUserName><![CDATA[ZhangSan]]></FromUserName>"
        f"<CreateTime>{SECONDS - 5}</CreateTime><MsgType><![CDATA[{kind}]]></MsgType>{inner}"
        f"<MsgId>1234567890123456</MsgId><AgentID>1</AgentID></xml>"
    ).encode()


def wecom(house: House, body: bytes, search: str, source: str = "wecom:anping") -> Answer:
    return house.call("POST", f"/v1/webhooks/wecom/{source}", body, [("content-type", "text/xml")], search)


def send(house: House, inner: bytes) -> Answer:
    ciphertext = encrypted(inner)
    return wecom(house, envelope(ciphertext), query(ciphertext))


def test_the_published_example_of_wecom_opens() -> None:
    secret = Secret("QDG6eK", "jWmYm7qr5nMoAUwZRjGtBxmz3KA1tkAj3ykkR6q2B2C", "wx5823bf96d3bd56c7")
    echo = "P9nAzCzyDtyTWESHep1vC5X9xho/qYX3Zpb4yKa9SKld1DsH3Iyt3tP3zNdtp+4RPcs8TgAE7OaBO+FZXvnaqQ=="
    found = signature(secret.key, "1409659589", "263014780", echo)
    assert found == "5c45ff5e21c57e6ad56bac8758b79b1d9ac89fd3"
    assert opened(secret, echo) == b"1616140317555161061"


def test_wecom_proves_the_address(house: House) -> None:
    echo = encrypted(b"1616140317555161061")
    answer = house.call("GET", "/v1/webhooks/wecom/wecom:anping", query=query(echo, echostr=echo))
    assert (answer.status, answer.body) == (200, b"1616140317555161061")
    wrong = house.call("GET", "/v1/webhooks/wecom/wecom:anping", query=query(echo, "other", echostr=echo))
    assert wrong.status == 401


def test_a_wecom_message_is_a_tip(house: House) -> None:
    for _ in range(2):
        answer = send(house, message())
        assert (answer.status, answer.body) == (200, b"")
    (tip,) = house.tips()
    assert (tip["text"], tip["message_id"], tip["source"]) == (
        "井盖丢了 & 有人摔倒",
        "1234567890123456",
        "wecom:anping",
    )
    assert tip["reported_at"] == "2026-01-30T23:59:55Z"
    assert "ZhangSan" not in json.dumps(tip)


def test_a_wecom_place_is_a_tip_in_degrees_of_wgs84(house: House) -> None:
    inner = "<Location_X>38.23</Location_X><Location_Y>115.52</Location_Y><Scale>16</Scale><Label><![CDATA[安平县西两洼乡]]></Label>"
    assert send(house, message("location", inner)).status == 200
    (tip,) = house.tips()
    assert tip["text"] == "位置：安平县西两洼乡"
    assert tip["place"]["text"] == "安平县西两洼乡"
    assert 0.0003 < abs(tip["place"]["lat"] - 38.23) < 0.01
    assert 0.003 < abs(tip["place"]["lon"] - 115.52) < 0.01


@pytest.mark.parametrize(
    ("true", "shown"),
    [
        ((31.1774276, 121.5272106), (31.17530398364597, 121.531541859215)),
        ((22.543847, 113.912316), (22.540796131694766, 113.9171764808363)),
        ((39.911954, 116.377817), (39.91334545536069, 116.38404722455657)),
        ((51.5, -0.12), (51.5, -0.12)),
    ],
)
def test_degrees(true: tuple[float, float], shown: tuple[float, float]) -> None:
    assert wgs84(*shown) == pytest.approx(true, abs=0.00002)


def test_what_wecom_sends_besides_is_counted(house: House) -> None:
    for inner in (
        message("image", "<PicUrl>x</PicUrl>"),
        message("event", ""),
        message("text", "<Content> </Content>"),
    ):
        answer = send(house, inner)
        assert (answer.status, answer.body) == (200, b"")
    assert house.refused("ignored") == 3
    send(house, message())
    assert send(house, message(inner="<Content>else</Content>")).status == 200, "a conflict is not sent again"
    assert house.refused("conflict") == 1
    assert send(house, b"no xml").status == 200
    assert house.refused("malformed") == 1
    assert len(house.tips()) == 1


def test_a_wecom_request_that_is_not_proved_is_refused(house: House) -> None:
    good = encrypted(message())
    raw = bytearray(base64.b64decode(good))
    raw[40] ^= 1
    bad = {
        "signature": (good, query(good, "other")),
        "no signature": (good, ""),
        "signature of another": (good, query(encrypted(message()))),
        "receive id": (found := encrypted(message(), "ww-other"), query(found)),
        "another key": (found := encrypted(message(), aes_key="A" * 43), query(found)),
        "no padding": (found := encrypted(b"x" * 10, pad=b"\0" * 16), query(found)),
        "padding of 33": (found := encrypted(b"x" * (96 - 33 - 38), pad=b"\x21" * 33), query(found)),
        "uneven": (found := base64.b64encode(b"x" * 33).decode(), query(found)),
        "no base64": ("!!!", query("!!!")),
        "empty": ("", query("")),
        "flipped": (found := base64.b64encode(bytes(raw)).decode(), query(good)),
    }
    bodies = set()
    for name, (ciphertext, search) in bad.items():
        answer = wecom(house, envelope(ciphertext), search)
        assert answer.status == 401, name
        bodies.add(answer.body)
    assert len(bodies) == 1
    assert house.tips() == []


BOMB = (
    '<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY a "ha">'
    + "".join(
        f'<!ENTITY {y} "{"&" + x + ";" * 1}{("&" + x + ";") * 9}">' for x, y in zip("abcdefgh", "bcdefghi", strict=True)
    )
    + "]><xml><Encrypt>&i;</Encrypt></xml>"
).encode()


@pytest.mark.parametrize(
    "raw",
    [
        BOMB,
        b'<!DOCTYPE xml SYSTEM "file:///etc/passwd"><xml/>',
        b'<!DOCTYPE xml [<!ENTITY e SYSTEM "file:///etc/passwd">]><xml><Encrypt>&e;</Encrypt></xml>',
        '<?xml version="1.0" encoding="utf-16"?><!DOCTYPE xml [<!ENTITY e "x">]><xml>&e;</xml>'.encode("utf-16"),
        b"<xml><Encrypt>&e;</Encrypt></xml>",
        b"<a>" * 20_000,
        b"<xml><a/><a/></xml>",
        b"<xml>\xff</xml>",
        b"",
        b"{}",
    ],
)
def test_xml_bombs_are_refused_quickly(house: House, raw: bytes) -> None:
    began = time.process_time()  # whatever else the machine does
    assert wecom(house, raw, "").status == 400
    assert time.process_time() - began < 0.5
    with pytest.raises(Rejected):
        flat_xml(raw)


def test_what_lies_deeper_is_passed_over() -> None:
    raw = b"<xml><A>1</A><N><I>2</I></N><B>a<![CDATA[<b>]]>&amp;</B></xml>"
    assert flat_xml(raw) == {"A": "1", "N": "", "B": "a<b>&"}


# --- the file of secrets ---


def test_the_file_alone_gives_nothing(tmp_path: Path) -> None:
    path = tmp_path / "webhooks.json"
    file = HookFile(path, KEYRING)
    assert file.listed() == []
    for hook in HOOKS.values():
        assert file.add(hook, NOW, os.urandom)
    assert not file.add(next(iter(HOOKS.values())), NOW, os.urandom)
    assert path.stat().st_mode & 0o777 == 0o600
    raw = path.read_bytes()
    for secret in (STANDARD.key, TELEGRAM.key, WECOM.key, WECOM.aes_key):
        assert secret.encode() not in raw
        assert secret not in repr(HOOKS)
    again = HookFile(path, KEYRING)
    assert {name: again.lookup(*name) for name in HOOKS} == HOOKS
    assert again.lookup("wecom", "telegram:anping") is None
    other = HookFile(path, Keyring.create(os.urandom))
    assert [one.opens for one in other.listed()] == [False] * len(HOOKS)
    with pytest.raises(Unopened, match="does not open"):
        other.lookup("telegram", "telegram:anping")


@pytest.fixture
def partly(tmp_path: Path) -> HookFile:
    """Two stations, the second sealed with a key that this process does not have."""
    path = tmp_path / "webhooks.json"
    HookFile(path, KEYRING).add(Hook("station", "a", "anping", STANDARD), NOW, os.urandom)
    HookFile(path, Keyring.create(os.urandom)).add(Hook("station", "b", "anping", STANDARD), NOW, os.urandom)
    return HookFile(path, KEYRING)


def test_an_entry_that_does_not_open_stops_no_other_and_is_told_once(
    partly: HookFile, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        assert [one.source for one in partly.stations()] == ["a"]
        with pytest.raises(Unopened):
            partly.lookup("station", "b")
    assert partly.lookup("station", "a") is not None
    assert partly.unopened() == ["station b"]
    at_start = [one.getMessage() for one in caplog.get_records("setup")]
    assert len([words for words in at_start + caplog.messages if "station b" in words]) == 1
    assert partly.add(Hook("station", "b", "anping", STANDARD), NOW, os.urandom, replace=True)
    assert partly.unopened() == [] and len(partly.stations()) == 2


def test_an_unreadable_file_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "webhooks.json"
    file = HookFile(path, KEYRING)
    path.write_text("{")
    path.chmod(0o600)
    for _ in range(3):
        with pytest.raises(Unavailable):
            file.stations()
    assert len(caplog.messages) == 1


def test_the_keys_are_asked_for_again_when_an_entry_is_sealed_with_a_later_one(tmp_path: Path) -> None:
    path, now = tmp_path / "webhooks.json", [KEYRING]
    door = HookFile(path, KEYRING, lambda: now[0])
    later = KEYRING.rotate(os.urandom)
    HookFile(path, later).add(Hook("station", "b", "anping", STANDARD), NOW, os.urandom)
    assert door.stations() == []
    now[0] = later
    assert [one.source for one in door.stations()] == ["b"]


def test_a_way_back_that_does_not_open_may_open_later(partly: HookFile) -> None:
    def shut(kind: str, source: str) -> Hook | None:
        return partly.lookup("station", source)

    channel = Outgoing(shut, str, lambda *_: 204, lambda *_: {})
    assert channel.reaches("b")
    assert not channel.reaches("c")


def test_a_running_door_sees_the_changes(tmp_path: Path) -> None:
    path = tmp_path / "webhooks.json"
    door, command = HookFile(path, KEYRING), HookFile(path, KEYRING)
    hook = HOOKS["telegram", "telegram:anping"]
    assert door.lookup(hook.kind, hook.source) is None
    command.add(hook, NOW, os.urandom)
    assert door.lookup(hook.kind, hook.source) == hook
    newer = Hook(hook.kind, hook.source, None, Secret("another-secret-of-letters"))
    assert command.add(newer, NOW, os.urandom, replace=True)
    assert door.lookup(hook.kind, hook.source) == newer
    assert command.remove(hook.kind, hook.source)
    assert not command.remove(hook.kind, hook.source)
    assert door.lookup(hook.kind, hook.source) is None


def test_a_broken_file_is_loud(tmp_path: Path) -> None:
    path = tmp_path / "webhooks.json"
    file = HookFile(path, KEYRING)
    file.add(HOOKS["telegram", "telegram:anping"], NOW, os.urandom)
    good = path.read_text()
    for text in (
        "{",
        "[]",
        good.replace('"version": 1', '"version": 2'),
    ):
        path.write_text(text)
        with pytest.raises(BadHooks):
            HookFile(path, KEYRING)
    path.write_text(good.replace("telegram:anping", "telegram:b"))
    assert HookFile(path, KEYRING).unopened() == ["telegram telegram:b"]
    path.write_text("{")
    with pytest.raises(Unavailable):
        file.lookup("telegram", "telegram:anping")
    path.write_text(good)
    path.chmod(0o644)
    with pytest.raises(BadHooks, match="chmod 600"):
        HookFile(path, KEYRING)
    path.chmod(0o600)
    draft = path.with_name("webhooks.json.draft")
    draft.touch()
    with pytest.raises(BadHooks, match="draft"):
        file.remove("telegram", "telegram:anping")
    draft.unlink()
    assert file.remove("telegram", "telegram:anping")


@pytest.mark.parametrize(
    ("kind", "secret"),
    [
        ("standard", Secret("whsec_AAAA")),
        ("standard", Secret("whsec_!")),
        ("telegram", Secret("short")),
        ("telegram", Secret("with blanks and such things")),
        ("wecom", Secret("token", "short", "ww")),
        ("wecom", Secret("token", AES)),
        ("wecom", Secret("to ken", AES, "ww")),
    ],
)
def test_a_secret_that_a_sender_cannot_use_is_refused(kind: Any, secret: Secret) -> None:
    with pytest.raises(ValueError, match=r"must|missing"):
        CHANNELS[kind].check(secret)


def test_the_good_ones_are_taken() -> None:
    for hook in HOOKS.values():
        CHANNELS[hook.kind].check(hook.secret)
    assert secret_eq("é", "é".encode())
    assert not secret_eq("", "x")
