"""A county, compiled: from the bundle (plain JSON, `schemas/json/county.v1.json`) to structs the stages look up in.

The bundle is trusted here: `tipline.county.load_county` has refused a broken one. Everything is immutable once made,
apart from the outlines, which are built when the first point arrives (most tips carry none, and the geometry library
takes its time).
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from functools import cached_property
from typing import Any, Final, Literal

import msgspec
import orjson

from schemas.times import DAY, HOUR, MINUTE, SECOND, parse_offset, parse_time
from schemas.vocabulary import LEVELS, Level
from streams.stages.clock import Calendar, ClockKind, Hours, make_calendar

WEEKDAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

#: What a limit is written in, ms each.
UNITS: Final[dict[str, int]] = {"s": SECOND, "min": MINUTE, "h": HOUR, "d": DAY}

#: Characters that may stand between the parts of a lexicon entry `A*B`; never across the end of a sentence.
GAP: Final = r"[^。！？!?；;\n]{0,10}?"

#: Thresholds a county may leave out.
THRESHOLDS: Final[dict[str, float]] = {"ambiguity_band_m": 50.0, "confidence_to_route": 0.45, "area_margin": 0.15}

AreaLevel = Literal["county", "township", "village", "neighbour"]

_EARTH_M: Final = 6_371_008.8
_EPOCH_DAY: Final = date(1970, 1, 1).toordinal()


class Area(msgspec.Struct, frozen=True):
    """A node of the tree county / township / village, or a neighbour, which lies outside it and has a desk of ours."""

    path: str
    level: AreaLevel
    zh: str
    en: str
    #: Ids of its township and village, for templates; None where it is less precise.
    township: str | None = None
    village: str | None = None
    desk: str | None = None


class Station(msgspec.Struct, frozen=True):
    """Who acts."""

    id: str
    kind: str
    zh: str
    en: str
    areas: tuple[str, ...]
    queue_topic: bool = False
    restricted: bool = False


class Limit(msgspec.Struct, frozen=True):
    """How long, and on which clock."""

    ms: int
    clock: ClockKind


class Rung(msgspec.Struct, frozen=True):
    """One level of a ladder; `station` is a template."""

    level: Level
    station: str
    claim: Limit
    act: Limit | None
    resolve: Limit | None


class Ladder(msgspec.Struct, frozen=True):
    """Levels upwards; after `return_limit` returns the `arbiter` decides."""

    id: str
    rungs: tuple[Rung, ...]
    return_limit: int
    arbiter: str

    def rung(self, level: str) -> Rung | None:
        """The rung of a level, or None."""
        return next((rung for rung in self.rungs if rung.level == level), None)

    def above(self, level: str) -> Rung | None:
        """The next rung above a level, or None at the top."""
        return next((rung for rung in self.rungs if LEVELS.index(rung.level) > LEVELS.index(level)), None)


class Match(msgspec.Struct, frozen=True):
    """What a route asks of a case. None asks nothing; the keys that are given must all hold."""

    category: frozenset[str] | None = None
    subtype: frozenset[str] | None = None
    urgent: bool | None = None
    area: tuple[str, ...] | None = None
    #: 0 none, 1 county, 2 township, 3 village: at least this precise.
    area_known: int | None = None
    channel: frozenset[str] | None = None
    source: re.Pattern[str] | None = None
    cue: tuple[str, ...] | None = None
    flag: frozenset[str] | None = None
    link: frozenset[str] | None = None


class Active(msgspec.Struct, frozen=True):
    """An event window, half-open in ms: [start, end); `within` is a zone's id or an area's path."""

    start_ms: int
    end_ms: int
    within: str | None = None


class Route(msgspec.Struct, frozen=True):
    """A node of the routing tree, with what it inherits filled in. `station` and `cc` are templates."""

    id: str
    match: Match
    station: str
    level: Level
    ladder: str | None
    cc: tuple[str, ...]
    no_action: bool
    active: Active | None
    routes: tuple[Route, ...]


class Source(msgspec.Struct, frozen=True):
    """Where the sources that fit a pattern (with * and ?) speak of by default."""

    match: str
    area: str


class Cue(msgspec.Struct, frozen=True):
    """A lexicon list, compiled: found where `wanted` is in a text and `unwanted` is not."""

    wanted: re.Pattern[str]
    unwanted: re.Pattern[str] | None

    def find(self, text: str) -> str | None:
        """The words that were found, or None."""
        found = self.wanted.search(text)
        if found is None or (self.unwanted is not None and self.unwanted.search(text)):
            return None
        return found.group()


class Name(msgspec.Struct, frozen=True):
    """What one name of the gazetteer stands for. `bare`: without its 村, 镇 or 乡; several targets share it."""

    targets: tuple[str, ...]
    score: float
    bare: bool
    latin: bool
    village: bool
    zone: str | None


class Near(msgspec.Struct, frozen=True):
    """An outline near a point: `distance_m` to its border from outside, 0 within."""

    path: str
    distance_m: float


class Outlines:
    """Boundaries as shapes on a plane of metres around the county; built at the first question."""

    def __init__(self, shapes: Sequence[tuple[str, dict[str, Any]]]) -> None:
        """Name and GeoJSON geometry of each, in degrees."""
        self.shapes = tuple(shapes)

    def has(self, path: str) -> bool:
        """Whether there is an outline of this name."""
        return any(path == own for own, _ in self.shapes)

    def near(self, lat: float, lon: float, band_m: float) -> list[Near]:
        """Outlines that hold the point or lie within `band_m` metres of it, in the order they were given."""
        if not self.shapes:
            return []
        import shapely

        paths, shapes, tree, (lat0, lon0) = self._built
        x, y = _metres(lon, lat, lat0, lon0)
        point = shapely.Point(x, y)
        found = sorted(int(i) for i in tree.query(point, predicate="dwithin", distance=band_m))
        return [Near(paths[i], float(shapes[i].distance(point))) for i in found]

    @cached_property
    def _built(self) -> tuple[list[str], list[Any], Any, tuple[float, float]]:
        import shapely
        from shapely.geometry import shape

        plain = [shape(geometry) for _, geometry in self.shapes]
        west, south, east, north = (float(v) for v in shapely.total_bounds(plain))
        origin = ((south + north) / 2, (west + east) / 2)
        shapes = [shapely.transform(item, lambda points: _plane(points, origin)) for item in plain]
        return [path for path, _ in self.shapes], shapes, shapely.STRtree(shapes), origin


def _metres(lon: float, lat: float, lat0: float, lon0: float) -> tuple[float, float]:
    """Degrees -> metres east and north of the origin; at a county's size the error stays far below GPS's."""
    return math.radians(lon - lon0) * _EARTH_M * math.cos(math.radians(lat0)), math.radians(lat - lat0) * _EARTH_M


def _plane(points: Any, origin: tuple[float, float]) -> Any:
    scale = math.radians(1.0) * _EARTH_M
    return (points - (origin[1], origin[0])) * (scale * math.cos(math.radians(origin[0])), scale)


class County(msgspec.Struct, frozen=True):
    """A county, ready for the stages."""

    id: str
    zh: str
    en: str
    offset_minutes: int
    digest: str
    #: Every area by path, neighbours by id.
    areas: dict[str, Area]
    stations: dict[str, Station]
    #: Desks that code must find: `triage`, `duty`, `arbiter`.
    desks: dict[str, str]
    #: The ladder of an urgent case that no route of its own has taken.
    urgent_ladder: str
    routes: Route
    ladders: dict[str, Ladder]
    calendar: Calendar
    sources: tuple[Source, ...]
    #: One group a source, in order.
    source_pattern: re.Pattern[str]
    lexicon: dict[str, tuple[str, ...]]
    thresholds: dict[str, float]
    cues: dict[str, Cue]
    names: dict[str, Name]
    name_pattern: re.Pattern[str]
    #: Zone id -> the area it lies in.
    zones: dict[str, str]
    outlines: Outlines
    zone_outlines: Outlines


def digest(bundle: dict[str, Any]) -> str:
    """SHA-256 of the bundle's canonical JSON (sorted keys), in hex: the county's version in every decision."""
    return hashlib.sha256(orjson.dumps(bundle, option=orjson.OPT_SORT_KEYS)).hexdigest()


def compile_county(bundle: dict[str, Any]) -> County:
    """A checked bundle -> county. Deterministic; nothing outside the bundle is read."""
    head, lists = bundle["county"], {name: tuple(words) for name, words in bundle["lexicon"]["lists"].items()}
    areas = {area.path: area for area in areas_of(bundle)}
    names = gazetteer(bundle)
    outlines, zone_outlines = _outlines(bundle)
    return County(
        id=head["id"],
        zh=head["names"]["zh"],
        en=head["names"]["en"],
        offset_minutes=parse_offset(head["utc_offset"]),
        digest=digest(bundle),
        areas=areas,
        stations={s["id"]: _station(s) for s in bundle["stations"]["stations"]},
        desks=dict(head["desks"]),
        urgent_ladder=head["urgent_ladder"],
        routes=_route(bundle["routes"]["root"], None, head["desks"]["triage"]),
        ladders={ladder["id"]: _ladder(ladder) for ladder in bundle["ladders"]["ladders"]},
        calendar=calendar_of(bundle["calendar"]),
        sources=tuple(Source(s["match"], s["area"]) for s in bundle["sources"]["sources"]),
        source_pattern=_source_pattern(bundle["sources"]["sources"]),
        lexicon=lists,
        thresholds={**THRESHOLDS, **{k: float(v) for k, v in head.get("thresholds", {}).items()}},
        cues={name: cue(lists, name) for name in lists},
        names=names,
        name_pattern=_alternation(names),
        zones={zone["id"]: zone["area"] for zone in bundle["areas"].get("zones", ())},
        outlines=outlines,
        zone_outlines=zone_outlines,
    )


# --- areas -----------------------------------------------------------------------------------------------------------


def areas_of(bundle: dict[str, Any]) -> Iterator[Area]:
    """Every area of the bundle, parents first, neighbours last."""
    head, tree = bundle["county"], bundle["areas"]
    county = head["id"]
    yield Area(county, "county", head["names"]["zh"], head["names"]["en"])
    for township in tree["townships"]:
        path = f"{county}/{township['id']}"
        yield Area(path, "township", township["names"]["zh"], township["names"]["en"], township["id"])
        for village in township.get("villages", ()):
            yield Area(
                f"{path}/{village['id']}",
                "village",
                village["names"]["zh"],
                village["names"]["en"],
                township["id"],
                village["id"],
            )
    for other in tree.get("neighbours", ()):
        yield Area(other["id"], "neighbour", other["names"]["zh"], other["names"]["en"], desk=other["desk"])


def fill(template: str, area: Area | None) -> str | None:
    """A station's template filled for an area: `{township}` and `{village}` by their ids; None where one is unknown."""
    if "{" not in template:
        return template
    if (
        area is None
        or ("{township}" in template and area.township is None)
        or ("{village}" in template and area.village is None)
    ):
        return None
    return template.replace("{township}", area.township or "").replace("{village}", area.village or "")


