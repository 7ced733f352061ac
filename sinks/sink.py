"""From the log `decisions` to the tables, in the caller's transaction: the log itself, incidents, queue, statistics.

Idempotent by natural keys: a decision is known by (tip_id, revision), a change of state by its place. What is known
already is skipped whole, so applying the same outputs again leaves every table as it was. The highest revision of a tip
wins.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Collection, Iterable, Sequence
from functools import cache
from itertools import groupby
from operator import itemgetter
from typing import Any, Final

import msgspec
from sqlalchemy import BindParameter, Connection, Select, Table, bindparam, delete, select

from schemas.codec import decode_output, encode
from schemas.records import Decision, Output, StateChange
from schemas.times import parse_time
from schemas.topics import TIPS
from sinks.database import take_numbers, upsert
from sinks.outbox import put_closure
from sinks.station_queue import Assignment, Book, CountyConfig, Told, abandon, chunks, follow, merge
from sinks.statistics import add, contributions, hour_start
from sinks.sums import KEPT, Sums, says_the_same
from sinks.tables import NEVER, decisions, incident_sums, incident_tips, incidents, outbox, positions

_Record = dict[str, Any]

#: The consumer that decides: how far it has read a county's `tips` is how far they are decided.
DECIDED: Final = "runtime"


# Statements are made once: building one costs several times what running it does.
_WANTED: Final[BindParameter[Any]] = bindparam("wanted", expanding=True)
_KNOWN: Final = select(decisions.c.tip_id, decisions.c.revision).where(
    decisions.c.tip_id.in_(_WANTED), decisions.c.revision.in_(bindparam("revisions", expanding=True))
)
_KNOWN_CHANGES: Final = select(decisions.c.change_key).where(decisions.c.change_key.in_(_WANTED))
_FORGET: Final = delete(incident_sums).where(incident_sums.c.incident_id.in_(_WANTED))


#: When the tip of a position came, and what a correction at one was: it left by the outbox.
_CAME: Final = (
    select(decisions.c.position, incident_tips.c.received_at)
    .join(incident_tips, incident_tips.c.tip_id == decisions.c.tip_id)
    .where(decisions.c.county == bindparam("county"), decisions.c.position.in_(_WANTED), decisions.c.revision == 1)
)
_CHANGED: Final = select(decisions.c.position, decisions.c.value).where(
    decisions.c.county == bindparam("county"), decisions.c.position.in_(_WANTED), decisions.c.kind == "state_change"
)
_LEFT: Final = select(outbox.c.key, outbox.c.created_at).where(outbox.c.kind == "input", outbox.c.key.in_(_WANTED))


@cache
def _selecting(table: Table, column: str) -> Select[Any]:
    return select(table).where(table.c[column].in_(_WANTED))


class AppliedEvents(msgspec.Struct, frozen=True):
    """What a call changed: the decisions that were new, how many outputs were known, and who should hear of it."""

    decisions: tuple[Decision, ...]
    skipped: int
    #: Last number of the county's log `decisions`.
    seq: int
    #: Stations whose stream of events grew.
    stations: frozenset[str]


def apply_outputs(
    connection: Connection, county: str, outputs: Sequence[Output], *, now: int, county_config: CountyConfig
) -> AppliedEvents:
    """Writes a county's outputs, in their order, to the log and to all tables. The caller commits.

    `now` (ms) dates what no tip's arrival dates, such as the effects of a correction. Raises ValueError for another
    county's record.
    """
    if any(output.county != county for output in outputs):
        raise ValueError(f"every record of this call must be of {county}")
    # Taking no number locks the counter: two sinks of one county write one after the other.
    seq = take_numbers(connection, {f"decisions/{county}": 0})[f"decisions/{county}"] - 1
    fresh = _unknown(connection, outputs)
    if not fresh:
        return AppliedEvents((), len(outputs), seq, frozenset())
    first = take_numbers(connection, {f"decisions/{county}": len(fresh)})[f"decisions/{county}"]
    connection.execute(decisions.insert(), [_log_row(first + i, key, output) for i, (key, output) in enumerate(fresh)])
    made = tuple(output for _, output in fresh if isinstance(output, Decision))
    stations = _Application(connection, now, county_config).run(made)
    return AppliedEvents(made, len(outputs) - len(fresh), first + len(fresh) - 1, stations)


def _unknown(connection: Connection, outputs: Sequence[Output]) -> list[tuple[str, Output]]:
    """The outputs that the log does not hold, each with its natural key."""
    keyed = _keyed(outputs)
    known: set[str] = set()
    named = sorted({(output.revision, output.tip_id) for _, output in keyed if isinstance(output, Decision)})
    first = bisect(named, 1, key=itemgetter(0))
    # Not all revisions of the tips: the first tip of a large incident has as many as that has tips. First ones apart, or
    # each of many new tips would be looked up with every number that this one tip has come to.
    for pairs in (*chunks(named[:first]), *chunks(named[first:])):
        tips, revisions = sorted({tip_id for _, tip_id in pairs}), sorted({revision for revision, _ in pairs})
        found = connection.execute(_KNOWN, {"wanted": tips, "revisions": revisions})
        known.update(f"{tip_id}/{revision}" for tip_id, revision in found)
    for part in chunks([key for key, output in keyed if isinstance(output, StateChange)]):
        known.update(connection.execute(_KNOWN_CHANGES, {"wanted": part}).scalars())
    fresh: list[tuple[str, Output]] = []
    for key, output in keyed:
        if key not in known:
            known.add(key)
            fresh.append((key, output))
    return fresh


def _keyed(outputs: Sequence[Output]) -> list[tuple[str, Output]]:
    """Natural keys. All changes of one record of the input come in one call, so their order within it numbers them."""
    ordinals: dict[int, int] = {}
    keyed: list[tuple[str, Output]] = []
    for output in outputs:
        if isinstance(output, Decision):
            keyed.append((f"{output.tip_id}/{output.revision}", output))
        else:
            ordinals[output.position] = ordinals.get(output.position, -1) + 1
            keyed.append((f"{output.county}/{output.position}/{ordinals[output.position]}", output))
    return keyed


def _log_row(seq: int, key: str, output: Output) -> _Record:
    decision = output if isinstance(output, Decision) else None
    return {
        "county": output.county,
        "seq": seq,
        "tip_id": None if decision is None else decision.tip_id,
        "revision": None if decision is None else decision.revision,
        "position": output.position,
        "kind": "state_change" if decision is None else "decision",
        "incident_id": None if decision is None else decision.incident_id,
        "change_key": key if decision is None else None,
        "value": encode(output),
    }


class _Application:
    """One call's work in memory: the incidents it touches, their sums, and as many of their tips as it takes."""

    def __init__(self, connection: Connection, now: int, county: CountyConfig) -> None:
        self._connection = connection
        self._now = now
        self._county = county
        self._book = Book(connection)
        self._incidents: dict[str, _Record] = {}
        #: Their tips at hand, as they are now: all, but for those of `_partly`.
        self._members: dict[str, dict[str, _Record]] = {}
        self._home: dict[str, str] = {}
        #: Incidents of so many tips that only those that are asked for were read.
        self._partly: set[str] = set()
        #: What is not here is summed when it is asked for.
        self._sums: dict[str, Sums] = {}
        #: Those whose sums the table has.
        self._kept: set[str] = set()
        #: The tips at hand as they were read, and those of them that stood for an incident.
        self._read: list[_Record] = []
        self._led: set[str | None] = set()

    def run(self, made: Sequence[Decision]) -> frozenset[str]:
        self._load(made)
        touched_tips: dict[str, None] = {}
        # One record of the input at a time: all it changed is told together, however the log was cut into calls.
        for _, group in groupby(made, key=lambda decision: decision.position):
            touched_tips.update(dict.fromkeys(self._apply(list(group))))
        self._settle()
        self._count()
        self._keep()
        upsert(self._connection, incidents, list(self._incidents.values()))
        upsert(self._connection, incident_tips, [self._members[self._home[tip]][tip] for tip in touched_tips])
        return self._book.save()

    def _load(self, made: Sequence[Decision]) -> None:
        known = list(_rows(self._connection, incident_tips, "tip_id", {decision.tip_id for decision in made}))
        wanted = {decision.incident_id for decision in made} | {row["incident_id"] for row in known}
        for decision in made:
            for merged in decision.merged:
                wanted.update((merged.incident_id, merged.into))
        for row in _rows(self._connection, incidents, "incident_id", wanted):
            self._incidents[row["incident_id"]] = row
            self._led.add(row["lead_tip"])
            if row["tips"] > KEPT:
                self._partly.add(row["incident_id"])
        for row in _rows(self._connection, incident_sums, "incident_id", self._partly):
            self._sums.setdefault(row["incident_id"], Sums()).restore(row)
        self._kept = set(self._sums)
        self._take_in(known)
        # Who stood for a large incident may stand for it no longer.
        leads = {self._incidents[identity]["lead_tip"] for identity in self._partly}
        self._take_in(_rows(self._connection, incident_tips, "tip_id", leads))
        self._take_in(_rows(self._connection, incident_tips, "incident_id", set(self._incidents) - self._partly))
        self._book.load(incidents=wanted)

    def _take_in(self, rows: Iterable[_Record]) -> None:
        """Tips as the table has them; those at hand stay as they are."""
        for row in rows:
            if row["tip_id"] not in self._home:
                self._members.setdefault(row["incident_id"], {})[row["tip_id"]] = row
                self._home[row["tip_id"]] = row["incident_id"]
                self._read.append(row)

    def _sums_of(self, identity: str) -> Sums:
        sums = self._sums.get(identity)
        if sums is None:
            if identity in self._partly:
                self._take_in(_rows(self._connection, incident_tips, "incident_id", {identity}))
                self._partly.remove(identity)
            sums = self._sums[identity] = Sums(self._members.get(identity, {}).values())
        return sums

    def _apply(self, group: Sequence[Decision]) -> list[str]:
        """The decisions that one record caused -> the tips whose rows changed."""
        at = next((parse_time(d.received_at) for d in group if d.cause == "tip"), self._now)
        told: dict[str, Decision] = {}
        moved_on: dict[str, str] = {}
        changed = []
        merges: dict[str, Decision] = {}
        for decision in group:
            if self._place(decision):
                changed.append(decision.tip_id)
                merges.update((merged.incident_id, decision) for merged in decision.merged)
                told.pop(decision.incident_id, None)
                told[decision.incident_id] = decision
                if decision.cause == "tip" and decision.link == "update":
                    moved_on[decision.incident_id] = decision.tip_id
        for identity, decision in told.items():
            if self._sums_of(identity).tips:  # it may have lost its tips to a later decision of the same record
                self._tell(decision, at, moved_on.get(identity))
        for gone, decision in merges.items():
            into = next(merged.into for merged in decision.merged if merged.incident_id == gone)
            self._merge(gone, into, at, decision.cause)
        return changed

    def _place(self, decision: Decision) -> bool:
        """Puts a tip where its decision says; False when a later revision of it is known."""
        home = self._home.get(decision.tip_id)
        known = None if home is None else self._members[home][decision.tip_id]
        if known is not None and known["revision"] >= decision.revision:
            return False
        row, identity = _tip_row(decision, self._county.offset_minutes), decision.incident_id
        if home is not None and home != identity:
            del self._members[home][decision.tip_id]
        self._members.setdefault(identity, {})[decision.tip_id] = row
        self._home[decision.tip_id] = identity
        if known is None or not says_the_same(known, row):
            if home is not None:
                self._sums.pop(home, None)  # What it said before cannot be taken out: they are made anew.
            if identity in self._sums:
                self._sums[identity].add(row)
        return True

    def _tell(self, decision: Decision, at: int, moved_on: str | None) -> None:
        """An incident's row and queue, as its tips now tell it together."""
        identity, sums = decision.incident_id, self._sums_of(decision.incident_id)
        before, shown, received = self._incidents.get(identity), sums.together(), sums.received_at
        routed: dict[str, Any] = {
            "county": decision.county,
            "station": decision.station,
            "level": decision.level,
            "route_id": decision.route_id,
            "no_action": decision.no_action,
            "corroborations": decision.corroborations,
        }
        self._incidents[identity] = {
            "incident_id": identity,
            **routed,
            **shown,
            "pattern_id": decision.pattern_id,
            "occurred_at": sums.occurred_at,
            "received_at": received,
            "last_received_at": sums.last_received_at,
            "tips": sums.tips,
            "lead_tip": sums.lead_tip,
            "merged_into": None,
            "revision": 1 if before is None else before["revision"] + 1,
        }
        told = Told(
            incident_id=identity,
            **routed,
            **shown,
            cc=decision.cc,
            received_at=received,
            due_at=NEVER if decision.due_at is None else parse_time(decision.due_at),
            at=at,
            cause=decision.cause,
            routed_before=None if before is None else before["station"],
            moved_on=moved_on,
        )
        self._reopened(follow(self._book, told, self._county), at)

    def _merge(self, merged: str, into: str, at: int, cause: str) -> None:
        row = self._incidents.get(merged)
        if row is not None and row["merged_into"] != into:
            row["merged_into"], row["revision"] = into, row["revision"] + 1
        self._reopened(merge(self._book, merged, into, at=at, cause=cause), at)

    def _reopened(self, item: Assignment | None, at: int) -> None:
        if item is not None:
            put_closure(self._connection, item, closed=False, at=at, now=self._now)

    def _settle(self) -> None:
        """What only the end of the call can tell: incidents that lost tips, or all of them."""
        for identity, row in self._incidents.items():
            sums = self._sums_of(identity)
            row["tips"], row["lead_tip"] = sums.tips, sums.lead_tip
            if not sums.tips and row["merged_into"] is None:
                abandon(self._book, identity, self._now)

    def _count(self) -> None:
        """Statistics: tips that are not at hand count as before, for they neither changed nor began or ceased to lead."""
        now = (tip for members in self._members.values() for tip in members.values())
        leads = {row["lead_tip"] for row in self._incidents.values()}
        add(self._connection, contributions(self._read, self._led), contributions(now, leads))

    def _keep(self) -> None:
        """The sums of large incidents, for the next call."""
        for part in chunks(sorted(self._kept)):
            self._connection.execute(_FORGET, {"wanted": part})
        large = sorted(identity for identity, row in self._incidents.items() if row["tips"] > KEPT)
        rows = [row for identity in large for row in self._sums_of(identity).dump(identity)]
        if rows:
            self._connection.execute(incident_sums.insert(), rows)


