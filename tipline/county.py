"""A county directory: read, checked whole, and handed on as one plain document (the bundle).

Every mistake is found in one go and says `file:line: key: what is wrong and how to mend it`. Two passes: the shape of
each file against `schemas/json/county.v1.json`, then what a schema cannot say, as far as the files have their shape.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import orjson
import yaml

from schemas import validation
from schemas.errors import BadCounty
from schemas.times import parse_offset, parse_time
from schemas.vocabulary import LEVELS, SUBTYPES
from streams.ports import Bundle
from streams.stages.county import (
    KNOWN,
    Area,
    areas_of,
    day_number,
    digest,
    fill,
    gazetteer,
    hours_of,
    is_within,
    limit_ms,
)

DEFAULT: Final = "anping"
_YAML: Final = ("county", "areas", "stations", "routes", "ladders", "calendar", "sources", "lexicon")
_BOUNDARIES: Final = "boundaries.geojson"
_LISTS: Final = frozenset({"category", "subtype", "area", "channel", "source", "cue", "flag", "link"})

#: A key's place in a document: the steps from the top, such as ("stations", "stations", 3, "areas").
Steps = tuple[str | int, ...]


def load_county(path: Path) -> Bundle:
    """The directory as one document. Raises BadCounty with all mistakes found."""
    bundle, mistakes, _ = check_county(path)
    if mistakes:
        raise BadCounty(mistakes)
    return bundle


def county_digest(bundle: Bundle) -> str:
    """SHA-256 of the bundle's canonical JSON, in hex."""
    return digest(bundle)


def find_county(name_or_path: str | None = None) -> Path:
    """A county's directory: a path, else an example that ships with tipline by its name (default `anping`).

    Raises BadCounty when there is no such directory.
    """
    name = name_or_path or DEFAULT
    if Path(name).is_dir():
        return Path(name)
    if name.replace("-", "").replace("_", "").isalnum():
        for place in (
            Path(str(files("tipline"))) / "counties" / name,
            Path(__file__).resolve().parent.parent / "examples" / name,
        ):
            if place.is_dir():
                return place
    raise BadCounty(
        [
            f"{name}: no such directory, and no county of that name ships with tipline; "
            "give the directory that holds county.yaml"
        ]
    )


def check_county(path: Path) -> tuple[Bundle, list[str], list[str]]:
    """The document as far as it could be read, its mistakes and its warnings.

    Each of them says `file:line: key: what is wrong and how to mend it`.
    """
    check = _Check(path)
    check.run()
    return check.bundle, check.lines(check.mistakes), check.lines(check.warnings)


# --- reading ---------------------------------------------------------------------------------------------------------


