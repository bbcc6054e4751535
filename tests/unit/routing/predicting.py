"""Predictors for tests: plain rules, no learning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from langchain_hybridflow.routing import EdgeAnswer, Prediction, RouteRequest, Tier


class ByLength:
    """The longer a question, the less the edge knows; the cloud always knows nine of ten."""

    def predict(self, requests: Sequence[RouteRequest]) -> Sequence[Prediction]:
        return [
            Prediction(
                edge_quality=1 / (1 + len(one.text) / 20),
                cloud_quality=0.9,
                seconds={"edge": 0.5, "cloud": 2.0},
            )
            for one in requests
        ]


@dataclass
class Foretold:
    """What was told of each subtask, or of each question."""

    gains: Mapping[str, float] = field(default_factory=dict)
    seconds: Mapping[Tier, float] = field(default_factory=dict)
    edge_quality: float = 0.5

    def predict(self, requests: Sequence[RouteRequest]) -> Sequence[Prediction]:
        return [self.of(one) for one in requests]

    def predict_answered(
        self, requests: Sequence[RouteRequest], answers: Sequence[EdgeAnswer]
    ) -> Sequence[Prediction]:
        return [self.of(one) for one, _ in zip(requests, answers, strict=True)]

    def of(self, request: RouteRequest) -> Prediction:
        gain = self.gains.get(request.subtask_id or request.text, 0.0)
        return Prediction(
            edge_quality=self.edge_quality,
            cloud_quality=self.edge_quality + gain,
            seconds=self.seconds,
        )
