"""The day as one page that a township officer reads: no script, nothing from elsewhere, light and dark."""

from __future__ import annotations

import re
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from typing import Any, Final

import msgspec

from schemas.times import DAY, HOUR, MINUTE, SECOND, parse_time
from schemas.vocabulary import CATEGORIES
from stations.pages.shading import STEPS, Drawing, shaded
from stations.pages.words import translate
from streams.stages.county import compile_county
from tipline.demo.day import Row
from tipline.demo.examples import FAKES
from tipline.demo.run import Result
from tipline.demo.traffic import percentile

_WEEKDAYS: Final = "一二三四五六日"
#: The table of who got what: these first, as far as they have an item; then the most urgent.
_FEATURED: Final = (
    "storm-1", "bank-1", "knife-1", "fake-5", "land-2", "cable-1", "queue-1", "autumn-1", "tree-1", "poppy-1", "graft-1", "twin-1", "border-1", "wallet-1",
)  # fmt: skip
_STATUSES: Final = ("open", "claimed", "acknowledged", "in_progress", "resolved")
_KINDS: Final = {
    "police": "派出所 · police",
    "village": "村委会 · village committees",
    "mediation": "乡镇调委会 · mediation",
    "desk": "县级 · county desks",
}
_BINS: Final = 24
#: Kinds of reasons that a reader understands at once.
_REASONS: Final = {"urgent": "紧急", "place": "地点", "cue": "关键词", "recurrence": "", "suggested": "", "pattern": ""}
_SEALED: Final = re.compile(r"\[(\w+):[0-9a-f]+\]")
_SEALED_WORDS: Final = {"phone": "〔电话已封存〕", "card": "〔卡号已封存〕", "id": "〔证号已封存〕"}


class Bar(msgspec.Struct, frozen=True):
    """One part of a stacked bar, in hundredths of the whole axis."""

    name: str
    start: float
    size: float
    count: int


class Hour(msgspec.Struct, frozen=True):
    """One hour of the day: incidents by category, and the repeats that joined one."""

    hour: int
    bars: tuple[Bar, ...]
    repeats: Bar
    tips: int


class CategoryRow(msgspec.Struct, frozen=True):
    """A category: its incidents and tips, as shares of the greatest, and its commonest kinds."""

    name: str
    zh: str
    en: str
    incidents: int
    tips: int
    incident_share: float
    tip_share: float
    kinds: str


class Township(msgspec.Struct, frozen=True):
    """A township of the map."""

    area: str
    zh: str
    en: str
    path: str
    shade: int
    x: float
    y: float
    count: int
    urgent: int
    leading: str


class Forward(msgspec.Struct, frozen=True):
    """One message of the storm: when, from which group."""

    at: str
    source: str


class Victim(msgspec.Struct, frozen=True):
    """One victim of the script."""

    at: str
    place: str
    amount: int
    x: float


class Sent(msgspec.Struct, frozen=True):
    """One line of the table: what went to whom, why, and by when."""

    at: str
    title: str
    hidden: bool
    category: str
    label: str
    urgent: bool
    tips: int
    station: str
    cc: str
    limit: str
    reasons: tuple[str, ...]


class Queue(msgspec.Struct, frozen=True):
    """How far one station has come."""

    zh: str
    en: str
    total: int
    bars: tuple[Bar, ...]


