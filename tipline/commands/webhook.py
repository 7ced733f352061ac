"""`tipline webhook`: who calls us, whom we call, and the secrets by which each side proves itself."""

from __future__ import annotations

import secrets
import string
import sys
from typing import TYPE_CHECKING

import click

from tipline.commands.columns import aligned
from tipline.commands.options import json_option, local, offset_of

if TYPE_CHECKING:
    from producers.hooks import HookFile, Kind, Secret
    from tipline.settings import Settings
    from tipline.store import Store

_KINDS = ("standard", "telegram", "wecom", "station")
_ALPHABET = string.ascii_letters + string.digits


@click.group("webhook")
def webhook() -> None:
    """Senders that call us (Standard Webhooks, a Telegram bot, a WeCom application), and stations' systems that we call.

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
@click.option(
    "--url",
    metavar="URL",
    help="Where we call: station: its system, told of each event of its queue; standard: replies to reporters.",
)
@click.option("--bot-token", metavar="T", help="Telegram: answer reporters in their group as this bot; - reads it from standard input.")
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
    url: str | None,
    bot_token: str | None,
    home: str | None,
    replace: bool,
) -> None:
    """Lets KIND (standard, telegram, wecom) send tips of SOURCE, and prints the secret, alone: it is shown only this once.
    For WeCom two lines: the Token, then the EncodingAESKey. A running service knows it at once.

    With KIND station, SOURCE is a station: every event of its queue is posted to --url, signed with the secret by the
    scheme of Standard Webhooks. With --url or --bot-token, reporters of SOURCE are told there when their report is in work
    and when it is closed.

    Example: tipline webhook add standard partner:water-works
    """
    import re

    from producers.admission import telling
    from producers.hooks import Hook
    from producers.webhooks import CHANNELS
    from tipline.store import Store, entropy, now_ms

    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]*(:[A-Za-z0-9._-]+)*", source) or len(source) > 100:
        raise click.UsageError(
            f"{source!r}: write the source like telegram:anping-1 (small letters and digits, parts joined by colons)"
        )
    if kind != "station" and (why := telling(source, now_ms())) is not None:
        raise click.UsageError(f"SOURCE: {why}")
    if kind == "station" and url is None:
        raise click.UsageError("--url: say where the station's system listens")
    given = _reached(kind, _given(kind, secret, aes_key, receive_id), url, bot_token)
    try:
        CHANNELS[kind].check(given)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    store = Store(settings)
    hook = Hook(kind, source, _home_of_station(store, source) if kind == "station" else _home(store, home), given)
    if not _file(store).add(hook, now_ms(), entropy, replace=replace):
        click.echo(f"{kind} {source} is there already; --replace gives it a new secret", err=True)
        sys.exit(1)
    if secret is None:
        click.echo(given.key)
    if kind == "wecom" and aes_key is None:
        click.echo(given.aes_key)
    if kind != "station":
        click.echo(f"address: /v1/webhooks/{kind}/{source}", err=True)


@webhook.command("list")
@local
@json_option
def list_(settings: Settings, as_json: bool) -> None:
    """Lists the webhooks, without their secrets; `told`: we call it.

    Example: tipline webhook list --json
    """
    import msgspec

    from schemas.times import format_time
    from tipline.store import bundles_at

    file = _kept(settings)
    found = [] if file is None else file.listed()
    if as_json:
        click.echo(msgspec.json.encode(found).decode())
        return
    rows, offset = [], offset_of(bundles_at(settings))
    for one in found:
        told = "told" if one.told else "" if one.opens else "does not open with these keys"
        rows.append((one.kind, one.source, one.county or "-", f"since {format_time(one.created_at, offset)}", told))
    for line in aligned(rows):
        click.echo(line)
    if file is not None and file.paused():
        click.echo("outgoing webhooks are paused: `tipline webhook resume` lets them go on", err=True)


@webhook.command("remove")
@click.argument("kind", type=click.Choice(_KINDS))
@click.argument("source")
@local
def remove(kind: Kind, source: str, settings: Settings) -> None:
    """Forgets a webhook: its sender is refused, or its system no longer told, from now on. Its tips stay.

    Example: tipline webhook remove telegram telegram:anping-1
    """
    file = _kept(settings)
    if file is None or not file.remove(kind, source):
        click.echo(f"{kind} {source}: there is no such webhook; `tipline webhook list` shows them", err=True)
        sys.exit(1)
    click.echo("removed")


@webhook.command("pause")
@local
def pause(settings: Settings) -> None:
    """Tells no station's system and no reporter anything, until `tipline webhook resume`; what would be told waits. Senders
    that call us are let in as before. A running service obeys at once.

    Example: tipline webhook pause --data ./restored
    """
    _set_paused(settings, True, "paused", "paused already")


@webhook.command("resume")
@local
def resume(settings: Settings) -> None:
    """Lets the webhooks of a restored or paused store call stations' systems and reporters again, with what they missed. A
    running service obeys at once. Run it once only the store that takes the old one's place is at work.

    Example: tipline webhook resume --data ./restored
    """
    _set_paused(settings, False, "resumed", "not paused")


def _set_paused(settings: Settings, paused: bool, done: str, before: str) -> None:
    file = _kept(settings)
    if file is None:
        click.echo("there are no webhooks; `tipline webhook add` makes one", err=True)
        sys.exit(1)
    click.echo(done if file.pause(paused) else before)


def _kept(settings: Settings) -> HookFile | None:
    """The webhooks of a store that is there; None where it has none yet, and then no keys are made for them."""
    from producers.hooks import FILE_NAME
    from tipline.store import DATABASES, Store

    store = Store(settings, create=False, files=(FILE_NAME, *DATABASES))
    return _file(store) if store.path.joinpath(FILE_NAME).exists() else None


def _file(store: Store) -> HookFile:
    from producers.hooks import FILE_NAME, HookFile

    return HookFile(store.path / FILE_NAME, store.keyring, store.renewed_keyring)


def _given(kind: Kind, secret: str | None, aes_key: str | None, receive_id: str | None) -> Secret:
    """The secret as given; what is not given is made."""
    import base64

    from producers.hooks import Secret

    if kind != "wecom" and (aes_key or receive_id):
        raise click.UsageError("--aes-key and --receive-id are for wecom")
    if secret == "-":
        secret = click.get_text_stream("stdin").readline().strip()
    if kind in ("standard", "station"):
        return Secret(secret or "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode())
    if kind == "telegram":
        return Secret(secret or secrets.token_urlsafe(32))
    return Secret(secret or _signs(32), aes_key or _signs(43), receive_id or "")


def _reached(kind: Kind, given: Secret, url: str | None, bot_token: str | None) -> Secret:
    """The secret with the way back."""
    import re

    import msgspec

    from tipline.outside import check_url

    if url is not None and kind == "wecom":
        raise click.UsageError("--url is for station, standard and telegram: people of WeCom are answered by their receipt's page")
    if bot_token is not None and kind != "telegram":
        raise click.UsageError("--bot-token is for telegram")
    if bot_token == "-":
        bot_token = click.get_text_stream("stdin").readline().strip()
    if bot_token is not None and not re.fullmatch(r"[0-9]{1,20}:[A-Za-z0-9_-]{20,100}", bot_token):
        raise click.UsageError("--bot-token: write it as BotFather gave it, like 123456:ABC-DEF1234ghIkl-zyx57W2v1u123ew11")
    try:
        return msgspec.structs.replace(given, url=check_url(url) if url else "", bot_token=bot_token or "")
    except ValueError as error:
        raise click.UsageError(f"--url: {error}") from None


def _home_of_station(store: Store, station: str) -> str:
    homes = {one["id"]: str(bundle["county"]["id"]) for bundle in store.bundles() for one in bundle["stations"]["stations"]}
    if station not in homes:
        raise click.UsageError(f"{station}: no such station in {', '.join(sorted(set(homes.values())))}; `tipline routes test` shows where a case goes")
    return homes[station]


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
