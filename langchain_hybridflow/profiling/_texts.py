"""Texts as answers and references: what of them counts when they are compared."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable
from typing import Any, Final

__all__ = ["MAX_CHARS", "accepted", "brief", "plain", "text_of"]

MAX_CHARS: Final = 100_000
"""Of a longer answer the end counts."""

_WRAPPING: Final = " \t\r\n\"'`*_.,;:!\u2018\u2019\u201c\u201d\u00ab\u00bb$"


def accepted(reference: Any) -> Iterable[Any]:
    """Return all answers that a reference calls right."""
    return reference if isinstance(reference, list | tuple) else (reference,)


def text_of(value: Any) -> str:
    """Write a reference as it stands in an answer."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))  # a column of numbers with a gap comes as floats
    return str(value)


def plain(text: str) -> str:
    r"""Return a text without what does not count: case, spaces, quotes and marks around it.

    Example:
        >>> plain(" **New   York.** ")
        'new york'
    """
    folded = unicodedata.normalize("NFKC", text).casefold().replace("\N{MINUS SIGN}", "-")
    return " ".join(folded.split()).strip(_WRAPPING)


def brief(text: str) -> str:
    """Return the beginning of a text, for messages."""
    return text if len(text) <= 40 else f"{text[:39]}\N{HORIZONTAL ELLIPSIS}"
