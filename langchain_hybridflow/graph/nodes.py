"""LangGraph nodes with a sync and an async face over one script."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from langchain_core.runnables import RunnableConfig, RunnableLambda
from langgraph.errors import GraphDrained

from langchain_hybridflow.calls.tether import RunAbandoned

__all__ = ["First", "Node"]


class First(Protocol):
    """What a node does before its own work, blocking or awaiting."""

    def perform(self) -> object:
        """Do it, and return what is to be kept until the node has ended."""
        ...

    async def aperform(self) -> object:
        """Do it without blocking the event loop."""
        ...


class Node(RunnableLambda[Any, Any]):
    """A node function with two faces and no run of its own.

    LangGraph already opens a run for each node; a plain `RunnableLambda` would open a second one
    inside it. Being one, it still lets LangGraph find the subgraphs its functions close over.
    """

    def __init__(
        self,
        func: Callable[[Any, RunnableConfig], Any],
        afunc: Callable[[Any, RunnableConfig], Awaitable[Any]],
        *,
        first: First | None = None,
    ) -> None:
        super().__init__(func, afunc)
        self._first = first

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """Call the sync face.

        Raises:
            GraphDrained: Whoever the run was for has gone; LangGraph runs the node again if the
                run is resumed.
        """
        face: Any = self.func
        try:
            kept = self._first and self._first.perform()  # noqa: F841 - until the node has ended
            return face(input, config or {})
        except RunAbandoned as gone:
            raise GraphDrained(str(gone)) from gone

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """Call the async face."""
        kept = self._first and await self._first.aperform()  # noqa: F841 - until it has ended
        face: Any = self.afunc
        return await face(input, config or {})
