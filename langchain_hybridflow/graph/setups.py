"""What a run is worked on with: the same for all runs, or chosen by LangGraph's runtime context."""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol
from weakref import WeakValueDictionary

from langgraph.runtime import get_runtime

from langchain_hybridflow.calls import RoutingCore
from langchain_hybridflow.chat_models import RoutedChatModel
from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.graph.timing import TierTimes
from langchain_hybridflow.graph.tracing import RunSpans

__all__ = ["ContextSetups", "Equipped", "FixedSetup", "Setup", "Setups"]

_KEPT = 64


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Setup:
    """Models, router, budget and rules of some runs.

    Attributes:
        model: Both tiers, with router and budget.
        approve_cloud: Whether a person is asked before each cloud call.
        times: How long calls take.
        spans: The open spans of these runs.
    """

    model: RoutedChatModel
    approve_cloud: bool
    times: TierTimes = field(default_factory=TierTimes)
    spans: RunSpans = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "spans", RunSpans(self.core.telemetry))

    @property
    def core(self) -> RoutingCore:
        """Decides and buys."""
        return self.model.core


class Setups(Protocol):
    """Knows the setup of each run; a step of the nodes that a run can begin with."""

    @property
    def default(self) -> Setup:
        """The setup of a run that says nothing."""
        ...

    def here(self) -> Setup:
        """Return the setup of the run whose node this is."""
        ...

    def may(self, rule: Callable[[Setup], bool]) -> bool:
        """Whether a rule can hold for a run; the drawing of a graph shows what can be."""
        ...

    def perform(self) -> Setup:
        """Make the setup of this run, if nobody has; whoever keeps it is sure to find it again."""
        ...

    async def aperform(self) -> Setup:
        """Make it without blocking the event loop: models read files when they are made."""
        ...


class FixedSetup:
    """One setup for all runs.

    Attributes:
        default: The setup.
    """

    def __init__(self, setup: Setup) -> None:
        self.default = setup

    def here(self) -> Setup:
        """Return it."""
        return self.default

    def may(self, rule: Callable[[Setup], bool]) -> bool:
        """Whether the rule holds."""
        return rule(self.default)

    def perform(self) -> Setup:
        """Return it: it is there."""
        return self.default

    async def aperform(self) -> Setup:
        """Return it: it is there."""
        return self.default


class ContextSetups:
    """A setup for each runtime context; equal contexts share one.

    The 64 that were asked for last are kept, and those that somebody works with. A run whose setup
    was dropped between two of its nodes goes on with a new one; its account and its place in the
    queues are not in there.

    Args:
        make: Makes the setup for a context.
        schema: The class of contexts. Without a context it is called without arguments.

    Raises:
        ConfigurationError: The schema is no class whose instances can be told apart and found
            again: a frozen dataclass, or a pydantic model with `frozen=True`.
    """

    def __init__(self, make: Callable[[Any], Setup], schema: Any) -> None:
        if not isinstance(schema, type) or not _is_value(schema):
            raise ConfigurationError(
                f"Models are chosen by context_schema, and kept for equal contexts: make it a "
                f"frozen dataclass or a pydantic model with frozen=True, not {schema!r}."
            )
        self._make = make
        self._schema = schema
        self._known: OrderedDict[Any, Setup] = OrderedDict()
        self._in_use: WeakValueDictionary[Any, Setup] = WeakValueDictionary()
        self._making = threading.Lock()

    @property
    def default(self) -> Setup:
        """The setup for a context of defaults."""
        return self._of(self._context_of(None))

    def here(self) -> Setup:
        """Return the setup for the context of this run."""
        return self._of(self._context())

    def may(self, rule: Callable[[Setup], bool]) -> bool:
        """Say yes: some context can have it so."""
        return True

    def perform(self) -> Setup:
        """Make the setup for the context of this run, if nobody has."""
        return self.here()

    async def aperform(self) -> Setup:
        """Make it in a thread."""
        context = self._context()
        found = self._find(context)
        return await asyncio.to_thread(self._of, context) if found is None else found

    def _of(self, context: Any) -> Setup:
        found = self._find(context)
        if found is not None:
            return found
        with self._making:
            found = self._find(context)
            if found is None:
                found = self._known[context] = self._in_use[context] = self._make(context)
                if len(self._known) > _KEPT:
                    self._known.popitem(last=False)
            return found

    def _find(self, context: Any) -> Setup | None:
        """Find a setup without waiting for anybody who makes one."""
        try:
            found = self._in_use.get(context)
        except TypeError as error:
            raise ConfigurationError(
                f"The runtime context cannot be hashed ({error}). Use tuples for lists, and frozen "
                f"classes all the way down."
            ) from error
        with suppress(KeyError):  # it is in use, or was dropped in this very moment
            self._known.move_to_end(context)
        return found

    def _context(self) -> Any:
        return self._context_of(getattr(get_runtime(), "context", None))

    def _context_of(self, given: Any) -> Any:
        """Return the context of a run as one of ours.

        Raises:
            ConfigurationError: It is another graph's, or there is none and the schema wants one.
        """
        if isinstance(given, self._schema):
            return given
        if given is not None and not isinstance(given, Mapping):
            raise ConfigurationError(
                f"The runtime context is a {type(given).__name__}, and this graph takes a "
                f"{self._schema.__name__}."
            )
        try:
            return self._schema(**(given or {}))
        except (TypeError, ValueError) as error:
            raise ConfigurationError(
                f"The runtime context does not make a {self._schema.__name__}: {error}. Give it "
                f"with context=...; LangGraph does not store it, so a resumed run needs it again."
            ) from error


def _is_value(schema: type[Any]) -> bool:
    """Whether contexts are found again: one that is equal to itself only has a setup per node."""
    compares = any("__eq__" in vars(base) for base in schema.__mro__[:-1])
    return compares and schema.__hash__ is not None


@dataclass(frozen=True, kw_only=True)
class Equipped:
    """Somebody whose tools are those of the run that they work for.

    Attributes:
        setups: Where they are found.
    """

    setups: Setups

    @property
    def core(self) -> RoutingCore:
        """Decides and buys."""
        return self.setups.here().core

    @property
    def approve_cloud(self) -> bool:
        """Whether a person is asked before each cloud call."""
        return self.setups.here().approve_cloud

    @property
    def spans(self) -> RunSpans:
        """The spans of runs and subtasks."""
        return self.setups.here().spans

    @property
    def times(self) -> TierTimes:
        """How long the calls of each tier take."""
        return self.setups.here().times
