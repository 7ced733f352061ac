"""What the pipeline promises, in every home: by itself in memory, embedded on SQLite and on PostgreSQL, and on Kafka with both.

After each test the home is held against the fold by itself: the same decisions, the same tables, the same dead letters.
"""

from __future__ import annotations

import copy
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest

from schemas.codec import encode
from schemas.records import Change, Decision, Tip, public
from streams.embedded.offline import Offline
from streams.stages.county import compile_county
from tests.acceptance.lab import Lab, wipe
from tests.contracts.cursed import CURSE
from tests.contracts.homes import Distributed, Embedded, Home, Installation, Memory, rows_of
from tests.fold_made import closure, correction, tip
from tests.kafka_fixtures import Broker
from tests.tips_made import tips
from tipline.model import load_model

STORM = "某印刷厂附近约300米电话线被盗割，电话通信中断，请求出警"
FEUD = "大邵村张家和李家为宅基地吵起来了，村里调解了两次没用"
DAY = 24 * 60


@pytest.fixture(scope="module")
def installation(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """One worker and two sinks for all tests, a county each."""
    broker: Broker = request.getfixturevalue("kafka_broker")
    if broker.pid is None:
        broker.start()
    wipe(broker)
    folder = tmp_path_factory.mktemp("kafka")
    with ExitStack() as stack:
        postgres = stack.enter_context(request.getfixturevalue("postgres_database")())
        counties = [county_of(name) for name in vars(request.module) if name.startswith("test_")]
        made = Installation(Lab(broker, postgres, folder), [postgres, f"sqlite:///{folder / 'work.db'}"], counties)
        stack.callback(made.close)
        yield made


def county_of(test: str) -> str:
    """Each test has a county of its own, so that all may live in one installation."""
    return f"county-{zlib.crc32(test.encode()):08x}"


KINDS = [
    "memory",
    "sqlite",
    pytest.param("postgres", marks=pytest.mark.postgres),
    pytest.param("kafka", marks=[pytest.mark.kafka, pytest.mark.postgres]),
]


@pytest.fixture(params=KINDS)
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Home]:
    county, flag = county_of(request.node.originalname), tmp_path / "flag"
    with ExitStack() as stack:
        made: Home
        if request.param == "memory":
            made = Memory(tmp_path / "memory", county, flag)
        elif request.param == "kafka":
            whole: Installation = request.getfixturevalue("installation")
            made = Distributed(whole, county, Memory(tmp_path / "mirror", county, whole.flag))
        else:
            database = stack.enter_context(request.getfixturevalue("postgres_database")()) if request.param == "postgres" else ""
            made = Embedded(tmp_path / "embedded", county, flag, database, Memory(tmp_path / "mirror", county, flag))
        stack.callback(made.close)
        yield made
        made.compare()


# --- grouping ----------------------------------------------------------------------------------------------------------------


def test_a_forward_storm_is_one_incident_on_one_queue(home: Home) -> None:
    home.feed(tip("a", STORM, 0), tip("b", f"【转发】{STORM}", 1.2), tip("c", f"转：{STORM}", 2.9))
    assert home.partition("a", "b", "c") == {frozenset("abc")}
    assert [home.said(name).link for name in "abc"] == ["new", "duplicate", "duplicate"]
    assert {home.said(name).corroborations for name in "abc"} == {3}
    assert home.queue() == {home.incident("a"): (home.said("a").station, 3)}


def test_what_is_delivered_again_changes_nothing(home: Home) -> None:
    told = [tip("a", STORM, 0), tip("b", "寺店村坟地着火，柏树都烧着了", 5, place="寺店村")]
    home.feed(*told)
    relabelled = correction("relabel", home.incident("a"), 6, category="other", subtype="damage", urgent=True)
    relabelled_again = correction("relabel", home.incident("a"), 7, category="theft", subtype="cable", urgent=False)
    closed, opened = closure(home.incident("b"), 8), closure(home.incident("b"), 9, closed=False)
    later = [relabelled, relabelled_again, closed, opened]
    home.feed(*later)
    before, decisions = rows_of(home.store.engine, home.county), home.decisions()
    home.feed(*told, *later, *told)
    home.feed(tip("later", STORM, 20 * DAY), told[0])  # long after, too
    after = rows_of(home.store.engine, home.county)
    assert home.said("a").category == "theft"
    assert {tip_id: decision for tip_id, decision in home.decisions().items() if tip_id in decisions} == decisions
    assert [row for row in after["incident_tips"] if row in before["incident_tips"]] == before["incident_tips"]
    assert {name: len(after[name]) - len(before[name]) for name in ("incident_tips", "incidents", "assignments")} == dict.fromkeys(("incident_tips", "incidents", "assignments"), 1)


def test_the_same_words_of_another_village_are_another_incident(home: Home) -> None:
    said = ("邻居张某家树挡采光，跟他说了几回都不肯砍", "村东头老宅子让人撬了锁，屋里翻得乱七八糟", "村口变压器冒火花，怕着起来")
    for n, words in enumerate(said):
        home.feed(tip(f"a{n}", words, 0, place="大邵村"), tip(f"b{n}", words, 30, place="寺店村"), tip(f"c{n}", words, 40, place="寺店村"))
        assert home.partition(f"a{n}", f"b{n}", f"c{n}") == {frozenset({f"a{n}"}), frozenset({f"b{n}", f"c{n}"})}
    assert len(home.queue()) == 6


