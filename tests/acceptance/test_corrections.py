"""Corrections from a person's click to the queues: over HTTP into the county's input, and back as revised decisions."""

from __future__ import annotations

from typing import Any

import pytest

from schemas.times import HOUR, parse_time
from tests.town import Town

FEUD = "大邵村张家和李家为宅基地吵起来了，村里调解了两次没用"
TREE = "程油子乡王家树枝伸到刘家院里挡光，两家天天吵"
FIRE = "大邵村东头柴火垛着了，离房子就十来米，快来人"
VILLAGE = "village-xiliangwa-dashaocun"
POLICE = "police-xiliangwa"


def two(town: Town) -> tuple[dict[str, Any], dict[str, Any]]:
    """Two incidents of one county, the first an hour older."""
    first = town.tip(FEUD)
    town.ahead += HOUR
    second = town.tip(TREE, source="wechat:chengyouzi-1")
    assert first["incident_id"] != second["incident_id"]
    return first, second


def test_a_merge_comes_back_as_revisions_queue_and_statistics(town: Town) -> None:
    first, second = two(town)
    assert sum(n for _, n in town.counts("category").values()) == 2
    before = town.incident(second["incident_id"])["assignment"]
    answer = town.correct(first["incident_id"], "merge", into=second["incident_id"])
    assert (answer.status, answer.json["status"]) == (202, "accepted")
    town.work()
    # Every tip of the survivor has a new revision that says why; the gone one's id leads on.
    for tip in (first, second):
        now = town.decision(tip["tip_id"])
        assert (now["incident_id"], now["cause"], now["corroborations"]) == (second["incident_id"], "merge", 2)
        assert now["revision"] > tip["revision"]
    assert town.incident(first["incident_id"])["merged_into"] == second["incident_id"]
    assert [town.queue(name) for name in (VILLAGE, second["station"])].count([second["incident_id"]]) == 1
    assert first["incident_id"] not in town.queue(VILLAGE)
    assert town.counts("category") == {"dispute": (2, 1)}
    # The clocks of the older one go on at the survivor.
    item = town.incident(second["incident_id"])["assignment"]
    assert item["dispatched_at"] < before["dispatched_at"] and item["due_at"] < before["due_at"]
    kinds = [(entry["kind"], entry["reason"]) for entry in town.incident(second["incident_id"])["timeline"] if entry["kind"] != "decided"]
    assert ("corrected", "看过了") in kinds and ("absorbed", "merge") in kinds
    # Both reporters' receipts tell of the one that is left.
    (taken,) = town.claim(item["station"])
    town.move(taken, "acknowledge")
    for tip in (first, second):
        assert town.call("GET", f"/v1/receipts/{tip['receipt']}", town.token("admin")).json["status"] == "in_work"


def test_whatever_revised_a_decision_the_timeline_says_when(town: Town) -> None:
    first, _ = two(town)
    name = first["incident_id"]
    town.ahead += HOUR
    late = town.tip(FEUD, source="wechat:xiliangwa-4")
    assert late["incident_id"] == name
    town.ahead += HOUR
    town.correct(name, "relabel", category="theft", subtype="other")
    town.work()
    timeline = town.incident(name)["timeline"]
    decided = [entry for entry in timeline if entry["kind"] == "decided"]
    (corrected,) = [entry for entry in timeline if entry["kind"] == "corrected"]
    assert {entry["cause"] for entry in decided} == {"tip", "late_tip", "relabel"}
    assert {entry["at"] for entry in decided if entry["cause"] == "late_tip"} == {late["received_at"]}
    assert {entry["at"] for entry in decided if entry["cause"] == "relabel"} == {corrected["at"]}


def test_the_timeline_is_in_order_of_time(town: Town) -> None:
    first, _ = two(town)
    name = first["incident_id"]
    town.ahead += HOUR
    (taken,) = town.claim(town.incident(name)["assignment"]["station"])
    town.move(taken, "acknowledge")
    town.ahead += HOUR
    town.tip(FEUD, source="wechat:xiliangwa-4")
    town.ahead += HOUR
    town.correct(name, "relabel", category="theft", subtype="other")
    town.work()
    timeline = town.incident(name)["timeline"]
    times = [parse_time(entry["at"]) for entry in timeline]
    assert times == sorted(times)
    said = [entry.get("cause") or entry["kind"] for entry in timeline]
    order = [said.index(what) for what in ("tip", "dispatched", "acknowledged", "late_tip", "corrected", "relabel")]
    assert order == sorted(order), said
    # Of one moment the cause comes first, and the work keeps its numbers.
    numbers = [entry["number"] for entry in timeline if entry["kind"] != "decided"]
    assert numbers == sorted(numbers)


