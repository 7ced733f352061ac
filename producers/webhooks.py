"""Channels that call us: each proves itself by the secret of its source. One line a channel."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from producers import webhook_standard, webhook_telegram, webhook_wecom
from producers.hooks import Hook, Hooks, Kind, Secret
from producers.http import Door
from producers.keyring import Entropy
from producers.serving import served
from sinks import web

Handler = Callable[[Door, Hook, Request], Awaitable[Response]]


class Channel(msgspec.Struct, frozen=True):
    """One kind of webhook: what its secret must look like, and its handlers by method."""

    check: Callable[[Secret], None]
    handlers: Mapping[str, Handler]


CHANNELS: Final[Mapping[Kind, Channel]] = {
    "standard": Channel(webhook_standard.check, {"POST": webhook_standard.post}),
    "telegram": Channel(webhook_telegram.check, {"POST": webhook_telegram.post}),
    "wecom": Channel(webhook_wecom.check, {"GET": webhook_wecom.get, "POST": webhook_wecom.post}),
    # Called by us, never by it.
    "station": Channel(webhook_standard.check, {}),
}


def webhook_routes(door: Door, hooks: Hooks) -> list[Route]:
    """The routes of all kinds. `hooks` is asked on the event loop: it must answer from memory or nearly so."""
    nobody = _nobody(door.entropy)

    def route(kind: Kind, method: str, handler: Handler) -> Route:
        async def endpoint(request: Request) -> Response:
            # An unknown source goes the same way as a known one, with a secret that nobody has.
            hook = hooks(kind, request.path_params["source"]) or Hook(kind, "", None, nobody)
            return await handler(door, hook, request)

        return _route(door, f"/v1/webhooks/{kind}/{{source}}", method, endpoint)

    return [route(kind, method, handler) for kind, one in CHANNELS.items() for method, handler in one.handlers.items()]


def _route(door: Door, path: str, method: str, endpoint: web.Endpoint) -> Route:
    return Route(path, served(door, path, endpoint), methods=[method])


def _nobody(entropy: Entropy) -> Secret:
    """A secret of the form that every kind can compute with."""
    key, aes_key = (base64.b64encode(entropy(32)).decode() for _ in range(2))
    return Secret(webhook_standard.PREFIX + key, aes_key.rstrip("="), key)
