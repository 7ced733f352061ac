"""Which tips become one incident, by the behaviour that users see: through the whole fold, with the shipped model."""

from itertools import permutations
from typing import Any

import msgspec
import pytest

from schemas.records import Decision, Tip, tip_id_of
from streams.pipeline import CERTAIN
from tests.fold_made import Driven, correction, driven, tip

STORM = "某印刷厂附近约300米电话线被盗割，电话通信中断，请求出警"


def test_a_storm_of_hundreds_stays_one_incident_and_revises_few() -> None:
    fold = Driven()
    written = 0
    for i in range(120):
        written = len(fold.feed(tip(f"t{i:03}", STORM, i / 10)))
    assert len(fold.partition()) == 1
    assert written == 2  # the new one, and the first with its count


@pytest.mark.parametrize("text", ["请派人来一下", "打起来了快来人", "有人打架", "着火了"])
@pytest.mark.parametrize("place", [None, "李各庄"])
def test_short_texts_do_not_join_by_their_words_alone(text: str, place: str | None) -> None:
    fold = driven([tip("a", text, 0, place="寺店村"), tip("b", text, 3, place=place), tip("c", text, 5)])
    assert len(fold.partition()) == 3


def test_a_fight_is_no_quarrel() -> None:
    assert len(driven([tip("a", "有人打架", 0), tip("b", "有人吵架", 2)]).partition()) == 2


def test_victims_minutes_apart_stay_apart() -> None:
    said = "接到冒充电商客服的电话，说要退款赔付，让我共享屏幕，转了{}元才知道被骗"
    fold = driven([tip("a", said.format(3000), 0), tip("b", said.format(8000), 6), tip("c", said.format(500), 9)])
    assert len(fold.partition()) == 3


def test_a_thing_that_moves_on_is_an_update() -> None:
    fold = driven(
        [
            tip("a", "3号门拥堵，货车堵了一公里", 10, place="聚成物流园"),
            tip("b", "还在堵，已经堵到两公里", 40, place="聚成物流园"),
        ]
    )
    assert len(fold.partition()) == 1
    assert fold.decisions["b"].link == "update" and fold.decisions["b"].link_to == fold.incident("a")


@pytest.mark.parametrize("later", ["宏某车胎被周某扎了", "宏某家的车胎昨晚让人扎了，说是周某干的", "周某把宏某的农具偷走了"])
def test_the_same_parties_again_are_a_recurrence(later: str) -> None:
    fold = driven([tip("a", "宏某与邻居周某因土地分界磨擦", 0, place="大邵村"), tip("b", later, 3 * 24 * 60, place="大邵村")])
    said = fold.decisions["b"]
    assert len(fold.partition()) == 2
    assert said.link == "recurrence" and said.link_to == fold.incident("a")
    cues = " ".join(r.cue for r in said.reasons if r.kind == "recurrence")
    assert "宏某" in cues and "周某" in cues


def test_what_a_reporter_adds_attaches_to_what_they_said() -> None:
    fold = driven(
        [
            tip("a", "焊管厂东边库房冒烟了 不大 有股塑料味", 0, reporter="v1"),
            tip("b", "村南头两家因为地界吵起来了，都拿着铁锹", 4, reporter="v2"),
            tip("c", "灭了 就是配电箱着 没烧着货", 11, reporter="v1"),
            tip("d", "分开了 一个回家了", 20, reporter="v2"),
        ]
    )
    assert fold.partition() == {frozenset({"a", "c"}), frozenset({"b", "d"})}
    assert fold.decisions["c"].link == fold.decisions["d"].link == "update"


def test_a_form_that_sends_for_everybody_is_no_reporter() -> None:
    fold = driven(
        [
            tip("a", "自行车被盗 蓝色 车筐有书", 0, channel="bot", reporter="form", place="汽车站"),
            tip("b", "网购退款诈骗 2600元 已报警", 30, channel="bot", reporter="form"),
        ]
    )
    assert len(fold.partition()) == 2


def test_sums_told_roughly_are_one_sum() -> None:
    fold = driven(
        [
            tip("a", "我妈让假快递客服骗了五万八，全是网贷", 0, place="大子文"),
            tip("b", "来电人称昨日接快递理赔电话，按提示操作网贷，损失58600元", 50, channel="hotline", place="大子文"),
        ]
    )
    assert len(fold.partition()) == 1


