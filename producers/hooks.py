"""The secrets that webhooks prove themselves by, one for each kind and source, kept sealed in a file of the store.

Most are senders that call us (and may give us a way back for replies); of the kind `station` are stations' own systems,
which we call.

A signature can be checked only by who knows the secret itself, so a digest (as for tokens) is not enough: the secrets
are sealed with the keyring, bound to their kind and source. The file alone gives nothing, and an entry copied to another
source does not open.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal, get_args

import msgspec

from producers.keyring import CannotOpen, Entropy, Keyring
from schemas.errors import TiplineError, Unavailable
from streams.ports import Principal, Sealed

Kind = Literal["standard", "telegram", "wecom", "station"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)

#: The file's name in the store.
FILE_NAME: Final = "webhooks.json"

_log = logging.getLogger("tipline.webhooks")
_MAX_FILE = 8 * 1024 * 1024


class BadHooks(TiplineError):
    """The file of webhooks cannot be used; the message says how to mend it and shows no secret."""


class Unopened(Unavailable):
    """A webhook's secret does not open with the keys that there are."""


class Secret(msgspec.Struct, frozen=True, repr_omit_defaults=True):
    """What the other side and we share. `aes_key` and `receive_id` are WeCom's (EncodingAESKey, corp id).

    `url` is where we call it, `bot_token` what we call Telegram with; empty: we do not.
    """

    key: str
    aes_key: str = ""
    receive_id: str = ""
    url: str = ""
    bot_token: str = ""

    def __repr__(self) -> str:
        return "Secret(...)"


class Hook(msgspec.Struct, frozen=True):
    """One sender that may call us: its tips belong to `source` and `county` (None: the only one).

    Or, of the kind `station`, a station's own system: `source` is the station.
    """

    kind: Kind
    source: str
    county: str | None
    secret: Secret

    @property
    def principal(self) -> Principal:
        """Who the sender is, once it has proved itself."""
        return Principal(f"webhook:{self.kind}:{self.source}", "intake", source=self.source, county=self.county)


#: The door's way to a sender's secret; None for an unknown one. Raises Unavailable.
Hooks = Callable[[Kind, str], Hook | None]


class HookInfo(msgspec.Struct, frozen=True):
    """A webhook as it may be shown: all but its secret. `created_at` in ms; `told`: whether we call it; `opens`: whether
    its secret opens with the keys that there are."""

    kind: Kind
    source: str
    county: str | None
    created_at: int
    told: bool = False
    opens: bool = True


class _Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    kind: Kind
    source: str
    county: str | None
    created_at: int
    sealed: tuple[Sealed, ...]


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    version: int
    hooks: tuple[_Entry, ...]
    #: Nobody is called until somebody says so; whoever calls us is let in all the same.
    paused: bool = False


def pause_file(path: Path) -> bool:
    """Pauses the webhooks of a store that nobody serves, without its keys; whether there is a file that can be read. One
    that cannot calls nobody as it is."""
    try:
        file = msgspec.json.decode(path.read_bytes(), type=_File)
    except (FileNotFoundError, ValueError, RecursionError):
        return False
    path.write_bytes(_written(msgspec.structs.replace(file, paused=True)))
    return True


def _written(file: _File) -> bytes:
    return msgspec.json.format(msgspec.json.encode(file)) + b"\n"


def secret_eq(given: str | bytes, known: str | bytes) -> bool:
    """Whether two secrets are equal, in a time that tells nothing of how much of them is."""
    return hmac.compare_digest(_digest(given), _digest(known))


def _digest(value: str | bytes) -> bytes:
    return hashlib.sha256(value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value).digest()