class _Check:
    """One reading of a directory: the document, where each key stands, and what was found wrong."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.bundle: Bundle = {}
        self.marks: dict[Steps, int] = {}
        #: (file, line, words), in the order found.
        self.mistakes: list[tuple[str, int, str]] = []
        self.warnings: list[tuple[str, int, str]] = []
        self.broken: set[str] = set()

    def lines(self, found: Iterable[tuple[str, int, str]]) -> list[str]:
        return [f"{name}:{line}: {words}" for name, line, words in sorted(dict.fromkeys(found))]

    def wrong(self, steps: Steps, words: str) -> None:
        self._note(self.mistakes, steps, words)

    def warn(self, steps: Steps, words: str) -> None:
        self._note(self.warnings, steps, words)

    def _note(self, into: list[tuple[str, int, str]], steps: Steps, words: str) -> None:
        near = steps
        while near and near not in self.marks:
            near = near[:-1]
        into.append((_file(str(steps[0])), self.marks.get(near, 1), f"{_key(steps[1:])}: {words}"))

    def run(self) -> None:
        if not self.path.is_dir():
            self.mistakes.append((str(self.path), 1, "directory: not found; give the directory that holds county.yaml"))
            return
        for name in _YAML:
            self._read_yaml(name)
        self._read_boundaries()
        self._check_files()
        self._check_shape()
        for needs, rule in _RULES:
            if not self.broken.intersection(needs):
                rule(self)

    def _check_files(self) -> None:
        known = {_file(name) for name in (*_YAML, "boundaries")}
        for file in sorted(self.path.iterdir()):
            if file.suffix in (".yaml", ".yml", ".geojson") and file.name not in known:
                self.mistakes.append(
                    (
                        file.name,
                        1,
                        f"file: unknown{_nearest(file.name, known)}; a county has {', '.join(sorted(known))}",
                    )
                )

    def _read_yaml(self, name: str) -> None:
        file = self.path / _file(name)
        try:
            text = file.read_text(encoding="utf-8")
            node = yaml.compose(text, Loader=_Loader)
        except FileNotFoundError:
            self._unread(name, 1, "missing; add it (see examples/anping)")
        except OSError as error:
            self._unread(name, 1, f"cannot be read ({error.strerror}); make it a file that tipline may read")
        except UnicodeDecodeError:
            self._unread(name, 1, "is not UTF-8; save it as UTF-8")
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            self._unread(name, mark.line + 1 if mark else 1, f"is not YAML ({error.problem}); mend the syntax here")
        except yaml.YAMLError as error:
            self._unread(name, 1, f"is not YAML ({' '.join(str(error).split())}); mend the syntax")
        else:
            if node is None:
                self._unread(name, 1, "is empty; fill it (see examples/anping)")
            else:
                self.bundle[name] = _listed(self._plain(node, (name,), 0))

    def _unread(self, name: str, line: int, words: str) -> None:
        self.mistakes.append((_file(name), line, f"file: {words}"))
        self.broken.add(name)

    def _plain(self, node: yaml.Node, steps: Steps, depth: int) -> Any:
        """A YAML node -> plain JSON, each key's line noted. Only JSON's scalars: no dates, no `no` for false."""
        self.marks.setdefault(steps, node.start_mark.line + 1)
        if depth > 40:  # Also ends an anchor that holds itself.
            self.wrong(steps, "nested too deeply; use fewer levels")
            return None
        if isinstance(node, yaml.SequenceNode):
            return [self._plain(item, (*steps, i), depth + 1) for i, item in enumerate(node.value)]
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, steps, depth)
        return _scalar(node)

    def _mapping(self, node: yaml.MappingNode, steps: Steps, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = str(key_node.value) if isinstance(key_node, yaml.ScalarNode) else "?"
            own = (*steps, key)
            if key in found:
                self.mistakes.append(
                    (_file(str(steps[0])), key_node.start_mark.line + 1, f"{_key(own[1:])}: stands twice; keep one")
                )
                continue
            self.marks[own] = key_node.start_mark.line + 1
            found[key] = self._plain(value_node, own, depth + 1)
        return found

    def _read_boundaries(self) -> None:
        file = self.path / _BOUNDARIES
        if not file.exists():
            self.warnings.append((_BOUNDARIES, 1, "file: missing; points then say nothing about the area"))
            return
        try:
            raw = file.read_bytes()
            self.bundle["boundaries"] = orjson.loads(raw)
        except OSError as error:
            self._unread("boundaries", 1, f"cannot be read ({error.strerror}); make it a file that tipline may read")
            return
        except orjson.JSONDecodeError as error:
            self._unread("boundaries", error.lineno, f"is not JSON ({error.msg}); mend the syntax here")
            return
        lines = raw.decode("utf-8").splitlines()
        for i, feature in enumerate(_features(self.bundle["boundaries"])):
            own = feature.get("properties") if isinstance(feature, dict) else None
            name = next((own[k] for k in ("area", "zone") if k in own), None) if isinstance(own, dict) else None
            quoted = f'"{name}"'
            self.marks["boundaries", "features", i] = next((n for n, line in enumerate(lines, 1) if quoted in line), 1)

    def _check_shape(self) -> None:
        """The schema's mistakes. An unknown key is dropped once told, so that the rest is still checked."""
        if not self.broken and validation.is_valid("county", self.bundle):
            return
        from jsonschema import Draft202012Validator  # type: ignore[import-untyped,unused-ignore]

        unknown: list[tuple[Steps, str]] = []
        for error in Draft202012Validator(validation.schema("county")).iter_errors(self.bundle):
            steps = tuple(error.absolute_path)
            if error.validator == "additionalProperties":
                known = error.schema.get("properties", {})
                unknown += [(steps, name) for name in error.instance if name not in known]
                for name in (name for name in error.instance if name not in known):
                    self.wrong(
                        (*steps, name), f"unknown key{_nearest(name, known)}; allowed are {', '.join(sorted(known))}"
                    )
            elif not steps:  # A missing file has been told already.
                continue
            else:
                self.broken.add(str(steps[0]))
                self.wrong(steps, _words(error))
        for steps, name in unknown:
            _at(self.bundle, steps).pop(name, None)


