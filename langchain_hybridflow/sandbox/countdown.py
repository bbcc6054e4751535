"""Countdown: reach a number from a few others, each used at most once, by + - * /."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from typing import Final

from langchain_hybridflow.sandbox.arithmetic import parse_sum, pieces_of
from langchain_hybridflow.sandbox.operations import Unsolvable
from langchain_hybridflow.sandbox.program import Node, Program, evaluate

__all__ = ["DIFFICULTY", "is_reached", "read_countdown"]

DIFFICULTY: Final = 8
"""On the planner's scale: it is a search, and has no recipe."""

# More numbers than this would take long to try, and no puzzle of ours has them.
_MAX_NUMBERS: Final = 5
_QUESTION: Final = re.compile(
    r"\bmake (\d{1,6}) (?:from|with|using|out of)(?: the numbers)?:? "
    r"(\d{1,4}(?:(?:, ?and |, ?| and )\d{1,4}){1,5})\b",
    re.IGNORECASE,
)
_MAX_CHARS: Final = 200
# Quotients are rounded, much finer than this.
_TOLERANCE: Final = Decimal("1e-6")


def read_countdown(text: str) -> Program:
    """Read the first Countdown puzzle in `text`, such as `Make 24 from 3, 5, 7.`.

    Raises:
        Unsolvable: There is none.

    Example:
        >>> read_countdown("Make 24 from 3, 5 and 9.").sink.args
        (Decimal('24'), Decimal('3'), Decimal('5'), Decimal('9'))
    """
    found = _QUESTION.search(text)
    numbers = [Decimal(number) for number in re.findall(r"\d+", found[2])] if found else []
    if found is None or len(numbers) > _MAX_NUMBERS:
        raise Unsolvable("there is no Countdown puzzle in the text")
    label = f"an expression for {found[1]}"
    node = Node("reach", label, "reach", (Decimal(found[1]), *numbers), DIFFICULTY)
    return Program("countdown", (node,))


def is_reached(expression: str, *, target: int, numbers: Sequence[int]) -> bool:
    """Tell whether an expression has the value `target` and uses each number at most once.

    Args:
        expression: As a model wrote it; what is not a plain expression reaches nothing.
        target: The value to reach.
        numbers: What may be used.

    Example:
        >>> is_reached("(3 + 5) * 3", target=24, numbers=[3, 5, 3])
        True
        >>> is_reached("3 * 8", target=24, numbers=[3, 5, 3])
        False
    """
    plain = expression.partition("=")[0].strip()
    if len(plain) > _MAX_CHARS or not re.fullmatch(r"[\d\s()+*/-]+", plain):
        return False
    used = Counter(int(piece) for piece in pieces_of(plain) if piece.isdigit())
    if used - Counter(numbers):
        return False
    if plain.isdigit():
        return int(plain) == target
    program = parse_sum(plain)
    if program is None:
        return False
    try:
        value = evaluate(program, program.sink.name)[-1].value
    except Unsolvable:
        return False
    return isinstance(value, Decimal) and abs(value - target) < _TOLERANCE
