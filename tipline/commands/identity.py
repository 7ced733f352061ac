"""`tipline reveal` and `tipline erase`: the sealed identities of a tip. Both are audited, with a reason."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from producers.identity import mask
from tipline.commands.options import local

if TYPE_CHECKING:
    from sinks.identities import DatabaseIdentities
    from streams.embedded.intake import SqliteIntake
    from tipline.settings import Settings
    from tipline.store import Store


def _said(_context: click.Context, _parameter: click.Parameter, reason: str) -> str:
    if not reason.strip():
        raise click.BadParameter("say why: the audit is read by people")
    return mask(reason.strip())


@click.command("reveal")
@click.argument("tip_id")
@click.option("--reason", required=True, metavar="TEXT", callback=_said, help="Why; it is written to the audit.")
@local
def reveal(tip_id: str, reason: str, settings: Settings) -> None:
    """Opens what was sealed out of TIP_ID: the reporter's contacts and replaced numbers. Written to the audit first.

    Example: tipline reveal 0b8b7e3c-5d7a-5f3e-9a55-0a7a3d0f8c11 --reason "call back, case 12"
    """
    store = _store(settings)
    sealed = {(one.kind, one.token): one for home in _homes(store) for one in home.identities(tip_id)}
    _audit(store, "identity.reveal", tip_id, reason)
    if not sealed:
        click.echo(f"{tip_id}: nothing is sealed (no such tip, no identity in it, or erased)", err=True)
        sys.exit(1)
    for one in sealed.values():
        click.echo(f"{one.kind}\t{one.token}\t{store.open_sealed(tip_id, one)}")


@click.command("erase")
@click.option("--tip", "tip_ids", multiple=True, metavar="TIP_ID", help="A tip whose identities go; may be repeated.")
@click.option("--reporter", metavar="PSEUDONYM", help="All tips of a reporter, by the pseudonym such as v-7f3a9c21.")
@click.option("--reason", required=True, metavar="TEXT", callback=_said, help="Why; it is written to the audit.")
@local
def erase(tip_ids: tuple[str, ...], reporter: str | None, reason: str, settings: Settings) -> None:
    """Destroys sealed identities with their keys. The tips, their decisions and the counts stay.

    Example: tipline erase --reporter v-7f3a9c21 --reason "withdrawn"
    """
    if not tip_ids and not reporter:
        raise click.UsageError("say whose: --tip TIP_ID or --reporter PSEUDONYM")
    store = _store(settings)
    homes = _homes(store)
    wanted = [*tip_ids, *(tip_id for home in homes for tip_id in (home.tips_with(reporter) if reporter else ()))]
    gone = 0
    for tip_id in dict.fromkeys(wanted):
        _audit(store, "identity.erase", tip_id, reason)
        gone += sum(home.erase(tip_id) for home in homes)
    click.echo(f"{gone} identities of {len(set(wanted))} tip(s) destroyed")
    sys.exit(0 if gone else 1)


def _store(settings: Settings) -> Store:
    from tipline.store import Store

    return Store(settings, create=False)


def _homes(store: Store) -> list[SqliteIntake | DatabaseIdentities]:
    """Where identities are: in the log; of a distributed installation in the database, and for some seconds in a spool."""
    from sinks.identities import DatabaseIdentities

    return [store.intake, DatabaseIdentities(store.engine)] if store.settings.log else [store.intake]


def _audit(store: Store, action: str, tip_id: str, reason: str) -> None:
    from sinks.audit import append
    from sinks.database import writing
    from tipline.store import now_ms

    with writing(store.engine) as connection:
        append(connection, at=now_ms(), actor="cli", action=action, subject=tip_id, detail={"reason": reason[:500]})
