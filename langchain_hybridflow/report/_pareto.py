"""Which points nothing beats."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

__all__ = ["unbeaten"]

T = TypeVar("T")


def unbeaten(
    points: Iterable[T], *, cost: Callable[[T], float], worth: Callable[[T], float]
) -> list[T]:
    """Return the points that no other beats in both cost and worth, the cheapest first.

    Example:
        >>> unbeaten([(1, 5), (2, 4), (3, 6)], cost=lambda p: p[0], worth=lambda p: p[1])
        [(1, 5), (3, 6)]
    """
    best: list[T] = []
    for point in sorted(points, key=lambda point: (cost(point), -worth(point))):
        if not best or worth(point) > worth(best[-1]):
            best.append(point)
    return best
