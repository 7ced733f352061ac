"""Where: from a tip's words, point, area path and source to an area of the county, with candidates when unsure.

Evidence in order of weight: the area the channel gave, a point in a boundary, names in the place's text, names in the
tip's text, the source's own area. The first that says anything decides; later evidence may make it more precise or
support it, and where it contradicts it stands as a candidate - and words that plainly name another township than a
device's point or the channel's area let that township read along. Nothing is guessed: two villages of one name stay two
candidates unless something tells them apart.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal, NamedTuple

import msgspec

from schemas.records import AreaCandidate, Place, Reason
from streams.stages.county import Area, County, Name, Near, is_within

Precision = Literal["none", "county", "township", "village"]

#: Before a village's name these make another village of it: 东小王庄 is not 小王庄.
_PREFIXES = frozenset("东西南北前后大小上下新老")
#: After a bare name these make another place of it: 马店庄 is not 马店镇.
_SUFFIXES = frozenset("庄营屯疃堡铺寨镇乡")
#: Words after a name that tell of a person (`沙窝村的老张`), before it of where somebody went, and before it of where it happened.
_PERSON = re.compile(r"人|籍|村民|居民|媳妇|亲戚|姓|的(?:亲戚|媳妇|朋友|同学|表[哥姐弟妹]|小伙|后生|闺女|姑娘|大[爷娘哥姐叔]|老(?![宅井桥河街楼屋房路院坟庙厂])[\u4e00-\u9fff](?!家))")
#: `我是沙窝村的`: who tells it or who did it comes from there.
_COMES_FROM = re.compile(r"(?:我|俺|咱|他|她|人家|对方|媳妇|司机|[男女]的|[一俩仨]个?)们?(?:家|本人)?(?:都|就)?(?:是|住|从)$")
#: `不是沙窝村` - but `是不是沙窝村` and `不是沙窝村吗` ask.
_DENIED = re.compile(r"(?<!是)(?:不是|不在|并非|没在)(?:在|咱|俺们?|我们)?$|\bnot (?:in |at )?$")
_DENIALS = ("不是", "不在", "并非", "没在", "not ")
_ASKS = re.compile(r"[^,。;!\s]{0,4}[吗吧么嘛?]")
_TOWARDS = ("去", "往", "向", "进", "从", "到")
_THERE = ("在", "于")

_GIVEN, _POINT, _SOURCE = 1.0, 0.98, 0.5
#: Names from this score on say where it happened, whatever a device says: below it they may be where somebody comes from or went.
_PLAIN = 0.9
_SUPPORT, _ASIDE, _LOCATIVE = 0.05, 0.2, 0.1
_MAX_CUE = 200
#: A text that names more places than this is a list; it is read so far.
_MOST_HITS = 64
#: What is said of a path that the channel gave and the county does not have.
UNKNOWN_AREA = "area is none of this county's, and is read as words"


class Located(msgspec.Struct, frozen=True):
    """Where a tip lies. `area` is null where nothing says, or where what is said is not enough to choose."""

    area: str | None
    precision: Precision
    #: 0..1, how sure the area is; 0 without one.
    score: float
    #: Areas it may lie in, the best first; the chosen one leads them.
    candidates: tuple[AreaCandidate, ...] = ()
    #: Areas on the other side of a border nearer than the ambiguity band.
    cc_areas: tuple[str, ...] = ()
    #: Places named: names of the gazetteer and the place's text as it came.
    mentions: tuple[str, ...] = ()
    #: `ambiguous_place`, `ambiguous_boundary`, `outside`.
    flags: tuple[str, ...] = ()
    reasons: tuple[Reason, ...] = ()
    #: Zones (for event routes) that hold the point or are named.
    zones: tuple[str, ...] = ()


class _Hit(NamedTuple):
    name: str
    targets: tuple[str, ...]
    score: float
    zone: str | None


class _Evidence(NamedTuple):
    """What one source of evidence says. `area` None with candidates: something, but not enough to choose."""

    kind: str
    cue: str
    area: str | None
    score: float
    candidates: tuple[tuple[str, float], ...] = ()
    flag: str | None = None
    cc: tuple[str, ...] = ()


def locate(county: County, text: str, place: Place | None, source: str) -> Located:
    """Where a tip lies. `text` is normalised (simplified, half-width); `source` is the tip's source.

    Pure and total: whatever the place holds, there is an answer, at worst one without an area.
    """
    default = _source_area(county, source)
    text_hits, mentions = _scan(county, text) if text else ([], [])
    if place is None:
        evidence, zones = _named_evidence(county, (), text_hits, None, default), _named_zones(text_hits)
    else:
        evidence, zones, own = _place_evidence(county, place, text_hits, default)
        mentions = _once([*own, *mentions])
    if default is not None:
        evidence.append(_Evidence("source", source, default, _SOURCE))
    return _weigh(county, evidence, mentions, zones)


# --- evidence --------------------------------------------------------------------------------------------------------


def _place_evidence(
    county: County, place: Place, text_hits: Sequence[_Hit], default: str | None
) -> tuple[list[_Evidence], tuple[str, ...], list[str]]:
    """Everything but the source's default, the zones, and the places named by `place`."""
    evidence: list[_Evidence] = []
    words = place.text or ""
    if place.area:
        given = _given(county, place.area)
        if given is None:
            words = f"{words} {place.area}"
            evidence.append(_Evidence("area", place.area[:_MAX_CUE], None, 0.0))
        else:
            evidence.append(_Evidence("area", place.area, given, _GIVEN))
    zones: list[str] = []
    if place.lat is not None and place.lon is not None:
        evidence += _point_evidence(county, place.lat, place.lon)
        zones += [near.path for near in county.zone_outlines.near(place.lat, place.lon, 0.0)]
    hits, mentions = _scan(county, words) if words else ([], [])
    base = next((e.area for e in evidence if e.area is not None), None)
    evidence += _named_evidence(county, hits, text_hits, base, default)
    raw = [place.text.strip()] if place.text and place.text.strip() else []
    return evidence, tuple(_once([*zones, *_named_zones(hits), *_named_zones(text_hits)])), [*raw, *mentions]


