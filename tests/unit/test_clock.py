"""Working time against a slow model, and the laws of `due` and `elapsed`."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.times import DAY, HOUR, MINUTE, parse_time
from streams.stages.clock import Calendar, due, elapsed, make_calendar
from streams.stages.county import calendar_of, day_number, hours_of

OFFSET = 480
OFFICE = hours_of(["08:30-12:00", "14:00-17:30"])
CALENDAR = make_calendar(
    [OFFICE] * 5 + [(), ()],
    {day_number("2026-10-01"): (), day_number("2026-10-02"): (), day_number("2026-10-10"): OFFICE},
)

MOMENTS = st.integers(parse_time("2026-08-01T00:00:00Z"), parse_time("2026-12-01T00:00:00Z"))
LIMITS = st.integers(0, 40 * DAY)


@st.composite
def calendars(draw: st.DrawFn) -> Calendar:
    """Weeks with any hours on the half hour, at least one of them worked, and exceptions around October 2026."""
    one = st.lists(st.integers(0, 48), max_size=6, unique=True).map(sorted)
    day = one.map(lambda e: tuple((e[i] * 30 * MINUTE, e[i + 1] * 30 * MINUTE) for i in range(0, len(e) - 1, 2)))
    week = draw(st.lists(day, min_size=7, max_size=7).filter(any))
    first = day_number("2026-09-20")
    return make_calendar(week, draw(st.dictionaries(st.integers(first, first + 30), day, max_size=8)))


def slow_elapsed(start: int, end: int, calendar: Calendar) -> int:
    """Worked ms, interval by interval, day by day."""
    total, shift = 0, OFFSET * MINUTE
    for day in range((start + shift) // DAY, (end + shift) // DAY + 1):
        for begin, finish in calendar.exceptions.get(day, calendar.week[(day + 3) % 7]):
            low, high = day * DAY + begin - shift, day * DAY + finish - shift
            total += max(0, min(high, end) - max(low, start))
    return total


def at(text: str) -> int:
    return parse_time(text + ":00+08:00")


@pytest.mark.parametrize(
    ("start", "hours", "expected"),
    [
        ("2026-09-28T08:30", 7, "2026-09-28T17:30"),  # a whole day ends with the day
        ("2026-09-28T11:00", 2, "2026-09-28T15:00"),  # across lunch
        ("2026-09-28T20:00", 1, "2026-09-29T09:30"),  # from the evening
        ("2026-09-30T17:00", 1, "2026-10-05T09:00"),  # over two holidays and a weekend
        ("2026-10-09T17:00", 1, "2026-10-10T09:00"),  # a Saturday worked in exchange
    ],
)
def test_working_limits_run_in_working_hours(start: str, hours: int, expected: str) -> None:
    assert due(at(start), hours * HOUR, "working", CALENDAR, OFFSET) == at(expected)


def test_wall_limits_take_no_notice_of_the_calendar() -> None:
    assert due(at("2026-10-07T09:00"), 24 * HOUR, "wall", CALENDAR, OFFSET) == at("2026-10-08T09:00")
    assert elapsed(at("2026-10-07T09:00"), at("2026-10-08T09:00"), "wall", CALENDAR, OFFSET) == 24 * HOUR


@given(calendars(), MOMENTS, st.integers(0, 60 * DAY))
def test_elapsed_equals_the_slow_model(calendar: Calendar, start: int, length: int) -> None:
    assert elapsed(start, start + length, "working", calendar, OFFSET) == slow_elapsed(start, start + length, calendar)


@given(calendars(), MOMENTS, LIMITS)
def test_due_is_the_first_moment_by_which_the_limit_passed(calendar: Calendar, start: int, limit: int) -> None:
    end = due(start, limit, "working", calendar, OFFSET)
    assert end >= start
    assert elapsed(start, end, "working", calendar, OFFSET) == limit
    if limit:
        assert elapsed(start, end - 1, "working", calendar, OFFSET) == limit - 1


@given(calendars(), MOMENTS, LIMITS, LIMITS, st.sampled_from(["wall", "working"]))
def test_due_is_additive(calendar: Calendar, start: int, first: int, second: int, clock: str) -> None:
    both = due(start, first + second, clock, calendar, OFFSET)  # type: ignore[arg-type]
    assert due(due(start, first, clock, calendar, OFFSET), second, clock, calendar, OFFSET) == both  # type: ignore[arg-type]


@given(MOMENTS, MOMENTS, MOMENTS)
def test_elapsed_adds_up_and_turns_round(a: int, b: int, c: int) -> None:
    def worked(x: int, y: int) -> int:
        return elapsed(x, y, "working", CALENDAR, OFFSET)

    assert worked(a, b) + worked(b, c) == worked(a, c)
    assert worked(a, b) == -worked(b, a)


@given(MOMENTS, MOMENTS, LIMITS)
def test_a_later_start_is_never_due_earlier(a: int, b: int, limit: int) -> None:
    early, late = sorted((a, b))
    assert due(early, limit, "working", CALENDAR, OFFSET) <= due(late, limit, "working", CALENDAR, OFFSET)


def test_a_week_without_work_is_refused() -> None:
    with pytest.raises(ValueError, match="working time"):
        make_calendar([()] * 7, {})


@pytest.mark.parametrize("text", ["8:30-12:00", "12:00-08:00", "08:00-24:30", "08:00", "nine to five"])
def test_hours_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"must|write"):
        hours_of([text])


def test_a_swapped_day_outranks_a_holiday() -> None:
    raw = {
        "hours": {"mon": ["09:00-10:00"]},
        "holidays": [{"from": "2026-10-01", "to": "2026-10-03"}],
        "workdays": [{"date": "2026-10-03", "like": "mon"}],
    }
    assert calendar_of(raw).exceptions[day_number("2026-10-03")] == ((9 * HOUR, 10 * HOUR),)
