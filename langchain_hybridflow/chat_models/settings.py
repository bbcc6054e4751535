"""Write the parts of a routed model down and make them again: as JSON for `dumpd`, or for pickle.

Neither holds clients, locks or counters. JSON names routers of this package only: a file must not
be able to say which code to run.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, cast

from langchain_hybridflow import routing, verify
from langchain_hybridflow.budget import Budget
from langchain_hybridflow.budget.settings import budget_settings
from langchain_hybridflow.calls.breaker import Breaker
from langchain_hybridflow.calls.recipe import can_travel
from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.routing import KeepLocal, Policy, Router

__all__ = [
    "breaker_settings",
    "policy_from_settings",
    "policy_settings",
    "router_from_settings",
    "router_settings",
    "travelling",
    "verifier_from_settings",
    "verifier_settings",
]

_PLAIN = (bool, int, float, str, type(None))


def router_settings(router: Router) -> dict[str, Any] | None:
    """Write down a router of this package, with those that it wraps.

    Returns:
        `None` if one of them is another one, or holds code.

    Example:
        >>> router_settings(routing.RandomRouter(cloud_share=0.25))
        {'name': 'RandomRouter', 'cloud_share': 0.25}
    """
    kind = type(router)
    if getattr(routing, kind.__name__, None) is not kind:
        return None
    return _plain_arguments(router)


def _plain_arguments(thing: object) -> dict[str, Any] | None:
    """Write down a thing by its name and the arguments that are not the default."""
    kind = type(thing)
    settings: dict[str, Any] = {"name": kind.__name__}
    for name, parameter in inspect.signature(kind).parameters.items():
        value = getattr(thing, name)
        if value == parameter.default:
            continue
        if callable(getattr(value, "route", None)):
            value = router_settings(value)
            if value is None:
                return None
        elif not isinstance(value, _PLAIN):
            return None
        settings[name] = value
    return settings


def router_from_settings(settings: Mapping[str, Any]) -> Router:
    """Make the router that `router_settings` wrote down.

    Raises:
        ConfigurationError: The settings name no router of this package.

    Example:
        >>> router_from_settings({"name": "RandomRouter", "seed": 7}).seed
        7
    """
    arguments = dict(settings)
    name = arguments.pop("name", None)
    kind: Any = getattr(routing, str(name), None) if name in routing.__all__ else None
    for wrapped in ("router", "before"):
        if isinstance(arguments.get(wrapped), Mapping):
            arguments[wrapped] = router_from_settings(arguments[wrapped])
    if kind is Router or not callable(getattr(kind, "route", None)):
        raise ConfigurationError(f"{name!r} is no router of langchain_hybridflow.routing.")
    return cast("Router", kind(**arguments))


def policy_settings(policy: Policy | None) -> dict[str, Any] | None:
    """Write down a policy of this package; `None` if there is none, or it is code.

    Example:
        >>> policy_settings(KeepLocal(presets=["email"]))["presets"]
        ['email']
    """
    if type(policy) is not KeepLocal:
        return None
    return {
        "name": "KeepLocal",
        "patterns": dict(policy.patterns),
        "presets": list(policy.presets),
        "allow_attachments": policy.allow_attachments,
    }


def policy_from_settings(settings: Mapping[str, Any]) -> Policy:
    """Make the policy that `policy_settings` wrote down.

    Raises:
        ConfigurationError: The settings name no policy of this package.

    Example:
        >>> policy_from_settings({"name": "KeepLocal", "presets": ["email"]})
        KeepLocal(patterns=0, presets=['email'])
    """
    arguments = dict(settings)
    name = arguments.pop("name", None)
    if name != "KeepLocal":
        raise ConfigurationError(f"{name!r} is no policy of langchain_hybridflow.routing.")
    return KeepLocal(**arguments)


def verifier_settings(verifier: object) -> dict[str, Any] | None:
    """Write down a verifier of this package; `None` if it is code, or holds a model.

    Example:
        >>> verifier_settings(verify.SelfConsistency(samples=5))
        {'name': 'SelfConsistency', 'samples': 5}
    """
    kind = type(verifier)
    known = kind.__name__ in verify.__all__ and getattr(verify, kind.__name__) is kind
    if isinstance(verifier, verify.ConfidenceVerifier):
        settings = verifier.settings()
        return None if settings is None else {"name": kind.__name__, **settings}
    return _plain_arguments(verifier) if known else None


def verifier_from_settings(settings: Mapping[str, Any]) -> object:
    """Make the verifier that `verifier_settings` wrote down.

    Raises:
        ConfigurationError: The settings name no verifier of this package.

    Example:
        >>> verifier_from_settings({"name": "LogprobVerifier", "threshold": 0.9}).threshold
        0.9
    """
    arguments = dict(settings)
    name = arguments.pop("name", None)
    kind: Any = getattr(verify, str(name), None) if name in verify.__all__ else None
    if not isinstance(kind, type) or not (hasattr(kind, "check") or "__call__" in vars(kind)):
        raise ConfigurationError(f"{name!r} is no verifier of langchain_hybridflow.verify.")
    return kind(**arguments)


def breaker_settings(breaker: Breaker | None) -> dict[str, Any] | None:
    """Write down a circuit breaker, without its clock.

    Example:
        >>> breaker_settings(Breaker(fail_max=3))
        {'fail_max': 3, 'reset_timeout_s': 30.0}
    """
    if breaker is None:
        return None
    return {"fail_max": breaker.fail_max, "reset_timeout_s": breaker.reset_timeout_s}


def travelling(budget: Budget) -> Budget | dict[str, Any]:
    """Return what a pickle is to hold of a budget.

    Raises:
        TypeError: Its limits are counted in this process: each copy would spend them anew.
    """
    if can_travel(budget):
        return budget
    settings = budget_settings(budget)
    if budget.limits or settings is None:
        raise TypeError(
            "cannot pickle a budget whose limits are counted in the memory of this process: each "
            "copy would spend them anew. Give it a ledger that the processes share."
        )
    return settings
