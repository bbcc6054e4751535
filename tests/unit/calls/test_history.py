"""Histories that cross from one provider to another."""

from __future__ import annotations

import json
import re
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    AnyMessage,
    BaseMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)

from langchain_hybridflow.calls.history import portable_history
from langchain_hybridflow.calls.inner import TierModel
from langchain_hybridflow.routing import Tier
from langchain_hybridflow.testing import ScriptedChatModel

MODEL = ScriptedChatModel(responses=["."])
PICTURE = "aGVsbG8="
CANARIES = ("SIGNED", "CIPHERED", "THOUGHT", "STORED", "SERVERSIDE", "MARK", "resp_", "rs_", "msg_")


def target(provider: str = "openai", name: str = "gpt-x", tier: Tier = "cloud") -> TierModel:
    return TierModel(tier=tier, model=MODEL, name=name, origin=MODEL, provider=provider)


def answer(content: Any = "", **fields: Any) -> AIMessage:
    """An answer that the edge of another provider wrote."""
    metadata = {"hybridflow": {"tier": "edge", "model": "elsewhere"}}
    return AIMessage(content, response_metadata=metadata | fields.pop("metadata", {}), **fields)


def call(name: str = "add", call_id: str | None = "call_1") -> dict[str, Any]:
    return {"name": name, "args": {"a": 1}, "id": call_id, "type": "tool_call"}


def crossed(message: BaseMessage, to: TierModel | None = None) -> Any:
    return portable_history([message], to or target())[0]


FOREIGN_BLOCKS: dict[str, dict[str, Any]] = {
    "anthropic thinking": {"type": "thinking", "thinking": "THOUGHT", "signature": "SIGNED"},
    "anthropic redacted": {"type": "redacted_thinking", "data": "CIPHERED"},
    "anthropic tool": {"type": "tool_use", "id": "x", "name": "f", "input": {"a": "THOUGHT"}},
    "anthropic search": {"type": "server_tool_use", "id": "STORED", "name": "web", "input": {}},
    "anthropic found": {"type": "web_search_tool_result", "content": [{"url": "SERVERSIDE"}]},
    "openai reasoning": {"type": "reasoning", "id": "rs_1", "encrypted_content": "CIPHERED"},
    "openai search": {"type": "web_search_call", "id": "STORED", "status": "completed"},
    "openai call": {"type": "function_call", "id": "STORED", "call_id": "c", "arguments": "{}"},
    "gemini thought": {"type": "thinking", "thinking": "THOUGHT"},
    "gemini code": {"type": "executable_code", "executable_code": "SERVERSIDE"},
    "bedrock": {"type": "reasoning_content", "reasoning_content": {"text": "THOUGHT"}},
    "bedrock mark": {"cachePoint": {"type": "MARK"}},
    "standard reasoning": {"type": "reasoning", "reasoning": "THOUGHT", "extras": {"s": "SIGNED"}},
    "standard server call": {"type": "server_tool_call", "id": "STORED", "name": "w", "args": {}},
    "standard server result": {"type": "server_tool_result", "tool_call_id": "STORED"},
    "standard other": {"type": "non_standard", "value": {"type": "thinking", "t": "THOUGHT"}},
    "stored image": {"type": "image", "file_id": "STORED"},
    "nonsense image": {"type": "image_url", "image_url": None},
}


@pytest.mark.parametrize("kind", FOREIGN_BLOCKS)
def test_block_of_another_provider_is_dropped(kind: str) -> None:
    message = answer([FOREIGN_BLOCKS[kind], {"type": "text", "text": "Four."}])
    assert crossed(message).content == "Four."


@pytest.mark.parametrize("kind", FOREIGN_BLOCKS)
def test_block_of_the_targets_own_is_kept(kind: str) -> None:
    own = answer([FOREIGN_BLOCKS[kind]], metadata={"hybridflow": {"tier": "cloud", "model": "m"}})
    history: list[BaseMessage] = [own]
    assert portable_history(history, target(name="m")) is history


