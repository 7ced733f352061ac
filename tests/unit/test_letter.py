"""What is taken off a letter, and what is not."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.stages.letter import body
from streams.stages.normalise import normalise


@pytest.mark.parametrize(
    ("raw", "left"),
    [
        ("尊敬的领导：你们好，楼下烧烤摊天天到半夜。恳请有关部门尽快处理解决，万分感谢！", "楼下烧烤摊天天到半夜"),
        ("我是任庄村网格员小张，向您反映一个问题：水渠边护栏断了三根。望领导重视。此致 敬礼 村民代表 王某", "水渠边护栏断了三根"),
        ("情况如下：昨晚西头丢了两只羊，请派出所核实。", "昨晚西头丢了两只羊"),
        ("你好，我想反映个事，隔壁天天放炮", "隔壁天天放炮"),
        ("我是志愿者，被人打了，快来", "被人打了,快来"),
        ("主任您好，打扰了，有人把电动车推上楼充电。辛苦了！", "有人把电动车推上楼充电"),
    ],
)  # fmt: skip
def test_courtesies_come_off(raw: str, left: str) -> None:
    assert normalise(raw).text == left
    assert normalise(raw).whole != left


@pytest.mark.parametrize(
    "text",
    [
        "谢谢民警帮我找回电动车",
        "井盖修好了,谢谢",
        "我是志愿者被打了,快来",
        "书记,俺家让人偷了",
        "书记打人了",
        "任庄村东头井盖丢失情况如下:昨晚还在,今早没了",
        "着火了,请立即派人来",
        "有人要跳楼,请快来救人",
        "报告领导,东头着火了",
        "您好",
        "请及时处理",
        "尊敬的领导:您好!感谢!",
        "收到,谢谢",
    ],
)
def test_what_says_something_stays(text: str) -> None:
    assert body(text) == text


@given(st.text(st.sampled_from("各位领导好我是志愿者现将今天情况向您报告如下请及时处理感谢此致敬礼,。: 火井盖"), max_size=80))
def test_it_is_a_part_of_the_text_and_nothing_more_comes_off(text: str) -> None:
    left = body(text)
    assert left in text and (len(left) >= 4 or left == text)


@pytest.mark.parametrize("piece", ["情况", "我们我", "各位领导好,", "请及时处理,", "感谢您的支持", "我是", "现将情况向您报告", "尊敬的", "，"])
def test_the_worst_text_costs_no_more_than_its_length(piece: str) -> None:
    text = (piece * 1200)[:1200]
    spent = []
    for _ in range(5):
        begun = time.perf_counter()
        body(text)
        spent.append(time.perf_counter() - begun)
    assert min(spent) < 0.001
