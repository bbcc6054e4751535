"""From the rewards of a group to the weight of each response in the gradient.

All groups are sequences with a value for each response, `None` for one that carries no signal: it
is left out of mean and count, and its weight is 0. On the rest the estimators stay unbiased, since
those that are left are a sample of the policy given that its response can be verified.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite, sqrt

from langchain_hybridflow.errors import ConfigurationError

__all__ = ["DualVariable", "centred", "group_weights", "normalised", "priced"]


def centred(values: Sequence[float | None]) -> list[float | None]:
    """Return r_i - mean r.

    Example:
        >>> centred([1.0, 0.0, None])
        [0.5, -0.5, None]
    """
    known = [value for value in values if value is not None]
    if not known:
        return list(values)
    # Equal rewards carry no signal; a mean that was rounded must not make one.
    if all(value == known[0] for value in known):
        return [None if value is None else 0.0 for value in values]
    mean = sum(known) / len(known)
    return [None if value is None else value - mean for value in values]


def normalised(values: Sequence[float | None], *, epsilon: float = 1e-4) -> list[float | None]:
    """Return (r_i - mean r) / (std r + epsilon), as GRPO has it.

    It makes the groups {0, .., a_c} and {0, .., a_a} equal: how much a reward is worth is lost.

    Example:
        >>> [round(value, 1) for value in normalised([0.0, 0.5]) + normalised([0.0, 1.0])]
        [-0.7, 0.7, -0.7, 0.7]
    """
    differences = centred(values)
    known = [value for value in differences if value is not None]
    if len(known) < 2:
        return [None if value is None else 0.0 for value in values]
    std = sqrt(sum(value * value for value in known) / (len(known) - 1))
    return [None if value is None else value / (std + epsilon) for value in differences]


def priced(
    values: Sequence[float | None], asks: Sequence[bool], *, price: float
) -> list[float | None]:
    """Return (r_i - mean r) - lambda (c_i - mean c), the advantage of DA-GRPO.

    Args:
        values: Rewards r.
        asks: Whether each response asks (c).
        price: lambda, what asking costs.

    Example:
        >>> priced([1.0, 0.5], [False, True], price=0.5)
        [0.5, -0.5]
    """
    costs = [
        None if value is None else float(asked) for value, asked in zip(values, asks, strict=True)
    ]
    return [
        None if gain is None or cost is None else gain - price * cost
        for gain, cost in zip(centred(values), centred(costs), strict=True)
    ]


def group_weights(advantages: Sequence[float | None]) -> list[float]:
    """Return what each grad log pi(y_i|x) is multiplied with: A_i / (n - 1).

    The paper's estimator, where A is centred: 1/(G-1) sum_i grad log pi(y_i|x) (r_i - mean r).
    A group in which fewer than two responses carry a signal has no baseline, and weighs nothing.

    Example:
        >>> group_weights([0.5, -0.5, None])
        [0.5, -0.5, 0.0]
    """
    n = sum(value is not None for value in advantages)
    if n < 2:
        return [0.0] * len(advantages)
    return [0.0 if value is None else value / (n - 1) for value in advantages]


@dataclass(slots=True)
class DualVariable:
    """The price of asking in DA-GRPO: lambda <- max(0, lambda + eta (rate - tau)).

    Args:
        target: tau, the share of responses that should ask; from 0 to 1.
        step: eta.
        value: lambda_0.

    Raises:
        ConfigurationError: A value cannot be.

    Example:
        >>> price = DualVariable(target=0.3)
        >>> price.update(0.9)
        >>> round(price.value, 6)
        0.506
    """

    target: float
    step: float = 1e-2
    value: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.target <= 1:
            raise ConfigurationError(f"The target share must be from 0 to 1, not {self.target!r}.")
        for name in ("step", "value"):
            number = getattr(self, name)
            if not (isfinite(number) and number >= 0):
                raise ConfigurationError(
                    f"The dual variable's {name} must be >= 0 and finite, not {number!r}."
                )

    def update(self, rate: float) -> None:
        """Take a step.

        Args:
            rate: The share of responses that asked.
        """
        self.value = max(0.0, self.value + self.step * (rate - self.target))
