"""Tools in the neutral form in which they wait for the model that is chosen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool

__all__ = ["ToolChoice", "ToolLike", "neutral_tools"]

_FUNCTION_TYPES = ("function", "object")  # OpenAI's dicts, and JSON schemas with a title

ToolLike: TypeAlias = dict[str, Any] | type | Callable[..., Any] | BaseTool
"""Anything that `bind_tools` takes."""

ToolChoice: TypeAlias = dict[str, Any] | str | bool
"""A tool's name, "auto", "none", "any" (also "required" or `True`), or OpenAI's dict."""


def neutral_tools(tools: Sequence[ToolLike], *, strict: bool | None = None) -> list[dict[str, Any]]:
    """Write tools as OpenAI's dicts, which every chat model of the ecosystem takes.

    A dict that is a provider's own tool, such as a server-side search, is left as it is: it works
    on the tiers of that provider.

    Args:
        tools: Functions, classes, LangChain tools, or dicts.
        strict: Whether arguments must follow the schema exactly; written into each tool.

    Example:
        >>> def add(a: int, b: int) -> int:
        ...     '''Add two numbers.'''
        >>> neutral_tools([add, {"type": "web_search_20250305", "name": "web_search"}])[1]
        {'type': 'web_search_20250305', 'name': 'web_search'}
    """
    return [_neutral(tool, strict=strict) for tool in tools]


def _neutral(tool: ToolLike, *, strict: bool | None) -> dict[str, Any]:
    if isinstance(tool, dict) and tool.get("type", "function") not in _FUNCTION_TYPES:
        return tool
    return convert_to_openai_tool(tool, strict=strict)
