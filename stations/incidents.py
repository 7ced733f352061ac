"""Incidents as stations see them: the timeline with every reason, suggested duplicates, and corrections by people.

A correction (merge, split, relabel, relocate) changes no table here: it goes into the county's input as a record, in
one transaction with its event, and comes back as revised decisions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, Literal

import msgspec
from sqlalchemy import Connection, and_, or_, select

from schemas.codec import decode_output
from schemas.errors import Mistake, Rejected
from schemas.records import Correction, Decision
from schemas.times import format_time, parse_time
from schemas.vocabulary import CATEGORIES, SUBTYPES
from sinks.database import reading, writing
from sinks.failpoints import reach
from sinks.outbox import derived_id, put_input
from sinks.sink import caused_at
from sinks.station_queue import Assignment, Book, Event, assignment_id
from sinks.statistics import hour_start, tips_of
from sinks.tables import assignment_events, decisions, incident_tips, incidents
from stations import documents
from stations.desk import Desk, check_match, find, hidden, read_only
from stations.lifecycle import WORKERS, invalid
from streams.ports import Principal

Action = Literal["merge", "split", "relabel", "relocate"]
ACTIONS: Final[tuple[Action, ...]] = ("merge", "split", "relabel", "relocate")

#: A tip's text, for those who work on it; None where it is not at hand.
TextOf = Callable[[str], str | None]

_FIELDS: Final[dict[Action, tuple[str, ...]]] = {
    "merge": ("into", "reason"),
    "split": ("tip_ids", "reason"),
    "relabel": ("category", "subtype", "urgent", "reason"),
    "relocate": ("area", "reason"),
}
#: What If-Match says for an incident.
_TAG: Final = "the ETag of GET /v1/incidents/{id} as it is"
_MOST_REVISIONS: Final = 2_000


class Seen(msgspec.Struct, frozen=True):
    """An incident as a document, and the ETag that a correction must name."""

    document: dict[str, Any]
    etag: str


class Incidents:
    """Reading and correcting incidents. Safe between threads."""

    def __init__(self, desk: Desk, text_of: TextOf = lambda _: None) -> None:
        self._desk = desk
        self._text_of = text_of

    # --- reading ----------------------------------------------------------------------------------------------------

    def get(self, principal: Principal, incident_id: str) -> Seen:
        """An incident with its tips, timeline and suggestions. Raises Rejected (404)."""
        with reading(self._desk.engine) as connection:
            row, item, cc = self._visible(connection, principal, incident_id)
            offset = self._desk.counties[row["county"]].offset_minutes
            history, latest = _decisions(connection, incident_id)
            document = {
                **_facts(row, offset),
                "assignment": None if item is None else self._desk.show(item, cc, principal),
                "tips": [
                    self._tip(latest[tip["tip_id"]], tip, offset)
                    for tip in tips_of(connection, incident_id)
                    if tip["tip_id"] in latest
                ],
                "timeline": _in_time(
                    [
                        *_decided(connection, row["county"], history, offset),
                        *(documents.event(event, offset) for event in _events(connection, incident_id)),
                    ]
                ),
                "suggested": self._suggested(connection, principal, row, offset),
                "linked": _linked(latest.values()),
            }
        return Seen(document, etag(row, item))

    def _visible(
        self, connection: Connection, principal: Principal, incident_id: str
    ) -> tuple[Mapping[str, Any], Assignment | None, list[str]]:
        row = _incident(connection, incident_id)
        if row is None or row["county"] not in self._desk.counties or principal.role not in WORKERS:
            raise hidden()
        item, cc = find(connection, assignment_id(incident_id))
        if item is not None:
            seen = self._desk.sees(principal, item, cc)
        else:
            # Nobody need act on it: it is the county's to see.
            seen = principal.role != "station" and principal.county in (None, row["county"])
        if not seen:
            raise hidden()
        return row, item, cc

    def _tip(self, decision: Decision, row: Mapping[str, Any], offset: int) -> dict[str, Any]:
        return {
            "tip_id": decision.tip_id,
            "channel": decision.channel,
            "link": decision.link,
            "link_to": decision.link_to,
            "category": decision.category,
            "subtype": decision.subtype,
            "urgent": decision.urgent,
            "confidence": decision.confidence,
            "area": decision.area,
            "area_candidates": msgspec.to_builtins(decision.area_candidates),
            "parties": list(decision.parties),
            "quantities": msgspec.to_builtins(decision.quantities),
            "title": decision.title,
            "text": self._text_of(decision.tip_id),
            "occurred_at": format_time(row["occurred_at"], offset),
            "received_at": format_time(row["received_at"], offset),
            "revision": decision.revision,
            "reasons": msgspec.to_builtins(decision.reasons),
        }

    # --- suggested duplicates -----------------------------------------------------------------------------------------

    def _suggested(
        self, connection: Connection, principal: Principal, row: Mapping[str, Any], offset: int
    ) -> list[dict[str, Any]]:
        """Incidents that may be the same. Of one on another station's queue only category, township and hour are
        shown."""
        shown = []
        for other in _suggestions(connection, row["incident_id"]):
            item, cc = find(connection, assignment_id(other["incident_id"]))
            seen = item is not None and self._desk.sees(principal, item, cc)
            if other["county"] != row["county"] or (not seen and self._restricted(item)):
                continue
            township = "/".join((other["area"] or "").split("/")[:2]) if (other["area"] or "").count("/") else None
            entry = {
                "incident_id": other["incident_id"],
                "category": other["category"],
                "township": township,
                "hour": format_time(hour_start(other["occurred_at"], offset), offset),
            }
            extra = {name: other[name] for name in ("subtype", "urgent", "area", "station", "title", "corroborations")}
            shown.append({**entry, **extra, "yours": True} if seen else {**entry, "yours": False})
        return shown

    def _restricted(self, item: Assignment | None) -> bool:
        if item is None:
            return False
        station = self._desk.counties[item.county].stations.get(item.station)
        return station is None or station.restricted

    # --- corrections --------------------------------------------------------------------------------------------------

    def correct(
        self,
        principal: Principal,
        incident_id: str,
        action: Action,
        document: object,
        *,
        if_match: str | None,
        now: int,
    ) -> dict[str, Any]:
        """Writes a correction for the county's input and notes it on the timeline.

        Answers {status: accepted, correction_id}, or {status: requested} where the other incident's holder must decide. Raises Rejected,
        with nothing done: 404, 403 (cc), 428, 412, 409 (merged already), 422.
        """
        with writing(self._desk.engine) as connection:
            row, _, _ = self._visible(connection, principal, incident_id)
            book = Book(connection)
            # Both at once and so in one order: two people who merge in opposite directions wait for each other.
            concerned = [incident_id, *_merged_into(action, document)]
            book.load(ids=[assignment_id(each) for each in concerned])
            item = book.of_incident(incident_id)
            if item is not None and not self._desk.holds(principal, item):
                raise read_only()
            versions = [etag(row, item).strip('"')]
            versions += (
                [str(item.lease_token if item.status == "claimed" else item.revision)] if item is not None else []
            )
            check_match(if_match, versions, _TAG)
            if row["merged_into"] is not None:
                raise Rejected(
                    409,
                    "merged",
                    "It was merged: correct the incident it was merged into",
                    [Mistake("", f"merged_into {row['merged_into']}")],
                )
            body = self._desk.without_numbers(self._body(connection, row, action, document))
            answer = self._enter(connection, book, principal, row, action, body, now)
            stations = book.save()
            reach("move.before_commit")
        reach("move.after_commit")
        if stations:
            self._desk.announce(stations)
        return answer

    def _enter(
        self,
        connection: Connection,
        book: Book,
        principal: Principal,
        row: Mapping[str, Any],
        action: Action,
        body: Mapping[str, Any],
        now: int,
    ) -> dict[str, Any]:
        if action == "merge" and (other := self._holder_elsewhere(book, principal, body["into"])) is not None:
            self._request(book, other, row, body, principal, now)
            return {"status": "requested"}
        seed = msgspec.json.encode({**body, "revision": row["revision"]}, order="sorted").decode()
        correction_id = derived_id("correction", row["incident_id"], action, seed)
        correction = Correction(
            county=row["county"],
            correction_id=correction_id,
            action=action,
            incident_id=row["incident_id"],
            by=principal.token_id,
            at=format_time(now),
            **{**body, **({"tip_ids": tuple(body["tip_ids"])} if "tip_ids" in body else {})},
        )
        put_input(connection, correction, correction_id, now=now)
        for incident_id in (row["incident_id"], body.get("into")):
            item = book.of_incident(incident_id) if incident_id else None
            if item is not None:
                data = {
                    "action": action,
                    "incident_id": row["incident_id"],
                    **{k: v for k, v in body.items() if k != "reason"},
                }
                self._note(book, item, "corrected", principal, body["reason"], data, now)
        return {"status": "accepted", "correction_id": correction_id}

    def _holder_elsewhere(self, book: Book, principal: Principal, into: str) -> Assignment | None:
        """The other incident's assignment where it is not the caller's to merge."""
        other = book.of_incident(into)
        return other if other is not None and not self._desk.holds(principal, other) else None

    def _request(
        self,
        book: Book,
        other: Assignment,
        row: Mapping[str, Any],
        body: Mapping[str, Any],
        principal: Principal,
        now: int,
    ) -> None:
        data = {"incident_id": row["incident_id"], "category": row["category"], "station": principal.station}
        self._note(book, other, "merge_requested", principal, body["reason"], data, now)

    def _note(
        self, book: Book, item: Assignment, kind: str, principal: Principal, reason: str, data: dict[str, Any], now: int
    ) -> None:
        event = Event(kind=kind, at=now, actor=principal.token_id, role=principal.role, reason=reason, data=data)
        book.record(item, event, bump=False)

    # --- what a correction says
    # -----------------------------------------------------------------------------------------

    def _body(self, connection: Connection, row: Mapping[str, Any], action: Action, document: object) -> dict[str, Any]:
        if not isinstance(document, dict):
            raise invalid([Mistake("", "must be an object")])
        known = _FIELDS[action]
        faults = [
            Mistake("", f"unknown field; allowed are {', '.join(known)}") for name in document if name not in known
        ][:1]
        reason = document.get("reason")
        if not isinstance(reason, str) or not reason.strip() or len(reason) > 1000 or "\0" in reason:
            faults.append(Mistake("/reason", "required: text of 1 to 1000 characters"))
        if action == "merge":
            faults += self._check_merge(connection, row, document.get("into"))
        elif action == "split":
            faults += _check_split(connection, row, document.get("tip_ids"))
        elif action == "relabel":
            faults += _check_relabel(row, document)
        elif (
            not isinstance(document.get("area"), str)
            or document["area"] not in self._desk.counties[row["county"]].areas
        ):
            faults.append(Mistake("/area", "required: the path of an area of this county"))
        if faults:
            raise invalid(faults)
        body = {name: document[name] for name in known if document.get(name) is not None}
        # A subtype alone is one of the category that stands.
        return {"category": row["category"], **body} if "subtype" in body else body

    def _check_merge(self, connection: Connection, row: Mapping[str, Any], into: object) -> list[Mistake]:
        if not isinstance(into, str) or not 1 <= len(into) <= 64 or "\0" in into:
            return [Mistake("/into", "required: the id of the incident to merge into")]
        if into == row["incident_id"]:
            return [Mistake("/into", "an incident cannot be merged with itself")]
        other = _incident(connection, into)
        if other is None or other["county"] != row["county"]:
            return [Mistake("/into", "no such incident in this county")]
        if other["merged_into"] is not None:
            return [Mistake("/into", f"it was merged into {other['merged_into']}: name that one")]
        return []


def _merged_into(action: Action, document: object) -> list[str]:
    into = document.get("into") if action == "merge" and isinstance(document, dict) else None
    return [into] if isinstance(into, str) else []


def etag(row: Mapping[str, Any], item: Assignment | None) -> str:
    """The version of an incident's document: its own revision and the number of its last event."""
    return f'"{row["revision"]}-{0 if item is None else item.events}"'


