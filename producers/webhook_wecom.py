"""WeCom (企业微信) in: the callback of an application. GET proves the address, POST brings a message; both are encrypted.

The signature is SHA-1 over the sorted token, timestamp, nonce and ciphertext, as WeCom defines it; it is checked before
anything is decrypted, so nobody without the token can ask whether a padding is right. Answers to POST are empty: WeCom
would show any other body to the sender.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import math
import re
from typing import Any, Final
from xml.parsers import expat

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from starlette.requests import Request
from starlette.responses import Response

from producers.hooks import Hook, Secret, secret_eq
from producers.http import Door
from producers.parsing import malformed
from producers.serving import count_refused
from producers.webhook_standard import unproved
from producers.webhook_telegram import HOPELESS
from schemas.errors import Rejected
from schemas.times import SECOND, format_time
from sinks import web

_TOKEN = re.compile(r"[A-Za-z0-9]{3,32}")
_AES_KEY = re.compile(r"[A-Za-z0-9]{43}")
_SECONDS = re.compile(r"[0-9]{1,11}")
_DEGREES = re.compile(r"-?[0-9]{1,3}(\.[0-9]{1,20})?")
#: PKCS#7 with blocks of 32 bytes, though AES has blocks of 16.
_BLOCK: Final = 32
#: Random bytes before the message, and the bytes of its length.
_SALT, _LENGTH = 16, 4
_MAX_DEPTH: Final = 4
_MAX_LABEL: Final = 200


def check(secret: Secret) -> None:
    """Raises ValueError for a secret that WeCom does not take."""
    if not _TOKEN.fullmatch(secret.key):
        raise ValueError("the token must be 3 to 32 letters or digits")
    if not _AES_KEY.fullmatch(secret.aes_key):
        raise ValueError("the EncodingAESKey must be 43 letters or digits")
    if not secret.receive_id:
        raise ValueError("the receive id (the corp id, such as ww0123456789abcdef) is missing")


# --- the envelope -----------------------------------------------------------------------------------------------------


def signature(token: str, timestamp: str, nonce: str, encrypted: str) -> str:
    """WeCom's `msg_signature` of a ciphertext."""
    joined = "".join(sorted((token, timestamp, nonce, encrypted)))
    return hashlib.sha1(joined.encode("utf-8", "surrogatepass"), usedforsecurity=True).hexdigest()


def opened(secret: Secret, encrypted: str) -> bytes:
    """The message in a ciphertext. Raises Rejected (401), the same for every way it may be wrong."""
    try:
        key = base64.b64decode(secret.aes_key + "=", validate=True)
        sealed = base64.b64decode(encrypted, validate=True)
        # The first 16 bytes of the key are the vector too: WeCom's choice, made good for by the salt.
        cipher = Cipher(algorithms.AES256(key), modes.CBC(key[:16])).decryptor()
        padded = cipher.update(sealed) + cipher.finalize()
    except (ValueError, binascii.Error):
        raise unproved() from None
    plain = _unpadded(padded)
    size = int.from_bytes(plain[_SALT : _SALT + _LENGTH], "big")
    start = _SALT + _LENGTH
    message, receiver = plain[start : start + size], plain[start + size :]
    if len(plain) < start + size or not secret_eq(receiver, secret.receive_id):
        raise unproved()
    return message


def _unpadded(padded: bytes) -> bytes:
    count = padded[-1] if padded else 0
    if not 1 <= count <= _BLOCK or len(padded) % _BLOCK or padded[-count:] != bytes([count]) * count:
        raise unproved()
    return padded[:-count]


def _proved(hook: Hook, request: Request, encrypted: str) -> bytes:
    """The message of a request that has proved itself. Raises Rejected (401)."""
    given = {name: request.query_params.get(name, "") for name in ("msg_signature", "timestamp", "nonce")}
    expected = signature(hook.secret.key, given["timestamp"], given["nonce"], encrypted)
    if not secret_eq(given["msg_signature"], expected):
        raise unproved()
    return opened(hook.secret, encrypted)


# --- strict XML -------------------------------------------------------------------------------------------------------


def flat_xml(raw: bytes) -> dict[str, str]:
    """The children of the root with their text; what lies deeper is passed over.

    Raises Rejected (400): not UTF-8, not well formed, nested, a name twice, or with a DOCTYPE, so that no entity of the
    sender's is ever known, let alone expanded.
    """
    reader = _Reader()
    parser = expat.ParserCreate("utf-8")  # whatever the document says of its coding
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = reader.doctype
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.text
    try:
        raw.decode()
        parser.Parse(raw, True)
    except (expat.ExpatError, UnicodeDecodeError):
        raise malformed("not well-formed XML in UTF-8") from None
    return reader.fields


class _Reader:
    """Collects what expat reports."""

    def __init__(self) -> None:
        self.fields: dict[str, str] = {}
        self._path: list[str] = []

    def doctype(self, *_: Any) -> None:
        raise malformed("a DOCTYPE is not taken")

    def start(self, name: str, _: dict[str, str]) -> None:
        self._path.append(name)
        if len(self._path) > _MAX_DEPTH:
            raise malformed(f"nested more than {_MAX_DEPTH} deep")
        if len(self._path) == 2:
            if name in self.fields:
                raise malformed("an element occurs twice")
            self.fields[name] = ""

    def end(self, _: str) -> None:
        self._path.pop()

    def text(self, data: str) -> None:
        if len(self._path) == 2:
            self.fields[self._path[1]] += data


