"""What stations correct over HTTP comes out as labelled texts, and candidates are tried on it and on past tips."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.town import Town
from tipline.cli import root
from tipline.county import find_county

FEUD = "大邵村张家和李家为宅基地吵起来了，村里调解了两次没用"
AGAIN = "大邵村张家李家又为宅基地吵上了"
DOG = "俺家狗丢了，一身黄毛"
SMOKE = "楼道里电瓶车充电冒烟了，电话13812345678"


def cli(*arguments: str | Path) -> Result:
    done = CliRunner().invoke(root, [str(a) for a in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


@pytest.fixture
def corrected(town: Town) -> Town:
    """A split, a relabel, a relocation and a merge, and a tip after them; one tip that nobody touched."""
    feud = [town.tip(FEUD, message_id="feud"), town.tip(AGAIN, source="wechat:xiliangwa-4", message_id="again")]
    assert feud[0]["incident_id"] == feud[1]["incident_id"]
    dog, smoke = town.tip(DOG, message_id="dog"), town.tip(SMOKE, message_id="smoke")
    kept = town.tip("马店镇有人拉闸放电鱼", source="wechat:madian-1", message_id="kept")
    lane = town.tip("马店镇路口堵车", source="wechat:madian-2", message_id="lane")
    assert len({d["incident_id"] for d in (feud[0], dog, smoke, kept, lane)}) == 5
    town.correct(feud[0]["incident_id"], "split", tip_ids=[feud[1]["tip_id"]])
    town.correct(smoke["incident_id"], "relabel", category="safety_hazard", subtype="electricity", urgent=False)
    town.correct(dog["incident_id"], "relocate", area="anping/madian")
    town.correct(lane["incident_id"], "merge", into=kept["incident_id"])
    town.work()
    return town


def labels(town: Town, tmp_path: Path) -> dict[str, dict[str, Any]]:
    cli("export", "--labels", "--data", town.data, "--out", tmp_path / "labels.jsonl")
    return {row["id"]: row for row in rows(tmp_path / "labels.jsonl")}


def test_every_correction_becomes_a_label(corrected: Town, tmp_path: Path) -> None:
    found = labels(corrected, tmp_path)
    assert sorted(found) == ["again", "dog", "feud", "kept", "lane", "smoke"]
    assert {name: row["corrections"] for name, row in found.items()} == {
        "feud": ["split"], "again": ["split"], "smoke": ["relabel"], "dog": ["relocate"], "kept": ["merge"], "lane": ["merge"],
    }  # fmt: skip
    assert found["feud"]["incident_id"] != found["again"]["incident_id"]
    assert found["feud"]["machine"]["incident_id"] == found["again"]["machine"]["incident_id"]
    assert found["kept"]["incident_id"] == found["lane"]["incident_id"] != found["lane"]["machine"]["incident_id"]
    assert (found["smoke"]["subtype"], found["smoke"]["urgent"]) == ("electricity", False)
    assert (found["dog"]["area"], found["dog"]["machine"]["area"]) == ("anping/madian", "anping/xiliangwa")
    assert "13812345678" not in found["smoke"]["text"] and "[phone:" in found["smoke"]["text"]


def test_what_follows_a_correction_was_never_the_machines_own(corrected: Town, tmp_path: Path) -> None:
    smoke = labels(corrected, tmp_path)["smoke"]
    corrected.tip(SMOKE, source="wechat:xiliangwa-9", message_id="later")
    later = labels(corrected, tmp_path)["later"]
    assert (later["incident_id"], later["subtype"], later["machine"]) == (smoke["incident_id"], "electricity", None)


def test_candidates_are_scored_on_the_labels(corrected: Town, tmp_path: Path) -> None:
    labels(corrected, tmp_path)
    file = tmp_path / "labels.jsonl"
    said = json.loads(cli("evaluate", "classify", file, "--json").stdout)
    assert said["texts"] == 6 and said["area_accuracy"] < 1
    assert "dog" in [one["id"] for one in said["worst"]]  # a person knew where
    grouped = json.loads(cli("evaluate", "group", file, "--join", "1", "--json").stdout)
    assert grouped["falsely_joined"] > 0 and grouped["compare"]["falsely_joined"] == 0
    assert {one["id"] for one in grouped["compare"]["different"]} == {"feud", "again"}


def test_past_tips_show_what_another_directory_would_decide(corrected: Town, tmp_path: Path) -> None:
    cli("export", "--tips", "--data", corrected.data, "--out", tmp_path / "tips.jsonl")
    told = rows(tmp_path / "tips.jsonl")
    assert [row["message_id"] for row in told] == ["feud", "again", "dog", "smoke", "kept", "lane"]
    assert "13812345678" not in (tmp_path / "tips.jsonl").read_text("utf-8")
    candidate = tmp_path / "next"
    shutil.copytree(find_county("anping"), candidate)
    routes = candidate / "routes.yaml"
    before = routes.read_text("utf-8")
    routes.write_text(before.replace("station: village-{township}-{village}", "station: mediation-{township}"), "utf-8")
    assert routes.read_text("utf-8") != before
    out = tmp_path / "decisions.jsonl"
    # The same directory decides alike; another sends the village's quarrel to the township.
    same = cli("process", tmp_path / "tips.jsonl", "--out", out, "--compare", find_county("anping"))
    assert "0 of 6 tips would be decided differently" in same.stdout
    lines = cli("process", tmp_path / "tips.jsonl", "--out", out, "--compare", candidate).stdout.splitlines()
    assert lines[0].startswith("line 1 feud: station village-xiliangwa-dashaocun -> mediation-xiliangwa")
    assert lines[-1].startswith("2 of 6 tips would be decided differently: station 2")
    assert len(rows(out)) == 6  # one line out for each in, as without


def test_export_wants_to_know_what(corrected: Town) -> None:
    done = CliRunner().invoke(root, ["export", "--data", str(corrected.data)])
    assert done.exit_code == 2 and "--labels and --tips" in done.output
