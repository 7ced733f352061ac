"""The OpenAPI document against the running program: whatever is asked, the answer is one that the document describes."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import count
from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.waiting import until

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
PLAIN = settings(
    max_examples=8,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
#: An answer that does not end.
ENDLESS = {"/v1/stations/{station}/events"}


@schemathesis.serializer("application/x-ndjson", "application/ndjson", "application/jsonl", "application/jsonlines")
def ndjson(_context: Any, value: Any) -> bytes:
    """A batch of one odd line, or the text as it is."""
    return value.encode() if isinstance(value, str) else json.dumps(value).encode()


def test_every_answer_is_described(make_serving: Callable[..., Any]) -> None:
    serving = make_serving({"TIPLINE_RATE": "100000"})
    admin = serving.token("admin")
    sent = serving.call("POST", "/v1/tips", admin, {"message_id": "1", "source": "bot:1", "text": "大邵村东头柴火垛着了，快来人"}).json
    said = until(lambda: (a := serving.call("GET", f"/v1/tips/{sent['tip_id']}/decision", admin)).status == 200 and a.json)
    station = said["station"]
    (item,) = serving.call("GET", f"/v1/stations/{station}/assignments", admin).json["items"]
    real = {
        "/v1/tips/": {"tip_id": sent["tip_id"]},
        "/v1/receipts/": {"receipt": sent["receipt"]},
        "/v1/stations/": {"station": station},
        "/v1/assignments/": {"id": item["id"]},
        "/v1/incidents/": {"id": item["incident_id"]},
    }
    api = schemathesis.openapi.from_dict(json.loads(serving.call("GET", "/openapi.json").body))
    api.config.base_url = serving.url
    asked, good, wrong = 0, set(), []
    for found in api.get_all_operations():
        operation = found.ok()
        if operation.path in ENDLESS:
            continue
        asked += 1
        names = next((names for prefix, names in real.items() if operation.path.startswith(prefix)), {})
        try:
            good |= _ask(operation, admin, names)
        except (Exception, BaseExceptionGroup) as error:
            wrong.append(f"{operation.label}: {error}")
    assert not wrong, "\n\n".join(wrong)
    assert asked > 25 and len(good) > 12, (asked, sorted(good))


def _ask(operation: Any, token: str, real: dict[str, str]) -> set[str]:
    """Half of the requests name what exists. The operation's label, when one of them was answered with success."""
    number, good = count(), set()

    @PLAIN
    @given(case=operation.as_strategy())
    def ask(case: Any) -> None:
        if next(number) % 2:
            case.path_parameters = {**(case.path_parameters or {}), **{k: v for k, v in real.items() if f"{{{k}}}" in operation.path}}
        response = case.call_and_validate(headers={"Authorization": f"Bearer {token}"}, checks=CHECKS)
        if response.status_code < 300:
            good.add(operation.label)

    ask()
    return good
