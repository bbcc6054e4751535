"""The ledger of a budget: a given one, one by its URL, or this process's memory."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final
from urllib.parse import unquote_plus, urlsplit

from langchain_hybridflow.budget.fail_open import FailOpenLedger
from langchain_hybridflow.budget.ledger import Ledger
from langchain_hybridflow.budget.memory import MemoryLedger
from langchain_hybridflow.budget.types import Limits
from langchain_hybridflow.errors import ConfigurationError

__all__ = ["has_secret", "opened_ledger", "store_url"]

_ENV: Final = "env:"


def opened_ledger(
    store: str | None,
    ledger: object,
    *,
    on_failure: str,
    local_limits: Limits,
    clock: Callable[[], float],
) -> Ledger:
    """Return the ledger that a budget counts in.

    Args:
        store: Its URL, or "env:NAME" for the one in an environment variable.
        ledger: Or the ledger itself.
        on_failure: "open" to go on without a store that does not answer.
        local_limits: Within which limits.
        clock: The clock of a ledger in memory.

    Raises:
        ConfigurationError: Both are given, one of them is none, or the limits do not go together
            with `on_failure`.
    """
    if (on_failure == "open") != bool(local_limits):
        raise ConfigurationError(
            "on_store_failure='open' and fail_open_limit=Limits(...) go together: without limits "
            "nothing would be limited while the store is down, and otherwise they do nothing."
        )
    if store is not None and ledger is not None:
        raise ConfigurationError("store= and ledger= both say where to count. Give one of them.")
    opened = _opened(store, ledger, clock)
    return FailOpenLedger(opened, local_limits) if on_failure == "open" else opened


def _opened(store: str | None, ledger: object, clock: Callable[[], float]) -> Ledger:
    if store is not None:
        # Imported on use: the stores are not needed by a budget in memory.
        from langchain_hybridflow.budget.stores.opening import open_ledger

        return open_ledger(store_url(store))
    if ledger is not None:
        if not isinstance(ledger, Ledger):
            raise ConfigurationError(
                f"ledger must be a Ledger, such as MemoryLedger(), not {ledger!r}. A URL is given "
                f"as store=."
            )
        return ledger
    return MemoryLedger(clock=clock)


def store_url(store: object) -> str:
    """Return the URL of a store, read from the environment if "env:NAME" says so.

    Raises:
        ConfigurationError: It is no text, or the variable is not set.

    Example:
        >>> store_url("sqlite:///budget.db")
        'sqlite:///budget.db'
    """
    if not isinstance(store, str) or not store:
        raise ConfigurationError(
            "store must be a URL, such as 'sqlite:///budget.db', or 'env:NAME' for the one in an "
            "environment variable."
        )
    if not store.startswith(_ENV):
        return store
    name = store.removeprefix(_ENV)
    url = os.environ.get(name, "")
    if not url:
        raise ConfigurationError(
            f"The environment variable {name!r}, named by store={store!r}, is not set."
        )
    return url


def has_secret(store: str) -> bool:
    """Say whether a store's URL holds a password, or may: it must not be written down.

    Example:
        >>> has_secret("redis://:hunter2@db/0"), has_secret("env:BUDGET_STORE")
        (True, False)
    """
    if store.startswith(_ENV):
        return False
    try:
        parts = urlsplit(store)
        return parts.password is not None or "password" in unquote_plus(parts.query).lower()
    except ValueError:
        return True
