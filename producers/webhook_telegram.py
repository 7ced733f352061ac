"""Telegram in: updates of a bot that reads along in a group, proved by the secret in their header.

An update that is not answered 2xx comes again and holds up those behind it. So whatever will never be right (it is no
tip, it breaks the schema, it is known with other content) is answered 200 and counted; only what may succeed later is
refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from producers import parsing
from producers.hooks import Hook, Secret, secret_eq
from producers.http import JSON, Door
from producers.serving import count_refused
from producers.webhook_standard import unproved
from schemas import problems
from schemas.errors import Mistake, Rejected
from schemas.times import SECOND, format_time
from sinks import web
from streams.ports import Accepted

HEADER: Final = "x-telegram-bot-api-secret-token"
#: Refusals that sending again cannot mend.
HOPELESS: Final = frozenset({400, 409, 413, 422})
#: A message may be longer than a submission's text: what is left over follows as a reply to it.
MAX_TEXT: Final = 4000

_SECRET = re.compile(r"[A-Za-z0-9_-]{16,256}")
#: `/start` and the like speak to the bot, not to us.
_COMMAND = re.compile(r"/[A-Za-z0-9_]{1,64}(@\w{1,64})?\s*")

_Seconds = Annotated[int, msgspec.Meta(ge=0, le=253_402_300_799)]


class _Named(msgspec.Struct, frozen=True):
    """A user or a chat; nothing but its number is read."""

    id: int


class _Location(msgspec.Struct, frozen=True):
    latitude: float
    longitude: float


class _Venue(msgspec.Struct, frozen=True):
    title: str = ""
    address: str = ""


class _Earlier(msgspec.Struct, frozen=True):
    """The message that another one answers."""

    message_id: int
    chat: _Named


class _Message(msgspec.Struct, frozen=True, kw_only=True, rename={"sender": "from"}):
    message_id: int
    chat: _Named
    date: _Seconds
    edit_date: _Seconds | None = None
    sender: _Named | None = None
    text: str = ""
    caption: str = ""
    location: _Location | None = None
    venue: _Venue | None = None
    reply_to_message: _Earlier | None = None


class _Update(msgspec.Struct, frozen=True):
    message: _Message | None = None
    channel_post: _Message | None = None
    edited_message: _Message | None = None
    edited_channel_post: _Message | None = None


#: (chat, message) -> the message_id of a tip.
NameOf = Callable[[int, int], str]


def check(secret: Secret) -> None:
    """Raises ValueError for a secret that Telegram does not take."""
    if not _SECRET.fullmatch(secret.key):
        raise ValueError("the secret must be 16 to 256 letters, digits, _ or -")


def submissions(update: Any, name_of: NameOf) -> list[dict[str, Any]]:
    """What an update tells us: nothing (it is no text and no place), one submission, or one and its overflow.

    Raises Rejected (422) for what is no update.
    """
    try:
        known = msgspec.convert(update, _Update)
    except msgspec.ValidationError:
        raise Rejected(422, "invalid", "This is no update of Telegram's", [Mistake("", "not an Update")]) from None
    edited = known.edited_message or known.edited_channel_post
    message = edited or known.message or known.channel_post
    if message is None:
        return []
    words = (message.text or message.caption).strip()
    if not words and edited is None:
        # A live location moves by edits of its message: one tip is enough of it.
        words = _words_of_place(message)
    if not words or _COMMAND.fullmatch(words):
        return []
    return _parts(_submission(message, edited is not None, name_of), words)


def _words_of_place(message: _Message) -> str:
    if message.venue is not None:
        return f"{message.venue.title} {message.venue.address}".strip() or "位置"
    return "位置" if message.location is not None else ""


def _submission(message: _Message, edited: bool, name_of: NameOf) -> dict[str, Any]:
    """All of the submission but its text."""
    name, when = name_of(message.chat.id, message.message_id), message.date
    made: dict[str, Any] = {}
    if edited:
        # An edit is told after the fact and may come several times: a tip of its own, which follows the first.
        when = message.edit_date or message.date
        made["in_reply_to"], name = name, f"{name}:{when}"
    elif message.reply_to_message is not None:
        made["in_reply_to"] = name_of(message.reply_to_message.chat.id, message.reply_to_message.message_id)
    made |= {"message_id": name, "reported_at": format_time(when * SECOND)}
    if message.location is not None:
        made["place"] = {"lat": message.location.latitude, "lon": message.location.longitude}
    if message.sender is not None:
        made["reporter"] = {"id": str(message.sender.id)}
    return made


def _parts(first: dict[str, Any], words: str) -> list[dict[str, Any]]:
    made = [{**first, "text": words[:MAX_TEXT]}]
    if rest := words[MAX_TEXT : 2 * MAX_TEXT].strip():
        name = first["message_id"]
        made.append({**first, "text": rest, "message_id": f"{name}:more", "in_reply_to": name})
    return made


async def post(door: Door, hook: Hook, request: Request) -> Response:
    """Takes one update: 200 with the tip, with what is wrong for good, or with `ignored`."""
    raw = await web.read_body(request, door.limits.body_bytes, door.limits.body_seconds)
    received_at = door.clock()
    given = request.headers.getlist(HEADER)
    if not secret_eq(given[0] if len(given) == 1 else "", hook.secret.key):
        raise unproved()
    door.buckets.take(hook.principal.token_id, 1, received_at)
    web.media_type(request, (JSON,))
    try:
        accepted = await _take(door, hook, parsing.strict_json(raw, door.limits.body_bytes), received_at)
    except Rejected as error:
        if error.status not in HOPELESS:
            raise
        count_refused(door, error)
        return web.answer(problems.of_rejected(error))
    if accepted is None:
        door.metrics.count("tipline_refused_total", reason="ignored")
        return web.answer({"ignored": True})
    return web.answer({"tip_id": accepted.tip_id, "receipt": accepted.receipt})


async def _take(door: Door, hook: Hook, update: Any, received_at: int) -> Accepted | None:
    """The tip of the update, None when it holds none."""
    taken = [
        await door.take(one, hook.principal, received_at)
        for one in submissions(update, lambda chat, message: f"{_chat(door, chat)}:{message}")
    ]
    return taken[0] if taken else None


def _chat(door: Door, chat: int) -> str:
    """A chat's name in message ids. The number of a private chat is its user's own, which no log may show."""
    return str(chat) if chat < 0 else "p-" + door.keyring.digest("telegram.chat", str(chat))[:8].hex()
