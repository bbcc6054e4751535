"""Whom a call is for and what kind it is, from its config and that of the graph around it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from langchain_core.runnables import RunnableConfig, ensure_config

from langchain_hybridflow.budget import Budget, ScopeValues
from langchain_hybridflow.errors import ConfigurationError

__all__ = ["NOBODY", "TAG_KEY", "tag_here", "values_here"]

TAG_KEY: Final = "hybridflow_tag"
"""Where a config says what kind of request it is for: in `metadata` or `configurable`."""

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


def tag_here(config: RunnableConfig | None = None) -> str | None:
    """Read what kind of request a call is, here and now.

    What the call's own config does not say is read from the config of the graph that it is made
    in, so that the tag of a run is that of all its subtasks.

    Args:
        config: The call's own config.

    Raises:
        ConfigurationError: What is said is no text.

    Example:
        >>> tag_here({"metadata": {"hybridflow_tag": "maths"}})
        'maths'
    """
    # Not `ensure_config(config)`: it mixes what the call says with what is said around it.
    for source in (config or {}, ensure_config()):
        for place in (source.get("metadata"), source.get("configurable")):
            tag = _tag_in(place or {})
            if tag is not None:
                return tag
    return None


def _tag_in(place: Mapping[str, Any]) -> str | None:
    tag = place.get(TAG_KEY)
    if tag is None:
        return None
    if not isinstance(tag, str):
        raise ConfigurationError(
            f"{TAG_KEY} says what kind of request a call is, as text; got {type(tag).__name__}."
        )
    return tag.strip() or None
