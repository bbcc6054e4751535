"""The models, the budget and the graph that are served. This is the file to change."""

from __future__ import annotations

from typing import Any

from langchain_core.runnables import Runnable

from langchain_hybridflow import Budget, HybridFlowGraph, Limits, RoutedChatModel, Scope
from langchain_hybridflow.cli.models import ModelSpec, read_prices
from langchain_hybridflow.sandbox import SANDBOX_PRICES
from serve_api.settings import Settings


def make_model(settings: Settings) -> RoutedChatModel:
    """Build the routed model, with a budget for all, and a share of it for each user."""
    tokens, window = settings.read_tokens(), settings.window
    limit, speed = settings.user_limit_usd, settings.sandbox_time_scale
    budget = Budget(
        limit_usd=settings.limit_usd,
        max_cloud_share=settings.max_cloud_share,
        window=window,
        scopes=tokens.scopes(limit, window=window)
        if tokens
        else [Scope("user", Limits(usd=limit), window=window)],
        on_exhausted=settings.on_exhausted,
        store=settings.store,
        name="serve",
        prices={**SANDBOX_PRICES, **read_prices(settings.prices.split())},
    )
    return RoutedChatModel(
        edge=ModelSpec.parse(settings.edge).build("edge", time_scale=speed),
        cloud=ModelSpec.parse(settings.cloud).build("cloud", time_scale=speed),
        budget=budget,
    )


def make_graph(model: RoutedChatModel) -> Runnable[Any, Any]:
    """Build the graph that answers a question by a plan of subtasks."""
    return HybridFlowGraph(model, edge_slots=1, cloud_slots=8).compile()


def __getattr__(name: str) -> Runnable[Any, Any]:
    """Make `graph` when it is asked for, as `[tool.langserve]` does: not at import."""
    if name != "graph":
        raise AttributeError(name)
    return make_graph(make_model(Settings.from_environment()))