def _tip_row(decision: Decision, offset_minutes: int) -> _Record:
    occurred = parse_time(decision.occurred_at)
    return {
        "tip_id": decision.tip_id,
        "incident_id": decision.incident_id,
        "county": decision.county,
        "revision": decision.revision,
        "link": decision.link,
        "link_to": decision.link_to,
        "category": decision.category,
        "subtype": decision.subtype,
        "urgent": decision.urgent,
        "confidence": decision.confidence,
        "area": decision.area,
        "title": decision.title,
        "channel": decision.channel,
        "source": decision.source,
        "station": decision.station,
        "occurred_at": occurred,
        "received_at": parse_time(decision.received_at),
        "hour": hour_start(occurred, offset_minutes),
    }


def _rows(connection: Connection, table: Table, column: str, wanted: Collection[str]) -> Iterable[_Record]:
    for part in chunks(sorted(wanted)):
        for row in connection.execute(_selecting(table, column), {"wanted": part}).mappings():
            yield dict(row)


def latest_decision(connection: Connection, tip_id: str) -> bytes | None:
    """The highest revision of a tip's decision, as stored in the log (schemas.codec.decode_output); None while
    undecided."""
    statement = (
        select(decisions.c.value).where(decisions.c.tip_id == tip_id).order_by(decisions.c.revision.desc()).limit(1)
    )
    return connection.execute(statement).scalar()


