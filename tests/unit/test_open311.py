"""Open311 GeoReport v2: the services, a request in, its status out, errors in the standard's form."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from xml.etree import ElementTree

import pytest

from producers.http import POSTERS
from producers.open311 import open311_routes
from producers.webhooks import webhook_routes
from schemas.vocabulary import CATEGORIES
from tests.unit.channel_door import KEYRING, Answer, House
from tipline.ops_http import openapi_document

FORM = {
    "api_key": "bound",
    "service_code": "safety_hazard",
    "description": "路灯杆漏电，联系13812345678",
    "lat": "38.2341",
    "long": "115.5201",
    "address_string": "西两洼乡供销社门口",
    "first_name": "四",
    "last_name": "李",
    "phone": "13912345678",
    "media_url": "https://x.example/1.jpg",
    "device_id": "device-7",
    "jurisdiction_id": "anping",
}


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path, open311_routes)
    yield house
    house.close()


def post(house: House, form: Any, ending: str = "json", headers: list[tuple[str, str]] | None = None) -> Answer:
    body = form if isinstance(form, bytes) else urlencode(form, doseq=True).encode()
    heads = [("content-type", "application/x-www-form-urlencoded; charset=utf-8"), *(headers or [])]
    return house.call("POST", f"/open311/v2/requests.{ending}", body, heads)


def get(house: House, path: str, query: str = "") -> Answer:
    return house.call("GET", f"/open311/v2/{path}", query=query)


def test_services(house: House) -> None:
    listed = get(house, "services.json")
    assert [one["service_code"] for one in listed.document] == list(CATEGORIES)
    assert {"service_name", "description", "metadata", "type", "keywords", "group"} < set(listed.document[0])
    assert listed.document[0]["metadata"] is False
    tree = ElementTree.fromstring(get(house, "services.xml").body)
    assert [node.findtext("service_code") for node in tree.iter("service")] == list(CATEGORIES)
    assert tree.find("service/metadata").text == "false"  # type: ignore[union-attr]
    assert get(house, "services/theft.json").document == {"service_code": "theft", "attributes": []}
    assert get(house, "services/theft.xml").headers["content-type"].startswith("text/xml")
    assert get(house, "services/potholes.json").status == 404
    assert get(house, "services.yaml").status == 404
    found = get(house, "discovery.json").document
    assert found["endpoints"][0]["url"] == "http://test/open311/v2"
    assert b"<format>text/xml</format>" in get(house, "discovery.xml").body


def test_a_request_is_a_tip(house: House) -> None:
    answer = post(house, FORM)
    assert answer.status == 201
    (made,) = answer.document
    (tip,) = house.tips()
    assert made["service_request_id"] == KEYRING.receipt(tip["tip_id"])
    assert (tip["source"], tip["category_hint"], tip["channel"]) == ("open311:app", "safety_hazard", "partner")
    assert tip["place"] == {"text": "西两洼乡供销社门口", "lat": 38.2341, "lon": 115.5201}
    assert tip["attachments"] == [{"url": "https://x.example/1.jpg"}]
    sealed = {(one.kind, KEYRING.open_sealed(tip["tip_id"], one)) for one in house.intake.identities(tip["tip_id"])}
    assert sealed == {
        ("phone", "13812345678"),
        ("reporter.id", "device-7"),
        ("reporter.name", "李四"),
        ("reporter.phone", "13912345678"),
    }
    for secret in ("13812345678", "13912345678", "device-7", "李四"):
        assert secret.encode() not in (house.folder / "intake.db").read_bytes()


def test_the_status_is_told_by_the_receipt_and_nothing_else(house: House) -> None:
    receipt = post(house, FORM).document[0]["service_request_id"]
    other = post(house, {**FORM, "description": "另一件"}).document[0]["service_request_id"]
    house.statuses[receipt] = {"status": "with_station", "at": "2026-01-31T00:00:05Z"}
    house.statuses[other] = {"status": "closed", "at": "2026-01-31T00:00:09Z"}
    for typed in (receipt, receipt.lower(), receipt.replace("-", "")):
        (found,) = get(house, f"requests/{typed}.json").document
        assert (found["service_request_id"], found["status"]) == (receipt, "open")
        assert set(found) == {"service_request_id", "status", "status_notes", "updated_datetime"}
        assert "station" in found["status_notes"]
    listed = get(house, "requests.json", f"service_request_id={other},{receipt},AAAA-AAAA-AAAA-AAAA,x")
    assert [(one["service_request_id"], one["status"]) for one in listed.document] == [
        (other, "closed"),
        (receipt, "open"),
    ]
    tree = ElementTree.fromstring(get(house, f"requests/{receipt}.xml").body)
    assert tree.findtext("request/status") == "open"
    for unknown in ("AAAA-AAAA-AAAA-AAAA", "x", "é", "1"):
        assert get(house, f"requests/{unknown}.json").status == 404
    for query in ("", "service_request_id=", "status=open", "service_request_id=" + ",".join(["x"] * 101)):
        assert get(house, "requests.json", query).status == 400


def test_duplicates_are_taken_and_only_the_very_same_report_is_one_tip(house: House) -> None:
    for _ in range(2):
        assert post(house, FORM).status == 201
    assert len(house.tips()) == 2
    own = {**FORM, "attribute[fixmystreet_id]": "4711"}
    first, again, changed = post(house, own), post(house, own), post(house, {**own, "description": "改了"})
    assert {first.status, again.status, changed.status} == {201}
    assert first.body == again.body != changed.body
    assert len(house.tips()) == 4


def test_who_may(house: House) -> None:
    without = {name: value for name, value in FORM.items() if name != "api_key"}
    assert post(house, without).status == 401
    assert post(house, {**FORM, "api_key": "wrong"}).status == 401
    assert post(house, {**FORM, "api_key": "x" * 600}).status == 401
    assert post(house, {**FORM, "api_key": "station"}).status == 403
    answer = house.call(
        "POST",
        "/open311/v2/requests.json",
        urlencode(without).encode(),
        [("content-type", "application/x-www-form-urlencoded")],
        "api_key=bound",
    )
    assert answer.status == 401, "addresses end up in logs"
    assert house.tips() == []
    assert post(house, without, headers=[("authorization", "Bearer free")]).status == 201
    assert house.tips()[0]["source"] == "open311"


@pytest.mark.parametrize(
    ("change", "status", "word"),
    [
        ({"description": ""}, 400, "description"),
        ({"service_code": ""}, 400, "service_code"),
        ({"service_code": "potholes"}, 404, "service_code"),
        ({"description": "字" * 4001}, 400, "description"),
        ({"lat": "99"}, 400, "lat"),
        ({"lat": "nan"}, 400, "lat"),
        ({"long": ""}, 400, "long"),
        ({"lat": ["1", "2"]}, 400, "lat"),
        ({"address_string": "街" * 201}, 400, "address_string"),
        ({"phone": "1" * 41}, 400, "phone"),
        ({"media_url": ["https://x.example/a b"]}, 400, "media_url"),
        ({"media_url": ["https://x.example/1"] * 21}, 400, "media_url"),
        ({"description": "a\0b"}, 400, "U+0000"),
        ({f"f{n}": "x" for n in range(100)}, 400, "fields"),
    ],
)
def test_errors_have_the_form_of_the_standard(house: House, change: dict[str, Any], status: int, word: str) -> None:
    answer = post(house, {**FORM, **change})
    (error,) = answer.document
    assert (answer.status, error["code"]) == (status, status)
    assert word in error["description"]
    assert "13812345678" not in error["description"]
    tree = ElementTree.fromstring(post(house, {**FORM, **change}, "xml").body)
    assert tree.findtext("error/code") == str(status)
    assert house.tips() == []


def test_bodies_that_are_no_form(house: House) -> None:
    assert post(house, b"description=%ff&service_code=theft").status == 400
    assert post(house, b"\xff").status == 400
    assert post(house, b"x" * 70_000).status == 413
    assert house.call("POST", "/open311/v2/requests.json", b"{}", [("content-type", "application/json")]).status == 415
    raw = "api_key=bound&service_code=theft&description=路边的井盖".encode()
    assert post(house, raw).status == 201, "as curl sends it, not escaped"


def test_a_place_is_not_required(house: House) -> None:
    assert post(house, {"api_key": "bound", "service_code": "other", "description": "x"}).status == 201
    assert "place" not in house.tips()[0]


def test_names_are_put_together_as_people_write_them(house: House) -> None:
    post(house, {**FORM, "first_name": "Ada", "last_name": "King"})
    tip = house.tips()[0]
    names = [
        KEYRING.open_sealed(tip["tip_id"], one)
        for one in house.intake.identities(tip["tip_id"])
        if one.kind == "reporter.name"
    ]
    assert names == ["Ada King"]


def test_mutated_forms_are_never_a_fault(house: House) -> None:
    dice = random.Random(3)
    good = urlencode(FORM).encode()
    for _ in range(400):
        raw = bytearray(good)
        for _ in range(dice.randrange(1, 6)):
            raw[dice.randrange(len(raw))] = dice.randrange(256)
        assert post(house, bytes(raw)).status in (201, 400, 401, 403, 404)


# --- the description and the program say the same ---


def test_every_route_is_described(house: House) -> None:
    paths = openapi_document()["paths"]
    for route in [*house.routes, *webhook_routes(house.door, lambda *_: None)]:
        for method in (route.methods or set()) - {"HEAD"}:
            operation = paths[route.path][method.lower()]
            assert "x-roles" in operation
            assert "500" in operation["responses"]
    described = {path for path in paths if path.startswith(("/open311/", "/v1/webhooks/"))}
    assert described == {route.path for route in [*house.routes, *webhook_routes(house.door, lambda *_: None)]}
    assert set(paths["/open311/v2/requests.{format}"]["post"]["x-roles"]) == POSTERS


def test_answers_keep_to_their_schemas(house: House) -> None:
    from jsonschema import Draft202012Validator

    components = openapi_document()["components"]

    def holds(name: str, document: Any) -> None:
        schema = {"$ref": f"#/components/schemas/{name}", "components": components}
        Draft202012Validator(schema).validate(document)

    receipt = post(house, FORM)
    holds("Open311Receipts", receipt.document)
    house.statuses[receipt.document[0]["service_request_id"]] = {"status": "in_work", "at": "2026-01-31T00:00:05Z"}
    holds("Open311Statuses", get(house, f"requests/{receipt.document[0]['service_request_id']}.json").document)
    holds("Open311Services", get(house, "services.json").document)
    holds("Open311ServiceDefinition", get(house, "services/theft.json").document)
    holds("Open311Discovery", get(house, "discovery.json").document)
    holds("Open311Errors", json.loads(post(house, {}).body))
