"""What an incident's tips say of it together, as sums: one tip more costs what that tip says, however many there are.

Few tips are summed as they are read; of more than KEPT the sums are kept beside the incident. They only grow: when a
tip leaves, or says something else, the incident's tips are summed anew. Sums that are missing are made so too.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from streams.stages.leading import certainty, leading

#: Of incidents with more tips than this the sums are kept: reading so many tips costs no more than a second table would.
#: Whoever changes it empties the table by a migration, for what is kept of smaller ones is no longer kept up.
KEPT: Final = 32

#: What of a row of `incident_tips` the sums are made of: where none of it changed, they did not.
_SAID: Final = operator.itemgetter(
    *("incident_id", "category", "subtype", "area", "urgent", "confidence", "title", "occurred_at", "received_at")
)


class _Sum(msgspec.Struct):
    """Of the tips with one category, subtype and area: a row of `incident_sums` without its key. Times in ms."""

    tips: int
    urgent: bool
    certainty: int
    #: Its first tip by (occurred_at, tip_id).
    first_at: int
    first_tip: str
    title: str
    received_at: int
    last_received_at: int


class Sums:
    """Of one incident's tips, the same in whatever order they are added."""

    def __init__(self, tips: Iterable[Mapping[str, Any]] = ()) -> None:
        """`tips` are rows of `incident_tips`."""
        self._sums: dict[tuple[str, str, str], _Sum] = {}
        for tip in tips:
            self.add(tip)

    def add(self, tip: Mapping[str, Any]) -> None:
        """One tip more, a row of `incident_tips`."""
        key = tip["category"], tip["subtype"] or "", tip["area"] or ""
        at, received, weight = tip["occurred_at"], tip["received_at"], certainty(tip["confidence"])
        known = self._sums.get(key)
        if known is None:
            self._sums[key] = _Sum(1, tip["urgent"], weight, at, tip["tip_id"], tip["title"], received, received)
            return
        known.tips += 1
        known.urgent = known.urgent or tip["urgent"]
        known.certainty += weight
        if (at, tip["tip_id"]) < (known.first_at, known.first_tip):
            known.first_at, known.first_tip, known.title = at, tip["tip_id"], tip["title"]
        known.received_at = min(known.received_at, received)
        known.last_received_at = max(known.last_received_at, received)

    @property
    def tips(self) -> int:
        """How many."""
        return sum(one.tips for one in self._sums.values())

    @property
    def lead_tip(self) -> str | None:
        """The tip that stands for its incident: the smallest (occurred_at, tip_id); None without tips."""
        first = min(((one.first_at, one.first_tip) for one in self._sums.values()), default=None)
        return None if first is None else first[1]

    @property
    def occurred_at(self) -> int:
        """The earliest of its tips' times."""
        return min(one.first_at for one in self._sums.values())

    @property
    def received_at(self) -> int:
        """When the first of its tips came."""
        return min(one.received_at for one in self._sums.values())

    @property
    def last_received_at(self) -> int:
        """When the last of its tips came."""
        return max(one.last_received_at for one in self._sums.values())

    def together(self) -> dict[str, Any]:
        """What its tips (one at least) say together: the leading kind and the title of its first tip; urgent if one is;
        the most precise area that most name."""
        kinds: dict[tuple[str, str], int] = {}
        areas: dict[str, int] = {}
        for (category, subtype, area), one in self._sums.items():
            kinds[category, subtype] = kinds.get((category, subtype), 0) + one.certainty
            if area:
                areas[area] = areas.get(area, 0) + one.tips
        kind = leading(kinds)
        fitting = [one for key, one in self._sums.items() if key[:2] == kind]
        return {
            "category": kind[0],
            "subtype": kind[1] or None,
            "urgent": any(one.urgent for one in self._sums.values()),
            "area": max(areas, key=lambda path: (path.count("/"), areas[path], path), default=None),
            "title": min(fitting, key=lambda one: (one.first_at, one.first_tip)).title,
        }

    def restore(self, row: Mapping[str, Any]) -> None:
        """Takes in a row of `incident_sums`."""
        self._sums[row["category"], row["subtype"], row["area"]] = _Sum(
            **{name: row[name] for name in _Sum.__struct_fields__}
        )

    def dump(self, incident_id: str) -> list[dict[str, Any]]:
        """The rows of `incident_sums`."""
        return [
            {"incident_id": incident_id, "category": category, "subtype": subtype, "area": area}
            | msgspec.structs.asdict(one)
            for (category, subtype, area), one in self._sums.items()
        ]


def says_the_same(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Whether a tip (two rows of `incident_tips`) still belongs to its incident and says the same of it."""
    return bool(_SAID(before) == _SAID(after))
