"""`tipline token`: access tokens."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from schemas.vocabulary import ROLES
from tipline.commands.columns import aligned
from tipline.commands.options import home_of, json_option, local, offset_of

if TYPE_CHECKING:
    from tipline.settings import Settings


@click.group("token")
def token() -> None:
    """Access tokens: who may post tips, work a queue, read figures.

    Example: tipline token create --role intake --source wechat:xiliangwa-3
    """


@token.command("create")
@local
@click.option("--role", type=click.Choice(ROLES), required=True)
@click.option("--source", metavar="S", help="The source that the token speaks for, such as wechat:xiliangwa-3.")
@click.option("--station", metavar="S", help="The station that the token works for.")
@click.option("--home", metavar="COUNTY", help="Id of the county that its tips belong to, where there are several.")
@click.option("--days", type=click.IntRange(1, 3650), help="How long it is valid; default: until revoked.")
@click.option("--label", metavar="TEXT", help="A note for the list: never a person's name.")
def create(
    settings: Settings,
    role: str,
    source: str | None,
    station: str | None,
    home: str | None,
    days: int | None,
    label: str | None,
) -> None:
    """Prints a new token, alone: it is shown only this once. That it was made, and for what, is written to the audit.

    Example: tipline token create --role station --station police-xiliangwa
    """
    import re

    from producers.admission import telling
    from schemas.times import DAY
    from schemas.vocabulary import Role
    from sinks.audit import append
    from sinks.database import writing
    from sinks.tokens import ENTROPY_BYTES, id_of
    from sinks.tokens import create as store_token
    from streams.ports import Principal
    from tipline.store import Store, entropy, now_ms

    store = Store(settings)
    bundles = store.bundles()
    home = home_of(bundles, station, home)
    if source is not None and not re.fullmatch(r"[a-z0-9][a-z0-9._-]*(:[A-Za-z0-9._-]+)*", source):
        raise click.UsageError(
            f"--source {source!r}: write it like wechat:xiliangwa-3 (small letters and digits, parts joined by colons)"
        )
    now = now_ms()
    if source is not None and (why := telling(source, now)) is not None:
        raise click.UsageError(f"--source: {why}")
    if home is None and role in ("intake", "hotline", "county"):
        known = ", ".join(str(bundle["county"]["id"]) for bundle in bundles)
        raise click.UsageError(f"--home: name the county that its tips belong to, one of {known}")
    role_: Role = role  # type: ignore[assignment]  # click.Choice has checked it
    try:
        with writing(store.engine) as connection:
            made = store_token(
                connection,
                entropy=entropy(ENTROPY_BYTES),
                principal=Principal("", role_, source, station, home),
                now=now,
                expires_at=now + days * DAY if days else None,
                label=label,
            )
            given = {"role": role, "source": source, "station": station, "county": home, "days": days}
            append(connection, at=now, actor="cli", action="token.create", subject=id_of(made), detail=given)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    click.echo(made)


@token.command("list")
@local
@json_option
def list_(settings: Settings, as_json: bool) -> None:
    """Lists tokens by id, without their secrets.

    Example: tipline token list --json
    """
    import msgspec

    from schemas.times import format_time
    from sinks.database import reading
    from sinks.tokens import listed
    from tipline.store import Store

    store = Store(settings, create=False)
    with reading(store.engine) as connection:
        found = listed(connection)
    if as_json:
        click.echo(msgspec.json.encode(found).decode())
        return
    rows, offset = [], offset_of(store.bundles())
    for one in found:
        state = "revoked" if one.revoked_at else f"until {format_time(one.expires_at, offset)}" if one.expires_at else "valid"
        rows.append((one.id, one.role, one.source or one.station or "-", state, one.label or ""))
    for line in aligned(rows):
        click.echo(line)


@token.command("revoke")
@local
@click.argument("token_id")
def revoke(settings: Settings, token_id: str) -> None:
    """Ends a token by its id; every process obeys within a second.

    Example: tipline token revoke 6f0c1c527d8e5b0a
    """
    from sinks.audit import append
    from sinks.database import writing
    from sinks.tokens import revoke as end
    from tipline.store import Store, now_ms

    store = Store(settings, create=False)
    with writing(store.engine) as connection:
        ended = end(connection, token_id, now=now_ms())
        if ended:
            append(connection, at=now_ms(), actor="cli", action="token.revoke", subject=token_id)
    if not ended:
        click.echo(f"{token_id}: there is no such valid token; `tipline token list` shows the ids", err=True)
        sys.exit(1)
    click.echo("revoked")
