"""docs/cli.md, made from the commands' own help: `python -m tipline.clidoc > docs/cli.md`. A test compares the two."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import click

from tipline.cli import root

#: Columns of the help as the page shows it, whatever the terminal.
WIDTH: Final = 110

_HEAD: Final = """# Command line

Made from the commands' own `--help` by `python -m tipline.clidoc > docs/cli.md`; a test compares the two. Exit codes: 0 ok,
1 problems found, 2 usage, 65 bad data, 69 something needed is missing, 75 try later, 130 interrupted.
"""


def render() -> str:
    """The whole page."""
    return "\n".join([_HEAD, *_sections(root, "tipline")])


def _sections(command: click.Command, name: str) -> Iterator[str]:
    context = click.Context(command, info_name=name, terminal_width=WIDTH, max_content_width=WIDTH)
    level = "#" * (1 + len(name.split()))
    yield f"{level} {name}\n\n```text\n{command.get_help(context).rstrip()}\n```\n"
    if isinstance(command, click.Group):
        for child in command.list_commands(context):
            found = command.get_command(context, child)
            if found is not None and not found.hidden:
                yield from _sections(found, f"{name} {child}")


if __name__ == "__main__":
    click.echo(render(), nl=False)
