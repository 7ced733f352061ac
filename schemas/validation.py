"""Compiled validators: jsonschema-rs decides on the hot path, jsonschema words the refusal.

Both read the same files; a property test holds them to the same verdict.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import jsonschema_rs
import orjson

from schemas.errors import Mistake

if TYPE_CHECKING:
    from jsonschema import Draft202012Validator

MAX_MISTAKES = 20


@cache
def schema(name: str) -> dict[str, Any]:
    """The JSON Schema `name` (such as `submission`), version 1."""
    document: dict[str, Any] = orjson.loads(files("schemas").joinpath("json", f"{name}.v1.json").read_bytes())
    return document


@cache
def _fast(name: str) -> jsonschema_rs.Draft202012Validator:
    return jsonschema_rs.Draft202012Validator(schema(name), validate_formats=True)


@cache
def _slow(name: str) -> Draft202012Validator:
    from jsonschema import Draft202012Validator

    return Draft202012Validator(schema(name), format_checker=Draft202012Validator.FORMAT_CHECKER)


def prepare(*names: str) -> None:
    """Loads what words the refusals by these schemas, so that the first bad body holds nobody up."""
    for name in names:
        _slow(name)


def is_valid(name: str, document: object) -> bool:
    """Whether `document` conforms to the schema `name`."""
    return bool(_fast(name).is_valid(document))


def mistakes(name: str, document: object) -> list[Mistake]:
    """What is wrong with `document`, at most MAX_MISTAKES; empty when it conforms.

    A pointer leads to the value at fault, also to one that is missing or should not be there. The value itself is never
    repeated: it may be somebody's identity.
    """
    if is_valid(name, document):
        return []
    found = list(dict.fromkeys(one for error in _slow(name).iter_errors(document) for one in _mistakes_of(error)))
    if not found:  # The two differ (a known list in the tests): the stricter one wins.
        found = [
            Mistake("/" + "/".join(str(p) for p in e.instance_path), f"breaks the rule {e.kind.name}")
            for e in _fast(name).iter_errors(document)
        ]
    return found[:MAX_MISTAKES]


def _pointer(path: Any) -> str:
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in path)


def _mistakes_of(error: Any) -> list[Mistake]:
    where, rule, instance = error.absolute_path, error.validator, error.instance
    if rule == "required":
        return [
            Mistake(_pointer([*where, name]), f"required: add {name}")
            for name in error.validator_value
            if name not in instance
        ]
    if rule == "additionalProperties":
        known = error.schema.get("properties", {})
        unknown = [_printable(name) for name in instance if name not in known]
        words = f"allowed are {', '.join(sorted(known))}"
        return [Mistake(_pointer([*where, name]), f"unknown field {name}; {words}") for name in unknown[:5]]
    return [Mistake(_pointer(where), _words(rule, error.validator_value))]


def _words(rule: str, limit: Any) -> str:
    if rule == "enum":
        return "must be one of " + ", ".join("null" if v is None else str(v) for v in limit)
    return {
        "type": f"must be of type {limit}",
        "minLength": f"must have at least {limit} characters",
        "maxLength": f"must have at most {limit} characters",
        "minimum": f"must be at least {limit}",
        "maximum": f"must be at most {limit}",
        "maxItems": f"must have at most {limit} items",
        "minItems": f"must have at least {limit} items",
        "format": "must be a date and time with offset, like 2026-01-31T08:00:00+08:00",
        "pattern": "has characters that are not allowed here, or is blank",
        "dependentRequired": "lat and lon go together",
    }.get(str(rule), f"breaks the rule {rule}")


def _printable(name: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in name[:40])
