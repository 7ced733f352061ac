"""Admission: a submission becomes a tip, or is refused. Pure, given the keys.

Here the schema is checked, the source is held to the token's, identities leave the record for their seals, and the tip
gets its id, its receipt and the digest by which a redelivery is known. Nothing is written before all of that is done.
"""

from __future__ import annotations

import uuid
from typing import Any, Final

import orjson

from producers import identity
from producers.keyring import Entropy, Keyring
from schemas.errors import Mistake, Rejected
from schemas.records import Attachment, Place, Tip, tip_id_of
from schemas.times import format_time, parse_time
from schemas.validation import mistakes
from schemas.vocabulary import Channel
from streams.ports import Admitted, Principal

#: First part of a source -> its channel, where the submission names none.
CHANNEL_OF: Final[dict[str, Channel]] = {
    "wechat": "volunteer",
    "wecom": "volunteer",
    "qq": "volunteer",
    "telegram": "volunteer",
    "volunteer": "volunteer",
    "hotline": "hotline",
    "bot": "bot",
    "sensor": "bot",
    "web": "web",
}

_MAX_TEXT = 8000
_MAX_PLACE = 200
_MAX_NAME = {"name": 200, "url": 500, "media_type": 100}
#: A long number in an address is more often an object's than a card's: cards are looked for in words only.
_IN_ADDRESSES: Final[frozenset[identity.Kind]] = frozenset({"phone", "id", "account"})

#: (kind, token, plaintext), to be sealed.
Secret = tuple[str, str, str]


def admit(
    submission: Any, principal: Principal, county: str, received_at: int, keyring: Keyring, entropy: Entropy
) -> Admitted:
    """The admitted tip. `received_at` in ms since 1970; `reported_at` stays as sent, however odd (the fold clamps it).

    Raises Rejected: 422 with pointers for what the schema forbids, 403 for a source that is not the token's.
    """
    found = mistakes("submission", submission)
    if found:
        raise invalid([Mistake(identity.mask(one.pointer), identity.mask(one.detail)) for one in found])
    source = _source(submission, principal, received_at)
    _check_times(submission)
    _check_ids(submission, received_at)
    message_id = submission.get("message_id")
    tip_id = tip_id_of(source, message_id) if message_id else str(uuid.UUID(bytes=entropy(16), version=4))
    secrets: list[Secret] = []
    tip = Tip(
        county=county,
        tip_id=tip_id,
        source=source,
        channel=submission.get("channel") or channel_of(source, principal),
        text=_words(submission["text"], "/text", _MAX_TEXT, keyring, secrets),
        received_at=format_time(received_at),
        message_id=message_id,
        reported_at=submission.get("reported_at"),
        occurred_at=submission.get("occurred_at"),
        place=_place(submission.get("place"), keyring, secrets),
        reporter=_reporter(submission.get("reporter") or {}, source, tip_id, keyring, secrets),
        attachments=_attachments(submission.get("attachments") or (), keyring, secrets),
        in_reply_to=submission.get("in_reply_to"),
        category_hint=submission.get("category_hint"),
        lang=submission.get("lang"),
    )
    sealed = keyring.seal(tip_id, _once_each(secrets), entropy)
    return Admitted(tip, content_digest(submission, source, keyring), keyring.receipt(tip_id), sealed)


def _once_each(secrets: list[Secret]) -> list[Secret]:
    """A number that stands in a text twice is sealed once."""
    return list({(kind, token): (kind, token, plaintext) for kind, token, plaintext in reversed(secrets)}.values())


def invalid(found: list[Mistake]) -> Rejected:
    """The refusal of a submission that breaks its schema."""
    return Rejected(422, "invalid", "The submission breaks its schema", found)


def channel_of(source: str, principal: Principal) -> Channel:
    """The channel of a source that names none: by its first part; a hotline's token makes it a hotline."""
    return CHANNEL_OF.get(source.partition(":")[0]) or ("hotline" if principal.role == "hotline" else "partner")


def content_digest(submission: dict[str, Any], source: str, keyring: Keyring) -> bytes:
    """Keyed hash of the submission as sent: tells a redelivery from a conflict; no number can be guessed from it."""
    canonical = orjson.dumps({**submission, "source": source}, option=orjson.OPT_SORT_KEYS)
    return keyring.digest("content", canonical)


