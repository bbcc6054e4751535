"""The web service, asked by the clients that people have: what it answers, and what it refuses."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from langchain_openai import ChatOpenAI
from pydantic import BaseModel, SecretStr

from langchain_hybridflow.sandbox import generate_problems
from tests.integration.serve_server import (
    TOKENS,
    ServeServer,
    headers,
    serve_python,
    started,
)

__all__ = ["serve_python"]

PROBLEM = generate_problems(3)[1]
EASY = [{"role": "user", "content": "What is 12 * 14?"}]
HARD = [{"role": "user", "content": PROBLEM.question}]
RUNS = ("invoke", "batch", "stream", "stream_log", "stream_events")


@pytest.fixture(scope="module")
def server(serve_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServeServer]:
    with started(tmp_path_factory.mktemp("serve"), serve_python) as running:
        yield running


@pytest.fixture
def client(server: ServeServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key=TOKENS["ada"], max_retries=0) as opened:
        yield opened


def ask(
    server: ServeServer, path: str, body: Any = None, *, user: str | None = "ada", **more: Any
) -> httpx.Response:
    named = {**headers(user), **more.pop("headers", {})}
    method = "GET" if body is None and "content" not in more else "POST"
    kind = {} if body is None else {"json": body}
    return httpx.request(method, server.url + path, headers=named, timeout=60, **kind, **more)


# OpenAI's client


def test_openai_client_gets_an_answer_with_usage_and_its_routing(client: openai.OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(model="hybridflow", messages=EASY)
    answer = raw.parse()
    assert "168" in str(answer.choices[0].message.content)
    assert answer.usage is not None
    assert answer.usage.total_tokens > 0
    assert raw.headers["x-hybridflow-tier"] == "edge"
    assert raw.headers["x-hybridflow-reason"]
    assert float(raw.headers["x-hybridflow-cost-usd"]) == 0
    assert 0 < float(raw.headers["x-hybridflow-remaining-usd"]) <= 0.5


@pytest.mark.parametrize("model", ["hybridflow", "hybridflow-graph", "edge", "cloud"])
def test_openai_client_streams_an_answer_that_ends_with_usage(
    client: openai.OpenAI, model: str
) -> None:
    chunks = list(
        client.chat.completions.create(
            model=model,
            messages=HARD if model == "hybridflow-graph" else EASY,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    text = "".join(str(one.choices[0].delta.content or "") for one in chunks if one.choices)
    assert (PROBLEM.answer if model == "hybridflow-graph" else "168") in text
    assert len(chunks) > 8
    last = chunks[-1]
    assert last.usage is not None
    assert last.usage.completion_tokens > 0
    assert last.model_extra is not None
    assert last.model_extra["hybridflow"]["cost_usd"] is not None


async def test_async_openai_client_gets_each_answer_to_its_question(server: ServeServer) -> None:
    async with openai.AsyncOpenAI(
        base_url=f"{server.url}/v1", api_key=TOKENS["ada"], max_retries=0
    ) as client:

        async def product(number: int) -> str:
            question = f"What is 12 * {number}?"
            answer = await client.chat.completions.create(
                model="hybridflow", messages=[{"role": "user", "content": question}]
            )
            return str(answer.choices[0].message.content)

        texts = await asyncio.gather(*map(product, range(2, 12)))
    assert all(f"= {12 * number}" in text for number, text in enumerate(texts, start=2))


def test_openai_client_lists_the_models(client: openai.OpenAI) -> None:
    names = [model.id for model in client.models.list()]
    assert names == ["hybridflow", "hybridflow-graph", "edge", "cloud"]
    assert client.models.retrieve("edge").id == "edge"


def test_chat_openai_of_langchain_can_be_pointed_at_it(server: ServeServer) -> None:
    model = ChatOpenAI(
        base_url=f"{server.url}/v1", api_key=SecretStr(TOKENS["ada"]), model="hybridflow-graph"
    )
    assert PROBLEM.answer in model.invoke(PROBLEM.question).text


@pytest.mark.parametrize(
    ("error", "asked"),
    [
        (openai.NotFoundError, {"model": "gpt-4.1"}),
        (openai.BadRequestError, {"n": 2}),
        (openai.BadRequestError, {"logprobs": True}),
        (openai.BadRequestError, {"modalities": ["text", "audio"]}),
        (openai.BadRequestError, {"model": "hybridflow-graph", "stop": "x"}),
        (openai.BadRequestError, {"temperature": 7}),
        (openai.BadRequestError, {"messages": [{"role": "nobody", "content": "x"}]}),
        (openai.BadRequestError, {"messages": []}),
        (openai.BadRequestError, {"tools": [{"nothing": 1}]}),
    ],
)
def test_what_cannot_be_done_is_openais_own_error_with_a_reason(
    client: openai.OpenAI, error: type[openai.APIStatusError], asked: dict[str, Any]
) -> None:
    with pytest.raises(error) as raised:
        client.chat.completions.create(**{"model": "hybridflow", "messages": EASY, **asked})
    assert raised.value.code
    assert len(str(raised.value.message)) > 20


# LangServe's client

REMOTE = """
import asyncio, json, sys
from langchain_core.messages import HumanMessage
from langserve import RemoteRunnable

