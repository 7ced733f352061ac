"""Extract: what is in a tip - parties, quantities, times, plates, tokens - once, for grouping, routing and statistics.

Input is normalised text (`streams.stages.normalise`). Everything is a regular expression over at most
`normalise.MATCHED` characters, without nested repetition.
"""

from __future__ import annotations

import re
from functools import lru_cache

import msgspec

from schemas.records import Quantity
from schemas.times import DAY, HOUR, MINUTE

_SURNAMES = (
    "王李张刘陈杨赵黄周吴徐孙胡朱高林何郭马罗梁宋郑谢韩唐冯于董萧程曹袁邓许傅沈曾彭吕苏卢蒋蔡贾丁魏薛叶阎余潘杜戴夏钟汪田任姜范方石姚谭廖邹熊金陆郝孔白崔康毛邱秦江史顾侯邵孟龙万段"
    "雷钱汤尹黎易常武乔贺赖龚文庞樊兰殷施陶洪翟安颜倪严牛温芦季俞章鲁葛伍韦申尤毕聂丛焦向柳邢路岳齐沿梅莫庄辛管祝左涂谷祁时舒耿牟卜詹关苗凌费纪靳盛童欧甄项曲成游阳裴席卫查屈鲍位覃霍翁隋植甘景薄单包司柏宁柯阮桂闵解强柴华车冉房边辜吉饶刁瞿戚丘古米池滕晋苑邬臧畅宫来苟全褚廉简娄盖符奚木穆党燕郎邸冀谈姬屠连郜晏栾郁商蒙计喻揭窦迟宇敖糜鄢冷卓花仇艾蓝都巩稽井练仲乐虞卞封竺冼原官衣楚佟栗匡宗应台巫鞠僧桑荆谌银扬明沙薄伏岑习胥保和蔺宏宿缪"
)
_ROLES = (
    "邻居", "后邻", "前邻", "对门", "楼上", "楼下", "店主", "老板娘", "老板", "房东", "租客", "包工头", "工头", "司机", "骑手", "婆婆", "儿媳", "媳妇", "丈夫", "前夫", "前妻", "妻子", "岳父",
    "岳母", "丈母娘", "小舅子", "小姑子", "大伯", "兄弟", "哥俩", "妯娌", "父亲", "母亲", "我妈", "我爸", "我爹", "我娘", "我姐", "我妹", "我哥", "我弟", "外甥", "侄子", "表弟", "表哥", "舅", "姑", "姨", "大爷",
    "大娘", "老人", "老太太", "老头", "孩子", "学生", "女工", "工人", "承包人", "承包户", "保安", "校方", "厂方", "物业", "村委", "客服", "师傅", "老师", "同学", "朋友", "女子", "男子", "顾客",
)
#: Surname characters that are more often a preposition or verb before 某.
_WORDS_TOO = "来向和于应成从给到在同"
_NAME = re.compile(
    rf"(?:(?<![0-9子得])[老小大][{_SURNAMES}](?:家|头|三|二|五|六|四)?(?![学店村路街院区车门])"
    rf"|(?<![\u4e00-\u9fff])[{_SURNAMES}]某某?|(?![{_WORDS_TOO}])[{_SURNAMES}]某某?(?![些个种天村厂小公店地处时工日单物县市省])"
    rf"|姓[{_SURNAMES}]|[{_SURNAMES}](?:姐|哥|叔|婶|嫂|姨|大爷|大娘|师傅|老板|主任|书记|队长|会计|老师|大夫))"
)
#: What reads like a name and is none.
_NO_NAMES = frozenset({"小时", "小车", "大车", "老家", "大黄", "小黄", "大方", "小米", "大米", "大门", "小康", "大白", "小白", "大和", "老师", "小单", "大单", "小包", "大包", "老龙", "大龙", "小石", "大石", "老板"})
_ROLE = re.compile("|".join(sorted(_ROLES, key=len, reverse=True)))
_ALIAS = re.compile(r'["「『《]([^"」』》]{2,16})["」』》]')

