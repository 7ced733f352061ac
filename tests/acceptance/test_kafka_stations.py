"""Stations' work on Kafka and PostgreSQL: corrections and closures travel from any gateway, once and in their order."""

from __future__ import annotations

from typing import Any

import pytest

from schemas.codec import decode_input
from schemas.records import Closure, Correction
from tests.acceptance.lab import KafkaLog, Lab
from tests.acceptance.test_kafka import lab  # noqa: F401  # the fixture
from tipline.testing import Client

FEUD = {"text": "大邵村张家和李家为宅基地吵起来了，村里调解了两次没用", "source": "wechat:xiliangwa-3", "message_id": "a"}
FRAUD = {"text": "马店村老李接到冒充电商客服的电话，被骗走8000元", "source": "wechat:madian-1", "message_id": "b"}

pytestmark = [
    pytest.mark.kafka,
    pytest.mark.timeout(300),
    pytest.mark.parametrize("database_url", [pytest.param("postgres", marks=pytest.mark.postgres)], indirect=True),
]


def sent(lab: Lab) -> list[Correction | Closure]:  # noqa: F811
    """What stands in the county's input besides tips and changes."""
    records = [decode_input(row.value) for row in KafkaLog(lab.servers).read("anping", 0, 10_000)]
    return [record for record in records if isinstance(record, Correction | Closure)]


def move(client: Client, item: dict[str, Any], name: str, **body: Any) -> None:
    path = f"/v1/assignments/{item['id']}"
    version = {"if-match": client.get(path).headers["etag"]}
    answer = client.send(f"{path}/{name}", body, version)
    assert answer.status == 200, answer.document


def test_corrections_and_closures_travel_from_any_gateway_once_and_in_order(lab: Lab) -> None:  # noqa: F811
    lab.topics()
    lab.sink()
    lab.worker()
    urls = [lab.gateway(f"gateway-{n}")[1] for n in (1, 2)]
    for submission in (FEUD, FRAUD):
        assert lab.post(urls[0], submission)[0] == 202
    lab.wait_for_tips(2)
    (gone,), (left,) = lab.rows("SELECT incident_id FROM incidents ORDER BY category")
    one, two = (Client(url, lab.token()) for url in urls)
    with one, two:
        # Merged at one gateway, seen at the other.
        path = f"/v1/incidents/{gone}"
        version = {"if-match": one.get(path).headers["etag"]}
        answer = two.send(f"{path}/merge", {"into": left, "reason": "同一件事"}, version)
        assert (answer.status, answer.document["status"]) == (202, "accepted")
        lab.wait_for("SELECT count(*) FROM incidents WHERE merged_into IS NOT NULL", 1, 60)
        assert one.get(path).document["merged_into"] == left
        # Closed, opened and closed again, by turns at both: the fold is told in that order.
        station = one.get(f"/v1/incidents/{left}").document["assignment"]["station"]
        for closer, opener in ((one, two), (two, None)):
            (item,) = closer.send(f"/v1/stations/{station}/claim", {}).document["items"]
            move(closer, item, "resolve", outcome="settled")
            if opener is not None:
                move(opener, item, "reopen")
        lab.wait_for("SELECT count(*) FROM outbox WHERE kind = 'input' AND done_at IS NOT NULL", 4, 60)
    records = sent(lab)
    assert [type(record).__name__ for record in records] == ["Correction", "Closure", "Closure", "Closure"]
    assert [record.closed for record in records if isinstance(record, Closure)] == [True, False, True]
