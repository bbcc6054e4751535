"""Calling a planner, whoever it is: small parts of the plan node."""

from __future__ import annotations

import asyncio
import inspect
from functools import partial
from typing import Any

from langchain_core.outputs import ChatGenerationChunk
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import merge_configs
from langgraph.config import get_stream_writer

from langchain_hybridflow.calls import Call, RoutingCore, describe_error, in_time
from langchain_hybridflow.plan import Plan
from langchain_hybridflow.planner import (
    ChatPlanner,
    Planner,
    Planning,
    PlanWriter,
    single_subtask,
)
from langchain_hybridflow.routing import RouteRequest, ask_policy

__all__ = ["aown_plan", "emit_plan", "own_plan", "permitted_planner", "planner_config", "take"]


def permitted_planner(
    planner: Planner | ChatPlanner, core: RoutingCore, question: str, *, kept_local: bool
) -> Planner | ChatPlanner:
    """Return the planner, or the edge's if this one may send the question where it must not go."""
    if isinstance(planner, ChatPlanner):  # it asks by itself
        return planner
    if getattr(planner, "tier", None) == "edge":
        return planner
    verdict = ask_policy(
        core.policy, RouteRequest(text=question, prompt=question, kept_local=kept_local)
    )
    return planner if "cloud" in verdict else ChatPlanner()


def take(step: Call, chunk: Any, writer: PlanWriter) -> None:
    """Note a piece of the plan, and let it be read."""
    step.take(ChatGenerationChunk(message=chunk))
    writer.feed(chunk.text)


def planner_config(config: RunnableConfig) -> RunnableConfig:
    """Mark the planner's run, so that its tokens are not taken for an answer."""
    return merge_configs(
        config,
        {
            "run_name": "planner",
            "tags": ["hybridflow:planner", "nostream"],  # a plan is not part of the conversation
            "metadata": {"hybridflow_role": "planner"},
        },
    )


def own_plan(planner: Planner, question: str, *, time_left_s: float | None) -> Planning:
    """Let a planner that asks by itself make the plan.

    If it fails, or takes longer than the run has left, the question becomes one subtask.
    """
    try:
        plan = in_time(partial(planner.plan, question), time_left_s, what="Planning")
        return Planning(_checked(plan, planner), "planner")
    except Exception as error:  # noqa: BLE001 - somebody else's planner: contained, recorded
        return _fallback(question, planner, error)


async def aown_plan(planner: Planner, question: str, *, time_left_s: float | None) -> Planning:
    """Async twin of `own_plan`."""
    aplan = getattr(planner, "aplan", None)
    if not inspect.iscoroutinefunction(aplan):
        return await asyncio.to_thread(own_plan, planner, question, time_left_s=time_left_s)
    try:
        async with asyncio.timeout(time_left_s):
            return Planning(_checked(await aplan(question), planner), "planner")
    except Exception as error:  # noqa: BLE001 - somebody else's planner: contained, recorded
        return _fallback(question, planner, error)


def emit_plan(planning: Planning) -> None:
    """Tell the custom stream what the plan is."""
    get_stream_writer()(
        {
            "event": "planned",
            "plan": planning.plan.model_dump(mode="json"),
            "source": planning.source,
            "reason": planning.reason,
        }
    )


def _checked(plan: object, planner: object) -> Plan:
    """Refuse what is no plan; a planner is anybody's code."""
    if not isinstance(plan, Plan):
        raise TypeError(f"{type(planner).__name__} must return a Plan, got {type(plan).__name__}")
    return plan


def _fallback(question: str, planner: object, error: Exception) -> Planning:
    """Go on without the planner: the question becomes one subtask."""
    reason = f"{type(planner).__name__} failed: {describe_error(error)}"
    return Planning(single_subtask(question), "fallback", reason=reason)
