from __future__ import annotations

import subprocess
import sys
from collections import Counter

import pytest

from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.sandbox import KINDS, generate_problems, is_correct
from langchain_hybridflow.sandbox.solver import read_program

PROBLEMS = generate_problems(200, seed=1)


def test_generate_problems_gives_the_same_problems_for_the_same_seed() -> None:
    assert generate_problems(20, seed=7) == generate_problems(20, seed=7)


def test_generate_problems_gives_other_problems_for_another_seed() -> None:
    assert {p.question for p in generate_problems(20, seed=7)}.isdisjoint(
        p.question for p in generate_problems(20, seed=8)
    )


def test_generate_problems_keeps_the_first_ones_when_more_are_asked_for() -> None:
    assert generate_problems(20, seed=7)[:5] == generate_problems(5, seed=7)


def test_generate_problems_is_the_same_in_another_process() -> None:
    code = (
        "from langchain_hybridflow.sandbox import generate_problems\n"
        "print(generate_problems(3, seed=5)[2].question)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONHASHSEED": "123"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.strip() == generate_problems(3, seed=5)[2].question


def test_generate_problems_mixes_all_kinds() -> None:
    assert min(Counter(p.kind for p in PROBLEMS)[kind] for kind in KINDS) >= 20


def test_generate_problems_makes_only_the_kinds_that_are_asked_for() -> None:
    assert {p.kind for p in generate_problems(30, kinds=["dates", "money"])} == {"dates", "money"}


@pytest.mark.parametrize(
    ("n", "kinds"), [(-1, None), (1, ["poetry"]), (1, [])], ids=["negative", "unknown", "none"]
)
def test_generate_problems_refuses_what_it_cannot_make(n: int, kinds: list[str] | None) -> None:
    with pytest.raises(ConfigurationError):
        generate_problems(n, kinds=kinds)


def test_problem_has_three_to_ten_steps_and_parallel_ones() -> None:
    for problem in PROBLEMS:
        assert 3 <= len(problem.steps) <= 10
        assert len(problem.steps[-1].depends_on) >= 2


def test_problem_ends_with_the_step_that_answers_it() -> None:
    assert all(problem.steps[-1].answer == problem.answer for problem in PROBLEMS)


def test_problem_question_alone_tells_all_that_is_needed() -> None:
    for problem in PROBLEMS:
        program = read_program(problem.question)
        assert program is not None
        assert [node.name for node in program.nodes] == [step.id for step in problem.steps]


def test_problem_is_answered_correctly_by_its_own_answer_and_by_no_other() -> None:
    for problem in PROBLEMS:
        assert is_correct(problem, f"Because.\nAnswer: {problem.answer}")
        assert not is_correct(problem, "Answer: unknown")
        assert not is_correct(problem, "")


def test_problem_question_does_not_hold_its_answer_when_it_is_a_number() -> None:
    held = [
        p for p in PROBLEMS if p.answer.isdigit() and len(p.answer) > 3 and p.answer in p.question
    ]
    assert held == []
