"""An application in this process, and requests to it without a network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx
from langchain_core.language_models import BaseChatModel
from langchain_core.runnables import Runnable
from starlette.applications import Starlette
from starlette.middleware import Middleware

from langchain_hybridflow import Budget, RoutedChatModel
from langchain_hybridflow.routing import AlwaysEdge
from langchain_hybridflow.serving import Gate, RateLimits, Service, Tokens, add_openai_routes
from langchain_hybridflow.testing import ScriptedChatModel

TOKEN = "0123456789abcdef"
TOKENS = Tokens({TOKEN: {"user": "ada", "tenant": "acme"}})
ADA = {"Authorization": f"Bearer {TOKEN}"}
HELLO = [{"role": "user", "content": "Hello"}]


def routed(edge: BaseChatModel | None = None, **settings: Any) -> RoutedChatModel:
    """A routed model that asks the edge."""
    return RoutedChatModel(
        **{
            "edge": edge or ScriptedChatModel(responses=["Hi."]),
            "cloud": ScriptedChatModel(responses=["Good day."]),
            "router": AlwaysEdge(),
            "on_edge_error": "raise",
            "max_retries": 0,
            **settings,
        }
    )


def application(
    models: Mapping[str, BaseChatModel | Runnable[Any, Any]],
    *,
    tokens: Tokens | None = TOKENS,
    rates: RateLimits | None = None,
    budget: Budget | None = None,
    **options: Any,
) -> Starlette:
    """Serve models behind a gate."""
    app = Starlette(middleware=[Middleware(Gate, tokens=tokens, rates=rates)])
    first = next(iter(models.values()))
    paid = first.budget if isinstance(first, RoutedChatModel) else Budget()
    add_openai_routes(app, models, service=Service(budget or paid), **options)
    return app


def client_of(
    app: Starlette, *, headers: Any = ADA, client: tuple[str, int] = ("127.0.0.1", 9)
) -> httpx.AsyncClient:
    """A client that asks the application itself."""
    transport = httpx.ASGITransport(app=app, client=client)
    return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", headers=headers)


async def completed(app: Starlette, **body: Any) -> httpx.Response:
    """Ask for a completion."""
    async with client_of(app) as client:
        asked = {"model": "hybridflow", "messages": HELLO, **body}
        return await client.post("/v1/chat/completions", json=asked)
