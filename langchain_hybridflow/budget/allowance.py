"""More than the limit, for one run: what a person has approved when a budget was exhausted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from langchain_hybridflow.budget.types import (
    DIMENSIONS,
    AccountState,
    Amounts,
    Dimension,
    Limits,
    micros_to_usd,
)
from langchain_hybridflow.errors import BudgetExceeded

__all__ = ["Allowance", "AskForMore", "Shortfall", "plain_amounts", "shortfalls"]


@dataclass(frozen=True, slots=True)
class Shortfall:
    """A limit that a call would have passed.

    Args:
        entry: Id of the account's scope: its name and window.
        scope: Its name.
        dimension: Of which there is too little.
        requested: What the call could have cost at worst, in ledger units.
        remaining: What was left, in the same unit.
        limit: The limit, in the same unit.
    """

    entry: str
    scope: str
    dimension: Dimension
    requested: int
    remaining: int
    limit: int

    def to_json(self) -> dict[str, Any]:
        """Return it in plain JSON types and in the units of people: USD as text."""
        name, unit = _people(self.dimension)
        return {
            "scope": self.scope,
            "window": self.entry.partition("/")[2] or None,
            "dimension": name,
            "requested": unit(self.requested),
            "remaining": unit(self.remaining),
            "limit": unit(self.limit),
        }


def shortfalls(
    states: Sequence[AccountState], amounts: Amounts, *, entries: Sequence[str]
) -> tuple[Shortfall, ...]:
    """Return every limit that a call would pass, not just the first one.

    Args:
        states: The accounts that it would be held in.
        amounts: The worst case of the call.
        entries: Ids of the scopes of these accounts, in the same order.
    """
    found: list[Shortfall] = []
    for entry, state in zip(entries, states, strict=True):
        for dimension in DIMENSIONS:
            requested: int = getattr(amounts, dimension)
            remaining = state.remaining(dimension)
            if remaining is not None and requested > 0 and requested > remaining:
                limit: int = getattr(state.account.limits, dimension)
                scope = state.account.scope
                found.append(Shortfall(entry, scope, dimension, requested, remaining, limit))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Allowance:
    """What one run may spend although limits of its budget are used up.

    Args:
        lifts: Ids of the scopes whose limits do not stop the run any more. The limits of all
            others do.
        amounts: What the run may spend in this way at most.

    Example:
        >>> Allowance(("budget/day",), Amounts(usd_micros=20_000, cloud_calls=1)).to_json()
        {'lifts': ['budget/day'], 'usd_micros': 20000, 'cloud_tokens': 0, 'cloud_calls': 1}
    """

    lifts: tuple[str, ...]
    amounts: Amounts

    @classmethod
    def covering(cls, lacking: Iterable[Shortfall], amounts: Amounts, *, calls: int) -> Allowance:
        """Return the allowance for a number of calls like the one that was refused."""
        lifts = tuple(dict.fromkeys(one.entry for one in lacking))
        return cls(lifts, Amounts(*(number * max(calls, 1) for number in amounts)))

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Allowance:
        """Read what `to_json` wrote."""
        return cls(tuple(plain["lifts"]), Amounts(*(plain[name] for name in DIMENSIONS)))

    def limits(self, others: Iterable[Limits]) -> Limits:
        """Return the limits of the account that it is counted in.

        What was not asked for, and is not limited elsewhere, is not limited here.

        Args:
            others: The limits of all accounts that the run spends from.
        """
        micros, tokens, calls = (
            number if number or any(limits is not None for limits in given) else None
            for number, given in zip(self.amounts, zip(*others, strict=True), strict=True)
        )
        return Limits(None if micros is None else micros_to_usd(micros), tokens, calls)

    def to_json(self) -> dict[str, Any]:
        """Return it in plain JSON types, for a graph's state."""
        return {"lifts": list(self.lifts), **dict(zip(DIMENSIONS, self.amounts, strict=True))}


class AskForMore(Protocol):
    """Asks a person for more when a call does not fit; see `Budget.start_run`."""

    def __call__(
        self,
        owner: str,
        amounts: Amounts,
        *,
        refused: BudgetExceeded,
        lacking: Sequence[Shortfall],
    ) -> Allowance | None:
        """Return what the run may spend beyond its limits, or `None` for nothing.

        Whatever it raises ends the reservation; nothing is held then.

        Args:
            owner: Whose call it is: what its lease id begins with.
            amounts: The worst case of the call.
            refused: The refusal.
            lacking: All limits that are in the way.
        """
        ...


def plain_amounts(amounts: Amounts) -> dict[str, Any]:
    """Return amounts in plain JSON types and in the units of people: USD as text.

    Example:
        >>> plain_amounts(Amounts(usd_micros=1_500, cloud_tokens=300, cloud_calls=1))
        {'usd': '0.001500', 'cloud_tokens': 300, 'cloud_calls': 1}
    """
    return {
        name: unit(number)
        for (name, unit), number in zip(map(_people, DIMENSIONS), amounts, strict=True)
    }


def _people(dimension: Dimension) -> tuple[str, Any]:
    if dimension == "usd_micros":
        return "usd", lambda micros: str(micros_to_usd(micros))
    return dimension, int
