"""Administration of a ledger: what is in it, what is open, and accounts that begin anew.

A ledger counts for whoever calls it, and does not know which accounts there are to be looked at,
or what their limits are: limits travel with the calls. `LedgerAdmin` is what an administrator needs
besides. All four ledgers of this package have it; a ledger of your own need not.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import Final, Protocol, cast, runtime_checkable

from langchain_hybridflow.budget.ledger import Ledger
from langchain_hybridflow.budget.types import MAX_KEY_CHARS, Account, Amounts, Lease
from langchain_hybridflow.errors import LedgerError

__all__ = [
    "RESET_PREFIX",
    "AdminLedger",
    "LedgerAdmin",
    "Reset",
    "admin_of",
    "archive_of",
    "still_in_use",
]

RESET_PREFIX: Final = "reset/"
"""How the keys of the accounts begin that reset amounts are moved to."""


@dataclass(frozen=True, slots=True)
class Reset:
    """What came of a reset.

    Args:
        key: Key of the account.
        moved_to: Key of the account that its amounts were moved to.
        used: What was moved: all that was booked in the account.
        overdraft: The part of it that no reservation had covered.
        open_leases: How many leases stayed open in the account; they are booked there when they
            end.
    """

    key: str
    moved_to: str
    used: Amounts
    overdraft: Amounts
    open_leases: int


@runtime_checkable
class LedgerAdmin(Protocol):
    """What a ledger offers to administrators; its methods block, and may take a while.

    As everywhere in a ledger, leases that are over their time are settled first. An implementation
    proves itself with `langchain_hybridflow.testing.LedgerAdminConformance`.

    Example:
        >>> from langchain_hybridflow.budget import Account, Amounts, MemoryLedger
        >>> ledger = MemoryLedger()
        >>> day = Account("budget/team/day=2026-11-21", "budget")
        >>> lease = ledger.reserve("a", Amounts(cloud_calls=1), accounts=[day], ttl_s=60)
        >>> [lease.id for lease in ledger.open_leases(day.key)]
        ['a']
        >>> ledger.commit("a", Amounts(cloud_calls=1))
        True
        >>> ledger.reset(day.key).used.cloud_calls
        1
        >>> ledger.list_keys()
        ('budget/team/day=2026-11-21', 'reset/budget/team/day=2026-11-21')
    """

    def list_keys(self, prefix: str = "") -> tuple[str, ...]:
        """All keys that begin with `prefix` and have counters or a note, sorted.

        Nothing is made for it: where no ledger has ever been, there are none.

        Raises:
            LedgerUnavailable: If the store does not answer.
        """
        ...

    def open_leases(self, key: str | None = None) -> tuple[Lease, ...]:
        """The leases that are open, or those in one account; the first to expire comes first.

        Their accounts may be known by key alone.

        Raises:
            LedgerUnavailable: If the store does not answer.
        """
        ...

    def reset(self, key: str, *, force: bool = False) -> Reset:
        """Let an account begin anew: nothing is used in it.

        Nothing is lost by it: what was used, and its overdraft, moves in one atomic step, and in
        the journal, to the account `archive_of(key)`, which adds it up and has no limit. What open
        leases hold stays held. The note stays, and so does the time for which the counters are
        kept. Of a rolling window, each bucket is an account.

        Args:
            key: Key of the account; one that nobody has used is no error.
            force: Also if leases are open in it. What they cost is booked in it afterwards.

        Raises:
            LedgerError: If leases are open and it is not forced, or the key is itself one of
                those that resets move to; nothing has changed then.
            LedgerUnavailable: If the store does not answer.
        """
        ...


class AdminLedger(Ledger, LedgerAdmin, Protocol):
    """A ledger with its administration, as all of this package are."""


@runtime_checkable
class _Front(Protocol):
    """A ledger in front of another one."""

    ledger: Ledger


def admin_of(ledger: Ledger) -> AdminLedger | None:
    """Return the ledger with its administration, if it has one; of one in front, the one behind.

    Example:
        >>> from langchain_hybridflow.budget import FailOpenLedger, Limits, MemoryLedger
        >>> store = MemoryLedger()
        >>> admin_of(FailOpenLedger(store, Limits(usd=1))) is store
        True
    """
    store = ledger.ledger if isinstance(ledger, _Front) else ledger
    return cast(AdminLedger, store) if isinstance(store, LedgerAdmin) else None


def archive_of(key: str) -> str:
    """Return the key of the account that the amounts of a reset account are moved to.

    Raises:
        ConfigurationError: If `key` could not be that of an account.
        LedgerError: If it is such a key itself.

    Example:
        >>> archive_of("budget/team")
        'reset/budget/team'
    """
    Account(key, "account")
    if key.startswith(RESET_PREFIX):
        raise LedgerError(f"{key!r} keeps what was reset elsewhere, and is not reset itself.")
    archive = RESET_PREFIX + key
    if len(archive) <= MAX_KEY_CHARS:
        return archive
    return f"{RESET_PREFIX}#{blake2b(key.encode(), digest_size=20).hexdigest()}"


def still_in_use(key: str, open_leases: int) -> LedgerError:
    """The error for a reset of an account that leases are open in."""
    leases = "1 lease is" if open_leases == 1 else f"{open_leases} leases are"
    return LedgerError(
        f"{leases} open in account {key!r}, so it is not reset: what they cost would be booked in "
        f"the new count. Wait until they are settled or expire, or force it."
    )
