"""The store of one installation: its data directory, opened. Shared by `serve` and the local commands."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from schemas.errors import BadCounty, TiplineError, Unavailable
from tipline.settings import BadSettings, Settings, counties_of, names_county

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from producers.keyring import Keyring
    from streams.embedded.intake import SqliteIntake
    from streams.ports import Bundle, Sealed
    from streams.stages.classify import Model


#: Where the counties are from: named by the settings, in force by records of the store, or packaged.
Origin = Literal["settings", "store", "package"]


def now_ms() -> int:
    """The clock: ms since 1970."""
    return time.time_ns() // 1_000_000


entropy = secrets.token_bytes


#: What a store begins with: `token create` makes the first, `serve` both.
DATABASES: Final = ("work.db", "intake.db")


class NoStore(TiplineError):
    """The data directory is missing or holds no store; the message says how to make one."""


class NoDatabase(TiplineError):
    """No database answers; the message has the address and what to check."""


class Store:
    """Opens what is asked for, once each; `close` closes it."""

    def __init__(self, settings: Settings, *, create: bool = True, files: Sequence[str] = DATABASES) -> None:
        """Raises NoStore when the directory cannot be made; with `create` false also when it holds none of `files`, and
        makes nothing. On Kafka nothing of worth is in it but at a gateway, so that any will do and is made."""
        self.settings = settings
        self.path = Path(settings.data)
        self._engine: Engine | None = None
        self._intake: SqliteIntake | None = None
        self._keyring: Keyring | None = None
        self._keys_seen: tuple[int, int, int] | None = None
        self._held: int | None = None
        if self.path.exists() and not self.path.is_dir():
            raise NoStore(f"{self.path}: {no_directory(self.path)}")
        if not create and not settings.log and not self.holds(files):
            words = f"holds no store ({' or '.join(files)} is missing)" if self.path.is_dir() else "there is no such data directory"
            raise NoStore(
                f"{self.path}: {words}. Start `tipline serve --data {self.path}` once, or name another with --data or TIPLINE_DATA"
            )
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)  # it holds people's words and numbers
        except OSError as error:
            raise NoStore(
                f"{self.path}: cannot be made ({error.strerror}). Choose a directory that you may write, with --data or TIPLINE_DATA"
            ) from None

    def holds(self, files: Sequence[str] = DATABASES) -> bool:
        """Whether a store, or one of these files of it, is in the directory; with a database elsewhere any directory is one."""
        return self.path.is_dir() and (bool(self.settings.database) or any(self.path.joinpath(name).exists() for name in files))

    def hold(self) -> None:
        """Makes this process the only one that decides here, until it closes the store or ends in whatever way.

        Raises NoStore when another does: two would decide the same records, each from a state of its own.
        """
        import fcntl

        descriptor = os.open(self.path / "serve.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 20).decode("ascii", "replace").strip()
            os.close(descriptor)
            raise NoStore(
                f"{self.path}: is served already, by process {holder}. Stop that one, or name another directory with --data"
            ) from None
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        self._held = descriptor

    @property
    def database_url(self) -> str:
        """SQLAlchemy URL of the work database."""
        return self.settings.database or f"sqlite:///{self.path / 'work.db'}"

    @property
    def engine(self) -> Engine:
        """The work database, migrated to this version. Raises NoDatabase where a server's does not answer."""
        if self._engine is None:
            from sqlalchemy.exc import SQLAlchemyError

            from sinks.database import migrate, open_database

            if not self.settings.database:
                from streams.embedded.intake import make_private

                make_private(self.path / "work.db")
            try:
                engine = open_database(_in_bounded_time(self.database_url))
            except (ValueError, SQLAlchemyError) as error:
                raise BadSettings(
                    "TIPLINE_DATABASE: is no database of ours; write it like postgresql+psycopg://user@host/name"
                ) from error
            try:
                migrate(engine)
            except BaseException as error:
                engine.dispose()
                if isinstance(error, Unavailable) and engine.dialect.name != "sqlite":
                    raise NoDatabase(
                        f"no database answers at {_shown(self.database_url)} ({error}): check that it runs, that TIPLINE_DATABASE names it, and its user and password"
                    ) from None
                raise
            self._engine = engine
        return self._engine

    @property
    def intake(self) -> SqliteIntake:
        """The log `tips`."""
        if self._intake is None:
            from streams.embedded.intake import SqliteIntake

            self._intake = SqliteIntake(self.path / "intake.db", max_bytes=self.settings.max_bytes or None)
        return self._intake

    @property
    def keyring_path(self) -> Path:
        """Where the keys are."""
        return Path(self.settings.keys) if self.settings.keys else self.path / "keys.json"

    @property
    def keyring(self) -> Keyring:
        """The keys; made at the first call of a store that has none yet."""
        if self._keyring is None:
            from producers.keyring import BadKeyring, Keyring, read_keyring, write_keyring

            path = self.keyring_path
            if not path.exists():
                if self.path.joinpath("intake.db").exists() and self.intake.has_tips():
                    raise NoStore(
                        f"{path}: the keys of this store are missing, and without them nothing sealed can be opened. Put the file back, or name it with TIPLINE_KEYS"
                    )
                try:
                    write_keyring(path, Keyring.create(entropy))
                except BadKeyring:
                    if not path.exists():
                        raise
                    # Another process was quicker: its keys count.
            self._keys_seen = _seen(path)
            self._keyring = read_keyring(path)
        return self._keyring

    def renewed_keyring(self) -> Keyring:
        """The keys as their file has them now, for who meets a key that `keyring` does not know: `keys rotate` was run
        beside this process. A file that is no keyring, or another installation's, changes nothing."""
        from producers.keyring import BadKeyring, read_keyring

        known, seen = self.keyring, _seen(self.keyring_path)
        if seen is not None and seen != self._keys_seen:
            try:
                found = read_keyring(self.keyring_path)
            except BadKeyring:
                return known  # whoever asked says what does not open
            self._keys_seen = seen
            if found.same_installation(known):
                self._keyring = known = found
        return known

    def open_sealed(self, name: str, sealed: Sealed) -> str:
        """What was sealed under `name` here or by another process, also with a key made since. Raises CannotOpen."""
        known = sealed.key_id in self.keyring.ids
        return (self.keyring if known else self.renewed_keyring()).open_sealed(name, sealed)

    def model_path(self, digest: str) -> Path:
        """Where a model that was in force is kept, for replay."""
        return self.path / "models" / f"{digest}.npz"

    def keep_model(self, data: bytes, digest: str) -> None:
        """Keeps a model's file in the store."""
        path = self.model_path(digest)
        if path.exists():
            return
        path.parent.mkdir(exist_ok=True)
        draft = path.with_suffix(f".{os.getpid()}.tmp")
        draft.write_bytes(data)
        draft.replace(path)

    def model(self, digest: str) -> Model:
        """A model by its digest: kept in the store, or the packaged one. Raises LookupError."""
        from streams.stages.classify import Model
        from tipline.model import load_model

        packaged = load_model()
        if packaged.digest == digest:
            return packaged
        path = self.model_path(digest)
        if not path.exists():
            raise LookupError(f"the model {digest[:12]} that these decisions were made with is not in {path.parent}")
        return Model(path.read_bytes())

    @property
    def has_database(self) -> bool:
        """Whether there is a work database already."""
        return bool(self.settings.database) or (not self.settings.log and (self.path / "work.db").exists())

    @property
    def has_log(self) -> bool:
        """Whether there is a log already, here and not on Kafka."""
        return (self.path / "intake.db").exists()

    def counties(self) -> tuple[list[Bundle], Origin]:
        """The counties and where they are from. A default never overrides what a record has put in force.

        Raises BadCounty with every mistake in the directories that the settings name.
        """
        if names_county(self.settings):
            return bundles_of(self.settings), "settings"
        from tipline.in_force import in_force

        found = [one.bundle for one in in_force(self).values() if one.bundle is not None]
        return (found, "store") if found else (bundles_of(self.settings), "package")

    def bundles(self) -> list[Bundle]:
        """The counties alone. Raises BadCounty."""
        return self.counties()[0]

    def close(self) -> None:
        """Closes what was opened."""
        if self._intake is not None:
            self._intake.close()
        if self._engine is not None:
            self._engine.dispose()
        if self._held is not None:
            os.close(self._held)
            self._held = None


