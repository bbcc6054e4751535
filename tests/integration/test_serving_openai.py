"""OpenAI's client against the serving parts, with models that call tools and obey schemas."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Iterator

import openai
import pytest
import uvicorn
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel, SecretStr
from starlette.applications import Starlette
from starlette.middleware import Middleware

from langchain_hybridflow import Budget, RoutedChatModel
from langchain_hybridflow.routing import AlwaysCloud, AlwaysEdge
from langchain_hybridflow.sandbox import sandbox_cloud, sandbox_edge
from langchain_hybridflow.serving import Gate, Service, Tokens, add_openai_routes
from langchain_hybridflow.testing import ObedientChatModel, ScriptedChatModel
from tests.integration.redis_server import free_port

TOKEN = "0123456789abcdef"
QUESTION = "Is there good weather in Rome?"


class Weather(BaseModel):
    """Tell the weather."""

    city: str


@pytest.fixture(scope="module")
def base_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server in this process; its budget is in a file, as one in memory remembers calls."""
    file = tmp_path_factory.mktemp("serving") / "budget.db"
    budget = Budget(max_cloud_calls=1_000, store=f"sqlite:///{file}")
    obedient = RoutedChatModel(
        edge=ObedientChatModel(), cloud=ObedientChatModel(), router=AlwaysEdge(), budget=budget
    )
    plain = RoutedChatModel(
        edge=ScriptedChatModel(responses=["Hello there."]),
        cloud=ScriptedChatModel(responses=["Hello there."]),
        router=AlwaysCloud(),
        budget=budget,
    )
    forgetful = RoutedChatModel(
        edge=sandbox_edge(time_scale=0),
        cloud=sandbox_cloud(time_scale=0),
        router=AlwaysCloud(),
        budget=budget,
    )
    tokens = Tokens({TOKEN: {"user": "ada"}})
    app = Starlette(middleware=[Middleware(Gate, tokens=tokens)])
    served = {"hybridflow": obedient, "plain": plain, "forgetful": forgetful}
    add_openai_routes(app, served, service=Service(obedient.budget))
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="critical", lifespan="off"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    yield f"http://127.0.0.1:{port}/v1"
    server.should_exit = True
    thread.join()
    budget.close()


@pytest.fixture
def client(base_url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=base_url, api_key=TOKEN, max_retries=0) as opened:
        yield opened


def test_openai_client_gets_tool_calls_whole_and_streamed(client: openai.OpenAI) -> None:
    tools = [openai.pydantic_function_tool(Weather, name="weather")]
    asked = {"model": "hybridflow", "messages": [{"role": "user", "content": QUESTION}]}
    whole = client.chat.completions.create(**asked, tools=tools).choices[0]
    assert whole.finish_reason == "tool_calls"
    assert whole.message.tool_calls is not None
    assert whole.message.tool_calls[0].function.arguments == '{"city": "Rome"}'
    with client.chat.completions.stream(**asked, tools=tools) as stream:
        final = stream.get_final_completion().choices[0].message
    assert final.tool_calls is not None
    assert final.tool_calls[0].function.parsed_arguments == Weather(city="Rome")


def test_openai_client_parses_structured_outputs(client: openai.OpenAI) -> None:
    parsed = client.chat.completions.parse(
        model="hybridflow",
        messages=[{"role": "user", "content": QUESTION}],
        response_format=Weather,
    )
    assert parsed.choices[0].message.parsed == Weather(city="Rome")


def test_conversation_with_a_tool_goes_on_after_its_result(client: openai.OpenAI) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    answer = client.chat.completions.create(
        model="plain",
        messages=[
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": QUESTION},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "1", "content": "sunny"},
        ],
    )
    assert answer.choices[0].message.content == "Hello there."


def test_chat_openai_of_langchain_binds_tools_through_it(base_url: str) -> None:
    @tool
    def weather(city: str) -> str:
        """Tell the weather."""
        return city

    model = ChatOpenAI(base_url=base_url, api_key=SecretStr(TOKEN), model="hybridflow")
    called = model.bind_tools([weather]).invoke(QUESTION)
    assert called.tool_calls[0]["args"] == {"city": "Rome"}
    structured = model.with_structured_output(Weather, method="json_schema").invoke(QUESTION)
    assert structured == Weather(city="Rome")


def test_server_keeps_nothing_of_runs_that_are_over(client: openai.OpenAI) -> None:
    def run(times: int) -> int:
        for number in range(times):
            chunks = client.chat.completions.create(
                model="forgetful",
                messages=[{"role": "user", "content": "Hello"}],
                stream=number % 2 == 0,
            )
            if number % 2 == 0:
                stream = iter(chunks)
                next(stream)
                if number % 4:
                    list(stream)
                chunks.close()
        gc.collect()
        return len(gc.get_objects())

    run(100)
    before = run(20)
    assert run(200) - before < 200  # one object that stays of each run would be more
