"""Where tips lie: names, points, sources, and what is left to a person."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.records import Place
from streams.stages.county import compile_county
from streams.stages.locate import UNKNOWN_AREA, Located, locate
from tipline.county import find_county, load_county

COUNTY = compile_county(load_county(find_county()))
X = "anping/xiliangwa"


def where(text: str = "", source: str = "hotline:1", **place: object) -> Located:
    return locate(COUNTY, text, Place(**place) if place else None, source)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "area"),
    [
        ("西两洼乡大邵村有人偷电缆", f"{X}/dashaocun"),
        ("大邵两家吵架", f"{X}/dashaocun"),
        ("两洼乡路边着火", X),
        ("马店小王庄着火", "anping/madian/xiaowangzhuang"),
        ("小王庄着火,就是两洼乡的", f"{X}/xiaowangzhuang"),
        ("县城一饭馆打架", "anping/anping"),
        ("聚成物流园堵车", X),
        ("a theft near Xiliangwa market", X),
        ("fire in Dashao Village", f"{X}/dashaocun"),
        ("我是大邵村村民,在马店镇被偷了手机", "anping/madian"),
        ("程油子乡来电,户主去县城陪床三天", "anping/chengyouzi"),
        ("大子文镇沙窝村房后", "anping/daziwen"),  # not the 沙窝村 that is listed elsewhere
        ("西两洼乡小辛庄", X),
        ("骗子说是石家庄公安", None),
        ("东小王庄有人打架", None),  # another village, not 小王庄
        ("马店庄丢羊", None),
        ("axiliangwab", None),
        ("安平", None),
        ("", None),
    ],
)
def test_names_in_the_text(text: str, area: str | None) -> None:
    assert where(text).area == area


def test_two_villages_of_one_name_are_not_guessed_at() -> None:
    found = where("小王庄着火")
    assert (found.area, found.precision, found.flags) == (None, "none", ("ambiguous_place",))
    assert [c.area for c in found.candidates] == ["anping/madian/xiaowangzhuang", f"{X}/xiaowangzhuang"]


def test_the_source_tells_two_villages_of_one_name_apart() -> None:
    assert where("小王庄着火", "wechat:xiliangwa-3").area == f"{X}/xiaowangzhuang"


def test_places_in_different_townships_are_left_to_a_person() -> None:
    found = where("大邵村和台城村的人打起来了")
    assert found.area is None
    assert "ambiguous_place" in found.flags
    assert {c.area for c in found.candidates} >= {f"{X}/dashaocun", "anping/anping/taicheng"}


def test_the_places_text_outweighs_the_tips_text() -> None:
    assert locate(COUNTY, "马店镇的人来了", Place(text="x"), "hotline:1").area == "anping/madian"
    found = locate(COUNTY, "马店镇的人来了", Place(text="西两洼乡"), "hotline:1")
    assert found.area == X
    assert "西两洼乡" in found.mentions


def test_an_unlisted_place_is_remembered_and_the_source_decides() -> None:
    found = locate(COUNTY, "", Place(text="杨屯村"), "wechat:madian-1")
    assert (found.area, found.mentions) == ("anping/madian", ("杨屯村",))


@pytest.mark.parametrize("path", [f"{X}/liuchu", "xiliangwa/liuchu"])
def test_a_given_area_comes_first(path: str) -> None:
    found = where("x", area=path)
    assert (found.area, found.score, found.precision) == (f"{X}/liuchu", 1.0, "village")


def test_an_unknown_area_path_is_read_as_words() -> None:
    assert where("x", area="西两洼乡").area == X


def test_an_unknown_area_path_is_told() -> None:
    told = where("有人打架", area="anping/nowhere")
    assert told.area is None
    assert [(r.cue, r.detail) for r in told.reasons] == [("anping/nowhere", UNKNOWN_AREA)]
    assert UNKNOWN_AREA not in {r.detail for r in where("有人打架", lat=31.2, lon=121.4).reasons}


def test_words_that_plainly_name_another_township_let_it_read_along() -> None:
    point = where("大邵村东头柴火垛着了", lat=38.23, lon=115.52)
    assert (point.area, point.cc_areas) == ("anping/anping", (f"{X}/dashaocun",))
    assert where("大邵村东头", area="anping/madian").cc_areas == (f"{X}/dashaocun",)
    assert where("从大邵村回来,车在这儿丢了", lat=38.23, lon=115.52).cc_areas == ()  # where somebody came from
    for someone in ("我是大邵村的，来这儿办事电车丢了", "大邵村的老张把人打了", "大邵村姓李的欠我工钱"):
        assert where(someone, lat=38.23, lon=115.52).cc_areas == ()  # who it was, not where
    assert where("大邵村的老井塌了", lat=38.23, lon=115.52).cc_areas == (f"{X}/dashaocun",)
    assert where("大邵村东头", lat=38.169, lon=115.625).cc_areas == ()
    assert where("深州市大流村着火了", lat=38.23, lon=115.52).cc_areas == ("shenzhou",)  # a neighbour, by the desk that speaks with it
    assert where("从深州过来的车翻了", lat=38.23, lon=115.52).cc_areas == ()
    assert locate(COUNTY, "大邵村的车", Place(text="马店镇"), "hotline:1").cc_areas == ()  # of two wordings the place's own counts


def test_a_place_that_is_denied_is_not_where_it_is() -> None:
    assert locate(COUNTY, "不是大邵村,是我们这边着火了", None, "hotline:1").area is None
    for said in ("不是沙窝村的火,是大邵村", "no, not Shawo village, the fire is in Dashao village", "沙窝村的亲戚说大邵村着火了"):
        assert locate(COUNTY, said, None, "hotline:1").area == f"{X}/dashaocun"
    for asked in ("是不是大邵村着火了", "不是大邵村吗"):
        assert locate(COUNTY, asked, None, "hotline:1").area == f"{X}/dashaocun"


def test_a_point_lies_in_its_township() -> None:
    found = where("x", lat=38.219, lon=115.5011)
    assert (found.area, found.cc_areas, found.flags) == ("anping/anping", (), ())


def test_a_village_named_in_the_text_sharpens_a_point() -> None:
    assert where("台城村着火", lat=38.22, lon=115.5011).area == "anping/anping/taicheng"


def test_a_point_at_the_border_of_the_county_lists_both_sides() -> None:
    found = where("x", lat=38.1525, lon=115.61)
    assert (found.area, found.cc_areas, found.flags) == (X, ("shenzhou",), ("ambiguous_boundary",))
    assert [c.area for c in found.candidates] == [X, "shenzhou"]


def test_a_point_between_two_villages_belongs_to_the_containing_one() -> None:
    found = where("x", lat=38.17, lon=115.6313)
    assert (found.area, found.cc_areas) == (f"{X}/liuchu", (f"{X}/dashaocun",))


def test_the_band_is_metres() -> None:
    """The border of 大邵村 and 留楚村 at latitude 38.17 runs at 115.63125; a degree of longitude is 87.4 km there."""
    assert where("x", lat=38.17, lon=115.63125 + 45 / 87_400).cc_areas == (f"{X}/dashaocun",)
    assert where("x", lat=38.17, lon=115.63125 + 56 / 87_400).cc_areas == ()


def test_a_point_outside_is_not_overruled_by_the_source() -> None:
    found = where("x", "wechat:madian-1", lat=39.5, lon=116.0)
    assert (found.area, found.flags) == (None, ("outside",))
    assert [c.area for c in found.candidates] == ["anping/madian"]


def test_a_zone_holds_a_point_or_is_named() -> None:
    assert where("x", lat=38.218, lon=115.53).zones == ("siwang-expo",)
    assert where("丝网节会场有人打架").zones == ("siwang-expo",)


def test_nothing_is_known_to_lie_outside_without_outlines() -> None:
    bundle = load_county(find_county())
    bare = compile_county({**bundle, "boundaries": {"type": "FeatureCollection", "features": []}})
    found = locate(bare, "x", Place(lat=38.219, lon=115.5011), "wechat:madian-1")
    assert (found.area, found.flags) == ("anping/madian", ())


NAMES = st.sampled_from([*COUNTY.names, "在", "村民", "东", ",", "着火", "。"])
TEXTS = st.one_of(st.text(max_size=60), st.lists(NAMES, max_size=8).map("".join))
PLACES = st.one_of(
    st.none(),
    st.builds(Place, text=st.none() | TEXTS, area=st.none() | st.sampled_from([*COUNTY.areas, "nowhere"])),
    st.builds(Place, lat=st.floats(38.14, 38.33), lon=st.floats(115.37, 115.67), text=st.none() | TEXTS),
    st.builds(Place, lat=st.floats(-90, 90), lon=st.floats(-180, 180)),
)


@given(TEXTS, PLACES, st.sampled_from(["x:1", "wechat:xiliangwa-3", ""]))
def test_there_is_always_a_sound_answer(text: str, place: Place | None, source: str) -> None:
    found = locate(COUNTY, text, place, source)
    assert found.area is None or COUNTY.areas[found.area].level == found.precision
    assert (found.area is None) == (found.precision == "none")
    assert all(0.0 <= c.score <= 1.0 and c.area in COUNTY.areas for c in found.candidates)
    assert found.area is None or found.candidates[0].area == found.area
    assert all(path in COUNTY.areas and path != found.area for path in found.cc_areas)
    assert locate(COUNTY, text, place, source) == found
