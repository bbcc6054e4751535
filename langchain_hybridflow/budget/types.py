"""The values that budgets and ledgers exchange: amounts, limits, accounts, leases.

Ledgers count in integers only (micro-USD, tokens, calls): integers add up to the digit, on any
store and in any order, and floats do not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Final, Literal, TypeAlias

from langchain_hybridflow.errors import ConfigurationError

__all__ = [
    "DIMENSIONS",
    "NOTHING",
    "Account",
    "AccountState",
    "Amounts",
    "Denial",
    "Dimension",
    "Lease",
    "Limits",
    "Number",
    "micros_to_usd",
    "to_decimal",
]

Dimension: TypeAlias = Literal["usd_micros", "cloud_tokens", "cloud_calls"]
"""What a ledger counts; also the names of the fields of `Amounts`."""

DIMENSIONS: tuple[Dimension, ...] = ("usd_micros", "cloud_tokens", "cloud_calls")

Number: TypeAlias = Decimal | float | int | str
"""A number as people write it; floats are read through `str`, so that 0.1 means 0.1."""

_MICROS_PER_USD = 1_000_000


def to_decimal(value: Number, *, name: str) -> Decimal:
    """Read a number of money that must be finite and not negative.

    Args:
        value: The number; a float is read as the shortest decimal that prints the same.
        name: Name of the parameter, for the error.

    Raises:
        ConfigurationError: If it is a bool, not a number, NaN, infinite or negative.

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
        return Amounts(*(max(0, mine - theirs) for mine, theirs in zip(self, other, strict=True)))


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
        ConfigurationError: If a limit is NaN, infinite, negative, a bool, or not a number.

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
            if value is not None and (type(value) is not int or value < 0):
                raise ConfigurationError(
                    f"A limit of {name} must be an integer >= 0 or None, not {value!r}."
                )
        object.__setattr__(self, "usd", exact_usd)
        object.__setattr__(self, "cloud_tokens", cloud_tokens)
        object.__setattr__(self, "cloud_calls", cloud_calls)
        object.__setattr__(self, "usd_micros", micros)

    def __iter__(self) -> Iterator[int | None]:
        """The three limits in ledger units, in the order of `DIMENSIONS`."""
        return iter((self.usd_micros, self.cloud_tokens, self.cloud_calls))

    def __bool__(self) -> bool:
        return any(limit is not None for limit in self)


def _floor_micros(usd: Decimal) -> int:
    numerator, denominator = usd.as_integer_ratio()
    return numerator * _MICROS_PER_USD // denominator


@dataclass(frozen=True, slots=True)
class Account:
    """Something that has limits of its own: a budget, a run, later a user or a tenant.

    Args:
        key: Identity of the account in its ledger; the counters belong to the key.
        scope: What people call it in messages, such as `"budget"` or `"run"`.
        limits: Its limits. They travel with each call and are not stored with the counters, so
            that a changed limit holds from the next reservation on.
    """

    key: str
    scope: str
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, slots=True)
class AccountState:
    """The counters of one account at one instant.

    Args:
        account: Whose counters these are.
        used: What was spent.
        held: What is reserved by open leases.
        overdraft: The part of `used` that no reservation covered: a call that cost more than was
            reserved for it, or a commit that came after its lease was settled otherwise.
            `used - overdraft + held <= limit` at every instant.
    """

    account: Account
    used: Amounts = NOTHING
    held: Amounts = NOTHING
    overdraft: Amounts = NOTHING

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
        accounts: The accounts that it is held in.
        expires_at: When the ledger gives the lease up, in seconds of the ledger's own clock.
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
