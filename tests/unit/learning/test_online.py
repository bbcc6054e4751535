from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import pytest

from langchain_hybridflow import Budget, Price, RoutedChatModel
from langchain_hybridflow.budget import BudgetSnapshot
from langchain_hybridflow.budget.snapshot import Gauge
from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.learning.online import CONTEXT, OnlineRouter, context_of
from langchain_hybridflow.learning.online_store import MemoryOnlineStore, SQLiteOnlineStore
from langchain_hybridflow.plan import Role
from langchain_hybridflow.routing import Router, RouteRequest, UtilityRouter
from langchain_hybridflow.testing import RouterConformance, ScriptedChatModel
from tests.unit.learning.worlds import Qualities, Trained, World, as_trained, with_a_worse_cloud

RECOVERED_AFTER = 500
"""Calls within which the router must have found out that a tier is another model now."""


class TestThompson(RouterConformance):
    def make_router(self) -> Router:
        return OnlineRouter(Trained(), seed=3)


class TestLinUCB(RouterConformance):
    def make_router(self) -> Router:
        return OnlineRouter(Trained(), strategy="linucb", seed=3)


def ask(number: int = 0, *, difficulty: int = 5, usd: str | None = "0.001", **fields: Any) -> Any:
    budget = fields.pop("budget", BudgetSnapshot(shadow_price=100.0))
    return RouteRequest(
        text=f"question {number}",
        difficulty=difficulty,
        expected_cost_usd={"edge": Decimal(0), "cloud": None if usd is None else Decimal(usd)},
        budget=budget,
        **fields,
    )


# Deciding


def test_decision_is_that_of_the_utility_router_when_nothing_is_learnt_or_tried() -> None:
    online = OnlineRouter(Trained(), max_exploration=0, min_exploration=0)
    plain = UtilityRouter(Trained())
    for difficulty in range(1, 10):
        request = ask(difficulty=difficulty)
        ours, theirs = online.route(request), plain.route(request)
        assert (ours.tier, ours.score, ours.threshold) == (
            theirs.tier,
            theirs.score,
            theirs.threshold,
        )
        assert ours.propensity == 1.0


def test_context_has_a_name_for_each_number() -> None:
    request = ask(role=Role.ANALYZE, depth=2, prompt_tokens=300)
    (prediction,) = Trained().predict([request])
    assert len(context_of(request, prediction)) == len(CONTEXT)


def test_reason_tells_what_was_learnt_and_that_a_choice_is_tried_out() -> None:
    router = OnlineRouter(Trained(), max_exploration=0.5, min_exploration=0.5)
    reasons = [router.route(ask(number)).reason for number in range(30)]
    tried = [reason for reason in reasons if "tried out (chance 0.500)" in reason]
    assert 5 < len(tried) < 25
    assert all("learnt +0.000" in reason for reason in reasons)


# Exploring


@pytest.mark.parametrize("strategy", ["thompson", "linucb"])
def test_propensities_are_the_shares_that_are_seen(
    strategy: Literal["thompson", "linucb"],
) -> None:
    router = OnlineRouter(Trained(), strategy=strategy, max_exploration=0.3, min_exploration=0.1)
    decisions = [router.route(ask(number, difficulty=3)) for number in range(2_000)]
    cloud = [one for one in decisions if one.tier == "cloud"]
    expected = cloud[0].propensity
    assert expected is not None
    assert len(cloud) / len(decisions) == pytest.approx(expected, abs=0.03)
    assert all(
        (one.propensity or 0) + expected == pytest.approx(1)
        for one in decisions
        if one.tier == "edge"
    )


def test_explored_share_stays_below_its_bound_while_the_router_learns() -> None:
    router = OnlineRouter(Trained(), max_exploration=0.05, seed=1)
    world = World(router, qualities=with_a_worse_cloud, seed=1)
    world.run(2_000)
    tried = sum("tried out" in one.reason for one in world.decisions)
    assert 0.01 * 2_000 * 0.5 < tried < 0.05 * 2_000 * 1.3
    assert all((one.propensity or 0) >= 0.01 for one in world.decisions)
    assert all(
        min(one.propensity or 0, 1 - (one.propensity or 0)) < 0.0501 for one in world.decisions
    )


NEARLY = BudgetSnapshot(cloud_calls=Gauge(95, 0, 100))
EXHAUSTED = BudgetSnapshot(cloud_calls=Gauge(9, 1, 10))
POOR = BudgetSnapshot(usd=Gauge(Decimal(0), Decimal(0), Decimal("0.0005")))
SHORT = BudgetSnapshot(cloud_tokens=Gauge(0, 0, 50))


@pytest.mark.parametrize(
    "request_",
    [
        ask(difficulty=1, budget=replace(NEARLY, shadow_price=1e3)),
        ask(difficulty=1, budget=replace(EXHAUSTED, shadow_price=1e3)),
        ask(difficulty=1, budget=replace(POOR, shadow_price=1e3)),
        ask(difficulty=1, budget=replace(SHORT, shadow_price=1e3), prompt_tokens=60),
        ask(difficulty=1, kept_local=True),
        ask(difficulty=1, usd=None),
    ],
    ids=["limit nearly reached", "no call left", "too dear", "too long", "kept local", "no price"],
)
def test_cloud_is_not_tried_out_where_it_must_not(request_: RouteRequest) -> None:
    router = OnlineRouter(Trained(), max_exploration=0.5, min_exploration=0.5)
    decision = router.route(request_)
    assert (decision.tier, decision.propensity) == ("edge", 1.0)


