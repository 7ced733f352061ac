"""What leaves a running service: a station's own system is told of its queue, reporters of what became of their report."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from producers.hooks import Secret
from producers.webhook_standard import key_of
from tests.certificates import make_certificate
from tests.crowd import settle
from tests.ports import free_port
from tests.waiting import until
from tipline.testing import Client, Served, make_token

STATION = "police-xiliangwa"
FIRE = {"text": "大邵村东头柴火垛着了，离房子就十来米，快来人"}


class Receiver:
    """Somebody else's server: keeps what it is sent, answers as told."""

    def __init__(self, tls: tuple[str, str] | None = None) -> None:
        """`tls`: files of a certificate and its key."""
        self.got: list[tuple[str, dict[str, str], bytes]] = []
        #: Statuses of the next answers, by path; then 204.
        self.answers: dict[str, list[int]] = {}
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                planned = receiver.answers.get(self.path)
                status = planned.pop(0) if planned else 204
                if status == 307:
                    self.send_response(status)
                    self.send_header("location", f"{receiver.url}/elsewhere")
                else:
                    self.send_response(status)
                    receiver.got.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if tls is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def at(self, path: str) -> list[dict[str, Any]]:
        return [json.loads(body) for where, _, body in self.got if where == path]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    made = Served(tmp_path / "data", port=free_port())
    made.start()
    yield made
    made.close()


