"""Traces that can be filtered by who answered."""

from __future__ import annotations

import json
import uuid
from typing import Any
from unittest.mock import MagicMock

import langsmith
import pytest
import routedkit as kit
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableLambda
from langchain_core.tracers import BaseTracer, LangChainTracer, Run
from langchain_core.tracers.context import collect_runs
from langchain_core.tracers.run_collector import RunCollectorCallbackHandler
from test_conversations import EASY, HARD, AsTold

from langchain_hybridflow import HybridFlowGraph
from langchain_hybridflow.chat_models.labels import _gateways_are_known, label_run


class Keeper(BaseTracer):
    """Keeps what a tracer would send when a run has ended."""

    def __init__(self) -> None:
        super().__init__()
        self.ended: list[dict[str, Any]] = []

    def _persist_run(self, run: Run) -> None:
        """Called for the root run only."""

    def _on_llm_end(self, run: Run) -> None:
        self.ended.append({"tags": list(run.tags or ()), "metadata": dict(run.metadata)})


def facts(run: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in run["metadata"].items() if key.startswith("hybridflow")}


@kit.both_tiers
@kit.every_way
async def test_run_says_who_answered(way: kit.Way, tier: str) -> None:
    keeper = Keeper()
    await way(kit.scripted(tier), config={"callbacks": [keeper]})
    (run,) = keeper.ended
    assert facts(run) == {
        "hybridflow_tier": tier,
        "hybridflow_model": "little" if tier == "edge" else "big",
        "hybridflow_router": f"always_{tier}",
    }
    assert run["tags"] == [f"hybridflow:{tier}"]


@pytest.mark.parametrize("way", [kit.by_invoke, kit.by_stream])
async def test_langsmith_is_sent_who_answered(way: kit.Way) -> None:
    session = MagicMock()  # the HTTP session of langsmith's client
    client = langsmith.Client(session=session, api_key="none", auto_batch_tracing=False)
    await way(kit.scripted("cloud"), config={"callbacks": [LangChainTracer(client=client)]})
    sent = [call for call in session.request.mock_calls if call.args[:1] == ("PATCH",)]
    (run,) = [json.loads(call.kwargs["data"]) for call in sent]
    assert run["tags"] == ["hybridflow:cloud"]
    metadata = run["extra"]["metadata"]
    assert (metadata["hybridflow_tier"], metadata["ls_model_name"]) == ("cloud", "big")


@kit.plain_ways
async def test_tracer_of_the_surroundings_is_told_too(way: kit.Way) -> None:
    with collect_runs() as collected:
        await way(kit.scripted("cloud"))
    (run,) = collected.traced_runs
    told = {**run.metadata, **run.metadata.get("ls_gateway_info", {})}
    assert told["hybridflow_tier"] == "cloud" or not _gateways_are_known()


@kit.plain_ways
async def test_run_below_another_one_says_who_answered(way: kit.Way) -> None:
    keeper, model = Keeper(), kit.scripted("cloud")

    async def ask(text: str) -> Any:
        return await way(model, text)

    await RunnableLambda(ask).ainvoke(kit.PROMPT, {"callbacks": [keeper], "tags": ["mine"]})
    assert keeper.ended[0]["tags"] == ["mine", "hybridflow:cloud"]


def test_runs_of_one_batch_do_not_share_their_labels() -> None:
    keeper = Keeper()
    model = kit.scripted(router=AsTold())
    model.generate([[HumanMessage(EASY)], [HumanMessage(HARD)]], callbacks=[keeper])
    assert sorted(run["tags"] for run in keeper.ended) == [
        ["hybridflow:cloud"],
        ["hybridflow:edge"],
    ]


def test_tags_and_metadata_of_the_caller_stay_and_are_not_written_to() -> None:
    collector = RunCollectorCallbackHandler()
    tags, metadata = ["mine"], {"who": "me"}
    kit.scripted("cloud").invoke(
        "?", {"callbacks": [collector], "tags": tags, "metadata": metadata, "run_name": "asked"}
    )
    (run,) = collector.traced_runs
    assert (run.name, run.tags) == ("asked", ["mine", "hybridflow:cloud"])
    assert run.metadata["who"] == "me"
    assert (tags, metadata) == (["mine"], {"who": "me"})


def test_nothing_of_the_context_reaches_traces_or_models() -> None:
    collector = RunCollectorCallbackHandler()
    model = kit.scripted("cloud")
    list(model.stream("?", {"callbacks": [collector], "configurable": {"thread_id": "t"}}))
    model.invoke("?", {"callbacks": [collector], "configurable": {"thread_id": "t"}})
    assert "hybridflow_" not in str(kit.options_seen(model, "cloud"))
    for run in collector.traced_runs:
        assert "hybridflow_context" not in str(run.extra)


@pytest.mark.parametrize("is_async", [False, True])
async def test_runs_of_a_graph_say_who_answered_for_which_subtask(is_async: bool) -> None:
    keeper = Keeper()
    model = kit.scripted("cloud")
    app = HybridFlowGraph(model).compile()
    question = {"messages": [("user", kit.PROMPT)]}
    config: Any = {"callbacks": [keeper]}
    await app.ainvoke(question, config) if is_async else app.invoke(question, config)
    run = keeper.ended[-1]
    assert facts(run) == {
        "hybridflow_tier": "cloud",
        "hybridflow_model": "big",
        "hybridflow_router": "always_cloud",
        "hybridflow_role": "generate",
        "hybridflow_subtask": run["metadata"]["hybridflow_subtask"],
    }
    assert "hybridflow:cloud" in run["tags"]


@pytest.mark.parametrize("runs", [None, {}, {"1": "not a run"}])
def test_handler_that_keeps_no_such_run_is_left_alone(runs: object) -> None:
    class Handler(BaseCallbackHandler):
        run_map = runs

    label_run([Handler()], uuid.UUID(int=1), object())  # type: ignore[arg-type]  # never read