def _given(county: County, path: str) -> str | None:
    """A path as the channel wrote it, with or without the county in front."""
    for candidate in (path, f"{county.id}/{path}"):
        area = county.areas.get(candidate)
        if area is not None and area.level != "neighbour":
            return candidate
    return None


def _source_area(county: County, source: str) -> str | None:
    found = county.source_pattern.fullmatch(source)
    return county.sources[found.lastindex - 1].area if found and found.lastindex else None


def _named_evidence(
    county: County, place_hits: Sequence[_Hit], text_hits: Sequence[_Hit], base: str | None, default: str | None
) -> list[_Evidence]:
    """What the place's words and the text's words say; each helps to tell the other's shared names apart."""
    evidence = []
    for kind, hits, others in (("place_text", place_hits, text_hits), ("text", text_hits, place_hits)):
        if hits:
            hints = [base] if base else _sure(county, others)
            evidence.append(_read(county, kind, hits, hints, default))
    return evidence


def _sure(county: County, hits: Sequence[_Hit]) -> list[str]:
    return [
        hit.targets[0] for hit in hits if len(hit.targets) == 1 and county.areas[hit.targets[0]].level != "neighbour"
    ]


def _read(county: County, kind: str, hits: Sequence[_Hit], hints: Sequence[str], default: str | None) -> _Evidence:
    """What a list of names means together."""
    agreed = _agreed(county, kind, hits)
    if agreed is not None:
        return agreed
    scores: dict[str, float] = {}
    shared: list[_Hit] = []
    for hit in hits:
        if len(hit.targets) == 1:
            scores[hit.targets[0]] = max(hit.score, scores.get(hit.targets[0], 0.0))
        else:
            shared.append(hit)
    inside = [path for path in scores if county.areas[path].level != "neighbour"]
    open_targets: dict[str, float] = {}
    for hit in shared:
        fitting = _settle(county, hit.targets, [*inside, *hints]) or (
            None if inside else _settle(county, hit.targets, [default] if default else [])
        )
        if fitting is None:
            open_targets.update(dict.fromkeys(hit.targets, hit.score / len(hit.targets)))
        else:
            scores[fitting] = max(hit.score, scores.get(fitting, 0.0))
            inside.append(fitting)
    cue = "、".join(_once([hit.name for hit in hits]))[:_MAX_CUE]
    if not inside and not open_targets:
        return _one(county, kind, cue, next(iter(scores)), max(scores.values()))
    return _choose(county, kind, cue, {path: scores[path] for path in inside}, open_targets)


