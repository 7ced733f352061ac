"""`tipline keys`: the keys that seal identities."""

from __future__ import annotations

import click

from tipline.commands.options import data_option


@click.group("keys")
def keys() -> None:
    """The keys that seal identities and make pseudonyms, tokens and receipts.

    Example: tipline keys init --data ./data
    """


@keys.command("init")
@data_option
def init(data: str | None) -> None:
    """Makes the keyring (mode 0600) where there is none, and says where it is. Back it up apart from the data.

    Example: tipline keys init --data ./data
    """
    from tipline.settings import effective
    from tipline.store import Store

    store = Store(effective({"data": data}))
    existed = store.keyring_path.exists()
    ring = store.keyring
    click.echo(f"{store.keyring_path}: {'kept' if existed else 'made'}, active key {ring.active}")


@keys.command("rotate")
@data_option
def rotate(data: str | None) -> None:
    """Makes a new active sealing key; what the older ones sealed stays readable. Restart `serve` to use it.

    Example: tipline keys rotate --data ./data
    """
    from producers.keyring import write_keyring
    from tipline.settings import effective
    from tipline.store import Store, entropy

    store = Store(effective({"data": data}), create=False)
    ring = store.keyring.rotate(entropy)
    write_keyring(store.keyring_path, ring, replace=True)
    click.echo(f"{store.keyring_path}: active key {ring.active}, {len(ring.ids)} in all")
