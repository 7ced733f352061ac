"""Traits: what grouping remembers of a tip - small, comparable in microseconds, restorable from the log.

Texts are compared as bit sets: every character bigram (for Latin words: every word) sets one bit of 1,024, so that
Dice and containment are two `bit_count`s. With the ~40 bigrams of a usual tip about 2 % of the bits collide. What the
words mean is a second bit set (`streams.stages.concepts`), so that `电车` and `e-bike` meet.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import Collection, Iterable
from functools import lru_cache
from operator import add
from sys import intern
from typing import Any, Final
from zlib import crc32

from schemas.records import Quantity
from schemas.vocabulary import CATEGORIES
from streams.stages.concepts import COUNT, concepts, marks
from streams.stages.extract import RESUMED

GRAM_BITS: Final = 1024
_MASKS: Final = tuple(1 << i for i in range(GRAM_BITS))
#: Texts longer than this would fill the bit set; the start of a long text says what happened.
_GRAM_CHARS = 320
#: A meaning is so long; its numbers stand in a byte each, and this one is none.
MEANING_LENGTH: Final = 240
MEANING_ZERO: Final = 128
#: How many of a tip's rarest terms index it.
TERMS: Final = 12
_COMMON = 0.3
_NOTHING: frozenset[Any] = frozenset()
_NO_CATEGORIES: tuple[float, ...] = (0.0,) * len(CATEGORIES)

_WORD = re.compile(r"[a-z]{3,}(?:-[a-z]+)*|[0-9]{2,}")
_CJK_RUN = re.compile(r"[\u3400-\u9fff]+")
#: How something known goes on or ended.
PROGRESS: Final = re.compile(
    r"^(?:还在|还没|还是|又|现在|这会儿|目前|已经?|灭了|劝|分开|散了|人(?:都)?(?:走|散|上来|找)|找着|找到|抓住|逮住|来了|解决|给了|修好|说好|下来了|接到了|出来了|开门了|送医|拉走|好了|通了)"
    r"|还在(?:堵|烧|吵|闹|打|坐|漏|冒)|又(?:着(?:了|起来)|冒烟|冒出来|烧起来|燃起来|打起来|吵起来|漏了)|复燃|已经.{1,8}(?:了|到)|(?:警察|交警|民警|消防|供电|120|救护车|村干部|支书|书记).{0,6}(?:来了|到了|来看了|去了)"
    r"|劝住了|劝开了|救上来|捞上来|找着了|找到了|送回来|冻结住|冻住了|止付|追回|(?:灭|散|通|开|好|走)了$|\bstill\b|\bnow\b"
)
_NUMBER = "(?:[0-9]{1,3}|[一二三四五六七八九十]{1,3})"
#: Tells of one more of a kind that is known: another victim, another day.
ANOTHER: Final = re.compile(
    rf"今天又|今儿又|又(?:撬|偷|丢|让人|被|有人|有一|来了个|出了|骗|一个|是(?:那|电|偷|他))|也(?:让人|被|丢|少了|有一|有个|有人|进了?(?:人|贼)|是这|中招|收|接到|骗|没了|着了|给|空了|不见)|(?:这边|我家|俺家|俺们|我们)也|也.{{1,4}}(?:我家|俺家|我们家|我的|俺的)|^(?:我|俺)?也是[。!~]*$|这回是|另(?:一|外一)|不是(?:同一|一回|一码)|别的|第二(?:个|起|家|回)|(?:昨天|昨儿|刚才).{{1,14}}(?:今天|今儿|今早|这会儿)?又|昨(?:天|儿个?|晚).{{0,3}}{_NUMBER}号.{{0,6}}今(?:天|儿).{{0,3}}{_NUMBER}号|今(?:天|儿)是?{_NUMBER}号.{{0,6}}昨(?:天|儿个?|晚).{{0,3}}{_NUMBER}号|上回|上次|上周|\b(?:another|again|(?:me|mine|stolen|gone|cheated|scammed) too|(?:gone|stolen|missing|cheated|scammed) as well)\b"
)
#: `Traits.another` of a tip that matches DISTINCT.
OUTRIGHT: Final = 2
_FOUND = re.compile(r"找(?:着|到|见|回)|(?:抓|逮)(?:着|住|到)|追回")
#: Says outright that it is another thing: one more there (`5号楼也有味`), not that one, a second thing by the same person.
DISTINCT: Final = re.compile(
    rf"(?:[那这]儿|[那这]边|[东西南北前后]头|{_NUMBER}号?(?:楼|院|井|坑|门|库|棚|单元)|[村庄营屯](?:里|上|东|西|南|北|口)?|[院地屋厂]里|里头|墙根|菜畦里|对面|隔壁)也(?:有(?!人说)|是(?!这么)|着(?:了|火)|丢|冒|漏|让|被|没了|塌|倒了|断了|灭了|坏了|进了)"
    r"|(?:俺|我|咱)们?[^,。!?\s]{1,5}也(?:丢|让人|被|着(?:了|火)|断了|刮|漏|塌|倒了|没了|进人|进贼|进了|少了)|[店铺馆厂厅摊库棚](?:子|里|那)?也(?:进人|进贼|进了|丢|让人|被|着(?:了|火)|没了|少了|漏|塌)"
    r"|[里外]头也(?:缺|少|坏|裂|歪)|又一(?:处|对|家|起|拨|户|伙)|又追尾|昨(?:天|儿)是.{1,6}今(?:天|儿)(?:是|轮)|别(?:搞|弄|闹)混"
    r"|(?<!是)不是(?:同)?一(?:码|回|个|处|起|家)|两码事|非同一|(?<!是)不是(?:刚才|上午|昨天)(?:那|说)|(?<!不)跟[^,。是]{1,10}没关系"
    r"|另外(?:还有|说个|报个|反映个)|还有一?(?:个|件|档子)(?:别的)?事|还有啊|顺便(?:说|问|反映)|另一(?:件|码)事|\bnot the same one\b|\ba different one\b"
)
#: Without one of these neither ANOTHER nor DISTINCT nor RESUMED need be looked for in a long text.
_OF_ANOTHER: Final = ("又", "夜", "头天", "也", "另", "不是", "昨", "前", "这回", "别", "第二", "刚才", "上回", "上次", "上周", "码事", "非同", "没关系", "还有", "顺便", "another", "again", "too", "as well", "same", "different")
#: What call takers write around every report; it says nothing about what happened.
_CALL = re.compile(
    r"^(?:(?:女性|男性|女子|男子|市民|群众)?(?:来电人?|报警人?|女子|男子|群众|市民)(?:来电|报警)?(?:\(.{1,6}\))?(?:系|自称|反映|称|说|报称|表示|女|男)?[,:]?(?:称|反映)?)"
    r"|,?(?:请求|要求|请|望)[^,。]{0,12}(?:到场|处理|处置|出警|核查|核实|检查|疏导|调解|劝阻|帮助|协助|救援力量|力量到场|止付)[^,。]{0,6}。?$"
)

#: Kinds of place; what stands before one of them names it.
_KIND = (
    "村|庄|屯|营|疃|寨|堡|镇|乡|路|街|大道|胡同|巷|桥|厂|公司|站|小区|花园|家园|学校|小学|中学|幼儿园|市场|超市|医院|卫生院|药店|银行|支行|广场|公园|物流园|货站|水站|水塔|作坊|饭店|宾馆|旅馆|酒店|ktv|网吧|烧烤"
    "|停车场|服务区|坊|店|馆|[农建工商车]行|园|苑|城|塘|坑|河|渠|闸|庙|坟地|号门|号楼|号院|路口|街口|大集|夜市|养殖场|工地|网业|织造"
)
_PLACE = re.compile(rf"({_KIND})(?!村|业|稼|养|救|运|销|造|收|干部|支书|书记|主任|委|民|医|友|长|款|为|车|人|面|子|内|钱|驶|员|里的人)")
#: A name is what stands right before its kind, and does not reach back over these.
_NAME_BEFORE = re.compile(
    r"(?:(?![在到往从去把了的是系称被让有我俺们同全谢你他她它咱那哪这就也都又还说给跟与及某每各几请该离靠近沿过向于叫着个一不没进出找回想买卖住开关挪])[\u4e00-\u9fff])+\Z"
)
_BREAK = re.compile(r".*(?:反映|隔壁|发现|来电|报警)")
_LONGEST_NAME = 7
#: What is left before the kind when nothing names the place: `老水塔`, `小超市`, `村北河`.
_UNNAMED = re.compile(r"^[大小老新旧东西南北前后上下里外中边头旁口本家两村镇乡路街门对面院厂店手车卖修]*$")
#: Words that end like a place and name none.
_NO_PLACES: Final = frozenset(
    "步行 马路 公路 道路 铁路 半路 条路 段路 一路 顺路 让路 堵路 修路 跑路 走路 问路 拦路 绕路 套路 思路 网路 线路 电路 短路 通路 扫街 整条街 条街 满街 沿街 上街 逛街 当街 网站 跳闸 拉闸 合闸 电闸 总闸 推闸"
    " 我家店 俺家店 这家店 那家店 开店 守店 看店 封店 网店 小店 我店 本店 原店 一家店 人家 某村 全村 村里 本村 全城 县城 进城 出城 上坟 校园 果园 菜园 家园 茶馆 饭馆 小饭馆 城堡 水渠 沟渠 灌渠 河沟 过河 下河 跳河 投河 跳桥 过桥 树坑 大坑 沙坑 水坑 土坑 踩坑 挖坑 火坑 掉坑 被坑".split()
)
#: A place of one of these kinds is long: two incidents on it need not be one.
ROADS: Final = ("路", "街", "大道")
#: A name whose rarest pair of characters weighs less is a kind of place and no name.
_A_NAME = 0.15
_VILLAGE_KINDS = ("村", "庄", "屯", "营", "疃", "寨", "堡")
_TAIL = re.compile(
    r"(?:(?:丝网|护栏|钢丝|织网|网业|织造|焊管)?(?:有限)?(?:厂|公司|集团)|小区|花园|家园|村|镇|乡|路口|街口|路|街|大道|超市|饭店|宾馆|旅馆|酒店|ktv|烧烤|药店|医院|学校|小学|中学|幼儿园|市场|广场|公园|工业区|[0-9一二三四五六七八九十]*号楼|楼|门口|附近|旁边?"
    r"|对面|隔壁|后院|北侧|南侧|东侧|西侧|路段|段|村口|口|[东西南北](?:头|边|门|侧|口|街)?|里|内|工地|二期|期)+$"
)
_SURNAME = re.compile(r"^(?:[老小大姓]([\u4e00-\u9fff])|([\u4e00-\u9fff])(?:某|姐|哥|叔|婶|嫂|姨|大爷|大娘|师傅|老板|主任|书记|队长|会计|老师|大夫))")


class Remembered:
    """What is kept of a tip for months: enough to tell its incident, a recurrence between its parties, and its place."""

    __slots__ = ("area", "at", "category", "incident", "names", "opened", "seen", "subtype", "tip_id", "villages")

    def __init__(self, tip_id: str, at: int, seen: int) -> None:
        self.tip_id = tip_id
        #: The incident's time, ms.
        self.at = at
        #: When it was reported, ms.
        self.seen = seen
        self.category = "other"
        self.subtype: str | None = None
        self.area: str | None = None
        #: Names of villages, known to the gazetteer or not.
        self.villages: Collection[str] = ()
        #: Names, aliases, plates and identity tokens: what tells parties apart.
        self.names: Collection[str] = ()
        self.incident = ""
        #: How many incidents it opened: their ids follow from this.
        self.opened = 0


class Traits(Remembered):
    """One tip of the last days. Two traits are compared by `streams.stages.pair`."""

    __slots__ = (
        "another", "answers", "categories", "channel", "concepts", "confidence", "follow_up", "forwarded", "given", "gram_count", "grams", "lat", "leaves", "length", "lon", "marks", "meaning", "money",
        "place_grams", "places", "progress", "quantities", "reporter", "surnames", "term_weight", "terms", "urgent",
    )  # fmt: skip

    def __init__(self, tip_id: str, at: int, seen: int) -> None:
        super().__init__(tip_id, at, seen)
        self.villages: frozenset[str] = _NOTHING
        self.names: frozenset[str] = _NOTHING
        self.confidence = 0.0
        self.urgent = False
        #: The likeliest (category/subtype, probability), at most three.
        self.leaves: tuple[tuple[str, float], ...] = ()
        #: Probability of each category as far as `leaves` tell.
        self.categories = _NO_CATEGORIES
        #: Tells how something known goes on or ended.
        self.progress = False
        #: Tells of one more of a kind: 1, or OUTRIGHT where it says outright that it is another thing.
        self.another = 0
        #: The tip it is a reply to, by id; whether that one is known or not.
        self.answers: str | None = None
        self.channel = "volunteer"
        #: Names of places without their kind, e.g. of a factory; the villages among them.
        self.places: frozenset[str] = _NOTHING
        #: The place that the channel gave, in short; empty without one or where it is a township.
        self.given = ""
        #: The bigrams of each place's name: a text that holds them all speaks of it.
        self.place_grams: tuple[int, ...] = ()
        self.lat: float | None = None
        self.lon: float | None = None
        self.surnames: frozenset[str] = _NOTHING
        self.money: frozenset[float] = _NOTHING
        self.quantities: frozenset[tuple[float, str]] = _NOTHING
        self.reporter: str | None = None
        self.forwarded = False
        self.follow_up = False
        self.length = 0
        self.grams = 0
        self.gram_count = 0
        #: Bits of what it speaks of; see `streams.stages.concepts`.
        self.concepts = 0
        #: Bits of which thing of its kind it is, and how far it went; see `streams.stages.concepts`.
        self.marks = 0
        #: What the text means; see `streams.stages.classify`. Empty where the model does not say.
        self.meaning = b""
        #: The tip's rarest terms with their weight, rarest first.
        self.terms: dict[str, float] = {}
        self.term_weight = 0.0

    def complete(self) -> None:
        """Derives what follows from the other traits; call it once they are set."""
        self.gram_count = self.grams.bit_count()
        self.place_grams = tuple([_place_grams(place) for place in sorted(self.places) if len(place) >= 2])
        self.surnames = surnames(self.names)
        self.term_weight = round(sum(self.terms.values()), 4)
        sums = [0.0] * len(CATEGORIES)
        for leaf, probability in self.leaves:
            sums[_CATEGORY_OF[leaf.partition("/")[0]]] += probability
        self.categories = tuple(sums)

    def cooled(self) -> Remembered:
        """What is kept of it once it is too old to be compared."""
        kept = Remembered(self.tip_id, self.at, self.seen)
        kept.category, kept.subtype, kept.incident, kept.opened = self.category, self.subtype, self.incident, self.opened
        if self.names:  # Without a name nothing looks for it any more.
            kept.names, kept.area, kept.villages = tuple(sorted(self.names)), self.area, tuple(sorted(self.villages))
        return kept

    def dump(self) -> list[Any]:
        """As plain JSON, for the decision's `memory`."""
        return [
            self.at, self.seen, self.category, self.subtype, round(self.confidence, 3), int(self.urgent), self.channel, self.area, sorted(self.places), sorted(self.villages),
            self.lat, self.lon, sorted(self.names), sorted(self.money), sorted(self.quantities), self.reporter, int(self.forwarded), int(self.follow_up), self.length,
            f"{self.grams:x}", self.terms, self.leaves, int(self.progress), f"{self.concepts | self.marks << COUNT:x}", self.given, self.another, self.answers, b64encode(self.meaning).decode(),
        ]  # fmt: skip

    @classmethod
    def load(cls, tip_id: str, dumped: list[Any]) -> Traits:
        """The inverse of `dump`."""
        # Most tips tell no time of their own: one number serves for both.
        traits = cls(tip_id, dumped[1] if dumped[0] == dumped[1] else dumped[0], dumped[1])
        traits.category, traits.confidence = intern(dumped[2]), dumped[4]
        traits.subtype = dumped[3] and intern(dumped[3])
        traits.urgent = bool(dumped[5])
        traits.channel, traits.area = intern(dumped[6]), dumped[7] and intern(dumped[7])
        traits.places, traits.villages = frozenset(dumped[8]), frozenset(dumped[9])
        traits.lat, traits.lon = dumped[10], dumped[11]
        traits.names, traits.money = frozenset(dumped[12]), frozenset(dumped[13])
        traits.quantities = frozenset((value, unit) for value, unit in dumped[14])
        traits.reporter = dumped[15]
        traits.forwarded, traits.follow_up = bool(dumped[16]), bool(dumped[17])
        traits.length = dumped[18]
        traits.grams = int(dumped[19], 16)
        traits.terms = dumped[20]
        traits.leaves = tuple((leaf, p) for leaf, p in dumped[21])
        traits.progress = bool(dumped[22])
        spoken = int(dumped[23], 16)
        traits.concepts, traits.marks = spoken & (1 << COUNT) - 1, spoken >> COUNT
        traits.given, traits.another = dumped[24], dumped[25]
        if len(dumped) > 26:  # Logs of before 2026-11-28 end here.
            traits.answers, traits.meaning = dumped[26], b64decode(dumped[27])
        traits.complete()
        return traits