def test_today_again_is_another_incident() -> None:
    fold = driven(
        [
            tip("a", "汽车站停车场我电动车后座的头盔让人偷了", 0, place="汽车站"),
            tip("b", "汽车站又撬了，今天是我的电动车，少了充电器", 24 * 60, place="汽车站"),
        ]
    )
    assert len(fold.partition()) == 2


# --- persons' words --------------------------------------------------------------------------------------------------


def _two_fires() -> Driven:
    return driven(
        [
            tip("a", "任庄村东的麦秸垛着火了，火苗子老高", 0, place="任庄"),
            tip("b", "寺店村坟地着火，柏树都烧着了", 5, place="寺店村"),
        ]
    )


def test_the_first_tip_split_away_leaves_the_id_behind() -> None:
    fold = driven([tip("a", STORM, 0), tip("b", STORM, 2), tip("c", STORM, 3)])
    incident = fold.incident("a")
    fold.feed(correction("split", incident, 10, tip_ids=("a",)))
    assert fold.incident("b") == fold.incident("c") == incident
    again = fold.incident("a")
    assert again != incident
    fold.feed(correction("merge", again, 20, into=incident))
    assert {fold.incident(t) for t in "abc"} == {incident}


def test_opposite_merges_leave_one() -> None:
    fold = _two_fires()
    first, second = fold.incident("a"), fold.incident("b")
    fold.feed(correction("merge", first, 10, into=second))
    assert fold.feed(correction("merge", second, 11, into=first)) == []
    assert fold.partition() == {frozenset({"a", "b"})}
    assert fold.fold.groups.resolve(first) is not None


def test_a_merge_lifts_an_earlier_split() -> None:
    fold = driven([tip("a", STORM, 0), tip("b", STORM, 2)])
    fold.feed(correction("split", fold.incident("a"), 10, tip_ids=("b",)))
    assert len(fold.partition()) == 2
    fold.feed(correction("merge", fold.incident("b"), 12, into=fold.incident("a")))
    assert len(fold.partition()) == 1


def test_ids_are_never_given_twice() -> None:
    fold = driven([tip(t, STORM, i) for i, t in enumerate("abcd")])
    seen = {fold.incident("a")}
    for turn in range(4):
        fold.feed(correction("split", fold.incident("a"), 20 + 2 * turn, tip_ids=("a",)))
        assert fold.incident("a") not in seen
        seen.add(fold.incident("a"))
        fold.feed(correction("merge", fold.incident("a"), 21 + 2 * turn, into=fold.incident("b")))
    assert fold.rebuilt().state() == fold.state()


# --- forgetting ------------------------------------------------------------------------------------------------------


def test_what_is_too_old_is_let_go() -> None:
    fold = Driven()
    for i in range(60):
        fold.feed(tip(f"t{i:02}", f"第{i}回：{STORM}", i * 2 * 24 * 60))
    groups = fold.fold.groups
    assert len(groups.tips) <= 47
    assert {t for i in groups.incidents.values() for t in i.tips} == set(groups.tips)
    assert fold.rebuilt().state() == fold.state()


def test_decisions_do_not_hold_what_only_the_fold_needs() -> None:
    fold = driven([tip("a", STORM)])
    assert all(isinstance(o, Decision) for o in fold.log)
    assert set(fold.decisions["a"].memory) == {"case", "incident", "traits", "edges"}


def test_a_storm_is_told_alike_by_a_fold_that_was_there_and_by_one_that_was_rebuilt() -> None:
    def forward(number: int) -> Tip:
        word = ("【转发】", "", "扩散！", "转：")[number % 4]
        extra = "，消防车来了" if number % 7 == 0 else ""
        return tip(f"t{number:02}", f"{word}汽车站南边红旗饭店后厨煤气罐漏气，嗤嗤响，一条街都能闻见味{extra}", number / 10, place="红旗饭店" if number % 3 else None)

    there = driven(forward(number) for number in range(40))
    assert len({there.incident(f"t{number:02}") for number in range(40)}) == 1
    other = there.rebuilt()
    there.feed(*(forward(number) for number in range(40, 46)))
    other.feed(*(forward(number) for number in range(40, 46)))
    assert there.decisions == other.decisions
    split = correction("split", there.incident("t00"), 60, tip_ids=("t41", "t42", "t43"))
    for fold in (there, other):
        fold.feed(split, forward(46))
    assert there.decisions == other.decisions and there.rebuilt().partition() == there.partition()


