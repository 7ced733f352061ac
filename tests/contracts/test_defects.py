"""Defects that other systems had, one test each: none of them may be ours.

Each test is named after what went wrong elsewhere, and shows by the real parts that here it goes right.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from schemas.codec import decode_input
from schemas.errors import BadCounty, Unavailable
from schemas.records import Closure, Place
from schemas.times import DAY, HOUR, MINUTE, SECOND, parse_time
from sinks.database import reading
from sinks.sink import apply_outputs
from stations.escalate import BATCH
from stations.outbox import Hook, Outbox
from stations.status import settled_by_level
from streams.stages.county import County
from streams.stages.route import Case, route
from tests.contracts.made import COUNTY, START, anping, decision, ident, revised
from tests.contracts.office import LIUCHU, MEDIATION, OFFICER, POLICE, Office, station
from tests.fold_made import START as FOLD_START
from tests.fold_made import closure, correction, driven, tip
from tipline.county import find_county, load_county

STORM = "大子文镇印刷厂旁边约300米电话线让人割了，电话都打不通了，赶紧来人看看"


@pytest.fixture(scope="module")
def county() -> County:
    return anping()


@pytest.fixture
def office(database_url: str, county: County) -> Iterator[Office]:
    made = Office(database_url, county)
    yield made
    made.close()


# --- clocks -----------------------------------------------------------------------------------------------------------


def test_unassigned_never_escalates(office: Office) -> None:
    office.decide(decision("a", "a"))
    assert (office.row("a")["owner"], office.row("a")["lease_holder"]) == (None, None)
    office.tick(START + DAY)
    assert office.kinds("a") == ["dispatched", "escalated"]


def test_edit_resets_the_sla_clock(office: Office) -> None:
    first = decision("a", "a")
    office.decide(first)
    due = office.row("a")["due_at"]
    for minutes in (60, 600, 1400):
        office.now = START + minutes * MINUTE
        office.move("a", "note", text="在看")
        # An edit by a person, which changes what the item says of itself.
        first = revised(first, title=f"改过 {minutes}", position=minutes)
        office.decide(first)
        office.correct("a", "relabel", subtype="debt_wage", reason="欠薪")
    assert office.row("a")["title"] == "改过 1400"
    assert office.row("a")["due_at"] == due
    office.tick(START + DAY)
    assert office.history("a")[-1]["kind"] == "escalated" and office.history("a")[-1]["at"] == START + DAY


def test_scan_reads_only_the_first_page(office: Office) -> None:
    many = 2 * BATCH + 7
    office.decide(*(decision(f"t{n}", f"i{n}", position=n) for n in range(many)))
    assert office.tick(START + DAY) == many


def test_window_unit_seconds_for_minutes(office: Office) -> None:
    # A quarter of an hour is 900 s, to the millisecond ...
    given = {"station": POLICE, "route_id": "urgent-known", "level": "township", "urgent": True}
    office.decide(decision("a", "a", due=START + 15 * MINUTE, **given))
    office.tick(START + 15 * MINUTE)
    assert office.row("a")["due_at"] == START + 30 * MINUTE
    # ... and grouping looks back over hours, not over as many minutes or seconds.
    near, far = driven([tip("a", STORM), tip("b", STORM, 90)]), driven([tip("a", STORM), tip("b", STORM, 90 * 60)])
    assert (len(near.partition()), len(far.partition())) == (1, 2)


def test_merged_item_still_escalates(office: Office) -> None:
    gone = decision("a", "a")
    office.decide(gone, decision("b", "b", received=START + HOUR, position=2))
    office.decide(revised(gone, incident="b", cause="merge", merged=(("a", "b"),), position=3))
    office.tick(START + 40 * DAY)
    assert office.kinds("a") == ["dispatched", "merged"]


# --- merges and splits ------------------------------------------------------------------------------------------------


def two_fires() -> Any:
    return driven(
        [
            tip("a", "任庄村东的麦秸垛着火了，火苗子老高", 0, place="任庄"),
            tip("b", "寺店村坟地着火，柏树都烧着了", 5, place="寺店村"),
        ]
    )


def test_opposite_merges_lose_both(office: Office) -> None:
    fold = two_fires()
    first, second = fold.incident("a"), fold.incident("b")
    # Sent at once, so that neither knows of the other.
    written = fold.feed(correction("merge", first, 10, into=second), correction("merge", second, 10, into=first))
    assert fold.partition() == {frozenset({"a", "b"})}
    with office.engine.begin() as connection:
        apply_outputs(connection, COUNTY, fold.log, now=START, county_config=office.county)
    found = {name: office.incidents.get(OFFICER, name).document for name in (first, second)}
    alive = [name for name, document in found.items() if document["merged_into"] is None]
    assert len(alive) == 1 and len(found[alive[0]]["tips"]) == 2
    assert found[alive[0]]["assignment"]["status"] == "open"
    assert len(written) > 0


def test_unmerge_re_merges() -> None:
    fold = driven([tip("a", STORM, 0), tip("b", STORM, 2)])
    fold.feed(correction("split", fold.incident("a"), 10, tip_ids=("b",)))
    # Later arrivals resemble both, and a restart forgets nothing.
    for number in range(3):
        fold.feed(tip(f"later-{number}", STORM, 12 + number))
        fold = fold.rebuilt()
        assert fold.incident("a") != fold.incident("b")


def test_merge_not_honoured_later() -> None:
    fold = two_fires()
    first, second = fold.incident("a"), fold.incident("b")
    fold.feed(correction("merge", second, 10, into=first))
    fold = fold.rebuilt()
    fold.feed(tip("c", "转：寺店村坟地着火，柏树都烧着了", 12, place="寺店村"))
    assert fold.incident("c") == first


def test_last_seen_not_updated_on_full_duplicate(office: Office) -> None:
    office.decide(decision("a", "a"))
    before = office.incidents.get(OFFICER, ident("a"))
    office.decide(decision("b", "a", link="duplicate", received=START + HOUR, corroborations=2, position=2))
    after = office.incidents.get(OFFICER, ident("a"))
    assert after.document["last_received_at"] == "2026-10-07T10:00:00+08:00" > before.document["last_received_at"]
    assert after.etag != before.etag


# --- closed, reopened, windows ----------------------------------------------------------------------------------------


def test_resolved_incident_swallows_new(office: Office) -> None:
    fold = driven([tip("a", STORM)])
    fold.feed(closure(fold.incident("a"), 30))
    fold.feed(tip("b", STORM, 300))
    assert fold.decisions["b"].link == "recurrence" and fold.incident("b") != fold.incident("a")
    # And one that moves on while its first report is settled is open again on the queue.
    office.decide(decision("x", "x"))
    office.claim(LIUCHU)
    office.move("x", "resolve", outcome="settled")
    office.decide(decision("y", "x", link="update", received=START + HOUR, position=2))
    assert office.row("x")["status"] == "open"


def event_case(at: str, **changes: Any) -> Case:
    """A pickpocket at the wire-mesh fair, where another route holds from 08:00 on the 20th to 20:00 on the 24th."""
    moment = parse_time(at)
    given: dict[str, Any] = {
        "category": "theft", "subtype": "pickpocket", "urgent": False, "confidence": 0.9, "area": "anping/anping",
        "precision": "township", "channel": "volunteer", "source": "wechat:a", "text": "", "link": "new",
        "zones": ("siwang-expo",), "occurred_at": moment, "received_at": moment,
    }  # fmt: skip
    return Case(**{**given, **changes})


def test_item_stuck_in_a_window_after_it_ends(office: Office, county: County) -> None:
    during = route(county, event_case("2026-10-24T19:50:00+08:00"))
    assert during.route_id == "event-siwang"
    at = parse_time("2026-10-24T19:50:00+08:00")
    office.now = at
    given = {"station": during.station, "route_id": during.route_id, "level": during.level}
    office.decide(decision("a", "a", received=at, due=during.due_at, category="theft", subtype="pickpocket", **given))
    # Its clocks run on past the end of the window, and it climbs as anything does.
    office.tick(at + 30 * DAY)
    assert "escalated" in office.kinds("a") or office.row("a")["overdue"]
    # From the end on the ordinary route applies.
    assert route(county, event_case("2026-10-24T20:00:00+08:00")).route_id == "police"


def test_closing_during_a_window_is_lost_and_the_next_becomes_a_duplicate() -> None:
    minutes = (parse_time("2026-10-22T10:00:00+08:00") - FOLD_START) / MINUTE
    place = Place(text="丝网会展中心", lat=38.23, lon=115.52)
    text = "丝网展会展馆门口有扒手，我的钱包让人掏了"
    fold = driven([tip("a", text, minutes, place=place)])
    fold.feed(closure(fold.incident("a"), minutes + 30))
    after = (parse_time("2026-10-22T14:00:00+08:00") - FOLD_START) / MINUTE
    fold.feed(tip("b", text, after, place=place))
    assert fold.decisions["b"].link == "recurrence" and fold.incident("b") != fold.incident("a")


# --- who is told ------------------------------------------------------------------------------------------------------


def test_peers_all_notify_after_one_failure(office: Office) -> None:
    office.decide(decision("a", "a"))
    hook, sent = Hook(LIUCHU, "https://station.example/", b"s"), list[str]()
    instances = [Outbox(office.engine, lambda: office.now) for _ in range(4)]
    failing = True

    def post(_url: str, headers: Any, _body: bytes) -> int:
        for other in instances[1:]:  # while one is sending, its peers keep still
            assert other.hook(office.desk, hook, lambda *_: pytest.fail("a peer sent too")) == 0
        if failing:
            raise Unavailable("down")
        sent.append(headers["webhook-id"])
        return 204

    assert instances[0].hook(office.desk, hook, post) == 0
    failing = False
    office.now += 2 * SECOND
    assert instances[0].hook(office.desk, hook, post) == 1
    for other in instances:
        assert other.hook(office.desk, hook, lambda *_: pytest.fail("sent again")) == 0
    assert sent == [f"{LIUCHU}/1"]


def test_grouped_additions_are_not_notified(office: Office) -> None:
    office.decide(decision("a", "a"))
    told = list[dict[str, Any]]()

    def post(_url: str, _headers: Any, body: bytes) -> int:
        told.append(msgspec.json.decode(body))
        return 204

    out, hook = Outbox(office.engine, lambda: office.now), Hook(LIUCHU, "https://station.example/", b"s")
    out.hook(office.desk, hook, post)
    office.decide(decision("b", "a", link="duplicate", received=START + HOUR, corroborations=2, position=2))
    out.hook(office.desk, hook, post)
    assert [(one["type"], one["data"]["assignment"]["corroborations"]) for one in told[1:]] == [("assignment.updated", 2)]


# --- rules and settings -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("routes.yaml", "cue: damage", "cue: damages"),
        ("lexicon.yaml", "@officer*@graft", "@officers*@graft"),
        ("ladders.yaml", "limit: 24h", "limit: 24 hours"),
    ],
)
def test_broken_rule_is_silently_deactivated(tmp_path: Path, file: str, old: str, new: str) -> None:
    folder = tmp_path / "anping"
    shutil.copytree(find_county(), folder)
    path = folder / file
    path.write_text(path.read_text("utf-8").replace(old, new, 1), "utf-8")
    with pytest.raises(BadCounty) as caught:
        load_county(folder)
    assert all(line.startswith(file) for line in caught.value.mistakes)


def test_category_rule_hides_location_rule(county: County) -> None:
    # A theft has a rule of its own, and so has the fair's ground: the narrower place wins while its window is open ...
    assert route(county, event_case("2026-10-21T08:00:00+08:00")).route_id == "event-siwang"
    # ... and nowhere else.
    assert route(county, event_case("2026-10-21T08:00:00+08:00", zones=())).route_id == "police"


def test_fallback_is_more_permissive_than_what_is_configured(office: Office) -> None:
    # A route that the directory no longer has: its items keep running clocks, they do not get all the time there is.
    given = {"station": POLICE, "level": "township", "route_id": "gone", "category": "theft", "subtype": "burglary"}
    office.decide(decision("a", "a", due=START + 2 * HOUR, **given))
    for move in ("claim", "acknowledge", "start"):
        if move == "claim":
            office.claim(POLICE)
        else:
            office.move("a", move)
        assert START < office.row("a")["due_at"] <= START + 10 * DAY
    # And what becomes restricted under people's hands is not left with those who may not see it.
    drug = {"station": "drug-county", "level": "county", "route_id": "restricted-drug", "category": "safety_hazard"}
    changed = revised(decision("a", "a"), subtype="drug_plant", cc=(), position=9, **drug)
    office.decide(changed)
    assert office.row("a")["station"] == "drug-county"
    assert office.desk.listed(station(POLICE), POLICE).items == ()


def test_committed_before_processing(office: Office) -> None:
    """What must go into the input is marked as sent only after it is there; a kill in between repeats it by its key."""
    office.decide(decision("a", "a"))
    office.claim(LIUCHU)
    office.move("a", "resolve", outcome="settled")
    got: list[str] = []

    def killed(*_: Any) -> int | None:
        raise SystemExit  # before anything is written

    def killed_after(_county: str, key: str, value: bytes) -> int | None:
        assert isinstance(decode_input(value), Closure)
        got.append(key)
        raise SystemExit

    def fine(_county: str, key: str, _value: bytes) -> int | None:
        got.append(key)
        return 1

    for append in (killed, killed_after):
        with pytest.raises(SystemExit):
            Outbox(office.engine, lambda: office.now).input(append)
    assert Outbox(office.engine, lambda: office.now).input(fine) == 1
    assert len(got) == 2 and len(set(got)) == 1
    assert Outbox(office.engine, lambda: office.now).input(fine) == 0


# --- grouping ---------------------------------------------------------------------------------------------------------


def test_sliding_window_suppresses_for_ever() -> None:
    """A report every ten hours for a week, each near the one before: there is more than one incident all the same."""
    fold = driven([tip(f"t{n}", STORM, n * 600) for n in range(20)])
    spans = [sorted(int(name[1:]) for name in group) for group in fold.partition()]
    assert len(spans) >= 4
    assert max(span[-1] - span[0] for span in spans) * 10 < 3 * 24


LETTERS = [
    "各位领导好，我是平安守护者群的志愿者老李，现将今天巡查中发现的情况向您报告如下：{}。请及时处理，感谢支持平安建设工作！",
    "尊敬的镇领导：您好！向您反映一个问题，{}。望领导重视，尽快安排处理为盼。此致 敬礼 网格员王振海",
    "主任您好，打扰了，我是三组网格员小周，情况如下：{}，恳请有关部门核实处理，谢谢您的支持。",
]


@pytest.mark.parametrize("words", LETTERS)
def test_boilerplate_lifts_similarity(words: str) -> None:
    """The same greeting and signature around different things makes them no more alike, nor takes their meaning away."""
    told = ["任庄村东头井盖丢了", "寺店村两家因为宅基地打起来了", "任庄村西头有人偷电动车"]
    written = driven([tip(f"t{n}", words.format(one), n * 3) for n, one in enumerate(told)])
    plain = driven([tip(f"t{n}", one, n * 3) for n, one in enumerate(told)])
    assert written.partition() == plain.partition() == {frozenset([f"t{n}"]) for n in range(3)}
    both = [[(name, d.category, d.subtype, d.area) for name, d in fold.decisions.items()] for fold in (written, plain)]
    assert both[0] == both[1]


def test_a_letter_meets_the_plain_report_of_the_same_thing() -> None:
    fold = driven([tip("a", LETTERS[0].format("任庄村西头有人偷电动车"), 0), tip("b", "任庄村西头老赵家电动车让人偷了", 6)])
    assert len(fold.partition()) == 1


def test_level_counts_of_reopened_and_merged(office: Office) -> None:
    """Not in that list, but of its kind: a reopened case counts where it was settled last, a merged one not at all."""
    a, b = decision("a", "a"), decision("b", "b", position=2)
    office.decide(a, b)
    office.claim(LIUCHU, 2)
    for name in ("a", "b"):
        office.move(name, "resolve", outcome="settled")
    office.move("a", "reopen")
    office.move("a", "escalate", reason="村里调不了")
    office.claim(MEDIATION)
    office.move("a", "resolve", outcome="settled")
    office.decide(revised(b, incident="a", cause="merge", merged=(("b", "a"),), position=3))
    with reading(office.engine) as connection:
        found = settled_by_level(connection, COUNTY)
    assert [(row["level"], row["incidents"]) for row in found] == [("township", 1)]


