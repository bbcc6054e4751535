"""Write a budget down as plain JSON, and make one from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langchain_hybridflow.budget.budget import Budget
from langchain_hybridflow.budget.memory import MemoryLedger
from langchain_hybridflow.budget.pricing import Price
from langchain_hybridflow.budget.types import Limits

__all__ = ["budget_from_settings", "budget_settings"]

_PRICE_FIELDS = (
    "input_usd_per_mtok",
    "output_usd_per_mtok",
    "cached_input_usd_per_mtok",
    "cache_write_usd_per_mtok",
)


def budget_settings(budget: Budget) -> dict[str, Any] | None:
    """Return the arguments of a budget as JSON; `None` if its ledger is not the default one.

    The limits are written down, not what has been spent: a budget made from them starts anew.

    Example:
        >>> budget_settings(Budget(limit_usd=0.05, deadline_s=30))
        {'limit_usd': '0.05', 'deadline_s': 30.0}
    """
    if not isinstance(budget.ledger, MemoryLedger):
        return None
    default = Budget()
    settings: dict[str, Any] = {
        "limit_usd": None if budget.limits.usd is None else str(budget.limits.usd),
        "max_cloud_tokens": budget.limits.cloud_tokens,
        "max_cloud_calls": budget.limits.cloud_calls,
        "deadline_s": budget.deadline_s,
        "per_run": _limits(budget.per_run),
        "prices": {name: _price(price) for name, price in budget.prices.overrides.items()},
    }
    for name in ("on_exhausted", "name", "lease_ttl_s"):
        value = getattr(budget, name)
        settings[name] = None if value == getattr(default, name) else value
    return {name: value for name, value in settings.items() if value not in (None, {})}


def budget_from_settings(settings: Mapping[str, Any]) -> Budget:
    """Make the budget that `budget_settings` wrote down, with nothing spent.

    Example:
        >>> budget_from_settings({"limit_usd": "0.05"}).limits.usd
        Decimal('0.05')
    """
    arguments = dict(settings)
    if "per_run" in arguments:
        arguments["per_run"] = Limits(**arguments["per_run"])
    prices = arguments.pop("prices", {})
    return Budget(prices={name: _to_price(price) for name, price in prices.items()}, **arguments)


def _limits(limits: Limits) -> dict[str, Any]:
    plain = {
        "usd": None if limits.usd is None else str(limits.usd),
        "cloud_tokens": limits.cloud_tokens,
        "cloud_calls": limits.cloud_calls,
    }
    return {name: value for name, value in plain.items() if value is not None}


def _price(price: Price) -> dict[str, Any]:
    plain: dict[str, Any] = {
        name: str(value) for name in _PRICE_FIELDS if (value := getattr(price, name)) is not None
    }
    if price.long_prompt is not None:
        tokens, other = price.long_prompt
        plain["long_prompt"] = [tokens, _price(other)]
    return plain


def _to_price(plain: Mapping[str, Any]) -> Price:
    arguments = dict(plain)
    if "long_prompt" in arguments:
        tokens, other = arguments["long_prompt"]
        arguments["long_prompt"] = (tokens, _to_price(other))
    return Price(**arguments)