def test_five_victims_of_one_script_are_five_incidents_and_one_pattern(home: Home) -> None:
    said = "接到冒充电商客服的电话，说要退款赔付，让我共享屏幕，转了{}元才知道被骗"
    places = ("马店镇", "马店镇", "南王庄镇", "南王庄镇", "马店镇")
    amounts = (3000, 8000, 1200, 500, 20000)
    home.feed(*(tip(f"t{i}", said.format(amount), i * 290, place=places[i]) for i, amount in enumerate(amounts)))
    told = [home.said(f"t{i}") for i in range(5)]
    assert {decision.category for decision in told} == {"fraud"}
    assert len({decision.incident_id for decision in told}) == 5
    patterns = {decision.pattern_id for decision in told}
    assert len(patterns) == 1 and None not in patterns
    assert {quantity.value for decision in told for quantity in decision.quantities} >= set(map(float, amounts))


# --- people's word -----------------------------------------------------------------------------------------------------------


def test_a_merge_sticks_for_later_arrivals(home: Home) -> None:
    home.feed(tip("a", "任庄村东麦秸垛起火，火势很大", 0, place="任庄"), tip("b", "寺店村坟地着火，柏树都烧着了", 5, place="寺店村"))
    first, second = home.incident("a"), home.incident("b")
    assert first != second
    home.feed(correction("merge", second, 10, into=first))
    home.feed(tip("c", "转：寺店村坟地着火，柏树都烧着了", 12), tip("d", "任庄村东的麦秸垛还在烧", 15, place="任庄"))
    assert {home.incident(name) for name in "abcd"} == {first}
    assert home.said("b").cause in ("merge", "late_tip") and home.said("b").revision > 1
    assert list(home.queue()) == [first]


def test_a_split_sticks_for_later_arrivals(home: Home) -> None:
    home.feed(tip("a", STORM, 0), tip("b", f"转发：{STORM}", 2), tip("c", STORM, 3))
    incident = home.incident("a")
    home.feed(correction("split", incident, 10, tip_ids=("b",)))
    assert home.partition("a", "b", "c") == {frozenset("ac"), frozenset("b")}
    assert home.incident("a") == incident  # the id stays with those that stay
    assert set(home.queue()) == {incident, home.incident("b")}
    home.feed(tip("d", STORM, 12), tip("e", f"转：{STORM}", 13))
    assert home.incident("a") != home.incident("b")
    assert {home.incident("d"), home.incident("e")} <= {home.incident("a"), home.incident("b")}


def test_what_a_person_labelled_holds_for_later_arrivals(home: Home) -> None:
    home.feed(tip("a", FEUD, 0))
    incident = home.incident("a")
    assert (home.said("a").category, home.queue()) == ("dispute", {incident: ("village-xiliangwa-dashaocun", 1)})
    home.feed(correction("relabel", incident, 5, category="theft", subtype="burglary", urgent=True))
    home.feed(tip("b", f"转发：{FEUD}", 8))
    for name in "ab":
        said = home.said(name)
        assert (said.category, said.subtype, said.urgent) == ("theft", "burglary", True)
    assert home.queue() == {incident: ("police-xiliangwa", 2)}


def test_a_report_after_the_end_is_a_recurrence(home: Home) -> None:
    home.feed(tip("a", STORM, 0))
    home.feed(closure(home.incident("a"), 30), tip("b", STORM, 60))  # within the grace
    assert home.incident("b") == home.incident("a")
    home.feed(tip("c", STORM, 300))
    again = home.said("c")
    assert (again.link, again.link_to) == ("recurrence", home.incident("a"))
    assert again.incident_id != home.incident("a") and again.incident_id in home.queue()


def test_a_change_of_the_county_counts_from_its_place_on(home: Home) -> None:
    words = "新立庄集市上两家为摆摊地方吵起来了"
    home.feed(tip("before", words, 0))
    change = _with_xinlizhuang(home)
    home.feed(change, tip("after", words, 10 * DAY))
    before, after = home.said("before"), home.said("after")
    assert before.area is None
    assert after.area == f"{home.county}/madian/xinlizhuang"
    assert before.versions.county != after.versions.county == change.digest[:12]


def _with_xinlizhuang(home: Home) -> Change:
    """The county with one village more."""
    bundle = copy.deepcopy(home.bundle)
    village = {"id": "xinlizhuang", "names": {"zh": "新立庄村", "en": "Xinlizhuang Village"}}
    next(township for township in bundle["areas"]["townships"] if township["id"] == "madian")["villages"].append(village)
    digest = compile_county(bundle).digest
    return Change(county=home.county, change_id=f"county/{digest}", what="county", digest=digest, at="2026-03-02T00:00:00Z", bundle=bundle)


# --- what is no good ---------------------------------------------------------------------------------------------------------

