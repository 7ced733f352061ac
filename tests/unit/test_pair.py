"""Two tips against each other: the gates, places, sums, and that the score is what the features say."""

import math

import pytest

from streams.stages import pair
from streams.stages.concepts import COUNT
from streams.stages.extract import extract
from streams.stages.group import Groups, Thresholds
from streams.stages.traits import (
    MEANING_LENGTH,
    MEANING_ZERO,
    Traits,
    place_stem,
    read_places,
    read_text,
    told_quantities,
)
from tests.fold_made import START

MINUTE = 60_000


def traits(text: str, minutes: float = 0, *, place: str = "", category: str = "theft", **fields: object) -> Traits:
    made = Traits(f"{text}/{minutes}/{place}", START + int(minutes * MINUTE), START + int(minutes * MINUTE))
    made.category, made.subtype, made.confidence = category, "other", 0.9
    made.leaves = ((f"{category}/other", 0.9),)
    read_text(made, text, {})
    read_places(made, text, place, frozenset(), {})
    for name, value in fields.items():
        setattr(made, name, value)
    made.complete()
    return made


def test_villages_apart_are_never_one() -> None:
    said = "老宅子让人撬了锁"
    assert pair.forbidden(traits(said, place="大邵村"), traits(said, 5, place="寺店村"))
    assert not pair.forbidden(traits(said, place="大邵村"), traits(said, 5, place="大邵"))
    assert not pair.forbidden(traits(said, place="大邵村"), traits(said, 5))


def test_points_far_apart_are_never_one() -> None:
    one, other = traits("明火告警", lat=38.20, lon=115.50), traits("明火告警", 5, lat=38.25, lon=115.50)
    assert pair.forbidden(one, other)
    assert pair.kilometres(one, other) == pytest.approx(5.56, rel=0.01)


def test_reports_days_apart_are_never_one() -> None:
    assert pair.forbidden(traits("锁让人撬了"), traits("锁让人撬了", 31 * 60))


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ({58_000.0}, {58_600.0}, True),
        ({230_000.0}, {190_000.0, 40_000.0}, True),
        ({3_000.0}, {8_000.0}, False),
        ({500.0}, {500.0}, True),
        ({100.0}, {200.0, 300.0}, False),
    ],
)
def test_sums_are_compared_roughly_and_as_totals(one: set[float], other: set[float], alike: bool) -> None:
    assert pair.about_equal(frozenset(one), frozenset(other)) is alike
    assert pair.about_equal(frozenset(other), frozenset(one)) is alike


def test_who_found_it_and_who_lost_it_are_brought_together_by_a_person() -> None:
    found = traits("在大集上捡到一个黑色钱包，里头二百多块", category="other", subtype="lost_found")
    lost = "上午赶大集丢了个黑色钱包，里头有二百多块钱"
    for told in (traits(lost, 30, category="other", subtype="lost_found"), traits(lost, 30, category="theft", subtype="pickpocket")):
        assert pair.too_short(found, told) and pair.too_short(told, found)
    assert not pair.too_short(found, traits("黑色钱包让失主领走了，是大集上卖菜的", 60, category="other", subtype="lost_found"))
    assert not pair.too_short(traits(lost, category="theft", subtype="pickpocket"), traits(lost, 5, category="other", subtype="lost_found"))


def test_hours_later_again_tells_of_another() -> None:
    first = traits("漫水桥下头有小孩落水，有人跳下去救", category="safety_hazard")
    later = "昨天刚淹过一回，今天漫水桥又有五六个孩子往下跳"
    assert pair.forbidden(first, traits(later, 23 * 60, category="safety_hazard"))
    assert pair.forbidden(traits(later, 23 * 60, category="safety_hazard"), first)
    # Within hours it may be how the same thing goes on; what came before is not forbidden by what it said itself.
    assert not pair.forbidden(first, traits(later, 60, category="safety_hazard"))
    assert not pair.forbidden(traits(later, category="safety_hazard"), traits("漫水桥孩子落水", 23 * 60, category="safety_hazard"))
    assert not pair.forbidden(first, traits("找着了，人在漫水桥下游，又冷又怕", 8 * 60, category="safety_hazard"))