def _check_split(connection: Connection, row: Mapping[str, Any], tip_ids: object) -> list[Mistake]:
    if not isinstance(tip_ids, list) or not tip_ids or not all(isinstance(tip, str) for tip in tip_ids):
        return [Mistake("/tip_ids", "required: a list of the tips to take out")]
    members = {tip["tip_id"] for tip in tips_of(connection, row["incident_id"])}
    if len(set(tip_ids)) != len(tip_ids):
        return [Mistake("/tip_ids", "names a tip twice")]
    if not members.issuperset(tip_ids):
        return [Mistake("/tip_ids", "names a tip that is not of this incident")]
    return [Mistake("/tip_ids", "at least one tip must stay")] if len(tip_ids) == len(members) else []


def _check_relabel(row: Mapping[str, Any], document: Mapping[str, Any]) -> list[Mistake]:
    category, subtype, urgent = document.get("category"), document.get("subtype"), document.get("urgent")
    if category is None and subtype is None and urgent is None:
        return [Mistake("", "say what it is: category, subtype or urgent")]
    if category is not None and category not in CATEGORIES:
        return [Mistake("/category", f"must be one of {', '.join(CATEGORIES)}")]
    if urgent is not None and not isinstance(urgent, bool):
        return [Mistake("/urgent", "must be true or false")]
    subtypes = SUBTYPES[category or row["category"]]
    if subtype is not None and subtype not in subtypes:
        return [Mistake("/subtype", f"must be one of {', '.join(subtypes)}")]
    return []


