"""The web application: LangServe's routes, OpenAI's, and what stands before them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware

from langchain_hybridflow.routing import AlwaysCloud, AlwaysEdge
from langchain_hybridflow.serving import (
    Gate,
    MeasuredApp,
    RateLimits,
    Readiness,
    RequestMetrics,
    Service,
    add_langserve_routes,
    add_openai_routes,
    add_probe_routes,
    asking,
)
from serve_api.models import make_graph, make_model
from serve_api.settings import Settings

# What a page elsewhere may read of an answer's headers.
EXPOSED = [
    "retry-after",
    *(f"x-hybridflow-{name}" for name in ("tier", "reason", "cost-usd", "remaining-usd")),
]


def create_app(settings: Settings | None = None) -> FastAPI:
    """Make the application. Each worker makes its own; the store of the budget is shared."""
    settings = settings or Settings.from_environment()
    model = make_model(settings)
    graph = make_graph(model)
    service, metrics = Service(model.budget), RequestMetrics()

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        await service.aclose()
        metrics.close()

    rates = RateLimits(settings.requests_per_minute, storage=settings.rate_storage)
    app = FastAPI(
        title="HybridFlow",
        lifespan=lifespan,
        # LangServe's routes describe themselves at /model/input_schema and the like.
        openapi_url=None,
        middleware=[
            Middleware(MeasuredApp, metrics=metrics),
            Middleware(TrustedHostMiddleware, allowed_hosts=settings.hosts()),
            Middleware(
                CORSMiddleware,
                allow_origins=settings.origins(),
                allow_methods=["GET", "POST"],
                allow_headers=["authorization", "content-type", "x-hybridflow-thread"],
                expose_headers=EXPOSED,
            ),
            Middleware(RequestBodyLimitMiddleware, max_body_size=settings.max_body_bytes),
            Middleware(Gate, tokens=settings.read_tokens(), rates=rates),
        ],
    )
    add_langserve_routes(app, model, path="/model", service=service)
    add_langserve_routes(app, graph, path="/graph", service=service)
    add_langserve_routes(app, asking(graph), path="/ask", service=service)  # text in, text out
    served = {
        "hybridflow": model,
        "hybridflow-graph": graph,
        "edge": model.model_copy(update={"router": AlwaysEdge(), "on_edge_error": "raise"}),
        "cloud": model.model_copy(update={"router": AlwaysCloud(), "on_cloud_error": "raise"}),
    }
    add_openai_routes(app, served, service=service)
    add_probe_routes(app, readiness=Readiness(model), service=service, metrics=metrics)

    @app.get("/")
    async def index() -> dict[str, object]:
        return {
            "openai": {"base_url": "/v1", "models": list(served)},
            "langserve": ["/model", "/graph", "/ask"],
            "playgrounds": ["/ask/playground/", "/model/playground/", "/graph/playground/"],
            "probes": ["/health", "/ready", "/metrics"],
        }

    return app
