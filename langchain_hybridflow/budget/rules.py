"""The rules of the ledger contract that need no store: what every ledger checks, and says.

A ledger of your own may use them too, so that its errors read like those of all others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Literal, TypeAlias, get_args

from langchain_hybridflow.budget.types import (
    DIMENSIONS,
    MAX_KEY_CHARS,
    Account,
    Amounts,
    Column,
    Denial,
    Difference,
)
from langchain_hybridflow.errors import ConfigurationError, LedgerError

__all__ = [
    "MAX_NOTE_BYTES",
    "Ending",
    "OnExpiry",
    "already_settled",
    "check_note",
    "check_on_expiry",
    "check_replay",
    "check_request",
    "check_ttl_s",
    "differences_of",
    "first_denial",
    "not_open",
    "other_cost",
    "unknown_lease",
]

OnExpiry: TypeAlias = Literal["charge", "refund"]
"""What a ledger does with a lease that nobody settled: book it in full, or free it."""

Ending: TypeAlias = Literal["committed", "released", "expired"]
"""How a lease ended."""

MAX_NOTE_BYTES = 4_096
"""Longest text of a note, in bytes of UTF-8."""

_Counted: TypeAlias = Mapping[Column, Sequence[int]]


def check_on_expiry(value: object) -> OnExpiry:
    """Return a valid `on_expiry=`.

    Raises:
        ConfigurationError: If it is neither `"charge"` nor `"refund"`.
    """
    if value == "charge":
        return "charge"
    if value == "refund":
        return "refund"
    raise ConfigurationError(f"on_expiry must be 'charge' or 'refund', not {value!r}.")


def check_request(lease_id: str, accounts: Sequence[Account]) -> tuple[Account, ...]:
    """Return the accounts of a reservation, which must name each key once.

    Raises:
        LedgerError: If an account is named twice, or the id is empty, not printable, or longer
            than `MAX_KEY_CHARS`.
    """
    if not lease_id or len(lease_id) > MAX_KEY_CHARS or not lease_id.isprintable():
        raise LedgerError(
            f"A lease id has 1 to {MAX_KEY_CHARS} printable characters; this one has "
            f"{len(lease_id)}: {lease_id[:40]!r}."
        )
    places = tuple(accounts)
    if len(places) > 1 and len({account.key for account in places}) != len(places):
        raise LedgerError("A reservation names one account twice; it would be held twice there.")
    return places


def check_ttl_s(ttl_s: float) -> float:
    """Return a time to live in seconds.

    Raises:
        LedgerError: If it is not finite and positive.
    """
    if not (isfinite(ttl_s) and ttl_s > 0):
        raise LedgerError(f"ttl_s must be finite and positive, not {ttl_s!r}.")
    return ttl_s


def check_note(key: str, expected_version: int, text: str, keep_s: float | None) -> None:
    """Check the arguments of `swap_note`.

    Raises:
        LedgerError: If the text is longer than `MAX_NOTE_BYTES` or holds what no store can, or the
            version is negative.
        ConfigurationError: If `key` or `keep_s` could not be those of an account.
    """
    Account(key, "note", keep_s=keep_s)
    if type(expected_version) is not int or expected_version < 0:
        raise LedgerError(f"expected_version must be an integer >= 0, not {expected_version!r}.")
    # A NUL fits into no text of PostgreSQL, and a lone surrogate into no UTF-8.
    size = len(text.encode("utf-8", errors="surrogatepass"))
    if size > MAX_NOTE_BYTES:
        raise LedgerError(f"A note has at most {MAX_NOTE_BYTES} bytes of UTF-8, not {size}.")
    if "\0" in text or any("\ud800" <= char <= "\udfff" for char in text):
        raise LedgerError("The text of a note must be UTF-8 without NUL characters.")


def check_replay(
    lease_id: str,
    *,
    amounts: Amounts,
    accounts: Sequence[Account],
    open_amounts: Amounts,
    open_keys: Sequence[str],
) -> None:
    """Check that a reservation is the open one over again.

    Args:
        lease_id: The id of both.
        amounts: What is asked for now.
        accounts: Where it is asked for now.
        open_amounts: What the open lease holds.
        open_keys: The keys that it is held in, in the order of its accounts.

    Raises:
        LedgerError: If it is another reservation.
    """
    if open_amounts != amounts or list(open_keys) != [account.key for account in accounts]:
        raise LedgerError(
            f"Lease {lease_id!r} is open with {open_amounts}, and is now asked for with "
            f"{amounts} or other accounts. A lease id stands for one purchase."
        )


def already_settled(lease_id: str, how: Ending) -> LedgerError:
    """The error for a reservation whose id was used before."""
    return LedgerError(
        f"Lease {lease_id!r} was {how} before. A lease id stands for one purchase: give a new "
        f"attempt a new id."
    )


def not_open(lease_id: str) -> LedgerError:
    """The error for an extension of a lease that is not open."""
    return LedgerError(f"Lease {lease_id!r} is not open, so it cannot be extended.")


def unknown_lease(lease_id: str, actual: Amounts) -> LedgerError:
    """The error for a commit whose cost belongs to no account."""
    return LedgerError(
        f"Lease {lease_id!r} is unknown: it was never granted, or was settled so long ago that it "
        f"is forgotten. Its cost {actual} is in no account."
    )


def other_cost(lease_id: str, *, first: Amounts, now: Amounts) -> LedgerError:
    """The error for a second commit with another cost."""
    return LedgerError(
        f"Lease {lease_id!r} was committed with {first} before, and now with {now}. A lease is "
        f"settled once; the first commit stands."
    )


def first_denial(
    amounts: Amounts, account: Account, used: Sequence[int], held: Sequence[int]
) -> Denial | None:
    """The first dimension in which an account has too little left, if there is one.

    Args:
        amounts: What is asked for; a dimension of which nothing is asked cannot deny.
        account: The account, with its limits.
        used: What was spent, summed over `account.keys`, in the order of `DIMENSIONS`.
        held: What open leases hold, likewise.

    Example:
        >>> from langchain_hybridflow.budget import Limits
        >>> account = Account("a", "budget", Limits(cloud_calls=3))
        >>> first_denial(Amounts(cloud_calls=2), account, used=(0, 0, 1), held=(0, 0, 1)).remaining
        1
    """
    for index, (requested, limit) in enumerate(zip(amounts, account.limits, strict=True)):
        if limit is None or requested == 0:
            continue
        remaining = limit - used[index] - held[index]
        if requested > remaining:
            return Denial(
                dimension=DIMENSIONS[index],
                requested=requested,
                remaining=max(0, remaining),
                limit=limit,
                scope=account.scope,
                held=held[index],
            )
    return None


def differences_of(
    counted: Mapping[str, _Counted], journal: Mapping[str, _Counted]
) -> tuple[Difference, ...]:
    """Compare counters with what the journal says, for `Reconciliation.differences`.

    Args:
        counted: By key and column, the three integers that the ledger counted.
        journal: The same as it follows from the journal and the open leases. A key or column that
            one side lacks is zero there.

    Example:
        >>> differences_of({"a": {"used": (0, 7, 1)}}, {"a": {"used": (0, 5, 1)}})
        (Difference(key='a', column='used', dimension='cloud_tokens', counted=7, journal=5),)
    """
    zeros = (0, 0, 0)
    columns: tuple[Column, ...] = get_args(Column)
    return tuple(
        Difference(key, column, dimension, mine, theirs)
        for key in sorted(counted.keys() | journal.keys())
        for column in columns
        for dimension, mine, theirs in zip(
            DIMENSIONS,
            counted.get(key, {}).get(column, zeros),
            journal.get(key, {}).get(column, zeros),
            strict=True,
        )
        if mine != theirs
    )
