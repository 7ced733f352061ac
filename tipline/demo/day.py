"""The day's texts (`day.tsv`) as submissions, dated on the day before the demo runs; and those of the hour in which it stays up (`now.tsv`)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.resources import files
from typing import Any, Final

import msgspec

from schemas.errors import TiplineError
from schemas.times import DAY, MINUTE, SECOND, format_time

_COLUMNS: Final = 6
_AT = re.compile(r"(?:-(\d+)d )?(\d\d):(\d\d)(?::(\d\d))?")
_OTHER_ROW = re.compile(r"\{([\w-]+)\}")
_NUMBERS = re.compile(r"(?<!\d)(?:1\d{10}|\d{16,19}|\d{17}[\dX])(?!\d)")


class BadDay(TiplineError):
    """A row of the day that cannot be read; the message says which and why."""


class Row(msgspec.Struct, frozen=True):
    """One row: who says what, when (ms from the day's midnight, or from the hour's beginning), where."""

    id: str
    at: int
    source: str
    reporter: str
    phone: str | None
    name: str | None
    place: str | None
    point: tuple[float, float] | None
    text: str

    def submission(self, begin: int, offset_minutes: int) -> dict[str, Any]:
        """As a channel would send it; `begin` (ms) is the day's midnight, or the hour's beginning."""
        place: dict[str, Any] = {}
        if self.place is not None:
            place["text"] = self.place
        if self.point is not None:
            place["lat"], place["lon"] = self.point
        reporter = {"id": self.reporter, "phone": self.phone, "name": self.name}
        return {
            "text": self.text,
            "source": self.source,
            "message_id": self.id,
            "reported_at": format_time(begin + self.at, offset_minutes),
            "reporter": {key: value for key, value in reporter.items() if value is not None},
            **({"place": place} if place else {}),
        }


def read_day() -> list[Row]:
    """The packaged day, in the order of its clock. Raises BadDay."""
    return _read("day.tsv")


def read_now() -> list[Row]:
    """The tips of the hour in which the demo stays up, in the order of its clock. Raises BadDay."""
    return _read("now.tsv")


def _read(name: str) -> list[Row]:
    text = files("tipline.demo").joinpath(name).read_text("utf-8")
    found: dict[str, Row] = {}
    for row in _rows(text, name):
        if row.id in found:
            raise BadDay(f"{name}: {row.id} stands there twice")
        found[row.id] = row
    whole = [_with_text(name, row, found) for row in found.values()]
    return sorted(whole, key=lambda row: (row.at, row.id))


def _rows(text: str, file: str = "day.tsv") -> Iterator[Row]:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        cells = line.split("\t")
        if len(cells) != _COLUMNS:
            raise BadDay(f"{file}:{number}: {len(cells)} columns, not {_COLUMNS}: separate them by single tabs")
        identity, at, source, who, place, words = (cell.strip() for cell in cells)
        reporter, phone, name = [*who.split("/"), None, None][:3]
        point = None
        if place.startswith("@"):
            lat, lon = place[1:].split(",")
            point, place = (float(lat), float(lon)), ""
        yield Row(
            id=identity or f"row-{number}",
            at=_moment(file, at, number),
            source=source,
            reporter=reporter or "",
            phone=phone,
            name=name,
            place=place or None,
            point=point,
            text=words,
        )


def _moment(file: str, at: str, number: int) -> int:
    found = _AT.fullmatch(at)
    if found is None:
        raise BadDay(f"{file}:{number}: {at!r} is no time: write it like 08:30, 08:30:20 or -3d 08:30")
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return (hours * 60 + minutes) * MINUTE + seconds * SECOND - days * DAY


def _with_text(name: str, row: Row, rows: dict[str, Row]) -> Row:
    """The row with what it forwards put in."""

    def other(match: re.Match[str]) -> str:
        if match[1] not in rows:
            raise BadDay(f"{name}: {row.id} forwards {match[1]}, which is not there")
        return rows[match[1]].text

    return msgspec.structs.replace(row, text=_OTHER_ROW.sub(other, row.text))


def identities(rows: list[Row]) -> list[str]:
    """Every phone, card and identity number and reporter's name of the day: what must stand nowhere in the clear."""
    found: dict[str, None] = {}
    for row in rows:
        found.update(dict.fromkeys(_NUMBERS.findall(row.text)))
        found.update(dict.fromkeys(word for word in (row.phone, row.name) if word))
    return [word for word in found if len(word) >= 4]
