"""The kind of a request reaches the router, from whichever config says it."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.runnables import RunnableLambda

from langchain_hybridflow import Plan, RoutedChatModel, Subtask
from langchain_hybridflow.calls.scoping import tag_here
from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.graph import HybridFlowGraph
from langchain_hybridflow.routing import RouteDecision, RouteRequest
from langchain_hybridflow.testing import ScriptedChatModel

MATHS: dict[str, Any] = {"metadata": {"hybridflow_tag": "maths"}}
LAW: dict[str, Any] = {"configurable": {"hybridflow_tag": "law"}}


class Listening:
    """Sends everything to the edge and remembers the tags."""

    def __init__(self) -> None:
        self.tags: list[str | None] = []

    def route(self, request: RouteRequest) -> RouteDecision:
        self.tags.append(request.tag)
        return RouteDecision(tier="edge", reason="", router="listening")


@pytest.fixture
def router() -> Listening:
    return Listening()


@pytest.fixture
def model(router: Listening) -> RoutedChatModel:
    return RoutedChatModel(
        edge=ScriptedChatModel(responses=["edge"] * 20),
        cloud=ScriptedChatModel(responses=["cloud"] * 20),
        router=router,
    )


@pytest.mark.parametrize(("config", "tag"), [(MATHS, "maths"), (LAW, "law"), (None, None)])
async def test_tag_of_a_call_reaches_the_router_on_every_face(
    model: RoutedChatModel, router: Listening, config: Any, tag: str | None
) -> None:
    model.invoke("?", config)
    await model.ainvoke("?", config)
    list(model.stream("?", config))
    async for _ in model.astream("?", config):
        pass
    assert router.tags == [tag] * 4


def test_tag_of_a_chain_is_that_of_the_calls_in_it(
    model: RoutedChatModel, router: Listening
) -> None:
    (RunnableLambda(lambda text: text) | model).invoke("?", MATHS)
    assert router.tags == ["maths"]


def test_call_knows_its_tag_better_than_the_chain_around_it(
    model: RoutedChatModel, router: Listening
) -> None:
    RunnableLambda(lambda text: model.invoke(text, LAW)).invoke("?", MATHS)
    RunnableLambda(model.invoke).invoke("?", MATHS)
    assert router.tags == ["law", "maths"]


@pytest.mark.parametrize("config", [MATHS, LAW])
async def test_tag_of_a_run_is_that_of_all_its_subtasks(
    model: RoutedChatModel, router: Listening, config: Any
) -> None:
    first = Subtask(id="1", task="One?", role="explain")
    plan = Plan(subtasks=(first, Subtask(id="2", task="Two?", role="generate", depends_on=("1",))))
    graph = HybridFlowGraph(model).compile(plan=plan)
    graph.invoke({"messages": [("user", "?")]}, config)
    await graph.ainvoke({"messages": [("user", "?")]}, config)
    (said,) = config.values()
    assert router.tags == [said["hybridflow_tag"]] * 4


@pytest.mark.parametrize("said", ["", "  "])
def test_blank_tag_is_none(said: str) -> None:
    assert tag_here({"metadata": {"hybridflow_tag": said}}) is None


def test_tag_that_is_no_text_is_refused(model: RoutedChatModel) -> None:
    with pytest.raises(ConfigurationError, match="as text; got int"):
        model.invoke("?", {"configurable": {"hybridflow_tag": 3}})
