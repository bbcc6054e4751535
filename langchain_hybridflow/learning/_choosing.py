"""Choose a model among the candidates by what they foresee out-of-fold, and fit it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from langchain_hybridflow.learning._models import Blend, Fitter, PairModel, candidates
from langchain_hybridflow.learning._stages import Stage
from langchain_hybridflow.learning.calibration import fit_calibration
from langchain_hybridflow.learning.dataset import Dataset
from langchain_hybridflow.learning.features import STRUCTURE_NAMES
from langchain_hybridflow.learning.metrics import Metrics, apgr, measure
from langchain_hybridflow.routing import surface_difficulty

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Numbers = NDArray[np.float64]
    Folds = NDArray[np.int64]

__all__ = ["STACK_MARGIN", "VALIDATION_TREES", "Chooser", "StageReport"]

STACK_MARGIN = 0.003
"""By how much APGR a stack must beat the best single model."""

VALIDATION_TREES = 100
"""Trees of the forests that are only there to be judged: enough to choose and to calibrate by."""

_DIFFICULTY = STRUCTURE_NAMES.index("planned difficulty")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class StageReport:
    """How the candidates did out-of-fold, for one moment of decision.

    Attributes:
        chosen: Name of the candidate that was taken.
        candidates: Metrics by name, also of the stack and of the baseline "difficulty".
        weights: Weights of the stack's parts, if it was taken.
    """

    chosen: str
    candidates: Mapping[str, Metrics]
    weights: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chooser:
    """The candidates, and the outcomes that they are judged by.

    Attributes:
        data: The outcomes, n rows.
        folds: Shape (n,), the fold of each row; a group lies in one fold.
        models: Names of the candidates.
        trees: Trees of a forest that is to decide.
        seed: Seed of everything random.
        jobs: Threads.
    """

    data: Dataset
    folds: Folds
    models: tuple[str, ...]
    trees: int
    seed: int
    jobs: int

    def choose(self, rows: Floats) -> tuple[Stage, StageReport]:
        """Take the candidate that orders questions best out-of-fold, fitted to everything.

        Args:
            rows: Shape (n, features).
        """
        import numpy as np

        held_out = {name: self._out_of_fold(name, rows) for name in self.models}
        pairs = dict(held_out)
        weights: dict[str, float] = {}
        if len(held_out) > 1:
            weights = _stack_weights(held_out, self.data)
            pairs["stack"] = np.sum([weights[name] * held_out[name] for name in weights], axis=0)
        scores = {name: _gap_recovered(pair, self.data) for name, pair in pairs.items()}
        chosen = max(self.models, key=scores.__getitem__)
        if scores.get("stack", -np.inf) > scores[chosen] + STACK_MARGIN:
            chosen = "stack"
        logger.info("chose %s among %s", chosen, scores)
        parts = {n: w for n, w in weights.items() if w > 0} if chosen == "stack" else {chosen: 1.0}
        metrics = {name: self._measured(pair) for name, pair in pairs.items()}
        metrics["difficulty"] = measure(_difficulty(self.data), self.data.edge, self.data.cloud)
        report = StageReport(
            chosen=chosen, candidates=metrics, weights=parts if chosen == "stack" else {}
        )
        return self._stage(rows, parts, pairs[chosen]), report

    def refit(self, rows: Floats, like: StageReport) -> tuple[Stage, Metrics]:
        """Fit what was chosen before to other features; with how it did out-of-fold.

        Args:
            rows: Shape (n, features).
            like: The choice.
        """
        import numpy as np

        parts = dict(like.weights) or {like.chosen: 1.0}
        pairs = np.sum([w * self._out_of_fold(n, rows) for n, w in parts.items()], axis=0)
        return self._stage(rows, parts, pairs), self._measured(pairs)

    def _fitters(self, trees: int) -> dict[str, Fitter]:
        return candidates(trees=trees, seed=self.seed, jobs=self.jobs)

    def _stage(self, rows: Floats, parts: Mapping[str, float], pairs: Numbers) -> Stage:
        fitters, targets = self._fitters(self.trees), _targets(self.data)
        models: list[PairModel] = [fitters[name](rows, targets) for name in parts]
        return Stage(
            model=models[0] if len(models) == 1 else Blend(tuple(models), tuple(parts.values())),
            calibration=fit_calibration(pairs, self.data.edge, self.data.cloud),
            means=rows.mean(axis=0),
        )

    def _out_of_fold(self, name: str, rows: Floats) -> Numbers:
        import numpy as np

        fit = self._fitters(min(self.trees, VALIDATION_TREES))[name]
        targets = _targets(self.data)
        pairs = np.zeros((len(rows), 2))
        for fold in np.unique(self.folds):
            held = self.folds == fold
            pairs[held] = fit(rows[~held], targets[~held]).predict(rows[held])
        return pairs

    def _measured(self, pairs: Numbers) -> Metrics:
        calibration = fit_calibration(pairs, self.data.edge, self.data.cloud)
        p_edge, p_cloud, gain = calibration.apply(pairs)
        return measure(gain, self.data.edge, self.data.cloud, p_edge=p_edge, p_cloud=p_cloud)


def _targets(data: Dataset) -> Floats:
    """Return edge, cloud, gain and, where other models were asked, how hard a question is."""
    import numpy as np

    columns = [data.edge, data.cloud, data.cloud - data.edge]
    if data.hardness is not None and np.isfinite(data.hardness).mean() > 0.5:
        columns.append(np.where(np.isnan(data.hardness), np.nanmean(data.hardness), data.hardness))
    return np.stack(columns, axis=1).astype(np.float32)


def _gap_recovered(pairs: Numbers, data: Dataset) -> float:
    """Return APGR, or the negative error of the gain if the cloud is not better on the whole."""
    gains = pairs[:, 1] - pairs[:, 0]
    area = apgr(gains, data.edge, data.cloud)
    return -float(((data.cloud - data.edge - gains) ** 2).mean()) if area is None else area


def _stack_weights(held_out: Mapping[str, Numbers], data: Dataset) -> dict[str, float]:
    """Weigh the candidates by non-negative least squares on the observed gain; they add up to 1."""
    import numpy as np
    from scipy.optimize import nnls

    gains = np.stack([pairs[:, 1] - pairs[:, 0] for pairs in held_out.values()], axis=1)
    observed = data.cloud - data.edge
    weights, _ = nnls(gains - gains.mean(axis=0), observed - observed.mean())
    total = float(weights.sum())
    if total <= 0:
        return dict.fromkeys(held_out, 1 / len(held_out))
    return dict(zip(held_out, (weights / total).tolist(), strict=True))


def _difficulty(data: Dataset) -> Numbers:
    """Score by the planner's difficulty where known, else by the surface, scaled to 0 to 1."""
    import numpy as np

    planned = data.structure[:, _DIFFICULTY]
    levels = [
        level if level > 0 else surface_difficulty(text).level
        for level, text in zip(planned, data.questions, strict=True)
    ]
    return (np.array(levels, dtype=float) - 1) / 8
