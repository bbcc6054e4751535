"""The serving rule of HybridFlow: a threshold that rises as budget and time run out."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, Self

from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.routing.surface import surface_difficulty
from langchain_hybridflow.routing.types import RouteDecision, RouteRequest, Tier, uniform_draw

__all__ = ["ThresholdRouter", "difficulty_score"]

_PRESETS: dict[str, tuple[int, float]] = {
    "low": (512, 10.0),
    "default": (2048, 25.0),
    "high": (8192, 50.0),
}


def difficulty_score(request: RouteRequest) -> float:
    """Score a request by its difficulty, from 0 (level 1) to 1 (level 9).

    Takes the planner's estimate, or the text's surface when there is none.

    Example:
        >>> difficulty_score(RouteRequest(text="?", difficulty=5))
        0.5
    """
    level = request.difficulty or surface_difficulty(request.text).level
    return (level - 1) / 8


class ThresholdRouter:
    r"""Send a call to the cloud with a probability that falls as the query spends.

    HybridFlow's rule (arXiv 2512.22137):

        delta   = clip(d0 + aB * rB + aL * rL, 0, 1)
        p_cloud = sigmoid((s - delta) / tau)

    with s the score, rB = cloud tokens used / B_max and rL = seconds elapsed / L_max of this
    query. The draw is seeded and belongs to the question, so it is the same at every retry, and
    no step is forced to a tier because of where it stands in the stream.

    Args:
        scorer: Maps a request to s in [0, 1]; by default its difficulty.
        base_threshold: d0.
        token_weight: aB.
        latency_weight: aL.
        temperature: tau; 0 makes the rule deterministic (cloud when s > delta).
        max_tokens: B_max, in cloud tokens per query.
        max_latency_s: L_max, in seconds per query.
        seed: Seed of the draws.

    Raises:
        ConfigurationError: A capacity is not positive, a weight or the temperature is negative,
            or one of them is not finite.

    Example:
        >>> router = ThresholdRouter(temperature=0)
        >>> router.route(RouteRequest(text="?", difficulty=6)).tier
        'cloud'
    """

    def __init__(
        self,
        *,
        scorer: Callable[[RouteRequest], float] = difficulty_score,
        base_threshold: float = 0.0,
        token_weight: float = 0.5,
        latency_weight: float = 0.5,
        temperature: float = 0.1,
        max_tokens: int = 2048,
        max_latency_s: float = 25.0,
        seed: int = 0,
    ) -> None:
        numbers = (base_threshold, token_weight, latency_weight, temperature, max_latency_s)
        if not all(map(math.isfinite, numbers)):
            raise ConfigurationError(
                f"base_threshold, token_weight, latency_weight, temperature and max_latency_s "
                f"must be finite, got {', '.join(map(str, numbers))}."
            )
        if max_tokens <= 0 or max_latency_s <= 0:
            raise ConfigurationError(
                f"max_tokens and max_latency_s are capacities and must be positive, "
                f"got {max_tokens!r} and {max_latency_s!r}."
            )
        if min(token_weight, latency_weight, temperature) < 0:
            raise ConfigurationError(
                f"token_weight, latency_weight and temperature must not be negative, got "
                f"{token_weight!r}, {latency_weight!r} and {temperature!r}."
            )
        self.scorer = scorer
        self.base_threshold = base_threshold
        self.token_weight = token_weight
        self.latency_weight = latency_weight
        self.temperature = temperature
        self.max_tokens = max_tokens
        self.max_latency_s = max_latency_s
        self.seed = seed

    @classmethod
    def preset(cls, name: Literal["low", "default", "high"], *, seed: int = 0) -> Self:
        """Make a router with one of the three published budget levels.

        Args:
            name: "low" (512 tokens, 10 s), "default" (2048, 25 s) or "high" (8192, 50 s).
            seed: Seed of the draws.

        Raises:
            ConfigurationError: There is no preset of that name.
        """
        if name not in _PRESETS:
            raise ConfigurationError(f"There is no preset {name!r}; choose {', '.join(_PRESETS)}.")
        max_tokens, max_latency_s = _PRESETS[name]
        return cls(max_tokens=max_tokens, max_latency_s=max_latency_s, seed=seed)

    def threshold(self, request: RouteRequest) -> float:
        """Return delta, the threshold at the request's state of budget and time."""
        spent = request.budget.tokens_used / self.max_tokens
        elapsed = request.budget.elapsed_s / self.max_latency_s
        raw = self.base_threshold + self.token_weight * spent + self.latency_weight * elapsed
        return min(max(raw, 0.0), 1.0)

    def cloud_probability(self, score: float, threshold: float) -> float:
        """Return p_cloud for a score and a threshold."""
        margin = score - threshold
        if self.temperature == 0:
            return 1.0 if margin > 0 else 0.0
        return 0.5 * (1.0 + math.tanh(margin / (2.0 * self.temperature)))

    def route(self, request: RouteRequest) -> RouteDecision:
        """Decide by the seeded draw against p_cloud."""
        score = self.scorer(request)
        threshold = self.threshold(request)
        probability = self.cloud_probability(score, threshold)
        draw = uniform_draw(self.seed, request)
        tier: Tier = "cloud" if draw < probability else "edge"
        return RouteDecision(
            tier=tier,
            score=score,
            threshold=threshold,
            reason=(
                f"score {score:.2f} against threshold {threshold:.2f}: cloud with probability "
                f"{probability:.2f}, drew {draw:.2f}"
            ),
            router="threshold",
            expected_cost_usd=request.expected_cost_usd.get(tier),
            seed=self.seed,
        )