url, token, question = sys.argv[1:]
headers = {"Authorization": f"Bearer {token}"}
model, graph, ask = (RemoteRunnable(f"{url}/{path}", headers=headers)
                     for path in ("model", "graph", "ask"))
asked = {"messages": [HumanMessage(question)]}

async def events(runnable, value):
    return [one["event"] async for one in runnable.astream_events(value, version="v2")]

async def asynchronous():
    return {
        "ainvoke": (await model.ainvoke("What is 12 * 14?")).content,
        "events": await events(model, "What is 12 * 14?"),
        "patches": len([one async for one in ask.astream_log(question)]),
        "graph_events": len(await events(graph, asked)),
    }

print(json.dumps({
    "invoke": model.invoke("What is 12 * 14?").content,
    **asyncio.run(asynchronous()),
    "batch": [one.content for one in model.batch(["What is 12 * 14?", "What is 12 * 15?"])],
    "stream": [one.content for one in model.stream([HumanMessage("What is 12 * 14?")])],
    "record": list(model.stream("What is 12 * 14?"))[-1].response_metadata["hybridflow"]["tier"],
    "graph": graph.invoke(asked)["answer"],
    "graph_batch": [one["answer"] for one in graph.batch([asked, asked])],
    "graph_stream": [name for one in graph.stream(asked) for name in one],
    "ask": ask.invoke(question),
    "ask_stream": list(ask.stream(question)),
}))
"""


def test_remote_runnable_can_do_all_that_a_local_one_can(
    server: ServeServer, serve_python: Path
) -> None:
    command = [str(serve_python), "-W", "ignore", "-c", REMOTE]
    run = subprocess.run(
        [*command, server.url, TOKENS["ada"], PROBLEM.question],
        cwd=server.folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    found = json.loads(run.stdout)
    assert "= 168" in found["invoke"]
    assert found["ainvoke"] == "".join(found["stream"]) == found["invoke"] == found["batch"][0]
    assert len(found["stream"]) > 5
    assert "= 180" in found["batch"][1]
    assert found["record"] == "edge"
    assert {"on_chat_model_start", "on_chat_model_end"} <= set(found["events"])
    answers = [found["graph"], *found["graph_batch"], found["ask"], "".join(found["ask_stream"])]
    assert all(PROBLEM.answer in answer for answer in answers)
    assert len(found["ask_stream"]) > 5
    assert found["graph_stream"][0] == "dispatch"
    assert found["graph_stream"][-1] == "answer"
    assert found["graph_events"] > 20
    assert found["patches"] > 20


# Whom a run is for

STOLEN = {"configurable": {"user_id": "acme/bob", "tenant_id": "x", "thread_id": "acme/bob/1"}}


def spent_by(server: ServeServer) -> dict[str, float]:
    from langchain_hybridflow import Budget, Limits, Scope

    budget = Budget(
        limit_usd=5,
        window="day",
        name="serve",
        store=server.store,
        scopes=[Scope("user", Limits(usd=1), window="day")],
    )
    found = {}
    for user in TOKENS:
        values = budget.scope_values({"configurable": {"user_id": f"acme/{user}"}})
        found[user] = budget.snapshot(values)["scopes"][0]["usd"]["spent"]
    budget.close()
    return found


@pytest.mark.parametrize("run", [*RUNS, "openai", "openai stream"])
def test_money_is_that_of_the_token_whoever_the_body_names(server: ServeServer, run: str) -> None:
    before = spent_by(server)
    if run.startswith("openai"):
        body = {"model": "cloud", "messages": EASY, "user": "acme/bob", **STOLEN}
        said = ask(server, "/v1/chat/completions", {**body, "stream": run.endswith("stream")})
    else:
        asked = {"messages": [{"type": "human", "content": PROBLEM.question}]}
        many = {"inputs": [asked, asked], "config": [STOLEN, STOLEN]}
        one = {"input": asked, "config": STOLEN}
        said = ask(server, f"/graph/{run}", many if run == "batch" else one)
    assert said.status_code == 200
    assert "event: error" not in said.text
    after = spent_by(server)
    assert after["ada"] > before["ada"]
    assert after["bob"] == before["bob"]


def test_thread_of_a_run_is_below_its_user_whatever_the_body_says(server: ServeServer) -> None:
    asked = {"messages": [{"type": "human", "content": "What is 12 * 14?"}]}
    body = {"input": asked, "config": STOLEN}
    said = ask(server, "/graph/stream_events", body, headers={"x-hybridflow-thread": "notes"})
    assert '"thread_id":"acme/ada/notes"' in said.text.replace(" ", "")
    assert "acme/bob" not in said.text


def test_thread_that_is_no_name_is_refused(server: ServeServer) -> None:
    named = {"x-hybridflow-thread": "../bob/1"}
    said = ask(server, "/model/invoke", {"input": "What is 12 * 14?"}, headers=named)
    assert said.status_code == 400
    assert "x-hybridflow-thread" in said.json()["detail"]


def test_config_in_the_path_is_not_served(server: ServeServer) -> None:
    assert ask(server, "/model/c/N4XyA/invoke", {"input": "Hello"}).status_code == 404


# Who is let in

PATHS = ("/", "/metrics", "/v1/models", "/model/input_schema", "/ask/playground/", "/nowhere")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("token", ["", "Bearer", "Bearer wrong", "Basic !", "Basic YWRhOg=="])
def test_nothing_is_told_without_a_token(server: ServeServer, path: str, token: str) -> None:
    said = ask(server, path, user=None, headers={"Authorization": token} if token else {})
    assert said.status_code == 401
    assert said.json()["error"]["code"] == "invalid_api_key"
    assert said.headers["www-authenticate"].startswith("Basic")


@pytest.mark.parametrize("path", ["/health", "/ready"])
def test_health_and_readiness_are_told_to_everybody(server: ServeServer, path: str) -> None:
    said = ask(server, path, user=None)
    assert (said.status_code, said.json()["status"] in {"ok", "ready"}) == (200, True)


def test_token_is_taken_as_the_password_of_a_browser(server: ServeServer) -> None:
    said = httpx.get(f"{server.url}/ask/playground/", auth=("anybody", TOKENS["ada"]))
    assert said.status_code == 200
    assert "LangServe" in said.text or "<html" in said.text
    assert said.headers["x-frame-options"] == "DENY"


def test_form_of_a_foreign_page_is_refused(server: ServeServer) -> None:
    body = json.dumps({"input": "What is 12 * 14?"})
    said = ask(server, "/model/invoke", content=body, headers={"Content-Type": "text/plain"})
    assert said.status_code == 415


# What is wrong with a request

BAD_BODIES = [
    b"",
    b"{",
    b"[]",
    b"null",
    b'"text"',
    b"\xff\xfe",
    b'{"input": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    b'{"input": "\\ud800"}',
    b'{"input": NaN}',
    b'{"input": {"messages": [{"type": "human", "content": "x", "a": 1e999}]}}',
    b'{"input": {"messages": [{"type": "human", "content": "x", "a": 1000000000000000000000}]}}',
    b'{"input": ' + b"[" * 200 + b"]" * 200 + b"}",
    b'{"input": {"messages": [{"type": "human", "content": "x"}]}, "config": null}',
    b'{"inputs": 7}',
    b'{"inputs": [7, null]}',
    b'{"inputs": ["x"], "config": 7}',
    b'{"inputs": ["x"], "config": [{}, {}]}',
    b'{"inputs": ["x"], "config": {"configurable": 7}}',
    b'{"input": {"messages": 7}}',
    b'{"input": {"messages": [{"type": "nobody", "content": 1}]}}',
    b'{"input": null, "config": {"configurable": [1]}}',
    b'{"input": 7, "config": {"tags": 7, "configurable": {"user_id": {}}}, "include_names": 7}',
    b'{"model": 7, "messages": 7}',
    b'{"model": "hybridflow", "messages": [7]}',
    b'{"model": "hybridflow", "messages": [{"role": "user", "content": {"a": 1}}]}',
    b'{"model": "hybridflow", "messages": [{"role": "user"}], "stream_options": []}',
    b'{"model": "hybridflow", "messages": [{"role": "tool", "content": "x"}]}',
    b'{"model": "hybridflow-graph", "messages": [{"role": "system", "content": "x"}]}',
]
POSTS = ("/v1/chat/completions", *(f"/graph/{run}" for run in RUNS), "/model/batch", "/ask/stream")


@pytest.mark.parametrize("body", BAD_BODIES, ids=range(len(BAD_BODIES)))
def test_bad_input_is_a_4xx_with_a_reason_on_every_route(server: ServeServer, body: bytes) -> None:
    for path in POSTS:
        said = ask(server, path, content=body, headers={"Content-Type": "application/json"})
        asked_well = path == "/model/batch" and body.startswith(b'{"inputs": ["x"]')
        if asked_well and said.status_code == 200:
            continue
        assert 400 <= said.status_code < 500, (path, said.status_code, said.text)
        assert said.json()["error"]["message"] == said.json()["detail"] != "", path
        assert "Traceback" not in said.text


@pytest.mark.parametrize("name", ["%00", "a" * 300, "assets", "..%2f..%2fserver.py", "none.js"])
def test_page_that_is_no_file_of_the_playground_is_a_404(server: ServeServer, name: str) -> None:
    assert ask(server, f"/ask/playground/{name}").status_code == 404


def test_body_that_is_too_large_is_refused_also_if_it_does_not_say_so(server: ServeServer) -> None:
    def pieces() -> Iterator[bytes]:
        yield b'{"input": "'
        yield from (b"x" * 100_000 for _ in range(11))

    named = {"Content-Type": "application/json"}
    honest = ask(server, "/model/invoke", {"input": "x" * 1_100_000})
    chunked = ask(server, "/model/invoke", content=pieces(), headers=named)
    assert (honest.status_code, chunked.status_code) == (413, 413)


def test_batch_that_is_too_large_is_refused(server: ServeServer) -> None:
    said = ask(server, "/model/batch", {"inputs": ["x"] * 33})
    assert (said.status_code, said.json()["error"]["code"]) == (413, "batch_too_large")


class Product(BaseModel):
    """A product."""

    value: int


def test_errors_and_log_hold_nothing_of_a_prompt(server: ServeServer) -> None:
    canary = "sk-CANARY0123456789"
    message = {"role": "user", "content": canary}
    tools = [{"type": "function", "function": {"name": canary, "parameters": 7}}]
    said = [
        ask(server, "/v1/chat/completions", {"model": canary, "messages": [message]}),
        ask(server, "/v1/chat/completions", {"model": "edge", "messages": [message], "n": canary}),
        ask(
            server,
            "/v1/chat/completions",
            {"model": "edge", "messages": [message], "tools": tools},
        ),
        ask(server, "/graph/batch", {"inputs": [{"messages": [canary, 7]}]}),
        ask(server, "/graph/invoke", {"input": {"messages": [{"type": canary}]}}),
        ask(server, "/model/stream", {"input": {"nothing": canary}}),
    ]
    assert all(400 <= one.status_code < 500 for one in said), [one.text for one in said]
    assert all(canary not in one.text for one in said), [one.text for one in said]
    assert canary not in server.said()
    assert TOKENS["ada"] not in server.said()
    assert "Traceback" not in server.said()
