from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langgraph.checkpoint.memory import InMemorySaver

from langchain_hybridflow import Budget, HybridFlowGraph, Limits, Price, Scope
from langchain_hybridflow.routing import AlwaysCloud
from langchain_hybridflow.sandbox import generate_problems, sandbox_cloud, sandbox_edge
from langchain_hybridflow.testing import ObedientChatModel, ScriptedChatModel
from tests.unit.serving.servekit import HELLO, application, client_of, completed, routed

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tell the weather.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


def events_of(said: httpx.Response) -> list[dict[str, Any]]:
    lines = [line for line in said.text.splitlines() if line.startswith("data: {")]
    return [json.loads(line.removeprefix("data: ")) for line in lines]


async def test_answer_says_in_body_and_headers_who_gave_it_and_why() -> None:
    model = routed(router=AlwaysCloud(), on_edge_error="fallback")
    said = await completed(application({"hybridflow": model}))
    assert said.json()["choices"][0]["message"]["content"] == "Good day."
    assert said.json()["hybridflow"]["tier"] == said.headers["x-hybridflow-tier"] == "cloud"
    assert said.headers["x-hybridflow-reason"] == "this policy always chooses the cloud"
    assert "x-hybridflow-cost-usd" not in said.headers  # nobody knows its price


async def test_answer_says_what_is_left_to_whom_it_is_for() -> None:
    counted = Budget(max_cloud_calls=5)
    priced = Budget(limit_usd=2, prices={"scripted": Price(1, 1)})
    said = [
        await completed(application({"hybridflow": routed(budget=budget)}))
        for budget in (counted, priced)
    ]
    assert "x-hybridflow-remaining-usd" not in said[0].headers  # no money is limited
    assert 1.9 < float(said[1].headers["x-hybridflow-remaining-usd"]) < 2


@pytest.mark.parametrize("stream", [False, True])
async def test_run_that_waits_for_a_person_is_no_answer(*, stream: bool) -> None:
    model = routed(sandbox_edge(time_scale=0), cloud=sandbox_cloud(time_scale=0))
    graph = HybridFlowGraph(model).compile(InMemorySaver(), interrupt_before=["answer"])
    question = [{"role": "user", "content": generate_problems(3)[1].question}]
    app = application({"hybridflow": graph}, budget=model.budget)
    said = await completed(app, messages=question, stream=stream)
    told = events_of(said)[-1] if stream else said.json()
    assert told["error"]["code"] == "unanswered"
    assert "[DONE]" not in said.text


async def test_plain_model_is_served_without_an_extension() -> None:
    app = application({"hybridflow": ScriptedChatModel(responses=["Hi."])})
    said = await completed(app)
    assert (said.status_code, "hybridflow" in said.json()) == (200, False)


async def test_tools_are_called_whole_and_streamed() -> None:
    app = application({"hybridflow": routed(ObedientChatModel())})
    body = {"messages": [{"role": "user", "content": "Weather in Rome?"}], "tools": [WEATHER]}
    whole = (await completed(app, **body)).json()["choices"][0]
    assert whole["finish_reason"] == "tool_calls"
    assert whole["message"]["tool_calls"][0]["function"]["name"] == "weather"
    streamed = events_of(await completed(app, **body, stream=True))
    calls = [
        call
        for event in streamed
        for choice in event["choices"]
        for call in choice["delta"].get("tool_calls", [])
    ]
    assert calls[0]["function"]["name"] == "weather"


async def test_call_options_reach_the_model() -> None:
    edge = ScriptedChatModel(responses=["Hi."])
    options = {
        "temperature": 0.5,
        "top_p": 0.9,
        "seed": 7,
        "stop": ["x"],
        "max_completion_tokens": 9,
    }
    await completed(application({"hybridflow": routed(edge)}), **options, user="bob")
    given = edge.call_kwargs[0]
    assert {name: given[name] for name in ("temperature", "top_p", "seed", "max_tokens")} == {
        "temperature": 0.5,
        "top_p": 0.9,
        "seed": 7,
        "max_tokens": 9,
    }
    assert "user" not in given


