from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_hybridflow.routing import surface_difficulty


@given(st.text())
def test_level_is_one_to_nine_for_any_text(text: str) -> None:
    assert 1 <= surface_difficulty(text).level <= 9


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("", 1),
        ("Who wrote Faust?", 1),
        ("Add 2 and 3.", 3),
        ("Prove it.", 2),
        ("```x```", 2),
        ("One. Two. Three.", 2),
        ("Why? " * 20, 4),
    ],
)
def test_level_counts_the_signs(text: str, level: int) -> None:
    assert surface_difficulty(text).level == level


def test_level_does_not_grow_with_length_alone() -> None:
    assert surface_difficulty("a pleasant walk along the river " * 500).level == 1


def test_reasoning_word_counts_once_when_it_is_repeated() -> None:
    assert surface_difficulty("why why WHY").signs == ("1 reasoning words",)


@pytest.mark.parametrize("text", ["1" * 10**6, "1," * 500_000, ". " * 500_000, "a\n" * 500_000])
def test_megabyte_is_read_in_a_moment(text: str) -> None:
    started_s = time.perf_counter()
    surface_difficulty(text)
    assert time.perf_counter() - started_s < 0.5