def test_a_tip_that_says_little_is_taken_for_what_its_incident_is() -> None:
    fold = driven(
        [
            tip("a", "接到冒充老板的QQ，让会计转了二十八万，求止付", 0, reporter="accountant"),
            tip("b", "两家为宅基地界石吵起来了，说他家多占了一尺，请村里来量", 5),
            tip("c", "量了，插了根铁棍", 20),
        ]
    )
    alone = fold.decisions["c"]
    assert alone.confidence < CERTAIN and fold.decisions["b"].category == "dispute"
    fold.feed(correction("merge", fold.incident("c"), 30, into=fold.incident("b")))
    assert (fold.decisions["c"].category, fold.decisions["c"].subtype) == ("dispute", "land_boundary")
    told = [r.cue for r in fold.decisions["c"].reasons if r.kind == "context"]
    assert [cue.split("/")[0].split(" ")[0] for cue in told] == [alone.category]  # what it says by itself is still told
    assert fold.decisions["c"].confidence == alone.confidence
    # What is sure of its own keeps it, and what a person parts is what it was.
    fold.feed(correction("merge", fold.incident("a"), 40, into=fold.incident("b")))
    assert fold.decisions["a"].category == "fraud" and fold.decisions["b"].category == "dispute"
    fold.feed(correction("split", fold.incident("c"), 50, tip_ids=("c",)))
    assert (fold.decisions["c"].category, fold.decisions["c"].subtype) == (alone.category, alone.subtype)
    assert not [r for r in fold.decisions["c"].reasons if r.kind == "context"]


def test_an_area_taken_from_an_incident_goes_with_it() -> None:
    fold = driven([tip("a", "大邵村东头柴火垛着了", 0), tip("b", "东头那垛还在冒烟，烧到墙根了", 8)])
    alone = driven([tip("b", "东头那垛还在冒烟，烧到墙根了", 8)]).decisions["b"].area
    fold.feed(correction("merge", fold.incident("b"), 20, into=fold.incident("a")))
    assert fold.decisions["b"].area == "anping/xiliangwa/dashaocun" != alone
    fold.feed(correction("split", fold.incident("b"), 30, tip_ids=("b",)))
    assert fold.decisions["b"].area == alone
    fold.feed(correction("relocate", fold.incident("a"), 40, area="anping/madian"), tip("c", "村西也着了一垛", 50))
    fold.feed(correction("merge", fold.incident("c"), 60, into=fold.incident("a")))
    assert fold.decisions["a"].area == "anping/madian"
    fold.feed(correction("split", fold.incident("a"), 70, tip_ids=("c",)))
    assert fold.decisions["c"].area == driven([tip("c", "村西也着了一垛", 50)]).decisions["c"].area


def _message(message_id: str, text: str, minutes: float, **fields: Any) -> Tip:
    """A message of a group, with the id that admission gives it."""
    return tip(tip_id_of("wechat:pingan-1", message_id), text, minutes, message_id=message_id, **fields)


_ROAD = _message("m1", "大邵村东头路塌了个大坑，车过不去", 0, reporter="v1")
_CURRENT = _message("m2", "大邵村机井房的线断了搭在地上冒火花", 3, reporter="v2")
_DONE = _message("m3", "修好了，能走了", 90, reporter="v3", in_reply_to="m1")


def test_a_reply_tells_of_what_it_answers_however_little_it_says() -> None:
    for order in permutations([_ROAD, _CURRENT, _DONE]):
        fold = driven(list(order))
        assert fold.incident(_DONE.tip_id) == fold.incident(_ROAD.tip_id) != fold.incident(_CURRENT.tip_id)
    said = fold.decisions[_DONE.tip_id]
    assert said.link == "update" and fold.rebuilt().partition() == fold.partition()
    told = driven([_ROAD, _CURRENT, _DONE]).decisions[_DONE.tip_id].reasons
    assert [r.detail for r in told if r.kind == "group"] == [f"is a reply to tip {_ROAD.tip_id}"]
    stranger = driven([_ROAD, _CURRENT, msgspec.structs.replace(_DONE, in_reply_to=None)])
    assert stranger.incident(_DONE.tip_id) != stranger.incident(_ROAD.tip_id)


@pytest.mark.parametrize("text", ["收到", "谢谢", "我家也塌了一个，另外还有个事，电表箱着了"])
def test_a_reply_that_thanks_or_tells_of_another_stays_alone(text: str) -> None:
    fold = driven([_ROAD, _message("m4", text, 5, reporter="v4", in_reply_to="m1")])
    assert len(fold.partition()) == 2


