"""Options that several commands share."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

if TYPE_CHECKING:
    from streams.ports import Bundle
    from streams.stages.classify import Model
    from tipline.settings import Settings

F = TypeVar("F", bound=Callable[..., Any])

#: Defaults come from the settings, so that a variable, a file and an option mean the same.
data_option = click.option("--data", metavar="DIR", help="The store's directory (TIPLINE_DATA; default ./data).")
county_option = click.option(
    "--county",
    metavar="DIR",
    multiple=True,
    help="County directory; may be repeated (TIPLINE_COUNTY; default: the store's, else Anping).",
)
json_option = click.option("--json", "as_json", is_flag=True, help="For programs: JSON instead of text.")
format_option = click.option(
    "--format",
    "format_",
    type=click.Choice(["ndjson", "csv"]),
    help="What FILE is; default: CSV when its name ends so, else NDJSON.",
)
#: Port 0 lets the system choose a free one.
PORT = click.IntRange(0, 65535)


def serving_options(command: F) -> F:
    """Where a service listens and how it is reached; the names are those of the settings."""
    for option in reversed(
        (
            click.option("--host", metavar="ADDRESS", help="Address to listen on (TIPLINE_HOST; default 127.0.0.1)."),
            click.option("--port", metavar="PORT", type=PORT, help="Port; 0 chooses a free one (TIPLINE_PORT; default 8080)."),
            click.option("--tls-cert", metavar="FILE", help="PEM certificate with its chain: serve https (TIPLINE_TLS_CERT)."),
            click.option("--tls-key", metavar="FILE", help="The certificate's PEM key (TIPLINE_TLS_KEY)."),
            click.option(
                "--trusted-proxy",
                metavar="ADDRESS",
                multiple=True,
                help="Proxy whose X-Forwarded-For and -Proto are believed; may be repeated (TIPLINE_TRUSTED_PROXY).",
            ),
        )
    ):
        command = option(command)
    return command


def given(serving: Mapping[str, Any]) -> dict[str, Any]:
    """Values of `serving_options` as settings."""
    return {**serving, "trusted_proxy": ",".join(serving["trusted_proxy"]) or None}


def home_of(bundles: Sequence[Mapping[str, Any]], station: str | None, home: str | None = None) -> str | None:
    """The county of whoever works for a station; without one `home`, or the only county there is. Raises UsageError."""
    if station is None:
        counties = [str(bundle["county"]["id"]) for bundle in bundles]
        if home is not None and home not in counties:
            raise click.UsageError(f"--home {home}: there is no such county here; known are {', '.join(counties)}")
        return home or (counties[0] if len(counties) == 1 else None)
    stations = {s["id"]: b["county"]["id"] for b in bundles for s in b["stations"]["stations"]}
    if station not in stations:
        import difflib

        near = difflib.get_close_matches(station, stations, 3)
        raise click.UsageError(
            f"--station {station}: no county of this installation has it"
            + (f"; did you mean {', '.join(near)}?" if near else "; `tipline county show` lists them")
        )
    return str(stations[station])


def moment(option: str, value: str | None, settings: Settings) -> int | None:
    """The time that an option names, in ms; a date is its first moment in the county. Raises UsageError."""
    import re

    from schemas.times import MINUTE, parse_time
    from tipline.store import bundles_at

    try:
        if value and re.fullmatch(r"\d{4}-\d{2}-\d{2}", value):
            day = parse_time(f"{value}T00:00:00Z")
            return day - offset_of(bundles_at(settings)) * MINUTE
        return parse_time(value) if value else None
    except ValueError:
        raise click.UsageError(
            f"{option} {value}: write a date like 2026-10-20, or a time with offset, like 2026-10-20T08:00:00+08:00"
        ) from None


def offset_of(bundles: Sequence[Bundle]) -> int:
    """The offset of a store's county in minutes, which its people's clocks show; the first's where there are several."""
    from schemas.times import parse_offset

    return parse_offset(bundles[0]["county"]["utc_offset"])


def joined(counties: tuple[str, ...]) -> str | None:
    """Repeated --county as one setting."""
    return os.pathsep.join(counties) or None


def local(command: F) -> F:
    """A command on this machine's store: takes --data and --county, and hands the command its `settings`."""

    @functools.wraps(command)
    def opened(*arguments: Any, data: str | None, county: tuple[str, ...], **options: Any) -> Any:
        from tipline.settings import effective

        return command(*arguments, settings=effective({"data": data, "county": joined(county)}), **options)

    return cast(F, data_option(county_option(opened)))


def one_county(settings: Settings) -> Bundle:
    """The county of a command that decides for one. Raises BadCounty, and UsageError for several."""
    from tipline.settings import counties_of, names_county
    from tipline.store import bundles_at

    if len(counties_of(settings)) > 1:
        raise click.UsageError("this command takes one county: give --county once")
    bundles = bundles_at(settings)
    if len(bundles) > 1 and not names_county(settings):
        known = ", ".join(str(bundle["county"]["id"]) for bundle in bundles)
        raise click.UsageError(f"this command takes one county, and {known} are in force here: name a directory with --county")
    return bundles[0]


compare_option = click.option(
    "--compare", metavar="MODEL|DIR", type=click.Path(exists=True), help="A model file or county directory: what it would decide differently."
)


def candidate(name: str, bundle: Bundle, model: Model) -> tuple[Bundle, Model]:
    """What --compare names, a county directory or a model file, with all else as it is. Raises BadCounty, BadModel."""
    from tipline.county import load_county
    from tipline.model import read_model

    path = Path(name)
    return (load_county(path), model) if path.is_dir() else (bundle, read_model(path))
