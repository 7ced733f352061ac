"""Putting counties and models in force: by a record in the county's input, so that replay uses what was in force then."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable

from sqlalchemy import select

from schemas.codec import encode
from schemas.errors import BadCounty
from schemas.records import Change
from schemas.times import format_time
from sinks import audit
from sinks.database import reading, writing
from sinks.tables import assignments
from streams.ports import Bundle
from streams.stages.county import areas_of
from tipline.county import county_digest
from tipline.in_force import in_force
from tipline.store import Origin, Store, now_ms

#: Puts a record at the end of a county's input: (county, key, value) -> position, or None when it is known already.
Append = Callable[[str, str, bytes], int | None]


def put_in_force(
    store: Store, county: str, what: str, digest: str, bundle: Bundle | None = None, append: Append | None = None
) -> int | None:
    """Appends the change where it is not the one in force; its position, or None."""
    known = in_force(store, county).get(county)
    if known is not None and known.digests.get(what) == digest:
        return None
    at = now_ms()
    change = Change(
        county=county, change_id=f"{what}/{digest}/{at}", what=what, digest=digest, at=format_time(at), bundle=bundle
    )
    return (append or store.intake.append)(county, change.change_id, encode(change))


def apply_county(
    store: Store, bundle: Bundle, append: Append | None = None, *, actor: str = "cli"
) -> tuple[list[str], int | None]:
    """(why it is refused, position of the change), and who did it in the audit. Nothing is written when it is refused, or is
    in force already."""
    refusals = dropped(store, bundle)
    if refusals:
        return refusals, None
    county, digest = bundle["county"]["id"], county_digest(bundle)
    position = put_in_force(store, county, "county", digest, bundle, append)
    if position is not None:
        with writing(store.engine) as connection:
            detail = {"digest": digest, "position": position}
            audit.append(connection, at=now_ms(), actor=actor, action="county.apply", subject=county, detail=detail)
    return [], position


def refuse_dropping(store: Store, bundles: Iterable[Bundle], origin: Origin) -> None:
    """At a start: raises BadCounty where a county that would come into force drops what open assignments need.

    What the store has in force stays so, whatever it lacks: no start may fail on it.
    """
    if origin == "store":
        return
    refusals = [line for bundle in bundles for line in dropped(store, bundle)]
    if refusals:
        raise BadCounty(refusals)


def dropped(store: Store, bundle: Bundle) -> list[str]:
    """What open assignments need and the bundle no longer has, a sentence each."""
    county = bundle["county"]["id"]
    stations = {s["id"] for s in bundle["stations"]["stations"]}
    areas = {area.path for area in areas_of(bundle)}
    statement = select(assignments.c.station, assignments.c.area).where(
        assignments.c.county == county, assignments.c.status != "resolved"
    )
    with reading(store.engine) as connection:
        rows = connection.execute(statement).all()
    found = []
    for station in sorted({row[0] for row in rows} - stations):
        near = difflib.get_close_matches(station, stations, 1)
        count = sum(row[0] == station for row in rows)
        found.append(
            f"stations.yaml: {station} is gone, but has {count} open assignment(s): keep it, or transfer them first"
            + (f" (was it renamed to {near[0]}?)" if near else "")
        )
    for area in sorted({row[1] for row in rows if row[1]} - areas):
        count = sum(row[1] == area for row in rows)
        found.append(
            f"areas.yaml: {area} is gone, but {count} open assignment(s) lie in it: keep it, or relocate them first"
        )
    return found
