from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from langchain_hybridflow.budget import Budget, BudgetSnapshot
from langchain_hybridflow.budget.snapshot import Gauge, ShareGauge
from langchain_hybridflow.errors import ConfigurationError, RoutingError
from langchain_hybridflow.plan import Plan, Subtask
from langchain_hybridflow.routing import (
    PlanRouter,
    Prediction,
    RouteRequest,
    UtilityRouter,
    UtilityRule,
)
from tests.unit.routing.predicting import Foretold


def request(
    *,
    subtask_id: str | None = None,
    usd: str | None = "0.002",
    price: float = 0.0,
    on_critical_path: bool | None = None,
    calls_left: int | None = None,
) -> RouteRequest:
    calls = Gauge(0, 0, calls_left)
    return RouteRequest(
        text="?",
        subtask_id=subtask_id,
        on_critical_path=on_critical_path,
        expected_cost_usd={"edge": Decimal(0), "cloud": None if usd is None else Decimal(usd)},
        budget=BudgetSnapshot(shadow_price=price, cloud_calls=calls),
    )


@pytest.mark.parametrize(("price", "tier"), [(0.0, "cloud"), (99.0, "cloud"), (101.0, "edge")])
def test_cloud_is_chosen_when_the_gain_per_usd_passes_the_price(price: float, tier: str) -> None:
    decision = UtilityRouter(Foretold({"?": 0.2})).route(request(price=price))
    assert (decision.tier, decision.price) == (tier, price)


def test_edge_is_chosen_when_the_gain_only_equals_the_threshold() -> None:
    assert UtilityRouter(Foretold({"?": 0.0})).route(request()).tier == "edge"


def test_decision_tells_gain_threshold_and_words() -> None:
    decision = UtilityRouter(Foretold({"?": 0.2})).route(request(price=50.0))
    assert (decision.score, decision.threshold) == (0.2, 0.1)
    assert decision.reason == (
        "edge 0.50, cloud 0.70: gain 0.200 > 0.100 (price 50/USD x 0.002 USD)"
    )


def test_lowest_price_holds_when_the_live_one_is_below() -> None:
    router = UtilityRouter(Foretold({"?": 0.2}), price_per_usd=150.0)
    assert router.route(request(price=1.0)).price == 150.0
    assert router.route(request(price=200.0)).price == 200.0


@pytest.mark.parametrize(
    ("on_critical_path", "tier"), [(True, "edge"), (None, "edge"), (False, "cloud")]
)
def test_delay_counts_unless_the_call_is_off_the_critical_path(
    on_critical_path: bool | None, tier: str
) -> None:
    predictor = Foretold({"?": 0.3}, seconds={"edge": 1.0, "cloud": 3.0})
    router = UtilityRouter(predictor, delay_weight_usd_per_s=0.001)  # 0.2 + 100 * 2 * 0.001
    decision = router.route(request(price=100.0, on_critical_path=on_critical_path))
    assert decision.tier == tier


def test_saved_time_pays_for_the_call_but_not_for_a_worse_answer() -> None:
    predictor = Foretold({"?": -0.01}, seconds={"edge": 30.0, "cloud": 1.0})
    router = UtilityRouter(predictor, delay_weight_usd_per_s=0.001)
    decision = router.route(request(price=100.0))
    assert (decision.tier, decision.threshold) == ("edge", 0.0)


def test_unknown_time_is_named_and_counts_as_none() -> None:
    router = UtilityRouter(Foretold({"?": 0.3}), delay_weight_usd_per_s=0.001)
    decision = router.route(request(price=100.0))
    assert decision.tier == "cloud"
    assert "delay unknown" in decision.reason


def test_edge_is_chosen_when_the_cost_is_unknown_and_has_a_price() -> None:
    decision = UtilityRouter(Foretold({"?": 0.9}, edge_quality=0)).route(
        request(usd=None, price=1.0)
    )
    assert (decision.tier, decision.threshold) == ("edge", None)
    assert "nobody has said what the cloud costs" in decision.reason