def test_edge_is_tried_out_even_when_little_is_left() -> None:
    router = OnlineRouter(Trained(), max_exploration=0.5, min_exploration=0.5)
    decision = router.route(ask(difficulty=9, budget=NEARLY))
    assert decision.propensity == 0.5


def test_exploration_never_passes_a_limit() -> None:
    budget = Budget(max_cloud_calls=3, prices={"big": Price(2, 8)})
    model = RoutedChatModel(
        edge=ScriptedChatModel(responses=["e"] * 60, model_name="little"),
        cloud=ScriptedChatModel(responses=["c"] * 60, model_name="big"),
        router=OnlineRouter(Trained(), max_exploration=0.5, min_exploration=0.5),
        budget=budget,
    )
    answers = [model.invoke(f"question {number}").text for number in range(60)]
    assert answers.count("c") <= 3
    assert budget.snapshot()["cloud_calls"]["spent"] == answers.count("c")


# Learning


@pytest.mark.parametrize("strategy", ["thompson", "linucb"])
@pytest.mark.parametrize(
    ("before", "after"),
    [(as_trained, with_a_worse_cloud), (with_a_worse_cloud, as_trained)],
    ids=["cloud becomes worse", "cloud becomes better"],
)
def test_router_recovers_when_the_cloud_is_swapped(
    strategy: Literal["thompson", "linucb"], before: Qualities, after: Qualities
) -> None:
    router = OnlineRouter(Trained(before), strategy=strategy, seed=2)
    world = World(router, qualities=before, seed=2)
    world.run(800)
    world.qualities = after
    world.run(50)
    lost = world.share_right(50)
    world.run(RECOVERED_AFTER - 50)
    world.run(300)
    assert lost < 0.4
    assert world.share_right(300) > 0.8


def test_router_that_is_told_nothing_stays_wrong() -> None:
    router = OnlineRouter(
        Trained(), store=MemoryOnlineStore(context_size=len(CONTEXT), discount=0.995)
    )
    world = World(router, qualities=with_a_worse_cloud, seed=2)
    router.feedback = lambda decision_id, reward: False  # type: ignore[method-assign]
    world.run(500)
    assert world.share_right(300) < 0.3


def test_learning_does_no_harm_when_the_predictor_is_right() -> None:
    world = World(OnlineRouter(Trained(), seed=4), seed=4)
    world.run(1_500)
    # What is still wrong: what is tried out, and questions whose gain is next to the price.
    assert world.share_right(1_000) > 0.8


def test_thumb_is_learnt_from_in_another_process(tmp_path: Path) -> None:
    def router() -> OnlineRouter:
        store = SQLiteOnlineStore(tmp_path / "online.db", context_size=len(CONTEXT))
        return OnlineRouter(Trained(), store=store)

    server, desk = router(), router()
    decision = server.route(ask(1))
    assert decision.decision_id is not None
    server.flush()
    assert desk.feedback(decision.decision_id, reward=0.0)
    server.refresh()
    assert server.route(ask(2)).score != decision.score


def test_thumb_waits_when_the_decision_is_not_flushed_yet() -> None:
    store = MemoryOnlineStore(context_size=len(CONTEXT))
    server, desk = OnlineRouter(Trained(), store=store), OnlineRouter(Trained(), store=store)
    decision = server.route(ask(1))
    assert decision.decision_id is not None
    assert not desk.feedback(decision.decision_id, reward=0.0)
    server.flush()
    assert store.state().updates == 1


def test_feedback_can_be_given_by_the_metadata_of_an_answer() -> None:
    router = OnlineRouter(Trained())
    model = RoutedChatModel(
        edge=ScriptedChatModel(responses=["e"]),
        cloud=ScriptedChatModel(responses=["c"]),
        router=router,
    )
    assert router.feedback_on(model.invoke("Why?").response_metadata["hybridflow"], reward=1.0)
    assert router.store.decisions()[0].reward == 1.0


def test_nothing_is_learnt_when_another_tier_has_answered() -> None:
    router = OnlineRouter(Trained(), max_exploration=0, min_exploration=0)
    model = RoutedChatModel(
        edge=ScriptedChatModel(responses=["e"]),
        cloud=ScriptedChatModel(responses=[ValueError("down")]),
        router=router,
    )
    record = model.invoke("Why?").response_metadata["hybridflow"]
    assert (record["decision"]["tier"], record["tier"]) == ("cloud", "edge")
    assert not router.feedback_on(record, reward=1.0)
    assert router.store.state().updates == 0


def test_nothing_is_learnt_from_the_decision_of_another_router() -> None:
    record = {"tier": "edge", "decision": {"tier": "edge", "decision_id": None}}
    assert not OnlineRouter(Trained()).feedback_on(record, reward=1.0)


def test_log_holds_no_text_of_the_question() -> None:
    router = OnlineRouter(Trained(), clock=lambda: 12.5)
    router.route(replace(ask(), text="my secret", prompt="my secret"))
    router.flush()
    (line,) = router.store.decisions()
    assert "secret" not in str(line.to_json())
    assert (line.at, line.threshold) == (12.5, pytest.approx(0.1))


@pytest.mark.parametrize(
    "options",
    [
        {"max_exploration": 0.6},
        {"min_exploration": 0.1, "max_exploration": 0.05},
        {"prior": 0.0},
        {"explore_below": 2.0},
        {"optimism": -1.0},
        {"strategy": "luck"},
        {"store": MemoryOnlineStore(context_size=2)},
    ],
    ids=lambda options: str(options).partition(" at 0x")[0],  # the same in each process
)
def test_router_is_refused_when_it_cannot_work(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        OnlineRouter(Trained(), **options)