def _agreed(county: County, kind: str, hits: Sequence[_Hit]) -> _Evidence | None:
    """The usual case, quickly: names that stand for one area each, all of them around the most precise one."""
    deepest, score = "", 0.0
    for hit in hits:
        if len(hit.targets) > 1:
            return None
        path = hit.targets[0]
        if len(path) > len(deepest):
            deepest, score = path, hit.score
        elif path == deepest and hit.score > score:
            score = hit.score
    supported = False
    for hit in hits:
        path = hit.targets[0]
        if path != deepest:
            if not deepest.startswith(path + "/"):
                return None
            supported = True
    cue = hits[0].name if len(hits) == 1 else "、".join(_once([hit.name for hit in hits]))[:_MAX_CUE]
    return _one(county, kind, cue, deepest, min(1.0, score + _SUPPORT) if supported else score)


def _one(county: County, kind: str, cue: str, path: str, score: float) -> _Evidence:
    if county.areas[path].level == "neighbour":
        return _Evidence(kind, cue, None, 0.0, ((path, score),), "outside")
    return _Evidence(kind, cue, path, score)


def _settle(county: County, targets: Sequence[str], hints: Sequence[str]) -> str | None:
    """The one target that lies in a hint's township, or None."""
    townships = {county.areas[hint].township for hint in hints} - {None}
    fitting = [t for t in targets if county.areas[t].township in townships]
    return fitting[0] if len(fitting) == 1 else None


def _choose(county: County, kind: str, cue: str, scores: dict[str, float], open_targets: dict[str, float]) -> _Evidence:
    """The most precise area the names agree on, or their common ancestor with all of them as candidates."""
    leaves = {p: s for p, s in scores.items() if not any(other != p and is_within(other, p) for other in scores)}
    supported = {
        p: min(1.0, s + _SUPPORT) if any(other != p and is_within(p, other) for other in scores) else s
        for p, s in leaves.items()
    }
    ranked = sorted(supported.items(), key=lambda item: (-item[1], item[0]))
    if not open_targets and (len(ranked) == 1 or ranked[0][1] - ranked[1][1] >= county.thresholds["area_margin"]):
        return _Evidence(kind, cue, ranked[0][0], ranked[0][1], tuple(ranked))
    ranked += sorted(
        ((p, s) for p, s in open_targets.items() if p not in supported), key=lambda item: (-item[1], item[0])
    )
    common = _common([path for path, _ in ranked])
    if common is not None and county.areas[common].level == "county":
        common = None
    return _Evidence(kind, cue, common, ranked[0][1] if common else 0.0, tuple(ranked), "ambiguous_place")


def _common(paths: Sequence[str]) -> str | None:
    """The deepest area that holds all paths."""
    shared: list[str] = []
    for steps in zip(*(path.split("/") for path in paths), strict=False):
        if len(set(steps)) > 1:
            break
        shared.append(steps[0])
    return "/".join(shared) or None


def _point_evidence(county: County, lat: float, lon: float) -> list[_Evidence]:
    """Zero or one piece of evidence: the deepest area that holds the point, and who else is within the band."""
    near = [n for n in county.outlines.near(lat, lon, county.thresholds["ambiguity_band_m"]) if n.path in county.areas]
    cue = f"{lat:.5f},{lon:.5f}"
    own = _holding(county, near)
    if own is None:
        if not county.outlines.has(county.id):  # Without the county's own outline nothing is known to lie outside it.
            return []
        # Beyond every border, but hardly: the nearest area of ours is worth asking about.
        beside = sorted((n.distance_m, n.path) for n in near if county.areas[n.path].level == "township")
        around = [n.path for n in near if n.distance_m == 0.0 and county.areas[n.path].level == "neighbour"]
        return [
            _Evidence(
                "point", cue, None, 0.0, tuple((path, 0.4) for path in [*around, *(p for _, p in beside)]), "outside"
            )
        ]
    others = _others(county, near, own)
    flag = "ambiguous_boundary" if others else None
    candidates = ((own, _POINT), *((path, 0.5) for path in others))
    return [_Evidence("point", cue, own, _POINT, candidates, flag, tuple(others))]


