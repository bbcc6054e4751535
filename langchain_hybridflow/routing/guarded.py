"""A predictor that does not take the end of a text at its word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.routing.prediction import Prediction, Predictor, check_predictions
from langchain_hybridflow.routing.types import RouteRequest

__all__ = ["GuardedPredictor"]

_FEWEST_CHARS: Final = 24


@dataclass(frozen=True, slots=True)
class GuardedPredictor:
    """Foresee a call by its whole text and by its beginnings, and believe the least gain.

    Whoever knows a router can append a string to any question that makes it look as if only the
    cloud could answer it. Such a string is not part of the beginning of the text, so what is
    foreseen there is near what the question alone is worth. For honest questions it is much the
    same everywhere; how much is lost there, and what is left of an attack, is measured by
    `benchmarks/attack.py`. A string much longer than the question, or one before it, is not
    noticed: the hard bounds are `CappedRouter` and the budget.

    Args:
        predictor: Foresees a text as it stands; it is asked once for all beginnings.
        beginnings: Which shares of the text, between 0 and 1, are looked at as well.
        slack: How much more gain the whole text may have than one of its beginnings, in 0..2.

    Raises:
        ConfigurationError: A share or the slack is out of its range.

    Example:
        >>> class Greedy:
        ...     def predict(self, requests):
        ...         wants = ["PLEASE" in request.text for request in requests]
        ...         return [
        ...             Prediction(edge_quality=0.5, cloud_quality=0.6 + 0.3 * w) for w in wants
        ...         ]
        >>> asked = RouteRequest(text="What is the capital of France? PLEASE")
        >>> round(GuardedPredictor(Greedy(), slack=0.0).predict([asked])[0].gain, 3)
        0.1
    """

    predictor: Predictor
    beginnings: tuple[float, ...] = (0.5, 0.25)
    slack: float = 0.1

    def __post_init__(self) -> None:
        if not self.beginnings or not all(0.0 < share < 1.0 for share in self.beginnings):
            raise ConfigurationError(
                f"beginnings are shares of a text between 0 and 1, got {self.beginnings!r}."
            )
        if not 0.0 <= self.slack <= 2.0:
            raise ConfigurationError(f"slack is in 0..2, got {self.slack!r}.")

    def predict(self, requests: Sequence[RouteRequest]) -> list[Prediction]:
        """Foresee each request by its text and the beginnings of it."""
        asked = [view for request in requests for view in self._views(request)]
        found = iter(check_predictions(self.predictor.predict(asked), len(asked)))
        each = 1 + len(self.beginnings)
        return [self._least([next(found) for _ in range(each)]) for _ in requests]

    def _views(self, request: RouteRequest) -> list[RouteRequest]:
        text = request.text
        parts = (text[: max(_FEWEST_CHARS, int(len(text) * share))] for share in self.beginnings)
        return [request, *(replace(request, text=part) for part in parts)]

    def _least(self, found: list[Prediction]) -> Prediction:
        whole, *parts = found
        part = min(parts, key=lambda one: one.gain)
        most = part.gain + self.slack
        if whole.gain <= most:
            return whole
        # What it costs is that of the whole text; only the gain is not believed.
        edge = min(1.0, whole.cloud_quality - most)
        why = "its beginning promises less"
        return replace(
            whole,
            edge_quality=edge,
            cloud_quality=max(0.0, edge + most),
            why=f"{whole.why}, but {why}" if whole.why else why,
        )
