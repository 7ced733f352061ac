"""Offline decisions: a file of submissions in, exactly one line out for each, in order. Nothing stored, the same bytes each time."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import orjson

from producers.admission import admit
from producers.client import with_message_ids
from producers.keyring import Keyring
from producers.parsing import Parsed
from schemas import problems
from schemas.errors import Mistake, Rejected
from schemas.records import Tip, public
from schemas.times import parse_time
from streams.embedded.offline import Offline
from streams.ports import Bundle, Principal
from streams.stages.classify import Model

#: Stands for the source of rows that name none.
SOURCE = "file:offline"


class _Refused(NamedTuple):
    line: int
    message_id: str | None
    error: Rejected


def fixed_keyring() -> Keyring:
    """Keys that are no secret: what `process` replaces is sealed nowhere and must come out alike each time."""
    return Keyring.create(_counting())


def _counting() -> Callable[[int], bytes]:
    calls = 0

    def draw(size: int) -> bytes:
        nonlocal calls
        calls += 1
        return hashlib.shake_256(f"tipline process {calls}".encode()).digest(size)

    return draw


def process(
    rows: Iterable[Parsed], bundle: Bundle, model: Model, progress: Callable[[], None] = lambda: None
) -> list[tuple[bool, bytes]]:
    """Parsed rows -> (good, line of JSON) for each, in order.

    `received_at` is `reported_at`, else the line before's, else 1970-01-01T00:00:00Z.
    """
    offline = Offline(bundle, model)
    keyring, draw = fixed_keyring(), _counting()
    county = bundle["county"]["id"]
    received = 0
    order: list[str | _Refused] = []
    principal = Principal("process", "admin")
    named = with_message_ids(rows, b"")
    seen: dict[str, bytes] = {}
    for row in named:
        outcome, received = _admit(row, principal, county, received, keyring, draw, seen)
        if isinstance(outcome, Tip):
            offline.decide([outcome])
            order.append(outcome.tip_id)
        else:
            order.append(outcome)
        progress()
    return [_line(entry, offline) for entry in order]


def _admit(
    row: Parsed,
    principal: Principal,
    county: str,
    received: int,
    keyring: Keyring,
    draw: Callable[[int], bytes],
    seen: dict[str, bytes],
) -> tuple[Tip | _Refused | str, int]:
    if row.problem is not None:
        return _Refused(row.line, None, row.problem), received
    submission: Any = row.submission
    message_id = submission.get("message_id") if isinstance(submission, dict) else None
    try:
        if isinstance(submission, dict):
            submission.setdefault("source", SOURCE)
        reported = submission.get("reported_at") if isinstance(submission, dict) else None
        at = parse_time(reported) if isinstance(reported, str) else received
    except (ValueError, OverflowError):
        at = received
    try:
        admitted = admit(submission, principal, county, at, keyring, draw)
    except Rejected as error:
        return _Refused(row.line, message_id if isinstance(message_id, str) else None, error), received
    tip_id = admitted.tip.tip_id
    if tip_id in seen:
        if seen[tip_id] != admitted.digest:
            return _Refused(
                row.line,
                message_id,
                Rejected(
                    409,
                    "conflict",
                    "This message_id stands on an earlier line with other content",
                    [Mistake("/message_id", "give each message its own id")],
                ),
            ), received
        return tip_id, at
    seen[tip_id] = admitted.digest
    return admitted.tip, at


def _line(entry: str | _Refused, offline: Offline) -> tuple[bool, bytes]:
    if isinstance(entry, str):
        return True, orjson.dumps(public(offline.latest[entry]))
    error = {"title": entry.error.title, "errors": problems.errors(entry.error.title, entry.error.mistakes)}
    return False, orjson.dumps({"line": entry.line, "message_id": entry.message_id, "error": error})


#: What of two decisions on one tip is compared, beside the incident it is in.
COMPARED = ("category", "subtype", "urgent", "area", "station", "cc", "route_id", "level", "due_at", "link")


def differences(running: Sequence[tuple[bool, bytes]], other: Sequence[tuple[bool, bytes]]) -> list[str]:
    """What `process` gave with one county and model and with another -> lines to read: the tips decided differently, then counts.

    Incidents are compared by the tips in them: their ids say nothing."""
    one, two = _decided(running), _decided(other)
    mates, mates_other = _mates(one), _mates(two)
    counts: Counter[str] = Counter()
    lines = []
    for line, before in one.items():
        after = two.get(line)
        if after is None:  # A line that is refused is so by the schema, whatever the county.
            continue
        changed = [f"{name} {_told(before[name])} -> {_told(after[name])}" for name in COMPARED if before[name] != after[name]]
        counts.update(name for name in COMPARED if before[name] != after[name])
        if mates[line] != mates_other[line]:
            counts["incident"] += 1
            changed.append(f"incident with {_told(sorted(mates[line] - {line}))} -> {_told(sorted(mates_other[line] - {line}))}")
        if changed:
            lines.append(f"line {line} {before['message_id']}: " + "; ".join(changed))
    found = ", ".join(f"{name} {n}" for name, n in counts.most_common())
    return [*lines, f"{len(lines)} of {len(one)} tips would be decided differently" + (f": {found}" if found else "")]


def _decided(lines: Sequence[tuple[bool, bytes]]) -> dict[int, dict[str, Any]]:
    return {number: orjson.loads(line) for number, (good, line) in enumerate(lines, 1) if good}


def _mates(decisions: dict[int, dict[str, Any]]) -> dict[int, set[int]]:
    """Line -> the lines of its incident."""
    held: dict[str, set[int]] = {}
    for line, decision in decisions.items():
        held.setdefault(decision["incident_id"], set()).add(line)
    return {line: held[decision["incident_id"]] for line, decision in decisions.items()}


def _told(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(str(v) for v in value) or "none"
    return "none" if value is None else str(value)