_Loader: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _scalar(node: yaml.Node) -> Any:
    text = str(node.value)
    if getattr(node, "style", None):  # Quoted or block text; libyaml has "" for plain, Python None.
        return text
    if text in ("true", "false"):
        return text == "true"
    if text in ("null", "~", ""):
        return None
    if (
        node.tag in ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
        and text.replace("-", "", 1).replace(".", "", 1).isdecimal()
    ):
        return float(text) if "." in text else int(text)
    return text


def _listed(document: Any) -> Any:
    """A single value of a match key written for a list of one, everywhere in the tree."""
    if isinstance(document, list):
        return [_listed(item) for item in document]
    if not isinstance(document, dict):
        return document
    found = {key: _listed(value) for key, value in document.items()}
    if isinstance(found.get("match"), dict):
        found["match"] = {k: [v] if k in _LISTS and not isinstance(v, list) else v for k, v in found["match"].items()}
    return found


def _features(document: Any) -> list[Any]:
    found = document.get("features") if isinstance(document, dict) else None
    return found if isinstance(found, list) else []


def _file(name: str) -> str:
    return _BOUNDARIES if name == "boundaries" else f"{name}.yaml"


def _key(steps: Iterable[str | int]) -> str:
    return "".join(f"[{s}]" if isinstance(s, int) else f".{s}" for s in steps).lstrip(".") or "file"


def _at(document: Any, steps: Steps) -> Any:
    for step in steps:
        document = document[step]
    return document


