"""Commands `county` (check a directory, show it) and `routes` (try the routing tree on a case)."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, cast

import click
import msgspec
import orjson

from schemas.errors import BadCounty
from schemas.records import Place
from schemas.times import format_time, parse_time
from schemas.vocabulary import CATEGORIES, CHANNELS, SUBTYPES, Category, Channel, Link
from streams.stages.county import Area, County, compile_county
from streams.stages.locate import Located, locate
from streams.stages.route import Case, Routed, Tried, trace
from tipline.commands.options import local, one_county
from tipline.county import check_county, county_digest, find_county, load_county
from tipline.settings import Settings, counties_of
from tipline.store import Store, now_ms

_LINKS = ("new", "duplicate", "update", "recurrence", "suggested")
_FLAGS = ("uncertain", "recusal", "restricted", "outside", "ambiguous_place", "ambiguous_boundary")


@click.group("county")
def county() -> None:
    """A county's directory: stations, areas, routes, ladders, calendar, lexicon.

    Example: tipline county check examples/anping
    """


@county.command("check")
@click.argument("directory", required=False)
@local
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of lines.")
def check(directory: str | None, settings: Settings, as_json: bool) -> None:
    """Lists every mistake in DIRECTORY (default: that of --county), then what may be meant so, then how many of each. Exit 0
    when there is no mistake, 1 otherwise.

    Example: tipline county check examples/anping
    """
    names = [directory] if directory else counties_of(settings)
    if len(names) > 1:
        raise click.UsageError("name one DIRECTORY to check")
    path = _found(names[0])
    bundle, mistakes, warnings = check_county(path)
    digest = None if mistakes else county_digest(bundle)
    if as_json:
        _print_json({"directory": str(path), "digest": digest, "mistakes": mistakes, "warnings": warnings})
    else:
        for line in mistakes:
            click.echo(line)
        for line in warnings:
            click.echo(f"warning: {line}", err=True)
        click.echo(f"{_number(mistakes, 'mistake') if mistakes else f'ok {digest}'}, {_number(warnings, 'warning')}")
    sys.exit(1 if mistakes else 0)


@county.command("show")
@local
@click.option("--json", "as_json", is_flag=True, help="The whole compiled document.")
def show(settings: Settings, as_json: bool) -> None:
    """What a county holds: its areas, stations and ladders in short, or the whole document.

    Example: tipline county show --json
    """
    bundle = one_county(settings)
    if as_json:
        _print_json(bundle)
        return
    compiled = compile_county(bundle)
    click.echo(
        f"{compiled.id}  {compiled.zh} / {compiled.en}  {bundle['county']['utc_offset']}  digest {compiled.digest}"
    )
    for area in compiled.areas.values():
        click.echo(f"{_indent(area)}{area.path}  {area.zh} / {area.en}")
    click.echo(f"{len(compiled.stations)} stations")
    for station in compiled.stations.values():
        marks = [word for word, on in (("queue_topic", station.queue_topic), ("restricted", station.restricted)) if on]
        click.echo(f"  {station.id}  {station.kind}  {station.zh}  {' '.join(marks)}".rstrip())
    click.echo("ladders: " + ", ".join(compiled.ladders))


@click.group("routes")
def routes() -> None:
    """The routing tree.

    Example: tipline routes test "大邵村两家为宅基地吵起来了"
    """


@routes.command("test")
@click.argument("text", required=False, default="")
@local
@click.option("--category", type=click.Choice(CATEGORIES), help="Default: what the classifier says of TEXT.")
@click.option("--subtype", type=click.Choice(sorted({s for names in SUBTYPES.values() for s in names})))
@click.option("--urgent", is_flag=True, help="The case cannot wait.")
@click.option(
    "--confidence",
    type=click.FloatRange(0, 1),
    help="How sure the category is; default: the classifier's, or 1 with --category.",
)
@click.option("--area", help="Area path, such as anping/xiliangwa.")
@click.option("--place", help="The place in words.")
@click.option("--lat", type=click.FloatRange(-90, 90), help="WGS-84 degrees.")
@click.option("--lon", type=click.FloatRange(-180, 180), help="WGS-84 degrees.")
@click.option("--channel", type=click.Choice(CHANNELS), default="volunteer", show_default=True)
@click.option("--source", default="cli:test", show_default=True, help="The source of the tip.")
@click.option("--link", type=click.Choice(_LINKS), default="new", show_default=True)
@click.option("--flag", "flags", type=click.Choice(_FLAGS), multiple=True, help="May be repeated.")
@click.option("--at", "at", metavar="TIME", help="When received (RFC 3339); default: now.")
@click.option("--json", "as_json", is_flag=True, help="For programs: JSON instead of text.")
def test(**options: Any) -> None:
    """Routes a case made of TEXT and the options; shows the nodes tried, the station, its level and the time due.

    Without --category the classifier reads TEXT.

    Example: tipline routes test "大邵村两家为宅基地吵起来了"
    """
    compiled = compile_county(one_county(options["settings"]))
    if (options["lat"] is None) != (options["lon"] is None):
        raise click.UsageError("--lat and --lon go together")
    _classify(options)
    if options["subtype"] is not None and options["subtype"] not in SUBTYPES[options["category"]]:
        raise click.UsageError(f"{options['category']} has no subtype {options['subtype']}")
    if options["area"] is not None and options["area"] not in compiled.areas:
        raise click.UsageError(f"no area {options['area']} in {compiled.id}; `tipline county show` lists them")
    located = _located(compiled, options)
    case = _case(located, options)
    routed, tried = trace(compiled, case)
    if options["as_json"]:
        answer = msgspec.to_builtins(routed) | {"due_at": _due(compiled, routed)}
        _print_json(
            {
                "category": case.category,
                "subtype": case.subtype,
                "urgent": case.urgent,
                "confidence": case.confidence,
                "located": located,
                "tried": tried,
                "routed": answer,
            }
        )
        return
    _print(compiled, case, located, routed, tried)


def _classify(options: dict[str, Any]) -> None:
    """Fills in category, subtype, urgency and confidence where the options leave them open."""
    if options["category"] is not None or not options["text"]:
        options["category"] = options["category"] or "other"
        options["confidence"] = 1.0 if options["confidence"] is None else options["confidence"]
        return
    from streams.stages.classify import classify
    from streams.stages.normalise import normalise
    from tipline.model import load_model

    said = classify(load_model(), normalise(options["text"]).text, options["channel"])
    options["category"], options["subtype"] = said.category, options["subtype"] or said.subtype
    options["urgent"] = options["urgent"] or said.urgent
    options["confidence"] = said.confidence if options["confidence"] is None else options["confidence"]


def _located(compiled: County, options: dict[str, Any]) -> Located:
    keys = {"text": options["place"], "lat": options["lat"], "lon": options["lon"], "area": options["area"]}
    place = Place(**keys) if any(value is not None for value in keys.values()) else None
    return locate(compiled, options["text"], place, options["source"])


def _case(located: Located, options: dict[str, Any]) -> Case:
    try:
        at = parse_time(options["at"]) if options["at"] else now_ms()
    except ValueError as error:
        raise click.UsageError(f"--at: {error}; write it like 2026-10-20T08:00:00+08:00") from None
    return Case(
        category=cast(Category, options["category"]),
        subtype=options["subtype"],
        urgent=options["urgent"],
        confidence=options["confidence"],
        area=located.area,
        precision=located.precision,
        candidates=located.candidates,
        cc_areas=located.cc_areas,
        flags=(*located.flags, *options["flags"]),
        zones=located.zones,
        channel=cast(Channel, options["channel"]),
        source=options["source"],
        text=options["text"],
        link=cast(Link, options["link"]),
        occurred_at=at,
        received_at=at,
    )


def _print(compiled: County, case: Case, located: Located, routed: Routed, tried: tuple[Tried, ...]) -> None:
    candidates = ", ".join(f"{c.area} {c.score:.2f}" for c in located.candidates)
    click.echo(
        f"reads    {case.category}{f'/{case.subtype}' if case.subtype else ''}{'  URGENT' if case.urgent else ''}  confidence {case.confidence:.2f}"
    )
    click.echo(
        f"area     {located.area or '-'} ({located.precision}){'  candidates: ' + candidates if candidates else ''}"
    )
    for node in tried:
        mark = "+" if node.matched else "-"
        click.echo(f"  {'  ' * node.depth}{mark} {node.route_id}{'' if node.matched else f'  ({node.missed})'}")
    click.echo(f"route    {routed.route_id}")
    click.echo(f"station  {routed.station}{'  (no action)' if routed.no_action else ''}")
    click.echo(f"cc       {', '.join(routed.cc) or '-'}")
    click.echo(f"level    {routed.level}  ladder {routed.ladder or '-'}")
    click.echo(f"due      {_due(compiled, routed) or '-'}")


def _due(compiled: County, routed: Routed) -> str | None:
    return None if routed.due_at is None else format_time(routed.due_at, compiled.offset_minutes)


def _indent(area: Area) -> str:
    return "  " * {"county": 1, "township": 2, "village": 3, "neighbour": 1}[area.level]


def _found(name: str | None) -> Path:
    try:
        return find_county(name)
    except BadCounty as error:
        raise click.UsageError(str(error)) from None


def _number(lines: list[str], word: str) -> str:
    return f"{len(lines)} {word}{'s' * (len(lines) != 1)}"


def _print_json(value: Any) -> None:
    click.echo(orjson.dumps(msgspec.to_builtins(value), option=orjson.OPT_INDENT_2).decode())


@county.command("apply")
@click.argument("directory")
@local
def apply(directory: str, settings: Settings) -> None:
    """Puts a county directory in force by a record in the county's input: tips after it are decided by it, a running `serve`
    follows within a second. Refused when it drops a station that has open assignments, or an area that they lie in. That it
    was put in force, and with which digest, is written to the audit.

    Example: tipline county apply examples/anping --data ./data
    """
    from tipline.apply import apply_county
    from tipline.distributed import end_of_input

    bundle = load_county(_found(directory))
    store = Store(settings, create=False)
    with end_of_input(store) as append:
        refusals, position = apply_county(store, bundle, append)
    for line in refusals:
        click.echo(line, err=True)
    if refusals:
        sys.exit(1)
    click.echo(f"in force from position {position}" if position else "already in force")
