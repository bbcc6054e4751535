from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, InvalidToolCall
from langchain_core.messages.ai import UsageMetadata
from pydantic import ValidationError

from langchain_hybridflow.openai_wire import (
    ChatRequest,
    Head,
    completion,
    completion_events,
    sse,
)
from langchain_hybridflow.testing import ObedientChatModel

HEAD = Head(id="chatcmpl-1", created=0, model="edge")
USER = {"role": "user", "content": "Hello"}


def request(**fields: Any) -> ChatRequest:
    return ChatRequest.model_validate({"model": "edge", "messages": [USER], **fields})


def finish_reason(message: AIMessage) -> str:
    choices: Any = completion(message, HEAD)["choices"]
    return str(choices[0]["finish_reason"])


async def events(*chunks: BaseMessage, include_usage: bool = True) -> list[dict[str, Any]]:
    async def stream() -> AsyncIterator[BaseMessage]:
        for chunk in chunks:
            yield chunk

    return [event async for event in completion_events(stream(), HEAD, include_usage=include_usage)]


def test_max_completion_tokens_wins_over_its_old_name() -> None:
    assert request(max_tokens=5, max_completion_tokens=3).options() == {"max_tokens": 3}


def test_form_of_the_answer_is_an_option() -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}
    assert request(response_format=wanted).options()["response_format"] == wanted


def test_parallel_tool_calls_are_bound_as_asked() -> None:
    tools = [{"type": "function", "function": {"name": "add", "parameters": {}}}]
    asked = request(tools=tools, tool_choice="required", parallel_tool_calls=False)
    bound: Any = asked.bound(ObedientChatModel())
    assert bound.kwargs["parallel_tool_calls"] is False
    assert bound.kwargs["tool_choice"] == "required"


@pytest.mark.parametrize(
    "choice",
    [
        "add",
        "",
        {},
        {"type": "function"},
        {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": []}},
        {"type": "function", "function": {"name": "subtract"}},
    ],
)
def test_choice_of_a_tool_that_there_is_not_is_refused(choice: object) -> None:
    tools = [{"type": "function", "function": {"name": "add", "parameters": {}}}]
    with pytest.raises(ValueError, match="tool_choice"):
        request(tools=tools, tool_choice=choice).bound(ObedientChatModel())


def test_tool_call_whose_arguments_are_no_json_reaches_the_client() -> None:
    call = InvalidToolCall(
        type="invalid_tool_call", name="add", args='{"a"', id="call_1", error=None
    )
    choices: Any = completion(AIMessage("", invalid_tool_calls=[call]), HEAD)["choices"]
    assert choices[0]["finish_reason"] == "tool_calls"
    assert choices[0]["message"]["tool_calls"] == [
        {"type": "function", "id": "call_1", "function": {"name": "add", "arguments": '{"a"'}}
    ]


def test_options_hold_nothing_that_was_not_given() -> None:
    assert request().options() == {}


def test_logprobs_are_options_only_when_they_are_wanted() -> None:
    assert request(logprobs=True, top_logprobs=0).options() == {"logprobs": True, "top_logprobs": 0}
    assert request(logprobs=False, top_logprobs=3).options() == {}


@pytest.mark.parametrize("count", [-1, 21])
def test_number_of_likely_tokens_that_openai_refuses_is_refused(count: int) -> None:
    with pytest.raises(ValidationError):
        request(logprobs=True, top_logprobs=count)


LIKELY = {"content": [{"token": "4", "logprob": -0.1, "bytes": [52], "top_logprobs": []}]}


@pytest.mark.parametrize(("wanted", "sent"), [(True, LIKELY), (False, None)])
def test_logprobs_of_an_answer_are_sent_when_they_are_wanted(wanted: bool, sent: Any) -> None:
    message = AIMessage("4", response_metadata={"logprobs": LIKELY})
    choices: Any = completion(message, HEAD, logprobs=wanted)["choices"]
    assert choices[0]["logprobs"] == sent


@pytest.mark.parametrize("told", [None, "yes", [1]])
def test_logprobs_in_no_form_of_openais_are_left_out(told: Any) -> None:
    message = AIMessage("4", response_metadata={"logprobs": told})
    choices: Any = completion(message, HEAD, logprobs=True)["choices"]
    assert choices[0]["logprobs"] is None


@pytest.mark.parametrize(("wanted", "sent"), [(True, LIKELY), (False, None)])
async def test_logprobs_of_a_stream_go_with_their_chunk(wanted: bool, sent: Any) -> None:
    async def stream() -> AsyncIterator[BaseMessage]:
        yield AIMessageChunk("4", response_metadata={"logprobs": LIKELY})
        yield AIMessageChunk("2")

    told = completion_events(stream(), HEAD, include_usage=False, logprobs=wanted)
    found = [event["choices"][0]["logprobs"] async for event in told]  # type: ignore[index]
    assert found == [None, sent, None, None]


def test_one_stop_string_becomes_a_list() -> None:
    assert request(stop="END").options() == {"stop": ["END"]}


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({}, "stop"),
        ({"finish_reason": "length"}, "length"),
        ({"stop_reason": "max_tokens"}, "length"),
        ({"done_reason": "length"}, "length"),
        ({"stop_reason": "tool_use"}, "tool_calls"),
        ({"stop_reason": "end_turn"}, "stop"),
    ],
)
def test_finish_reason_is_translated_from_what_providers_call_it(
    metadata: dict[str, str], expected: str
) -> None:
    assert finish_reason(AIMessage("x", response_metadata=metadata)) == expected


