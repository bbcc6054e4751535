"""Route by what the cloud is foreseen to add, and say why."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Self

from langchain_hybridflow.learning.embedded import EmbeddedPredictor
from langchain_hybridflow.learning.embeddings import EmbeddingService
from langchain_hybridflow.learning.predictor import TrainedPredictor
from langchain_hybridflow.learning.saved import load_router
from langchain_hybridflow.routing import EdgeAnswer, Explanation, RouteRequest, UtilityRouter

if TYPE_CHECKING:
    from langchain_core.embeddings import Embeddings

__all__ = ["Explanation", "LearnedRouter", "seeing"]

logger = logging.getLogger(__name__)


class LearnedRouter(UtilityRouter):
    """Send a call to the cloud iff the gain that was learnt from outcomes is worth its price.

    The comparison is that of `UtilityRouter`, with all its arguments; this one can explain where
    the gain comes from.

    Args:
        predictor: A predictor of `train`, or an `EmbeddedPredictor` around one.
        options: Those of `UtilityRouter`.

    Raises:
        ConfigurationError: A number is out of its range.
    """

    predictor: TrainedPredictor | EmbeddedPredictor

    def __init__(self, predictor: TrainedPredictor | EmbeddedPredictor, **options: float) -> None:
        super().__init__(predictor, **options)

    @classmethod
    def load(
        cls,
        directory: Path | str,
        *,
        embeddings: Embeddings | EmbeddingService | None = None,
        trust: bool = False,
        any_version: bool = False,
        manifest_sha256: str | None = None,
        **options: float,
    ) -> Self:
        """Load a router of `hybridflow train`, at the operating point that it was tuned to.

        Args:
            directory: Where it is.
            embeddings: What it was trained with, if it was: any embeddings of LangChain, or an
                `EmbeddingService` with other time-outs. Each decision asks them, for at most two
                seconds; while they do not answer, and without any, the text alone decides.
            trust: Whether to load joblib files, which run code.
            any_version: Whether to load what another scikit-learn (major.minor) has written.
            manifest_sha256: The manifest's hash, from a place that is safer than the directory.
            options: Those of `UtilityRouter`; `min_gain` goes before the operating point.

        Raises:
            ArtifactError: Something is missing, damaged, of another version, or not to be
                trusted.
            ConfigurationError: It was trained with other embeddings, or without any.
            MissingExtraError: The extra `learning` is not installed.
        """
        saved = load_router(
            directory, trust=trust, any_version=any_version, manifest_sha256=manifest_sha256
        )
        predictor = seeing(saved.predictor, embeddings)
        return cls(predictor, **{"min_gain": saved.min_gain, **options})

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


def seeing(
    trained: TrainedPredictor, embeddings: Embeddings | EmbeddingService | None
) -> TrainedPredictor | EmbeddedPredictor:
    """Give a predictor its embeddings, if there are any.

    Raises:
        ConfigurationError: It was trained with other embeddings, or without any.
    """
    if embeddings is None:
        if trained.embedding is not None:
            logger.warning(
                "The router was trained with the embeddings %s and is used without: the text "
                "alone decides. Load it with embeddings=... to use them.",
                trained.embedding.name,
            )
        return trained
    service = (
        embeddings if isinstance(embeddings, EmbeddingService) else EmbeddingService(embeddings)
    )
    return EmbeddedPredictor(trained, service)
