"""Standard Webhooks in: a submission, signed with HMAC-SHA256 over `id.timestamp.body`.

The signature is checked over the bytes as they came, before anything reads them. A request that is sent again is the
same tip: its `webhook-id` is the message_id where the submission names none.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from typing import Final

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response

from producers import parsing
from producers.hooks import Hook, Secret, secret_eq
from producers.http import JSON, Door
from schemas.errors import Rejected
from schemas.times import MINUTE, SECOND
from sinks import web

#: How far a request's timestamp may be from our clock, either way.
TOLERANCE_MS: Final = 5 * MINUTE
PREFIX: Final = "whsec_"

_SECONDS = re.compile(r"[0-9]{1,12}")
_MIN_KEY, _MAX_KEY = 24, 64
#: More signatures than any rotation of keys needs.
_MAX_SIGNATURES = 16


def unproved() -> Rejected:
    """401, the same for an unknown source, a missing header, a wrong signature and a stale request."""
    return Rejected(401, "unauthorized", "The request is not signed by a sender that is known here")


def key_of(secret: Secret) -> bytes:
    """The bytes of the key in `whsec_<base64>`. Raises ValueError."""
    try:
        key = base64.b64decode(secret.key.removeprefix(PREFIX), validate=True)
    except (ValueError, binascii.Error):
        raise ValueError(f"the secret must be {PREFIX} and base64") from None
    if not _MIN_KEY <= len(key) <= _MAX_KEY:
        raise ValueError(f"the secret must hold {_MIN_KEY} to {_MAX_KEY} bytes")
    return key


def check(secret: Secret) -> None:
    """Raises ValueError for a secret that this scheme cannot use."""
    key_of(secret)


def verified(hook: Hook, headers: Headers, body: bytes, now: int) -> str:
    """The request's `webhook-id`, once it has proved itself. `now` in ms. Raises Rejected (401)."""
    identity, timestamp, signatures = (_only(headers, f"webhook-{name}") for name in ("id", "timestamp", "signature"))
    signed = f"{identity}.{timestamp}.".encode("latin-1") + body
    digest = hmac.new(key_of(hook.secret), signed, hashlib.sha256).digest()
    expected = "v1," + base64.b64encode(digest).decode()
    given = signatures.split(" ")[:_MAX_SIGNATURES]
    proved = sum(secret_eq(one, expected) for one in given) > 0  # every one is compared: which one fits is not told
    fresh = bool(_SECONDS.fullmatch(timestamp)) and abs(now - int(timestamp) * SECOND) <= TOLERANCE_MS
    if not (proved and fresh and identity):
        raise unproved()
    return identity


def _only(headers: Headers, name: str) -> str:
    """The header's value; empty when it is missing or given twice."""
    found = headers.getlist(name)
    return found[0] if len(found) == 1 else ""


async def post(door: Door, hook: Hook, request: Request) -> Response:
    """Takes one signed submission: 202, or 409 for other content under a known message_id."""
    raw = await web.read_body(request, door.limits.body_bytes, door.limits.body_seconds)
    received_at = door.clock()
    identity = verified(hook, request.headers, raw, received_at)
    door.buckets.take(hook.principal.token_id, 1, received_at)
    web.media_type(request, (JSON,))
    document = parsing.strict_json(raw, door.limits.body_bytes)
    if isinstance(document, dict):
        document.setdefault("message_id", identity)
    accepted = await door.take(document, hook.principal, received_at)
    return web.answer({"tip_id": accepted.tip_id, "receipt": accepted.receipt}, 202)
