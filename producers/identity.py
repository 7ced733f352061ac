"""Finds the numbers that identify people in free text, and puts stable keyed tokens in their place. Pure.

Four kinds: `phone` (mobile, landline, 400, abroad), `id` (identity cards, passports), `card` (bank cards), `account`
(QQ, WeChat, Alipay and the like after a cue word, and e-mail addresses). A token reads `[phone:7f3a9c21]`; one number
always gets one token, however it is written, so that grouping still sees that two tips speak of the same number.

Amounts, times, dates, plates, coordinates, measures and public short numbers (110, 95588) stay: deciding needs them. In
doubt between a long bare number and an identity, it is taken for an identity.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator
from typing import Final, Literal

import msgspec

from schemas.times import DAY, parse_time

Kind = Literal["phone", "id", "card", "account"]

KINDS: Final[frozenset[Kind]] = frozenset({"phone", "id", "card", "account"})

#: (kind, normal form) -> the characters of the token.
Tokenise = Callable[[str, str], str]


class Found(msgspec.Struct, frozen=True):
    """One identity in a text: `text[start:end]`, its kind and its normal form (what the token is made of)."""

    start: int
    end: int
    kind: Kind
    normal: str


class Replaced(msgspec.Struct, frozen=True):
    """One identity that was replaced: its token, kind and the characters as they were written."""

    token: str
    kind: Kind
    original: str


#: Our own tokens; never looked into again, so replacing twice changes nothing.
TOKEN: Final = re.compile(r"\[(?:phone|id|card|account):[0-9a-f]{8}\]")

# --- The text as patterns see it: one plain character for each that is written, fillers left out. ---

_SPOKEN = dict(zip("〇零○一二三四五六七八九幺壹贰叁肆伍陆柒捌玖貳參陸", "0001234567891123456789236", strict=True))
_SPOKEN_RUN = re.compile(rf"(?:[{''.join(_SPOKEN)}0-9][ \-,，、]?){{6,}}[{''.join(_SPOKEN)}0-9]")
_BARE_MOBILE = re.compile("1[3-9][0-9]{9}")
_FILLERS = frozenset(
    "\u00ad\ufe0e\ufe0f\u20e3\ufeff" + "".join(map(chr, [*range(0x200B, 0x2010), *range(0x202A, 0x202F)]))
)
_FILLERS |= frozenset(map(chr, range(0x2060, 0x2070)))


def _plain_table() -> dict[int, str]:
    """Full-width forms, dashes, blanks and the world's digits -> ASCII, one character for one."""
    table = {code: chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)}
    table |= dict.fromkeys(map(ord, "‐‑‒–—―−─﹣"), "-")
    table |= dict.fromkeys(map(ord, "·•・‧"), "·")
    table |= dict.fromkeys(map(ord, "\u3000\u00a0\u2002\u2003\u2009\u202f\u2028\u2029\t"), " ")
    table |= {ord("①") + i: str(i + 1) for i in range(9)} | {ord("⓪"): "0", ord("。"): ".", ord("："): ":"}
    table |= {ord("❶") + i: str(i + 1) for i in range(9)}
    digits = (code for code in range(0x80, 0x1FC00) if chr(code).isdecimal())
    return table | {code: str(unicodedata.decimal(chr(code))) for code in digits}


_PLAIN = _plain_table()


def _plain(text: str) -> tuple[str, list[int] | None]:
    """The text to search, and where each of its characters stands in `text` (None: at the same place)."""
    plain = text.translate(_PLAIN)
    places = None
    if not plain.isascii() and any(sign in _FILLERS for sign in plain):
        places = [index for index, sign in enumerate(plain) if sign not in _FILLERS]
        plain = "".join(plain[index] for index in places)
    return _SPOKEN_RUN.sub(_digits, plain), places


