"""A plan from a planner alone: the graph, stopped before it works on anything."""

from __future__ import annotations

import asyncio
from typing import Any

from langchain_core.language_models import BaseChatModel

from langchain_hybridflow.budget import Budget
from langchain_hybridflow.chat_models import RoutedChatModel
from langchain_hybridflow.graph import HybridFlowGraph
from langchain_hybridflow.plan import Plan
from langchain_hybridflow.planner import ChatPlanner

__all__ = ["make_plan"]


def make_plan(
    question: str, *, model: BaseChatModel, max_subtasks: int, timeout_s: float
) -> tuple[Plan, dict[str, Any]]:
    """Plan a question.

    Returns:
        The plan, and how it came about.

    Raises:
        InputError: The question cannot be worked on.
    """
    routed = RoutedChatModel(
        edge=model, cloud=model, budget=Budget(deadline_s=timeout_s), on_edge_error="raise"
    )
    flow = HybridFlowGraph(
        routed,
        planner=ChatPlanner(skip_trivial=False, max_subtasks=max_subtasks),
        stream_plan=False,
    )
    graph = flow.compile(interrupt_after=["plan"])
    state = asyncio.run(_until_planned(graph, question))
    return Plan.model_validate(state["plan"]), state["planning"]


async def _until_planned(graph: Any, question: str) -> dict[str, Any]:
    state: dict[str, Any] = {}
    given = {"messages": [("user", question)]}
    async for update in graph.astream(given, stream_mode="updates"):
        state |= update.get("plan") or {}
    return state
