"""The capable fake: what it does follows from the prompt and the options, and from nothing else."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.load import dumpd, load
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from pydantic import BaseModel, Field, TypeAdapter

from langchain_hybridflow.testing import ObedientChatModel, PromptWords


def weather(city: str) -> str:
    """Tell the weather."""
    return city


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def calls(prompt: Any, tools: Any = (weather, add), **options: Any) -> list[tuple[str, Any]]:
    answer = ObedientChatModel().bind_tools(list(tools), **options).invoke(prompt)
    return [(call["name"], call["args"]) for call in answer.tool_calls]


def test_answer_repeats_the_prompt() -> None:
    messages = [SystemMessage("Be brief."), HumanMessage("Hello")]
    assert ObedientChatModel().invoke(messages).content == "You said: Hello"


def test_answer_names_what_else_the_prompt_held() -> None:
    image = {"type": "image", "base64": "iVBORw0K", "mime_type": "image/png"}
    content: Any = [{"type": "text", "text": "Look"}, image]
    answer = ObedientChatModel().invoke([HumanMessage(content)])
    assert answer.content == "You said: Look (and I got: image)"


def test_tool_is_called_when_the_prompt_uses_its_name() -> None:
    assert calls("How is the weather in San Francisco, CA?") == [
        ("weather", {"city": "San Francisco, CA"})
    ]


def test_no_tool_is_called_when_the_prompt_names_none() -> None:
    assert calls("What is 1 + 2?") == []


def test_calls_are_made_as_written() -> None:
    assert calls("Do add(1, 2), add(30, -4).") == [
        ("add", {"a": 1, "b": 2}),
        ("add", {"a": 30, "b": -4}),
    ]


def test_tool_result_ends_the_calling() -> None:
    call = {"name": "weather", "args": {"city": "Rome"}, "id": "1", "type": "tool_call"}
    messages = [
        HumanMessage("How is the weather in Rome?"),
        AIMessage("", tool_calls=[call]),  # type: ignore[list-item]
        ToolMessage("sunny", tool_call_id="1"),
    ]
    assert calls(messages) == []
    assert [name for name, _ in calls(messages, tool_choice="any")] == ["add"]


@pytest.mark.parametrize("text", ["你好啊集团", "こんにちは株式会社", "Привет", "naïve 🦜"])
def test_text_beyond_ascii_stays_whole(text: str) -> None:
    model = ObedientChatModel().bind_tools([weather], tool_choice="any")
    prompt = f"Make one named '{text}' please"
    assert model.invoke(prompt).tool_calls[0]["args"] == {"city": text}
    pieces = [piece["args"] or "" for c in model.stream(prompt) for piece in c.tool_call_chunks]
    assert json.loads("".join(pieces)) == {"city": text}


def test_same_prompt_gets_the_same_answer() -> None:
    model = ObedientChatModel().bind_tools([weather])
    first, second = (model.invoke("How is the weather in Rome?") for _ in range(2))
    assert first.tool_calls == second.tool_calls


def test_ids_of_calls_differ_from_turn_to_turn() -> None:
    model = ObedientChatModel().bind_tools([weather], tool_choice="any")
    ids = {
        model.invoke([*[HumanMessage("weather")] * turn]).tool_calls[0]["id"]
        for turn in range(1, 4)
    }
    assert len(ids) == 3


def test_json_mode_uses_the_keys_that_the_prompt_names() -> None:
    answer = ObedientChatModel().invoke(
        "Give me 'a' and 'b'.", response_format={"type": "json_object"}
    )
    assert set(json.loads(str(answer.content))) == {"a", "b"}


@pytest.mark.parametrize(
    ("options", "text", "reason"),
    [
        ({}, "You said: one two three", "stop"),
        ({"stop": ["two"]}, "You said: one ", "stop"),
        ({"max_tokens": 3}, "You said: one", "length"),
        ({"max_tokens": 3, "stop": ["said"]}, "You ", "stop"),
    ],
)
def test_answer_ends_where_it_is_told_to(options: Any, text: str, reason: str) -> None:
    answer = ObedientChatModel().invoke("one two three", **options)
    assert (answer.content, answer.response_metadata["finish_reason"]) == (text, reason)


@pytest.mark.parametrize("report", [True, False])
async def test_usage_is_reported_once_and_alike(report: bool) -> None:
    model = ObedientChatModel(report_usage=report)
    whole = model.invoke("Hello there").usage_metadata
    chunks = [chunk.usage_metadata async for chunk in model.astream("Hello there")]
    assert [usage for usage in chunks if usage] == ([whole] if report else [])


@pytest.mark.filterwarnings("ignore:The function `load` is in beta")
def test_model_comes_back_from_its_dump() -> None:
    model = ObedientChatModel(model_name="mine", max_tokens=3)
    loaded = load(
        dumpd(model),
        allowed_objects=[ObedientChatModel],
        valid_namespaces=["langchain_hybridflow"],
    )
    assert loaded == model


# ---------------------------------------------------------------------------------------- schemas


class Address(BaseModel):
    city: str
    zip_code: int | None


class Order(BaseModel):
    name: str = Field(max_length=10)
    amount: int = Field(gt=0, lt=100)
    price: float = Field(ge=0.5)
    colour: str = Field(json_schema_extra={"enum": ["red", "blue"]})
    urgent: bool
    tags: list[str] = Field(min_length=2)
    address: Address
    note: str = ""


@given(st.text(max_size=200))
def test_value_is_valid_whatever_the_prompt(text: str) -> None:
    value = PromptWords(text).fill(Order.model_json_schema())
    order = TypeAdapter(Order).validate_python(value)
    assert order.note == "", "what is optional is left out"


def test_value_is_taken_from_the_prompt() -> None:
    text = "12 of 'socks', in blue, at 3.5 each, for Ada Lovelace in Rome, without haste"
    value = PromptWords(text).fill(Order.model_json_schema())
    assert (value["name"], value["amount"], value["price"]) == ("socks", 12, 3.5)
    assert (value["colour"], value["urgent"]) == ("blue", False)
    assert value["tags"] == ["Ada Lovelace", "Rome"]


def test_schema_that_holds_itself_ends() -> None:
    class Node(BaseModel):
        child: Node

    Node.model_rebuild(_types_namespace={"Node": Node})
    value, depth = PromptWords("x").fill(Node.model_json_schema()), 0
    while value:
        value, depth = value["child"], depth + 1
    assert 0 < depth < 20
