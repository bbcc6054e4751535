"""The measuring of the demo: what is counted, and that it is counted truly."""

from __future__ import annotations

import asyncio
from decimal import Decimal

import pytest

from langchain_hybridflow.cli.trials import (
    MAX_OUTPUT_TOKENS,
    Outcome,
    Trial,
    World,
    interval,
    try_all,
    typical,
)
from langchain_hybridflow.sandbox import draft_plan, generate_problems

PROBLEMS = generate_problems(6)
WORLD = World(time_scale=0)


async def test_never_more_problems_at_once_than_allowed() -> None:
    under_way = most = 0

    async def answer(problem: object) -> Outcome:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0)
        under_way -= 1
        return Outcome(correct=True, seconds=1.0)

    await try_all("x", answer, PROBLEMS, at_once=2)
    assert most == 2


async def test_edge_alone_costs_nothing_and_asks_no_cloud() -> None:
    trial = await try_all("edge", WORLD.direct(WORLD.edge), PROBLEMS, at_once=6)
    assert (trial.cost_usd, trial.total("cloud_calls"), trial.total("cloud_tokens")) == (0, 0, 0)


async def test_cloud_alone_pays_its_list_price() -> None:
    trial = await try_all("cloud", WORLD.direct(WORLD.cloud), PROBLEMS, at_once=6)
    assert trial.total("cloud_calls") == len(PROBLEMS)
    assert trial.cost_usd > 0


async def test_flow_costs_what_its_budget_was_charged() -> None:
    budget = WORLD.budget(Decimal(1))
    trial = await try_all("both", await WORLD.together(budget, PROBLEMS), PROBLEMS, at_once=3)
    usd = budget.snapshot()["usd"]
    assert trial.cost_usd == Decimal(str(usd["spent"])) > 0
    assert usd["held"] == 0
    assert trial.total("cloud_tokens") == budget.snapshot()["cloud_tokens"]["spent"]


async def test_flow_without_money_asks_no_cloud() -> None:
    budget = WORLD.budget(Decimal(0))
    trial = await try_all("both", await WORLD.together(budget, PROBLEMS), PROBLEMS, at_once=3)
    assert trial.total("cloud_calls") == 0
    assert trial.total("refused") > 0


async def test_no_answer_in_the_demo_is_as_long_as_what_is_reserved_for_it() -> None:
    graph = WORLD.flow(WORLD.budget(Decimal(1))).compile()
    for problem in PROBLEMS:
        out = await graph.ainvoke({"messages": [("user", problem.question)]})
        for record in out["results"].values():
            assert record["output_tokens"] < MAX_OUTPUT_TOKENS / 2


async def test_seconds_are_at_real_scale() -> None:
    world = World(time_scale=0.01)
    outcome = await world.direct(world.edge)(PROBLEMS[0])
    assert outcome.seconds > world.edge.tier_profile.ttft_s


def test_typical_problem_has_work_for_both_tiers() -> None:
    plan = draft_plan(typical(generate_problems(40)).question)
    levels = [subtask.difficulty for subtask in plan.subtasks]
    assert min(levels) < 5 <= max(levels)


def test_typical_problem_is_the_first_when_none_is_typical() -> None:
    single = generate_problems(1)
    assert typical(single) is single[0]


@pytest.mark.parametrize("correct", [0, 1, 19, 20])
def test_interval_holds_the_share_and_stays_within_bounds(correct: int) -> None:
    low, high = interval(correct, 20)
    assert 0 <= low <= correct / 20 <= high <= 1
    assert low < high


def test_trial_in_json_is_what_was_measured() -> None:
    outcomes = (
        Outcome(correct=True, seconds=1.0, cloud_calls=2, cloud_tokens=30, cost_usd=Decimal("0.5")),
        Outcome(correct=False, seconds=3.0, refused=1),
    )
    found = Trial("x", outcomes).to_json()
    assert (found["correct"], found["accuracy"], found["mean_seconds"]) == (1, 0.5, 2.0)
    assert (found["cloud_calls"], found["refused_calls"], found["cost_usd"]) == (2, 1, "0.5")
