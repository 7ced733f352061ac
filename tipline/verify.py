"""The one checker: is what the store holds what it must hold? Used by the tests, the demo and ops.

It reads, and changes nothing. Where it can it takes another way than the code it checks: it recounts, replays and walks
the histories with tables of its own. Each finding says what is wrong, where, how often, and shows the first ids.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, TypeVar

import msgspec
from sqlalchemy import Connection, func, select

from schemas.codec import decode_input, decode_output, encode
from schemas.errors import BadRecord, TiplineError
from schemas.records import Change, Decision, Input, Output, Tip
from schemas.topics import TIPS
from sinks import audit, statistics
from sinks.database import reading
from sinks.sink import position, read_log
from sinks.tables import (
    assignment_cc,
    assignment_events,
    assignments,
    dead_letters,
    decisions,
    incident_sums,
    incident_tips,
    incidents,
    station_events,
)
from streams.pipeline import CORE
from tipline.canaries import Scanner

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Engine

    from streams.pipeline import Fold
    from streams.ports import Row

_PAGE: Final = 2_000
_SHOWN: Final = 5
_CONSUMER: Final = "runtime"

_K = TypeVar("_K")


class Finding(msgspec.Struct, frozen=True):
    """One thing that is wrong: which check says so, where, what, how often, and the first of them by id."""

    check: str
    where: str
    what: str
    count: int
    examples: tuple[str, ...]


class Report(msgspec.Struct, frozen=True):
    """The outcome of a run: figures of what was looked at, the checks that were made, and what was found."""

    facts: dict[str, int]
    checks: tuple[str, ...]
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not self.findings


class Entry(msgspec.Struct, frozen=True):
    """One line of a client's ledger: what the caller was told. `unknown`: the answer never came."""

    outcome: Literal["ok", "refused", "unknown"]
    source: str | None = None
    message_id: str | None = None
    tip_id: str | None = None


class BadLedger(TiplineError):
    """A ledger's line that cannot be read; the message says which."""

    exit_code = 65


def read_ledger(path: Path) -> list[Entry]:
    """A ledger (NDJSON). A last line that was cut off counts as unwritten. Raises BadLedger."""
    entries: list[Entry] = []
    lines = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            entries.append(msgspec.json.decode(line, type=Entry))
        except (msgspec.ValidationError, msgspec.DecodeError) as error:
            if number == len(lines):
                break
            raise BadLedger(
                f"{path}:{number}: {error}. A line is like "
                '{"outcome": "ok", "source": "wechat:a", "message_id": "1", "tip_id": "…"}'
            ) from None
    return entries


class LogReader(Protocol):
    """What verify asks of the log `tips`; the embedded intake is one."""

    def counties(self) -> list[str]:
        """Counties that have records."""

    def read(self, county: str, after: int, limit: int) -> list[Row]:
        """Up to `limit` rows of a county with position > `after`, in order."""


class Replay(msgspec.Struct, frozen=True):
    """How decisions are made again: a fold for a county's first record, over a memory of its own."""

    make_fold: Callable[[str, Callable[[str], Decision | None]], Fold]


def verify(
    engine: Engine,
    log: LogReader,
    *,
    offsets: Mapping[str, int],
    replay: Replay | None = None,
    ledger: Sequence[Entry] | None = None,
    allow_lag: bool = False,
    scan: tuple[Path, Sequence[str]] | None = None,
) -> Report:
    """Makes every check. `offsets` are the counties' minutes from UTC; without `replay`, `ledger` or `scan` (a directory
    and the words that must not be in it) those checks are left out. With `allow_lag` undecided records are no fault: a
    service at work has some."""
    run = _Run(engine, log, offsets, allow_lag)
    run.all(replay, ledger, scan)
    return Report(dict(run.facts), tuple(run.checks), tuple(run.findings))


class _Told(msgspec.Struct):
    """What the log `tips` holds, as far as checks need it."""

    #: tip -> places (county, position) of its own record; a replayed dead letter stands apart.
    tips: dict[str, list[tuple[str, int]]] = {}
    replayed: dict[str, list[tuple[str, int]]] = {}
    #: (source, message_id) -> tips.
    messages: dict[tuple[str, str], list[str]] = {}
    #: county -> positions; of these, those that cannot be read.
    positions: dict[str, set[int]] = {}
    unreadable: dict[str, set[int]] = {}


