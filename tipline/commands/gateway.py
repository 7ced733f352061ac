"""`tipline gateway`: the HTTP side of a distributed installation."""

from __future__ import annotations

import os
import sys
from typing import Any

import click

from tipline.commands.options import county_option, data_option, given, joined, serving_options


@click.command("gateway")
@data_option
@county_option
@serving_options
@click.option("--spool-records", metavar="N", type=int, default=1_000_000, show_default=True, help="Tips that may wait for Kafka before the door answers 503.")
def gateway(data: str | None, county: tuple[str, ...], spool_records: int, **serving: Any) -> None:
    """Serves the door, the stations' API and the pages, over a spool in --data, Kafka (TIPLINE_LOG) and a database
    (TIPLINE_DATABASE). Run several: they answer alike, as long as they share the keys (TIPLINE_KEYS).

    Example: TIPLINE_LOG=kafka://localhost:9092 TIPLINE_DATABASE=postgresql+psycopg://tipline@localhost/tipline tipline gateway
    """
    from tipline.distributed import logging_to_stderr, open_store
    from tipline.settings import effective

    settings = effective({"data": data, "county": joined(county), **given(serving)})
    logging_to_stderr(settings.log_level)
    if point := os.environ.get("TIPLINE_FAILPOINT"):
        from sinks.failpoints import arm

        arm(point)
    from tipline.gateway import Gateway
    from tipline.serve import listening, run

    options = listening(settings)
    store = open_store(settings)
    store.hold()  # two gateways over one spool would carry everything twice
    made = Gateway(store, spool_records)

    def announce(url: str) -> None:
        """In one write, so that who reads only the first line may leave."""
        click.echo("\n".join([f"tipline is ready at {url}", *made.told_counties()]))
        sys.stdout.flush()

    sys.exit(run(made, settings.host, settings.port, announce, options))
