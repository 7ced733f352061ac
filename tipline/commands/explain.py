"""`tipline explain`: why a tip was decided as it was."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from tipline.commands.options import json_option, local

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from schemas.records import Decision
    from tipline.settings import Settings
    from tipline.store import Store


@click.command("explain")
@click.argument("named", metavar="TIP_ID|RECEIPT")
@local
@click.option("--all", "every", is_flag=True, help="Every revision, the first to the last.")
@json_option
def explain(named: str, settings: Settings, every: bool, as_json: bool) -> None:
    """Shows the decision of a tip with every reason, by its id or its receipt; works before, during and without `serve`.

    Example: tipline explain 0b8b7e3c-5d7a-5f3e-9a55-0a7a3d0f8c11
    """
    import orjson
    from sqlalchemy import select

    from schemas.codec import decode_output
    from schemas.records import Decision, public
    from sinks.accepted import record_of
    from sinks.database import reading
    from sinks.tables import decisions
    from tipline.store import Store

    store = Store(settings, create=False)
    with reading(store.engine) as connection:
        tip_id = _tip_id(store, connection, named)
        values = (
            connection.execute(
                select(decisions.c.value).where(decisions.c.tip_id == tip_id).order_by(decisions.c.revision)
            )
            .scalars()
            .all()
        )
        known = bool(values) or store.intake.lookup(tip_id) is not None or record_of(connection, tip_id) is not None
    found = [d for d in map(decode_output, values) if isinstance(d, Decision)]
    if not found:
        click.echo(
            f"{named}: "
            + (
                "accepted, not yet decided; try again in a moment"
                if known
                else "there is no such tip in this store; name the `tip_id` or the `receipt` of the 202"
            ),
            err=True,
        )
        sys.exit(75 if known else 1)
    shown = found if every else found[-1:]
    if as_json:
        click.echo(
            orjson.dumps([public(d) for d in shown] if every else public(shown[0]), option=orjson.OPT_INDENT_2).decode()
        )
        return
    for decision in shown:
        _show(decision)


def _tip_id(store: Store, connection: Connection, named: str) -> str:
    """A receipt as people type it stands for its tip; all else is an id."""
    from producers.keyring import normal_receipt
    from sinks.accepted import tip_of

    receipt = normal_receipt(named)
    return named if receipt is None else store.intake.by_receipt(receipt) or tip_of(connection, receipt) or named


def _show(d: Decision) -> None:
    what = f"{d.category}/{d.subtype}" if d.subtype else d.category
    click.echo(f"{d.tip_id}  revision {d.revision} ({d.cause})")
    click.echo(f"  what      {what}{'  URGENT' if d.urgent else ''}  confidence {d.confidence:.2f}")
    click.echo(
        f"  where     {d.area or 'unknown'}"
        + (
            ""
            if d.area
            else "  candidates: " + (", ".join(f"{c.area} ({c.score:.2f})" for c in d.area_candidates) or "none")
        )
    )
    click.echo(
        f"  incident  {d.incident_id}  {d.link}{' of ' + d.link_to if d.link_to else ''}  {d.corroborations} tip(s)"
    )
    if d.pattern_id:
        click.echo(f"  pattern   {d.pattern_id}")
    click.echo(
        f"  station   {d.station}  level {d.level}  route {d.route_id}  due {d.due_at or '-'}"
        + (f"  cc {', '.join(d.cc)}" if d.cc else "")
    )
    for reason in d.reasons:
        click.echo(f"  because   {reason.kind}: {reason.cue} - {reason.detail}")
    click.echo(
        f"  versions  core {d.versions.core}, schema {d.versions.schema}, county {d.versions.county}, model {d.versions.model}"
    )
