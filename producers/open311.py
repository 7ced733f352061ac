"""Open311 GeoReport v2, the part that a reporting app needs: the services, a request in, its status out.

A service is a category, a request is a tip, its id is the tip's receipt. Answers are JSON or XML by the address's
ending, errors too, as the standard has them. Nothing personal is ever given back: who holds a receipt learns how far it
has come, no more. A report of what is known already is linked to it, never refused.

Apart from the standard: a request without a place is taken (the text may name it), requests are looked up by their ids
only, and an `api_key` in the query is not looked at, since addresses end up in logs.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import parse_qsl
from xml.etree import ElementTree

import msgspec
import orjson
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from producers.http import POSTERS, Door
from producers.keyring import Keyring, normal_receipt
from producers.parsing import malformed
from producers.serving import served
from schemas.errors import Mistake, Rejected, Unavailable
from schemas.vocabulary import CATEGORIES, Category
from sinks import web
from streams.ports import Principal

BASE: Final = "/open311/v2"
FORM: Final = "application/x-www-form-urlencoded"
#: Where a token is bound to no source.
SOURCE: Final = "open311"
#: Ids that one look-up may name; fields of one form.
MAX_IDS, MAX_FIELDS = 100, 100

_MEDIA_TYPES: Final = {"json": "application/json", "xml": "text/xml"}
_DEGREES = re.compile(r"[+-]?[0-9]{1,3}(\.[0-9]{1,20})?")
_HAN = re.compile(r"[\u4e00-\u9fff·]+")


class Service(msgspec.Struct, frozen=True):
    """One category as GeoReport lists it."""

    service_code: Category
    service_name: str
    description: str
    keywords: str
    metadata: bool = False
    type: str = "realtime"
    group: str = ""


_WORDS: Final[dict[Category, tuple[str, str, str]]] = {
    "dispute": (
        "矛盾纠纷 Dispute",
        "邻里、土地、婚姻家庭、欠款欠薪、消费等纠纷。 Neighbours, land, family, debts and wages, purchases.",
        "纠纷,dispute",
    ),
    "fraud": (
        "诈骗 Fraud",
        "电信网络诈骗、刷单、冒充、投资理财骗局等。 Scams by phone, online or in person.",
        "诈骗,fraud,scam",
    ),
    "theft": (
        "盗窃 Theft",
        "入室盗窃、盗窃车辆、电缆、牲畜、庄稼等。 Burglary; theft of vehicles, cables, livestock, crops.",
        "盗窃,theft",
    ),
    "safety_hazard": (
        "安全隐患 Safety hazard",
        "火情、用电、燃气、道路、房屋、用水等隐患。 Fire, electricity, gas, roads, buildings, water.",
        "隐患,hazard,fire",
    ),
    "other": ("其他 Other", "拿不准或不属于以上各类。 Anything else, or not sure.", "其他,other"),
}

SERVICES: Final = tuple(Service(code, *_WORDS[code]) for code in CATEGORIES)

#: A receipt's status -> open or closed, and plain words.
_STATUS: Final[dict[str, tuple[str, str]]] = {
    "received": ("open", "已收到，等待派出。 Received, not yet with a station."),
    "with_station": ("open", "已派到负责的单位。 With the station that must act."),
    "in_work": ("open", "正在处理。 Being worked on."),
    "closed": ("closed", "已办结。 Closed."),
}

#: Where our refusals point -> the form's field.
_FIELD_OF: Final = {
    "/text": "description",
    "/place/text": "address_string",
    "/place/lat": "lat",
    "/place/lon": "long",
    "/place": "lat, long",
    "/reporter/name": "first_name, last_name",
    "/reporter/phone": "phone",
    "/reporter/id": "account_id, device_id, email",
    "/attachments": "media_url",
    "/source": "api_key",
}


def open311_routes(door: Door) -> list[Route]:
    """The routes under `/open311/v2/`. `.{format}` is json or xml."""

    def route(path: str, endpoint: Any, method: str = "GET") -> Route:
        whole = f"{BASE}/{path}.{{format}}"

        async def called(request: Request) -> Response:
            _format(request)
            response: Response = await endpoint(door, request)
            return response

        return Route(whole, served(door, whole, called, _refuse), methods=[method])

    return [
        route("discovery", _discovery),
        route("services", _services),
        route("services/{service_code}", _definition),
        route("requests", _post_request, "POST"),
        route("requests", _get_requests),
        route("requests/{service_request_id}", _get_request),
    ]


# --- what there is ----------------------------------------------------------------------------------------------------


async def _discovery(_: Door, request: Request) -> Response:
    endpoint = {
        "specification": "http://wiki.open311.org/GeoReport_v2",
        "url": str(request.base_url).rstrip("/") + BASE,
        "changeset": "2026-01-01T00:00:00Z",
        "type": "production",
        "formats": [_MEDIA_TYPES["json"], _MEDIA_TYPES["xml"]],
    }
    document = {
        "changeset": "2026-01-01T00:00:00Z",
        "contact": "The operator of this installation",
        "key_service": "tipline token create --role intake",
        "endpoints": [endpoint],
    }
    return _one(request, "discovery", document)


async def _services(_: Door, request: Request) -> Response:
    return _many(request, "services", "service", [msgspec.to_builtins(one) for one in SERVICES])


async def _definition(_: Door, request: Request) -> Response:
    code = request.path_params["service_code"]
    if code not in CATEGORIES:
        raise _unknown_service()
    return _one(request, "service_definition", {"service_code": code, "attributes": []})


def _unknown_service() -> Rejected:
    known = ", ".join(CATEGORIES)
    return Rejected(404, "not_found", "There is no such service", [Mistake("/service_code", f"one of {known}")])


# --- a request in -----------------------------------------------------------------------------------------------------


async def _post_request(door: Door, request: Request) -> Response:
    web.media_type(request, (FORM,))
    raw = await web.read_body(request, door.limits.body_bytes, door.limits.body_seconds)
    received_at = door.clock()
    form = _form(raw)
    principal = _caller(door, request, form)
    door.buckets.take(principal.token_id, 1, received_at)
    accepted = await door.take(submission(form, principal, door.keyring), principal, received_at)
    made = {
        "service_request_id": accepted.receipt,
        "service_notice": "凭此编号可查询进展。 Ask with this id how it goes.",
    }
    return _many(request, "service_requests", "request", [made], 201)


def _form(raw: bytes) -> dict[str, list[str]]:
    """The form's fields that are not blank. Raises Rejected (400)."""
    try:
        pairs = parse_qsl(raw.decode(), keep_blank_values=True, errors="strict", max_num_fields=MAX_FIELDS)
    except ValueError:
        raise malformed(f"not a form in UTF-8 of at most {MAX_FIELDS} fields") from None
    form: dict[str, list[str]] = {}
    for name, value in pairs:
        if "\0" in value or "\0" in name:
            raise malformed("holds the character U+0000")
        if value.strip():
            form.setdefault(name, []).append(value.strip())
    return form