def test_a_reply_to_what_nobody_knows_is_a_tip_like_any_other() -> None:
    lone = msgspec.structs.replace(_DONE, in_reply_to="gone")
    fold = driven([_ROAD, lone])
    assert len(fold.partition()) == 2 and fold.decisions[lone.tip_id].link == "new"


def test_replies_in_a_row_are_one_incident_until_a_person_parts_them() -> None:
    fold = driven(
        [
            _ROAD,
            _message("m5", "来电人反映大邵村东头路面塌陷，车辆无法通行", 4, reporter="v5"),
            _message("m6", "路中间的大坑还没人管，大邵村东头", 30, reporter="v6"),
            _message("m7", "来人了", 40, reporter="v7", in_reply_to="m1"),
            _message("m8", "填上了", 80, reporter="v8", in_reply_to="m7"),
        ]
    )
    assert len(fold.partition()) == 1
    last = tip_id_of("wechat:pingan-1", "m8")
    fold.feed(correction("split", fold.incident(last), 90, tip_ids=(last,)))
    assert len(fold.partition()) == 2 and fold.rebuilt().partition() == fold.partition()


def test_a_short_reply_goes_to_what_it_answers_and_not_to_its_writers_other_reports() -> None:
    fold = driven(
        [
            _message("m1", "南王庄有人打架，拿着刀", 0, reporter="p"),
            _message("m2", "大邵村着火了", 5, reporter="q"),
            _message("m3", "火灭了", 20, reporter="p", in_reply_to="m2"),
        ]
    )
    fight, fire, out = (tip_id_of("wechat:pingan-1", m) for m in ("m1", "m2", "m3"))
    assert fold.incident(out) == fold.incident(fire) != fold.incident(fight)


def test_one_volunteer_tells_of_many_things() -> None:
    told = ["大邵村逮着一个偷羊的，让我们堵在羊圈里了", "大邵村老刘正给骗子转钱，说是安全账户，劝不住", "大邵村两口子打起来了，女的喊救命", "大邵村南头麦地着火了，风大"]
    fold = driven([tip(f"t{n}", text, n * 4, reporter="v1") for n, text in enumerate(told)])
    assert len(fold.partition()) == len(told)


def test_a_split_joins_nothing() -> None:
    """What a person keeps together is weighed like any other incident: an edge that did not join it before does not now."""
    fold = driven(
        [
            tip("f", "沙窝村着火了，柴火垛", 0),
            _message("m1", "北寨村口的路塌了，车过不去", 6, reporter="v1"),
            _message("m2", "修好了，能走了", 30, reporter="v2", in_reply_to="m1"),
            _message("m3", "路塌那儿来人了，拉了绳", 20, reporter="v3", in_reply_to="m1"),
            tip("g", "大邵村有人落水了，快来人", 8),
        ]
    )
    before = {t: fold.incident(t) for t in ("f", "g")}
    away = tip_id_of("wechat:pingan-1", "m2")
    fold.feed(correction("split", fold.incident(away), 40, tip_ids=(away,)))
    assert {t: fold.incident(t) for t in ("f", "g")} == before
    assert {frozenset({"f"}), frozenset({"g"}), frozenset({away})} <= fold.partition()
    assert fold.rebuilt().partition() == fold.partition()


def test_every_tip_of_several_says_why_it_is_there() -> None:
    fold = driven([tip(f"t{n}", f"大邵村东头柴火垛着了，{more}", n) for n, more in enumerate(("风大", "火苗比房高", "快来人", "烧到墙根了"))])
    for one in list(fold.decisions.values())[1:]:
        assert [r for r in one.reasons if r.kind == "group"], one


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("沙窝村着火了", "沙窝村有人打架"),
        ("大邵村有人打架", "大邵村有人被骗了两万"),
        ("大邵村小孩丢了", "大邵村丢了一辆电动车"),
        ("沙窝村着火了", "沙窝村桥栏杆被撞断了"),
    ],
)
def test_two_plain_reports_of_other_things_in_one_village_are_two(one: str, other: str) -> None:
    assert len(driven([tip("a", one, 0, reporter="v1"), tip("b", other, 5, reporter="v2")]).partition()) == 2
    assert len(driven([tip("b", other, 0, reporter="v2"), tip("a", one, 5, reporter="v1")]).partition()) == 2
