from __future__ import annotations

import random
from dataclasses import replace
from statistics import fmean, stdev
from typing import Literal

import pytest

from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.learning.decision_log import LoggedDecision
from langchain_hybridflow.learning.online import OnlineRouter
from langchain_hybridflow.learning.ope import (
    PolicyValue,
    TargetPolicy,
    evaluate_policy,
    gain_policy,
)
from langchain_hybridflow.routing import Tier
from tests.unit.learning.worlds import Trained, World, as_trained

Name = Literal["ips", "snips", "dr"]
LOGS, SIZE = 200, 300


def quality(difficulty: float) -> dict[Tier, float]:
    return {"edge": 0.9 - 0.7 * difficulty, "cloud": 0.85 - 0.1 * difficulty}


def log(seed: int, *, foresight: float = 1.0) -> list[LoggedDecision]:
    """A log of a policy that asks the cloud more often the harder it is.

    What was foreseen is the truth for `foresight` 1, and worthless for 0.
    """
    draw = random.Random(seed)
    found = []
    for number in range(SIZE):
        difficulty = draw.random()
        true = quality(difficulty)
        cloud = 0.1 + 0.6 * difficulty
        tier: Tier = "cloud" if draw.random() < cloud else "edge"
        found.append(
            LoggedDecision(
                decision_id=str(number),
                tier=tier,
                propensity=cloud if tier == "cloud" else 1 - cloud,
                edge_quality=foresight * true["edge"] + (1 - foresight) * 0.2,
                cloud_quality=foresight * true["cloud"] + (1 - foresight) * 0.1,
                context=(difficulty,),
                reward=float(draw.random() < true[tier]),
            )
        )
    return found


def hard_to_the_cloud(decision: LoggedDecision) -> float:
    return 0.9 if decision.context[0] > 0.5 else 0.2


TRUE_VALUE = fmean(
    share * quality(x)["cloud"] + (1 - share) * quality(x)["edge"]
    for x in ((n + 0.5) / 10_000 for n in range(10_000))
    for share in (0.9 if x > 0.5 else 0.2,)
)


def values(policy: TargetPolicy, *, foresight: float) -> list[PolicyValue]:
    return [evaluate_policy(log(seed, foresight=foresight), policy) for seed in range(LOGS)]


@pytest.mark.parametrize("name", ["ips", "snips", "dr"])
@pytest.mark.parametrize("foresight", [0.0, 1.0], ids=["no foresight", "true foresight"])
def test_estimate_has_no_bias(name: Name, foresight: float) -> None:
    found = [getattr(one, name).value for one in values(hard_to_the_cloud, foresight=foresight)]
    assert fmean(found) == pytest.approx(TRUE_VALUE, abs=3 * stdev(found) / LOGS**0.5)


@pytest.mark.parametrize("name", ["ips", "snips", "dr"])
def test_interval_holds_the_true_value_as_often_as_it_says(name: Name) -> None:
    estimates = [getattr(one, name) for one in values(hard_to_the_cloud, foresight=0.7)]
    held = sum(one.low <= TRUE_VALUE <= one.high for one in estimates) / LOGS
    assert 0.90 <= held <= 0.99


def test_log_alone_is_far_off() -> None:
    naive = fmean(one.reward or 0 for seed in range(LOGS) for one in log(seed))
    assert abs(naive - TRUE_VALUE) > 0.02


def test_doubly_robust_varies_least_when_the_foresight_is_true() -> None:
    found = values(hard_to_the_cloud, foresight=1.0)
    spread = {name: stdev(getattr(one, name).value for one in found) for name in ("ips", "dr")}
    assert spread["dr"] < 0.9 * spread["ips"]


def test_policy_that_ran_is_worth_its_mean_reward() -> None:
    decisions = log(1)
    value = evaluate_policy(decisions, lambda one: 0.1 + 0.6 * one.context[0])
    mean = fmean(one.reward or 0 for one in decisions)
    assert value.ips.value == pytest.approx(mean)
    assert value.snips.value == pytest.approx(mean)
    assert value.effective_size == pytest.approx(SIZE)


def test_choices_that_the_log_never_makes_are_counted() -> None:
    sure = [replace(one, propensity=1.0) for one in log(1)]
    edge = sum(one.tier == "edge" for one in sure)
    value = evaluate_policy(sure, lambda _: 1.0)
    assert value.unsupported_share == edge / SIZE


def test_nothing_is_known_when_the_policy_agrees_with_the_log_nowhere() -> None:
    edge = [replace(one, tier="edge") for one in log(1)]
    value = evaluate_policy(edge, lambda _: 1.0)
    assert (value.effective_size, value.snips.high) == (0.0, float("inf"))


def test_decisions_without_a_reward_are_left_out_and_counted() -> None:
    decisions = log(1)
    more = [*decisions, replace(decisions[0], decision_id="more", reward=None)]
    value, without = (
        evaluate_policy(more, gain_policy(0)),
        evaluate_policy(decisions, gain_policy(0)),
    )
    assert (value.unrewarded, value.rewarded) == (1, SIZE)
    assert value.dr == without.dr


def test_gain_policy_asks_the_cloud_above_its_threshold() -> None:
    easy, hard = log(1)[0], log(1)[0]
    easy = replace(easy, edge_quality=0.5, cloud_quality=0.6)
    hard = replace(hard, edge_quality=0.2, cloud_quality=0.6)
    assert [gain_policy(0.3)(one) for one in (easy, hard)] == [0.0, 1.0]


def test_log_of_the_online_router_can_be_evaluated() -> None:
    router = OnlineRouter(Trained(), max_exploration=0.3, min_exploration=0.2, seed=5)
    World(router, seed=5).run(1_500)
    value = evaluate_policy(router.store.decisions(), lambda _: 1.0)
    true = fmean(as_trained(difficulty)["cloud"] for difficulty in range(1, 10))
    assert value.dr.low < true < value.dr.high
    assert value.unsupported_share == 0


@pytest.mark.parametrize("confidence", [0.0, 1.0, float("nan")])
def test_confidence_is_refused_when_it_is_none(confidence: float) -> None:
    with pytest.raises(ConfigurationError, match="confidence"):
        evaluate_policy(log(1), gain_policy(0), confidence=confidence)


def test_log_is_refused_when_nothing_was_rewarded() -> None:
    with pytest.raises(ConfigurationError, match="0 of 300 decisions have a reward"):
        evaluate_policy([replace(one, reward=None) for one in log(1)], gain_policy(0))


def test_policy_is_refused_when_it_returns_no_probability() -> None:
    with pytest.raises(ConfigurationError, match=r"got 1\.5"):
        evaluate_policy(log(1), lambda _: 1.5)