_DEPTH = {"neighbour": 0, "county": 1, "township": 2, "village": 3}


def _holding(county: County, near: Sequence[Near]) -> str | None:
    """The deepest area of ours that holds the point; of several that share a border, the first by path."""
    inside = [n.path for n in near if n.distance_m == 0.0 and county.areas[n.path].level != "neighbour"]
    return min(inside, key=lambda path: (-_DEPTH[county.areas[path].level], path)) if inside else None


def _others(county: County, near: Sequence[Near], own: str) -> list[str]:
    """Areas on the other side: as precise as `own` or of a higher level, without the ancestors of one another."""
    depth = _DEPTH[county.areas[own].level]
    beside = [n for n in near if not is_within(own, n.path) and _DEPTH[county.areas[n.path].level] <= depth]
    paths = [n.path for n in sorted(beside, key=lambda n: (n.distance_m, n.path))]
    return [p for p in paths if not any(other != p and is_within(other, p) for other in paths)]


# --- names -----------------------------------------------------------------------------------------------------------


def _scan(county: County, text: str) -> tuple[list[_Hit], list[str]]:
    """The names in a text, in order, and the strings to remember as places."""
    lowered = text.lower()
    denies = any(map(lowered.__contains__, _DENIALS))
    hits: list[_Hit] = []
    mentions: list[str] = []
    names, township, township_end = county.names, "", -1
    for found in county.name_pattern.finditer(lowered):
        word, start, end = found.group(), found.start(), found.end()
        name = names[word]
        before, after = lowered[start - 1 : start], lowered[end : end + 1]
        if name.latin:
            if _is_letter(before) or _is_letter(after):
                continue
        elif name.bare and after in _SUFFIXES:
            mentions.append(word + after)
            continue
        elif name.village and before in _PREFIXES:
            mentions.append(before + word)
            continue
        mentions.append(word)
        if start == township_end and name.village and not any(is_within(target, township) for target in name.targets):
            continue  # 大子文镇沙窝村: a village of that township which is not listed, not the listed one elsewhere.
        if len(name.targets) == 1 and county.areas[name.targets[0]].level == "township" and name.zone is None:
            township, township_end = name.targets[0], end
        if denies and _DENIED.search(lowered, max(0, start - 6), start) and not _ASKS.match(lowered, end):
            continue
        hits.append(_Hit(word, name.targets, _score(name, lowered, start, end), name.zone))
        if len(hits) == _MOST_HITS:
            break
    return hits, mentions if len(mentions) < 2 else _once(mentions)


def _is_letter(character: str) -> bool:
    return character.isascii() and character.isalnum()


def _score(name: Name, text: str, start: int, end: int) -> float:
    score = name.score
    if _PERSON.match(text, end) or text.endswith(_TOWARDS, 0, start) or (text.startswith("的", end) and _COMES_FROM.search(text, max(0, start - 8), start)):
        score -= _ASIDE
    elif text.endswith(_THERE, 0, start):
        score += _LOCATIVE
    return score if score < 1.0 else 1.0


def _named_zones(hits: Sequence[_Hit]) -> tuple[str, ...]:
    return tuple(hit.zone for hit in hits if hit.zone is not None) if hits else ()


def _once(items: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(items))


# --- weighing --------------------------------------------------------------------------------------------------------


def _weigh(county: County, evidence: Sequence[_Evidence], mentions: Sequence[str], zones: tuple[str, ...]) -> Located:
    """All evidence, strongest first -> the answer."""
    if not evidence:
        return Located(None, "none", 0.0, mentions=tuple(mentions), zones=zones)
    if len(evidence) == 1 and evidence[0].area is not None and evidence[0].flag is None:
        return _plain(county, evidence[0], mentions, zones)
    chosen, score, settled = None, 0.0, False
    decided: _Evidence | None = None
    flags: list[str] = []
    cc: tuple[str, ...] = ()
    candidates: dict[str, tuple[float, str]] = {}
    reasons = []
    for item in evidence:
        area = item.area
        for path, value in item.candidates or (((area, item.score),) if area else ()):
            if path not in candidates or candidates[path][0] < value:
                candidates[path] = (value, item.kind)
        # A point beyond the border, or a place named ambiguously, is not overruled by weaker evidence.
        if area is not None and not settled and _fits(chosen, area):
            chosen, score = (area, item.score) if chosen is None else _sharpened(chosen, score, area, item.score)
            decided = decided or item
        elif decided is not None and (other := _gainsaid(county, decided, item)) is not None:
            cc = (*cc, other)
        if _flagged(item, chosen):
            flags.append(item.flag or "")
            settled = settled or chosen is None
        if item.cc and chosen is not None and area is not None and is_within(chosen, area):
            cc = (*cc, *item.cc)
        reasons.append(Reason("place", item.cue, _words(item)))
    return _located(
        county.areas.get(chosen) if chosen else None, score, candidates, cc, mentions, flags, reasons, zones
    )


