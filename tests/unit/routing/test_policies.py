"""What holds for every policy, and what each of the simple ones decides."""

from __future__ import annotations

import json
import random
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_hybridflow.budget import Amounts, BudgetSnapshot
from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.routing import (
    AlwaysCloud,
    AlwaysEdge,
    DifficultyRouter,
    RandomRouter,
    Router,
    RouteRequest,
    ThresholdRouter,
)

POLICIES = [
    AlwaysCloud(),
    AlwaysEdge(),
    DifficultyRouter(),
    RandomRouter(seed=3),
    ThresholdRouter(seed=3),
]
every_policy = pytest.mark.parametrize("router", POLICIES, ids=lambda router: type(router).__name__)
REQUESTS = [
    RouteRequest(text=f"What is {n} + {n}?", subtask_id=str(n % 7), difficulty=n % 9 + 1)
    for n in range(60)
]


@every_policy
def test_decisions_do_not_depend_on_their_order(router: Router) -> None:
    in_order = {request.text: router.route(request) for request in REQUESTS}
    shuffled = random.Random(1).sample(REQUESTS, len(REQUESTS))
    assert {request.text: router.route(request) for request in shuffled} == in_order


@every_policy
def test_decisions_do_not_depend_on_the_thread(router: Router) -> None:
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(router.route, REQUESTS)) == [router.route(each) for each in REQUESTS]


@every_policy
def test_decision_is_the_same_when_asked_again(router: Router) -> None:
    assert len({router.route(REQUESTS[0]) for _ in range(50)}) == 1


@every_policy
@given(
    text=st.text(max_size=300),
    difficulty=st.none() | st.integers(1, 9),
    tokens=st.integers(0, 10**9),
    elapsed_s=st.floats(0, 1e9),
)
def test_policy_decides_and_explains_whatever_is_asked(
    router: Router, text: str, difficulty: int | None, tokens: int, elapsed_s: float
) -> None:
    budget = BudgetSnapshot(run=Amounts(cloud_tokens=tokens), elapsed_s=elapsed_s)
    decision = router.route(RouteRequest(text=text, difficulty=difficulty, budget=budget))
    assert decision.tier in {"edge", "cloud"}
    assert decision.reason
    json.dumps(decision.model_dump(mode="json"), allow_nan=False)


@every_policy
def test_decision_names_the_expected_cost_of_its_tier(router: Router) -> None:
    costs: dict[Any, Decimal | None] = {"edge": Decimal(1), "cloud": Decimal(2)}
    decision = router.route(RouteRequest(text="?", difficulty=9, expected_cost_usd=costs))
    assert decision.expected_cost_usd == costs[decision.tier]


# ------------------------------------------------------------------------------------ difficulty


@pytest.mark.parametrize(
    ("difficulty", "tier"), [(1, "edge"), (4, "edge"), (5, "cloud"), (9, "cloud")]
)
def test_difficulty_router_sends_5_and_more_to_the_cloud(difficulty: int, tier: str) -> None:
    decision = DifficultyRouter().route(RouteRequest(text="?", difficulty=difficulty))
    assert (decision.tier, decision.score, decision.threshold) == (tier, difficulty, 5)


def test_difficulty_router_never_asks_the_cloud_when_the_threshold_is_10() -> None:
    assert DifficultyRouter(threshold=10).route(RouteRequest(text="?", difficulty=9)).tier == "edge"


@pytest.mark.parametrize("threshold", [0, 11, -1])
def test_difficulty_router_is_refused_when_the_threshold_is_no_level(threshold: int) -> None:
    with pytest.raises(ConfigurationError, match=str(threshold)):
        DifficultyRouter(threshold=threshold)


def test_difficulty_router_reads_the_surface_and_says_so_when_nobody_rated_the_call() -> None:
    easy = DifficultyRouter().route(RouteRequest(text="Hello there"))
    hard = DifficultyRouter().route(
        RouteRequest(text="If 3 of 12 apples are sold and 5 remain in each of 2 boxes, how many?")
    )
    assert (easy.tier, easy.reason) == ("edge", "surface difficulty (no signs of reasoning) 1 < 5")
    assert hard.tier == "cloud"
    assert hard.reason.startswith("surface difficulty (4 quantities, ")


def test_difficulty_router_believes_the_planner_when_the_surface_says_otherwise() -> None:
    request = RouteRequest(text="Why? How many? 1 2 3 4. Prove it step by step.", difficulty=1)
    assert DifficultyRouter().route(request).tier == "edge"


# ---------------------------------------------------------------------------------------- random


@pytest.mark.parametrize(("share", "tier"), [(0.0, "edge"), (1.0, "cloud")])
def test_random_router_is_certain_when_the_share_is_0_or_1(share: float, tier: str) -> None:
    router = RandomRouter(cloud_share=share)
    assert {router.route(request).tier for request in REQUESTS} == {tier}


def test_random_router_keeps_its_share() -> None:
    router = RandomRouter(cloud_share=0.3, seed=5)
    tiers = [router.route(RouteRequest(text=str(n))).tier for n in range(3_000)]
    assert 0.27 < tiers.count("cloud") / len(tiers) < 0.33


def test_random_router_records_its_seed() -> None:
    assert RandomRouter(seed=42).route(RouteRequest(text="?")).seed == 42


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_random_router_is_refused_when_the_share_is_no_probability(share: float) -> None:
    with pytest.raises(ConfigurationError, match="probability"):
        RandomRouter(cloud_share=share)