_CATEGORY_OF: Final[dict[str, int]] = {category: i for i, category in enumerate(CATEGORIES)}


def read_text(traits: Traits, text: str, common: dict[str, float], wide: frozenset[str] = _NOTHING) -> None:
    """Sets what a normalised text says of itself. `common` maps a term to its weight 0..1; a term not in it weighs 1.

    `wide` are the terms of names of areas too wide to tell incidents apart: they weigh nothing."""
    report = told(text)
    terms, words = _bigrams(report), _words(report)
    traits.concepts, traits.marks = concepts(report, terms, words), marks(report, terms, words)
    terms.update(words)
    traits.grams = _bits(terms)
    found = sorted([(-weight, term) for term in terms - wide if (weight := common.get(term, 1.0)) > _COMMON])
    traits.terms = {term: -weight for weight, term in found[:TERMS]}
    traits.length = len(text)
    may_be_another = any(map(report.__contains__, _OF_ANOTHER))
    resumed = may_be_another and RESUMED.search(report) is not None
    traits.progress = not resumed and PROGRESS.search(report) is not None
    if may_be_another and not _FOUND.search(report):  # Who found it may say what is gone from it, as of one more.
        traits.another = OUTRIGHT if DISTINCT.search(report) else int(resumed or ANOTHER.search(report) is not None)