def is_within(path: str, ancestor: str) -> bool:
    """Whether an area is another or lies in it."""
    return path == ancestor or path.startswith(ancestor + "/")


# --- gazetteer -------------------------------------------------------------------------------------------------------

#: What a name may go without, by level, and what an English one may.
_SUFFIX: Final[dict[str, tuple[str, ...]]] = {
    "township": ("镇", "乡"),
    "village": ("村",),
    "county": ("县", "市", "区"),
    "neighbour": (),
}
_ENGLISH: Final = (" village", " township", " town")
_FULL, _ALIAS, _PLACE, _BARE, _BARE_SHORT = 0.9, 0.85, 0.8, 0.75, 0.65


def gazetteer(bundle: dict[str, Any]) -> dict[str, Name]:
    """Every name of the bundle, lower case -> what it stands for.

    A name shared by an area and areas inside it stands for the outer one; other shared names keep all their targets.
    """
    found: dict[str, list[tuple[str, float, bool, str | None]]] = {}
    levels = {area.path: area.level for area in areas_of(bundle)}
    county_stems = {bundle["county"]["id"], *_stems(bundle["county"]["names"]["zh"], "county")}
    for name, path, score, bare, zone in _named(bundle):
        # The county's own short name says nothing about where in the county.
        if len(name) >= 2 and name.lower() not in county_stems:
            found.setdefault(name.lower(), []).append((path, score, bare, zone))
    return {name: _name(name, entries, levels) for name, entries in sorted(found.items())}


