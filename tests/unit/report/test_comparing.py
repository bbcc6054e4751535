"""The statistics behind a comparison of runs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_hybridflow.report._comparing import mean_of
from langchain_hybridflow.report._pareto import unbeaten

# Student's t at 97.5 %, from the tables.
QUANTILES = {2: 12.706, 3: 4.303, 31: 2.042, 32: 2.040, 41: 2.021, 61: 2.000, 121: 1.980}


@pytest.mark.parametrize(("count", "quantile"), QUANTILES.items())
def test_interval_is_by_students_t_for_any_number_of_runs(count: int, quantile: float) -> None:
    # One value is 1 and all others are 0: the standard error is exactly 1 / count.
    found = mean_of([1.0, *[0.0] * (count - 1)])
    assert found.half == pytest.approx(quantile / count, rel=3e-4)


def test_single_value_has_no_interval() -> None:
    assert mean_of([3.0]).half is None


POINTS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=8)


@given(POINTS)
def test_front_is_what_no_other_point_beats(points: list[tuple[int, int]]) -> None:
    front = unbeaten(points, cost=lambda point: point[0], worth=lambda point: point[1])
    better = {
        one
        for one in points
        if not any(a <= one[0] and b >= one[1] and (a, b) != one for a, b in points)
    }
    assert set(front) == better
    assert len(front) == len(better)
