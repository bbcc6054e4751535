"""A hard budget over many runs: money, cloud tokens, cloud calls, and a deadline for each run."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from functools import partial
from math import isfinite
from os import urandom
from typing import Any, Literal, TypeAlias

from langchain_hybridflow.budget.about import publisher_for
from langchain_hybridflow.budget.accounts import AccountBook, BookEntry, account_entry, share_entry
from langchain_hybridflow.budget.alerts import (
    ALERT_AT,
    AlertCallback,
    Alerts,
    checked_fractions,
)
from langchain_hybridflow.budget.allowance import AskForMore
from langchain_hybridflow.budget.checks import check_kind, check_word, limits_of, seconds_of
from langchain_hybridflow.budget.estimates import Estimator, StrictEstimate
from langchain_hybridflow.budget.ledger import Ledger
from langchain_hybridflow.budget.opened import opened_ledger
from langchain_hybridflow.budget.pacing import Pacer, Pacing
from langchain_hybridflow.budget.price_table import PriceTable
from langchain_hybridflow.budget.pricing import Price
from langchain_hybridflow.budget.prompts import RefillTrial
from langchain_hybridflow.budget.run import RunBudget
from langchain_hybridflow.budget.scopes import (
    RUN_KEEP_S,
    Scope,
    ScopeValues,
    checked_scopes,
    checked_value,
    scope_entries,
)
from langchain_hybridflow.budget.share import (
    SHARE_BURST,
    as_refillable,
    share_cap,
    share_scope,
    share_settings,
)
from langchain_hybridflow.budget.shown import ShownBudget
from langchain_hybridflow.budget.types import Amounts, Limits, Number, micros_to_usd
from langchain_hybridflow.budget.untold import Untold
from langchain_hybridflow.budget.usage import Usage
from langchain_hybridflow.budget.windows import Window
from langchain_hybridflow.errors import ConfigurationError, UnknownPriceError

__all__ = ["Budget", "OnExhausted", "OnStoreFailure"]

OnExhausted: TypeAlias = Literal["edge", "raise", "ask"]
"""What happens to a call that the budget refuses: the edge answers, `BudgetExceeded` is raised, or
a person is asked, by a LangGraph interrupt."""

OnStoreFailure: TypeAlias = Literal["closed", "open"]
"""What happens when the store does not answer: nothing is spent, or a little, counted here."""

_Tier: TypeAlias = Literal["edge", "cloud"]


class Budget(ShownBudget):
    """What all runs together, and each run alone, may spend; never passed.

    Each cloud call reserves what it can cost at worst before it is made, so parallel calls cannot
    spend the same money. A call that does not fit is refused before it is made.

    Args:
        limit_usd: USD for all runs of this budget together.
        max_cloud_tokens: Prompt and answer tokens of cloud calls, for all runs together.
        max_cloud_calls: Cloud calls, for all runs together.
        max_cloud_share: Share of all answered prompts, in 0..1, that may make a cloud call, by
            whatever way: as the router wants it, as a fallback, for a verifier. A prompt is a call
            of the chat model, a subtask, or a plan. While n of them are answered, at any time, at
            most `max_cloud_share` x n + `share_burst` cloud calls are made. A ratio of cloud to
            edge answers (rho) is turned into a share by `share_of_ratio`. A person can lift it
            only if `liftable` names it: "cloud-share", and of a scope "user-cloud-share".
        share_burst: Cloud calls in a row that this allows after a quiet time.
        window: For how long the first three are: "hour", "day", "month", a length such as "30m" or
            "7d", or a `Window`. `None` is for ever.
        scopes: Limits for each user, tenant, thread, or whatever else a call can be for, in
            addition; see `Scope`. A call is admitted by all of them or by none.
        per_run: Limits that hold for each run alone: `Scope("run", ...)` in short. A ledger may
            forget a run that has spent nothing for seven days.
        deadline_s: Seconds that each run may take, from its own start. Soft: time that passed
            cannot be refused.
        on_exhausted: What happens to a call that does not fit. "edge": the edge answers, and the
            result is marked `degraded`. "raise": `BudgetExceeded`. "ask": a person is asked once
            in a run, by a LangGraph interrupt with the numbers. If they approve, this run may
            spend what the question says beyond the limits; if not, the edge answers.
        liftable: Names of the scopes whose limits a person may lift when they are asked: "run" for
            `per_run`, "budget" for the budget's own, "user" and so on; `None` for all. A call
            that any other limit refuses is not asked about, and goes to the edge.
        prices: Prices by model name; they go before the built-in list.
        pacing: How the shadow price that routers see spreads spending over the window; `None`
            leaves it at 0.
        estimates: How long an answer is taken to be when a call is reserved: `None` for its cap,
            so that no limit is ever passed, or a `LearnedEstimate`, which states its risk.
        store: URL of the store that all processes share: "sqlite:///budget.db",
            "redis://host:6379/0", "postgresql://host/db". "env:NAME" takes it from the
            environment variable NAME. This process's memory by default.
        ledger: A `Ledger` of your own, instead of `store`.
        on_store_failure: "closed" refuses whatever cannot be reserved for sure. "open" lets calls
            go on within `fail_open_limit`; see `FailOpenLedger`.
        fail_open_limit: What this process may spend while the store does not answer.
        on_alert: Is called with a `BudgetAlert` when a share of a limit is spent: once for each
            account, window and share, by whichever process finds it, and of a rolling window
            at most once in its length. 1.0 is also told when a call is refused that would not
            fit though nothing else were held. A plain function; it runs where the call runs,
            and must not block. What it raises is logged.
        alert_at: These shares, each above 0 and at most 1.
        name: Identity of this budget in its ledger: budgets of one name in one ledger share
            their limits.
        lease_ttl_s: Seconds after which a reservation that nobody settled is charged.
        clock: Seconds, monotonic; for deadlines.

    A call is held in these accounts, in this order, and the first that has too little left names
    the refusal: the budget's own, the scopes as they are given, the run's, the shares of cloud
    calls.

    Raises:
        ConfigurationError: If a limit is NaN, infinite, negative, a bool, or not a number; if a
            window, scope or store cannot be; or if a call does not say whom it is for.

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
        max_cloud_share: Number | None = None,
        share_burst: int = SHARE_BURST,
        window: Window | str | None = None,
        scopes: Sequence[Scope] | Scope = (),
        per_run: Limits | None = None,
        deadline_s: float | None = None,
        on_exhausted: OnExhausted = "edge",
        liftable: Sequence[str] | None = None,
        prices: Mapping[str, Price] | None = None,
        pacing: Pacing | None = None,
        estimates: Estimator | None = None,
        store: str | None = None,
        ledger: Ledger | None = None,
        on_store_failure: OnStoreFailure = "closed",
        fail_open_limit: Limits | None = None,
        on_alert: AlertCallback | None = None,
        alert_at: Sequence[float] = ALERT_AT,
        name: str = "budget",
        lease_ttl_s: float = 600.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        check_word("on_exhausted", on_exhausted, ("edge", "raise", "ask"))
        check_word("on_store_failure", on_store_failure, ("closed", "open"))
        check_kind("pacing", pacing, Pacing, "Pacing()")
        check_kind("estimates", estimates, Estimator, "LearnedEstimate()")
        if not name:
            raise ConfigurationError("A budget needs a name that is not empty.")
        self.name = checked_value(name, what="The name of a budget")
        self.limits = Limits(limit_usd, max_cloud_tokens, max_cloud_calls)
        self.share = share_cap(max_cloud_share, share_burst)
        self.window = None if window is None else Window.parse(window)
        self.scopes = checked_scopes(scopes)
        self.per_run = limits_of("per_run", per_run)
        if self.per_run and any(scope.name == "run" for scope in self.scopes):
            raise ConfigurationError("per_run is Scope('run', ...) in short: give one of them.")
        self.deadline_s = None if deadline_s is None else seconds_of(deadline_s, "deadline_s")
        self.on_exhausted: OnExhausted = on_exhausted
        self.liftable = self._checked_liftable(liftable)
        self.prices = PriceTable(prices)
        self.pacing = pacing
        self._pacer = None if pacing is None else Pacer(pacing)
        self.estimates: Estimator = StrictEstimate() if estimates is None else estimates
        self.store = store
        self.on_store_failure: OnStoreFailure = on_store_failure
        self.fail_open_limit = limits_of("fail_open_limit", fail_open_limit)
        self.lease_ttl_s = seconds_of(lease_ttl_s, "lease_ttl_s")
        self._clock = clock
        self.ledger: Ledger = opened_ledger(
            store,
            ledger,
            on_failure=on_store_failure,
            local_limits=self.fail_open_limit,
            clock=clock,
        )
        self.on_alert = on_alert
        self.alert_at = checked_fractions(alert_at)
        self._alerts = None if on_alert is None else Alerts(self.name, on_alert, at=self.alert_at)
        self._untold = Untold()
        self._publisher = publisher_for(self.ledger, self.description)
        self._entry = account_entry(self.name, "budget", self.limits, window=self.window)
        self._buckets = (
            () if self.share is None else (share_entry(self.name, "budget", self.share),)
        )
        # Of all runs that are held in nothing else.
        self._book = AccountBook((self._entry, *self._buckets))
        self._trial = RefillTrial() if self._caps_share else None
        if self._caps_share:
            as_refillable(self.ledger)
        self._allowed = account_entry(
            self.name, "allowance", Limits(), value="", window=self.window
        )

    def __repr__(self) -> str:
        return (
            f"Budget(name={self.name!r}, limits={self.limits!r}, share={self.share!r}, "
            f"window={self.window!r}, "
            f"scopes={self.scopes!r}, per_run={self.per_run!r}, "
            f"deadline_s={self.deadline_s!r}, on_exhausted={self.on_exhausted!r})"
        )

    @property
    def limits_usd(self) -> bool:
        """Whether money is limited anywhere, so that every cloud model needs a price."""
        return any(limits.usd is not None for limits in self._all_limits)

    @property
    def caps_output(self) -> bool:
        """Whether money or tokens are limited, so that every cloud answer needs a cap."""
        return self.limits_usd or any(
            limits.cloud_tokens is not None for limits in self._all_limits
        )

    @property
    def _all_limits(self) -> tuple[Limits, ...]:
        return (self.limits, self.per_run, *(scope.limits for scope in self.scopes))

    def scope_values(
        self, config: Mapping[str, Any] | None = None, context: Any = None
    ) -> ScopeValues:
        """Read whom a call is for.

        Args:
            config: The LangChain config of the call.
            context: LangGraph's runtime context, if there is one.

        Raises:
            ConfigurationError: The call does not say whom it is for and has to, or what it says
                is no id.

        Example:
            >>> from langchain_hybridflow.budget import Budget, Limits, Scope
            >>> budget = Budget(scopes=[Scope("user", Limits(cloud_calls=2), window="day")])
            >>> ada = budget.scope_values({"configurable": {"user_id": "ada"}})
            >>> budget.start_run(scope_values=ada).snapshot().cloud_calls.remaining
            2
        """
        return ScopeValues(
            tuple(scope.read(config or {}, context) for scope in self.scopes),
            tuple(scope.name for scope in self.scopes),
        )

    def start_run(
        self,
        run_id: str | None = None,
        *,
        elapsed_s: float = 0.0,
        scope_values: ScopeValues | None = None,
        ask: AskForMore | None = None,
    ) -> RunBudget:
        """Start a run, or go on with one.

        Args:
            run_id: Identity of the run; limits per run count by it, so a resumed run goes on
                where it stopped. A new one by default.
            elapsed_s: Seconds of its deadline that the run has used before.
            scope_values: Whom it is for.
            ask: Who asks a person for more when a call does not fit; with `on_exhausted="ask"`,
                `RoutedChatModel` and `HybridFlowGraph` give their own.

        Raises:
            ConfigurationError: If `elapsed_s` is negative or not finite, or it is not said whom
                the run is for.
        """
        if not isfinite(elapsed_s) or elapsed_s < 0:
            raise ConfigurationError(f"elapsed_s must be finite and >= 0, not {elapsed_s!r}.")
        run_id = run_id or urandom(16).hex()
        others = self._entries(scope_values, run_id)
        return RunBudget(
            run_id=run_id,
            ledger=self.ledger,
            book=AccountBook((self._entry, *others, *self._buckets)) if others else self._book,
            beyond=partial(self._beyond, run_id),
            lease_ttl_s=self.lease_ttl_s,
            deadline_s=self.deadline_s,
            clock=self._clock,
            elapsed_s=elapsed_s,
            ask=ask,
            liftable=self.liftable,
            pacer=self._pacer,
            alerts=self._alerts,
            publisher=self._publisher,
            untold=self._untold,
            trial=self._trial,
        )

    def _checked_liftable(self, names: Sequence[str] | None) -> tuple[str, ...] | None:
        if names is None:
            return None
        known = {"budget", "run", *(scope.name for scope in self.scopes)}
        known |= {share_scope(scope.name) for scope in self.scopes if scope.share is not None}
        known |= set() if self.share is None else {share_scope()}
        strange = [name for name in names if name not in known]
        if isinstance(names, str) or strange:
            raise ConfigurationError(
                f"liftable holds names of scopes, of {sorted(known)}, not {names!r}."
            )
        return tuple(names)

    @property
    def _caps_share(self) -> bool:
        return self.share is not None or any(scope.share is not None for scope in self.scopes)

    def _beyond(self, run_id: str) -> tuple[BookEntry, BookEntry]:
        """Say what else a call is held in that a person has approved beyond the limits."""
        own = account_entry(self.name, "allowance", Limits(), value=run_id, keep_s=RUN_KEEP_S)
        return own, self._allowed

    def _entries(
        self, scope_values: ScopeValues | None, run_id: str | None = None
    ) -> tuple[BookEntry, ...]:
        """Say what a call is held in besides the budget's own account, in order."""
        if not self.scopes and not self.per_run:
            return ()
        values = scope_values or self.scope_values()
        return scope_entries(self.name, self.scopes, values, run_id=run_id, per_run=self.per_run)

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

    def close(self) -> None:
        """Free the connections to the store; harmless when done twice."""
        self.ledger.close()

    async def aclose(self) -> None:
        """Do what `close` does, for the running event loop, too."""
        await self.ledger.aclose()

    def __getstate__(self) -> dict[str, Any]:
        """Pickle a budget with a store by its URL: the copy counts in the same place."""
        if self.store is None:
            return self.__dict__
        names = (
            *("window", "scopes", "per_run", "deadline_s", "on_exhausted", "liftable", "store"),
            *("on_store_failure", "fail_open_limit", "name", "lease_ttl_s", "pacing"),
            *("estimates", "on_alert", "alert_at"),
        )
        return {
            "limit_usd": self.limits.usd,
            "max_cloud_tokens": self.limits.cloud_tokens,
            "max_cloud_calls": self.limits.cloud_calls,
            **share_settings(self.share),
            "prices": dict(self.prices.overrides),
            "clock": self._clock,
            **{name: getattr(self, name) for name in names},
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Make it again, with connections of its own."""
        if state.get("store") is None:
            self.__dict__.update(state)
        else:
            self.__init__(**state)  # type: ignore[misc]  # as if it were made here
