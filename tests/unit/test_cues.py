"""Rules where the field is certain."""

import pytest

from streams.stages import cues
from streams.stages.normalise import normalise


@pytest.mark.parametrize(
    ("text", "cue"),
    [
        ("再不解决我就拿刀", "我就拿刀"),
        ("他扬言要砍人，就在门口站着", "要砍人"),
        ("老刘拎着菜刀堵他家门口骂", "拎着菜刀"),
        ("俺娘炉子边叫不醒了", "叫不醒"),
        ("十分钟前转给他两万，才想明白", "十分钟前转"),
        ("he said I'll kill you if you come back", "i'll kill"),
        ("大邵村发生火灾", "发生火灾"),
        ("Kitchen on fire in Dashao village", "on fire"),
        ("Help, my husband is beating me", "is beating me"),
    ],
)
def test_urgent_with_the_words_seen(text: str, cue: str) -> None:
    found = cues.urgency(normalise(text).text, "other")
    assert found is not None and found.urgent and found.cue == cue


@pytest.mark.parametrize(
    "text",
    [
        "刀削面店吵架",
        "菜刀丢了一把，谁看见了",
        "磨刀的又来了，吵死人",
        "笑死我了",
        "偷救命钱的人真该抓",
        "救命啊作业一个字没写",
        "演练：快来救火",
        "开展发生火灾怎么逃生的宣传",
        "他漏割的地边子还得我拿镰刀找补",
        "下班点厂区路口没人管，救命通道都堵死",
    ],
)
def test_words_that_only_look_so(text: str) -> None:
    found = cues.urgency(normalise(text).text, "other")
    assert found is None or not found.urgent


@pytest.mark.parametrize(
    ("text", "cue"),
    [
        ("超市逮着一个偷奶粉的，婴儿车底下塞了四罐", "逮着"),
        ("超市来电，称抓获一名盗窃女子，人已控制", "抓获"),
        ("骗老人买床垫那伙人还在村里，车还没走", "车还没走"),
        ("逮着一个！正撅我车座呢，让我跟二楼大哥按地上了", "逮着"),
    ],
)
def test_a_suspect_held_or_still_there_is_urgent(text: str, cue: str) -> None:
    found = cues.urgency(normalise(text).text, "theft")
    assert found is not None and found.urgent and found.cue == cue
    assert cues.urgency(normalise(text).text, "dispute") is None  # two who wrestle are no thief and captor


@pytest.mark.parametrize(
    "text",
    ["偷车的抓着没有？", "昨晚抓了俩偷线的，为值班的点赞", "抓着了，派出所带走了", "祖传名医，抓了一千六的药", "半夜逮走我三只羊", "没抓着，跑了", "猫逮着一只老鼠", "今天钓鱼逮着一个大的", "希望早日抓住小偷", "小偷抓住了吗", "要是抓住小偷非打他不可"],
)
def test_a_suspect_long_gone_is_left_to_the_model(text: str) -> None:
    assert cues.urgency(normalise(text).text, "theft") is None


@pytest.mark.parametrize(
    "text", ["火灭了，不用来了", "孩子找着了，在他姥姥家", "虚惊一场，是烧锅冒烟", "False alarm, all fine"]
)
def test_what_is_over_is_not_urgent(text: str) -> None:
    found = cues.urgency(normalise(text).text, "other")
    assert found is not None and not found.urgent


@pytest.mark.parametrize("text", ["电梯停在六七层中间，我跟俩小孩在里头，灯也灭了", "屏幕灭了，打不开机"])
def test_a_lamp_that_went_out_is_not_over(text: str) -> None:
    assert cues.urgency(normalise(text).text, "other") is None


@pytest.mark.parametrize("text", ["还在堵", "路还堵着呢", "还堵，已经堵到三公里了", "粮站路口堵死了，大挂掉不了头", "堵车堵了半天", "来电人反映园区货车拥堵"])
def test_a_jam_can_wait(text: str) -> None:
    found = cues.urgency(normalise(text).text, "other")
    assert found is not None and not found.urgent and found.cue