def test_opposite_merges_at_once_leave_one_incident_with_all_tips(town: Town) -> None:
    first, second = two(town)
    a, b = first["incident_id"], second["incident_id"]
    county = town.token("county")
    tags = {name: town.call("GET", f"/v1/incidents/{name}", county).headers["etag"] for name in (a, b)}

    def merge(name: str, into: str) -> int:
        body = {"into": into, "reason": "同一件"}
        return town.call("POST", f"/v1/incidents/{name}/merge", county, body, headers={"if-match": tags[name]}).status

    # Read at once, sent at once: the second is told that something has happened.
    assert (merge(a, b), merge(b, a)) == (202, 412)
    # Read again before the first has taken effect: both are on record.
    tags[b] = town.call("GET", f"/v1/incidents/{b}", county).headers["etag"]
    assert merge(b, a) == 202
    town.work()
    assert {town.decision(tip["tip_id"])["incident_id"] for tip in (first, second)} == {b}
    assert town.incident(a)["merged_into"] == b and town.incident(b)["merged_into"] is None
    assert town.incident(b)["assignment"]["status"] == "open"
    assert town.counts("category") == {"dispute": (2, 1)}


def test_a_split_sticks_for_later_arrivals(town: Town) -> None:
    tips = [town.tip(FEUD, source=f"wechat:xiliangwa-{n}") for n in range(2)]
    assert len({town.decision(tip["tip_id"])["incident_id"] for tip in tips}) == 1
    whole = tips[0]["incident_id"]
    assert town.correct(whole, "split", tip_ids=[tips[1]["tip_id"]]).status == 202
    town.work()
    apart = [town.decision(tip["tip_id"]) for tip in tips]
    assert len({one["incident_id"] for one in apart}) == 2
    assert [one["cause"] for one in apart if one["tip_id"] == tips[1]["tip_id"]] == ["split"]
    assert sorted(town.queue(VILLAGE)) == sorted(one["incident_id"] for one in apart)
    # The same words once more belong to one of them and join the two no more, also after a restart of the fold.
    for n in (2, 3):
        town.tip(FEUD, source=f"wechat:xiliangwa-{n}")
        assert len({town.decision(tip["tip_id"])["incident_id"] for tip in tips}) == 2
    assert town.counts("category") == {"dispute": (4, 2)}


def test_a_relabel_and_a_relocation_move_the_item_and_the_counts(town: Town) -> None:
    tip = town.tip(FEUD)
    name = tip["incident_id"]
    assert town.queue(VILLAGE) == [name]
    assert town.correct(name, "relabel", category="theft", subtype="burglary").status == 202
    town.work()
    now = town.decision(tip["tip_id"])
    assert (now["category"], now["cause"], now["station"]) == ("theft", "relabel", POLICE)
    assert (town.queue(VILLAGE), town.queue(POLICE), town.counts("category")) == ([], [name], {"theft": (1, 1)})
    assert town.correct(name, "relocate", area="anping/madian").status == 202
    town.work()
    now = town.decision(tip["tip_id"])
    assert (now["area"], now["category"], now["station"]) == ("anping/madian", "theft", "police-madian")
    assert town.queue("police-madian") == [name] and town.counts("area") == {"anping/madian": (1, 1)}
    # A later report of it changes nothing that a person has set.
    town.tip(FEUD, source="wechat:xiliangwa-9")
    assert town.decision(tip["tip_id"])["category"] == "theft"


def test_a_closed_incident_is_told_to_the_fold_and_a_later_tip_recurs(town: Town) -> None:
    first = town.tip(FEUD)
    (item,) = town.claim(VILLAGE)
    town.move(item, "resolve", outcome="settled")
    town.work()
    # Soon after it is still the same report; later it has happened again.
    soon = town.tip(FEUD, source="wechat:xiliangwa-4")
    assert (soon["incident_id"], soon["link"]) == (first["incident_id"], "duplicate")
    town.ahead += 3 * HOUR
    later = town.tip(FEUD, source="wechat:xiliangwa-5")
    assert (later["link"], later["link_to"]) == ("recurrence", first["incident_id"])
    assert later["incident_id"] != first["incident_id"]
    assert town.incident(later["incident_id"])["assignment"]["status"] == "open"
    assert town.incident(first["incident_id"])["assignment"]["status"] == "resolved"


