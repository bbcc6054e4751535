"""How a model goes wrong: how often, and with what."""

from __future__ import annotations

import math
import random
from datetime import date, timedelta
from decimal import Decimal
from typing import Final

from langchain_hybridflow.sandbox.language import Value
from langchain_hybridflow.sandbox.operations import WEEKDAYS, read_table, write_table
from langchain_hybridflow.sandbox.program import Node

__all__ = ["plausible_mistake", "success_rate"]

# Each further step in the same prompt makes all of them harder by this much.
_LOAD_PER_STEP: Final = 0.32
# How gradually steps turn from easy to hopeless, in units of difficulty.
_SLOPE: Final = 0.7


def success_rate(skill: float, difficulty: int, *, steps_at_once: int = 1) -> float:
    """Return the probability that one step comes out right.

    Args:
        skill: The difficulty at which a model gets every second lone step right.
        difficulty: Of the step, 1 to 9.
        steps_at_once: How many steps the prompt asks for.

    Example:
        >>> success_rate(6.0, 6)
        0.5
        >>> success_rate(6.0, 6, steps_at_once=8) < 0.3
        True
    """
    effective = difficulty + _LOAD_PER_STEP * (steps_at_once - 1)
    return 1 / (1 + math.exp((effective - skill) / _SLOPE))


def plausible_mistake(
    node: Node, args: tuple[Value, ...], value: Value, rng: random.Random
) -> Value:
    """Return a wrong result of a step that somebody might really come to.

    Args:
        node: The step.
        args: What went into it.
        value: The right result.
        rng: Chooses among the possible mistakes.

    Returns:
        A value of the same type that differs from `value`.
    """
    if isinstance(value, Decimal):
        return _wrong_number(args, value, rng)
    if isinstance(value, date):
        return _wrong_date(value, rng)
    if node.operation == "eliminate":
        return _wrong_table(value, rng)
    if node.operation == "reach":
        return _wrong_expression(value, rng)
    names = args[::2] if node.operation == "leading" else WEEKDAYS
    return rng.choice([str(name) for name in names if name != value] or ["nobody"])


def _wrong_number(args: tuple[Value, ...], value: Decimal, rng: random.Random) -> Decimal:
    """Miscount by one, lose a carry, stop half-way, or swap two digits."""
    unit = Decimal(1).scaleb(max(0, value.adjusted() - 1))
    numbers = [arg for arg in args if isinstance(arg, Decimal)]
    digits = str(abs(int(value)))
    swapped = Decimal(int(digits[:-2] + digits[-1] + digits[-2])) if len(digits) > 1 else value + 2
    wrong = [value + unit, value - unit, value + 10, swapped, *numbers[:1]]
    candidates = [number for number in wrong if number != value and number >= 0]
    return rng.choice(candidates or [value + 1])


def _wrong_date(value: date, rng: random.Random) -> date:
    """Be off by a day or two, by a week, or by the length of a month."""
    days = timedelta(days=rng.choice((-7, -2, -1, 1, 2, 7)))
    try:
        return value + days
    except OverflowError:
        return value - days


def _wrong_table(value: str, rng: random.Random) -> str:
    """Confuse two people's things."""
    table = read_table(value)
    if len(table) < 2:
        return f"{value}; nobody: nothing"
    first, second = rng.sample(sorted(table), 2)
    return write_table({**table, first: table[second], second: table[first]})


def _wrong_expression(value: str, rng: random.Random) -> str:
    """Take one sign for another."""
    signs = [place for place, char in enumerate(value) if char in "+-*/"]
    place = rng.choice(signs)
    sign = rng.choice([sign for sign in "+-*/" if sign != value[place]])
    return value[:place] + sign + value[place + 1 :]
