"""What `RedisLedger` asks of its script, and what the replies mean; nothing here does any IO.

The script is `redis.lua`. What stands there about records is what is read and written here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar

from langchain_hybridflow.budget import rules
from langchain_hybridflow.budget.share import Refill, taken_id
from langchain_hybridflow.budget.stores._shared import check_amounts
from langchain_hybridflow.budget.types import (
    Account,
    AccountState,
    Amounts,
    Column,
    Denial,
    Difference,
    Lease,
    Note,
    Reconciliation,
)
from langchain_hybridflow.errors import LedgerError

__all__ = ["Books", "Request", "Requests", "lease_of", "too_large"]

T = TypeVar("T")

Answer: TypeAlias = Sequence[Any]
"""A reply of the script without its time: the outcome, and what belongs to it, in bytes."""

MOST = 2**53 - 1
"""The largest integer that the script counts to: Lua has doubles."""

_LONGEST_TTL_S = 3_155_760_000.0  # a hundred years, so that no time passes 2^53 microseconds
_MICROS = 1_000_000
_MENDED_AT_ONCE = 500  # keys in one repair: Lua takes some thousand arguments

_COLUMNS: tuple[tuple[Column, int], ...] = (("used", 0), ("held", 3), ("overdraft", 6))
_LEASES = 9  # where the number of open leases stands in a counter's record


@dataclass(frozen=True, slots=True)
class Request(Generic[T]):
    """A run of the script.

    Args:
        operation: Its name in the script.
        arguments: What the operation takes.
        read: Makes the answer of it, or raises `LedgerError`.
    """

    operation: str
    arguments: tuple[str | bytes, ...]
    read: Callable[[Answer], T]


@dataclass(frozen=True, slots=True)
class Requests:
    """Makes the requests of one ledger.

    Args:
        on_expiry: What becomes of a lease that nobody settles; it is decided when it is granted.
        settled_keep_s: How long the id of a settled lease is remembered.
    """

    on_expiry: rules.OnExpiry
    settled_keep_s: float

    def reserve(
        self,
        lease_id: str,
        amounts: Amounts,
        accounts: Sequence[Account],
        ttl_s: float,
        *,
        caller: str,
    ) -> Request[tuple[Lease | Denial, bool]]:
        """Hold; the answer says, too, whether this caller has opened the lease.

        Args:
            lease_id: As in `SyncLedger.reserve`, like all that follows.
            amounts: The worst case.
            accounts: Where it is held.
            ttl_s: The time of the lease.
            caller: A number that no other call has, so that one that is sent again is known.
        """
        places = rules.check_request(lease_id, accounts)
        check_amounts(amounts)
        head = (lease_id, _micros_of_ttl(ttl_s), *map(str, amounts))
        policy = ("1" if self.on_expiry == "charge" else "0", _micros(self.settled_keep_s), caller)
        record = "".join(f"\n{_keep(account.keep_s)} {account.key}" for account in places)
        arguments: list[str | bytes] = [*head, *policy, record]
        for account in places:
            arguments += (account.key, *_limits(account), _keep(account.keep_s))
            arguments += (str(len(account.earlier)), *account.earlier)

        def read(answer: Answer) -> tuple[Lease | Denial, bool]:
            match answer:
                case [b"granted", expires]:
                    return Lease(lease_id, amounts, places, _seconds(expires)), True
                case [b"open" | b"mine" as whose, record]:
                    known = lease_of(lease_id, record)
                    rules.check_replay(
                        lease_id,
                        amounts=amounts,
                        accounts=places,
                        open_amounts=known.amounts,
                        open_keys=[account.key for account in known.accounts],
                    )
                    lease = Lease(lease_id, amounts, places, known.expires_at)
                    return lease, whose == b"mine"
                case [b"denied", position, *sums]:
                    return _denial(amounts, places[int(position) - 1], sums), False
                case [b"settled", how]:
                    raise rules.already_settled(lease_id, how.decode())
            raise too_large(lease_id)

        return Request("reserve", tuple(arguments), read)

    def extend(self, lease_id: str, ttl_s: float) -> Request[Lease]:
        """Give an open lease more time."""

        def read(answer: Answer) -> Lease:
            if answer[0] == b"unknown":
                raise rules.not_open(lease_id)
            return lease_of(lease_id, answer[1])

        return Request("extend", (_name(lease_id), _micros_of_ttl(ttl_s)), read)

    def commit(self, lease_id: str, actual: Amounts) -> Request[bool]:
        """Book what a call cost."""
        check_amounts(actual)

        def read(answer: Answer) -> bool:
            match answer:
                case [b"settled", by_this_call]:
                    return bool(by_this_call)
                case [b"unknown"]:
                    raise rules.unknown_lease(lease_id, actual)
                case [b"other", *numbers]:
                    raise rules.other_cost(lease_id, first=Amounts(*map(int, numbers)), now=actual)
            raise too_large(lease_id)

        return Request("commit", (_name(lease_id), *map(str, actual)), read)

    def release(self, lease_id: str) -> Request[bool]:
        """Free what a lease holds."""
        return Request("release", (_name(lease_id),), lambda answer: bool(answer[1]))

    def undo(self, lease_id: str, *, caller: str) -> Request[bool]:
        """Free a lease that its caller never heard of, and forget its id."""
        return Request("undo", (_name(lease_id), caller), lambda answer: bool(answer[1]))

    def expire(self) -> Request[tuple[tuple[Lease, ...], bool]]:
        """Settle some leases that are over their time, and say whether there may be more."""

        def read(answer: Answer) -> tuple[tuple[Lease, ...], bool]:
            _, at_once, records = answer
            leases = tuple(lease_of(key.decode(), record) for key, record in _pairs(records))
            return leases, len(leases) >= int(at_once)

        return Request("expire", (), read)

    def snapshot(self, accounts: Sequence[Account]) -> Request[tuple[AccountState, ...]]:
        """Read the counters and the notes of some accounts."""
        places = tuple(accounts)
        counted = [key for account in places for key in account.keys]
        arguments = (str(len(counted)), *counted, *(account.key for account in places))

        def read(answer: Answer) -> tuple[AccountState, ...]:
            _, at, counters, notes = answer
            records = iter(counters)
            return tuple(
                _state(account, [next(records) for _ in account.keys], note, at=_seconds(at))
                for account, note in zip(places, notes, strict=True)
            )

        return Request("snapshot", arguments, read)

    def swap_note(
        self, key: str, expected_version: int, text: str, keep_s: float | None
    ) -> Request[Note]:
        """Write a note if nobody else has."""
        rules.check_note(key, expected_version, text, keep_s)
        arguments = (key, str(expected_version), text, _keep(keep_s))
        return Request(
            "swap_note", arguments, lambda answer: Note(int(answer[1]), _text(answer[2]))
        )

    def refill(self, refill_id: str, refills: Sequence[Refill]) -> Request[bool]:
        """Count an answered prompt."""
        arguments: list[str | bytes] = [refill_id, _micros(self.settled_keep_s)]
        for refill in refills:
            arguments += (refill.key, str(refill.micro_calls), _keep(refill.keep_s))

        def read(answer: Answer) -> bool:
            if answer[0] == b"open":
                raise taken_id(refill_id)
            return bool(answer[1])

        return Request("refill", tuple(arguments), read)

    def books(self) -> Request[Books]:
        """Read all that a reconciliation compares."""
        return Request("books", (), Books.of)

    def repair(self, changes: Sequence[tuple[str, str, str]]) -> Iterator[Request[int]]:
        """Put right what has not changed since it was read, and say how many counters that was.

        With nothing to change, it makes sure that all open leases are waiting to expire.
        """
        for start in range(0, max(1, len(changes)), _MENDED_AT_ONCE):
            some = changes[start : start + _MENDED_AT_ONCE]
            arguments = tuple(part for change in some for part in change)
            yield Request("repair", arguments, lambda answer: int(answer[1]))

    def now(self) -> Request[None]:
        """Ask for the time, which every reply brings."""
        return Request("now", (), lambda _: None)


@dataclass(frozen=True, slots=True)
class Books:
    """The counters of a ledger, and what they should be.

    Args:
        records: By key, the counters as they are stored.
        counted: By key and column, what they say.
        journal: By key and column, what follows from the journal and the open leases.
        leases: By key, how many leases are open in it.
    """

    records: dict[str, str]
    counted: dict[str, dict[Column, list[int]]]
    journal: dict[str, dict[Column, list[int]]]
    leases: dict[str, int]

    @classmethod
    def of(cls, answer: Answer) -> Books:
        """Read them from what the script returns."""
        _, counters, opening, lines, leases = answer
        records = {_text(key): _text(record) for key, record in _pairs(counters)}
        books = cls(records, {}, {}, {})
        for key, record in records.items():
            numbers = _integers(record)
            books.counted[key] = {name: numbers[at : at + 3] for name, at in _COLUMNS}
        for account, balance in _pairs(opening):
            books._book(_text(account), _integers(_text(balance)))
        for line in map(_text, lines):
            head, _, accounts = line.partition("\n")
            for key in _keys(accounts):
                if head:
                    books._book(key, _integers(head))
                else:
                    books.journal.pop(key, None)
        for _, lease in _pairs(leases):
            head, _, accounts = _text(lease).partition("\n")
            for key in _keys(accounts):
                books._add(key, "held", _integers(head)[1:4])
                books.leases[key] = books.leases.get(key, 0) + 1
        return books

    def compare(self, *, repaired: bool) -> Reconciliation:
        """What a reconciliation reports."""
        checked = len(self.counted.keys() | self.journal.keys())
        differences = self.differences()
        return Reconciliation(checked, differences, repaired=repaired and bool(differences))

    def differences(self) -> tuple[Difference, ...]:
        """The counters that are not what the journal says."""
        return rules.differences_of(self.counted, self.journal)

    def changes(self) -> list[tuple[str, str, str]]:
        """What puts the counters right: key, record as it was read, record as it should be."""
        wrong = {difference.key for difference in self.differences()}
        for key, record in self.records.items():
            if _integers(record)[_LEASES] != self.leases.get(key, 0):
                wrong.add(key)
        return [(key, self.records.get(key, ""), self._right(key)) for key in sorted(wrong)]

    def _right(self, key: str) -> str:
        columns = self.journal.get(key, {})
        numbers = [number for name, _ in _COLUMNS for number in columns.get(name, (0, 0, 0))]
        rest = _integers(self.records[key])[_LEASES + 1 :] if key in self.records else [0, 0, 0]
        return " ".join(map(str, (*numbers, self.leases.get(key, 0), *rest)))

    def _book(self, key: str, booked: Sequence[int]) -> None:
        self._add(key, "used", booked[:3])
        self._add(key, "overdraft", booked[3:])

    def _add(self, key: str, column: Column, numbers: Sequence[int]) -> None:
        columns = self.journal.setdefault(key, {})
        old = columns.get(column, (0, 0, 0))
        columns[column] = [mine + theirs for mine, theirs in zip(old, numbers, strict=True)]


def _name(lease_id: str) -> bytes:
    # Whatever it is: an id that cannot be one is unknown, and is no error where it is released.
    return lease_id.encode("utf-8", errors="surrogatepass")


def _micros(seconds: float) -> str:
    return str(max(1, round(seconds * _MICROS)))


def _micros_of_ttl(ttl_s: float) -> str:
    if rules.check_ttl_s(ttl_s) > _LONGEST_TTL_S:
        raise LedgerError(f"ttl_s must be at most a hundred years, not {ttl_s!r} s.")
    return _micros(ttl_s)


def _keep(keep_s: float | None) -> str:
    return "0" if keep_s is None else _micros(min(keep_s, _LONGEST_TTL_S))


def _limits(account: Account) -> Iterable[str]:
    # What is counted never passes MOST, so that a larger limit is none.
    return ("" if limit is None or limit > MOST else str(limit) for limit in account.limits)


def _seconds(micros: bytes) -> float:
    return int(micros) / _MICROS


def _text(value: bytes) -> str:
    return value.decode()


def _integers(text: str) -> list[int]:
    return [int(number) for number in text.split()]


def _pairs(flat: Sequence[bytes]) -> Iterator[tuple[bytes, bytes]]:
    return zip(flat[::2], flat[1::2], strict=True)


def _keys(accounts: str) -> list[str]:
    return [line.partition(" ")[2] for line in accounts.split("\n") if line]


def lease_of(lease_id: str, record: bytes) -> Lease:
    """Read an open lease."""
    head, _, accounts = _text(record).partition("\n")
    expires, usd_micros, tokens, calls, *_ = _integers(head)
    places = tuple(Account(key, "") for key in _keys(accounts))
    return Lease(lease_id, Amounts(usd_micros, tokens, calls), places, expires / _MICROS)


def _denial(amounts: Amounts, account: Account, sums: Sequence[bytes]) -> Denial:
    numbers = [int(number) for number in sums]
    denial = rules.first_denial(amounts, account, numbers[:3], numbers[3:])
    if denial is None:  # not reached: the script compares the same numbers
        raise LedgerError(f"The ledger refused {amounts} for a reason that it cannot say.")
    return denial


def _state(
    account: Account, records: Sequence[bytes | None], note: bytes | None, *, at: float
) -> AccountState:
    sums = [0] * 9
    for record in records:
        if record is not None:
            sums = [mine + int(more) for mine, more in zip(sums, record.split(), strict=False)]
    used, held, overdraft = (Amounts(*sums[at : at + 3]) for _, at in _COLUMNS)
    return AccountState(account, used, held, overdraft, at=at, note=_note(note))


def _note(record: bytes | None) -> Note | None:
    if record is None:
        return None
    version, _, _, text = _text(record).split(" ", 3)
    return Note(int(version), text)


def too_large(lease_id: str) -> LedgerError:
    """The error for a counter that would pass what the script counts to."""
    return LedgerError(
        f"Lease {lease_id!r} would take a counter beyond {MOST:,}, the most that this ledger "
        f"counts to; nothing was changed. Start a new account."
    )
