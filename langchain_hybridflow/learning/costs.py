"""What a call will need on a tier: tokens, seconds, USD, as a median and a high quantile.

Such amounts are skewed, so a ridge regression predicts their logarithm, and the quantiles come
from the errors it made out-of-fold.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Numbers = NDArray[np.float64]

__all__ = ["CostModel", "fit_costs"]

_MIN_ROWS = 50
_ALPHA = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CostModel:
    """Predicts log(1 + amount / unit) linearly.

    Attributes:
        mean: Shape (features,).
        scale: Shape (features,).
        weights: Shape (features,).
        intercept: The mean of the logarithms.
        unit: What the amount is measured in before the logarithm, its median when trained.
        errors: The 0.5 and 0.9 quantile of out-of-fold errors, on the scale of the logarithm.
        limits: The least and the largest logarithm seen; no prediction leaves them.
    """

    mean: Floats
    scale: Floats
    weights: Floats
    intercept: float
    unit: float
    errors: tuple[float, float]
    limits: tuple[float, float]

    def predict(self, rows: Floats) -> Numbers:
        """Return amounts, shape (n, 2): the median, and what nine calls of ten do not pass."""
        import numpy as np

        scaled = np.clip((rows - self.mean) / self.scale, -5, 5)
        centres = scaled @ self.weights + self.intercept
        logs = np.clip(centres[:, None] + np.array(self.errors), *self.limits)
        amounts: Numbers = np.expm1(logs) * self.unit
        return amounts


def fit_costs(
    rows: Floats, costs: Mapping[str, Numbers], folds: NDArray[np.int64]
) -> dict[str, CostModel]:
    """Fit a model for each cost that is known for at least 50 rows.

    Args:
        rows: Shape (n, features).
        costs: Amounts by name, each of shape (n,), NaN where unknown.
        folds: Shape (n,), the fold of each row.
    """
    import numpy as np

    models = {}
    for name, amounts in costs.items():
        known = np.isfinite(amounts) & (amounts >= 0)
        if known.sum() >= _MIN_ROWS and amounts[known].max() > 0:
            models[name] = _fit(rows[known], amounts[known], folds[known])
    return models


def _fit(rows: Floats, amounts: Numbers, folds: NDArray[np.int64]) -> CostModel:
    import numpy as np

    positive = amounts[amounts > 0]
    unit = float(np.median(positive))
    logs = np.log1p(amounts / unit)
    mean, scale = rows.mean(axis=0), rows.std(axis=0) + np.float32(1e-6)
    x = np.clip((rows - mean) / scale, -5, 5).astype(float)
    errors = np.zeros(len(x))
    for fold in np.unique(folds):
        held = folds == fold
        if held.all():
            continue
        weights, intercept = _solve(x[~held], logs[~held])
        errors[held] = logs[held] - x[held] @ weights - intercept
    weights, intercept = _solve(x, logs)
    low, high = np.quantile(errors, [0.5, 0.9])
    return CostModel(
        mean=mean,
        scale=scale,
        weights=weights.astype(np.float32),
        intercept=intercept,
        unit=unit,
        errors=(float(low), float(high)),
        limits=(float(logs.min()), float(logs.max())),
    )


def _solve(x: Numbers, y: Numbers) -> tuple[Numbers, float]:
    import numpy as np

    mean = float(y.mean())
    gram = x.T @ x + _ALPHA * np.eye(x.shape[1])
    weights = np.linalg.solve(gram, x.T @ (y - mean)).astype(np.float64)
    return weights, mean
