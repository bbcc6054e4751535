"""Each token is counted once, under the name of the model that answered, wherever one looks."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.callbacks import get_usage_metadata_callback
from langchain_core.messages import HumanMessage
from langchain_core.tracers import BaseTracer
from langgraph.graph import END, START, MessagesState, StateGraph
from routedkit import ANSWER, PROMPT, USAGE, Way, both_tiers, every_way, obedient, scripted, weather

from langchain_hybridflow import HybridFlowGraph, Plan, RoutedChatModel, Subtask
from langchain_hybridflow.testing import ScriptedChatModel

NAMES = {"edge": "little", "cloud": "big"}


@both_tiers
@every_way
async def test_usage_is_counted_once(way: Way, tier: str) -> None:
    with get_usage_metadata_callback() as counter:
        answer = await way(scripted(tier))
    assert answer.usage_metadata == USAGE
    assert counter.usage_metadata == {NAMES[tier]: USAGE}


async def test_usage_of_many_calls_is_the_sum() -> None:
    model = scripted("cloud")
    with get_usage_metadata_callback() as counter:
        model.batch([PROMPT] * 3)
        await model.abatch([PROMPT] * 4)
    assert counter.usage_metadata["big"]["total_tokens"] == 7 * USAGE["total_tokens"]


@every_way
async def test_usage_of_tool_calls_is_counted_once(way: Way) -> None:
    with get_usage_metadata_callback() as counter:
        answer = await way(obedient().bind_tools([weather]), "weather in Rome?")
    assert counter.usage_metadata == {"little": answer.usage_metadata}
    assert answer.usage_metadata["output_tokens"] > 0


@pytest.mark.parametrize("include_raw", [True, False])
def test_usage_of_structured_output_is_counted_once(include_raw: bool) -> None:
    schema = {"title": "City", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    model = obedient().with_structured_output(schema, include_raw=include_raw)
    with get_usage_metadata_callback() as once:
        model.invoke("I was in Rome.")
    with get_usage_metadata_callback() as streamed:
        list(model.stream("I was in Rome."))
    assert once.usage_metadata == streamed.usage_metadata
    assert list(once.usage_metadata) == ["little"]


@every_way
async def test_usage_holds_when_the_other_tier_stood_in(way: Way) -> None:
    broken = ScriptedChatModel(responses=[ValueError("no")], model_name="little")
    with get_usage_metadata_callback() as counter:
        answer = await way(scripted("edge", edge=broken))
    assert answer.usage_metadata == USAGE
    assert counter.usage_metadata == {"big": USAGE}


def test_stream_usage_reaches_the_model() -> None:
    model = scripted()
    list(model.stream(PROMPT, stream_usage=False))
    assert model.edge.call_kwargs[-1] == {"stream_usage": False}  # type: ignore[attr-defined]


# ------------------------------------------------------------------------------------- LangGraph


def graph_of(model: RoutedChatModel) -> Any:
    async def anode(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await model.ainvoke(state["messages"])]}

    def node(state: MessagesState) -> dict[str, Any]:
        return {"messages": [model.invoke(state["messages"])]}

    from langchain_core.runnables import RunnableLambda

    builder = StateGraph(MessagesState)
    builder.add_node("model", RunnableLambda(node, anode))
    builder.add_edge(START, "model")
    builder.add_edge("model", END)
    return builder.compile()


@both_tiers
async def test_messages_mode_shows_each_token_once(tier: str) -> None:
    graph = graph_of(scripted(tier))
    state = {"messages": [HumanMessage(PROMPT)]}
    shown = [chunk for chunk, _ in graph.stream(state, stream_mode="messages")]
    ashown = [chunk async for chunk, _ in graph.astream(state, stream_mode="messages")]
    for chunks in (shown, ashown):
        assert "".join(chunk.text for chunk in chunks) == ANSWER
        usages = [chunk.usage_metadata for chunk in chunks if chunk.usage_metadata]
        assert usages == [USAGE]
        assert len({chunk.id for chunk in chunks}) == 1


async def test_usage_in_a_node_is_counted_once() -> None:
    graph = graph_of(scripted("cloud"))
    with get_usage_metadata_callback() as counter:
        graph.invoke({"messages": [HumanMessage(PROMPT)]})
        async for _ in graph.astream({"messages": [HumanMessage(PROMPT)]}, stream_mode="messages"):
            pass
    assert counter.usage_metadata["big"]["total_tokens"] == 2 * USAGE["total_tokens"]
    assert list(counter.usage_metadata) == ["big"]


@both_tiers
async def test_usage_of_a_planned_run_is_what_the_models_wrote(tier: str) -> None:
    subtasks = [
        Subtask(id="1", task="What is known?", role="explain"),
        Subtask(id="2", task="So what?", role="generate", depends_on=["1"]),
    ]
    model = scripted(tier)
    graph = HybridFlowGraph(model).compile(plan=Plan(subtasks=subtasks))
    with get_usage_metadata_callback() as counter:
        out = await graph.ainvoke({"messages": [("user", PROMPT)]})
    assert list(counter.usage_metadata) == [NAMES[tier]]
    counted = counter.usage_metadata[NAMES[tier]]
    assert counted["output_tokens"] == 2 * USAGE["output_tokens"]
    results = out["results"].values()
    attempts = [attempt for result in results for attempt in result["attempts"]]
    assert sum(attempt["output_tokens"] for attempt in attempts) == counted["output_tokens"]
    assert sum(attempt["input_tokens"] for attempt in attempts) == counted["input_tokens"]


# ------------------------------------------------------------------------------------- LangSmith


class Runs(BaseTracer):
    """Keeps the finished runs, as LangSmith's tracer would send them."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[Any] = []

    def _persist_run(self, run: Any) -> None:
        self.kept.append(run)


@both_tiers
@every_way
async def test_trace_is_one_run_under_the_name_of_the_answering_model(way: Way, tier: str) -> None:
    runs = Runs()
    await way(scripted(tier).with_config(callbacks=[runs]))
    (run,) = runs.kept
    metadata = run.extra["metadata"]
    assert run.child_runs == []
    assert metadata["ls_model_name"] == NAMES[tier]
    assert metadata["ls_provider"] == "scriptedchatmodel"
    message = run.outputs["generations"][0][0]["message"]["kwargs"]
    assert message["usage_metadata"] == USAGE


@every_way
async def test_note_for_the_trace_does_not_show_in_the_answer(way: Way) -> None:
    answer = await way(scripted())
    assert "lc_gateway_metadata" not in answer.response_metadata


def test_trace_holds_no_schema_class() -> None:
    from pydantic import BaseModel

    class City(BaseModel):
        city: str

    runs = Runs()
    obedient().with_structured_output(City).invoke("I was in Rome.", {"callbacks": [runs]})
    (run,) = [run for kept in runs.kept for run in kept.child_runs if run.run_type == "llm"]
    assert "structured_output" not in run.extra["invocation_params"]
    assert run.extra["options"]["ls_structured_output_format"]["schema"]["title"] == "City"
