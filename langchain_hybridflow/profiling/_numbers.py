"""Numbers in answers, as people and models write them."""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from typing import Final

from langchain_hybridflow.profiling._texts import MAX_CHARS

__all__ = ["decimal_of", "last_number", "stated_number"]

_SEPARATORS: Final = re.compile(r"[,'\s]")
_SEPARATED: Final = r"\d{1,3}(?:[,\u00a0\u202f' ]\d{3})+(?!\d)"
_NUMBER: Final = rf"(?:{_SEPARATED}|\d{{1,40}})(?:\.\d{{1,40}})?|\.\d{{1,40}}"
_SIGNED: Final = rf"(?<![\w.])(?:[-+\u2212]\s?)?(?:{_NUMBER})"
_FRACTION: Final = re.compile(
    rf"(?P<sign>[-\u2212]?)\\[dt]?frac\{{\s*(?P<above>{_NUMBER})\s*\}}\{{\s*(?P<below>{_NUMBER})\s*\}}"
)
_READING: Final = re.compile(
    rf"(?P<number>{_SIGNED}(?:[eE][-+]?\d{{1,3}}(?!\d))?)"
    rf"(?:\s?/\s?(?P<below>{_NUMBER}))?(?P<percent>\s?\\?%|\s(?:percent|per cent)\b)?"
)


def last_number(text: str) -> list[Decimal]:
    r"""Return what the last number in a text can mean; nothing if there is none.

    Example:
        >>> last_number("between 1/4 and \\frac{3}{4}"), last_number("12 %"), last_number("none")
        ([Decimal('0.75')], [Decimal('12'), Decimal('0.12')], [])
    """
    found = list(_READING.finditer(_prepared(text)))
    return _meanings(found[-1]) if found else []


def stated_number(text: str) -> list[Decimal]:
    r"""Return what the number of a short answer can mean: of its last equation, the first one.

    Example:
        >>> stated_number("3 + 4 = 7 apples (of 10)"), stated_number("none")
        ([Decimal('7')], [])
    """
    found = _READING.search(_prepared(text).rpartition("=")[2])
    return _meanings(found) if found else []


def _prepared(text: str) -> str:
    return _FRACTION.sub(r"\g<sign>\g<above>/\g<below>", text[-MAX_CHARS:]).replace("{,}", ",")


def _meanings(match: re.Match[str]) -> list[Decimal]:
    value = decimal_of(_SEPARATORS.sub("", match["number"]).replace("\N{MINUS SIGN}", "-"))
    if value is None:
        return []
    if match["below"]:
        below = decimal_of(_SEPARATORS.sub("", match["below"]))
        if not below:
            return []
        value /= below
    return [value, value / 100] if match["percent"] else [value]


def decimal_of(text: str) -> Decimal | None:
    """Read a plain number; `None` if it is none, or no finite one."""
    try:
        value = Decimal(text)
    except InvalidOperation:
        return None
    return value if value.is_finite() else None
