"""The edge tries each subtask first, and asks for the cloud where it does not know."""

from __future__ import annotations

from typing import Any

import pytest
from flowkit import CHAIN, Face, Gate, ask, assert_at_rest, make_flow, subtask_of, thread, worker
from langchain_core.callbacks import get_usage_metadata_callback
from langchain_core.messages import BaseMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from langchain_hybridflow import Budget, HybridFlowGraph
from langchain_hybridflow.answer_or_ask import ASK_MARKER, NO_HELP
from langchain_hybridflow.report import Run, report_html
from langchain_hybridflow.routing import KeepLocal, SelfRouter
from langchain_hybridflow.testing import ScriptedChatModel

ASKS = f"<think>Two is too much.</think>{ASK_MARKER}"


def unsure(messages: list[BaseMessage]) -> str:
    """Ask for help with subtask 2, if there is any."""
    return "a guess" if NO_HELP in messages[0].text else ASKS


@pytest.fixture
def edge() -> ScriptedChatModel:
    return worker({"1": "<think>Easy.</think>edge 1", "2": unsure, "3": "edge 3"})


@pytest.fixture
def cloud() -> ScriptedChatModel:
    return worker({n: f"cloud {n}" for n in "123"}, model_name="cloud")


def flow_of(edge: Any, cloud: Any, *, router: Any = None, **fields: Any) -> HybridFlowGraph:
    router = SelfRouter(contract="prompt") if router is None else router
    model = {"max_retries": 0, **fields.pop("model", {})}
    return make_flow(edge, cloud, router=router, model=model, **fields)


def outcomes(record: Any) -> list[tuple[str, str, bool]]:
    return [(one["tier"], one["status"], one["asked"]) for one in record["attempts"]]


async def test_subtask_goes_to_the_cloud_when_the_edge_asks(
    face: Face, edge: Any, cloud: Any
) -> None:
    flow = flow_of(edge, cloud)
    out = await face.invoke(flow.compile(plan=CHAIN), ask())
    answers = {key: (one["tier"], one["answer"]) for key, one in out["results"].items()}
    assert answers == {"1": ("edge", "edge 1"), "2": ("cloud", "cloud 2"), "3": ("edge", "edge 3")}
    assert outcomes(out["results"]["2"]) == [("edge", "ok", True), ("cloud", "ok", False)]
    assert out["results"]["2"]["decision"]["may_ask"]
    assert not out["results"]["2"]["degraded"]
    assert len(cloud.calls) == 1
    assert_at_rest(flow)


async def test_notes_of_the_edge_go_along_when_they_are_shared(
    face: Face, edge: Any, cloud: Any
) -> None:
    flow = flow_of(edge, cloud, router=SelfRouter(contract="prompt", share_reasoning="full"))
    await face.invoke(flow.compile(plan=CHAIN), ask())
    assert "Two is too much." in cloud.calls[0][-1].text


async def test_notes_stay_when_the_policy_forbids_them(face: Face, edge: Any, cloud: Any) -> None:
    router = SelfRouter(contract="prompt", share_reasoning="full")
    policy = KeepLocal(patterns=["too much"])
    flow = flow_of(edge, cloud, router=router, model={"policy": policy})
    out = await face.invoke(flow.compile(plan=CHAIN), ask())
    assert out["results"]["2"]["tier"] == "cloud"
    assert "too much" not in "".join(message.text for message in cloud.calls[0])


@pytest.mark.parametrize("cloud_is", ["down", "refused"])
async def test_edge_is_asked_again_without_help_when_the_cloud_gives_none(
    face: Face, edge: Any, cloud_is: str
) -> None:
    down = ScriptedChatModel(responses=[ConnectionError("down")], model_name="cloud")
    budget = Budget(max_cloud_calls=0 if cloud_is == "refused" else 9)
    flow = flow_of(edge, down, budget=budget)
    out = await face.invoke(flow.compile(plan=CHAIN), ask())
    second = out["results"]["2"]
    status = "refused" if cloud_is == "refused" else "failed"
    expected = [("edge", "ok", True), ("cloud", status, False), ("edge", "ok", False)]
    assert (second["answer"], outcomes(second)) == ("a guess", expected)
    assert (second["degraded"], out["report"]["degraded"]) == (True, True)
    assert_at_rest(flow)


