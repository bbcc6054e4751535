"""Policies that always say the same: the two ends of every comparison."""

from __future__ import annotations

from langchain_hybridflow.routing.types import RouteDecision, RouteRequest

__all__ = ["AlwaysCloud", "AlwaysEdge"]


class AlwaysEdge:
    """Send every call to the edge model.

    Example:
        >>> AlwaysEdge().route(RouteRequest(text="?")).tier
        'edge'
    """

    def route(self, request: RouteRequest) -> RouteDecision:
        """Decide for the edge."""
        return RouteDecision(
            tier="edge",
            reason="this policy always chooses the edge",
            router="always_edge",
            expected_cost_usd=request.expected_cost_usd.get("edge"),
        )


class AlwaysCloud:
    """Send every call to the cloud model, as far as the budget goes.

    Example:
        >>> AlwaysCloud().route(RouteRequest(text="?")).tier
        'cloud'
    """

    def route(self, request: RouteRequest) -> RouteDecision:
        """Decide for the cloud."""
        return RouteDecision(
            tier="cloud",
            reason="this policy always chooses the cloud",
            router="always_cloud",
            expected_cost_usd=request.expected_cost_usd.get("cloud"),
        )
