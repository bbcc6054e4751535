"""The letter of a choice, in the many ways in which models name it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Any, Final

from langchain_hybridflow.profiling._texts import MAX_CHARS, plain, text_of
from langchain_hybridflow.profiling.records import Item
from langchain_hybridflow.sandbox.answers import extract_answer

__all__ = ["letter_meant", "letters_in", "letters_of"]

_DEFAULT: Final = tuple("ABCDEFGHIJKLMNOP")


def letters_of(item: Item) -> tuple[str, ...]:
    """Return the letters that may be answered."""
    return tuple(item.choices) or _DEFAULT


_CLAIM: Final = re.compile(
    r"\b(?:answer|choice|option)\b\W{0,6}(?:(?:is|would be|must be|should be)\b)?\W{0,12}"
    r"(?:(?:choice|option|letter)\b\W{0,4})?(?<![A-Za-z0-9])([A-Za-z])(?![A-Za-z0-9]|['\u2019])",
    re.IGNORECASE,
)
_BOXED: Final = re.compile(r"\\boxed\{\W{0,3}(?:\\text\{)?\W{0,3}([A-Za-z])\W{0,4}\}")
_BOLD: Final = re.compile(r"\*\*\W{0,3}([A-Z])(?:[.):][^*\n]{0,200})?\W{0,3}\*\*")
_FIRST: Final = re.compile(r"\s*[(\[*]{0,3}([A-Za-z])(?:[)\].:*]{1,4}(?=\s|$)|\s*$)")
_ALONE: Final = re.compile(r"\W{0,6}([A-Za-z])\W{0,6}$")
_LISTED: Final = re.compile(r"(?<![A-Za-z0-9])\(?([A-Z])[)\]:](?=\s)")
_LONE: Final = re.compile(
    r"(?<![A-Za-z0-9])[(\[*]{0,3}([A-Z])[)\].:,;*]{0,4}(?![A-Za-z0-9]|['\u2019])"
)
_ALTERNATIVE: Final = re.compile(
    r"[\s).\]*]{0,4}(?:or|and|/|,)\s{0,3}[(\[*]{0,3}([A-Za-z])(?![A-Za-z0-9]|['\u2019])",
    re.IGNORECASE,
)


def letters_in(answer: str, item: Item) -> set[str]:
    """Return the letters that an answer names as its choice; more than one is ambiguous."""
    text, letters = unicodedata.normalize("NFKC", answer[-MAX_CHARS:]), letters_of(item)
    for pattern in (_BOXED, _CLAIM):
        claims = [match for match in pattern.finditer(text) if _named(match, letters)]
        if claims:
            return _with_alternative(claims[-1], text, letters)
    alone = _ALONE.match(text.rstrip().rpartition("\n")[2])
    if alone and _named(alone, letters):
        return {_named(alone, letters)}
    first = _FIRST.match(text)
    if first and _named(first, letters):
        # Or it is the beginning of a walk through all choices.
        others = {_named(match, letters) for match in _LISTED.finditer(text)} - {""}
        return others | _with_alternative(first, text, letters)
    for pattern in (_BOLD, _LONE):
        found = {_named(match, letters) for match in pattern.finditer(text)} - {""}
        # "I" and "A" are words, too; alone in a sentence they are no choice.
        if pattern is _LONE and len(text.split()) > 3:
            found -= {"A", "I"}
        if found:
            return found
    return _by_text(text, item)


def _with_alternative(match: re.Match[str], text: str, letters: Sequence[str]) -> set[str]:
    found = {_named(match, letters)}
    other = _ALTERNATIVE.match(text, match.end(1))
    if other and _named(other, letters):
        found.add(_named(other, letters))
    return found


def _named(match: re.Match[str], letters: Sequence[str]) -> str:
    letter = match[1].upper()
    return letter if letter in letters else ""


def _by_text(text: str, item: Item) -> set[str]:
    """Find the choice that an answer writes out instead of its letter."""
    given = {plain(text), plain(extract_answer(text) or "")}
    return {letter for letter, choice in item.choices.items() if plain(choice) in given - {""}}


def letter_meant(reference: Any, item: Item) -> str | None:
    """Read a reference: a letter, the text of a choice, or its number from 0."""
    text, letters = text_of(reference), letters_of(item)
    letter = text.strip(" ().").upper()
    if letter in letters:
        return letter
    texts = [one for one, choice in item.choices.items() if plain(choice) == plain(text)]
    if texts:
        return texts[0]
    is_number = text.isascii() and text.isdigit() and len(text) < 4 and int(text) < len(letters)
    return letters[int(text)] if is_number else None
