"""`tipline doctor`: is this installation well?"""

from __future__ import annotations

import platform
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import click

from schemas.errors import TiplineError
from tipline.commands.options import json_option, local

if TYPE_CHECKING:
    from tipline.settings import Settings
    from tipline.store import Store


T = TypeVar("T")


class Finding(NamedTuple):
    """One check: `level` is ok, warn or fail."""

    check: str
    level: str
    detail: str
    hint: str = ""


@click.command("doctor")
@local
@json_option
def doctor(settings: Settings, as_json: bool) -> None:
    """Checks versions, disk, clock, county directory, keys, model, Kafka (with TIPLINE_LOG), databases and the audit chain. Exit 1
    when one fails, or when the directory that --data or TIPLINE_DATA names is not there.

    Example: tipline doctor --data ./data
    """
    import orjson

    from tipline.store import Store

    machine: list[Callable[[Settings], Finding]] = [_python, _county, _model]
    #: These make nothing, also in a directory that holds no store yet.
    files: list[Callable[[Store], Finding]] = [_disk, _files, _keys, _webhooks]
    stored: list[Callable[[Store], Finding]] = [
        _clock, _intake, *([_kafka] if settings.log else []), _database, _lag, _audit, _dead_letters,
    ]  # fmt: skip
    findings = [_made(check, settings) for check in machine]
    there = Path(settings.data).is_dir()
    if settings.log or there:
        store = Store(settings)
        findings += [_made(check, store) for check in files]
        if settings.log or store.holds():
            findings += [_made(check, store) for check in stored]
    if not settings.log and not (there and store.holds()):
        findings.append(_no_store(settings, there))
    if as_json:
        click.echo(orjson.dumps([f._asdict() for f in findings]).decode())
    else:
        for f in findings:
            click.echo(f"{f.level:4}  {f.check:12}  {f.detail}" + (f"\n      {'':12}  -> {f.hint}" if f.hint else ""))
    sys.exit(1 if any(f.level == "fail" for f in findings) else 0)


def _made(check: Callable[[T], Finding], of: T) -> Finding:
    try:
        return check(of)
    except TiplineError as error:  # which says what to do
        return Finding(check.__name__.strip("_"), "fail", str(error))
    except Exception as error:  # a check that cannot be made is a finding, not an end
        return Finding(check.__name__.strip("_"), "fail", f"{type(error).__name__}: {error}"[:300])


def _no_store(settings: Settings, there: bool) -> Finding:
    """None yet is no fault, but a directory that was named should be there."""
    from tipline.store import no_directory

    path = Path(settings.data)
    if path.exists() and not there:
        words, _, hint = no_directory(path).partition(". ")
        return Finding("store", "fail", f"{settings.data}: {words}", hint)
    words = "holds no store yet" if there else "there is no such data directory"
    hint = f"`tipline serve --data {settings.data}` makes it; or name another with --data or TIPLINE_DATA"
    lost = not there and settings.data != type(settings)().data
    return Finding("store", "fail" if lost else "warn", f"{settings.data}: {words}", hint)


def _python(_: Settings) -> Finding:
    return Finding("python", "ok", f"{platform.python_version()} on {platform.system()} {platform.machine()}")


def _disk(store: Store) -> Finding:
    free = shutil.disk_usage(store.path).free
    level = "ok" if free > 1 << 30 else "warn" if free > 100 << 20 else "fail"
    return Finding(
        "disk",
        level,
        f"{free / (1 << 30):.1f} GiB free at {store.path}",
        "" if level == "ok" else "make room: a full disk answers 503",
    )


def _files(store: Store) -> Finding:
    """Texts, titles and sealed identities are for the account that runs tipline alone."""
    names = ("intake.db", "work.db", "keys.json", "webhooks.json")
    others = [name for name in names if (path := store.path / name).exists() and path.stat().st_mode & 0o077]
    if others:
        paths = " ".join(str(store.path / name) for name in others)
        return Finding("files", "fail", f"readable by others: {', '.join(others)}", f"chmod 600 {paths}")
    return Finding("files", "ok", "readable by their owner alone")


def _clock(store: Store) -> Finding:
    from schemas.codec import decode_input
    from schemas.records import Tip
    from schemas.times import format_time, parse_time
    from tipline.store import now_ms

    now, newest = now_ms(), 0
    for county in store.intake.counties():
        for row in store.intake.read(county, max(0, store.intake.end(county) - 1), 1):
            record = decode_input(row.value)
            newest = max(newest, parse_time(record.received_at)) if isinstance(record, Tip) else newest
    if newest > now + 60_000:
        return Finding(
            "clock",
            "fail",
            f"{format_time(now)} is before the last accepted tip ({format_time(newest)})",
            "set the machine's clock, best by NTP",
        )
    return Finding("clock", "ok", format_time(now))


def _county(settings: Settings) -> Finding:
    from tipline.store import bundles_at

    bundles = bundles_at(settings)
    words = ", ".join(f"{b['county']['id']} ({len(b['stations']['stations'])} stations)" for b in bundles)
    return Finding("county", "ok", words)


