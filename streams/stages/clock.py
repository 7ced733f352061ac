"""Working time: when a limit runs out, and how much of it is used. Pure arithmetic on milliseconds; no clock.

A calendar is a week of hours plus exceptions by date. Worked time since 1970 is a closed formula (whole weeks, a
part of one, the surplus of the exceptions before it), so both directions cost a few look-ups, however long the limit.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import Final, Literal

import msgspec

from schemas.times import DAY, MINUTE

ClockKind = Literal["wall", "working"]

#: Working intervals of one day: (from, to) in ms after local midnight, ascending, disjoint.
Hours = tuple[tuple[int, int], ...]

#: 1970-01-01 was a Thursday; adding this to a day's number makes weeks start on Monday.
_THURSDAY: Final = 3


class Calendar(msgspec.Struct, frozen=True):
    """Working hours; build it with `make_calendar`. Days are numbered from 1970-01-01, local time."""

    #: Seven days' hours, Monday first.
    week: tuple[Hours, ...]
    #: Days with hours of their own: holidays (none) and swapped working days.
    exceptions: dict[int, Hours]
    #: The exceptions' numbers, ascending.
    exception_days: tuple[int, ...]
    #: surplus[i]: ms worked on the first i exceptions beyond what their weekdays would give.
    surplus: tuple[int, ...]
    #: before[i]: ms worked in a plain week before weekday i; before[7] is the whole week.
    before: tuple[int, ...]


def make_calendar(week: Sequence[Hours], exceptions: Mapping[int, Hours]) -> Calendar:
    """Seven days' hours (ms after midnight, Monday first) and exceptions by day number -> calendar.

    Raises ValueError when the week has no working time at all: a working clock would never run out.
    """
    lengths = [_length(hours) for hours in week]
    before = [0]
    for length in lengths:
        before.append(before[-1] + length)
    if len(lengths) != 7 or before[7] <= 0:
        raise ValueError("a calendar needs seven days with some working time among them")
    days = tuple(sorted(exceptions))
    surplus = [0]
    for day in days:
        surplus.append(surplus[-1] + _length(exceptions[day]) - lengths[(day + _THURSDAY) % 7])
    return Calendar(tuple(week), dict(exceptions), days, tuple(surplus), tuple(before))


def due(start_ms: int, limit_ms: int, clock: ClockKind, calendar: Calendar, offset_minutes: int) -> int:
    """The first moment by which `limit_ms` have passed since `start_ms` (ms since 1970, UTC) on the given clock.

    A limit of zero or less is due at once. A working limit that ends with a day's work is due then, not next morning.
    """
    if limit_ms <= 0:
        return start_ms
    if clock == "wall":
        return start_ms + limit_ms
    offset = offset_minutes * MINUTE
    target = _worked(calendar, start_ms + offset) + limit_ms
    day = _day_reaching(calendar, target, (start_ms + offset) // DAY)
    left = target - _worked_before(calendar, day)
    for begin, end in _hours(calendar, day):
        if left <= end - begin:
            return day * DAY + begin + left - offset
        left -= end - begin
    raise AssertionError("a day that reaches the target holds it")


def elapsed(start_ms: int, end_ms: int, clock: ClockKind, calendar: Calendar, offset_minutes: int) -> int:
    """Ms that passed on the given clock from `start_ms` to `end_ms`; negative when the end comes first."""
    if clock == "wall":
        return end_ms - start_ms
    offset = offset_minutes * MINUTE
    return _worked(calendar, end_ms + offset) - _worked(calendar, start_ms + offset)


def _length(hours: Hours) -> int:
    return sum(end - begin for begin, end in hours)


def _hours(calendar: Calendar, day: int) -> Hours:
    own = calendar.exceptions.get(day)
    return calendar.week[(day + _THURSDAY) % 7] if own is None else own


def _worked_before(calendar: Calendar, day: int) -> int:
    """Ms worked from day 0 to the start of `day`; days before 1970 count negative."""
    weeks, weekday = divmod(day + _THURSDAY, 7)
    return (
        weeks * calendar.before[7]
        + calendar.before[weekday]
        + calendar.surplus[bisect_left(calendar.exception_days, day)]
    )


def _worked(calendar: Calendar, local_ms: int) -> int:
    day, within = divmod(local_ms, DAY)
    total = _worked_before(calendar, day)
    for begin, end in _hours(calendar, day):
        if within <= begin:
            break
        total += min(within, end) - begin
    return total


def _day_reaching(calendar: Calendar, target: int, first: int) -> int:
    """The first day, from `first` on, at whose end `target` is reached."""
    low, step = first, 1
    while _worked_before(calendar, low + step) < target:
        low, step = low + step, step * 2
    high = low + step - 1
    while low < high:
        middle = (low + high) // 2
        if _worked_before(calendar, middle + 1) >= target:
            high = middle
        else:
            low = middle + 1
    return low