def _name(name: str, entries: list[tuple[str, float, bool, str | None]], levels: dict[str, AreaLevel]) -> Name:
    targets = sorted({path for path, *_ in entries})
    outer = [t for t in targets if all(is_within(other, t) for other in targets)]
    kept = tuple(outer[:1] or targets)
    return Name(
        targets=kept,
        score=max(score for _, score, *_ in entries),
        bare=all(bare for _, _, bare, _ in entries),
        latin=name.isascii(),
        village=all(levels.get(t) == "village" for t in kept),
        zone=next((zone for *_, zone in entries if zone), None),
    )


def _named(bundle: dict[str, Any]) -> Iterator[tuple[str, str, float, bool, str | None]]:
    """(name, path, score, bare, zone) of everything that has a name."""
    tree, county = bundle["areas"], bundle["county"]
    yield from _names(county, county["id"], "county")
    for township in tree["townships"]:
        path = f"{county['id']}/{township['id']}"
        yield from _names(township, path, "township")
        for village in township.get("villages", ()):
            yield from _names(village, f"{path}/{village['id']}", "village")
    for other in tree.get("neighbours", ()):
        yield from _names(other, other["id"], "neighbour")
    for zone in tree.get("zones", ()):
        for name in (*zone["names"].values(), *zone.get("aliases", ())):
            yield name, zone["area"], _PLACE, False, zone["id"]