async def test_money_is_that_of_the_token_whatever_user_the_body_names() -> None:
    budget = Budget(scopes=[Scope("user", Limits(cloud_calls=5))])
    model = routed(router=AlwaysCloud(), on_edge_error="fallback", budget=budget)
    app = application({"hybridflow": model})
    await completed(app, user="acme/bob", configurable={"user_id": "acme/bob"})
    spent = {
        name: budget.snapshot(budget.scope_values({"configurable": {"user_id": f"acme/{name}"}}))[
            "scopes"
        ][0]["cloud_calls"]["spent"]
        for name in ("ada", "bob")
    }
    assert spent == {"ada": 1, "bob": 0}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("failure", "status"),
    [
        (TimeoutError("sk-CANARY"), 504),
        (ConnectionRefusedError("sk-CANARY"), 503),
        (ValueError("sk-CANARY"), 500),
    ],
)
async def test_failure_before_the_first_token_is_a_status_of_its_own(
    failure: Exception, status: int, *, stream: bool, caplog: pytest.LogCaptureFixture
) -> None:
    model = routed(ScriptedChatModel(responses=[failure]))
    said = await completed(application({"hybridflow": model}), stream=stream)
    assert said.status_code == status
    assert "CANARY" not in said.text + caplog.text


async def test_failure_in_the_middle_of_a_stream_is_an_event() -> None:
    edge = ScriptedChatModel(responses=[["Hel", "lo"]], fail_after_chunks=1)
    said = await completed(application({"hybridflow": routed(edge)}), stream=True)
    events = events_of(said)
    assert said.status_code == 200
    assert events[1]["choices"][0]["delta"]["content"] == "Hel"
    assert events[-1]["error"]["code"] == "upstream_unavailable"
    assert "[DONE]" not in said.text


@pytest.mark.parametrize("stream", [False, True])
async def test_exhausted_budget_says_when_to_come_back(*, stream: bool) -> None:
    budget = Budget(max_cloud_calls=0, window="1h", on_exhausted="raise")
    model = routed(router=AlwaysCloud(), budget=budget)
    said = await completed(application({"hybridflow": model}), stream=stream)
    assert (said.status_code, said.json()["error"]["type"]) == (429, "insufficient_quota")
    assert 0 < int(said.headers["retry-after"]) <= 3600


async def test_stream_begins_and_beats_when_nothing_comes_for_long() -> None:
    late = asyncio.Event()

    async def answer(_messages: list[BaseMessage]) -> str:
        await late.wait()
        return "At last."

    edge = ScriptedChatModel(responses=[answer])
    app = application({"hybridflow": routed(edge)}, heartbeat_s=0.01)
    seen: list[str] = []
    # httpx's own transport hands nothing over before the end: the application is asked by hand.
    body = json.dumps({"model": "hybridflow", "messages": HELLO, "stream": True}).encode()

    async def receive() -> dict[str, Any]:
        if body_sent:
            await asyncio.Event().wait()
        body_sent.append(True)
        return {"type": "http.request", "body": body}

    async def send(message: Any) -> None:
        seen.append(str(message.get("status", "")) + message.get("body", b"").decode())
        if message.get("body") == b": still at work\n\n":
            late.set()

    body_sent: list[bool] = []
    await app(_scope(), receive, send)
    assert seen[0] == "200"
    assert ": still at work\n\n" in seen
    assert "last." in "".join(seen)


async def test_run_is_cancelled_when_its_reader_leaves() -> None:
    cancelled = asyncio.Event()
    asked = asyncio.Event()

    async def answer(_messages: list[BaseMessage]) -> str:
        asked.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise
        return ""

    for stream in (True, False):
        asked.clear()
        cancelled.clear()
        app = application({"hybridflow": routed(ScriptedChatModel(responses=[answer]))})
        body = json.dumps({"model": "hybridflow", "messages": HELLO, "stream": stream}).encode()
        messages = iter([{"type": "http.request", "body": body}])

        async def receive(messages: Any = messages) -> Any:
            message = next(messages, None)
            if message is None:
                await asked.wait()
            return message or {"type": "http.disconnect"}

        async def send(_message: Any) -> None: ...

        await app(_scope(), receive, send)
        await asyncio.wait_for(cancelled.wait(), 5)


