"""What a call needs and a model lacks: unknown is able, and what fits is never refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_hybridflow.routing import Needs, lacks
from langchain_hybridflow.routing.capabilities import CHARS_PER_TOKEN, fewest_tokens

ABILITIES = {
    "tools": "tool_calling",
    "structured_output": "structured_output",
    "image_inputs": "image_inputs",
    "audio_inputs": "audio_inputs",
    "pdf_inputs": "pdf_inputs",
    "video_inputs": "video_inputs",
}
EVERYTHING = Needs(
    **dict.fromkeys(ABILITIES, True), any_structured_output=True, min_prompt_tokens=10**9
)


@pytest.mark.parametrize(("need", "ability"), ABILITIES.items())
def test_need_is_lacking_only_when_the_profile_says_no(need: str, ability: str) -> None:
    needs = Needs(**{need: True})
    found = [bool(lacks({ability: value}, needs)) for value in (False, True, None)]
    assert found == [True, False, False]


@pytest.mark.parametrize("profile", [None, {}, {"name": "x"}, {"max_input_tokens": 0}])
def test_nothing_is_lacking_when_nothing_is_known(profile: Any) -> None:
    assert lacks(profile, EVERYTHING) == ()


@pytest.mark.parametrize(
    ("profile", "lacking"),
    [
        ({"structured_output": False}, False),
        ({"structured_output": False, "tool_calling": True}, False),
        ({"structured_output": True, "tool_calling": False}, False),
        ({"structured_output": False, "tool_calling": False}, True),
    ],
)
def test_structured_output_may_be_given_by_a_tool_call(
    profile: dict[str, Any], lacking: bool
) -> None:
    assert bool(lacks(profile, Needs(any_structured_output=True))) is lacking


@pytest.mark.parametrize(("tokens", "fits"), [(100, True), (101, False)])
def test_prompt_is_refused_when_even_its_fewest_tokens_do_not_fit(tokens: int, fits: bool) -> None:
    assert (lacks({"max_input_tokens": 100}, Needs(min_prompt_tokens=tokens)) == ()) is fits


@given(st.lists(st.text(st.characters(exclude_categories=["Z", "C"]), min_size=1, max_size=8)))
def test_fewest_tokens_never_exceed_the_number_of_short_words(words: list[str]) -> None:
    assert fewest_tokens(" ".join(words)) <= len(words)


def test_fewest_tokens_do_not_count_spaces() -> None:
    assert fewest_tokens("x" * CHARS_PER_TOKEN + " \n\t" * 1_000) == 1
