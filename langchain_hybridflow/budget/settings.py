"""Write a budget down as plain JSON, and make one from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langchain_hybridflow.budget.budget import Budget
from langchain_hybridflow.budget.estimates import LearnedEstimate, StrictEstimate
from langchain_hybridflow.budget.ledger import Ledger
from langchain_hybridflow.budget.memory import MemoryLedger
from langchain_hybridflow.budget.opened import has_secret
from langchain_hybridflow.budget.pacing import Pacing
from langchain_hybridflow.budget.pricing import Price
from langchain_hybridflow.budget.scopes import Scope
from langchain_hybridflow.budget.share import share_settings
from langchain_hybridflow.budget.types import Limits

__all__ = ["budget_from_settings", "budget_settings"]

_PRICE_FIELDS = (
    "input_usd_per_mtok",
    "output_usd_per_mtok",
    "cached_input_usd_per_mtok",
    "cache_write_usd_per_mtok",
)


def budget_settings(budget: Budget) -> dict[str, Any] | None:
    """Return the arguments of a budget as JSON; `None` if they cannot be written down.

    That is so if its ledger is neither one like the default nor opened by URL, if the URL holds a
    password (give it as "env:NAME"), if a scope reads its value by a function, if answers are
    estimated by an `Estimator` of your own, and if it tells somebody of alerts.

    The limits are written down, not what has been spent or learnt: a budget made from them counts
    on in its store, or, without one, starts anew.

    Example:
        >>> budget_settings(Budget(limit_usd=0.05, deadline_s=30))
        {'limit_usd': '0.05', 'deadline_s': 30.0}
        >>> budget_settings(Budget(max_cloud_calls=9, window="last 1h"))
        {'max_cloud_calls': 9, 'window': 'last 1h'}
    """
    if budget.store is None and not _is_like_the_default(budget.ledger):
        return None
    if budget.store is not None and has_secret(budget.store):
        return None
    if any(scope.value is not None for scope in budget.scopes):
        return None
    if not isinstance(budget.estimates, StrictEstimate | LearnedEstimate):
        return None
    if budget.on_alert is not None:
        return None
    settings: dict[str, Any] = {
        "limit_usd": None if budget.limits.usd is None else str(budget.limits.usd),
        "max_cloud_tokens": budget.limits.cloud_tokens,
        "max_cloud_calls": budget.limits.cloud_calls,
        **share_settings(budget.share),
        "window": None if budget.window is None else str(budget.window),
        "scopes": [_scope(scope) for scope in budget.scopes],
        "deadline_s": budget.deadline_s,
        "per_run": _limits(budget.per_run),
        "prices": {name: _price(price) for name, price in budget.prices.overrides.items()},
        "liftable": budget.liftable,  # a tuple: an empty one means something
        "pacing": _pacing(budget.pacing),
        "estimates": _estimates(budget),
        "store": budget.store,
        "fail_open_limit": _limits(budget.fail_open_limit),
    }
    default = Budget()
    for name in ("on_exhausted", "on_store_failure", "name", "lease_ttl_s"):
        value = getattr(budget, name)
        settings[name] = None if value == getattr(default, name) else value
    return {name: value for name, value in settings.items() if value not in (None, {}, [])}


def _is_like_the_default(ledger: Ledger) -> bool:
    return isinstance(ledger, MemoryLedger) and ledger.on_expiry == "charge"


def budget_from_settings(settings: Mapping[str, Any]) -> Budget:
    """Make the budget that `budget_settings` wrote down.

    Example:
        >>> budget_from_settings({"limit_usd": "0.05"}).limits.usd
        Decimal('0.05')
    """
    arguments = dict(settings)
    for name in ("per_run", "fail_open_limit"):
        if name in arguments:
            arguments[name] = Limits(**arguments[name])
    arguments["scopes"] = [_to_scope(plain) for plain in arguments.get("scopes", ())]
    if "pacing" in arguments:
        arguments["pacing"] = Pacing(**arguments["pacing"])
    if "estimates" in arguments:
        arguments["estimates"] = LearnedEstimate(**arguments["estimates"])
    prices = arguments.pop("prices", {})
    return Budget(prices={name: _to_price(price) for name, price in prices.items()}, **arguments)


def _limits(limits: Limits) -> dict[str, Any]:
    plain = {
        "usd": None if limits.usd is None else str(limits.usd),
        "cloud_tokens": limits.cloud_tokens,
        "cloud_calls": limits.cloud_calls,
    }
    return {name: value for name, value in plain.items() if value is not None}


def _estimates(budget: Budget) -> dict[str, Any] | None:
    if not isinstance(budget.estimates, LearnedEstimate):
        return None
    return {"quantile": budget.estimates.quantile}


def _pacing(pacing: Pacing | None) -> dict[str, Any] | None:
    if pacing is None:
        return None
    demand = pacing.demand if pacing.weights is None else list(pacing.weights)
    return {"demand": demand, "expected_calls": pacing.expected_calls}


def _scope(scope: Scope) -> dict[str, Any]:
    return {
        "name": scope.name,
        "limits": _limits(scope.limits),
        "window": None if scope.window is None else str(scope.window),
        "required": scope.required,
        **share_settings(scope.share),
    }


def _to_scope(plain: Mapping[str, Any]) -> Scope:
    arguments = dict(plain)
    name, limits = arguments.pop("name"), Limits(**arguments.pop("limits", {}))
    return Scope(name, limits, **arguments)


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