def reporter_pseudonym(source: str, reporter: dict[str, str], tip_id: str, keyring: Keyring) -> str:
    """`v-` and 8 hex digits: one for a person within a source, by id or else phone. A name alone names nobody for sure,
    so it makes one for this tip only."""
    if "id" in reporter:
        who = f"id\x1f{reporter['id'].strip()}"
    elif "phone" in reporter:
        who = f"phone\x1f{identity.normal_phone(reporter['phone'])}"
    else:
        who = f"tip\x1f{tip_id}"
    return "v-" + keyring.token("reporter", f"{source}\x1f{who}")


def telling(source: str, now: int) -> str | None:
    """Why a source may not be used: it holds a person's number, and stands as it is in records and topics."""
    if identity.mobile_in_source(source):
        kind = "a mobile number"
    elif identity.card_in(source, now):
        kind = "an identity card's number"
    else:
        return None
    return f"holds {kind}, and a source stays as it is: name it by what it is, like wechat:xiliangwa-3; the number belongs in reporter.phone or reporter.id, which are sealed"


def _check_ids(submission: dict[str, Any], now: int) -> None:
    """A message_id is the key and comes back in decisions, so that nothing in it can be replaced. Raises Rejected."""
    found = []
    for name in ("message_id", "in_reply_to"):
        value = submission.get(name) or ""
        card = identity.card_in(value, now)
        if card or identity.mobile_in_id(value):
            kind = "an identity card's number" if card else "a mobile number"
            words = f"holds {kind}, and an id stays as it is: send your system's own number of the message, or a keyed hash of this one"
            found.append(Mistake(f"/{name}", words))
    if found:
        raise invalid(found)


def _source(submission: dict[str, Any], principal: Principal, now: int) -> str:
    given: str | None = submission.get("source")
    if principal.source is None:
        if given is None:
            raise invalid([Mistake("/source", "required: the token is bound to no source")])
        if (why := telling(given, now)) is not None:
            raise invalid([Mistake("/source", why)])
        return given
    if given is not None and given != principal.source:
        raise Rejected(
            403,
            "source",
            "The token is bound to another source",
            [Mistake("/source", "leave it out, or use its token")],
        )
    return principal.source


def _check_times(submission: dict[str, Any]) -> None:
    """RFC 3339 knows times that no calendar here does (a leap second, the year 0)."""
    for name in ("reported_at", "occurred_at"):
        try:
            parse_time(submission.get(name) or "1970-01-01T00:00:00Z")
        except (ValueError, OverflowError):
            raise invalid([Mistake(f"/{name}", "is no time of the calendar")]) from None


def _words(
    text: str,
    pointer: str,
    limit: int,
    keyring: Keyring,
    secrets: list[Secret],
    kinds: frozenset[identity.Kind] = identity.KINDS,
) -> str:
    words, replaced = identity.replace(text, keyring.token, kinds)
    secrets += [(one.kind, one.token, one.original) for one in replaced]
    if len(words) > limit:
        raise invalid(
            [
                Mistake(
                    pointer, f"holds too many phone, card or account numbers: over {limit} characters with their tokens"
                )
            ]
        )
    return words


def _place(place: dict[str, Any] | None, keyring: Keyring, secrets: list[Secret]) -> Place | None:
    if not place:
        return None
    text = place.get("text")
    lat, lon = place.get("lat"), place.get("lon")
    return Place(
        text=None if text is None else _words(text, "/place/text", _MAX_PLACE, keyring, secrets),
        lat=None if lat is None else float(lat),
        lon=None if lon is None else float(lon),
        area=place.get("area"),
    )


def _reporter(
    reporter: dict[str, str], source: str, tip_id: str, keyring: Keyring, secrets: list[Secret]
) -> str | None:
    if not reporter:
        return None
    pseudonym = reporter_pseudonym(source, reporter, tip_id, keyring)
    secrets += [(f"reporter.{name}", pseudonym, value) for name, value in reporter.items()]
    return pseudonym


def _attachments(items: Any, keyring: Keyring, secrets: list[Secret]) -> tuple[Attachment, ...]:
    return tuple(_attachment(item, f"/attachments/{index}", keyring, secrets) for index, item in enumerate(items))


def _attachment(item: dict[str, str], pointer: str, keyring: Keyring, secrets: list[Secret]) -> Attachment:
    words = {
        name: _words(
            item[name],
            f"{pointer}/{name}",
            limit,
            keyring,
            secrets,
            identity.KINDS if name == "name" else _IN_ADDRESSES,
        )
        for name, limit in _MAX_NAME.items()
        if name in item
    }
    return Attachment(sha256=item.get("sha256"), **words)
