"""`tipline serve`: everything in one process."""

from __future__ import annotations

import os
import sys

import click

from tipline.commands.options import county_option, data_option, joined


@click.command("serve")
@data_option
@county_option
@click.option("--host", metavar="ADDRESS", help="Address to listen on (TIPLINE_HOST; default 127.0.0.1).")
@click.option("--port", metavar="PORT", type=int, help="Port; 0 chooses a free one (TIPLINE_PORT; default 8080).")
def serve(data: str | None, county: tuple[str, ...], host: str | None, port: int | None) -> None:
    """Runs the door, the decisions, the stations' API and the clocks in one process, on SQLite. Ctrl-C or SIGTERM ends it;
    what was accepted is safe at any moment.

    Example: tipline serve --data ./data --port 8080
    """
    import logging

    from tipline.settings import effective
    from tipline.store import Store

    settings = effective({"data": data, "county": joined(county), "host": host, "port": port})
    logging.basicConfig(
        level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s %(message)s", stream=sys.stderr
    )
    logging.getLogger("alembic").setLevel("WARNING")
    if point := os.environ.get("TIPLINE_FAILPOINT"):
        from streams.embedded.failpoints import arm

        arm(point)
    store = Store(settings)
    from tipline.serve import Embedded, run

    embedded = Embedded(store)
    try:
        code = run(embedded, settings.host, settings.port, _announce)
    except OSError as error:
        click.echo(
            f"tipline: cannot listen on {settings.host}:{settings.port} ({error.strerror}). Choose another --port, or stop what holds it",
            err=True,
        )
        code = 69
    sys.exit(code)


def _announce(url: str) -> None:
    click.echo(f"tipline is ready at {url}")
    sys.stdout.flush()