def told(text: str) -> str:
    """A normalised text without what call takers write around every report."""
    return _CALL.sub("", text) or text


def grams(text: str) -> int:
    """Normalised text -> bit set of its bigrams (CJK) and words (Latin words and numbers)."""
    return _bits(term_set(text))


@lru_cache(maxsize=4096)
def _place_grams(place: str) -> int:
    return grams(place)


def term_set(text: str) -> set[str]:
    """All terms of a text: CJK bigrams, Latin words and numbers."""
    return _bigrams(text).union(_words(text))


def _bigrams(text: str) -> set[str]:
    found: set[str] = set()
    for run in _CJK_RUN.findall(text[:_GRAM_CHARS]):
        found.update(map(add, run, run[1:]))
    return found


def _words(text: str) -> list[str]:
    return _WORD.findall(text[: 2 * _GRAM_CHARS])


def _bits(terms: Iterable[str]) -> int:
    bits = 0
    for term in terms:
        bits |= _MASKS[crc32(term.encode()) % GRAM_BITS]
    return bits


def named_places(text: str) -> tuple[frozenset[str], frozenset[str]]:
    """Named places of a text, whether a gazetteer lists them or not -> (names of all, of those that are villages)."""
    places: set[str] = set()
    villages: set[str] = set()
    end = 0
    for match in _PLACE.finditer(text, 0, _GRAM_CHARS):
        start, kind = match.start(), match.group(1)
        before = _NAME_BEFORE.search(text, max(end, start - _LONGEST_NAME), start)
        if before is None:
            continue
        end = match.end()
        name = _BREAK.sub("", before.group())
        if text.endswith("不是", 0, start - len(name)):
            continue  # `不是西洼` speaks of another place.
        if not name or (_UNNAMED.match(name) and not (kind in _VILLAGE_KINDS and len(name) == 2)):
            continue
        if kind in ("镇", "乡"):
            continue  # A township holds too much to tell incidents apart.
        if kind in _VILLAGE_KINDS:
            if len(name) > 3:
                continue
            stem = name if kind == "村" else name + kind
            villages.add(stem)
        else:
            stem = name + kind if kind in ROADS else place_stem(name + kind)
        if len(stem) >= 2 and name + kind not in _NO_PLACES:
            places.add(stem)
    return frozenset(places), frozenset(villages)


