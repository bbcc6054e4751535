"""Tools through both tiers: bound late, by whichever model is chosen."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel, Field
from routedkit import (
    ROUTERS,
    Way,
    both_tiers,
    every_way,
    obedient,
    options_seen,
    scripted,
    sums,
    weather,
)

from langchain_hybridflow import RoutedChatModel
from langchain_hybridflow.calls.options import own_options
from langchain_hybridflow.testing import ObedientChatModel, ScriptedChatModel


class Trip(BaseModel):
    """Book a trip."""

    city: str = Field(description="where to")


@tool
def lookup(word: str) -> str:
    """Look a word up."""
    return word


@both_tiers
@every_way
async def test_tool_is_called_by_the_answering_model(way: Way, tier: str) -> None:
    answer = await way(obedient(tier).bind_tools([weather]), "How is the weather in Paris?")
    assert [(call["name"], call["args"]) for call in answer.tool_calls] == [
        ("weather", {"city": "Paris"})
    ]
    assert answer.response_metadata["hybridflow"]["tier"] == tier


@every_way
async def test_parallel_calls_come_as_several(way: Way) -> None:
    model = obedient().bind_tools([weather, sums])
    answer = await way(model, "Say sums(1, 2), sums(3, 4) and the weather in Rome.")
    assert sorted(str(call["args"]) for call in answer.tool_calls) == [
        "{'a': 1, 'b': 2}",
        "{'a': 3, 'b': 4}",
        "{'city': 'Rome'}",
    ]
    assert len({call["id"] for call in answer.tool_calls}) == 3


def test_parallel_calls_can_be_switched_off() -> None:
    model = obedient().bind_tools([sums], parallel_tool_calls=False)
    assert len(model.invoke("Say sums(1, 2) and sums(3, 4).").tool_calls) == 1


def test_tool_call_is_streamed_piece_by_piece() -> None:
    model = obedient().bind_tools([weather])
    chunks = [chunk.tool_call_chunks for chunk in model.stream("How is the weather in Paris?")]
    pieces = [chunk[0] for chunk in chunks if chunk]
    assert pieces[0]["name"] == "weather"
    assert len(pieces) > 2
    assert "".join(piece["args"] or "" for piece in pieces) == '{"city": "Paris"}'


@both_tiers
@pytest.mark.parametrize(
    ("choice", "names"),
    [
        ("any", ["weather"]),
        ("required", ["weather"]),
        (True, ["weather"]),
        ("sums", ["sums"]),
        ({"type": "function", "function": {"name": "sums"}}, ["sums"]),
        ("auto", []),
        ("none", []),
        (None, []),
        (False, []),
    ],
)
def test_tool_choice_means_what_it_means_everywhere(
    tier: str, choice: Any, names: list[str]
) -> None:
    model = obedient(tier).bind_tools([weather, sums], tool_choice=choice)
    assert [call["name"] for call in model.invoke("Hello!").tool_calls] == names


def test_tool_choice_none_holds_when_the_prompt_asks_for_a_tool() -> None:
    model = obedient().bind_tools([weather], tool_choice="none")
    assert model.invoke("How is the weather in Paris?").tool_calls == []


def test_binding_holds_plain_dicts() -> None:
    binding: Any = obedient().bind_tools([weather, Trip, lookup], tool_choice="any")
    names = [bound["function"]["name"] for bound in binding.kwargs["tools"]]
    assert names == ["weather", "Trip", "lookup"]
    assert binding.kwargs["tool_choice"] == "any"


def test_options_are_in_the_form_of_the_model_that_is_called() -> None:
    clients = [ChatOpenAI(model="gpt-4.1", api_key="none"), ObedientChatModel()]
    options = {"tools": [Trip], "tool_choice": "any", "strict": True}
    openai, neutral = (own_options(client, options)[1] for client in clients)
    assert openai["tool_choice"] == "required"
    assert openai["tools"][0]["function"]["strict"] is True
    assert neutral["tool_choice"] == "any"
    assert "strict" not in openai.keys() | neutral.keys()


def test_strict_is_written_into_the_tools() -> None:
    model = scripted()
    model.bind_tools([weather], strict=True).invoke("Hello!")
    seen = options_seen(model, "edge")
    assert seen["tools"][0]["function"]["strict"] is True
    assert "strict" not in seen, "a model that knows no such option must not get it"


def test_a_providers_own_tool_is_left_as_it_is() -> None:
    search = {"type": "web_search_20250305", "name": "web_search"}
    binding: Any = obedient().bind_tools([search])
    assert binding.kwargs["tools"] == [search]


@every_way
async def test_other_tier_answers_when_the_chosen_one_knows_no_tools(way: Way) -> None:
    model = obedient("edge", edge=FakeListChatModel(responses=["I have no hands."]))
    answer = await way(model.bind_tools([weather]), "How is the weather in Paris?")
    assert answer.tool_calls[0]["name"] == "weather"
    attempts = answer.response_metadata["hybridflow"]["attempts"]
    assert [(attempt["tier"], attempt["status"]) for attempt in attempts] == [
        ("edge", "refused"),
        ("cloud", "ok"),
    ]


def test_not_implemented_is_raised_when_no_tier_may_stand_in() -> None:
    handless = FakeListChatModel(responses=["I have no hands."])
    model = obedient("edge", edge=handless, on_edge_error="raise").bind_tools([weather])
    with pytest.raises(NotImplementedError):
        model.invoke("How is the weather in Paris?")


def test_tool_result_is_read_by_the_other_tier() -> None:
    question = HumanMessage("How is the weather in Paris?")
    call = obedient("edge").bind_tools([weather]).invoke([question])
    result = ToolMessage("Sunny", tool_call_id=call.tool_calls[0]["id"])
    answer = obedient("cloud").bind_tools([weather]).invoke([question, call, result])
    assert answer.text == "The tool said: Sunny"


def test_tools_are_reserved_for() -> None:
    model = obedient("cloud", cloud=ScriptedChatModel(responses=["Hi"], report_usage=False))
    plain = model.invoke("Hello!").usage_metadata
    seen: list[int] = []

    class Noting:
        def route(self, request: Any) -> Any:
            seen.append(request.prompt_tokens)
            return ROUTERS["cloud"].route(request)

    noting = RoutedChatModel(edge=model.edge, cloud=model.cloud, router=Noting())
    noting.invoke("Hello!")
    noting.bind_tools([weather, sums]).invoke("Hello!")
    assert plain is not None
    assert seen[1] > seen[0] + 50


def test_tools_of_a_copied_model_are_called_on_the_copy() -> None:
    class Copying(ObedientChatModel):
        def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
            copied = self.model_copy(update={"model_name": "copied"})
            return ObedientChatModel.bind_tools(copied, tools, **kwargs)

    answer = obedient(edge=Copying()).bind_tools([weather]).invoke("weather in Oslo?")
    assert answer.response_metadata["model_name"] == "copied"


def test_call_options_given_by_hand_are_bound_late_too() -> None:
    model = obedient()
    formatted: Any = model.bind_tools([weather])
    answer = model.invoke("Hello!", tools=formatted.kwargs["tools"], tool_choice="any")
    assert isinstance(answer, AIMessage)
    assert answer.tool_calls
