"""Every token of every role against every route, and foreign ids: read off the OpenAPI document and the app itself.

A route that is new fails here until it is described, until its roles are the ones that the app lets in, and until it is
said below what protects the object that its address names.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.routing import Route

from schemas.vocabulary import ROLES
from stations.pages import Site, page_routes
from tests.acceptance.test_stations_api import scope
from tests.town import Town
from tipline.ops_http import openapi_document

POLICE = "police-xiliangwa"
FIRE = "大邵村东头柴火垛着了，离房子就十来米，快来人"

#: What an address names, and so to whom it does not exist. `public`: what anybody may see, or a key of its own.
NAMED = {
    "/v1/tips/{tip_id}/decision": "tip",
    "/v1/receipts/{receipt}": "public",
    "/v1/webhooks/standard/{source}": "signed",
    "/v1/webhooks/telegram/{source}": "signed",
    "/v1/webhooks/wecom/{source}": "signed",
    "/open311/v2/discovery.{format}": "public",
    "/open311/v2/services.{format}": "public",
    "/open311/v2/services/{service_code}.{format}": "public",
    "/open311/v2/requests.{format}": "public",
    "/open311/v2/requests/{service_request_id}.{format}": "public",
    "/v1/stations/{station}/assignments": "station",
    "/v1/stations/{station}/claim": "station",
    "/v1/stations/{station}/events": "station",
    **{
        f"/v1/assignments/{{assignment_id}}/{move}": "assignment"
        for move in (
            "heartbeat", "acknowledge", "start", "release", "return", "transfer", "escalate", "resolve", "reopen", "note",
        )
    },
    "/v1/assignments/{assignment_id}": "assignment",
    "/v1/incidents/{incident_id}": "incident",
    **{f"/v1/incidents/{{incident_id}}/{action}": "incident" for action in ("merge", "split", "relabel", "relocate")},
}  # fmt: skip

#: Whom nothing of police-xiliangwa exists for: (role, station, source).
STRANGERS: list[tuple[Any, str | None, str | None]] = [
    ("station", "police-madian", None),
    ("station", "county-triage", None),
    ("intake", None, "wechat:elsewhere"),
]

BODIES: dict[str, Any] = {
    "return": {"reason": "属地不符"},
    "transfer": {"station": "police-madian", "reason": "x"},
    "escalate": {"reason": "x"},
    "resolve": {"outcome": "x"},
    "note": {"text": "x"},
    "merge": {"into": "0" * 8, "reason": "x"},
    "split": {"tip_ids": ["x"], "reason": "x"},
    "relabel": {"urgent": True, "reason": "x"},
    "relocate": {"area": "anping/madian", "reason": "x"},
}


def operations() -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (method.upper(), path, operation)
        for path, methods in openapi_document()["paths"].items()
        for method, operation in methods.items()
        if method in ("get", "post", "put", "patch", "delete")
    ]


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    with pytest.MonkeyPatch.context() as patch:
        made = Town(tmp_path_factory.mktemp("town") / "data", patch)
        made.said = made.tip(FIRE, message_id="m1", source="wechat:xiliangwa-3")  # type: ignore[attr-defined]
        yield made
        made.close()


def filled(town: Town, path: str) -> str:
    said: Any = town.said  # type: ignore[attr-defined]
    item = town.incident(said["incident_id"])["assignment"]["id"]
    values = {
        "tip_id": said["tip_id"], "receipt": said["receipt"], "source": "partner:x", "format": "json", "service_code": "theft",
        "service_request_id": said["receipt"], "station": POLICE, "assignment_id": item, "incident_id": said["incident_id"],
    }  # fmt: skip
    return re.sub(r"\{(\w+)\}", lambda found: str(values[found[1]]), path)


def status(town: Town, method: str, path: str, token: str | None, headers: dict[str, str] | None = None) -> int:
    """The answer's status; an endless answer is left after its first line."""
    body = b"" if method == "GET" else json.dumps(BODIES.get(path.rsplit("/", 1)[1], {})).encode()
    given = {**({"authorization": f"Bearer {token}"} if token else {}), **(headers or {})}
    given |= {"content-type": "application/json"} if body else {}
    if body and path.startswith("/open311/"):
        body, given["content-type"] = b"service_code=", "application/x-www-form-urlencoded"
    # From another machine: this one may read the metrics without a token.
    whole = {**scope(method, path, given), "client": ("192.0.2.1", 1)}

    async def ask() -> int:
        began, told = asyncio.Event(), list[int]()

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                told.append(message["status"])
                began.set()

        task = asyncio.ensure_future(town.app(whole, receive, send))
        await asyncio.wait_for(began.wait(), 20)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return told[0]

    return asyncio.run(ask())


def plain(path: str) -> str:
    return re.sub(r"\{[^}]+\}", "{}", path)


def test_the_document_names_every_route_of_the_app_and_no_other(town: Town) -> None:
    pages = {(method, plain(route.path)) for route in page_routes(Site(town.embedded.pages)) if isinstance(route, Route) for method in route.methods or ()}
    app = {(method, plain(route.path)) for route in town.app.routes if isinstance(route, Route) for method in route.methods or ()}
    described = {(method, plain(path)) for method, path, _ in operations()}
    assert {one for one in app - pages if one[0] != "HEAD"} == described


def test_every_named_object_is_classified() -> None:
    assert {path for _, path, _ in operations() if "{" in path} == set(NAMED)


@pytest.mark.parametrize("role", [*ROLES, None])
def test_every_role_against_every_route(town: Town, role: Any) -> None:
    station = {"station": POLICE} if role == "station" else {}
    source = {"source": "wechat:xiliangwa-3"} if role == "intake" else {}
    token = None if role is None else town.token(role, **station, **source)
    for method, path, operation in operations():
        allowed, optional = operation["x-roles"], operation.get("security") == []
        found = status(town, method, filled(town, path), token)
        if NAMED.get(path) == "signed":
            assert found in (400, 401), (method, path)  # a token is no signature
        elif role is None:
            assert (found == 401) != optional, (method, path, found)
        elif allowed and role not in allowed:
            assert found == 403, (method, path, found)
        else:
            assert found in (200, 202, 400, 406, 409, 412, 415, 422, 428), (method, path, found)


@pytest.mark.parametrize(("role", "station", "source"), STRANGERS)
def test_foreign_ids_do_not_exist(town: Town, role: Any, station: str | None, source: str | None) -> None:
    token = town.token(role, station=station, source=source)
    before = town.incident(town.said["incident_id"])  # type: ignore[attr-defined]
    tried = 0
    for method, path, operation in operations():
        if NAMED.get(path) in (None, "public", "signed") or role not in operation["x-roles"]:
            continue
        for match in (None, '"1"'):
            found = status(town, method, filled(town, path), token, {"if-match": match} if match else {})
            assert found == 404, (method, path, match)
            tried += 1
    assert tried >= (2 if role == "intake" else 30)
    assert town.incident(town.said["incident_id"]) == before  # type: ignore[attr-defined]
