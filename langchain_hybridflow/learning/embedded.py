"""A predictor that has its texts embedded when it is asked, and does without if it has to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.learning.embeddings import EmbeddingService
from langchain_hybridflow.learning.predictor import TrainedPredictor
from langchain_hybridflow.routing import EdgeAnswer, Prediction, RouteRequest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

__all__ = ["EmbeddedPredictor"]

_WITHOUT = "by text alone, the embeddings do not answer"


class EmbeddedPredictor:
    """Foresees by text and embeddings; by text alone while the embeddings do not answer.

    The predictions say so in `why`, which the reason of a decision quotes.

    Args:
        trained: A predictor that was trained with embeddings.
        service: The embeddings.

    Raises:
        ConfigurationError: It was trained with other ones, or without any.
    """

    def __init__(self, trained: TrainedPredictor, service: EmbeddingService) -> None:
        if trained.embedding is None:
            raise ConfigurationError(
                "This router was trained without embeddings. Train it with them, or load it "
                "without."
            )
        service.check(trained.embedding)
        self.trained = trained
        self._dimension = trained.embedding.dimension
        self._service = service

    def predict(self, requests: Sequence[RouteRequest]) -> list[Prediction]:
        """Foresee each request before any call."""
        vectors = self._vectors(requests)
        return _noted(self.trained.predict(requests, vectors=vectors), vectors)

    def predict_answered(
        self, requests: Sequence[RouteRequest], answers: Sequence[EdgeAnswer]
    ) -> list[Prediction]:
        """Foresee each request once the edge has answered it.

        Raises:
            ConfigurationError: It was trained without the length of the edge's answers.
        """
        vectors = self._vectors(requests)
        return _noted(self.trained.predict_answered(requests, answers, vectors=vectors), vectors)

    def contributions(
        self, request: RouteRequest, *, answer: EdgeAnswer | None = None
    ) -> tuple[float, dict[str, float]]:
        """Return where the foreseen gain starts, and what each feature adds to it.

        Raises:
            ConfigurationError: An answer is given, and it was trained without any.
        """
        vectors = self._vectors([request])
        return self.trained.contributions(request, answer=answer, vectors=vectors)

    def _vectors(self, requests: Sequence[RouteRequest]) -> Floats | None:
        if not requests:
            return None
        texts = [request.text for request in requests]
        return self._service.vectors(texts, dimension=self._dimension)


def _noted(predictions: list[Prediction], vectors: Floats | None) -> list[Prediction]:
    if vectors is not None:
        return predictions
    return [replace(one, why=_WITHOUT) for one in predictions]