# --- rows
# ---------------------------------------------------------------------------------------------------------------


def _incident(connection: Connection, incident_id: str) -> dict[str, Any] | None:
    row = connection.execute(select(incidents).where(incidents.c.incident_id == incident_id)).mappings().first()
    return None if row is None else dict(row)


def _facts(row: Mapping[str, Any], offset: int) -> dict[str, Any]:
    plain = (
        "incident_id",
        "county",
        "category",
        "subtype",
        "urgent",
        "area",
        "station",
        "level",
        "route_id",
        "title",
        "pattern_id",
    )
    times = {name: format_time(row[name], offset) for name in ("occurred_at", "received_at", "last_received_at")}
    counts = {name: row[name] for name in ("corroborations", "no_action", "merged_into", "revision")}
    return {**{name: row[name] for name in plain}, **times, **counts}


def _decisions(connection: Connection, incident_id: str) -> tuple[list[Decision], dict[str, Decision]]:
    """The decisions that named the incident, in the log's order, and each tip's latest of them."""
    wanted = select(decisions.c.value).where(decisions.c.incident_id == incident_id).order_by(decisions.c.seq)
    history = [decode_output(value) for value in connection.execute(wanted.limit(_MOST_REVISIONS)).scalars()]
    found = [decision for decision in history if isinstance(decision, Decision)]
    latest: dict[str, Decision] = {}
    for decision in found:
        if decision.tip_id not in latest or decision.revision > latest[decision.tip_id].revision:
            latest[decision.tip_id] = decision
    return found, latest


