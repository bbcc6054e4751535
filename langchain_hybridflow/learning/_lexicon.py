"""What is known of the pieces of texts, so that each is taken apart once and not once a request.

A piece is what stands between two white spaces ("(Paris)," say), a token a word, number or sign
of it. Texts share most of their pieces. A lexicon numbers them and keeps what the features need of
each in tables, where numpy finds it for all pieces of a thousand texts at once.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain, repeat
from threading import Lock
from typing import TYPE_CHECKING, Any
from zlib import crc32

from langchain_hybridflow.learning._reading import (
    ABBREVIATION,
    CAPITAL,
    FORMAL,
    MASK,
    QUOTES,
    TOKEN,
    WORD_KINDS,
    YEAR,
    begin_key,
    end_key,
    token_of,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]

__all__ = ["PIECE_COUNTS", "Lexicon", "Tables", "lexicon", "pair_keys"]

_MAX_CHARS = 2_000_000  # of all pieces: some 100 MB with the tables; ordinary prose needs a tenth
_MAX_SHIFT = 64
_KINDS_OF = {
    word: tuple(int(word in kind) for kind in WORD_KINDS) for word in frozenset().union(*WORD_KINDS)
}
_NO_KINDS = (0,) * len(WORD_KINDS)
_NONE = (0,) * 6

PIECE_COUNTS = (
    "latex", "formal", "capitals", "abbreviations", "quotes", "years", "commas", "brackets",
    "dollars", "blanks", "tokens", "words", "letters", "numbers", "decimals", "negations",
    "values", "choices", "reasons", "conditions", "people", "digits", "sentence ends", "units",
)  # fmt: skip
"""What is counted in a piece; 24, so that four of them fit into each of six 64-bit numbers."""

PIECE_FACTS = ("first token", "tokens", "longest word", "largest number")
TOKEN_FACTS = ("own", "tail", "tail length", "key", "head key", "end key", "begins", "ends", "word")


@dataclass(frozen=True, slots=True)
class Tables:
    """Everything known of pieces and tokens, by their numbers.

    Attributes:
        counts: Shape (pieces, 6), the 24 `PIECE_COUNTS`, 16 bits each.
        pieces: Shape (4, pieces), `PIECE_FACTS`.
        sequence: Shape (1, any), the tokens of all pieces, one piece after the other.
        tokens: Shape (9, tokens), `TOKEN_FACTS`: the hash of the token's shape; that of the same
            behind a space, and its bytes; up to three keys of terms, -1 for none; those of a text
            that begins or ends with it; and whether it is a word.
    """

    counts: NDArray[np.uint64]
    pieces: Ints
    sequence: Ints
    tokens: Ints


class Lexicon:
    """Numbers pieces of text; safe to use from several threads.

    It only grows. What a number means never changes, so that tables read once its numbers are
    known hold all of them.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._pieces: dict[str, int] = {}
        self._tokens: dict[str, int] = {}
        self._length = self._chars = 0
        self._counts = _Table(len(PIECE_COUNTS), "uint16")
        self._facts = _Table(len(PIECE_FACTS), "int64")
        self._sequence = _Table(1, "int64")
        self._token_facts = _Table(len(TOKEN_FACTS), "int64")

    @property
    def full(self) -> bool:
        """Whether it is time for a new one."""
        return self._chars > _MAX_CHARS

    def numbers(self, pieces: Sequence[str]) -> tuple[Ints, Tables]:
        """Return the numbers of pieces, and tables that hold all of them."""
        import numpy as np

        found = np.fromiter(map(self._pieces.get, pieces, repeat(-1)), np.int64, len(pieces))
        missing = np.flatnonzero(found < 0)
        if len(missing):
            self._learn(dict.fromkeys(pieces[place] for place in missing.tolist()))
            known = self._pieces
            found[missing] = [known[pieces[place]] for place in missing.tolist()]
        return found, Tables(
            counts=self._counts.array.view(np.uint64),
            pieces=self._facts.array.T,
            sequence=self._sequence.array.T,
            tokens=self._token_facts.array.T,
        )

    def _learn(self, pieces: Iterable[str]) -> None:
        with self._lock:
            new = [piece for piece in pieces if piece not in self._pieces]
            first, start = len(self._pieces), self._length
            fresh: dict[str, int] = {}
            counts: list[tuple[int, ...]] = []
            facts: list[tuple[int, ...]] = []
            sequence: list[tuple[int, ...]] = []
            for piece in new:
                tokens, counted, largest = _described(piece)
                counts.append(counted)
                facts.append((start + len(sequence), len(tokens), *largest))
                sequence += [(self._number(token, fresh),) for token in tokens]
            self._token_facts.put(len(self._tokens), [_token_facts(token) for token in fresh])
            self._sequence.put(start, sequence)
            self._facts.put(first, facts)
            self._counts.put(first, counts)
            # Rows first, then what makes them known: an interrupt in between leaves no number
            # without its rows, and whoever finds a number finds them.
            self._tokens.update(fresh)
            self._length = start + len(sequence)
            self._chars += sum(map(len, new))
            self._pieces.update(zip(new, range(first, first + len(new)), strict=True))

    def _number(self, token: str, fresh: dict[str, int]) -> int:
        number = self._tokens.get(token)
        if number is None:
            number = fresh.setdefault(token, len(self._tokens) + len(fresh))
        return number


