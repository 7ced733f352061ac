"""The plain form of a text."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.stages.normalise import MATCHED, _converter, _traditional, normalise


@pytest.mark.parametrize(
    ("raw", "plain"),
    [
        ("電線桿倒了，快來人！", "电线杆倒了,快来人!"),
        ("ＡＢＣ１２３　着火", "abc123着火"),
        ("着\u200b火\ufeff了", "着火了"),
        ("🔥🔥着火了🔥", "着火了"),
        ("哈哈哈哈哈哈哈", "哈哈哈"),
        ("三 号 楼", "三号楼"),
        ("He  said\n“no”", 'he said "no"'),
        ("😀", ""),
        ("", ""),
    ],
)
def test_plain_form(raw: str, plain: str) -> None:
    assert normalise(raw).text == plain


@pytest.mark.parametrize(
    ("raw", "plain", "forwarded"),
    [
        ("【转】村东头着火了", "村东头着火了", True),
        ("转发：村东头着火了", "村东头着火了", True),
        ("转账给骗子三千块", "转账给骗子三千块", False),
        ("大家注意，南街有骗子", "南街有骗子", False),
        ("转：", "转:", False),
    ],
)
def test_forwards_are_seen_through(raw: str, plain: str, forwarded: bool) -> None:
    normal = normalise(raw)
    assert (normal.text, normal.forwarded) == (plain, forwarded)


@pytest.mark.parametrize(
    ("raw", "follow_up"), [("补充一句，是六只羊", True), ("更正：不是东头是西头", True), ("羊丢了六只", False)]
)
def test_follow_ups(raw: str, follow_up: bool) -> None:
    assert normalise(raw).follow_up is follow_up


def test_texts_that_skip_the_converter_are_those_it_leaves_alone() -> None:
    """Every common simplified character in every order: the converter would change nothing but its known mistake."""
    draw = random.Random(3)
    pairs = ((a, b) for a in range(0xB0, 0xF8) for b in range(0xA1, 0xFF))
    common = [c for a, b in pairs if (c := bytes((a, b)).decode("gb2312", "ignore"))]
    convert, skipped = _converter().convert, 0
    for _ in range(3000):
        text = "".join(draw.choices(common, k=12))
        if _traditional().isdisjoint(text):
            skipped += 1
            assert convert(text).replace("坯", "坏") == text.replace("坯", "坏")
    assert skipped > 2000


@given(st.text(max_size=300))
def test_any_text_has_a_plain_form(raw: str) -> None:
    normal = normalise(raw)
    assert len(normal.text) <= MATCHED and 0 <= normal.cjk <= 1
    assert normal.text == normal.text.strip()
