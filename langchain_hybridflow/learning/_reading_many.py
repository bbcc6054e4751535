"""Read many texts at once, as `_reading` reads one.

Python takes each text apart into pieces; what pieces and tokens are is known from a lexicon, and
counting them is left to numpy. For a handful of texts its calls take longer than the counting;
of a thousand each takes a third of the time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from langchain_hybridflow.learning._lexicon import pair_keys
from langchain_hybridflow.learning._offers import offered_values, take_apart
from langchain_hybridflow.learning._pages import PLACES, Page, Parts, Tokens, laid_out, tokens_of
from langchain_hybridflow.learning._reading import (
    SURFACE_NAMES,
    count_units,
    longest_sentence,
    shows_code,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Numbers = NDArray[np.float64]
    Ints = NDArray[np.int64]
    Column = Numbers | Ints

__all__ = ["Readings", "read_many"]

_AT_ONCE = 1_024  # texts: more at once are no faster, and take memory


@dataclass(frozen=True, slots=True)
class Readings:
    """What n texts consist of.

    Attributes:
        surface: Shape (n, 50), in the order of `SURFACE_NAMES`.
        rows: Shape (terms,), the text of each term.
        keys: Shape (terms,), its hash, 18 bits, repeated as it is in the text. Terms are words,
            pairs of neighbours, the first four and the last three letters of longer words, the
            shape of numbers ("0.00"), signs, and how the question begins and ends.
    """

    surface: Floats
    rows: Ints
    keys: Ints


def read_many(texts: Sequence[str]) -> Readings:
    r"""Read texts.

    Example:
        >>> readings = read_many(["What is 2 + 2?\nA. 3\nB. 4"])
        >>> found = dict(zip(SURFACE_NAMES, readings.surface[0].tolist()))
        >>> found["options"], found["ends with question mark"]
        (2.0, 1.0)
    """
    import numpy as np

    if not texts:
        nothing = np.zeros(0, dtype=np.int64)
        surface = np.zeros((0, len(SURFACE_NAMES)), dtype=np.float32)
        return Readings(surface=surface, rows=nothing, keys=nothing)
    if len(texts) <= _AT_ONCE:
        return _read(texts)
    parts = [_read(texts[start : start + _AT_ONCE]) for start in range(0, len(texts), _AT_ONCE)]
    return Readings(
        surface=np.concatenate([part.surface for part in parts]),
        rows=np.concatenate([part.rows + _AT_ONCE * i for i, part in enumerate(parts)]),
        keys=np.concatenate([part.keys for part in parts]),
    )


def _read(texts: Sequence[str]) -> Readings:
    import numpy as np

    pages = [Page(*take_apart(text)) for text in texts]
    parts = laid_out(pages)
    tokens = tokens_of(parts)
    rows, keys = _terms(parts, tokens)
    words = _words_of(tokens, parts, parts.stems)
    columns = (
        *_form_columns(pages, parts),
        *_word_columns(parts, words),
        *_option_columns(pages, parts, tokens, words),
    )
    surface = np.empty((len(pages), len(SURFACE_NAMES)), dtype=np.float32)
    for place, column in enumerate(columns):
        surface[:, place] = column
    return Readings(surface=surface, rows=rows, keys=keys)


def _terms(parts: Parts, tokens: Tokens) -> tuple[Ints, Ints]:
    """Return the text and the key of each term."""
    import numpy as np

    facts, numbers = parts.tables.tokens, tokens.numbers
    rows = parts.owner.take(tokens.parts)
    own, head, end = facts[3].take(numbers), facts[4].take(numbers), facts[5].take(numbers)
    long = np.flatnonzero(head >= 0)
    left = np.flatnonzero(tokens.parts[1:] == tokens.parts[:-1])
    right = numbers.take(left + 1)
    pairs = pair_keys(facts[0].take(numbers.take(left)), facts[1].take(right), facts[2].take(right))
    first, last = tokens.bounds[parts.stems], tokens.bounds[parts.stems + 1]
    begins = np.concatenate([first, first + 1])
    begins = begins[begins < np.concatenate([last, last])]
    ends = np.concatenate([last - 1, last - 2, last - 3])
    ends = ends[ends >= np.concatenate([first, first, first])]
    long_rows = rows.take(long)
    return (
        np.concatenate([
            rows, long_rows, long_rows, rows.take(left), rows.take(begins), rows.take(ends)
        ]),
        np.concatenate([
            own,
            head.take(long),
            end.take(long),
            pairs,
            facts[6].take(numbers.take(begins)),
            facts[7].take(numbers.take(ends)),
        ]),
    )  # fmt: skip


def _form_columns(pages: Sequence[Page], parts: Parts) -> tuple[Column, ...]:
    import numpy as np

    log, stems = np.log1p, parts.stems
    facts = np.array([_form(page) for page in pages], dtype=float).T
    chars, stem_chars, lines, longest, code, question, colon, foreign = facts
    words = np.maximum(parts.of("tokens")[stems], 1)
    whole = np.add.reduceat(parts.counts, stems)
    formal, all_formal = parts.of("formal")[stems], whole[:, PLACES["formal"]]
    units = np.zeros(len(pages))
    for row in np.flatnonzero(parts.of("units")[stems]).tolist():
        units[row] = count_units(pages[row].stem)
    return (
        log(chars),
        log(stem_chars),
        log(chars - stem_chars),
        log(lines),
        log(parts.of("sentence ends")[stems] + 1),
        log(longest),
        log(whole[:, PLACES["latex"]]),
        log(formal),
        log(all_formal - formal),
        code,
        np.minimum(parts.of("blanks")[stems], 1),
        question,
        colon,
        parts.of("capitals")[stems] / words,
        log(parts.of("abbreviations")[stems]),
        log(whole[:, PLACES["quotes"]]),
        foreign,
        log(parts.of("years")[stems]),
        log(units),
        parts.of("commas")[stems] / words,
        whole[:, PLACES["brackets"]] / words,
        log(whole[:, PLACES["dollars"]]),
    )


def _form(page: Page) -> tuple[float, ...]:
    """Return what the pieces of a text do not tell."""
    text, stem = page.text, page.stem
    end = stem.rstrip()[-1:]
    foreign = 0.0 if text.isascii() else 1 - len(text.encode("ascii", "ignore")) / len(text)
    return (
        len(text),
        len(stem),
        stem.count("\n"),
        longest_sentence(stem),
        shows_code(text),
        end == "?",
        end == ":",
        foreign,
    )


def _words_of(tokens: Tokens, parts: Parts, chosen: Ints) -> Ints:
    """Return the distinct words of each of some parts: part << 32 | number, sorted."""
    import numpy as np

    wanted = np.zeros(len(parts.owner), dtype=bool)
    wanted[chosen] = True
    is_word = parts.tables.tokens[8].take(tokens.numbers) > 0
    places = np.flatnonzero(is_word & wanted.take(tokens.parts))
    return _distinct((tokens.parts.take(places) << 32) | tokens.numbers.take(places))


def _distinct(values: Ints) -> Ints:
    import numpy as np

    ordered: Ints = np.sort(values)
    return ordered.take(np.flatnonzero(np.diff(ordered, prepend=-1)))


def _word_columns(parts: Parts, distinct: Ints) -> tuple[Column, ...]:
    import numpy as np

    log, stems = np.log1p, parts.stems
    words, numbers = parts.of("words")[stems], parts.of("numbers")[stems]
    count = np.maximum(words, 1)
    return (
        log(words),
        parts.of("letters")[stems] / count,
        np.minimum(_largest(parts, 2), 30),
        np.bincount(distinct >> 32, minlength=len(parts.owner))[stems] / count,
        log(numbers),
        numbers / count,
        _largest(parts, 3),
        log(parts.of("decimals")[stems]),
        log(parts.of("negations")[stems]),
        log(parts.of("values")[stems]),
        log(parts.of("choices")[stems]),
        log(parts.of("reasons")[stems]),
        parts.of("conditions")[stems] / count,
        parts.of("people")[stems] / count,
    )


def _largest(parts: Parts, fact: int) -> Ints:
    """Return the largest value of a fact among the pieces of each stem, 0 without any."""
    import numpy as np

    starts = parts.bounds[:-1]
    filled = np.flatnonzero(parts.bounds[1:] > starts)
    found = np.zeros(len(starts), dtype=np.int64)
    if len(filled):
        values = parts.tables.pieces[fact].take(parts.pieces)
        found[filled] = np.maximum.reduceat(values, starts[filled])
    return found[parts.stems]


def _option_columns(
    pages: Sequence[Page], parts: Parts, tokens: Tokens, stem_words: Ints
) -> list[Numbers]:
    import numpy as np

    found = np.zeros((14, len(pages)))
    if not len(parts.options):
        return list(found)
    owner = parts.owner[parts.options]
    rows, starts, counts = np.unique(owner, return_index=True, return_counts=True)
    lengths = np.array([len(option) for page in pages for option in page.options])
    chars = np.add.reduceat(lengths, starts)
    mean = chars / counts
    errors = (lengths - np.repeat(mean, counts)) ** 2
    sizes, union, shared = _option_words(parts, tokens, stem_words)
    numeric, order, above, capital, stop = zip(
        *(offered_values(pages[row].options) for row in rows.tolist()), strict=True
    )
    single = parts.of("tokens")[parts.options] == 1
    found[:, rows] = (
        counts,
        np.log1p(mean),
        np.log1p(np.maximum.reduceat(lengths, starts)),
        np.sqrt(np.add.reduceat(errors, starts) / counts) / (1 + mean),
        np.log1p(sizes[rows] / counts),
        np.array(numeric) / counts,
        np.add.reduceat(parts.of("digits")[parts.options], starts) / (1 + chars),
        order,
        shared[rows] / (1 + union[rows]),
        union[rows] / (1 + sizes[rows]),
        above,
        np.array(capital) / counts,
        np.array(stop) / counts,
        np.add.reduceat(single, starts, dtype=np.int64) / counts,
    )
    return list(found)


def _option_words(parts: Parts, tokens: Tokens, stem_words: Ints) -> tuple[Ints, Ints, Ints]:
    """Count the distinct words of options: summed, all together, and of those in the stem too."""
    import numpy as np

    pages = len(parts.stems)

    def by_page(words: Ints) -> Ints:
        return (parts.owner.take(words >> 32) << 32) | (words & 0xFFFFFFFF)

    def count(words: Ints) -> Ints:
        return np.bincount(words >> 32, minlength=pages)

    each = by_page(_words_of(tokens, parts, parts.options))
    union = _distinct(each)
    both = np.sort(np.concatenate([union, by_page(stem_words)]))
    return count(each), count(union), count(both[1:][both[1:] == both[:-1]])
