"""The report of a run: who did what, why, for how much, and how near to the critical path."""

from __future__ import annotations

import json
from decimal import Decimal
from itertools import count

import pytest
from flowkit import (
    CHAIN,
    DIAMOND,
    Face,
    ask,
    make_flow,
    plan_of,
    planning_worker,
    worker,
)

from langchain_hybridflow import Budget, Price
from langchain_hybridflow.graph.state import SubtaskRecord
from langchain_hybridflow.graph.summary import final_answer, run_report
from langchain_hybridflow.plan import Plan
from langchain_hybridflow.routing import AlwaysCloud, DifficultyRouter


def timed_records(plan: Plan, durations: dict[str, float]) -> dict[str, SubtaskRecord]:
    """Records of a run in which everybody started as soon as it could."""
    records: dict[str, SubtaskRecord] = {}
    for key in plan.order:
        ready = max((records[p]["ended_at"] for p in plan[key].depends_on), default=100.0)
        records[key] = SubtaskRecord(
            id=key,
            status="ok",
            answer=f"answer {key}",
            error=None,
            tier="edge",
            model="edge",
            decision={"tier": "edge", "reason": "test"},
            attempts=[],
            cost_usd="0",
            input_tokens=0,
            output_tokens=0,
            degraded=False,
            kept_local=False,
            ready_at=ready,
            started_at=ready,
            ended_at=ready + durations[key],
            message_id=None,
            inputs_hash="",
        )
    return records


def test_critical_path_is_the_longest_way_through_what_was_measured():
    plan = plan_of({"1": "", "2": "1", "3": "1", "4": "2 3"})
    report = run_report(plan, timed_records(plan, {"1": 1, "2": 5, "3": 2, "4": 1}), {})
    assert report["critical_path"] == ["1", "2", "4"]
    assert report["critical_path_s"] == pytest.approx(7)
    assert report["makespan_s"] == pytest.approx(7)
    on_path = {row["id"]: row["on_critical_path"] for row in report["subtasks"]}
    assert on_path == {"1": True, "2": True, "3": False, "4": True}


def test_times_count_from_the_first_subtask():
    report = run_report(CHAIN, timed_records(CHAIN, {"1": 1, "2": 2, "3": 3}), {})
    rows = {row["id"]: (row["ready_s"], row["start_s"], row["end_s"]) for row in report["subtasks"]}
    assert rows == {"1": (0, 0, 1), "2": (1, 1, 3), "3": (3, 3, 6)}


async def test_report_says_who_answered_why_and_for_how_much(face: Face):
    prices = {"cloud": Price(1_000, 2_000)}
    flow = make_flow(
        cloud=worker(model_name="cloud"),
        router=AlwaysCloud(),
        budget=Budget(limit_usd=1_000, prices=prices),
    )
    out = await face.invoke(flow.compile(plan=CHAIN), ask())
    for row in out["report"]["subtasks"]:
        assert (row["tier"], row["model"], row["decided"]) == ("cloud", "cloud", "cloud")
        assert row["reason"] == "this policy always chooses the cloud"
        tokens = row["input_tokens"] * 1_000 + row["output_tokens"] * 2_000
        assert Decimal(row["cost_usd"]) == Decimal(tokens) / 1_000_000
        assert row["attempts"] == 1


async def test_totals_are_the_sum_of_the_rows_and_what_the_budget_booked(face: Face):
    budget = Budget(limit_usd=1_000, prices={"cloud": Price(1_000, 2_000)})
    flow = make_flow(cloud=worker(model_name="cloud"), router=AlwaysCloud(), budget=budget)
    report = (await face.invoke(flow.compile(plan=DIAMOND), ask()))["report"]
    totals = report["totals"]
    assert Decimal(totals["cost_usd"]) == sum(
        Decimal(row["cost_usd"]) for row in report["subtasks"]
    )
    assert totals["cloud"]["calls"] == 4
    assert float(totals["cost_usd"]) == pytest.approx(budget.snapshot()["usd"]["spent"])