class _Run:
    """One run: the snapshot, what was found, what was counted."""

    def __init__(self, engine: Engine, log: LogReader, offsets: Mapping[str, int], allow_lag: bool) -> None:
        self._engine = engine
        self._log = log
        self._offsets = offsets
        self._allow_lag = allow_lag
        self.facts: Counter[str] = Counter()
        self.checks: list[str] = []
        self.findings: list[Finding] = []
        self._told = _Told()
        self._read_to: dict[str, int] = {}

    def all(
        self, replay: Replay | None, ledger: Sequence[Entry] | None, scan: tuple[Path, Sequence[str]] | None
    ) -> None:
        with reading(self._engine) as connection:
            # The tables first, then the log: what came in between is lag, never an output without input.
            counties = self._begin(connection)
            self._told = self._read_told(counties)
            self._check("accepted", lambda: self._accepted(connection))
            if ledger is not None:
                self._check("ledger", lambda: self._ledger(ledger))
            self._check("revisions", lambda: self._revisions(connection))
            self._check("phantoms", lambda: self._phantoms(connection))
            self._check("sums", lambda: self._sums(connection))
            self._check("assignments", lambda: self._assignments(connection))
            self._check("moves", lambda: self._moves(connection))
            self._check("streams", lambda: self._streams(connection))
            self._check("statistics", lambda: self._statistics(connection, counties))
            self._check("audit", lambda: self._audit(connection))
            if replay is not None:
                self._check("replay", lambda: self._replay(connection, counties, replay))
        if scan is not None:
            self._check("identities", lambda: self._scan(*scan))

    # --- notes ------------------------------------------------------------------------------------------------------

    def _check(self, name: str, work: Callable[[], None]) -> None:
        self.checks.append(name)
        work()

    def _find(self, where: str, what: str, found: Iterable[object]) -> None:
        """Notes a finding of the running check, if there is any."""
        ids = [str(one) for one in found]
        if ids:
            self.findings.append(Finding(self.checks[-1], where, what, len(ids), tuple(sorted(ids)[:_SHOWN])))

    # --- reading ----------------------------------------------------------------------------------------------------

    def _begin(self, connection: Connection) -> list[str]:
        counties = set(connection.execute(select(decisions.c.county).distinct()).scalars())
        counties.update(self._log.counties())
        for county in counties:
            self._read_to[county] = position(connection, _CONSUMER, TIPS, county)
        return sorted(counties)

    def _read_told(self, counties: Sequence[str]) -> _Told:
        told = _Told()
        for county in counties:
            positions = told.positions.setdefault(county, set())
            for row in self._rows(county):
                positions.add(row.position)
                try:
                    record = decode_input(row.value)
                except BadRecord:
                    told.unreadable.setdefault(county, set()).add(row.position)
                    continue
                if isinstance(record, Tip):
                    self._hear(told, row, record)
        self.facts["tips"] = len({*told.tips, *told.replayed})
        self.facts["records"] = sum(len(found) for found in told.positions.values())
        return told

    @staticmethod
    def _hear(told: _Told, row: Row, tip: Tip) -> None:
        own = row.key == tip.tip_id
        (told.tips if own else told.replayed).setdefault(tip.tip_id, []).append((tip.county, row.position))
        if own and tip.message_id is not None:
            told.messages.setdefault((tip.source, tip.message_id), []).append(tip.tip_id)

    def _rows(self, county: str) -> Iterator[Row]:
        after = 0
        while rows := self._log.read(county, after, _PAGE):
            yield from rows
            after = rows[-1].position

    def _outputs(self, connection: Connection, county: str) -> Iterator[Output]:
        after = 0
        while rows := read_log(connection, county, after, _PAGE):
            for _, value in rows:
                yield decode_output(value)
            after = rows[-1][0]

    # --- every tip has its end ----------------------------------------------------------------------------------------

    def _accepted(self, connection: Connection) -> None:
        decided = set(connection.execute(select(decisions.c.tip_id).where(decisions.c.tip_id.is_not(None))).scalars())
        letters = list(connection.execute(select(dead_letters.c.county, dead_letters.c.position, dead_letters.c.id)))
        dead = {(county, at) for county, at, _ in letters}
        self.facts["decided"], self.facts["dead_letters"] = len(decided), len(letters)
        self._find("log tips", "the same tip stands in the log twice", sorted(_more_than_one(self._told.tips)))
        twice = (f"{source}/{message}" for source, message in _more_than_one(self._told.messages))
        self._find("log tips", "the same (source, message_id) was accepted twice", twice)
        self._lagging()
        lost = []
        for tip_id, places in self._told.tips.items():
            due = [(county, at) for county, at in places if at <= self._read_to.get(county, 0)]
            if due and tip_id not in decided and dead.isdisjoint(due):
                lost.append(tip_id)
        self._find("log decisions", "accepted, read, and neither decided nor a dead letter", lost)
        for county, unreadable in self._told.unreadable.items():
            missing = (at for at in unreadable if at <= self._read_to[county] and (county, at) not in dead)
            self._find(f"log tips of {county}", "cannot be read and is no dead letter", missing)

    def _lagging(self) -> None:
        behind = [
            f"{county}/{at}"
            for county, positions in self._told.positions.items()
            for at in positions
            if at > self._read_to[county]
        ]
        self.facts["lag"] = len(behind)
        if not self._allow_lag:
            self._find("log tips", "not yet decided (is a service at work? then --allow-lag)", behind)

    # --- what the clients were told -----------------------------------------------------------------------------------

    def _ledger(self, ledger: Sequence[Entry]) -> None:
        counts = Counter(entry.outcome for entry in ledger)
        self.facts.update({f"ledger_{outcome}": n for outcome, n in counts.items()})
        accepted = [entry for entry in ledger if entry.outcome == "ok"]
        named = {(e.source, e.message_id): e.tip_id for e in accepted if e.message_id is not None}
        unknown_tip = (e.tip_id for e in accepted if e.tip_id is not None and e.tip_id not in self._told.tips)
        self._find("log tips", "answered 202 and not in the log", sorted(set(unknown_tip)))
        lost = [f"{s}/{m}" for s, m in named if s is not None and m is not None and (s, m) not in self._told.messages]
        self._find("log tips", "answered 202 and its (source, message_id) is not in the log", lost)
        answers: dict[tuple[str | None, str | None], list[str]] = {}
        for entry in accepted:
            if entry.message_id is not None and entry.tip_id is not None:
                known = answers.setdefault((entry.source, entry.message_id), [])
                if entry.tip_id not in known:
                    known.append(entry.tip_id)
        doubled = (f"{source}/{message}" for source, message in _more_than_one(answers))
        self._find("ledger", "one message was answered with several tip_ids", doubled)
        refused = {(e.source, e.message_id) for e in ledger if e.outcome == "refused" and e.message_id is not None}
        kept = (f"{s}/{m}" for s, m in refused - set(named) if (s, m) in self._told.messages)
        self._find("log tips", "refused to the caller and yet in the log", kept)

    # --- the log of decisions -----------------------------------------------------------------------------------------

    def _revisions(self, connection: Connection) -> None:
        statement = select(
            decisions.c.tip_id, func.count(), func.min(decisions.c.revision), func.max(decisions.c.revision)
        )
        rows = list(connection.execute(statement.where(decisions.c.tip_id.is_not(None)).group_by(decisions.c.tip_id)))
        self.facts["revisions"] = sum(n for _, n, _, _ in rows)
        self._find("log decisions", "revisions with a gap", (t for t, n, low, high in rows if (low, high) != (1, n)))
        rows_of_county = select(decisions.c.county, func.count(), func.min(decisions.c.seq), func.max(decisions.c.seq))
        for county, n, low, high in connection.execute(rows_of_county.group_by(decisions.c.county)):
            gap = [f"{low}..{high} with {n} rows"] if (low, high) != (1, n) else []
            self._find(f"log decisions of {county}", "numbers with a gap", gap)
        latest = {tip: revision for tip, _, _, revision in rows}
        shown = dict(connection.execute(select(incident_tips.c.tip_id, incident_tips.c.revision)).all())
        behind = (tip for tip in {*latest, *shown} if latest.get(tip) != shown.get(tip))
        self._find("table incident_tips", "does not show the latest revision", behind)

    def _phantoms(self, connection: Connection) -> None:
        tips = {*self._told.tips, *self._told.replayed}
        rows = connection.execute(select(decisions.c.county, decisions.c.position, decisions.c.tip_id).distinct()).all()
        self._find("log decisions", "a decision for a tip that was never accepted", {t for _, _, t in rows if t} - tips)
        places = {(county, at) for county, at, _ in rows}
        strange = (f"{c}/{at}" for c, at in places if at not in self._told.positions.get(c, ()))
        self._find("log decisions", "caused by a record that is not in the log", strange)
        known = dict(connection.execute(select(incidents.c.incident_id, incidents.c.merged_into)).all())
        members = Counter(connection.execute(select(incident_tips.c.incident_id)).scalars())
        self.facts["incidents"] = len(members)
        self._find("table incidents", "a tip's incident is missing", set(members) - set(known))
        self._find(
            "table incidents", "merged into one that does not exist", {m for m in known.values() if m} - set(known)
        )
        self._find("table assignments", "no such incident", self._strangers(connection, assignments, known))
        self._find("table assignment_events", "no such incident", self._strangers(connection, assignment_events, known))
        letters = connection.execute(select(dead_letters.c.id, dead_letters.c.county, dead_letters.c.position)).all()
        lost = (i for i, county, at in letters if at not in self._told.positions.get(county, ()))
        self._find("table dead_letters", "not in the log", lost)

    @staticmethod
    def _strangers(connection: Connection, table: Any, known: Mapping[str, object]) -> set[str]:
        return set(connection.execute(select(table.c.incident_id).distinct()).scalars()) - set(known)

    def _sums(self, connection: Connection) -> None:
        """What is kept of large incidents, from the rows of their tips; where nothing is kept it is made when wanted."""
        kept = {tuple(row[:4]): tuple(row[4:]) for row in connection.execute(select(incident_sums))}
        large = incident_tips.c.incident_id.in_(select(incident_sums.c.incident_id))
        by_time = select(incident_tips).where(large).order_by(incident_tips.c.occurred_at, incident_tips.c.tip_id)
        groups: dict[tuple[Any, ...], list[Any]] = {}
        for tip in connection.execute(by_time).mappings():
            group = tip["incident_id"], tip["category"], tip["subtype"] or "", tip["area"] or ""
            groups.setdefault(group, []).append(tip)
        counted = {
            group: (
                len(tips),
                any(tip["urgent"] for tip in tips),
                sum(round(tip["confidence"] * 1_000_000) for tip in tips),
                *(tips[0][name] for name in ("occurred_at", "tip_id", "title")),
                min(tip["received_at"] for tip in tips),
                max(tip["received_at"] for tip in tips),
            )
            for group, tips in groups.items()
        }
        wrong = ("/".join(group) for group in {*kept, *counted} if kept.get(group) != counted.get(group))
        self._find("table incident_sums", "differs from a recount of the incident's tips", wrong)
        has = Counter(connection.execute(select(incident_tips.c.incident_id)).scalars())
        told = connection.execute(select(incidents.c.incident_id, incidents.c.tips))
        self._find("table incidents", "another number of tips than it has", (i for i, n in told if n != has[i]))

    # --- the stations' work -------------------------------------------------------------------------------------------

    def _assignments(self, connection: Connection) -> None:
        queue = connection.execute(select(assignments.c.incident_id, assignments.c.status)).all()
        self.facts["assignments"] = len(queue)
        open_ = Counter(incident for incident, status in queue if status != "resolved")
        self._find("table assignments", "several open for one incident", (i for i, n in open_.items() if n > 1))
        members = Counter(connection.execute(select(incident_tips.c.incident_id)).scalars())
        columns = select(incidents.c.incident_id, incidents.c.no_action, incidents.c.merged_into)
        have = {incident for incident, _ in queue}
        unrouted, merged_open = [], []
        for incident, no_action, merged_into in connection.execute(columns):
            if members[incident] and not no_action and merged_into is None and incident not in have:
                unrouted.append(incident)
            if (merged_into is not None or not members[incident]) and incident in open_:
                merged_open.append(incident)
        self._find("table assignments", "an incident is on no station's queue", unrouted)
        self._find("table assignments", "open although its incident was merged away or emptied", merged_open)
        ids = set(connection.execute(select(assignments.c.id)).scalars())
        strange = set(connection.execute(select(assignment_cc.c.assignment_id)).scalars()) - ids
        self._find("table assignment_cc", "no such assignment", strange)

    def _moves(self, connection: Connection) -> None:
        columns = [assignment_events.c[name] for name in ("assignment_id", "number", "kind", "state")]
        ordered = select(*columns).order_by(assignment_events.c.assignment_id, assignment_events.c.number)
        histories: dict[str, _History] = {}
        wrong: dict[str, list[str]] = {}
        for identity, number, kind, state in connection.execute(ordered):
            self.facts["events"] += 1
            history = histories.setdefault(identity, _History())
            for fault in history.step(number, kind, msgspec.json.decode(state)):
                wrong.setdefault(fault, []).append(f"{identity}#{number}")
        for fault, found in wrong.items():
            self._find("table assignment_events", fault, found)
        names = ("id", *_CARRIED)
        rows = connection.execute(select(*(assignments.c[name] for name in names))).all()
        ids = {row[0] for row in rows}
        self._find("table assignment_events", "no such assignment", set(histories) - ids)
        self._find("table assignments", "without a history", ids - set(histories))
        for index, name in enumerate(_CARRIED, 1):
            changed = (r[0] for r in rows if r[0] in histories and histories[r[0]].last.get(name) != r[index])
            self._find("table assignments", f"{name} is not what its last event says", changed)

    def _streams(self, connection: Connection) -> None:
        columns = select(station_events.c.station, func.count(), func.min(station_events.c.number))
        columns = columns.add_columns(func.max(station_events.c.number)).group_by(station_events.c.station)
        gaps = (station for station, n, low, high in connection.execute(columns) if (low, high) != (1, n))
        self._find("table station_events", "a station's stream has a gap", gaps)
        known = set(connection.execute(select(assignment_events.c.assignment_id, assignment_events.c.number)).all())
        shown = connection.execute(select(station_events.c.assignment_id, station_events.c.event_number)).all()
        self._find(
            "table station_events", "shows an event that is in no history", (f"{a}#{n}" for a, n in set(shown) - known)
        )

    # --- figures, audit, replay, identities ---------------------------------------------------------------------------

    def _statistics(self, connection: Connection, counties: Sequence[str]) -> None:
        for county in counties:
            counted = statistics.recount(self._outputs(connection, county), self._offsets.get(county, 0))
            stored = statistics.stored(connection, county)
            wrong = {cell for cell in {*counted, *stored} if counted.get(cell) != stored.get(cell)}
            shown = (f"{'/'.join(map(str, c[1:]))}: {stored.get(c)}, recounted {counted.get(c)}" for c in wrong)
            self._find(f"table statistics of {county}", "a cell differs from a recount of the log", shown)

    def _audit(self, connection: Connection) -> None:
        broken = audit.verify(connection)
        head = audit.head(connection)
        self.facts["audit_entries"] = 0 if head is None else head.seq
        self._find("table audit", "the chain is broken", [] if broken is None else [broken])

    def _replay(self, connection: Connection, counties: Sequence[str], replay: Replay) -> None:
        for county in counties:
            if self._made_by_others(connection, county):
                continue
            dead = set(
                connection.execute(select(dead_letters.c.position).where(dead_letters.c.county == county)).scalars()
            )
            again = self._decide_again(county, replay, dead)
            wrong: list[str] = []
            for stored in self._outputs(connection, county):
                made = next(again, None)
                if made is None or encode(made) != encode(stored):
                    wrong.append(_difference(stored, made))
                    break  # what follows hangs on it
            else:
                wrong += [_difference(None, extra) for extra in again][:_SHOWN]
            self._find(f"log decisions of {county}", "a replay of the log gives other decisions", wrong)

    def _made_by_others(self, connection: Connection, county: str) -> int:
        """How many decisions another version of the code made: it may decide otherwise, so they prove nothing."""
        others = sum(
            isinstance(output, Decision) and output.versions.core != CORE
            for output in self._outputs(connection, county)
        )
        self.facts["not_replayable"] += others
        return others

    def _decide_again(self, county: str, replay: Replay, dead: set[int]) -> Iterator[Output]:
        latest: dict[str, Decision] = {}
        fold = replay.make_fold(county, latest.get)
        for row in self._rows(county):
            if row.position > self._read_to[county]:
                return
            if row.position in dead:
                continue
            for output in fold.apply([(row.position, decode_input(row.value))]):
                if isinstance(output, Decision):
                    latest[output.tip_id] = output
                self.facts["replayed"] += 1
                yield output

    def _scan(self, directory: Path, words: Sequence[str]) -> None:
        seen, size = Scanner(words).scan(directory)
        self.facts["canaries"], self.facts["bytes_scanned"] = len(words), size
        places = (f"canary {s.canary} as {s.form} in {s.file} at byte {s.offset}" for s in seen)
        self._find(str(directory), "an identity stands in the clear", places)


