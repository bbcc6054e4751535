"""The graphs run offline: without a `.env`, both models are the sandbox."""

import asyncio

import pytest
from agent.graph import LIMIT_USD, Settings, agent, flow, schedule
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command
from pydantic import ValidationError

from langchain_hybridflow.sandbox import draft_plan

QUESTION = (
    "On 13 April 2025 the plans for the harbour are approved; 15 days after that the work starts. "
    "It takes the Plumbing team 9 weeks and another 4 days, counted from the start of work. It "
    "takes the Garden team 5 weeks and another 3 days, counted from the start of work. Only 7 days "
    "after the start of work the Kitchen team is done. On which date is everything done?"
)
ASKED = {"messages": [("user", QUESTION)]}


@pytest.mark.parametrize("graph", [agent, schedule])
def test_question_is_answered_within_the_budget(graph):
    out = graph.invoke(ASKED, context=Settings(limit_usd=0.05))
    assert out["messages"][-1].text.endswith("Answer: 2025-07-04")
    assert 0 < float(out["report"]["totals"]["cost_usd"]) <= 0.05


def test_drawing_of_the_schedule_has_a_node_for_each_subtask():
    nodes = schedule.get_graph().nodes
    assert {"explain_start", "analyze_garden", "generate_end"} <= nodes.keys()


def test_settings_decide_who_answers():
    out = schedule.invoke(ASKED, context=Settings(router="always-edge"))
    assert {one["tier"] for one in out["results"].values()} == {"edge"}


def test_nobody_can_ask_for_more_than_the_server_allows():
    with pytest.raises(ValidationError, match="limit_usd"):
        Settings(limit_usd=LIMIT_USD + 1)


def test_cloud_call_waits_for_approval():
    graph = flow.compile(InMemorySaver(), plan=draft_plan("What is 12 * 14?"))
    settings = Settings(router="always-cloud", approve_cloud=True)
    config = {"configurable": {"thread_id": "1"}}
    out = graph.invoke({"messages": [("user", "What is 12 * 14?")]}, config, context=settings)
    assert out["__interrupt__"][0].value["model"] == "sandbox-cloud"
    out = graph.invoke(Command(resume={"approve": True}), config, context=settings)
    assert out["answer"].endswith("Answer: 168")


def test_answer_is_streamed():
    async def pieces():
        stream = agent.astream(ASKED, stream_mode="messages")
        return [message.text async for message, _ in stream]

    assert len(asyncio.run(pieces())) > 10
