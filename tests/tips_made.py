"""Tips in any number, the same each time: the texts of `tests/quality`, told again and again with time going on."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from schemas.records import Place, Tip
from schemas.times import HOUR, MINUTE, format_time, parse_time
from schemas.vocabulary import Channel

_SPACE = uuid.UUID(int=11)
START = parse_time("2026-03-01T06:00:00+08:00")
CHANNELS: tuple[Channel, ...] = get_args(Channel)


def tips(count: int, county: str = "anping", salt: str = "", turn_hours: int = 120) -> Iterator[Tip]:
    """`count` tips in the order they came in. Every round through the texts begins `turn_hours` after the one before."""
    told = _texts()
    for number in range(count):
        turn, index = divmod(number, len(told))
        row = told[index]
        at = START + turn * turn_hours * HOUR + index * 7 * MINUTE
        place = Place(text=row["place_text"]) if row.get("place_text") else None
        yield Tip(
            county=county,
            tip_id=str(uuid.uuid5(_SPACE, f"{county}/{salt}/{number}")),
            source="hotline:made",
            channel=CHANNELS[index % len(CHANNELS)],
            text=row["text"],
            message_id=f"{salt}{number}",
            received_at=format_time(at),
            reported_at=format_time(at - 30_000),
            place=place,
            reporter=f"r{index % 97}",
        )


def _texts() -> list[dict[str, Any]]:
    folder = Path(__file__).parent / "quality"
    lines: list[dict[str, Any]] = []
    for name in ("group-a.jsonl", "group-b.jsonl"):
        lines.extend(json.loads(line) for line in folder.joinpath(name).read_text("utf-8").splitlines())
    return lines
