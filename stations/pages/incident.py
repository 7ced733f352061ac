"""One incident: its reports, why it is here, its history, suggested duplicates, and what may be done with it."""

from __future__ import annotations

import re
from typing import Any, Final

from starlette.responses import Response
from starlette.routing import BaseRoute

from schemas.errors import Mistake, Rejected
from schemas.times import MINUTE, parse_time
from schemas.vocabulary import CATEGORIES, SUBTYPES
from sinks.database import reading, writing
from sinks.station_queue import Assignment, Book, Event, assignment_id
from stations.desk import find, read_only
from stations.incidents import ACTIONS, Action
from stations.lifecycle import RETURN_REASONS, WORKERS, Move, allowed
from stations.pages import accounts
from stations.pages.report import townships
from stations.pages.site import Site, Visit, see

#: How an incident may end; the words are the pages'.
OUTCOMES: Final = ("settled", "handled", "advised", "handed_over", "unfounded", "unreachable", "other")
#: Moves that only the holder of a claim may make.
_HOLDERS: Final = ("heartbeat", "acknowledge", "start", "release", "resolve")
_KEPT_APART: Final = "kept_apart"
#: Latitude and longitude as a reason's cue has them.
_DEGREES: Final = re.compile(r"(-?[0-9]{1,3}\.[0-9]{1,9}){2}")


def routes(site: Site) -> list[BaseRoute]:
    """`/console/incidents/{id}` and its corrections."""
    return [
        site.route("/console/incidents/{id}", _page, roles=WORKERS),
        site.route("/console/incidents/{id}/print", _print, roles=WORKERS),
        site.route("/console/incidents/{id}/apart", _keep_apart, "POST", roles=WORKERS),
        *(
            site.route(f"/console/incidents/{{id}}/{action}", _corrector(action), "POST", roles=WORKERS)
            for action in ACTIONS
        ),
    ]


def _page(visit: Visit) -> Response:
    return _rendered(visit, visit.request.path_params["id"], "incident.html")


def _print(visit: Visit) -> Response:
    return _rendered(visit, visit.request.path_params["id"], "print.html")


def _rendered(
    visit: Visit, identity: str, template: str, status: int = 200, problem: str | None = None, tried: str = ""
) -> Response:
    visit.pages.desk.settle(visit.pages.clock())
    station = visit.principal.station or _station(visit, identity)
    number = visit.pages.desk.stream(visit.principal, station, None)[0] if station else 0
    seen = visit.pages.incidents.get(visit.principal, identity)
    document = seen.document
    with reading(visit.pages.desk.engine) as connection:
        item, _ = find(connection, assignment_id(identity))
        actors = {event.get("by") for event in document["timeline"]} | {item.owner if item else None}
        if item is not None:
            actors.add(item.lease_holder)
        names = accounts.colleagues(connection, {actor for actor in actors if actor})
    county = visit.pages.desk.counties[document["county"]]
    return visit.site.render(
        visit,
        template,
        status,
        it=document,
        etag=seen.etag.strip('"'),
        item=item,
        follows=station,
        number=number,
        moves=_moves(visit, item),
        held_by_other=_held_by_other(visit, item),
        version=_version(item),
        suggested=_suggested(visit, document),
        points=_points(document),
        came_first=_came_first(document),
        history=_history(document),
        names=names,
        county=county,
        townships=townships(county),
        stations=[s for s in county.stations if item is None or s != item.station],
        outcomes=OUTCOMES,
        return_reasons=tuple(RETURN_REASONS),
        categories=CATEGORIES,
        subtypes=SUBTYPES,
        said=visit.asked("said", 20),
        problem=problem,
        tried=tried,
    )


def _station(visit: Visit, identity: str) -> str | None:
    """Whose stream tells of the incident, for a visitor of no station."""
    with reading(visit.pages.desk.engine) as connection:
        item, _ = find(connection, assignment_id(identity))
    return item.station if item is not None else None


