"""`tipline topics`: make and check the topics on Kafka."""

from __future__ import annotations

import sys

import click

from tipline.commands.options import county_option, data_option, joined


@click.group("topics")
def topics() -> None:
    """The topics on Kafka (TIPLINE_LOG).

    Example: tipline topics create --county examples/anping
    """


@topics.command("create")
@data_option
@county_option
@click.option("--replication", metavar="N", type=int, default=1, show_default=True, help="Copies of each record; 3 with three brokers or more.")
def create(data: str | None, county: tuple[str, ...], replication: int) -> None:
    """Makes the topics that are missing, gives each new county a partition of its own, and checks the settings. Nothing that
    exists is changed; run it again for every new county. Exit 1 when a setting would lose records.

    Example: TIPLINE_LOG=kafka://localhost:9092 tipline topics create --county examples/anping
    """
    from tipline.distributed import create_topics
    from tipline.settings import effective
    from tipline.store import Store

    lines = create_topics(Store(effective({"data": data, "county": joined(county)})), replication)
    for line in lines:
        click.echo(line)
    sys.exit(1 if any("WARNING" in line for line in lines) else 0)