@lru_cache(maxsize=4096)
def place_stem(place: str) -> str:
    """A place's name without kind and side: `鑫达丝网厂` and `鑫达公司` are `鑫达`. Never shorter than two characters."""
    stem = _TAIL.sub("", place)
    return stem if len(stem) >= 2 else place


def read_places(traits: Traits, text: str, place: str, townships: frozenset[str], common: dict[str, float]) -> None:
    """Sets the places of a text and of the channel's words, without townships: those hold too much to tell incidents apart.

    `common` is as for `read_text`: a name of nothing but common words, such as `学校`, is a kind of place."""
    places, villages = named_places(text)
    if place and place not in townships and not place.endswith(("镇", "乡")):
        more, more_villages = named_places(place)
        traits.given = place_stem(place)
        places |= more or {traits.given}
        villages |= more_villages
        if not more_villages and place.endswith("村") and len(traits.given) <= 3:
            villages |= {traits.given}
    traits.places = frozenset([p for p in places if p not in townships and (p in villages or _rarest(p, common) >= _A_NAME)])
    traits.villages = villages


def _rarest(name: str, common: dict[str, float]) -> float:
    return max([common.get(term, 1.0) for term in term_set(name)], default=1.0)


def surnames(names: frozenset[str]) -> frozenset[str]:
    """What of the names is a surname, however it is said: 老冯家, 冯大爷, 冯某 -> 冯."""
    if not names:
        return _NOTHING
    return frozenset(m.group(1) or m.group(2) for name in names if (m := _SURNAME.match(name)))


def told_quantities(quantities: tuple[Quantity, ...]) -> tuple[frozenset[float], frozenset[tuple[float, str]]]:
    """Quantities -> (sums of money, everything else as (value, unit))."""
    money = frozenset(q.value for q in quantities if q.unit == "元")
    return money, frozenset((q.value, q.unit) for q in quantities if q.unit != "元")
