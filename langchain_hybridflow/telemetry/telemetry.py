"""What is told to OpenTelemetry, and through whom."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Literal

from langchain_hybridflow.errors import MissingExtraError
from langchain_hybridflow.telemetry import names
from langchain_hybridflow.telemetry.gauges import Gauged, observe
from langchain_hybridflow.telemetry.spans import OpenSpan

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

__all__ = ["Telemetry"]

_PACKAGE = "langchain_hybridflow"


class Telemetry:
    """Tell OpenTelemetry about routed calls and runs, by its conventions for generative AI.

    Each routed call is a span `hybridflow.route` with a client span `chat MODEL` for each model
    that was asked, and each run of a graph a span `hybridflow.run` around those of its subtasks.
    Tokens, seconds and USD are counted as metrics, too. It goes to whatever the application has
    set up: without an SDK of OpenTelemetry nothing is recorded.

    Prompts, answers and the texts of errors are never recorded, unless `record_content` is set,
    which records prompts and answers. The reasons of decisions are recorded; a router or policy
    of your own must not quote in them what it was asked.

    Needs the extra `otel`. A `RoutedChatModel` makes one by itself if OpenTelemetry is installed.

    Args:
        tracer_provider: Where spans go; by default the application's global provider.
        meter_provider: Where metrics go; by default the application's global provider.
        record_content: Whether the messages of each call become attributes of its span.

    Raises:
        MissingExtraError: OpenTelemetry is not installed.

    Example:
        >>> from langchain_hybridflow import RoutedChatModel
        >>> from langchain_hybridflow.testing import ScriptedChatModel
        >>> model = RoutedChatModel(
        ...     edge=ScriptedChatModel(responses=["Four."]),
        ...     cloud=ScriptedChatModel(responses=["4"]),
        ...     telemetry=Telemetry(record_content=True),
        ... )
        >>> model.invoke("2 + 2?").text
        'Four.'
    """

    def __init__(
        self,
        *,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        record_content: bool = False,
    ) -> None:
        if not _is_installed():
            raise MissingExtraError("Telemetry", "otel")
        from opentelemetry import metrics, trace

        self.record_content = record_content
        self._is_heard = tracer_provider is not None or meter_provider is not None
        self._tracer = trace.get_tracer(_PACKAGE, _version(), tracer_provider)
        self._meter = meter = metrics.get_meter(_PACKAGE, _version() or "", meter_provider)
        self._tokens = meter.create_histogram(
            names.USAGE_METRIC,
            unit="{token}",
            description="Tokens of a call, by type.",
            explicit_bucket_boundaries_advisory=names.USAGE_BOUNDS,
        )
        self._seconds = meter.create_histogram(
            names.DURATION_METRIC,
            unit="s",
            description="How long a call took.",
            explicit_bucket_boundaries_advisory=names.DURATION_BOUNDS_S,
        )
        self._usd = meter.create_counter(
            names.COST_USD, unit="{USD}", description="What calls were booked with, by tier."
        )

    @classmethod
    def if_installed(cls) -> Telemetry | None:
        """Return one with the application's own providers; `None` without OpenTelemetry."""
        return _default()

    @property
    def is_heard(self) -> bool:
        """Whether there is anybody to tell: an application may set up its SDK at any time."""
        if not self._is_heard:
            trace, metrics = _api()
            # Until then OpenTelemetry gives out stand-ins; the second's class is not public.
            self._is_heard = not (
                isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)
                and "Proxy" in type(metrics.get_meter_provider()).__name__
            )
        return self._is_heard

    def start(
        self,
        name: str,
        *,
        parent: OpenSpan | None = None,
        kind: Literal["internal", "client"] = "internal",
        start_ns: int | None = None,
        attributes: Mapping[str, Any] | None = None,
    ) -> OpenSpan:
        """Begin a span.

        Args:
            name: Its name.
            parent: The span that it is a part of; by default the current one, if there is any.
            kind: Whether it is work of our own or a call to somebody else.
            start_ns: When it began, in nanoseconds since the epoch; by default now.
            attributes: What samplers may want to know.
        """
        from opentelemetry.trace import SpanKind

        base: Context | None = None if parent is None else parent.context
        span = self._tracer.start_span(
            name,
            context=base,
            kind=SpanKind.CLIENT if kind == "client" else SpanKind.INTERNAL,
            attributes=attributes,
            start_time=start_ns,
        )
        return OpenSpan(span, base)

    def measure(
        self,
        attributes: Mapping[str, Any],
        *,
        seconds: float | None = None,
        input_tokens: int = 0,
        output_tokens: int = 0,
        cost_usd: float = 0.0,
    ) -> None:
        """Count what a call took and cost.

        Args:
            attributes: By what it is counted.
            seconds: How long it took; `None` if it was never made.
            input_tokens: Tokens sent.
            output_tokens: Tokens received.
            cost_usd: What was booked.
        """
        if seconds is not None:
            self._seconds.record(seconds, attributes)
        for kind, count in (("input", input_tokens), ("output", output_tokens)):
            if count:
                self._tokens.record(count, {**attributes, names.USAGE_KIND: kind})
        if cost_usd:
            self._usd.add(cost_usd, {names.TIER: attributes[names.TIER]})

    def observe(self, budget: Gauged) -> None:
        """Tell the gauges of a budget, too, under `hybridflow.budget`: spent, held, limit, ...

        They are read whenever metrics are collected; nobody's name is among them.

        Args:
            budget: A `Budget`; once is enough.
        """
        observe(self._meter, budget)

    def __reduce__(self) -> tuple[Any, ...]:
        # Providers hold threads and sockets; another process has its own.
        return _made_again, (self.record_content,)


def _made_again(record_content: bool) -> Telemetry | None:  # noqa: FBT001 - pickle knows no names
    return Telemetry(record_content=record_content) if _is_installed() else None


@cache
def _default() -> Telemetry | None:
    return Telemetry() if _is_installed() else None


@cache
def _api() -> tuple[Any, Any]:
    from opentelemetry import metrics, trace  # it takes long, even if they are loaded

    return trace, metrics


@cache
def _is_installed() -> bool:
    try:
        import opentelemetry.metrics
        import opentelemetry.trace  # noqa: F401
    except ImportError:
        return False
    return True


@cache
def _version() -> str | None:
    try:
        return version("langchain-hybridflow")
    except PackageNotFoundError:
        return None
