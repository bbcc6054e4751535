"""The values that budgets and ledgers exchange: amounts, limits, accounts, leases.

Ledgers count in integers only (micro-USD, tokens, calls): integers add up to the digit, on any
store and in any order, and floats do not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from math import isfinite
from typing import Final, Literal, TypeAlias

from langchain_hybridflow.errors import ConfigurationError

__all__ = [
    "DIMENSIONS",
    "MAX_KEY_CHARS",
    "NOTHING",
    "Account",
    "AccountState",
    "Amounts",
    "Column",
    "Denial",
    "Difference",
    "Dimension",
    "Lease",
    "Limits",
    "Note",
    "Number",
    "Reconciliation",
    "micros_to_usd",
    "to_decimal",
]

Dimension: TypeAlias = Literal["usd_micros", "cloud_tokens", "cloud_calls"]
"""What a ledger counts; also the names of the fields of `Amounts`."""

DIMENSIONS: tuple[Dimension, ...] = ("usd_micros", "cloud_tokens", "cloud_calls")

Column: TypeAlias = Literal["used", "held", "overdraft"]
"""The counters that a ledger keeps for each key, three integers each (see `DIMENSIONS`)."""

MAX_KEY_CHARS = 1_000
"""Longest key of an account and longest lease id: what every store can index."""

Number: TypeAlias = Decimal | float | int | str
"""A number as people write it; floats are read through `str`, so that 0.1 means 0.1."""

_MICROS_PER_USD = 1_000_000
_MOST_COUNT: Final = 2**53  # up to which a number of any store, and of JSON, is exact


def to_decimal(value: Number, *, name: str) -> Decimal:
    """Read a number of money that must be finite and not negative.

    Args:
        value: The number; a float is read as the shortest decimal that prints the same.
        name: Name of the parameter, for the error.

    Raises:
        ConfigurationError: If it is a bool, not a number, NaN, negative, above 1e12 or too fine.

    Example:
        >>> to_decimal(0.1, name="limit_usd")
        Decimal('0.1')
    """
    if isinstance(value, bool) or not isinstance(value, Decimal | float | int | str):
        raise ConfigurationError(f"{name} must be a number, not {value!r}.")
    try:
        number = Decimal(str(value).strip())
    except InvalidOperation:
        raise ConfigurationError(f"{name} must be a number, not {value!r}.") from None
    if not number.is_finite() or number < 0:
        raise ConfigurationError(f"{name} must be finite and not negative, not {value!r}.")
    if number > 10**12 or int(number.as_tuple().exponent) < -100:  # else integers fill the memory
        raise ConfigurationError(f"{name} must be at most 1e12, and no finer than 1e-100.")
    # Not abs(): that rounds to the decimal context. And "-0" reads badly in every message.
    return number.copy_abs()


def micros_to_usd(micros: int) -> Decimal:
    """Micro-USD as USD, exactly, whatever the precision of the decimal context is.

    Example:
        >>> micros_to_usd(1_500)
        Decimal('0.001500')
    """
    return Decimal(f"{micros}e-6")


@dataclass(frozen=True, slots=True)
class Amounts:
    """How much of each dimension: a worst case to reserve, or a real cost to commit.

    Args:
        usd_micros: Micro-USD (1 USD = 1,000,000).
        cloud_tokens: Prompt and answer tokens of cloud calls.
        cloud_calls: Cloud calls.

    Raises:
        ConfigurationError: If one is not an integer, or is negative.

    Example:
        >>> Amounts(usd_micros=1_500, cloud_tokens=300, cloud_calls=1).usd
        Decimal('0.001500')
    """

    usd_micros: int = 0
    cloud_tokens: int = 0
    cloud_calls: int = 0

    def __post_init__(self) -> None:
        micros, tokens, calls = self.usd_micros, self.cloud_tokens, self.cloud_calls
        if type(micros) is type(tokens) is type(calls) is int and min(micros, tokens, calls) >= 0:
            return  # one look, because each call makes half a dozen of these
        for name in DIMENSIONS:
            value = getattr(self, name)
            if type(value) is not int or value < 0:
                raise ConfigurationError(f"{name} must be an integer >= 0, not {value!r}.")

    def __bool__(self) -> bool:
        return bool(self.usd_micros or self.cloud_tokens or self.cloud_calls)

    def __add__(self, other: Amounts) -> Amounts:
        return Amounts(
            usd_micros=self.usd_micros + other.usd_micros,
            cloud_tokens=self.cloud_tokens + other.cloud_tokens,
            cloud_calls=self.cloud_calls + other.cloud_calls,
        )

    def __iter__(self) -> Iterator[int]:
        """The three numbers, in the order of `DIMENSIONS`."""
        return iter((self.usd_micros, self.cloud_tokens, self.cloud_calls))

    @property
    def usd(self) -> Decimal:
        """The money in USD."""
        return micros_to_usd(self.usd_micros)

    def excess_over(self, other: Amounts) -> Amounts:
        """What this is more than `other`, dimension by dimension; never negative."""
        return Amounts(
            usd_micros=max(0, self.usd_micros - other.usd_micros),
            cloud_tokens=max(0, self.cloud_tokens - other.cloud_tokens),
            cloud_calls=max(0, self.cloud_calls - other.cloud_calls),
        )


NOTHING: Final = Amounts()
"""Zero in every dimension."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Upper limits of an account; `None` means that this dimension has none.

    Args:
        usd: USD, as `Decimal`, int, str, or float (read through `str`).
        cloud_tokens: Prompt and answer tokens of cloud calls.
        cloud_calls: Number of cloud calls.

    Raises:
        ConfigurationError: If a limit is NaN, negative, a bool, not a number, or above 1e12 USD or
            2**53.

    Example:
        >>> Limits(usd="0.05", cloud_calls=6)
        Limits(usd=Decimal('0.05'), cloud_tokens=None, cloud_calls=6)
    """

    usd: Decimal | None = None
    cloud_tokens: int | None = None
    cloud_calls: int | None = None
    usd_micros: int | None = field(init=False, repr=False, compare=False, default=None)
    """The USD limit in micro-USD, rounded down: a limit is never stretched."""

    def __init__(
        self,
        usd: Number | None = None,
        cloud_tokens: int | None = None,
        cloud_calls: int | None = None,
    ) -> None:
        exact_usd = None if usd is None else to_decimal(usd, name="A USD limit")
        micros = None if exact_usd is None else _floor_micros(exact_usd)
        for name, value in (("cloud_tokens", cloud_tokens), ("cloud_calls", cloud_calls)):
            if value is not None and (type(value) is not int or not 0 <= value <= _MOST_COUNT):
                raise ConfigurationError(f"{name} must be an integer in 0..2**53, not {value!r}.")
        object.__setattr__(self, "usd", exact_usd)
        object.__setattr__(self, "cloud_tokens", cloud_tokens)
        object.__setattr__(self, "cloud_calls", cloud_calls)
        object.__setattr__(self, "usd_micros", micros)

    def __iter__(self) -> Iterator[int | None]:
        """The three limits in ledger units, in the order of `DIMENSIONS`."""
        return iter((self.usd_micros, self.cloud_tokens, self.cloud_calls))

    def __bool__(self) -> bool:
        return not (self.usd is None and self.cloud_tokens is None and self.cloud_calls is None)


def _floor_micros(usd: Decimal) -> int:
    numerator, denominator = usd.as_integer_ratio()
    return numerator * _MICROS_PER_USD // denominator


@dataclass(frozen=True, slots=True)
class Account:
    """Something that has limits of its own: a budget, a run, a user, a tenant.

    To a ledger, a key is a name and no more. A window of time is a part of the key: "the 21st of
    November" is another account than the day after it, and a rolling window is cut into buckets,
    each with a key of its own.

    Args:
        key: Identity of the account in its ledger; what is reserved is held, and booked, here.
        scope: What people call it in messages, such as `"budget"` or `"run"`.
        limits: Its limits. They travel with each call and are not stored with the counters, so
            that a changed limit holds from the next reservation on.
        earlier: Other keys that count: of the earlier buckets that still lie in a rolling window,
            and of the next one, which may have begun for others. Limits are checked against the
            sum over `key` and these, and nothing is written to them.
        keep_s: Seconds after which a ledger may forget the counters of `key`, counted from the last
            time that something was held or booked there, and never while a lease is open in it;
            `None` for never.

    Raises:
        ConfigurationError: If a key is empty, longer than `MAX_KEY_CHARS`, or has characters that
            cannot be printed; if one is named twice; or if `keep_s` is not a positive time.

    Example:
        >>> Account("api/12", "user", Limits(cloud_calls=6), earlier=("api/11", "api/10")).keys
        ('api/12', 'api/11', 'api/10')
    """

    key: str
    scope: str
    limits: Limits = field(default_factory=Limits)
    earlier: tuple[str, ...] = ()
    keep_s: float | None = None

    def __post_init__(self) -> None:
        _check_key(self.key)
        if self.earlier:
            for key in self.earlier:
                _check_key(key)
            if len({self.key, *self.earlier}) != 1 + len(self.earlier):
                raise ConfigurationError(
                    f"Account {self.key!r} names a key twice; it would be counted twice: "
                    f"earlier={self.earlier!r}."
                )
        if self.keep_s is not None and not (isfinite(self.keep_s) and self.keep_s > 0):
            raise ConfigurationError(
                f"keep_s must be a finite, positive number of seconds or None, not {self.keep_s!r}."
            )

    @property
    def keys(self) -> tuple[str, ...]:
        """All keys that are counted against the limits, the current one first."""
        return (self.key, *self.earlier)


def _check_key(key: object) -> None:
    if not isinstance(key, str) or not key:
        raise ConfigurationError(f"The key of an account must be a text, not {key!r}.")
    if len(key) > MAX_KEY_CHARS:
        raise ConfigurationError(
            f"The key of an account has {len(key)} characters, and at most {MAX_KEY_CHARS} are "
            f"allowed: {key[:40]!r}... Use a shorter name, or a digest of the long one."
        )
    if not key.isprintable():
        raise ConfigurationError(
            f"The key of an account has characters that cannot be printed: {key!r}."
        )


@dataclass(frozen=True, slots=True)
class Note:
    """A small text that belongs to an account and that all processes share.

    Args:
        version: How often it was written; 0 if it never was.
        text: What was written, at most 4,096 bytes of UTF-8.
    """

    version: int = 0
    text: str = ""


@dataclass(frozen=True, slots=True)
class AccountState:
    """The counters of one account at one instant, summed over its key and the earlier ones.

    Args:
        account: Whose counters these are.
        used: What was spent.
        held: What is reserved by open leases.
        overdraft: The part of `used` that no reservation covered: a call that cost more than was
            reserved for it, or a commit that came after its lease was settled otherwise.
            `used - overdraft + held <= limit` at every instant.
        at: That instant, in epoch seconds of the ledger's clock; not part of what is compared.
        note: The note that belongs to `account.key`, or `None` if nobody has written one.
    """

    account: Account
    used: Amounts = NOTHING
    held: Amounts = NOTHING
    overdraft: Amounts = NOTHING
    at: float = field(default=0.0, compare=False)
    note: Note | None = None

    def remaining(self, dimension: Dimension) -> int | None:
        """What can still be reserved, in ledger units; `None` without a limit, else >= 0.

        Example:
            >>> account = Account("b", "budget", Limits(cloud_calls=6))
            >>> state = AccountState(account, used=Amounts(cloud_calls=2))
            >>> state.remaining("cloud_calls"), state.remaining("cloud_tokens")
            (4, None)
        """
        limit: int | None = getattr(self.account.limits, dimension)
        if limit is None:
            return None
        left: int = limit - getattr(self.used, dimension) - getattr(self.held, dimension)
        return max(0, left)


@dataclass(frozen=True, slots=True)
class Lease:
    """A granted reservation: this much is held until it is committed, released, or expires.

    Args:
        id: Who reserved; one id stands for one purchase.
        amounts: What is held, in each of the accounts.
        accounts: The accounts that it is held in, as they were when it was granted: its cost is
            booked there, whatever window it is by then.
        expires_at: When the ledger gives the lease up, in epoch seconds of the ledger's clock.
    """

    id: str
    amounts: Amounts
    accounts: tuple[Account, ...]
    expires_at: float


@dataclass(frozen=True, slots=True)
class Denial:
    """A refused reservation: nothing was held, in no dimension and in no account.

    Args:
        dimension: The first dimension that had too little left.
        requested: What was asked of it, in ledger units (micro-USD, tokens, calls).
        remaining: What was left, in the same unit.
        limit: The limit in the way, in the same unit.
        scope: Scope of the account that the limit belongs to.
        held: How much of the limit open leases hold: it may come back when they are settled.
    """

    dimension: Dimension
    requested: int
    remaining: int
    limit: int
    scope: str
    held: int


@dataclass(frozen=True, slots=True)
class Difference:
    """A counter that is not what the journal says.

    Args:
        key: Key of the account.
        column: Which of its counters.
        dimension: Which number of that counter.
        counted: What the counter says, in ledger units (micro-USD, tokens, calls).
        journal: What follows from the journal and the open leases, in the same unit.
    """

    key: str
    column: Column
    dimension: Dimension
    counted: int
    journal: int


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """What came out when a ledger compared its counters with its journal.

    Args:
        accounts_checked: How many keys were compared.
        differences: All differences found, sorted by key, column and dimension as they are listed
            in `Column` and `DIMENSIONS`; empty if all is well.
        repaired: Whether the counters were set to what the journal says; `False` also if there was
            nothing to repair.
    """

    accounts_checked: int
    differences: tuple[Difference, ...] = ()
    repaired: bool = False
