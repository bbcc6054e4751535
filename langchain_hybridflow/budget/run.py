"""One run's share in a budget: its reservations, its own limits, its clock."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import replace
from os import urandom

from langchain_hybridflow.budget.about import Publisher
from langchain_hybridflow.budget.accounts import AccountBook, BookEntry
from langchain_hybridflow.budget.alerts import Alerts
from langchain_hybridflow.budget.allowance import (
    Allowance,
    AskForMore,
    Shortfall,
    shortfalls,
)
from langchain_hybridflow.budget.holds import Holds, accounts_now
from langchain_hybridflow.budget.ledger import AsyncFromSync, Ledger
from langchain_hybridflow.budget.pacing import Pacer
from langchain_hybridflow.budget.prompts import Prompts, RefillTrial
from langchain_hybridflow.budget.refusals import exceeded, may_be_lifted
from langchain_hybridflow.budget.snapshot import BudgetSnapshot, split
from langchain_hybridflow.budget.tally import Tally
from langchain_hybridflow.budget.twins import Ask, Script, ado, do
from langchain_hybridflow.budget.types import (
    NOTHING,
    Account,
    AccountState,
    Amounts,
    Denial,
    Lease,
    Limits,
)
from langchain_hybridflow.budget.untold import Untold
from langchain_hybridflow.errors import BudgetExceeded, LedgerError, LedgerUnavailable

__all__ = ["RunBudget"]


class RunBudget:
    """What one run reserves and spends; made by `Budget.start_run`, safe to share by threads.

    A reservation that costs nothing in any dimension (an edge call without a price) never goes
    to the ledger. All others are held in the accounts of the moment: windows roll on while a
    run goes on, by the clock of the ledger.

    Attributes:
        ask: Who asks a person for more when a call does not fit, if somebody does.
        suspends: Whether the async methods really wait: a ledger in memory answers at once.

    Example:
        >>> from langchain_hybridflow.budget import Amounts, Budget
        >>> run = Budget(max_cloud_calls=1).start_run()
        >>> lease = run.reserve("subtask-1/cloud/1", Amounts(cloud_tokens=300, cloud_calls=1))
        >>> run.commit(lease, Amounts(cloud_tokens=120, cloud_calls=1))
        >>> run.snapshot().tokens_used
        120
    """

    def __init__(
        self,
        *,
        run_id: str,
        ledger: Ledger,
        book: AccountBook,
        beyond: Callable[[], tuple[BookEntry, BookEntry]],
        lease_ttl_s: float,
        deadline_s: float | None,
        clock: Callable[[], float],
        elapsed_s: float,
        ask: AskForMore | None = None,
        liftable: Collection[str] | None = None,
        pacer: Pacer | None = None,
        alerts: Alerts | None = None,
        publisher: Publisher | None = None,
        untold: Untold | None = None,
        trial: RefillTrial | None = None,
    ) -> None:
        self._run_id = run_id
        self._ledger = ledger
        self.suspends = not isinstance(ledger, AsyncFromSync)
        self._book = book
        self._beyond = beyond
        self.ask = ask
        self._liftable = None if liftable is None else frozenset(liftable)
        self._pacer = pacer
        self._alerts = alerts
        self._raised: AccountBook | None = None
        self._lease_ttl_s = lease_ttl_s
        self._deadline_s = deadline_s
        self._clock = clock
        self._started_at = clock() - elapsed_s
        # A run that is resumed buys its unfinished calls anew: the calls of the process before
        # it may have been made, so its leases must be charged on their own, not taken over.
        self._lease_prefix = f"{run_id}/{urandom(6).hex()}/"
        self._tally = Tally()
        self._untold = Untold() if untold is None else untold
        self._publisher = publisher
        self._holds = Holds(self._untold, publisher, ttl_s=lease_ttl_s)
        self._prompts = Prompts(run_id, book.entries, self._untold)
        self._trial = trial
        self._earmarks: dict[str, Lease] = {}
        self._renewed_at: dict[str, float] = {}

    @property
    def run_id(self) -> str:
        """Identity of the run."""
        return self._run_id

    @property
    def deadline_s(self) -> float | None:
        """Seconds that the run may take, counted from its start, or `None`."""
        return self._deadline_s

    def elapsed_s(self) -> float:
        """Seconds since the run started, those before a resume included."""
        return self._clock() - self._started_at

    def remaining_s(self) -> float | None:
        """Seconds until the deadline, never negative; `None` without one."""
        if self._deadline_s is None:
            return None
        return max(0.0, self._deadline_s - self.elapsed_s())

    # ------------------------------------------------------------------ reserve, then settle

    def reserve(self, lease_id: str, amounts: Amounts) -> Lease:
        """Hold the worst case of a call, before the call is made.

        Args:
            lease_id: Identity of the call within this run, such as subtask, tier and attempt.
                Asked for again while it is open, it is the same reservation. What stands before
                its first "/" is the owner, who may have an `earmark`.
            amounts: What the call can cost at worst; see `Budget.quote`.

        Raises:
            BudgetExceeded: If it would pass a limit; nothing is held then.
            ConfigurationError: If a share is capped, and the store cannot count prompts.
            LedgerError: If the id is open with other amounts, or was settled before.
            LedgerUnavailable: If the store of the ledger does not answer. Should it have granted
                the call unheard, that is given back as soon as it answers.
        """
        return do(self._ledger, self._reserving(lease_id, amounts))

    async def areserve(self, lease_id: str, amounts: Amounts) -> Lease:
        """Do what `reserve` does, without blocking the event loop."""
        return await ado(self._ledger, self._reserving(lease_id, amounts))

    def commit(self, lease: Lease, actual: Amounts, *, answered: bool = True) -> None:
        """Book what the call really cost, and free the rest of the reservation.

        A cost beyond the reservation is booked as well (as overdraft), and so is one that comes
        after the lease expired. If the store does not answer, that is logged and no error: what was
        bought is there, and would be bought again. It is booked with the next reservation of this
        budget, or else charged in full when the lease expires.

        Args:
            lease: The reservation.
            actual: What the call cost.
            answered: Whether it gave an answer: under a cap on the share of cloud calls, the
                first answer that an owner gets counts as a prompt.

        Raises:
            LedgerError: If another cost was booked for the lease before.
        """
        do(self._ledger, self._committing(lease, actual, answered=answered))

    async def acommit(self, lease: Lease, actual: Amounts, *, answered: bool = True) -> None:
        """Do what `commit` does, without blocking the event loop."""
        await ado(self._ledger, self._committing(lease, actual, answered=answered))

    def release(self, lease: Lease) -> None:
        """Free the reservation of a call that was not made; harmless after a commit."""
        do(self._ledger, self._releasing(lease))

    async def arelease(self, lease: Lease) -> None:
        """Do what `release` does, without blocking the event loop."""
        await ado(self._ledger, self._releasing(lease))

    def extend(self, lease: Lease) -> None:
        """Give a long call another full lease time from now.

        Raises:
            LedgerError: If the lease is not open any more.
        """
        if lease.accounts:
            self._ledger.extend(lease.id, self._lease_ttl_s)

    async def aextend(self, lease: Lease) -> None:
        """Do what `extend` does, without blocking the event loop."""
        if lease.accounts:
            await self._ledger.aextend(lease.id, self._lease_ttl_s)

    # ------------------------------------------------------------------ earmarks

    def earmark(self, owner: str, amounts: Amounts) -> bool:
        """Hold money for a purchase that is still to come, so that nobody else can spend it.

        The first `reserve` of a lease id that begins with `owner/` takes the earmark over, as a
        whole and in one step, if it is large enough; if not, it is given back before. A purchase
        of nothing leaves it alone. What is not wanted any more goes back with `drop_earmarks`.

        Returns:
            Whether it is held; a limit that it would pass is no error.

        Raises:
            LedgerUnavailable: If the store of the ledger does not answer.
        """
        return do(self._ledger, self._earmarking(owner, amounts))

    async def aearmark(self, owner: str, amounts: Amounts) -> bool:
        """Do what `earmark` does, without blocking the event loop."""
        return await ado(self._ledger, self._earmarking(owner, amounts))

    def drop_earmarks(self) -> None:
        """Give back all earmarks that nobody has taken over; harmless if there are none."""
        do(self._ledger, self._dropping())

    async def adrop_earmarks(self) -> None:
        """Do what `drop_earmarks` does, without blocking the event loop."""
        await ado(self._ledger, self._dropping())

    # ------------------------------------------------------------------ more than the limit

    def allow(self, allowance: Allowance) -> None:
        """Let this run, and no other, spend more than some limits say.

        What does not fit into the limits is then held in the same accounts without them, and in an
        account of the allowance, whose limit is what was allowed. So the ledger counts it, all
        others see that the limit is used up, and the sum of it stands in `Budget.snapshot`.
        """
        own, total = self._beyond()
        most = allowance.limits(entry.limits for entry in self._book.entries)
        lifted = tuple(
            replace(entry, limits=Limits()) if entry.id in allowance.lifts else entry
            for entry in self._book.entries
        )
        self._raised = AccountBook((*lifted, replace(own, limits=most), total))

    # ------------------------------------------------------------------ what routers see

    def check(self) -> None:
        """Make sure that the ledger answers, before anybody is asked anything.

        Raises:
            LedgerUnavailable: It does not.
        """
        do(self._ledger, self._reading())

    async def acheck(self) -> None:
        """Do what `check` does, without blocking the event loop."""
        await ado(self._ledger, self._reading())

    def snapshot(self, owner: str | None = None) -> BudgetSnapshot:
        """The state of this run and of the budget it shares, for a router to read.

        Args:
            owner: Who is to decide; what is earmarked for them is free to them.
        """
        return do(self._ledger, self._looking(owner))

    async def asnapshot(self, owner: str | None = None) -> BudgetSnapshot:
        """Do what `snapshot` does, without blocking the event loop."""
        return await ado(self._ledger, self._looking(owner))

    def _snapshot_of(
        self, states: tuple[AccountState, ...], owner: str | None, *, price: float
    ) -> BudgetSnapshot:
        """Make the snapshot from the states of all accounts, as they were at `states[0].at`."""
        mark = self._earmarks.get(owner) if owner is not None else None
        if mark is not None:
            states = tuple(_without(state, mark) for state in states)
        limited, shares = (
            split(self._book.entries, states) if self._book.caps_share else (states, ())
        )
        return BudgetSnapshot.of(
            limited,
            shares,
            run=self._tally.total(),
            elapsed_s=self.elapsed_s(),
            deadline_s=self._deadline_s,
            shadow_price=price,
        )

    # ------------------------------------------------------------------ one logic for both faces

    def _reading(self) -> Script[tuple[AccountState, ...]]:
        accounts = yield from accounts_now(self._raised or self._book)
        states: tuple[AccountState, ...] = yield Ask("snapshot", (accounts,))
        return states

    def _looking(self, owner: str | None) -> Script[BudgetSnapshot]:
        yield from self._renewing()
        if self._pacer is None:
            states = yield from self._reading()
            yield from self._noticing(states)
            return self._snapshot_of(states, owner, price=0.0)
        # Whatever a person has approved for this run, the price is that of the true limits.
        paced = yield from accounts_now(self._book)
        shown = paced if self._raised is None else (yield from accounts_now(self._raised))
        states, price = yield from self._pacer.reading(self._book.entries, paced, shown)
        yield from self._noticing(states)
        return self._snapshot_of(states, owner, price=price)

    def _noticing(self, states: tuple[AccountState, ...]) -> Script[None]:
        """Do what is to be done when the store has answered; never while something is held."""
        if self._publisher is not None:
            yield from self._publisher.publish()
        if self._alerts is not None:
            yield from self._alerts.seen(self._book.entries, states)

    def _reserving(self, lease_id: str, amounts: Amounts) -> Script[Lease]:
        full_id = self._lease_prefix + lease_id
        if self._trial is not None:
            yield from self._trial.passing()
        if not amounts:
            yield from self._renewing()
            return Lease(full_id, amounts, (), float("inf"))
        if self._untold:
            yield from self._untold.catching_up()
        if self._earmarks:
            lease = yield from self._taking_over(lease_id.partition("/")[0], amounts)
            yield from self._renewing()
            if lease is not None:
                return self._tally.granted(lease)
        answer = yield from self._admission(full_id, amounts)
        if isinstance(answer, Denial) and self._alerts is not None:
            accounts = yield from accounts_now(self._book)
            yield from self._alerts.refused(self._book.entries, accounts, answer)
        if isinstance(answer, Denial) and self.ask is not None and self._raised is None:
            lacking = yield from self._lacking(amounts)
            if lacking:
                owner = lease_id.partition("/")[0]
                refused = exceeded(answer, self._book.entries)
                self.allow(self._approved(self.ask, owner, amounts, refused, lacking))
            answer = yield from self._admission(full_id, amounts)
        if isinstance(answer, Denial):
            raise exceeded(answer, self._book.entries)
        return self._tally.granted(answer)

    def _approved(
        self,
        ask: AskForMore,
        owner: str,
        amounts: Amounts,
        refused: BudgetExceeded,
        lacking: Sequence[Shortfall],
    ) -> Allowance:
        """Ask a person, if these are limits that one may lift; without approval it is refused."""
        may_lift = may_be_lifted(lacking, self._book.entries, self._liftable)
        allowance = ask(owner, amounts, refused=refused, lacking=lacking) if may_lift else None
        if allowance is None:
            raise refused
        return allowance

    def _admission(self, full_id: str, amounts: Amounts) -> Script[Lease | Denial]:
        """Hold within the limits, or else within the allowance, if there is one."""
        raised = self._raised
        answer = yield from self._holds.hold(self._book, full_id, amounts)
        if raised is None or isinstance(answer, Lease):
            return answer
        return (yield from self._holds.hold(raised, full_id, amounts))

    def _committing(self, lease: Lease, actual: Amounts, *, answered: bool) -> Script[None]:
        if lease.accounts or actual:
            yield from self._booking(lease, actual)
        if answered and self._book.caps_share:
            owner = lease.id[len(self._lease_prefix) :].partition("/")[0]
            yield from self._prompts.answered(owner)

    def _booking(self, lease: Lease, actual: Amounts) -> Script[None]:
        if not lease.accounts:
            # A call that was quoted at nothing and cost something all the same: overdraft.
            held = yield from self._holds.hold(self._book, lease.id, NOTHING)
            lease_id = held.id if isinstance(held, Lease) else lease.id
        else:
            lease_id = lease.id
        yield from self._untold.telling(Ask("commit", (lease_id, actual)))
        self._settled(lease, actual)
        if self._alerts is not None:
            accounts = yield from accounts_now(self._book)
            yield from self._alerts.booked(self._book.entries, accounts, actual)

    def _releasing(self, lease: Lease) -> Script[None]:
        if lease.accounts:
            yield from self._untold.telling(Ask("release", (lease.id,)))
            self._settled(lease, NOTHING)

    def _settled(self, lease: Lease, actual: Amounts) -> None:
        self._holds.settled(lease)
        self._tally.settled(lease, actual)

    def _lacking(self, amounts: Amounts) -> Script[tuple[Shortfall, ...]]:
        accounts = yield from accounts_now(self._book)
        states: Sequence[AccountState] = yield Ask("snapshot", (accounts,))
        return shortfalls(states, amounts, entries=[entry.id for entry in self._book.entries])

    def _earmarking(self, owner: str, amounts: Amounts) -> Script[bool]:
        if not amounts or owner in self._earmarks:
            return owner in self._earmarks
        full_id = f"{self._lease_prefix}{owner}/earmark/{urandom(4).hex()}"
        answer = yield from self._holds.hold(self._book, full_id, amounts)
        if isinstance(answer, Denial):
            return False
        self._renewed_at[owner] = self._clock()
        self._earmarks[owner] = answer
        return True

    def _taking_over(self, owner: str, amounts: Amounts) -> Script[Lease | None]:
        """Make the owner's earmark their lease, or give it back if it is too small."""
        lease = self._earmarks.pop(owner, None)
        if lease is None:
            return None
        try:
            accounts = yield from accounts_now(self._book)
            if amounts.excess_over(lease.amounts) or not _counts_in(lease, accounts):
                yield Ask("release", (lease.id,))
                self._settled(lease, NOTHING)
                return None
            yield Ask("extend", (lease.id, self._lease_ttl_s))
        except LedgerUnavailable:
            self._earmarks[owner] = lease
            raise
        except LedgerError:
            # It has expired. If it was charged, it is paid for: a commit books what exceeds that.
            if getattr(self._ledger, "on_expiry", None) == "charge":
                return lease
            self._settled(lease, NOTHING)
            return None
        except BaseException:  # cancelled
            self._earmarks[owner] = lease
            raise
        return lease

    def _renewing(self) -> Script[None]:
        """Keep earmarks from expiring while the run goes on."""
        now = self._clock()
        for owner, lease in list(self._earmarks.items()):
            if now - self._renewed_at[owner] > self._lease_ttl_s / 2:
                self._renewed_at[owner] = now
                with suppress(LedgerError):
                    yield Ask("extend", (lease.id, self._lease_ttl_s))

    def _dropping(self) -> Script[None]:
        while self._earmarks:
            _, lease = self._earmarks.popitem()
            yield from self._untold.telling(Ask("release", (lease.id,)))
            self._settled(lease, NOTHING)
        with suppress(LedgerUnavailable):
            yield from self._untold.catching_up()


def _counts_in(lease: Lease, accounts: tuple[Account, ...]) -> bool:
    """Whether what is held in a lease counts against the limits of these accounts."""
    counted = {key for account in accounts for key in account.keys}
    return all(account.key in counted for account in lease.accounts)


def _without(state: AccountState, lease: Lease) -> AccountState:
    """A state as if this lease were not held, unless the lease is of another window."""
    if not any(account.key in state.account.keys for account in lease.accounts):
        return state
    return replace(state, held=state.held.excess_over(lease.amounts))
