"""`tipline worker`: decide what Kafka brings."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from tipline.commands.options import data_option


@click.command("worker")
@data_option
@click.option("--name", metavar="NAME", help="A name that stays the same over restarts: partitions then come back without a rebalance.")
@click.option("--metrics-port", metavar="PORT", type=int, help="Serve /metrics for Prometheus on this port.")
def worker(data: str | None, name: str | None, metrics_port: int | None) -> None:
    """Decides the tips of counties on Kafka (TIPLINE_LOG). Run as many as wanted: they share the counties among them. It may
    be killed at any moment; SIGTERM ends it in good order.

    Example: TIPLINE_LOG=kafka://localhost:9092 tipline worker --data ./worker-1
    """
    from tipline.distributed import logging_to_stderr, run_worker
    from tipline.settings import effective
    from tipline.store import Store

    settings = effective({"data": data})
    logging_to_stderr(settings.log_level)
    run_worker(Store(settings), name, metrics_port, _announce)


def _announce(partitions: Sequence[str]) -> None:
    click.echo(f"tipline worker is ready: partitions {', '.join(partitions) or 'none yet'}")
    sys.stdout.flush()
