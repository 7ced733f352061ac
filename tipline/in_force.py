"""What a store's own records have put in force: the counties' directories and models."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import msgspec

from schemas.codec import decode_input, decode_output
from schemas.errors import BadRecord
from schemas.records import Change, StateChange
from schemas.topics import TIPS

if TYPE_CHECKING:
    from streams.ports import Bundle
    from tipline.store import Store

_PAGE: Final = 1000
#: The bytes without which a record is no change: most are something else, and need not be decoded.
_MARK: Final = b'"change"'


class InForce(msgspec.Struct):
    """Of one county: `county` and `model` -> the digest last put in force, and the directory itself."""

    digests: dict[str, str]
    bundle: Bundle | None = None

    def put(self, what: str, digest: str, bundle: Bundle | None) -> None:
        """A change takes effect."""
        self.digests[what] = digest
        if what == "county" and bundle is not None:
            self.bundle = bundle


def in_force(store: Store, only: str | None = None) -> dict[str, InForce]:
    """By county, in the order of their ids; of `only` one where it is given. Nothing is made where there is no store yet.

    What is in the log and not yet decided upon counts too, for no tip after it is decided by anything else. On Kafka the
    tables alone are asked: they follow the log within a moment.
    """
    found: dict[str, InForce] = {}
    for county, change in (*_decided(store, only), *_waiting(store, only)):
        found.setdefault(county, InForce({})).put(*change)
    return dict(sorted(found.items()))


_Change = tuple[str, str, "Bundle | None"]


def _decided(store: Store, only: str | None) -> Iterator[tuple[str, _Change]]:
    if not store.has_database:
        return
    from sqlalchemy import select

    from sinks.database import reading
    from sinks.tables import decisions

    wanted = select(decisions.c.county, decisions.c.value).where(decisions.c.kind == "state_change")
    if only is not None:
        wanted = wanted.where(decisions.c.county == only)
    with reading(store.engine) as connection:
        for county, value in connection.execute(wanted.order_by(decisions.c.county, decisions.c.seq)):
            if _MARK not in value:
                continue
            output = decode_output(value)
            if isinstance(output, StateChange) and "change" in output.memory:
                what, digest, bundle = output.memory["change"]
                yield county, (what, digest, bundle)


def _waiting(store: Store, only: str | None) -> Iterator[tuple[str, _Change]]:
    if store.settings.log or not store.has_log:
        return
    from sinks.database import reading
    from sinks.sink import DECIDED, position

    for county in store.intake.counties() if only is None else [only]:
        after = 0
        if store.has_database:
            with reading(store.engine) as connection:
                after = position(connection, DECIDED, TIPS, county)
        while rows := store.intake.read(county, after, _PAGE):
            for row in rows:
                change = _change(row.value)
                if change is not None:
                    yield county, (change.what, change.digest, change.bundle)
            after = rows[-1].position


def _change(value: bytes) -> Change | None:
    try:
        record = decode_input(value) if _MARK in value else None
    except BadRecord:  # a dead letter to be
        return None
    return record if isinstance(record, Change) else None
