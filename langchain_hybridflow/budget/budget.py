"""A hard budget over many runs: money, cloud tokens, cloud calls, and a deadline for each run."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping
from decimal import Decimal
from math import isfinite
from typing import Any, Literal, TypeAlias

from langchain_hybridflow.budget.ledger import Ledger
from langchain_hybridflow.budget.memory import MemoryLedger
from langchain_hybridflow.budget.price_table import PriceTable
from langchain_hybridflow.budget.pricing import Price
from langchain_hybridflow.budget.run import RunBudget
from langchain_hybridflow.budget.snapshot import BudgetSnapshot
from langchain_hybridflow.budget.types import (
    Account,
    AccountState,
    Amounts,
    Limits,
    Number,
    micros_to_usd,
)
from langchain_hybridflow.budget.usage import Usage
from langchain_hybridflow.errors import ConfigurationError, UnknownPriceError

__all__ = ["Budget", "OnExhausted"]

OnExhausted: TypeAlias = Literal["edge", "raise"]
"""What happens to a call that the budget refuses: the edge answers, or `BudgetExceeded`."""

_Tier: TypeAlias = Literal["edge", "cloud"]


class Budget:
    """What all runs together, and each run alone, may spend; never passed.

    Each cloud call reserves what it can cost at worst before it is made, so parallel calls cannot
    spend the same money. A call that does not fit is refused before it is made.

    Args:
        limit_usd: USD for all runs of this budget together.
        max_cloud_tokens: Prompt and answer tokens of cloud calls, for all runs together.
        max_cloud_calls: Cloud calls, for all runs together.
        deadline_s: Seconds that each run may take, from its own start. Soft: time that passed
            cannot be refused.
        per_run: Limits that hold for each run alone, besides the shared ones.
        on_exhausted: Whether the edge answers when a call does not fit, or `BudgetExceeded` is
            raised.
        prices: Prices by model name; they go before the built-in list.
        ledger: Where the counters are kept; this process's memory by default.
        name: Identity of this budget in its ledger: budgets of one name in one ledger share
            their limits.
        lease_ttl_s: Seconds after which a reservation that nobody settled is charged.
        clock: Seconds, monotonic; for deadlines, and for the default ledger.

    Raises:
        ConfigurationError: If a limit is NaN, infinite, negative, a bool, or not a number.

    Example:
        >>> from langchain_hybridflow.budget import Budget, Usage
        >>> budget = Budget(limit_usd=0.05, max_cloud_calls=6, deadline_s=30)
        >>> worst = budget.quote("cloud", "gpt-4.1", Usage(input_tokens=900, output_tokens=400))
        >>> run = budget.start_run()
        >>> lease = run.reserve("subtask-1", worst)
        >>> run.commit(lease, budget.quote("cloud", "gpt-4.1", Usage(850, 120)))
        >>> budget.snapshot()["usd"]
        {'limit': 0.05, 'spent': 0.00266, 'held': 0.0, 'remaining': 0.04734}
    """

    def __init__(
        self,
        *,
        limit_usd: Number | None = None,
        max_cloud_tokens: int | None = None,
        max_cloud_calls: int | None = None,
        deadline_s: float | None = None,
        per_run: Limits | None = None,
        on_exhausted: OnExhausted = "edge",
        prices: Mapping[str, Price] | None = None,
        ledger: Ledger | None = None,
        name: str = "budget",
        lease_ttl_s: float = 600.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if on_exhausted not in ("edge", "raise"):
            raise ConfigurationError(
                f"on_exhausted must be 'edge' or 'raise', not {on_exhausted!r}."
            )
        if not name:
            raise ConfigurationError("A budget needs a name that is not empty.")
        self.limits = Limits(limit_usd, max_cloud_tokens, max_cloud_calls)
        self.per_run = _per_run_limits(per_run)
        self.deadline_s = None if deadline_s is None else _seconds(deadline_s, "deadline_s")
        self.on_exhausted: OnExhausted = on_exhausted
        self.prices = PriceTable(prices)
        self.name = name
        self.lease_ttl_s = _seconds(lease_ttl_s, "lease_ttl_s")
        self._clock = clock
        self.ledger: Ledger = MemoryLedger(clock=clock) if ledger is None else _checked(ledger)
        self._account = Account(f"budget/{name}", "budget", self.limits)

    def __repr__(self) -> str:
        return (
            f"Budget(name={self.name!r}, limits={self.limits!r}, per_run={self.per_run!r}, "
            f"deadline_s={self.deadline_s!r}, on_exhausted={self.on_exhausted!r})"
        )

    @property
    def limits_usd(self) -> bool:
        """Whether money is limited anywhere, so that every cloud model needs a price."""
        return self.limits.usd is not None or self.per_run.usd is not None

    @property
    def caps_output(self) -> bool:
        """Whether money or tokens are limited, so that every cloud answer needs a cap."""
        tokens_limited = (
            self.limits.cloud_tokens is not None or self.per_run.cloud_tokens is not None
        )
        return self.limits_usd or tokens_limited

    def start_run(self, run_id: str | None = None, *, elapsed_s: float = 0.0) -> RunBudget:
        """Start a run, or go on with one.

        Args:
            run_id: Identity of the run; limits per run count by it, so a resumed run goes on
                where it stopped. A new one by default.
            elapsed_s: Seconds of its deadline that the run has used before.

        Raises:
            ConfigurationError: If `elapsed_s` is negative or not finite.
        """
        if not isfinite(elapsed_s) or elapsed_s < 0:
            raise ConfigurationError(f"elapsed_s must be finite and >= 0, not {elapsed_s!r}.")
        run_id = run_id or uuid.uuid4().hex
        accounts: tuple[Account, ...] = (self._account,)
        if self.per_run:
            # Only a limited run has an account of its own: counters per run would pile up in the
            # ledger of a long-lived budget.
            accounts += (Account(f"run/{self.name}/{run_id}", "run", self.per_run),)
        return RunBudget(
            run_id=run_id,
            ledger=self.ledger,
            accounts=accounts,
            lease_ttl_s=self.lease_ttl_s,
            deadline_s=self.deadline_s,
            clock=self._clock,
            elapsed_s=elapsed_s,
        )

    def quote(self, tier: _Tier, model_name: str, usage: Usage) -> Amounts:
        """Say what a call with this usage counts in each dimension.

        The same for the worst case before a call and for its real usage after it.

        Args:
            tier: `"cloud"` counts tokens, the call, and its price. `"edge"` counts only a price,
                and is free unless somebody has given the model one: it runs on the user's own
                device.
            model_name: Name of the model, as its provider calls it.
            usage: Tokens of the call.

        Raises:
            UnknownPriceError: If money is limited and nobody has said what the cloud model costs.
        """
        price = self.prices.get(model_name)
        micros = 0 if price is None else price.cost_usd_micros(usage)
        if tier == "edge":
            return Amounts(usd_micros=micros)
        if price is None and self.limits_usd:
            raise UnknownPriceError(model_name)
        return Amounts(usd_micros=micros, cloud_tokens=usage.total_tokens, cloud_calls=1)

    def cost_usd(self, tier: _Tier, model_name: str, usage: Usage) -> Decimal | None:
        """What a call cost in USD, to the digit that the ledger books; `None` if unknown.

        Example:
            >>> budget = Budget(prices={"big": Price(2, 8)})
            >>> budget.cost_usd("cloud", "big", Usage(1_000, 500))
            Decimal('0.006000')
            >>> budget.cost_usd("cloud", "never-heard-of-it", Usage(1_000, 500)) is None
            True
        """
        price = self.prices.get(model_name)
        if price is None:
            return micros_to_usd(0) if tier == "edge" else None
        return price.cost_usd(usage)

    def snapshot(self) -> dict[str, Any]:
        """The budget in plain JSON types, for people and dashboards; USD as floats.

        Keys `usd`, `cloud_tokens` and `cloud_calls`, each with `limit`, `spent`, `held` and
        `remaining` (`None` without a limit), and `overdraft_usd`, `name`.
        """
        return self._plain(self.ledger.snapshot((self._account,))[0])

    async def asnapshot(self) -> dict[str, Any]:
        """Do what `snapshot` does, without blocking the event loop."""
        return self._plain((await self.ledger.asnapshot((self._account,)))[0])

    def _plain(self, state: AccountState) -> dict[str, Any]:
        gauges = BudgetSnapshot.of((state,))
        plain: dict[str, Any] = {"name": self.name}
        for key, gauge, unit in (
            ("usd", gauges.usd, float),
            ("cloud_tokens", gauges.cloud_tokens, int),
            ("cloud_calls", gauges.cloud_calls, int),
        ):
            limit, remaining = gauge.limit, gauge.remaining
            plain[key] = {
                "limit": None if limit is None else unit(limit),
                "spent": unit(gauge.spent),
                "held": unit(gauge.held),
                "remaining": None if remaining is None else unit(remaining),
            }
        plain["overdraft_usd"] = float(state.overdraft.usd)
        return plain


def _per_run_limits(value: object) -> Limits:
    if value is None:
        return Limits()
    if not isinstance(value, Limits):
        raise ConfigurationError(
            f"per_run must be Limits, such as Limits(usd=0.01, cloud_calls=3), not {value!r}."
        )
    return value


def _checked(ledger: object) -> Ledger:
    if not isinstance(ledger, Ledger):
        raise ConfigurationError(
            f"ledger must be a Ledger, such as MemoryLedger(), not {ledger!r}."
        )
    return ledger


def _seconds(value: float, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigurationError(f"{name} must be a number of seconds, not {value!r}.")
    if not isfinite(value) or value <= 0:
        raise ConfigurationError(f"{name} must be finite and positive, not {value!r}.")
    return float(value)
