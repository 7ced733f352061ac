"""`tipline sink`: from Kafka into the database."""

from __future__ import annotations

import sys

import click

from tipline.commands.options import data_option


@click.command("sink")
@data_option
@click.option("--metrics-port", metavar="PORT", type=int, help="Serve /metrics for Prometheus on this port.")
def sink(data: str | None, metrics_port: int | None) -> None:
    """Writes decisions and dead letters from Kafka (TIPLINE_LOG) into the database (TIPLINE_DATABASE), and the history of the
    stations' work from there to Kafka. One is enough; it may be killed at any moment.

    Example: TIPLINE_LOG=kafka://localhost:9092 TIPLINE_DATABASE=postgresql+psycopg://tipline@localhost/tipline tipline sink
    """
    from tipline.distributed import logging_to_stderr, open_store, run_sink
    from tipline.settings import effective

    settings = effective({"data": data})
    logging_to_stderr(settings.log_level)
    sys.exit(run_sink(open_store(settings), metrics_port, _announce))


def _announce() -> None:
    click.echo("tipline sink is ready")
    sys.stdout.flush()
