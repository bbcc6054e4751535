"""What the tiers are worth, measured: the margins that the demo and the router tests rely on."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from langchain_hybridflow.plan import Subtask
from langchain_hybridflow.sandbox import (
    SandboxChatModel,
    draft_plan,
    generate_problems,
    is_correct,
    sandbox_cloud,
    sandbox_edge,
)

PROBLEMS = generate_problems(300, seed=12)
EDGE, CLOUD = sandbox_edge(time_scale=0), sandbox_cloud(time_scale=0)

RunPlan = Callable[..., dict[str, str]]


def direct(model: SandboxChatModel) -> float:
    return sum(is_correct(p, model.invoke(p.question).text) for p in PROBLEMS) / len(PROBLEMS)


def planned(run_plan: RunPlan, model_for: Callable[[Subtask], SandboxChatModel]) -> float:
    right = 0
    for problem in PROBLEMS:
        plan = draft_plan(problem.question)
        right += is_correct(problem, run_plan(problem.question, plan, model_for)[plan.order[-1]])
    return right / len(PROBLEMS)


def by_difficulty(subtask: Subtask) -> SandboxChatModel:
    return CLOUD if subtask.difficulty >= 5 else EDGE


@pytest.mark.parametrize(("model", "low", "high"), [(EDGE, 0.15, 0.35), (CLOUD, 0.85, 0.97)])
def test_direct_answers_are_as_good_as_the_tier(
    model: SandboxChatModel, low: float, high: float
) -> None:
    assert low <= direct(model) <= high


def test_plan_on_the_edge_beats_the_edge_alone_but_not_the_cloud(run_plan: RunPlan) -> None:
    assert direct(EDGE) + 0.15 < planned(run_plan, lambda _: EDGE) < direct(CLOUD) - 0.15


def test_plan_with_hard_subtasks_on_the_cloud_comes_close_to_the_cloud(run_plan: RunPlan) -> None:
    assert planned(run_plan, by_difficulty) > direct(CLOUD) - 0.05


def test_hard_subtasks_are_about_a_third() -> None:
    subtasks = [s for p in PROBLEMS for s in draft_plan(p.question).subtasks]
    assert 0.25 < sum(s.difficulty >= 5 for s in subtasks) / len(subtasks) < 0.5