def _names(node: dict[str, Any], path: str, level: AreaLevel) -> Iterator[tuple[str, str, float, bool, str | None]]:
    for name in node["names"].values():
        yield name, path, _FULL, False, None
        for stem in _stems(name, level):
            yield stem, path, _BARE if len(stem) > 2 else _BARE_SHORT, True, None
    if level in ("township", "village") and len(node["id"]) >= 5:
        yield node["id"], path, _BARE, True, None
    for name in node.get("aliases", ()):
        yield name, path, _ALIAS, False, None
    for name in node.get("places", ()):
        yield name, path, _PLACE, False, None


def _stems(name: str, level: AreaLevel) -> Iterator[str]:
    if name.isascii():
        for suffix in _ENGLISH:
            if name.lower().endswith(suffix):
                yield name[: -len(suffix)]
        return
    if name.endswith(_SUFFIX[level]) and len(name) >= 3:
        yield name[:-1]


def _alternation(names: Iterable[str]) -> re.Pattern[str]:
    """One pattern for all names, the longest first, branching on the first character."""
    groups: dict[str, list[str]] = {}
    for name in sorted(names, key=lambda n: (-len(n), n)):
        groups.setdefault(name[0], []).append(name[1:])
    branches = (re.escape(first) + "(?:" + "|".join(map(re.escape, rest)) + ")" for first, rest in groups.items())
    return re.compile("|".join(branches) or r"(?!)")


# --- the other files -------------------------------------------------------------------------------------------------


def _station(raw: dict[str, Any]) -> Station:
    return Station(
        raw["id"],
        raw["kind"],
        raw["names"]["zh"],
        raw["names"]["en"],
        tuple(raw["areas"]),
        raw.get("queue_topic", False),
        raw.get("restricted", False),
    )


def limit_ms(text: str) -> int:
    """`24h`, `15min`, `7d`, `30s` -> ms. Raises ValueError for anything else."""
    found = re.fullmatch(r"([1-9][0-9]{0,5})(s|min|h|d)", text)
    if found is None:
        raise ValueError(f"{text!r} is no limit: write a whole number and s, min, h or d, like 24h")
    return int(found.group(1)) * UNITS[found.group(2)]


def _ladder(raw: dict[str, Any]) -> Ladder:
    rungs = tuple(
        Rung(
            r["level"],
            r["station"],
            _limit(r["claim"]),
            _limit(r["act"]) if "act" in r else None,
            _limit(r["resolve"]) if "resolve" in r else None,
        )
        for r in raw["levels"]
    )
    return Ladder(raw["id"], rungs, raw["returns"]["limit"], raw["returns"]["arbiter"])


def _limit(raw: dict[str, Any]) -> Limit:
    return Limit(limit_ms(raw["limit"]), raw["clock"])


def day_number(text: str) -> int:
    """`2026-10-01` -> days since 1970-01-01. Raises ValueError."""
    if len(text) != 10:
        raise ValueError(f"{text!r} is no date: write it like 2026-10-01")
    return date.fromisoformat(text).toordinal() - _EPOCH_DAY


def hours_of(texts: Sequence[str]) -> Hours:
    """`["08:30-12:00", "14:00-17:30"]` -> intervals in ms after midnight.

    Raises ValueError unless they ascend and are disjoint.
    """
    found: list[tuple[int, int]] = []
    for text in texts:
        parts = re.fullmatch(r"([01][0-9]|2[0-4]):([0-5][0-9])-([01][0-9]|2[0-4]):([0-5][0-9])", text)
        if parts is None:
            raise ValueError(f"{text!r} are no hours: write them like 08:30-12:00")
        a, b, c, d = map(int, parts.groups())
        begin, end = a * HOUR + b * MINUTE, c * HOUR + d * MINUTE
        if begin >= end or end > DAY or (found and found[-1][1] > begin):
            raise ValueError(
                f"{text!r} must end after it begins, at 24:00 at the latest, and begin after the hours before it"
            )
        found.append((begin, end))
    return tuple(found)


