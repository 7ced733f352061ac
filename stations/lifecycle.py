"""The life of an assignment: one table of moves, and what each does. Pure: no database, no clock.

Statuses: open -> claimed -> acknowledged -> in_progress -> resolved. A claim holds by a lease that runs out to
`open`; acknowledging ends the lease and sets an owner. Returned, transferred, escalated and reopened put it back to
`open` at its new place. What nobody does by hand happens by itself at its exact moment: `settle`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final, Literal

import msgspec

from schemas.errors import Mistake, Rejected
from schemas.times import SECOND
from schemas.vocabulary import Role, Status
from sinks.station_queue import Assignment, Event, wake
from stations.ladder import Ladders, Step, arrive, lay_open, run_clock

Move = Literal[
    "claim",
    "heartbeat",
    "acknowledge",
    "start",
    "release",
    "return",
    "transfer",
    "escalate",
    "resolve",
    "reopen",
    "note",
]

#: Who may work: a station on its own queue, the county on each of its queues.
WORKERS: Final[tuple[Role, ...]] = ("station", "county", "admin")

LEASE_S: Final = 900
MOST_LEASE_S: Final = 24 * 3600

#: Why a station returns an item: codes with the words people use. Other words are kept as they are, under `other`.
RETURN_REASONS: Final[dict[str, str]] = {
    "wrong_area": "属地不符",
    "wrong_ownership": "权属不清",
    "overlapping_duties": "职能交叉",
    "wrong_category": "类别不符",
    "other": "其他",
}

_HELD: Final[tuple[Status, ...]] = ("claimed", "acknowledged", "in_progress")
_LIVE: Final[tuple[Status, ...]] = ("open", *_HELD)
_ANY: Final[tuple[Status, ...]] = (*_LIVE, "resolved")


class Field(msgspec.Struct, frozen=True):
    """A field of a move's body: text of 1 to `most` characters, or a whole number of 1 to `most`."""

    name: str
    kind: Literal["text", "number"]
    most: int
    required: bool = True


class Rule(msgspec.Struct, frozen=True):
    """One move: from which statuses, to which (None: as it is), with what body, and the name of its event."""

    sources: tuple[Status, ...]
    target: Status | None
    event: str
    body: tuple[Field, ...] = ()
    roles: tuple[Role, ...] = WORKERS


_REASON: Final = Field("reason", "text", 1000)
_LEASE: Final = Field("lease_s", "number", MOST_LEASE_S, required=False)

MOVES: Final[Mapping[Move, Rule]] = {
    "claim": Rule(("open",), "claimed", "claimed", (_LEASE,)),
    "heartbeat": Rule(("claimed",), None, "heartbeat", (_LEASE,)),
    "acknowledge": Rule(("claimed",), "acknowledged", "acknowledged"),
    "start": Rule(("claimed", "acknowledged"), "in_progress", "started"),
    "release": Rule(_HELD, "open", "released"),
    "return": Rule(_LIVE, "open", "returned", (_REASON,)),
    "transfer": Rule(_LIVE, "open", "transferred", (Field("station", "text", 128), _REASON)),
    "escalate": Rule(_LIVE, "open", "escalated", (_REASON,)),
    "resolve": Rule(_HELD, "resolved", "resolved", (Field("outcome", "text", 100), Field("text", "text", 4000, False))),
    "reopen": Rule(("resolved",), "open", "reopened", (Field("reason", "text", 1000, False),)),
    "note": Rule(_ANY, None, "noted", (Field("text", "text", 4000),)),
}

#: What the machine does: expired (lease), escalated, overdue; and the sink: dispatched, updated, rerouted, merged, …
MACHINE_EVENTS: Final = ("expired", "escalated", "overdue")


class NotAllowed(Rejected):
    """The move is not possible now; `allowed` are those that are."""

    def __init__(self, move: str, allowed: Collection[Move], why: str) -> None:
        words = ", ".join(allowed) or "none"
        super().__init__(409, "not_allowed", f"{move} is not allowed: {why}", [Mistake("", f"allowed now: {words}")])
        self.allowed = tuple(allowed)


class Actor(msgspec.Struct, frozen=True):
    """Who moves: a token's id and role; never a name."""

    id: str
    role: Role


def allowed(ladders: Ladders, item: Assignment) -> tuple[Move, ...]:
    """The moves that the item's state admits, in the table's order."""
    return tuple(move for move in MOVES if refusal(ladders, item, move) is None)


def refusal(ladders: Ladders, item: Assignment, move: Move) -> str | None:
    """Why a move is not possible now; None when it is."""
    if item.status not in MOVES[move].sources:
        return f"it is {item.status}"
    if item.merged_into is not None and move != "note":
        return f"it was merged into incident {item.merged_into}"
    if move == "return" and item.station == ladders.arbiter(item):
        return "its station has the last word"
    if move == "escalate" and ladders.above(item) is None:
        return "there is no level above"
    return None


