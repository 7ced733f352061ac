"""What the stations' room reaches beyond the database: stations' own systems, and reporters where they wrote from."""

from __future__ import annotations

import http.client
import logging
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from producers.hooks import FILE_NAME, HookFile
from producers.identity import mask
from producers.outgoing import Outgoing
from producers.webhook_standard import key_of
from schemas.errors import Unavailable
from schemas.times import SECOND
from stations.outbox import Hook, sign
from stations.service import Outside
from tipline.store import Store, now_ms

#: Seconds that a receiver may take: well within a turn of the outbox.
TIMEOUT_S: Final = 5.0
_MOST_READ: Final = 64 * 1024

_log: Final = logging.getLogger("tipline.webhooks")


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A signed body goes to the address that was registered and to no other."""

    def redirect_request(self, *_: Any) -> None:
        return None


_opener: Final = urllib.request.build_opener(_NoRedirects)


def post(url: str, headers: Mapping[str, str], body: bytes) -> int:
    """Posts a body -> HTTP status. Raises Unavailable when nobody answers; no message repeats the address."""
    request = urllib.request.Request(url, body, {"user-agent": "tipline", **headers}, method="POST")
    try:
        with _opener.open(request, timeout=TIMEOUT_S) as answer:
            answer.read(_MOST_READ)
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code
    except (OSError, http.client.HTTPException) as error:
        # What failed by its kind alone: messages of TLS and of names repeat the address.
        cause = error.reason if isinstance(error, urllib.error.URLError) and isinstance(error.reason, OSError) else error
        raise Unavailable(f"nobody answers ({type(cause).__name__})") from None


def check_url(url: str) -> str:
    """The address as it may be registered. Raises ValueError."""
    try:
        parts = urlsplit(url)
        fine = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 and parts.username is None
    except ValueError:
        fine = False
    if not fine or not url.isascii() or any(c.isspace() for c in url) or parts.fragment:
        raise ValueError("write the address like https://station.example/tipline, without a user name in it")
    return url


def make_outside(store: Store, lookup: Callable[[str], bytes | None]) -> Outside:
    """The room's way out, by the webhooks of the store. `lookup` finds a tip's record."""
    # A file of its own: the door reads it on the event loop, this from the outbox's thread.
    hooks = HookFile(store.path / FILE_NAME, store.keyring, store.renewed_keyring)

    def systems() -> list[Hook]:
        return [Hook(one.source, one.secret.url, key_of(one.secret)) for one in hooks.stations()]

    def signed(secret: bytes, identity: str, body: bytes) -> Mapping[str, str]:
        return sign(secret, identity, now_ms() // SECOND, body)

    channel = Outgoing(hooks.lookup, store.keyring.receipt, post, signed)
    if hooks.paused():
        _log.warning("%s", paused_words(store))
    return Outside(lookup=lookup, hooks=systems, post=post, channel=channel, mask=mask, paused=hooks.paused)


def paused_words(store: Store) -> str:
    """What it means that a store's webhooks are paused, and how they go on."""
    return (
        f"outgoing webhooks are paused: no station's system and no reporter is told anything. Once this store is the one "
        f"that works: tipline webhook resume --data {store.path}"
    )
