"""Route by what the cloud is foreseen to add, and say why."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from langchain_hybridflow.learning.predictor import TrainedPredictor
from langchain_hybridflow.learning.saved import load_router
from langchain_hybridflow.routing import EdgeAnswer, Prediction, RouteRequest, UtilityRouter

__all__ = ["Explanation", "LearnedRouter"]

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


class LearnedRouter(UtilityRouter):
    """Send a call to the cloud iff the gain that was learnt from outcomes is worth its price.

    The comparison is that of `UtilityRouter`, with all its arguments; this one can explain where
    the gain comes from.

    Args:
        predictor: A predictor of `train`.
        options: Those of `UtilityRouter`.

    Raises:
        ConfigurationError: A number is out of its range.
    """

    predictor: TrainedPredictor

    def __init__(self, predictor: TrainedPredictor, **options: float) -> None:
        super().__init__(predictor, **options)

    @classmethod
    def load(
        cls,
        directory: Path | str,
        *,
        trust: bool = False,
        any_version: bool = False,
        manifest_sha256: str | None = None,
        **options: float,
    ) -> Self:
        """Load a router of `hybridflow train`, at the operating point that it was tuned to.

        Args:
            directory: Where it is.
            trust: Whether to load joblib files, which run code.
            any_version: Whether to load what another scikit-learn (major.minor) has written.
            manifest_sha256: The manifest's hash, from a place that is safer than the directory.
            options: Those of `UtilityRouter`; `min_gain` goes before the operating point.

        Raises:
            ArtifactError: Something is missing, damaged, of another version, or not to be
                trusted.
            MissingExtraError: The extra `learning` is not installed.
        """
        saved = load_router(
            directory, trust=trust, any_version=any_version, manifest_sha256=manifest_sha256
        )
        return cls(saved.predictor, **{"min_gain": saved.min_gain, **options})

    def explain(self, request: RouteRequest, *, answer: EdgeAnswer | None = None) -> Explanation:
        """Say what the foreseen gain is made of.

        For a forest the parts add up to it; for other models a part is what the gain loses when
        the feature is set to its mean.

        Args:
            request: What is asked.
            answer: The edge's answer, to explain the decision made after it.

        Raises:
            ConfigurationError: An answer is given, and the predictor was trained without any.
        """
        start, added = self.predictor.contributions(request, answer=answer)
        ordered = sorted(added.items(), key=lambda item: -abs(item[1]))
        if answer is None:
            (prediction,) = self.predictor.predict([request])
        else:
            (prediction,) = self.predictor.predict_answered([request], [answer])
        return Explanation(
            prediction=prediction,
            start=start,
            contributions=tuple((name, amount) for name, amount in ordered if amount),
        )