@pytest.mark.parametrize(
    "extras",
    [
        {"reasoning_content": "THOUGHT"},
        {"reasoning": {"id": "rs_1"}},
        {"__gemini_function_call_thought_signatures__": {"call_1": "SIGNED"}},
        {"thinking": {"signature": "SIGNED"}},
        {"audio": {"id": "STORED"}},
        {"tool_outputs": [{"id": "STORED"}]},
    ],
)
def test_provider_made_extras_are_dropped(extras: dict[str, Any]) -> None:
    assert crossed(answer("Four.", additional_kwargs=extras)).additional_kwargs == {}


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        (
            {"type": "image", "base64": PICTURE, "mime_type": "image/gif", "id": "STORED"},
            {"type": "image", "base64": PICTURE, "mime_type": "image/gif"},
        ),
        (
            {"type": "image_generation_call", "id": "STORED", "result": PICTURE},
            {"type": "image", "base64": PICTURE, "mime_type": "image/png"},
        ),
        (
            {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
            {"type": "image", "url": "https://example.com/a.png"},
        ),
    ],
)
def test_pictures_are_kept_in_standard_form(
    block: dict[str, Any], expected: dict[str, Any]
) -> None:
    message = answer(["See: ", block], metadata={"model_provider": "openai"})
    assert crossed(message).content == [{"type": "text", "text": "See: "}, expected]


def test_refusal_of_another_provider_becomes_text() -> None:
    assert crossed(answer([{"type": "refusal", "refusal": "No."}])).content == "No."


def test_stored_ids_are_dropped_and_names_given_by_langchain_kept() -> None:
    assert crossed(answer("Four.", id="msg_STORED")).id is None
    assert crossed(answer("Four.", id="lc_run--1")).id == "lc_run--1"
    assert "id" not in crossed(answer("Four.", metadata={"id": "resp_1"})).response_metadata


def test_our_record_survives() -> None:
    crossing = crossed(answer([{"type": "thinking"}], metadata={"output_version": "v1"}))
    assert crossing.response_metadata == {"hybridflow": {"tier": "edge", "model": "elsewhere"}}


@pytest.mark.parametrize(
    ("provider", "name", "call_id", "kept"),
    [
        ("openai", "gpt-4.1", "call_1", True),
        ("openai", "gpt-4.1", "x" * 41, False),
        ("openai", "gpt-4.1", "functions.add:0", False),
        ("anthropic", "claude", "toolu_01AbC-d", True),
        ("anthropic", "claude", "functions.add:0", False),
        ("ollama", "llama", "chatcmpl-tool-0123456789", True),
        ("mistral", "large", "call_1", False),
        ("mistral", "large", "abcDEF123", True),
        ("openai", "mistralai/Ministral-8B", "call_1", False),
        ("openai", "Mixtral-8x7B", "call_1", False),
    ],
)
def test_tool_call_id_is_replaced_when_the_target_would_refuse_it(
    provider: str, name: str, call_id: str, kept: bool
) -> None:
    history = [answer(tool_calls=[call(call_id=call_id)]), ToolMessage("3", tool_call_id=call_id)]
    asked, result = portable_history(history, target(provider, name))
    assert isinstance(asked, AIMessage)
    assert isinstance(result, ToolMessage)
    new_id = asked.tool_calls[0]["id"]
    assert new_id == result.tool_call_id
    assert (new_id == call_id) is kept
    is_mistral = re.search("i(s|x)tral", provider + name)
    assert re.fullmatch(r"[A-Za-z0-9]{9}" if is_mistral else r"[A-Za-z0-9_-]{1,40}", str(new_id))


def test_replaced_ids_are_the_same_at_every_turn() -> None:
    one = answer(tool_calls=[call(call_id="functions.add:0")])
    assert crossed(one).tool_calls == crossed(deepcopy(one)).tool_calls


def test_different_ids_stay_different() -> None:
    calls = [call(call_id=f"functions.add:{number}") for number in range(100)]
    ids = {one["id"] for one in crossed(answer(tool_calls=calls), target("mistral")).tool_calls}
    assert len(ids) == 100


