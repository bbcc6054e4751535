"""Whom a call is for, from the config that it was given and the graph around it."""

from __future__ import annotations

from typing import Any

from langchain_core.runnables import RunnableConfig, ensure_config

from langchain_hybridflow.budget import Budget, ScopeValues

__all__ = ["NOBODY", "values_here"]

NOBODY = ScopeValues()


def values_here(budget: Budget, config: RunnableConfig | None = None) -> ScopeValues:
    """Read whom a call is for, here and now.

    What the call's own config does not say is read from the config of the graph that it is made
    in, and from LangGraph's runtime context there.

    Args:
        budget: Whose scopes these are.
        config: The call's own config.

    Raises:
        ConfigurationError: It is not said, and has to be, or what is said is no id.
    """
    if not budget.scopes:
        return NOBODY
    around = ensure_config().get("configurable") or {}
    whole = ensure_config(config)
    configurable = {**around, **(whole.get("configurable") or {})}
    return budget.scope_values({**whole, "configurable": configurable}, _context(around))


def _context(around: dict[str, Any]) -> Any:
    if not any(name.startswith("__pregel_") for name in around):  # LangGraph's mark
        return None
    # Imported on use: it takes long, and is there already if a graph is running.
    from langgraph.runtime import get_runtime

    return getattr(get_runtime(), "context", None)  # streams of the graph itself have no runtime