def _caller(door: Door, request: Request, form: dict[str, list[str]]) -> Principal:
    """Who calls, by `api_key` or else by the usual header. Raises Rejected (401, 403)."""
    key = _first(form, "api_key")
    if key is None:
        return web.bearer(request, door.authority, POSTERS)
    principal = door.authority.principal(key) if len(key) <= 512 else None
    if principal is None:
        raise Rejected(401, "unauthorized", "A valid api_key is needed: an intake token")
    if principal.role not in POSTERS:
        raise Rejected(403, "forbidden", f"The token's role ({principal.role}) may not do this")
    return principal


def submission(form: dict[str, list[str]], principal: Principal, keyring: Keyring) -> dict[str, Any]:
    """The form as a submission. Raises Rejected: 400 for what is missing or unreadable, 404 for an unknown service."""
    code, text = _first(form, "service_code"), _first(form, "description")
    missing = [name for name, value in (("service_code", code), ("description", text)) if value is None]
    if missing:
        raise _bad(*(Mistake(f"/{name}", "required") for name in missing))
    if code not in CATEGORIES:
        raise _unknown_service()
    found = {
        "text": text,
        "category_hint": code,
        "place": _place(form),
        "reporter": _reporter(form),
        "attachments": [{"url": url} for url in form.get("media_url", [])],
        "message_id": _message_id(form, keyring),
        "source": SOURCE if principal.source is None else None,
    }
    return {name: value for name, value in found.items() if value}


def _first(form: dict[str, list[str]], name: str) -> str | None:
    values = form.get(name, [])
    if len(values) > 1:
        raise _bad(Mistake(f"/{name}", "may be given once"))
    return values[0] if values else None


def _bad(*found: Mistake) -> Rejected:
    return Rejected(400, "invalid", "The request is not as GeoReport v2 has it", found)


def _place(form: dict[str, list[str]]) -> dict[str, Any]:
    place = {"lat": _degrees(form, "lat"), "lon": _degrees(form, "long"), "text": _first(form, "address_string")}
    return {name: value for name, value in place.items() if value is not None}


def _degrees(form: dict[str, list[str]], name: str) -> float | None:
    value = _first(form, name)
    if value is None:
        return None
    if not _DEGREES.fullmatch(value):
        raise _bad(Mistake(f"/{name}", "must be WGS-84 degrees, such as 38.2341"))
    return float(value)


def _reporter(form: dict[str, list[str]]) -> dict[str, str]:
    """All of it is sealed. There is no field for an address of e-mail: it stands for the person where no id does."""
    who = _first(form, "account_id") or _first(form, "device_id") or _first(form, "email")
    reporter = {"id": who, "name": _name(form), "phone": _first(form, "phone")}
    return {name: value for name, value in reporter.items() if value}


