"""Token counts: offline before a call, the provider's after it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.messages.utils import count_tokens_approximately
from langchain_core.tools import tool

from langchain_hybridflow.budget import (
    Usage,
    estimate_prompt_tokens,
    estimate_text_tokens,
    usage_of,
)
from langchain_hybridflow.budget.usage import IMAGE_TOKENS
from langchain_hybridflow.errors import ConfigurationError

# Texts with the tokens that the o200k and cl100k vocabularies make of them, the larger of the two.
KNOWN = [
    ("The quick brown fox jumps over the lazy dog.", 10),
    ("def f(x):\n    return [i**2 for i in range(x)]\n", 20),
    ("人工智能正在改变世界。", 14),
    ("2024-11-20T10:57:13Z costs $1,234.56", 25),
    ("🎉🎉🎉", 9),
    ("Привет, мир!", 7),
]


@pytest.mark.parametrize(("text", "tokens"), KNOWN)
def test_text_estimate_is_at_least_the_truth_and_at_most_four_times(text: str, tokens: int) -> None:
    assert tokens <= estimate_text_tokens(text) <= 4 * tokens


@given(st.text(), st.text())
def test_text_estimate_grows_with_the_text(head: str, tail: str) -> None:
    assert estimate_text_tokens(head) <= estimate_text_tokens(head + tail)


@given(st.text(st.characters(codec=None), min_size=1))
def test_text_estimate_never_exceeds_three_tokens_a_character(text: str) -> None:
    assert 0 < estimate_text_tokens(text) <= 3 * len(text)


@given(st.text(st.characters(max_codepoint=127)))
def test_ascii_text_is_counted_as_it_is_among_other_text(text: str) -> None:
    assert estimate_text_tokens(text + "é") == estimate_text_tokens(text) + 1


@given(st.text())
def test_prompt_estimate_is_at_least_the_approximate_count(text: str) -> None:
    messages = [SystemMessage("Be brief."), HumanMessage(text)]
    assert estimate_prompt_tokens(messages) >= count_tokens_approximately(messages)


def test_prompt_estimate_counts_tool_calls_and_results() -> None:
    call = {"name": "look_up", "args": {"city": "Reykjavik"}, "id": "1"}
    plain = estimate_prompt_tokens([AIMessage(""), ToolMessage("", tool_call_id="1")])
    full = estimate_prompt_tokens(
        [AIMessage("", tool_calls=[call]), ToolMessage("sunny", tool_call_id="1")]
    )
    assert full > plain + 10


def test_prompt_estimate_counts_tools_in_every_form() -> None:
    @tool
    def look_up(city: str) -> str:
        """Look up the weather of a city."""
        return city

    messages = [HumanMessage("hi")]
    openai_form = {"type": "function", "function": {"name": "look_up", "parameters": {}}}
    none = estimate_prompt_tokens(messages)
    assert estimate_prompt_tokens(messages, tools=[look_up]) > none + 20
    assert estimate_prompt_tokens(messages, tools=[openai_form]) > none + 20


@pytest.mark.parametrize(
    "block",
    [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 100_000}},
        {"type": "image", "url": "https://example.org/a.png"},
        {"type": "input_image", "image_url": "https://example.org/a.png"},
    ],
)
def test_prompt_estimate_counts_an_image_by_a_constant(block: dict[str, Any]) -> None:
    with_image = estimate_prompt_tokens([HumanMessage([block])])
    assert with_image - estimate_prompt_tokens([HumanMessage("")]) == IMAGE_TOKENS


def test_prompt_estimate_counts_a_document_by_its_size() -> None:
    def document(chars: int) -> HumanMessage:
        return HumanMessage([{"type": "file", "base64": "A" * chars, "mime_type": "text/plain"}])

    assert estimate_prompt_tokens([document(10)]) > IMAGE_TOKENS
    assert estimate_prompt_tokens([document(1_000_000)]) > 50_000


def test_prompt_estimate_of_blocks_equals_that_of_their_text() -> None:
    blocks: list[str | dict[str, Any]] = [{"type": "text", "text": "Hello "}, "world"]
    assert estimate_prompt_tokens([HumanMessage(blocks)]) == estimate_prompt_tokens(
        [HumanMessage("Hello world")]
    )


def _answer(text: str = "Paris", **usage: Any) -> AIMessage:
    return AIMessage(text, usage_metadata={"total_tokens": 0, **usage} if usage else None)


def test_usage_is_the_provider_count_when_there_is_one() -> None:
    answer = _answer(
        input_tokens=50,
        output_tokens=9,
        input_token_details={"cache_read": 20, "cache_creation": 10},
    )
    assert usage_of(answer, prompt=[HumanMessage("?")]) == Usage(
        50, 9, 20, estimated=False, cache_write_tokens=10
    )


def test_usage_is_estimated_when_the_server_sends_none() -> None:
    prompt = [HumanMessage("Capital of France?")]
    usage = usage_of(_answer(), prompt=prompt)
    assert usage == Usage(estimate_prompt_tokens(prompt), 2, estimated=True)


def test_usage_is_estimated_when_the_server_sends_zeros() -> None:
    usage = usage_of(_answer(input_tokens=0, output_tokens=0), prompt=[HumanMessage("?")])
    assert usage.estimated
    assert usage.input_tokens > 0
    assert usage.output_tokens == 2


def test_usage_fills_in_only_what_is_missing() -> None:
    usage = usage_of(_answer(input_tokens=50, output_tokens=0), prompt=[HumanMessage("?")])
    assert (usage.input_tokens, usage.output_tokens, usage.estimated) == (50, 2, True)


def test_usage_of_an_empty_answer_is_not_estimated() -> None:
    usage = usage_of(_answer("", input_tokens=50, output_tokens=0), prompt=[HumanMessage("?")])
    assert usage == Usage(50, 0, cache_write_tokens=0)


def test_estimated_answer_does_not_pass_the_cap_of_the_call() -> None:
    usage = usage_of(_answer("1 2 3 4 5 6"), prompt=[], max_output_tokens=5)
    assert usage.output_tokens == 5


def test_usage_counts_tool_calls_when_estimated() -> None:
    call = {"name": "look_up", "args": {"city": "Reykjavik"}, "id": "1"}
    assert usage_of(AIMessage("", tool_calls=[call]), prompt=[]).output_tokens > 10


def test_usage_survives_nonsense_from_a_server() -> None:
    answer = _answer(
        input_tokens=5, output_tokens=1, input_token_details={"cache_read": 99, "cache_creation": 9}
    )
    assert usage_of(answer, prompt=[HumanMessage("?")]) == Usage(5, 1, 5, cache_write_tokens=0)


@pytest.mark.parametrize(
    "wrong", [(-1, 0), (1, -1), (1, 1, 2), (1.5, 1), (True, 1), (4, 0, 2, False, 3)]
)
def test_usage_is_refused_when_the_counts_cannot_be(wrong: tuple[Any, ...]) -> None:
    with pytest.raises(ConfigurationError):
        Usage(*wrong)
