"""Puzzles of numbers: made from a seed, solved by the cloud model, checked by their value."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.sandbox import (
    Puzzle,
    generate_puzzles,
    is_solved,
    sandbox_cloud,
    sandbox_edge,
)
from langchain_hybridflow.sandbox.chains import chains, first_chain, write_chain
from langchain_hybridflow.sandbox.countdown import is_reached, read_countdown
from langchain_hybridflow.sandbox.operations import Unsolvable
from langchain_hybridflow.sandbox.solver import read_assignment

COUNTDOWN = Puzzle("p", "countdown", "Make 24 from 3, 5, 3.", "(3+5)*3", 3, 24, (3, 5, 3))
NUMBERS = st.lists(st.integers(1, 20), min_size=2, max_size=4)


def test_puzzles_are_the_same_when_more_are_asked_for() -> None:
    assert generate_puzzles(5, seed=3) == generate_puzzles(9, seed=3)[:5]


def test_puzzles_differ_when_the_seed_does() -> None:
    assert generate_puzzles(9, seed=3) != generate_puzzles(9, seed=4)


def test_puzzles_are_of_the_kinds_that_are_asked_for() -> None:
    assert {one.kind for one in generate_puzzles(20, kinds=["countdown"])} == {"countdown"}
    assert {one.kind for one in generate_puzzles(20)} == {"countdown", "expression"}


@pytest.mark.parametrize("kinds", [[], ["riddle"], ["countdown", "riddle"]])
def test_generating_puzzles_fails_when_a_kind_is_unknown(kinds: list[str]) -> None:
    with pytest.raises(ConfigurationError, match="countdown"):
        generate_puzzles(1, kinds=kinds)


def test_generating_puzzles_fails_when_their_number_is_negative() -> None:
    with pytest.raises(ConfigurationError, match="-1"):
        generate_puzzles(-1)


def test_puzzle_is_solved_by_its_own_answer() -> None:
    for puzzle in generate_puzzles(200, seed=5):
        assert is_solved(puzzle, f"I think.\nAnswer: {puzzle.answer}")
        assert not is_solved(puzzle, f"I think.\nAnswer: {puzzle.answer}1")


def test_expression_has_the_value_that_python_gives_it() -> None:
    for puzzle in generate_puzzles(200, seed=6, kinds=["expression"]):
        text = puzzle.question.removeprefix("What is ").removesuffix("?")
        assert str(eval(text)) == puzzle.answer


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("(3+5)*3", True),
        ("3 * (5 + 3)", True),
        ("(3 + 5) * 3 = 24", True),
        ("5*5-1", False),  # neither a second five nor a one is there
        ("3*5+3", False),
        ("24", False),
        ("3*8", False),
        ("(3+5)*3)", False),
        ("3+5**3", False),
        ("__import__('os')", False),
        ("", False),
    ],
)
def test_countdown_is_solved_by_any_expression_of_its_numbers(answer: str, *, right: bool) -> None:
    assert is_solved(COUNTDOWN, f"Answer: {answer}") is right


def test_number_that_is_given_reaches_itself() -> None:
    assert is_reached("7", target=7, numbers=[7, 2])


def test_division_that_is_not_exact_is_undone_by_a_product() -> None:
    assert is_reached("8/(3-8/3)", target=24, numbers=[3, 3, 8, 8])


@given(NUMBERS)
def test_chain_is_written_as_an_expression_of_its_value(numbers: list[int]) -> None:
    for chain in chains(numbers):
        text = write_chain(chain)
        assert is_reached(text, target=chain[-1][3], numbers=numbers)
        assert eval(text) == chain[-1][3]


def test_chains_use_no_number_twice() -> None:
    for chain in chains([2, 3, 4]):
        used = [chain[0][0], *(right for _, _, right, _ in chain)]
        assert max(Counter(used).values()) == 1


def test_first_chain_is_none_when_the_target_is_out_of_reach() -> None:
    assert first_chain(1000, [1, 2, 3]) is None


@pytest.mark.parametrize(
    "text",
    [
        "Make 24 from 3, 5 and 9.",
        "Please make 24 using 3,5,9!",
        "make 24 out of the numbers: 3, 5, and 9",
    ],
)
def test_countdown_is_read_however_it_is_put(text: str) -> None:
    assert [int(one) for one in read_countdown(text).sink.args] == [24, 3, 5, 9]


@pytest.mark.parametrize("text", ["", "Make 24.", "Make 1 from 1, 2, 3, 4, 5, 6", "24 from 3, 5"])
def test_reading_a_countdown_fails_when_there_is_none(text: str) -> None:
    with pytest.raises(Unsolvable):
        read_countdown(text)


def test_models_read_a_puzzle_in_a_subtask() -> None:
    prompt = '<subtask id="1" role="analyze">\nMake 24 from 3, 5 and 3.\n</subtask>'
    assignment = read_assignment(prompt)
    assert (assignment.program.kind, assignment.is_subtask) == ("countdown", True)


def test_cloud_solves_most_puzzles_and_the_seeded_edge_does_not() -> None:
    puzzles = generate_puzzles(300, seed=7)
    cloud, edge = (
        sum(is_solved(one, model.invoke(one.question).text) for one in puzzles) / len(puzzles)
        for model in (sandbox_cloud(time_scale=0), sandbox_edge(time_scale=0))
    )
    assert cloud > 0.9 > 0.6 > edge


def test_model_does_not_know_when_a_target_is_out_of_reach() -> None:
    assert "do not know" in sandbox_cloud(time_scale=0).invoke("Make 900 from 1, 2, 3.").text
