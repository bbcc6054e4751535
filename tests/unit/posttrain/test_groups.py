"""What a batch teaches, by each method; and where they lead a policy."""

from __future__ import annotations

from math import isnan

import pytest

from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.posttrain.advantages import DualVariable
from langchain_hybridflow.posttrain.filtering import PromptFilter
from langchain_hybridflow.posttrain.groups import METHODS, Group, Method, Response, Teacher
from langchain_hybridflow.posttrain.rewards import RewardScheme
from tests.unit.posttrain.analytic import RIGHT, Policy, School, group_of, sigmoid

SOLVED = group_of("right", "wrong", "ask", "wrong")
HELPED = group_of("wrong", "ask", "ask", "wrong")
HOPELESS = group_of("wrong", "ask", "wrong", "wrong", cloud="wrong")
MUTE = group_of("wrong", "wrong", "wrong", "wrong")


def teacher(method: Method, *, rho: float = 1.0, **options: object) -> Teacher:
    return Teacher(
        method,
        RewardScheme.of("v4"),
        prompts=PromptFilter(rho) if method == "gapg" else None,
        price=DualVariable(0.3) if method == "da_grpo" else None,
        **options,  # type: ignore[arg-type]
    )


def test_gapg_learns_from_solved_and_helped_prompts_alone() -> None:
    lesson = teacher("gapg").teach([SOLVED, HOPELESS, HELPED], seed="0")
    assert lesson.kept == {0, 2}
    assert lesson.weights[4:8] == (0.0,) * 4
    assert any(lesson.weights[:4])
    assert any(lesson.weights[8:])


def test_gapg_averages_over_the_prompts_that_are_kept() -> None:
    alone = teacher("gapg").teach([SOLVED], seed="0").weights
    among = teacher("gapg").teach([SOLVED, HOPELESS, SOLVED], seed="0").weights
    assert among[:4] == pytest.approx([one / 2 for one in alone])


def test_gapg_leaves_out_helped_prompts_beyond_rho() -> None:
    lesson = teacher("gapg", rho=0.5).teach([SOLVED, SOLVED, HELPED, HELPED, HELPED], seed="0")
    assert lesson.metrics["filter/local"] == 2
    assert lesson.metrics["filter/help"] == 1
    assert lesson.metrics["filter/candidates"] == 3


def test_gapg_counts_no_prompt_as_helped_when_nobody_knows_the_cloud_answer() -> None:
    unknown = Group(HELPED.responses, None)
    assert teacher("gapg").teach([SOLVED, unknown], seed="0").kept == {0}


@pytest.mark.parametrize("method", ["task", "grpo", "dr_grpo", "rloo", "da_grpo"])
def test_methods_without_filter_learn_from_all_prompts(method: Method) -> None:
    assert teacher(method).teach([SOLVED, HOPELESS, HELPED], seed="0").kept == {0, 1, 2}


def test_task_tuning_rewards_no_help_and_asks_for_none() -> None:
    lesson = teacher("task").teach([HELPED], seed="0")
    assert lesson.rewards == (0.0,) * 4
    assert not teacher("task").needs_cloud(HELPED)


@pytest.mark.parametrize("method", [one for one in METHODS if one != "task"])
def test_cloud_is_needed_when_a_response_asks(method: Method) -> None:
    assert teacher(method).needs_cloud(group_of("right", "ask", cloud=None))


@pytest.mark.parametrize("method", METHODS)
def test_cloud_is_not_needed_when_the_model_solves_and_nobody_asks(method: Method) -> None:
    assert not teacher(method).needs_cloud(group_of("right", "wrong", cloud=None))


def test_cloud_is_needed_for_prompts_that_nobody_solves_by_gapg_alone() -> None:
    needs = {one for one in METHODS if teacher(one).needs_cloud(MUTE)}
    assert needs == {"gapg"}


def test_unprobed_prompts_take_no_place_of_those_that_were_asked_about() -> None:
    frugal = teacher("gapg", probe=False)
    assert not frugal.needs_cloud(MUTE)
    assert frugal.teach([SOLVED, MUTE, HELPED], seed="0").kept == {0, 2}


def test_unverified_response_has_no_reward_and_no_weight() -> None:
    lesson = teacher("rloo").teach([group_of("right", "unknown", "wrong")], seed="0")
    assert lesson.rewards == (1.0, None, 0.0)
    assert lesson.weights == (0.5, 0.0, -0.5)


def test_asking_has_no_reward_when_the_cloud_gave_no_answer() -> None:
    lesson = teacher("rloo").teach([group_of("right", "ask", "wrong", cloud=None)], seed="0")
    assert lesson.rewards == (1.0, None, 0.0)


