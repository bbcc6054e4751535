"""Read a text once: its words, numbers and signs, and what its surface looks like.

Everything that the text features need comes out of one pass over the tokens, because a decision
has a millisecond. This is what the features mean; `_reading_many` finds the same for a thousand
texts at once, and a request costs it a fraction.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple
from zlib import crc32

from langchain_hybridflow.learning._offers import offered_values, take_apart

__all__ = [
    "ABBREVIATION",
    "CAPITAL",
    "FORMAL",
    "HASH_BITS",
    "MASK",
    "QUOTES",
    "SURFACE_NAMES",
    "TOKEN",
    "WORD_KINDS",
    "YEAR",
    "Reading",
    "Token",
    "begin_key",
    "count_units",
    "end_key",
    "longest_sentence",
    "read",
    "shows_code",
    "surface_values",
    "term_keys",
    "token_of",
]

HASH_BITS = 18
MASK = (1 << HASH_BITS) - 1
_BEGINS, _ENDS = crc32(b"^"), crc32(b"$")
_MAX_REMEMBERED = 64  # characters of a token

TOKEN = re.compile(r"[^\W\d_]+|\d+(?:[.,]\d+)*|[^\w\s]|_+")
_SENTENCE_END = re.compile(r"[.!?;](?:\s|$)")
_CODE = re.compile(r"```|\bdef \w|\bassert |\breturn\b|;\n|\w\(\w*\)")
_CODE_SIGNS = ("```", "def ", "assert ", "return", ";\n")
_CALL = re.compile(r"\((?<=\w\()\w*\)")  # as in _CODE, found by its bracket
CAPITAL = re.compile(r"\b[^\W\d_a-z]")
ABBREVIATION = re.compile(r"\b[A-Z]{2,}\b")
_UNIT = re.compile(
    r"\d ?(?:k?g|[ckm]?m|ft|in|lbf?|psi[ag]?|k?pa|atm|m?mol|k?hz|k?[vw]|ohms?|amps?|btu|k?j|"
    r"k?cal|ev|[cfk]|°|%|s|ms|min|hr?)\b"
)
YEAR = re.compile(r"\b(?:1[5-9]|20)\d\d\b")
_ASKS_VALUE = frozenset({
    "calculate", "compute", "find", "determine", "evaluate", "solve", "estimate", "obtain",
    "approximate", "many", "much"
})  # fmt: skip
_ASKS_CHOICE = frozenset({
    "which", "following", "best", "most", "likely", "describe", "describes", "refer", "refers",
    "according", "called", "known", "example", "statement", "statements", "true"
})  # fmt: skip
_ASKS_REASON = frozenset({
    "why", "prove", "show", "explain", "derive", "compare", "how", "reason", "because", "cause"
})  # fmt: skip
_CONDITIONS = frozenset({
    "if", "then", "when", "suppose", "assume", "given", "let", "where", "unless", "such"
})  # fmt: skip
_NEGATIONS = frozenset({
    "not", "except", "least", "never", "false", "incorrect", "no", "without", "cannot", "nor"
})  # fmt: skip
_PEOPLE = frozenset({
    "he", "she", "his", "her", "him", "they", "man", "woman", "patient", "plaintiff",
    "defendant", "boy", "girl", "mother", "father", "son", "husband", "wife", "i", "my"
})  # fmt: skip
WORD_KINDS = (_NEGATIONS, _ASKS_VALUE, _ASKS_CHOICE, _ASKS_REASON, _CONDITIONS, _PEOPLE)
FORMAL = frozenset("=^∑∫√≤≥<>*+/|\\{}∈∀∃→²³")
QUOTES = frozenset("\"'\u201c\u201d\u2018\u2019`")
_ASCII_FORMAL = tuple(filter(str.isascii, FORMAL))
_ASCII_QUOTES = tuple(filter(str.isascii, QUOTES))
_FORM_NAMES = (
    "chars", "question chars", "options chars", "lines", "sentences", "longest sentence",
    "latex", "formal signs", "formal signs in options", "code", "blank to fill",
    "ends with question mark", "ends with colon", "capitals per word", "abbreviations", "quotes",
    "non-ASCII", "years", "units", "commas per word", "brackets per word", "dollar signs",
)  # fmt: skip
_WORD_NAMES = (
    "words", "word length", "longest word", "distinct words", "numbers", "numbers per word",
    "largest number", "decimals", "negations", "asks for a value", "asks for a choice",
    "asks for a reason", "conditions", "people",
)  # fmt: skip
_OPTION_NAMES = (
    "options", "option length", "longest option", "option length spread", "option words",
    "numeric options", "digits in options", "order of numeric options",
    "overlap of options and question", "distinct option words", "none or all of the above",
    "options begin with a capital", "options end with a full stop", "options of one word",
)  # fmt: skip
SURFACE_NAMES: tuple[str, ...] = _FORM_NAMES + _WORD_NAMES + _OPTION_NAMES
"""What the surface values are, in their order."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A text, taken apart.

    Attributes:
        text: The text, cut to at most 8,000 characters.
        stem: The text before the offered answers.
        options: The offered answers.
        tokens: Words in lower case, numbers and signs of the stem.
        option_tokens: The same for each offered answer.
    """

    text: str
    stem: str
    options: tuple[str, ...]
    tokens: tuple[str, ...]
    option_tokens: tuple[tuple[str, ...], ...]


def read(text: str) -> Reading:
    r"""Take a text apart.

    Example:
        >>> reading = read("What is 2 + 2?\nA. 3\nB. 4")
        >>> reading.tokens, reading.options
        (('what', 'is', '2', '+', '2', '?'), ('3', '4'))
    """
    text, stem, options, _ = take_apart(text)
    return Reading(text, stem, options, _tokens(stem), tuple(map(_tokens, options)))


def _tokens(text: str) -> tuple[str, ...]:
    return tuple(TOKEN.findall(text.lower()))


class Token(NamedTuple):
    """A word, number or sign under its hashes: what all its places in texts have in common.

    Attributes:
        own: The CRC of its shape: itself, or of a number only the form ("0.00").
        after_space: The bytes of its shape behind a space.
        keys: The keys of its terms: the shape, the first four and the last three letters of
            longer words.
    """

    own: int
    after_space: bytes
    keys: tuple[int, ...]


def term_keys(reading: Reading) -> list[int]:
    """Return the hashes, 18 bits each, of all terms of a text, repeated as they are in it.

    Terms are words, pairs of neighbours, the first four and the last three letters of longer
    words, the shape of numbers ("0.00"), signs, and how the question begins and ends.
    """
    stem = list(map(_known, reading.tokens))
    keys = [begin_key(token) for token in stem[:2]]
    keys += [end_key(token) for token in stem[-3:]]
    for part in (stem, *(list(map(_known, tokens)) for tokens in reading.option_tokens)):
        for token in part:
            keys += token.keys
        # The hash of "a b" goes on from that of "a".
        keys += [crc32(right.after_space, left.own) & MASK for left, right in pairwise(part)]
    return keys


def begin_key(token: Token) -> int:
    """Return the key of a text that has a token among its first two."""
    return crc32(token.after_space[1:], _BEGINS) & MASK


def end_key(token: Token) -> int:
    """Return the key of a text that has a token among its last three."""
    return crc32(token.after_space[1:], _ENDS) & MASK


def token_of(text: str) -> Token:
    """Hash a token."""
    shape = text
    if text[0].isdigit():
        shape = "".join("0" if sign.isdigit() else sign for sign in text[:6])
    plain = _bytes(shape)
    own = crc32(plain)
    if len(shape) <= 4 or not shape[0].isalpha():
        return Token(own, b" " + plain, (own & MASK,))
    head, end = crc32(_bytes(f"{shape[:4]}-")), crc32(_bytes(f"-{shape[-3:]}"))
    return Token(own, b" " + plain, (own & MASK, head & MASK, end & MASK))


_remembered = lru_cache(maxsize=32_768)(token_of)


def _known(token: str) -> Token:
    # No text is to fill the memory with its longest words.
    return _remembered(token) if len(token) <= _MAX_REMEMBERED else token_of(token)


def _bytes(term: str) -> bytes:
    return term.encode("utf-8", "surrogatepass")


def surface_values(reading: Reading) -> list[float]:
    """Describe the surface of a text in numbers, in the order of `SURFACE_NAMES`."""
    return [*_form_values(reading), *_word_values(reading), *_option_values(reading)]


def _form_values(reading: Reading) -> tuple[float, ...]:
    text, stem, log = reading.text, reading.stem, math.log1p
    words = max(len(reading.tokens), 1)
    end = stem.rstrip()
    sentences = _SENTENCE_END.split(stem)
    ascii_only = text.isascii()
    signs = _ASCII_FORMAL if ascii_only else FORMAL
    formal = sum(map(stem.count, signs))
    all_formal = formal if not reading.options else sum(map(text.count, signs))
    digits = any(token[0].isdigit() for token in reading.tokens)
    return (
        log(len(text)),
        log(len(stem)),
        log(len(text) - len(stem)),
        log(stem.count("\n")),
        log(len(sentences)),
        log(max(map(len, sentences))),
        log(text.count("\\") + text.count("^") + text.count("_{")),
        log(formal),
        log(all_formal - formal),
        float(shows_code(text)),
        float("__" in stem),
        float(end.endswith("?")),
        float(end.endswith(":")),
        len(CAPITAL.findall(stem)) / words,
        log(len(ABBREVIATION.findall(stem))),
        log(sum(map(text.count, _ASCII_QUOTES if ascii_only else QUOTES))),
        0.0 if ascii_only else 1 - len(text.encode("ascii", "ignore")) / len(text),
        log(len(YEAR.findall(stem)) if digits else 0),
        log(count_units(stem) if digits else 0),
        stem.count(",") / words,
        (text.count("(") + text.count("[")) / words,
        log(text.count("$")),
    )


def shows_code(text: str) -> bool:
    """Say whether more than one place of a text looks like code."""
    if any(sign in text for sign in _CODE_SIGNS):
        return len(_CODE.findall(text)) > 1
    return text.count("(") > 1 and len(_CALL.findall(text)) > 1


def count_units(stem: str) -> int:
    """Count numbers with a unit."""
    return len(_UNIT.findall(stem.lower()))


def longest_sentence(stem: str) -> int:
    """Return the characters of the longest sentence."""
    return max(map(len, _SENTENCE_END.split(stem)))


def _word_values(reading: Reading) -> tuple[float, ...]:
    log = math.log1p
    words = [token for token in reading.tokens if token[0].isalpha()]
    numbers = [token for token in reading.tokens if token[0].isdigit()]
    lengths = list(map(len, words)) or [0]
    count = max(len(words), 1)
    return (
        log(len(words)),
        sum(lengths) / count,
        float(min(max(lengths), 30)),
        len(set(words)) / count,
        log(len(numbers)),
        len(numbers) / count,
        float(max((len(number.partition(".")[0]) for number in numbers), default=0)),
        log(sum("." in number for number in numbers)),
        log(sum(map(_NEGATIONS.__contains__, words))),
        log(sum(map(_ASKS_VALUE.__contains__, words))),
        log(sum(map(_ASKS_CHOICE.__contains__, words))),
        log(sum(map(_ASKS_REASON.__contains__, words))),
        sum(map(_CONDITIONS.__contains__, words)) / count,
        sum(map(_PEOPLE.__contains__, words)) / count,
    )


def _option_values(reading: Reading) -> tuple[float, ...]:
    options, count = reading.options, len(reading.options)
    if not count:
        return (0.0,) * len(_OPTION_NAMES)
    log = math.log1p
    lengths = list(map(len, options))
    mean = sum(lengths) / count
    spread = math.sqrt(sum((length - mean) ** 2 for length in lengths) / count)
    words = [{token for token in tokens if token[0].isalpha()} for tokens in reading.option_tokens]
    all_words = set().union(*words)
    sizes = sum(map(len, words))
    offered = offered_values(options)
    return (
        float(count),
        log(mean),
        log(max(lengths)),
        spread / (1 + mean),
        log(sizes / count),
        offered.numeric / count,
        sum(map(str.isdigit, "".join(options))) / (1 + sum(lengths)),
        offered.order,
        len(all_words.intersection(reading.tokens)) / (1 + len(all_words)),
        len(all_words) / (1 + sizes),
        float(offered.above),
        offered.capitals / count,
        offered.full_stops / count,
        sum(len(tokens) == 1 for tokens in reading.option_tokens) / count,
    )
