"""Sentences that are written and read by the same template.

A sandbox problem is plain text, and the sandbox models know nothing but that text. So each
sentence form exists once, as a `Phrase` that can `write` it from values and `read` the values
back from it.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import Final

__all__ = [
    "Phrase",
    "PhraseBook",
    "Value",
    "format_value",
    "listing",
    "parse_date",
    "parse_number",
    "sentences",
    "slots_of",
    "spelt_date",
    "unlisted",
]

Value = Decimal | date | str
"""What a step can result in: a number, a date or a name."""

_MONTHS: Final = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)
_MONTH_NAMES: Final = "|".join(_MONTHS)
_DATE: Final = rf"\d{{4}}-\d\d-\d\d|\d{{1,2}} (?:{_MONTH_NAMES}) \d{{4}}"
_SLOT: Final = re.compile(r"\{(\w+):(\w+)\}")
_PATTERNS: Final = {
    "int": r"\d+",
    "number": r"\d+(?:\.\d+)?",
    "date": _DATE,
    "name": r"[A-Z][a-z]+",
    "word": r"[a-z]+",
    "names": r"[A-Z][a-z]+(?:, [A-Z][a-z]+)* and [A-Z][a-z]+",
    "pets": r"[a-z]+(?:(?:, [a-z]+)* or [a-z]+)?",
    "prices": r"\d+ for the [a-z]+(?:, \d+ for the [a-z]+)* and \d+ for the [a-z]+",
}
# The longest sentence written here has about 200 characters. Longer ones are somebody else's
# text; leaving them alone keeps reading linear in the length of the prompt.
_MAX_SENTENCE_CHARS: Final = 400
_MAX_NUMBER_CHARS: Final = 40


class Phrase:
    """One form of a sentence, for writing and for reading.

    Args:
        template: Text with slots `{name:kind}`, each name once; kinds are `int`, `number`, `date`,
            `name` (one capitalised word), `word`, and the listings `names`, `pets` and `prices`.

    Example:
        >>> phrase = Phrase("{who:name} buys {count:int} {item:word}.")
        >>> phrase.write(who="Ada", count=3, item="pens")
        'Ada buys 3 pens.'
        >>> phrase.read("Ada buys 3 pens.")
        {'who': 'Ada', 'count': '3', 'item': 'pens'}
    """

    def __init__(self, template: str) -> None:
        self.template = template
        pattern, end = "", 0
        for slot in _SLOT.finditer(template):
            name, kind = slot.groups()
            pattern += re.escape(template[end : slot.start()])
            pattern += f"(?P<{name}>{_PATTERNS[kind]})"
            end = slot.end()
        self._pattern = re.compile(pattern + re.escape(template[end:]))

    def write(self, **values: object) -> str:
        """Return the sentence with `values` in its slots."""
        return _SLOT.sub(lambda slot: str(values[slot[1]]), self.template)

    def read(self, sentence: str) -> dict[str, str] | None:
        """Return the texts in the slots, or None if this is another sentence."""
        match = self._pattern.fullmatch(sentence)
        return match.groupdict() if match else None


class PhraseBook:
    """Several ways to say one thing.

    Args:
        *templates: One template for each way; see `Phrase`.
    """

    def __init__(self, *templates: str) -> None:
        self.phrases = tuple(Phrase(template) for template in templates)

    def write(self, rng: random.Random, **values: object) -> str:
        """Return the sentence in a form that `rng` chooses."""
        return rng.choice(self.phrases).write(**values)

    def read_all(self, text: Iterable[str]) -> list[dict[str, str]]:
        """Return the slots of each of the sentences `text` that says this, in their order."""
        found = []
        for sentence in text:
            readings = (phrase.read(sentence) for phrase in self.phrases)
            reading = next((slots for slots in readings if slots is not None), None)
            if reading is not None:
                found.append(reading)
        return found

    def read_first(self, text: Iterable[str]) -> dict[str, str] | None:
        """Return the slots of the first sentence that says this, or None."""
        return next(iter(self.read_all(text)), None)


def sentences(text: str) -> list[str]:
    r"""Split `text` into sentences with single spaces, leaving out overlong ones.

    Example:
        >>> sentences("A pen costs 1.50 euros.  How much are\n two?")
        ['A pen costs 1.50 euros.', 'How much are two?']
    """
    parts = re.split(r"(?<=[.?!])\s+|(?<=:)\s*\n", text)
    return [" ".join(part.split()) for part in parts if 0 < len(part) <= _MAX_SENTENCE_CHARS]


def parse_number(text: str) -> Decimal | None:
    """Read a number as people write it, or return None.

    Example:
        >>> parse_number("1,250.50 euros"), parse_number("$12"), parse_number("none")
        (Decimal('1250.50'), Decimal('12'), None)
    """
    match = re.search(r"[-\u2212]?\d[\d,]*(?:\.\d+)?", text)
    if match is None or len(match[0]) > _MAX_NUMBER_CHARS:
        return None
    return Decimal(match[0].replace(",", "").replace("\N{MINUS SIGN}", "-"))


def parse_date(text: str) -> date | None:
    """Read the first date in `text`, ISO or like `3 March 2025` or `March 3, 2025`, or None.

    Example:
        >>> parse_date("on March 3, 2025")
        datetime.date(2025, 3, 3)
    """
    if iso := re.search(r"\b(\d{4})-(\d\d)-(\d\d)\b", text):
        year, month, day = (int(part) for part in iso.groups())
    elif spelt := re.search(rf"\b(\d{{1,2}})(?:st|nd|rd|th)? ({_MONTH_NAMES}),? (\d{{4}})\b", text):
        day, month, year = int(spelt[1]), _MONTHS.index(spelt[2]) + 1, int(spelt[3])
    elif spelt := re.search(rf"\b({_MONTH_NAMES}) (\d{{1,2}})(?:st|nd|rd|th)?,? (\d{{4}})\b", text):
        day, month, year = int(spelt[2]), _MONTHS.index(spelt[1]) + 1, int(spelt[3])
    else:
        return None
    try:
        return date(year, month, day)
    except ValueError:
        return None


def format_value(value: Value) -> str:
    """Write a value as it stands in an answer: exact numbers, ISO dates, names as they are.

    Example:
        >>> format_value(Decimal("216.0")), format_value(Decimal("37.5"))
        ('216', '37.50')
    """
    if isinstance(value, Decimal):
        # Neither int() nor normalize(): the one limits the digits, the other rounds.
        whole, _, decimals = format(value, "f").partition(".")
        decimals = decimals.rstrip("0")
        return f"{whole}.{decimals:0<2}" if decimals else whole
    return value.isoformat() if isinstance(value, date) else value


def spelt_date(day: date) -> str:
    """Write a date as `3 March 2025`."""
    return f"{day.day} {_MONTHS[day.month - 1]} {day.year}"


def listing(items: Sequence[str], *, last: str = "and") -> str:
    """Join `items` as a sentence does.

    Example:
        >>> listing(["Ada", "Bo", "Cy"], last="or")
        'Ada, Bo or Cy'
    """
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} {last} {items[-1]}"


def unlisted(text: str) -> tuple[str, ...]:
    """Undo `listing`."""
    return tuple(part for part in re.split(r",\s*|\s+(?:and|or|nor)\s+", text) if part)


def slots_of(reading: Mapping[str, str], *names: str) -> tuple[Decimal, ...]:
    """Return the numbers in the named slots of a reading."""
    return tuple(Decimal(reading[name]) for name in names)