def _model(_: Settings) -> Finding:
    from tipline.model import load_model

    model = load_model()
    return Finding("model", "ok", f"{model.digest[:12]}, trained on {model.meta.get('examples', '?')} texts")


def _knows_its_keys(store: Store) -> bool:
    from sinks.database import reading
    from tipline.keymark import known_mark

    with reading(store.engine) as connection:
        return known_mark(connection) is not None


def _keys(store: Store) -> Finding:
    if not store.keyring_path.exists():
        if not store.settings.log and store.has_database and _knows_its_keys(store):
            lost = "gone, and nothing that is sealed here opens without them"
            return Finding("keys", "fail", f"{store.keyring_path}: {lost}", "put back the keys that this store was written under")
        return Finding(
            "keys",
            "warn",
            f"{store.keyring_path}: none yet",
            "`tipline keys init` makes them; `serve` does so at its first start",
        )
    ring = store.keyring
    if not store.settings.log and store.holds():
        from tipline.keymark import check_keys

        check_keys(store)
    return Finding("keys", "ok", f"{len(ring.ids)} key(s), active {ring.active}")


def _webhooks(store: Store) -> Finding:
    from producers.hooks import FILE_NAME, HookFile
    from tipline.outside import trusting

    trusting(store.settings.webhook_ca)
    path = store.path / FILE_NAME
    if not path.exists():
        return Finding("webhooks", "ok", "none")
    if not store.keyring_path.exists():
        return Finding("webhooks", "fail", f"{store.keyring_path} is missing, and without it none opens", "put it back")
    hooks = HookFile(path, store.keyring)
    if shut := hooks.unopened():
        hint = "put back the keyring that sealed them, or make them anew: tipline webhook add ... --replace"
        return Finding("webhooks", "fail", f"not opened by {store.keyring_path}: {', '.join(shut)}", hint)
    if hooks.paused():
        words = f"{len(hooks.listed())}, outgoing ones paused: no station's system and no reporter is told anything"
        hint = f"once this store is the one that works: tipline webhook resume --data {store.path}"
        return Finding("webhooks", "warn", words, hint)
    return Finding("webhooks", "ok", f"{len(hooks.listed())}, each opens")


def _intake(store: Store) -> Finding:
    counts = {county: store.intake.end(county) for county in store.intake.counties()}
    return Finding("intake", "ok", ", ".join(f"{c} up to position {n}" for c, n in counts.items()) or "empty")


def _kafka(store: Store) -> Finding:
    from streams.distributed.topics import read_layout, refuse_later
    from tipline.distributed import keys_of_log, servers
    from tipline.store import NoDatabase

    layout = read_layout(servers(store))
    try:
        bundles = store.bundles()
    except NoDatabase:  # a finding of its own
        bundles = []
    for bundle in bundles:
        layout.partition(bundle["county"]["id"])
    refuse_later(servers(store), layout)
    if store.keyring_path.exists():
        keys_of_log(store, layout)
    return Finding("kafka", "ok", f"{', '.join(servers(store))}, counties: {', '.join(sorted(layout.partitions))}")


def _database(store: Store) -> Finding:
    from sinks.database import reading, version
    from tipline.distributed import same_keys

    if store.settings.log and store.keyring_path.exists():
        same_keys(store)
    with reading(store.engine) as connection:
        return Finding("database", "ok", f"{store.engine.dialect.name}, version {version(connection)}")


def _lag(store: Store) -> Finding:
    from sinks.database import reading
    from sinks.sink import undecided

    ends = _ends(store)
    with reading(store.engine) as connection:
        waiting = sum(undecided(connection, county, end) for county, end in ends.items())
    return Finding(
        "lag",
        "ok" if waiting < 1000 else "warn",
        f"{waiting} record(s) not yet decided",
        "" if waiting < 1000 else "do the workers and the sink run?" if store.settings.log else "is `serve` running?",
    )


def _ends(store: Store) -> dict[str, int]:
    """The last position of each county's input."""
    if not store.settings.log:
        return {county: store.intake.end(county) for county in store.intake.counties()}
    from schemas.topics import TIPS
    from streams.distributed.past import ends_of
    from streams.distributed.topics import read_layout
    from tipline.distributed import servers

    known = read_layout(servers(store)).partitions
    ends = ends_of(servers(store), TIPS, known.values())
    return {county: ends[partition] for county, partition in known.items()}


def _audit(store: Store) -> Finding:
    from sinks.audit import verify
    from sinks.database import reading

    with reading(store.engine) as connection:
        broken = verify(connection)
    return (
        Finding("audit", "fail", broken, "compare with the last backup: somebody changed the table")
        if broken
        else Finding("audit", "ok", "the chain is whole")
    )


def _dead_letters(store: Store) -> Finding:
    from sinks.database import reading
    from sinks.dead_letters import listed

    with reading(store.engine) as connection:
        kept = len(listed(connection, limit=1000))
    return Finding(
        "dead letters", "warn" if kept else "ok", f"{kept} kept", "`tipline dead-letters list`" if kept else ""
    )
