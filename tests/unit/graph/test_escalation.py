"""An edge answer of a subtask that will not do goes on to the cloud, and the record says so."""

from __future__ import annotations

from typing import Any

import pytest
from flowkit import (
    CHAIN,
    DIAMOND,
    Face,
    ask,
    asked,
    assert_at_rest,
    make_flow,
    plan_of,
    thread,
    worker,
)
from langchain_core.callbacks import get_usage_metadata_callback
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command, interrupt

from langchain_hybridflow import Budget, HybridFlowGraph
from langchain_hybridflow.calls.breaker import Breaker
from langchain_hybridflow.routing import AlwaysCloud, KeepLocal, RouteRequest
from langchain_hybridflow.testing import ScriptedChatModel
from langchain_hybridflow.verify import (
    JudgeVerifier,
    LogprobVerifier,
    SelfConsistency,
    Verdict,
    VerifyRequest,
)


def not_two(request: VerifyRequest) -> Verdict:
    """Accept all answers but that of subtask 2."""
    return Verdict(request.subtask_id != "2", score=0.5, reason="as told")


@pytest.fixture
def edge() -> ScriptedChatModel:
    return worker({n: f"edge {n}" for n in "1234"})


@pytest.fixture
def cloud() -> ScriptedChatModel:
    return worker({n: f"cloud {n}" for n in "1234"}, model_name="cloud")


def flow_of(edge: Any, cloud: Any, verify: Any = not_two, **fields: Any) -> HybridFlowGraph:
    model = {"verify": verify, "max_retries": 0, **fields.pop("model", {})}
    return make_flow(edge, cloud, model=model, **fields)


def outcomes(record: Any) -> list[tuple[str, str, bool | None]]:
    return [(one["tier"], one["status"], one["accepted"]) for one in record["attempts"]]


async def test_subtask_goes_on_to_the_cloud_when_its_answer_is_not_accepted(
    face: Face, edge: Any, cloud: Any
) -> None:
    flow = flow_of(edge, cloud)
    out = await face.invoke(flow.compile(plan=DIAMOND), ask())
    second = out["results"]["2"]
    assert (second["tier"], second["answer"]) == ("cloud", "cloud 2")
    assert outcomes(second) == [("edge", "ok", False), ("cloud", "ok", None)]
    assert (second["attempts"][0]["verdict"], second["attempts"][0]["score"]) == ("as told", 0.5)
    assert [out["results"][key]["tier"] for key in "134"] == ["edge"] * 3
    assert outcomes(out["results"]["1"]) == [("edge", "ok", True)]
    assert out["report"]["totals"]["edge"]["calls"] == 4
    assert_at_rest(flow)


async def test_both_answers_are_counted_once(face: Face, edge: Any, cloud: Any) -> None:
    with get_usage_metadata_callback() as usage:
        out = await face.invoke(flow_of(edge, cloud).compile(plan=CHAIN), ask())
    made = [one for record in out["results"].values() for one in record["attempts"]]
    for name in ("edge", "cloud"):
        mine = [one for one in made if one["model"] == name]
        total = sum(one["input_tokens"] + one["output_tokens"] for one in mine)
        assert usage.usage_metadata[name]["total_tokens"] == total


async def test_escalation_is_told_to_the_stream(face: Face, edge: Any, cloud: Any) -> None:
    graph = flow_of(edge, cloud).compile(plan=CHAIN)
    events = await face.stream(graph, ask(), stream_mode="custom", subgraphs=True)
    (told,) = [event for _, event in events if event["event"] == "escalated"]
    assert told == {
        "event": "escalated",
        "subtask_id": "2",
        "tier": "cloud",
        "reason": "as told",
        "score": 0.5,
    }


@pytest.mark.parametrize("raise_errors", [False, True])
@pytest.mark.parametrize("cloud_is", ["down", "refused"])
async def test_edge_answer_stands_when_the_cloud_gives_none(
    face: Face, edge: Any, cloud_is: str, *, raise_errors: bool
) -> None:
    down = ScriptedChatModel(responses=[ConnectionError("down")], model_name="cloud")
    budget = Budget(max_cloud_calls=0 if cloud_is == "refused" else 9)
    on_error = "raise" if raise_errors else "continue"
    flow = flow_of(edge, down, budget=budget, on_subtask_error=on_error)
    out = await face.invoke(flow.compile(plan=CHAIN), ask())
    second = out["results"]["2"]
    assert (second["tier"], second["answer"], second["degraded"]) == ("edge", "edge 2", True)
    assert out["report"]["degraded"]
    assert_at_rest(flow)


