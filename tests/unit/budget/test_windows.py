"""Windows of time: no gap, no overlap, whatever clocks and calendars do."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from langchain_hybridflow.budget import Window
from langchain_hybridflow.budget.windows import BUCKETS
from langchain_hybridflow.errors import ConfigurationError

ZONES = (
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "America/Sao_Paulo",  # its clocks went forward at midnight: days without one
    "America/St_Johns",  # and here back at one past midnight: days that came twice
    "Australia/Lord_Howe",  # by half an hour
    "Pacific/Apia",  # skipped the 30th of December 2011
    "Asia/Kolkata",
    "Africa/Cairo",
)
FIRST = datetime(1985, 1, 1, tzinfo=UTC).timestamp()
LAST = datetime(2035, 1, 1, tzinfo=UTC).timestamp()

times = st.floats(FIRST, LAST)
calendar_windows = st.builds(Window, st.sampled_from(["day", "month"]), tz=st.sampled_from(ZONES))
fixed_windows = st.one_of(
    calendar_windows,
    st.sampled_from([Window(length) for length in ("hour", "1m", "30m", "1h", "1d", "7d")]),
)
rolling_windows = st.sampled_from(
    [Window(length, rolling=True) for length in ("hour", "day", "1m", "90m", "7d")]
)


def at(text: str, zone: str = "UTC") -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


@example(Window("day"), 2_051_222_399.999_999_8)
@given(fixed_windows, times)
def test_window_holds_the_time_that_it_is_asked_for(window: Window, now: float) -> None:
    starts_at, ends_at = window.span(now)
    assert starts_at <= now < ends_at


@given(fixed_windows, times)
def test_windows_follow_one_another_without_gap_or_overlap(window: Window, now: float) -> None:
    starts_at, ends_at = window.span(now)
    assert window.span(ends_at)[0] == ends_at
    assert window.span(starts_at - 1)[1] == starts_at


@given(fixed_windows, times, st.floats(0, 1))
def test_key_is_the_same_all_through_a_window_and_no_longer(
    window: Window, now: float, where: float
) -> None:
    starts_at, ends_at = window.span(now)
    inside = min(starts_at + where * (ends_at - starts_at), ends_at - 1)
    assert window.keys(inside) == window.keys(now) == window.keys(starts_at)
    assert window.keys(ends_at)[0] != window.keys(now)[0] != window.keys(starts_at - 1)[0]


@given(calendar_windows, times)
def test_calendar_window_begins_where_the_date_changes(window: Window, now: float) -> None:
    zone = ZoneInfo(window.tz)
    starts_at = window.span(now)[0]
    before = datetime.fromtimestamp(starts_at - 1, zone)
    after = datetime.fromtimestamp(starts_at, zone)
    assert before.date() < after.date()
    assert window.length == "day" or after.day == 1 or window.tz == "Pacific/Apia"


@given(rolling_windows, times, st.floats(0, 1))
def test_rolling_window_counts_for_its_length_and_at_most_one_bucket_longer(
    window: Window, now: float, where: float
) -> None:
    spent_in = window.keys(now)[0]
    within = now + where * window.seconds * 0.999999
    assert spent_in in (window.keys(within)[0], *window.keys(within)[1])
    after = now + window.seconds * (1 + 1 / BUCKETS) + 0.001
    assert spent_in not in (window.keys(after)[0], *window.keys(after)[1])


@given(rolling_windows, times)
def test_rolling_window_has_as_many_earlier_buckets_as_can_still_lie_in_it(
    window: Window, now: float
) -> None:
    current, (_, *earlier) = window.keys(now)
    assert len({current, *earlier}) == 1 + BUCKETS
    starts_at, ends_at = window.span(now)
    assert ends_at - starts_at == pytest.approx(window.seconds * (1 + 1 / BUCKETS))
    assert starts_at <= now - window.seconds < starts_at + window.seconds / BUCKETS


@given(rolling_windows, times)
def test_rolling_window_sees_the_bucket_that_may_have_begun_meanwhile(
    window: Window, now: float
) -> None:
    ends_at = window.span(now)[1]
    assert window.keys(ends_at)[0] in window.keys(now)[1]


@given(st.one_of(fixed_windows, rolling_windows), st.one_of(fixed_windows, rolling_windows), times)
def test_different_windows_never_share_a_key(one: Window, other: Window, now: float) -> None:
    keys = {one.keys(now)[0], *one.keys(now)[1]} & {other.keys(now)[0], *other.keys(now)[1]}
    assert not keys or one == other


@given(st.one_of(fixed_windows, rolling_windows))
def test_window_is_read_as_it_is_written(window: Window) -> None:
    assert Window.parse(str(window)) == window
    assert Window.parse(window) is window


@pytest.mark.parametrize(
    ("day", "hours"),
    [("2025-03-30", 23), ("2025-10-26", 25), ("2025-06-01", 24), ("2024-02-29", 24)],
)
def test_day_is_as_long_as_its_clock_says(day: str, hours: int) -> None:
    starts_at, ends_at = Window("day", tz="Europe/Berlin").span(at(f"{day}T12:00", "Europe/Berlin"))
    assert (ends_at - starts_at) / 3_600 == hours


@pytest.mark.parametrize(
    ("now", "days"),
    [("2024-02-10", 29), ("2025-02-10", 28), ("2025-12-31T23:59", 31), ("2025-04-30", 30)],
)
def test_month_is_as_long_as_the_calendar_says(now: str, days: int) -> None:
    starts_at, ends_at = Window("month").span(at(now))
    assert (ends_at - starts_at) / 86_400 == days


def test_day_that_has_no_midnight_begins_at_its_first_instant() -> None:
    zone = "America/Sao_Paulo"
    starts_at, _ = Window("day", tz=zone).span(at("2018-11-04T12:00", zone))
    assert datetime.fromtimestamp(starts_at, ZoneInfo(zone)).isoformat() == (
        "2018-11-04T01:00:00-02:00"
    )


def test_clock_that_is_put_back_over_midnight_does_not_bring_the_day_before_back() -> None:
    zone = ZoneInfo("America/St_Johns")
    window = Window("day", tz="America/St_Johns")
    twice = datetime(2006, 10, 28, 23, 30, tzinfo=zone)
    first, second = twice.timestamp(), twice.replace(fold=1).timestamp()
    assert second - first == 3_600
    assert window.keys(first)[0] == "day=2006-10-28@America/St_Johns"
    assert window.keys(second)[0] == "day=2006-10-29@America/St_Johns"


def test_day_that_a_country_skipped_is_no_window() -> None:
    zone = "Pacific/Apia"
    window = Window("day", tz=zone)
    _, ends_at = window.span(at("2011-12-29T12:00", zone))
    assert window.keys(ends_at)[0] == "day=2011-12-31@Pacific/Apia"


def test_window_of_seven_days_begins_on_monday() -> None:
    starts_at, _ = Window("7d").span(at("2026-11-21"))
    begin = datetime.fromtimestamp(starts_at, UTC)
    assert (begin.weekday(), begin.time().isoformat()) == (0, "00:00:00")
    assert timedelta() <= datetime(2026, 11, 21, tzinfo=UTC) - begin < timedelta(days=7)


@pytest.mark.parametrize("text", ["hour", "day", "month", "30m", "1h", "7d", "last 1h", "last day"])
def test_window_can_be_a_text(text: str) -> None:
    assert str(Window.parse(f" {text} ")) == text


@pytest.mark.parametrize(
    "wrong",
    [
        *("", "week", "1w", "0h", "-1h", "1.5h", "h", "1H", "60", "last month", "day@Mars/Olympus"),
        *("99999d", "1h@Europe/Berlin", "hour@Europe/Berlin", "day@../../etc/passwd", "last"),
        *(3_600, None, True, ("1h",)),
    ],
    ids=repr,
)
def test_window_is_refused_when_it_is_none(wrong: object) -> None:
    with pytest.raises(ConfigurationError):
        Window.parse(wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "wrong",
    [
        {"length": "month", "rolling": True},
        {"length": "1h", "rolling": "yes"},
        {"length": "day", "tz": "Nowhere/At_All"},
        {"length": "day", "tz": None},
        {"length": "day", "tz": "Europe/Berlin", "rolling": True},
    ],
    ids=str,
)
def test_window_is_refused_when_its_parts_do_not_go_together(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError):
        Window(**wrong)  # type: ignore[arg-type]