_DIGIT = {"零": 0, "〇": 0, "一": 1, "二": 2, "两": 2, "俩": 2, "三": 3, "仨": 3, "四": 4, "五": 5, "六": 6, "七": 7, "八": 8, "九": 9, "壹": 1, "贰": 2, "叁": 3, "肆": 4, "伍": 5, "陆": 6, "柒": 7, "捌": 8, "玖": 9}
_SCALE = {"十": 10, "百": 100, "千": 1000, "万": 10_000, "亿": 100_000_000, "拾": 10, "佰": 100, "仟": 1000}
_CN = "零〇一二两三四五六七八九十百千万亿壹贰叁肆伍陆柒捌玖拾佰仟"
_UNITS: dict[str, tuple[str, float]] = {
    "元": ("元", 1), "块钱": ("元", 1), "块": ("元", 1), "万元": ("元", 1e4), "万块": ("元", 1e4), "千元": ("元", 1e3), "rmb": ("元", 1), "yuan": ("元", 1), "k": ("元", 1e3), "w": ("元", 1e4),
    "米": ("m", 1), "公里": ("m", 1e3), "里地": ("m", 500), "里": ("m", 500), "厘米": ("m", 0.01), "meters": ("m", 1), "metres": ("m", 1), "km": ("m", 1e3), "m": ("m", 1),
    "吨": ("kg", 1e3), "斤": ("kg", 0.5), "公斤": ("kg", 1), "kg": ("kg", 1), "亩": ("亩", 1), "分地": ("亩", 0.1),
    "棵": ("棵", 1), "株": ("棵", 1), "只": ("只", 1), "头": ("头", 1), "辆": ("辆", 1), "台": ("台", 1), "个": ("个", 1), "名": ("人", 1), "人": ("人", 1), "户": ("户", 1), "条": ("条", 1), "根": ("根", 1),
    "箱": ("箱", 1), "袋": ("袋", 1), "桶": ("桶", 1), "件": ("件", 1), "笔": ("笔", 1), "张": ("张", 1), "份": ("份", 1), "瓶": ("瓶", 1), "把": ("把", 1), "筐": ("筐", 1), "岁": ("岁", 1), "男": ("", 0),
    "号门": ("号门", 1), "号楼": ("号楼", 1), "#楼": ("号楼", 1), "栋": ("号楼", 1), "幢": ("号楼", 1), "单元": ("单元", 1), "号库": ("号库", 1), "号院": ("号院", 1), "号井": ("号井", 1), "号机井": ("号井", 1),
    "号棚": ("号棚", 1), "号车间": ("号车间", 1), "#车间": ("号车间", 1), "号机": ("号机", 1), "号桥": ("号桥", 1), "号坑": ("号坑", 1), "号沙坑": ("号坑", 1), "号水源井": ("号井", 1), "区": ("号区", 1),
}  # fmt: skip
#: Units that number things: building 6 is not building 9.
NUMBERED = frozenset({"号门", "号楼", "单元", "号库", "号院", "号井", "号棚", "号车间", "号机", "号桥", "号坑", "号区"})
_UNIT_WORDS = "|".join(sorted((re.escape(u) for u in _UNITS if u != "男"), key=len, reverse=True))
_QUANTITY = re.compile(rf"(?P<n>(?<!\d)\d{{1,15}}(?!\d)(?:,\d{{3}})*(?:\.\d{{1,4}})?|半|[{_CN}]{{1,9}})(?:[余多来](?=[万千百]))?(?:(?P<w>[万千百])(?P<tail>[1-9一二三四五六七八九](?![0-9点号楼层分时日月年天个只头辆]))?)?(?P<more>多|余|来|几)?(?P<u>{_UNIT_WORDS})?")
#: A bare number before one of these is no sum of money: 180s, 308房, 600㎡.
_NO_MONEY = frozenset("abcdefghijlmnopqrstuvxyz房室路号楼层度℃㎡%％年月日时点分秒次班级版#多")
#: Numbers to call that would read like a round sum; and what stands before a number that names something else.
_HOTLINES = frozenset({"110", "120", "1010", "10000", "10010", "10050", "12110", "12300", "12350", "12360", "95590", "96110"})
_NO_MONEY_AFTER = re.compile(r"(?:[a-z号打拨栋幢楼门房室层第路线-]|单元|热线|电话|尾号|编号|g|s|x)\Z")
#: `百万保障` is the name of an insurance and no sum.
_NO_SUM = re.compile(r"保障|保险|医疗")
_CURRENCY = re.compile(r"[¥$€£]\s?(\d{1,15}(?!\d)(?:,\d{3})*(?:\.\d{1,2})?)\s?(k|w|万)?")
_PLATE = re.compile(r"[京津冀晋蒙辽吉黑沪苏浙皖闽赣鲁豫鄂湘粤桂琼渝川贵云藏陕甘青宁新][a-z][·.\s]?[a-z0-9]{4,6}(?![a-z0-9])")
_TOKEN = re.compile(r"\[(?:phone|id|card|account):[0-9a-f]{4,16}\]")

