"""What an edge model is offered, how its reply is read, and what goes along when it asks."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult

from langchain_hybridflow.answer_or_ask import ASK_MARKER, Reply
from langchain_hybridflow.calls import TierModel
from langchain_hybridflow.calls.helping import form_of, instructed, no_help_because
from langchain_hybridflow.calls.replies import Reading
from langchain_hybridflow.calls.sharing import SUMMARY_CHARS, handed_over, summary_of
from langchain_hybridflow.calls.stripping import stripped, stripped_data
from langchain_hybridflow.routing import RouteRequest
from langchain_hybridflow.testing import ObedientChatModel, ScriptedChatModel

TOOL = {"type": "function", "function": {"name": "add", "parameters": {}}}
HELP = {"type": "function", "function": {"name": "ask_for_help", "parameters": {}}}
ASKS = {"name": "ask_for_help", "args": {"notes": " I got to 48. "}, "id": "1"}
ADDS = {"name": "add", "args": {"a": 1}, "id": "2"}


def tier(model: Any = None) -> TierModel:
    return TierModel.of("edge", model or ObedientChatModel())


def result_of(message: AIMessage) -> ChatResult:
    return ChatResult(generations=[ChatGeneration(message=message)], llm_output={"a": 1})


def cleaned(message: AIMessage, form: Any = "prompt", **fields: Any) -> AIMessage:
    reading = Reading(form, **fields)
    found = reading.cleaned(result_of(message), reading.read(message)).generations[0].message
    assert isinstance(found, AIMessage)
    return found


# ------------------------------------------------------------------------------- the offer


@pytest.mark.parametrize(
    ("wanted", "options", "form"),
    [
        ("auto", {}, "prompt"),
        ("auto", {"tools": [TOOL]}, "tool"),
        ("prompt", {"tools": [TOOL]}, "prompt"),
        ("trained", {"tools": [TOOL]}, "trained"),
        ("tool", {}, "tool"),
        ("tool", {"tools": [HELP]}, "prompt"),
        ("tool", {"tools": [TOOL], "tool_choice": "none"}, "prompt"),
        ("tool", {"tools": [{"type": "web_search", "name": "web_search"}]}, "tool"),
    ],
)
def test_form_is_chosen_by_what_the_call_allows(wanted: Any, options: Any, form: str) -> None:
    assert form_of(wanted, tier(), options) == form


def test_form_is_words_when_the_model_calls_no_tools() -> None:
    model = ScriptedChatModel(responses=["a"], profile={"tool_calling": False})
    assert form_of("tool", tier(model), {}) == "prompt"


@pytest.mark.parametrize(
    ("form", "options", "barred"),
    [
        ("prompt", {}, False),
        ("prompt", {"tools": [TOOL], "tool_choice": "auto"}, False),
        ("prompt", {"tools": [TOOL], "tool_choice": "any"}, True),
        ("tool", {"tools": [TOOL], "tool_choice": "any"}, False),
        ("tool", {"tools": [TOOL], "tool_choice": True}, False),
        ("tool", {"tools": [TOOL], "tool_choice": "add"}, True),
        ("trained", {"response_format": {"type": "json_object"}}, True),
        ("prompt", {"n": 3}, True),
        ("prompt", {"n": 1}, False),
    ],
)
def test_help_is_barred_where_there_is_no_place_to_ask(
    form: Any, options: Any, *, barred: bool
) -> None:
    assert (no_help_because(form, tier(), options) is not None) == barred


@pytest.mark.parametrize(
    ("messages", "first"),
    [
        ([HumanMessage("?")], "Now!"),
        ([], "Now!"),
        ([SystemMessage("")], "Now!"),
        ([SystemMessage("Be brief.")], "Be brief.\n\nNow!"),
        ([SystemMessage([{"type": "text", "text": "Be brief."}])], "Be brief.\n\nNow!"),
    ],
)
def test_instructions_stand_in_one_system_message(messages: list[BaseMessage], first: str) -> None:
    told = instructed(messages, "Now!")
    assert [message.type for message in told].count("system") == 1
    assert told[0].text == first


# ------------------------------------------------------------------------------- the reply


def test_blocks_that_are_not_text_are_kept() -> None:
    image = {"type": "image", "url": "https://example.org/cat.png"}
    thinking = {"type": "text", "text": "<think>a</think>"}
    message = AIMessage([thinking, image, {"type": "text", "text": "A cat."}])
    assert cleaned(message).content == [{"type": "text", "text": "A cat."}, image]


def test_reasoning_of_the_provider_is_not_replaced() -> None:
    message = AIMessage("<think>b</think>33", additional_kwargs={"reasoning_content": "a"}, id="7")
    found = cleaned(message)
    assert (found.text, found.additional_kwargs, found.id) == (
        "33",
        {"reasoning_content": "a"},
        "7",
    )


def test_result_is_the_very_same_when_there_is_nothing_to_clean() -> None:
    message = AIMessage(" 33\n", tool_calls=[ADDS])
    result = result_of(message)
    for form in ("prompt", "tool"):
        reading = Reading(form)  # type: ignore[arg-type]
        assert reading.cleaned(result, reading.read(message)) is result


def test_call_for_help_is_taken_out_and_other_calls_stay() -> None:
    raw = {"tool_calls": [{"id": "1"}], "refusal": None}
    message = AIMessage("Hm.", tool_calls=[ASKS, ADDS], additional_kwargs=raw)
    found = cleaned(message, "tool")
    assert [call["name"] for call in found.tool_calls] == ["add"]
    assert found.additional_kwargs == {"refusal": None}


def test_call_for_help_counts_though_its_arguments_are_broken() -> None:
    broken = {"name": "ask_for_help", "args": "{", "id": "1", "error": None}
    message = AIMessage("", invalid_tool_calls=[broken])
    assert Reading("tool").read(message).asks
    assert cleaned(message, "tool").invalid_tool_calls == []


def test_notes_of_the_call_are_what_was_found() -> None:
    assert Reading("tool").read(AIMessage("", tool_calls=[ASKS])).thinking == "I got to 48."


def call_chunk(name: str | None, args: str | None) -> ChatGenerationChunk:
    part = tool_call_chunk(name=name, args=args, id="1", index=0)
    return ChatGenerationChunk(message=AIMessageChunk("", tool_call_chunks=[part]))


def test_stream_is_decided_when_arguments_follow_the_name_of_the_tool() -> None:
    reading = Reading("tool")
    reading.take(call_chunk("ask_for_help", ""))
    assert not reading.is_decided
    reading.take(call_chunk(None, "{"))
    assert reading.is_decided


@pytest.mark.parametrize("fields", [{"shares": True}, {"asks": False}])
def test_stream_is_read_to_its_end_when_notes_are_wanted_or_there_is_no_help(fields: Any) -> None:
    reading = Reading("tool", **fields)
    reading.take(call_chunk("ask_for_help", ""))
    reading.take(call_chunk(None, "{}"))
    assert not reading.is_decided


def test_reading_begins_anew_when_the_model_is_called_again() -> None:
    reading = Reading("prompt")
    reading.take(ChatGenerationChunk(message=AIMessageChunk(ASK_MARKER[:9])))
    reading.restart()
    reading.take(ChatGenerationChunk(message=AIMessageChunk(ASK_MARKER)))
    assert reading.is_decided


# ---------------------------------------------------------------------------- what is read


def test_messages_without_the_format_are_the_very_same() -> None:
    messages = [
        SystemMessage("a < b"),
        HumanMessage([{"type": "text", "text": "<b>"}, {"type": "image", "base64": "aa"}]),
        AIMessage("", tool_calls=[ADDS]),
        ToolMessage("1", tool_call_id="2"),
    ]
    assert all(a is b for a, b in zip(stripped(messages), messages, strict=True))


def test_every_text_of_a_block_is_stripped() -> None:
    block = {"type": "document", "title": ASK_MARKER, "source": {"data": f"a{ASK_MARKER}"}}
    (found,) = stripped([HumanMessage([block, f"b{ASK_MARKER}"])])
    assert found.content == [{"type": "document", "title": "", "source": {"data": "a"}}, "b"]


def test_other_data_stays_what_it_is() -> None:
    assert stripped_data({"a": [1, None, ("<think>",)], "b": True}) == {
        "a": [1, None, ("<\\think>",)],
        "b": True,
    }


# ------------------------------------------------------------------------ what goes along

PROMPT: list[BaseMessage] = [HumanMessage("Why?")]


def shared(reply: Reply, share: Any = "full", policy: Any = None) -> tuple[list[BaseMessage], str]:
    request = RouteRequest(text="Why?", prompt="Why?")
    return handed_over(PROMPT, reply, share=share, request=request, policy=policy)


@pytest.mark.parametrize(
    ("reply", "share"),
    [
        (Reply("a", "b", asks=True, well_formed=True), "none"),
        (Reply("", None, asks=True, well_formed=True), "full"),
    ],
)
def test_prompt_stays_as_it_is_when_nothing_is_shared(reply: Reply, share: str) -> None:
    assert shared(reply, share) == (PROMPT, "")


def test_thinking_and_draft_go_along() -> None:
    messages, _ = shared(Reply("48 so far.", "Perhaps 50.", asks=True, well_formed=False))
    assert "48 so far.\nPerhaps 50." in messages[-1].text


def test_policy_sees_the_prompt_and_the_notes_together() -> None:
    seen: list[str] = []

    def note(request: RouteRequest) -> list[str]:
        seen.append(request.prompt)
        return ["edge", "cloud"]

    shared(Reply("48 so far.", None, asks=True, well_formed=True), policy=note)
    (prompt,) = seen
    assert prompt.startswith("Why?\n")
    assert "48 so far." in prompt


@pytest.mark.parametrize("text", ["x" * 5_000, "word " * 2_000, "a\n\n" * 3_000])
def test_summary_never_passes_its_limit(text: str) -> None:
    assert len(summary_of(text)) <= SUMMARY_CHARS
