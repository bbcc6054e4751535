"""The compiled graph: a LangGraph whose sync runs end with their reader.

LangGraph's sync loop, when it is left or interrupted, waits for all nodes that were sent; those
of a wave would go on, and pay, until the last one has its answer. Here the run is told instead
(see `Tether`): calls that are under way end in their threads, and nothing new begins.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Generator, Iterator
from concurrent.futures import Future
from contextlib import nullcontext
from contextvars import copy_context
from functools import partial
from typing import Any, Self

from langgraph.errors import GraphDrained
from langgraph.graph.state import CompiledStateGraph

from langchain_hybridflow.calls.helper import Helper, has_ended
from langchain_hybridflow.calls.tether import Tether, tether_here

__all__ = ["FlowGraph"]

logger = logging.getLogger(__name__)


class FlowGraph(CompiledStateGraph[Any, Any, Any, Any]):
    """A compiled LangGraph that begins nothing new once its caller has gone.

    That is after Ctrl-C, or when a stream is left before its end. All sync ways to run a graph go
    through `stream`; the async ones are LangGraph's own, where leaving cancels.
    """

    @classmethod
    def of(cls, graph: CompiledStateGraph[Any, Any, Any, Any]) -> Self:
        """Make one from what `StateGraph.compile` returns, as `Pregel.copy` makes a copy."""
        fields = {key: field for key, field in vars(graph).items() if key != "__orig_class__"}
        return cls(**fields)

    def invoke(self, *args: Any, **kwargs: Any) -> Any:
        """Run the graph to its end, as `CompiledStateGraph.invoke`."""
        tether = Tether(tether_here())
        context = copy_context()
        context.run(tether.tie)
        try:
            return context.run(partial(super().invoke, *args, **kwargs))
        except BaseException:
            # Ctrl-C may strike between two items, where the stream itself does not see it.
            tether.cut()
            _wake(tether)
            raise

    def stream(self, *args: Any, **kwargs: Any) -> Iterator[Any]:
        """Run the graph and yield what happens, as `CompiledStateGraph.stream`."""
        return _read(super().stream(*args, **kwargs))


class _End:
    """What comes after the last item.

    Attributes:
        error: What the run ended with, if not well.
    """

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


def _following(items: Iterator[Any]) -> Any:
    try:
        return next(items)
    except StopIteration:
        return _End(None)
    except BaseException as error:  # noqa: BLE001 - raised where it is read
        return _End(error)


def _read(items: Iterator[Any]) -> Generator[Any]:
    """Yield the items of a run, and tell it when the reader goes.

    Ctrl-C interrupts the main thread wherever it is. Inside LangGraph it would wait for the nodes
    before anybody could be told, so the main thread lets a helper go there.
    """
    outer = tether_here()
    tether = Tether(outer)
    context = copy_context()
    context.run(tether.tie)
    following = partial(_following, items)
    is_main = threading.current_thread() is threading.main_thread()
    helper: Helper | None = None
    item: Any = None
    with nullcontext() if outer is None else outer.waking(tether.wake):
        try:
            helper = Helper(context) if is_main else None
            while True:
                item = _awaited(helper.submit(following)) if helper else context.run(following)
                if isinstance(item, _End):
                    break
                yield item
        finally:
            if not isinstance(item, _End):
                tether.cut()
                _wake(tether)
                helper = helper or Helper(context)
                helper.submit(partial(_finish, items))
                helper.dismiss_before_exit()
            elif helper is not None:
                helper.dismiss()
    try:
        if item.error is not None:
            raise item.error
    finally:
        del item  # the traceback has this frame: no cycle


def _awaited(outcome: Future[Any]) -> Any:
    has_ended(outcome)
    return outcome.result()


def _wake(tether: Tether) -> None:
    """Wake those who wait, in a thread of its own: this one may hold what they wait for."""
    threading.Thread(target=tether.wake, daemon=True, name="hybridflow-wake").start()


def _finish(items: Iterator[Any]) -> None:
    """Let an abandoned run come to its end: what is under way is written down."""
    while not isinstance(item := _following(items), _End):
        pass
    if not isinstance(item.error, GraphDrained | None):
        logger.debug("A run whose caller had gone ended with %s.", type(item.error).__name__)