def _version(item: Assignment | None) -> str:
    if item is None:
        return ""
    return str(item.lease_token if item.status == "claimed" else item.revision)


def _held_by_other(visit: Visit, item: Assignment | None) -> bool:
    claimed = item is not None and item.status == "claimed"
    return claimed and item is not None and item.lease_holder != visit.principal.token_id


def _moves(visit: Visit, item: Assignment | None) -> tuple[Move, ...]:
    """What the visitor may do now: nothing for a cc station, no work on what somebody else has just claimed."""
    if item is None or not visit.pages.desk.holds(visit.principal, item):
        return ()
    found = allowed(visit.pages.desk.ladders[item.county], item)
    return tuple(move for move in found if move not in _HOLDERS) if _held_by_other(visit, item) else found


def after_refusal(visit: Visit, identity: str, move: str, error: Rejected) -> Response:
    """The incident as it is now, with why the move was refused and what had been typed."""
    with reading(visit.pages.desk.engine) as connection:
        item, _ = find(connection, identity)
    if item is None:
        raise error
    words = visit.shown.refusal("move_" + error.slug, error.status)
    return _rendered(visit, item.incident_id, "incident.html", error.status, words, tried=move)


# --- history ----------------------------------------------------------------------------------------------------------


def _history(document: dict[str, Any]) -> list[dict[str, Any]]:
    """What happened, the newest first: tips as they came, then the work. Heartbeats say nothing to anybody."""
    came = [{"kind": "tip", "at": tip["received_at"], "tip": tip, "by": None} for tip in document["tips"]]
    work = [event for event in document["timeline"] if not _silent(event)]
    return _together(sorted([*came, *work], key=_moment, reverse=True))


