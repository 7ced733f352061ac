"""`tipline dead-letters`: what was accepted and could not be processed."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from tipline.commands.options import json_option, local, offset_of

if TYPE_CHECKING:
    from sinks.dead_letters import DeadLetter
    from tipline.settings import Settings
    from tipline.store import Store


@click.group("dead-letters")
def dead_letters() -> None:
    """Records that were accepted and could not be processed: kept sealed, with reason and position, and replayable.

    Example: tipline dead-letters list
    """


@dead_letters.command("list")
@local
@click.option(
    "--status", type=click.Choice(["kept", "replayed", "discarded", "all"]), default="kept", show_default=True
)
@json_option
def list_(settings: Settings, status: str, as_json: bool) -> None:
    """Lists dead letters, the oldest first.

    Example: tipline dead-letters list --json
    """
    import orjson

    from schemas.times import format_time
    from sinks.database import reading
    from sinks.dead_letters import listed

    store = _store(settings)
    with reading(store.engine) as connection:
        found = listed(connection, status=None if status == "all" else status, limit=10_000)  # type: ignore[arg-type]
    if as_json:
        click.echo(orjson.dumps([_plain(letter) for letter in found]).decode())
        return
    offset = offset_of(store.bundles())
    for letter in found:
        click.echo(
            f"{letter.id}  {format_time(letter.at, offset)}  {letter.topic}/{letter.part}/{letter.position}  {letter.reason}: {letter.detail}  {letter.status}"
        )
    if not found:
        click.echo("no dead letters")


@dead_letters.command("show")
@local
@click.argument("letter_id")
def show(settings: Settings, letter_id: str) -> None:
    """Opens one dead letter and prints its bytes (with what is not printable escaped). The look is written to the audit.

    Example: tipline dead-letters show 3f0c1c52-7d8e-5b0a-9f0e-0d6b7a4c1e21
    """
    from sinks.audit import append
    from sinks.database import writing
    from tipline.pages import unsealed
    from tipline.store import now_ms

    store = _store(settings)
    letter = _find(store, letter_id)
    with writing(store.engine) as connection:
        append(connection, at=now_ms(), actor="cli", action="dead_letter.show", subject=letter.id)
    click.echo(f"{letter.id}  {letter.topic}/{letter.part}/{letter.position}  {letter.reason}: {letter.detail}")
    click.echo(unsealed(store, letter).decode("utf-8", "backslashreplace"))


@dead_letters.command("replay")
@local
@click.argument("letter_ids", nargs=-1)
@click.option("--all", "every", is_flag=True, help="Every dead letter that is kept.")
def replay(settings: Settings, letter_ids: tuple[str, ...], every: bool) -> None:
    """Puts dead letters back at the end of the log; what cannot be processed comes back as a new one.

    Example: tipline dead-letters replay --all
    """
    from schemas.errors import BadRecord
    from sinks.database import reading
    from sinks.dead_letters import listed
    from tipline.distributed import end_of_input
    from tipline.pages import replay as put_back
    from tipline.pages import settle

    store = _store(settings)
    letters = [_find(store, identity) for identity in dict.fromkeys(letter_ids)]
    if every:
        with reading(store.engine) as connection:
            letters = listed(connection, limit=1_000_000)
    if not letters and not every:
        raise click.UsageError("name the dead letters to replay, or say --all")
    failed = 0
    with end_of_input(store) as append:
        for letter in letters:
            if letter.status != "kept":
                failed += _dealt_with(letter)
                continue
            try:
                put_back(store, letter, append)
            except BadRecord as error:
                click.echo(
                    f"{letter.id}: its bytes are still no record ({error.reason}); `tipline dead-letters discard {letter.id}` if they are of no use",
                    err=True,
                )
                failed += 1
                continue
            settle(store, letter.id, "replayed", "cli")
    click.echo(f"{len(letters) - failed} replayed")
    sys.exit(1 if failed else 0)


@dead_letters.command("discard")
@local
@click.argument("letter_ids", nargs=-1, required=True)
def discard(settings: Settings, letter_ids: tuple[str, ...]) -> None:
    """Marks dead letters as looked at and of no use; they stay listed under --status discarded.

    Example: tipline dead-letters discard 3f0c1c52-7d8e-5b0a-9f0e-0d6b7a4c1e21
    """
    from tipline.pages import settle

    store = _store(settings)
    letters = [_find(store, identity) for identity in letter_ids]
    failed = sum(_dealt_with(_find(store, letter.id)) for letter in letters if not settle(store, letter.id, "discarded", "cli"))
    click.echo(f"{len(letters) - failed} discarded")
    sys.exit(1 if failed else 0)


def _dealt_with(letter: DeadLetter) -> bool:
    """Says that there is nothing left to do."""
    click.echo(f"{letter.id}: was {letter.status} before, and stays so; `tipline dead-letters list` shows what is kept", err=True)
    return True


def _store(settings: Settings) -> Store:
    from tipline.store import Store

    return Store(settings, create=False)


def _find(store: Store, identity: str) -> DeadLetter:
    from sinks.database import reading
    from sinks.dead_letters import find

    with reading(store.engine) as connection:
        letter = find(connection, identity)
    if letter is None:
        click.echo(f"{identity}: there is no such dead letter; `tipline dead-letters list` shows the ids", err=True)
        sys.exit(1)
    return letter


def _plain(letter: DeadLetter) -> dict[str, Any]:
    import base64

    import msgspec

    from schemas.times import format_time

    document = msgspec.structs.asdict(letter)
    document.update(sealed=base64.b64encode(letter.sealed).decode(), at=format_time(letter.at))
    document.pop("settled_at", None)
    return document
