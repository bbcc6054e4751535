"""The accounts that a call is held in, as windows roll on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Final
from urllib.parse import quote

from langchain_hybridflow.budget.share import ShareCap, share_scope
from langchain_hybridflow.budget.types import Account, Limits
from langchain_hybridflow.budget.windows import Window

__all__ = ["AccountBook", "BookEntry", "account_entry", "share_entry"]

_LONGEST_PART: Final = 160


@dataclass(frozen=True, slots=True)
class BookEntry:
    """What an account is made from, whenever it is: all but the window's id.

    Attributes:
        id: Name and window of the scope.
        stem: The key without the window.
        scope: What people call it.
        limits: Its limits.
        window: Its window, or `None`.
        keep_s: Seconds after which the ledger may forget it; `None` is for never.
        share: The cap whose bucket it is, if it is one; see `share`.
    """

    id: str
    stem: str
    scope: str
    limits: Limits
    window: Window | None = None
    keep_s: float | None = None
    share: ShareCap | None = None

    @property
    def is_watched(self) -> bool:
        """Whether somebody is told when it is used up: a bucket is, every now and then."""
        return bool(self.limits) and self.share is None

    def account(self, now: float) -> Account:
        """Return the account at a time of the ledger's clock."""
        if self.window is None:
            return Account(self.stem, self.scope, self.limits, keep_s=self.keep_s)
        current, earlier = self.window.keys(now)
        return Account(
            f"{self.stem}/{_part(current)}",
            self.scope,
            self.limits,
            tuple(f"{self.stem}/{_part(one)}" for one in earlier),
            self.window.keep_s,
        )


def account_entry(
    budget: str,
    scope: str,
    limits: Limits,
    *,
    value: str | None = None,
    window: Window | None = None,
    keep_s: float | None = None,
) -> BookEntry:
    """Make the entry of an account.

    Names and values are quoted like parts of a URL, so that no two of them make the same key; a
    part longer than 160 characters is replaced by its digest.

    Args:
        budget: Name of the budget.
        scope: Name of the scope.
        limits: Its limits.
        value: Whom it is for; `None` if there is only one.
        window: Its window.
        keep_s: Seconds after which the ledger may forget it.

    Example:
        >>> account_entry("team", "user", Limits(), value="ada/1").stem
        'user/team/ada%2F1'
    """
    parts = [scope, _part(budget)] + ([] if value is None else [_part(value)])
    name = scope if window is None else f"{scope}/{window}"
    return BookEntry(name, "/".join(parts), scope, limits, window, keep_s)


def share_entry(
    budget: str,
    scope: str,
    cap: ShareCap,
    *,
    value: str | None = None,
    keep_s: float | None = None,
) -> BookEntry:
    """Make the entry of a bucket: it has no window, and is counted over prompts, not over time.

    Args:
        budget: Name of the budget.
        scope: Whose share is capped: "budget", or the name of a scope.
        cap: The cap.
        value: Whom it is for; `None` if there is only one.
        keep_s: Seconds after which the ledger may forget it.

    Example:
        >>> share_entry("team", "user", ShareCap(0.3), value="ada").stem
        'user-cloud-share/team/ada'
    """
    name = share_scope(scope)
    entry = account_entry(budget, name, cap.limits, value=value, keep_s=keep_s)
    return replace(entry, share=cap)


def _part(text: str) -> str:
    quoted = quote(text, safe="@:=+")
    if len(quoted) <= _LONGEST_PART:
        return quoted
    # No quoted text begins with "#": a digest is never taken for a name.
    return "#" + blake2b(text.encode(), digest_size=20).hexdigest()


class AccountBook:
    """The accounts that a call is held in, as windows roll on.

    They come in the order in which a ledger checks them, and the first one that has too little
    left names the refusal: the budget, its scopes as they were given, the run.

    Args:
        entries: What the accounts are made from.

    Example:
        >>> entry = account_entry("team", "budget", Limits(cloud_calls=5), window=Window("1h"))
        >>> AccountBook((entry,)).at(7_200.0)[0].key
        'budget/team/1h=1970-01-01T02:00'
    """

    __slots__ = ("_found", "caps_share", "entries", "rolls")

    def __init__(self, entries: tuple[BookEntry, ...]) -> None:
        self.entries = entries
        self.caps_share = any(entry.share is not None for entry in entries)
        self.rolls = any(entry.window is not None for entry in entries)
        # Since when, until when, and the accounts: set as one, so that threads need no lock.
        self._found: tuple[float, float, tuple[Account, ...]] | None = None

    def at(self, now: float) -> tuple[Account, ...]:
        """Return the accounts at a time of the ledger's clock; made anew when a window ends."""
        found = self._found
        if found is None or not found[0] <= now < found[1]:
            ends = [one.window.span(now)[1] for one in self.entries if one.window is not None]
            accounts = tuple(entry.account(now) for entry in self.entries)
            found = self._found = (now, min(ends, default=float("inf")), accounts)
        return found[2]
