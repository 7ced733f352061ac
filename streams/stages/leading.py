"""Which kind speaks for an incident: one law, for the fold that routes it and for the sink that shows it."""

from __future__ import annotations

from collections.abc import Mapping

#: A category and its subtype, "" without one.
Kind = tuple[str, str]


def certainty(confidence: float) -> int:
    """A confidence in millionths: whole numbers add up to the same in any order."""
    return round(confidence * 1_000_000)


def leading(sums: Mapping[Kind, int]) -> Kind:
    """The kind that speaks for all, by the sums of `certainty` of each kind's tips (at least one kind).

    The category with the most (`other` counts half), in it the subtype with the most; of equals the later name.
    """
    if len(sums) == 1:
        return next(iter(sums))
    doubled: dict[str, int] = {}
    for (category, _), total in sums.items():
        doubled[category] = doubled.get(category, 0) + (total if category == "other" else 2 * total)
    category = max(doubled, key=lambda name: (doubled[name], name))
    return max((kind for kind in sums if kind[0] == category), key=lambda kind: (sums[kind], kind[1]))
