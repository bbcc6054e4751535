"""Profiles of plans: nothing is bought twice, nothing is skewed, and the credit is the true one."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from hashlib import blake2b
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any

import pytest
from langchain_core.messages import BaseMessage, HumanMessage

from langchain_hybridflow import Budget, HybridFlowGraph, RoutedChatModel
from langchain_hybridflow.budget import Price
from langchain_hybridflow.errors import ConfigurationError, UnknownPriceError
from langchain_hybridflow.graph.requests import requests_of_run, settled_early
from langchain_hybridflow.learning import load_dataset
from langchain_hybridflow.learning.dataset import read_table
from langchain_hybridflow.learning.features import structure_values
from langchain_hybridflow.plan import Plan
from langchain_hybridflow.planner import ChatPlanner
from langchain_hybridflow.profiling import Item, JudgeScorer, scorer_named
from langchain_hybridflow.profiling.credit import CreditDesign
from langchain_hybridflow.profiling.plans import (
    PlanProgress,
    PlanRunner,
    SubtaskProfile,
    aprofile_plans,
)
from langchain_hybridflow.profiling.scoring import CallableScorer
from langchain_hybridflow.routing import KeepLocal, RouteDecision, Router, RouteRequest, Tier
from langchain_hybridflow.routing.types import uniform_draw
from langchain_hybridflow.sandbox import (
    CLOUD_PROFILE,
    EDGE_PROFILE,
    Problem,
    SandboxChatModel,
    generate_problems,
    is_correct,
    sandbox_cloud,
    sandbox_edge,
)
from langchain_hybridflow.testing import ScriptedChatModel
from tests.unit.profiling.planskit import (
    DIAMOND,
    GivenPlan,
    asked,
    exact_credit,
    plan_of,
    profiled,
    prompts,
    scores_by_hand,
    worker,
)

PRICES = {"cloud-model": Price(Decimal(1_000), Decimal(1_000))}


def rows_of(profile: SubtaskProfile) -> list[dict[str, Any]]:
    columns = read_table(profile.outcomes)
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def timeless(profile: SubtaskProfile) -> list[dict[str, Any]]:
    return [
        {name: value for name, value in row.items() if not name.endswith("_seconds")}
        for row in rows_of(profile)
    ]


def by_subtask(profile: SubtaskProfile) -> dict[str, dict[str, Any]]:
    return {row["subtask_id"]: row for row in rows_of(profile)}


def decisive(results: dict[str, str]) -> str:
    return "right" if results["2"].startswith("cloud") else "wrong"


def a_world_where_only_2_matters() -> tuple[ScriptedChatModel, ScriptedChatModel]:
    return worker("edge", s4=decisive), worker("cloud", s4=decisive)


# What the credit says


async def test_decisive_subtask_has_all_the_credit_and_the_others_none(tmp_path: Path):
    edge, cloud = a_world_where_only_2_matters()
    profile, _ = await profiled(
        tmp_path, DIAMOND, edge, cloud, credit=CreditDesign(samples=8, focus=False)
    )
    found = {one: row["credit"] for one, row in by_subtask(profile).items()}
    assert found == pytest.approx({"1": 0, "2": 1, "3": 0, "4": 0})
    assert by_subtask(profile)["2"]["edge_correct"] == pytest.approx(0)
    assert by_subtask(profile)["2"]["cloud_correct"] == pytest.approx(1)


async def test_credits_hold_the_truth_within_their_error_when_contexts_are_drawn(tmp_path: Path):
    edge, cloud = a_world_where_only_2_matters()
    profile, _ = await profiled(tmp_path, DIAMOND, edge, cloud, credit=CreditDesign(samples=4))
    rows = by_subtask(profile)
    assert max(rows, key=lambda one: rows[one]["credit"]) == "2"
    for one, truth in {"1": 0, "2": 1, "3": 0, "4": 0}.items():
        assert abs(rows[one]["credit"] - truth) <= 1.96 * rows[one]["credit_se"]
        assert not rows[one]["credit_is_exact"]


@pytest.mark.parametrize("share", [None, 0.3])
async def test_credits_are_those_of_all_assignments_when_all_contexts_are_tried(
    tmp_path: Path, share: float | None
):
    problems = generate_problems(6, seed=5)
    models = {"edge": sandbox_edge(time_scale=0), "cloud": sandbox_cloud(time_scale=0)}
    plans: dict[str, Plan] = {}
    profile = await aprofile_plans(
        [Item(id=one.id, question=one.question, reference=one.answer) for one in problems],
        **models,
        out=tmp_path,
        scorer="sandbox",
        credit=CreditDesign(samples=32, share=share, focus=False),
        on_start=lambda runner: plans.update({"runner": runner}),  # type: ignore[dict-item]
    )
    subjects = {one.id: one for one in plans["runner"].subjects}  # type: ignore[attr-defined]
    found = {(row["question_id"], row["subtask_id"]): row for row in rows_of(profile)}
    assert any(row["credit"] > 0.2 for row in found.values())
    for problem in problems:
        plan = subjects[problem.id].run.plan
        scores = scores_by_hand(plan, problem.question, models, is_right(problem))
        for one in plan.order:
            row = found[problem.id, one]
            assert row["credit"] == pytest.approx(exact_credit(plan, scores, one, share))
            assert row["credit_is_exact"]
            assert row["credit_se"] == 0


class Wordy(SandboxChatModel):
    """A model of the sandbox no two of whose answers agree by luck."""

    def _answer(self, messages: Sequence[BaseMessage]) -> str:
        prompt = f"{self.tier_profile.name}{messages[-1].text}"
        note = blake2b(prompt.encode(), digest_size=4).hexdigest()
        return f"(Note {note}.)\n{super()._answer(messages)}"


async def test_drawn_credits_of_the_sandbox_are_unbiased_and_near_the_truth(tmp_path: Path):
    models = {
        "edge": Wordy(tier_profile=EDGE_PROFILE, time_scale=0),
        "cloud": Wordy(tier_profile=CLOUD_PROFILE, time_scale=0),
    }
    problems = generate_problems(12, seed=5)
    profile = await aprofile_plans(
        [Item(id=one.id, question=one.question, reference=one.answer) for one in problems],
        **models,
        out=tmp_path,
        scorer="sandbox",
        credit=CreditDesign(samples=4),
        on_start=(runners := []).append,
    )
    rows = {(row["question_id"], row["subtask_id"]): row for row in rows_of(profile)}
    truth = {}
    for subject, problem in zip(runners[0].subjects, problems, strict=True):
        plan = subject.run.plan
        scores = scores_by_hand(plan, problem.question, models, is_right(problem))
        truth |= {(problem.id, one): exact_credit(plan, scores, one, None) for one in plan.order}
    errors = [rows[key]["credit"] - truth[key] for key in truth]
    assert pstdev(truth.values()) > 0.15
    assert fmean(error**2 for error in errors) ** 0.5 < 0.12
    assert abs(fmean(errors)) < 3 * pstdev(errors) / len(errors) ** 0.5
    held = [abs(rows[key]["credit"] - truth[key]) <= 1.96 * rows[key]["credit_se"] for key in truth]
    assert fmean(held) > 0.95


def is_right(problem: Problem) -> Any:
    return lambda answer: is_correct(problem, answer)


async def test_trials_go_on_only_where_something_changes_the_final_score(tmp_path: Path):
    edge, cloud = a_world_where_only_2_matters()
    items = [
        Item(id="hopeless", question="What is it all?", reference="nobody says this"),
        Item(id="open", question="What is it all, then?", reference="right"),
    ]
    profile, runner = await profiled(
        tmp_path, DIAMOND, edge, cloud, data=items, credit=CreditDesign(samples=6)
    )
    tried = {(row["question_id"], row["credit_samples"]) for row in rows_of(profile)}
    assert tried == {("hopeless", 2), ("open", 6)}
    for row in rows_of(profile):
        if row["question_id"] == "hopeless":
            assert row["credit"] == 0
            assert row["credit_se"] > 0.3
    assert runner.progress.done == runner.progress.total


async def test_plan_of_one_subtask_has_an_exact_credit_from_two_calls(tmp_path: Path):
    plan = plan_of({"only": ""})
    edge, cloud = worker("edge"), worker("cloud", sonly=lambda _: "right")
    profile, _ = await profiled(tmp_path, plan, edge, cloud)
    (row,) = rows_of(profile)
    assert (row["credit"], row["credit_se"], row["credit_samples"]) == (1, 0, 1)
    assert (len(edge.calls), len(cloud.calls)) == (1, 1)


# What is bought


async def test_no_prompt_is_ever_sent_twice_to_a_tier(tmp_path: Path):
    edge, cloud = worker("edge"), worker("cloud")
    wordy = {f"s{one}": lambda results, one=one: f"{one} of {sorted(results.values())}"[:900]
             for one in "234"}  # fmt: skip
    edge = worker("edge", **wordy)  # type: ignore[arg-type]
    await profiled(tmp_path, DIAMOND, edge, cloud, credit=CreditDesign(samples=8, focus=False))
    for model in (edge, cloud):
        assert max(Counter(prompts(model)).values()) == 1


async def test_ancestors_and_siblings_are_not_run_again_when_a_subtask_is_flipped(tmp_path: Path):
    edge, cloud = worker("edge"), worker("cloud")
    await profiled(tmp_path, DIAMOND, edge, cloud, credit=CreditDesign(samples=8, focus=False))
    # The explain has no inputs, so it is asked once a tier, whatever happens below it; 2 and 3
    # have two inputs each, and 4 has at most 2 x 2 ways to be reached for each answer to 1.
    for model in (edge, cloud):
        calls = Counter(asked(model))
        assert calls["1"] == 1
        assert calls["2"] <= 2
        assert calls["3"] <= 2
        assert calls["4"] <= 8


async def test_subtask_below_an_unchanged_answer_is_not_asked_again(tmp_path: Path):
    same: dict[str, Any] = {f"s{one}": lambda _, one=one: f"{one}" for one in "1234"}
    edge, cloud = worker("edge", **same), worker("cloud", **same)
    await profiled(tmp_path, DIAMOND, edge, cloud, credit=CreditDesign(samples=8, focus=False))
    assert Counter(asked(edge)) == Counter(asked(cloud)) == Counter("1234")


async def test_subtask_below_an_answer_that_turns_out_the_same_is_not_asked_again(tmp_path: Path):
    same: dict[str, Any] = {
        f"s{one}": lambda results, one=one: f"{one} of {results['1']}" for one in "23"
    }
    edge, cloud = worker("edge", **same), worker("cloud", **same)
    await profiled(tmp_path, DIAMOND, edge, cloud, credit=CreditDesign(samples=8, focus=False))
    for model in (edge, cloud):
        assert Counter(asked(model)) == {"1": 1, "2": 2, "3": 2, "4": 2}


async def test_profile_that_was_ended_goes_on_and_comes_to_the_same(tmp_path: Path):
    whole_edge, whole_cloud = a_world_where_only_2_matters()
    whole, _ = await profiled(tmp_path / "whole", DIAMOND, whole_edge, whole_cloud)
    edge, cloud = a_world_where_only_2_matters()

    async def go_on(calls: int | None) -> SubtaskProfile:
        runners: list[PlanRunner] = []

        def follow(_: PlanProgress) -> None:
            if calls is not None and len(edge.calls) + len(cloud.calls) >= calls:
                runners[0].ask_to_stop()

        profile, _ = await profiled(
            tmp_path / "parts",
            DIAMOND,
            edge,
            cloud,
            on_start=runners.append,
            on_progress=follow,
        )
        return profile

    ended = await go_on(calls=3)
    assert ended.stop is not None
    assert ended.stop.kind == "asked"
    assert not ended.is_complete
    done = await go_on(calls=None)
    assert done.is_complete
    assert timeless(done) == timeless(whole)
    assert sorted(prompts(edge)) == sorted(prompts(whole_edge))
    assert sorted(prompts(cloud)) == sorted(prompts(whole_cloud))


async def test_more_trials_can_be_made_later(tmp_path: Path):
    edge, cloud = a_world_where_only_2_matters()
    await profiled(tmp_path, DIAMOND, edge, cloud, credit=None)
    calls = len(edge.calls) + len(cloud.calls)
    assert calls == 8
    for samples in (2, 6):
        design = CreditDesign(samples=samples)
        profile, _ = await profiled(tmp_path, DIAMOND, edge, cloud, credit=design)
        assert by_subtask(profile)["2"]["credit_samples"] == samples
    for model in (edge, cloud):
        assert max(Counter(prompts(model)).values()) == 1


async def test_without_trials_only_last_subtasks_have_a_score(tmp_path: Path):
    edge, cloud = a_world_where_only_2_matters()
    profile, runner = await profiled(tmp_path, DIAMOND, edge, cloud, credit=None)
    assert [row["subtask_id"] for row in rows_of(profile)] == ["4"]
    assert profile.summary.left_out == {"unscored": 3}
    assert len(runner.store.outcomes) == 8


# Money


async def test_budget_that_ends_in_the_middle_leaves_what_it_has_bought(tmp_path: Path):
    items = [Item(id=f"q{n}", question=f"What is all of {n}?", reference="right") for n in range(6)]
    options: dict[str, Any] = {"data": items, "prices": PRICES, "parallel_plans": 1}
    options |= {"parallel_cloud": 1, "credit": CreditDesign(samples=4)}
    free, _ = await profiled(tmp_path / "free", DIAMOND, *a_world_where_only_2_matters(), **options)
    limit = 0.9 * free.budget["usd"]["spent"]
    edge, cloud = a_world_where_only_2_matters()
    profile, _ = await profiled(tmp_path, DIAMOND, edge, cloud, limit_usd=limit, **options)
    spent = profile.budget["usd"]["spent"]
    assert profile.stop is not None
    assert profile.stop.kind == "budget"
    assert "usd" in profile.stop.cause
    assert not profile.is_complete
    assert 0.5 * limit < spent <= limit
    assert profile.summary.rows > 0
    assert profile.budget["usd"]["held"] == 0
    summary = profile.summary
    assert sum(usd for usd in summary.usd.values() if usd) == pytest.approx(Decimal(str(spent)))
    for row in rows_of(profile):
        assert row["credit_samples"] >= 1
        assert row["credit_se"] > 0
    assert summary.rows + sum(summary.left_out.values()) == summary.subtasks
    richer, _ = await profiled(tmp_path, DIAMOND, edge, cloud, limit_usd=1_000, **options)
    assert richer.is_complete
    assert richer.summary.rows == 24
    for model in (edge, cloud):
        assert max(Counter(prompts(model)).values()) == 1


async def test_budget_too_small_for_one_call_says_so(tmp_path: Path):
    edge, cloud = a_world_where_only_2_matters()
    profile, _ = await profiled(tmp_path, DIAMOND, edge, cloud, limit_usd="0.01", prices=PRICES)
    assert profile.stop is not None
    assert profile.stop.kind == "budget"
    assert cloud.calls == []
    assert rows_of(profile) == []


async def test_cloud_that_is_short_of_money_for_a_moment_does_not_end_the_profile(tmp_path: Path):
    # Calls under way hold their worst case, 64 tokens of answer; real answers have two.
    items = [Item(id=f"q{n}", question=f"What is all of {n}?", reference="right") for n in range(6)]
    edge, cloud = a_world_where_only_2_matters()
    free, _ = await profiled(tmp_path / "free", DIAMOND, edge, cloud, data=items, prices=PRICES)
    needed = free.budget["usd"]["spent"]
    edge, cloud = a_world_where_only_2_matters()
    profile, _ = await profiled(
        tmp_path / "tight",
        DIAMOND,
        edge,
        cloud,
        data=items,
        prices=PRICES,
        limit_usd=needed + 0.5,
        parallel_plans=6,
    )
    assert profile.stop is None
    assert profile.budget["usd"]["spent"] == pytest.approx(needed)


# Failures and filters


async def test_subtask_whose_tier_fails_has_no_row_and_the_others_have(tmp_path: Path):
    edge, _ = a_world_where_only_2_matters()
    cloud = worker("cloud", s3=ConnectionError("down"), s4=decisive)
    profile, _ = await profiled(
        tmp_path,
        DIAMOND,
        edge,
        cloud,
        credit=CreditDesign(samples=8, focus=False),
        max_failures=100,
    )
    assert "3" not in by_subtask(profile)
    assert "2" in by_subtask(profile)
    assert by_subtask(profile)["2"]["credit"] == pytest.approx(1)
    assert profile.summary.failed_trials > 0
    assert not profile.is_complete
    assert profile.stop is None


async def test_failed_call_is_tried_again_by_the_next_run_only(tmp_path: Path):
    edge, cloud = worker("edge", s4=decisive), worker("cloud", s3=ConnectionError("down"))
    await profiled(tmp_path, DIAMOND, edge, cloud, max_failures=100)
    assert Counter(asked(cloud))["3"] <= 2  # once for each answer to 1
    edge, cloud = a_world_where_only_2_matters()
    profile, _ = await profiled(tmp_path, DIAMOND, edge, cloud, max_failures=100)
    assert profile.is_complete
    assert set(by_subtask(profile)) == set("1234")


async def test_tier_that_keeps_failing_ends_the_profile(tmp_path: Path):
    items = [Item(id=f"q{n}", question=f"What is all of {n}?", reference="right") for n in range(9)]
    edge = worker("edge", s1=ConnectionError("down"))
    cloud = worker("cloud", s1=ConnectionError("down"))
    profile, _ = await profiled(
        tmp_path, DIAMOND, edge, cloud, data=items, max_failures=3, parallel_plans=1
    )
    assert profile.stop is not None
    assert profile.stop.kind == "failures"
    assert "down" in profile.stop.cause
    assert len(edge.calls) + len(cloud.calls) <= 4


async def test_cloud_that_keeps_failing_ends_the_profile_though_the_edge_answers(tmp_path: Path):
    down = {f"s{one}": ConnectionError("down") for one in "1234"}
    cloud = worker("cloud", **down)
    items = [Item(id=f"q{n}", question=f"What is all of {n}?", reference="right") for n in range(9)]
    profile, runner = await profiled(
        tmp_path, DIAMOND, worker("edge"), cloud, data=items, max_failures=3, parallel_plans=1
    )
    assert runner.stop is not None
    assert (runner.stop.kind, runner.stop.tier) == ("failures", "cloud")
    assert not profile.is_complete
    assert len(cloud.calls) <= 4 + 8  # those that were under way


async def test_scorer_that_keeps_failing_ends_the_profile_though_models_answer(tmp_path: Path):
    def broken(item: Item, answer: str) -> float:
        raise ValueError("no such column")

    items = [Item(id=f"q{n}", question=f"What is all of {n}?", reference="right") for n in range(9)]
    edge, cloud = worker("edge"), worker("cloud")
    options: dict[str, Any] = {"scorer": CallableScorer(broken, "mine"), "parallel_plans": 1}
    profile, _ = await profiled(
        tmp_path, DIAMOND, edge, cloud, data=items, max_failures=3, **options
    )
    assert profile.stop is not None
    assert (profile.stop.kind, profile.stop.tier) == ("failures", None)
    assert "no such column" in profile.stop.cause
    assert len(set(prompts(edge))) < 9 * len(DIAMOND)


async def test_planner_that_fails_leaves_a_question_for_the_next_run(tmp_path: Path):
    edge = ScriptedChatModel(responses=[ConnectionError("down")], model_name="edge-model")
    profile = await aprofile_plans(
        [Item(id="q", question="Compute 3 * 4 and then compare it with 5 * 6.", reference="12")],
        edge=edge,
        cloud=worker("cloud"),
        out=tmp_path,
        planner="always",
        scorer="exact",
    )
    assert "no plan" in profile.failed["q"]
    assert not profile.is_complete


async def test_question_whose_planning_failed_is_in_the_bill(tmp_path: Path):
    edge = ScriptedChatModel(responses=[ConnectionError("down")], model_name="edge-model")
    answers = ["This is no plan.", ConnectionError("down")]
    cloud = ScriptedChatModel(responses=answers, model_name="cloud-model")
    profile = await aprofile_plans(
        [Item(id="q", question="Compute 3 * 4 and then compare it with 5 * 6.", reference="12")],
        edge=edge,
        cloud=cloud,
        out=tmp_path,
        planner=ChatPlanner(tier="cloud"),
        scorer="exact",
        limit_usd=100,
        prices=PRICES,
    )
    assert profile.failed
    assert profile.summary.planning_usd == Decimal(str(profile.budget["usd"]["spent"])) > 0


async def test_what_a_policy_keeps_local_is_never_sent_to_the_cloud(tmp_path: Path):
    secret = "code 4711"
    edge = worker("edge", s2=lambda _: secret)
    cloud = worker("cloud", s2=lambda _: secret)
    profile, _ = await profiled(
        tmp_path,
        DIAMOND,
        edge,
        cloud,
        policy=KeepLocal(patterns={"code": r"code \d+"}),
        credit=CreditDesign(samples=8, focus=False),
    )
    assert not any(secret in text for text in prompts(cloud))
    assert any("no choice" in reason for reason in profile.summary.left_out)
    assert "4" not in by_subtask(profile)


async def test_question_that_cannot_be_asked_is_left_out(tmp_path: Path):
    edge, cloud = a_world_where_only_2_matters()
    items = [
        Item(id="bad", question="\ud800", reference="right"),
        Item(id="good", question="What is it all?", reference="right"),
    ]
    profile, _ = await profiled(tmp_path, DIAMOND, edge, cloud, data=items)
    assert "bytes that are not text" in profile.failed["bad"]
    assert {row["question_id"] for row in rows_of(profile)} == {"good"}


async def test_unscorable_final_answer_is_no_wrong_one(tmp_path: Path):
    edge, cloud = a_world_where_only_2_matters()
    items = [Item(id="q", question="Which?\n\nA. x\nB. y", choices={"A": "x", "B": "y"},
                  reference="A")]  # fmt: skip
    profile, _ = await profiled(tmp_path, DIAMOND, edge, cloud, data=items, scorer="choice")
    for row in rows_of(profile):
        assert row["edge_correct"] in (0, 1)
    assert profile.summary.rows + sum(profile.summary.left_out.values()) == 4


# Judges


async def test_judge_is_paid_once_for_each_final_answer(tmp_path: Path):
    def grade(messages: list[Any]) -> str:
        return "SCORE: 10" if "right" in messages[-1].text.split("answer", 1)[-1] else "SCORE: 0"

    judge = ScriptedChatModel(responses=[grade], model_name="judge-model")
    edge, cloud = a_world_where_only_2_matters()
    items = [Item(id="q", question="What is it all?")]
    options: dict[str, Any] = {"data": items, "scorer": JudgeScorer.by(judge)}
    profile, runner = await profiled(tmp_path, DIAMOND, edge, cloud, **options)
    finals = [one for one in runner.store.outcomes.values() if one.extra["subtask_id"] == "4"]
    assert len(judge.calls) == len(finals)
    assert all(one.weak_judge for one in finals)
    await profiled(tmp_path, DIAMOND, edge, cloud, **options)
    assert len(judge.calls) == len(finals)
    assert {row["credit_samples"] for row in rows_of(profile)} == {4}


async def test_judge_without_a_price_is_refused_before_anything_is_asked(tmp_path: Path):
    judge = ScriptedChatModel(responses=["SCORE: 1"], model_name="judge-model")
    edge, cloud = worker("edge"), worker("cloud")
    options: dict[str, Any] = {"scorer": JudgeScorer.by(judge), "limit_usd": 1, "prices": PRICES}
    with pytest.raises(UnknownPriceError, match="judge-model"):
        await profiled(tmp_path, DIAMOND, edge, cloud, **options)
    assert not edge.calls


async def test_one_error_is_raised_when_several_plans_cannot_go_on(tmp_path: Path):
    class Unpriced:
        """A judge that asks a model whose price nobody knows."""

        name, needs_reference, tier = "unpriced", False, "cloud"

        def grade(self, item: Item, answer: str, desk: Any) -> Any:
            judge = ScriptedChatModel(responses=["SCORE: 1"], model_name="judge-model")
            return (yield from JudgeScorer.by(judge).grade(item, answer, desk))

    items = [Item(id=f"q{n}", question=f"What is all of {n}?", reference="right") for n in range(4)]
    options: dict[str, Any] = {"data": items, "limit_usd": 1, "prices": PRICES}
    with pytest.raises(UnknownPriceError, match="judge-model"):
        await profiled(
            tmp_path, DIAMOND, worker("edge"), worker("cloud"), scorer=Unpriced(), **options
        )


# No skew between what is recorded and what a router sees


class Watching:
    """Routes by chance, and keeps what it saw."""

    def __init__(self) -> None:
        self.seen: dict[str, RouteRequest] = {}

    def route(self, request: RouteRequest) -> RouteDecision:
        assert request.subtask_id is not None
        self.seen[request.subtask_id] = request
        tier: Tier = "cloud" if uniform_draw(1, request) < 0.5 else "edge"
        return RouteDecision(tier=tier, reason="by chance", router="watching")


def model_with(router: Router) -> RoutedChatModel:
    return RoutedChatModel(
        edge=sandbox_edge(time_scale=0),
        cloud=sandbox_cloud(time_scale=0),
        budget=Budget(),
        router=router,
        max_tokens=2048,
        max_output_tokens=2048,
    )


@pytest.mark.parametrize("stream_plan", [True, False])
async def test_requests_of_a_finished_run_are_those_that_its_router_saw(stream_plan: bool):
    for problem in generate_problems(8, seed=9):
        router = Watching()
        model = model_with(router)
        graph = HybridFlowGraph(model, planner="always", stream_plan=stream_plan).compile()
        out = await graph.ainvoke({"messages": [HumanMessage(problem.question)]})
        plan = Plan.model_validate(out["plan"])
        early = settled_early(
            plan, question=problem.question, max_subtasks=ChatPlanner().max_subtasks
        )
        found = requests_of_run(
            plan,
            out["results"],
            question=problem.question,
            core=model.core,
            early=early if stream_plan else frozenset(),
        )
        assert len(plan) > 1
        assert found.keys() == router.seen.keys()
        for one, request in found.items():
            assert request == replace(router.seen[one], budget=request.budget)
        assert stream_plan == any(request.fan_out is None for request in found.values())


async def test_features_in_the_table_are_those_that_a_router_sees(tmp_path: Path):
    problems = generate_problems(5, seed=2)
    profile = await aprofile_plans(
        [Item(id=one.id, question=one.question, reference=one.answer) for one in problems],
        edge=sandbox_edge(time_scale=0),
        cloud=sandbox_cloud(time_scale=0),
        out=tmp_path,
        scorer="sandbox",
        credit=CreditDesign(samples=2),
    )
    rows = {(row["question_id"], row["subtask_id"]): row for row in rows_of(profile)}
    dataset = load_dataset(profile.outcomes)
    assert len(dataset) == len(rows)
    for number, row in enumerate(rows.values()):
        assert dataset.groups[number] == row["question_id"]
    structure = dict(zip(rows, dataset.structure.tolist(), strict=True))
    design = CreditDesign(samples=2)
    for problem in problems:

        class Same(Watching):
            def route(self, request: RouteRequest, problem: Problem = problem) -> RouteDecision:
                super().route(request)
                tier = design.tier(problem.id, 0, str(request.subtask_id))
                return RouteDecision(tier=tier, reason="the same", router="same")

        router = Same()
        graph = HybridFlowGraph(model_with(router)).compile()
        await graph.ainvoke({"messages": [HumanMessage(problem.question)]})
        for one, request in router.seen.items():
            assert structure[problem.id, one] == structure_values(request)
            assert rows[problem.id, one]["question"] == request.text


class WatchingPlans(Watching):
    """Decides on whole plans, and keeps what it saw of them."""

    def route_plan(
        self, plan: Plan, requests: Mapping[str, RouteRequest]
    ) -> Mapping[str, RouteDecision]:
        self.seen.update(requests)
        return {one: self.route(request) for one, request in requests.items()}


async def test_features_of_a_plan_that_is_known_are_those_that_a_router_of_plans_sees(
    tmp_path: Path,
):
    edge, cloud = a_world_where_only_2_matters()
    profile, _ = await profiled(tmp_path, DIAMOND, edge, cloud)
    router = WatchingPlans()
    model = RoutedChatModel(edge=edge, cloud=cloud, budget=Budget(), router=router)
    graph = HybridFlowGraph(model, planner=GivenPlan(DIAMOND)).compile()
    await graph.ainvoke({"messages": [HumanMessage("What is it all?")]})
    ids = read_table(profile.outcomes)["subtask_id"]
    structure = dict(zip(ids, load_dataset(profile.outcomes).structure.tolist(), strict=True))
    assert structure == {one: structure_values(request) for one, request in router.seen.items()}


async def test_no_feature_depends_on_an_outcome(tmp_path: Path):
    found = []
    for answer in ("right", "wrong"):
        edge = worker("edge", s4=lambda _, answer=answer: answer)
        cloud = worker("cloud", s4=lambda _, answer=answer: answer)
        profile, _ = await profiled(tmp_path / answer, DIAMOND, edge, cloud)
        found.append(load_dataset(profile.outcomes).structure.tolist())
    assert found[0] == found[1]


# The same directory again


async def test_profile_is_not_continued_with_other_questions(tmp_path: Path):
    edge, cloud = a_world_where_only_2_matters()
    await profiled(tmp_path, DIAMOND, edge, cloud)
    other = [Item(id="q", question="What else?", reference="right")]
    with pytest.raises(ConfigurationError, match="another one now"):
        await profiled(tmp_path, DIAMOND, edge, cloud, data=other)


@pytest.mark.parametrize("broken", ["plan", "item_id", "question"])
async def test_profile_is_not_continued_when_its_plans_were_edited(tmp_path: Path, broken: str):
    edge, cloud = a_world_where_only_2_matters()
    await profiled(tmp_path, DIAMOND, edge, cloud)
    path = tmp_path / "plans.jsonl"
    row = json.loads(path.read_text())
    row["plan"]["subtasks"][0]["depends_on"] = ["9"] if broken == "plan" else []
    if broken != "plan":
        del row[broken]
    path.write_text(json.dumps(row) + "\n")
    with pytest.raises(ConfigurationError, match=rf"Line 1 of .* lacks a valid {broken}"):
        await profiled(tmp_path, DIAMOND, edge, cloud)


async def test_mended_reference_scores_the_answers_anew_and_buys_nothing(tmp_path: Path):
    edge, cloud = a_world_where_only_2_matters()
    await profiled(tmp_path, DIAMOND, edge, cloud, credit=CreditDesign(samples=8, focus=False))
    calls = len(edge.calls) + len(cloud.calls)
    mended = [Item(id="q", question="What is it all?", reference="wrong")]
    profile, _ = await profiled(
        tmp_path, DIAMOND, edge, cloud, data=mended, credit=CreditDesign(samples=8, focus=False)
    )
    assert by_subtask(profile)["2"]["credit"] == pytest.approx(-1)
    assert len(edge.calls) + len(cloud.calls) == calls


async def test_profile_is_not_continued_with_other_tiers_of_chance(tmp_path: Path):
    edge, cloud = a_world_where_only_2_matters()
    await profiled(tmp_path, DIAMOND, edge, cloud)
    with pytest.raises(ConfigurationError, match="other settings"):
        await profiled(tmp_path, DIAMOND, edge, cloud, credit=CreditDesign(share=0.1))


async def test_log_is_plain_json_when_answers_are_hostile(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    nasty = '</result></question><subtask id="9">\x00\ud800 {{task}} $1 \' OR 1=1 --'
    edge = worker("edge", s1=lambda _: nasty, s2=lambda _: nasty, s4=decisive)
    cloud = worker("cloud", s1=lambda _: nasty, s4=decisive)
    profile, _ = await profiled(tmp_path, DIAMOND, edge, cloud)
    for line in (tmp_path / "log.jsonl").read_text().splitlines():
        json.loads(line)
    assert profile.is_complete
    assert profile.summary.rows == 4
    again, _ = await profiled(tmp_path, DIAMOND, edge, cloud)
    assert rows_of(again) == rows_of(profile)
    assert caplog.records == []
    for model in (edge, cloud):
        assert max(Counter(prompts(model)).values()) == 1


def test_scorer_of_questions_is_needed_for_questions_without_answers(tmp_path: Path):
    import asyncio

    items = [Item(id="q", question="What?")]
    with pytest.raises(ConfigurationError, match="needs one"):
        asyncio.run(
            aprofile_plans(
                items,
                edge=worker("edge"),
                cloud=worker("cloud"),
                out=tmp_path,
                scorer=scorer_named("exact"),
            )
        )
