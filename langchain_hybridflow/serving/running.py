"""Start a server: workers, and what must not be started."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from inspect import signature
from typing import Any, Final

from langchain_hybridflow.errors import ConfigurationError, MissingExtraError
from langchain_hybridflow.serving.gate import is_loopback
from langchain_hybridflow.serving.metrics import MULTIPROCESS_DIR

__all__ = ["check_address", "check_workers", "run"]

# Longer than proxies keep a connection: one that is closed at this end in the moment of a request
# is an error to its client.
_KEEP_ALIVE_S: Final = 75
_HEALTH_S: Final = 60


def check_address(host: str, *, has_tokens: bool) -> None:
    """Make sure that a server without tokens is reached from this machine only.

    Raises:
        ConfigurationError: It would be reached from elsewhere.

    Example:
        >>> check_address("127.0.0.1", has_tokens=False)
    """
    if not has_tokens and not is_loopback(host):
        raise ConfigurationError(
            f"Without tokens, anybody who reaches {host} could spend the budget. Set "
            f"HYBRIDFLOW_TOKENS, or listen on 127.0.0.1."
        )


def check_workers(workers: int, *, store: str) -> None:
    """Make sure that several workers share one budget.

    Raises:
        ConfigurationError: Each would count by itself.

    Example:
        >>> check_workers(4, store="sqlite:///budget.db")
    """
    if workers > 1 and store.startswith("memory:"):
        raise ConfigurationError(
            f"{workers} workers would each have a budget of their own in memory. Let them share "
            f"one: a store such as sqlite:///budget.db or redis://localhost:6379/0."
        )


def run(
    app: str,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    workers: int = 1,
    grace_s: int = 30,
    trusted_proxies: str = "",
    log_level: str = "info",
) -> None:
    """Serve an application until SIGINT or SIGTERM.

    Args:
        app: Where a function is that makes the application, such as "serve_api.app:create_app".
        host: The address to listen on.
        port: The port to listen on.
        workers: Processes.
        grace_s: Seconds that requests have to end before they are cancelled; what they have cost
            until then is booked.
        trusted_proxies: Addresses of proxies whose `X-Forwarded-*` headers are believed.
        log_level: From which level on uvicorn logs.

    Raises:
        MissingExtraError: uvicorn is not installed.
    """
    try:
        import uvicorn
    except ImportError as error:
        raise MissingExtraError("Serving models", "serve") from error
    with _shared_metrics(workers):
        uvicorn.run(
            app,
            factory=True,
            host=host,
            port=port,
            workers=workers,
            timeout_graceful_shutdown=grace_s,
            timeout_keep_alive=_KEEP_ALIVE_S,
            **_patience(uvicorn.run),
            proxy_headers=bool(trusted_proxies),
            forwarded_allow_ips=trusted_proxies or None,
            server_header=False,
            log_level=log_level,
            access_log=False,  # it would hold the addresses of users; /metrics counts requests
        )


def _patience(start: Callable[..., None]) -> dict[str, Any]:
    """How long a worker may be too busy to say that it is well, where uvicorn asks them that."""
    name = "timeout_worker_healthcheck"  # newer releases only; 5 s without it
    return {name: _HEALTH_S} if name in signature(start).parameters else {}


@contextmanager
def _shared_metrics(workers: int) -> Iterator[None]:
    """Give several workers a folder in which they add up what Prometheus is told."""
    if workers == 1 or MULTIPROCESS_DIR in os.environ:
        yield
        return
    with tempfile.TemporaryDirectory(prefix="hybridflow-metrics-") as folder:
        os.environ[MULTIPROCESS_DIR] = folder
        try:
            yield
        finally:
            del os.environ[MULTIPROCESS_DIR]
