from __future__ import annotations

import json

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.learning.residual import Posterior, ResidualState
from langchain_hybridflow.routing import Tier

tiers = st.sampled_from(["edge", "cloud"])
vectors = st.lists(st.floats(-1, 1), min_size=3, max_size=3).map(tuple)
lessons = st.lists(st.tuples(tiers, vectors, st.floats(-1, 1)), max_size=12)


def learnt(
    given: list[tuple[Tier, tuple[float, ...], float]], *, discount: float = 1.0
) -> ResidualState:
    state = ResidualState.empty(3)
    for tier, context, residual in given:
        state = state.after(tier, context, residual, discount=discount)
    return state


@given(lessons=lessons, context=vectors)
def test_posterior_is_that_of_bayesian_regression(
    lessons: list[tuple[Tier, tuple[float, ...], float]], context: tuple[float, ...]
) -> None:
    rows = [(x, r) for tier, x, r in lessons if tier == "cloud"]
    x = np.array([row for row, _ in rows]).reshape(-1, 3)
    r = np.array([one for _, one in rows])
    covariance = np.linalg.inv(np.eye(3) / 0.3**2 + x.T @ x / 0.5**2)
    posterior = Posterior(learnt(lessons).arms["cloud"], prior=0.3, sigma=0.5)
    mean = np.array(context) @ covariance @ (x.T @ r) / 0.5**2
    assert posterior.mean(context) == pytest.approx(mean, abs=1e-9)
    doubt = np.sqrt(np.array(context) @ covariance @ np.array(context))
    assert posterior.deviation(context) == pytest.approx(doubt, abs=1e-9)


@given(first=lessons, second=lessons, discount=st.sampled_from([1.0, 0.9, 0.5]))
def test_merging_is_learning_one_after_the_other(
    first: list[tuple[Tier, tuple[float, ...], float]],
    second: list[tuple[Tier, tuple[float, ...], float]],
    discount: float,
) -> None:
    together = learnt(first + second, discount=discount)
    delta = learnt(second, discount=discount)
    merged = learnt(first, discount=discount).merged(delta, discount=discount)
    for tier in ("edge", "cloud"):
        assert merged.arms[tier].gram == pytest.approx(together.arms[tier].gram)
        assert merged.arms[tier].moment == pytest.approx(together.arms[tier].moment)
        assert merged.arms[tier].updates == together.arms[tier].updates


@given(lessons=lessons)
def test_state_survives_json_to_the_last_bit(
    lessons: list[tuple[Tier, tuple[float, ...], float]],
) -> None:
    state = learnt(lessons)
    assert ResidualState.from_json(json.loads(json.dumps(state.to_json()))) == state


def test_doubt_grows_again_when_a_tier_is_not_tried_any_more() -> None:
    x = (1.0, 0.0, 0.0)
    tried = learnt([("cloud", x, 0.1)] * 50, discount=0.95)
    left = tried
    for _ in range(100):
        left = left.after("edge", x, 0.1, discount=0.95)
    before, after = (
        Posterior(state.arms["cloud"], prior=0.3, sigma=0.5).deviation(x) for state in (tried, left)
    )
    assert before < 0.15 < 0.29 < after < 0.3


@pytest.mark.parametrize(
    ("context", "residual"), [((1.0,), 0.1), ((1.0, 0.0, float("nan")), 0.1), ((1.0,) * 3, 1e400)]
)
def test_lesson_is_refused_when_it_does_not_fit(
    context: tuple[float, ...], residual: float
) -> None:
    with pytest.raises(ConfigurationError):
        ResidualState.empty(3).after("edge", context, residual)
