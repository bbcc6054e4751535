"""Why a request is worth so much of the cloud, in parts that people can check."""

from __future__ import annotations

from dataclasses import dataclass

from langchain_hybridflow.routing.prediction import Prediction

__all__ = ["Explanation"]

_SHOWN = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Why a request is worth so much of the cloud.

    Attributes:
        prediction: What is foreseen of both tiers.
        start: The gain before anything is known of the request.
        contributions: What each feature adds to the gain or takes away, the largest first.
    """

    prediction: Prediction
    start: float
    contributions: tuple[tuple[str, float], ...]

    def __str__(self) -> str:
        found = self.prediction
        qualities = f"cloud right {found.cloud_quality:.3f}, edge right {found.edge_quality:.3f}"
        lines = [f"{found.gain:+.3f}  gain: {qualities}", f"{self.start:+.3f}  any request"]
        lines += [f"{amount:+.3f}  {name}" for name, amount in self.contributions[:_SHOWN]]
        rest = sum(amount for _, amount in self.contributions[_SHOWN:])
        return "\n".join([*lines, f"{rest:+.3f}  everything else"])
