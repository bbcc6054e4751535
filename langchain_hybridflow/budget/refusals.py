"""The error that a refused reservation becomes."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from decimal import Decimal

from langchain_hybridflow.budget.accounts import BookEntry
from langchain_hybridflow.budget.allowance import Shortfall
from langchain_hybridflow.budget.types import Denial, micros_to_usd
from langchain_hybridflow.errors import BudgetExceeded, CloudShareExceeded

__all__ = ["exceeded", "may_be_lifted"]


def exceeded(denial: Denial, entries: Iterable[BookEntry] = ()) -> BudgetExceeded:
    """The error for a denial, in the units that people use: USD instead of micro-USD.

    Args:
        denial: What the ledger said.
        entries: What the accounts were made from; they know which of them cap a share.
    """
    for entry in entries:
        if entry.share is not None and entry.scope == denial.scope:
            return CloudShareExceeded(
                max_share=entry.share.max_share,
                burst=entry.share.burst,
                remaining=denial.remaining,
                held=denial.held,
                scope=denial.scope,
            )
    if denial.dimension == "usd_micros":
        requested, remaining, limit = (
            _plain(micros_to_usd(micros))
            for micros in (denial.requested, denial.remaining, denial.limit)
        )
        return BudgetExceeded(
            dimension="usd",
            requested=requested,
            remaining=remaining,
            limit=limit,
            scope=denial.scope,
        )
    return BudgetExceeded(
        dimension=denial.dimension,
        requested=denial.requested,
        remaining=denial.remaining,
        limit=denial.limit,
        scope=denial.scope,
    )


def may_be_lifted(
    lacking: Iterable[Shortfall], entries: Iterable[BookEntry], liftable: Collection[str] | None
) -> bool:
    """Whether a person may lift all of these limits: a cap on a share only if it is named."""
    in_the_way = {one.scope for one in lacking}
    if liftable is not None:
        return in_the_way <= set(liftable)
    return not any(entry.share is not None and entry.scope in in_the_way for entry in entries)


def _plain(usd: Decimal) -> Decimal:
    """Without trailing zeros, and never in exponent notation: 0.05, not 0.050000 or 1E+1."""
    short = usd.normalize()
    return short if int(short.as_tuple().exponent) <= 0 else short.quantize(Decimal(1))
