"""Things in a visitor's words: places, stations, times, and why something was decided."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec

from schemas.times import DAY, HOUR, MINUTE, parse_time
from schemas.vocabulary import CATEGORIES, SUBTYPES
from sinks.station_queue import MACHINE
from sinks.tables import NEVER
from stations.lifecycle import RETURN_REASONS
from stations.pages.accounts import Colleague
from stations.pages.words import WORDS, Lang, translate
from streams.stages.county import KNOWN, County, Route
from streams.stages.locate import UNKNOWN_AREA

#: What is due within this time is shown as soon due.
SOON_MS: Final = HOUR

_SAYS = re.compile(r"(\w+) says ([\w/-]+)(?:, at the border of (.+))?")
_OUTSIDE = re.compile(r"(\w+) lies outside the county(?:, near (.+))?")
_FITS = re.compile(r"(\w+) fits (.*)")
#: What is said of a record that cannot be read or decided.
_FAULTS: Final = (
    ("missing", re.compile(r"Object missing required field `(?P<field>[^`]+)`(?: - at `(?P<at>.+)`)?")),
    ("unknown", re.compile(r"Object contains unknown field `(?P<field>[^`]+)`(?: - at `(?P<at>.+)`)?")),
    ("kind", re.compile(r"Expected `(?P<wanted>[^`]+)`, got `(?P<got>[^`]+)`(?: - at `(?P<at>.+)`)?")),
    ("wanted", re.compile(r"Expected `(?P<wanted>[^`]+)`(?: - at `(?P<at>.+)`)?")),
    ("value", re.compile(r"Invalid .*?(?: - at `(?P<at>[^`]+)`)?")),
    ("county", re.compile(r"a record of another county in the input of (?P<county>\S+)")),
    ("later", re.compile(r"a later version of tipline wrote it")),
    ("header", re.compile(r"the header (?P<name>\S+) is missing or is not like 1/3")),
    ("error", re.compile(r"(?P<name>\w+)")),
)
#: What `area_known` of a rule asks for.
_KNOWN: Final = {number: name for name, number in KNOWN.items()}
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class Due(msgspec.Struct, frozen=True):
    """When a clock ends, in words; `state` is late, soon, fine or none."""

    ms: int
    words: str
    state: str


class Why(msgspec.Struct, frozen=True):
    """A reason: what it is about, and what was found."""

    about: str
    words: str


def _path_to(route: Route, wanted: str) -> tuple[Route, ...]:
    """The nodes of the routing tree from the root to the one with this id; none where there is none."""
    if route.id == wanted:
        return (route,)
    below = next((path for child in route.routes if (path := _path_to(child, wanted))), ())
    return (route, *below) if below else ()


class Shown:
    """Words for one visitor at one moment."""

    def __init__(self, lang: Lang, counties: Mapping[str, County], now: int) -> None:
        self.lang = lang
        self.now = now
        self._counties = counties
        self._offset = next(iter(counties.values())).offset_minutes if counties else 0

    def t(self, key: str, **values: object) -> str:
        """A string of the page."""
        return translate(self.lang, key, **values)

    def word(self, group: str, name: str | None) -> str:
        """A word of the contract, like a status or a category; as it is when it has no translation."""
        if name is None:
            return ""
        key = f"{group}.{name}"
        return self.t(key) if key in WORDS else name

    # --- names --------------------------------------------------------------------------------------------------------

    def _named(self, thing: Any) -> str:
        return str(thing.en if self.lang == "en" else thing.zh)

    def county(self, identity: str) -> str:
        """A county's name."""
        found = self._counties.get(identity)
        return identity if found is None else self._named(found)

    def station(self, identity: str | None) -> str:
        """A station's name."""
        for county in self._counties.values():
            if identity in county.stations:
                return self._named(county.stations[identity])
        return identity or ""

    def area(self, path: str | None) -> str:
        """An area's own name."""
        for county in self._counties.values():
            if path in county.areas:
                return self._named(county.areas[path])
        return path or self.t("area.unknown")

    def place(self, path: str | None) -> str:
        """An area with the township it lies in."""
        if path is None or path.count("/") < 2:
            return self.area(path)
        township, own = self.area(path.rpartition("/")[0]), self.area(path)
        return f"{own}, {township}" if self.lang == "en" else township + own

    def short(self, path: str | None) -> str:
        """An area's name as it stands on a map: an English one without its kind."""
        name = self.area(path)
        return (
            name.removesuffix(" Township").removesuffix(" Town").removesuffix(" village") if self.lang == "en" else name
        )

    def part(self, name: str) -> str:
        """A part of the installation: its kind, and the county it works for."""
        kind, _, of = name.partition(" ")
        return " · ".join(part for part in (self.word("part", kind), self.county(of) if of else "") if part)

    def remark(self, words: str) -> str:
        """What a part of the installation says of itself."""
        return ", ".join(self.county(part) for part in self.word("remark", words).split(", "))

    def kind(self, category: str, subtype: str | None) -> str:
        """Category and subtype."""
        first = self.word("category", category)
        return first if subtype is None else f"{first} · {self.subtype(category, subtype)}"

    def subtype(self, category: str, subtype: str) -> str:
        """A subtype within its category."""
        return self.word("subtype", f"{category}.{subtype}")

    def who(self, actor: str | None, me: str, names: Mapping[str, Colleague]) -> str:
        """Who did something: the machine, the visitor, or a colleague, by name where one is known and else by station or role."""
        if actor in (None, "", MACHINE):
            return self.t("who.machine")
        if actor == me:
            return self.t("who.me")
        known = names.get(actor or "")
        if known is None:
            return self.t("who.somebody")
        of = self.station(known.station) if known.station else self.word("role", known.role)
        return known.name or self.t("who.colleague", of=of)

    def fault(self, detail: str) -> str:
        """What a dead letter's detail says; as it is where it says something else."""
        for key, pattern in _FAULTS:
            if (found := pattern.fullmatch(detail)) is not None:
                given = {name: value or "" for name, value in found.groupdict().items()}
                at = given.pop("at", "").removeprefix("$.")
                given |= {"county": self.county(given["county"])} if "county" in given else {}
                said = self.t(f"fault.{key}", **given)
                return self.t("fault.at", fault=said, at=at) if at else said
        return detail

    def noted(self, detail: str) -> str:
        """What an entry of the audit says beside its subject."""
        known = {"role": lambda name: self.word("role", name), "station": self.station, "county": self.county}
        given = {name: value for name, value in msgspec.json.decode(detail).items() if value is not None}
        said = [f"{self.word('noted', name)}: {known.get(name, str)(value)}" for name, value in given.items()]
        return ("; " if self.lang == "en" else "；").join(said)

    # --- times --------------------------------------------------------------------------------------------------------

    def ms(self, value: int | str | None) -> int | None:
        """A time as ms, from RFC 3339 or ms; None for none and for NEVER."""
        found = parse_time(value) if isinstance(value, str) else value
        return None if found is None or found >= NEVER else found

    def _local(self, ms: int) -> datetime:
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms, minutes=self._offset)

    def time(self, value: int | str | None) -> str:
        """A moment, in the county's time; the year only where it is another one."""
        ms = self.ms(value)
        if ms is None:
            return self.t("time.none")
        at, now = self._local(ms), self._local(self.now)
        clock = f"{at.hour:02d}:{at.minute:02d}"
        if at.date() == now.date():
            return self.t("time.today", clock=clock)
        if self.lang == "en":
            day = f"{at.day} {_MONTHS[at.month - 1]}"
            return f"{day} {clock}" if at.year == now.year else f"{day} {at.year} {clock}"
        day = f"{at.month}月{at.day}日"
        return f"{day} {clock}" if at.year == now.year else f"{at.year}年{day} {clock}"

    def full(self, value: int | str | None) -> str:
        """A moment for paper: the whole date."""
        ms = self.ms(value)
        if ms is None:
            return self.t("time.none")
        at = self._local(ms)
        clock = f"{at.hour:02d}:{at.minute:02d}"
        if self.lang == "en":
            return f"{at.day} {_MONTHS[at.month - 1]} {at.year} {clock}"
        return f"{at.year}年{at.month}月{at.day}日 {clock}"

    def happened(self, tip: Mapping[str, Any], *, paper: bool = False) -> str:
        """When a tip says it happened, and when it was received where that is another minute."""
        say = self.full if paper else self.time
        happened, received = say(tip["occurred_at"]), say(tip["received_at"])
        return happened if happened == received else self.t("incident.told", happened=happened, received=received)

    def span(self, ms: int) -> str:
        """A length of time in two units at most."""
        ms = abs(ms)
        if ms < MINUTE:
            return self.t("span.moment")
        days, hours, minutes = ms // DAY, ms % DAY // HOUR, ms % HOUR // MINUTE
        if days:
            return self.t("span.days", d=days, h=hours)
        return self.t("span.hours", h=hours, m=f"{minutes:02d}") if hours else self.t("span.minutes", m=minutes)

    def ago(self, value: int | str | None) -> str:
        """How long ago."""
        ms = self.ms(value)
        return self.t("time.none") if ms is None else self.t("time.ago", span=self.span(self.now - ms))

    def due(self, value: int | str | None, *, resolved: bool = False) -> Due:
        """When the running clock ends."""
        ms = self.ms(value)
        if ms is None or resolved:
            return Due(0, self.t("due.none"), "none")
        left = ms - self.now
        state = "late" if left <= 0 else "soon" if left < SOON_MS else "fine"
        return Due(ms, self.t("due.late" if left <= 0 else "due.left", span=self.span(left)), state)

    # --- reasons ------------------------------------------------------------------------------------------------------

    def why(self, reason: Mapping[str, str]) -> Why:
        """A decision's reason, in words."""
        kind, cue, detail = reason["kind"], reason["cue"], reason["detail"]
        about = self.word("about", kind)
        if kind == "place":
            return Why(about, self._place_reason(cue, detail))
        if kind == "words" and cue in ("", "-"):
            return Why(about, self.t("why.no_words"))
        if kind == "words":
            category, _, subtype = detail.rpartition(" ")[2].partition("/")
            return Why(about, self.t("why.words", cue=self._listed(cue), kind=self.kind(category, subtype or None)))
        if kind in ("rule", "urgent", "not_urgent"):
            said = f"detail.{detail}"
            words = self.t(said) if said in WORDS else detail
            key = "why.likely" if cue.startswith("p=") else "why.rule"
            return Why(about, self.t(key, cue=self._cue(cue), detail=words) if cue else words)
        if kind == "route":
            station, _, level = detail.partition(" at ")
            values = {"route": cue, "station": self.station(station), "level": self.word("level", level)}
            return Why(about, self.t("why.route", **values, rule=self.rule(cue)))
        if kind == "cc":
            return Why(about, self._reads_along(cue, detail))
        return Why(about, self._other_reason(kind, cue, detail))

    def _reads_along(self, station: str, detail: str) -> str:
        how, _, what = detail.partition(" ")
        name = self.station(station)
        if how == "for":
            return self.t("why.cc.area", station=name, area=self.place(what))
        return self.t("why.cc.rule" if how == "with" else "why.cc.triage", station=name)

    def rule(self, route_id: str) -> str:
        """What a routing rule asks of a case, with what the rules above it ask; nothing is left out but which words and sources."""
        path = next((path for county in self._counties.values() if (path := _path_to(county.routes, route_id))), ())
        asked = dict.fromkeys(words for route in path for words in self._asked(route))
        # Of places known more and more precisely along the path, the last says it all.
        known = max((route.match.area_known or 0 for route in path), default=0)
        return self._join([*asked, *([self.word("rule.known", _KNOWN[known])] if known else [])]) or self.t("rule.rest")

    def _asked(self, route: Route) -> list[str]:
        """What one node of the routing tree asks, in words; without how well the place must be known."""
        match, either = route.match, self.t("rule.or")
        found = []
        if match.urgent is not None:
            found.append(self.t("rule.urgent" if match.urgent else "rule.not_urgent"))
        categories = sorted(match.category or ())
        if categories and match.subtype is None:
            found.append(either.join(self.word("category", one).lower() for one in categories))
        if match.subtype is not None:
            of = [(c, s) for c in categories or CATEGORIES for s in sorted(match.subtype) if s in SUBTYPES[c]]
            found.append(either.join(self.kind(*one).lower() for one in of))
        if match.area is not None:
            found.append(self.t("rule.area", areas=either.join(self.place(path) for path in match.area)))
        if match.channel is not None:
            channels = either.join(self.word("channel", one) for one in sorted(match.channel))
            found.append(self.t("rule.channel", channels=channels))
        found += [self.t("rule.source")] if match.source is not None else []
        found += [self.t("rule.cue")] if match.cue is not None else []
        if match.flag is not None:
            found.append(either.join(self.word("rule.flag", one) for one in sorted(match.flag)))
        if match.link is not None:
            found.append(either.join(self.word("link", one) for one in sorted(match.link)))
        return found + ([self.t("rule.active")] if route.active is not None else [])

    def _other_reason(self, kind: str, cue: str, detail: str) -> str:
        if kind == "time":
            return self.t("why.time", time=self.time(cue))
        if kind == "hint":
            return self.t("why.hint", category=self.word("category", cue))
        if kind == "group" and not cue:
            return self.t("why.together")
        if kind == "group" and detail.startswith("is a reply to"):
            return self.t("why.reply", cue=self._cue(cue))
        if kind == "incident":
            return self.t("why.incident", n=cue.partition(" ")[0])
        if kind == "context":
            alone, _, sure = cue.rpartition(" ")
            category, _, subtype = alone.partition("/")
            return self.t("why.context", kind=self.kind(category, subtype or None).lower(), sure=f"{float(sure):.0%}")
        if kind == "recurrence" and cue == "closed before":
            return self.t("why.closed_before")
        if kind == "correction":
            fields = [self.word("field", name).lower() for name in detail.removeprefix("a person set ").split(", ")]
            return self.t("why.correction", fields=self._join(fields))
        key = f"why.{kind}"
        return self.t(key, cue=self._cue(cue)) if key in WORDS else f"{cue} {detail}".strip()

    def _place_reason(self, cue: str, detail: str) -> str:
        if detail == UNKNOWN_AREA:
            return self.t("why.place.unknown", cue=cue)
        for pattern, key in ((_SAYS, "says"), (_OUTSIDE, "outside"), (_FITS, "fits")):
            found = pattern.fullmatch(detail)
            if found is None:
                continue
            evidence = self.word("evidence", found.group(1))
            areas = self._join([self.place(path) for path in (found.group(2) or "").split(", ") if path])
            if found.group(1) == "source" and key == "says":
                return self.t("why.place.source", area=areas)  # its id says nothing to an officer
            border = (
                self._join([self.place(path) for path in (found.group(3) or "").split(", ") if path])
                if key == "says"
                else ""
            )
            if border:
                return self.t("why.place.border", evidence=evidence, cue=cue, area=areas, border=border)
            if key == "says" and cue == found.group(2):  # a path says itself
                return self.t("why.place.given", evidence=evidence, area=areas)
            return self.t(f"why.place.{key}", evidence=evidence, cue=cue, area=areas or self.t("area.unknown"))
        return f"{cue} {detail}".strip()

    def _cue(self, cue: str) -> str:
        """`p=0.87` as a share; words as they are."""
        found = re.fullmatch(r"p=([01]\.[0-9]+)", cue)
        return f"{float(found.group(1)):.0%}" if found else cue

    def _listed(self, cue: str) -> str:
        return self._join([self.t("quoted", words=word) for word in cue.split(" ") if word])

    def _join(self, parts: list[str]) -> str:
        return (", " if self.lang == "en" else "、").join(parts)

    # --- history ------------------------------------------------------------------------------------------------------

    def came(self, tip: Mapping[str, Any]) -> str:
        """That a tip came in, and how it stands to the incident."""
        channel, link = self.word("channel", tip["channel"]), tip["link"]
        if link == "new":
            return self.t("event.tip.new", channel=channel)
        return self.t("event.tip", channel=channel, link=self.word("link", link))

    def event(self, event: Mapping[str, Any]) -> str:
        """What happened, in a sentence without who and when."""
        kind, data = event["kind"], event.get("data") or {}
        key = f"event.{kind}"
        if key not in WORDS:
            return str(kind)
        values: dict[str, object] = {
            "station": self.station(event.get("station")),
            "before": self.station(event.get("from_station")),
            "level": self.word("level", data.get("level")),
            "clock": self.word("clock", data.get("clock")),
            "outcome": self.word("outcome", data.get("outcome") or event.get("reason")),
            "action": self.word("action", data.get("action")),
            "fields": self._join([self.word("field", name).lower() for name in data]),
        }
        if kind == "escalated" and not data.get("clock"):
            key = "event.escalated.hand"
        return self.t(key, **values)

    def reason_given(self, event: Mapping[str, Any]) -> str | None:
        """What the person wrote with a move; None where nobody wrote anything."""
        data = event.get("data") or {}
        if event.get("by") in (None, MACHINE):
            return None
        words = data.get("text") or event.get("reason")
        return self.reason(words) if words else None

    def reason(self, words: str) -> str:
        """A reason as written, its leading code in words."""
        for code in RETURN_REASONS:
            if words == code or words.startswith(code + ": "):
                return self.word("return", code) + words[len(code) :]
        return words

    def refusal(self, slug: str, status: int) -> str:
        """Why something was refused, in a sentence for people."""
        for key in (f"refused.{slug}", f"refused.{status}"):
            if key in WORDS:
                return self.t(key)
        return self.t("refused.other")
