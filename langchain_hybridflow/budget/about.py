"""What a budget says of itself in its ledger, so that others can tell limits to the counters."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from langchain_hybridflow.budget.accounts import account_entry
from langchain_hybridflow.budget.admin import admin_of
from langchain_hybridflow.budget.ledger import Ledger
from langchain_hybridflow.budget.memory import MemoryLedger
from langchain_hybridflow.budget.rules import MAX_NOTE_BYTES
from langchain_hybridflow.budget.share import (
    SHARE_BURST,
    ShareCap,
    share_cap,
    share_scope,
    share_settings,
)
from langchain_hybridflow.budget.twins import Ask, Script
from langchain_hybridflow.budget.types import Account, AccountState, Limits, Note
from langchain_hybridflow.budget.windows import Window
from langchain_hybridflow.errors import ConfigurationError, LedgerError

__all__ = [
    "ABOUT_PREFIX",
    "BudgetDescription",
    "LimitDescription",
    "Publisher",
    "about_key",
    "publisher_for",
]

logger = logging.getLogger(__name__)

ABOUT_PREFIX: Final = "about/"
"""How the keys of the notes begin in which budgets describe themselves."""

_FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class LimitDescription:
    """The limits of one scope of a budget.

    Args:
        scope: Name of the scope.
        limits: Its limits, for each of whatever the scope is.
        window: For how long they are; `None` for ever.
        share: The cap on their share of cloud calls, if they have one.
    """

    scope: str
    limits: Limits
    window: Window | None = None
    share: ShareCap | None = None


@dataclass(frozen=True, slots=True)
class BudgetDescription:
    """The limits of a budget: no secrets, and nobody's name.

    Args:
        name: Name of the budget.
        own: The limits for all of its runs together.
        scopes: Those of its scopes; those of each run are those of the scope "run".

    Example:
        >>> own = LimitDescription("budget", Limits(usd=5), Window("day"))
        >>> text = BudgetDescription("team", own).to_text()
        >>> BudgetDescription.from_text(text).own.limits.usd
        Decimal('5')
    """

    name: str
    own: LimitDescription
    scopes: tuple[LimitDescription, ...] = ()

    def limits_of(self, scope: str, window: Window | None) -> Limits | None:
        """The limits of a scope for such a window, or `None` if the budget has none like it."""
        for one in (self.own, *self.scopes):
            if one.scope == scope and one.window == window:
                return one.limits
        return None

    def share_of(self, scope: str) -> ShareCap | None:
        """The cap whose bucket is called so, or `None` if the budget has none."""
        for one in (self.own, *self.scopes):
            if one.share is not None and share_scope(one.scope) == scope:
                return one.share
        return None

    def to_text(self) -> str:
        """Write it as compact JSON."""
        plain = {
            "format": _FORMAT,
            "name": self.name,
            "own": _plain(self.own),
            "scopes": [_plain(scope) for scope in self.scopes],
        }
        return json.dumps(plain, separators=(",", ":"), ensure_ascii=False)

    @classmethod
    def from_text(cls, text: str) -> BudgetDescription | None:
        """Read what `to_text` wrote; `None` if it is not that."""
        try:
            plain = json.loads(text)
            if plain["format"] != _FORMAT:
                return None
            scopes = tuple(_read(scope) for scope in plain["scopes"])
            return cls(str(plain["name"]), _read(plain["own"]), scopes)
        except (ConfigurationError, AttributeError, KeyError, TypeError, ValueError):
            return None


def about_key(name: str) -> str:
    """The key of the note in which a budget describes itself.

    Example:
        >>> about_key("team/a")
        'about/team%2Fa'
    """
    return account_entry(name, ABOUT_PREFIX.rstrip("/"), Limits()).stem


class Publisher:
    """Writes the description of a budget into its ledger, once in the life of this object.

    Args:
        description: What is written. If several processes have the same budget with other limits,
            the one that started last is believed.
    """

    def __init__(self, description: BudgetDescription) -> None:
        self._key = about_key(description.name)
        self._text = description.to_text()
        self._done = len(self._text.encode()) > MAX_NOTE_BYTES

    def publish(self) -> Script[None]:
        """Write it, unless it stands there already. That it cannot be written is no error."""
        if self._done:
            return
        self._done = True
        try:
            account = Account(self._key, "about")
            states: tuple[AccountState, ...] = yield Ask("snapshot", ((account,),))
            note = states[0].note or Note()
            if note.text != self._text:
                options = {"expected_version": note.version, "text": self._text}
                yield Ask("swap_note", (self._key,), options)
        except LedgerError as error:
            logger.debug("The description of a budget is not written: %s", error)


def publisher_for(ledger: Ledger, description: BudgetDescription) -> Publisher | None:
    """Return who writes a description, if anybody could look at it: not in this memory."""
    admin = admin_of(ledger)
    return None if admin is None or isinstance(admin, MemoryLedger) else Publisher(description)


def _plain(one: LimitDescription) -> dict[str, Any]:
    usd = one.limits.usd
    return {
        "scope": one.scope,
        "limits": [
            None if usd is None else str(usd),
            one.limits.cloud_tokens,
            one.limits.cloud_calls,
        ],
        "window": None if one.window is None else str(one.window),
        **share_settings(one.share),
    }


def _read(plain: Mapping[str, Any]) -> LimitDescription:
    window = plain["window"]
    return LimitDescription(
        str(plain["scope"]),
        Limits(*plain["limits"]),
        None if window is None else Window.parse(window),
        share_cap(plain.get("max_cloud_share"), plain.get("share_burst", SHARE_BURST)),
    )
