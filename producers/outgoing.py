"""Replies to reporters where they wrote from: the outgoing side of the channels. One function a channel.

Only what the public may know is said: the status, since when, and the receipt. A channel answers where it was given a
way back (`tipline webhook add … --url` or `--bot-token`); for all others the receipt's page tells the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from producers.hooks import Hook, Kind, Unopened
from producers.webhook_standard import key_of
from schemas.errors import TiplineError, Unavailable
from streams.ports import Reply

#: Posts a body with headers to a URL -> HTTP status; raises Unavailable when nobody answers.
Post = Callable[[str, Mapping[str, str], bytes], int]

#: The headers that sign a body by the Standard Webhooks scheme: (secret, id, body).
Sign = Callable[[bytes, str, bytes], Mapping[str, str]]

TELEGRAM: Final = "https://api.telegram.org"

_ANSWERABLE: Final[tuple[Kind, ...]] = ("standard", "telegram")

#: A group's message; a private chat's number is its user's own, which the message_id does not tell.
_GROUP_MESSAGE: Final = re.compile(r"(-[0-9]{1,19}):([0-9]{1,10})(:.*)?")

#: Answers that asking again cannot mend: of a receiver that has left, of Telegram about a chat that is gone.
_LEFT: Final = frozenset({410})
_NO_CHAT: Final = frozenset({400, 401, 403, 404, 410})

_WORDS: Final[Mapping[str, tuple[str, str]]] = {
    "with_station": ("您反映的情况已收到，并已转给负责的单位。", "What you reported has been received and is with the station in charge."),
    "in_work": ("您反映的情况正在办理。", "What you reported is being worked on."),
    "closed": ("您反映的情况已办结。情况又有变化，请再报送一次。", "What you reported has been closed. If something changes, please report again."),
}  # fmt: skip


class NoWayBack(TiplineError):
    """The channel refused for good; the message says what it answered and names nobody."""


class Outgoing:
    """`streams.ports.Answering` over the webhooks of one installation."""

    def __init__(
        self, hook_of: Callable[[Kind, str], Hook | None], receipt_of: Callable[[str], str], post: Post, sign: Sign
    ) -> None:
        """`hook_of` finds the webhook of a source; `receipt_of` the receipt of a tip."""
        self._hook_of = hook_of
        self._receipt_of = receipt_of
        self._post = post
        self._sign = sign

    def reaches(self, source: str) -> bool:
        """See `streams.ports.Answering`. A way that does not open now may later: its reply waits, and no other's."""
        try:
            return self._reaches(source)
        except Unopened:
            return True

    def _reaches(self, source: str) -> bool:
        standard, telegram = self._hook_of("standard", source), self._hook_of("telegram", source)
        by_url = standard is not None and bool(standard.secret.url)
        return by_url or (telegram is not None and bool(telegram.secret.bot_token))

    def reply(self, reply: Reply) -> bool:
        """See `streams.ports.Answering`."""
        for kind in _ANSWERABLE:
            hook = self._hook_of(kind, reply.source)
            if hook is None:
                continue
            sent = self._standard(hook, reply) if kind == "standard" else self._telegram(hook, reply)
            if sent:
                return True
        return False

    def _standard(self, hook: Hook, reply: Reply) -> bool:
        """To the sender's own address, signed with the secret that it signs its submissions with."""
        if not hook.secret.url:
            return False
        told = {"message_id": reply.message_id, "receipt": self._receipt_of(reply.tip_id)}
        body = msgspec.json.encode(
            {"type": "tip.status", "timestamp": reply.at, "data": {**told, "status": reply.status, "at": reply.at}}
        )
        headers = self._sign(key_of(hook.secret), reply.key, body)
        _taken(hook, self._post(hook.secret.url, headers, body), _LEFT)
        return True

    def _telegram(self, hook: Hook, reply: Reply) -> bool:
        """Into the group, under the message."""
        found = _GROUP_MESSAGE.fullmatch(reply.message_id or "")
        if not hook.secret.bot_token or found is None or reply.status not in _WORDS:
            return False
        words = _WORDS[reply.status][(reply.lang or "").startswith("en")]
        body = msgspec.json.encode(
            {
                "chat_id": int(found[1]),
                "text": f"{words} {self._receipt_of(reply.tip_id)}",
                "reply_parameters": {"message_id": int(found[2]), "allow_sending_without_reply": True},
            }
        )
        address = f"{hook.secret.url or TELEGRAM}/bot{hook.secret.bot_token}/sendMessage"
        _taken(hook, self._post(address, {"content-type": "application/json"}, body), _NO_CHAT)
        return True


def _taken(hook: Hook, status: int, hopeless: frozenset[int]) -> None:
    """Raises NoWayBack or Unavailable for an answer that is none."""
    if not 200 <= status < 300:
        words = f"{hook.kind} {hook.source} answered {status}"
        raise NoWayBack(words) if status in hopeless else Unavailable(words)
