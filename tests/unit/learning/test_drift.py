from __future__ import annotations

import json
import random
from dataclasses import replace

import pytest
from scipy.stats import chi2

from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.learning.decision_log import LoggedDecision
from langchain_hybridflow.learning.drift import (
    Reference,
    _chi_square_tail,
    _stability,
    check_drift,
    find_change,
)
from langchain_hybridflow.learning.online import CONTEXT, OnlineRouter
from tests.unit.learning.worlds import Trained, World, with_a_worse_cloud

NAMES = ("difficulty", "length")


def log(
    seed: int, *, size: int = 400, shift: float = 0.0, cloud: float = 0.8, swapped_at: int = 10**9
) -> list[LoggedDecision]:
    draw = random.Random(seed)
    found = []
    for number in range(size):
        right = cloud if number < swapped_at else cloud - 0.5
        found.append(
            LoggedDecision(
                decision_id=str(number),
                tier="cloud",
                propensity=0.9,
                edge_quality=0.5,
                cloud_quality=0.8,
                context=(draw.gauss(shift, 1), float(draw.randint(0, 3))),
                reward=float(draw.random() < right),
            )
        )
    return found


def reference(seed: int = 1_000, size: int = 2_000) -> Reference:
    return Reference.of(NAMES, [one.context for one in log(seed, size=size)])


def test_no_alarm_is_raised_when_nothing_has_changed() -> None:
    alarms = sum(bool(check_drift(reference(), log(seed)).alarms) for seed in range(100))
    assert alarms <= 4  # 1 expected; more than 4 has a probability of 0.3 %


def test_alarm_is_raised_when_other_questions_come() -> None:
    (alarm,) = check_drift(reference(), log(1, shift=0.8)).alarms
    assert (alarm.kind, alarm.name) == ("context", "difficulty")
    assert alarm.statistic > 0.25


def test_no_alarm_is_raised_when_a_shift_is_certain_but_slight() -> None:
    slight = log(1, size=20_000, shift=0.1)
    assert not check_drift(reference(size=20_000), slight).alarms


def test_alarm_is_raised_when_a_tier_is_worse_than_foreseen() -> None:
    (alarm,) = check_drift(None, log(1, cloud=0.65)).alarms
    assert (alarm.kind, alarm.name) == ("residual", "cloud")
    assert "worse than when the router was trained" in alarm.message


@pytest.mark.parametrize("size", [60, 120, 400])
def test_no_alarm_is_raised_when_a_tier_is_nearly_always_right_as_foreseen(size: int) -> None:
    def sure(seed: int) -> list[LoggedDecision]:
        decisions = log(seed, size=size, cloud=0.97)
        return [replace(one, cloud_quality=0.97) for one in decisions]

    assert sum(bool(check_drift(None, sure(seed)).alarms) for seed in range(100)) <= 4


def test_alarm_is_raised_when_a_tier_is_right_less_often_than_nearly_always() -> None:
    decisions = [replace(one, cloud_quality=0.97) for one in log(3, size=100, cloud=0.8)]
    (alarm,) = check_drift(None, decisions).alarms
    assert (alarm.kind, alarm.name) == ("residual", "cloud")


def test_context_test_keeps_its_alpha_when_samples_are_small() -> None:
    draw = random.Random(5)
    wrong = 0
    for _ in range(2_000):
        known = Reference.of(["x"], [[draw.random()] for _ in range(500)])
        now = [draw.random() for _ in range(100)]
        wrong += _stability(known, 0, now, 0.01).alarm
    assert wrong <= 35  # 20 expected; more than 35 has a probability of 0.1 %


def test_alarm_is_raised_and_says_where_when_a_tier_is_swapped() -> None:
    alarms = {one.kind: one for one in check_drift(None, log(1, swapped_at=250)).alarms}
    assert alarms["change"].statistic == pytest.approx(-0.5, abs=0.15)
    change = find_change([one.residual or 0 for one in log(1, swapped_at=250)])
    assert change is not None
    assert change.place == pytest.approx(250, abs=25)


def test_change_is_not_found_more_often_than_it_says() -> None:
    found = 0
    for seed in range(200):
        draw = random.Random(seed)
        values = [float(draw.random() < 0.5) for _ in range(200)]
        found += find_change(values, delta=0.05) is not None
    assert found <= 200 * 0.05


@pytest.mark.parametrize("values", [[], [0.3], [0.3] * 100])
def test_change_is_not_found_where_there_can_be_none(values: list[float]) -> None:
    assert find_change(values) is None


def test_tests_that_have_too_little_are_not_made() -> None:
    report = check_drift(reference(), log(1, size=20))
    assert (report.findings, report.decisions, report.rewarded) == ((), 20, 20)


def test_online_router_shows_that_its_cloud_was_swapped() -> None:
    router = OnlineRouter(Trained(), seed=2)
    world = World(router, seed=2)
    world.run(400)
    before = Reference.of(CONTEXT, [one.context for one in router.store.decisions()])
    assert not check_drift(before, router.store.decisions()).alarms
    world.qualities = with_a_worse_cloud
    world.run(200)
    alarms = check_drift(before, router.store.decisions()).alarms
    assert ("change", "cloud") in {(one.kind, one.name) for one in alarms}


def test_reference_survives_json() -> None:
    one = reference()
    assert Reference.from_json(json.loads(json.dumps(one.to_json()))) == one


@pytest.mark.parametrize(
    "plain", [{}, {"names": ["a"], "edges": [[1.0]], "counts": [[1]]}, {"names": 3}]
)
def test_reference_is_refused_when_it_is_none(plain: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError, match="no reference"):
        Reference.from_json(plain)


def test_reference_is_refused_when_there_are_too_few() -> None:
    with pytest.raises(ConfigurationError, match="at least 30"):
        Reference.of(NAMES, [(0.0, 0.0)] * 29)


def test_log_is_refused_when_its_contexts_are_others() -> None:
    with pytest.raises(ConfigurationError, match="others"):
        check_drift(Reference.of(("one",), [(1.0,)] * 40), log(1))


@pytest.mark.parametrize("alpha", [0.0, 1.0, float("nan")])
def test_alpha_is_refused_when_it_is_none(alpha: float) -> None:
    with pytest.raises(ConfigurationError, match="alpha"):
        check_drift(None, log(1), alpha=alpha)


@pytest.mark.parametrize("freedom", [1, 2, 3, 8, 9])
@pytest.mark.parametrize("value", [0.0, 0.5, 3.0, 20.0, 80.0])
def test_tail_of_chi_square_is_that_of_scipy(value: float, freedom: int) -> None:
    assert _chi_square_tail(value, freedom) == pytest.approx(chi2.sf(value, freedom), rel=1e-9)