def test_unknown_cost_does_not_matter_when_there_is_no_price() -> None:
    decision = UtilityRouter(Foretold({"?": 0.1})).route(request(usd=None))
    assert decision.tier == "cloud"
    assert "no price to pay now" in decision.reason


@pytest.mark.parametrize(("assumed", "tier"), [(0.001, "cloud"), (0.003, "edge")])
def test_assumed_cost_counts_when_the_true_one_is_unknown(assumed: float, tier: str) -> None:
    router = UtilityRouter(Foretold({"?": 0.2}), unknown_cost_usd=assumed)
    decision = router.route(request(usd=None, price=100.0))
    assert decision.tier == tier
    assert "an assumed cost" in decision.reason


def test_predicted_cost_stands_in_when_the_request_has_none() -> None:
    class Knowing(Foretold):
        def of(self, request: RouteRequest) -> Prediction:
            return replace(super().of(request), cost_usd={"cloud": 0.004})

    router = UtilityRouter(Knowing({"?": 0.2}))
    assert router.route(request(usd=None, price=40.0)).threshold == pytest.approx(0.16)


def test_edge_cost_is_set_off_against_the_cloud() -> None:
    asked = request(price=100.0)
    asked = replace(asked, expected_cost_usd={**asked.expected_cost_usd, "edge": Decimal("0.001")})
    assert UtilityRouter(Foretold({"?": 0.15})).route(asked).tier == "cloud"


def test_least_gain_is_asked_for_when_nothing_has_a_price() -> None:
    router = UtilityRouter(Foretold({"a": 0.2, "b": 0.4}), min_gain=0.3)
    tiers = [
        one.tier for one in router.route_many([RouteRequest(text="a"), RouteRequest(text="b")])
    ]
    assert tiers == ["edge", "cloud"]


def test_router_raises_when_the_predictor_returns_too_few() -> None:
    class Silent:
        def predict(self, requests: object) -> list[Prediction]:
            return []

    with pytest.raises(RoutingError, match="1 requests, 0 predictions"):
        UtilityRouter(Silent()).route(request())


@pytest.mark.parametrize("quality", [-0.1, 1.1, float("nan")])
def test_prediction_is_refused_when_a_quality_is_no_probability(quality: float) -> None:
    with pytest.raises(RoutingError, match="probability"):
        Prediction(edge_quality=0.5, cloud_quality=quality)


def test_prediction_is_refused_when_a_time_is_negative() -> None:
    with pytest.raises(RoutingError, match="seconds of the edge"):
        Prediction(edge_quality=0.5, cloud_quality=0.5, seconds={"edge": -1.0})


@pytest.mark.parametrize("name", ["delay_weight_usd_per_s", "price_per_usd", "unknown_cost_usd"])
def test_rule_is_refused_when_a_number_is_negative(name: str) -> None:
    with pytest.raises(ConfigurationError, match=name):
        UtilityRule(**{name: -1.0})


# The whole plan at once


def diamond() -> Plan:
    return Plan(
        subtasks=[
            Subtask(id="1", task="What is asked?", role="explain"),
            Subtask(id="2", task="What does Ann pay?", depends_on=["1"]),
            Subtask(id="3", task="What does Bob pay?", depends_on=["1"]),
            Subtask(id="4", task="Who pays more?", role="generate", depends_on=["2", "3"]),
        ]
    )


def requests(**options: object) -> dict[str, RouteRequest]:
    return {one: request(subtask_id=one, **options) for one in "1234"}  # type: ignore[arg-type]


GAINS = {"1": 0.05, "2": 0.2, "3": 0.1, "4": 0.3}


def test_utility_router_is_a_plan_router() -> None:
    assert isinstance(UtilityRouter(Foretold()), PlanRouter)


def test_plan_sends_the_best_when_calls_are_few() -> None:
    decisions = UtilityRouter(Foretold(GAINS)).route_plan(diamond(), requests(calls_left=2))
    assert {one for one, it in decisions.items() if it.tier == "cloud"} == {"2", "4"}
    assert "2 of 4 subtasks" in decisions["1"].reason


