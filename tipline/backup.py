"""Backup and restore of an embedded store, while it is at work.

The tables are copied before the log: a copy's log may know more than its tables, never less, and what it knows more is
decided when the copy is started. Keys are left out unless they are asked for: whoever holds both holds the identities.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Final

import msgspec

from producers.hooks import FILE_NAME as WEBHOOKS
from producers.hooks import pause_file
from schemas.errors import TiplineError
from schemas.times import format_time
from tipline.keymark import check_files

#: In this order: see above.
DATABASES: Final = ("work.db", "intake.db")
MANIFEST: Final = "manifest.json"
KEYS: Final = "keys.json"
MODELS: Final = "models"
FORMAT: Final = 1

_BLOCK: Final = 1 << 20


class BadBackup(TiplineError):
    """The backup is damaged or none, or there is no room for it where it should go; the message says which."""


class NotWhole(TiplineError):
    """The restored store does not stand its check."""

    exit_code = 1


class File(msgspec.Struct, frozen=True):
    """One file of a backup."""

    sha256: str
    bytes: int


class Manifest(msgspec.Struct, frozen=True):
    """What a backup holds: every file by its name, with its hash."""

    format: int
    made_at: str
    tipline: str
    with_keys: bool
    files: dict[str, File]


def backup(
    data: Path, target: Path, *, now: int, version: str, keys: Path | None, progress: Callable[[], None] = lambda: None
) -> Manifest:
    """Copies the store in `data` to the new directory `target`; `keys` is the keyring's file, None to leave it out.

    Writers are not held up. `target` appears whole or not at all. Raises BadBackup.
    """
    for name in DATABASES:
        if not data.joinpath(name).exists():
            raise BadBackup(f"{data}: holds no store ({name} is missing). Name its directory with --data")
    if data.resolve() in target.resolve().parents:
        raise BadBackup(f"{target}: lies in the data directory {data}, and would be lost with it. Name one outside, best on another disk")
    with _appearing(target) as draft:
        for name in DATABASES:
            _copy_database(data / name, draft / name)
            progress()
        for model in sorted(data.joinpath(MODELS).glob("*.npz")):
            _copy(model, draft / MODELS / model.name)
        if data.joinpath(WEBHOOKS).exists():  # its secrets are sealed
            _copy(data / WEBHOOKS, draft / WEBHOOKS, mode=0o600)
        if keys is not None:
            _copy(keys, draft / KEYS, mode=0o600)
        progress()
        manifest = Manifest(FORMAT, format_time(now), version, keys is not None, _hashes(draft))
        _write(draft / MANIFEST, msgspec.json.format(msgspec.json.encode(manifest)) + b"\n")
    return manifest


def restore(
    source: Path,
    data: Path,
    *,
    keys: Path | None = None,
    whole: Callable[[Path], bool] = lambda _: True,
    progress: Callable[[], None] = lambda: None,
) -> Manifest:
    """Makes a store of the backup `source` in `data`, which must be new or empty; `keys` where the backup has none. It calls
    nobody until somebody says so: the store that it is a copy of may be at work.

    `whole` looks at the store before it becomes `data`. Raises NotWhole when that says no, BadBackup, OtherKeys, BadKeyring
    and what `whole` raises: nothing is left then.
    """
    manifest = read_manifest(source)
    check(source, manifest)
    progress()
    with _appearing(data) as draft:
        for name in manifest.files:
            _copy(source / name, draft / name, mode=0o600 if name in (KEYS, WEBHOOKS, *DATABASES) else 0o644)
        if pause_file(draft / WEBHOOKS):
            _sync(draft / WEBHOOKS)
        if keys is not None:
            _copy(keys, draft / KEYS, mode=0o600)
        if keys is not None or KEYS in manifest.files:
            try:
                check_files(draft, keys or source / KEYS)
            except sqlite3.Error as error:
                raise BadBackup(f"{source}: holds no databases of ours ({error}). Use another backup") from None
        if not whole(draft):
            raise NotWhole(
                f"{source}: the check found what stands above, and nothing was restored. Use another backup, or take this one as it is: --without-verify"
            )
        progress()
    return manifest


def read_manifest(source: Path) -> Manifest:
    """What the backup says it holds. Raises BadBackup."""
    try:
        manifest = msgspec.json.decode(source.joinpath(MANIFEST).read_bytes(), type=Manifest)
    except (OSError, msgspec.ValidationError, msgspec.DecodeError) as error:
        raise BadBackup(f"{source}: is no backup of ours ({MANIFEST}: {type(error).__name__})") from None
    if manifest.format > FORMAT:
        raise BadBackup(f"{source}: was made by a later tipline ({manifest.tipline}): use that one")
    outside = [name for name in manifest.files if Path(name).is_absolute() or ".." in Path(name).parts]
    missing = [name for name in DATABASES if name not in manifest.files]
    if outside or missing:
        raise BadBackup(f"{source}: its {MANIFEST} is not whole ({', '.join(outside + missing)})")
    return manifest


def check(source: Path, manifest: Manifest) -> None:
    """Raises BadBackup for a file that is missing, or is not what was written."""
    for name, file in manifest.files.items():
        path = source / name
        if not path.is_file() or path.is_symlink():
            raise BadBackup(f"{path}: is missing. Use another backup")
        if _hash(path) != file:
            raise BadBackup(f"{path}: is damaged (its hash is not the one that was written). Use another backup")


def _copy_database(source: Path, target: Path) -> None:
    """A consistent copy of a database that others may be writing to, as one file."""
    try:
        with (
            closing(sqlite3.connect(f"file:{source}?mode=ro", uri=True, timeout=30)) as here,
            closing(sqlite3.connect(target)) as there,
        ):
            # All pages in one step: one snapshot, which in WAL mode holds no writer up. In several steps a busy
            # database would make it start again and again.
            here.backup(there, pages=-1)
            there.execute("PRAGMA journal_mode = DELETE")
            damage = there.execute("PRAGMA quick_check(1)").fetchone()[0]
    except sqlite3.Error as error:
        raise BadBackup(f"{source}: cannot be copied ({type(error).__name__}: {error})") from None
    if damage != "ok":
        raise BadBackup(f"{source}: is damaged ({damage}). Restore the last good backup")
    target.chmod(0o600)
    _sync(target)


@contextmanager
def _appearing(target: Path) -> Iterator[Path]:
    """A directory to fill, which becomes `target` when all went well and is gone when not. Raises BadBackup."""
    if target.is_symlink() or (target.exists() and (not target.is_dir() or any(target.iterdir()))):
        raise BadBackup(f"{target}: is not empty. Name a new directory: nothing is ever overwritten")
    target = target.absolute()
    draft = target.with_name(f".{target.name}.{os.getpid()}.part")
    above = [folder for folder in target.parents if not folder.exists()]
    try:
        with _ended_in_order():
            target.parent.mkdir(parents=True, exist_ok=True)
            draft.mkdir(mode=0o700)
            yield draft
            _sync(draft)
            if target.exists():
                target.rmdir()
            draft.rename(target)
            _sync(target.parent)
    except OSError as error:
        raise BadBackup(f"{target}: {error.strerror}. Is there room, and may you write there?") from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)
        with suppress(OSError):  # what was made for it, and is still empty
            for folder in above:
                folder.rmdir()


@contextmanager
def _ended_in_order() -> Iterator[None]:
    """SIGTERM leaves as Ctrl-C does, so that what is half made goes too."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(*_: object) -> None:
        raise SystemExit(128 + signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _copy(source: Path, target: Path, mode: int = 0o644) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    target.chmod(mode)
    _sync(target)


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    _sync(path)


def _sync(path: Path) -> None:
    """What is written must survive a power cut, directories' entries too."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _hashes(folder: Path) -> dict[str, File]:
    return {str(path.relative_to(folder)): _hash(path) for path in sorted(folder.rglob("*")) if path.is_file()}


def _hash(path: Path) -> File:
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
            size += len(block)
    return File(digest.hexdigest(), size)
