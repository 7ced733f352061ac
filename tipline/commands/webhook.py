"""`tipline webhook`: the senders that call us, and the secrets that they prove themselves by."""

from __future__ import annotations

import secrets
import string
import sys
from typing import TYPE_CHECKING

import click

from tipline.commands.options import json_option, local

if TYPE_CHECKING:
    from producers.hooks import HookFile, Kind, Secret
    from tipline.settings import Settings
    from tipline.store import Store

_KINDS = ("standard", "telegram", "wecom")
_ALPHABET = string.ascii_letters + string.digits


@click.group("webhook")
def webhook() -> None:
    """Senders that call us: Standard Webhooks, a Telegram bot, a WeCom application.

    Example: tipline webhook add telegram telegram:anping-1
    """


@webhook.command("add")
@click.argument("kind", type=click.Choice(_KINDS))
@click.argument("source")
@local
@click.option(
    "--secret", metavar="S", help="A secret made elsewhere (WeCom: its Token); - reads it from standard input."
)
@click.option("--aes-key", metavar="KEY", help="WeCom's EncodingAESKey, where it was made elsewhere.")
@click.option("--receive-id", metavar="ID", help="WeCom's corp id, such as ww0123456789abcdef.")
@click.option("--home", metavar="COUNTY", help="Id of the county that the tips belong to, where there are several.")
@click.option("--replace", is_flag=True, help="Put a new secret in the place of the one that is there.")
def add(  # noqa: PLR0913  # one argument an option
    *,
    kind: Kind,
    source: str,
    settings: Settings,
    secret: str | None,
    aes_key: str | None,
    receive_id: str | None,
    home: str | None,
    replace: bool,
) -> None:
    """Lets KIND (standard, telegram, wecom) send tips of SOURCE, and prints the secret, alone: it is shown only this once.
    For WeCom two lines: the Token, then the EncodingAESKey. A running service knows it at once.

    Example: tipline webhook add standard partner:water-works
    """
    import re

    from producers.hooks import Hook
    from producers.webhooks import CHANNELS
    from tipline.store import Store, entropy, now_ms

    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]*(:[A-Za-z0-9._-]+)*", source) or len(source) > 100:
        raise click.UsageError(
            f"{source!r}: write the source like telegram:anping-1 (small letters and digits, parts joined by colons)"
        )
    given = _given(kind, secret, aes_key, receive_id)
    try:
        CHANNELS[kind].check(given)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    store = Store(settings)
    hook = Hook(kind, source, _home(store, home), given)
    if not _file(store).add(hook, now_ms(), entropy, replace=replace):
        click.echo(f"{kind} {source} is there already; --replace gives it a new secret", err=True)
        sys.exit(1)
    if secret is None:
        click.echo(given.key)
    if kind == "wecom" and aes_key is None:
        click.echo(given.aes_key)
    click.echo(f"address: /v1/webhooks/{kind}/{source}", err=True)


@webhook.command("list")
@local
@json_option
def list_(settings: Settings, as_json: bool) -> None:
    """Lists the webhooks, without their secrets.

    Example: tipline webhook list --json
    """
    import msgspec

    from schemas.times import format_time
    from tipline.store import Store

    found = _file(Store(settings, create=False)).listed()
    if as_json:
        click.echo(msgspec.json.encode(found).decode())
        return
    for one in found:
        click.echo(f"{one.kind:9} {one.source:40} {one.county or '-':12} since {format_time(one.created_at)}")


@webhook.command("remove")
@click.argument("kind", type=click.Choice(_KINDS))
@click.argument("source")
@local
def remove(kind: Kind, source: str, settings: Settings) -> None:
    """Forgets a webhook: its sender is refused from now on. Its tips stay.

    Example: tipline webhook remove telegram telegram:anping-1
    """
    from tipline.store import Store

    if not _file(Store(settings, create=False)).remove(kind, source):
        click.echo(f"{kind} {source}: there is no such webhook; `tipline webhook list` shows them", err=True)
        sys.exit(1)
    click.echo("removed")


def _file(store: Store) -> HookFile:
    from producers.hooks import FILE_NAME, HookFile

    return HookFile(store.path / FILE_NAME, store.keyring)


def _given(kind: Kind, secret: str | None, aes_key: str | None, receive_id: str | None) -> Secret:
    """The secret as given; what is not given is made."""
    import base64

    from producers.hooks import Secret

    if kind != "wecom" and (aes_key or receive_id):
        raise click.UsageError("--aes-key and --receive-id are for wecom")
    if secret == "-":
        secret = click.get_text_stream("stdin").readline().strip()
    if kind == "standard":
        return Secret(secret or "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode())
    if kind == "telegram":
        return Secret(secret or secrets.token_urlsafe(32))
    return Secret(secret or _signs(32), aes_key or _signs(43), receive_id or "")


def _signs(count: int) -> str:
    """Letters and digits: all that WeCom takes."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(count))


def _home(store: Store, home: str | None) -> str:
    known = [str(bundle["county"]["id"]) for bundle in store.bundles()]
    if home is None and len(known) == 1:
        return known[0]
    if home not in known:
        raise click.UsageError(f"--home: name the county that the tips belong to, one of {', '.join(known)}")
    return home