def render(result: Result) -> str:
    """The page."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.globals.update(word=lambda key: translate("zh", key), english=lambda key: translate("en", key))
    template = files("tipline.demo").joinpath("report.html.j2").read_text("utf-8")
    return environment.from_string(template).render(**View(result).document()) + "\n"


class View:
    """The figures behind the page."""

    def __init__(self, result: Result) -> None:
        self._result = result
        self._rows = [row for row in result.rows if row.id in result.seen.decided]
        self._decided = result.seen.decided
        self._members: dict[str, list[Row]] = {}
        for row in self._rows:
            self._members.setdefault(self._decided[row.id]["incident_id"], []).append(row)
        self._stations = {s["id"]: s for s in result.bundle["stations"]["stations"]}
        self._outlines = compile_county(result.bundle).outlines

    def document(self) -> dict[str, Any]:
        """All that the template shows."""
        result, figures = self._result, self._result.figures
        tips, incidents = len(self._rows), len(self._members)
        waits = sorted(figures.queue_seconds)
        return {
            "date": _date(result.midnight, result.offset_minutes),
            "tips": tips,
            "lost": result.lost,
            "doubled": result.doubled,
            "incidents": incidents,
            "saved": tips - incidents,
            "saved_share": round((tips - incidents) / max(1, tips) * 100),
            "urgent": sum(any(self._decided[r.id]["urgent"] for r in rows) for rows in self._members.values()),
            "no_action": sum(all(self._decided[r.id]["no_action"] for r in rows) for rows in self._members.values()),
            "stations_count": len({item["station"] for item in result.seen.queue.values()}),
            "figures": figures,
            "hours": self._hours(),
            "scale": self._scale(),
            "killed": round(figures.killed_at / DAY * 100, 2),
            "killed_at": _clock(figures.killed_at),
            "categories": self._categories(),
            "drawing": self._drawing(),
            "townships": self._townships(),
            "unplaced": sum(self._township(rows) is None for rows in self._members.values()),
            "storm": self._storm(),
            "pattern": self._pattern(),
            "sent": self._sent(),
            "status": self._status(),
            "queues": self._queues(),
            "outcomes": result.outcomes,
            "report": result.report,
            "accept": [f"{percentile(figures.accept_seconds, p) * 1000:.0f}" for p in (0.5, 0.95, 0.99)],
            "wait": [f"{percentile(waits, p) * 1000:.0f}" for p in (0.5, 0.95, 0.99)],
            "waits": _histogram(waits),
            "most_wait": f"{percentile(waits, 0.99) * 1000:.0f}",
            "median_wait": _span(percentile(waits, 0.5)),
            "faults": result.faults,
            "source_zh": _source_words(r.source for r in self._rows),
        }

    # --- incidents ----------------------------------------------------------------------------------------------------

    def _category(self, rows: Sequence[Row]) -> str:
        """An incident's category: its queue item's, else its first tip's."""
        first = self._decided[rows[0].id]
        item = self._result.seen.queue.get(first["incident_id"])
        return str(item["category"] if item is not None else first["category"])

    def _subtype(self, rows: Sequence[Row]) -> str | None:
        first = self._decided[rows[0].id]
        item = self._result.seen.queue.get(first["incident_id"])
        found: str | None = item["subtype"] if item is not None else first["subtype"]
        return found

    def _township(self, rows: Sequence[Row]) -> str | None:
        """`county/township` of an incident: what most of its tips say."""
        areas = [self._decided[row.id]["area"] for row in rows]
        named = Counter("/".join(area.split("/")[:2]) for area in areas if area and "/" in area)
        return named.most_common(1)[0][0] if named else None

    # --- the day ------------------------------------------------------------------------------------------------------

    def _scale(self) -> list[int]:
        """Marks of the axis, the last at its end."""
        most = max((hour.tips for hour in self._raw_hours()), default=1)
        step = next(s for s in (2, 5, 10, 20, 50, 100, 1000) if most / s <= 5)
        return list(range(0, -(-most // step) * step + 1, step))

    def _raw_hours(self) -> list[Hour]:
        first = {rows[0].id: self._category(rows) for rows in self._members.values()}
        hours = []
        for hour in range(24):
            rows = [row for row in self._rows if row.at // HOUR == hour]
            counts = Counter(first[row.id] for row in rows if row.id in first)
            bars = tuple(Bar(name, 0, 0, counts[name]) for name in CATEGORIES)
            hours.append(Hour(hour, bars, Bar("repeats", 0, 0, len(rows) - counts.total()), len(rows)))
        return hours

    def _hours(self) -> list[Hour]:
        top = self._scale()[-1]
        placed = []
        for hour in self._raw_hours():
            at, bars = 0.0, []
            for bar in (*hour.bars, hour.repeats):
                size = bar.count / top * 100
                bars.append(Bar(bar.name, round(100 - at - size, 3), round(size, 3), bar.count))
                at += size
            placed.append(Hour(hour.hour, tuple(bars[:-1]), bars[-1], hour.tips))
        return placed

    def _categories(self) -> list[CategoryRow]:
        tips: Counter[str] = Counter()
        incidents: Counter[str] = Counter()
        kinds: dict[str, Counter[str]] = {name: Counter() for name in CATEGORIES}
        for rows in self._members.values():
            category, subtype = self._category(rows), self._subtype(rows)
            tips[category] += len(rows)
            incidents[category] += 1
            if subtype is not None:
                kinds[category][translate("zh", f"subtype.{category}.{subtype}")] += 1
        most = max(tips.values(), default=1)
        return [
            CategoryRow(
                name=name,
                zh=translate("zh", f"category.{name}"),
                en=translate("en", f"category.{name}"),
                incidents=incidents[name],
                tips=tips[name],
                incident_share=round(incidents[name] / most * 100, 2),
                tip_share=round(tips[name] / most * 100, 2),
                kinds="、".join(f"{kind} {n}" for kind, n in kinds[name].most_common(4)),
            )
            for name in CATEGORIES
        ]

    # --- the map ------------------------------------------------------------------------------------------------------

    def _drawing(self) -> Drawing | None:
        return shaded(self._outlines, self._by_township())

    def _by_township(self) -> Counter[str]:
        return Counter(area for rows in self._members.values() if (area := self._township(rows)) is not None)

    def _townships(self) -> list[Township]:
        drawing, county = self._drawing(), self._result.bundle["county"]["id"]
        names = {f"{county}/{t['id']}": t["names"] for t in self._result.bundle["areas"]["townships"]}
        shapes = drawing.shapes if drawing is not None else ()
        # By rank: one large town must not make all others look alike.
        ranks = sorted({shape.count for shape in shapes if shape.count})
        found = []
        for shape in shapes:
            shade = -(-(ranks.index(shape.count) + 1) * STEPS // len(ranks)) if shape.count else 0
            members = [rows for rows in self._members.values() if self._township(rows) == shape.area]
            urgent = sum(any(self._decided[row.id]["urgent"] for row in rows) for rows in members)
            top = Counter(self._category(rows) for rows in members).most_common(1)
            leading = translate("zh", f"category.{top[0][0]}") if top else "—"
            name = names[shape.area]
            en = name["en"].removesuffix(" Town").removesuffix(" Township")
            found.append(
                Township(shape.area, name["zh"], en, shape.path, shade, shape.x, shape.y, shape.count, urgent, leading)
            )
        return sorted(found, key=lambda one: -one.count)

    # --- the storm and the pattern ------------------------------------------------------------------------------------

    def _storm(self) -> dict[str, Any]:
        rows = [row for row in self._rows if row.id.startswith("storm-")]
        first = self._decided[rows[0].id]
        item = self._result.seen.on_queue(rows[0].id)
        own = [row for row in self._members[first["incident_id"]] if row.id.startswith("storm-")]
        return {
            "text": _plain(first["title"]),
            "forwards": [Forward(_clock(row.at), _source_name(row.source)) for row in own],
            "tips": len(own),
            "groups": len({row.source for row in own}),
            "minutes": round((own[-1].at - own[0].at) / MINUTE),
            "station": self._station_name(item["station"] if item else first["station"]),
            "limit": self._limit(first),
            "label": self._label(first["category"], first["subtype"]),
        }

    def _pattern(self) -> dict[str, Any]:
        victims = []
        for name in FAKES:
            row = next(r for r in self._rows if r.id == name)
            amounts = [q["value"] for q in self._decided[name]["quantities"] if q["unit"] == "元"]
            place = self._area_name(self._decided[name]["area"])
            victims.append(Victim(_clock(row.at), place, int(max(amounts, default=0)), round(row.at / DAY * 100, 2)))
        amounts = [victim.amount for victim in victims]
        townships = {self._township([r]) for r in self._rows if r.id in FAKES}
        linked = {self._decided[name]["pattern_id"] for name in FAKES}
        return {
            "victims": victims,
            "total": sum(amounts),
            "median": int(statistics.median(amounts)),
            "townships": len(townships - {None}),
            "whole": len(linked) == 1 and None not in linked,
        }

    # --- what went to whom --------------------------------------------------------------------------------------------

    def _sent(self) -> list[Sent]:
        queue, shown = self._result.seen.queue, dict[str, str]()
        urgent = [row.id for row in self._rows if self._decided[row.id]["urgent"]]
        for name in (*_FEATURED, *urgent):
            if name in self._decided:
                shown.setdefault(self._decided[name]["incident_id"], name)
        chosen = [name for incident, name in shown.items() if incident in queue][:14]
        return sorted((self._line(name) for name in chosen), key=lambda line: (not line.urgent, line.at))

    def _line(self, name: str) -> Sent:
        told, rows = self._decided[name], self._members[self._decided[name]["incident_id"]]
        item = self._result.seen.queue[told["incident_id"]]
        station = self._stations.get(item["station"], {})
        row = next(r for r in rows if r.id == name)
        return Sent(
            at=_clock(row.at),
            title=_short(_plain(told["title"])),
            hidden=bool(station.get("restricted")),
            category=item["category"],
            label=self._label(item["category"], item["subtype"]),
            urgent=bool(item["urgent"]),
            tips=len(rows),
            station=self._station_name(item["station"]),
            cc="、".join(self._station_name(one) for one in told["cc"]),
            limit=self._limit(told),
            reasons=tuple(self._reasons(told)),
        )

    def _reasons(self, told: Mapping[str, Any]) -> Iterable[str]:
        seen: set[str] = set()
        for reason in told["reasons"]:
            kind = reason["kind"]
            if kind in _REASONS and kind not in seen:
                seen.add(kind)
                yield _because(kind, reason["cue"])
        if told["corroborations"] > 1:
            yield f"{told['corroborations']} 人印证"

    def _limit(self, told: Mapping[str, Any]) -> str:
        if told["due_at"] is None:
            return "不限时"
        minutes = round((parse_time(told["due_at"]) - parse_time(told["received_at"])) / MINUTE)
        return f"{minutes} 分钟" if minutes < 60 else f"{round(minutes / 60)} 小时"

    def _label(self, category: str, subtype: str | None) -> str:
        name = translate("zh", f"category.{category}")
        return name if subtype is None else f"{name} · {translate('zh', f'subtype.{category}.{subtype}')}"

    def _station_name(self, identity: str) -> str:
        return str(self._stations[identity]["names"]["zh"]) if identity in self._stations else identity

    def _area_name(self, path: str | None) -> str:
        if path is None:
            return "地点不明"
        parts = path.split("/")
        for township in self._result.bundle["areas"]["townships"]:
            if len(parts) > 1 and township["id"] == parts[1]:
                villages = {v["id"]: v["names"]["zh"] for v in township["villages"]}
                return str(township["names"]["zh"]) + str(villages.get(parts[2], "") if len(parts) > 2 else "")
        return str(self._result.bundle["county"]["names"]["zh"])

    # --- how far it has come ------------------------------------------------------------------------------------------

    def _status(self) -> Queue:
        return _progress("全县", "the whole county", list(self._result.seen.queue.values()))

    def _queues(self) -> list[Queue]:
        by_kind: dict[str, list[Mapping[str, Any]]] = {name: [] for name in _KINDS}
        for item in self._result.seen.queue.values():
            kind = str(self._stations.get(item["station"], {}).get("kind", ""))
            by_kind[kind if kind in _KINDS else "desk"].append(item)
        found = []
        for kind, items in by_kind.items():
            zh, en = _KINDS[kind].split(" · ")
            found.append(_progress(zh, en, items))
        return found


def _because(kind: str, cue: str) -> str:
    """A reason in a few words; scores and coordinates say nothing to a reader."""
    if kind in ("recurrence", "suggested"):
        return "另有一件可能相关" if kind == "suggested" else "有前情"
    if kind == "pattern":
        return f"套路：{translate('zh', f'subtype.fraud.{cue}')}" if cue else "套路"
    if kind == "urgent" and cue.startswith("p="):
        return "文字判为紧急"
    if kind == "place" and cue[:1].isdigit():
        return "定位点"
    return f"{_REASONS[kind]}“{_short(_plain(cue), 14)}”"


def _plain(text: str) -> str:
    """Sealed identities as words."""
    return _SEALED.sub(lambda found: _SEALED_WORDS.get(found[1], "〔已封存〕"), text)


def _progress(zh: str, en: str, items: Sequence[Mapping[str, Any]]) -> Queue:
    counts = Counter(item["status"] for item in items)
    at, bars = 0.0, []
    for status in reversed(_STATUSES):
        size = counts[status] / max(1, len(items)) * 100
        bars.append(Bar(status, round(at, 3), round(size, 3), counts[status]))
        at += size
    return Queue(zh, en, len(items), tuple(bars))


def _histogram(seconds: Sequence[float]) -> list[Bar]:
    """Waits up to the 99th percentile, in bars: where, how high."""
    most = percentile(seconds, 0.99) or 1.0
    counts = Counter(min(_BINS - 1, int(value / most * _BINS)) for value in seconds if value <= most)
    top = max(counts.values(), default=1)
    return [Bar(str(n), round(n / _BINS * 100, 3), round(counts[n] / top * 100, 3), counts[n]) for n in range(_BINS)]


def _date(midnight: int, offset_minutes: int) -> str:
    from datetime import UTC, datetime

    local = datetime.fromtimestamp((midnight + offset_minutes * MINUTE) / 1000, UTC)
    return f"{local.year}年{local.month}月{local.day}日 星期{_WEEKDAYS[local.weekday()]}"


def _clock(at: int) -> str:
    return f"{at % DAY // HOUR:02}:{at % HOUR // MINUTE:02}"


def _span(seconds: float) -> str:
    return f"{seconds * SECOND:.0f} 毫秒" if seconds < 1 else f"{seconds:.1f} 秒"


def _short(text: str, most: int = 46) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


_GROUPS: Final = {"merchants": "商户群", "parents": "家长群", "anpingzhen": "安平镇群", "madian": "马店群", "xiliangwa": "西两洼群", "daziwen": "大子文群", "donghuangcheng": "东黄城群", "nanwangzhuang": "南王庄群", "dahezhuang": "大何庄群", "chengyouzi": "程油子群"}  # fmt: skip


def _source_name(source: str) -> str:
    kind, _, name = source.partition(":")
    if kind == "hotline":
        return f"{name} 热线"
    place, _, number = name.partition("-")
    return _GROUPS.get(place, name) + (f" {number}" if number else "")


def _source_words(sources: Iterable[str]) -> str:
    counts = Counter(source.partition(":")[0] for source in sources)
    words = {"wechat": "志愿者群", "hotline": "热线", "bot": "设备与随手报", "web": "网页"}
    return "、".join(f"{words.get(kind, kind)} {n}" for kind, n in counts.most_common())
