"""Serve chat models as OpenAI-compatible endpoints on 127.0.0.1, with faults on demand.

Any mapping of names to LangChain chat models can be served, so that the real clients, and
programs that know nothing of this package, can talk to the sandbox:

```
POST   /v1/chat/completions   whole or streamed answers, tools, usage
GET    /v1/models             the names of the mapping
GET    /healthz               is it up
GET    /_sandbox/log          what was asked, and how many requests are under way
POST   /_sandbox/faults       a `Fault` as JSON: what shall go wrong next
DELETE /_sandbox/faults       from now on nothing goes wrong
```

A request with the header `X-Sandbox-Fault: rate_limit` asks for a fault of its own. It needs the
extra `sandbox`.
"""

from __future__ import annotations

import logging
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager

from langchain_core.language_models import BaseChatModel

from langchain_hybridflow.errors import ConfigurationError, MissingExtraError
from langchain_hybridflow.sandbox.faults import Fault, FaultKind, Faults

try:
    import uvicorn
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware
    from starlette.routing import Route
except ImportError as error:
    raise MissingExtraError("The sandbox server", "sandbox") from error

from langchain_hybridflow.sandbox._endpoints import (
    Endpoints,
    Gate,
    Refused,
    RequestLog,
    RequestRecord,
    refuse,
)

__all__ = [
    "Fault",
    "FaultKind",
    "Faults",
    "RequestLog",
    "RequestRecord",
    "create_app",
    "running_server",
    "serve",
]

_HOST = "127.0.0.1"
_GIVE_UP_S = 10.0


def create_app(
    models: Mapping[str, BaseChatModel],
    *,
    faults: Faults | None = None,
    api_key: str | None = None,
) -> Starlette:
    """Return a web application that serves chat models in OpenAI's format.

    A model that fails answers with a 500 that names the error, or, once its answer has begun, with
    an error event in the stream. Only requests to `127.0.0.1` or `localhost` are answered.

    Args:
        models: The name that clients ask for, and the model that answers.
        faults: What shall go wrong. Also at `app.state.faults`, to add to while it runs.
        api_key: The bearer token that clients must send; `None` admits everybody.

    Returns:
        The application; `app.state.log` is its `RequestLog`.

    Example:
        >>> from langchain_core.language_models import FakeListChatModel
        >>> app = create_app({"edge": FakeListChatModel(responses=["4"])})
        >>> len(app.state.log), app.state.faults.waiting
        (0, ())
    """
    log, faults = RequestLog(), Faults() if faults is None else faults
    endpoints = Endpoints(dict(models), faults, log)
    app = Starlette(
        routes=[
            Route("/v1/chat/completions", endpoints.chat, methods=["POST"]),
            Route("/v1/models", endpoints.list_models),
            Route("/healthz", endpoints.health),
            Route("/_sandbox/log", endpoints.show_log),
            Route("/_sandbox/faults", endpoints.change_faults, methods=["POST", "DELETE"]),
        ],
        middleware=[
            # A web page that the user visits must not reach the models by a name of its own.
            Middleware(TrustedHostMiddleware, allowed_hosts=[_HOST, "localhost"]),
            Middleware(Gate, log=log, api_key=api_key),
        ],
        exception_handlers={Refused: refuse},
    )
    app.state.log, app.state.faults = log, faults
    return app


def serve(
    app: Starlette,
    *,
    port: int = 0,
    on_ready: Callable[[str], None] | None = None,
    max_idle_s: float | None = None,
) -> None:
    """Serve an application of `create_app` on 127.0.0.1 until SIGINT, SIGTERM, or idleness.

    Args:
        app: What to serve.
        port: The port to listen on; 0 picks a free one.
        on_ready: Called with the base URL, such as `http://127.0.0.1:8080/v1`, as soon as
            requests are answered.
        max_idle_s: Return after this many seconds without a request; `None` for never.

    Raises:
        ConfigurationError: The port is taken, or not ours to take.
    """
    _Server(app, on_ready=on_ready, max_idle_s=max_idle_s).run(sockets=[_listen(port)])


@contextmanager
def running_server(app: Starlette, *, port: int = 0) -> Iterator[str]:
    """Serve an application in a thread with its own event loop, for tests and notebooks.

    Args:
        app: What to serve, made by `create_app`.
        port: The port to listen on; 0 picks a free one.

    Yields:
        The base URL, such as `http://127.0.0.1:41234/v1`, once requests are answered.

    Raises:
        ConfigurationError: The port is taken, or not ours to take.

    Example:
        ```python
        with running_server(create_app({"edge": model})) as base_url:
            ChatOpenAI(base_url=base_url, model="edge", api_key="none").invoke("Hello")
        ```
    """
    base_url: Future[str] = Future()
    server = _Server(app, on_ready=base_url.set_result)
    listener = _listen(port)

    def run() -> None:
        try:
            server.run(sockets=[listener])
        except BaseException as error:
            if base_url.done():
                raise
            base_url.set_exception(error)  # it is raised in the caller's thread

    thread = threading.Thread(target=run, name="hybridflow-sandbox-server", daemon=True)
    thread.start()
    try:
        yield base_url.result(timeout=_GIVE_UP_S)
    finally:
        server.should_exit = True
        thread.join(timeout=_GIVE_UP_S)


class _Server(uvicorn.Server):
    """A silent web server that says when it is ready, and may stop by itself."""

    def __init__(
        self,
        app: Starlette,
        *,
        on_ready: Callable[[str], None] | None = None,
        max_idle_s: float | None = None,
    ) -> None:
        self._log: RequestLog = app.state.log
        self._on_ready = on_ready
        self._max_idle_s = max_idle_s
        config = uvicorn.Config(
            app,
            access_log=False,
            lifespan="off",
            log_config=None,
            log_level=logging.CRITICAL,  # a connection dropped on demand is no news
            timeout_graceful_shutdown=1,  # hanging requests hang until they are cancelled
        )
        super().__init__(config)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self._on_ready is not None and sockets:
            self._on_ready(f"http://{_HOST}:{sockets[0].getsockname()[1]}/v1")

    async def on_tick(self, counter: int) -> bool:
        idle = self._max_idle_s is not None and self._log.idle_s >= self._max_idle_s
        return await super().on_tick(counter) or idle

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop on a signal and no more; the base class raises the signal again when it is done."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        stops = (signal.SIGINT, signal.SIGTERM)
        before = {stop: signal.signal(stop, self.handle_exit) for stop in stops}
        try:
            yield
        finally:
            for stop, handler in before.items():
                signal.signal(stop, handler)


def _listen(port: int) -> socket.socket:
    # asyncio turns Nagle's algorithm off only where TCP is named: 40 ms for each small answer.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((_HOST, port))
    except (OSError, OverflowError) as error:
        listener.close()
        raise ConfigurationError(
            f"Cannot listen on {_HOST}:{port} ({error}). Choose another port, or 0 for a free one."
        ) from error
    return listener