def _digits(run: re.Match[str]) -> str:
    """A run of spoken digits as digits. People are called 李四, and 一 begins many a word: what stands beside a mobile
    number is no part of it, and digits of both kinds together are one number only where they make a mobile number."""
    written = run[0]
    digits = "".join(_SPOKEN.get(sign, "-" if sign in ",，、" else sign) for sign in written)
    bare = re.sub("[^0-9]", "", digits)
    if _BARE_MOBILE.fullmatch(bare):
        return digits
    if any("0" <= sign <= "9" for sign in written):
        return written
    if len(bare) in (12, 13) and len(bare) == len(digits):
        if _BARE_MOBILE.fullmatch(bare[-11:]):
            return written[:-11] + digits[-11:]
        if _BARE_MOBILE.fullmatch(bare[:11]):
            return digits[:11] + written[11:]
    return digits


# --- Patterns. A number is bounded by what is no digit; `_UNIT` after it makes it an amount or a measure. ---

_LEFT = r"(?<![\d])(?<!\d[.])"
_UNIT = (
    r"(?!\s?(?:\.\d+)?\s?[多余来几]?"
    r"(?:元|块|万|亿|千克|公里|千米|米|公斤|斤|吨|亩|度|平方|RMB|rmb|USD|美元|美金|港币|%))"
)
_RIGHT = r"(?!\d)" + _UNIT
_PHONE_CUE = (
    r"(?:电话|电\s?话|手机|座机|固话|热线|传真|联系方式|联系人|联系我|联系他|联系她|致电|拨打|来电|打给|号码|小灵通"
    r"|[Pp]hone|[Tt]el|TEL|[Mm]obile|[Cc]all|[Cc]ell)"
)
_IS = r"(?:号码|号|是|为|叫|了)?\s?[:=(]?\s?"
_COUNTRY = r"(?:(?:\+\s?86|\(\+?86\)|0086|(?<!\d)86)[ \-]?)?"

#: What people put between the parts of a number that cannot be anything else: `138·1234 / 5678`.
_GAP = r"[ \-._/~·|]{1,3}"
_MOBILE = re.compile(
    rf"{_LEFT}{_COUNTRY}(?P<n>1[3-9]\d(?:\d{{8}}|(?P<s>[ \-.])(?:\d{{4}}(?P=s)\d{{4}}|\d{{8}}|\d{{3}}(?P=s)\d{{5}})"
    rf"|\d[ \-]\d{{3}}[ \-]\d{{4}}|\d{{4}}[ \-]\d{{4}}|\d{{3}}[ \-]\d{{5}}|\d{{2}}[ \-]\d{{6}})"
    rf"|1[ \-.][3-9](?:[ \-.]\d){{9}}|1[3-9]\d{_GAP}\d{{4}}{_GAP}\d{{4}}){_RIGHT}"
)
_LANDLINE = re.compile(
    rf"{_LEFT}{_COUNTRY}(?P<n>\(?0(?:10|2\d|[3-9]\d\d)\)?[ \-]?[2-9]\d{{2,3}}[ \-]?\d{{4}}"
    rf"(?:\s?(?:-|转|分机)\s?\d{{1,6}})?|[48]00[ \-]?\d{{3}}[ \-]?\d{{4}}|[48]00[ \-]\d{{4}}[ \-]\d{{3}}){_RIGHT}"
)
#: From abroad, without the zero of the area code.
_LANDLINE_86 = re.compile(
    r"(?<!\d)(?:\+\s?86|\(\+?86\)|0086)[ \-]?\(?"
    rf"(?P<n>(?:10|2\d|[3-9]\d\d)\)?[ \-]?[2-9]\d{{2,3}}[ \-]?\d{{4}}){_RIGHT}"
)
_ABROAD = re.compile(rf"(?<![\d])(?:\+|(?<!\d)00)(?!86)\s?(?P<n>[1-9]\d{{0,2}}[ \-]?(?:\d[ \-]?){{6,11}}\d){_RIGHT}")
_CUED_PHONE = re.compile(
    rf"{_PHONE_CUE}{_IS}(?P<v>(?:1[3-9](?:[ \-.,/]{{0,2}}\d){{9}}|[2-9]\d{{2,3}}[ \-]?\d{{4}}(?:-\d{{1,6}})?)){_RIGHT}"
)

