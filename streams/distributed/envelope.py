"""How our records travel on Kafka: the value is the record's JSON, CloudEvents attributes are headers (binary mode).

`ce_part` is an extension attribute of ours: `2/3` says that this is the second of three outputs of one record of the
input. A reader takes the outputs of a record together or not at all (`Assembler`), so a worker that died between two of
them leaves no half-told record behind: whoever decides it again writes all of them again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import msgspec

from schemas.codec import decode_output, encode
from schemas.errors import BadRecord
from schemas.records import Change, Closure, Correction, Decision, Input, MergedIncident, Output, StateChange, Tip

Headers = Sequence[tuple[str, bytes]]
#: A record to send: key, value, headers.
Sendable = tuple[bytes | None, bytes, Headers]

JSON: Final = ("content-type", b"application/json")
_SPEC: Final = ("ce_specversion", b"1.0")
PART: Final = "ce_part"
#: On the first record of a county: the fingerprint of the keyring that all parts of the installation share.
KEYRING: Final = "ce_keyring"
#: The version of every record's schema that this program writes, and the latest that it reads.
_VERSION: Final = 1


def headers(kind: str, identity: str, county: str, time: str | None = None, part: str | None = None) -> list[tuple[str, bytes]]:
    """CloudEvents attributes of one record. `kind` is the record's type; its version is that of the schema."""
    made = [
        _SPEC,
        ("ce_id", identity.encode()),
        ("ce_source", f"/tipline/{county}".encode()),
        ("ce_type", f"tipline.{kind}.v{_VERSION}".encode()),
        JSON,
    ]
    if time is not None:
        made.append(("ce_time", time.encode()))
    if part is not None:
        made.append((PART, part.encode()))
    return made


def is_ours(headers_: Headers) -> bool:
    """Whether tipline wrote a record, going by its attributes."""
    return any(name == "ce_type" and value.startswith(b"tipline.") for name, value in headers_)


def is_later(headers_: Headers) -> bool:
    """Whether a later version of tipline wrote a record, going by its attributes: its meaning is not known here."""
    value = next((value for name, value in headers_ if name == "ce_type"), b"")
    name, _, version = value.rpartition(b".v")
    return name.startswith(b"tipline.") and version.isdigit() and int(version) > _VERSION


def of_input(record: Input) -> Sendable:
    """A record of the topic `tips`, ready to send."""
    return record.county.encode(), encode(record), input_headers(record)


def input_headers(record: Input) -> list[tuple[str, bytes]]:
    """The attributes of a record of the topic `tips`."""
    if isinstance(record, Tip):
        return headers("tip", record.tip_id, record.county, record.received_at)
    if isinstance(record, Correction):
        return headers("correction", record.correction_id, record.county, record.at)
    if isinstance(record, Closure):
        return headers("closure", record.closure_id, record.county, record.at)
    return headers("change", _change_id(record), record.county, record.at)


def _change_id(record: Change) -> str:
    return record.change_id


def of_outputs(outputs: Iterable[Output]) -> list[Sendable]:
    """All outputs of one record of the input, ready to send, each told which part of how many it is."""
    told = list(outputs)
    return [
        (output.county.encode(), encode(output), _output_headers(output, f"{number}/{len(told)}"))
        for number, output in enumerate(told, start=1)
    ]


def _output_headers(output: Output, part: str) -> list[tuple[str, bytes]]:
    if isinstance(output, Decision):
        return headers("decision", f"{output.tip_id}/{output.revision}", output.county, None, part)
    return headers("state_change", f"{output.county}/{output.position}/{part}", output.county, None, part)


class Told(msgspec.Struct, frozen=True, tag_field="type", tag="decision"):
    """What of a decision the fold's state is made of: a third of the time of reading all of it."""

    county: str
    tip_id: str
    revision: int
    incident_id: str
    merged: tuple[MergedIncident, ...]
    position: int
    memory: Any = None


_told = msgspec.json.Decoder(Told | StateChange)


def decode_told(value: bytes) -> Any:
    """As `decode_output`, for rebuilding only: of a decision what `Fold.restore` reads. Raises BadRecord."""
    try:
        return _told.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return decode_output(value)  # which words the refusal


class Group:
    """All outputs of one record of the input, in their order. `begin` is the offset of the first of them that was read."""

    __slots__ = ("begin", "outputs", "position", "values")

    def __init__(self, position: int, told: Sequence[tuple[Output, bytes]], begin: int) -> None:
        self.position = position
        self.outputs = [output for output, _ in told]
        #: Their bytes, as they stand in the log.
        self.values = [value for _, value in told]
        self.begin = begin


class Assembler:
    """Puts the outputs of one partition of `decisions` together again, each record of the input once.

    Outputs repeat: a worker that was killed, or that did not notice that another had taken over, leaves outputs that are
    written again. They repeat with the same content, because deciding is pure; what was complete once is passed over.
    """

    def __init__(self, done: int = 0, decode: Callable[[bytes], Any] = decode_output) -> None:
        """`done` is the position up to which the groups are known already; `decode` reads an output's bytes."""
        self.done = done
        self._decode = decode
        self._parts: dict[int, dict[int, tuple[Output, bytes]]] = {}
        self._begin: dict[int, int] = {}

    def feed(self, offset: int, value: bytes, headers_: Headers) -> Group | None:
        """One record of the topic -> the group that it completed, or None. Raises BadRecord for what is no output."""
        if is_later(headers_):
            raise BadRecord("unknown_type", "a later version of tipline wrote it")
        output = self._decode(value)
        number, count = _part_of(headers_)
        if output.position <= self.done:
            return None
        parts = self._parts.setdefault(output.position, {})
        self._begin.setdefault(output.position, offset)
        parts[number] = (output, value)
        if len(parts) < count:
            return None
        group = Group(output.position, [parts[n] for n in sorted(parts)], self._begin[output.position])
        self.done = output.position
        for position in [p for p in self._parts if p <= self.done]:
            del self._parts[position], self._begin[position]
        return group

    def open_since(self) -> int | None:
        """Offset of the earliest output whose group is not complete; None when all are."""
        return min(self._begin.values(), default=None)


def _part_of(headers_: Headers) -> tuple[int, int]:
    for name, value in headers_:
        if name == PART:
            number, _, count = value.partition(b"/")
            if number.isdigit() and count.isdigit() and 1 <= int(number) <= int(count):
                return int(number), int(count)
            break
    raise BadRecord("invalid", f"the header {PART} is missing or is not like 1/3")
