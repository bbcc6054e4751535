"""Lay out many texts for numpy: all their parts, pieces and tokens, one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

from langchain_hybridflow.learning._lexicon import PIECE_COUNTS, Tables, lexicon

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]

__all__ = ["PLACES", "Page", "Parts", "Tokens", "laid_out", "tokens_of"]

PLACES = {name: place for place, name in enumerate(PIECE_COUNTS)}


@dataclass(frozen=True, slots=True)
class Page:
    """A text, taken apart.

    Attributes:
        text: The text, cut to at most 8,000 characters.
        stem: The text before the offered answers.
        options: The offered answers.
        rest: What is neither: their letters, and what stands between and behind them.
    """

    text: str
    stem: str
    options: tuple[str, ...]
    rest: str


@dataclass(frozen=True, slots=True)
class Parts:
    """The stem, each option and the rest of all pages, one part after the other.

    Attributes:
        owner: Shape (parts,), the page of each.
        stems: Shape (pages,), which of the parts the stems are.
        options: Shape (options,), which of them the options are.
        pieces: Shape (pieces,), the numbers of all pieces.
        bounds: Shape (parts + 1,), where the pieces of each part begin and end.
        counts: Shape (parts, 24), `PIECE_COUNTS` of each part.
        tables: What is known of the pieces.
    """

    owner: Ints
    stems: Ints
    options: Ints
    pieces: Ints
    bounds: Ints
    counts: Ints
    tables: Tables

    def of(self, name: str) -> Ints:
        """Return one of the counts, shape (parts,)."""
        return self.counts[:, PLACES[name]]


@dataclass(frozen=True, slots=True)
class Tokens:
    """All tokens of the stems and options.

    Attributes:
        numbers: Shape (tokens,), their numbers in the lexicon.
        parts: Shape (tokens,), the part that each is in.
        bounds: Shape (parts + 1,), where the tokens of each part begin and end.
    """

    numbers: Ints
    parts: Ints
    bounds: Ints


def laid_out(pages: Sequence[Page]) -> Parts:
    """Lay out pages, with what the lexicon counts in their parts."""
    import numpy as np

    pieces = [part.split() for page in pages for part in (page.stem, *page.options, page.rest)]
    offered = np.array([len(page.options) for page in pages], dtype=np.int64)
    ends = np.cumsum(offered + 2)
    owner = np.repeat(np.arange(len(pages)), offered + 2)
    is_option = np.ones(len(pieces), dtype=bool)
    is_option[ends - 1] = is_option[ends - offered - 2] = False
    numbers, tables = lexicon().numbers([*chain.from_iterable(pieces)])
    bounds = _bounds(np.fromiter(map(len, pieces), np.int64, len(pieces)))
    # Four counts in one number: no sum of one part outgrows its 16 bits, so none spills over.
    sums = np.zeros((len(numbers) + 1, len(PIECE_COUNTS) // 4), dtype=np.uint64)
    np.cumsum(tables.counts.take(numbers, axis=0), axis=0, out=sums[1:])
    counts = (sums[bounds[1:]] - sums[bounds[:-1]]).view(np.uint16).astype(np.int64)
    return Parts(
        owner=owner,
        stems=ends - offered - 2,
        options=np.flatnonzero(is_option),
        pieces=numbers,
        bounds=bounds,
        counts=counts,
        tables=tables,
    )


def _bounds(sizes: Ints) -> Ints:
    import numpy as np

    bounds = np.zeros(len(sizes) + 1, dtype=np.int64)
    np.cumsum(sizes, out=bounds[1:])
    return bounds


def tokens_of(parts: Parts) -> Tokens:
    """Return the tokens of all stems and options."""
    import numpy as np

    # The rest counts for the form of a text, but is none of its words.
    sizes = parts.of("tokens").copy()
    rests = np.append(parts.stems[1:], len(sizes)) - 1
    kept = np.ones(len(sizes), dtype=bool)
    kept[rests] = False
    pieces = parts.pieces[np.repeat(kept, np.diff(parts.bounds))]
    sizes[rests] = 0
    starts, lengths = parts.tables.pieces[0].take(pieces), parts.tables.pieces[1].take(pieces)
    before = _bounds(lengths)
    places = np.arange(before[-1]) + np.repeat(starts - before[:-1], lengths)
    return Tokens(
        numbers=parts.tables.sequence[0].take(places),
        parts=np.repeat(np.arange(len(sizes)), sizes),
        bounds=_bounds(sizes),
    )