_DATE8 = r"(?:18|19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])"
_ID18 = re.compile(rf"{_LEFT}(?P<n>[1-9]\d{{5}}[ \-]?{_DATE8}[ \-]?\d{{3}}[\dXx])(?![\dA-Za-z])")
#: Fifteen digits, as cards had them until 1999: an area of a province, then a birthday without its century.
_ID15 = re.compile(
    rf"{_LEFT}(?P<n>(?:1[1-5]|2[1-3]|3[1-7]|4[1-6]|5[0-4]|6[1-5])\d{{4}}"
    rf"\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])\d{{3}})(?![\dA-Za-z]){_UNIT}"
)
_ID_FOURS = re.compile(rf"{_LEFT}(?P<n>[1-9]\d{{2}}(?:[ \-]?\d){{14}}[ \-]?[\dXx])(?![\dA-Za-z])")
_CUED_ID = re.compile(
    rf"(?:身份证|身分证|证件|护照|社保卡|医保卡|港澳通行证|驾驶证|[Pp]assport|ID card)(?:号码|号)?{_IS}"
    rf"(?P<v>[A-Za-z]{{0,2}}\d(?:[ \-]?\d){{6,18}}[Xx]?)(?![\dA-Za-z]){_UNIT}"
)

_CARD = re.compile(rf"{_LEFT}(?P<n>[2-69]\d{{3}}(?:\d{{9,15}}|(?:[ \-]\d{{4}}){{2,3}}[ \-]\d{{1,4}})){_RIGHT}")
_UNION_PAY = re.compile(rf"{_LEFT}(?P<n>62\d\d(?:[ \-]?\d){{12,15}}){_RIGHT}")
_STAMP = re.compile(rf"{_DATE8}(?:[01]\d|2[0-3])[0-5]\d")
_CUED_CARD = re.compile(
    rf"(?:银行卡|卡号|储蓄卡|信用卡|账号|帐号|账户|帐户|户头|收款|打到|转到|转入|汇到|存折)(?:号码|号)?{_IS}"
    rf"(?P<v>\d(?:[ \-]?\d){{11,24}}){_RIGHT}"
)

_EMAIL = re.compile(
    r"(?<![\w.+\-])[A-Za-z0-9][A-Za-z0-9._%+\-]{0,63}@(?:[A-Za-z0-9\-]{1,63}\.){1,4}[A-Za-z]{2,24}(?![A-Za-z0-9])"
)
_WXID = re.compile(r"(?<![A-Za-z0-9])wxid_[A-Za-z0-9]{4,30}(?![A-Za-z0-9_\-])")
_AFTER = r"(?:\s?(?:号码|账号|帐号|号|ID|id|群号|群|昵称))?\s?(?:是|为|叫|加)?\s?[:=]?\s?[\"'“”「『(]?\s?@?"
_NAMED = r"(?P<v>[A-Za-z](?=[A-Za-z_\-]*\d|[A-Za-z\d]*[_\-])[A-Za-z\d_\-]{5,29})(?![A-Za-z\d_\-@])"
_CHAT_NUMBER = r"(?P<v>[1-9]\d{4,11})"
_CUED_ACCOUNT = (
    re.compile(rf"(?:[Qq]{{2}}|扣扣|企鹅){_AFTER}{_CHAT_NUMBER}{_RIGHT}"),
    re.compile(
        r"(?:微信|威信|薇信|徽信|支付宝|抖音|快手|陌陌|闲鱼|淘宝|京东|拼多多|小红书|游戏|[Ww]e[Cc]hat|[WwVv][Xx]|[Vv]信|加[Vv]"
        r"|[Vv](?=\s?[:=])|[Aa]lipay|[Tt]elegram|(?<![A-Za-z])[Tt][Gg](?![A-Za-z])|飞机|账号|帐号|账户|用户名|[Qq]{2})"
        rf"{_AFTER}{_NAMED}"
    ),
    re.compile(
        r"(?:(?:微信|威信|[Ww]e[Cc]hat)\s?(?:号码|账号|帐号|号|ID|id)|加[我他她]?的?(?:微信|[VvWw][Xx]|[Vv]))\s?(?:是|为|叫)?\s?[:=]?\s?[\"'“”「(]?\s?"
        r"(?P<v>[A-Za-z][A-Za-z\d_\-]{5,19})(?![A-Za-z\d_\-@])"
    ),
    re.compile(
        r"(?:账号|帐号|群号|抖音号|快手号|会议号|微信号)"
        rf"(?:是|为|叫)?\s?[:=]?\s?(?P<v>\d{{5,12}}){_RIGHT}"
    ),
)

