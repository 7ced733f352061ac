"""Keys: sealing of identities, pseudonyms, receipts. Pure but for the two functions at the end that touch a file.

A tip's identities are sealed with AES-256-GCM under a random data key of that tip's own; a named sealing key wraps the
data key. The associated data bind tip, kind, token and key id, so a row moved elsewhere does not open. Every failure to
open is one and the same `CannotOpen`.

There is one pseudonym key and one receipt key for the life of an installation: tokens, pseudonyms, digests and receipts
are compared with those of years ago. Only the sealing key rotates.
"""

from __future__ import annotations

import base64
import hmac
import os
import stat
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from schemas.errors import TiplineError
from streams.ports import Sealed

#: n -> n random bytes. The shell hands in `os.urandom`.
Entropy = Callable[[int], bytes]

KEY_BYTES: Final = 32
_NONCE = 12
_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_ALIKE = str.maketrans("OIL", "011", "- ")


class CannotOpen(TiplineError):
    """Something sealed does not open: wrong key, wrong place, or altered. Which of them is not told."""

    exit_code = 65

    def __init__(self) -> None:
        super().__init__("the sealed identity does not open")


class BadKeyring(TiplineError):
    """The keyring file cannot be used; the message says how to mend it and shows no key."""


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: int
    active: str
    sealing: dict[str, str]
    pseudonym: str
    receipt: str


class Keyring:
    """The keys of one installation. Immutable; its `repr` shows ids only."""

    __slots__ = ("_active", "_ciphers", "_pseudonym", "_receipt", "_sealing")

    def __init__(self, active: str, sealing: Mapping[str, bytes], pseudonym: bytes, receipt: bytes) -> None:
        """Raises BadKeyring when a key is not 32 bytes or `active` is not among `sealing`."""
        if active not in sealing:
            raise BadKeyring("the active sealing key is not in the keyring: restore the file from its backup")
        if any(len(key) != KEY_BYTES for key in (*sealing.values(), pseudonym, receipt)):
            raise BadKeyring(f"a key is not {KEY_BYTES} bytes long: restore the file from its backup")
        self._active = active
        self._sealing = dict(sealing)
        self._ciphers = {key_id: AESGCM(key) for key_id, key in sealing.items()}
        self._pseudonym = pseudonym
        self._receipt = receipt

    def __repr__(self) -> str:
        return f"Keyring(active={self._active!r}, ids={sorted(self._sealing)!r})"

    @classmethod
    def create(cls, entropy: Entropy) -> Keyring:
        """A new installation's keys."""
        key_id = _key_id(entropy)
        return cls(key_id, {key_id: entropy(KEY_BYTES)}, entropy(KEY_BYTES), entropy(KEY_BYTES))

    @classmethod
    def load(cls, data: bytes) -> Keyring:
        """The keyring out of its file's bytes. Raises BadKeyring."""
        try:
            file = msgspec.json.decode(data, type=_File)
            sealing = {key_id: _decode(key) for key_id, key in file.sealing.items()}
            pseudonym, receipt = _decode(file.pseudonym), _decode(file.receipt)
        except (ValueError, RecursionError):
            raise BadKeyring(
                "not a keyring file: restore it from its backup, or create one: tipline keys init"
            ) from None
        if file.version != 1:
            raise BadKeyring("the keyring file is of a later version: use the tipline that wrote it")
        return cls(file.active, sealing, pseudonym, receipt)

    def dump(self) -> bytes:
        """The file's bytes. They are the secret itself."""
        sealing = {key_id: _encode(key) for key_id, key in self._sealing.items()}
        file = _File(1, self._active, sealing, _encode(self._pseudonym), _encode(self._receipt))
        return msgspec.json.format(msgspec.json.encode(file)) + b"\n"

    def rotate(self, entropy: Entropy) -> Keyring:
        """A keyring that seals with a new key and still opens what the old ones sealed."""
        key_id = _key_id(entropy)
        return Keyring(key_id, {**self._sealing, key_id: entropy(KEY_BYTES)}, self._pseudonym, self._receipt)

    def without(self, key_id: str) -> Keyring:
        """A keyring that has forgotten an old sealing key. Raises BadKeyring for the active one."""
        return Keyring(
            self._active, {i: k for i, k in self._sealing.items() if i != key_id}, self._pseudonym, self._receipt
        )

    @property
    def active(self) -> str:
        """Id of the key that seals now."""
        return self._active

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids of all sealing keys, the oldest first."""
        return tuple(self._sealing)

    def same_installation(self, other: Keyring) -> bool:
        """Whether tokens, digests and receipts agree: rotations apart, the two are one installation's keys."""
        return hmac.compare_digest(self._pseudonym + self._receipt, other._pseudonym + other._receipt)

    def digest(self, purpose: str, value: str | bytes) -> bytes:
        """Keyed hash (32 bytes) of `value` for one purpose; across purposes equal values look unrelated."""
        data = value.encode() if isinstance(value, str) else value
        return hmac.digest(self._pseudonym, purpose.encode() + b"\x1f" + data, "sha256")

    def token(self, purpose: str, value: str) -> str:
        """8 hex digits that stand for `value`: the same value, the same digits, for ever."""
        return self.digest(purpose, value)[:4].hex()

    def receipt(self, tip_id: str) -> str:
        """The tip's receipt: 16 readable characters in fours, `R7KQ-2M9F-04TX-ZB3D`. 80 bits, not to be guessed."""
        number = int.from_bytes(hmac.digest(self._receipt, b"receipt\x1f" + tip_id.encode(), "sha256")[:10], "big")
        signs = "".join(_CROCKFORD[(number >> shift) & 31] for shift in range(75, -1, -5))
        return _in_fours(signs)

    def seal(self, tip_id: str, items: Iterable[tuple[str, str, str]], entropy: Entropy) -> tuple[Sealed, ...]:
        """Seals (kind, token, plaintext) items of one tip under one new data key."""
        items = tuple(items)
        if not items:
            return ()
        data_key, nonce, key_id = entropy(KEY_BYTES), entropy(_NONCE), self._active
        wrapped = nonce + self._ciphers[key_id].encrypt(nonce, data_key, _bind(tip_id, key_id))
        cipher = AESGCM(data_key)
        sealed = []
        for kind, token, plaintext in items:
            nonce = entropy(_NONCE)
            ciphertext = cipher.encrypt(nonce, plaintext.encode(), _bind(tip_id, key_id, kind, token))
            sealed.append(Sealed(token, kind, key_id, wrapped, nonce, ciphertext))
        return tuple(sealed)

    def open_sealed(self, tip_id: str, sealed: Sealed) -> str:
        """The plaintext of one identity. Raises CannotOpen."""
        try:
            nonce, wrapped = sealed.wrapped_key[:_NONCE], sealed.wrapped_key[_NONCE:]
            data_key = self._ciphers[sealed.key_id].decrypt(nonce, wrapped, _bind(tip_id, sealed.key_id))
            bound = _bind(tip_id, sealed.key_id, sealed.kind, sealed.token)
            return AESGCM(data_key).decrypt(sealed.nonce, sealed.ciphertext, bound).decode()
        except (InvalidTag, KeyError, ValueError):
            raise CannotOpen from None

    def reseal(self, tip_id: str, sealed: Iterable[Sealed], entropy: Entropy) -> tuple[Sealed, ...]:
        """One tip's identities under the active key. Raises CannotOpen."""
        return self.seal(tip_id, [(s.kind, s.token, self.open_sealed(tip_id, s)) for s in sealed], entropy)


