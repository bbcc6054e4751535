"""Is the server up, can it answer, and how much does it do."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import urlsplit

from langchain_core.language_models import BaseChatModel
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from langchain_hybridflow.chat_models import RoutedChatModel
from langchain_hybridflow.errors import HybridFlowError
from langchain_hybridflow.routing import TIERS
from langchain_hybridflow.serving.metrics import RequestMetrics
from langchain_hybridflow.serving.service import Service

__all__ = ["Readiness", "add_probe_routes"]

_CONNECT_S: Final = 2.0
_PORTS: Final = {"http": 80, "https": 443}


class Readiness:
    """Finds out whether a request could be answered now, without spending anything.

    The ledger is read. A tier is down if its circuit breaker has opened, or if nobody takes a
    connection at the address of its model; a model without an address is taken to be up. One tier
    is enough, as it answers for the other.

    Args:
        model: The routed model.
        keep_s: Seconds for which a finding is kept: anybody may ask.
        clock: Seconds on a clock that does not jump.
    """

    def __init__(
        self,
        model: RoutedChatModel,
        *,
        keep_s: float = 2.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._model = model
        self._keep_s = keep_s
        self._clock = clock
        self._found: tuple[float, dict[str, str]] | None = None
        self._looking = asyncio.Lock()

    async def look(self) -> dict[str, str]:
        """Return the state of the ledger and of each tier: "up" or "down"."""
        async with self._looking:
            now = self._clock()
            if self._found is None or now - self._found[0] >= self._keep_s:
                names = ("ledger", *TIERS)
                states = await asyncio.gather(self._ledger(), *map(self._tier, TIERS))
                up = ("down", "up")
                self._found = (now, {name: up[it] for name, it in zip(names, states, strict=True)})
            return self._found[1]

    async def _ledger(self) -> bool:
        try:
            async with asyncio.timeout(_CONNECT_S):
                await self._model.budget.asnapshot()
        except (HybridFlowError, TimeoutError):
            return False
        return True

    async def _tier(self, tier: Any) -> bool:
        circuit = self._model.core.circuits.get(tier)
        if circuit is not None and circuit.state == "open":
            return False
        address = _address(getattr(self._model, tier))
        return address is None or await _takes_connections(*address)


def add_probe_routes(
    app: Starlette, *, readiness: Readiness, service: Service, metrics: RequestMetrics | None = None
) -> None:
    """Serve `/health`, `/ready` and `/metrics`.

    Args:
        app: The application, behind a `Gate` that lets everybody ask for the first two.
        readiness: What `/ready` tells: 200 if the server can answer, 503 if not.
        service: Whose budget `/metrics` tells of.
        metrics: Whose requests it tells of; without it there is no such route.
    """

    async def health(_request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def ready(_request: Request) -> Response:
        found = await readiness.look()
        able = found["ledger"] == "up" and "up" in {found[tier] for tier in TIERS}
        status = "ready" if able else "not ready"
        return JSONResponse({"status": status, **found}, 200 if able else 503)

    async def tell(request: Request) -> Response:
        try:
            of_budget = await asyncio.to_thread(service.budget.prometheus)
        except HybridFlowError as error:
            return service.problem(error, request).response()
        text = (metrics.text() if metrics else "") + of_budget
        return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")

    app.add_route("/health", health)
    app.add_route("/ready", ready)
    if metrics is not None:
        app.add_route("/metrics", tell)


def _address(model: BaseChatModel) -> tuple[str, int] | None:
    """Where a model's server is, if it says so as those of langchain-openai do."""
    url = getattr(model, "openai_api_base", None)
    if not isinstance(url, str):
        return None
    parts = urlsplit(url)
    return (parts.hostname, parts.port or _PORTS.get(parts.scheme, 443)) if parts.hostname else None


async def _takes_connections(host: str, port: int) -> bool:
    try:
        async with asyncio.timeout(_CONNECT_S):
            _, writer = await asyncio.open_connection(host, port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True
