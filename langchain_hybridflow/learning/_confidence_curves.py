"""Fit the curve from a score to P(right)."""

from __future__ import annotations

from math import log
from typing import TYPE_CHECKING

from langchain_hybridflow.errors import MissingExtraError
from langchain_hybridflow.learning.confidence import IsotonicCurve, Method, PlattCurve
from langchain_hybridflow.learning.confidence_runs import LabelledRuns

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = ["fit_curve", "scored"]


def fit_curve(scores: Floats, correct: Floats, *, method: Method) -> IsotonicCurve | PlattCurve:
    """Fit the curve from a score to P(right).

    If all answers are right, or all wrong, it is level at Laplace's (right + 1) / (n + 2): a
    sample proves neither 0 nor 1.

    Args:
        scores: Shape (n,), finite.
        correct: Shape (n,), 1 where right and 0 where wrong.
        method: "isotonic" or "platt".

    Raises:
        MissingExtraError: The extra `learning` is not installed.

    Example:
        >>> import numpy as np
        >>> fit_curve(np.array([0.1, 0.9]), np.array([0.0, 1.0]), method="isotonic").at(0.5)
        0.5
    """
    right, rows = float(correct.sum()), len(correct)
    if right in (0.0, float(rows)):
        level = (right + 1) / (rows + 2)
        if method == "platt":
            return PlattCurve(0.0, log(level / (1 - level)))
        return IsotonicCurve((float(scores[0]),), (level,))
    return _platt(scores, correct) if method == "platt" else _isotonic(scores, correct)


def _isotonic(scores: Floats, correct: Floats) -> IsotonicCurve:
    import numpy as np

    try:
        from sklearn.isotonic import IsotonicRegression
    except ImportError as error:
        raise MissingExtraError("Fitting a calibrator", "learning") from error
    fitted = IsotonicRegression(y_min=0.0, y_max=1.0, increasing=True).fit(scores, correct)
    # Steps that are equal but for the last digit must not fall.
    probabilities = np.clip(np.maximum.accumulate(fitted.y_thresholds_), 0.0, 1.0)
    return IsotonicCurve(tuple(fitted.X_thresholds_.tolist()), tuple(probabilities.tolist()))


def _platt(scores: Floats, correct: Floats) -> PlattCurve:
    """Fit by maximum likelihood to Platt's smoothed labels (1999), which keep it off 0 and 1."""
    import numpy as np

    right, rows = float(correct.sum()), len(correct)
    smoothed = np.where(correct > 0.5, (right + 1) / (right + 2), 1 / (rows - right + 2))
    centre, spread = float(scores.mean()), float(scores.std())
    level = float(smoothed.mean())
    flat = PlattCurve(0.0, log(level / (1 - level)))
    if not spread > 1e-12 * max(1.0, abs(centre)):
        return flat
    try:
        from sklearn.linear_model import LogisticRegression
    except ImportError as error:
        raise MissingExtraError("Fitting a calibrator", "learning") from error
    # A soft label is a right and a wrong answer with weights.
    rows_twice = np.tile((scores - centre) / spread, 2)[:, None]
    labels = np.repeat([1, 0], rows)
    weights = np.concatenate([smoothed, 1 - smoothed])
    model = LogisticRegression(C=np.inf, max_iter=1_000).fit(
        rows_twice, labels, sample_weight=weights
    )
    slope = float(model.coef_[0, 0]) / spread
    if slope <= 0:
        return flat
    return PlattCurve(slope, float(model.intercept_[0]) - slope * centre)


def scored(runs: LabelledRuns) -> tuple[Floats, Floats]:
    """Return scores and labels of the answers that have a score."""
    import numpy as np

    pairs = [
        (one, float(right))
        for one, right in zip(runs.scores, runs.correct, strict=True)
        if one is not None
    ]
    scores, correct = np.array(pairs, dtype=float).T
    return scores, correct
