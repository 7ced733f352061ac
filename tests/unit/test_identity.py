"""Numbers that identify people: found however they are written, always the same token, and nothing else is touched."""

from __future__ import annotations

import re
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.identity import TOKEN, find, luhn, mask, normal_phone, replace
from producers.keyring import Keyring

KEYRING = Keyring.create(lambda n: bytes(range(n)))


def tokens(text: str) -> str:
    return replace(text, KEYRING.token)[0]


#: text with the identity in «», kind, normal form
CANARIES = [
    ("«13812345678»", "phone", "13812345678"),
    ("电话«138-1234-5678»联系", "phone", "13812345678"),
    ("打«+86 138 1234 5678»找我", "phone", "13812345678"),
    ("«8613812345678»", "phone", "13812345678"),
    ("«0086 138 1234 5678»", "phone", "13812345678"),
    ("«138.1234.5678»", "phone", "13812345678"),
    ("«138 12345678»", "phone", "13812345678"),
    ("«1381234 5678»", "phone", "13812345678"),
    ("«1 3 8 1 2 3 4 5 6 7 8»", "phone", "13812345678"),
    ("«１３８１２３４５６７８»", "phone", "13812345678"),
    ("«１３８－１２３４－５６７８»", "phone", "13812345678"),
    ("手机«一三八一二三四五六七八»", "phone", "13812345678"),
    ("手机«幺三八，一二三四，五六七八»", "phone", "13812345678"),
    ("手机«壹叁捌壹贰叁肆伍陆柒捌»", "phone", "13812345678"),
    ("«138\u200b1234\u200b5678»", "phone", "13812345678"),
    ("«1️⃣3️⃣8️⃣1️⃣2️⃣3️⃣4️⃣5️⃣6️⃣7️⃣8️⃣»", "phone", "13812345678"),
    ("«①③⑧①②③④⑤⑥⑦⑧»", "phone", "13812345678"),
    ("«١٣٨١٢٣٤٥٦٧٨»", "phone", "13812345678"),
    ("冀T12345的司机«13812345678»", "phone", "13812345678"),
    ("李四«13812345678»", "phone", "13812345678"),
    ("«13812345678»一直关机", "phone", "13812345678"),
    ("李四一三«13812345678»", "phone", "13812345678"),
    ("李四«一三八一二三四五六七八»", "phone", "13812345678"),
    ("«一三八一二三四五六七八»一直关机", "phone", "13812345678"),
    ("«138一二三四5678»", "phone", "13812345678"),
    ("支付宝«13812345678»", "phone", "13812345678"),
    ("微信号«13812345678»", "phone", "13812345678"),
    ("«138_1234_5678»", "phone", "13812345678"),
    ("«138/1234/5678»", "phone", "13812345678"),
    ("«138·1234·5678»", "phone", "13812345678"),
    ("«138 — 1234 — 5678»", "phone", "13812345678"),
    ("«138  1234  5678»", "phone", "13812345678"),
    ("«138\u20281234\u20285678»", "phone", "13812345678"),
    ("«+86-318-7521110»", "phone", "03187521110"),
    ("«0086 10 62345678»", "phone", "01062345678"),
    ("«0318-7521110»", "phone", "03187521110"),
    ("«(0318)7521110»", "phone", "03187521110"),
    ("«03187521110»", "phone", "03187521110"),
    ("«021 6543 2100»", "phone", "02165432100"),
    ("座机«7521110»", "phone", "7521110"),
    ("«400-820-8820»", "phone", "4008208820"),
    ("«+852 9123 4567»来电", "phone", "85291234567"),
    ("身份证«130125199001011234»", "id", "130125199001011234"),
    ("«13012519900101123x»", "id", "13012519900101123X"),
    ("«130125 19900101 1234»", "id", "130125199001011234"),
    ("证件号：«130125900101123»", "id", "130125900101123"),
    ("他是«130125900101123»，你们查", "id", "130125900101123"),
    ("护照«E12345678»", "id", "E12345678"),
    ("«6222021234567890123»", "card", "6222021234567890123"),
    ("银行卡«6222 0212 3456 7890 123»", "card", "6222021234567890123"),
    ("«622202 1234 5678 90123»", "card", "6222021234567890123"),
    ("«4539578763621486»", "card", "4539578763621486"),
    ("卡号是«621 700 1210 0123 4567»", "card", "621700121001234567"),
    ("账号«1234567890123456»", "card", "1234567890123456"),
    ("QQ«12345678»", "account", "12345678"),
    ("qq号：«12345678»", "account", "12345678"),
    ("扣扣 «88888888»", "account", "88888888"),
    ("微信号«abc_12345»", "account", "abc_12345"),
    ("微信号 «shunlibanjia»", "account", "shunlibanjia"),
    ("微信：«wxid_ab12cd34ef56»", "account", "wxid_ab12cd34ef56"),
    ("加微信«ZhangSan88»", "account", "zhangsan88"),
    ("telegram @«lisi_2020»", "account", "lisi_2020"),
    ("vx:«lisi2020»", "account", "lisi2020"),
    ("支付宝账号 «zhang.san@163.com»", "account", "zhang.san@163.com"),
]  # fmt: skip