class HookFile:
    """The webhooks of one installation. Read again when the file changes; for one thread at a time.

    An entry that does not open stops no other: it is told once in the log, and tried again with other keys.
    """

    def __init__(self, path: Path, keyring: Keyring, renewed: Callable[[], Keyring] | None = None) -> None:
        """Opens every entry once, so that a lost key shows at start. `renewed` gives the keys as they are by now: asked
        when an entry does not open, since a rotation beside this process makes keys that it does not know. Raises
        BadHooks for a broken file."""
        self._path = path
        self._keyring = keyring
        self._renewed = renewed
        self._seen: tuple[int, int, int] | None = None
        self._entries: dict[tuple[Kind, str], _Entry] = {}
        self._paused = False
        self._opened: dict[tuple[Kind, str], Hook] = {}
        #: Entries that did not open, with the keys that were tried.
        self._shut: dict[tuple[Kind, str], Keyring] = {}
        self._told = ""
        self._refresh()
        self.unopened()

    def listed(self) -> list[HookInfo]:
        """All webhooks, the oldest first, without their secrets. Raises BadHooks."""
        self._refresh()
        return [_info(one, self._open(one)) for one in self._entries.values()]

    def unopened(self) -> list[str]:
        """What does not open with the keys that there are, each by kind and source. Raises BadHooks."""
        self._refresh()
        return [f"{one.kind} {one.source}" for one in self._entries.values() if self._open(one) is None]

    def stations(self) -> list[Hook]:
        """The stations' own systems, with their secrets. Raises Unavailable while the file cannot be read."""
        self._look()
        found = (self._open(one) for one in self._entries.values() if one.kind == "station")
        return [one for one in found if one is not None]

    def lookup(self, kind: Kind, source: str) -> Hook | None:
        """The webhook with its secret, or None. Raises Unavailable while the file cannot be read, Unopened while this
        entry does not open: send again later."""
        self._look()
        entry = self._entries.get((kind, source))
        if entry is None:
            return None
        hook = self._open(entry)
        if hook is None:
            raise Unopened(self._shut_words(entry))
        return hook

    def _look(self) -> None:
        """As `_refresh`, for a running service: it is asked several times a second, and says a trouble once."""
        try:
            self._refresh()
        except BadHooks as error:
            if str(error) != self._told:
                _log.error("%s", error)  # the caller is told nothing of it
                self._told = str(error)
            raise Unavailable(str(error)) from None
        self._told = ""

    def paused(self) -> bool:
        """Whether nobody is to be called. Raises Unavailable while the file cannot be read."""
        self._look()
        return self._paused

    def pause(self, paused: bool) -> bool:
        """Stops all calls to others, or lets them go on; False when it was so before. Raises BadHooks."""
        with self._alone():
            changed, self._paused = self._paused is not paused, paused
        return changed

    def add(self, hook: Hook, now: int, entropy: Entropy, *, replace: bool = False) -> bool:
        """Keeps a webhook; False, and nothing is changed, when it is there and not `replace`. Raises BadHooks."""
        with self._alone() as entries:
            if (hook.kind, hook.source) in entries and not replace:
                return False
            sealed = self._keyring.seal(_name(hook.kind, hook.source), _items(hook.secret), entropy)
            entries[hook.kind, hook.source] = _Entry(hook.kind, hook.source, hook.county, now, sealed)
        return True

    def remove(self, kind: Kind, source: str) -> bool:
        """Forgets a webhook; False when there is none. Raises BadHooks."""
        with self._alone() as entries:
            return entries.pop((kind, source), None) is not None

    def _refresh(self) -> None:
        """The entries of the file as it is now; none when there is no file."""
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            self._take(None, _File(1, ()))
            return
        except OSError as error:
            raise BadHooks(f"{self._path} cannot be read: {error.strerror}") from None
        with os.fdopen(descriptor, "rb") as file:
            found = os.fstat(descriptor)
            if stat.S_IMODE(found.st_mode) & 0o077:
                raise BadHooks(f"{self._path} can be read by others: chmod 600 {self._path}")
            seen = (found.st_ino, found.st_mtime_ns, found.st_size)
            if seen != self._seen:
                self._take(seen, self._parsed(file.read(_MAX_FILE)))

    def _take(self, seen: tuple[int, int, int] | None, file: _File) -> None:
        if seen != self._seen:
            self._opened, self._shut = {}, {}
            self._entries = {(one.kind, one.source): one for one in file.hooks}
            self._paused = file.paused
            self._seen = seen

    def _parsed(self, data: bytes) -> _File:
        try:
            file = msgspec.json.decode(data, type=_File)
        except (ValueError, RecursionError):
            raise BadHooks(
                f"{self._path} is no file of webhooks: restore it from its backup, or remove it and "
                "make the webhooks anew: tipline webhook add"
            ) from None
        if file.version != 1:
            raise BadHooks(f"{self._path} is of a later version: use the tipline that wrote it")
        return file

    def _open(self, entry: _Entry) -> Hook | None:
        """The webhook; None while its secret does not open."""
        name = (entry.kind, entry.source)
        if name in self._opened:
            return self._opened[name]
        told = name in self._shut
        if told:
            self._renew()
        if self._shut.get(name) is self._keyring:
            return None
        secret = self._secret(entry)
        if secret is None and self._renew():
            secret = self._secret(entry)
        if secret is None:
            self._shut[name] = self._keyring
            if not told:
                _log.error("%s", self._shut_words(entry))
            return None
        self._shut.pop(name, None)
        self._opened[name] = Hook(entry.kind, entry.source, entry.county, secret)
        return self._opened[name]

    def _secret(self, entry: _Entry) -> Secret | None:
        try:
            parts = {one.token: self._keyring.open_sealed(_name(entry.kind, entry.source), one) for one in entry.sealed}
            return msgspec.convert(parts, Secret)
        except (CannotOpen, msgspec.ValidationError):
            return None

    def _renew(self) -> bool:
        """Takes the keys as they are by now; whether they are others."""
        before = self._keyring
        if self._renewed is not None:
            self._keyring = self._renewed()
        return self._keyring is not before

    def _shut_words(self, entry: _Entry) -> str:
        return (
            f"{self._path}: {entry.kind} {entry.source} does not open with these keys: put back the keyring that sealed "
            f"it, or make it anew: tipline webhook add {entry.kind} {entry.source} --replace"
        )

    @contextmanager
    def _alone(self) -> Iterator[dict[tuple[Kind, str], _Entry]]:
        """The entries, to be changed; written whole at the end. The draft keeps other writers out meanwhile."""
        draft = self._path.with_name(f"{self._path.name}.draft")
        try:
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            raise BadHooks(f"{draft} exists: another process changes the webhooks; if none does, remove it") from None
        except OSError as error:
            raise BadHooks(f"{draft} cannot be made: {error.strerror}") from None
        try:
            with os.fdopen(descriptor, "wb") as file:
                self._refresh()
                entries = dict(self._entries)
                yield entries
                file.write(_written(_File(1, tuple(entries.values()), self._paused)))
                file.flush()
                os.fsync(descriptor)
            draft.replace(self._path)
        finally:
            draft.unlink(missing_ok=True)
        self._refresh()


def _info(entry: _Entry, hook: Hook | None) -> HookInfo:
    told = hook is not None and bool(hook.secret.url or hook.secret.bot_token)
    return HookInfo(entry.kind, entry.source, entry.county, entry.created_at, told, hook is not None)


def _name(kind: Kind, source: str) -> str:
    """What an entry's seal is bound to."""
    return f"webhook\x1f{kind}\x1f{source}"


def _items(secret: Secret) -> list[tuple[str, str, str]]:
    return [("webhook", name, value) for name, value in msgspec.structs.asdict(secret).items() if value]
