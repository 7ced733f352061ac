"""Who acts: the county's policy by example, and the laws that hold for every case."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.records import AreaCandidate, Place
from schemas.times import HOUR, MINUTE, parse_time
from schemas.vocabulary import CATEGORIES, CHANNELS, LEVELS, SUBTYPES
from streams.stages.county import compile_county
from streams.stages.locate import locate
from streams.stages.route import Case, Routed, route, trace
from tipline.county import find_county, load_county

COUNTY = compile_county(load_county(find_county()))
X = "anping/xiliangwa"
VILLAGE = f"{X}/dashaocun"
NOW = parse_time("2025-10-07T09:00:00+08:00")

PLAIN = Case(
    category="dispute",
    subtype="neighbour",
    urgent=False,
    confidence=0.9,
    area=VILLAGE,
    precision="village",
    channel="volunteer",
    source="wechat:xiliangwa-3",
    text="",
    link="new",
    occurred_at=NOW,
    received_at=NOW,
)


def go(**changes: Any) -> Routed:
    return route(COUNTY, msgspec.structs.replace(PLAIN, **changes))


TOWNSHIP = {"area": X, "precision": "township"}
NOWHERE = {"area": None, "precision": "none"}


@pytest.mark.parametrize(
    ("changes", "station", "cc", "level"),
    [
        ({}, "village-xiliangwa-dashaocun", (), "village"),
        (TOWNSHIP, "mediation-xiliangwa", (), "township"),
        ({"subtype": "traffic_accident"}, "police-xiliangwa", ("traffic-county",), "township"),
        ({"subtype": "marital_family", "text": "他又打媳妇"}, "police-xiliangwa", ("mediation-xiliangwa",), "township"),
        ({"urgent": True, "text": "再不解决我就拿刀"}, "police-xiliangwa", (), "township"),
        ({"category": "theft", "subtype": "burglary"}, "police-xiliangwa", (), "township"),
        ({"category": "fraud", "subtype": "loan"}, "police-xiliangwa", (), "township"),
        ({"category": "safety_hazard", "subtype": "traffic"}, "police-xiliangwa", ("traffic-county",), "township"),
        ({"category": "safety_hazard", "subtype": "drug_plant"}, "drug-county", (), "county"),
        ({"category": "fraud", "subtype": "other", "text": "孩子网上买游戏号被骗500"}, "police-xiliangwa", ("school-county",), "township"),
        ({**NOWHERE, "category": "fraud", "subtype": "other", "text": "孩子网上买游戏号被骗500"}, "county-triage", ("school-county",), "county"),
        ({"category": "fraud", "subtype": "other", "text": "冒充孩子班主任收资料费"}, "police-xiliangwa", (), "township"),
        ({"text": "初中生在厕所被几个同学扇耳光录视频"}, "minors-county", (), "county"),
        ({"text": "有人霸凌小学生", "urgent": True}, "minors-county", (), "county"),
        ({"category": "other", "subtype": None, "text": "校园欺凌主题班会,请家长参加"}, "county-triage", (), "county"),
        ({"category": "other", "subtype": "lost_found"}, "police-xiliangwa", (), "township"),
        ({"category": "other", "subtype": None}, "county-triage", (), "county"),
        ({"confidence": 0.3}, "county-triage", (), "county"),
        (NOWHERE, "county-triage", (), "county"),
        ({"text": "留楚派出所某民警收钱"}, "supervision-county", (), "county"),
        ({"text": "村干部贪了补助款"}, "supervision-county", (), "county"),
        ({"link": "recurrence", "text": "车胎被扎了"}, "police-xiliangwa", ("mediation-xiliangwa",), "township"),
        (
            {"link": "recurrence", "category": "other", "subtype": "damage"},
            "police-xiliangwa",
            ("mediation-xiliangwa",),
            "township",
        ),
    ],
)
def test_the_policy(changes: dict[str, Any], station: str, cc: tuple[str, ...], level: str) -> None:
    routed = go(**changes)
    assert (routed.station, routed.cc, routed.level) == (station, cc, level)
    assert tuple(r.cue for r in routed.reasons if r.kind == "cc") == cc  # each with why


@pytest.mark.parametrize(
    "text", ["骗子冒充民警收钱", "自称派出所的要钱", "给民警送锦旗,民警不收红包", "村支书短信称换号,索要2000元"]
)
def test_a_pretended_or_honest_officer_is_no_recusal(text: str) -> None:
    assert go(category="fraud", subtype="impersonate_police", text=text).station == "police-xiliangwa"


def test_a_family_quarrel_without_blows_stays_in_the_village() -> None:
    assert go(subtype="marital_family", text="两口子吵架,没动手").station == "village-xiliangwa-dashaocun"


@pytest.mark.parametrize("subtype", ["publicity", "noise"])
def test_publicity_and_noise_need_no_action(subtype: str) -> None:
    routed = go(category="other", subtype=subtype)
    assert (routed.station, routed.no_action, routed.due_at) == ("county-triage", True, None)


def test_an_urgent_case_goes_to_its_best_candidate() -> None:
    options = (AreaCandidate("anping/madian/xiaowangzhuang", 0.4, "text"), AreaCandidate(X, 0.5, "source"))
    routed = go(**NOWHERE, urgent=True, candidates=options)
    assert (routed.station, routed.cc, routed.level) == ("police-xiliangwa", ("county-triage",), "township")


def test_an_urgent_case_without_candidates_goes_to_the_duty_desk() -> None:
    routed = go(**NOWHERE, urgent=True)
    assert (routed.station, routed.cc, routed.due_at) == ("police-county", ("county-triage",), NOW + 15 * MINUTE)


def test_the_other_side_of_a_border_is_cc() -> None:
    assert go(cc_areas=(f"{X}/liuchu",)).cc == ("village-xiliangwa-liuchu",)
    assert go(category="theft", subtype=None, cc_areas=("anping/chengyouzi",)).cc == ("police-chengyouzi",)
    beyond = go(cc_areas=("shenzhou",))
    assert beyond.cc == ("county-triage",)
    assert [(r.cue, r.detail) for r in beyond.reasons if r.kind == "cc"] == [("county-triage", "for shenzhou")]


def test_a_restricted_case_stays_among_restricted_stations() -> None:
    routed = go(category="safety_hazard", subtype="drug_plant", cc_areas=("anping/chengyouzi", "shenzhou"))
    assert (routed.station, routed.cc) == ("drug-county", ())


def test_due_times_start_when_received() -> None:
    assert go().due_at == parse_time("2025-10-08T09:00:00+08:00")
    assert go(category="theft", subtype=None, occurred_at=NOW - 99 * HOUR).due_at == NOW + 2 * HOUR
    assert go(urgent=True).due_at == NOW + 15 * MINUTE


@pytest.mark.parametrize(
    ("at", "route_id"),
    [
        ("2026-10-20T07:59:59.999+08:00", "police"),
        ("2026-10-20T08:00:00+08:00", "event-siwang"),
        ("2026-10-24T19:59:59.999+08:00", "event-siwang"),
        ("2026-10-24T20:00:00+08:00", "police"),
    ],
)
def test_an_event_window_is_half_open(at: str, route_id: str) -> None:
    moment = parse_time(at)
    inside = {"area": "anping/anping", "precision": "township", "zones": ("siwang-expo",)}
    routed = go(category="theft", subtype="pickpocket", occurred_at=moment, received_at=moment, **inside)
    assert routed.route_id == route_id


def test_an_event_route_holds_only_in_its_zone_and_while_it_is_on() -> None:
    start = parse_time("2026-10-21T08:00:00+08:00")
    case = {
        "category": "theft",
        "subtype": None,
        "area": "anping/anping",
        "precision": "township",
        "occurred_at": start,
    }
    assert go(**case, received_at=start).route_id == "police"
    late = parse_time("2026-10-30T08:00:00+08:00")
    assert go(**case, received_at=late, zones=("siwang-expo",)).route_id == "police"


def test_the_trace_names_every_node_asked_and_what_it_missed() -> None:
    routed, tried = trace(COUNTY, PLAIN)
    assert routed == route(COUNTY, PLAIN)
    assert tried[0].route_id == "triage"
    assert [t.route_id for t in tried if t.matched] == ["triage", "known-place", "dispute", "dispute-village"]
    assert all((t.missed is None) == t.matched for t in tried)


def test_a_recusal_names_the_cue() -> None:
    assert any(r.kind == "cue" and "收钱" in r.cue for r in go(text="某民警收钱").reasons)


AREAS = [a for a in COUNTY.areas.values() if a.level != "neighbour"]
WORDS = st.sampled_from(["民警", "收钱", "打媳妇", "车胎", "冒充", "扎了", "吵架", "smashed"])


@st.composite
def cases(draw: st.DrawFn) -> Case:
    category = draw(st.sampled_from(CATEGORIES))
    area = draw(st.none() | st.sampled_from(AREAS))
    moment = st.integers(parse_time("2024-01-01T00:00:00Z"), parse_time("2027-12-31T00:00:00Z"))
    paths = st.sampled_from([*COUNTY.areas, "gone/away"])
    return Case(
        category=category,
        subtype=draw(st.none() | st.sampled_from(SUBTYPES[category])),
        urgent=draw(st.booleans()),
        confidence=draw(st.floats(0, 1)),
        area=area.path if area else None,
        precision=area.level if area and area.level != "neighbour" else "none",
        candidates=tuple(draw(st.lists(st.builds(AreaCandidate, paths, st.floats(0, 1), st.just("x")), max_size=3))),
        cc_areas=tuple(draw(st.lists(paths, max_size=2))),
        flags=tuple(
            draw(
                st.lists(
                    st.sampled_from(["uncertain", "ambiguous_place", "recusal", "restricted", "outside"]), max_size=2
                )
            )
        ),
        zones=tuple(draw(st.lists(st.just("siwang-expo"), max_size=1))),
        channel=draw(st.sampled_from(CHANNELS)),
        source=draw(st.text(max_size=20)),
        text=draw(st.lists(WORDS, max_size=4).map("".join)),
        link=draw(st.sampled_from(["new", "duplicate", "update", "recurrence", "suggested"])),
        occurred_at=draw(moment),
        received_at=draw(moment),
    )


@settings(max_examples=500)
@given(cases())
def test_routing_is_total(case: Case) -> None:
    check_routed(case)


def test_routing_is_total_over_ten_thousand_tips() -> None:
    """Tips as they come: places named, misnamed or not at all, points in, at the border of and outside the county."""
    dice = random.Random(20261125)
    names = [name for area in COUNTY.areas.values() for name in (area.zh, area.en)] + ["小王庄", "北京", "某村", "", ""]
    stations: Counter[str] = Counter()
    for _ in range(10_000):
        text = "".join(dice.sample([dice.choice(names), dice.choice(names), "民警收了钱", "快来人", "动手打人", "车胎被扎", "着火了"], 3))
        point = (dice.uniform(37.9, 38.5), dice.uniform(115.2, 115.9)) if dice.random() < 0.4 else (None, None)
        place = Place(text=dice.choice([None, dice.choice(names) or None]), lat=point[0], lon=point[1])
        source = dice.choice(["wechat:xiliangwa-3", "wechat:madian-1", "hotline:1", "bot:x", "web:public"])
        located = locate(COUNTY, text, place, source)
        category = dice.choice(CATEGORIES)
        at = dice.randrange(1_700_000_000_000, 1_900_000_000_000)
        case = Case(
            category=category,
            subtype=dice.choice([None, *SUBTYPES[category]]),
            urgent=dice.random() < 0.3,
            confidence=dice.random(),
            area=located.area,
            precision=located.precision,
            candidates=located.candidates,
            cc_areas=located.cc_areas,
            flags=(*located.flags, *(["uncertain"] if dice.random() < 0.2 else [])),
            zones=located.zones,
            channel=dice.choice(CHANNELS),
            source=source,
            text=text,
            link="new",
            occurred_at=at,
            received_at=at,
        )
        check_routed(case)
        stations[route(COUNTY, case).station] += 1
    assert len(stations) > 50, "the cases reach the stations of the county"


def check_routed(case: Case) -> None:
    routed = route(COUNTY, case)
    assert routed.station in COUNTY.stations
    assert all(s in COUNTY.stations and s != routed.station for s in routed.cc)
    assert len(set(routed.cc)) == len(routed.cc)
    assert routed.level in LEVELS
    assert routed.no_action == (routed.due_at is None)
    assert routed.due_at is None or routed.due_at >= case.received_at
    assert trace(COUNTY, case)[0] == routed
    if case.urgent and not routed.no_action:
        assert routed.station != "county-triage"
    if COUNTY.stations[routed.station].restricted:
        assert all(COUNTY.stations[s].restricted for s in routed.cc)
