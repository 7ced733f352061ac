"""Looks for known words in the bytes of a directory: has anything that must be sealed been written in the clear?

Each word is looked for as UTF-8, UTF-16 (both orders), base64 (at each of the three offsets it may have), hex, JSON escapes
and as a bare SHA-256: a plain hash of a phone number hides nothing. Words are never shown, only their number in the list.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

#: A shorter word would be found everywhere by chance.
SHORTEST: Final = 4

_CHUNK: Final = 1 << 24
_PREFIX: Final = 4


class Sighting(msgspec.Struct, frozen=True):
    """One canary seen: which (its line in the list), in which form, in which file, at which byte."""

    canary: int
    form: str
    file: str
    offset: int


def forms(word: str) -> dict[str, bytes]:
    """The byte strings that a word may hide behind, by name."""
    plain = word.encode()
    digest = hashlib.sha256(plain).digest()
    found = {
        "utf-8": plain,
        "utf-16-le": word.encode("utf-16-le"),
        "utf-16-be": word.encode("utf-16-be"),
        "hex": plain.hex().encode(),
        "HEX": plain.hex().upper().encode(),
        "sha256": digest,
        "sha256-hex": digest.hex().encode(),
    }
    if not word.isascii():
        found["json"] = word.encode("ascii", "backslashreplace").replace(b"\\x", b"\\u00")
    for shift in range(3):
        found[f"base64+{shift}"] = _base64_core(plain, shift)
    return {name: needle for name, needle in found.items() if len(needle) >= _PREFIX}


def _base64_core(plain: bytes, shift: int) -> bytes:
    """The base64 letters that only the word decides, when `shift` unknown bytes stand before it."""
    whole = base64.b64encode(bytes(shift) + plain + bytes(-(shift + len(plain)) % 3))
    first = -(-shift * 8 // 6)
    return whole[first : (shift + len(plain)) * 8 // 6]


class Scanner:
    """Looks for many words at once: a table of first bytes picks the places worth comparing."""

    def __init__(self, words: Sequence[str]) -> None:
        """Raises ValueError for a word too short to mean anything."""
        short = [number for number, word in enumerate(words, 1) if len(word) < SHORTEST]
        if short:
            raise ValueError(f"canary {short[0]} is shorter than {SHORTEST} characters: it would be found by chance")
        self._needles: dict[int, list[tuple[bytes, int, str]]] = {}
        for number, word in enumerate(words, 1):
            for form, needle in forms(word).items():
                key = int.from_bytes(needle[:_PREFIX], "little")
                self._needles.setdefault(key, []).append((needle, number, form))
        self._prefixes = np.array(sorted(self._needles), dtype="<u4")
        self._starts = np.zeros(1 << 16, dtype=bool)
        self._starts[self._prefixes & 0xFFFF] = True
        self._longest = max((len(n) for needles in self._needles.values() for n, _, _ in needles), default=0)

    def scan(self, directory: Path) -> tuple[list[Sighting], int]:
        """Every file below `directory`, its WAL included -> (sightings, bytes read)."""
        seen: list[Sighting] = []
        size = 0
        for path in sorted(p for p in directory.rglob("*") if p.is_file()):
            name = str(path.relative_to(directory))
            for offset, chunk in _chunks(path, self._longest):
                size += len(chunk)
                seen += [Sighting(number, form, name, offset + at) for number, form, at in self._in(chunk)]
        return sorted(set(seen), key=lambda s: (s.canary, s.file, s.offset)), size

    def _in(self, chunk: bytes) -> Iterator[tuple[int, str, int]]:
        if len(chunk) < _PREFIX or not self._needles:
            return
        data = np.frombuffer(chunk, dtype=np.uint8)
        pairs = data[:-1].astype(np.uint16) | (data[1:].astype(np.uint16) << 8)
        places = np.flatnonzero(self._starts[pairs[: len(chunk) - _PREFIX + 1]])
        heads = pairs[places].astype(np.uint32) | (pairs[places + 2].astype(np.uint32) << 16)
        for at in places[np.isin(heads, self._prefixes)].tolist():
            for needle, number, form in self._needles[int.from_bytes(chunk[at : at + _PREFIX], "little")]:
                if chunk.startswith(needle, at):
                    yield number, form, at


def _chunks(path: Path, overlap: int) -> Iterator[tuple[int, bytes]]:
    """Pieces of a file with their place; each begins with the end of the one before, so that no word is cut in two."""
    tail, offset = b"", 0
    with path.open("rb") as file:
        while block := file.read(_CHUNK):
            chunk = tail + block
            yield offset - len(tail), chunk
            offset += len(block)
            tail = chunk[-(overlap - 1) :] if overlap > 1 else b""
