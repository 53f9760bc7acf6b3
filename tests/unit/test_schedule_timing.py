"""When ticks are: on real zone data, through hours that do not exist and hours that come twice."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.errors import InvalidSetting
from headrace.schedules.timing import Cron, Every, cron, every


def ms(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def ticks(when: Cron | Every, start: str, count: int) -> list[str]:
    """Give ticks after an instant, as the clocks of the schedule's zone show them."""
    found, at = [], ms(start)
    zone = ZoneInfo(when.timezone) if isinstance(when, Cron) else UTC
    for _ in range(count):
        at = when.after(at)
        found.append(f"{datetime.fromtimestamp(at / 1000, zone):%m-%d %H:%M%z}")
    return found


def test_a_time_that_the_clocks_skip_comes_when_they_have_been_put_forward() -> None:
    nightly = cron("30 2 * * *", "Europe/Berlin")
    assert ticks(nightly, "2026-03-27T12:00+01:00", 3) == [
        "03-28 02:30+0100",
        "03-29 03:00+0200",
        "03-30 02:30+0200",
    ]


def test_several_times_that_the_clocks_skip_come_once_together() -> None:
    assert ticks(cron("0,20,40 2 * * *", "Europe/Berlin"), "2026-03-29T00:00+01:00", 2) == [
        "03-29 03:00+0200",
        "03-30 02:00+0200",
    ]


def test_a_time_that_the_clocks_show_twice_comes_once() -> None:
    nightly = cron("30 2 * * *", "Europe/Berlin")
    assert ticks(nightly, "2026-10-24T12:00+02:00", 2) == ["10-25 02:30+0200", "10-26 02:30+0100"]
    # Also for who begins between the two.
    assert ticks(nightly, "2026-10-25T02:10+01:00", 1) == ["10-26 02:30+0100"]


def test_what_is_regular_goes_by_time_as_it_passes() -> None:
    half_hourly = cron("*/30 * * * *", "Europe/Berlin")
    assert ticks(half_hourly, "2026-10-25T01:30+02:00", 5) == [
        "10-25 02:00+0200",
        "10-25 02:30+0200",
        "10-25 02:00+0100",
        "10-25 02:30+0100",
        "10-25 03:00+0100",
    ]
    assert ticks(half_hourly, "2026-03-29T01:00+01:00", 2) == [
        "03-29 01:30+0100",
        "03-29 03:00+0200",
    ]


def test_midnight_comes_where_the_clocks_skip_it() -> None:
    assert ticks(cron("@daily", "America/Havana"), "2026-03-07T12:00-05:00", 2) == [
        "03-08 01:00-0400",
        "03-09 00:00-0400",
    ]


@pytest.mark.parametrize(
    ("zone", "first"),
    [
        ("Europe/Berlin", "2026-03-28"),
        ("Europe/Berlin", "2026-10-24"),
        ("Australia/Lord_Howe", "2026-04-04"),  # by half an hour
        ("Australia/Lord_Howe", "2026-10-03"),
        ("America/Santiago", "2026-09-05"),  # at midnight
        ("Asia/Beirut", "2026-03-28"),
        ("Pacific/Apia", "2011-12-29"),  # a whole day
        ("Antarctica/Troll", "2026-10-24"),  # by two hours
    ],
)
@settings(max_examples=4)
@given(
    minute=st.sampled_from(["*", "*/7", "*/15", "*/30"]),
    hour=st.sampled_from(["*", "*/2", "0", "1", "2", "3", "0,2", "1-3"]),
    day=st.sampled_from(["* * *", "* * SUN", "28 * *", "L * SUN"]),
)
def test_what_is_regular_has_a_tick_whenever_the_clocks_show_one(
    zone: str, first: str, minute: str, hour: str, day: str
) -> None:
    fields = CronSim(f"{minute} {hour} {day}", datetime(2000, 1, 1))
    start = datetime.fromisoformat(first).replace(tzinfo=UTC)
    expected = []
    for minutes in range(2 * 1440):
        at = start + timedelta(minutes=minutes)
        shown = at.astimezone(ZoneInfo(zone))
        if shown.hour in fields.hours and fields.match_day(shown.date()):
            if shown.minute in fields.minutes:
                expected.append(round(at.timestamp() * 1000))
    when = Cron(f"{minute} {hour} {day}", zone)
    found, at_ms = [], round(start.timestamp() * 1000) - 1
    for _ in range(len(expected)):
        at_ms = when.after(at_ms)
        found.append(at_ms)
    assert found == expected
    assert when.after(at_ms) >= round((start + timedelta(days=2)).timestamp() * 1000)


@given(st.integers(100, 10**10), st.integers(0, 10**14))
def test_every_never_drifts(period_ms: int, at_ms: int) -> None:
    when = Every(period_ms)
    found = list(islice(_after(when, at_ms), 5))
    assert found[0] > at_ms
    assert all(tick % period_ms == 0 for tick in found)
    assert all(b - a == period_ms for a, b in pairwise(found))


def _after(when: Every, at_ms: int):  # type: ignore[no-untyped-def]
    while True:
        yield (at_ms := when.after(at_ms))


@pytest.mark.parametrize(
    ("expression", "zone", "says"),
    [
        ("60 * * * *", "UTC", "bad minute"),
        ("* * * *", "UTC", "4 fields"),
        ("* * * * * *", "UTC", "6 fields"),
        ("@reboot", "UTC", "1 fields"),
        ("0 0 31 2 *", "UTC", "bad day-of-month"),
        ("0 0 * * *", "Mars/Olympus", "Mars/Olympus"),
        ("0 0 * * *", "../etc/passwd", "not known"),
    ],
)
def test_what_is_no_cron_expression_or_zone_is_refused(
    expression: str, zone: str, says: str
) -> None:
    with pytest.raises(InvalidSetting, match=says):
        cron(expression, zone)


@pytest.mark.parametrize("period", [0, 0.05, -1, float("nan"), "5"])
def test_what_is_no_period_is_refused(period: float) -> None:
    with pytest.raises(InvalidSetting):
        every(period)


@given(st.text("0123456789*/,-L#W SUN", max_size=20))
def test_any_text_is_an_expression_or_refused(text: str) -> None:
    try:
        assert cron(text).after(0) > 0
    except InvalidSetting:
        pass
