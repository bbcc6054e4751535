from __future__ import annotations

import random
from datetime import date
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_hybridflow.sandbox import CLOUD_PROFILE, EDGE_PROFILE
from langchain_hybridflow.sandbox.language import Value
from langchain_hybridflow.sandbox.operations import read_table
from langchain_hybridflow.sandbox.program import Node
from langchain_hybridflow.sandbox.slips import plausible_mistake, success_rate

TABLE = Node("t", "t", "eliminate", (), 5)
LEAD = Node("t", "t", "leading", (), 2)


@given(
    st.one_of(
        st.integers(0, 10**6).map(Decimal),
        st.decimals(0, 10**4, places=2),
        st.dates(),
    ),
    st.integers(),
)
def test_plausible_mistake_is_another_value_of_the_same_type(value: Value, seed: int) -> None:
    node = Node("x", "x", "add", (), 2)
    wrong = plausible_mistake(node, (value, value), value, random.Random(seed))
    assert wrong != value
    assert type(wrong) is type(value)


@given(st.integers())
def test_plausible_mistake_names_somebody_else_of_the_question(seed: int) -> None:
    args = ("Ada", Decimal(1), "Bo", Decimal(2))
    assert plausible_mistake(LEAD, args, "Bo", random.Random(seed)) == "Ada"


@given(st.integers())
def test_plausible_mistake_confuses_two_things_of_a_table(seed: int) -> None:
    truth = "Ada: cat; Bo: dog; Cy: pony"
    wrong = read_table(str(plausible_mistake(TABLE, (), truth, random.Random(seed))))
    assert sorted(wrong.values()) == ["cat", "dog", "pony"]
    assert sum(wrong[who] != what for who, what in read_table(truth).items()) == 2


def test_plausible_mistake_does_not_leave_the_calendar() -> None:
    node = Node("x", "x", "days_after", (), 2)
    for seed in range(20):
        assert plausible_mistake(node, (), date.max, random.Random(seed)) != date.max


@given(st.integers(1, 8), st.integers(1, 20))
def test_success_rate_falls_with_difficulty_and_with_the_number_of_steps(
    difficulty: int, steps: int
) -> None:
    rate = success_rate(6, difficulty, steps_at_once=steps)
    assert success_rate(6, difficulty + 1, steps_at_once=steps) < rate
    assert success_rate(6, difficulty, steps_at_once=steps + 1) < rate


@pytest.mark.parametrize(
    ("skill", "difficulty", "low", "high"),
    [
        (EDGE_PROFILE.skill, 3, 0.95, 1.0),
        (EDGE_PROFILE.skill, 6, 0.4, 0.65),
        (CLOUD_PROFILE.skill, 3, 0.99, 1.0),
        (CLOUD_PROFILE.skill, 6, 0.98, 1.0),
    ],
)
def test_success_rate_of_a_lone_step_is_that_of_the_tier(
    skill: float, difficulty: int, low: float, high: float
) -> None:
    assert low <= success_rate(skill, difficulty) <= high
