"""Requests as Prometheus sees them, over all workers of a server."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from langchain_hybridflow.errors import MissingExtraError

__all__ = ["MULTIPROCESS_DIR", "MeasuredApp", "RequestMetrics"]

MULTIPROCESS_DIR: Final = "PROMETHEUS_MULTIPROC_DIR"
"""The environment variable that names the folder in which several workers add up their numbers."""

# Others are whatever a client makes up, which must not become a label.
_METHODS: Final = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})
_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class RequestMetrics:
    """Counts requests and their times: `hybridflow_http_...`.

    With `PROMETHEUS_MULTIPROC_DIR` set before Python starts, `text` tells of all workers.

    Raises:
        MissingExtraError: prometheus-client is not installed.
    """

    def __init__(self) -> None:
        try:
            import prometheus_client
        except ImportError as error:
            raise MissingExtraError("Telling Prometheus of requests", "serve") from error
        _forget_the_killed()
        self._client: Any = prometheus_client
        self._registry = prometheus_client.CollectorRegistry()
        labels, own = ["route", "method"], self._registry
        self.requests = prometheus_client.Counter(
            "hybridflow_http_requests",
            "Requests that were answered.",
            [*labels, "status"],
            registry=own,
        )
        self.seconds = prometheus_client.Histogram(
            "hybridflow_http_request_seconds",
            "Seconds until the last byte of an answer.",
            labels,
            buckets=_SECONDS,
            registry=own,
        )
        self.first_byte = prometheus_client.Histogram(
            "hybridflow_http_first_byte_seconds",
            "Seconds until the first byte of an answer's body.",
            labels,
            buckets=_SECONDS,
            registry=own,
        )
        self.open = prometheus_client.Gauge(
            "hybridflow_http_requests_open",
            "Requests under way.",
            multiprocess_mode="livesum",
            registry=own,
        )

    def text(self) -> str:
        """Return the numbers as Prometheus reads them."""
        registry = self._registry
        if os.environ.get(MULTIPROCESS_DIR):
            from prometheus_client import multiprocess

            registry = self._client.CollectorRegistry()
            multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call] # theirs
        text: str = self._client.generate_latest(registry).decode()
        return text

    def close(self) -> None:
        """Take this worker out of what the others tell to be under way."""
        if os.environ.get(MULTIPROCESS_DIR):
            from prometheus_client import multiprocess

            multiprocess.mark_process_dead(os.getpid())  # type: ignore[no-untyped-call] # theirs


class MeasuredApp:
    """Measures all requests of an application.

    Args:
        app: The application, with whatever stands before its routes.
        metrics: Where they are counted.
        clock: Seconds on a clock that does not jump.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        metrics: RequestMetrics,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        metrics, since = self._metrics, self._clock()
        seen: dict[str, float] = {"status": 500}

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                seen["status"] = message["status"]
            elif "first" not in seen:
                seen["first"] = self._clock() - since
            await send(message)

        metrics.open.inc()
        try:
            await self._app(scope, receive, sending)
        finally:
            metrics.open.dec()
            method = scope["method"] if scope["method"] in _METHODS else "other"
            labels = (_route(scope), method)
            metrics.requests.labels(*labels, str(int(seen["status"]))).inc()
            metrics.seconds.labels(*labels).observe(self._clock() - since)
            if "first" in seen:
                metrics.first_byte.labels(*labels).observe(seen["first"])


def _forget_the_killed() -> None:
    """Take workers that were killed out of what is under way: they could not do it themselves."""
    folder = os.environ.get(MULTIPROCESS_DIR)
    if not folder:
        return
    from prometheus_client import multiprocess

    for file in Path(folder).glob("gauge_live*_*.db"):
        worker = int(file.stem.rpartition("_")[2])
        try:
            os.kill(worker, 0)  # asks only whether it is there
        except ProcessLookupError:
            multiprocess.mark_process_dead(worker)  # type: ignore[no-untyped-call] # theirs


def _route(scope: Scope) -> str:
    """The path as it was defined: whatever a client asks for must not become a label."""
    if "endpoint" not in scope:
        return "none"  # no such route, or not let in
    path: str = scope["path"]
    for name, value in reversed(scope.get("path_params", {}).items()):
        # From the end: what a client calls a model may stand in the path before it, too.
        before, found, after = path.rpartition(str(value)) if value else (path, "", "")
        path = f"{before}{{{name}}}{after}" if found else path
    return path
