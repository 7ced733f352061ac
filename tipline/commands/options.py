"""Options that several commands share."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

if TYPE_CHECKING:
    from streams.ports import Bundle
    from tipline.settings import Settings

F = TypeVar("F", bound=Callable[..., Any])

#: Defaults come from the settings, so that a variable, a file and an option mean the same.
data_option = click.option("--data", metavar="DIR", help="The store's directory (TIPLINE_DATA; default ./data).")
county_option = click.option(
    "--county",
    metavar="DIR",
    multiple=True,
    help="County directory; may be repeated (TIPLINE_COUNTY; default: the Anping example).",
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
    """The county directory of a command that decides for one county. Raises BadCounty, and UsageError for several."""
    from tipline.county import find_county, load_county
    from tipline.settings import counties_of

    names = counties_of(settings)
    if len(names) > 1:
        raise click.UsageError("this command takes one county: give --county once")
    return load_county(find_county(names[0]))
