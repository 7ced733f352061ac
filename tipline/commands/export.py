"""`tipline export`: what stations taught, as labelled data."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tipline.commands.options import local, one_county

if TYPE_CHECKING:
    from collections.abc import Iterator

    from schemas.records import Correction, Decision, Input, Tip
    from tipline.settings import Settings
    from tipline.store import Store


@click.command("export")
@click.option("--labels", is_flag=True, help="Relabelled, relocated, merged and split tips as labelled texts.")
@click.option("--tips", is_flag=True, help="All tips of a county as submissions, for `tipline process --compare`.")
@click.option("--out", metavar="FILE", default="-", show_default=True, help="Where the lines go; `-` for standard output.")
@local
def export(labels: bool, tips: bool, out: str, settings: Settings) -> None:
    """Writes what the store knows as lines of JSON; texts are as admitted (numbers as tokens, no contacts).

    --labels: one line a tip that a person corrected - the label that stands now, what the machine said first, and the
    corrections; `tipline evaluate` reads the file. --tips: one line a tip, as it was sent; `tipline process` decides them anew,
    with another model or county directory.

    Example: tipline export --labels --out labels.jsonl
    """
    import orjson

    from tipline.store import Store

    if labels == tips:
        raise click.UsageError("give one of --labels and --tips")
    store = Store(settings, create=False)
    found = labelled(store) if labels else submitted(store, one_county(settings)["county"]["id"])
    lines = [orjson.dumps(one) + b"\n" for one in found]
    if out == "-":
        sys.stdout.buffer.writelines(lines)
    else:
        Path(out).write_bytes(b"".join(lines))
        click.echo(f"{len(lines)} {'labelled tips' if labels else 'tips'}", err=True)


def submitted(store: Store, county: str) -> list[dict[str, Any]]:
    """The tips of a county as submissions, in the order of the log. Their time of receipt stands for a missing report's."""
    from schemas.records import Tip

    return [_submission(record) for record in _records(store) if isinstance(record, Tip) and record.county == county]


def _submission(tip: Tip) -> dict[str, Any]:
    import msgspec

    place = msgspec.to_builtins(tip.place) if tip.place else None
    reporter = {"id": tip.reporter} if tip.reporter else None
    told = {
        "text": tip.text,
        "source": tip.source,
        "message_id": tip.message_id or tip.tip_id,
        "channel": tip.channel,
        "reported_at": tip.reported_at or tip.received_at,
        "occurred_at": tip.occurred_at,
        "place": place,
        "reporter": reporter,
        "in_reply_to": tip.in_reply_to,
        "category_hint": tip.category_hint,
        "lang": tip.lang,
    }
    return {name: value for name, value in told.items() if value is not None}


def _records(store: Store) -> Iterator[Input]:
    """The records of the log, county by county."""
    from schemas.codec import decode_input

    for county in store.intake.counties():
        after = 0
        while rows := store.intake.read(county, after, 2000):
            for row in rows:
                yield decode_input(row.value)
            after = rows[-1].position


def labelled(store: Store) -> list[dict[str, Any]]:
    """Labelled tips of the store, in the order of the log."""
    from schemas.records import Correction, Tip

    corrections: list[Correction] = []
    texts: dict[str, Tip] = {}
    for record in _records(store):
        if isinstance(record, Tip):
            texts[record.tip_id] = record
        elif isinstance(record, Correction):
            corrections.append(record)
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


def _line(tip: Tip, revisions: list[Decision], corrections: list[Correction]) -> dict[str, Any]:
    first, last = revisions[0], revisions[-1]
    incidents = {d.incident_id for d in revisions}
    said = [c.action for c in corrections if c.incident_id in incidents or c.into in incidents]
    # What came after a person's word was never decided by the machine alone.
    alone = all(r.kind != "correction" for r in first.reasons)
    return {
        "id": tip.message_id or tip.tip_id,
        "text": tip.text,
        "ts": tip.reported_at or tip.received_at,
        "occurred_at": tip.occurred_at,
        "channel": tip.channel,
        "source": tip.source,
        "reporter_id": tip.reporter,
        "place_text": tip.place.text if tip.place else None,
        "lat": tip.place.lat if tip.place else None,
        "lon": tip.place.lon if tip.place else None,
        **_answer(last),
        "machine": _answer(first) if alone else None,
        "corrections": said,
    }


def _answer(decision: Decision) -> dict[str, Any]:
    return {
        "category": decision.category,
        "subtype": decision.subtype,
        "urgent": decision.urgent,
        "area": decision.area,
        "incident_id": decision.incident_id,
    }
