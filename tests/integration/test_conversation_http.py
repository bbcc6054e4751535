"""Conversations that change tier in the middle, through real langchain-openai clients."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_openai import ChatOpenAI

from langchain_hybridflow import RoutedChatModel, RouteDecision
from langchain_hybridflow.calls.history import portable_history
from langchain_hybridflow.calls.inner import TierModel
from langchain_hybridflow.routing import RouteRequest, Tier
from langchain_hybridflow.sandbox.server import create_app, running_server
from langchain_hybridflow.testing import ObedientChatModel, ScriptedChatModel

FOREIGN = ("thinking", "SIGNED", "THOUGHT", "CIPHERED", "rs_1", "msg_1", "cache_control", "server_")
LONG_ID = "functions.weather:0:" + "x" * 60

# What Anthropic, OpenAI's Responses API and Gemini write when they think and then call a tool.
THINKERS: dict[str, dict[str, Any]] = {
    "anthropic": {
        "content": [
            {"type": "thinking", "thinking": "THOUGHT", "signature": "SIGNED"},
            {"type": "redacted_thinking", "data": "CIPHERED"},
            {"type": "server_tool_use", "id": "server_1", "name": "web_search", "input": {}},
            {"type": "text", "text": "I look it up.", "cache_control": {"type": "ephemeral"}},
            {"type": "tool_use", "id": LONG_ID, "name": "weather", "input": {"city": "Rome"}},
        ],
        "response_metadata": {"model_provider": "anthropic", "id": "msg_1"},
    },
    "openai": {
        "content": [
            {"type": "reasoning", "id": "rs_1", "encrypted_content": "CIPHERED", "summary": []},
            {"type": "text", "text": "I look it up.", "id": "msg_1", "annotations": []},
        ],
        "id": "msg_1",
        "response_metadata": {"model_provider": "openai", "id": "resp_1"},
    },
    "google_genai": {
        "content": [{"type": "text", "text": "I look it up.", "extras": {"signature": "SIGNED"}}],
        "additional_kwargs": {"__gemini_function_call_thought_signatures__": {LONG_ID: "SIGNED"}},
        "response_metadata": {"model_provider": "google_genai"},
    },
    "standard": {
        "content": [
            {"type": "reasoning", "reasoning": "THOUGHT", "extras": {"signature": "SIGNED"}},
            {"type": "text", "text": "I look it up."},
            {"type": "tool_call", "id": LONG_ID, "name": "weather", "args": {"city": "Rome"}},
        ],
        "response_metadata": {"model_provider": "anthropic", "output_version": "v1"},
    },
}
CALL = {"name": "weather", "args": {"city": "Rome"}, "id": LONG_ID, "type": "tool_call"}

thinkers = pytest.mark.parametrize("thinker", THINKERS)


def thought(thinker: str) -> AIMessage:
    return AIMessage(tool_calls=[CALL], **THINKERS[thinker])


class AsTold:
    """Sends what says "hard" to the cloud."""

    def route(self, request: RouteRequest) -> RouteDecision:
        tier: Tier = "cloud" if "hard" in request.text else "edge"
        return RouteDecision(tier=tier, reason="as told", router="as_told")


def weather(city: str) -> str:
    """Tell the weather."""
    return f"sunny in {city}"


@pytest.fixture
def big() -> BaseChatModel:
    return ObedientChatModel(model_name="big")


@pytest.fixture
def site(big: BaseChatModel) -> Iterator[tuple[str, Callable[[], list[dict[str, Any]]]]]:
    app = create_app({"big": big})
    with running_server(app) as url:
        yield url, lambda: [dict(record.body) for record in app.state.log]


def talk(url: str, thinker: str, **settings: Any) -> Any:
    """Ask the edge, which thinks and calls a tool, and go on in the cloud."""
    edge = ScriptedChatModel(responses=[thought(thinker)], model_name="little")
    cloud = ChatOpenAI(model="big", base_url=url, api_key="none", max_retries=0, timeout=30)
    model = RoutedChatModel(edge=edge, cloud=cloud, router=AsTold(), max_retries=0, **settings)
    bound = model.bind_tools([weather])
    history: list[BaseMessage] = [HumanMessage("The weather in Rome?")]
    history.append(bound.invoke(history))
    asked = history[-1]
    assert isinstance(asked, AIMessage)
    assert asked.response_metadata["hybridflow"]["tier"] == "edge"
    history.append(ToolMessage(weather("Rome"), tool_call_id=asked.tool_calls[0]["id"]))
    history.append(HumanMessage("And a hard question."))
    return bound.invoke(history)


@thinkers
def test_conversation_is_accepted_when_it_goes_to_the_cloud_in_the_middle(
    thinker: str, site: Any
) -> None:
    url, bodies = site
    answer = talk(url, thinker)
    assert answer.response_metadata["hybridflow"]["tier"] == "cloud"
    assert answer.response_metadata["hybridflow"]["attempts"][0]["status"] == "ok"
    (body,) = bodies()
    wire = json.dumps(body["messages"])
    assert not [mark for mark in FOREIGN if mark in wire]


@thinkers
def test_texts_calls_and_results_are_on_the_wire_with_an_id_that_openai_takes(
    thinker: str, site: Any
) -> None:
    url, bodies = site
    talk(url, thinker)
    (body,) = bodies()
    asked, said, result, again = body["messages"]
    assert (asked["content"], again["content"]) == ("The weather in Rome?", "And a hard question.")
    assert said["content"] == "I look it up."
    (call,) = said["tool_calls"]
    assert json.loads(call["function"]["arguments"]) == {"city": "Rome"}
    assert call["id"] == result["tool_call_id"]
    assert len(call["id"]) <= 40
    assert result["content"] == "sunny in Rome"


@thinkers
@pytest.mark.parametrize("use_responses_api", [False, True])
def test_nothing_foreign_is_in_what_either_api_of_openai_gets(
    thinker: str, use_responses_api: bool
) -> None:
    client = ChatOpenAI(model="gpt", api_key="none", use_responses_api=use_responses_api)
    message = thought(thinker).model_copy(
        update={
            "response_metadata": {
                **THINKERS[thinker]["response_metadata"],
                "hybridflow": {"tier": "edge", "model": "little"},
            }
        }
    )
    history = [HumanMessage("?"), message, ToolMessage("sunny", tool_call_id=LONG_ID)]
    portable = portable_history(history, TierModel.of("cloud", client))
    wire = json.dumps(client._get_request_payload(portable), default=str)
    assert not [mark for mark in FOREIGN if mark in wire]
    assert "I look it up." in wire
    assert LONG_ID not in wire
