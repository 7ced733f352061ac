"""One tip's journey: from a volunteers' group to the right station's queue, with reasons, through real processes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from sinks.database import reading, version
from tests.waiting import until
from tipline.settings import load_settings
from tipline.store import Store

ROOT = Path(__file__).parents[2]
FIRE = "大邵村东头柴火垛着了，离房子就十来米，快来人"
STORM = "大子文镇印刷厂旁边约300米电话线让人割了，电话都打不通了，赶紧来人看看"


def lines(made: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in made)


def decision(serving: Any, token: str, tip_id: str) -> dict[str, Any]:
    answer = until(lambda: (a := serving.call("GET", f"/v1/tips/{tip_id}/decision", token)).status == 200 and a)
    found: dict[str, Any] = answer.json
    return found


def test_a_message_stands_in_the_right_queue_with_reasons_and_is_worked_on(serving: Any) -> None:
    intake = serving.token("intake", "--source", "wechat:xiliangwa-3")
    station = serving.token("station", "--station", "police-xiliangwa")
    other = serving.token("station", "--station", "police-madian")
    sent = serving.call("POST", "/v1/tips", intake, {"message_id": "m1", "text": FIRE, "reporter": {"id": "v17", "phone": "13800138000"}})
    assert sent.status == 202
    tip_id, receipt = sent.json["tip_id"], sent.json["receipt"]
    said = decision(serving, intake, tip_id)
    assert (said["category"], said["subtype"], said["urgent"], said["area"], said["station"]) == ("safety_hazard", "fire", True, "anping/xiliangwa/dashaocun", "police-xiliangwa")
    assert {r["kind"] for r in said["reasons"]} >= {"words", "place", "urgent", "route"}

    queue = serving.call("GET", "/v1/stations/police-xiliangwa/assignments", station).json["items"]
    assert [item["incident_id"] for item in queue] == [said["incident_id"]]
    assert serving.call("GET", "/v1/stations/police-xiliangwa/assignments", other).status == 404
    assert serving.call("GET", f"/v1/receipts/{receipt}", intake).json["status"] == "with_station"

    item = serving.call("POST", "/v1/stations/police-xiliangwa/claim", station, {"limit": 1, "lease_s": 60}).json["items"][0]
    path, lease = f"/v1/assignments/{item['id']}", {"If-Match": f'"{item["lease"]["token"]}"'}
    assert serving.call("POST", f"{path}/acknowledge", station).status == 428
    assert serving.call("POST", f"{path}/acknowledge", station, headers={"If-Match": '"999"'}).status == 412
    assert serving.call("POST", f"{path}/acknowledge", other, headers=lease).status == 404
    taken = serving.call("POST", f"{path}/acknowledge", station, headers=lease)
    assert taken.status == 200 and taken.json["lease"] is None
    done = serving.call("POST", f"{path}/resolve", station, {"outcome": "settled", "text": "扑灭"}, {"If-Match": taken.headers["etag"]})
    assert done.status == 200 and done.json["status"] == "resolved"
    assert serving.call("GET", f"/v1/receipts/{receipt}", intake).json["status"] == "closed"
    # The fold is told: a later report of the same words is a recurrence, not swallowed.
    shown = serving.cli("explain", tip_id)
    assert shown.returncode == 0 and "police-xiliangwa" in shown.stdout and "because" in shown.stdout
    for typed in (receipt, receipt.lower().replace("-", " ")):
        assert serving.cli("explain", typed).stdout == shown.stdout
    unknown = [serving.cli("explain", named) for named in ("0000-0000-0000-0000", "00000000-0000-0000-0000-000000000000")]
    assert [done.returncode for done in unknown] == [1, 1]
    assert len({done.stderr.partition(": ")[2] for done in unknown}) == 1 and "no such tip" in unknown[0].stderr


def test_a_forward_storm_is_one_incident_with_three_receipts_and_redelivery_adds_nothing(serving: Any) -> None:
    receipts = set()
    tips = []
    for group in ("a", "b", "c"):
        token = serving.token("intake", "--source", f"wechat:{group}")
        text = STORM if group == "a" else f"【转发】{STORM}"
        body = {"message_id": "1", "text": text, "reporter": {"id": group}}
        first = serving.call("POST", "/v1/tips", token, body)
        again = serving.call("POST", "/v1/tips", token, body)
        assert (first.status, again.status) == (202, 202) and first.body == again.body
        changed = serving.call("POST", "/v1/tips", token, {**body, "text": "别的事"})
        assert changed.status == 409 and changed.headers["content-type"].startswith("application/problem+json")
        receipts.add(first.json["receipt"])
        tips.append((token, first.json["tip_id"]))
    said = [until(lambda t=token, i=tip_id: (d := decision(serving, t, i))["corroborations"] == 3 and d) for token, tip_id in tips]
    assert len(receipts) == 3 and len({d["incident_id"] for d in said}) == 1
    county = serving.token("county")
    queue = serving.call("GET", f"/v1/stations/{said[0]['station']}/assignments", county).json["items"]
    assert [item["corroborations"] for item in queue] == [3]


def test_process_gives_the_same_bytes_twice_and_says_what_serve_decided(serving: Any, tmp_path: Path) -> None:
    source = Path(__file__).parents[1] / "quality" / "group-b.jsonl"
    channels = {"wechat": "volunteer"}
    made = []
    for line in source.read_text("utf-8").splitlines():
        one = json.loads(line)
        place = {"place": {"text": one["place_text"]}} if one["place_text"] else {}
        made.append(
            {"message_id": one["id"], "source": "wechat:dev", "channel": channels.get(one["channel"], one["channel"]), "text": one["text"], "reported_at": one["ts"], "reporter": {"id": one["reporter_id"]}, **place}
        )
    file = tmp_path / "tips.ndjson"
    file.write_text(lines(made), "utf-8")
    for out in ("one", "two"):
        assert serving.cli("process", str(file), "--out", str(tmp_path / out)).returncode == 0
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    offline = {d["message_id"]: d for d in map(json.loads, (tmp_path / "one").read_text("utf-8").splitlines())}

    token = serving.token("intake", "--source", "wechat:dev")
    sent = serving.cli("submit", str(file), "--url", serving.url, "--token", token, "--json")
    assert sent.returncode == 0, sent.stderr
    answers = [json.loads(line) for line in sent.stdout.splitlines()]
    assert [a["line"] for a in answers] == list(range(1, len(made) + 1))
    until(lambda: '"ready"' in serving.call("GET", "/readyz").body.decode() and b'tipline_lag_records{county="anping"} 0.0' in serving.call("GET", "/metrics").body)
    timed = {"due_at", "received_at", "occurred_at", "reasons"}  # these follow the moment of receipt
    for one, answer in zip(made, answers, strict=True):
        served = decision(serving, token, answer["tip_id"])
        expected = offline[one["message_id"]]
        assert {k: v for k, v in served.items() if k not in timed} == {k: v for k, v in expected.items() if k not in timed}


def test_a_file_with_bad_rows_imports_the_good_ones_and_reports_the_bad_by_line(serving: Any, tmp_path: Path) -> None:
    token = serving.token("intake", "--source", "hotline:1")
    file = tmp_path / "mixed.ndjson"
    good = json.dumps({"text": "南王庄村口路灯不亮"}, ensure_ascii=False)
    file.write_text(f'{good}\nnot json\n{{"txt": "x"}}\n{good}\n{{"text": "  "}}\n', "utf-8")
    done = serving.cli("submit", str(file), "--url", serving.url, "--token", token, "--json")
    answers = {a["line"]: a for a in map(json.loads, done.stdout.splitlines())}
    assert done.returncode == 1
    assert {line: a["status"] for line, a in answers.items()} == {1: 202, 2: 400, 3: 422, 4: 202, 5: 422}
    assert answers[1]["tip_id"] != answers[4]["tip_id"]  # two equal rows are two tips
    assert [e["pointer"] for e in answers[5]["problem"]["errors"]] == ["/text"]
    again = serving.cli("submit", str(file), "--url", serving.url, "--token", token, "--json")
    assert {a["line"]: a.get("tip_id") for a in map(json.loads, again.stdout.splitlines())} == {line: a.get("tip_id") for line, a in answers.items()}


def test_identities_are_in_no_file_in_the_clear_and_can_be_revealed_and_erased(serving: Any) -> None:
    token = serving.token("intake", "--source", "wechat:g")
    body = {"message_id": "i1", "text": "冒充客服的打我电话13912345678让我转账，我卡号6222021001116245702", "reporter": {"id": "wxid_secret", "name": "王秘密", "phone": "13700001111"}}
    tip_id = serving.call("POST", "/v1/tips", token, body).json["tip_id"]
    said = decision(serving, token, tip_id)
    assert "[phone:" in said["title"]
    for name in ("13912345678", "6222021001116245702", "wxid_secret", "王秘密", "13700001111"):
        for path in serving.data.rglob("*"):
            if path.is_file():
                blob = path.read_bytes()
                assert name.encode() not in blob and name.encode("utf-16-le") not in blob, (name, path.name)
    shown = serving.cli("reveal", tip_id, "--reason", "test")
    assert "13912345678" in shown.stdout and "王秘密" in shown.stdout
    assert serving.cli("erase", "--tip", tip_id, "--reason", "test").returncode == 0
    assert serving.cli("reveal", tip_id, "--reason", "test").returncode == 1
    assert decision(serving, token, tip_id)["incident_id"] == said["incident_id"]


def test_local_commands_beside_serve_take_nothing_from_it(serving: Any) -> None:
    """Commands open and close the very files that `serve` writes; what it accepts afterwards must be on the disk all the
    same, for every other process and for a kill."""
    token = serving.token("intake", "--source", "wechat:beside")
    tip_ids = []
    for number in range(3):
        store = Store(load_settings({}, {"data": str(serving.data)}))  # this process is another one than the service's
        assert version_of(store) and store.intake.counties() == ["anping"]
        store.close()
        sent = serving.call("POST", "/v1/tips", token, {"message_id": f"b{number}", "text": f"{FIRE}{number}", "reporter": {"phone": "13800138000"}})
        assert sent.status == 202
        tip_ids.append(sent.json["tip_id"])
        decision(serving, token, tip_ids[-1])
    assert "13800138000" in serving.cli("reveal", tip_ids[-1], "--reason", "test").stdout
    serving.kill()
    serving.start()
    assert [serving.call("GET", f"/v1/tips/{tip_id}/decision", token).status for tip_id in tip_ids] == [200] * 3
    checked = serving.cli("verify")
    assert checked.returncode == 0, checked.stdout + checked.stderr


def version_of(store: Store) -> str | None:
    with reading(store.engine) as connection:
        return version(connection)


def test_an_applied_county_outlives_a_kill(serving: Any, tmp_path: Path) -> None:
    grown, station = tmp_path / "grown", "village-xiliangwa-xincun"
    shutil.copytree(ROOT / "examples" / "anping", grown)
    for name, mark, line in (
        ("areas.yaml", "{id: dashaocun,", "      - {id: xincun, names: {zh: 新村村, en: Xin Village}}\n"),
        ("stations.yaml", "{id: village-xiliangwa-dashaocun,", f"  - {{id: {station}, kind: village, names: {{zh: 新村村委会, en: Xin committee}}, areas: [anping/xiliangwa/xincun]}}\n"),
    ):
        rows = (grown / name).read_text("utf-8").splitlines(keepends=True)
        at = next(i for i, row in enumerate(rows) if mark in row)
        (grown / name).write_text("".join([*rows[:at], line, *rows[at:]]), "utf-8")
    applied = serving.cli("county", "apply", str(grown))
    assert applied.returncode == 0, applied.stderr
    holder = serving.token("station", "--station", station)
    token = serving.token("intake", "--source", "wechat:dev")

    def tell(message_id: str, text: str) -> str:
        sent = serving.call("POST", "/v1/tips", token, {"message_id": message_id, "text": text})
        assert sent.status == 202, sent.body
        said = decision(serving, token, sent.json["tip_id"])
        assert said["station"] == station, said
        return str(said["versions"]["county"])

    version = tell("1", "西两洼乡新村村两家邻居为宅基地吵起来了")
    serving.kill()
    serving.start()
    assert tell("2", "西两洼乡新村村兄弟两个为赡养老人闹矛盾，互不相让") == version
    queue = serving.call("GET", f"/v1/stations/{station}/assignments", holder).json["items"]
    assert sum(item["corroborations"] for item in queue) == 2
    assert serving.stop() == 0
    checked = serving.cli("verify")
    assert checked.returncode == 0, checked.stdout + checked.stderr
