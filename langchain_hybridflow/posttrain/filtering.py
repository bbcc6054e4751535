"""Adaptive prompt filtering: which prompts of a batch the policy learns from.

D1 are the prompts with at least one right response of the model's own; D2 those with none, where
the cloud is right. As many of D2 are kept as |D2| <= rho |D1| allows; everything else is left out.
rho is a ratio: of all kept prompts at most the share rho / (1 + rho) is from D2.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from math import floor, isfinite
from typing import Any, Final, Literal, TypeAlias, get_args

from langchain_hybridflow.errors import ConfigurationError

__all__ = ["CARRIES", "Carry", "Kept", "PromptFilter", "rho_of_share", "share_of_rho"]

Carry: TypeAlias = Literal["none", "fraction", "all"]

CARRIES: Final[tuple[Carry, ...]] = get_args(Carry)
"""What may be taken over from a batch to the next."""

# Close enough for any share that a person writes down, and exact in 3/7.
_DENOMINATOR: Final = 1_000_000


def rho_of_share(share: float) -> float:
    """Return the ratio rho for a share of all traffic that may go to the cloud.

    Raises:
        ConfigurationError: The share is not from 0 to below 1.

    Example:
        >>> round(rho_of_share(0.3), 4)
        0.4286
    """
    if not 0 <= share < 1:
        raise ConfigurationError(f"A cloud share is from 0 to below 1, not {share!r}.")
    exact = Fraction(share).limit_denominator(_DENOMINATOR)
    return float(exact / (1 - exact))


def share_of_rho(rho: float) -> float:
    """Return rho / (1 + rho), the share of all traffic that a ratio stands for.

    Example:
        >>> round(share_of_rho(3 / 7), 4)
        0.3
    """
    return rho / (1 + rho)


@dataclass(frozen=True, slots=True)
class Kept:
    """Which prompts of a batch are learned from, by their place in it.

    Attributes:
        local: D1.
        help: What was kept of D2.
        candidates: How many D2 had before that.
    """

    local: tuple[int, ...]
    help: tuple[int, ...]
    candidates: int

    @property
    def all(self) -> frozenset[int]:
        """All places."""
        return frozenset(self.local + self.help)


@dataclass(slots=True)
class PromptFilter:
    """Keeps |D2| <= rho |D1|, by drawing lots among the candidates.

    Over any number of batches, so many of D2 were kept as rho times those of D1, or fewer.

    Args:
        rho: The ratio.
        carry: What a batch leaves to the next one of what it was allowed. "none": each batch
            alone keeps floor(rho |D1|), as in the paper; with few prompts in a batch and a small
            rho that may be nothing, ever. "fraction": what was lost by rounding, below one prompt,
            so that a batch keeps at most one prompt more than rho |D1|. "all": whatever was not
            used; after a long time of few candidates, a batch may then be full of them.
        carried: What the batches before have left.

    Raises:
        ConfigurationError: rho is negative or not finite, or there is no such carry.

    Example:
        >>> PromptFilter(rho=0.5).keep(local=[0, 2, 3], help=[1, 4], seed="1").help
        (1,)
    """

    rho: float
    carry: Carry = "fraction"
    carried: Fraction = Fraction(0)

    def __post_init__(self) -> None:
        if not (isfinite(self.rho) and self.rho >= 0):
            raise ConfigurationError(f"rho must be >= 0 and finite, not {self.rho!r}.")
        if self.carry not in CARRIES:
            raise ConfigurationError(
                f"There is no carry {self.carry!r}; choose {', '.join(CARRIES)}."
            )

    @property
    def exact_rho(self) -> Fraction:
        """The ratio as a fraction: 0.29 times 100 are 29 prompts, and not 28.999..."""
        return Fraction(self.rho).limit_denominator(_DENOMINATOR)

    def keep(self, *, local: Iterable[int], help: Iterable[int], seed: str) -> Kept:
        """Choose from a batch.

        Args:
            local: Places of D1.
            help: Places of the candidates for D2.
            seed: Of the lots; the same one draws the same.
        """
        ours, candidates = sorted(local), sorted(help)
        allowed = self.exact_rho * len(ours) + self.carried
        n = min(len(candidates), floor(allowed))
        chosen = sorted(random.Random(f"filter/{seed}").sample(candidates, n))
        left = allowed - n
        self.carried = {
            "none": Fraction(0),
            "fraction": left - floor(left),
            "all": left,
        }[self.carry]
        return Kept(tuple(ours), tuple(chosen), len(candidates))

    def state(self) -> dict[str, Any]:
        """Return what the next batch needs to know, in plain JSON types."""
        return {"carried": str(self.carried)}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.carried = Fraction(state["carried"])
