"""A map as a drawing: a county's townships from their boundaries, shaded by count. No script, no tiles."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from streams.stages.county import Outlines

#: Width of the drawing in its own units; the height follows from the shape.
WIDTH: Final = 600
#: Shades beside none, from pale to deep.
STEPS: Final = 5


class Shape(msgspec.Struct, frozen=True):
    """One area: its outline, its count, its shade (0 for none, then 1 to STEPS) and where its name stands."""

    area: str
    path: str
    count: int
    shade: int
    x: float
    y: float


class Drawing(msgspec.Struct, frozen=True):
    """All areas, and the greatest count of each shade."""

    height: int
    shapes: tuple[Shape, ...]
    limits: tuple[int, ...]


def shaded(outlines: Outlines, counts: Mapping[str, int]) -> Drawing | None:
    """The townships among a county's outlines, shaded by their counts; None without outlines."""
    found = [(area, list(_rings(geometry))) for area, geometry in outlines.shapes if area.count("/") == 1]
    points = [point for _, rings in found for ring in rings for point in ring]
    if not points:
        return None
    west, east = min(p[0] for p in points), max(p[0] for p in points)
    south, north = min(p[1] for p in points), max(p[1] for p in points)
    narrow = math.cos(math.radians((south + north) / 2))
    scale = (WIDTH - 8) / max((east - west) * narrow, 1e-9)

    def at(point: list[float]) -> tuple[float, float]:
        return round((point[0] - west) * narrow * scale + 4, 1), round((north - point[1]) * scale + 4, 1)

    limits = steps([counts.get(area, 0) for area, _ in found])
    shapes = tuple(
        _shape(area, [[at(p) for p in ring] for ring in rings], counts.get(area, 0), limits) for area, rings in found
    )
    return Drawing(round((north - south) * scale) + 8, shapes, limits)


def steps(counts: list[int]) -> tuple[int, ...]:
    """The greatest count of each shade: even steps up to the greatest, each once."""
    most = max(counts, default=0)
    return tuple(dict.fromkeys(math.ceil(most * n / STEPS) for n in range(1, STEPS + 1))) if most else ()


def _shape(area: str, rings: list[list[tuple[float, float]]], count: int, limits: tuple[int, ...]) -> Shape:
    path = "".join("M" + "L".join(f"{x} {y}" for x, y in ring) + "Z" for ring in rings)
    shade = next((n for n, limit in enumerate(limits, 1) if count <= limit), 0) if count else 0
    # Few shades are spread over all: two counts must look different.
    spread = round(shade * STEPS / len(limits)) if limits and shade else 0
    xs, ys = [x for x, _ in rings[0]], [y for _, y in rings[0]]
    return Shape(area, path, count, spread, round((min(xs) + max(xs)) / 2, 1), round((min(ys) + max(ys)) / 2, 1))


def _rings(geometry: Mapping[str, Any]) -> Iterator[list[list[float]]]:
    parts = [geometry["coordinates"]] if geometry["type"] == "Polygon" else geometry["coordinates"]
    for part in parts:
        yield from part
