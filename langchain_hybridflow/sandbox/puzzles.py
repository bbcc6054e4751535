"""Puzzles of numbers, from a seed: expressions to work out, and Countdown.

They are the small world of a language model that is small enough to be trained on a laptop.
"""

from __future__ import annotations

import random
from collections.abc import Collection
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, Literal

from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.sandbox.answers import extract_answer, matches
from langchain_hybridflow.sandbox.chains import first_chain, write_chain
from langchain_hybridflow.sandbox.countdown import is_reached

__all__ = ["PUZZLE_KINDS", "Puzzle", "PuzzleKind", "generate_puzzles", "is_solved"]

PuzzleKind = Literal["expression", "countdown"]

PUZZLE_KINDS: Final[tuple[PuzzleKind, ...]] = ("expression", "countdown")
"""The kinds of puzzles that `generate_puzzles` knows."""

_MAX_VALUE: Final = 999
_OPERATIONS: Final = (2, 3, 4)
_NUMBERS: Final = 3
_MAX_NUMBER: Final = 13
_MAX_TARGET: Final = 99


@dataclass(frozen=True, slots=True)
class Puzzle:
    """A question about numbers, and what is needed to check an answer.

    Args:
        id: Unique for seed and number. No model ever sees it.
        kind: `expression` or `countdown`.
        question: What a model is asked.
        answer: An expression's value, or one of the expressions that make a Countdown's target.
        size: Operations of an expression, numbers of a Countdown.
        target: The number that a Countdown wants; `None` for an expression.
        numbers: What it may be made from.
    """

    id: str
    kind: PuzzleKind
    question: str
    answer: str
    size: int
    target: int | None = None
    numbers: tuple[int, ...] = ()


def generate_puzzles(
    n: int, *, seed: int = 0, kinds: Collection[str] = PUZZLE_KINDS
) -> list[Puzzle]:
    """Make `n` puzzles, the same ones for the same seed on every machine.

    Args:
        n: How many.
        seed: Other seeds give other puzzles. Puzzle `i` is the same for every `n > i`.
        kinds: Which of `PUZZLE_KINDS` to use.

    Raises:
        ConfigurationError: `n` is negative, or a kind is unknown.

    Example:
        >>> for puzzle in generate_puzzles(4, seed=8)[2:]:
        ...     print(puzzle.question, puzzle.answer)
        Make 51 from 7, 12, 9. 7*9-12
        What is 17 + 3 + 5 - 1 + 20? 44
    """
    if n < 0:
        raise ConfigurationError(f"n is {n}; it must be 0 or more puzzles.")
    wanted = [kind for kind in PUZZLE_KINDS if kind in kinds]
    if len(wanted) < len(set(kinds)) or not wanted:
        raise ConfigurationError(
            f"Unknown kinds of puzzles in {sorted(kinds)}. Known: {', '.join(PUZZLE_KINDS)}."
        )
    return [_generate_one(wanted, seed=seed, number=number) for number in range(n)]


def is_solved(puzzle: Puzzle, text: str) -> bool:
    """Tell whether a model's `text` answers `puzzle` correctly.

    A Countdown is solved by any expression that makes the target of numbers that are there.

    Args:
        puzzle: The puzzle that was asked.
        text: The model's whole answer, with its reasoning.

    Example:
        >>> puzzle = generate_puzzles(1, kinds=["countdown"])[0]
        >>> is_solved(puzzle, f"Answer: {puzzle.answer}"), is_solved(puzzle, "Answer: 1+1")
        (True, False)
    """
    answer = extract_answer(text)
    if answer is None:
        return False
    if puzzle.target is None:
        return matches(answer, Decimal(puzzle.answer))
    return is_reached(answer, target=puzzle.target, numbers=puzzle.numbers)


def _generate_one(kinds: list[PuzzleKind], *, seed: int, number: int) -> Puzzle:
    # A text seed is hashed with SHA-512 by random itself: stable across processes and platforms.
    rng = random.Random(f"puzzle/{seed}/{number}")
    kind = rng.choice(kinds)
    name = f"{kind}-{seed}-{number}"
    return _expression(name, rng) if kind == "expression" else _countdown(name, rng)


def _expression(name: str, rng: random.Random) -> Puzzle:
    size = rng.choice(_OPERATIONS)
    text, value, _ = _tree(size, rng)
    return Puzzle(name, "expression", f"What is {text}?", str(value), size)


def _tree(size: int, rng: random.Random) -> tuple[str, int, str]:
    """Draw an expression: its text, its value and its outermost sign."""
    if size == 0:
        number = rng.randint(1, 20) if rng.random() < 0.7 else rng.randint(10, 99)
        return str(number), number, ""
    while True:
        on_left = rng.randrange(size)
        sign = rng.choice("++-*")
        left, left_value, left_sign = _tree(on_left, rng)
        right, right_value, right_sign = _tree(size - 1 - on_left, rng)
        value = {
            "+": left_value + right_value,
            "-": left_value - right_value,
            "*": left_value * right_value,
        }[sign]
        if 0 < value <= _MAX_VALUE:
            break
    if sign == "*" and left_sign in ("+", "-"):
        left = f"({left})"
    if right_sign in ("+", "-") and sign in "*-":
        right = f"({right})"
    return f"{left} {sign} {right}", value, sign


def _countdown(name: str, rng: random.Random) -> Puzzle:
    while True:
        numbers = tuple(rng.randint(1, _MAX_NUMBER) for _ in range(_NUMBERS))
        target = rng.randint(10, _MAX_TARGET)
        chain = first_chain(target, numbers)
        if chain is not None and target not in numbers:
            break
    question = f"Make {target} from {', '.join(map(str, numbers))}."
    return Puzzle(name, "countdown", question, write_chain(chain), _NUMBERS, target, numbers)
