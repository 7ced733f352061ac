"""What the stations' room reaches beyond the database: stations' own systems, and reporters where they wrote from."""

from __future__ import annotations

import http.client
import logging
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from producers.client import EXPIRED, OTHER_NAME
from producers.hooks import FILE_NAME, HookFile
from producers.identity import mask
from producers.outgoing import Outgoing
from producers.webhook_standard import key_of
from schemas.errors import Unavailable
from schemas.times import SECOND
from stations.outbox import Hook, Post, sign
from stations.service import Outside
from tipline.settings import BadSettings
from tipline.store import Store, now_ms

#: Seconds that a receiver may take: well within a turn of the outbox.
TIMEOUT_S: Final = 5.0
_MOST_READ: Final = 64 * 1024

_log: Final = logging.getLogger("tipline.webhooks")


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A signed body goes to the address that was registered and to no other."""

    def redirect_request(self, *_: Any) -> None:
        return None


def trusting(authorities: str) -> ssl.SSLContext:
    """Whom we believe to be who they say: whom the system trusts, and the authorities of a PEM file where one is named. Raises
    BadSettings."""
    trust = ssl.create_default_context()
    if authorities:
        try:
            trust.load_verify_locations(cafile=authorities)
        except OSError as error:  # an SSLError is one
            words = "holds no certificate" if isinstance(error, ssl.SSLError) else error.strerror or str(error)
            raise BadSettings(
                f"TIPLINE_WEBHOOK_CA {authorities}: {words}. Name a PEM file of your authority that begins with -----BEGIN CERTIFICATE-----"
            ) from None
    return trust


def poster(trust: ssl.SSLContext) -> Post:
    """Posts a body -> HTTP status. Raises Unavailable when nobody answers; no message repeats the address."""
    opener = urllib.request.build_opener(_NoRedirects, urllib.request.HTTPSHandler(context=trust))

    def post(url: str, headers: Mapping[str, str], body: bytes) -> int:
        request = urllib.request.Request(url, body, {"user-agent": "tipline", **headers}, method="POST")
        try:
            with opener.open(request, timeout=TIMEOUT_S) as answer:
                answer.read(_MOST_READ)
                return int(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code
        except (OSError, http.client.HTTPException) as error:
            cause = error.reason if isinstance(error, urllib.error.URLError) and isinstance(error.reason, OSError) else error
            raise Unavailable(_why(cause)) from None

    return post


def _why(cause: Exception) -> str:
    """What failed by its kind alone: messages of TLS and of names repeat the address."""
    if not isinstance(cause, ssl.SSLCertVerificationError):
        return f"nobody answers ({type(cause).__name__})"
    if cause.verify_code in OTHER_NAME:
        return "its certificate is for another name than that of its URL: it needs one for this name, or `webhook add ... --replace` the name of the certificate"
    if cause.verify_code == EXPIRED:
        return "its certificate has expired: it must be renewed there"
    return "its certificate is not trusted: name the authority that signed it with TIPLINE_WEBHOOK_CA"


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

    post = poster(trusting(store.settings.webhook_ca))
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
