"""Tell offered answers ("A. ...", "B) ...") apart from the question before them.

How they look says a good deal about where a question comes from and how hard it is.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

__all__ = ["Offered", "offered_values", "shortened", "take_apart"]

MAX_CHARS = 8_000
"""Longer texts are read at both ends: the instruction is usually first, the question last."""

_OPTION = re.compile(r"^[ \t]*\(?([A-P])[.):][ \t]+(.*)$", re.MULTILINE)
_OPTION_NUMBER = re.compile(r"[^\w.]{0,3}(-?\d{1,12}(?:,\d{3}){0,4}(?:\.\d{1,12})?)")


def shortened(text: str) -> str:
    """Return a text, or both ends of one that is longer than 8,000 characters."""
    if len(text) <= MAX_CHARS:
        return text
    return f"{text[: MAX_CHARS // 2]}\n{text[-MAX_CHARS // 2 :]}"


def take_apart(text: str) -> tuple[str, str, tuple[str, ...], str]:
    """Return a text, shortened, its stem, its options, and the rest, which is neither.

    The rest are the letters of the options, and what stands between and behind them.
    """
    text = shortened(text)
    found = list(_OPTION.finditer(text))
    if len(found) < 2:
        return text, text, (), ""
    first = end = found[0].start()
    rest = []
    for match in found:
        rest.append(text[end : match.start(2)])
        end = match.end()
    rest.append(text[end:])
    return text, text[:first], tuple(match.group(2).strip() for match in found), " ".join(rest)


class Offered(NamedTuple):
    """How offered answers look as a whole.

    Attributes:
        numeric: How many are a number.
        order: How far the numbers are sorted.
        above: Whether one is "none of the above" or the like.
        capitals: How many begin with a capital.
        full_stops: How many end with a full stop.
    """

    numeric: int
    order: float
    above: bool
    capitals: int
    full_stops: int


def offered_values(options: Sequence[str]) -> Offered:
    """Return how offered answers look as a whole."""
    values = [value for value in map(_leading_number, options) if value is not None]
    lowered = " \n ".join(options).lower()
    return Offered(
        numeric=len(values),
        order=_order(values),
        above="of the above" in lowered or "of these" in lowered,
        capitals=sum(option[:1].isupper() for option in options),
        full_stops=sum(option.endswith(".") for option in options),
    )


def _leading_number(option: str) -> float | None:
    """Return the number that an offered answer is, if it is one with at most two words behind."""
    if option[:1].isalpha() or option.count(" ") > 3:
        return None
    match = _OPTION_NUMBER.match(option)
    if match is None:
        return None
    return float(match.group(1).replace(",", ""))


def _order(values: list[float]) -> float:
    """Say how far numbers are sorted: 1 rising, -1 falling, about 0 in no order or too few."""
    steps = list(pairwise(values))
    if not steps:
        return 0.0
    return sum((b > a) - (b < a) for a, b in steps) / len(steps)