def test_own_tool_call_keeps_its_id_whatever_it_is() -> None:
    own = answer(
        tool_calls=[call(call_id="functions.add:0")],
        metadata={"hybridflow": {"tier": "cloud", "model": "gpt-x"}},
    )
    history: list[BaseMessage] = [own, ToolMessage("3", tool_call_id="functions.add:0")]
    assert portable_history(history, target()) is history


@pytest.mark.parametrize("own_first", [True, False])
def test_own_tool_call_keeps_its_result_when_a_foreign_one_had_the_same_id(
    *, own_first: bool
) -> None:
    shared = "functions.add:0"
    record = {"hybridflow": {"tier": "cloud", "model": "gpt-x"}}
    foreign = [
        answer(tool_calls=[call(call_id=shared)]),
        ToolMessage("foreign", tool_call_id=shared),
    ]
    own = [
        AIMessage("", tool_calls=[call(call_id=shared)], response_metadata=record),
        ToolMessage("own", tool_call_id=shared),
    ]
    turns = [*own, *foreign] if own_first else [*foreign, *own]
    crossing: list[Any] = portable_history(turns, target())
    ids = {
        result.content: (asked.tool_calls[0]["id"], result.tool_call_id)
        for asked, result in zip(crossing[::2], crossing[1::2], strict=True)
    }
    assert ids["own"] == (shared, shared)
    assert ids["foreign"][0] == ids["foreign"][1] != shared


def test_unreadable_call_is_dropped_unless_it_was_answered() -> None:
    broken = {"name": "add", "args": "{", "id": "a:1", "error": "?", "type": "invalid_tool_call"}
    message = answer("", invalid_tool_calls=[broken])
    assert crossed(message).invalid_tool_calls == []
    asked, result = portable_history([message, ToolMessage("?", tool_call_id="a:1")], target())
    assert isinstance(asked, AIMessage)
    assert isinstance(result, ToolMessage)
    assert asked.invalid_tool_calls[0]["id"] == result.tool_call_id != "a:1"


def test_chunk_becomes_a_whole_message() -> None:
    piece = {"name": "add", "args": '{"a": 1}', "id": "a:1", "index": 0}
    chunk = AIMessageChunk("", tool_call_chunks=[piece], chunk_position="last")
    crossing = crossed(chunk)
    assert type(crossing) is AIMessage
    assert [one["args"] for one in crossing.tool_calls] == [{"a": 1}]


MARKED = {"type": "text", "text": "long", "cache_control": {"type": "ephemeral"}}


@pytest.mark.parametrize("kind", [HumanMessage, SystemMessage])
@pytest.mark.parametrize(("provider", "kept"), [("openai", False), ("anthropic", True)])
def test_cache_mark_is_dropped_for_who_does_not_read_it(
    kind: type[HumanMessage | SystemMessage], provider: str, kept: bool
) -> None:
    crossing = crossed(kind([MARKED]), target(provider))
    assert crossing.content == [MARKED if kept else {"type": "text", "text": "long"}]


def test_cache_mark_of_a_tool_result_and_of_extras_is_dropped() -> None:
    block = {"type": "text", "text": "3", "extras": {"cache_control": {}, "other": 1}}
    crossing = crossed(ToolMessage([block], tool_call_id="1"))
    assert crossing.content == [{"type": "text", "text": "3", "extras": {"other": 1}}]


def test_block_that_is_only_a_mark_is_dropped() -> None:
    blocks: list[Any] = ["text", {"cachePoint": {"type": "default"}}]
    assert crossed(HumanMessage(blocks)).content == ["text"]
    assert crossed(HumanMessage(blocks), target("amazon_bedrock")).content == blocks


