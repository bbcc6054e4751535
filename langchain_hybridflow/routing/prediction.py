"""What is foreseen of a call on each tier: the numbers that a decision weighs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Protocol, runtime_checkable

from langchain_hybridflow.errors import RoutingError
from langchain_hybridflow.routing.types import RouteRequest, Tier

__all__ = ["AnswerPredictor", "EdgeAnswer", "Prediction", "Predictor", "check_predictions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What is foreseen of a call, before it is made.

    Attributes:
        edge_quality: Probability in 0..1 that the edge answers right.
        cloud_quality: Probability in 0..1 that the cloud does.
        output_tokens: Expected length of the answer of each tier, in tokens; a tier that is
            absent is unknown.
        seconds: Expected time to the whole answer of each tier, in seconds; likewise.
        cost_usd: Expected cost on each tier, in USD; likewise. The costs of the request, which
            come from the prices of the models, go before it.
        why: What it was foreseen from, in words for the decision's reason, which never quotes the
            text; empty says nothing.

    Raises:
        RoutingError: A quality is not in 0..1, or another number is negative or not finite.

    Example:
        >>> Prediction(edge_quality=0.5, cloud_quality=0.75).gain
        0.25
    """

    edge_quality: float
    cloud_quality: float
    output_tokens: Mapping[Tier, float] = field(default_factory=dict)
    seconds: Mapping[Tier, float] = field(default_factory=dict)
    cost_usd: Mapping[Tier, float] = field(default_factory=dict)
    why: str = ""

    def __post_init__(self) -> None:
        # Comparisons with NaN are false: what is not known to be right is wrong.
        if not (0.0 <= self.edge_quality <= 1.0 and 0.0 <= self.cloud_quality <= 1.0):
            raise RoutingError(
                f"A quality is a probability in 0..1, got {self.edge_quality!r} for the edge and "
                f"{self.cloud_quality!r} for the cloud. Mend the predictor."
            )
        for name in ("output_tokens", "seconds", "cost_usd"):
            for tier, value in getattr(self, name).items():
                if not (isfinite(value) and value >= 0):
                    raise RoutingError(
                        f"{name} of the {tier} must be finite and not negative, got {value!r}. "
                        f"Mend the predictor, or leave the tier out where it is unknown."
                    )

    @property
    def gain(self) -> float:
        """What the cloud would add: dq of HybridFlow (arXiv 2512.22137), in -1..1."""
        return self.cloud_quality - self.edge_quality

    def extra_seconds(self) -> float | None:
        """How much longer the cloud takes than the edge, in seconds; `None` is unknown.

        Example:
            >>> slow = Prediction(
            ...     edge_quality=0.5, cloud_quality=0.9, seconds={"edge": 1.0, "cloud": 3.5}
            ... )
            >>> slow.extra_seconds()
            2.5
        """
        edge, cloud = self.seconds.get("edge"), self.seconds.get("cloud")
        return None if edge is None or cloud is None else cloud - edge


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeAnswer:
    """What the edge has answered, for a prediction that is made afterwards.

    Attributes:
        text: The answer; tool calls as JSON.
        logprobs: Natural logarithms of the probabilities of its tokens; `None` if unknown.
        output_tokens: Its length in tokens; `None` if unknown.
    """

    text: str
    logprobs: tuple[float, ...] | None = None
    output_tokens: int | None = None


@runtime_checkable
class Predictor(Protocol):
    """Foresees what each tier would make of calls. Must be safe to call from several threads."""

    def predict(self, requests: Sequence[RouteRequest]) -> Sequence[Prediction]:
        """Return a prediction for each request, in their order."""
        ...


@runtime_checkable
class AnswerPredictor(Protocol):
    """Foresees the same when the edge has answered: whether that is right, and the cloud's is."""

    def predict_answered(
        self, requests: Sequence[RouteRequest], answers: Sequence[EdgeAnswer]
    ) -> Sequence[Prediction]:
        """Return a prediction for each request and the edge's answer to it, in their order."""
        ...


def check_predictions(found: Sequence[Prediction], wanted: int) -> Sequence[Prediction]:
    """Refuse a wrong number of predictions; a predictor is anybody's code.

    Raises:
        RoutingError: There are more or fewer than were asked for.
    """
    if len(found) != wanted:
        raise RoutingError(
            f"A predictor must return one prediction a request: {wanted} requests, "
            f"{len(found)} predictions."
        )
    return found