@pytest.mark.parametrize(
    ("one", "other", "apart"),
    [
        ("七十八岁的老太太走丢了，蓝花棉袄", "小姑娘十六岁一夜没回家", True),
        ("谁家老太太坐马路牙子上，说不清家在哪", "有个小孩找不着家了，在超市门口哭", True),
        ("老太太领着个小孩走丢了", "有个小孩找不着家了，在超市门口哭", False),
        ("看着有七十的老汉不见了", "老汉七十八岁，走失，戴黑帽子", False),
        ("他家人走丢了，穿蓝衣裳", "小姑娘十六岁一夜没回家", False),
    ],
)
def test_an_old_person_and_a_child_missing_are_two(one: str, other: str, apart: bool) -> None:
    a, b = (missing(text, minutes) for text, minutes in ((one, 0), (other, 12)))
    assert pair.forbidden(a, b) is pair.forbidden(b, a) is apart
    a.category = b.category = "safety_hazard"
    a.subtype = b.subtype = "other"
    assert not pair.forbidden(a, b)


def counted(text: str, minutes: float = 0, **fields: object) -> Traits:
    return traits(text, minutes, quantities=told_quantities(extract(text, START, 480).quantities)[1], **fields)  # type: ignore[arg-type]


def missing(text: str, minutes: float) -> Traits:
    return counted(text, minutes, category="other", subtype="missing_person")


@pytest.mark.parametrize(
    ("one", "other", "apart"),
    [
        ("六号楼让人撬了门", "9号楼2单元锁芯断了", True),
        ("三号机井的线让人剪了", "今天是五号井", True),
        ("三号机井的线让人剪了", "今天是五号井，昨儿个3号井的还没接上", False),
        ("3号楼1单元有煤气味", "3栋一单元楼道里呛人", False),
        ("三栋楼都停电了", "5号楼停电", False),  # how many, and which
        ("3号楼有煤气味", "楼道里呛人", False),
    ],
)
def test_what_is_numbered_otherwise_is_another(one: str, other: str, apart: bool) -> None:
    a, b = counted(one), counted(other, 12)
    assert pair.forbidden(a, b) is pair.forbidden(b, a) is apart
    b.follow_up = True  # a correction may tell another number of the same thing
    assert not pair.forbidden(a, b)


def test_what_is_back_on_a_later_day_is_another() -> None:
    first = traits("村东柴火垛着了，风大", category="safety_hazard")
    back = traits("昨天那堆灰又冒烟了，一扒拉底下通红", 20 * 60, category="safety_hazard")
    assert back.another and not back.progress
    assert pair.forbidden(first, back) and pair.forbidden(back, first)
    assert traits("又冒烟了", 30).progress  # the same day it goes on
    assert not traits("昨晚报打架的服务员再次来电").another


def test_a_device_elsewhere_needs_more_than_the_hour() -> None:
    said = "柴火垛着了，离房子就十来米"
    words = traits(said, category="safety_hazard", area="anping/xiliangwa/dashaocun")
    device = {"category": "safety_hazard", "channel": "bot", "lat": 38.2, "lon": 115.6}
    elsewhere = "anping/donghuangcheng"
    assert not pair.particular(words, traits("热成像 疑似火点", 40, area=elsewhere, **device))  # type: ignore[arg-type]
    assert pair.particular(words, traits("热成像 疑似火点", 10, area=elsewhere, **device))  # type: ignore[arg-type]
    assert pair.particular(words, traits("热成像 疑似火点", 40, area="anping/xiliangwa", **device))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "other",
    ["我们那儿的线也刮下来了，没打火", "俺们西辛也丢羊了，两只", "隔壁烟酒店也进人了", "西门外头也缺一个盖", "又一对儿，为机耕路", "看热闹的两辆又追尾了", "昨天是骨科的,今天是我", "不是宏远啊，别搞混", "另外说个事，卫生室门口水管裂了", "还有一个事，村北两家吵起来了", "5号楼也有味，俺家软管让老鼠啃了", "跟打架的没关系，我车让人划了", "又一处，不是刚才那个", "迎宾路口又碰一起，跟刚才那车不是一码事"],
)
def test_what_is_said_to_be_another_is(other: str) -> None:
    first, later = traits("3号楼有煤气味，楼道里呛人", reporter="a"), traits(other, 10, reporter="a")
    assert pair.forbidden(first, later) and pair.forbidden(later, first)
    assert not pair.forbidden(later, traits(other, 20, reporter="b"))  # passed on
    assert not pair.forbidden(later, traits("那儿来人了，都处理好了", 30, reporter="a"))