def _nearest(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else ""


def _words(error: Any) -> str:
    """A schema error in words."""
    rule, limit, value = error.validator, error.validator_value, error.instance
    if rule == "required":
        return f"required key missing; add {', '.join(name for name in limit if name not in value)}"
    if rule == "enum":
        return f"{value!r} is not known{_nearest(str(value), map(str, limit))}; use one of {', '.join(map(str, limit))}"
    if rule == "type":
        return f"must be of type {limit}, not {type(value).__name__}; write it so"
    if rule == "pattern":
        expected = error.schema.get("description") or "use small letters, digits, - and _"
        return f"{value!r} is not written as expected; {expected} ({limit})"
    return f"{error.message}; see schemas/json/county.v1.json"


# --- what a schema cannot say ----------------------------------------------------------------------------------------

Rule = Callable[[_Check], None]


def _check_head(check: _Check) -> None:
    head, stations, ladders = check.bundle["county"], _station_ids(check), _ladder_ids(check)
    try:
        parse_offset(head["utc_offset"])
    except ValueError as error:
        check.wrong(("county", "utc_offset"), str(error))
    for desk, station in head["desks"].items():
        if station not in stations:
            check.wrong(
                ("county", "desks", desk),
                f"unknown station {station}{_nearest(station, stations)}; add it to stations.yaml",
            )
    ladder = head["urgent_ladder"]
    if ladder not in ladders:
        check.wrong(
            ("county", "urgent_ladder"), f"unknown ladder {ladder}{_nearest(ladder, ladders)}; add it to ladders.yaml"
        )


def _check_areas(check: _Check) -> None:
    """Ids once, zones in known areas, names that several areas share."""
    tree = check.bundle["areas"]
    _twice(check, ("areas", "townships"), [t["id"] for t in tree["townships"]], "township")
    for i, township in enumerate(tree["townships"]):
        _twice(check, ("areas", "townships", i, "villages"), [v["id"] for v in township.get("villages", ())], "village")
    outer = [n["id"] for n in tree.get("neighbours", ())]
    _twice(check, ("areas", "neighbours"), outer, "neighbour")
    if check.bundle["county"]["id"] in outer:
        check.wrong(("areas", "neighbours"), "a neighbour has the county's own id; give it another")
    _twice(check, ("areas", "zones"), [z["id"] for z in tree.get("zones", ())], "zone")
    areas = _areas(check)
    for i, zone in enumerate(tree.get("zones", ())):
        if zone["area"] not in areas:
            check.wrong(
                ("areas", "zones", i, "area"),
                f"unknown area {zone['area']}{_nearest(zone['area'], areas)}; name one of areas.yaml",
            )
    _check_shared_names(check)


def _check_shared_names(check: _Check) -> None:
    """Warns once for each set of areas that share names: allowed, but such a tip may need a person."""
    shared: dict[tuple[str, ...], list[str]] = {}
    for name, entry in gazetteer(check.bundle).items():
        if len(entry.targets) > 1:
            shared.setdefault(entry.targets, []).append(name)
    for targets, names in shared.items():
        where = _place_of(check, targets[-1])
        check.warn(
            where, f"{', '.join(names)} may mean {' or '.join(targets)}; a tip that says no more goes to a person"
        )


def _place_of(check: _Check, path: str) -> Steps:
    """Where an area stands in areas.yaml."""
    for i, township in enumerate(check.bundle["areas"]["townships"]):
        for j, village in enumerate(township.get("villages", ())):
            if path.endswith(f"/{township['id']}/{village['id']}"):
                return ("areas", "townships", i, "villages", j)
        if path.endswith(f"/{township['id']}"):
            return ("areas", "townships", i)
    return ("areas",)


def _check_stations(check: _Check) -> None:
    stations, areas = check.bundle["stations"]["stations"], _areas(check)
    _twice(check, ("stations", "stations"), [s["id"] for s in stations], "station")
    for i, station in enumerate(stations):
        own: Steps = ("stations", "stations", i, "areas")
        if not station["areas"]:
            check.wrong(own, f"{station['id']} serves no area; list at least one")
        for j, path in enumerate(station["areas"]):
            if path not in areas:
                check.wrong((*own, j), f"unknown area {path}{_nearest(path, areas)}; name one of areas.yaml")


def _check_desks_of_neighbours(check: _Check) -> None:
    stations = _station_ids(check)
    for i, other in enumerate(check.bundle["areas"].get("neighbours", ())):
        if other["desk"] not in stations:
            check.wrong(
                ("areas", "neighbours", i, "desk"),
                f"unknown station {other['desk']}{_nearest(other['desk'], stations)}; add it to stations.yaml",
            )


def _check_sources(check: _Check) -> None:
    areas = _areas(check)
    for i, source in enumerate(check.bundle["sources"]["sources"]):
        area = areas.get(source["area"])
        if area is None or area.level == "neighbour":
            check.wrong(
                ("sources", "sources", i, "area"),
                f"unknown area {source['area']}{_nearest(source['area'], areas)}; name one of areas.yaml",
            )


def _check_lexicon(check: _Check) -> None:
    lists = check.bundle["lexicon"]["lists"]
    for name, entries in lists.items():
        own: Steps = ("lexicon", "lists", name)
        if all(entry.startswith("!") for entry in entries):
            check.wrong(own, "has only `!` entries and is never found; add an entry to look for")
        for i, entry in enumerate(entries):
            for part in entry.removeprefix("!").split("*"):
                _check_part(check, (*own, i), part, lists)


def _check_part(check: _Check, steps: Steps, part: str, lists: Mapping[str, list[str]]) -> None:
    if not part:
        check.wrong(steps, "has nothing on one side of `*` or after `!`; write words on both sides")
    elif part.startswith("@") and part[1:] not in lists:
        check.wrong(steps, f"unknown list {part}{_nearest(part[1:], lists)}; add it, or drop the @")
    elif part.startswith("@") and any(set("@*!").intersection(word) for word in lists[part[1:]]):
        check.wrong(
            steps, f"list {part} has entries with @, * or !; only a list of plain words can stand inside an entry"
        )


def _check_calendar(check: _Check) -> None:
    calendar = check.bundle["calendar"]
    for day, hours in calendar["hours"].items():
        _value(check, ("calendar", "hours", day), hours_of, hours)
    if not any(calendar["hours"].values()):
        check.wrong(
            ("calendar", "hours"),
            "no working time in the week: a working clock would never run out; give at least one day hours",
        )
    for i, holiday in enumerate(calendar.get("holidays", ())):
        own: Steps = ("calendar", "holidays", i)
        first, last = (
            _value(check, (*own, "from"), day_number, holiday["from"]),
            _value(check, (*own, "to"), day_number, holiday["to"]),
        )
        if first is not None and last is not None and not 0 <= last - first <= 366:
            check.wrong(
                (*own, "to"),
                "must not lie before `from`, nor more than a year after it; swap them or split the holiday",
            )
    for i, swap in enumerate(calendar.get("workdays", ())):
        _value(check, ("calendar", "workdays", i, "date"), day_number, swap["date"])


def _check_ladders(check: _Check) -> None:
    stations, ladders = _station_ids(check), check.bundle["ladders"]["ladders"]
    _twice(check, ("ladders", "ladders"), [ladder["id"] for ladder in ladders], "ladder")
    for i, ladder in enumerate(ladders):
        own: Steps = ("ladders", "ladders", i)
        order = [LEVELS.index(rung["level"]) for rung in ladder["levels"]]
        if order != sorted(set(order)):
            check.wrong(
                (*own, "levels"),
                f"levels of {ladder['id']} must go upwards, each once: {', '.join(LEVELS)}; put them in that order",
            )
        arbiter = ladder["returns"]["arbiter"]
        if arbiter not in stations:
            check.wrong(
                (*own, "returns", "arbiter"),
                f"unknown station {arbiter}{_nearest(arbiter, stations)}; add it to stations.yaml",
            )
        for j, rung in enumerate(ladder["levels"]):
            for clock in ("claim", "act", "resolve"):
                if clock in rung:
                    _value(check, (*own, "levels", j, clock, "limit"), limit_ms, rung[clock]["limit"])
            _check_template(check, (*own, "levels", j, "station"), rung["station"], _areas(check).values())


def _value(check: _Check, steps: Steps, read: Callable[[Any], Any], value: Any) -> Any:
    """The value as read, or None with a mistake noted."""
    try:
        return read(value)
    except ValueError as error:
        check.wrong(
            steps, str(error) if "write" in str(error) or "must" in str(error) else f"{error}; write it like 2026-10-01"
        )
        return None


# --- routes ----------------------------------------------------------------------------------------------------------


class _Node:
    """A route with what its parents already ask, for checks."""

    def __init__(self, raw: dict[str, Any], steps: Steps, parent: _Node | None) -> None:
        self.raw, self.steps, self.parent = raw, steps, parent
        self.id: str = raw["id"]
        self.match: dict[str, Any] = raw.get("match", {})
        self.station: str | None = raw.get("station", parent.station if parent else None)
        self.level: str | None = raw.get("level", parent.level if parent else None)
        self.ladder: str | None = raw.get("ladder", parent.ladder if parent else None)
        self.cc: list[str] = raw.get("cc", parent.cc if parent else [])

    def line_of_descent(self) -> Iterator[_Node]:
        node: _Node | None = self
        while node is not None:
            yield node
            node = node.parent


def _nodes(raw: dict[str, Any], steps: Steps, parent: _Node | None) -> Iterator[_Node]:
    node = _Node(raw, steps, parent)
    yield node
    for i, child in enumerate(raw.get("routes", ())):
        yield from _nodes(child, (*steps, "routes", i), node)


def _check_routes(check: _Check) -> None:
    nodes = list(_nodes(check.bundle["routes"]["root"], ("routes", "root"), None))
    counts = Counter(node.id for node in nodes)
    for node in nodes:
        if counts[node.id] > 1:
            check.wrong(
                (*node.steps, "id"), f"route id {node.id} stands {counts[node.id]} times; give each route its own"
            )
        _check_node(check, node)
        _check_words(check, node)
        _check_active(check, node)
        _check_contradiction(check, node)
    _check_root(check, nodes[0])
    _check_reach(check, nodes)


def _check_root(check: _Check, root: _Node) -> None:
    for key in ("match", "active"):
        if root.raw.get(key):
            check.wrong(
                (*root.steps, key), f"the root catches all that is left and has no {key}; drop it, or make it a child"
            )
    for key in ("station", "level"):
        if key not in root.raw:
            check.wrong(root.steps, f"the root has no {key}; name the desk that decides what nothing else catches")
    if root.station and "{" in root.station:
        check.wrong(
            (*root.steps, "station"), "the root's station must be one station, not a template; name the triage desk"
        )


def _check_node(check: _Check, node: _Node) -> None:
    """Stations and ladders that exist, and a level the ladder has."""
    scope = _scope(check, node)
    if node.station is not None and "station" in node.raw:
        _check_template(check, (*node.steps, "station"), node.station, scope)
    for i, template in enumerate(node.raw.get("cc", ())):
        _check_template(check, (*node.steps, "cc", i), template, scope)
    ladders = {ladder["id"]: ladder for ladder in check.bundle["ladders"]["ladders"]}
    if node.ladder is None:
        return
    if node.ladder not in ladders:
        if "ladder" in node.raw:
            check.wrong(
                (*node.steps, "ladder"),
                f"unknown ladder {node.ladder}{_nearest(node.ladder, ladders)}; add it to ladders.yaml",
            )
    elif node.level is not None and node.level not in [rung["level"] for rung in ladders[node.ladder]["levels"]]:
        key = "ladder" if "ladder" in node.raw else "level"
        check.wrong(
            (*node.steps, key),
            f"ladder {node.ladder} has no level {node.level}, where {node.id} starts; "
            "add the level or choose another ladder",
        )


def _scope(check: _Check, node: _Node) -> list[Area]:
    """The areas a route can be asked about."""
    prefixes = [step.match["area"] for step in node.line_of_descent() if "area" in step.match]
    found = [a for a in _areas(check).values() if a.level != "neighbour"]
    return [a for a in found if all(any(is_within(a.path, p) for p in wanted) for wanted in prefixes)]


def _check_template(check: _Check, steps: Steps, template: str, scope: Iterable[Area]) -> None:
    stations = _station_ids(check)
    if "{" not in template:
        if template not in stations:
            check.wrong(
                steps,
                f"unknown station {template}{_nearest(template, stations)}; add it to stations.yaml or name another",
            )
        return
    missing = {s: a.path for a in scope if (s := fill(template, a)) is not None and s not in stations}
    if missing:
        shown = ", ".join(f"{s} (for {path})" for s, path in sorted(missing.items())[:5])
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        check.wrong(
            steps, f"template {template} gives stations that do not exist: {shown}{more}; add them to stations.yaml"
        )


def _check_words(check: _Check, node: _Node) -> None:
    lists, areas = check.bundle["lexicon"]["lists"], _areas(check)
    for i, name in enumerate(node.match.get("cue", ())):
        if name not in lists:
            check.wrong(
                (*node.steps, "match", "cue", i),
                f"unknown cue list {name}{_nearest(name, lists)}; add it to lexicon.yaml",
            )
    for i, path in enumerate(node.match.get("area", ())):
        if path not in areas:
            check.wrong(
                (*node.steps, "match", "area", i), f"unknown area {path}{_nearest(path, areas)}; name one of areas.yaml"
            )
    known = [s for names in SUBTYPES.values() for s in names]
    for i, subtype in enumerate(node.match.get("subtype", ())):
        if subtype not in known:
            check.wrong(
                (*node.steps, "match", "subtype", i),
                f"unknown subtype {subtype}{_nearest(subtype, known)}; use one of the contract's",
            )


def _check_active(check: _Check, node: _Node) -> None:
    active = node.raw.get("active")
    if not active:
        return
    times = {}
    for key in ("from", "to"):
        try:
            times[key] = parse_time(active[key])
        except ValueError as error:
            check.wrong(
                (*node.steps, "active", key), f"{error}; write a time with offset, like 2026-10-20T08:00:00+08:00"
            )
    if len(times) == 2 and times["from"] >= times["to"]:
        check.wrong((*node.steps, "active", "to"), "must lie after `from`; swap them")
    places = {*_areas(check), *(zone["id"] for zone in check.bundle["areas"].get("zones", ()))}
    within = active.get("within")
    if within is not None and within not in places:
        check.wrong(
            (*node.steps, "active", "within"),
            f"unknown zone or area {within}{_nearest(within, places)}; name one of areas.yaml",
        )


def _check_contradiction(check: _Check, node: _Node) -> None:
    """A route that asks for what its parents, or its own other keys, exclude."""
    for key in ("category", "subtype", "channel", "link", "urgent"):
        asked = [_values(step.match[key]) for step in node.line_of_descent() if key in step.match]
        if key in node.match and asked and not frozenset.intersection(*asked):
            check.wrong(
                (*node.steps, "match", key),
                f"{node.id} can never match: a parent asks for another {key}; drop one of the two",
            )
            return
    categories = [frozenset(step.match["category"]) for step in node.line_of_descent() if "category" in step.match]
    allowed = frozenset.intersection(*categories) if categories else frozenset(SUBTYPES)
    fitting = {s for category in allowed for s in SUBTYPES.get(category, ())}
    subtypes = frozenset(node.match.get("subtype", ()))
    if subtypes and subtypes <= {s for names in SUBTYPES.values() for s in names} and not subtypes & fitting:
        check.wrong(
            (*node.steps, "match", "subtype"),
            f"{node.id} can never match: no such subtype in {', '.join(sorted(allowed))}; mend category or subtype",
        )


def _values(value: Any) -> frozenset[Any]:
    return frozenset(value) if isinstance(value, list) else frozenset([value])


def _check_reach(check: _Check, nodes: list[_Node]) -> None:
    """A route behind a sibling that takes everything it would."""
    for parent in nodes:
        children = [node for node in nodes if node.parent is parent]
        for i, later in enumerate(children):
            earlier = next((e for e in children[:i] if _takes_all(e, later)), None)
            if earlier is not None:
                check.wrong(
                    later.steps,
                    f"{later.id} can never match: {earlier.id} before it takes all its cases; "
                    f"put {later.id} first or drop it",
                )


def _takes_all(earlier: _Node, later: _Node) -> bool:
    """Whether every case of `later` matches `earlier` too, as far as the keys alone can tell."""
    if "active" in earlier.raw or not _always_filled(earlier, later):
        return False
    return all(_implies(key, wanted, later) for key, wanted in earlier.match.items())


def _implies(key: str, wanted: Any, later: _Node) -> bool:
    for step in later.line_of_descent():
        own = step.match.get(key)
        if own is None:
            continue
        if key == "area_known":
            held = KNOWN[own] >= KNOWN[wanted]
        elif key == "area":
            held = all(any(is_within(path, prefix) for prefix in wanted) for path in own)
        else:
            held = _values(own) <= _values(wanted)
        if held:
            return True
    return False


def _always_filled(earlier: _Node, later: _Node) -> bool:
    """Whether the earlier route's station is known whenever the later one's is."""
    template = earlier.station or ""
    needed = KNOWN["village"] if "{village}" in template else KNOWN["township"] if "{township}" in template else 0
    known = max(
        (KNOWN[step.match["area_known"]] for step in later.line_of_descent() if "area_known" in step.match), default=0
    )
    if later.station is not None:
        known = max(
            known,
            KNOWN["village"]
            if "{village}" in later.station
            else KNOWN["township"]
            if "{township}" in later.station
            else 0,
        )
    return known >= needed


# --- outlines --------------------------------------------------------------------------------------------------------

#: Siblings may overlap, and townships leave gaps or stick out, by this share of the smaller one or the whole: rounding.
_SLACK: Final = 1e-6


def _check_boundaries(check: _Check) -> None:
    features = check.bundle.get("boundaries", {}).get("features", [])
    areas, zones = _areas(check), {zone["id"] for zone in check.bundle["areas"].get("zones", ())}
    shapes: dict[str, tuple[int, Any]] = {}
    for i, feature in enumerate(features):
        own: Steps = ("boundaries", "features", i)
        kind = next((k for k in ("area", "zone") if k in feature["properties"]), None)
        if kind is None:
            check.wrong((*own, "properties"), "names neither area nor zone; add one")
            continue
        name, known = feature["properties"][kind], areas if kind == "area" else zones
        if name not in known:
            check.wrong(
                (*own, "properties", kind), f"unknown {kind} {name}{_nearest(name, known)}; name one of areas.yaml"
            )
            continue
        if name in shapes:
            check.wrong((*own, "properties", kind), f"{name} has two outlines; join them into one MultiPolygon")
            continue
        shape = _shape(check, own, name, feature["geometry"])
        if shape is not None:
            shapes[name] = (i, shape)
    _check_tree_of_shapes(check, areas, shapes)


def _shape(check: _Check, own: Steps, name: str, geometry: dict[str, Any]) -> Any:
    from shapely.geometry import shape
    from shapely.validation import explain_validity

    try:
        found = shape(geometry)
        west, south, east, north = found.bounds
    except Exception as error:  # shapely raises whatever its readers raise for malformed coordinates
        check.wrong(
            (*own, "geometry"),
            f"outline of {name} cannot be read ({type(error).__name__}); give rings of [lon, lat] pairs",
        )
        return None
    if not found.is_valid or found.is_empty:
        check.wrong((*own, "geometry"), f"outline of {name} is invalid ({explain_validity(found)}); redraw it there")
        return None
    if not (-180 <= west and east <= 180 and -90 <= south and north <= 90):
        check.wrong((*own, "geometry"), f"outline of {name} leaves the globe; coordinates are [lon, lat] in degrees")
        return None
    return found


def _check_tree_of_shapes(check: _Check, areas: Mapping[str, Area], shapes: Mapping[str, tuple[int, Any]]) -> None:
    """Siblings apart, children inside, and townships that cover the county when all of them have outlines."""
    named = [(path, *shapes[path]) for path in areas if path in shapes]
    for k, (path, i, shape) in enumerate(named):
        for other, _, against in named[:k]:
            nested = is_within(path, other)
            outside = nested and shape.difference(against).area > _SLACK * shape.area
            overlap = (
                not nested
                and not is_within(other, path)
                and shape.intersection(against).area > _SLACK * min(shape.area, against.area)
            )
            if outside:
                check.wrong(
                    ("boundaries", "features", i, "geometry"),
                    f"outline of {path} sticks out of {other}; pull it back inside",
                )
            if overlap:
                check.wrong(
                    ("boundaries", "features", i, "geometry"),
                    f"outline of {path} overlaps {other}; give each its own ground",
                )
    _check_gaps(check, areas, shapes)


def _check_gaps(check: _Check, areas: Mapping[str, Area], shapes: Mapping[str, tuple[int, Any]]) -> None:
    from shapely import unary_union

    county = check.bundle["county"]["id"]
    townships = [path for path, area in areas.items() if area.level == "township"]
    if county not in shapes or any(path not in shapes for path in townships):
        return
    i, whole = shapes[county]
    left = whole.difference(unary_union([shapes[path][1] for path in townships]))
    if left.area > _SLACK * whole.area:
        spot = left.representative_point()
        check.wrong(
            ("boundaries", "features", i, "geometry"),
            f"the townships leave a gap at {spot.y:.4f},{spot.x:.4f}; let their outlines meet",
        )


# --- small helpers ---------------------------------------------------------------------------------------------------


def _twice(check: _Check, steps: Steps, ids: list[str], what: str) -> None:
    first: set[str] = set()
    for i, name in enumerate(ids):
        if name in first:
            check.wrong((*steps, i, "id"), f"{what} {name} stands twice; give each its own id")
        first.add(name)


def _areas(check: _Check) -> dict[str, Area]:
    return {area.path: area for area in areas_of(check.bundle)}


def _station_ids(check: _Check) -> set[str]:
    return {station["id"] for station in check.bundle["stations"]["stations"]}


def _ladder_ids(check: _Check) -> set[str]:
    return {ladder["id"] for ladder in check.bundle["ladders"]["ladders"]}


#: Which files a rule needs in shape, and the rule.
_RULES: Final[tuple[tuple[tuple[str, ...], Rule], ...]] = (
    (("county", "stations", "ladders"), _check_head),
    (("county", "areas"), _check_areas),
    (("county", "areas", "stations"), _check_stations),
    (("areas", "stations"), _check_desks_of_neighbours),
    (("county", "areas", "sources"), _check_sources),
    (("lexicon",), _check_lexicon),
    (("calendar",), _check_calendar),
    (("county", "areas", "stations", "ladders"), _check_ladders),
    (("county", "areas", "stations", "routes", "ladders", "lexicon"), _check_routes),
    (("county", "areas", "boundaries"), _check_boundaries),
)
