"""All stream modes, events and usage: each token and each call is seen once."""

from __future__ import annotations

import json
from typing import Any

import pytest
from flowkit import CHAIN, DIAMOND, QUESTION, Face, ask, make_flow, planning_worker, thread, worker
from langchain_core.callbacks import UsageMetadataCallbackHandler
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph

from langchain_hybridflow.routing import AlwaysCloud
from langchain_hybridflow.testing import ScriptedChatModel

WORDS = {key: f"this is the answer of {key}" for key in "1234"}


@pytest.fixture
def planned():
    return make_flow(planning_worker(DIAMOND, WORDS), planner="always").compile(InMemorySaver())


@pytest.fixture
def compiled():
    return make_flow(worker(WORDS)).compile(InMemorySaver(), plan=DIAMOND)


MODES = ["values", "updates", "messages", "custom", "tasks", "checkpoints", "debug"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("subgraphs", [False, True])
@pytest.mark.parametrize("kind", ["planned", "compiled"])
async def test_every_stream_mode_streams(
    face: Face, request, kind: str, mode: str, subgraphs: bool
):
    graph = request.getfixturevalue(kind)
    events = await face.stream(graph, ask(), thread(), stream_mode=mode, subgraphs=subgraphs)
    assert events
    assert graph.get_state(thread()).values["answer"] == WORDS["4"]


async def test_all_stream_modes_at_once(face: Face, planned):
    events = await face.stream(planned, ask(), thread(), stream_mode=MODES, subgraphs=True)
    assert {mode for _, mode, _ in events} == set(MODES)


async def test_last_value_has_what_invoke_returns(face: Face, compiled):
    events = await face.stream(compiled, ask(), thread(), stream_mode="values")
    assert events[-1]["answer"] == WORDS["4"]
    returned = await face.invoke(compiled, None, thread())
    assert {key: events[-1][key] for key in returned} == returned


async def test_updates_name_the_subtasks_of_a_compiled_plan(face: Face, compiled):
    events = await face.stream(compiled, ask(), thread(), stream_mode="updates")
    names = [name for event in events for name in event]
    assert names[0] == "dispatch"
    assert names[-1] == "answer"
    assert sorted(names[1:-1]) == ["analyze_2", "analyze_3", "explain_1", "generate_4"]


async def test_custom_events_tell_the_story_of_a_run(face: Face, planned):
    events = await face.stream(planned, ask(), thread(), stream_mode="custom", subgraphs=True)
    told = [event for _, event in events]
    assert sum(event["event"] == "planned" for event in told) == 1
    for key in "1234":
        story = [event["event"] for event in told if event.get("subtask_id") == key]
        assert story == ["routed", "started", "finished"]
    json.dumps(told)


async def test_custom_events_of_subtasks_come_with_subgraphs_only(face: Face, planned):
    """As everywhere in LangGraph: what a subgraph emits is seen with `subgraphs=True`."""
    events = await face.stream(planned, ask(), thread(), stream_mode="custom")
    assert {event["event"] for event in events} == {"settled", "planned"}


async def test_settled_events_come_for_every_subtask_that_starts_early(face: Face):
    graph = make_flow(planning_worker(DIAMOND), planner="always").compile()
    events = await face.stream(graph, ask(), stream_mode="custom")
    settled = [event["subtask"]["id"] for event in events if event["event"] == "settled"]
    assert settled == ["1", "2", "3"]  # the last one can only be known when the plan has ended


def texts(events: list[Any]) -> dict[str, str]:
    """The streamed text by subtask; "" is what belongs to none."""
    streamed: dict[str, str] = {}
    for _, (message, meta) in events:
        key = meta.get("hybridflow_subtask", "")
        streamed[key] = streamed.get(key, "") + message.text
    return streamed


@pytest.mark.parametrize("kind", ["planned", "compiled"])
async def test_messages_mode_streams_each_token_once(face: Face, request, kind: str):
    graph = request.getfixturevalue(kind)
    events = await face.stream(graph, ask(), thread(), stream_mode="messages", subgraphs=True)
    assert texts(events) == WORDS  # and nothing twice, nothing of the planner, no final copy
    chunks = [message for _, (message, meta) in events if meta["hybridflow_subtask"] == "4"]
    assert len(chunks) > 3


@pytest.mark.parametrize("kind", ["planned", "compiled"])
async def test_messages_mode_without_subgraphs_streams_the_answer_alone(
    face: Face, request, kind: str
):
    graph = request.getfixturevalue(kind)
    events = await face.stream(graph, ask(), thread(), stream_mode="messages")
    assert "".join(message.text for message, _ in events) == WORDS["4"]
    assert len(events) > 3  # token by token, and no copy at the end
    nodes = {meta["langgraph_node"] for _, meta in events}
    assert nodes == {"subtask" if kind == "planned" else "generate_4"}


async def test_answer_is_streamed_alone_when_the_graph_is_a_node_of_another(face: Face, planned):
    outer = StateGraph(MessagesState)
    outer.add_node("ask", planned)
    outer.add_edge(START, "ask")
    graph = outer.compile()
    assert await face.stream(graph, ask(), stream_mode="messages") != []
    events = await face.stream(graph, ask(), stream_mode="messages", subgraphs=True)
    depth = {meta["hybridflow_subtask"]: len(ns) for ns, (_, meta) in events}
    assert depth == {"1": 2, "2": 2, "3": 2, "4": 1}


async def test_streamed_answer_and_final_message_have_one_id(face: Face, compiled):
    events = await face.stream(compiled, ask(), thread(), stream_mode="messages", subgraphs=True)
    streamed = {message.id for _, (message, meta) in events if meta["hybridflow_subtask"] == "4"}
    assert streamed == {compiled.get_state(thread()).values["messages"][-1].id}


async def test_streamed_tokens_say_which_subtask_and_tier_they_are_from(face: Face):
    graph = make_flow(cloud=worker(WORDS, model_name="cloud"), router=AlwaysCloud()).compile(
        plan=CHAIN
    )
    events = await face.stream(graph, ask(), stream_mode="messages", subgraphs=True)
    found = {
        (meta["hybridflow_subtask"], meta["hybridflow_tier"], meta["hybridflow_role"])
        for _, (_, meta) in events
    }
    assert found == {
        ("1", "cloud", "explain"),
        ("2", "cloud", "analyze"),
        ("3", "cloud", "generate"),
    }


@pytest.mark.parametrize("kind", ["planned", "compiled"])
async def test_usage_callback_counts_each_call_once(face: Face, kind: str):
    edge = planning_worker(DIAMOND, WORDS)
    flow = make_flow(edge, planner="always")
    graph = flow.compile(plan=DIAMOND if kind == "compiled" else None)
    usage = UsageMetadataCallbackHandler()
    out = await face.invoke(graph, ask(), {"callbacks": [usage]})
    totals = out["report"]["totals"]["edge"]
    assert totals["calls"] == len(edge.calls) == (5 if kind == "planned" else 4)
    counted = usage.usage_metadata["edge"]
    assert counted["input_tokens"] == totals["input_tokens"]
    assert counted["output_tokens"] == totals["output_tokens"]


async def test_usage_is_counted_once_while_streaming(face: Face):
    edge = worker(WORDS)
    usage = UsageMetadataCallbackHandler()
    graph = make_flow(edge).compile(plan=DIAMOND)
    await face.stream(graph, ask(), {"callbacks": [usage]}, stream_mode="messages", subgraphs=True)
    assert usage.usage_metadata["edge"]["output_tokens"] == sum(
        len(text.split()) for text in WORDS.values()
    )


async def test_events_show_one_model_run_for_each_call():
    edge = planning_worker(DIAMOND, WORDS)
    graph = make_flow(edge, planner="always").compile()
    events = [event async for event in graph.astream_events(ask(), version="v2")]
    starts = [event for event in events if event["event"] == "on_chat_model_start"]
    ends = [event for event in events if event["event"] == "on_chat_model_end"]
    assert len(starts) == len(ends) == len(edge.calls) == 5
    names = sorted(event["name"] for event in starts)
    assert names == [
        "analyze 2 on edge",
        "analyze 3 on edge",
        "explain 1 on edge",
        "generate 4 on edge",
        "planner",
    ]
    streamed = [
        event["data"]["chunk"].text
        for event in events
        if event["event"] == "on_chat_model_stream" and event["name"] == "generate 4 on edge"
    ]
    assert "".join(streamed) == WORDS["4"]


async def test_answer_has_the_text_and_the_name_of_the_model(face: Face, compiled):
    out = await face.invoke(compiled, ask(), thread())
    message = out["messages"][-1]
    assert message.text == out["answer"] == WORDS["4"]
    assert message.response_metadata["model_name"] == "edge"
    assert message.response_metadata["hybridflow"]["complete"] is True


async def test_question_is_not_streamed_back(face: Face, compiled):
    events = await face.stream(compiled, ask(), thread(), stream_mode="messages", subgraphs=True)
    assert not any(QUESTION in message.text for _, (message, _) in events)


async def test_tokens_of_a_cut_answer_are_streamed_as_they_came(face: Face):
    edge = ScriptedChatModel(responses=["one two three four"], model_name="edge", max_tokens=2)
    graph = make_flow(edge).compile(plan=CHAIN)
    events = await face.stream(graph, ask(), stream_mode="messages", subgraphs=True)
    assert texts(events) == dict.fromkeys("123", "one two")