def check_body(move: Move, document: object) -> dict[str, Any]:
    """The body of a move, checked. Raises Rejected (422) with a pointer for each fault."""
    rule = MOVES[move]
    given = {} if document is None else document
    if not isinstance(given, dict):
        raise invalid([Mistake("", "must be an object")])
    known = {field.name: field for field in rule.body}
    faults = [Mistake(f"/{pointer(name)}", "unknown field") for name in given if name not in known]
    for field in rule.body:
        fault = _fault(field, given.get(field.name))
        if fault is not None:
            faults.append(Mistake(f"/{field.name}", fault))
    if faults:
        raise invalid(faults)
    return {name: given[name] for name in known if given.get(name) is not None}


def invalid(faults: Collection[Mistake]) -> Rejected:
    """The refusal of a body that says what it may not."""
    return Rejected(422, "invalid", "The body does not fit", tuple(faults))


def misasked(parameter: str, detail: str) -> Rejected:
    """The refusal of a query that asks what it may not: the parameter, and what is wrong with it."""
    return Rejected(422, "invalid", "The query does not fit", (Mistake(f"/{pointer(parameter)}", detail),))


def pointer(name: object) -> str:
    return "".join(c if c.isprintable() else "?" for c in str(name)[:40]).replace("~", "~0").replace("/", "~1")


def _fault(field: Field, value: object) -> str | None:
    if value is None:
        return "required" if field.required else None
    if field.kind == "number":
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= field.most:
            return f"must be a whole number from 1 to {field.most}"
        return None
    if not isinstance(value, str) or not value.strip() or len(value) > field.most or "\0" in value:
        return f"must be text of 1 to {field.most} characters, not blank"
    return None


def return_reason(words: str) -> str:
    """The code of a return's reason: a code or its Chinese word, perhaps with more said after it; anything else is
    `other`."""
    for code, zh in RETURN_REASONS.items():
        if words.strip().startswith((code, zh)):
            return code
    return "other"


def make(
    ladders: Ladders,
    item: Assignment,
    cc: Collection[str],
    move: Move,
    body: Mapping[str, Any],
    *,
    actor: Actor,
    now: int,
) -> Event:
    """Makes a move on the item (in place) -> its event. `settle` it first. Raises NotAllowed, or Rejected for what the
    body asks.

    Nothing is changed when it raises.
    """
    why = refusal(ladders, item, move)
    if why is not None:
        raise NotAllowed(move, allowed(ladders, item), why)
    before = item.station
    shown = _EFFECTS[move](ladders, item, cc, body, actor, now)
    if move not in ("note", "heartbeat"):
        item.touched = True
    return Event(
        kind=MOVES[move].event,
        at=now,
        actor=actor.id,
        role=actor.role,
        reason=body.get("reason"),
        from_station=before if item.station != before else None,
        data=shown,
    )


# --- what each move does: (ladders, item, cc, body, actor, now) -> what its event shows
# -----------------------------------


def _claim(
    _l: Ladders, item: Assignment, _cc: Collection[str], body: Mapping[str, Any], actor: Actor, now: int
) -> dict[str, Any]:
    item.status, item.lease_holder = "claimed", actor.id
    # The revision that this claim makes: it only grows, and no If-Match for a revision can pass for a token.
    item.lease_token = item.revision + 1
    item.lease_expires = now + body.get("lease_s", LEASE_S) * SECOND
    run_clock(_l, item, now)
    return {"lease_token": item.lease_token}


def _heartbeat(
    _l: Ladders, item: Assignment, _cc: Collection[str], body: Mapping[str, Any], _a: Actor, now: int
) -> dict[str, Any]:
    item.lease_expires = now + body.get("lease_s", LEASE_S) * SECOND
    return {}


def _acknowledge(
    _l: Ladders, item: Assignment, _cc: Collection[str], _b: Mapping[str, Any], actor: Actor, now: int
) -> dict[str, Any]:
    item.status, item.owner, item.lease_expires, item.lease_holder = "acknowledged", actor.id, None, None
    run_clock(_l, item, now)
    return {"owner": actor.id}


def _start(
    _l: Ladders, item: Assignment, _cc: Collection[str], _b: Mapping[str, Any], actor: Actor, now: int
) -> dict[str, Any]:
    item.status, item.lease_expires, item.lease_holder = "in_progress", None, None
    item.owner = item.owner or actor.id
    run_clock(_l, item, now)
    return {"owner": item.owner}


def _release(
    ladders: Ladders, item: Assignment, _cc: Collection[str], _b: Mapping[str, Any], _a: Actor, now: int
) -> dict[str, Any]:
    lay_open(ladders, item, now)
    return {}