def no_directory(path: Path) -> str:
    """What to say of a file where a store's directory should be."""
    near = path.parent if any(path.parent.joinpath(name).exists() for name in DATABASES) else None
    instead = f"The store is {near}: --data {near}" if near else "Name the store's directory, with --data or TIPLINE_DATA"
    return f"is a file, and a store is a directory. {instead}"


def _seen(path: Path) -> tuple[int, int, int] | None:
    """What tells one state of a file from the next."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _in_bounded_time(database: str) -> str:
    """A server that does not answer is given up on after some seconds, where the URL does not say how many."""
    from sqlalchemy import make_url

    url = make_url(database)
    if url.get_backend_name() == "postgresql" and "connect_timeout" not in url.query:
        url = url.update_query_dict({"connect_timeout": "3"})
    return url.render_as_string(hide_password=False)


def _shown(database: str) -> str:
    """The URL without its password."""
    from sqlalchemy import make_url

    return make_url(database).render_as_string()


def bundles_at(settings: Settings) -> list[Bundle]:
    """The counties as a store over these settings has them; none is made. Raises BadCounty."""
    if names_county(settings) or not (settings.database if settings.log else Path(settings.data).is_dir()):
        return bundles_of(settings)
    store = Store(settings)
    try:
        return store.bundles()
    finally:
        store.close()


def bundles_of(settings: Settings) -> list[Bundle]:
    """The county directories of the settings, loaded and checked. Raises BadCounty with every mistake of all of them."""
    from tipline.county import find_county, load_county

    bundles: list[Bundle] = []
    mistakes: list[str] = []
    for name in counties_of(settings):
        try:
            bundles.append(load_county(find_county(name)))
        except BadCounty as error:
            mistakes += error.mistakes
    if mistakes:
        raise BadCounty(mistakes)
    ids = [bundle["county"]["id"] for bundle in bundles]
    if len(set(ids)) != len(ids):
        raise BadCounty([f"two county directories have the same id ({', '.join(ids)}): give --county each only once"])
    return bundles