async def test_calls_are_counted_once(face: Face, edge: Any, cloud: Any) -> None:
    with get_usage_metadata_callback() as usage:
        out = await face.invoke(flow_of(edge, cloud).compile(plan=CHAIN), ask())
    made = [one for record in out["results"].values() for one in record["attempts"]]
    for name in ("edge", "cloud"):
        mine = [one for one in made if one["model"] == name]
        total = sum(one["input_tokens"] + one["output_tokens"] for one in mine)
        assert usage.usage_metadata[name]["total_tokens"] == total > 0


async def test_readers_see_answers_and_never_a_marker_or_thinking(
    face: Face, edge: Any, cloud: Any
) -> None:
    graph = flow_of(edge, cloud).compile(plan=CHAIN)
    modes: Any = ["messages", "custom", "updates", "values"]
    streamed = await face.stream(graph, ask(), stream_mode=modes, subgraphs=True)
    assert "unknown>" not in repr(streamed)
    assert "think>" not in repr(streamed)
    shown = [part[0].text for _, mode, part in streamed if mode == "messages"]
    assert "".join(shown) == "edge 1cloud 2edge 3"


async def test_event_streams_never_show_a_marker(edge: Any, cloud: Any) -> None:
    graph = flow_of(edge, cloud).compile(plan=CHAIN)
    events = [event async for event in graph.astream_events(ask(), version="v2")]
    said = [event["data"] for event in events if "chat_model" in event["event"]]
    outputs = [repr(data.get("output")) + repr(data.get("chunk")) for data in said]
    assert outputs
    assert "unknown>" not in "".join(outputs)


async def test_asking_is_told_to_the_stream(face: Face, edge: Any, cloud: Any) -> None:
    graph = flow_of(edge, cloud).compile(plan=CHAIN)
    events = await face.stream(graph, ask(), stream_mode="custom", subgraphs=True)
    (told,) = [event for _, event in events if event["event"] == "asked"]
    reason = "the edge asked for help"
    assert told == {"event": "asked", "subtask_id": "2", "tier": "cloud", "reason": reason}
    assert not [event for _, event in events if event["event"] == "draft"]


async def test_drafts_are_told_to_the_stream_when_they_are_wanted(
    face: Face, edge: Any, cloud: Any
) -> None:
    flow = flow_of(edge, cloud, router=SelfRouter(contract="prompt", stream_draft=True))
    events = await face.stream(
        flow.compile(plan=CHAIN), ask(), stream_mode="custom", subgraphs=True
    )
    drafts = [event for _, event in events if event["event"] == "draft"]
    texts = {key: "".join(d["text"] for d in drafts if d["subtask_id"] == key) for key in "123"}
    assert texts == {"1": "edge 1", "2": "", "3": "edge 3"}
    assert "".join(d["thinking"] for d in drafts if d["subtask_id"] == "2") == "Two is too much."


async def test_edge_stops_writing_when_it_has_asked(face: Face, cloud: Any) -> None:
    read: list[int] = []

    def rambling(_: Any) -> list[str]:
        return [ASKS, *(f" and {n}" for n in range(50))]

    class Counted(ScriptedChatModel):
        def _stream(self, *args: Any, **kwargs: Any) -> Any:
            for number, chunk in enumerate(super()._stream(*args, **kwargs)):
                read.append(number)
                yield chunk

        async def _astream(self, *args: Any, **kwargs: Any) -> Any:
            number = 0
            async for chunk in super()._astream(*args, **kwargs):
                read.append(number)
                number += 1
                yield chunk

    edge = Counted(responses=[rambling], model_name="edge")
    await face.invoke(flow_of(edge, cloud).compile(plan=CHAIN), ask())
    assert max(read) == 0


