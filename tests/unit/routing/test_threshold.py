"""The serving rule of HybridFlow, against figures worked out by hand from its equations."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_hybridflow.budget import Amounts, Budget, BudgetSnapshot
from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.routing import RouteRequest, ThresholdRouter


def request(
    *, difficulty: int = 5, tokens: int = 0, elapsed_s: float = 0.0, text: str = "?"
) -> RouteRequest:
    snapshot = BudgetSnapshot(run=Amounts(cloud_tokens=tokens), elapsed_s=elapsed_s)
    return RouteRequest(text=text, difficulty=difficulty, budget=snapshot)


@pytest.mark.parametrize(
    ("tokens", "elapsed_s", "delta"),
    [(0, 0.0, 0.0), (1_024, 0.0, 0.25), (0, 12.5, 0.25), (1_024, 12.5, 0.5), (9_999, 99.0, 1.0)],
)
def test_threshold_is_the_weighted_share_of_budget_and_time(
    tokens: int, elapsed_s: float, delta: float
) -> None:
    router = ThresholdRouter()
    assert router.threshold(request(tokens=tokens, elapsed_s=elapsed_s)) == pytest.approx(delta)


@pytest.mark.parametrize(("base", "delta"), [(-5.0, 0.0), (0.4, 0.4), (7.0, 1.0)])
def test_threshold_is_clipped_to_the_unit_interval(base: float, delta: float) -> None:
    assert ThresholdRouter(base_threshold=base).threshold(request()) == delta


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0.01, 10))
def test_cloud_probability_is_the_sigmoid_of_the_margin(
    score: float, delta: float, tau: float
) -> None:
    expected = 1 / (1 + math.exp(-(score - delta) / tau))
    router = ThresholdRouter(temperature=tau)
    assert router.cloud_probability(score, delta) == pytest.approx(expected, abs=1e-12)


def test_cloud_probability_does_not_overflow_when_the_temperature_is_tiny() -> None:
    router = ThresholdRouter(temperature=1e-300)
    assert router.cloud_probability(1.0, 0.0) == 1.0
    assert router.cloud_probability(0.0, 1.0) == 0.0


@pytest.mark.parametrize(("difficulty", "tier"), [(5, "edge"), (6, "cloud")])
def test_rule_is_a_plain_comparison_when_the_temperature_is_0(difficulty: int, tier: str) -> None:
    router = ThresholdRouter(temperature=0, base_threshold=0.5)
    assert router.route(request(difficulty=difficulty)).tier == tier


def test_share_of_cloud_answers_is_the_probability() -> None:
    router = ThresholdRouter(base_threshold=0.6, seed=11)
    asked = [request(text=f"question {n}") for n in range(2_000)]
    share = sum(router.route(each).tier == "cloud" for each in asked) / len(asked)
    assert share == pytest.approx(router.cloud_probability(0.5, 0.6), abs=0.03)


@given(st.integers(1, 9), st.integers(0, 4_000), st.integers(0, 4_000))
def test_spending_more_never_turns_an_edge_call_into_a_cloud_call(
    difficulty: int, tokens: int, more: int
) -> None:
    router = ThresholdRouter(seed=2)
    before = router.route(request(difficulty=difficulty, tokens=tokens))
    after = router.route(request(difficulty=difficulty, tokens=tokens + more))
    assert (before.tier, after.tier) != ("edge", "cloud")


def test_decision_tells_score_threshold_seed_and_draw() -> None:
    decision = ThresholdRouter(seed=9).route(request(tokens=1_024))
    assert (decision.score, decision.threshold, decision.seed) == (0.5, 0.25, 9)
    assert decision.reason.startswith(
        "score 0.50 against threshold 0.25: cloud with probability 0.92"
    )


def test_rule_counts_what_the_run_holds_as_used() -> None:
    run = Budget(max_cloud_tokens=10_000).start_run()
    run.reserve("open", Amounts(cloud_tokens=1_024, cloud_calls=1))
    asked = RouteRequest(text="?", difficulty=5, budget=run.snapshot())
    assert ThresholdRouter(latency_weight=0).route(asked).threshold == pytest.approx(0.25)


def test_rule_ignores_what_other_runs_of_the_budget_have_spent() -> None:
    budget = Budget(max_cloud_tokens=10_000)
    budget.start_run().reserve("open", Amounts(cloud_tokens=2_000, cloud_calls=1))
    asked = RouteRequest(text="?", difficulty=5, budget=budget.start_run().snapshot())
    assert ThresholdRouter(latency_weight=0).route(asked).threshold == 0


@pytest.mark.parametrize(
    ("name", "capacity"), [("low", (512, 10)), ("default", (2048, 25)), ("high", (8192, 50))]
)
def test_preset_has_the_published_capacities(name: Any, capacity: tuple[int, float]) -> None:
    router = ThresholdRouter.preset(name, seed=4)
    assert (router.max_tokens, router.max_latency_s) == capacity
    assert router.seed == 4
    published = (0.0, 0.5, 0.5, 0.1)
    assert published == (
        router.base_threshold,
        router.token_weight,
        router.latency_weight,
        router.temperature,
    )


def test_default_router_is_the_default_preset() -> None:
    assert vars(ThresholdRouter()) == vars(ThresholdRouter.preset("default"))


def test_preset_is_refused_with_the_known_names_when_there_is_none_of_that_name() -> None:
    with pytest.raises(ConfigurationError, match="low, default, high"):
        ThresholdRouter.preset("medium")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "settings",
    [
        {"max_tokens": 0},
        {"max_latency_s": -1.0},
        {"token_weight": -0.1},
        {"latency_weight": -0.1},
        {"temperature": -1.0},
        {"temperature": float("nan")},
        {"max_latency_s": float("nan")},
        {"base_threshold": float("nan")},
    ],
)
def test_router_is_refused_when_a_setting_cannot_work(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        ThresholdRouter(**settings)


def test_scorer_of_ones_own_is_used() -> None:
    router = ThresholdRouter(scorer=lambda asked: len(asked.text) / 10, temperature=0)
    assert router.route(request(text="ninechars")).score == 0.9
