from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_hybridflow.sandbox.arithmetic import read_sum
from langchain_hybridflow.sandbox.operations import Unsolvable
from langchain_hybridflow.sandbox.program import evaluate


def value_of(text: str, **results: Decimal) -> Decimal:
    numbers = {name.removeprefix("s"): value for name, value in results.items()}
    program = read_sum(text, results=numbers)
    value = evaluate(program, program.sink.name)[-1].value
    assert isinstance(value, Decimal)
    return value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("What is 6 * 7?", "42"),
        ("What is 2 + 3 * 4?", "14"),
        ("(2 + 3) * 4 =", "20"),
        ("10 - 3 - 2", "5"),
        ("12 divided by 8", "1.5"),
        ("7 times 6 plus 1, please.", "43"),
        ("-5 + 3", "-2"),
        ("What is the sum of 3, 4 and 5?", "12"),
        ("the difference between 7 and 9", "-2"),
        ("3 \u00d7 4", "12"),
    ],
)
def test_read_sum_follows_the_rules_of_arithmetic(text: str, value: str) -> None:
    assert value_of(text) == Decimal(value)


def test_read_sum_takes_results_by_their_ids() -> None:
    assert value_of("What is [1] + [11] times 2?", s1=Decimal(3), s11=Decimal(4)) == 11


def test_read_sum_keeps_the_sign_of_a_negative_result() -> None:
    assert value_of("What is [1] * 2?", s1=Decimal(-3)) == -6


@pytest.mark.parametrize(
    "text",
    ["", "hello", "5", "[1] + [2]", "(1 + 2", "1 1", "+", "on 2024-03-05", "(" * 500 + "1+1"],
)
def test_read_sum_raises_unsolvable_when_there_is_no_sum(text: str) -> None:
    with pytest.raises(Unsolvable):
        read_sum(text)


@given(st.text(alphabet="0123456789+-*/(). []x\n", max_size=300))
def test_read_sum_reads_a_sum_or_raises_unsolvable_whatever_the_text(text: str) -> None:
    try:
        program = read_sum(text)
        evaluate(program, program.sink.name)
    except Unsolvable:
        pass
