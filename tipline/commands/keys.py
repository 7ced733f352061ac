"""`tipline keys`: the keys that seal identities."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from tipline.commands.options import local

if TYPE_CHECKING:
    from tipline.settings import Settings


@click.group("keys")
def keys() -> None:
    """The keys that seal identities and make pseudonyms, tokens and receipts.

    Example: tipline keys init --data ./data
    """


@keys.command("init")
@local
def init(settings: Settings) -> None:
    """Makes the keyring (mode 0600) where there is none, and says where it is. Back it up apart from the data.

    Example: tipline keys init --data ./data
    """
    from tipline.store import Store

    store = Store(settings)
    existed = store.keyring_path.exists()
    ring = store.keyring
    click.echo(f"{store.keyring_path}: {'kept' if existed else 'made'}, active key {ring.active}")


@keys.command("rotate")
@local
def rotate(settings: Settings) -> None:
    """Makes a new active sealing key; what the older ones sealed stays readable. A running service opens what it seals
    at once, and seals with it from its next start on.

    Example: tipline keys rotate --data ./data
    """
    from producers.keyring import write_keyring
    from tipline.store import DATABASES, Store, entropy

    keys_file = str(Path(settings.keys).absolute()) if settings.keys else "keys.json"
    store = Store(settings, create=False, files=(keys_file, *DATABASES))
    ring = store.keyring.rotate(entropy)
    write_keyring(store.keyring_path, ring, replace=True)
    click.echo(f"{store.keyring_path}: active key {ring.active}, {len(ring.ids)} in all")
    click.echo("a running service opens at once what this key seals; restart it to seal new tips with it", err=True)
