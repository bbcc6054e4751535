"""What one step can do: exact operations on numbers, dates and names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from itertools import permutations
from types import MappingProxyType
from typing import Any, Final

from langchain_hybridflow.sandbox.chains import first_chain, write_chain
from langchain_hybridflow.sandbox.language import Value, format_value, listing

__all__ = ["OPERATIONS", "WEEKDAYS", "Operation", "Unsolvable", "read_table", "write_table"]


WEEKDAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_SATURDAY: Final = 5
# Far above what our problems hold; they bound the work that a made-up question can cause.
_MAX_PEOPLE: Final = 6
_MAX_WORKING_DAYS: Final = 10_000
_MAX_DECIMALS: Final = Decimal("1e-12")


class Unsolvable(Exception):
    """The text does not hold what is needed to work out an answer.

    It never leaves the sandbox: a model that meets it says that it does not know.
    """


@dataclass(frozen=True, slots=True)
class Operation:
    """One kind of step.

    Args:
        compute: From the values that go in to the result.
        show: From the values that go in to the calculation as text.
        result: `Decimal`, `date` or `str`.
    """

    compute: Callable[[tuple[Any, ...]], Value]
    show: Callable[[tuple[Any, ...]], str]
    result: type


def write_table(table: Mapping[str, str]) -> str:
    """Write who has what as one line, such as `Ada: cat; Bo: dog`."""
    return "; ".join(f"{who}: {what}" for who, what in table.items())


def read_table(text: str) -> dict[str, str]:
    """Undo `write_table`.

    Example:
        >>> read_table("Ada: cat; Bo: dog")
        {'Ada': 'cat', 'Bo': 'dog'}
    """
    pairs = (pair.partition(":") for pair in text.split(";"))
    return {who.strip(): what.strip() for who, _, what in pairs if what}


def _eliminate(args: tuple[Any, ...]) -> str:
    """Find the one way to give each person one thing; args: people, things, exclusions."""
    people, things = args[0].split(", "), args[1].split(", ")
    if len(people) > _MAX_PEOPLE:
        raise ValueError(f"{len(people)} people are too many to try all ways")
    excluded = {who: set(what.split(", ")) for who, what in read_table(args[2]).items()}
    for order in permutations(things):
        if all(what not in excluded.get(who, ()) for who, what in zip(people, order, strict=True)):
            return write_table(dict(zip(people, order, strict=True)))
    raise ValueError(args[2])


def _look_up(args: tuple[Any, ...]) -> Decimal:
    """Find what a person's thing costs; args: table, person, then thing and price by turns."""
    prices = dict(zip(args[2::2], args[3::2], strict=True))
    price: Decimal = prices[read_table(args[0])[args[1]]]
    return price


def _leading(args: tuple[Any, ...]) -> str:
    """Find whose value is the largest or latest; args: name and value by turns."""
    pairs = list(zip(args[::2], args[1::2], strict=True))
    name: str = max(pairs, key=lambda pair: pair[1])[0]
    return name


def _reach(args: tuple[Any, ...]) -> str:
    """Find an expression for a number; args: the number, then what it may be made from."""
    target, *numbers = map(int, args)
    chain = first_chain(target, numbers)
    if chain is None:
        raise ValueError(f"{target} cannot be reached from {numbers}")
    return write_chain(chain)


def _working_days_after(args: tuple[Any, ...]) -> date:
    day: date = args[0]
    left = int(args[1])
    if left > _MAX_WORKING_DAYS:
        raise ValueError(f"{left} days are too many to count")
    while left > 0:
        day += timedelta(days=1)
        left -= day.weekday() < _SATURDAY
    return day


def _show(template: str) -> Callable[[tuple[Any, ...]], str]:
    return lambda args: template.format(*(format_value(arg) for arg in args))


def _show_list(before: str) -> Callable[[tuple[Any, ...]], str]:
    return lambda args: before + listing([format_value(arg) for arg in args])


def _show_pairs(before: str) -> Callable[[tuple[Any, ...]], str]:
    def show(args: tuple[Any, ...]) -> str:
        pairs = zip(args[::2], args[1::2], strict=True)
        return before + listing([f"{name} with {format_value(value)}" for name, value in pairs])

    return show


def _show_plus(args: tuple[Any, ...]) -> str:
    return " + ".join(format_value(arg) for arg in args)


def _show_reach(args: tuple[Any, ...]) -> str:
    target, *numbers = map(format_value, args)
    return f"{target} from {listing(numbers)}"


_N, _D, _S = Decimal, date, str
_HUNDRED: Final = Decimal(100)

OPERATIONS: Final[Mapping[str, Operation]] = MappingProxyType(
    {
        "add": Operation(lambda a: a[0] + a[1], _show("{0} + {1}"), _N),
        "subtract": Operation(lambda a: a[0] - a[1], _show("{0} - {1}"), _N),
        "multiply": Operation(lambda a: a[0] * a[1], _show("{0} * {1}"), _N),
        "divide": Operation(
            lambda a: (a[0] / a[1]).quantize(_MAX_DECIMALS), _show("{0} / {1}"), _N
        ),
        "add_product": Operation(lambda a: a[0] + a[1] * a[2], _show("{0} + {1} * {2}"), _N),
        "subtract_product": Operation(lambda a: a[0] - a[1] * a[2], _show("{0} - {1} * {2}"), _N),
        "percent_off": Operation(
            lambda a: a[0] * (_HUNDRED - a[1]) / _HUNDRED, _show("{0} less {1} percent"), _N
        ),
        "percent_on": Operation(
            lambda a: a[0] * (_HUNDRED + a[1]) / _HUNDRED, _show("{0} plus {1} percent"), _N
        ),
        "around": Operation(lambda a: 2 * (a[0] + a[1]), _show("2 * ({0} + {1})"), _N),
        "metres_at_speed": Operation(
            lambda a: a[0] * a[1] * 1000 / 60, _show("{0} * 1000 * {1} / 60"), _N
        ),
        "sum": Operation(lambda a: sum(a, Decimal(0)), _show_plus, _N),
        "spread": Operation(
            lambda a: max(a) - min(a), _show_list("the largest less the smallest of "), _N
        ),
        "days_after": Operation(
            lambda a: a[0] + timedelta(days=int(a[1])), _show("{0} plus {1} days"), _D
        ),
        "working_days_after": Operation(
            _working_days_after, _show("{0} plus {1} working days"), _D
        ),
        "latest": Operation(max, _show_list("the latest of "), _D),
        "days_between": Operation(
            lambda a: Decimal((max(a) - min(a)).days),
            _show_list("the days from first to last of "),
            _N,
        ),
        "weekday": Operation(
            lambda a: WEEKDAYS[max(a).weekday()], _show_list("the weekday of the latest of "), _S
        ),
        "leading": Operation(_leading, _show_pairs("the most of "), _S),
        "eliminate": Operation(_eliminate, _show("ruling out {2}"), _S),
        "reach": Operation(_reach, _show_reach, _S),
        "look_up": Operation(_look_up, _show("what {1} has in ({0})"), _N),
    }
)
"""Every operation by name."""
