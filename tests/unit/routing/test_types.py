from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from langchain_hybridflow.routing import (
    AlwaysCloud,
    AlwaysEdge,
    DifficultyRouter,
    RandomRouter,
    RouteDecision,
    Router,
    RouteRequest,
    ThresholdRouter,
)
from langchain_hybridflow.routing.types import uniform_draw

DECISION = RouteDecision(tier="edge", reason="easy", router="mine")


@pytest.mark.parametrize(
    "router", [AlwaysCloud(), AlwaysEdge(), DifficultyRouter(), RandomRouter(), ThresholdRouter()]
)
def test_policy_is_a_router(router: object) -> None:
    assert isinstance(router, Router)


def test_object_without_route_is_no_router() -> None:
    assert not isinstance(object(), Router)


def test_decision_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        DECISION.tier = "cloud"


@pytest.mark.parametrize(
    "change",
    [
        {"tier": "small"},
        {"price": -0.1},
        {"score": float("nan")},
        {"threshold": float("inf")},
        {"price": float("nan")},
        {"surprise": 1},
    ],
)
def test_decision_is_refused_when_a_value_makes_no_sense(change: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        RouteDecision.model_validate(DECISION.model_dump() | change)


def test_decision_survives_a_round_trip_through_json() -> None:
    decision = RouteDecision(
        tier="cloud",
        reason="hard",
        router="mine",
        score=0.7,
        threshold=0.5,
        price=0.1,
        expected_cost_usd=Decimal("0.000001"),
        seed=7,
    )
    assert RouteDecision.model_validate_json(decision.model_dump_json()) == decision


@given(st.integers(), st.text(), st.none() | st.from_regex(r"[a-z0-9]{1,8}", fullmatch=True))
def test_uniform_draw_lies_in_the_unit_interval_for_any_text(
    seed: int, text: str, subtask_id: str | None
) -> None:
    assert 0 <= uniform_draw(seed, RouteRequest(text=text, subtask_id=subtask_id)) < 1


def test_uniform_draw_works_when_the_text_has_half_a_surrogate_pair() -> None:
    assert 0 <= uniform_draw(0, RouteRequest(text="\ud83d cut")) < 1


def test_uniform_draw_is_the_same_in_every_process() -> None:
    assert uniform_draw(7, RouteRequest(text="Why?", subtask_id="2")) == 0.18613285810856608


def test_uniform_draw_is_spread_evenly_over_questions() -> None:
    draws = [uniform_draw(1, RouteRequest(text=f"question {i}")) for i in range(4_000)]
    shares = [sum(low <= draw < low + 0.25 for draw in draws) for low in (0, 0.25, 0.5, 0.75)]
    assert all(900 < share < 1_100 for share in shares)


@pytest.mark.parametrize(
    "other",
    [
        RouteRequest(text="Why not?", subtask_id="1"),
        RouteRequest(text="Why?", subtask_id="2"),
        RouteRequest(text="Why?"),
    ],
)
def test_uniform_draw_differs_when_something_else_is_asked(other: RouteRequest) -> None:
    assert uniform_draw(1, other) != uniform_draw(1, RouteRequest(text="Why?", subtask_id="1"))


def test_uniform_draw_differs_when_the_seed_does() -> None:
    request = RouteRequest(text="Why?")
    assert len({uniform_draw(seed, request) for seed in range(100)}) == 100