@pytest.mark.parametrize("text", ["另外院里还有煤气罐", "是不是你们找的那个", "更正一下，不是三万，是三万二", "不知道跟那个有没有关系"])
def test_what_only_sounds_like_another_is_not(text: str) -> None:
    assert traits(text).another != 2


def test_notices_are_one_only_in_the_same_words() -> None:
    notice = "【温馨提示】3·15将至，购物请保留小票，遇纠纷拨打12315"
    same = {"category": "other", "subtype": "publicity", "reporter": "a"}
    assert pair.particular(traits(notice, **same), traits("转 " + notice, 60, **same))  # type: ignore[arg-type]
    other = "【温馨提示】3·15将至，扫码付款请先核对收款人姓名"
    assert not pair.particular(traits(notice, **same), traits(other, 60, **same))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("one", "other", "colours", "makes"),
    [
        ("我的红雅迪没了", "白色小牛电动车的电瓶让人卸了", -1, -1),
        ("红色雅迪让人骑走了", "丢了个红电动车，雅迪的", 1, 1),
        ("红旗街着火了", "黑河边着火了", 0, 0),
        ("a man in a red coat", "穿红羽绒服那个", 1, 0),
    ],
)
def test_colours_and_makes_tell_things_apart(one: str, other: str, colours: int, makes: int) -> None:
    values = dict(zip(pair.FEATURES, pair.features(_nothing(), traits(one), traits(other, 5)), strict=True))
    assert values["colours_same"] - values["colours_apart"] == colours
    assert values["makes_same"] - values["makes_apart"] == makes


@pytest.mark.parametrize(
    ("one", "other", "feature"),
    [
        ("大集上手机让人摸了", "卖布那边我婆婆六百块钱没了", "loot_apart"),
        ("急诊有人打大夫，输液架子都抡起来了", "挂号加塞的吵起来了，没动手", "fight_apart"),
        ("骑车的腿骨折了", "俩车剐了，没人受伤", "hurt_apart"),
    ],
)
def test_what_was_taken_and_how_far_it_went_tell_apart(one: str, other: str, feature: str) -> None:
    def told(a: str, b: str) -> float:
        row = pair.features(_nothing(), traits(a), traits(b, 9))
        return row[pair.FEATURES.index(feature)]

    assert told(one, other) == told(other, one) > 0
    assert told(one, one) == told(other, other) == told(one, "来人了") == 0


def test_another_sum_is_another_victim_of_a_script() -> None:
    said = "冒充客服说退款让我转了钱"
    one = traits(said, category="fraud", money=frozenset({3000.0}), reporter="a")
    other = traits(said, 20, category="fraud", money=frozenset({8000.0}), reporter="b")
    assert pair.forbidden(one, other)
    same = traits(said, 20, category="fraud", money=frozenset({8000.0}), reporter="a")
    assert not pair.forbidden(one, same)


def test_short_texts_need_more_than_their_words() -> None:
    assert pair.too_short(traits("请派人来一下"), traits("请派人来一下", 2))
    assert not pair.too_short(traits("请派人来一下", place="福满楼"), traits("请派人来一下", 2, place="福满楼"))
    assert not pair.too_short(traits("请派人来一下", reporter="a"), traits("请派人来一下", 2, reporter="a"))
    assert not pair.too_short(traits("请派人来一下"), traits("请派人来一下", 2, forwarded=True))


def test_a_form_or_a_forwarder_is_nobody() -> None:
    assert not pair.reporter_same(traits("x", reporter="a", channel="bot"), traits("y", reporter="a"))
    assert not pair.reporter_same(traits("x", reporter="a"), traits("y", reporter="a", channel="bot"))
    assert not pair.reporter_same(traits("x", reporter="a", forwarded=True), traits("y", reporter="a"))
    assert pair.reporter_same(traits("x", reporter="a"), traits("y", reporter="a"))


def test_a_place_is_told_in_a_text() -> None:
    assert pair.place_told(traits("出事了", place="鑫达丝网厂"), traits("鑫达那边冒烟了，好大的味"))


