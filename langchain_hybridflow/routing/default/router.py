"""The router that decides when nobody has given one."""

from __future__ import annotations

from collections.abc import Sequence

from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.routing.default.artefact import DefaultArtefact, load_default
from langchain_hybridflow.routing.default.reading import SURFACE_NAMES, read
from langchain_hybridflow.routing.default.weights import Weights
from langchain_hybridflow.routing.explanation import Explanation
from langchain_hybridflow.routing.prediction import EdgeAnswer, Prediction
from langchain_hybridflow.routing.types import RouteRequest
from langchain_hybridflow.routing.utility import UtilityRouter

__all__ = ["DefaultRouter"]


class _Foreseer:
    """The weights as a `Predictor`."""

    def __init__(self, weights: Weights) -> None:
        self.weights = weights

    def predict(self, requests: Sequence[RouteRequest]) -> list[Prediction]:
        return [self.weights.foresee(request) for request in requests]


class DefaultRouter(UtilityRouter):
    """Send a call to the cloud iff the gain is worth its price, as far as anybody can say at once.

    It ships trained, on public outcomes of other models than yours: a subtask is judged by the
    planner's difficulty, any other text by its words and its looks, which say little. Train a
    router of your own for more (`hybridflow train`). The comparison is that of `UtilityRouter`:
    the live price of the budget and the costs count.

    Args:
        min_gain: Quality that the cloud must add whatever it costs; by default the shipped
            operating point, at which about a third of the questions that it was measured on go to
            the cloud, and subtasks from difficulty 5 on.
        delay_weight_usd_per_s: What a second that the answer comes later is worth, in USD.
        price_per_usd: The lowest lambda, in quality per USD; see `UtilityRule`.
        unknown_cost_usd: What a cloud call is taken to cost when nobody knows, in USD.

    Raises:
        ConfigurationError: A number is out of its range.
        ArtifactError: Its file in the package is missing or damaged.

    Example:
        >>> router = DefaultRouter()
        >>> router.route(RouteRequest(text="Sum it up.", difficulty=7)).tier
        'cloud'
        >>> router.route(RouteRequest(text="What is the capital of France?")).tier
        'edge'
    """

    name = "default"

    def __init__(
        self,
        *,
        min_gain: float | None = None,
        delay_weight_usd_per_s: float = 0.0,
        price_per_usd: float = 0.0,
        unknown_cost_usd: float | None = None,
    ) -> None:
        self.artefact: DefaultArtefact = load_default()
        super().__init__(
            _Foreseer(self.artefact.weights),
            min_gain=self.artefact.min_gain if min_gain is None else min_gain,
            delay_weight_usd_per_s=delay_weight_usd_per_s,
            price_per_usd=price_per_usd,
            unknown_cost_usd=unknown_cost_usd,
        )
        self.min_gain = min_gain
        self.delay_weight_usd_per_s = delay_weight_usd_per_s
        self.price_per_usd = price_per_usd
        self.unknown_cost_usd = unknown_cost_usd

    def explain(self, request: RouteRequest, *, answer: EdgeAnswer | None = None) -> Explanation:
        """Say what the foreseen gain is made of; the parts add up to it.

        Args:
            request: What is asked.
            answer: The edge's answer; must be `None`, since nothing was learnt about answers.

        Raises:
            ConfigurationError: An answer is given.
        """
        if answer is not None:
            raise ConfigurationError(
                "The default router decides before any call: it has learnt nothing about answers. "
                "Train one with the length of the edge's answers (hybridflow train)."
            )
        weights = self.artefact.weights
        (prediction,) = self.predictor.predict([request])
        if request.difficulty is not None:
            start = weights.base.gain
            added = {f"planned difficulty {request.difficulty}": prediction.gain - start}
        else:
            parts = weights.parts(read(request.text), by_word=True)
            start = parts.start
            added = {f"word {word!r}": amount for word, amount in parts.by_word.items()}
            added["bound on all words"] = parts.words - sum(parts.by_word.values())
            added |= dict(zip(SURFACE_NAMES, parts.surface, strict=True))
        ordered = sorted(added.items(), key=lambda item: (-abs(item[1]), item[0]))
        return Explanation(
            prediction=prediction,
            start=start,
            contributions=tuple((name, amount) for name, amount in ordered if abs(amount) > 1e-12),
        )