async def test_graph_streams_its_answer_with_the_usage_of_all_its_calls() -> None:
    model = routed(sandbox_edge(time_scale=0), cloud=sandbox_cloud(time_scale=0))
    problem = generate_problems(3)[1]
    app = application({"hybridflow": model, "graph": HybridFlowGraph(model).compile()})
    body: dict[str, Any] = {
        "model": "graph",
        "messages": [{"role": "user", "content": problem.question}],
        "stream_options": {"include_usage": True},
    }
    whole = (await completed(app, **{**body, "stream_options": None})).json()
    events = events_of(await completed(app, **body, stream=True))
    text = "".join(
        choice["delta"].get("content") or "" for event in events for choice in event["choices"]
    )
    assert text == whole["choices"][0]["message"]["content"]
    assert len(events) > 10
    assert events[-1]["usage"] == whole["usage"]
    assert events[-1]["hybridflow"]["complete"] is True
    assert events[-1]["hybridflow"]["tier"] == "edge"


async def test_graph_shows_the_answer_that_stands_when_its_writer_failed() -> None:
    edge = ScriptedChatModel(responses=[["Half an ", "answer"]], fail_after_chunks=1)
    model = routed(edge)
    app = application({"hybridflow": model, "graph": HybridFlowGraph(model).compile()})
    asked = {"model": "graph", "messages": HELLO}
    events = events_of(await completed(app, **asked, stream=True))
    parts = [
        choice["delta"].get("content") or "" for event in events for choice in event["choices"]
    ]
    assert "".join(parts).strip()
    assert events[-1]["hybridflow"]["complete"] is False


@pytest.mark.parametrize(
    "body",
    [
        {"n": 2},
        {"logprobs": True},
        {"functions": [{}]},
        {"modalities": ["audio"]},
        {"messages": [{"role": "alien", "content": "x"}]},
        {"messages": [{"content": "x"}]},
        {"tools": [{"type": "custom"}]},
        {"max_tokens": 0},
        {"stream": "perhaps"},
    ],
)
async def test_what_cannot_be_done_is_refused_by_its_name(body: dict[str, Any]) -> None:
    said = await completed(application({"hybridflow": routed()}), **body)
    assert said.status_code == 400
    assert next(iter(body)) in said.json()["error"]["message"]


async def test_tools_are_refused_when_the_model_cannot_use_any() -> None:
    app = application({"hybridflow": FakeListChatModel(responses=["Hi."])})
    said = await completed(app, tools=[WEATHER])
    assert (said.status_code, said.json()["error"]["code"]) == (400, "unsupported")


async def test_unknown_model_is_a_404_that_names_the_known_ones() -> None:
    said = await completed(application({"hybridflow": routed()}), model="gpt")
    assert (said.status_code, said.json()["error"]["code"]) == (404, "model_not_found")
    assert "hybridflow" in said.json()["error"]["message"]
    assert "gpt" not in said.text


async def test_models_are_listed() -> None:
    app = application({"hybridflow": routed(), "edge": routed()})
    async with client_of(app) as client:
        rows = (await client.get("/v1/models")).json()["data"]
        missing = await client.get("/v1/models/none")
    assert [row["id"] for row in rows] == ["hybridflow", "edge"]
    assert missing.status_code == 404


async def test_reasoning_is_no_part_of_the_text() -> None:
    blocks: list[Any] = [{"type": "reasoning", "reasoning": "hm"}, {"type": "text", "text": "42"}]
    edge = ScriptedChatModel(responses=[AIMessage(content=blocks)])
    said = await completed(application({"hybridflow": routed(edge)}))
    assert said.json()["choices"][0]["message"]["content"] == "42"


def _scope() -> dict[str, Any]:
    headers = {"content-type": "application/json", "authorization": "Bearer 0123456789abcdef"}
    return {
        "type": "http",
        "method": "POST",
        "path": "/v1/chat/completions",
        "raw_path": b"/v1/chat/completions",
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        "client": ("127.0.0.1", 9),
        "server": ("127.0.0.1", 80),
        "scheme": "http",
        "http_version": "1.1",
        "asgi": {"version": "3.0"},
    }
