from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import HumanMessage, SystemMessage

from langchain_hybridflow.sandbox.tokens import count_message_tokens, tokenize


@given(st.text())
def test_tokens_joined_are_the_text(text: str) -> None:
    assert "".join(tokenize(text)) == text


def test_tokens_are_about_as_long_as_those_of_real_models() -> None:
    text = "The shop at Hilltop had 50 pens, received 2 boxes more and sold 30 of them on Friday."
    assert 3.0 <= len(text) / len(tokenize(text)) <= 5.0


def test_count_of_a_prompt_covers_every_message() -> None:
    one, two = SystemMessage("Be brief."), HumanMessage("What is 6 * 7?")
    both = count_message_tokens([one, two])
    assert both == count_message_tokens([one]) + count_message_tokens([two])
    assert both > len(tokenize("Be brief.")) + len(tokenize("What is 6 * 7?"))
