"""`tipline process`: decide a file offline."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from tipline.commands.options import county_option, joined
from tipline.commands.progress import bar


@click.command("process")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.option("--out", metavar="FILE", required=True, help="Where the decisions go; `-` for standard output.")
@county_option
@click.option(
    "--model", metavar="FILE", type=click.Path(exists=True, dir_okay=False), help="Another model than the packaged one."
)
def process(file: str, out: str, county: tuple[str, ...], model: str | None) -> None:
    """Decides FILE (NDJSON or, by its name, CSV) offline: one line out for each line in, in order. Nothing is stored, and the
    same file gives the same bytes. Exit 1 when lines were refused, each with its reason.

    Example: tipline process tips.ndjson --out decisions.ndjson --county examples/anping
    """
    from tipline.county import find_county, load_county
    from tipline.model import load_model, read_model
    from tipline.process import process as decide
    from tipline.rows import read_rows
    from tipline.settings import counties_of, effective

    settings = effective({"county": joined(county)})
    names = counties_of(settings)
    if len(names) > 1:
        raise click.UsageError("process decides for one county: give --county once")
    bundle = load_county(find_county(names[0] or "anping"))
    chosen = read_model(Path(model)) if model else load_model()
    with read_rows(file) as (rows, total), bar("deciding", total) as advance:
        lines = decide(rows, bundle, chosen, advance)
    data = b"".join(line + b"\n" for _, line in lines)
    if out == "-":
        sys.stdout.buffer.write(data)
    else:
        Path(out).write_bytes(data)
    refused = sum(not good for good, _ in lines)
    if refused:
        click.echo(f"{refused} of {len(lines)} lines were refused; see their `error`", err=True)
        sys.exit(1)