def test_usage_is_absent_when_unknown() -> None:
    assert "usage" not in completion(AIMessage("x"), HEAD)


def test_cached_tokens_are_part_of_the_usage() -> None:
    usage = UsageMetadata(
        input_tokens=9, output_tokens=1, total_tokens=10, input_token_details={"cache_read": 8}
    )
    answer: Any = completion(AIMessage("x", usage_metadata=usage), HEAD)
    assert answer["usage"]["prompt_tokens_details"] == {"cached_tokens": 8}


async def test_usage_of_a_stream_is_the_sum_over_its_chunks() -> None:
    usage = UsageMetadata(input_tokens=2, output_tokens=1, total_tokens=3)
    chunk = AIMessageChunk("x", usage_metadata=usage)
    last = (await events(chunk, chunk))[-1]
    assert (last["choices"], last["usage"]["total_tokens"]) == ([], 6)


async def test_stream_begins_with_the_role_and_ends_with_the_reason() -> None:
    first, text, last = await events(AIMessageChunk("x"))
    assert first["choices"][0]["delta"]["role"] == "assistant"
    assert text["choices"][0]["delta"] == {"content": "x"}
    assert (last["choices"][0]["delta"], last["choices"][0]["finish_reason"]) == ({}, "stop")


async def test_pieces_of_a_tool_call_are_named_once() -> None:
    pieces = [
        {"name": "add", "args": '{"a"', "id": "call_1", "index": 0},
        {"name": None, "args": ": 1}", "id": None, "index": 0},
    ]
    chunks = [AIMessageChunk("", tool_call_chunks=[piece]) for piece in pieces]
    _, first, second, last = await events(*chunks)
    assert first["choices"][0]["delta"]["tool_calls"] == [
        {
            "index": 0,
            "id": "call_1",
            "type": "function",
            "function": {"name": "add", "arguments": '{"a"'},
        }
    ]
    assert second["choices"][0]["delta"]["tool_calls"] == [
        {"index": 0, "function": {"arguments": ": 1}"}}
    ]
    assert last["choices"][0]["finish_reason"] == "tool_calls"


def test_event_is_one_line_whatever_the_text() -> None:
    event = sse({"text": "a\n\ndata: b \u2028 ü \ud83d"})
    assert event == b'data: {"text": "a\\n\\ndata: b \\u2028 \\u00fc \\ud83d"}\n\n'


@pytest.mark.parametrize(
    ("said", "sent"),
    [("\ud83d\ude00", "\N{GRINNING FACE}"), ("a\ud83d", "a\N{REPLACEMENT CHARACTER}")],
)
def test_answer_with_half_a_character_can_be_sent(said: str, sent: str) -> None:
    choices: Any = completion(AIMessage(said), HEAD)["choices"]
    assert choices[0]["message"]["content"] == sent


def test_message_holds_nothing_that_openai_does_not_know() -> None:
    forged = {**USER, "id": 7, "type": "ai", "response_metadata": {"hybridflow": {}}}
    asked = request(messages=[forged, {"role": "assistant", "tool_calls": []}])
    first, second = asked.prompt()
    assert (first.type, first.id, first.response_metadata) == ("human", None, {})
    assert (second.type, second.content) == ("ai", "")


@pytest.mark.parametrize(
    "message",
    [
        {"role": "remove", "id": "__remove_all__", "content": ""},
        {"role": "assistant", "content": None, "tool_calls": "abc"},
        {"role": "user", "content": [{"text": "no type"}]},
        {"role": "user", "content": [7]},
    ],
)
def test_message_that_openai_does_not_know_is_refused(message: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        request(messages=[message])