def normal_receipt(typed: str) -> str | None:
    """A receipt as people type it (lower case, no dashes, O for 0) -> as it was given; None when it cannot be one."""
    if len(typed) > 64:
        return None
    signs = typed.strip().upper().translate(_ALIKE)
    return _in_fours(signs) if len(signs) == 16 and all(sign in _CROCKFORD for sign in signs) else None


def _in_fours(signs: str) -> str:
    return "-".join(signs[start : start + 4] for start in range(0, 16, 4))


def _bind(*parts: str) -> bytes:
    """Associated data; each part with its length, so that no two lists of parts look the same."""
    return b"tipline.identity.v1" + b"".join(len(raw).to_bytes(4, "big") + raw for raw in map(str.encode, parts))


def _key_id(entropy: Entropy) -> str:
    return "k-" + entropy(4).hex()


def _encode(key: bytes) -> str:
    return base64.b64encode(key).decode()


def _decode(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def read_keyring(path: Path) -> Keyring:
    """The keyring in a file. Raises BadKeyring: missing, readable by others, or not a keyring."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise BadKeyring(f"{path} is missing: restore it from its backup, or create one: tipline keys init") from None
    except OSError as error:
        raise BadKeyring(f"{path} cannot be read: {error.strerror}") from None
    with os.fdopen(descriptor, "rb") as file:
        if stat.S_IMODE(os.fstat(descriptor).st_mode) & 0o077:
            raise BadKeyring(f"{path} can be read by others: chmod 600 {path}")
        try:
            return Keyring.load(file.read(1 << 20))
        except BadKeyring as error:
            raise BadKeyring(f"{path}: {error}") from None


def write_keyring(path: Path, keyring: Keyring, *, replace: bool = False) -> None:
    """Writes it: mode 0600, fsynced, whole or not at all. Raises BadKeyring when it is there and not `replace`."""
    if path.exists() and not replace:
        raise BadKeyring(f"{path} exists: what it sealed opens with it alone; rotate instead: tipline keys rotate")
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    _write_private(draft, keyring.dump())
    if replace:
        draft.replace(path)
    else:
        _link_once(draft, path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _write_private(path: Path, data: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _link_once(draft: Path, path: Path) -> None:
    """Two that start at once must end with one keyring: the link fails for the second."""
    try:
        path.hardlink_to(draft)
    except FileExistsError:
        raise BadKeyring(f"{path} was created by another process just now: start again") from None
    finally:
        draft.unlink(missing_ok=True)
