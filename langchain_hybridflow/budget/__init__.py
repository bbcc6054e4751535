"""What may be spent: hard limits on money, cloud tokens and cloud calls, for any number of workers.

`Budget` sets the limits, a `Ledger` keeps the counters, a `PriceTable` knows the prices.
"""

from langchain_hybridflow.budget.budget import Budget, OnExhausted
from langchain_hybridflow.budget.ledger import AsyncFromSync, Ledger, SyncLedger
from langchain_hybridflow.budget.memory import MemoryLedger
from langchain_hybridflow.budget.price_table import PriceTable
from langchain_hybridflow.budget.pricing import Price
from langchain_hybridflow.budget.run import RunBudget
from langchain_hybridflow.budget.snapshot import BudgetSnapshot, Gauge
from langchain_hybridflow.budget.types import (
    DIMENSIONS,
    NOTHING,
    Account,
    AccountState,
    Amounts,
    Denial,
    Difference,
    Dimension,
    Lease,
    Limits,
    Note,
    Reconciliation,
)
from langchain_hybridflow.budget.usage import (
    Usage,
    estimate_prompt_tokens,
    estimate_text_tokens,
    usage_of,
)

__all__ = [
    "DIMENSIONS",
    "NOTHING",
    "Account",
    "AccountState",
    "Amounts",
    "AsyncFromSync",
    "Budget",
    "BudgetSnapshot",
    "Denial",
    "Difference",
    "Dimension",
    "Gauge",
    "Lease",
    "Ledger",
    "Limits",
    "MemoryLedger",
    "Note",
    "OnExhausted",
    "Price",
    "PriceTable",
    "Reconciliation",
    "RunBudget",
    "SyncLedger",
    "Usage",
    "estimate_prompt_tokens",
    "estimate_text_tokens",
    "usage_of",
]
