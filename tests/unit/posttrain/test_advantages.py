"""The weights of responses: exact against the exact gradient, group by group."""

from __future__ import annotations

from itertools import product
from math import isclose, prod

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.posttrain.advantages import (
    DualVariable,
    centred,
    group_weights,
    normalised,
    priced,
)

REWARDS = st.floats(0, 3, allow_nan=False)
GROUPS = st.lists(st.one_of(REWARDS, st.none()), min_size=1, max_size=9)


@pytest.mark.parametrize("size", [2, 3, 4])
@pytest.mark.parametrize("unknown", [None, 0, 2])
def test_mean_over_all_groups_is_the_exact_gradient(size: int, unknown: int | None) -> None:
    """Softmax over three outputs; of one, it may be unknown what it is worth."""
    chances = [0.5, 0.2, 0.3]
    rewards: list[float | None] = [0.0, 1.0, 0.5]
    if unknown is not None:
        rewards[unknown] = None
    # d log pi(y) / d logit j = [j = y] - pi(j)
    found = [0.0, 0.0, 0.0]
    usable = 0.0
    for group in product(range(3), repeat=size):
        chance = prod(chances[one] for one in group)
        weights = group_weights(centred([rewards[one] for one in group]))
        usable += chance * (sum(rewards[one] is not None for one in group) > 1)
        for weight, output in zip(weights, group, strict=True):
            for j in range(3):
                found[j] += chance * weight * ((j == output) - chances[j])
    known = {one: value for one, value in enumerate(rewards) if value is not None}
    mass = sum(chances[one] for one in known)
    mean = sum(chances[one] * value for one, value in known.items()) / mass
    for j in range(3):
        # Of E[r | the reward is known], with respect to the logit j.
        exact = chances[j] / mass * (known[j] - mean) if j in known else 0.0
        assert found[j] == pytest.approx(usable * exact, abs=1e-12)


def test_std_makes_the_two_groups_of_the_paper_equal() -> None:
    helped, solved = [0.0, 0.0, 0.0, 0.5], [0.0, 0.0, 0.0, 1.0]
    assert normalised(helped, epsilon=0) == pytest.approx(normalised(solved, epsilon=0))


def test_weights_keep_the_two_groups_of_the_paper_apart() -> None:
    helped, solved = [0.0, 0.0, 0.0, 0.5], [0.0, 0.0, 0.0, 1.0]
    assert [2 * one for one in group_weights(centred(helped))] == group_weights(centred(solved))


@given(GROUPS)
def test_weights_sum_to_zero_and_give_nothing_to_the_unknown(group: list[float | None]) -> None:
    weights = group_weights(centred(group))
    assert isclose(sum(weights), 0, abs_tol=1e-9)
    unknown = [w for w, r in zip(weights, group, strict=True) if r is None]
    assert not any(unknown)


@given(GROUPS, st.floats(0.1, 10), st.floats(-2, 2))
def test_weights_scale_with_rewards_and_do_not_move_with_them(
    group: list[float | None], scale: float, shift: float
) -> None:
    moved = [None if one is None else scale * one + shift for one in group]
    expected = [scale * one for one in group_weights(centred(group))]
    assert group_weights(centred(moved)) == pytest.approx(expected, abs=1e-6)


@given(REWARDS, st.integers(2, 9))
def test_equal_rewards_weigh_exactly_nothing(reward: float, n: int) -> None:
    assert group_weights(centred([reward] * n)) == [0.0] * n
    assert normalised([reward] * n) == [0.0] * n


def test_lone_response_weighs_nothing_when_the_others_are_unknown() -> None:
    assert group_weights(centred([1.0, None, None])) == [0.0, 0.0, 0.0]


def test_price_of_asking_vanishes_when_all_ask() -> None:
    rewards = [0.5, 0.0, 0.5]
    assert priced(rewards, [True] * 3, price=9.0) == pytest.approx(centred(rewards))


def test_price_of_asking_counts_the_known_responses_alone() -> None:
    found = priced([1.0, 0.5, None], [False, True, True], price=0.5)
    assert found == [0.25 + 0.25, -0.25 - 0.25, None]


@pytest.mark.parametrize("target", [0.1, 0.3, 0.5])
def test_dual_variable_brings_the_rate_to_its_share(target: float) -> None:
    price = DualVariable(target=target)

    def rate() -> float:  # the dearer, the less is asked
        return max(0.0, 0.9 - 0.5 * price.value)

    for _ in range(3000):
        price.update(rate())
    assert rate() == pytest.approx(target, abs=1e-3)
    assert price.value == pytest.approx((0.9 - target) / 0.5, abs=1e-2)


@given(st.floats(0, 1), st.lists(st.floats(0, 1), max_size=50))
def test_dual_variable_is_never_negative(target: float, rates: list[float]) -> None:
    price = DualVariable(target=target, step=0.5)
    for rate in rates:
        price.update(rate)
        assert price.value >= 0


@pytest.mark.parametrize("values", [{"target": 1.5}, {"target": 0.3, "step": -1.0}])
def test_dual_variable_refuses_what_cannot_be(values: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError):
        DualVariable(**values)