#: Worth a closer look: some digits, an address, or a word that names an account.
_WORTH = re.compile(
    r"\d.?.?\d.?.?\d.?.?\d|@|wxid|信|[Qq]{2}|[Vv]|[Ww][Xx]|[Tt][Gg]|号|户|支付宝|抖音|快手|陌陌|闲鱼|飞机"
)


def find(text: str) -> list[Found]:
    """The identities in `text`, in order, never overlapping, never inside one of our own tokens."""
    plain, places = _plain(text)
    if not _WORTH.search(plain):
        return []
    taken = [(found.start(), found.end()) for found in TOKEN.finditer(plain)]
    chosen: list[Found] = []
    for candidate in _candidates(plain):
        if not any(candidate.start < end and start < candidate.end for start, end in taken):
            taken.append((candidate.start, candidate.end))
            chosen.append(candidate)
    chosen.sort(key=lambda found: found.start)
    return chosen if places is None else [_at(found, [*places, len(text)]) for found in chosen]


def _at(found: Found, places: list[int]) -> Found:
    """Back to where it stands as written; fillers that follow it go with it."""
    return Found(places[found.start], places[found.end], found.kind, found.normal)


def replace(text: str, tokenise: Tokenise, kinds: frozenset[Kind] = KINDS) -> tuple[str, list[Replaced]]:
    """The text with tokens in place of identities of these kinds, and what was replaced, in order."""
    found = [one for one in find(text) if one.kind in kinds]
    if not found:
        return text, []
    parts, replaced, done = [], [], 0
    for one in found:
        token = f"[{one.kind}:{tokenise(one.kind, one.normal)}]"
        parts += [text[done : one.start], token]
        replaced.append(Replaced(token, one.kind, text[one.start : one.end]))
        done = one.end
    return "".join([*parts, text[done:]]), replaced


def mask(text: str) -> str:
    """The text with identities blotted out, for messages that nobody has to recognise anything in."""
    return replace(text, lambda _kind, _normal: "????????")[0]


# --- Numbers in what stays as it is sent: sources and message ids. Most long numbers there are none of a person, and a refused
# tip is a lost one: so only what passes every check is taken for one. ---

_LONE_MOBILE = re.compile(r"(?<![0-9A-Za-z])(?:\+?86[-_. ]?)?1[3-9][0-9]{9}(?![0-9A-Za-z])")
_TOLD_MOBILE = re.compile(r"(?<![A-Za-z])(?:\+86|tel|phone|mobile|手机|电话)[-_.:= ]{0,2}1[3-9][0-9]{9}(?![0-9])", re.IGNORECASE)
_CARD18 = re.compile(rf"(?<![0-9A-Za-z])[1-9][0-9]{{5}}(?P<born>{_DATE8})[0-9]{{3}}[0-9Xx](?![0-9A-Za-z])")
#: The first two digits of identity cards.
_PROVINCES: Final = frozenset(
    "11 12 13 14 15 21 22 23 31 32 33 34 35 36 37 41 42 43 44 45 46 50 51 52 53 54 61 62 63 64 65 71 81 82 83".split()
)
#: Offices number their cases by area code, day and serial, as cards are numbered by area code, birthday and serial: a day of
#: the last ten years is taken for a case's.
_YOUNGEST_MS: Final = 10 * 365 * DAY


def mobile_in_source(source: str) -> bool:
    """Whether a part of a source is a mobile number."""
    return _LONE_MOBILE.search(source) is not None