async def test_edge_that_is_too_late_is_left_and_stops_writing(face: Face, cloud: Any) -> None:
    gate = Gate()
    read: list[int] = []

    class Late(ScriptedChatModel):
        def _stream(self, *args: Any, **kwargs: Any) -> Any:
            for number, chunk in enumerate(super()._stream(*args, **kwargs)):
                if number == 1:
                    gate.wait()
                read.append(number)
                yield chunk

        async def _astream(self, *args: Any, **kwargs: Any) -> Any:
            number = 0
            async for chunk in super()._astream(*args, **kwargs):
                if number == 1:
                    await gate.wait_async()
                read.append(number)
                number += 1
                yield chunk

    edge = Late(responses=["a b c d"], model_name="edge")
    flow = flow_of(edge, cloud, model={"edge_timeout_s": 0.2})
    try:
        out = await face.invoke(flow.compile(plan=CHAIN), ask())
    finally:
        gate.open()
    assert {one["tier"] for one in out["results"].values()} == {"cloud"}
    assert {*read} <= {0, 1}


async def test_verifier_looks_at_answers_that_did_not_ask(
    face: Face, edge: Any, cloud: Any
) -> None:
    looked: list[tuple[str | None, str]] = []

    def note(request: Any) -> bool:
        looked.append((request.subtask_id, request.answer.text))
        return True

    flow = flow_of(edge, cloud, model={"verify": note})
    out = await face.invoke(flow.compile(plan=CHAIN), ask())
    assert looked == [("1", "edge 1"), ("3", "edge 3")]
    assert out["results"]["2"]["tier"] == "cloud"


async def test_run_goes_on_in_another_graph_when_a_person_has_approved_the_cloud(
    edge: Any, cloud: Any
) -> None:
    saver = InMemorySaver()
    first = flow_of(edge, cloud, approve_cloud=True).compile(saver, plan=CHAIN)
    out = await first.ainvoke(ask(), thread())
    assert [one.value["subtask_id"] for one in out["__interrupt__"]] == ["2"]
    calls = len(edge.calls)
    again = flow_of(edge, cloud, approve_cloud=True).compile(saver, plan=CHAIN)
    out = await again.ainvoke(Command(resume={"approve": True}), thread())
    assert out["results"]["2"]["answer"] == "cloud 2"
    asked = [subtask_of(messages) for messages in edge.calls[calls:]]
    assert asked == ["3"]  # what the edge has said before is not asked for again


async def test_edge_is_asked_again_when_a_person_declines(edge: Any, cloud: Any) -> None:
    graph = flow_of(edge, cloud, approve_cloud=True).compile(InMemorySaver(), plan=CHAIN)
    await graph.ainvoke(ask(), thread())
    out = await graph.ainvoke(Command(resume={"approve": False}), thread())
    assert (out["results"]["2"]["answer"], cloud.calls) == ("a guess", [])


async def test_planner_is_not_under_the_contract(face: Face, edge: Any, cloud: Any) -> None:
    flow = flow_of(edge, cloud)
    await face.invoke(flow.compile(), ask())
    planning = [call for call in [*edge.calls, *cloud.calls] if subtask_of(call) == "plan"]
    assert all(ASK_MARKER not in message.text for call in planning for message in call)


async def test_report_tells_that_the_edge_asked(face: Face, edge: Any, cloud: Any) -> None:
    out = await face.invoke(flow_of(edge, cloud).compile(plan=CHAIN), ask())
    run = Run.of(out)
    (second,) = [one for one in run.subtasks if one.id == "2"]
    assert second.escalated
    assert [attempt.asked for attempt in second.attempts] == [True, False]
    page = report_html([run])
    assert "tried, and asked for help" in page
    assert "because the edge asked for help" in page


@pytest.mark.parametrize(("approve", "answer"), [(True, "cloud 2"), (False, "a guess")])
async def test_person_is_asked_for_more_when_help_does_not_fit_the_budget(
    edge: Any, cloud: Any, answer: str, *, approve: bool
) -> None:
    budget = Budget(max_cloud_calls=0, on_exhausted="ask")
    graph = flow_of(edge, cloud, budget=budget).compile(InMemorySaver(), plan=CHAIN)
    out = await graph.ainvoke(ask(), thread())
    assert out["__interrupt__"][0].value["type"] == "budget_exhausted"
    calls = len(edge.calls)
    out = await graph.ainvoke(Command(resume={"approve": approve}), thread())
    assert out["results"]["2"]["answer"] == answer
    again = [subtask_of(messages) for messages in edge.calls[calls:]]
    assert again == (["3"] if approve else ["2", "3"])
