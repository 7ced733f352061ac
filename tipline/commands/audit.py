"""`tipline audit`: who was let in, who saw or changed what."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from tipline.commands.options import json_option, local, moment, offset_of

if TYPE_CHECKING:
    from tipline.settings import Settings


@click.group("audit")
def audit() -> None:
    """The audit: who saw or changed what, and when; each entry's hash covers the one before, and `tipline doctor` checks the chain.

    Example: tipline audit list --limit 20
    """


@audit.command("list")
@local
@click.option("--since", metavar="TIME", help="Entries from this time on (RFC 3339, or a date).")
@click.option("--limit", metavar="N", type=click.IntRange(1), help="The newest N; default: all.")
@json_option
def list_(settings: Settings, since: str | None, limit: int | None, as_json: bool) -> None:
    """Lists the audit, the newest last: when, who (`cli` is this command line; else the id of a user or a token), what was done, to
    what, and why. Times are the county's. What was revealed is never in it.

    Example: tipline audit list --since 2026-11-24
    """
    import orjson

    from schemas.times import format_time
    from sinks.audit import audit_entries
    from sinks.database import reading
    from tipline.store import Store

    start = moment("--since", since, settings)
    store = Store(settings, create=False)
    with reading(store.engine) as connection:
        found = audit_entries(connection, since=start, limit=limit)[::-1]
    offset = offset_of(store.bundles())
    if as_json:
        plain = [
            {
                "seq": row.seq,
                "at": format_time(row.at, offset),
                "actor": row.actor,
                "action": row.action,
                "subject": row.subject,
                "detail": orjson.loads(row.detail),
            }
            for row in found
        ]
        click.echo(orjson.dumps(plain).decode())
        return
    for row in found:
        detail = "" if row.detail == "{}" else row.detail
        click.echo(f"{format_time(row.at, offset)}  {row.actor}  {row.action}  {row.subject}  {detail}".rstrip())
    if not found:
        click.echo("no entries")
