"""The random policy: the baseline that every learned router has to beat."""

from __future__ import annotations

from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.routing.types import RouteDecision, RouteRequest, Tier, uniform_draw

__all__ = ["RandomRouter"]


class RandomRouter:
    """Send a random share of the calls to the cloud, whatever they ask.

    Args:
        cloud_share: Probability of the cloud, 0 to 1.
        seed: Seed of the draws. The same question gets the same draw under the same seed.

    Raises:
        ConfigurationError: `cloud_share` is not a probability.

    Example:
        >>> decision = RandomRouter(cloud_share=1.0).route(RouteRequest(text="?"))
        >>> decision.tier, decision.threshold
        ('cloud', 1.0)
    """

    def __init__(self, *, cloud_share: float = 0.5, seed: int = 0) -> None:
        if not 0.0 <= cloud_share <= 1.0:
            raise ConfigurationError(f"cloud_share is a probability (0 to 1), got {cloud_share!r}.")
        self.cloud_share = cloud_share
        self.seed = seed

    def route(self, request: RouteRequest) -> RouteDecision:
        """Decide by the draw that belongs to the request."""
        draw = uniform_draw(self.seed, request)
        tier: Tier = "cloud" if draw < self.cloud_share else "edge"
        return RouteDecision(
            tier=tier,
            score=draw,
            threshold=self.cloud_share,
            reason=f"drew {draw:.3f}; below {self.cloud_share:g} is cloud",
            router="random",
            expected_cost_usd=request.expected_cost_usd.get(tier),
            seed=self.seed,
        )