_PART_HOUR = {"凌晨": 3, "半夜": 1, "夜里": 1, "后半夜": 3, "黑价": 22, "黑下": 22, "清早": 6, "清晨": 6, "早晨": 7, "早上": 7, "今早": 7, "一早": 6, "上午": 10, "前晌": 10, "中午": 12, "晌午": 12, "下午": 15, "后晌": 15, "傍晚": 18, "晚上": 20, "晚": 20}
_DAY_BACK = {"今天": 0, "今儿个": 0, "今儿": 0, "今早": 0, "今晚": 0, "今晨": 0, "昨天": 1, "昨儿个": 1, "昨儿": 1, "夜个": 1, "夜儿个": 1, "昨晚": 1, "昨夜": 1, "昨日": 1, "前天": 2, "前儿个": 2, "前儿": 2, "大前天": 3}
#: What was over on an earlier day and is back: `昨天那堆灰又冒烟了`.
RESUMED = re.compile(r"(?:昨|夜[个儿]|前[天儿]|头天|上回|上次|上周).{0,16}?(?:又(?:着|冒|烧|燃|打|吵|漏|闹|响|塌|堵|偷|被偷|丢|来(?!电))|复燃|再次(?!来电|报警|反映|拨打|联系|致电))")
_WHEN = re.compile(
    # The look-ahead passes over what can begin none of it, quickly.
    rf"(?=[0-9一二两三四五六七八九十今昨夜前大凌半黑后清早上中晌下傍晚])(?P<day>{'|'.join(sorted(_DAY_BACK, key=len, reverse=True))})?(?P<part>{'|'.join(sorted(_PART_HOUR, key=len, reverse=True))})?"
    rf"(?:(?P<h>\d{{1,2}}|[一二两三四五六七八九十]{{1,3}})(?:点|时)(?P<half>半)?(?:(?P<m>\d{{1,2}})分)?|(?P<hh>\d{{1,2}}):(?P<mm>\d{{2}}))?"
)


class Extracted(msgspec.Struct, frozen=True):
    """What was found. `names` tell people apart, `roles` hardly do; both together are the decision's parties."""

    names: tuple[str, ...]
    roles: tuple[str, ...]
    quantities: tuple[Quantity, ...]
    plates: tuple[str, ...]
    #: Keyed tokens of phones, cards and accounts that the door put in place of the numbers.
    tokens: tuple[str, ...]
    #: Ms since 1970 when the text tells a time, else None.
    told_at: int | None


def extract(text: str, reported_at: int, offset_minutes: int) -> Extracted:
    """Reads normalised `text`; relative times count from `reported_at` (ms) in the county's own time."""
    names = _unique([name for m in _NAME.finditer(text) if (name := m.group()) not in _NO_NAMES] + [m.group(1) for m in _ALIAS.finditer(text)], 6)
    return Extracted(
        names=names,
        roles=_unique([m.group() for m in _ROLE.finditer(text)], 4),
        quantities=_quantities(text),
        plates=_unique([m.group().replace("·", "").replace(" ", "") for m in _PLATE.finditer(text)], 4) if "0" <= max(text, default="") else (),
        tokens=_unique([m.group() for m in _TOKEN.finditer(text)], 6) if "[" in text else (),
        told_at=_told_at(text, reported_at, offset_minutes),
    )


def _unique(found: list[str], most: int) -> tuple[str, ...]:
    return tuple(dict.fromkeys(found))[:most] if found else ()


