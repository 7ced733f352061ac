"""`tipline backup` and `tipline restore`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from tipline.commands.options import local
from tipline.commands.progress import bar

if TYPE_CHECKING:
    from tipline.settings import Settings

_DIRECTORY = click.Path(file_okay=False, path_type=Path)
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command("backup")
@click.argument("target", type=_DIRECTORY)
@local
@click.option("--with-keys", is_flag=True, help="The keys too: then whoever has the backup can open the identities.")
def backup(target: Path, settings: Settings, with_keys: bool) -> None:
    """Copies the store to the new directory TARGET, also while `serve` runs: tables, log, models, webhooks and a manifest
    with the hash of each file. Keys stay out unless asked for; keep them elsewhere, for without them what is sealed stays sealed.

    Example: tipline backup backups/2026-11-24 --data ./data
    """
    from importlib.metadata import version

    from tipline.backup import BadBackup
    from tipline.backup import backup as make
    from tipline.store import Store, now_ms

    store = Store(settings, create=False)
    if store.settings.database:
        raise BadBackup(
            "TIPLINE_DATABASE names a database of its own: back it up with its own tools (pg_dump), then this command "
            "without the variable for the log"
        )
    keys = store.keyring_path if with_keys else None
    with bar("copying", 3) as advance:
        made = make(store.path, target, now=now_ms(), version=version("tipline"), keys=keys, progress=advance)
    size = sum(file.bytes for file in made.files.values())
    click.echo(f"{target}: {len(made.files)} files, {size / 1e6:.1f} MB, {'with' if with_keys else 'without'} the keys")


@click.command("restore")
@click.argument("source", type=click.Path(exists=True, file_okay=False, path_type=Path))
@local
@click.option("--keys", metavar="FILE", type=_FILE, help="The keys, where the backup was made without them.")
@click.option("--without-verify", is_flag=True, help="Leave out checking the restored store: take it with what the check finds.")
def restore(source: Path, settings: Settings, keys: Path | None, without_verify: bool) -> None:
    """Makes a store of the backup SOURCE in a new or empty --data directory, and checks it as `tipline verify` does. A file
    that is not what was written stops it. Exit 1 when the check finds something; whatever stops it, nothing is left. A restored store calls no station's system
    and no reporter before `tipline webhook resume`, since the one it is a copy of may be at work.

    Example: tipline restore backups/2026-11-24 --data ./restored --keys keys.json
    """
    from producers.hooks import FILE_NAME
    from tipline.backup import restore as make
    from tipline.commands.verify import check_store, show
    from tipline.settings import override
    from tipline.store import Store

    def whole(draft: Path) -> bool:
        store = Store(override(settings, data=str(draft)), create=False)
        try:
            # The copy's log may know more than its tables: `serve` decides that at its start.
            report = check_store(store, allow_lag=True)
        finally:
            store.close()
        show(report)
        return report.ok

    asked = {} if without_verify else {"whole": whole}
    with bar("restoring", 2) as advance:
        made = make(source, Path(settings.data), keys=keys, progress=advance, **asked)
    click.echo(f"{settings.data}: the store of {made.made_at}")
    if not made.with_keys and keys is None:
        click.echo("the backup holds no keys: put keys.json there before you start `tipline serve`", err=True)
    if FILE_NAME in made.files:
        click.echo(
            "its outgoing webhooks are paused. If it takes the old store's place, once that one no longer runs: "
            f"tipline webhook resume --data {settings.data}",
            err=True,
        )
