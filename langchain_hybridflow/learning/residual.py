"""What is learnt on top of a trained predictor: a linear residual for each tier, and its doubt.

The model is Bayesian linear regression. With x the context of a decision, and r what the answer's
reward was beyond the quality foreseen of the tier that gave it,

    r = x . theta + noise,    theta ~ N(0, prior^2 I),    noise ~ N(0, sigma^2),

so the posterior is N(P^-1 b / sigma^2, P^-1) with P = I / prior^2 + A / sigma^2, A = sum x x^T and
b = sum r x. A and b are sums: several processes that learn into one store lose nothing. Each reward
multiplies what was known before by a discount, of *both* tiers, so that what is not tried any more
becomes doubtful again (Russac, Vernade, Cappe: "Weighted Linear Bandits for Non-Stationary
Environments", NeurIPS 2019). The doubt is what LinUCB (Li et al., WWW 2010) and Thompson sampling
(Agrawal & Goyal, ICML 2013) explore by.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import fsum, isfinite, sqrt
from typing import Any, Self

from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.routing import TIERS, Tier

__all__ = ["Arm", "Posterior", "ResidualState"]


@dataclass(frozen=True, slots=True)
class Arm:
    """The sufficient statistics of one tier.

    Attributes:
        gram: A, row by row.
        moment: b.
        updates: Rewards ever learnt from; not discounted.
    """

    gram: tuple[float, ...]
    moment: tuple[float, ...]
    updates: int = 0

    @classmethod
    def empty(cls, size: int) -> Self:
        """Return the statistics of nothing."""
        return cls((0.0,) * (size * size), (0.0,) * size)

    def scaled(self, factor: float) -> Arm:
        """Let what is known count for less."""
        return Arm(
            tuple(one * factor for one in self.gram),
            tuple(one * factor for one in self.moment),
            self.updates,
        )

    def __add__(self, other: Arm) -> Arm:
        return Arm(
            tuple(map(float.__add__, self.gram, other.gram)),
            tuple(map(float.__add__, self.moment, other.moment)),
            self.updates + other.updates,
        )


@dataclass(frozen=True, slots=True)
class ResidualState:
    """All that was learnt: the statistics of both tiers.

    Example:
        >>> state = ResidualState.empty(1).after("cloud", (1.0,), 0.5)
        >>> state.arms["cloud"], state.updates
        (Arm(gram=(1.0,), moment=(0.5,), updates=1), 1)
    """

    arms: Mapping[Tier, Arm] = field(default_factory=dict)

    @classmethod
    def empty(cls, size: int) -> Self:
        """Return the state in which nothing was learnt, for contexts of that size."""
        return cls({tier: Arm.empty(size) for tier in TIERS})

    @property
    def updates(self) -> int:
        """Rewards ever learnt from."""
        return sum(arm.updates for arm in self.arms.values())

    @property
    def size(self) -> int:
        """Length of a context."""
        return len(self.arms["edge"].moment)

    def after(
        self, tier: Tier, context: Sequence[float], residual: float, *, discount: float = 1.0
    ) -> ResidualState:
        """Learn one residual of one tier.

        Raises:
            ConfigurationError: The context has another size, or a number is not finite.
        """
        if len(context) != self.size or not all(map(isfinite, (*context, residual))):
            raise ConfigurationError(
                f"A context has {self.size} finite numbers and a finite residual, got "
                f"{tuple(context)!r} and {residual!r}."
            )
        one = Arm(
            tuple(left * right for left in context for right in context),
            tuple(residual * value for value in context),
            1,
        )
        return self.merged(ResidualState({tier: one}), discount=discount)

    def merged(self, delta: ResidualState, *, discount: float = 1.0) -> ResidualState:
        """Add what somebody else learnt in the meantime, as if it had come after all this.

        Args:
            delta: What was learnt, from nothing, with the same discount.
            discount: By how much each reward discounts those before it.
        """
        factor = discount**delta.updates
        nothing = Arm.empty(self.size)
        return ResidualState(
            {
                tier: arm.scaled(factor) + delta.arms.get(tier, nothing)
                for tier, arm in self.arms.items()
            }
        )

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON; floats come back to the last bit."""
        return {
            tier: {"gram": list(arm.gram), "moment": list(arm.moment), "updates": arm.updates}
            for tier, arm in self.arms.items()
        }

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Self:
        """Read what `to_json` returned."""
        return cls(
            {
                tier: Arm(
                    tuple(map(float, plain[tier]["gram"])),
                    tuple(map(float, plain[tier]["moment"])),
                    int(plain[tier]["updates"]),
                )
                for tier in TIERS
            }
        )


class Posterior:
    """What is believed of one tier's residual.

    Args:
        arm: Its statistics.
        prior: Standard deviation of each weight before anything is learnt.
        sigma: Standard deviation of a reward around its mean; 0.5 is the largest that a reward in
            0..1 can have.

    Example:
        >>> arm = ResidualState.empty(1).after("cloud", (1.0,), 0.5).arms["cloud"]
        >>> posterior = Posterior(arm, prior=0.5, sigma=0.5)
        >>> round(posterior.mean((1.0,)), 3), round(posterior.deviation((1.0,)), 3)
        (0.25, 0.354)
    """

    __slots__ = ("_lower", "_theta")

    def __init__(self, arm: Arm, *, prior: float, sigma: float) -> None:
        size = len(arm.moment)
        precision = [
            [
                arm.gram[row * size + column] / sigma**2 + (row == column) / prior**2
                for column in range(size)
            ]
            for row in range(size)
        ]
        self._lower = _cholesky(precision)
        half = _forward(self._lower, [value / sigma**2 for value in arm.moment])
        self._theta = _backward(self._lower, half)

    def mean(self, context: Sequence[float]) -> float:
        """Return the expected residual in a context."""
        return fsum(map(float.__mul__, self._theta, context))

    def deviation(self, context: Sequence[float]) -> float:
        """Return the standard deviation of that expectation."""
        half = _forward(self._lower, context)
        return sqrt(fsum(value * value for value in half))


# The matrices are of 6 rows: at that size plain Python is as quick as calling numpy.


def _cholesky(matrix: Sequence[Sequence[float]]) -> list[list[float]]:
    """Return L with L L^T = matrix, which must be positive definite."""
    lower: list[list[float]] = []
    for row, values in enumerate(matrix):
        done: list[float] = []
        for column in range(row):
            inner = fsum(map(float.__mul__, done, lower[column]))
            done.append((values[column] - inner) / lower[column][column])
        done.append(sqrt(values[row] - fsum(value * value for value in done)))
        lower.append(done)
    return lower


def _forward(lower: Sequence[Sequence[float]], values: Sequence[float]) -> list[float]:
    """Solve L y = values."""
    found: list[float] = []
    for row, value in zip(lower, values, strict=True):
        found.append((value - fsum(map(float.__mul__, found, row))) / row[-1])
    return found


def _backward(lower: Sequence[Sequence[float]], values: Sequence[float]) -> list[float]:
    """Solve L^T y = values."""
    found = list(values)
    for place in range(len(found) - 1, -1, -1):
        later = fsum(lower[row][place] * found[row] for row in range(place + 1, len(found)))
        found[place] = (found[place] - later) / lower[place][place]
    return found