def _together(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A run of many tips as one line: they stand above with their texts, and would bury what people did."""
    found: list[dict[str, Any]] = []
    for event in events:
        last = found[-1] if found else None
        if event["kind"] == "tip" and last is not None and last["kind"] in ("tip", "tips"):
            found[-1] = {**event, "kind": "tips", "n": last.get("n", 1) + 1, "until": last.get("until", last["at"])}
        else:
            found.append(event)
    return found


def _silent(event: dict[str, Any]) -> bool:
    """What says nothing to an officer: revisions of decisions, heartbeats, and the count that a tip's coming tells."""
    counted = event["kind"] == "updated" and set(event.get("data") or {}) <= {"corroborations"}
    return counted or event["kind"] in ("decided", "heartbeat")


def _moment(event: dict[str, Any]) -> tuple[int, int]:
    return parse_time(event["at"]), event.get("number", 0)


def _came_first(document: dict[str, Any]) -> str | None:
    """The tip that was received a minute or more before the one that tells of the earliest: its tip_id."""
    first = min(document["tips"], key=lambda tip: parse_time(tip["received_at"]), default=None)
    if first is None or parse_time(document["tips"][0]["received_at"]) - parse_time(first["received_at"]) < MINUTE:
        return None
    return str(first["tip_id"])


# --- suggested duplicates ---------------------------------------------------------------------------------------------


def _suggested(visit: Visit, document: dict[str, Any]) -> list[dict[str, Any]]:
    """Incidents that may be the same and that nobody has kept apart; with their texts where the visitor may see them."""
    apart = {
        (event.get("data") or {}).get("incident_id") for event in document["timeline"] if event["kind"] == _KEPT_APART
    }
    shown, identity = [], document["incident_id"]
    for other in document["suggested"]:
        if other["incident_id"] in apart:
            continue
        full = visit.pages.incidents.get(visit.principal, other["incident_id"]) if other["yours"] else None
        version = full.etag.strip('"') if full is not None else ""
        why = _why_suggested(visit, document["tips"], other["incident_id"])
        if why is None and full is not None:
            why = _why_suggested(visit, full.document["tips"], identity)
        shown.append({**other, "full": full and full.document, "version": version, "why": why})
    return shown


def _why_suggested(visit: Visit, tips: list[dict[str, Any]], other: str) -> str | None:
    """Why the machine thinks of the other incident, in words, where one of the tips says it."""
    for reason in (reason for tip in tips for reason in tip["reasons"]):
        if reason["kind"] == "suggested" and other in reason["detail"]:
            words = visit.shown.why(reason).words
            return words[:1].upper() + words[1:]
    return None


def _points(document: dict[str, Any]) -> list[tuple[float, float]]:
    """The points (lat, lon) that tips gave, for the map; each stands in its tip's reasons."""
    found: dict[tuple[float, float], None] = {}
    for reason in (reason for tip in document["tips"] for reason in tip["reasons"]):
        lat, _, lon = reason["cue"].partition(",")
        if reason["kind"] == "place" and reason["detail"].startswith("point ") and _DEGREES.fullmatch(lat + lon):
            found[float(lat), float(lon)] = None
    return list(found)[:100]


def _keep_apart(visit: Visit) -> Response:
    """Notes on both incidents that they are two, so that nobody is asked again."""
    identity, other = visit.request.path_params["id"], visit.first("other", 64)
    desk, now = visit.pages.desk, visit.pages.clock()
    with writing(desk.engine) as connection:
        book = Book(connection)
        book.load(ids=[assignment_id(identity), assignment_id(other)])
        mine, theirs = book.of_incident(identity), book.of_incident(other)
        if mine is None or theirs is None or mine.county != theirs.county:
            raise Rejected(404, "not_found", "No such incident")
        if not desk.sees(visit.principal, mine, book.cc(mine)):
            raise Rejected(404, "not_found", "No such incident")
        if not desk.holds(visit.principal, mine):
            raise read_only()
        for item, away in ((mine, other), (theirs, identity)):
            principal = visit.principal
            event = Event(
                kind=_KEPT_APART, at=now, actor=principal.token_id, role=principal.role, data={"incident_id": away}
            )
            book.record(item, event, bump=False)
        stations = book.save()
    desk.announce(stations)
    return see(f"/console/incidents/{identity}?said=apart")


# --- corrections ------------------------------------------------------------------------------------------------------


def _corrector(action: Action) -> Any:
    def corrected(visit: Visit) -> Response:
        return _correct(visit, action)

    return corrected


def _correct(visit: Visit, action: Action) -> Response:
    identity = visit.request.path_params["id"]
    # The older incident survives; which of the two was looked at does not matter.
    about, if_match = visit.first("about", 64) or identity, f'"{visit.first("version", 40)}"'
    try:
        answer = visit.pages.incidents.correct(
            visit.principal, about, action, _document(visit, action), if_match=if_match, now=visit.pages.clock()
        )
    except Rejected as error:
        if error.status in (409, 412, 422):
            words = visit.shown.refusal("move_" + error.slug, error.status)
            return _rendered(visit, identity, "incident.html", error.status, words, tried=action)
        raise
    if action == "merge" and answer["status"] == "accepted":
        return see(f"/console/incidents/{visit.first('into', 64)}?said=merge")
    said = "requested" if answer["status"] == "requested" else "corrected"
    return see(f"/console/incidents/{identity}?said={said}")


def _document(visit: Visit, action: Action) -> dict[str, Any]:
    reason = visit.first("reason", 1000) or visit.t("correction.by_hand")
    if action == "merge":
        return {"into": visit.first("into", 64), "reason": reason}
    if action == "split":
        return {"tip_ids": visit.form.get("tip_ids", [])[:500], "reason": reason}
    if action == "relocate":
        return {"area": visit.first("area", 200), "reason": reason}
    kind = visit.first("kind", 80)
    category, _, subtype = kind.partition("/")
    document: dict[str, Any] = {"reason": reason}
    if kind:
        document |= {"category": category} | ({"subtype": subtype} if subtype else {})
    urgent = visit.first("urgent", 5)
    if urgent in ("yes", "no"):
        document["urgent"] = urgent == "yes"
    if len(document) == 1:
        raise Rejected(422, "invalid", "Say what it is", [Mistake("/kind", "choose a kind or an urgency")])
    return document
