"""Logging in and out, with a station's token or with a name and a password."""

from __future__ import annotations

from typing import Final

from starlette.responses import Response
from starlette.routing import BaseRoute

from schemas.vocabulary import Role
from sinks.database import reading, writing
from stations.pages import accounts
from stations.pages.site import Site, Visit, local, see

#: Where each role begins.
HOMES: Final[dict[Role, str]] = {
    "station": "/console",
    "county": "/county",
    "admin": "/county",
    "hotline": "/desk",
    "statistician": "/statistics",
    "ops": "/ops",
    "intake": "/",
}


def routes(site: Site) -> list[BaseRoute]:
    """`/login`, `/logout`."""
    return [
        site.route("/login", _login_page),
        site.route("/login", _login, "POST"),
        site.route("/logout", _logout, "POST"),
    ]


def _login_page(visit: Visit) -> Response:
    if visit.session is not None:
        return see(local(visit.asked("next", 500), HOMES[visit.session.principal.role]))
    return visit.site.render(visit, "login.html", problem=None, next=visit.asked("next", 500), name="")


def _login(visit: Visit) -> Response:
    pages, now = visit.pages, visit.pages.clock()
    name, given = visit.first("name", 100), visit.first("token", 512)
    tried = {f"address {visit.address}": 20}
    if name:
        tried |= {f"name {name.lower()}": 10, f"name {name.lower()} address {visit.address}": 3}
    wait = visit.site.logins.wait(tried, now)
    if wait:
        problem = visit.t(
            "login.wait",
            span=visit.shown.span(max(wait, 1000)) if wait >= 60_000 else visit.t("span.seconds", s=wait // 1000 + 1),
        )
        response = _again(visit, 429, problem, name)
        response.headers["retry-after"] = str(wait // 1000 + 1)
        return response
    found = _token(visit, given) if given else _password(visit, name, visit.first("password", accounts.MOST_PASSWORD))
    if found is None:
        visit.site.logins.failed(tried, now)
        return _again(visit, 401, visit.t("login.wrong_token" if given else "login.wrong_password"), name)
    visit.site.logins.succeeded(tried)
    kind, subject = found
    with writing(pages.desk.engine) as connection:
        if visit.secret:
            accounts.end(connection, visit.secret)
        secret = accounts.begin(connection, kind, subject, entropy=pages.entropy, now=now)
    with reading(pages.desk.engine) as connection:
        session, _ = accounts.find(connection, secret, now=now)
    visit.cookies["session"] = (secret, None)
    home = HOMES[session.principal.role] if session is not None else "/"
    return see(local(visit.first("next", 500), home))


def _again(visit: Visit, status: int, problem: str, name: str) -> Response:
    wanted = visit.first("next", 500)
    return visit.site.render(visit, "login.html", status, problem=problem, next=wanted, name=name)


def _token(visit: Visit, given: str) -> tuple[accounts.Kind, str] | None:
    principal = visit.pages.authority.principal(given)
    return None if principal is None else ("token", principal.token_id)


def _password(visit: Visit, name: str, password: str) -> tuple[accounts.Kind, str] | None:
    if not name or not password:
        return None
    with reading(visit.pages.desk.engine) as connection:
        identity = accounts.check_password(connection, name, password)
    return None if identity is None else ("user", identity)


def _logout(visit: Visit) -> Response:
    if visit.secret:
        with writing(visit.pages.desk.engine) as connection:
            accounts.end(connection, visit.secret)
    visit.cookies["session"] = ("", 0)
    response = see("/login")
    response.headers["clear-site-data"] = '"cache"'
    return response
