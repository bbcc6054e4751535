"""The graph as a part of something bigger: another graph, a function, a chain."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from flowkit import DIAMOND, Face, ask, asked, assert_at_rest, make_flow, thread, worker
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AnyMessage, HumanMessage
from langchain_core.runnables import RunnableLambda, RunnableParallel
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.types import Command
from typing_extensions import TypedDict

from langchain_hybridflow.routing import AlwaysCloud


class Outer(TypedDict, total=False):
    messages: Annotated[list[AnyMessage], add_messages]
    answer: str
    before: bool


def around(node: Any, checkpointer: Any = None) -> Any:
    """A bigger graph with our graph in the middle."""
    outer = StateGraph(Outer)
    outer.add_node("before", lambda _: {"before": True})
    outer.add_node("flow", node)
    outer.add_edge(START, "before")
    outer.add_edge("before", "flow")
    outer.add_edge("flow", END)
    return outer.compile(checkpointer)


async def test_graph_is_a_node_of_a_bigger_graph(face: Face):
    flow = make_flow()
    out = await face.invoke(around(flow.compile(plan=DIAMOND)), ask())
    assert out["answer"] == "answer 4"
    assert [message.type for message in out["messages"]] == ["human", "ai"]
    assert_at_rest(flow)


async def test_graph_is_called_in_the_function_of_a_node():
    graph = make_flow().compile(plan=DIAMOND)

    def call(state: Outer) -> Any:
        return {"answer": graph.invoke({"messages": state["messages"]})["answer"]}

    async def acall(state: Outer) -> Any:
        return {"answer": (await graph.ainvoke({"messages": state["messages"]}))["answer"]}

    outer = around(RunnableLambda(call, acall))
    assert outer.invoke(ask())["answer"] == "answer 4"
    assert (await outer.ainvoke(ask()))["answer"] == "answer 4"


async def test_person_is_asked_through_a_bigger_graph(face: Face):
    cloud = worker(model_name="cloud")
    flow = make_flow(cloud=cloud, router=AlwaysCloud(), approve_cloud=True)
    outer = around(flow.compile(plan=DIAMOND), InMemorySaver())
    out = await face.invoke(outer, ask(), thread())
    for _ in range(5):
        if "__interrupt__" not in out:
            break
        answers = {one.id: "yes" for one in out["__interrupt__"]}
        out = await face.invoke(outer, Command(resume=answers), thread())
    assert out["answer"] == "answer 4"
    assert sorted(asked(cloud)) == ["1", "2", "3", "4"]
    assert_at_rest(flow)


async def test_second_turn_through_a_bigger_graph(face: Face):
    edge = worker()
    outer = around(make_flow(edge).compile(plan=DIAMOND), InMemorySaver())
    await face.invoke(outer, ask("First?"), thread())
    out = await face.invoke(outer, ask("Second?"), thread())
    assert len(out["messages"]) == 4
    assert "First?" in edge.calls[-1][-1].text


async def test_concurrency_limit_of_a_bigger_graph_holds_inside_without_deadlock(face: Face):
    edge = worker()
    outer = around(make_flow(edge).compile(plan=DIAMOND))
    out = await face.invoke(outer, ask(), {"max_concurrency": 1})
    assert out["answer"] == "answer 4"
    assert edge.max_concurrency_seen == 1


async def test_graph_runs_twice_in_parallel_in_a_chain(face: Face):
    flow = make_flow()
    graph = flow.compile(plan=DIAMOND)
    chain = (
        RunnableLambda(lambda text: {"messages": [HumanMessage(text)]})
        | RunnableParallel(one=graph, two=graph)
        | RunnableLambda(lambda outs: [outs["one"]["answer"], outs["two"]["answer"]])
    )
    assert await face.invoke(chain, "Why?") == ["answer 4", "answer 4"]
    assert_at_rest(flow)


async def test_several_graphs_of_one_flow_share_its_slots(face: Face):
    edge = worker()
    flow = make_flow(edge, edge_slots=1)
    chain = RunnableParallel(one=flow.compile(plan=DIAMOND), two=flow.compile(plan=DIAMOND))
    await face.invoke(chain, ask())
    assert edge.max_concurrency_seen == 1
    assert_at_rest(flow)


@pytest.mark.parametrize(
    "messages",
    [
        [("user", "Why?")],
        [{"role": "user", "content": "Why?"}],
        [{"type": "human", "content": "Why?"}],
        [HumanMessage([{"type": "text", "text": "Why?"}])],
    ],
)
async def test_question_is_taken_in_every_form_of_a_message(face: Face, messages: list[Any]):
    edge = worker()
    await face.invoke(make_flow(edge).compile(plan=DIAMOND), {"messages": messages})
    assert "<question>\nWhy?\n</question>" in edge.calls[0][-1].text


async def test_tags_and_metadata_of_the_caller_reach_the_models(face: Face):
    class Seen(BaseCallbackHandler):
        def __init__(self) -> None:
            self.tags: list[list[str]] = []
            self.metadata: list[dict[str, Any]] = []

        def on_chat_model_start(self, *_: Any, **kwargs: Any) -> None:
            self.tags.append(kwargs["tags"])
            self.metadata.append(kwargs["metadata"])

    seen = Seen()
    config = {"callbacks": [seen], "tags": ["mine"], "metadata": {"user": "me"}}
    await face.invoke(make_flow().compile(plan=DIAMOND), ask(), config)
    assert all("mine" in tags and "hybridflow:edge" in tags for tags in seen.tags)
    assert {one["user"] for one in seen.metadata} == {"me"}
    assert {one["hybridflow_subtask"] for one in seen.metadata} >= {"1", "2", "3", "4"}