async def test_unknown_price_is_reported_as_unknown(face: Face):
    flow = make_flow(cloud=worker(model_name="nobody-knows"), router=AlwaysCloud())
    out = await face.invoke(flow.compile(plan=CHAIN), ask())
    assert out["results"]["1"]["cost_usd"] is None
    assert out["report"]["totals"]["cost_usd"] is None
    assert out["report"]["totals"]["edge"]["cost_usd"] == "0"


async def test_planning_is_part_of_the_totals(face: Face):
    edge = planning_worker(DIAMOND)
    out = await face.invoke(make_flow(edge, planner="always").compile(), ask())
    assert out["report"]["totals"]["edge"]["calls"] == 5
    assert out["report"]["planning"]["source"] == "planner"
    assert len(out["report"]["planning"]["attempts"]) == 1


async def test_failed_attempts_are_part_of_the_report(face: Face):
    flow = make_flow(worker({"2": ValueError("no idea")}), worker(model_name="cloud"))
    report = (await face.invoke(flow.compile(plan=CHAIN), ask()))["report"]
    row = next(row for row in report["subtasks"] if row["id"] == "2")
    assert (row["decided"], row["tier"], row["attempts"]) == ("edge", "cloud", 2)
    assert report["totals"]["edge"]["calls"] == 3
    assert report["totals"]["cloud"]["calls"] == 1


async def test_report_keeps_score_and_threshold_of_the_router(face: Face):
    out = await face.invoke(make_flow(router=DifficultyRouter()).compile(plan=CHAIN), ask())
    row = out["report"]["subtasks"][0]
    assert row["score"] is not None
    assert row["threshold"] is not None


async def test_times_come_from_the_injected_clock(face: Face):
    ticks = count(1_000)
    flow = make_flow(clock=lambda: float(next(ticks)))
    out = await face.invoke(flow.compile(plan=CHAIN), ask())
    records = [out["results"][key] for key in "123"]
    assert all(r["ready_at"] < r["started_at"] < r["ended_at"] for r in records)
    assert records[0]["ready_at"] == 1_000
    assert all(type(row["start_s"]) is float for row in out["report"]["subtasks"])


async def test_trivial_question_says_by_which_rule_it_was_not_planned(face: Face):
    edge = worker()
    out = await face.invoke(make_flow(edge).compile(), ask("What is the capital of France?"))
    planning = out["report"]["planning"]
    assert planning["source"] == "trivial"
    assert "surface difficulty 1 <= 2" in planning["reason"]
    assert len(edge.calls) == 1


async def test_repairs_are_part_of_the_report(face: Face):
    broken = (
        '<Plan><Step ID="1" Role="explain" Task="What?" Rely=""/>'
        '<Step ID="2" Role="analyze" Task="How?" Rely="1,99"/>'
        '<Step ID="3" Role="generate" Task="All?" Rely="2"/></Plan>'
    )
    edge = planning_worker(DIAMOND, {"plan": broken})
    out = await face.invoke(make_flow(edge, planner="always").compile(), ask())
    planning = out["report"]["planning"]
    assert [issue["code"] for issue in planning["issues"]] == ["unknown_dependency"]
    assert planning["repairs"]
    assert out["report"]["complete"]


async def test_report_is_json(face: Face):
    out = await face.invoke(make_flow(router=AlwaysCloud()).compile(plan=DIAMOND), ask())
    assert json.loads(json.dumps(out["report"])) == out["report"]


def test_answer_is_the_one_of_the_sink():
    records = timed_records(CHAIN, dict.fromkeys("123", 1.0))
    assert final_answer(CHAIN, records) == "answer 3"


def test_long_tasks_are_shortened_in_the_answer_that_says_what_is_missing():
    records = timed_records(CHAIN, dict.fromkeys("123", 1.0))
    records["3"] |= {"answer": None, "status": "failed", "error": "broke"}  # type: ignore[typeddict-item]
    plan = Plan.model_validate(
        {
            "subtasks": [
                *CHAIN.model_dump(mode="json")["subtasks"][:2],
                {"id": "3", "task": "x" * 500, "role": "generate", "depends_on": ["2"]},
            ]
        }
    )
    assert "x" * 117 + "... (broke)" in final_answer(plan, records)
