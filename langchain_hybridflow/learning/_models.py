"""The kinds of model that may predict both tiers' scores from dense features."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from langchain_hybridflow.learning._forest import FlatForest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Pairs = NDArray[np.float64]

__all__ = ["Blend", "Constant", "Fitter", "PairModel", "SklearnPair", "candidates"]


class PairModel(Protocol):
    """Predicts the scores of both tiers."""

    def predict(self, rows: Floats) -> Pairs:
        """Return scores, shape (n, 2): edge, cloud."""
        ...


@dataclass(frozen=True, slots=True)
class SklearnPair:
    """Estimators of scikit-learn on standardised features: two classifiers or one regressor."""

    scaler: Any
    estimators: tuple[Any, ...]

    def predict(self, rows: Floats) -> Pairs:
        """Return scores, shape (n, 2): edge, cloud."""
        import numpy as np

        scaled = self.scaler.transform(rows)
        if len(self.estimators) == 1:
            return np.asarray(self.estimators[0].predict(scaled), dtype=float)
        return np.stack([e.predict_proba(scaled)[:, 1] for e in self.estimators], axis=1)


@dataclass(frozen=True, slots=True)
class Blend:
    """A weighted mean of models."""

    models: tuple[PairModel, ...]
    weights: tuple[float, ...]

    def predict(self, rows: Floats) -> Pairs:
        """Return scores, shape (n, 2): edge, cloud."""
        parts = (w * m.predict(rows) for w, m in zip(self.weights, self.models, strict=True))
        first = next(parts)
        for part in parts:
            first = first + part
        return first


@dataclass(frozen=True, slots=True)
class Constant:
    """A classifier that has seen one kind of label."""

    probability: float

    def predict_proba(self, rows: Floats) -> Pairs:
        import numpy as np

        return np.tile([1 - self.probability, self.probability], (len(rows), 1))


Fitter = Callable[["Floats", "Floats"], PairModel]
"""Rows (n, features) and targets (n, 3 or 4: edge, cloud, gain, hardness) -> model."""


def candidates(*, trees: int, seed: int, jobs: int) -> dict[str, Fitter]:
    """Return all single models by name.

    Args:
        trees: Trees of the forest.
        seed: Seed of everything random.
        jobs: Threads of the forest.
    """
    return {
        "forest": partial(_forest, trees=trees, seed=seed, jobs=jobs),
        "logistic": _logistic,
        "boosting": partial(_boosting, seed=seed),
        "knn": _knn,
        "mlp": partial(_mlp, seed=seed),
    }


def _forest(rows: Floats, targets: Floats, *, trees: int, seed: int, jobs: int) -> PairModel:
    from sklearn.ensemble import ExtraTreesRegressor

    # Gain and hardness are targets besides the scores: they steer the splits.
    forest = ExtraTreesRegressor(
        trees,
        min_samples_leaf=min(15, max(3, len(rows) // 100)),
        max_features=0.15,
        random_state=seed,
        n_jobs=jobs,
    )
    return FlatForest.compile(forest.fit(rows, targets))


def _logistic(rows: Floats, targets: Floats) -> PairModel:
    from sklearn.linear_model import LogisticRegression

    return _classifiers(rows, targets, lambda: LogisticRegression(C=0.003, max_iter=300))


def _boosting(rows: Floats, targets: Floats, *, seed: int) -> PairModel:
    from sklearn.ensemble import HistGradientBoostingClassifier

    return _classifiers(
        rows,
        targets,
        lambda: HistGradientBoostingClassifier(
            max_iter=80,
            learning_rate=0.06,
            max_leaf_nodes=8,
            min_samples_leaf=40,
            l2_regularization=10,
            max_features=0.3,
            early_stopping=False,
            random_state=seed,
        ),
    )


def _knn(rows: Floats, targets: Floats) -> PairModel:
    from sklearn.neighbors import KNeighborsRegressor

    neighbours = max(5, min(100, len(rows) // 20))
    return _regressor(rows, targets, KNeighborsRegressor(neighbours, algorithm="brute"))


def _mlp(rows: Floats, targets: Floats, *, seed: int) -> PairModel:
    from sklearn.neural_network import MLPRegressor

    network = MLPRegressor(
        hidden_layer_sizes=(32,),
        alpha=3.0,
        learning_rate_init=2e-3,
        max_iter=12,
        tol=0.0,
        random_state=seed,
    )
    return _regressor(rows, targets, network)


def _classifiers(rows: Floats, targets: Floats, make: Callable[[], Any]) -> PairModel:
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(rows)
    scaled = scaler.transform(rows)
    fitted: list[Any] = []
    for labels in (targets[:, 0] >= 0.5, targets[:, 1] >= 0.5):
        # A fold may hold one kind of label only, although the data hold both.
        one_kind = labels.all() or not labels.any()
        fitted.append(Constant(float(labels[0])) if one_kind else make().fit(scaled, labels))
    return SklearnPair(scaler, tuple(fitted))


def _regressor(rows: Floats, targets: Floats, estimator: Any) -> PairModel:
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(rows)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # stopped early on purpose
        estimator.fit(scaler.transform(rows), targets[:, :2])
    return SklearnPair(scaler, (estimator,))