def _more_than_one(found: Mapping[_K, Sequence[object]]) -> list[_K]:
    return [key for key, values in found.items() if len(values) > 1]


def _difference(stored: Output | None, made: Output | None) -> str:
    """Which decision differs, and in what, without its words."""
    one = stored or made
    name = (
        f"tip {one.tip_id}#{one.revision}" if isinstance(one, Decision) else f"change at {getattr(one, 'position', 0)}"
    )
    if stored is None or made is None:
        return f"{name}: {'not stored' if stored is None else 'not made again'}"
    if type(stored) is not type(made) or getattr(stored, "tip_id", None) != getattr(made, "tip_id", None):
        return f"{name}: another record stands in its place"
    one_way, other = msgspec.json.decode(encode(stored)), msgspec.json.decode(encode(made))
    fields = sorted(f for f in {*one_way, *other} if one_way.get(f) != other.get(f))
    return f"{name}: {', '.join(fields) or 'its bytes'}"


def first_changes(log: LogReader, county: str) -> dict[str, Change]:
    """What was in force when the county's first tip came, by kind (`county`, `model`): where a replay begins."""
    found: dict[str, Change] = {}
    after = 0
    while rows := log.read(county, after, _PAGE):
        for row in rows:
            record = _readable(row.value)
            if isinstance(record, Tip):
                return found
            if isinstance(record, Change):
                found.setdefault(record.what, record)
        after = rows[-1].position
    return found