def webhook(served: Served, *arguments: str, status: int = 0) -> str:
    command = [sys.executable, "-m", "tipline", "webhook", "add", *arguments, "--data", str(served.data)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == status, done.stderr
    return done.stderr if status else done.stdout.strip()


def signed(secret: str, headers: dict[str, str], body: bytes) -> bool:
    told = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    digest = hmac.new(key_of(Secret(secret)), told, hashlib.sha256).digest()
    return headers["webhook-signature"] == "v1," + base64.b64encode(digest).decode()


BOT = "123456:ABC-DEF1234ghIkl-zyx57W2v1u123ew11"
IN_GROUP = f"/bot{BOT}/sendMessage"


def report(served: Served, group_secret: str) -> None:
    """One incident, told by a partner, by somebody whose channel has no way back, and in a group."""
    for source, message_id in (("partner:water", "w-1"), ("wechat:xiliangwa-3", "m-1")):
        with Client(served, make_token(served.data, "intake", source=source)) as door:
            assert door.send("/v1/tips", {**FIRE, "source": source, "message_id": message_id}).status == 202
    update = {"update_id": 1, "message": {"message_id": 77, "chat": {"id": -100500}, "date": int(time.time()), **FIRE}}
    with Client(served, "") as anybody:
        headers = {"x-telegram-bot-api-secret-token": group_secret}
        assert anybody.send("/v1/webhooks/telegram/telegram:anping-1", update, headers).status == 200
    settle(served)


def take(served: Served) -> str:
    """The station takes it -> its assignment."""
    with Client(served, make_token(served.data, "station", station=STATION)) as desk:
        item = desk.send(f"/v1/stations/{STATION}/claim", {}).document["items"][0]
        version = {"if-match": f'"{item["lease"]["token"]}"'}
        assert desk.send(f"/v1/assignments/{item['id']}/acknowledge", {}, version).status == 200
    return str(item["id"])


def close(served: Served, item: str) -> None:
    with Client(served, make_token(served.data, "station", station=STATION)) as desk:
        version = {"if-match": desk.get(f"/v1/assignments/{item}").headers["etag"]}
        assert desk.send(f"/v1/assignments/{item}/resolve", {"outcome": "settled"}, version).status == 200


def check_events(receiver: Receiver, secret: str, item: str) -> None:
    """What the station's system was told: 503 was answered by sending it again under the same id, nothing is skipped,
    nothing overtakes."""
    told = until(lambda: [one for one in receiver.at("/station") if one["type"] == "assignment.acknowledged"])
    assert told[0]["data"]["assignment"]["id"] == item
    events = [entry for entry in receiver.got if entry[0] == "/station"]
    numbers = [json.loads(body)["data"]["number"] for _, _, body in events]
    assert numbers[0] == numbers[1] == 1 and numbers[1:] == list(range(1, numbers[-1] + 1))
    assert events[0][1]["webhook-id"] == events[1][1]["webhook-id"] == f"{STATION}/1"
    assert all(signed(secret, headers, body) for _, headers, body in events)
    assert receiver.at("/elsewhere") == []


def check_replies(receiver: Receiver, served: Served, partner: str) -> None:
    """What the reporters were told: the partner again after its 500, the group under the message."""
    until(lambda: receiver.at("/partner")[2:])
    replies = [entry for entry in receiver.got if entry[0] == "/partner"]
    assert all(signed(partner, headers, body) for _, headers, body in replies)
    said = [json.loads(body) for _, _, body in replies]
    assert {(one["type"], one["data"]["message_id"]) for one in said} == {("tip.status", "w-1")}
    assert [one["data"]["status"] for one in said] == ["with_station", "with_station", "in_work"]
    assert replies[0][1]["webhook-id"] == replies[1][1]["webhook-id"] != replies[2][1]["webhook-id"]
    _, in_group = until(lambda: receiver.at(IN_GROUP)[1:] and receiver.at(IN_GROUP))
    assert in_group["chat_id"] == -100500 and in_group["reply_parameters"]["message_id"] == 77
    with Client(served, make_token(served.data, "intake", source="partner:water")) as door:
        assert door.get(f"/v1/receipts/{in_group['text'].split()[-1]}").document["status"] == "in_work"


def test_a_stations_own_system_and_the_reporters_are_told(served: Served, receiver: Receiver) -> None:
    secret = webhook(served, "station", STATION, "--url", f"{receiver.url}/station")
    partner = webhook(served, "standard", "partner:water", "--url", f"{receiver.url}/partner")
    group = webhook(served, "telegram", "telegram:anping-1", "--url", receiver.url, "--bot-token", BOT)
    # Down, then a redirect that a signed body must not follow.
    receiver.answers = {"/station": [503, 307], "/partner": [500]}
    report(served, group)
    until(lambda: receiver.at("/partner")[1:] and receiver.at(IN_GROUP))
    item = take(served)
    check_events(receiver, secret, item)
    check_replies(receiver, served, partner)
    # A restart tells nobody anything again.
    before = len(receiver.got)
    assert served.stop() == 0
    served.start()
    close(served, item)
    until(lambda: receiver.at(IN_GROUP)[2:] and receiver.at("/partner")[3:])
    until(lambda: receiver.at("/station")[-1]["type"] == "assignment.resolved")
    fresh = [(path, headers.get("webhook-id")) for path, headers, _ in receiver.got[before:]]
    assert len(fresh) == 3 == len(set(fresh))
    assert [one["data"]["status"] for one in receiver.at("/partner")] == ["with_station", "with_station", "in_work", "closed"]


def tipline(served: Served, *arguments: str, status: int = 0) -> str:
    command = [sys.executable, "-m", "tipline", *arguments, "--data", str(served.data)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_a_rotation_beside_it_needs_no_restart(served: Served, receiver: Receiver) -> None:
    first = webhook(served, "station", STATION, "--url", f"{receiver.url}/station")
    assert "restart" in tipline(served, "keys", "rotate")
    webhook(served, "station", "police-dahezhuang", "--url", f"{receiver.url}/second")
    group = webhook(served, "telegram", "telegram:anping-1", "--url", receiver.url, "--bot-token", BOT)
    report(served, group)  # the door opens what the new key sealed
    until(lambda: receiver.at("/station"))
    assert all(signed(first, headers, body) for path, headers, body in receiver.got if path == "/station")
    assert "each opens" in tipline(served, "doctor")
    # One that nobody can open: the others go on, and it is told.
    path = served.data / "webhooks.json"
    path.write_text(path.read_text("utf-8").replace('"police-dahezhuang"', '"police-elsewhere"'), "utf-8")
    take(served)
    until(lambda: [one for one in receiver.at("/station") if one["type"] == "assignment.acknowledged"])
    assert "station police-elsewhere" in tipline(served, "doctor", status=1)
    assert "does not open" in tipline(served, "webhook", "list")
    with Client(served, make_token(served.data, "ops")) as ops:
        assert b"tipline_webhooks_unopened 1.0" in ops.get("/metrics").body


def test_a_private_authority_is_trusted_where_it_is_named(tmp_path: Path) -> None:
    mine, other = make_certificate(tmp_path / "mine", "127.0.0.1"), make_certificate(tmp_path / "other", "station.example")
    authorities = tmp_path / "ca.pem"
    authorities.write_text("".join(Path(cert).read_text("utf-8") for cert, _ in (mine, other)), "utf-8")
    trusted, misnamed, served = Receiver(mine), Receiver(other), Served(tmp_path / "data", port=free_port())
    try:
        served.start()
        webhook(served, "station", STATION, "--url", f"{trusted.url}/station")
        with Client(served, make_token(served.data, "intake", source="wechat:a")) as door:
            assert door.send("/v1/tips", {**FIRE, "message_id": "m-1"}).status == 202
        until(lambda: "name the authority that signed it with TIPLINE_WEBHOOK_CA" in served.log_end())
        assert trusted.got == [] and "127.0.0.1" not in served.log_end().partition("does not take its events")[2]
        served.stop()
        served.start({"TIPLINE_WEBHOOK_CA": str(authorities)})
        until(lambda: trusted.at("/station"))
        webhook(served, "station", STATION, "--url", f"{misnamed.url}/station", "--replace")
        take(served)
        until(lambda: "its certificate is for another name" in served.log_end())
        assert misnamed.got == []
    finally:
        served.close()
        trusted.close()
        misnamed.close()


def test_authorities_that_are_none_stop_the_start(tmp_path: Path) -> None:
    named = tmp_path / "ca.pem"
    command = [sys.executable, "-m", "tipline", "serve", "--port", "0", "--data", str(tmp_path / "data")]
    for words in ("No such file", "holds no certificate"):
        environ = {**os.environ, "TIPLINE_WEBHOOK_CA": str(named)}
        done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 2 and words in done.stderr and f"TIPLINE_WEBHOOK_CA {named}" in done.stderr, done.stderr
        named.write_text("minutes of the meeting", "utf-8")


def test_a_restored_copy_calls_nobody_until_it_is_told_to(served: Served, receiver: Receiver, tmp_path: Path) -> None:
    secret = webhook(served, "station", STATION, "--url", f"{receiver.url}/station")
    webhook(served, "standard", "partner:water", "--url", f"{receiver.url}/partner")
    group = webhook(served, "telegram", "telegram:anping-1", "--url", receiver.url, "--bot-token", BOT)
    report(served, group)
    until(lambda: receiver.at("/station") and receiver.at("/partner") and receiver.at(IN_GROUP))
    assert "paused" not in tipline(served, "doctor") + tipline(served, "webhook", "list")
    tipline(served, "backup", str(tmp_path / "copy"), "--with-keys")
    assert served.stop() == 0
    before = len(receiver.got)
    copy = Served(tmp_path / "restored", port=free_port())
    assert f"tipline webhook resume --data {copy.data}" in tipline(copy, "restore", str(tmp_path / "copy"))
    copy.start()
    try:
        assert "outgoing webhooks are paused" in (tmp_path / "restored.log").read_text("utf-8")
        assert f"tipline webhook resume --data {copy.data}" in tipline(copy, "doctor")
        message = {"message_id": 78, "chat": {"id": -100500}, "date": int(time.time()), "text": "马店村口井盖丢了"}
        with Client(copy, "") as anybody:  # who calls us is let in
            headers = {"x-telegram-bot-api-secret-token": group}
            assert anybody.send("/v1/webhooks/telegram/telegram:anping-1", {"update_id": 2, "message": message}, headers).status == 200
        settle(copy)
        take(copy)
        # Each command takes longer than the outbox rests: what was to be told would have been by now.
        webhook(copy, "standard", "partner:power", "--url", f"{receiver.url}/power")
        assert "paused" in tipline(copy, "webhook", "list") and len(receiver.got) == before
        assert "resumed" in tipline(copy, "webhook", "resume")
        until(lambda: [one for one in receiver.at("/station") if one["type"] == "assignment.acknowledged"])
        until(lambda: [one for one in receiver.at("/partner") if one["data"]["status"] == "in_work"])
        assert all(signed(secret, headers, body) for path, headers, body in receiver.got if path == "/station")
        assert "not paused" in tipline(copy, "webhook", "resume") and "each opens" in tipline(copy, "doctor")
    finally:
        copy.close()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("station", "police-nowhere", "--url", "https://x.example/"), "no such station"),
        (("station", STATION), "--url"),
        (("station", STATION, "--url", "ftp://x.example/"), "--url"),
        (("station", STATION, "--url", "https://user:secret@x.example/"), "--url"),
        (("wecom", "wecom:1", "--receive-id", "ww1", "--url", "https://x.example/"), "--url"),
        (("standard", "partner:x", "--bot-token", "1:2"), "--bot-token"),
        (("telegram", "telegram:x", "--bot-token", "hello"), "--bot-token"),
    ],
)
def test_a_way_out_that_is_none_is_refused(served_once: Served, arguments: tuple[str, ...], words: str) -> None:
    assert words in webhook(served_once, *arguments, status=2)


@pytest.fixture(scope="module")
def served_once(tmp_path_factory: pytest.TempPathFactory) -> Served:
    """A store that no service runs on."""
    return Served(tmp_path_factory.mktemp("store") / "data")