async def test_edge_answer_stands_when_a_person_declines_the_cloud(edge: Any, cloud: Any) -> None:
    flow = flow_of(edge, cloud, approve_cloud=True)
    graph = flow.compile(InMemorySaver(), plan=CHAIN)
    out = await graph.ainvoke(ask(), thread())
    assert [one.value["subtask_id"] for one in out["__interrupt__"]] == ["2"]
    out = await graph.ainvoke(Command(resume={"approve": False}), thread())
    assert (out["results"]["2"]["answer"], out["results"]["2"]["degraded"]) == ("edge 2", True)
    assert (asked(edge), asked(cloud)) == (["1", "2", "3"], [])


async def test_approved_escalation_resumes_in_another_process(
    face: Face, edge: Any, cloud: Any
) -> None:
    saver = InMemorySaver()
    first = flow_of(edge, cloud, approve_cloud=True).compile(saver, plan=CHAIN)
    await face.invoke(first, ask(), thread())
    second = flow_of(edge, cloud, approve_cloud=True).compile(saver, plan=CHAIN)
    out = await face.invoke(second, Command(resume={"approve": True}), thread())
    assert outcomes(out["results"]["2"]) == [("edge", "ok", False), ("cloud", "ok", None)]
    assert (asked(edge), asked(cloud)) == (["1", "2", "3"], ["2"])


def test_answer_is_not_bought_again_when_the_run_died_while_it_was_looked_at(
    edge: Any, cloud: Any
) -> None:
    class Killed(BaseException):
        pass

    fatal = [True]

    def dies_once(request: VerifyRequest) -> bool:
        if request.subtask_id == "2" and fatal:
            fatal.clear()
            raise Killed
        return True

    graph = flow_of(edge, cloud, dies_once).compile(InMemorySaver(), plan=CHAIN)
    with pytest.raises(Killed):
        graph.invoke(ask(), thread(), durability="sync")
    out = graph.invoke(None, thread(), durability="sync")
    assert out["results"]["2"]["answer"] == "edge 2"
    assert asked(edge) == ["1", "2", "3"]


async def test_subtask_that_is_kept_local_is_not_verified(
    face: Face, edge: Any, cloud: Any
) -> None:
    seen: list[str | None] = []

    def note(request: VerifyRequest) -> bool:
        seen.append(request.subtask_id)
        return True

    def local_two(request: RouteRequest) -> list[str]:
        return ["edge"] if request.subtask_id == "2" else ["edge", "cloud"]

    graph = flow_of(edge, cloud, note, model={"policy": local_two}).compile(plan=CHAIN)
    out = await face.invoke(graph, ask())
    assert seen == ["1"]  # and what builds on a local answer stays local, too
    assert out["results"]["2"]["attempts"][0]["verdict"].startswith("not verified")


async def test_cloud_answers_are_not_verified(face: Face, edge: Any, cloud: Any) -> None:
    def refuse(_: VerifyRequest) -> bool:
        raise AssertionError("asked for nothing")

    out = await face.invoke(
        flow_of(edge, cloud, refuse, router=AlwaysCloud()).compile(plan=CHAIN), ask()
    )
    assert outcomes(out["results"]["1"]) == [("cloud", "ok", None)]


async def test_judge_of_a_subtask_is_paid_from_the_same_budget(face: Face, edge: Any) -> None:
    cloud = ScriptedChatModel(responses=["Fine. SCORE: 9"], model_name="cloud")
    flow = flow_of(edge, cloud, JudgeVerifier(), budget=Budget(max_cloud_calls=9))
    out = await face.invoke(flow.compile(plan=CHAIN), ask())
    first = out["results"]["1"]
    assert [(one["purpose"], one["tier"]) for one in first["attempts"]] == [
        ("answer", "edge"),
        ("verify", "cloud"),
    ]
    assert (first["tier"], first["model"]) == ("edge", "edge")
    assert flow.model.budget.snapshot()["cloud_calls"]["spent"] == 3
    assert_at_rest(flow)


