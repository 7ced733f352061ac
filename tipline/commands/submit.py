"""`tipline submit`: send a file of submissions over HTTP."""

from __future__ import annotations

import os
import sys
import time
from typing import Any

import click

from tipline.commands.options import format_option
from tipline.commands.progress import bar


@click.command("submit")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.option(
    "--url",
    default="http://127.0.0.1:8080",
    show_default=True,
    envvar="TIPLINE_URL",
    help="Where tipline listens (TIPLINE_URL).",
)
@click.option("--token", metavar="TOKEN", envvar="TIPLINE_TOKEN", help="An intake token (TIPLINE_TOKEN).")
@click.option(
    "--ca",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False),
    envvar="TIPLINE_CA",
    help="PEM certificates that an https URL is trusted by, instead of the system's (TIPLINE_CA).",
)
@format_option
@click.option("--patience", type=click.IntRange(0), default=10, show_default=True, help="How often in a row the service may be away before giving up.")
@click.option("--json", "as_json", is_flag=True, help="A JSON object a row.")
def submit(file: str, url: str, token: str | None, ca: str | None, format_: str | None, patience: int, as_json: bool) -> None:
    """Sends FILE (NDJSON or CSV; `-` for standard input) and prints a receipt a row. Sending a file again with
    the same token adds nothing: a row without message_id gets one from its content and the token. A row that the service had
    already is answered as it was the first time, so it counts as accepted too. Exit 1 when rows were refused, 75 when the service is away.

    Example: tipline submit tips.ndjson --url http://127.0.0.1:8080 --token "$TOKEN"
    """
    import ssl

    import orjson

    from producers.client import Server
    from producers.client import submit as send
    from schemas.errors import Rejected
    from tipline.rows import read_rows

    if not token:
        raise click.UsageError(
            "a token is needed: --token, or TIPLINE_TOKEN. `tipline token create --role intake` makes one"
        )
    try:
        trust = ssl.create_default_context(cafile=ca) if ca else None
    except ssl.SSLError:
        raise click.UsageError(f"--ca {ca}: holds no certificate; name a PEM file that begins with -----BEGIN CERTIFICATE-----") from None
    try:
        server = Server(url, token, trust=trust)
    except ValueError as error:
        raise click.UsageError(f"--url {url}: {error}") from None
    refused = sent = 0
    try:
        with read_rows(file, format_) as (rows, total), bar("sending", total) as advance:
            for answer in send(rows, server, time.sleep, patience=patience):
                sent += 1
                refused += answer["status"] != 202
                click.echo(
                    orjson.dumps(answer).decode() if as_json else _words(answer),
                    err=not as_json and answer["status"] != 202,
                )
                advance()
    except Rejected as error:
        if error.status not in (401, 403):
            raise
        hint = {401: "make one with `tipline token create --role intake`", 403: "use a token of the role intake"}
        click.echo(f"tipline: {url} refused it all ({error.status}): {error.title}. {hint[error.status]}", err=True)
        sys.exit(1)
    click.echo(f"{sent - refused} accepted, {refused} refused", err=True)
    sys.exit(1 if refused else os.EX_OK)


def _words(answer: dict[str, Any]) -> str:
    if answer["status"] == 202:
        return f"line {answer['line']}: {answer['receipt']}  {answer['tip_id']}"
    problem = answer["problem"]
    words = "; ".join(
        f"{e['pointer'] or '/'}: {e['detail']}" for e in problem.get("errors", ()) if e["detail"] != problem["title"]
    )
    return f"line {answer['line']}: refused ({answer['status']}): {problem['title']}. {words}".rstrip()