def _plain(county: County, item: _Evidence, mentions: Sequence[str], zones: tuple[str, ...]) -> Located:
    """The usual case, quickly: one piece of evidence, and it is sure."""
    path = item.area or county.id
    level = county.areas[path].level
    score = round(item.score, 4)
    listed = item.candidates or ((path, score),)
    return Located(
        area=path,
        precision=level if level != "neighbour" else "none",
        score=score,
        candidates=tuple([AreaCandidate(p, round(value, 4), item.kind) for p, value in listed]),
        mentions=tuple(mentions),
        reasons=(Reason("place", item.cue, f"{item.kind} says {path}"),),
        zones=zones,
    )


def _flagged(item: _Evidence, chosen: str | None) -> bool:
    """Whether a flag concerns the answer; that of a place elsewhere which the text only mentions does not."""
    if item.flag is None or (item.flag == "outside" and item.kind == "text"):
        return False
    return chosen is None or (item.area is not None and is_within(chosen, item.area))


def _gainsaid(county: County, decided: _Evidence, item: _Evidence) -> str | None:
    """The other township, or the neighbour, that words plainly name where the channel's area or a device's point decided."""
    if decided.kind not in ("area", "point") or item.kind not in ("place_text", "text"):
        return None
    if item.flag == "outside" and item.candidates[0][1] >= _PLAIN:
        return item.candidates[0][0]
    one, other = [county.areas[e.area or county.id].township for e in (decided, item)]
    return item.area if item.score >= _PLAIN and one is not None and other is not None and one != other else None


def _fits(chosen: str | None, area: str) -> bool:
    return chosen is None or is_within(area, chosen) or is_within(chosen, area)


def _sharpened(chosen: str, score: float, area: str, other: float) -> tuple[str, float]:
    """Agreeing evidence: the more precise area, a little surer than the surer of the two."""
    deeper = area if len(area) > len(chosen) else chosen
    return deeper, min(1.0, max(score, other) + _SUPPORT)


def _words(item: _Evidence) -> str:
    if item.kind == "area" and item.area is None:
        return UNKNOWN_AREA
    if item.area is not None and not item.flag:
        return f"{item.kind} says {item.area}"
    listed = ", ".join(path for path, _ in item.candidates[:6])
    if item.flag == "ambiguous_boundary":
        return f"{item.kind} says {item.area}, at the border of {', '.join(item.cc)}"
    if item.flag == "outside":
        return f"{item.kind} lies outside the county" + (f", near {listed}" if listed else "")
    return f"{item.kind} fits {listed}"


def _located(  # noqa: PLR0913, PLR0917
    area: Area | None,
    score: float,
    candidates: dict[str, tuple[float, str]],
    cc: tuple[str, ...],
    mentions: Sequence[str],
    flags: Sequence[str],
    reasons: Sequence[Reason],
    zones: tuple[str, ...],
) -> Located:
    path = area.path if area else None
    if path is not None:
        candidates[path] = (score, candidates[path][1] if path in candidates else "agreed")
    ranked = (
        sorted(candidates.items(), key=lambda item: (item[0] != path, -item[1][0], item[0]))
        if len(candidates) > 1
        else candidates.items()
    )
    return Located(
        area=path,
        precision=area.level if area and area.level != "neighbour" else "none",
        score=round(score, 4),
        candidates=tuple(AreaCandidate(p, round(value, 4), kind) for p, (value, kind) in ranked),
        cc_areas=cc,
        mentions=tuple(mentions),
        flags=tuple(_once(flags)) if flags else (),
        reasons=tuple(reasons),
        zones=zones,
    )
