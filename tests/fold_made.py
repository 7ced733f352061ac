"""A fold on the Anping example with the shipped model, and tips to feed it; for tests of grouping."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

from schemas.records import Closure, Correction, Decision, Input, Output, Place, StateChange, Tip
from schemas.times import format_time, parse_time
from streams.pipeline import Fold
from tipline.county import find_county, load_county
from tipline.model import load_model

START = parse_time("2026-03-02T08:00:00+08:00")


@cache
def _bundle() -> dict[str, Any]:
    return load_county(find_county("anping"))


class Driven:
    """A fold that keeps what it wrote, and can be rebuilt from it at any point."""

    def __init__(self) -> None:
        self.decisions: dict[str, Decision] = {}
        self.log: list[Output] = []
        self.fold = Fold(_bundle(), load_model(), self.decisions.get)
        self.position = 0

    def feed(self, *records: Input) -> list[Output]:
        """Decides records one by one, each with the next position."""
        written: list[Output] = []
        for record in records:
            self.position += 1
            for output in self.fold.apply([(self.position, record)]):
                written.append(output)
                if isinstance(output, Decision):
                    self.decisions[output.tip_id] = output
        self.log += written
        return written

    def rebuilt(self) -> Driven:
        """Another one, restored from what this one wrote."""
        other = Driven()
        other.decisions.update(self.decisions)
        other.log, other.position = list(self.log), self.position
        other.fold.restore(self.log)
        return other

    def incident(self, tip_id: str) -> str:
        """The incident a tip is in."""
        return self.decisions[tip_id].incident_id

    def partition(self) -> set[frozenset[str]]:
        """The tips by incident, as their latest decisions say."""
        by_incident: dict[str, set[str]] = {}
        for tip_id, decision in self.decisions.items():
            by_incident.setdefault(decision.incident_id, set()).add(tip_id)
        return {frozenset(tips) for tips in by_incident.values()}

    def state(self) -> list[tuple[Any, ...]]:
        """Everything about incidents that later decisions rest on."""
        return sorted(
            (i.id, tuple(i.tips), i.anchor, i.opened, i.closed_at, i.link, i.link_to, i.pattern_id, i.overrides, i.shown)
            for i in self.fold.groups.incidents.values()
        )


def tip(tip_id: str, text: str, minutes: float = 0, **fields: Any) -> Tip:
    """A tip so many minutes after START; `place` as words or a Place, everything else as in the record."""
    at = format_time(START + int(minutes * 60_000), 480)
    place = fields.pop("place", None)
    given: dict[str, Any] = {
        "county": "anping",
        "source": "wechat:pingan-1",
        "channel": "volunteer",
        "received_at": at,
        "reported_at": at,
        "reporter": f"reporter-of-{tip_id}",
        "place": Place(text=place) if isinstance(place, str) else place,
        **fields,
    }
    return Tip(tip_id=tip_id, text=text, **given)


def correction(action: str, incident: str, minutes: float = 0, **fields: Any) -> Correction:
    """A person's correction."""
    key = f"{action}/{incident}/{minutes}"
    at = format_time(START + int(minutes * 60_000), 480)
    return Correction(
        county="anping", correction_id=key, action=action, incident_id=incident, reason="", by="p1", at=at, **fields
    )


def closure(incident: str, minutes: float, closed: bool = True) -> Closure:
    """An incident closed by its station, or reopened."""
    at = format_time(START + int(minutes * 60_000), 480)
    return Closure(county="anping", closure_id=f"{incident}/{minutes}", incident_id=incident, closed=closed, at=at)


def driven(records: Iterable[Input], prepare: Callable[[Driven], None] | None = None) -> Driven:
    """A fold that has seen these records."""
    made = Driven()
    if prepare is not None:
        prepare(made)
    made.feed(*records)
    return made


__all__ = ["START", "Driven", "StateChange", "closure", "correction", "driven", "tip"]
