"""The error that a refused reservation becomes."""

from __future__ import annotations

from decimal import Decimal

from langchain_hybridflow.budget.types import Denial, micros_to_usd
from langchain_hybridflow.errors import BudgetExceeded

__all__ = ["exceeded"]


def exceeded(denial: Denial) -> BudgetExceeded:
    """The error for a denial, in the units that people use: USD instead of micro-USD."""
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


def _plain(usd: Decimal) -> Decimal:
    """Without trailing zeros, and never in exponent notation: 0.05, not 0.050000 or 1E+1."""
    short = usd.normalize()
    return short if int(short.as_tuple().exponent) <= 0 else short.quantize(Decimal(1))