@pytest.mark.parametrize(
    ("calls_left", "remaining", "share", "sent"),
    [(None, 2, "0", 2), (None, 1, "0.34", 2), (1, 2, "0.34", 1), (None, 0, "0", 0)],
)
def test_plan_sends_no_more_than_the_share_of_the_cloud(
    calls_left: int | None, remaining: int, share: str, sent: int
) -> None:
    """What its own answers earn it counts, but that of the last one."""
    asked = requests(calls_left=calls_left)
    gauge = ShareGauge(Decimal(share), 9, remaining=remaining)
    asked = {
        one: replace(each, budget=replace(each.budget, cloud_share=gauge))
        for one, each in asked.items()
    }
    decisions = UtilityRouter(Foretold(GAINS)).route_plan(diamond(), asked)
    assert [one.tier for one in decisions.values()].count("cloud") == sent


def test_plan_agrees_with_the_online_rule_when_nothing_but_the_price_binds() -> None:
    router, asked = UtilityRouter(Foretold(GAINS)), requests(price=60.0)
    planned = router.route_plan(diamond(), asked)
    assert {one: planned[one].tier for one in asked} == {
        one: router.route(asked[one]).tier for one in asked
    }


def test_plan_leaves_ended_subtasks_alone() -> None:
    asked = {one: it for one, it in requests(calls_left=1).items() if one in "34"}
    decisions = UtilityRouter(Foretold(GAINS)).route_plan(diamond(), asked)
    assert {one: it.tier for one, it in decisions.items()} == {"3": "edge", "4": "cloud"}


def test_plan_counts_the_delay_of_the_whole_once() -> None:
    # In the cloud, 2 and 3 each take 2 s more, but side by side; alone, neither is worth it.
    predictor = Foretold({"2": 0.15, "3": 0.15}, seconds={"edge": 1.0, "cloud": 3.0})
    router = UtilityRouter(predictor, delay_weight_usd_per_s=0.001, price_per_usd=100.0)
    asked = requests(usd="0", on_critical_path=True)
    planned = router.route_plan(diamond(), asked)
    assert {one for one, it in planned.items() if it.tier == "cloud"} == {"2", "3"}
    assert router.route(asked["2"]).tier == "edge"


def test_plan_is_decided_one_by_one_when_a_cost_is_unknown() -> None:
    asked = requests(price=10.0) | {"2": request(subtask_id="2", usd=None, price=10.0)}
    decisions = UtilityRouter(Foretold(GAINS)).route_plan(diamond(), asked)
    assert decisions["4"].router == "utility"
    assert "nobody has said" in decisions["2"].reason


def test_plan_is_decided_one_by_one_when_it_is_long() -> None:
    roles = ["explain", *["analyze"] * 23, "generate"]
    steps = [
        Subtask(id=str(place), task="?", role=role, depends_on=[str(place - 1)] if place else [])
        for place, role in enumerate(roles)
    ]
    chain = Plan(subtasks=steps)
    asked = {one: request(subtask_id=one) for one in chain.order}
    decisions = UtilityRouter(Foretold({"3": 0.1})).route_plan(chain, asked)
    assert [one for one, it in decisions.items() if it.tier == "cloud"] == ["3"]


def test_plan_fits_what_is_left_of_the_money() -> None:
    budget = Budget(limit_usd="0.005").start_run().snapshot()
    asked = {one: replace(it, budget=budget) for one, it in requests().items()}
    decisions = UtilityRouter(Foretold(GAINS)).route_plan(diamond(), asked)
    assert {one for one, it in decisions.items() if it.tier == "cloud"} == {"2", "4"}


def test_plan_leaves_money_for_the_edge_calls_that_it_pays_anyway() -> None:
    budget = Budget(limit_usd="0.0045").start_run().snapshot()
    costs = {"edge": Decimal("0.001"), "cloud": Decimal("0.0015")}
    asked = {
        one: replace(it, budget=budget, expected_cost_usd=costs) for one, it in requests().items()
    }
    # 0.004 for four edge calls: what is left pays for one to be a cloud call instead.
    decisions = UtilityRouter(Foretold(GAINS)).route_plan(diamond(), asked)
    assert {one for one, it in decisions.items() if it.tier == "cloud"} == {"4"}
