"""Answer first, then decide: the router's own rule, asked again when the edge has answered."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Self

from langchain_hybridflow.budget import BudgetSnapshot, Usage, estimate_prompt_tokens
from langchain_hybridflow.calls.steps import Script, Snapshot
from langchain_hybridflow.calls.verifying import Desk, Verdict, VerifyRequest, answer_text
from langchain_hybridflow.routing import (
    AnswerPredictor,
    EdgeAnswer,
    Prediction,
    RouteRequest,
    UtilityRule,
)
from langchain_hybridflow.routing.prediction import check_predictions

__all__ = ["PredictorVerifier"]


class PredictorVerifier:
    """Accept an edge answer unless the cloud's is worth its price, now that the answer is there.

    The rule is that of `UtilityRouter`: the question goes on to the cloud iff the gain that is
    foreseen *after* the edge's answer passes lambda times the cost of the cloud call. With
    `AlwaysEdge` every question is answered first; with `UtilityRouter` all but those whose gain is
    clear from the start. What the
    edge has cost is spent either way and does not count; nor does its time: the delay is all of
    the time that the cloud takes. The live price of the budget is read for each answer. The rule
    asks no model, so it costs nothing.

    Args:
        predictor: Foresees both qualities from the question and the edge's answer.
        delay_weight_usd_per_s: What a second that the answer comes later is worth, in USD.
        price_per_usd: The lowest lambda, in quality per USD; see `UtilityRule`.
        min_gain: Quality that the cloud must add whatever it costs.
        unknown_cost_usd: What a cloud call is taken to cost when nobody knows, in USD.

    Raises:
        ConfigurationError: A number is out of its range.

    Example:
        >>> from langchain_hybridflow import RoutedChatModel
        >>> from langchain_hybridflow.testing import ScriptedChatModel
        >>> class Hesitation:
        ...     def predict_answered(self, requests, answers):
        ...         return [
        ...             Prediction(
        ...                 edge_quality=0.2 if "maybe" in one.text else 0.9, cloud_quality=0.9
        ...             )
        ...             for one in answers
        ...         ]
        >>> model = RoutedChatModel(
        ...     edge=ScriptedChatModel(responses=["Lyon, maybe"]),
        ...     cloud=ScriptedChatModel(responses=["Paris"]),
        ...     verify=PredictorVerifier(Hesitation()),
        ... )
        >>> model.invoke("Capital of France?").text
        'Paris'
    """

    def __init__(
        self,
        predictor: AnswerPredictor,
        *,
        delay_weight_usd_per_s: float = 0.0,
        price_per_usd: float = 0.0,
        min_gain: float = 0.0,
        unknown_cost_usd: float | None = None,
    ) -> None:
        self.predictor = predictor
        self.rule = UtilityRule(
            delay_weight_usd_per_s=delay_weight_usd_per_s,
            price_per_usd=price_per_usd,
            min_gain=min_gain,
            unknown_cost_usd=unknown_cost_usd,
        )

    @classmethod
    def load(cls, directory: Path | str, **options: float) -> Self:
        """Load the predictor of a router of `hybridflow train`, at the point it was tuned to.

        That is the point of `hybridflow router tune --after-edge`. A router that decides by
        embeddings is not loaded so: give its predictor and `min_gain` to the verifier itself.

        Args:
            directory: Where the router is.
            options: Arguments of the verifier; `min_gain` goes before the operating point.

        Raises:
            ArtifactError: It cannot be loaded as it is.
            ConfigurationError: It was trained without the length of the edge's answers.
            MissingExtraError: The extra `learning` is not installed.
        """
        from langchain_hybridflow.learning import load_router

        saved = load_router(directory)
        saved.predictor.views["text"].at(answered=True)
        return cls(saved.predictor, **{"min_gain": saved.after_edge_min_gain, **options})

    @property
    def reads_logprobs(self) -> bool:
        """Whether the edge model is to be asked for log-probabilities: if the predictor says so."""
        return bool(getattr(self.predictor, "reads_logprobs", False))

    def check(self, request: VerifyRequest, desk: Desk) -> Script[Verdict]:
        """Look at an answer."""
        budget: BudgetSnapshot = yield Snapshot(desk.run, request.subtask_id)
        asked = replace(_asked(request), budget=budget)
        usage = request.answer.usage_metadata
        answer = EdgeAnswer(
            text=answer_text(request.answer),
            logprobs=request.logprobs,
            output_tokens=usage["output_tokens"] if usage else None,
        )
        (prediction,) = check_predictions(self.predictor.predict_answered([asked], [answer]), 1)
        weighing = self.rule.weigh(
            prediction.gain,
            extra_usd=_cloud_usd(asked, prediction, desk),
            delay_s=0.0 if asked.on_critical_path is False else prediction.seconds.get("cloud"),
            price=self.rule.price(budget),
        )
        reason = f"{prediction.why}: {weighing.reason}" if prediction.why else weighing.reason
        return Verdict(not weighing.cloud, score=weighing.gain, reason=reason)


def _asked(request: VerifyRequest) -> RouteRequest:
    asked = request.routed or RouteRequest(text=request.question, subtask_id=request.subtask_id)
    if asked.prompt_tokens:
        return asked
    return replace(asked, prompt_tokens=estimate_prompt_tokens(request.messages))


def _cloud_usd(request: RouteRequest, prediction: Prediction, desk: Desk) -> float | None:
    """What the cloud call is expected to cost, in USD; `None` is unknown."""
    length = prediction.output_tokens.get("cloud")
    tokens = round(length) if length is not None else request.expected_output_tokens
    usage = Usage(request.prompt_tokens, tokens or desk.buyer.max_output_tokens)
    usd = desk.buyer.budget.cost_usd("cloud", desk.buyer.models["cloud"].name, usage)
    return prediction.cost_usd.get("cloud") if usd is None else float(usd)
