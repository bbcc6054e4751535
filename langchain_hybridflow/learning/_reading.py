"""Read a text once: its words, numbers and signs, and what its surface looks like.

Everything that the text features need comes out of one pass over the tokens, because a decision
has a millisecond. Offered answers ("A. ...", "B) ...") are told apart from the question before
them: how they look says a good deal about where a question comes from and how hard it is.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from itertools import pairwise
from zlib import crc32

__all__ = ["SURFACE_NAMES", "Reading", "read", "shortened", "surface_values", "term_keys"]

MAX_CHARS = 8_000
"""Longer texts are read at both ends: the instruction is usually first, the question last."""

HASH_BITS = 18
_MASK = (1 << HASH_BITS) - 1
_BEGINS, _ENDS = crc32(b"^"), crc32(b"$")

_OPTION = re.compile(r"^[ \t]*\(?([A-P])[.):][ \t]+(.*)$", re.MULTILINE)
_TOKEN = re.compile(r"[^\W\d_]+|\d+(?:[.,]\d+)*|[^\w\s]|_+")
_SENTENCE_END = re.compile(r"[.!?;](?:\s|$)")
_CODE = re.compile(r"```|\bdef \w|\bassert |\breturn\b|;\n|\w\(\w*\)")
_CAPITAL = re.compile(r"\b[^\W\d_a-z]")
_ABBREVIATION = re.compile(r"\b[A-Z]{2,}\b")
_UNIT = re.compile(
    r"\d ?(?:k?g|[ckm]?m|ft|in|lbf?|psi[ag]?|k?pa|atm|m?mol|k?hz|k?[vw]|ohms?|amps?|btu|k?j|"
    r"k?cal|ev|[cfk]|°|%|s|ms|min|hr?)\b"
)
_YEAR = re.compile(r"\b(?:1[5-9]|20)\d\d\b")
_OPTION_NUMBER = re.compile(r"[^\w.]{0,3}(-?\d{1,12}(?:,\d{3}){0,4}(?:\.\d{1,12})?)")
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
_FORMAL = frozenset("=^∑∫√≤≥<>*+/|\\{}∈∀∃→²³")
_QUOTES = frozenset("\"'\u201c\u201d\u2018\u2019`")
_NO_TOKENS: tuple[str, ...] = ()

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
    text = shortened(text)
    found = list(_OPTION.finditer(text))
    if len(found) < 2:
        return Reading(text, text, _NO_TOKENS, _tokens(text), ())
    options = tuple(match.group(2).strip() for match in found)
    stem = text[: found[0].start()]
    return Reading(text, stem, options, _tokens(stem), tuple(map(_tokens, options)))


def shortened(text: str) -> str:
    """Return a text, or both ends of one that is longer than 8,000 characters."""
    if len(text) <= MAX_CHARS:
        return text
    return f"{text[: MAX_CHARS // 2]}\n{text[-MAX_CHARS // 2 :]}"


def _tokens(text: str) -> tuple[str, ...]:
    return tuple(_TOKEN.findall(text.lower()))


@dataclass(frozen=True, slots=True)
class _Token:
    """A word, number or sign under its hashes: what all its places in texts have in common."""

    own: int
    after_space: bytes
    keys: tuple[int, ...]


def term_keys(reading: Reading, memo: dict[str, _Token]) -> list[int]:
    """Return the hashes, 18 bits each, of all terms of a text, repeated as they are in it.

    Terms are words, pairs of neighbours, the first four and the last three letters of longer
    words, the shape of numbers ("0.00"), signs, and how the question begins and ends.

    Args:
        reading: The text.
        memo: What was found out about tokens so far; share it among the texts of a batch.
    """
    stem = [memo.get(token) or _remember(token, memo) for token in reading.tokens]
    keys = [_key(crc32(token.after_space[1:], _BEGINS)) for token in stem[:2]]
    keys += [_key(crc32(token.after_space[1:], _ENDS)) for token in stem[-3:]]
    parts = [stem]
    parts += (
        [memo.get(token) or _remember(token, memo) for token in tokens]
        for tokens in reading.option_tokens
    )
    for part in parts:
        for token in part:
            keys += token.keys
        # The hash of "a b" goes on from that of "a".
        keys += [crc32(right.after_space, left.own) & _MASK for left, right in pairwise(part)]
    return keys


def _remember(token: str, memo: dict[str, _Token]) -> _Token:
    shape = _shape(token)
    terms = [shape]
    if len(shape) > 4 and shape[0].isalpha():
        terms += [f"{shape[:4]}-", f"-{shape[-3:]}"]
    hashes = [crc32(_bytes(term)) for term in terms]
    found = _Token(hashes[0], _bytes(f" {shape}"), tuple(map(_key, hashes)))
    memo[token] = found
    return found


def _shape(token: str) -> str:
    if token[0].isdigit():
        return "".join("0" if sign.isdigit() else sign for sign in token[:6])
    return token


def _bytes(term: str) -> bytes:
    return term.encode("utf-8", "surrogatepass")


def _key(value: int) -> int:
    return value & _MASK


def surface_values(reading: Reading) -> list[float]:
    """Describe the surface of a text in numbers, in the order of `SURFACE_NAMES`."""
    return [*_form_values(reading), *_word_values(reading), *_option_values(reading)]


def _form_values(reading: Reading) -> tuple[float, ...]:
    text, stem, log = reading.text, reading.stem, math.log1p
    words = max(len(reading.tokens), 1)
    end = stem.rstrip()
    sentences = _SENTENCE_END.split(stem)
    formal = sum(map(stem.count, _FORMAL))
    all_formal = formal if not reading.options else sum(map(text.count, _FORMAL))
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
        float(len(_CODE.findall(text)) > 1),
        float("__" in stem),
        float(end.endswith("?")),
        float(end.endswith(":")),
        len(_CAPITAL.findall(stem)) / words,
        log(len(_ABBREVIATION.findall(stem))),
        log(sum(map(text.count, _QUOTES))),
        0.0 if text.isascii() else 1 - len(text.encode("ascii", "ignore")) / len(text),
        log(len(_YEAR.findall(stem))),
        log(len(_UNIT.findall(stem.lower()))),
        stem.count(",") / words,
        (text.count("(") + text.count("[")) / words,
        log(text.count("$")),
    )


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
    values = [value for value in map(_leading_number, options) if value is not None]
    lowered = [option.lower() for option in options]
    return (
        float(count),
        log(mean),
        log(max(lengths)),
        spread / (1 + mean),
        log(sizes / count),
        len(values) / count,
        sum(map(str.isdigit, "".join(options))) / (1 + sum(lengths)),
        _order(values),
        len(all_words.intersection(reading.tokens)) / (1 + len(all_words)),
        len(all_words) / (1 + sizes),
        float(any("of the above" in option or "of these" in option for option in lowered)),
        sum(option[:1].isupper() for option in options) / count,
        sum(option.endswith(".") for option in options) / count,
        sum(len(tokens) == 1 for tokens in reading.option_tokens) / count,
    )


def _leading_number(option: str) -> float | None:
    """Return the number that an offered answer is, if it is one with at most two words behind."""
    match = _OPTION_NUMBER.match(option)
    if match is None or option.count(" ") > 3:
        return None
    return float(match.group(1).replace(",", ""))


def _order(values: list[float]) -> float:
    """Say how far numbers are sorted: 1 rising, -1 falling, about 0 in no order or too few."""
    steps = list(pairwise(values))
    if not steps:
        return 0.0
    return sum((b > a) - (b < a) for a, b in steps) / len(steps)
