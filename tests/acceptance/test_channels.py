"""Channels against the real service: its own secrets, its own clock, its own log."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import random
import struct
import time
from typing import Any
from urllib.parse import urlencode

import pytest
from cryptography.hazmat.primitives import padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from tests.waiting import until

FIRE = "大邵村东头柴火垛着了，离房子就十来米，快来人"
CORP = "ww0123456789abcdef"
CHAT = -1001234567890


def add(serving: Any, *arguments: str) -> list[str]:
    """The lines of the secret that `tipline webhook add` prints."""
    done = serving.cli("webhook", "add", *arguments)
    assert done.returncode == 0, done.stderr
    printed: list[str] = done.stdout.split()
    return printed


def signed(secret: str, body: bytes, identity: str, at: int) -> dict[str, str]:
    key = base64.b64decode(secret.removeprefix("whsec_"))
    digest = hmac.new(key, f"{identity}.{at}.".encode() + body, hashlib.sha256).digest()
    return {
        "webhook-id": identity,
        "webhook-timestamp": str(at),
        "webhook-signature": "v1," + base64.b64encode(digest).decode(),
    }


def decision(serving: Any, token: str, tip_id: str) -> dict[str, Any]:
    answer = until(lambda: (a := serving.call("GET", f"/v1/tips/{tip_id}/decision", token)).status == 200 and a)
    found: dict[str, Any] = answer.json
    return found


def test_standard_webhooks(serving: Any) -> None:
    path = "/v1/webhooks/standard/partner:fire-watch"
    body = json.dumps({"text": FIRE}).encode()
    assert (
        serving.call("POST", path, None, body, signed("whsec_" + "A" * 44, body, "m1", int(time.time()))).status == 401
    )
    (secret,) = add(serving, "standard", "partner:fire-watch")
    now = int(time.time())
    sent = signed(secret, body, "m1", now)
    first = serving.call("POST", path, None, body, sent)
    assert first.status == 202, "a running service knows a new webhook at once"
    assert serving.call("POST", path, None, body, sent).body == first.body
    assert serving.call("POST", path, None, body, signed(secret, body, "m1", now - 600)).status == 401
    assert serving.call("POST", path, None, body, signed(secret, body, "m2", now + 600)).status == 401
    dice = random.Random(1)
    for _ in range(50):  # a thousand of them in the unit tests
        at = dice.randrange(len(body))
        flipped = body[:at] + bytes([body[at] ^ 1 << dice.randrange(8)]) + body[at + 1 :]
        assert serving.call("POST", path, None, flipped, sent).status == 401
    county = serving.token("county")
    said = decision(serving, county, first.json["tip_id"])
    assert (said["source"], said["category"], said["area"]) == (
        "partner:fire-watch",
        "safety_hazard",
        "anping/xiliangwa/dashaocun",
    )
    serving.kill()
    serving.start()
    again = serving.call("POST", path, None, body, signed(secret, body, "m1", int(time.time())))
    assert (again.status, again.body) == (202, first.body), "ids are remembered for ever"
    rows = serving.call("GET", "/v1/statistics?by=category", county).json["rows"]
    assert sum(row["tips"] for row in rows) == 1
    assert serving.cli("webhook", "remove", "standard", "partner:fire-watch").returncode == 0
    assert serving.call("POST", path, None, body, signed(secret, body, "m3", int(time.time()))).status == 401


def test_telegram(serving: Any) -> None:
    (secret,) = add(serving, "telegram", "telegram:anping-1")
    path, headers = "/v1/webhooks/telegram/telegram:anping-1", {"X-Telegram-Bot-Api-Secret-Token": secret}
    message = {"message_id": 5, "chat": {"id": CHAT}, "from": {"id": 7}, "date": int(time.time()), "text": FIRE}
    first = serving.call("POST", path, None, {"update_id": 1, "message": message}, headers)
    again = serving.call("POST", path, None, {"update_id": 1, "message": message}, headers)
    assert (first.status, again.status) == (200, 200)
    assert first.body == again.body
    edited = {**message, "text": FIRE + "，已经烧到院墙", "edit_date": message["date"] + 1}
    follow = serving.call("POST", path, None, {"update_id": 2, "edited_message": edited}, headers)
    assert follow.status == 200
    token = serving.token("intake", "--source", "telegram:anping-1")
    one, two = (decision(serving, token, a.json["tip_id"]) for a in (first, follow))
    assert two["message_id"] == f"{one['message_id']}:{message['date'] + 1}"
    assert one["incident_id"] == two["incident_id"]
    sticker = {k: v for k, v in message.items() if k != "text"}
    assert serving.call("POST", path, None, {"message": sticker}, headers).json == {"ignored": True}
    assert serving.call("POST", path, None, {"message": message}).status == 401


def encrypt(text: str, aes_key: str) -> str:
    key, raw = base64.b64decode(aes_key + "="), text.encode()
    padder = padding.PKCS7(256).padder()
    plain = os.urandom(16) + struct.pack(">I", len(raw)) + raw + CORP.encode()
    cipher = Cipher(algorithms.AES(key), modes.CBC(key[:16])).encryptor()
    return base64.b64encode(cipher.update(padder.update(plain) + padder.finalize()) + cipher.finalize()).decode()


def query(token: str, encrypted: str, **more: str) -> str:
    parts = {"timestamp": str(int(time.time())), "nonce": "n1"}
    digest = hashlib.sha1("".join(sorted([token, encrypted, *parts.values()])).encode()).hexdigest()
    return urlencode({"msg_signature": digest, **parts, **more})


def test_wecom(serving: Any) -> None:
    token, aes_key = add(serving, "wecom", "wecom:anping-1", "--receive-id", CORP)
    path = "/v1/webhooks/wecom/wecom:anping-1"
    echo = encrypt("1616140317555161061", aes_key)
    assert serving.call("GET", f"{path}?{query(token, echo, echostr=echo)}").body == b"1616140317555161061"
    text = f"<xml><FromUserName>u1</FromUserName><CreateTime>{int(time.time())}</CreateTime><MsgType>text</MsgType><Content><![CDATA[{FIRE}]]></Content><MsgId>42</MsgId></xml>"
    encrypted = encrypt(text, aes_key)
    body = f"<xml><ToUserName>{CORP}</ToUserName><Encrypt>{encrypted}</Encrypt></xml>".encode()
    kind = {"Content-Type": "text/xml"}
    for _ in range(2):
        answer = serving.call("POST", f"{path}?{query(token, encrypted)}", None, body, kind)
        assert (answer.status, answer.body) == (200, b"")
    assert serving.call("POST", f"{path}?{query('wrong', encrypted)}", None, body, kind).status == 401
    bomb = b'<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]><xml><Encrypt>&b;</Encrypt></xml>'
    assert serving.call("POST", f"{path}?{query(token, '')}", None, bomb, kind).status == 400
    county = serving.token("county")
    rows = until(lambda: serving.call("GET", "/v1/statistics?by=category", county).json["rows"])
    assert [(row["category"], row["tips"]) for row in rows] == [("safety_hazard", 1)]


def test_open311(serving: Any) -> None:
    assert len(serving.call("GET", "/open311/v2/services.json").json) == 5
    key = serving.token("intake", "--source", "open311:app")
    form = {"api_key": key, "service_code": "safety_hazard", "description": FIRE, "phone": "13812345678"}
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    made = serving.call("POST", "/open311/v2/requests.json", None, urlencode(form).encode(), kind)
    assert made.status == 201
    receipt = made.json[0]["service_request_id"]
    path = f"/open311/v2/requests/{receipt}.json"
    # Both say "received" until it is decided.
    until(lambda: serving.call("GET", f"/v1/receipts/{receipt}", key).json["status"] == "with_station")
    found = serving.call("GET", path)
    assert found.json[0]["status"] == "open" and "station" in found.json[0]["status_notes"]
    assert set(found.json[0]) == {"service_request_id", "status", "status_notes", "updated_datetime"}
    twin = serving.call("POST", "/open311/v2/requests.json", None, urlencode(form).encode(), kind)
    assert twin.status == 201, "linked, never refused"
    listed = serving.call(
        "GET", f"/open311/v2/requests.json?service_request_id={receipt},{twin.json[0]['service_request_id']}"
    )
    assert len(listed.json) == 2
    refused = serving.call(
        "POST", "/open311/v2/requests.json", None, urlencode({**form, "api_key": "x"}).encode(), kind
    )
    assert (refused.status, refused.json[0]["code"]) == (401, 401)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["standard", "Partner X"], "write the source"),
        (["standard", "partner:x", "--secret", "whsec_AAAA"], "24 to 64 bytes"),
        (["telegram", "telegram:x", "--aes-key", "x"], "for wecom"),
        (["wecom", "wecom:x"], "receive id"),
        (["standard", "partner:x", "--home", "nowhere"], "one of anping"),
    ],
)
def test_the_command_says_what_is_wrong(make_serving: Any, arguments: list[str], words: str) -> None:
    done = make_serving(start=False).cli("webhook", "add", *arguments)
    assert done.returncode == 2
    assert words in done.stderr
    assert done.stdout == ""


def test_the_command_keeps_secrets(make_serving: Any) -> None:
    serving = make_serving(start=False)
    given = "whsec_" + base64.b64encode(b"k" * 32).decode()
    done = serving.cli("webhook", "add", "standard", "partner:x", "--secret", "-", input=given + "\n")
    assert (done.returncode, done.stdout) == (0, ""), "what was given is not shown again"
    assert serving.cli("webhook", "add", "standard", "partner:x").returncode == 1
    assert add(serving, "standard", "partner:x", "--replace")[0].startswith("whsec_")
    listed = serving.cli("webhook", "list", "--json").stdout
    assert [(one["kind"], one["source"], one["county"]) for one in json.loads(listed)] == [
        ("standard", "partner:x", "anping")
    ]
    assert "whsec_" not in listed
    assert "partner:x" in serving.cli("webhook", "list").stdout
    assert (serving.data / "webhooks.json").stat().st_mode & 0o777 == 0o600
    assert serving.cli("webhook", "remove", "standard", "partner:x").returncode == 0
    assert serving.cli("webhook", "remove", "standard", "partner:x").returncode == 1