def test_a_closed_incident_that_moves_on_soon_is_open_again(town: Town) -> None:
    first = town.tip(FIRE)
    (item,) = town.claim(POLICE)
    town.move(item, "resolve", outcome="settled")
    town.work()
    more = town.tip("大邵村东头柴火垛还在着，离房子就三四米了，快来人", source="wechat:xiliangwa-4")
    assert (more["incident_id"], more["link"]) == (first["incident_id"], "update")
    seen = town.incident(first["incident_id"])
    assert seen["assignment"]["status"] == "open"
    assert [entry["kind"] for entry in seen["timeline"] if entry["kind"] in ("resolved", "reopened")] == ["resolved", "reopened"]


@pytest.mark.parametrize("again", ["北郭村变电箱又冒烟了，又着起来了，火比刚才还大", "变电箱着大火了，北郭村的快来人，火苗两米高"])
def test_an_urgent_tip_soon_after_closing_is_not_left_with_what_is_settled(town: Town, again: str) -> None:
    first = town.tip("北郭村变电箱冒烟起火了，快来")
    station = first["station"]
    (item,) = town.claim(station)
    town.move(item, "resolve", outcome="settled")
    town.work()
    copy = town.tip("北郭村变电箱冒烟起火了，快来", source="wechat:xiliangwa-5")
    assert (copy["incident_id"], copy["link"]) == (first["incident_id"], "duplicate")
    assert town.incident(first["incident_id"])["assignment"]["status"] == "resolved"
    town.ahead += 60_000
    more = town.tip(again, source="wechat:xiliangwa-4")
    assert more["urgent"] and more["incident_id"] == first["incident_id"]
    assert town.incident(first["incident_id"])["assignment"]["status"] == "open"


def test_a_merge_across_counties_or_with_itself_is_refused_and_nothing_is_half_done(town: Town) -> None:
    tip = town.tip(FEUD)
    before = town.incident(tip["incident_id"])
    for into in (tip["incident_id"], "0" * 8 + "-0000-0000-0000-" + "0" * 12):
        refused = town.correct(tip["incident_id"], "merge", into=into)
        assert (refused.status, refused.json["errors"][0]["pointer"]) == (422, "/into")
    town.work()
    assert town.incident(tip["incident_id"]) == before


def test_joining_a_suggested_duplicate_elsewhere_asks_its_holder(town: Town) -> None:
    first, second = two(town)
    mine = town.token("station", station=VILLAGE)
    asked = town.correct(first["incident_id"], "merge", mine, into=second["incident_id"])
    assert (asked.status, asked.json) == (202, {"status": "requested"})
    town.work()
    assert town.decision(first["tip_id"])["incident_id"] == first["incident_id"]
    request = [e for e in town.incident(second["incident_id"])["timeline"] if e["kind"] == "merge_requested"]
    assert request[0]["data"]["incident_id"] == first["incident_id"]
    # Its holder, or the county, decides.
    assert town.correct(first["incident_id"], "merge", into=second["incident_id"]).json["status"] == "accepted"
    town.work()
    assert town.decision(first["tip_id"])["incident_id"] == second["incident_id"]


def test_somebodys_number_does_not_get_into_the_history(town: Town) -> None:
    tip = town.tip(FEUD)
    incident = tip["incident_id"]
    refused = town.correct(incident, "relabel", category="theft", reason="报警人１３８ ００１３ ８０００说的")
    assert (refused.status, refused.json["errors"][0]["pointer"]) == (422, "/reason")
    (taken,) = town.claim(VILLAGE)
    lease = {"if-match": f'"{taken["lease"]["token"]}"'}
    path, who = f"/v1/assignments/{taken['id']}/note", town.token("station", station=VILLAGE)
    refused = town.call("POST", path, who, {"text": "回拨 13800138000"}, headers=lease)
    assert (refused.status, refused.json["errors"][0]["pointer"]) == (422, "/text")
    assert b"13800138000" not in refused.body
    assert town.call("POST", path, who, {"text": "已回拨 [phone:7f3a]，两家愿意调解，赔 3200 元"}, headers=lease).status == 200
    assert [entry["kind"] for entry in town.incident(incident)["timeline"]].count("noted") == 1