UNTOUCHED = (
    """
300米|损失10000元|13800000000元|三笔1500 2000 300|2024-04-02 08:20|2024年4月2日|20240402|20240402123456|冀T12345
冀T·8X2K1|冀TD12345|鲁VA12345|115.5193812345678,38.2345|38.2345678, 115.5198765|转了8000，又转了20000|拨打96110|110|12345
95588|G45|K123+456|3号楼2单元501|1380元|300多米电缆案值10000余元|微信转账3000|微信转3000元|支付宝50000元|QQ空间
QQ 50000元|微信“顺利搬家小马”|一千三百五十元|二〇二四年四月|共计12000.50元|07:20-08:30|60000000元
验证码123456|3000 4000 5000|第1234567号通知|身份证丢了|卡里少了50000|面积120000平方
订单号990125900101123|130 3000 2000元|微信iPhone|账户20000多元没了|v5车|V8发动机|IMG_2024|1234567890
""".replace("\n", "|")
    .strip("|")
    .split("|")
)


@pytest.mark.parametrize(("marked", "kind", "normal"), CANARIES)
def test_found(marked: str, kind: str, normal: str) -> None:
    before, inside, after = re.split("[«»]", marked)
    (found,) = find(before + inside + after)
    assert (found.kind, found.normal) == (kind, normal)
    assert (found.start, found.end) == (len(before), len(before) + len(inside))


@pytest.mark.parametrize("text", UNTOUCHED)
def test_untouched(text: str) -> None:
    assert tokens(text) == text


def test_one_number_one_token() -> None:
    written = {tokens(re.split("[«»]", marked)[1]) for marked, _, normal in CANARIES if normal == "13812345678"}
    assert len(written) == 1
    assert TOKEN.fullmatch(written.pop())


def test_kinds_do_not_share_tokens() -> None:
    assert KEYRING.token("phone", "13812345678") != KEYRING.token("account", "13812345678")


def test_several_in_one_text() -> None:
    text = "张某13812345678转给6222021234567890123共3000元，他微信wxid_ab12cd34ef，又打13812345678"
    words, replaced = replace(text, KEYRING.token)
    assert [one.kind for one in replaced] == ["phone", "card", "account", "phone"]
    assert replaced[0].token == replaced[3].token
    assert "共3000元" in words
    assert mask(text).count("????????") == 4


MOBILE = st.from_regex(r"1[3-9][0-9]{9}", fullmatch=True)
WORDS = st.text(alphabet="安平镇的张某三四一七说，。有人偷电线 abc!？「」", max_size=20)


@given(WORDS, MOBILE, WORDS, st.sampled_from(["", " ", "-"]))
def test_no_mobile_gets_through(before: str, number: str, after: str, gap: str) -> None:
    written = gap.join((number[:3], number[3:7], number[7:]))
    words, replaced = replace(f"{before}{written}{after}", KEYRING.token)
    assert replaced[0].original == written
    assert number not in re.sub(r"\D", "", TOKEN.sub("", words))


@given(st.text(alphabet="0123456789一三八幺 -.，+@xXqQ微信号电话卡元米abc_０１３８[:]phone\u200b", max_size=60))
def test_laws(text: str) -> None:
    words, replaced = replace(text, KEYRING.token)
    assert tokens(words) == words, "replacing twice changes nothing"
    restored = words
    for one in replaced:
        restored = restored.replace(one.token, one.original, 1) if one.token not in text else restored
    if not TOKEN.search(text):
        assert restored == text, "nothing but the identities has gone"
    ends = [0, *(found.end for found in find(text))]
    assert all(found.start >= end for end, found in zip(ends, find(text), strict=False)), "in order, not overlapping"


@given(st.integers(1, 10**12), st.sampled_from(["元", "米", "万元", "块", "公里", " 元", "多元", "亩"]))
def test_amounts_stay(number: int, unit: str) -> None:
    text = f"一共{number}{unit}"
    assert tokens(text) == text


@given(st.datetimes().filter(lambda moment: moment.year >= 1900))
def test_times_stay(moment: datetime) -> None:
    for text in (str(moment)[:19], str(moment)[:19].replace("-", "/"), str(moment)[:10]):
        assert tokens(f"发生在{text}左右") == f"发生在{text}左右"


@pytest.mark.parametrize(
    "text",
    [
        "1" * 4000,
        "1 " * 2000,
        "13" * 2000,
        "138-" * 1000,
        "a@" * 2000,
        "a." * 2000 + "@",
        "微信a_" * 800,
        "微信号" + "a" * 3990,
        "6222 " * 800,
        "一" * 4000,
        "QQ " * 1300,
        "a-" * 2000,
        "+1 " * 1300,
        "电话1" * 1300,
        "(0318)" * 600,
        "\u200b1" * 2000,
    ],
    ids=lambda text: text[:6],
)
def test_no_text_takes_long(text: str) -> None:
    """Bounded work: every pattern has bounded repeats. The test's own timeout would tell."""
    find(text)


def test_luhn() -> None:
    assert luhn("4539578763621486")
    assert not luhn("4539578763621487")


@pytest.mark.parametrize(
    "written", ["+86 138-1234-5678", "008613812345678", "１３８１２３４５６７８", "86 13812345678"]
)
def test_normal_phone(written: str) -> None:
    assert normal_phone(written) == "13812345678"
