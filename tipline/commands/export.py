"""`tipline export`: what stations taught, as labelled data."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tipline.commands.options import local

if TYPE_CHECKING:
    from schemas.records import Correction, Decision
    from tipline.settings import Settings
    from tipline.store import Store


@click.command("export")
@click.option(
    "--labels", is_flag=True, required=True, help="Relabelled, relocated, merged and split tips as labelled texts."
)
@click.option("--out", metavar="FILE", default="-", show_default=True, help="Where the lines go; `-` for standard output.")
@local
def export(labels: bool, out: str, settings: Settings) -> None:
    """Writes one JSON line a tip that a person corrected: the text as admitted (numbers as tokens, no contacts), the label that
    stands now, what the machine said first, and the corrections. `tipline evaluate` reads the file.

    Example: tipline export --labels --out labels.jsonl
    """
    import orjson

    from tipline.store import Store

    store = Store(settings, create=False)
    lines = [orjson.dumps(one) + b"\n" for one in labelled(store)]
    if out == "-":
        sys.stdout.buffer.writelines(lines)
    else:
        Path(out).write_bytes(b"".join(lines))
        click.echo(f"{len(lines)} labelled tips", err=True)


def labelled(store: Store) -> list[dict[str, Any]]:
    """Labelled tips of the store, in the order of the log."""
    from schemas.codec import decode_input
    from schemas.records import Correction, Tip

    corrections: list[Correction] = []
    texts: dict[str, Tip] = {}
    for county in store.intake.counties():
        after = 0
        while rows := store.intake.read(county, after, 2000):
            for row in rows:
                record = decode_input(row.value)
                if isinstance(record, Tip):
                    texts[record.tip_id] = record
                elif isinstance(record, Correction):
                    corrections.append(record)
            after = rows[-1].position
    touched = {c.incident_id for c in corrections} | {c.into for c in corrections if c.into}
    history = _history(store)
    return [
        _line(texts[tip_id], revisions, corrections)
        for tip_id, revisions in history.items()
        if tip_id in texts and touched & {d.incident_id for d in revisions}
    ]


def _history(store: Store) -> dict[str, list[Decision]]:
    from sqlalchemy import select

    from schemas.codec import decode_output
    from schemas.records import Decision
    from sinks.database import reading
    from sinks.tables import decisions

    found: dict[str, list[Decision]] = {}
    with reading(store.engine) as connection:
        for value in connection.execute(
            select(decisions.c.value)
            .where(decisions.c.kind == "decision")
            .order_by(decisions.c.county, decisions.c.seq)
        ).scalars():
            output = decode_output(value)
            if isinstance(output, Decision):
                found.setdefault(output.tip_id, []).append(output)
    return found


def _line(tip: Any, revisions: list[Decision], corrections: list[Correction]) -> dict[str, Any]:
    first, last = revisions[0], revisions[-1]
    incidents = {d.incident_id for d in revisions}
    said = [c.action for c in corrections if c.incident_id in incidents or c.into in incidents]
    return {
        "id": tip.message_id or tip.tip_id,
        "text": tip.text,
        "ts": tip.reported_at or tip.received_at,
        "channel": tip.channel,
        "reporter_id": tip.reporter,
        "place_text": tip.place.text if tip.place else None,
        "lat": tip.place.lat if tip.place else None,
        "lon": tip.place.lon if tip.place else None,
        "category": last.category,
        "subtype": last.subtype,
        "urgent": last.urgent,
        "area": last.area,
        "incident_id": last.incident_id,
        "machine": {
            "category": first.category,
            "subtype": first.subtype,
            "urgent": first.urgent,
            "area": first.area,
            "incident_id": first.incident_id,
        },
        "corrections": said,
    }