async def test_samples_of_a_subtask_keep_to_the_slots_of_the_edge(face: Face) -> None:
    edge = worker(chunk_latency_s=0.0)
    verify = SelfConsistency(samples=2, agree=1)
    flow = flow_of(edge, worker(model_name="cloud"), verify, edge_slots=1)
    out = await face.invoke(flow.compile(plan=DIAMOND), ask())
    assert out["report"]["complete"]
    assert (edge.max_concurrency_seen, len(edge.calls)) == (1, 12)


async def test_judges_words_are_not_streamed(face: Face, edge: Any) -> None:
    cloud = ScriptedChatModel(responses=["Hm. SCORE: 9"], model_name="cloud")
    graph = flow_of(edge, cloud, JudgeVerifier()).compile(plan=CHAIN)
    seen = await face.stream(graph, ask(), stream_mode="messages", subgraphs=True)
    text = "".join(chunk.text for _, (chunk, _) in seen)
    assert "edge 1" in text
    assert "SCORE" not in text


def shown(events: list[Any]) -> list[tuple[str, str, str]]:
    """Who was heard in the messages stream, with all that each has said."""
    heard: dict[tuple[str, str], str] = {}
    for _, (chunk, meta) in events:
        who = (meta["hybridflow_subtask"], meta["hybridflow_tier"])
        heard[who] = heard.get(who, "") + chunk.text
    return sorted((*who, text) for who, text in heard.items())


async def test_answer_that_is_not_accepted_is_not_streamed(
    face: Face, edge: Any, cloud: Any
) -> None:
    graph = flow_of(edge, cloud).compile(plan=CHAIN)
    events = await face.stream(graph, ask(), stream_mode="messages", subgraphs=True)
    assert shown(events) == [
        ("1", "edge", "edge 1"),
        ("2", "cloud", "cloud 2"),
        ("3", "edge", "edge 3"),
    ]


async def test_last_answer_that_is_not_accepted_is_not_streamed(
    face: Face, edge: Any, cloud: Any
) -> None:
    graph = flow_of(edge, cloud, lambda _: False).compile(plan=plan_of({"1": ""}))
    events = await face.stream(graph, ask(), stream_mode="messages", subgraphs=True)
    assert shown(events) == [("1", "cloud", "cloud 1")]
    events = await face.stream(graph, ask(), stream_mode="messages")
    assert "".join(message.text for message, _ in events) == "cloud 1"


async def test_answer_that_stands_is_streamed_once(face: Face, edge: Any) -> None:
    down = ScriptedChatModel(responses=[ConnectionError("down")], model_name="cloud")
    graph = flow_of(edge, down, lambda _: False).compile(plan=plan_of({"1": ""}))
    events = await face.stream(graph, ask(), stream_mode="messages", subgraphs=True)
    assert shown(events) == [("1", "edge", "edge 1")]
    events = await face.stream(graph, ask(), stream_mode="messages")
    assert [message.text for message, _ in events] == ["edge 1"]


async def test_runs_of_answers_that_are_looked_at_are_tagged_in_events(
    edge: Any, cloud: Any
) -> None:
    graph = flow_of(edge, cloud).compile(plan=CHAIN)
    events = [event async for event in graph.astream_events(ask(), version="v2")]
    tagged = {
        event["name"]: "nostream" in event["tags"]
        for event in events
        if event["event"] == "on_chat_model_stream"
    }
    assert {name.split(" ", 1)[1]: hidden for name, hidden in tagged.items()} == {
        "1 on edge": True,
        "2 on edge": True,
        "2 on cloud": False,
        "3 on edge": True,
    }


async def test_judge_in_the_cloud_is_not_shown_a_subtasks_answer_that_is_kept_local(
    face: Face,
) -> None:
    address = "jane.doe@corp.example"
    edge = worker({"1": f"write to {address}", "2": "edge 2", "3": "edge 3"})
    cloud = ScriptedChatModel(responses=["Fine. SCORE: 9"], model_name="cloud")
    policy = {"policy": KeepLocal(presets=["email"])}
    graph = flow_of(edge, cloud, JudgeVerifier(), model=policy).compile(plan=CHAIN)
    out = await face.invoke(graph, ask())
    assert cloud.calls == []
    assert outcomes(out["results"]["1"]) == [("edge", "ok", True), ("cloud", "refused", None)]
    assert "PolicyViolation" in out["results"]["1"]["attempts"][0]["verdict"]


async def test_logprobs_outlive_the_node_that_got_them(face: Face, cloud: Any) -> None:
    edge = worker()
    verify = LogprobVerifier(on_missing="escalate")
    out = await face.invoke(flow_of(edge, cloud, verify).compile(plan=CHAIN), ask())
    reason = out["results"]["1"]["attempts"][0]["verdict"]
    assert reason == "the provider sent no log-probabilities: escalate"


