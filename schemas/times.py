"""Time as data: RFC 3339 at the border, integer milliseconds since 1970 (UTC) inside. No clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache

SECOND = 1_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)


def parse_time(value: str) -> int:
    """RFC 3339 with offset -> ms since 1970. Raises ValueError without an offset or for what is no time."""
    moment = datetime.fromisoformat(value.upper() if value[-1:] == "z" else value)
    if moment.tzinfo is None:
        raise ValueError(f"{value!r} has no offset: write it like 2026-01-31T08:00:00+08:00")
    return (moment - _EPOCH) // _MS


def format_time(ms: int, offset_minutes: int = 0) -> str:
    """Ms since 1970 -> RFC 3339 at the given offset; `Z` for zero; milliseconds only where there are any."""
    day, rest = divmod(ms + offset_minutes * MINUTE, DAY)
    seconds, thousandths = divmod(rest, SECOND)
    fraction = f".{thousandths:03}" if thousandths else ""
    return f"{_date(day)}T{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{fraction}{_suffix(offset_minutes)}"


@lru_cache(maxsize=1024)
def _date(day: int) -> str:
    return (_EPOCH + timedelta(days=day)).date().isoformat()


@lru_cache(maxsize=64)
def _suffix(offset_minutes: int) -> str:
    if not offset_minutes:
        return "Z"
    return f"{'-' if offset_minutes < 0 else '+'}{abs(offset_minutes) // 60:02}:{abs(offset_minutes) % 60:02}"


def parse_offset(value: str) -> int:
    """`+08:00` -> 480 minutes. Raises ValueError for anything else."""
    if len(value) != 6 or value[0] not in "+-" or value[3] != ":":
        raise ValueError(f"{value!r} is no UTC offset: write it like +08:00")
    minutes = int(value[1:3]) * 60 + int(value[4:6])
    if minutes > 14 * 60 or int(value[4:6]) > 59:
        raise ValueError(f"{value!r} is no UTC offset: they go from -14:00 to +14:00")
    return -minutes if value[0] == "-" else minutes