def mobile_in_id(identity: str) -> bool:
    """Whether an id says of a part of itself that it is a mobile number. Eleven digits alone may be any count."""
    return _TOLD_MOBILE.search(identity) is not None


def card_in(value: str, now: int) -> bool:
    """Whether an identity card's number stands in a source or an id: province, birthday and check digit are all right."""
    return any(_is_card(found, now) for found in _CARD18.finditer(value))


def _is_card(found: re.Match[str], now: int) -> bool:
    number, born = found[0].upper(), found["born"]
    try:
        birthday = parse_time(f"{born[:4]}-{born[4:6]}-{born[6:]}T00:00:00Z")
    except ValueError:
        return False
    weighed = sum(int(digit) * (1 << 17 - place) for place, digit in enumerate(number[:17]))
    fits = number[17] == "10X98765432"[weighed % 11]
    return fits and number[:2] in _PROVINCES and birthday < now - _YOUNGEST_MS


def normal_phone(written: str) -> str:
    """A phone number as digits; the country code of China left out."""
    digits = re.sub(r"\D", "", written.translate(_PLAIN))
    for code in ("0086", "86"):
        if digits.startswith(code) and len(digits) - len(code) >= 10:
            return digits[len(code) :]
    return digits


def _candidates(plain: str) -> Iterator[Found]:
    """All that may be an identity, the surest kind first: of two that overlap the first one stands."""
    yield from _spans(_EMAIL, plain, "account")
    yield from _spans(_WXID, plain, "account")
    yield from _identity_cards(plain)
    yield from _spans(_MOBILE, plain, "phone", "n")
    yield from _spans(_CUED_PHONE, plain, "phone", "v", only_value=True, mobile=True)
    yield from _spans(_LANDLINE, plain, "phone", "n")
    for found in _spans(_LANDLINE_86, plain, "phone", "n"):
        yield Found(found.start, found.end, "phone", f"0{found.normal}")
    yield from _spans(_CUED_CARD, plain, "card", "v", only_value=True)
    yield from _bank_cards(plain)
    yield from _spans(_ABROAD, plain, "phone", "n")
    yield from _spans(_CUED_PHONE, plain, "phone", "v", only_value=True)
    for pattern in _CUED_ACCOUNT:
        yield from _spans(pattern, plain, "account", "v", only_value=True)


def _spans(
    pattern: re.Pattern[str],
    plain: str,
    kind: Kind,
    group: str | None = None,
    *,
    only_value: bool = False,
    mobile: bool = False,
) -> Iterator[Found]:
    for match in pattern.finditer(plain):
        value = match[group] if group else match[0]
        if mobile and not value.startswith("1"):
            continue
        start, end = match.span(group) if only_value and group else match.span()
        yield Found(start, end, kind, _normal(kind, value))


def _normal(kind: Kind, value: str) -> str:
    if kind == "account":
        return value.casefold()
    return re.sub(r"[^0-9A-Z]", "", value.upper())


def _identity_cards(plain: str) -> Iterator[Found]:
    yield from _spans(_ID18, plain, "id", "n")
    for found in _spans(_ID_FOURS, plain, "id", "n"):
        if re.fullmatch(rf"\d{{6}}{_DATE8}\d{{3}}[\dX]", found.normal):
            yield found
    yield from _spans(_ID15, plain, "id", "n")
    yield from _spans(_CUED_ID, plain, "id", "v", only_value=True)


def _bank_cards(plain: str) -> Iterator[Found]:
    for found in (*_spans(_CARD, plain, "card", "n"), *_spans(_UNION_PAY, plain, "card", "n")):
        digits = found.normal
        union_pay = digits.startswith("62") and len(digits) >= 16
        if union_pay or (13 <= len(digits) <= 19 and luhn(digits) and not _STAMP.match(digits)):
            yield found


def luhn(digits: str) -> bool:
    """Whether the last digit is the check digit that bank cards carry."""
    total = 0
    for index, sign in enumerate(reversed(digits)):
        value = int(sign) * (1 + index % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0
