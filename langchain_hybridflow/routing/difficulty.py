"""Route by the planner's own estimate of difficulty."""

from __future__ import annotations

from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.routing.surface import surface_difficulty
from langchain_hybridflow.routing.types import RouteDecision, RouteRequest, Tier

__all__ = ["DifficultyRouter"]


class DifficultyRouter:
    """Send what is at least so difficult to the cloud, the rest to the edge.

    The planner rates each subtask from 1 to 9, and 5 or more means "needs the large model"
    (HybridFlow, arXiv 2512.22137, planner prompt). A call without a rating - any call outside a
    plan - is rated by `surface_difficulty`, a plain rule whose signs stand in the reason.

    Args:
        threshold: The lowest difficulty that goes to the cloud, 1 to 9; 10 never asks the cloud.

    Raises:
        ConfigurationError: `threshold` is outside 1 to 10.

    Example:
        >>> DifficultyRouter().route(RouteRequest(text="Sum it up.", difficulty=7)).reason
        'planned difficulty 7 >= 5'
    """

    def __init__(self, *, threshold: int = 5) -> None:
        if not 1 <= threshold <= 10:
            raise ConfigurationError(
                f"threshold is a difficulty from 1 to 9, or 10 for never; got {threshold!r}."
            )
        self.threshold = threshold

    def route(self, request: RouteRequest) -> RouteDecision:
        """Decide by difficulty."""
        if request.difficulty is not None:
            level, source = request.difficulty, "planned difficulty"
        else:
            surface = surface_difficulty(request.text)
            signs = ", ".join(surface.signs) or "no signs of reasoning"
            level, source = surface.level, f"surface difficulty ({signs})"
        tier: Tier = "cloud" if level >= self.threshold else "edge"
        comparison = ">=" if tier == "cloud" else "<"
        return RouteDecision(
            tier=tier,
            score=float(level),
            threshold=float(self.threshold),
            reason=f"{source} {level} {comparison} {self.threshold}",
            router="difficulty",
            expected_cost_usd=request.expected_cost_usd.get(tier),
        )
