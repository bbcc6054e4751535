"""Chains of moves from a few numbers: how the sandbox solves a Countdown puzzle."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

__all__ = ["Chain", "chains", "first_chain", "write_chain"]

Move = tuple[int, str, int, int]
Chain = tuple[Move, ...]
"""Moves one after the other, each from left, sign, right and result; all but the first go on from
the result of the one before."""


def chains(numbers: Sequence[int]) -> Iterator[Chain]:
    """Yield every chain of moves that can be made from some of the numbers, shorter ones first.

    All results are whole and positive.

    Example:
        >>> sum(1 for _ in chains([2, 3]))
        5
    """
    # A result on the left, and what is left to use; the first number is chosen as a result is.
    begun: list[tuple[Chain, int, tuple[int, ...]]] = [
        ((), number, (*numbers[:at], *numbers[at + 1 :])) for at, number in enumerate(numbers)
    ]
    while begun:
        longer: list[tuple[Chain, int, tuple[int, ...]]] = []
        for made, value, left in begun:
            for at, number in enumerate(left):
                rest = (*left[:at], *left[at + 1 :])
                longer += [((*made, move), move[3], rest) for move in _moves(value, number)]
        yield from (made for made, _, _ in longer)
        begun = longer


def _moves(left: int, right: int) -> Iterator[Move]:
    yield (left, "+", right, left + right)
    yield (left, "*", right, left * right)
    if left > right:
        yield (left, "-", right, left - right)
    if right and left % right == 0:
        yield (left, "/", right, left // right)


def write_chain(chain: Chain) -> str:
    """Write a chain as one expression.

    Example:
        >>> write_chain(((3, "+", 5, 8), (8, "*", 3, 24)))
        '(3+5)*3'
    """
    text = str(chain[0][0])
    before = "*"
    for _, sign, right, _ in chain:
        text = f"({text})" if sign in "*/" and before in "+-" else text
        text, before = f"{text}{sign}{right}", sign
    return text


def first_chain(target: int, numbers: Sequence[int]) -> Chain | None:
    """Return the first of the shortest chains that reach `target`; `None` if there is none.

    Example:
        >>> write_chain(first_chain(24, [3, 5, 3]))
        '(3+5)*3'
    """
    return next((chain for chain in chains(numbers) if chain[-1][3] == target), None)
