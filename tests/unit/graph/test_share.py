"""A cap on the share of cloud calls, over the subtasks of graphs."""

from __future__ import annotations

from typing import Any

import pytest
from flowkit import (
    DIAMOND,
    Face,
    ask,
    asked,
    assert_at_rest,
    make_flow,
    planning_worker,
    thread,
    wide_plan,
    worker,
)
from langgraph.checkpoint.memory import InMemorySaver

from langchain_hybridflow import Budget
from langchain_hybridflow.errors import SubtaskError
from langchain_hybridflow.routing import AlwaysCloud

WIDE = wide_plan(8)
"""Ten subtasks; eight of them at the same time."""


def shares(flow: Any) -> tuple[int, int, int]:
    """Prompts, cloud calls, and cloud calls under way."""
    shown = flow.model.budget.snapshot()["cloud_share"]
    return shown["prompts"], shown["cloud_calls"], shown["held"]


async def test_wave_takes_no_more_cloud_calls_than_its_share(face: Face) -> None:
    cloud = worker(model_name="cloud")
    budget = Budget(max_cloud_share=0.25, share_burst=2)
    flow = make_flow(cloud=cloud, router=AlwaysCloud(), budget=budget)
    out = await face.invoke(flow.compile(plan=WIDE), ask())
    assert out["report"]["complete"]
    prompts, made, held = shares(flow)
    assert (prompts, held) == (10, 0)
    assert made == len(cloud.calls) <= 0.25 * 10 + 2
    assert_at_rest(flow)


async def test_plan_is_a_prompt(face: Face) -> None:
    flow = make_flow(planning_worker(DIAMOND), budget=Budget(max_cloud_share=0.25))
    await face.invoke(flow.compile(), ask())
    assert shares(flow) == (1 + len(DIAMOND.subtasks), 0, 0)


async def test_subtasks_count_once_when_the_run_is_resumed(face: Face) -> None:
    """Also one that was asked again; its second call is a call."""
    fails = [RuntimeError("not today")]

    def last(messages: Any) -> str:
        if fails:
            raise fails.pop()
        return "done"

    cloud = worker({"4": last}, model_name="cloud")
    flow = make_flow(
        cloud=cloud,
        router=AlwaysCloud(),
        budget=Budget(max_cloud_share=1, share_burst=9),
        model={"on_cloud_error": "raise", "max_retries": 0},
        on_subtask_error="raise",
    )
    graph = flow.compile(InMemorySaver(), plan=DIAMOND)
    with pytest.raises(SubtaskError):
        await face.invoke(graph, ask(), thread())
    assert shares(flow)[0] == 3
    out = await face.invoke(graph, None, thread())
    assert out["report"]["complete"]
    assert asked(cloud).count("4") == 2
    assert shares(flow)[0] == len(DIAMOND.subtasks)