POISON = [
    (b"", "undecodable"),
    (b"\xff\xfe\x00", "undecodable"),
    (b"not json", "undecodable"),
    (b"null", "invalid"),
    (b"[]", "invalid"),
    (b"{}", "invalid"),
    (b'{"type":"tip"}', "invalid"),
    (b'{"type":"later","county":"anping"}', "unknown_type"),
    (b'{"type":"tip","county":1}', "invalid"),
    (encode(msgspec.structs.replace(next(iter(tips(1))), county="elsewhere")), "invalid"),
    (b'{"type":"tip","county":"anping","tip_id":"x","source":"s","channel":"carrier-pigeon","text":"t","received_at":"2026-01-01T00:00:00Z"}', "invalid"),
    (b"[" * 5000, "invalid"),
]


def test_poison_is_put_aside_with_its_reason_and_place_and_stops_nothing(home: Home) -> None:
    told = list(tips(len(POISON)))
    fed: list[Tip | bytes] = [one for (value, _), good in zip(POISON, told, strict=True) for one in (value, good)]
    home.feed(*fed)
    # The county and the model stand at 1 and 2; from then on poison and tips take turns.
    assert {letter.position: letter.reason for letter in home.letters()} == {3 + 2 * n: reason for n, (_, reason) in enumerate(POISON)}
    assert set(home.decisions()) == {home.ident(good.tip_id) for good in told}


def test_a_record_on_which_our_code_fails_is_put_aside_and_replayed_when_it_is_mended(home: Home) -> None:
    told = list(tips(40))
    bad = msgspec.structs.replace(told[20], text=f"{told[20].text} {CURSE}")
    home.fail(True)
    home.feed(*told[:20], bad, *told[21:])
    assert [(letter.position, letter.reason, letter.detail) for letter in home.letters()] == [(23, "fold_failed", "RuntimeError")]
    assert set(home.decisions()) == {home.ident(one.tip_id) for one in told if one is not told[20]}
    home.fail(False)
    home.replay()
    assert home.ident(bad.tip_id) in home.decisions()


# --- again, and the same -----------------------------------------------------------------------------------------------------


def test_a_day_of_tips_is_decided_as_tipline_process_does(home: Home) -> None:
    told = list(tips(120))
    home.feed(*told)
    offline = Offline(home.bundle, load_model())
    offline.decide(msgspec.structs.replace(one, county=home.county, tip_id=home.ident(one.tip_id)) for one in told)
    assert told_to_all(home.decisions()) == told_to_all(offline.latest)


def told_to_all(decisions: dict[str, Decision]) -> dict[str, dict[str, Any]]:
    """Decisions as their consumers see them."""
    return {tip_id: public(decision) for tip_id, decision in decisions.items()}


def test_a_restart_rebuilds_the_state(home: Home) -> None:
    fire, graves, bike, sparks = "任庄村东麦秸垛起火，火势很大", "寺店村坟地着火，柏树都烧着了", "马店村老李家院里的电动车被偷了", "南王庄村口变压器冒火花，怕着起来"
    told = [tip("fire", fire, 0, place="任庄"), tip("graves", graves, 5, place="寺店村"), tip("bike", bike, 6), tip("sparks", sparks, 7)]
    told += [tip("one", FEUD, 8), tip("two", FEUD, 9), tip("storm", STORM, 10)]
    home.feed(*told)
    later = [
        correction("merge", home.incident("graves"), 20, into=home.incident("fire")),
        correction("split", home.incident("one"), 21, tip_ids=("two",)),
        correction("relabel", home.incident("bike"), 22, category="dispute", subtype="neighbour"),
        closure(home.incident("storm"), 23),
        _with_xinlizhuang(home),
    ]
    home.feed(*later)
    before = home.decisions()
    home.restart()
    home.feed(*told, *later)
    assert home.decisions() == before
    home.feed(
        tip("graves again", f"转：{graves}", 30, place="寺店村"), tip("three", FEUD, 31), tip("bike again", f"转：{bike}", 32), tip("sparks again", f"转：{sparks}", 33),
        tip("storm again", STORM, 200), tip("market", "新立庄集市上两家为摆摊地方吵起来了", 210),
    )  # fmt: skip
    assert home.partition("fire", "graves", "graves again") == {frozenset({"fire", "graves", "graves again"})}
    assert home.incident("one") != home.incident("two")
    assert home.said("bike again").category == "dispute"
    assert home.incident("sparks again") == home.incident("sparks")
    assert (home.said("storm again").link, home.said("storm again").link_to) == ("recurrence", home.incident("storm"))
    assert home.said("market").area == f"{home.county}/madian/xinlizhuang"


def test_the_whole_log_applied_again_leaves_the_tables_as_they_are(home: Home) -> None:
    home.feed(*tips(60))
    one, other = list(dict.fromkeys(decision.incident_id for decision in home.decisions().values()))[:2]
    home.feed(correction("merge", other, 0, into=one), b"\xff")
    before = [rows_of(engine, home.county) for engine in home.engines]
    home.apply_again()
    assert [rows_of(engine, home.county) for engine in home.engines] == before
    home.feed(*tips(10, salt="more"))
