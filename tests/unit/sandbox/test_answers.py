from __future__ import annotations

import time
from datetime import date
from decimal import Decimal

import pytest

from langchain_hybridflow.sandbox.answers import extract_answer, matches


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("So it is 12.\nAnswer: 12", "12"),
        ("Answer: 3\nNo, wait.\nAnswer: 4", "4"),
        ("**Answer:** 12 pens.", "12 pens"),
        ("**Final answer: 12**", "12"),
        ("The answer is Ada.", "Ada"),
        (r"Thus \boxed{42}.", "42"),
        ("42", "42"),
        ("answer = 2024-05-03", "2024-05-03"),
        ("<think>6*7=42</think><answer>42</answer>", "42"),
        ("<think>The answer is 41.</think><answer> (3+5)*3 </answer>", "(3+5)*3"),
    ],
)
def test_extract_answer_finds_the_answer(text: str, answer: str) -> None:
    assert extract_answer(text) == answer


@pytest.mark.parametrize(
    "text",
    ["", "6 * 4 = 24.\nSo the number of", "I go on before I answer. 12 is the first", "Answer:"],
)
def test_extract_answer_returns_none_when_the_text_was_cut_before_it(text: str) -> None:
    assert extract_answer(text) is None


def test_extract_answer_stays_quick_when_the_text_is_made_to_be_slow() -> None:
    started = time.perf_counter()
    extract_answer("answer:" + " " * 1_000_000 + "\n" + "answer " * 100_000)
    extract_answer("<answer>" + " " * 1_000_000 + "<answer>" * 100_000)
    assert time.perf_counter() - started < 5


@pytest.mark.parametrize("answer", ["1250.50", "1,250.5 euros", "$1250.50", "1250.501"])
def test_matches_accepts_a_number_however_it_is_written(answer: str) -> None:
    assert matches(answer, Decimal("1250.50"))


@pytest.mark.parametrize("answer", ["1250", "1250.51", "unknown", ""])
def test_matches_refuses_another_number(answer: str) -> None:
    assert not matches(answer, Decimal("1250.50"))


@pytest.mark.parametrize("answer", ["2024-05-03", "3 May 2024", "May 3, 2024", "on 3rd May 2024"])
def test_matches_accepts_a_date_however_it_is_written(answer: str) -> None:
    assert matches(answer, date(2024, 5, 3))


def test_matches_refuses_another_date() -> None:
    assert not matches("2024-03-05", date(2024, 5, 3))


@pytest.mark.parametrize("answer", ["Ada", "ada", "It is Ada."])
def test_matches_accepts_a_name_in_any_case(answer: str) -> None:
    assert matches(answer, "Ada")


@pytest.mark.parametrize("answer", ["Adam", "Ada or Bo", "Ada, Bo, Cy, Di and Ed", "unknown"])
def test_matches_refuses_another_name_and_a_choice_of_names(answer: str) -> None:
    assert not matches(answer, "Ada")
