"""What the cloud would add to an answer, predicted before the call, or after the edge's."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.learning._forest import FlatForest
from langchain_hybridflow.learning._models import PairModel
from langchain_hybridflow.learning._reading import read, surface_values
from langchain_hybridflow.learning._representation import Representation, text_features
from langchain_hybridflow.learning.calibration import Calibration
from langchain_hybridflow.learning.costs import CostModel
from langchain_hybridflow.learning.features import (
    BEFORE_NAMES,
    FEATURE_SCHEMA,
    structure_values,
)
from langchain_hybridflow.routing import EdgeAnswer, Prediction, RouteRequest, Tier

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Numbers = NDArray[np.float64]

__all__ = ["ANSWER_NAMES", "Foreseen", "Stage", "TrainedPredictor", "gives_no_answer"]

ANSWER_NAMES = (
    "length of the edge's answer", "the edge gave no answer", "answer longer than expected",
    "answer to whole question", "answer to question", "answer of unexpected length",
)  # fmt: skip


_NO_ANSWER = re.compile(
    r"</unknown>\s*$|\bI (?:do not|don't|cannot|can't) (?:know|answer|determine)\b|"
    r"\bI(?: am|'m) (?:unable|not able|sorry)\b",
    re.IGNORECASE,
)
_TAIL_CHARS = 400
_MEASURES = {"tokens": "output_tokens", "seconds": "seconds", "usd": "cost_usd"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Foreseen:
    """What is expected of both tiers for n requests: arrays of shape (n,).

    Attributes:
        p_edge: P(edge right), 0 to 1.
        p_cloud: P(cloud right), 0 to 1.
        gain: dq of HybridFlow (arXiv 2512.22137), their calibrated difference, -1 to 1.
    """

    p_edge: Numbers
    p_cloud: Numbers
    gain: Numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A model and what belongs to it, for one moment of decision.

    Attributes:
        model: Predicts raw scores of both tiers.
        calibration: Makes them mean what they say.
        means: Shape (features,), what the features were on average when trained.
    """

    model: PairModel
    calibration: Calibration
    means: Floats

    def predict(self, rows: Floats) -> Foreseen:
        """Return calibrated predictions."""
        p_edge, p_cloud, gain = self.calibration.apply(self.model.predict(rows))
        return Foreseen(p_edge=p_edge, p_cloud=p_cloud, gain=gain)

    def contributions(self, row: Floats) -> tuple[float, Numbers]:
        """Return where the gain starts and what each feature adds to it.

        For a forest they add up to the prediction. For other models a feature's contribution is
        what the prediction loses when the feature is set to its mean.
        """
        import numpy as np

        slope = self.calibration.gain_slope
        if isinstance(self.model, FlatForest):
            start, added = self.model.contributions(row)
            first = self.calibration.gain_intercept + slope * float(start[1] - start[0])
            return first, slope * (added[:, 1] - added[:, 0])
        rows = np.repeat(row[None], len(row) + 1, axis=0)
        np.fill_diagonal(rows, self.means)
        gains = self.predict(rows).gain
        return float(self.predict(self.means[None]).gain[0]), gains[-1] - gains[:-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedPredictor:
    """Foresees quality and cost of both tiers; a `Predictor` and an `AnswerPredictor` of routing.

    Safe to use from several threads: nothing changes once it is trained.

    Attributes:
        representation: Turns text into features.
        before: For decisions made before any call.
        after: For decisions made once the edge has answered; `None` if the training data had no
            lengths of its answers.
        costs: Models of tokens, seconds and USD by column name, such as "cloud_tokens".
        schema: The version of the features it was trained on.

    Raises:
        ConfigurationError: It was trained on features of another version.
    """

    representation: Representation
    before: Stage
    after: Stage | None = None
    costs: Mapping[str, CostModel] = field(default_factory=dict)
    schema: int = FEATURE_SCHEMA

    def __post_init__(self) -> None:
        if self.schema != FEATURE_SCHEMA:
            raise ConfigurationError(
                f"The router was trained on version {self.schema} of the features, and this "
                f"release computes version {FEATURE_SCHEMA}. Train it again."
            )

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the features of a decision before any call."""
        return (*BEFORE_NAMES, *self.representation.names)

    def predict(self, requests: Sequence[RouteRequest]) -> list[Prediction]:
        """Foresee each request before any call."""
        if not requests:
            return []
        rows, _ = self._rows(requests)
        return self._predictions(rows, self.before.predict(rows))

    def predict_answered(
        self, requests: Sequence[RouteRequest], answers: Sequence[EdgeAnswer]
    ) -> list[Prediction]:
        """Foresee each request once the edge has answered it.

        Raises:
            ConfigurationError: It was trained without the length of the edge's answers.
        """
        if not requests:
            return []
        rows, full = self._answered(requests, answers)
        return self._predictions(rows, self._after().predict(full))

    def amounts(self, requests: Sequence[RouteRequest]) -> dict[str, Numbers]:
        """Return expected tokens, seconds and USD by column name, such as "cloud_tokens".

        Each is of shape (n, 2): the median, and what nine calls of ten do not pass.
        """
        rows, _ = self._rows(requests)
        return {name: model.predict(rows) for name, model in self.costs.items()}

    def foresee(
        self,
        texts: Sequence[str],
        *,
        structure: Numbers,
        answer_chars: Numbers | None = None,
        no_answer: Numbers | None = None,
    ) -> Foreseen:
        """Foresee many texts at once, as arrays.

        Args:
            texts: n texts.
            structure: Shape (n, features of structure), see `features.structure_matrix`.
            answer_chars: Shape (n,), lengths of the edge's answers, for decisions made after it.
            no_answer: Shape (n,), 1 where it gave none; 0 everywhere if not given.
        """
        import numpy as np

        rows, hints = self.features(texts, structure)
        if answer_chars is None:
            return self.before.predict(rows)
        empty = np.zeros(len(rows)) if no_answer is None else no_answer
        extra = answer_features(rows, hints, answer_chars, empty)
        return self._after().predict(np.hstack([rows, extra]))

    def features(self, texts: Sequence[str], structure: Numbers) -> tuple[Floats, Floats]:
        """Return the features of a decision before any call, and the raw hints, for n texts."""
        import numpy as np

        surface, terms = text_features([read(text) for text in texts])
        learnt, hints = self.representation.features(surface, terms)
        return np.hstack([surface, structure.astype(np.float32), learnt]), hints

    def contributions(
        self, request: RouteRequest, *, answer: EdgeAnswer | None = None
    ) -> tuple[float, dict[str, float]]:
        """Return where the foreseen gain starts, and what each feature adds to it.

        Raises:
            ConfigurationError: An answer is given, and it was trained without any.
        """
        if answer is None:
            stage, names = self.before, self.names
            rows, _ = self._rows([request])
        else:
            stage, names = self._after(), (*self.names, *ANSWER_NAMES)
            _, rows = self._answered([request], [answer])
        start, added = stage.contributions(rows[0])
        return start, dict(zip(names, added.tolist(), strict=True))

    def _rows(self, requests: Sequence[RouteRequest]) -> tuple[Floats, Floats]:
        """Return the features before any call, and the raw hints; each has n rows."""
        import numpy as np

        structure = np.array([structure_values(request) for request in requests])
        if len(requests) > 1:
            return self.features([request.text for request in requests], structure)
        reading = read(requests[0].text)
        surface = np.array(surface_values(reading), dtype=np.float32)
        learnt, hints = self.representation.one(reading, surface)
        return np.hstack([surface[None], structure.astype(np.float32), learnt]), hints

    def _answered(
        self, requests: Sequence[RouteRequest], answers: Sequence[EdgeAnswer]
    ) -> tuple[Floats, Floats]:
        import numpy as np

        self._after()
        rows, hints = self._rows(requests)
        chars = np.array([len(answer.text) for answer in answers], dtype=float)
        empty = np.array([gives_no_answer(answer.text) for answer in answers], dtype=float)
        return rows, np.hstack([rows, answer_features(rows, hints, chars, empty)])

    def _predictions(self, rows: Floats, found: Foreseen) -> list[Prediction]:
        amounts = {name: model.predict(rows)[:, 0] for name, model in self.costs.items()}

        def of(measure: str, row: int) -> dict[Tier, float]:
            tiers: tuple[Tier, ...] = ("edge", "cloud")
            return {
                tier: float(amounts[f"{tier}_{measure}"][row])
                for tier in tiers
                if f"{tier}_{measure}" in amounts
            }

        return [
            Prediction(
                edge_quality=min(max(float(found.p_edge[row]), 0.0), 1.0),
                cloud_quality=min(max(float(found.p_cloud[row]), 0.0), 1.0),
                **{name: of(measure, row) for measure, name in _MEASURES.items()},
            )
            for row in range(len(rows))
        ]

    def _after(self) -> Stage:
        if self.after is None:
            raise ConfigurationError(
                "This router was trained without the length of the edge's answers, so it cannot "
                "decide after the edge has answered. Train it on data with edge_answer_chars."
            )
        return self.after


def gives_no_answer(text: str) -> bool:
    """Say whether an answer is none: it is empty, or ends in a refusal or a call for help.

    Example:
        >>> gives_no_answer("<unknown> I need external assistance </unknown>")
        True
        >>> gives_no_answer("The answer is (B).")
        False
    """
    return not text.strip() or _NO_ANSWER.search(text[-_TAIL_CHARS:]) is not None


def answer_features(rows: Floats, hints: Floats, chars: Numbers, no_answer: Numbers) -> Floats:
    """Describe answers of the edge beside what was to be expected, in the order of ANSWER_NAMES.

    Args:
        rows: Shape (n, features), those before the call.
        hints: Shape (n, 3); the third is the expected log length.
        chars: Shape (n,), lengths in characters.
        no_answer: Shape (n,), 1 where there is none.
    """
    import numpy as np

    length = np.log1p(np.asarray(chars, dtype=float))
    surprise = length - hints[:, 2]
    whole, question = rows[:, 0], rows[:, 1]  # logs of the characters of the text and the stem
    parts = (length, no_answer, surprise, length - whole, length - question, np.abs(surprise))
    return np.stack(parts, axis=1).astype(np.float32)
