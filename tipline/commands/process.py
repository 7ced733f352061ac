"""`tipline process`: decide a file offline."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tipline.commands.options import candidate, compare_option, format_option, local, one_county
from tipline.commands.progress import bar

if TYPE_CHECKING:
    from tipline.settings import Settings


@click.command("process")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.option("--out", metavar="FILE", required=True, help="Where the decisions go; `-` for standard output.")
@local
@format_option
@click.option(
    "--model", metavar="FILE", type=click.Path(exists=True, dir_okay=False), help="Another model than the packaged one."
)
@compare_option
def process(file: str, out: str, settings: Settings, model: str | None, format_: str | None, compare: str | None) -> None:
    """Decides FILE (NDJSON or CSV) offline: one line out for each line in, in order. Nothing is stored, and the
    same file gives the same bytes. Exit 1 when lines were refused, each with its reason.

    With --compare it also says what another county directory or model would have decided differently, tip by tip; `tipline
    export --tips` gives the tips of a store to try it on.

    Example: tipline process tips.ndjson --out decisions.ndjson --compare ./anping-next
    """
    from tipline.model import load_model, read_model
    from tipline.process import differences
    from tipline.process import process as decide
    from tipline.rows import read_rows

    bundle = one_county(settings)
    chosen = read_model(Path(model)) if model else load_model()
    with click.open_file(out, "wb") as target:  # before the work: a place that cannot be written is told at once
        with read_rows(file, format_) as (rows, total), bar("deciding", total) as advance:
            kept = list(rows) if compare else rows
            lines = decide(kept, bundle, chosen, advance)
        target.write(b"".join(line + b"\n" for _, line in lines))
    if compare:
        told = differences(lines, decide(kept, *candidate(compare, bundle, chosen)))
        click.echo("\n".join(told), err=out == "-")
    refused = sum(not good for good, _ in lines)
    if refused:
        click.echo(f"{refused} of {len(lines)} lines were refused; see their `error`", err=True)
        sys.exit(1)