def _events(connection: Connection, incident_id: str) -> list[Mapping[str, Any]]:
    wanted = select(assignment_events).where(assignment_events.c.incident_id == incident_id)
    return [dict(row) for row in connection.execute(wanted.order_by(assignment_events.c.number)).mappings()]


def _decided(
    connection: Connection, county: str, history: Sequence[Decision], offset: int
) -> Iterator[dict[str, Any]]:
    """Decisions as they were made, each with its reasons and the time of the record that caused it."""
    caused = caused_at(connection, county, {decision.position for decision in history if decision.cause != "tip"})
    for decision in history:
        at = decision.received_at if decision.cause == "tip" else documents.moment(caused.get(decision.position), offset)
        yield {
            "kind": "decided",
            "at": at,
            "tip_id": decision.tip_id,
            "revision": decision.revision,
            "cause": decision.cause,
            "category": decision.category,
            "area": decision.area,
            "link": decision.link,
            "station": decision.station,
            "route_id": decision.route_id,
            "reasons": msgspec.to_builtins(decision.reasons),
            "versions": msgspec.to_builtins(decision.versions),
        }


def _in_time(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Entries by their time, those of one moment as one follows from another: a tip's decision, what a person corrected, what
    was decided on it, what came of that. One whose time is not known stays after the one it came with."""
    placed, last = [], 0
    for entry in entries:
        last = parse_time(entry["at"]) if entry["at"] is not None else last
        decided, cause = entry["kind"] == "decided", entry.get("cause")
        rank = (0 if cause == "tip" else 2) if decided else 1 if entry["kind"] == "corrected" else 3
        placed.append((last, rank, entry))
    return [entry for _, _, entry in sorted(placed, key=lambda one: one[:2])]


def _suggestions(connection: Connection, incident_id: str) -> list[Mapping[str, Any]]:
    """Incidents linked to this one as `suggested`, in either direction, that still stand by themselves."""
    here = incident_tips.c.incident_id == incident_id
    named = select(incident_tips.c.link_to).where(here, incident_tips.c.link == "suggested")
    naming = select(incident_tips.c.incident_id).where(
        and_(incident_tips.c.link_to == incident_id, incident_tips.c.link == "suggested")
    )
    either = or_(incidents.c.incident_id.in_(named), incidents.c.incident_id.in_(naming))
    wanted = select(incidents).where(either, incidents.c.merged_into.is_(None), incidents.c.incident_id != incident_id)
    return [dict(row) for row in connection.execute(wanted.order_by(incidents.c.received_at).limit(20)).mappings()]


def _linked(latest: Any) -> list[dict[str, Any]]:
    pairs = {
        (decision.link, decision.link_to)
        for decision in latest
        if decision.link in ("recurrence", "suggested") and decision.link_to
    }
    return [{"link": link, "incident_id": other} for link, other in sorted(pairs)]