@lru_cache(maxsize=4096)
def read_number(text: str) -> float | None:
    """`三万六` -> 36000, `八千七` -> 8700, `十二` -> 12, `1,200.5` -> 1200.5, `半` -> 0.5; None when it is no number."""
    if text == "半":
        return 0.5
    if text[0].isdigit():
        return float(text.replace(",", ""))
    total = section = 0.0
    digit: float | None = None
    last_scale = 1
    for c in text:
        if c in _DIGIT:
            if digit is not None and digit and _DIGIT[c]:  # 三四 (three or four) reads as its first.
                continue
            digit = _DIGIT[c]
            if c in "零〇":
                last_scale = 10
        else:
            scale = _SCALE[c]
            if scale >= 10_000:
                total = (total + section + (digit or 0) or 1) * scale
                section = 0.0
            else:
                section += (1 if digit is None else digit) * scale
            digit, last_scale = None, scale
    if digit is not None:
        # Spoken short form: the digit after 万, 千 or 百 counts the next scale down (三万六 = 36,000).
        section += digit * (last_scale // 10 if last_scale >= 100 else 1)
    return total + section


def _quantities(text: str) -> tuple[Quantity, ...]:
    found: dict[tuple[float, str], Quantity] = {}
    for match in _CURRENCY.finditer(text):
        value = float(match.group(1).replace(",", "")) * {"k": 1e3, "w": 1e4, "万": 1e4, None: 1}[match.group(2)]
        found.setdefault((value, "元"), Quantity(value, "元", match.group().strip()))
    for match in _QUANTITY.finditer(text):
        number, unit, scaled = match.group("n"), match.group("u"), _scaled(match)
        if scaled is None:
            continue
        value = scaled
        if unit is None:
            if not _spoken_as_money(match, value):
                continue
            name = "元"
        else:
            name, factor = _UNITS[unit]
            value *= factor
            if unit in ("栋", "幢", "区") and not number[0].isdigit():
                continue  # `三栋` may count buildings.
            if name == "元" and unit in ("k", "w", "m") and not number[0].isdigit():
                continue
            if value == 1 and name in ("个", "条", "把", "人", "台", "件", "张"):
                continue
        value = round(value, 3)
        found.setdefault((value, name), Quantity(value, name, match.group()))
        if len(found) >= 8:
            break
    return tuple(found.values())


def _scaled(match: re.Match[str]) -> float | None:
    """A matched number with the scale after it: `38万6` and `3万二` count their last digit the next scale down."""
    number, word, tail = match.group("n", "w", "tail")
    value = read_number(number)
    if value is None or not word:
        return value
    return value * _SCALE[word] + ((read_number(tail) or 0.0) * _SCALE[word] / 10 if tail else 0.0)


def _spoken_as_money(match: re.Match[str], value: float) -> bool:
    """Whether a bare number says a sum of money: 八千七, 三万六, 1680 - but not 308房 or 180s."""
    number = match.group("n")
    if number in _HOTLINES or (number[0].isdigit() and _NO_MONEY_AFTER.search(match.string, max(0, match.start() - 2), match.start())):
        return False
    if value < 100 or match.string[match.end() : match.end() + 1] in _NO_MONEY or _NO_SUM.match(match.string, match.end()):
        return False
    return bool(match.group("w")) or any(c in "百千万佰仟" for c in number) or _like_money(number)


def _like_money(number: str) -> bool:
    return number.isdigit() and 3 <= len(number) <= 6 and (number.endswith("0") or len(number) == 4) and not number.startswith(("19", "20", "0"))


def _told_at(text: str, reported_at: int, offset_minutes: int) -> int | None:
    """The first time that a text tells and that lies in the past of its report; None when it tells none."""
    for match in _WHEN.finditer(text):
        if not match.group():
            continue
        day, part = match.group("day"), match.group("part")
        if day and RESUMED.match(text, match.start()):
            continue  # That is when it began; it is told because it is back now.
        hour_text = match.group("h") or match.group("hh")
        if hour_text is None and day is None:
            continue  # `晚上` alone may be any evening.
        hour = read_number(hour_text) if hour_text else None
        if hour is not None and hour > 24:
            continue
        told = _moment(reported_at, offset_minutes, day, part, hour, match)
        if told is not None and told <= reported_at + 5 * MINUTE:
            return told
    return None


def _moment(reported_at: int, offset_minutes: int, day: str | None, part: str | None, hour: float | None, match: re.Match[str]) -> int | None:
    local = reported_at + offset_minutes * MINUTE
    midnight = local - local % DAY
    back = _DAY_BACK[day] if day else 0
    part = part or {"今早": "早上", "今晚": "晚", "昨晚": "晚", "昨夜": "夜里", "今晨": "凌晨"}.get(day or "")
    if hour is None and part is None:
        return None if back == 0 else midnight - back * DAY + 12 * HOUR - offset_minutes * MINUTE
    if hour is None:
        hour = float(_PART_HOUR[part or "晚"])
    elif hour < 12 and part in ("下午", "后晌", "傍晚", "晚上", "晚", "黑价", "黑下"):
        hour += 12
    minutes = 30 if match.group("half") else int(match.group("m") or match.group("mm") or 0)
    if day == "昨夜" and hour < 6:
        back = 0  # `昨夜两点` is this morning's small hours.
    moment = midnight - back * DAY + int(hour) * HOUR + minutes * MINUTE - offset_minutes * MINUTE
    if day is None and moment > reported_at + 5 * MINUTE:
        moment -= DAY
    return moment
