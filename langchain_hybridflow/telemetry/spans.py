"""Spans whose parents are passed on by hand.

The logic of a call is written as generators, and what a generator attaches to the current context
leaks into whoever drives it. So nothing is made current here unless a plain function asks for it
with `current`, and a child is told who its parent is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from langchain_hybridflow.telemetry import names

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span

__all__ = ["NO_SPAN", "OpenSpan", "error_type"]


class OpenSpan:
    """A span that has begun. As a context manager it ends with the block, and notes its error.

    Of an error only the type is told: its text may quote a prompt.
    """

    __slots__ = ("_base", "_span")

    def __init__(self, span: Span, base: Context | None) -> None:
        self._span = span
        self._base = base

    @property
    def is_recording(self) -> bool:
        """Whether anybody will see what it is told."""
        return self._span.is_recording()

    @property
    def context(self) -> Context | None:
        """The context of its children."""
        from opentelemetry.trace import set_span_in_context

        return set_span_in_context(self._span, self._base)

    def tell(self, attributes: Mapping[str, Any]) -> None:
        """Set attributes; those that are `None` are not known and left out."""
        if self._span.is_recording():
            self._span.set_attributes(_known(attributes))

    def event(self, name: str, attributes: Mapping[str, Any], *, at_ns: int | None = None) -> None:
        """Note that something has happened, now or at a time in nanoseconds since the epoch."""
        if self._span.is_recording():
            self._span.add_event(name, _known(attributes), at_ns)

    def fail(self, error: BaseException | str) -> None:
        """Mark it as failed, by the type of the error."""
        from opentelemetry.trace import StatusCode

        kind = error if isinstance(error, str) else error_type(error)
        self.tell({names.ERROR_TYPE: kind})
        self._span.set_status(StatusCode.ERROR)

    def end(self) -> None:
        """End it; harmless twice."""
        if self._span.is_recording():
            self._span.end()

    @contextmanager
    def current(self) -> Iterator[None]:
        """Make it the current span of a block. Not for generators that are driven by others."""
        from opentelemetry.context import attach, detach

        token = attach(self.context or {})  # type: ignore[arg-type]  # never None but for NO_SPAN
        try:
            yield
        finally:
            detach(token)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            self.fail(error)
        self.end()


class _NoSpan(OpenSpan):
    """Stands for a span where there is no telemetry."""

    __slots__ = ()

    def __init__(self) -> None:
        """Hold nothing."""

    @property
    def is_recording(self) -> bool:
        return False

    @property
    def context(self) -> None:
        return None

    def tell(self, attributes: Mapping[str, Any]) -> None:
        pass

    def event(self, name: str, attributes: Mapping[str, Any], *, at_ns: int | None = None) -> None:
        pass

    def fail(self, error: BaseException | str) -> None:
        pass

    def end(self) -> None:
        pass

    @contextmanager
    def current(self) -> Iterator[None]:
        yield


NO_SPAN = _NoSpan()
"""Does nothing, in no time."""


def error_type(error: BaseException) -> str:
    """Return the full name of an error's class, as the semantic conventions want it.

    Example:
        >>> error_type(TimeoutError("the prompt was ..."))
        'TimeoutError'
    """
    kind = type(error)
    plain = kind.__module__ == "builtins"
    return kind.__qualname__ if plain else f"{kind.__module__}.{kind.__qualname__}"


def _known(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in attributes.items() if value is not None}
