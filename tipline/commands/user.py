"""`tipline user`: people who log in to the pages with a name and a password."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from schemas.vocabulary import ROLES
from tipline.commands.columns import aligned
from tipline.commands.options import home_of, json_option, local

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from tipline.settings import Settings

#: Whoever has a page of their own; `intake` is for programs.
_ROLES = tuple(role for role in ROLES if role != "intake")


@click.group("user")
def user() -> None:
    """Users of the pages: each logs in at /login with a name and a password. Programs use tokens.

    Example: tipline user create wangjun --role station --station police-xiliangwa
    """


@user.command("create")
@local
@click.argument("name")
@click.option("--role", type=click.Choice(_ROLES), required=True)
@click.option("--station", metavar="S", help="The station that the user works for.")
def create(settings: Settings, name: str, role: str, station: str | None) -> None:
    """Makes a user. The password (10 to 200 characters) is asked for at the terminal, or read from the first line of stdin.

    Example: tipline user create wangjun --role station --station police-xiliangwa
    """
    from schemas.vocabulary import Role
    from sinks.database import writing
    from stations.pages.accounts import create_user
    from streams.ports import Principal
    from tipline.store import Store, entropy, now_ms

    store = Store(settings)
    role_: Role = role  # type: ignore[assignment]  # click.Choice has checked it
    principal = Principal("", role_, None, station, home_of(store.bundles(), station))
    password = _password()
    try:
        with writing(store.engine) as connection:
            create_user(connection, name=name, password=password, principal=principal, entropy=entropy, now=now_ms())
            _note(connection, "user.create", name, role=role, station=station)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    click.echo(f"{name} may log in at /login")


@user.command("list")
@local
@json_option
def list_(settings: Settings, as_json: bool) -> None:
    """Lists users by name.

    Example: tipline user list --json
    """
    import msgspec

    from sinks.database import reading
    from stations.pages.accounts import listed
    from tipline.store import Store

    store = Store(settings, create=False)
    with reading(store.engine) as connection:
        found = listed(connection)
    if as_json:
        click.echo(msgspec.json.encode(found).decode())
        return
    for line in aligned([(one.name, one.role, one.station or "-", "disabled" if one.disabled else "valid") for one in found]):
        click.echo(line)


@user.command("password")
@local
@click.argument("name")
def password(settings: Settings, name: str) -> None:
    """Gives a user another password, asked for at the terminal or read from stdin; the user's sessions end.

    Example: tipline user password wangjun
    """
    from sinks.database import writing
    from stations.pages.accounts import set_password
    from tipline.store import Store

    store = Store(settings, create=False)
    given = _password()
    try:
        with writing(store.engine) as connection:
            known = set_password(connection, name, given)
            if known:
                _note(connection, "user.password", name)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    _done(known, name, "the password is changed", "no such user")


@user.command("disable")
@local
@click.argument("name")
def disable(settings: Settings, name: str) -> None:
    """Ends a user: nobody logs in by this name any more, and open sessions end at their next request.

    Example: tipline user disable wangjun
    """
    from sinks.database import writing
    from stations.pages.accounts import disable_user
    from tipline.store import Store, now_ms

    store = Store(settings, create=False)
    with writing(store.engine) as connection:
        ended = disable_user(connection, name, now=now_ms())
        if ended:
            _note(connection, "user.disable", name)
    _done(ended, name, "disabled")


@user.command("enable")
@local
@click.argument("name")
def enable(settings: Settings, name: str) -> None:
    """Lets a disabled user log in again, with the password as it was.

    Example: tipline user enable wangjun
    """
    from sinks.database import writing
    from stations.pages.accounts import enable_user
    from tipline.store import Store

    store = Store(settings, create=False)
    with writing(store.engine) as connection:
        enabled = enable_user(connection, name)
        if enabled:
            _note(connection, "user.enable", name)
    _done(enabled, name, "enabled", "no disabled user")


def _note(connection: Connection, action: str, name: str, **detail: str | None) -> None:
    """Writes to the audit what was done to whose account."""
    from sinks.audit import append
    from tipline.store import now_ms

    append(connection, at=now_ms(), actor="cli", action=action, subject=name, detail=detail)


def _password() -> str:
    """From the terminal, twice and unseen; from a pipe, its first line. Never an argument: those show in `ps`."""
    if sys.stdin.isatty():
        given: str = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
        return given
    return sys.stdin.readline().rstrip("\r\n")


def _done(known: bool, name: str, words: str, unknown: str = "no such valid user") -> None:
    if not known:
        click.echo(f"{name}: there is {unknown}; `tipline user list` shows them", err=True)
        sys.exit(1)
    click.echo(words)