def calendar_of(raw: dict[str, Any]) -> Calendar:
    """`calendar.yaml` -> calendar; a swapped working day outranks a holiday."""
    week = [hours_of(raw["hours"].get(day, ())) for day in WEEKDAYS]
    exceptions: dict[int, Hours] = {}
    for holiday in raw.get("holidays", ()):
        for day in range(day_number(holiday["from"]), day_number(holiday["to"]) + 1):
            exceptions[day] = ()
    for swap in raw.get("workdays", ()):
        exceptions[day_number(swap["date"])] = week[WEEKDAYS.index(swap["like"])]
    return make_calendar(week, exceptions)


def glob(pattern: str) -> re.Pattern[str]:
    """`wechat:xiliangwa-*` -> pattern for the whole source; `*` any characters, `?` one."""
    return re.compile(re.escape(pattern).replace(r"\*", ".*").replace(r"\?", "."))


def _source_pattern(sources: Sequence[dict[str, Any]]) -> re.Pattern[str]:
    return re.compile("|".join(f"({glob(s['match']).pattern})" for s in sources) or r"(?!)")


def cue(lists: dict[str, tuple[str, ...]], name: str) -> Cue:
    """A lexicon list, compiled; see `lexicon.yaml` for the notation."""
    wanted = [_entry(lists, entry) for entry in lists[name] if not entry.startswith("!")]
    unwanted = [_entry(lists, entry[1:]) for entry in lists[name] if entry.startswith("!")]
    return Cue(re.compile("|".join(wanted) or r"(?!)"), re.compile("|".join(unwanted)) if unwanted else None)


def _entry(lists: dict[str, tuple[str, ...]], entry: str) -> str:
    parts = []
    for part in entry.split("*"):
        words = lists[part[1:]] if part.startswith("@") else (part,)
        parts.append(
            "(?:" + "|".join(re.escape(word) for word in sorted(words, key=lambda w: (-len(w), w))) + ")"
            if len(words) > 1
            else re.escape(words[0])
        )
    return GAP.join(parts)


def _route(raw: dict[str, Any], parent: Route | None, triage: str) -> Route:
    """A node with what it inherits; children are compiled against it."""
    own = Route(
        id=raw["id"],
        match=_match(raw.get("match", {})),
        station=raw.get("station", parent.station if parent else triage),
        level=raw.get("level", parent.level if parent else "county"),
        ladder=raw.get("ladder", parent.ladder if parent else None),
        cc=tuple(raw.get("cc", parent.cc if parent else ())),
        no_action=raw.get("no_action", parent.no_action if parent else False),
        active=_active(raw["active"]) if "active" in raw else None,
        routes=(),
    )
    return msgspec.structs.replace(own, routes=tuple(_route(child, own, triage) for child in raw.get("routes", ())))


KNOWN: Final[dict[str, int]] = {"none": 0, "county": 1, "township": 2, "village": 3}


def _match(raw: dict[str, Any]) -> Match:
    def chosen(key: str) -> frozenset[str] | None:
        return frozenset(raw[key]) if key in raw else None

    return Match(
        category=chosen("category"),
        subtype=chosen("subtype"),
        urgent=raw.get("urgent"),
        area=tuple(raw["area"]) if "area" in raw else None,
        area_known=KNOWN[raw["area_known"]] if "area_known" in raw else None,
        channel=chosen("channel"),
        source=re.compile("|".join(f"(?:{glob(p).pattern})" for p in raw["source"])) if "source" in raw else None,
        cue=tuple(raw["cue"]) if "cue" in raw else None,
        flag=chosen("flag"),
        link=chosen("link"),
    )


def _active(raw: dict[str, Any]) -> Active:
    return Active(parse_time(raw["from"]), parse_time(raw["to"]), raw.get("within"))


def _outlines(bundle: dict[str, Any]) -> tuple[Outlines, Outlines]:
    features = bundle.get("boundaries", {}).get("features", ())
    areas = [(f["properties"]["area"], f["geometry"]) for f in features if "area" in f["properties"]]
    zones = [(f["properties"]["zone"], f["geometry"]) for f in features if "zone" in f["properties"]]
    return Outlines(sorted(areas, key=lambda item: item[0])), Outlines(sorted(zones, key=lambda item: item[0]))