def _readable(value: bytes) -> Input | None:
    try:
        return decode_input(value)
    except BadRecord:
        return None


# --- the life of an assignment, told a second time ------------------------------------------------------------------------

_LIVE: Final = frozenset({"open", "claimed", "acknowledged", "in_progress"})
_HELD: Final = _LIVE - {"open"}
_ANY: Final = _LIVE | {"resolved"}
_STAYS: Final = ""

#: Event -> (statuses it may come from, status it leads to; `_STAYS`: as it was).
_TABLE: Final[Mapping[str, tuple[frozenset[str], str]]] = {
    "claimed": (frozenset({"open"}), "claimed"),
    "heartbeat": (frozenset({"claimed"}), _STAYS),
    "acknowledged": (frozenset({"claimed"}), "acknowledged"),
    "started": (frozenset({"claimed", "acknowledged"}), "in_progress"),
    "released": (_HELD, "open"),
    "expired": (frozenset({"claimed"}), "open"),
    "returned": (_LIVE, "open"),
    "transferred": (_LIVE, "open"),
    "escalated": (_LIVE, "open"),
    "rerouted": (_LIVE, "open"),
    "resolved": (_HELD, "resolved"),
    "reopened": (frozenset({"resolved"}), "open"),
    "closed": (_LIVE, "resolved"),
    "merged": (_ANY, "resolved"),
    "absorbed": (_LIVE, _STAYS),
    "overdue": (_LIVE, _STAYS),
    "noted": (_ANY, _STAYS),
    "corrected": (_ANY, _STAYS),
    "merge_requested": (_ANY, _STAYS),
    "updated": (_ANY, _STAYS),
    "cc_changed": (_ANY, _STAYS),
}

