"""What a router sees of a subtask: at the moment of routing, and of a run that is over.

There is one function that describes a subtask. The nodes of a graph call it before they decide, and
a profile calls it on what was written down, so that a router learns from what it will see.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from langchain_hybridflow.calls import RoutingCore, request_of
from langchain_hybridflow.graph.packets import early_work, works_of
from langchain_hybridflow.graph.prompts import prompt_tokens, subtask_messages
from langchain_hybridflow.graph.state import SubtaskRecord
from langchain_hybridflow.plan import Plan, Subtask, plan_to_xml
from langchain_hybridflow.planner import PlanWriter
from langchain_hybridflow.routing import RouteRequest

__all__ = ["requests_of_run", "settled_early", "subtask_request"]


def subtask_request(
    subtask: Subtask,
    work: Mapping[str, Any],
    *,
    question: str,
    core: RoutingCore,
    tag: str | None = None,
) -> RouteRequest:
    """Describe a subtask to the filters and the router.

    Args:
        subtask: What is to be solved.
        work: Its place in the plan and what it builds on: `depth`, `fan_out`, `on_critical_path`,
            `answers`, `parent_tiers`, `kept_local`.
        question: The whole question.
        core: Who decides.
        tag: What kind of request it is, if anybody has said.
    """
    answers = work["answers"]
    return request_of(
        subtask_messages(subtask, question=question, answers=answers),
        core.options,
        read_options=core.policy is not None,
        text=subtask.task,
        tag=tag,
        kept_local=work["kept_local"],
        prompt_tokens=prompt_tokens(subtask, question=question, answers=answers),
        subtask_id=subtask.id,
        role=subtask.role,
        difficulty=subtask.difficulty,
        expected_output_tokens=subtask.expected_output_tokens,
        depth=work["depth"],
        fan_in=len(subtask.depends_on),
        fan_out=work["fan_out"],
        on_critical_path=work["on_critical_path"],
        parent_tiers=tuple(work["parent_tiers"]),
    )


def settled_early(plan: Plan, *, question: str, max_subtasks: int) -> frozenset[str]:
    """Return the ids of the subtasks that are routed while their plan is still being written.

    Nobody knows then how many others will build on them, nor where the critical path is.

    Args:
        plan: A plan as a `ChatPlanner` wrote it.
        question: What it answers.
        max_subtasks: The planner's own.
    """
    early: list[str] = []
    writer = PlanWriter(question, max_subtasks, lambda subtask: early.append(subtask.id))
    writer.feed(plan_to_xml(plan))
    return frozenset(early)


def requests_of_run(
    plan: Plan,
    results: Mapping[str, SubtaskRecord],
    *,
    question: str,
    core: RoutingCore,
    early: frozenset[str] = frozenset(),
    kept_local: bool = False,
    tag: str | None = None,
) -> dict[str, RouteRequest]:
    """Say what the router saw of each subtask of a run, by its id.

    Subtasks without all of the answers that they build on were not routed, and are left out. The
    state of the budget is not written down, so the requests have none.

    Args:
        plan: The plan of the run.
        results: What became of its subtasks.
        question: The whole question, as the subtasks saw it.
        core: Who decided.
        early: Those that were routed before the plan was complete; see `settled_early`.
        kept_local: Whether the conversation holds an answer that a policy kept on the edge.
        tag: What kind of request it was, if anybody has said.
    """
    works = works_of(plan)
    requests: dict[str, RouteRequest] = {}
    for place, subtask_id in enumerate(plan.order):
        subtask = plan[subtask_id]
        parents = [results.get(parent_id) for parent_id in subtask.depends_on]
        there = [parent for parent in parents if parent is not None and parent["status"] == "ok"]
        if len(there) < len(parents):
            continue
        work = works[subtask_id]
        if subtask_id in early:
            work = early_work(subtask, work["depth"], place)
        known = {
            "answers": {parent["id"]: parent["answer"] or "" for parent in there},
            "parent_tiers": [parent["tier"] for parent in there],
            "kept_local": kept_local or any(parent["kept_local"] for parent in there),
        }
        request = subtask_request(subtask, work | known, question=question, core=core, tag=tag)
        costs = core.expected_costs(request)
        requests[subtask_id] = replace(request, expected_cost_usd=costs)
    return requests
