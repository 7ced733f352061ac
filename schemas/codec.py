"""Records <-> bytes. One explicit union a log; an unknown type or version is an error, never a guess."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from schemas.errors import BadRecord
from schemas.records import Input, Output

T = TypeVar("T")

_encoder = msgspec.json.Encoder()
_input = msgspec.json.Decoder(Input)
_output = msgspec.json.Decoder(Output)


def encode(record: Input | Output) -> bytes:
    """The record as compact JSON."""
    return _encoder.encode(record)


def decode_input(value: bytes) -> Input:
    """Bytes of the log `tips` -> record. Raises BadRecord."""
    record: Input = _decode(_input, value)
    return record


def decode_output(value: bytes) -> Output:
    """Bytes of the log `decisions` -> record. Raises BadRecord."""
    record: Output = _decode(_output, value)
    return record


def _decode(decoder: msgspec.json.Decoder[T], value: bytes) -> T:
    try:
        return decoder.decode(value)
    except msgspec.ValidationError as error:
        slug = "unknown_type" if "value" in str(error) and "$.type" in str(error) else "invalid"
        raise BadRecord(slug, str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRecord("undecodable", type(error).__name__) from None