class _Table:
    """Rows in an array that grows."""

    def __init__(self, width: int, dtype: str) -> None:
        import numpy as np

        self.array: NDArray[Any] = np.zeros((1_024, width), dtype=dtype)

    def put(self, start: int, rows: Sequence[tuple[int, ...]]) -> None:
        """Write rows behind the first `start`, which stay."""
        import numpy as np

        if not rows:
            return
        end, array = start + len(rows), self.array
        if end > len(array):
            array = np.zeros((max(end, 2 * len(array)), array.shape[1]), dtype=array.dtype)
            array[:start] = self.array[:start]
        width = array.shape[1]
        flat = np.fromiter(chain.from_iterable(rows), array.dtype, width * len(rows))
        array[start:end] = flat.reshape(-1, width)
        self.array = array


@dataclass(slots=True)
class _Current:
    lexicon: Lexicon | None = None
    pid: int = 0


_CURRENT = _Current()


def lexicon() -> Lexicon:
    """Return the lexicon of this process, or a new one when it is full.

    It holds pieces of the texts of past requests, in memory only. A forked process begins its own:
    the one it has inherited may have been locked by a thread that it has not.
    """
    found = _CURRENT.lexicon
    if found is None or found.full or _CURRENT.pid != os.getpid():
        found = _CURRENT.lexicon = Lexicon()
        _CURRENT.pid = os.getpid()
    return found


def _described(piece: str) -> tuple[Sequence[str], tuple[int, ...], tuple[int, int]]:
    """Return the tokens of a piece, its `PIECE_COUNTS`, its longest word and largest number."""
    lowered = piece.lower()
    ascii_only = piece.isascii()
    if ascii_only and piece.isalpha():  # most pieces: one word and nothing else
        shouted = len(piece) > 1 and piece.isupper()
        kinds, size = _KINDS_OF.get(lowered, _NO_KINDS), len(piece)
        counts = (0, 0, piece[0].isupper(), shouted, *_NONE, 1, 1, size, 0, 0, *kinds, 0, 0, 0)
        return (lowered,), counts, (size, 0)
    tokens = TOKEN.findall(lowered)
    words = [token for token in tokens if token[0].isalpha()]
    numbers = [token for token in tokens if token[0].isdigit()]
    letters = [len(word) for word in words]
    whole = [len(number.partition(".")[0]) for number in numbers]
    cased = not ascii_only or piece != lowered
    counts = (
        piece.count("\\") + piece.count("^") + piece.count("_{"),
        sum(map(FORMAL.__contains__, piece)),
        len(CAPITAL.findall(piece)) if cased else 0,
        len(ABBREVIATION.findall(piece)) if cased else 0,
        sum(map(QUOTES.__contains__, piece)),
        len(YEAR.findall(piece)) if numbers else 0,
        piece.count(","),
        piece.count("(") + piece.count("["),
        piece.count("$"),
        "__" in piece,
        len(tokens),
        len(words),
        sum(letters),
        len(numbers),
        sum("." in number for number in numbers) if numbers else 0,
        *_kinds(words),
        sum(map(str.isdigit, piece)) if numbers or not ascii_only else 0,
        piece[-1] in ".!?;",
        bool(numbers),
    )
    return tokens, counts, (max(letters, default=0), max(whole, default=0))


def _kinds(words: list[str]) -> tuple[int, ...]:
    found = [_KINDS_OF[word] for word in words if word in _KINDS_OF]
    if not found:
        return _NO_KINDS
    return found[0] if len(found) == 1 else tuple(map(sum, zip(*found, strict=True)))


def _token_facts(text: str) -> tuple[int, ...]:
    """Describe a token in the order of `TOKEN_FACTS`."""
    token = token_of(text)
    _, head, end = (*token.keys, -1, -1)[:3]
    return (
        token.own,
        crc32(token.after_space),
        len(token.after_space),
        token.keys[0],
        head,
        end,
        begin_key(token),
        end_key(token),
        text[0].isalpha(),
    )


def pair_keys(own: Ints, tail: Ints, length: Ints) -> Ints:
    """Return the keys of pairs "a b": 18 bits of crc32(b" b", crc32(b"a")), without the texts.

    A CRC is linear: that of two strings is that of the second, xor that of the first moved on by
    the length of the second, and a number is moved on byte by byte of it.

    Args:
        own: Shape (n,), crc32(b"a").
        tail: Shape (n,), crc32(b" b").
        length: Shape (n,), bytes of " b".
    """
    import numpy as np

    moved = _shifts()
    while (far := length >= _MAX_SHIFT).any():  # words of more than 62 bytes
        own, length = own.copy(), length.copy()
        own[far] = _moved(moved, own[far], np.full(int(far.sum()), _MAX_SHIFT - 1))
        length[far] -= _MAX_SHIFT - 1
    keys: Ints = (_moved(moved, own, length) ^ tail) & MASK
    return keys


def _moved(table: Ints, values: Ints, length: Ints) -> Ints:
    row = length << 10
    found: Ints = table.take(row + (values & 255))
    found ^= table.take(row + ((values >> 8) & 255) + 256)
    found ^= table.take(row + ((values >> 16) & 255) + 512)
    found ^= table.take(row + (values >> 24) + 768)
    return found


@cache
def _shifts() -> Ints:
    """Return each byte of a CRC moved on by 0 to 63 zero bytes, flat: length, place, byte."""
    import numpy as np

    values = np.arange(256, dtype=np.int64)
    step = values.copy()
    for _ in range(8):
        step = np.where(step & 1, (step >> 1) ^ 0xEDB88320, step >> 1)
    rows = [np.concatenate([values << shift for shift in (0, 8, 16, 24)])]
    for _ in range(_MAX_SHIFT - 1):
        rows.append(step[rows[-1] & 255] ^ (rows[-1] >> 8))
    return np.concatenate(rows)