@pytest.mark.parametrize(
    ("place", "stem"),
    [("鑫达丝网厂", "鑫达"), ("鑫达公司", "鑫达"), ("丰华小区4号楼", "丰华"), ("汇源路口", "汇源"), ("市场", "市场"), ("寺店村东", "寺店")],
)
def test_places_lose_their_kind(place: str, stem: str) -> None:
    assert place_stem(place) == stem


@pytest.mark.parametrize(
    ("text", "villages"),
    [
        ("来电人称村北有人落水", set()),
        ("支书让她三天内把鸭子挪村外去", set()),
        ("我们村东头着火了", set()),
        ("大营村东洼两家吵起来了", {"大营"}),
        ("李庄老院子让人翻墙进去了", {"李庄"}),
        ("地里的庄稼让人踩了", set()),
    ],
)
def test_only_what_is_named_is_a_village(text: str, villages: set[str]) -> None:
    assert traits(text).villages == villages


def test_the_same_words_hours_later_are_one_message_passed_on() -> None:
    nothing = pair.Weights((0.0,) * len(pair.FEATURES) + (-9.0,), (1.0,) * COUNT, {})
    said = "张家和李家为宅基地吵起来了，村里调解了两次没用"
    one, later = traits(said, reporter="a"), traits(said, 8 * 60, reporter="b")
    assert pair.score(nothing, one, later) == pair.score(nothing, later, one) >= 0.9
    assert pair.score(nothing, one, traits("张家和李家又为宅基地吵起来了，村里的人去调解了", 8 * 60, reporter="b")) < 0.01
    assert pair.score(nothing, traits("宅基地又吵了"), traits("宅基地又吵了", 60)) < 0.01  # too few words to be anybody's own
    assert pair.score(nothing, traits("宅基地又吵了"), traits("宅基地又吵了", 60, forwarded=True)) >= 0.9
    alarm = "烟感报警 12号楼1单元1层楼道 浓度超阈值"
    assert pair.score(nothing, traits(alarm, channel="bot"), traits(alarm, 60, channel="bot")) < 0.01


def test_the_score_is_what_the_features_say() -> None:
    one, other = traits("焊管厂东边库房冒烟了", place="焊管厂"), traits("焊管厂那烟从窗户里钻出来", 4, place="焊管厂")
    counted = [0.01 * i - 0.2 for i in range(len(pair.FEATURES) + 1)]
    weights = pair.Weights(tuple(counted), tuple(0.1 * i for i in range(COUNT)), {"theft/other": 9.0})
    features = pair.features(weights, one, other)
    assert len(features) == len(pair.FEATURES)
    total = sum(w * f for w, f in zip(counted, features, strict=False)) + counted[-1]
    assert pair.score(weights, one, other) == pytest.approx(1 / (1 + math.exp(-total)))


def test_chinese_and_english_meet_in_concepts() -> None:
    one, other = traits("河里有人，捞鱼的掉水里了"), traits("a man is drowning in the river, a fisherman")
    assert one.concepts & other.concepts


def test_traits_survive_the_log() -> None:
    said = "转：宏某的货车在鑫达丝网厂门口丢了300米电缆，损失一万二"
    one = traits(said, 3, place="台城村", forwarded=True, lat=38.2, lon=115.5, answers="t0", meaning=bytes([1, 128, 255]))
    again = Traits.load(one.tip_id, one.dump())
    slots = [s for kind in Traits.__mro__ for s in getattr(kind, "__slots__", ())]
    assert [getattr(again, s) for s in slots] == [getattr(one, s) for s in slots]
    older = Traits.load(one.tip_id, one.dump()[:26])
    assert (older.answers, older.meaning, older.grams) == (None, b"", one.grams)


def test_meanings_are_compared_as_directions() -> None:
    east, north, west = (bytes([MEANING_ZERO + x, MEANING_ZERO + y]) for x, y in ((100, 0), (0, 100), (-100, 0)))
    full = (100 / MEANING_LENGTH) ** 2
    for one, other, alike in ((east, east, full), (east, north, 0.0), (east, west, -full), (east, b"", 0.0), (b"", b"", 0.0)):
        a, b = traits("灯坏了", meaning=one), traits("路灯不亮", 1, meaning=other)
        assert pair.meaning(a, b) == pair.meaning(b, a) == pytest.approx(alike)