@pytest.mark.parametrize(
    ("metadata", "own"),
    [
        ({"model_provider": "openai", "model_name": "gpt-x"}, True),
        ({"model_provider": "azure", "model_name": "gpt-x-2025-04-14"}, True),
        ({"model_name": "gpt-x-latest"}, True),
        ({"model_provider": "openai"}, True),
        ({"model_provider": "openai", "model_name": "gpt-x-mini-2025-04-14"}, False),
        ({"model_provider": "anthropic", "model_name": "gpt-x"}, False),
        ({"hybridflow": {"tier": "cloud", "model": "gpt-x"}}, True),
        ({"hybridflow": {"tier": "cloud", "model": "gpt-y"}}, False),
        ({"hybridflow": {"tier": "edge", "model": "gpt-x"}, "model_provider": "openai"}, False),
        ({}, False),
    ],
)
def test_writer_is_known_by_record_or_metadata(metadata: dict[str, Any], own: bool) -> None:
    message = AIMessage([{"type": "reasoning", "id": "rs_1"}], response_metadata=metadata)
    history: list[BaseMessage] = [message]
    assert (portable_history(history, target()) is history) is own


def test_ordinary_conversation_is_the_same_list() -> None:
    history: list[BaseMessage] = [
        SystemMessage("Be brief."),
        HumanMessage([{"type": "text", "text": "2 + 2?"}]),
        answer("", tool_calls=[call()], additional_kwargs={"refusal": None}, id="lc_run--1"),
        ToolMessage("4", tool_call_id="call_1"),
        answer("Four."),
    ]
    assert portable_history(history, target()) is history


# Any history.

texts = st.text(max_size=8)
call_ids = st.one_of(st.sampled_from(["call_1", "functions.add:0", "x" * 50, "abcdefgh1", ""]))
blocks = st.one_of(
    texts,
    st.builds(lambda text: {"type": "text", "text": text, "citations": ["SERVERSIDE"]}, texts),
    st.sampled_from(list(FOREIGN_BLOCKS.values())),
    st.just({"type": "image", "base64": PICTURE, "id": "STORED"}),
    st.just({"type": "text", "text": "t", "cache_control": "MARK"}),
)
contents = st.one_of(texts, st.lists(blocks, max_size=4))
answers = st.builds(
    lambda content, ids, extras, provider, own_id: AIMessage(
        content,
        tool_calls=[call(call_id=one) for one in ids],
        additional_kwargs=extras,
        response_metadata={"model_provider": provider, "output_version": "v1", "id": "resp_1"},
        id=own_id,
    ),
    contents,
    st.lists(call_ids, max_size=2),
    st.sampled_from([{}, {"reasoning_content": "THOUGHT"}, {"refusal": None}]),
    st.sampled_from(["anthropic", "google_genai", "bedrock_converse", "groq", None, "unheard of"]),
    st.sampled_from(["msg_1", None, "lc_run--1"]),
)
histories = st.lists(
    st.one_of(
        st.builds(HumanMessage, contents),
        answers,
        st.builds(lambda text, given: ToolMessage(text, tool_call_id=given), texts, call_ids),
    ),
    max_size=5,
)
targets = st.sampled_from([target(), target("mistral"), target("ollama", "llama")])


def ai_only(messages: list[Any]) -> list[AIMessage]:
    return [message for message in messages if isinstance(message, AIMessage)]


@given(histories, targets)
def test_nothing_foreign_remains_in_any_history(history: list[AnyMessage], to: TierModel) -> None:
    crossing = portable_history(list(history), to)
    wire = json.dumps([message.model_dump() for message in ai_only(crossing)])
    assert not [canary for canary in CANARIES if canary in wire]


@given(histories, targets)
def test_texts_and_tool_calls_of_any_history_stay(history: list[Any], to: TierModel) -> None:
    crossing = portable_history(list(history), to)
    assert [message.text for message in crossing] == [message.text for message in history]
    for before, after in zip(ai_only(history), ai_only(crossing), strict=True):
        assert [(c["name"], c["args"]) for c in before.tool_calls] == [
            (c["name"], c["args"]) for c in after.tool_calls
        ]


@given(histories, targets)
def test_any_history_is_settled_after_one_crossing(history: list[Any], to: TierModel) -> None:
    once = portable_history(list(history), to)
    assert portable_history(once, to) is once


@given(histories, targets)
def test_the_callers_messages_are_never_changed(history: list[Any], to: TierModel) -> None:
    before = deepcopy(history)
    portable_history(history, to)
    assert history == before
