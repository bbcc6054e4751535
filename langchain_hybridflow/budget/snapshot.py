"""The state of a budget at one instant, as routers and people read it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import zip_longest
from typing import Any, Final, Generic, TypeVar

from langchain_hybridflow.budget.accounts import BookEntry
from langchain_hybridflow.budget.share import ShareCap, Stash
from langchain_hybridflow.budget.types import (
    NOTHING,
    AccountState,
    Amounts,
    Dimension,
    micros_to_usd,
)

__all__ = ["BudgetSnapshot", "Gauge", "ShareGauge", "split"]

AmountT = TypeVar("AmountT", int, Decimal)


@dataclass(frozen=True, slots=True)
class Gauge(Generic[AmountT]):
    """One dimension of a budget: how much is spent, held and allowed.

    Args:
        spent: What was spent.
        held: What open reservations hold.
        limit: The limit, or `None` if there is none.
        scope: Whose limit it is, such as `"budget"` or `"run"`.

    Example:
        >>> gauge = Gauge(spent=3, held=1, limit=8, scope="run")
        >>> gauge.remaining, gauge.fraction
        (4, 0.5)
    """

    spent: AmountT
    held: AmountT
    limit: AmountT | None = None
    scope: str = "budget"

    @property
    def remaining(self) -> AmountT | None:
        """What can still be reserved, never negative; `None` without a limit."""
        if self.limit is None:
            return None
        left = self.limit - self.spent - self.held
        return left if left > 0 else left - left

    @property
    def fraction(self) -> float:
        """Share of the limit that is spent or held; 0 without a limit, 1 if the limit is 0."""
        if self.limit is None:
            return 0.0
        return float((self.spent + self.held) / self.limit) if self.limit else 1.0


@dataclass(frozen=True, slots=True)
class ShareGauge:
    """A cap on the share of cloud calls: what was answered, and how many calls are left just now.

    Args:
        max_share: Share of the answered prompts, in 0..1, that may make a cloud call.
        burst: Cloud calls that a full bucket holds.
        prompts: Prompts that were answered so far.
        cloud_calls: Cloud calls that were made so far.
        held: Cloud calls under way.
        remaining: Cloud calls that can be made before the next prompt is answered.
        scope: Whose cap it is, such as `"cloud-share"` or `"user-cloud-share"`.

    Example:
        >>> gauge = ShareGauge(Decimal("0.3"), 10, prompts=20, cloud_calls=5, held=1, remaining=9)
        >>> gauge.share
        0.25
    """

    max_share: Decimal
    burst: int
    prompts: int = 0
    cloud_calls: int = 0
    held: int = 0
    remaining: int = 0
    scope: str = "cloud-share"

    @property
    def share(self) -> float:
        """Cloud calls for each answered prompt so far; 0 before the first one."""
        return self.cloud_calls / self.prompts if self.prompts else 0.0

    def calls_for(self, prompts: int) -> int:
        """Cloud calls that can be made while so many prompts are answered, and none of others.

        Example:
            >>> ShareGauge(Decimal("0.3"), 10, remaining=1).calls_for(7)
            3
        """
        return self.remaining + int(self.max_share * prompts)

    @classmethod
    def of(cls, cap: ShareCap, state: AccountState) -> ShareGauge:
        """Read the bucket of a cap."""
        stash, used = Stash.of(state.note), state.used.cloud_calls
        return cls(
            cap.max_share,
            cap.burst,
            prompts=stash.prompts,
            cloud_calls=stash.given_back + used,
            held=state.held.cloud_calls,
            remaining=max(0, cap.burst - used - state.held.cloud_calls),
            scope=state.account.scope,
        )

    def to_json(self) -> dict[str, Any]:
        """Return it in plain JSON types."""
        return {
            "max_share": float(self.max_share),
            "share": self.share,
            "prompts": self.prompts,
            "cloud_calls": self.cloud_calls,
            "held": self.held,
            "remaining": self.remaining,
            "burst": self.burst,
        }


_NO_MONEY: Final = Gauge(Decimal(0), Decimal(0))
_NO_COUNT: Final = Gauge(0, 0)


@dataclass(frozen=True, slots=True)
class BudgetSnapshot:
    """What a router may know about the budget when it decides.

    Args:
        usd: Money, in USD.
        cloud_tokens: Tokens of cloud calls.
        cloud_calls: Cloud calls.
        run: What this run alone has spent or holds, whatever the limits are.
        elapsed_s: Seconds since the run started.
        deadline_s: Seconds that the run may take, or `None`.
        shadow_price: Quality, in 0..1, that a call must add for each USD it costs to be worth the
            cloud (lambda of the knapsack); 0 while the budget does not bind, or is not paced.
        cloud_share: The cap on the share of cloud calls.

    Each of the three gauges shows the account with the least left: this run, its user, or the
    budget that all share. So does `cloud_share`, which is `None` where no share is capped; what is
    spent there comes back with the next prompts, so it is no part of `pressure`. `BudgetSnapshot()`
    is the state of a budget without limits and without spending.

    Example:
        >>> from langchain_hybridflow.budget import Budget
        >>> snapshot = Budget(max_cloud_calls=6).start_run().snapshot()
        >>> snapshot.cloud_calls.remaining, snapshot.exhausted
        (6, False)
    """

    usd: Gauge[Decimal] = Gauge(Decimal(0), Decimal(0))
    cloud_tokens: Gauge[int] = Gauge(0, 0)
    cloud_calls: Gauge[int] = Gauge(0, 0)
    run: Amounts = NOTHING
    elapsed_s: float = 0.0
    deadline_s: float | None = None
    shadow_price: float = 0.0
    cloud_share: ShareGauge | None = None

    @property
    def tokens_used(self) -> int:
        """Cloud tokens that this run has spent or holds (`tokens` of the serving rule)."""
        return self.run.cloud_tokens

    @property
    def exhausted(self) -> bool:
        """Whether a limit is used up, so that no further cloud call can be admitted now."""
        if self.cloud_share is not None and not self.cloud_share.remaining:
            return True
        return any(
            gauge.limit is not None and not gauge.remaining
            for gauge in (self.usd, self.cloud_tokens, self.cloud_calls)
        )

    @property
    def pressure(self) -> float:
        """Share of the tightest limit that is spent or held; 0 without limits."""
        return max(self.usd.fraction, self.cloud_tokens.fraction, self.cloud_calls.fraction)

    @property
    def remaining_s(self) -> float | None:
        """Seconds until the deadline, never negative; `None` without one."""
        if self.deadline_s is None:
            return None
        return max(0.0, self.deadline_s - self.elapsed_s)

    @classmethod
    def of(
        cls,
        states: Sequence[AccountState],
        shares: Sequence[ShareGauge] = (),
        *,
        run: Amounts = NOTHING,
        elapsed_s: float = 0.0,
        deadline_s: float | None = None,
        shadow_price: float = 0.0,
    ) -> BudgetSnapshot:
        """Build a snapshot from the states of the accounts that a call is held in; see `split`."""
        return cls(
            usd=_usd_gauge(states),
            cloud_tokens=_count_gauge(states, "cloud_tokens"),
            cloud_calls=_count_gauge(states, "cloud_calls"),
            run=run,
            elapsed_s=elapsed_s,
            deadline_s=deadline_s,
            shadow_price=shadow_price,
            cloud_share=min(shares, key=lambda gauge: gauge.remaining) if shares else None,
        )


def split(
    entries: Sequence[BookEntry], states: Sequence[AccountState]
) -> tuple[list[AccountState], list[ShareGauge]]:
    """Part the states of accounts from those of buckets, which are read in another way.

    Args:
        entries: What the first accounts were made from.
        states: The states of these, and maybe of more that are no buckets.
    """
    limited: list[AccountState] = []
    shares: list[ShareGauge] = []
    for entry, state in zip_longest(entries, states):
        if entry is not None and entry.share is not None:
            shares.append(ShareGauge.of(entry.share, state))
        else:
            limited.append(state)
    return limited, shares


def _tightest(states: Sequence[AccountState], dimension: Dimension) -> AccountState:
    if len(states) == 1:
        return states[0]
    limited = [state for state in states if state.remaining(dimension) is not None]
    if not limited:
        return states[0]
    return min(limited, key=lambda state: state.remaining(dimension) or 0)


def _usd_gauge(states: Sequence[AccountState]) -> Gauge[Decimal]:
    state = _tightest(states, "usd_micros")
    micros = state.account.limits.usd_micros
    limit = None if micros is None else micros_to_usd(micros)
    return Gauge(state.used.usd, state.held.usd, limit, state.account.scope)


def _count_gauge(states: Sequence[AccountState], dimension: Dimension) -> Gauge[int]:
    state = _tightest(states, dimension)
    spent, held = getattr(state.used, dimension), getattr(state.held, dimension)
    limit = getattr(state.account.limits, dimension)
    return Gauge(spent, held, limit, state.account.scope)
