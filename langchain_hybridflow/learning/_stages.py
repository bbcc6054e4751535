"""What decides at one moment, and for what is known then: a model and its calibration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.learning._forest import FlatForest
from langchain_hybridflow.learning._models import PairModel
from langchain_hybridflow.learning.calibration import Calibration

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Numbers = NDArray[np.float64]

__all__ = ["Foreseen", "Stage", "Stages", "View", "view_of"]

View: TypeAlias = Literal["text", "tag", "embedding", "embedding and tag"]
"""What is known of a request beside its place in a plan; the text always is."""


def view_of(*, tagged: bool, embedded: bool) -> View:
    """Name what is known.

    Example:
        >>> view_of(tagged=True, embedded=False)
        'tag'
    """
    if embedded:
        return "embedding and tag" if tagged else "embedding"
    return "tag" if tagged else "text"


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
class Stages:
    """A stage for each moment of decision.

    Attributes:
        before: For decisions made before any call.
        after: For decisions made once the edge has answered; `None` if the training data had no
            lengths of its answers.
    """

    before: Stage
    after: Stage | None = None

    def at(self, *, answered: bool) -> Stage:
        """Return the stage for decisions made before any call, or after the edge's answer.

        Raises:
            ConfigurationError: There is none for decisions after the edge's answer.
        """
        if not answered:
            return self.before
        if self.after is None:
            raise ConfigurationError(
                "This router was trained without the length of the edge's answers, so it cannot "
                "decide after the edge has answered. Train it on data with edge_answer_chars."
            )
        return self.after