def test_response_that_is_left_out_has_no_reward_though_it_is_right() -> None:
    group = Group((Response(RIGHT, "correct", truncated=True, left_out=True),) * 2)
    assert teacher("rloo").teach([group], seed="0").rewards == (None, None)


def test_group_without_a_baseline_counts_as_no_prompt() -> None:
    lone = group_of("right", "unknown", "unknown", "unknown")
    lesson = teacher("gapg").teach([SOLVED, lone], seed="0")
    assert lesson.kept == {0}


def test_empty_lesson_weighs_nothing_when_no_prompt_is_kept() -> None:
    assert teacher("gapg").teach([HOPELESS], seed="0").weights == (0.0,) * 4


def test_price_moves_with_each_lesson_and_not_in_an_evaluation() -> None:
    one = teacher("da_grpo")
    one.teach([HELPED], seed="0", learns=False)
    assert one.price is not None
    assert one.price.value == 0.5
    one.teach([HELPED], seed="0")
    assert one.price.value == pytest.approx(0.5 + 0.01 * (0.5 - 0.3))


def test_filter_is_left_alone_by_an_evaluation() -> None:
    one = teacher("gapg", rho=0.4)
    one.teach([SOLVED, HELPED], seed="0", learns=False)
    assert one.prompts is not None
    assert one.prompts.carried == 0


def test_metrics_tell_where_the_model_asks_and_how_good_both_are_together() -> None:
    found = teacher("rloo").teach([SOLVED, HELPED, HOPELESS], seed="0").metrics
    assert found["local_accuracy"] == pytest.approx(1 / 12)
    assert found["ask_rate"] == pytest.approx(4 / 12)
    assert found["ask_rate_solved"] == pytest.approx(1 / 4)
    assert found["ask_rate_unsolved"] == pytest.approx(3 / 8)
    assert found["overall_accuracy"] == pytest.approx((1 + 1 + 2) / 12)
    assert found["cloud/accuracy"] == pytest.approx(2 / 3)
    assert found["solved_rate"] == pytest.approx(1 / 3)


def test_metrics_are_not_a_number_where_there_is_nothing_to_count() -> None:
    found = teacher("rloo").teach([group_of("wrong", "wrong", cloud=None)], seed="0").metrics
    assert isnan(found["ask_rate_solved"])
    assert isnan(found["cloud/accuracy"])


@pytest.mark.parametrize("method", ["gapg", "da_grpo"])
def test_teacher_goes_on_as_if_uninterrupted_when_its_state_is_restored(method: Method) -> None:
    whole, before, after = (teacher(method, rho=0.4) for _ in range(3))
    batch = [SOLVED, HELPED, HELPED]
    for one in (whole, before):
        one.teach(batch, seed="0")
    after.restore(before.state())
    assert after.teach(batch, seed="1") == whole.teach(batch, seed="1")


def test_state_of_another_method_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="made by the method rloo"):
        teacher("gapg").restore(teacher("rloo").state())


@pytest.mark.parametrize("method", ["gapg", "da_grpo", "ppo"])
def test_teacher_refuses_a_method_without_what_it_needs(method: Method) -> None:
    with pytest.raises(ConfigurationError):
        Teacher(method, RewardScheme.of("v4"))


# Where the methods lead a policy


def trained(method: Method, *, prompts: int = 16, steps: int = 300) -> School:
    """Train with a share of help of 30 %; half of the prompts are hard."""
    school = School(teacher(method, rho=3 / 7), Policy(skill=-2.0, asking=-1.0), prompts=prompts)
    school.run(steps)
    return school


def test_grpo_collapses_to_always_asking() -> None:
    policy = trained("grpo").policy
    assert policy.ask_rate > 0.98
    assert sigmoid(policy.skill) < 0.6


def test_gapg_learns_to_solve_and_keeps_the_share_of_help_where_grpo_collapses() -> None:
    school = trained("gapg", prompts=32, steps=400)
    assert sigmoid(school.policy.skill) > 0.95
    assert school.late_rate(100) <= 0.3


def test_filter_keeps_the_policy_from_the_collapse_that_the_estimator_alone_does_not() -> None:
    assert trained("rloo").policy.ask_rate > 0.9


def test_price_of_asking_brings_the_policy_to_its_share() -> None:
    """All prompts are hard: without a price, asking would be best always."""
    policy = Policy(skill=-2.0, asking=0.0, step=1.0)
    school = School(teacher("da_grpo"), policy, prompts=8, hard_share=1.0)
    school.run(2000)
    assert school.late_rate(1000) == pytest.approx(0.3, abs=0.02)
    assert school.teacher.price is not None
    assert school.teacher.price.value > 0.4  # about a_c: asking pays no more
