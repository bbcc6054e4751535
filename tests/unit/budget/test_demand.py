"""How many calls are still to come."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_hybridflow.budget.demand import HOURS, Demand, hours_of_day

HOUR_S = 3_600.0
DAY_S = 24 * HOUR_S
OFFICE = tuple(1.0 if 8 <= hour < 18 else 0.0 for hour in range(HOURS))

moments = st.floats(0, 50 * DAY_S)


def fed(demand: Demand, rates: list[int], *, days: int = 1, weights: object = None) -> Demand:
    """So many calls in each hour, told of every ten minutes."""
    for slot in range(days * len(rates) * 6):
        calls = rates[slot // 6 % len(rates)] // 6
        demand = demand.after(
            calls,
            start_s=slot * 600.0,
            end_s=(slot + 1) * 600.0,
            memory_s=DAY_S / 2,
            weights=weights,  # type: ignore[arg-type]
        )
    return demand


def expected(demand: Demand, start_s: float, end_s: float, weights: object = None) -> float:
    return demand.expected_calls(
        start_s,
        end_s,
        memory_s=DAY_S / 2,
        weights=weights,  # type: ignore[arg-type]
    )


@given(moments, moments)
def test_hours_of_day_add_up_to_the_whole_stretch(one: float, other: float) -> None:
    start, end = sorted((one, other))
    hours = hours_of_day(start, end)
    assert sum(hours) == pytest.approx((end - start) / HOUR_S, abs=1e-6)
    assert min(hours) >= -1e-9


@given(moments, moments, moments)
def test_hours_of_day_do_not_change_when_a_stretch_is_cut_in_two(
    one: float, other: float, third: float
) -> None:
    start, middle, end = sorted((one, other, third))
    halves = zip(hours_of_day(start, middle), hours_of_day(middle, end), strict=True)
    whole = hours_of_day(start, end)
    assert [first + second for first, second in halves] == pytest.approx(list(whole), abs=1e-6)


def test_demand_expects_nothing_while_nothing_is_known() -> None:
    assert expected(Demand(), 0.0, DAY_S) == 0.0


def test_demand_goes_on_as_before_when_traffic_is_steady() -> None:
    demand = fed(Demand(), [120] * 24)
    assert expected(demand, DAY_S, 2 * DAY_S) == pytest.approx(24 * 120, rel=0.02)


def test_demand_learns_the_rhythm_of_the_day() -> None:
    rates = [600 if 8 <= hour < 18 else 60 for hour in range(24)]
    demand = fed(Demand(), rates, days=3)
    morning = expected(demand, 3 * DAY_S, 3 * DAY_S + 8 * HOUR_S)
    office = expected(demand, 3 * DAY_S + 8 * HOUR_S, 3 * DAY_S + 18 * HOUR_S)
    assert morning == pytest.approx(8 * 60, rel=0.25)
    assert office == pytest.approx(10 * 600, rel=0.25)


def test_demand_follows_given_weights_from_the_first_hour_on() -> None:
    demand = Demand().after(
        100, start_s=8 * HOUR_S, end_s=9 * HOUR_S, memory_s=DAY_S / 2, weights=OFFICE
    )
    assert expected(demand, 9 * HOUR_S, DAY_S, OFFICE) == pytest.approx(900)
    assert expected(demand, 18 * HOUR_S, DAY_S, OFFICE) == 0.0
    assert demand.slot_calls == ()


def test_demand_takes_hours_it_has_not_seen_for_busy_ones() -> None:
    rates = [60] * 6 + [600] * 3
    demand = fed(Demand(), rates)
    flat = sum(rates) / len(rates) * 15
    assert expected(demand, 9 * HOUR_S, DAY_S) > 1.2 * flat


def test_demand_expects_a_burst_to_last_about_as_long_again() -> None:
    calm = fed(Demand(), [120] * 24)
    burst = calm.after(600, start_s=DAY_S, end_s=DAY_S + 600, memory_s=DAY_S / 2)
    now = DAY_S + 600
    soon = expected(burst, now, now + 600) / expected(calm, now, now + 600)
    later = expected(burst, now + 600, now + DAY_S / 2) / expected(calm, now + 600, now + DAY_S / 2)
    assert soon > 5  # thirty times as many calls as before
    assert later < soon / 3


def test_demand_believes_a_surge_that_stays() -> None:
    calm = fed(Demand(), [120] * 24)
    surge = calm
    for slot in range(6 * 6):
        surge = surge.after(
            160, start_s=DAY_S + slot * 600, end_s=DAY_S + (slot + 1) * 600, memory_s=DAY_S / 2
        )
    now = DAY_S + 6 * HOUR_S
    assert 3 * 18 * 120 < expected(surge, now, 2 * DAY_S) < 1.2 * 18 * 960


def test_demand_forgets_a_volume_that_is_no_more() -> None:
    busy = fed(Demand(), [600] * 24)
    idle = busy.after(0, start_s=DAY_S, end_s=5 * DAY_S, memory_s=DAY_S / 2)
    assert expected(idle, 5 * DAY_S, 6 * DAY_S) < 0.1 * expected(busy, DAY_S, 2 * DAY_S)


def test_demand_counts_calls_of_the_same_instant() -> None:
    demand = Demand.guess(0, 1.0).after(10, start_s=5.0, end_s=5.0, memory_s=DAY_S)
    assert expected(demand, 5.0, 5.0 + HOUR_S) == pytest.approx(10)
