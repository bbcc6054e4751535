"""Calling a planner, whoever it is: small parts of the plan node."""

from __future__ import annotations

from typing import Any

from langchain_core.outputs import ChatGenerationChunk
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import merge_configs

from langchain_hybridflow.calls import Call, RoutingCore, describe_error
from langchain_hybridflow.plan import Plan
from langchain_hybridflow.planner import (
    ChatPlanner,
    Planner,
    Planning,
    PlanWriter,
    single_subtask,
)
from langchain_hybridflow.routing import RouteRequest, ask_policy

__all__ = ["checked", "fallback", "permitted_planner", "planner_config", "take"]


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


def checked(plan: object, planner: object) -> Plan:
    """Refuse what is no plan; a planner is anybody's code."""
    if not isinstance(plan, Plan):
        raise TypeError(f"{type(planner).__name__} must return a Plan, got {type(plan).__name__}")
    return plan


def fallback(question: str, planner: object, error: Exception) -> Planning:
    """Go on without the planner: the question becomes one subtask."""
    reason = f"{type(planner).__name__} failed: {describe_error(error)}"
    return Planning(single_subtask(question), "fallback", reason=reason)