async def test_way_past_the_verifier_is_drawn(edge: Any, cloud: Any) -> None:
    drawn = flow_of(edge, cloud).compile(plan=CHAIN).get_graph(xray=True)
    ways = {(way.source.split(":")[-1], way.target.split(":")[-1]) for way in drawn.edges}
    assert {("edge", "verify"), ("verify", "cloud")} <= ways


async def test_open_circuit_spares_the_other_subtasks_the_wait(face: Face, edge: Any) -> None:
    down = ScriptedChatModel(responses=[ConnectionError("down")], model_name="cloud")
    flow = make_flow(
        edge,
        down,
        router=AlwaysCloud(),
        model={"breaker": Breaker(fail_max=1), "max_retries": 0},
    )
    out = await face.invoke(flow.compile(plan=CHAIN), ask())
    assert len(down.calls) == 1
    assert outcomes(out["results"]["3"]) == [("cloud", "refused", None), ("edge", "ok", None)]


async def test_tier_timeout_holds_for_subtasks(face: Face, edge: Any) -> None:
    slow = worker(model_name="cloud", latency_s=30.0)
    flow = make_flow(edge, slow, router=AlwaysCloud(), model={"cloud_timeout_s": 0.05})
    out = await face.invoke(flow.compile(plan=CHAIN), ask())
    assert out["results"]["1"]["answer"] == "edge 1"
    assert "longer than 0.05 s" in out["results"]["1"]["attempts"][0]["error"]


async def test_ledger_fault_is_not_hidden_behind_the_edge_answer(edge: Any, cloud: Any) -> None:
    flow = flow_of(edge, cloud, on_subtask_error="raise", budget=Budget(max_cloud_calls=9))

    def faulty(*_: Any, **__: Any) -> Any:
        from langchain_hybridflow.errors import LedgerError

        raise LedgerError("the store is gone")

    flow.model.budget.ledger.reserve = flow.model.budget.ledger.areserve = faulty  # type: ignore[method-assign]
    with pytest.raises(Exception, match="the store is gone"):
        await flow.compile(plan=CHAIN).ainvoke(ask())


async def test_person_approves_the_calls_of_a_cloud_judge_too(face: Face, edge: Any) -> None:
    cloud = ScriptedChatModel(responses=["Fine. SCORE: 9"], model_name="cloud")
    flow = flow_of(edge, cloud, JudgeVerifier(), approve_cloud=True)
    graph = flow.compile(InMemorySaver(), plan=CHAIN)
    out = await face.invoke(graph, ask(), thread())
    assert [one.value["reason"] for one in out["__interrupt__"]] == [
        "to verify the answer of the edge"
    ]
    assert cloud.calls == []
    for _ in "123":
        out = await face.invoke(graph, Command(resume={"approve": True}), thread())
    assert (len(cloud.calls), asked(edge)) == (3, ["1", "2", "3"])
    assert out["results"]["3"]["attempts"][0]["accepted"]


async def test_judge_that_a_person_declines_has_failed(edge: Any) -> None:
    cloud = ScriptedChatModel(responses=["never"], model_name="cloud")
    flow = flow_of(edge, cloud, JudgeVerifier(), approve_cloud=True)
    graph = flow.compile(InMemorySaver(), plan=plan_of({"1": ""}))
    await graph.ainvoke(ask(), thread())
    out = await graph.ainvoke(Command(resume={"approve": False}), thread())
    first = out["results"]["1"]
    assert (first["answer"], cloud.calls) == ("edge 1", [])
    assert "CloudDeclined" in first["attempts"][0]["verdict"]


async def test_verifier_may_ask_a_person(face: Face, edge: Any, cloud: Any) -> None:
    def by_a_person(request: VerifyRequest) -> bool:
        return bool(interrupt({"is this right?": request.answer.text}))

    graph = flow_of(edge, cloud, by_a_person).compile(InMemorySaver(), plan=plan_of({"1": ""}))
    out = await face.invoke(graph, ask(), thread())
    assert out["__interrupt__"][0].value == {"is this right?": "edge 1"}
    out = await face.invoke(graph, Command(resume=False), thread())
    assert (out["results"]["1"]["answer"], asked(edge)) == ("cloud 1", ["1"])
