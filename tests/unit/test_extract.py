"""What is in a tip: numbers, sums, names, plates and times, as people write them."""

import pytest

from schemas.times import DAY, HOUR, parse_time
from streams.stages.extract import extract, read_number

NOW = parse_time("2026-03-02T10:00:00+08:00")


@pytest.mark.parametrize(
    ("text", "value"),
    [("三万六", 36_000), ("八千七", 8_700), ("十二", 12), ("两百五", 250), ("1,200.5", 1200.5), ("半", 0.5), ("一百零五", 105), ("叁万贰仟", 32_000), ("二百余", None)],
)
def test_numbers(text: str, value: float | None) -> None:
    if value is None:
        assert extract(text + "元", NOW, 480).quantities[0].value == 200
    else:
        assert read_number(text) == value


def _sums(text: str) -> set[float]:
    return {q.value for q in extract(text, NOW, 480).quantities if q.unit == "元"}


@pytest.mark.parametrize(
    ("text", "sums"),
    [
        ("卡里3万2全没了", {32_000}),
        ("对公转账230000元", {230_000}),
        ("38万6冻结住了31万", {386_000, 310_000}),
        ("转了20000元", {20_000}),
        ("五万八,全是网贷", {58_000}),
        ("先交了1680", {1680}),
        ("308房有人喊救命", set()),
        ("接到可疑电话打96110", set()),
        ("打110不如打12345热线", set()),
        ("2025年就住这儿了,3单元1203", set()),
        ("车牌尾号317,往g307国道跑了", set()),
        ("骗走96110元", {96110}),
        ("持续180s 强度中", set()),
        ("面积约600㎡", set()),
        ("¥3,200.50", {3200.5}),
        ("价值二百余元", {200}),
        ("银元是六块不是八块", {6, 8}),
        ("让我转了20000000000元", {2e10}),
        ("¥12345678901.5", {12345678901.5}),
        ("1234567890123456元", set()),
        ("说不关那个百万保障一个月扣800", {800}),
        ("买了百万医疗,亏了一百万", {1_000_000}),
    ],
)
def test_sums_of_money(text: str, sums: set[float]) -> None:
    assert _sums(text) == sums


@pytest.mark.parametrize(
    ("text", "quantity"),
    [("电缆丢了300米", (300, "m")), ("堵到两公里", (2000, "m")), ("丢了六只羊", (6, "只")), ("鱼约三百斤", (150, "kg")), ("3号门堵了", (3, "号门")), ("三号机井", (3, "号井")), ("9栋2单元", (9, "号楼")), ("6#楼", (6, "号楼"))],
)
def test_quantities(text: str, quantity: tuple[float, str]) -> None:
    assert quantity in {(q.value, q.unit) for q in extract(text, NOW, 480).quantities}


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("宏某与邻居周某因土地分界磨擦", {"宏某", "周某"}),
        ("宏某家的车胎让人扎了,说是周某干的", {"宏某", "周某"}),
        ("老冯家的房子塌了", {"老冯家"}),
        ("收款人姓覃", {"姓覃"}),
        ("小时候就认识", set()),
        ("火苗子老高了", set()),
        ("位于某小区", set()),
        ('那个"顺利搬家小马"又骗人了', {"顺利搬家小马"}),
    ],
)
def test_names(text: str, names: set[str]) -> None:
    assert set(extract(text, NOW, 480).names) >= names
    if not names:
        assert extract(text, NOW, 480).names == ()


def test_plates_and_tokens() -> None:
    found = extract("一辆冀t·12a45的货车,司机电话[phone:7f3a]", NOW, 480)
    assert found.plates == ("冀t12a45",)
    assert found.tokens == ("[phone:7f3a]",)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("昨晚八点让人偷了", NOW - 14 * HOUR),
        ("早上7:30在路口", NOW - 2 * HOUR - HOUR // 2),
        ("前天下午丢的", NOW - 2 * DAY + 5 * HOUR),
        ("晚上老有人来", None),
        ("明天八点开会", NOW - 2 * HOUR),
        ("没说时间", None),
        ("昨天那堆灰又冒烟了", None),  # when it began; now it is back
        ("昨天丢的,今早八点又丢了一只", NOW - 2 * HOUR),
    ],
)
def test_times(text: str, told: int | None) -> None:
    assert extract(text, NOW, 480).told_at == told


@pytest.mark.parametrize("text", ["", "🔥", "0" * 1200, "一" * 1200, "老" * 1200, "10:" * 400, '"' * 1200, "万" * 1200])
def test_odd_texts_are_read_quickly(text: str) -> None:
    extract(text, NOW, 480)
