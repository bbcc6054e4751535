"""The sandbox server as real clients see it: langchain-openai over HTTP, and bare HTTP."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import openai
import pytest
from langchain_core.exceptions import LangChainException
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from starlette.applications import Starlette

from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.sandbox import generate_problems, sandbox_cloud, sandbox_edge
from langchain_hybridflow.sandbox.server import (
    Fault,
    FaultKind,
    Faults,
    create_app,
    running_server,
    serve,
)
from langchain_hybridflow.testing import ScriptedChatModel

TEXT = "The answer is 42."
TOOL_CALL = {"name": "add", "args": {"a": 1, "b": 2}, "id": "call_1", "type": "tool_call"}


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@dataclass(frozen=True, kw_only=True)
class Server:
    app: Starlette
    url: str
    model: ScriptedChatModel

    def client(self, **kwargs: Any) -> ChatOpenAI:
        settings = {"model": "edge", "api_key": "none", "max_retries": 0, "timeout": 30} | kwargs
        return ChatOpenAI(base_url=self.url, stream_usage=True, **settings)

    def post(self, body: Any, **kwargs: Any) -> httpx.Response:
        return httpx.post(f"{self.url}/chat/completions", json=body, **kwargs)

    def root(self, path: str) -> str:
        return self.url.removesuffix("/v1") + path

    @property
    def last_body(self) -> dict[str, Any]:
        return dict(list(self.app.state.log)[-1].body)


@pytest.fixture
def start() -> Iterator[Callable[..., Server]]:
    """Start a server with one scripted model, named `edge`; it stops when the test ends."""
    running = []

    def begin(*responses: Any, api_key: str | None = None, **script: Any) -> Server:
        model = ScriptedChatModel(responses=list(responses) or [TEXT], **script)
        app = create_app({"edge": model}, api_key=api_key)
        context = running_server(app)
        url = context.__enter__()
        running.append(context)
        return Server(app=app, url=url, model=model)

    yield begin
    for context in running:
        context.__exit__(None, None, None)


@pytest.fixture
def server(start: Callable[..., Server]) -> Server:
    return start()


def text_of(chunks: list[AIMessageChunk]) -> str:
    return "".join(str(chunk.text) for chunk in chunks)


def read_until_it_breaks(stream: Iterator[AIMessageChunk]) -> tuple[str, openai.APIError]:
    chunks: list[AIMessageChunk] = []
    try:
        for chunk in stream:
            chunks.append(chunk)  # noqa: PERF402 - what came before the error must be kept
    except openai.APIError as error:
        return text_of(chunks), error
    pytest.fail("the stream ended in good order")


# ---------------------------------------------------------------------------- a model that answers


def test_invoke_returns_the_models_text_and_usage(server: Server) -> None:
    answer = server.client().invoke("What is six times seven?")
    assert answer.content == TEXT
    assert answer.usage_metadata is not None
    assert answer.usage_metadata["input_tokens"] == 5
    assert answer.usage_metadata["output_tokens"] == 4
    assert answer.response_metadata["model_name"] == "edge"
    assert answer.response_metadata["finish_reason"] == "stop"


def test_stream_returns_the_same_text_and_usage_in_pieces(server: Server) -> None:
    chunks = list(server.client().stream("What is six times seven?"))
    assert text_of(chunks) == TEXT
    assert sum(bool(chunk.text) for chunk in chunks) == 4
    usages = [chunk.usage_metadata for chunk in chunks if chunk.usage_metadata]
    assert [usage["total_tokens"] for usage in usages] == [9]


async def test_astream_and_ainvoke_return_the_same_as_their_sync_twins(server: Server) -> None:
    client = server.client()
    assert text_of([chunk async for chunk in client.astream("Hello")]) == TEXT
    assert (await client.ainvoke("Hello")).content == TEXT


def test_usage_is_left_out_when_the_model_does_not_say_it(start: Callable[..., Server]) -> None:
    client = start(report_usage=False).client()
    assert client.invoke("Hello").usage_metadata is None
    assert not any(chunk.usage_metadata for chunk in client.stream("Hello"))


def test_stream_has_no_usage_when_the_client_does_not_ask_for_it(server: Server) -> None:
    chunks = list(server.client().stream("Hello", stream_usage=False))
    assert not any(chunk.usage_metadata for chunk in chunks)


@pytest.mark.parametrize("streaming", [False, True])
def test_max_tokens_cuts_the_answer_with_finish_reason_length(
    server: Server, *, streaming: bool
) -> None:
    client = server.client(max_tokens=2)
    if streaming:
        chunks = list(client.stream("Hello"))
        answer = chunks[0]
        for chunk in chunks[1:]:
            answer += chunk
    else:
        answer = client.invoke("Hello")
    assert answer.text == "The answer"
    assert answer.response_metadata["finish_reason"] == "length"


def test_options_reach_the_model(server: Server) -> None:
    server.client(temperature=0.5, seed=7).invoke("Hello", stop=["is"], max_tokens=50)
    expected = {"temperature": 0.5, "seed": 7, "stop": ["is"], "max_tokens": 50}
    assert server.model.call_kwargs == [expected]


def test_conversation_reaches_the_model_with_all_its_roles(server: Server) -> None:
    calling = AIMessage("", tool_calls=[TOOL_CALL])
    told = ToolMessage("3", tool_call_id="call_1")
    server.client().invoke([("system", "Be brief."), HumanMessage("1 + 2?"), calling, told])
    [messages] = server.model.calls
    assert [message.type for message in messages] == ["system", "human", "ai", "tool"]
    assert messages[2].tool_calls == calling.tool_calls


def test_tools_reach_the_model_and_its_call_comes_back(start: Callable[..., Server]) -> None:
    server = start(AIMessage("", tool_calls=[TOOL_CALL]))
    answer = server.client().bind_tools([add]).invoke("1 + 2?")
    assert answer.tool_calls == [TOOL_CALL]
    assert answer.response_metadata["finish_reason"] == "tool_calls"
    assert server.model.call_kwargs[0]["tools"][0]["function"]["name"] == "add"


def test_streamed_tool_calls_merge_to_the_same_call(start: Callable[..., Server]) -> None:
    server = start(AIMessage("", tool_calls=[TOOL_CALL, TOOL_CALL | {"id": "call_2"}]))
    chunks = list(server.client().bind_tools([add]).stream("1 + 2, twice?"))
    answer = chunks[0]
    for chunk in chunks[1:]:
        answer += chunk
    assert answer.tool_calls == [TOOL_CALL, TOOL_CALL | {"id": "call_2"}]


def test_model_without_streaming_is_streamed_as_one_piece() -> None:
    with running_server(create_app({"m": FakeListChatModel(responses=["Yes."])})) as url:
        client = ChatOpenAI(base_url=url, model="m", api_key="none", max_retries=0)
        assert text_of(list(client.stream("Really?"))) == "Yes."


def test_many_requests_at_once_get_their_own_answers(start: Callable[..., Server]) -> None:
    server = start(lambda messages: f"You said {messages[-1].text}")
    prompts = [f"number {number}" for number in range(40)]
    answers = server.client().batch(prompts, {"max_concurrency": 20})
    assert [answer.content for answer in answers] == [f"You said {prompt}" for prompt in prompts]


@pytest.mark.parametrize("streaming", [False, True])
def test_sandbox_tiers_answer_over_http_as_they_do_in_process(*, streaming: bool) -> None:
    models = {"edge": sandbox_edge(time_scale=0), "cloud": sandbox_cloud(time_scale=0)}
    [problem] = generate_problems(1, seed=4)
    with running_server(create_app(models)) as url:
        for name, model in models.items():
            client = ChatOpenAI(
                base_url=url,
                model=name,
                api_key="none",
                max_retries=0,
                stream_usage=True,
                streaming=streaming,
            )
            told, direct = client.invoke(problem.question), model.invoke(problem.question)
            assert told.text == direct.text
            assert told.usage_metadata is not None
            assert direct.usage_metadata is not None
            for count in ("input_tokens", "output_tokens", "total_tokens"):
                assert told.usage_metadata[count] == direct.usage_metadata[count]


# ------------------------------------------------------------------------------ the other endpoints


def test_models_lists_the_names_of_the_mapping() -> None:
    models = {name: FakeListChatModel(responses=["x"]) for name in ("edge", "cloud")}
    with running_server(create_app(models)) as url:
        rows = httpx.get(f"{url}/models").json()["data"]
    assert [row["id"] for row in rows] == ["edge", "cloud"]


def test_healthz_answers_without_a_key(start: Callable[..., Server]) -> None:
    server = start(api_key="right")
    assert httpx.get(server.root("/healthz")).json() == {"status": "ok"}


def test_log_tells_what_was_asked_and_holds_no_key(start: Callable[..., Server]) -> None:
    server = start(api_key="sk-CANARY")
    headers = {"Authorization": "Bearer sk-CANARY"}
    server.client(api_key="sk-CANARY").invoke("Hello")
    response = httpx.get(server.root("/_sandbox/log"), headers=headers)
    [entry] = response.json()["requests"]
    assert entry["body"]["messages"] == [{"role": "user", "content": "Hello"}]
    assert (entry["number"], entry["model"], entry["stream"]) == (1, "edge", False)
    assert response.json()["in_flight"] == 0
    assert "CANARY" not in response.text


# ----------------------------------------------------------------------------------- bad requests


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"model": "edge"}, "messages"),
        ({"model": "edge", "messages": []}, "messages"),
        ({"messages": [{"role": "user", "content": "x"}]}, "model"),
        ({"model": "edge", "messages": [{"role": "oracle", "content": "x"}]}, "messages"),
        ({"model": "edge", "messages": [{"role": "user", "content": "x"}], "n": 2}, "n"),
        (["not", "an", "object"], "body"),
    ],
)
def test_bad_request_is_400_and_names_the_field(server: Server, body: Any, field: str) -> None:
    response = server.post(body)
    assert response.status_code == 400
    assert response.json()["error"]["message"].startswith(field)


def test_body_that_is_not_json_is_400(server: Server) -> None:
    headers = {"Content-Type": "application/json"}
    response = httpx.post(f"{server.url}/chat/completions", content=b"{", headers=headers)
    assert response.status_code == 400


def test_form_post_as_a_web_page_could_send_it_is_415(server: Server) -> None:
    body = json.dumps({"model": "edge", "messages": [{"role": "user", "content": "x"}]})
    headers = {"Content-Type": "text/plain"}
    response = httpx.post(f"{server.url}/chat/completions", content=body, headers=headers)
    assert response.status_code == 415
    assert not server.model.calls


def test_request_by_another_host_name_is_refused(server: Server) -> None:
    response = httpx.get(f"{server.url}/models", headers={"Host": "evil.example"})
    assert response.status_code == 400


def test_unknown_model_is_404_and_lists_the_known_ones(server: Server) -> None:
    with pytest.raises(openai.NotFoundError, match="There are: edge"):
        server.client(model="other").invoke("Hello")


def test_wrong_key_is_an_authentication_error(start: Callable[..., Server]) -> None:
    server = start(api_key="right")
    assert server.client(api_key="right").invoke("Hello").content == TEXT
    with pytest.raises(openai.AuthenticationError):
        server.client(api_key="wrong").invoke("Hello")


def test_tools_for_a_model_that_knows_none_are_400() -> None:
    with running_server(create_app({"m": FakeListChatModel(responses=["x"])})) as url:
        client = ChatOpenAI(base_url=url, model="m", api_key="none", max_retries=0)
        with pytest.raises(openai.BadRequestError, match="tools"):
            client.bind_tools([add]).invoke("Hello")


@pytest.mark.parametrize("streaming", [False, True])
def test_model_that_fails_at_once_is_a_500_that_names_the_error(
    start: Callable[..., Server], *, streaming: bool
) -> None:
    client = start(RuntimeError("out of memory")).client(streaming=streaming)
    with pytest.raises(openai.InternalServerError, match="RuntimeError: out of memory"):
        client.invoke("Hello")


def test_model_that_fails_in_mid_stream_sends_an_error_event(start: Callable[..., Server]) -> None:
    client = start(fail_after_chunks=2).client()
    text, error = read_until_it_breaks(client.stream("Hello"))
    assert (text, error.message) == ("The answer", "ConnectionError: The stream broke.")


async def test_model_stops_working_when_the_client_has_left(start: Callable[..., Server]) -> None:
    entered, left = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    async def work_for_ever(_seconds: float) -> None:
        loop.call_soon_threadsafe(entered.set)
        try:
            await asyncio.Event().wait()
        finally:
            loop.call_soon_threadsafe(left.set)

    server = start(asleep=work_for_ever)
    asking = asyncio.create_task(server.client().ainvoke("Hello"))
    await asyncio.wait_for(entered.wait(), 10)
    asking.cancel()
    await asyncio.wait_for(left.wait(), 10)


# ----------------------------------------------------------------------------------------- faults


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(
    ("kind", "error"),
    [
        (FaultKind.RATE_LIMIT, openai.RateLimitError),
        (FaultKind.SERVER_ERROR, openai.InternalServerError),
        (FaultKind.UNAUTHORIZED, openai.AuthenticationError),
        (FaultKind.HANG, openai.APITimeoutError),
        (FaultKind.HANG_MID_STREAM, openai.APITimeoutError),
        (FaultKind.DROP_MID_STREAM, openai.APIConnectionError),
        (FaultKind.GARBAGE, ValueError),
    ],
)
def test_fault_reaches_the_client_as_its_typed_error(
    server: Server, kind: FaultKind, error: type[Exception], *, streaming: bool
) -> None:
    server.app.state.faults.add(Fault(kind=kind))
    client = server.client(timeout=0.3, streaming=streaming)
    with pytest.raises(error):
        client.invoke("Hello")
    assert client.invoke("Hello").content == TEXT, "the fault was for one request"


def test_typed_errors_are_langchains_own_too(server: Server) -> None:
    server.app.state.faults.add(Fault(kind="rate_limit"))
    with pytest.raises(LangChainException):
        server.client().invoke("Hello")


def test_rate_limit_tells_how_long_to_wait(server: Server) -> None:
    server.app.state.faults.add(Fault(kind="rate_limit", retry_after_s=2.5))
    response = server.post({"model": "edge", "messages": [{"role": "user", "content": "x"}]})
    assert (response.status_code, response.headers["Retry-After"]) == (429, "2.5")


@pytest.mark.parametrize("kind", [FaultKind.DROP_MID_STREAM, FaultKind.HANG_MID_STREAM])
def test_what_came_before_the_middle_reaches_the_client(server: Server, kind: FaultKind) -> None:
    server.app.state.faults.add(Fault(kind=kind, after_parts=3))
    text, error = read_until_it_breaks(server.client(timeout=0.3).stream("Hello"))
    assert text == "The answer"
    assert isinstance(error, openai.APIConnectionError)


def test_truncated_stream_ends_in_good_order_without_a_finish_reason(server: Server) -> None:
    server.app.state.faults.add(Fault(kind="truncate", after_parts=3))
    chunks = list(server.client().stream("Hello"))
    assert text_of(chunks) == "The answer"
    assert not any(chunk.response_metadata.get("finish_reason") for chunk in chunks)


def test_truncated_whole_answer_is_broken_json(server: Server) -> None:
    server.app.state.faults.add(Fault(kind="truncate"))
    with pytest.raises(json.JSONDecodeError):
        server.client().invoke("Hello")


@pytest.mark.parametrize("streaming", [False, True])
def test_empty_answer_is_well_formed(server: Server, *, streaming: bool) -> None:
    server.app.state.faults.add(Fault(kind="empty"))
    answer = server.client(streaming=streaming).invoke("Hello")
    assert (answer.content, answer.response_metadata["finish_reason"]) == ("", "stop")
    assert not server.model.calls


def test_header_asks_for_a_fault_of_this_request_only(server: Server) -> None:
    spoiled = server.client(default_headers={"X-Sandbox-Fault": "server_error"})
    with pytest.raises(openai.InternalServerError):
        spoiled.invoke("Hello")
    assert server.client().invoke("Hello").content == TEXT


def test_unknown_fault_in_the_header_is_400(server: Server) -> None:
    with pytest.raises(openai.BadRequestError, match="earthquake"):
        server.client(default_headers={"X-Sandbox-Fault": "earthquake"}).invoke("Hello")


def test_faults_are_added_and_cleared_over_http(server: Server) -> None:
    url = server.root("/_sandbox/faults")
    added = httpx.post(url, json={"kind": "server_error", "model": "edge", "times": None})
    assert added.json()["faults"][0]["kind"] == "server_error"
    with pytest.raises(openai.InternalServerError):
        server.client().invoke("Hello")
    assert httpx.delete(url).json() == {"faults": []}
    assert server.client().invoke("Hello").content == TEXT


def test_fault_over_http_that_makes_no_sense_is_400(server: Server) -> None:
    response = httpx.post(server.root("/_sandbox/faults"), json={"kind": "earthquake"})
    assert (response.status_code, server.app.state.faults.waiting) == (400, ())


def test_fault_is_in_the_log(server: Server) -> None:
    server.app.state.faults.add(Fault(kind="empty"))
    server.client().invoke("Hello")
    assert [record.fault for record in server.app.state.log] == [FaultKind.EMPTY]


# ------------------------------------------------------------------------------- start and stop


def test_running_server_frees_its_port_when_the_block_ends(server: Server) -> None:
    with running_server(create_app({})) as url:
        port = int(url.removesuffix("/v1").rpartition(":")[2])
        assert httpx.get(f"{url}/models").json()["data"] == []
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


def test_running_server_stops_while_a_request_hangs() -> None:
    app = create_app({"m": FakeListChatModel(responses=["x"])}, faults=Faults(Fault(kind="hang")))
    with running_server(app) as url, socket.create_connection(address(url)) as hanging:
        body = b'{"model": "m", "messages": [{"role": "user", "content": "x"}]}'
        hanging.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
        )
        httpx.get(f"{url}/models")
    assert app.state.log.in_flight == 0


def address(url: str) -> tuple[str, int]:
    host, _, port = url.removesuffix("/v1").removeprefix("http://").partition(":")
    return host, int(port)


def test_port_that_is_taken_is_a_configuration_error(server: Server) -> None:
    _, port = address(server.url)
    with pytest.raises(ConfigurationError, match=str(port)):
        serve(create_app({}), port=port)


def test_serve_returns_by_itself_when_nobody_asks(capsys: pytest.CaptureFixture[str]) -> None:
    urls: list[str] = []
    serve(create_app({}), on_ready=urls.append, max_idle_s=0.05)
    assert address(urls[0])[0] == "127.0.0.1"
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_serve_returns_cleanly_when_it_gets_a_signal(stop: signal.Signals) -> None:
    code = (
        "from langchain_hybridflow.sandbox.server import create_app, serve\n"
        "serve(create_app({}), on_ready=lambda url: print(url, flush=True))\n"
        "print('stopped')\n"
    )
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code],
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("http://127.0.0.1:")
        process.send_signal(stop)
        out, err = process.communicate(timeout=20)
    assert (out, err, process.returncode) == ("stopped\n", "", 0)
