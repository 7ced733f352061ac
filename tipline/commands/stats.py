"""`tipline stats`: counts of tips and incidents."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from tipline.commands.options import local, moment, offset_of

if TYPE_CHECKING:
    from tipline.settings import Settings


@click.command("stats")
@local
@click.option(
    "--by",
    default="category",
    show_default=True,
    help="Columns, by commas: category, subtype, area, township, hour, day, hour_of_day, channel, link, station, county; or level alone, of what was settled.",
)
@click.option("--from", "start", metavar="TIME", help="Incidents from this time on (RFC 3339, or a date); for level: settled from then on.")
@click.option("--to", "end", metavar="TIME", help="... and before this one.")
@click.option("--format", "format_", type=click.Choice(["table", "json", "csv"]), default="table", show_default=True, help="How to print.")
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
def stats(settings: Settings, by: str, start: str | None, end: str | None, format_: str, as_json: bool) -> None:
    """Counts tips and incidents from the store.

    Example: tipline stats --by category,area --format csv
    """
    import orjson

    from sinks.database import reading
    from sinks.statistics import to_csv
    from stations.status import columns, figures
    from tipline.store import Store

    since, until = moment("--from", start, settings), moment("--to", end, settings)
    store = Store(settings, create=False)
    groups = [part.strip() for part in by.split(",") if part.strip()]
    try:
        with reading(store.engine) as connection:
            rows = figures(connection, groups, from_ms=since, to_ms=until, offset_minutes=offset_of(store.bundles()))
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    if as_json or format_ == "json":
        click.echo(orjson.dumps({"rows": rows}).decode())
    elif format_ == "csv":
        click.echo(to_csv(rows, columns(groups)), nl=False)
    else:
        _table(rows, columns(groups))


def _table(rows: list[dict[str, object]], columns: list[str]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(*columns)
    for row in rows:
        table.add_row(*("-" if row[c] is None else str(row[c]) for c in columns))
    table.add_section()
    sums = {name: sum(int(str(row[name])) for row in rows) for name in ("tips", "incidents")}
    groups = [name for name in columns if name not in (*sums, "share")]
    last = [str(sums[name]) if name in sums else "" for name in columns]
    table.add_row(*["all", *last[1:]] if groups else last)
    Console().print(table)