#: What an assignment's row must share with the state of its last event.
_CARRIED: Final = ("incident_id", "status", "station", "revision", "events", "lease_token", "owner", "outcome")


class _History:
    """Walks one assignment's events."""

    def __init__(self) -> None:
        self.last: dict[str, Any] = {}

    def step(self, number: int, kind: str, state: dict[str, Any]) -> Iterator[str]:
        """What is wrong with the next event, in words."""
        before, self.last = self.last, state
        after = state["status"]
        if number != before.get("events", 0) + 1:
            yield "numbers with a gap"
        if not before or kind == "dispatched":
            if before or kind != "dispatched" or after != "open":
                yield "does not begin with being dispatched"
            return
        rule = _TABLE.get(kind)
        if rule is None:
            yield f"an event of unknown kind ({kind})"
            return
        sources, target = rule
        if before["status"] not in sources or after != (target or before["status"]):
            yield f"an illegal move: {before['status']} -> {kind} -> {after}"
        if state["revision"] < before["revision"]:
            yield "the revision went back"
        if (after == "claimed") != (state["lease_expires"] is not None):
            yield "a lease without a claim, or a claim without a lease"
        if kind == "claimed" and (state["lease_token"] or 0) <= (before["lease_token"] or 0):
            yield "a lease token was given twice"
        if (after == "resolved") != (state["outcome"] is not None):
            yield "settled without an outcome, or an outcome on what is not settled"


__all__ = ["BadLedger", "Entry", "Finding", "LogReader", "Replay", "Report", "first_changes", "read_ledger", "verify"]