# --- messages ---------------------------------------------------------------------------------------------------------


def submission(message: dict[str, str]) -> dict[str, Any] | None:
    """The submission in a message; None when it is neither text nor a place."""
    made = _content(message)
    if made is None:
        return None
    if name := message.get("MsgId", "").strip():
        made["message_id"] = name
    if sender := message.get("FromUserName", "").strip():
        made["reporter"] = {"id": sender}
    if _SECONDS.fullmatch(sent := message.get("CreateTime", "")):
        made["reported_at"] = format_time(int(sent) * SECOND)
    return made


def _content(message: dict[str, str]) -> dict[str, Any] | None:
    kind = message.get("MsgType")
    if kind == "text" and (words := message.get("Content", "").strip()):
        return {"text": words}
    if kind == "location":
        label = message.get("Label", "").strip()
        place: dict[str, Any] = {"text": label[:_MAX_LABEL]} if label else {}
        degrees = message.get("Location_X", ""), message.get("Location_Y", "")
        if all(_DEGREES.fullmatch(one) for one in degrees):
            place["lat"], place["lon"] = wgs84(float(degrees[0]), float(degrees[1]))
        return {"text": f"位置：{label}" if label else "位置", "place": place} if place else None
    return None


#: The ellipsoid that GCJ-02 is computed on (Krasovsky 1940): its long axis in metres, its squared eccentricity.
_AXIS, _ECCENTRICITY = 6_378_245.0, 0.006_693_421_622_965_943


def wgs84(lat: float, lon: float) -> tuple[float, float]:
    """GCJ-02, which maps sold in China must use, -> WGS-84: a shift of up to 700 m; within a few metres of the truth.

    Outside China the two are the same.
    """
    if not (0.8293 <= lat <= 55.8271 and 72.004 <= lon <= 137.8347):
        return lat, lon
    true_lat, true_lon = lat, lon
    for _ in range(2):  # the shift is known at the true place only; it changes little from there to here
        d_lat, d_lon = _shift(true_lat, true_lon)
        true_lat, true_lon = lat - d_lat, lon - d_lon
    return round(true_lat, 6), round(true_lon, 6)


def _shift(lat: float, lon: float) -> tuple[float, float]:
    x, y = lon - 105.0, lat - 35.0
    north = -100.0 + 2.0 * x + 3.0 * y + 0.2 * y * y + 0.1 * x * y + 0.2 * math.sqrt(abs(x)) + _waves(x, 6.0, 2.0)
    north += (20.0 * math.sin(y * math.pi) + 40.0 * math.sin(y / 3.0 * math.pi)) * 2.0 / 3.0
    north += (160.0 * math.sin(y / 12.0 * math.pi) + 320.0 * math.sin(y / 30.0 * math.pi)) * 2.0 / 3.0
    east = 300.0 + x + 2.0 * y + 0.1 * x * x + 0.1 * x * y + 0.1 * math.sqrt(abs(x)) + _waves(x, 6.0, 2.0)
    east += (20.0 * math.sin(x * math.pi) + 40.0 * math.sin(x / 3.0 * math.pi)) * 2.0 / 3.0
    east += (150.0 * math.sin(x / 12.0 * math.pi) + 300.0 * math.sin(x / 30.0 * math.pi)) * 2.0 / 3.0
    sine = math.sin(math.radians(lat))
    magic = 1 - _ECCENTRICITY * sine * sine
    d_lat = math.degrees(north / (_AXIS * (1 - _ECCENTRICITY) / (magic * math.sqrt(magic))))
    d_lon = math.degrees(east / (_AXIS / math.sqrt(magic) * math.cos(math.radians(lat))))
    return d_lat, d_lon


def _waves(x: float, first: float, second: float) -> float:
    return (20.0 * math.sin(first * x * math.pi) + 20.0 * math.sin(second * x * math.pi)) * 2.0 / 3.0


# --- the endpoints ----------------------------------------------------------------------------------------------------


async def get(_door: Door, hook: Hook, request: Request) -> Response:
    """Proves to WeCom that this address knows the secret: answers the decrypted `echostr`."""
    echo = _proved(hook, request, request.query_params.get("echostr", ""))
    return Response(echo, 200, {"cache-control": "no-store"}, "text/plain")


async def post(door: Door, hook: Hook, request: Request) -> Response:
    """Takes one message: 200 and no body for what is stored, what is no tip, and what is wrong for good."""
    raw = await web.read_body(request, door.limits.body_bytes, door.limits.body_seconds)
    received_at = door.clock()
    message = _proved(hook, request, flat_xml(raw).get("Encrypt", ""))
    door.buckets.take(hook.principal.token_id, 1, received_at)
    try:
        made = submission(flat_xml(message))
        if made is None:
            door.metrics.count("tipline_refused_total", reason="ignored")
        else:
            await door.take(made, hook.principal, received_at)
    except Rejected as error:
        if error.status not in HOPELESS:
            raise
        count_refused(door, error)
    return Response(b"", 200, {"cache-control": "no-store"}, "text/plain")
