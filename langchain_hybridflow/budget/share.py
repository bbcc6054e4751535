"""A cap on the share of cloud calls: a bucket of calls that every answered prompt fills a little.

An account of a ledger is the bucket. Its limit is the burst, in cloud calls, and a call is held and
booked in it as in any other account. A prompt that was answered *refills* it: it puts a part of a
call aside, and each whole call that has come together is taken off what is used. Nothing is put
aside beyond a full bucket. So while n prompts are answered, at any time, whatever they are and
however many processes answer them, at most `max_share` x n + `burst` cloud calls are admitted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final, Protocol, runtime_checkable

from langchain_hybridflow.budget.rules import check_request
from langchain_hybridflow.budget.types import Limits, Note, Number, to_decimal
from langchain_hybridflow.errors import ConfigurationError, LedgerError

__all__ = [
    "MICRO_CALLS",
    "SHARE_BURST",
    "Refill",
    "RefillableLedger",
    "ShareCap",
    "Stash",
    "as_refillable",
    "check_refills",
    "ratio_of_share",
    "refilled",
    "share_cap",
    "share_of_ratio",
    "share_scope",
    "share_settings",
    "taken_id",
]

MICRO_CALLS: Final = 1_000_000
"""Parts of a cloud call that a bucket counts in: integers add up on any store."""

SHARE_BURST: Final = 10
"""Cloud calls that a full bucket holds, if nothing else is said."""

_SCOPE: Final = "cloud-share"  # with a "-", which the name of no scope has
_MOST_BURST: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class ShareCap:
    """How many of the answered prompts may make a cloud call.

    Args:
        max_share: Share of all answered prompts in 0..1, not finer than a millionth. A share, not
            the ratio of cloud to edge calls; see `share_of_ratio`.
        burst: Cloud calls in a row that are allowed after a quiet time; at least 1.

    Raises:
        ConfigurationError: A number is out of its range.

    Example:
        >>> ShareCap(0.3).micro_calls
        300000
    """

    max_share: Decimal
    burst: int

    def __init__(self, max_share: Number, burst: int = SHARE_BURST) -> None:
        share = to_decimal(max_share, name="max_cloud_share")
        if share > 1:
            raise ConfigurationError(
                f"max_cloud_share is a share of all answered prompts in 0..1, not {max_share!r}. A "
                f"ratio of cloud to edge calls becomes one by share_of_ratio()."
            )
        if type(burst) is not int or not 1 <= burst <= _MOST_BURST:
            raise ConfigurationError(
                f"share_burst is a number of calls in 1..{_MOST_BURST:,}, not {burst!r}."
            )
        object.__setattr__(self, "max_share", share)
        object.__setattr__(self, "burst", burst)
        if share and not self.micro_calls:
            raise ConfigurationError(
                f"max_cloud_share is counted in millionths, and {max_share!r} is less than one."
            )

    @property
    def micro_calls(self) -> int:
        """What a prompt puts aside, in millionths of a call, rounded down."""
        return int(self.max_share * MICRO_CALLS)

    @property
    def limits(self) -> Limits:
        """The limits of the account that is the bucket."""
        return Limits(cloud_calls=self.burst)


def share_cap(max_share: Number | None, burst: int) -> ShareCap | None:
    """Return the cap that two parameters make; `None` without a share.

    Raises:
        ConfigurationError: One is out of its range, or there is a burst without a share.
    """
    if max_share is not None:
        return ShareCap(max_share, burst)
    if burst != SHARE_BURST:
        raise ConfigurationError("share_burst goes with max_cloud_share; alone it does nothing.")
    return None


def share_settings(cap: ShareCap | None) -> dict[str, Any]:
    """Return the parameters that make a cap, in plain JSON types; none without one.

    Example:
        >>> share_settings(ShareCap(0.3)), share_settings(ShareCap(0.3, burst=2))
        ({'max_cloud_share': '0.3'}, {'max_cloud_share': '0.3', 'share_burst': 2})
    """
    if cap is None:
        return {}
    plain: dict[str, Any] = {"max_cloud_share": str(cap.max_share)}
    return plain if cap.burst == SHARE_BURST else {**plain, "share_burst": cap.burst}


def share_of_ratio(ratio: Number) -> Decimal:
    """Turn rho, the ratio of cloud to edge answers, into the share of all prompts: rho/(1 + rho).

    The paper on device-cloud collaboration (arXiv 2509.24050) bounds the ratio: E[1{cloud}] <=
    rho x E[1{local}].

    Args:
        ratio: Cloud answers for each edge answer, 0 or more.

    Raises:
        ConfigurationError: It is no finite number, or negative.

    Example:
        >>> share_of_ratio(3 / 7)
        Decimal('0.3')
    """
    rho = Fraction(to_decimal(ratio, name="ratio"))
    return _decimal(rho / (1 + rho))


def ratio_of_share(share: Number) -> Decimal:
    """Turn a share of all prompts into rho, the ratio of cloud to edge answers: share/(1 - share).

    Args:
        share: Share of all prompts, at least 0 and below 1.

    Raises:
        ConfigurationError: It is out of its range; all prompts in the cloud have no ratio.

    Example:
        >>> ratio_of_share(0.2)
        Decimal('0.25')
    """
    part = Fraction(to_decimal(share, name="share"))
    if part >= 1:
        raise ConfigurationError(f"share is at least 0 and below 1, not {share!r}.")
    return _decimal(part / (1 - part))


def _decimal(number: Fraction) -> Decimal:
    # Rounded, so that 3 / 7, which no float is, stands for 0.3; a bucket counts in millionths.
    return round(Decimal(number.numerator) / Decimal(number.denominator), 12).normalize()


def share_scope(scope: str = "budget") -> str:
    """What people call the bucket of a scope in messages, and in `Budget(liftable=...)`.

    Example:
        >>> share_scope(), share_scope("user")
        ('cloud-share', 'user-cloud-share')
    """
    return _SCOPE if scope == "budget" else f"{scope}-{_SCOPE}"


def refilled(drained: int, micro_calls: int, *, beyond: int = 0) -> int:
    """Put a part of a call aside in a bucket.

    Args:
        drained: How far the bucket is from being full, in millionths of a call.
        micro_calls: The part, in millionths of a call.
        beyond: How much more than full it may be. One part of a call is right where a call is
            taken and its part put aside in one step: else it would be lost with each call that is
            taken from a full bucket.

    Example:
        >>> refilled(1_000_000, 300_000), refilled(0, 300_000), refilled(0, 300_000, beyond=300_000)
        (700000, 0, -300000)
    """
    return max(-beyond, drained - micro_calls)


@dataclass(frozen=True, slots=True)
class Refill:
    """What an answered prompt gives to one bucket.

    Args:
        key: Key of the account.
        micro_calls: The part of a call that is put aside, in millionths.
        keep_s: Seconds after which a ledger may forget the account; `None` for never.
    """

    key: str
    micro_calls: int
    keep_s: float | None = None


@dataclass(frozen=True, slots=True)
class Stash:
    """What prompts have put aside in a bucket; a ledger keeps it as the note of the account.

    Args:
        micro_calls: Parts that are no whole call yet, in millionths.
        given_back: Whole calls that were taken off what is used, since the beginning.
        prompts: Prompts that were counted; the version of the note.

    Example:
        >>> Stash.of(Note(3, "900000 0")).refill(used=2, micro_calls=300_000)
        (1, Stash(micro_calls=200000, given_back=1, prompts=4))
    """

    micro_calls: int = 0
    given_back: int = 0
    prompts: int = 0

    @classmethod
    def of(cls, note: Note | None) -> Stash:
        """Read the note of an account; one that is no stash counts as empty."""
        if note is None:
            return cls()
        parts = note.text.split(" ")
        if len(parts) != 2 or not all(part.isascii() and part.isdecimal() for part in parts):
            return cls(prompts=note.version)
        return cls(int(parts[0]), int(parts[1]), note.version)

    @property
    def note(self) -> Note:
        """Write it as a note."""
        return Note(self.prompts, f"{self.micro_calls} {self.given_back}")

    def refill(self, *, used: int, micro_calls: int) -> tuple[int, Stash]:
        """Count a prompt.

        What is held is not looked at: should it be given back, the bucket is not more than full.

        Args:
            used: Calls that are used in the account.
            micro_calls: What the prompt puts aside, in millionths of a call.

        Returns:
            How many whole calls are to be taken off what is used, and what is aside then.
        """
        drained = refilled(used * MICRO_CALLS - self.micro_calls, micro_calls)
        left = -(-drained // MICRO_CALLS)
        back = used - left
        aside = left * MICRO_CALLS - drained
        return back, Stash(aside, self.given_back + back, self.prompts + 1)


@runtime_checkable
class RefillableLedger(Protocol):
    """A ledger whose accounts can be refilled, as `Budget(max_cloud_share=...)` needs it.

    All ledgers of this package can; a ledger of your own need not. One that can proves itself with
    `langchain_hybridflow.testing.LedgerShareConformance`.
    """

    def refill(self, refill_id: str, refills: Sequence[Refill]) -> bool:
        """Count an answered prompt in all of these accounts, in one atomic step, and once.

        Of each, the note becomes that of `Stash.refill`, and the calls that are given back are
        taken off what is used, in counters and journal; what then exceeds `used` is taken off the
        overdraft, too. An account that nobody has used stays unused, and has a note.

        Args:
            refill_id: Identity of the prompt, remembered as long as a settled lease, among these.
            refills: What it gives, to each account once. To none is a trial: the id is remembered,
                and whatever keeps this ledger from counting prompts is found before they are.

        Returns:
            Whether this call did it; `False`, and nothing changes, if it was done before.

        Raises:
            ConfigurationError: The store cannot count prompts as it is.
            LedgerError: An account is named twice, or the id is that of an open lease.
            LedgerUnavailable: If the store does not answer.
        """
        ...

    async def arefill(self, refill_id: str, refills: Sequence[Refill]) -> bool:
        """Do what `refill` does, without blocking the event loop."""
        ...


def check_refills(refill_id: str, refills: Sequence[Refill]) -> tuple[Refill, ...]:
    """Return refills that can be done.

    Raises:
        LedgerError: The id could not be that of a lease, an account is named twice, or a part is
            not within 0..1 calls.
    """
    check_request(refill_id, ())
    given = tuple(refills)
    if len({one.key for one in given}) != len(given):
        raise LedgerError("A refill names one account twice; it would be filled twice.")
    for one in given:
        if type(one.micro_calls) is not int or not 0 <= one.micro_calls <= MICRO_CALLS:
            raise LedgerError(
                f"A prompt puts 0 to {MICRO_CALLS:,} millionths of a call aside, not "
                f"{one.micro_calls!r}."
            )
    return given


def taken_id(refill_id: str) -> LedgerError:
    """The error for a refill whose id is that of an open lease."""
    return LedgerError(f"Lease {refill_id!r} is open, so its id cannot be that of a refill.")


def as_refillable(ledger: object) -> RefillableLedger:
    """Return a ledger that can refill accounts.

    Raises:
        ConfigurationError: It cannot.
    """
    behind = getattr(ledger, "ledger", ledger)  # `FailOpenLedger` can what its store can
    if not isinstance(ledger, RefillableLedger) or not isinstance(behind, RefillableLedger):
        raise ConfigurationError(
            f"max_cloud_share needs a ledger that can refill accounts (RefillableLedger), and "
            f"{type(behind).__name__} cannot."
        )
    return ledger
