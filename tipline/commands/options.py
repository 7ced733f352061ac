"""Options that several commands share."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

import click

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


def joined(counties: tuple[str, ...]) -> str | None:
    """Repeated --county as one setting."""
    return os.pathsep.join(counties) or None