def _name(form: dict[str, list[str]]) -> str:
    first, last = _first(form, "first_name") or "", _first(form, "last_name") or ""
    return last + first if _HAN.fullmatch(last + first) else f"{first} {last}".strip()


def _message_id(form: dict[str, list[str]], keyring: Keyring) -> str | None:
    """Idempotency where the app has an id of its own, as FixMyStreet has: the same report again is the same tip.

    The form's digest is part of it, so that the same id with other content is one more tip and no conflict. Without an
    id two equal forms are two reports.
    """
    if _first(form, "attribute[fixmystreet_id]") is None:
        return None
    said = {name: values for name, values in form.items() if name != "api_key"}
    return "fms-" + keyring.digest("open311.form", orjson.dumps(said, option=orjson.OPT_SORT_KEYS))[:16].hex()


# --- its status out ---------------------------------------------------------------------------------------------------


async def _get_requests(door: Door, request: Request) -> Response:
    named = request.query_params.get("service_request_id", "")
    ids = [one for one in (part.strip() for part in named.split(",")) if one]
    if not 1 <= len(ids) <= MAX_IDS:
        detail = f"name 1 to {MAX_IDS} of them, separated by commas: requests are not listed otherwise"
        raise _bad(Mistake("/service_request_id", detail))
    return _many(request, "service_requests", "request", await _statuses(door, ids))


async def _get_request(door: Door, request: Request) -> Response:
    found = await _statuses(door, [request.path_params["service_request_id"]])
    if not found:
        raise web.not_found()
    return _many(request, "service_requests", "request", found)


async def _statuses(door: Door, typed: Sequence[str]) -> list[dict[str, str]]:
    """What is known of these ids, in their order; unknown ones are left out. No token is asked for, so all share one
    bucket."""
    door.buckets.take("open311", len(typed), door.clock())
    receipts = dict.fromkeys(receipt for one in typed if (receipt := normal_receipt(one)))
    return await run_in_threadpool(lambda: [made for one in receipts if (made := _status(door, one))])


def _status(door: Door, receipt: str) -> dict[str, str] | None:
    known = door.status_of_receipt(receipt)
    if known is None:
        return None
    status, words = _STATUS[known["status"]]
    return {
        "service_request_id": receipt,
        "status": status,
        "status_notes": words,
        "updated_datetime": known["at"],
    }


# --- answers ----------------------------------------------------------------------------------------------------------


def _format(request: Request) -> str:
    ending: str = request.path_params["format"]
    if ending not in _MEDIA_TYPES:
        raise web.not_found()
    return ending


def _refuse(request: Request, error: Rejected | Unavailable) -> Response:
    """The standard's errors; what breaks our schema is 400 there."""
    usual = web.problem_response(error)
    status = 400 if usual.status_code == 422 else usual.status_code
    title = str(error) if isinstance(error, Rejected) else "Nothing was stored: send the same again later"
    found = error.mistakes if isinstance(error, Rejected) else ()
    details = [f"{_field(one.pointer)}: {one.detail}".removeprefix(": ") for one in found]
    made = {"code": status, "description": ". ".join([title, *details])}
    response = _many(request, "errors", "error", [made], status)
    response.headers.update({k: v for k, v in usual.headers.items() if not k.startswith("content-")})
    return response


def _field(pointer: str) -> str:
    known = [name for name in _FIELD_OF if pointer == name or pointer.startswith(name + "/")]
    return _FIELD_OF[max(known, key=len)] if known else pointer.removeprefix("/")


def _many(request: Request, root: str, item: str, rows: Sequence[dict[str, Any]], status: int = 200) -> Response:
    if request.path_params["format"] != "xml":
        return web.answer(rows, status)
    tree = ElementTree.Element(root)
    for row in rows:
        _fill(ElementTree.SubElement(tree, item), row)
    return _xml(tree, status)


def _one(request: Request, root: str, document: dict[str, Any]) -> Response:
    if request.path_params["format"] != "xml":
        return web.answer(document)
    tree = ElementTree.Element(root)
    _fill(tree, document)
    return _xml(tree, 200)


def _fill(node: ElementTree.Element, document: dict[str, Any]) -> None:
    """Fields as elements; a list `formats` as `<formats><format>` for each."""
    for name, value in document.items():
        child = ElementTree.SubElement(node, name)
        if not isinstance(value, list):
            child.text = str(value).lower() if isinstance(value, bool) else str(value)
            continue
        for one in value:
            inner = ElementTree.SubElement(child, name.removesuffix("s"))
            if isinstance(one, dict):
                _fill(inner, one)
            else:
                inner.text = str(one)


def _xml(tree: ElementTree.Element, status: int) -> Response:
    body = b'<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(tree, "utf-8", xml_declaration=False)
    return Response(body, status, {"cache-control": "no-store"}, _MEDIA_TYPES["xml"])