@pytest.mark.parametrize(
    "text",
    ["高速堵车，救护车过不来", "堵车呢，有人突然倒地上了", "他们把俺哥堵在厕所里打", "路上堵着，罐车往外漏", "债主把俺堵在家里了", "后头堵了一公里，前头大车撞上的人还没出来"],
)
def test_a_jam_with_somebody_in_danger_is_left_to_the_model(text: str) -> None:
    found = cues.urgency(normalise(text).text, "other")
    assert found is None or found.urgent


@pytest.mark.parametrize("text", ["火灭了一会儿又着了", "锅烧干了火灭了气还开着"])
def test_what_only_seems_over_is_left_to_the_model(text: str) -> None:
    found = cues.urgency(normalise(text).text, "other")
    assert found is None or found.urgent


@pytest.mark.parametrize(
    ("text", "channel", "leaf"),
    [
        ("设备心跳 电量正常", "bot", ("other", "noise")),
        ("测试", "volunteer", ("other", "noise")),
        ("收到，谢谢", "volunteer", ("other", "noise")),
        ("院里种了几十棵罂粟", "volunteer", ("safety_hazard", "drug_plant")),
        ("桥头有人蹲那哭，说不想活了，快来人", "volunteer", ("safety_hazard", "other")),
        ("刀削面店吵架", "volunteer", ("dispute", "other")),
        ("理发店里头俩人骂起来了", "volunteer", ("dispute", "other")),
        ("有人吵架", "volunteer", ("dispute", "other")),
        ("紧急：桥头一女子翻过栏杆坐在外侧，有轻生可能", "hotline", ("safety_hazard", "other")),
    ],
)
def test_rules_of_category(text: str, channel: str, leaf: tuple[str, str]) -> None:
    rule = cues.ruled(normalise(text).text, channel)
    assert rule is not None and (rule.category, rule.subtype) == leaf and rule.cue


@pytest.mark.parametrize(
    "text", ["不是罂粟，是虞美人", "禁毒宣传：严禁种植罂粟", "心跳得厉害，被人骗了", "两口子吵架，女的说不想活了要跳楼", "孩子留条说不想活了，手机关机没回来", "谢谢民警帮我找回电动车",
             "饭店多收钱吵起来了", "村口两家吵起来了", "门口俩口子吵架", "店主与顾客因退货争吵", "还在吵", "楼上吵死了", "超市门口吵架，动刀了"]
)
def test_rules_stay_silent_where_it_is_not_certain(text: str) -> None:
    assert cues.ruled(normalise(text).text, "volunteer") is None


@pytest.mark.parametrize(
    ("text", "cue"),
    [
        ("省道上半挂掉下来三盘钢丝，无人员受伤", "无人员受伤"),
        ("外架子掉下来俩扣件砸安全帽上了，人没事", "人没事"),
        ("bricks fell off the wall, nobody was hurt", "nobody was hurt"),
        ("来电人称其子被流浪犬咬伤小腿，已前往接种疫苗", "已前往接种"),
        ("女的捂着额头上了救护车，警察也上去了", "上了救护车"),
    ],
)
def test_nobody_hurt_or_in_a_doctors_hands_is_not_urgent(text: str, cue: str) -> None:
    found = cues.urgency(normalise(text).text, "safety_hazard")
    assert found is not None and not found.urgent and found.cue == cue


@pytest.mark.parametrize(
    "text",
    [
        "柴火垛着了，火苗两三米高，暂无人员受伤",
        "楼上漏气，人没事，阀拧不上",
        "爸从医院走丢了，刚打了疫苗那个",
        "伤了俩，一个已送医院，里头还有一个",
        "没伤着人，他拎着菜刀还在骂",
    ],
)
def test_what_may_yet_hurt_somebody_is_not_taken_for_over(text: str) -> None:
    found = cues.urgency(normalise(text).text, "safety_hazard")
    assert found is None or found.urgent
