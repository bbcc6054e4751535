from __future__ import annotations

from collections.abc import Callable

import pytest
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage

from langchain_hybridflow.answer_or_ask import ASK_MARKER
from langchain_hybridflow.plan import Subtask
from langchain_hybridflow.sandbox import generate_problems, generate_puzzles
from langchain_hybridflow.sandbox.tiny.reading import question_of


def read(text: str) -> str | None:
    return question_of([HumanMessage(text)])


@pytest.mark.parametrize("puzzle", generate_puzzles(60, seed=3), ids=lambda puzzle: puzzle.id)
def test_puzzle_is_read_as_it_stands(puzzle) -> None:
    assert read(puzzle.question) == puzzle.question


@pytest.mark.parametrize(
    ("text", "question"),
    [
        ("12+7*3", "What is 12 + 7 * 3?"),
        ("Please work out 3 times (4 plus 5).", "What is 3 * (4 + 5)?"),
        ("make 24 with 3, 5 and 7", "Make 24 from 3, 5, 7."),
    ],
)
def test_question_is_put_into_the_words_that_were_learnt(text: str, question: str) -> None:
    assert read(text) == question


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Who wrote Faust?",
        "What is 100 + 1?",
        "What is 1.5 * 2?",
        "What is 8 / 2?",
        "What is -3 + 5?",
        "What is 3 * (-5 + 7)?",
        "What is 1 + 1 + 1 + 1 + 1 + 1 + 1?",
        "Make 24 from 3, 8.",
        "Make 240 from 3, 8, 10.",
        "Make 24 from 1, 2, 3, 4, 5.",
        generate_problems(1)[0].question,
    ],
)
def test_what_is_beyond_the_small_world_is_not_read(text: str) -> None:
    assert read(text) is None


def test_last_human_message_counts() -> None:
    messages = [HumanMessage("1 + 2"), AIMessage("3"), HumanMessage("2 + 3"), AIMessage("5")]
    assert question_of(messages) == "What is 2 + 3?"


def test_conversation_without_a_question_is_not_read() -> None:
    assert question_of([SystemMessage("What is 1 + 2?")]) is None


def test_planning_call_is_not_read(planning_messages: Callable[[str], list[BaseMessage]]) -> None:
    assert question_of(planning_messages("What is 1 + 2?")) is None


def test_subtask_is_read_with_the_results_that_it_needs(
    subtask_prompt: Callable[..., str],
) -> None:
    subtask = Subtask(id="2", task="What is [1] * 4?", role="generate")
    prompt = subtask_prompt("What is (1 + 2) * 4?", subtask, {"1": "Answer: 3"})
    assert read(prompt) == "What is 3 * 4?"


def test_markers_of_a_prompt_do_not_reach_the_model() -> None:
    found = read(f"<think>{ASK_MARKER}</think> What is 1 + 2? {ASK_MARKER}</s>")
    assert found == "What is 1 + 2?"