def test_what_has_cooled_keeps_its_parties_and_their_village() -> None:
    one = traits("宏某与邻居周某因土地分界磨擦", place="大邵村", names=frozenset({"宏某", "周某"})).cooled()
    assert set(one.names) == {"宏某", "周某"}
    assert pair.villages_apart(one, traits("宏某车胎被周某扎了", 5, place="寺店村"))
    assert not pair.villages_apart(one, traits("宏某车胎被周某扎了", 5, place="大邵村"))


HOUR = 60


@pytest.mark.parametrize(
    ("one", "other", "speaks"),
    [
        # Nothing but the hour in common.
        (traits("红绿灯不亮了,车都抢着走", category="safety_hazard"), traits("后邻狗叫得睡不着", 30, category="dispute"), False),
        # The same kind of thing, minutes apart and hours apart.
        (traits("柴火垛着火了,火苗子老高"), traits("场院那边浓烟滚滚", 10), True),
        (traits("柴火垛着火了,火苗子老高"), traits("场院那边浓烟滚滚", 9 * HOUR), False),
        # A place, a sum, a name that both tell of, hours apart.
        (traits("门口堵得过不去", place="聚成物流园"), traits("还在排队", 5 * HOUR, place="聚成物流园"), True),
        (traits("让人骗走钱", money=frozenset({8300.0})), traits("追回一笔", 5 * HOUR, money=frozenset({8300.0})), True),
        # Two townships need more than kind and hour.
        (traits("墙头塌了", area="anping/madian"), traits("房顶漏了", 5, area="anping/xiliangwa"), False),
    ],
)
def test_only_what_is_particular_draws_an_edge(one: Traits, other: Traits, speaks: bool) -> None:
    assert pair.particular(one, other) is pair.particular(other, one) is speaks


def test_publicity_and_thanks_share_nothing_with_work_but_words() -> None:
    work = traits("让人骗走五百,说是刷单返钱", category="fraud")
    for subtype, text in (("publicity", "刷单都是诈骗,大家转给老人看看"), (None, "辛苦各位,晚安")):
        idle = traits(text, 3, category="other", subtype=subtype, confidence=0.95)
        assert not pair.particular(work, idle)
    forward = traits("让人骗走五百,说是刷单返钱", 3, category="other", subtype="publicity", confidence=0.95)
    assert pair.particular(work, forward)


def test_villages_of_one_name_in_two_townships_are_two() -> None:
    one, other = traits("路结冰了", place="小辛庄村", area="anping/chengyouzi/xiaoxinzhuang"), traits("沟里排酸水", 5, place="小辛庄村", area="anping/nanwangzhuang/xiaoxinzhuang")
    assert pair.villages_apart(one, other)


def test_a_road_is_long_and_a_kind_of_place_is_no_name() -> None:
    said = {name: value for name, value in zip(pair.FEATURES, pair.features(_nothing(), traits("汇源路上灯不亮"), traits("汇源路有俩车追尾", 5)), strict=True) if value}
    assert said["same_place"] and said["same_road"]
    made = Traits("x", START, START)
    read_places(made, "学校门口有人逆行,不是西洼,是东洼村,网站上也说了", "", frozenset(), {"学校": 0.0})
    assert made.places == frozenset({"东洼"})


def _nothing() -> pair.Weights:
    return pair.Weights((0.0,) * (len(pair.FEATURES) + 1), (1.0,) * COUNT, {})


def test_a_model_of_before_says_nothing_of_later_features() -> None:
    newer = dict(zip(pair.FEATURES, pair.aligned([float(i) for i in range(98)]), strict=False))
    assert newer["both_theft"] == 90.0 and newer["meaning"] == newer["kind_meaning"] == 0.0
    older = [float(i) for i in range(84)]
    weights = pair.aligned(older)
    assert len(weights) == len(pair.FEATURES) + 1 and weights[-1] == 83.0
    by_name = dict(zip(pair.FEATURES, weights, strict=False))
    assert by_name["dice"] == 0.0 and by_name["containment"] == 1.0 and by_name["colours_apart"] == by_name["both_theft"] == 0.0
    assert by_name["concepts_at_once"] == 82.0
    Groups(pair.Weights(weights, (1.0,) * COUNT, {}), Thresholds())
    with pytest.raises(ValueError, match="50 pair weights"):
        Groups(pair.Weights(pair.aligned(older[:50]), (1.0,) * COUNT, {}), Thresholds())
