"""Write a routed model down and make it again: as JSON for `dumpd`, as a recipe for pickle.

Neither holds clients, locks or counters. JSON names routers of this package only: a file must not
be able to say which code to run.
"""

from __future__ import annotations

import inspect
import pickle
from collections.abc import Mapping
from typing import Any, cast

from langchain_core.language_models import BaseChatModel

from langchain_hybridflow import routing
from langchain_hybridflow.budget import Budget
from langchain_hybridflow.budget.settings import budget_settings
from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.routing import KeepLocal, Policy, Router

__all__ = [
    "Recipe",
    "policy_from_settings",
    "policy_settings",
    "router_from_settings",
    "router_settings",
    "travelling",
]

_PLAIN = (bool, int, float, str, type(None))


def router_settings(router: Router) -> dict[str, Any] | None:
    """Write down a router of this package; `None` if it is another one, or holds code.

    Example:
        >>> router_settings(routing.RandomRouter(cloud_share=0.25))
        {'name': 'RandomRouter', 'cloud_share': 0.25}
    """
    kind = type(router)
    if getattr(routing, kind.__name__, None) is not kind:
        return None
    settings: dict[str, Any] = {"name": kind.__name__}
    for name, parameter in inspect.signature(kind).parameters.items():
        value = getattr(router, name)
        if value == parameter.default:
            continue
        if not isinstance(value, _PLAIN):
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


class Recipe:
    """A chat model as its class and arguments, for pickle: clients and locks are left behind.

    What the model was made with travels, keys included: a pickle is as secret as they are.
    """

    def __init__(self, model: BaseChatModel) -> None:
        self._kind = type(model)
        self._arguments = {
            type(model).model_fields[name].alias or name: getattr(model, name)
            for name in model.model_fields_set
            if name in type(model).model_fields and _can_travel(getattr(model, name))
        }

    @classmethod
    def of(cls, model: BaseChatModel) -> BaseChatModel | Recipe:
        """Return the model itself if it can be pickled, or else its recipe."""
        return model if _can_travel(model) else cls(model)

    def make(self) -> BaseChatModel:
        """Make the model again."""
        return self._kind(**self._arguments)


def travelling(budget: Budget) -> Budget | dict[str, Any]:
    """Return what a pickle is to hold of a budget.

    Raises:
        TypeError: Its limits are counted in this process: each copy would spend them anew.
    """
    if _can_travel(budget):
        return budget
    settings = budget_settings(budget)
    if budget.limits or settings is None:
        raise TypeError(
            "cannot pickle a budget whose limits are counted in the memory of this process: each "
            "copy would spend them anew. Give it a ledger that the processes share."
        )
    return settings


def _can_travel(value: object) -> bool:
    try:
        pickle.dumps(value)
    except Exception:  # noqa: BLE001 - classes refuse with errors of many kinds
        return False
    return True
