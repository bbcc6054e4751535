"""What may be spent: hard limits on money, cloud tokens and cloud calls, for any number of workers.

`Budget` sets the limits, a `Ledger` keeps the counters, a `PriceTable` knows the prices.
"""

from langchain_hybridflow.budget.admin import LedgerAdmin, Reset
from langchain_hybridflow.budget.alerts import BudgetAlert
from langchain_hybridflow.budget.allowance import Allowance
from langchain_hybridflow.budget.budget import Budget, OnExhausted, OnStoreFailure
from langchain_hybridflow.budget.estimates import Estimator, LearnedEstimate, StrictEstimate
from langchain_hybridflow.budget.fail_open import FailOpenLedger
from langchain_hybridflow.budget.gauges import BudgetGauge
from langchain_hybridflow.budget.ledger import AsyncFromSync, Ledger, SyncLedger
from langchain_hybridflow.budget.memory import MemoryLedger
from langchain_hybridflow.budget.pacing import Pacing
from langchain_hybridflow.budget.price_table import PriceTable
from langchain_hybridflow.budget.pricing import Price
from langchain_hybridflow.budget.run import RunBudget
from langchain_hybridflow.budget.scopes import Scope, ScopeValues
from langchain_hybridflow.budget.share import (
    Refill,
    RefillableLedger,
    ShareCap,
    ratio_of_share,
    share_of_ratio,
)
from langchain_hybridflow.budget.snapshot import BudgetSnapshot, Gauge, ShareGauge
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
from langchain_hybridflow.budget.windows import Window

__all__ = [
    "DIMENSIONS",
    "NOTHING",
    "Account",
    "AccountState",
    "Allowance",
    "Amounts",
    "AsyncFromSync",
    "Budget",
    "BudgetAlert",
    "BudgetGauge",
    "BudgetSnapshot",
    "Denial",
    "Difference",
    "Dimension",
    "Estimator",
    "FailOpenLedger",
    "Gauge",
    "LearnedEstimate",
    "Lease",
    "Ledger",
    "LedgerAdmin",
    "Limits",
    "MemoryLedger",
    "Note",
    "OnExhausted",
    "OnStoreFailure",
    "Pacing",
    "Price",
    "PriceTable",
    "Reconciliation",
    "Refill",
    "RefillableLedger",
    "Reset",
    "RunBudget",
    "Scope",
    "ScopeValues",
    "ShareCap",
    "ShareGauge",
    "StrictEstimate",
    "SyncLedger",
    "Usage",
    "Window",
    "estimate_prompt_tokens",
    "estimate_text_tokens",
    "ratio_of_share",
    "share_of_ratio",
    "usage_of",
]
