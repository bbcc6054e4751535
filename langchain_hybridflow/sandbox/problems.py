"""Questions with exact answers, in natural language, from a seed."""

from __future__ import annotations

import random
from collections.abc import Collection
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.sandbox.answers import extract_answer, matches
from langchain_hybridflow.sandbox.kinds import FAMILIES
from langchain_hybridflow.sandbox.language import Value, format_value
from langchain_hybridflow.sandbox.operations import Unsolvable
from langchain_hybridflow.sandbox.program import Program, Working, evaluate

__all__ = ["KINDS", "Problem", "Step", "generate_problems", "is_correct"]

KINDS: Final[tuple[str, ...]] = tuple(dict.fromkeys(family.kind for family in FAMILIES))
"""The kinds of problems that `generate_problems` knows."""

_CENT: Final = Decimal("0.01")
_MAX_STEPS: Final = 10


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the exact solution.

    Args:
        id: Unique in the problem.
        task: What the step finds, as a noun phrase.
        depends_on: Ids of the steps whose results it uses.
        difficulty: 1 to 9.
        answer: Its exact result, written as in an answer.
    """

    id: str
    task: str
    depends_on: tuple[str, ...]
    difficulty: int
    answer: str


@dataclass(frozen=True, slots=True)
class Problem:
    """A question and its exact solution.

    Args:
        id: Unique for seed and number. No model ever sees it.
        kind: One of `KINDS`.
        question: What a model is asked.
        value: The exact answer.
        steps: The solution, as a DAG; every step comes after those it uses.
        difficulty: Of the hardest step, 1 to 9.
    """

    id: str
    kind: str
    question: str
    value: Value
    steps: tuple[Step, ...]
    difficulty: int

    @property
    def answer(self) -> str:
        """The exact answer as text: a number, an ISO date or a name."""
        return format_value(self.value)


def generate_problems(
    n: int, *, seed: int = 0, kinds: Collection[str] | None = None
) -> list[Problem]:
    """Make `n` problems, the same ones for the same seed on every machine.

    Args:
        n: How many.
        seed: Other seeds give other problems. Problem `i` is the same for every `n > i`.
        kinds: Which of `KINDS` to use; None means all of them.

    Raises:
        ConfigurationError: `n` is negative, or a kind is unknown.

    Example:
        >>> problem = generate_problems(1, seed=3)[0]
        >>> is_correct(problem, f"Answer: {problem.answer}")
        True
    """
    if n < 0:
        raise ConfigurationError(f"n is {n}; it must be 0 or more problems.")
    wanted = KINDS if kinds is None else tuple(kinds)
    if unknown := sorted(set(wanted) - set(KINDS)):
        raise ConfigurationError(f"Unknown kinds {unknown}. Known kinds: {', '.join(KINDS)}.")
    if not wanted:
        raise ConfigurationError(f"No kind is named. Known kinds: {', '.join(KINDS)}.")
    # In our order, so that the order in which the caller names them does not matter.
    ordered = tuple(kind for kind in KINDS if kind in wanted)
    return [_generate_one(ordered, seed=seed, number=number) for number in range(n)]


def is_correct(problem: Problem, text: str) -> bool:
    """Tell whether a model's `text` answers `problem` correctly.

    Args:
        problem: The problem that was asked.
        text: The model's whole answer, with its reasoning.
    """
    answer = extract_answer(text)
    return answer is not None and matches(answer, problem.value)


def _generate_one(kinds: tuple[str, ...], *, seed: int, number: int) -> Problem:
    # A text seed is hashed with SHA-512 by random itself: stable across processes and platforms.
    rng = random.Random(f"problem/{seed}/{number}")
    kind = rng.choice(kinds)
    family = rng.choice([family for family in FAMILIES if family.kind == kind])
    while True:
        story = family.draw(rng)
        program = family.program(story)
        try:
            workings = evaluate(program, program.sink.name)
        except Unsolvable:
            continue
        if _is_fair(workings, whole=family.whole):
            break
    question = family.write(story, rng)
    return _problem(f"{family.kind}-{seed}-{number}", question, program, workings)


def _is_fair(workings: tuple[Working, ...], *, whole: bool) -> bool:
    """Tell whether the steps are few, all values positive and exact, and no two leaders tie."""
    if len(workings) > _MAX_STEPS:
        return False
    for working in workings:
        value = working.value
        if isinstance(value, Decimal):
            exact = value == value.quantize(Decimal(1) if whole else _CENT)
            if value <= 0 or not exact:
                return False
    last = workings[-1]
    if last.node.operation == "leading":
        values = last.args[1::2]
        return len(set(values)) == len(values)
    return True


def _problem(
    problem_id: str, question: str, program: Program, workings: tuple[Working, ...]
) -> Problem:
    steps = tuple(
        Step(
            working.node.name,
            working.node.label,
            working.node.depends_on,
            working.node.difficulty,
            format_value(working.value),
        )
        for working in workings
    )
    return Problem(
        problem_id,
        program.kind,
        question,
        workings[-1].value,
        steps,
        max(step.difficulty for step in steps),
    )
