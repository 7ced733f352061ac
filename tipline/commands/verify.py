"""`tipline verify`: does the store hold what it must hold?"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tipline.commands.options import json_option, local

if TYPE_CHECKING:
    from schemas.records import Decision
    from streams.pipeline import Fold
    from tipline.settings import Settings
    from tipline.store import Store
    from tipline.verify import Report

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command("verify")
@local
@click.option(
    "--ledger", metavar="FILE", type=_FILE, help="What clients were told: NDJSON of outcome, source, message_id."
)
@click.option("--canary", metavar="FILE", type=_FILE, help="Words, one a line, that must stand nowhere in the data.")
@click.option("--allow-lag", is_flag=True, help="Tips that still wait for their decision are no fault.")
@click.option("--without-replay", is_flag=True, help="Leave out deciding the whole log again.")
@json_option
def verify(
    settings: Settings,
    ledger: Path | None,
    canary: Path | None,
    allow_lag: bool,
    without_replay: bool,
    as_json: bool,
) -> None:
    """Checks the whole store: every accepted tip decided or a dead letter, once; nothing without input; one open assignment
    an incident, moved by legal moves only; figures equal to a recount; the audit chain whole; the log decided again
    alike. Reads only, also while `serve` runs. Exit 1 when something is found.

    Example: tipline verify --data ./data --ledger ledger.ndjson --canary phones.txt
    """
    from tipline.store import Store

    store = Store(settings, create=False)
    report = check_store(store, ledger=ledger, canary=canary, allow_lag=allow_lag, replay=not without_replay)
    if as_json:
        import msgspec

        click.echo(msgspec.json.encode({"ok": report.ok, **msgspec.to_builtins(report)}).decode())
    else:
        show(report)
    sys.exit(0 if report.ok else 1)


def check_store(
    store: Store,
    *,
    ledger: Path | None = None,
    canary: Path | None = None,
    allow_lag: bool = False,
    replay: bool = True,
) -> Report:
    """Every check on an embedded store. Raises NoStore when there is none, BadLedger."""
    from schemas.times import parse_offset
    from tipline.store import NoStore
    from tipline.verify import Replay, read_ledger
    from tipline.verify import verify as run

    for name in ("intake.db", "work.db"):
        if not store.path.joinpath(name).exists() and not (name == "work.db" and store.settings.database):
            raise NoStore(f"{store.path}: holds no store ({name} is missing). Name the directory with --data")
    bundles = store.bundles()
    offsets = {b["county"]["id"]: parse_offset(b["county"]["utc_offset"]) for b in bundles}
    words = [line for line in canary.read_text("utf-8").splitlines() if line.strip()] if canary else None
    try:
        return run(
            store.engine,
            store.intake,
            offsets=offsets,
            replay=Replay(lambda county, recall: _fold(store, county, recall)) if replay else None,
            ledger=read_ledger(ledger) if ledger else None,
            allow_lag=allow_lag,
            scan=(store.path, words) if words is not None else None,
        )
    except ValueError as error:
        raise click.UsageError(f"--canary {canary}: {error}") from None


def _fold(store: Store, county: str, recall: Callable[[str], Decision | None]) -> Fold:
    """The fold as it was when the county's first tip came."""
    from streams.pipeline import Fold
    from tipline.model import load_model
    from tipline.verify import first_changes

    first = first_changes(store.intake, county)
    given = first["county"].bundle if "county" in first else None
    bundle = given or next(b for b in store.bundles() if b["county"]["id"] == county)
    model = store.model(first["model"].digest) if "model" in first else load_model()
    return Fold(bundle, model, recall, store.model)


def show(report: Report) -> None:
    """The report in words: a line a check, then each finding with its first examples."""
    wrong = {finding.check for finding in report.findings}
    for name in report.checks:
        click.echo(f"{'FAIL' if name in wrong else 'ok':4}  {name:12}  {_WORDS[name]}")
    click.echo(", ".join(f"{name.replace('_', ' ')} {n}" for name, n in report.facts.items()))
    for finding in report.findings:
        click.echo(f"\n{finding.check}: {finding.where}: {finding.what} ({finding.count})", err=True)
        for example in finding.examples:
            click.echo(f"    {example}", err=True)


_WORDS = {
    "accepted": "each accepted tip is in the log once, and decided or a dead letter",
    "ledger": "what clients were told is what the log holds",
    "revisions": "revisions and numbers without a gap; the tables show the latest",
    "phantoms": "no output without its input",
    "sums": "what is kept of large incidents equals a recount of their tips",
    "assignments": "each incident on one queue, never on two",
    "moves": "legal moves only, and the queue is where they lead",
    "streams": "each station's stream of events without a gap",
    "statistics": "the figures equal a recount of the log",
    "audit": "the audit chain is whole",
    "replay": "the log decided again gives the same decisions",
    "identities": "no known identity stands in the clear",
}