def caused_at(connection: Connection, county: str, wanted: Collection[int]) -> dict[int, int]:
    """When the records at these positions of a county's input were made (ms): tips received, corrections written. Those
    that no decision followed from are left out."""
    found: dict[int, int] = {}
    corrections: dict[str, int] = {}
    for part in chunks(sorted(wanted)):
        asked = {"county": county, "wanted": part}
        found.update({at: came for at, came in connection.execute(_CAME, asked)})
        for at, value in connection.execute(_CHANGED, asked):
            change = decode_output(value)
            corrections[change.memory.get("id", "").removeprefix("correction/")] = at
    for keys in chunks(sorted(corrections)):
        for key, created in connection.execute(_LEFT, {"wanted": keys}):
            found[corrections[key]] = created
    return found


def read_log(connection: Connection, county: str, after: int, limit: int) -> list[tuple[int, bytes]]:
    """Up to `limit` rows (seq, value) of a county's log `decisions` with seq > `after`, in order: what a state is
    rebuilt from."""
    statement = select(decisions.c.seq, decisions.c.value).where(decisions.c.county == county, decisions.c.seq > after)
    return [(row[0], row[1]) for row in connection.execute(statement.order_by(decisions.c.seq).limit(limit))]


def position(connection: Connection, consumer: str, topic: str, part: str) -> int:
    """The position up to which a consumer has read; 0 at the start."""
    found = connection.execute(
        select(positions.c.position).where(
            positions.c.consumer == consumer, positions.c.topic == topic, positions.c.part == part
        )
    ).scalar()
    return 0 if found is None else int(found)


def undecided(connection: Connection, county: str, end: int) -> int:
    """How many records of a county's `tips`, which end at the position `end`, are not yet decided. What was put aside as a dead letter is done with."""
    return max(0, end - position(connection, DECIDED, TIPS, county))


def set_position(connection: Connection, consumer: str, topic: str, part: str, value: int) -> None:
    """Notes how far a consumer has read, in the transaction of what it read."""
    upsert(connection, positions, [{"consumer": consumer, "topic": topic, "part": part, "position": value}])
