"""The face for those who do not await."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from langchain_hybridflow.errors import ConfigurationError

__all__ = ["run_here"]

_T = TypeVar("_T")


def run_here(begin: Callable[[], Coroutine[Any, Any, _T]], *, instead: str) -> _T:
    """Run a coroutine to its end.

    Args:
        begin: Makes the coroutine.
        instead: What to await where an event loop runs already, as in a notebook.

    Raises:
        ConfigurationError: An event loop runs in this thread.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(begin())
    raise ConfigurationError(
        f"An event loop runs here already, as in a notebook: say `await {instead}(...)` instead."
    )
