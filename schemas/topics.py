"""The one table of topics: name -> what it carries, its key, how long it is kept."""

from __future__ import annotations

from typing import Final

import msgspec


class Topic(msgspec.Struct, frozen=True):
    """A named log. `retention_ms` of -1 keeps for ever; `partitions` is the least that is sensible."""

    name: str
    carries: tuple[str, ...]
    key: str
    retention_ms: int
    partitions: int


TIPS: Final = "tips"
DECISIONS: Final = "decisions"
ASSIGNMENTS: Final = "assignments"
DEAD_LETTERS: Final = "dead_letters"

TOPICS: Final[tuple[Topic, ...]] = (
    Topic(TIPS, ("tip", "correction", "closure", "change"), "county", -1, 1),
    Topic(DECISIONS, ("decision", "state_change"), "county", -1, 1),
    Topic(ASSIGNMENTS, ("assignment_event",), "station", -1, 1),
    Topic(DEAD_LETTERS, ("dead_letter",), "county", -1, 1),
)


def queue_topic(station: str) -> str:
    """Topic of a station with a system of its own."""
    return f"queue.{station}"
