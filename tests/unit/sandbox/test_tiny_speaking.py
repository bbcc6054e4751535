from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.sandbox.tiny.speaking import Drawing, Said, Token, Utterance


def tokens(*pieces: str) -> Iterator[Token]:
    return iter([Token(piece) for piece in pieces])


def parts(utterance: Utterance) -> list[Said]:
    found = []
    while (said := utterance.step()) is not None:
        found.append(said)
    return found


def texts(utterance: Utterance) -> list[str]:
    return [said.text for said in parts(utterance)]


def test_utterance_says_each_token_at_once_when_nothing_can_stop_it() -> None:
    utterance = Utterance(tokens("a", "b", "c"))
    assert texts(utterance) == ["a", "b", "c", ""]
    assert (utterance.finish_reason, utterance.drawn) == ("stop", 3)


def test_utterance_draws_no_more_than_it_is_asked_for() -> None:
    drawn = []

    def drawing() -> Iterator[Token]:
        for piece in "abc":
            drawn.append(piece)
            yield Token(piece)

    Utterance(drawing()).step()
    assert drawn == ["a"]


def test_utterance_holds_back_what_may_become_a_stop_text() -> None:
    utterance = Utterance(tokens("one ", "E", "N", "x"), stop=("END",))
    assert texts(utterance) == ["one ", "", "", "ENx", ""]


def test_utterance_ends_before_the_stop_text_when_that_lies_across_tokens() -> None:
    utterance = Utterance(tokens("one E", "ND two", "three"), stop=("END",))
    assert "".join(texts(utterance)) == "one "
    assert (utterance.finish_reason, utterance.drawn) == ("stop", 2)


def test_utterance_takes_the_first_of_two_stop_texts() -> None:
    assert Utterance(tokens("abcd"), stop=("cd", "bc")).rest().text == "a"


def test_empty_stop_text_stops_nothing() -> None:
    assert Utterance(tokens("a", "b"), stop=("",)).rest().text == "ab"


def test_utterance_is_cut_off_at_its_limit() -> None:
    utterance = Utterance(tokens("a", "b", "c"), limit=2)
    assert utterance.rest().text == "ab"
    assert (utterance.finish_reason, utterance.drawn) == ("length", 2)


def test_utterance_that_is_cut_off_says_what_it_held_back() -> None:
    assert Utterance(tokens("a", "E", "N"), stop=("END",), limit=3).rest().text == "aEN"


def test_tokens_go_with_the_text_that_they_are_of() -> None:
    said = Utterance(tokens("12", "34", "56"), stop=("45",)).rest()
    assert said.text == "123"
    assert [token.text for token in said.tokens] == ["12", "34"]


def test_said_after_the_end_is_nothing() -> None:
    utterance = Utterance(tokens("a"))
    utterance.rest()
    assert utterance.step() is None


@given(
    text=st.text("ab", max_size=20),
    stop=st.lists(st.text("ab", min_size=1, max_size=4), max_size=3),
    seed=st.integers(0, 100),
)
def test_utterance_says_the_same_however_its_text_is_cut(
    text: str, stop: list[str], seed: int
) -> None:
    rng = random.Random(seed)
    pieces, left = [], text
    while left:
        size = rng.randint(1, 4)
        pieces.append(left[:size])
        left = left[size:]
    found = [text.index(mark) for mark in stop if mark in text]
    # The first to be complete ends it; of those that end together, the one that begins first.
    ends = {text.index(mark) + len(mark) for mark in stop if mark in text}
    utterance = Utterance(tokens(*pieces), stop=stop)
    said = utterance.rest().text
    if not ends:
        assert said == text
    else:
        assert text.startswith(said)
        assert min(found) <= len(said) < max(ends)
        assert not any(mark in said for mark in stop)


@pytest.mark.parametrize("temperature", [-0.1, float("nan"), float("inf")])
def test_temperature_that_is_none_is_refused(temperature: float) -> None:
    with pytest.raises(ConfigurationError, match="temperature"):
        Drawing(temperature=temperature)


def test_negative_number_of_likely_tokens_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="top_logprobs is -1"):
        Drawing(top=-1)
