"""`tipline consume`: a station's queue from Kafka, for its own system."""

from __future__ import annotations

import sys

import click

from tipline.commands.options import data_option


@click.command("consume")
@data_option
@click.option("--station", metavar="ID", required=True, help="The station; it must have `queue_topic: true` in the county's directory.")
@click.option("--group", metavar="NAME", help="Where reading goes on the next time (default: consume-STATION).")
@click.option("--limit", metavar="N", type=int, help="Stop after so many.")
@click.option("--wait", metavar="SECONDS", type=float, help="Stop when nothing has come for so long; default: never.")
def consume(data: str | None, station: str, group: str | None, limit: int | None, wait: float | None) -> None:
    """Prints each change of a station's queue as a line of JSON (`assignment.v1.json`), and remembers how far it came. A
    crash may show some again: keep the highest `revision` of each `id`.

    Example: TIPLINE_LOG=kafka://localhost:9092 tipline consume --station police-anping
    """
    from streams.distributed.consume import Reading, read_queue
    from tipline.distributed import servers, stopping
    from tipline.settings import effective
    from tipline.store import Store

    wanted = Reading(station, group or f"consume-{station}", limit, wait)
    for document in read_queue(servers(Store(effective({"data": data}))), wanted, stopping()):
        sys.stdout.buffer.write(document + b"\n")
        sys.stdout.flush()
