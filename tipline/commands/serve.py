"""`tipline serve`: everything in one process."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tipline.commands.options import given, local, serving_options

if TYPE_CHECKING:
    from tipline.settings import Settings


@click.command("serve")
@local
@serving_options
def serve(settings: Settings, **serving: Any) -> None:
    """Runs the door, the decisions, the stations' API and the clocks in one process, on SQLite. Ctrl-C or SIGTERM ends it;
    what was accepted is safe at any moment.

    Example: tipline serve --data ./data --port 8080
    """
    import logging

    from tipline.settings import override
    from tipline.store import Store

    settings = override(settings, **given(serving))
    if settings.log:
        raise click.UsageError(
            "TIPLINE_LOG is set, and `serve` keeps a log of its own: start `tipline gateway`, or unset the variable"
        )
    logging.basicConfig(
        level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s %(message)s", stream=sys.stderr
    )
    logging.getLogger("alembic").setLevel("WARNING")
    if point := os.environ.get("TIPLINE_FAILPOINT"):
        from sinks.failpoints import arm

        arm(point)
    from tipline.serve import Embedded, in_the_clear, listener, listening, run

    options = listening(settings)
    if in_the_clear(settings):
        logging.getLogger("tipline.serve").warning(
            "%s is no loopback address and there is no TLS: tokens cross the network in the clear, and browsers allow "
            "neither position nor offline reports. Give --tls-cert and --tls-key, or --trusted-proxy",
            settings.host,
        )
    if not Path(settings.data).exists():
        listener(settings.host, settings.port).close()  # an address that cannot be had leaves no directory behind
    store = Store(settings)
    store.hold()
    from sinks.database import reading
    from sinks.tokens import listed

    embedded = Embedded(store)

    def announce(url: str) -> None:
        """The first line is for programs, the others for people; one write, so that who reads only the first may leave."""
        lines = [
            f"tipline is ready at {url}",
            "\n".join(embedded.told_counties()) + f"; data in {settings.data}",
            f"  pages    {url}/ to report, {url}/console for stations, {url}/docs for programs",
        ]
        with reading(store.engine) as connection:
            if not listed(connection):
                made = f"tipline token create --data {settings.data} --role intake --source wechat:my-group"
                lines.append(f"  next     {made}")
        click.echo("\n".join(lines))
        sys.stdout.flush()

    sys.exit(run(embedded, settings.host, settings.port, announce, options))
