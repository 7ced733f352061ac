"""Decisions made by hand, for tests that start where the fold ends."""

from __future__ import annotations

import uuid
from typing import Any

import msgspec

from schemas.records import Decision, MergedIncident, Reason, StateChange, Versions
from schemas.times import DAY, HOUR, format_time, parse_time
from streams.stages.county import County

COUNTY = "anping"

#: 2026-10-07 09:00 at +08:00, a Wednesday within a public holiday: working clocks stand still.
START = parse_time("2026-10-07T09:00:00+08:00")

_SPACE = uuid.UUID(int=7)


def ident(name: str) -> str:
    """A stable uuid for a short name."""
    return str(uuid.uuid5(_SPACE, name))


def decision(tip: str, incident: str | None = None, **changes: Any) -> Decision:
    """A dispute in a village of Xiliangwa, by default; `received`, `occurred` and `due` in ms; `merged` as pairs of
    names."""
    received = changes.pop("received", START)
    occurred = changes.pop("occurred", received)
    due = changes.pop("due", received + DAY)
    merged = tuple(MergedIncident(ident(a), ident(b)) for a, b in changes.pop("merged", ()))
    fields: dict[str, Any] = {
        "county": COUNTY,
        "tip_id": ident(tip),
        "message_id": tip,
        "source": "wechat:xiliangwa-3",
        "channel": "volunteer",
        "revision": 1,
        "cause": "tip",
        "category": "dispute",
        "subtype": "neighbour",
        "urgent": False,
        "confidence": 0.9,
        "area": "anping/xiliangwa/liuchu",
        "area_candidates": (),
        "parties": (),
        "quantities": (),
        "incident_id": ident(incident or f"incident-{tip}"),
        "link": "new",
        "link_to": None,
        "pattern_id": None,
        "corroborations": 1,
        "station": "village-xiliangwa-liuchu",
        "cc": (),
        "route_id": "dispute-village",
        "level": "village",
        "due_at": None if due is None else format_time(due),
        "title": "宏某与邻居因土地分界磨擦",
        "occurred_at": format_time(occurred),
        "received_at": format_time(received),
        "no_action": False,
        "merged": merged,
        "reasons": (Reason("classify", "磨擦", "dispute/neighbour"),),
        "versions": Versions("1", "1", "c", "m"),
        "position": 1,
        "memory": {"k": tip},
    }
    unknown = set(changes) - set(fields)
    assert not unknown, unknown
    return Decision(**{**fields, **changes})


def revised(old: Decision, **changes: Any) -> Decision:
    """The next revision of a decision."""
    if "merged" in changes:
        changes["merged"] = tuple(MergedIncident(ident(a), ident(b)) for a, b in changes["merged"])
    if "incident" in changes:
        changes["incident_id"] = ident(changes.pop("incident"))
    made: Decision = msgspec.structs.replace(
        old, **{"revision": old.revision + 1, "cause": "relabel", "merged": (), **changes}
    )
    return made


def state_change(position: int) -> StateChange:
    """A change of the fold's state that no tip's decision carries."""
    return StateChange(county=COUNTY, position=position, memory={"p": position})


def anping() -> County:
    """The example county, compiled."""
    from pathlib import Path

    from streams.stages.county import compile_county
    from tipline.county import load_county

    loaded: Any = load_county(Path(__file__).parents[2] / "examples" / "anping")
    return loaded if isinstance(loaded, County) else compile_county(loaded)


__all__ = ["COUNTY", "DAY", "HOUR", "START", "anping", "decision", "ident", "revised", "state_change"]
