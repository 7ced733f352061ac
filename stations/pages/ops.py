"""The ops page: the parts and how far behind they are, dead letters to look at, replay or discard, and the audit."""

from __future__ import annotations

from typing import Any, Final, cast

from starlette.responses import Response
from starlette.routing import BaseRoute

from schemas.errors import BadRecord, Rejected
from schemas.vocabulary import Role
from sinks.audit import audit_actions, audit_entries
from sinks.database import reading
from sinks.dead_letters import DeadLetter, DeadStatus, counted, find, listed
from stations.pages import accounts
from stations.pages.site import Site, Visit, see

ROLES: Final[tuple[Role, ...]] = ("ops", "admin")
AUDITORS: Final[tuple[Role, ...]] = ("admin",)
STATUSES: Final = ("kept", "replayed", "discarded")
#: Dead letters on one page, and bytes of one that are shown.
PAGE: Final = 50
MOST_BYTES: Final = 8_000


def routes(site: Site) -> list[BaseRoute]:
    """`/ops` and what lies below it."""
    return [
        site.route("/ops", _page, roles=ROLES),
        site.route("/ops/audit", _audit, roles=AUDITORS),
        site.route("/ops/letters/{id}", _letter, "POST", roles=ROLES),
        site.route("/ops/letters/{id}/replay", _replay, "POST", roles=ROLES),
        site.route("/ops/letters/{id}/discard", _discard, "POST", roles=ROLES),
    ]


def _page(visit: Visit) -> Response:
    status = visit.asked("status")
    chosen = cast(DeadStatus, status if status in STATUSES else "kept")
    county = visit.principal.county
    with reading(visit.pages.desk.engine) as connection:
        letters = listed(connection, status=chosen, county=county, after=visit.after(), limit=PAGE + 1)
        figures = counted(connection)
    by_status = {name: sum(n for (_, of), n in figures.items() if of == name) for name in STATUSES}
    more = letters[PAGE - 1] if len(letters) > PAGE else None
    return visit.site.render(
        visit,
        "ops.html",
        parts=visit.pages.ops.parts(),
        letters=letters[:PAGE],
        following=None if more is None else f"{more.at}.{more.id}",
        by_status=by_status,
        chosen=chosen,
        said=visit.asked("said", 12),
    )


def _audit(visit: Visit) -> Response:
    """Who saw or changed what. An entry names no county, so an administrator of one among several is shown none."""
    if visit.principal.county is not None and len(visit.pages.desk.counties) > 1:
        raise Rejected(403, "forbidden", "The audit is the whole installation's")
    before = visit.asked("before", 15)
    with reading(visit.pages.desk.engine) as connection:
        actions = audit_actions(connection)
        action = visit.asked("action") if visit.asked("action") in actions else None
        start = int(before) if before.isascii() and before.isdecimal() else None
        rows = audit_entries(connection, action=action, before=start, limit=PAGE + 1)
        names = accounts.colleagues(connection, {row.actor for row in rows})
    following = rows[PAGE - 1].seq if len(rows) > PAGE else None
    return visit.site.render(
        visit, "audit.html", rows=rows[:PAGE], names=names, actions=actions, chosen=action, following=following
    )


def _found(visit: Visit) -> DeadLetter:
    with reading(visit.pages.desk.engine) as connection:
        letter = find(connection, visit.request.path_params["id"])
    if letter is None or visit.principal.county not in (None, letter.county):
        raise Rejected(404, "not_found", "No such dead letter")
    return letter


def _letter(visit: Visit) -> Response:
    """A look is an act of its own, written to the audit: hence by POST."""
    letter = _found(visit)
    raw = visit.pages.ops.open_letter(letter.id, visit.principal.token_id)
    return visit.site.render(visit, "letter.html", letter=letter, size=len(raw or b""), dump=_dump(raw or b""))


def _dump(raw: bytes) -> str:
    """Bytes as text, what is no text escaped; cut where it is long."""
    return raw[:MOST_BYTES].decode("utf-8", "backslashreplace")


def _replay(visit: Visit) -> Response:
    return _settled(visit, visit.pages.ops.replay, "replayed")


def _discard(visit: Visit) -> Response:
    return _settled(visit, visit.pages.ops.discard, "discarded")


def _settled(visit: Visit, act: Any, said: str) -> Response:
    letter = _found(visit)
    try:
        done = act(letter.id, visit.principal.token_id)
    except BadRecord:  # no version of ours can read it: it stays where it is
        return see("/ops?said=unreadable")
    return see(f"/ops?said={said if done else 'settled'}")
