"""What a run holds in its ledger: in the window of now, and given back if nobody heard of it."""

from __future__ import annotations

from os import urandom

from langchain_hybridflow.budget.about import Publisher
from langchain_hybridflow.budget.accounts import AccountBook
from langchain_hybridflow.budget.twins import Ask, Script
from langchain_hybridflow.budget.types import Account, Amounts, Denial, Lease
from langchain_hybridflow.budget.untold import Untold
from langchain_hybridflow.errors import LedgerUnavailable

__all__ = ["Holds", "accounts_now"]


def accounts_now(book: AccountBook) -> Script[tuple[Account, ...]]:
    """Return the accounts of a book, by the clock of the ledger."""
    now = (yield Ask("now")) if book.rolls else 0.0
    return book.at(now)


class Holds:
    """The reservations of a run that are open.

    Args:
        untold: What the store is still to be told, such as to give back what it may have granted.
        publisher: Who tells the store the limits, before anything is held.
        ttl_s: Seconds after which a reservation that nobody settled expires.
    """

    def __init__(self, untold: Untold, publisher: Publisher | None, *, ttl_s: float) -> None:
        self._untold = untold
        self._publisher = publisher
        self._ttl_s = ttl_s
        # A lease that is open stays in its accounts, whatever window it is by now.
        self._open: dict[str, Lease] = {}
        self._asked_as: dict[str, str] = {}
        self._lost: set[str] = set()

    def hold(self, book: AccountBook, asked_id: str, amounts: Amounts) -> Script[Lease | Denial]:
        """Hold in the accounts of the moment, or find what is held under this id.

        Returns:
            What the ledger says. The id of the lease is another one if a first reservation was
            given back: for the ledger each id is good for one.

        Raises:
            LedgerError: The id is open with other amounts, or was settled before.
            LedgerUnavailable: The store does not answer.
        """
        known = self._open.get(asked_id)
        if known is not None:
            return (yield from self._ask(known.id, amounts, known.accounts))
        if self._publisher is not None:
            yield from self._publisher.publish()
        accounts = yield from accounts_now(book)
        lease_id = _again(asked_id) if asked_id in self._lost else asked_id
        try:
            answer = yield from self._ask(lease_id, amounts, accounts)
            if book.rolls and (yield from self._has_moved_on(book, lease_id, accounts)):
                if isinstance(answer, Lease):
                    yield from self._untold.telling(Ask("release", (lease_id,)))
                accounts = yield from accounts_now(book)
                answer = yield from self._ask(_again(asked_id), amounts, accounts)
        except LedgerUnavailable:
            self._lost.add(asked_id)
            raise
        if isinstance(answer, Lease):
            self._asked_as[answer.id] = asked_id
            self._open[asked_id] = answer
        return answer

    def settled(self, lease: Lease) -> None:
        """Forget a lease that is not open any more."""
        self._open.pop(self._asked_as.pop(lease.id, lease.id), None)

    def _ask(
        self, lease_id: str, amounts: Amounts, accounts: tuple[Account, ...]
    ) -> Script[Lease | Denial]:
        options = {"accounts": accounts, "ttl_s": self._ttl_s}
        try:
            answer: Lease | Denial = yield Ask("reserve", (lease_id, amounts), options)
        except LedgerUnavailable:  # it may be granted, and nobody would ever know
            self._untold.add(Ask("release", (lease_id,)))
            raise
        return answer

    def _has_moved_on(
        self, book: AccountBook, lease_id: str, accounts: tuple[Account, ...]
    ) -> Script[bool]:
        """Find whether these accounts are of a window that is over, as the store has just told.

        It has ended meanwhile, or the machine has slept, and the clock that goes by it.
        """
        try:
            current = yield from accounts_now(book)
        except BaseException:
            self._untold.add(Ask("release", (lease_id,)))
            raise
        return current != accounts


def _again(asked_id: str) -> str:
    return f"{asked_id}/{urandom(4).hex()}"
