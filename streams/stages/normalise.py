"""Normalise: one plain form of a text for matching. What stations read is always the text as admitted."""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from typing import Any

import msgspec

from streams.stages.letter import body

#: Texts are matched on this many characters: the longest accepted tip (4,000) costs no more than a long one.
MATCHED = 1200

_FORWARD = re.compile(
    r"^(?:[\[【(「<]*\s*(?:转发?|转帖|转自[^:】\])]{0,12}|扩散|fwd?|fw|forwarded)\s*[\]】)」>]*\s*[:：,，.。!！]*\s*"
    r"|[\[【(]\s*(?:转发?|扩散)[^\]】)]{0,8}[\]】)]\s*)",
)
#: Words that forwarders put before a message; they say nothing about what happened.
_PREAMBLE = re.compile(
    r"^(?:@?(?:群友们?|各位|大家|所有人|邻居们|街坊们?|村民们|乡亲们|家人们|朋友们|老少爷们儿?)(?:都)?(?:注意(?:了|啦)?|看看|好|请注意|快看|小心)*[,，:：!！。\s]*"
    r"|注意(?:了|啦)?[,，:：!！。\s]+|紧急通知[,，:：!！。\s]*|(?:请)?(?:互相)?转告[,，:：!！。\s]*)"
)
_FOLLOW_UP = re.compile(
    r"^(?:补充|再补充|更正|纠正|说错了|刚才说错|打错了|又问了|又看了|又数了|再说一句|再清了|再数|接着说|接上条|上一条|刚才那|刚才说的|刚说的|还有[,，]|对了|update\b|correction\b|to add\b|also[,:])"
)
#: Zero-width, direction and variation marks: kept in the raw text, never matched.
_INVISIBLE = re.compile(
    r"[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\uffff\U000e0000-\U000e0fff]"
)
_SPACE = re.compile(r"\s+")
#: A blank between two Chinese characters, or between one and a number, is the typist's habit and says nothing.
_CJK_SPACE = re.compile(
    r"(?<=[\u3400-\u9fff,。!?、;:]) (?=[\u3400-\u9fff,。!?、;:0-9])|(?<=[0-9,]) (?=[\u3400-\u9fff])"
)
#: Cries and rows of marks; a number keeps its noughts.
_REPEATED = re.compile(r"([^0-9])\1{3,}")
_CJK = re.compile(r"[\u3400-\u9fff]+")
#: Neither common punctuation nor Chinese: letters and digits among them stay, pictures become a blank.
_UNUSUAL = re.compile(r"[\u2000-\u2025\u2027-\u2fff\ua000-\uf8ff\ufb00-\U0010ffff]")
#: What NFKC leaves of the full-width punctuation.
_PUNCTUATION = (("“", '"'), ("”", '"'), ("‘", "'"), ("’", "'"))


class Normal(msgspec.Struct, frozen=True):
    """A text in plain form, and what was seen while making it."""

    #: Half-width, simplified, lower case, no emoji, no forwarder's words, no courtesies of a letter.
    text: str
    #: The same with the courtesies: who writes may tell where.
    whole: str
    forwarded: bool
    #: Opens like an addition or a correction to something said before.
    follow_up: bool
    #: Share of CJK characters, 0..1.
    cjk: float


@cache
def _converter() -> Any:
    """Traditional -> simplified; the dictionaries are static data inside the package."""
    from opencc import OpenCC

    return OpenCC("t2s")


@cache
def _traditional() -> frozenset[str]:
    """Characters that the converter may change. A text without any of them need not go through it."""
    cjk = [chr(c) for c in (*range(0x3400, 0xA000), *range(0x20000, 0x2A6E0))]
    changed = _converter().convert("\n".join(cjk)).split("\n")
    # The converter leaves the last ones alone but in certain words.
    return frozenset(old for old, new in zip(cjk, changed, strict=True) if old != new) | frozenset(
        "乾著藉瞭徵於餘剋麽么覆甯苧崙"
    )


def normalise(raw: str) -> Normal:
    """`raw` (any text) -> its plain form. Never raises; the result may be empty (emoji only, marks only)."""
    text = raw[: MATCHED * 2]
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
        for wide, plain in _PUNCTUATION:
            text = text.replace(wide, plain)
        if not _traditional().isdisjoint(text):
            text = _converter().convert(text)
        if _UNUSUAL.search(text):
            text = _UNUSUAL.sub(_symbol, _INVISIBLE.sub("", text))
    text = _SPACE.sub(" ", text).strip().lower()
    if " " in text:
        text = _CJK_SPACE.sub("", text)
    text = _REPEATED.sub(r"\1\1\1", text)
    text, forwarded = _strip_forward(text)
    whole = text[:MATCHED]
    text = body(whole)
    cjk = sum(map(len, _CJK.findall(text))) / len(text) if text else 0.0
    return Normal(text, whole, forwarded, bool(_FOLLOW_UP.match(text)), round(cjk, 3))


def _symbol(match: re.Match[str]) -> str:
    """Letters and digits of any script stay; pictures and other symbols become a blank."""
    return match[0] if unicodedata.category(match[0])[0] in "LN" else " "


def _strip_forward(text: str) -> tuple[str, bool]:
    """Takes off leading forward marks and preambles, as many as there are, unless nothing would be left."""
    forwarded = False
    for _ in range(4):
        match = _FORWARD.match(text)
        if match and match.end() and match.end() < len(text) and _is_mark(text, match):
            text, forwarded = text[match.end() :].lstrip(), True
            continue
        match = _PREAMBLE.match(text)
        if match and match.end() and len(text) - match.end() >= 4:
            text = text[match.end() :].lstrip()
            continue
        break
    return text, forwarded


def _is_mark(text: str, match: re.Match[str]) -> bool:
    """Whether the match is a mark and not the start of a sentence: `转账` and `转发了` go on, `转:` and `【转】` end."""
    mark = text[: match.end()]
    return any(c in mark for c in ":：】])」>,，!！ ") or (mark in ("转发", "扩散") and len(text) > 12)