def _return(
    ladders: Ladders, item: Assignment, cc: Collection[str], body: Mapping[str, Any], _a: Actor, now: int
) -> dict[str, Any]:
    item.returns += 1
    step = ladders.after_return(item, cc)
    assert step is not None, "refusal() let a return from the last instance pass"
    lay_open(ladders, item, now)
    item.returned_by = ",".join(sorted({*filter(None, item.returned_by.split(",")), item.station}))
    item.station, item.level = step.station, step.level
    return {"code": return_reason(body["reason"]), "returns": item.returns}


def _transfer(
    ladders: Ladders, item: Assignment, _cc: Collection[str], body: Mapping[str, Any], actor: Actor, now: int
) -> dict[str, Any]:
    stations, wanted = ladders.county.stations, body["station"]
    if wanted not in stations:
        raise invalid([Mistake("/station", "no such station in this county")])
    if wanted == item.station:
        raise invalid([Mistake("/station", "it is there already")])
    here = stations.get(item.station)
    if here is not None and here.restricted and not stations[wanted].restricted:
        if ladders.restricted(item):
            raise invalid([Mistake("/station", "a restricted item stays among restricted stations")])
        if actor.role == "station":
            words = "a restricted station hands on to restricted stations; what came to it by mistake goes back by `return`, or the county transfers it"
            raise invalid([Mistake("/station", words)])
    lay_open(ladders, item, now)
    item.station, item.level = wanted, ladders.level_of(wanted)
    return {"station": wanted}


def _escalate(
    ladders: Ladders, item: Assignment, _cc: Collection[str], _b: Mapping[str, Any], _a: Actor, now: int
) -> dict[str, Any]:
    step = ladders.above(item)
    assert step is not None, "refusal() let an escalation from the top pass"
    shown = {"from_level": item.level, "level": step.level}
    arrive(ladders, item, step, now)
    return shown


def _resolve(
    ladders: Ladders, item: Assignment, _cc: Collection[str], body: Mapping[str, Any], _a: Actor, now: int
) -> dict[str, Any]:
    item.status, item.outcome, item.resolved_at, item.resolved_level = "resolved", body["outcome"], now, item.level
    item.lease_expires, item.lease_holder, item.overdue = None, None, False
    run_clock(ladders, item, now)
    return {"outcome": body["outcome"], "text": body.get("text"), "level": item.level}


def _reopen(
    ladders: Ladders, item: Assignment, _cc: Collection[str], _b: Mapping[str, Any], _a: Actor, now: int
) -> dict[str, Any]:
    shown = {"outcome": item.outcome}
    item.status, item.since, item.owner = "open", now, None
    item.outcome, item.resolved_at, item.resolved_level = None, None, None
    run_clock(ladders, item, now)
    return shown


def _note(
    _l: Ladders, _i: Assignment, _cc: Collection[str], body: Mapping[str, Any], _a: Actor, _n: int
) -> dict[str, Any]:
    return {"text": body["text"]}


_EFFECTS: Final = {
    "claim": _claim,
    "heartbeat": _heartbeat,
    "acknowledge": _acknowledge,
    "start": _start,
    "release": _release,
    "return": _return,
    "transfer": _transfer,
    "escalate": _escalate,
    "resolve": _resolve,
    "reopen": _reopen,
    "note": _note,
}


# --- what happens by itself
# ------------------------------------------------------------------------------------------------


def settle(ladders: Ladders, item: Assignment, now: int) -> Iterator[Event]:
    """Whatever came due by `now`, in the order of its moments: the lease that ran out, the clock that ended.

    Changes the item and yields an event for each change, dated at the moment it was due: late or restarted, the
    history is the same.
    Exhaust it.
    """
    while wake(item) <= now:
        if item.status == "claimed" and item.lease_expires is not None and item.lease_expires <= item.due_at:
            yield _expire(ladders, item, item.lease_expires)
        elif item.overdue:
            yield _expire(ladders, item, item.lease_expires or now)
        else:
            yield _climb(ladders, item)


def _expire(ladders: Ladders, item: Assignment, at: int) -> Event:
    holder = item.lease_holder
    lay_open(ladders, item, at)
    return Event(kind="expired", at=at, data={"holder": holder})


def _climb(ladders: Ladders, item: Assignment) -> Event:
    """The running clock ended: up the ladder, or overdue where it ends."""
    at, clock, before = item.due_at, item.clock, Step(item.station, item.level)
    step = ladders.above(item)
    if step is None:
        item.overdue = True
        return Event(kind="overdue", at=at, reason=f"{clock} clock", data={"clock": clock})
    arrive(ladders, item, step, at)
    shown = {"clock": clock, "from_level": before.level, "level": step.level}
    return Event(kind="escalated", at=at, reason=f"{clock} clock", from_station=before.station, data=shown)
