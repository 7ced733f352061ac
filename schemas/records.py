"""Record types of the logs: what `tips` and `decisions` carry, as typed structs.

`tips` is the one ordered input of a county: `Tip`, `Correction`, `Closure`, `Change`. `decisions` carries `Decision` and
`StateChange`. The JSON Schemas under `json/` say the same for everybody else; a test holds the two together.
Times are RFC 3339 strings at this level; see `schemas.times` for the arithmetic.
"""

from __future__ import annotations

import uuid
from typing import Any, Final

import msgspec

from schemas.vocabulary import Category, Channel, Level, Link

#: `tip_id` is uuid5 of this and `<source>\x1f<message_id>`. Part of the contract: never to change. It is
#: itself the uuid5 of the URL `urn:tipline:tip`.
NAMESPACE: Final = uuid.UUID("3cdead9b-4684-5aa8-9e0b-d0cbf080a93c")


def tip_id_of(source: str, message_id: str) -> str:
    """The id of the tip that a source sent under a message id."""
    return str(uuid.uuid5(NAMESPACE, f"{source}\x1f{message_id}"))


class Record(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", omit_defaults=True):
    """Base of all records; `county` is the partition key."""

    county: str


class Place(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where, as the channel gives it: words, WGS-84 degrees, or an area path."""

    text: str | None = None
    lat: float | None = None
    lon: float | None = None
    area: str | None = None


class Attachment(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A file that stays where it is; never fetched."""

    url: str | None = None
    media_type: str | None = None
    sha256: str | None = None
    name: str | None = None


class Tip(Record, frozen=True, kw_only=True, omit_defaults=True, tag="tip"):
    """One admitted submission by one reporter through one channel; immutable."""

    tip_id: str
    source: str
    channel: Channel
    text: str
    received_at: str
    message_id: str | None = None
    reported_at: str | None = None
    occurred_at: str | None = None
    place: Place | None = None
    #: Pseudonym of the reporter, per source.
    reporter: str | None = None
    attachments: tuple[Attachment, ...] = ()
    in_reply_to: str | None = None
    category_hint: Category | None = None
    lang: str | None = None


class Correction(Record, frozen=True, kw_only=True, omit_defaults=True, tag="correction"):
    """Merge, split, relabel or relocate by a person; wins over the machine, for later arrivals too."""

    correction_id: str
    action: str
    incident_id: str
    reason: str
    by: str
    at: str
    into: str | None = None
    tip_ids: tuple[str, ...] = ()
    category: Category | None = None
    subtype: str | None = None
    urgent: bool | None = None
    area: str | None = None


class Closure(Record, frozen=True, kw_only=True, omit_defaults=True, tag="closure"):
    """An incident closed (or, `closed=False`, reopened) by its station."""

    closure_id: str
    incident_id: str
    closed: bool
    at: str
    outcome: str | None = None


class Change(Record, frozen=True, kw_only=True, omit_defaults=True, tag="change"):
    """A new county directory (as one compiled document) or model, in force from here on."""

    change_id: str
    what: str
    digest: str
    at: str
    bundle: dict[str, Any] | None = None


Input = Tip | Correction | Closure | Change


class Reason(msgspec.Struct, frozen=True):
    """Why: `kind` of step, `cue` that was seen, `detail` in words."""

    kind: str
    cue: str
    detail: str


class AreaCandidate(msgspec.Struct, frozen=True):
    """One area a tip may lie in; `score` in 0..1."""

    area: str
    score: float
    reason: str


class Quantity(msgspec.Struct, frozen=True):
    """A number with a unit, as read (`value`, `unit`) and as written (`text`)."""

    value: float
    unit: str
    text: str


class Versions(msgspec.Struct, frozen=True):
    """What made a decision: code, schema, county digest and model digest."""

    core: str
    schema: str
    county: str
    model: str


class MergedIncident(msgspec.Struct, frozen=True):
    """An incident id that now answers with another."""

    incident_id: str
    into: str


class Decision(Record, frozen=True, kw_only=True, tag="decision"):
    """The record for one tip and revision. `memory` and `position` stay in the log; see `public`."""

    tip_id: str
    message_id: str | None
    source: str
    channel: Channel
    revision: int
    cause: str
    category: Category
    subtype: str | None
    urgent: bool
    confidence: float
    area: str | None
    area_candidates: tuple[AreaCandidate, ...]
    parties: tuple[str, ...]
    quantities: tuple[Quantity, ...]
    incident_id: str
    link: Link
    link_to: str | None
    pattern_id: str | None
    corroborations: int
    station: str
    cc: tuple[str, ...]
    route_id: str
    level: Level
    due_at: str | None
    title: str
    occurred_at: str
    received_at: str
    no_action: bool
    merged: tuple[MergedIncident, ...]
    reasons: tuple[Reason, ...]
    versions: Versions
    #: Position in `tips` of the record that caused it.
    position: int = 0
    #: The change to the fold's state; opaque to everyone else.
    memory: Any = None


class StateChange(Record, frozen=True, kw_only=True, tag="state_change"):
    """A change of the fold's state that no tip's decision carries: a closure, a constraint, a county or model."""

    position: int
    memory: Any


Output = Decision | StateChange

_PRIVATE = ("type", "position", "memory")


def public(decision: Decision) -> dict[str, Any]:
    """The decision as `decision.v1.json` gives it to consumers."""
    document: dict[str, Any] = msgspec.to_builtins(decision)
    for name in _PRIVATE:
        document.pop(name, None)
    return document
