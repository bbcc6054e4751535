"""Train a predictor: representation, candidates by nested validation, calibration, costs.

Everything is judged out-of-fold, by groups: the learnt features, the candidates, the weights of
the stack and the calibration. The candidate with the best APGR is chosen; a stack of several must
be better by a margin, because it takes longer to answer.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from langchain_hybridflow.errors import ConfigurationError, MissingExtraError
from langchain_hybridflow.learning._models import Blend, Fitter, PairModel, candidates
from langchain_hybridflow.learning._reading import read
from langchain_hybridflow.learning._representation import fit_representation, text_features
from langchain_hybridflow.learning.calibration import fit_calibration
from langchain_hybridflow.learning.costs import fit_costs
from langchain_hybridflow.learning.dataset import Dataset
from langchain_hybridflow.learning.features import STRUCTURE_NAMES
from langchain_hybridflow.learning.metrics import Metrics, apgr, measure
from langchain_hybridflow.learning.predictor import Stage, TrainedPredictor, answer_features
from langchain_hybridflow.routing import surface_difficulty

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Numbers = NDArray[np.float64]
    Folds = NDArray[np.int64]

__all__ = ["StageReport", "TrainingReport", "TrainingSettings", "train"]

STACK_MARGIN = 0.003
"""By how much APGR a stack must beat the best single model."""

_ALL = ("forest", "logistic", "boosting", "knn", "mlp")
_DIFFICULTY = STRUCTURE_NAMES.index("planned difficulty")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSettings:
    """How to train; the defaults are those of `hybridflow train`.

    Attributes:
        models: The candidates: "forest", "logistic", "boosting", "knn", "mlp".
        trees: Trees of the forest.
        folds: Folds of the validation inside the training data.
        seed: Seed of everything random.
        jobs: Threads.

    Raises:
        ConfigurationError: There is no such model, or a number is out of its range.
    """

    models: tuple[str, ...] = _ALL
    trees: int = 300
    folds: int = 4
    seed: int = 0
    jobs: int = 1

    def __post_init__(self) -> None:
        unknown = set(self.models) - set(_ALL)
        if unknown or not self.models:
            raise ConfigurationError(
                f"models must be some of {', '.join(_ALL)}; got {', '.join(self.models) or 'none'}."
            )
        if self.trees < 1 or self.folds < 2:
            raise ConfigurationError(
                f"trees must be 1 or more and folds 2 or more; got {self.trees} and {self.folds}."
            )


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
class TrainingReport:
    """What a training found.

    Attributes:
        rows: Rows trained on.
        groups: Groups among them.
        settings: How it was trained.
        before: Candidates for decisions before any call.
        after: Candidates for decisions after the edge has answered; `None` without its lengths.
        baselines: Accuracy of always edge, always cloud and a fair coin.
        notes: What a person should know.
        cpu_s: CPU seconds that it took.
    """

    rows: int
    groups: int
    settings: TrainingSettings
    before: StageReport
    after: StageReport | None
    baselines: Mapping[str, float]
    notes: tuple[str, ...]
    cpu_s: float

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return asdict(self)


def train(
    data: Dataset, *, settings: TrainingSettings | None = None
) -> tuple[TrainedPredictor, TrainingReport]:
    """Train a predictor on outcomes of both tiers.

    Args:
        data: At least 50 rows in 10 groups; 1,000 and more to be of use.
        settings: How to train.

    Raises:
        ConfigurationError: Nothing can be learnt from the data; the message says why.
        MissingExtraError: scikit-learn is not installed.
    """
    settings = settings or TrainingSettings()
    data.check_trainable()
    _require_sklearn()
    import numpy as np

    started = time.process_time()
    folds = _folds(data.groups, settings.folds)
    surface, terms = text_features([read(text) for text in data.questions])
    representation, learnt, hints = fit_representation(
        surface, terms, _hint_targets(data), tags=data.tags, folds=folds, seed=settings.seed
    )
    rows = np.hstack([surface, data.structure.astype(np.float32), learnt])
    before, before_report = _fit_stage(rows, data, folds, settings)
    after, after_report = None, None
    if data.answer_chars is not None:
        empty = np.zeros(len(data)) if data.no_answer is None else data.no_answer
        more = np.hstack([rows, answer_features(rows, hints, data.answer_chars, empty)])
        after, after_report = _fit_stage(more, data, folds, settings)
    predictor = TrainedPredictor(
        representation=representation,
        before=before,
        after=after,
        costs=fit_costs(rows, data.costs, folds),
    )
    report = TrainingReport(
        rows=len(data),
        groups=len(set(data.groups)),
        settings=settings,
        before=before_report,
        after=after_report,
        baselines={
            "always edge": float(data.edge.mean()),
            "always cloud": float(data.cloud.mean()),
            "random": float((data.edge.mean() + data.cloud.mean()) / 2),
        },
        notes=(*data.notes, *_notes(data)),
        cpu_s=time.process_time() - started,
    )
    return predictor, report


def _require_sklearn() -> None:
    try:
        import sklearn  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("Training a router", "learning") from error


def _folds(groups: tuple[str, ...], count: int) -> Folds:
    """Deal groups to folds of about equal size, the same on every run."""
    import numpy as np
    from sklearn.model_selection import GroupKFold

    folds = np.zeros(len(groups), dtype=np.int64)
    splitter = GroupKFold(min(count, len(set(groups))))
    for number, (_, held) in enumerate(splitter.split(folds, groups=np.array(groups))):
        folds[held] = number
    return folds


def _hint_targets(data: Dataset) -> Floats:
    import numpy as np

    columns = [data.edge, data.cloud]
    if data.answer_chars is not None:
        columns.append(np.log1p(data.answer_chars))
    return np.stack(columns, axis=1).astype(np.float32)


def _targets(data: Dataset) -> Floats:
    """Return edge, cloud, gain and, where other models were asked, how hard a question is."""
    import numpy as np

    columns = [data.edge, data.cloud, data.cloud - data.edge]
    if data.hardness is not None and np.isfinite(data.hardness).mean() > 0.5:
        columns.append(np.where(np.isnan(data.hardness), np.nanmean(data.hardness), data.hardness))
    return np.stack(columns, axis=1).astype(np.float32)


def _fit_stage(
    rows: Floats, data: Dataset, folds: Folds, settings: TrainingSettings
) -> tuple[Stage, StageReport]:
    """Choose a candidate out-of-fold, fit it on everything, and calibrate it."""
    import numpy as np

    targets = _targets(data)
    every = candidates(trees=settings.trees, seed=settings.seed, jobs=settings.jobs)
    fitters = {name: every[name] for name in settings.models}
    held_out = {name: _out_of_fold(fit, rows, targets, folds) for name, fit in fitters.items()}
    weights = _stack_weights(held_out, data)
    pairs = dict(held_out)
    if len(fitters) > 1:
        pairs["stack"] = np.sum([weights[name] * held_out[name] for name in weights], axis=0)
    scores = {name: _gap_recovered(pair, data) for name, pair in pairs.items()}
    chosen = max(fitters, key=scores.__getitem__)
    if scores.get("stack", 0.0) > scores[chosen] + STACK_MARGIN:
        chosen = "stack"
    parts = {n: w for n, w in weights.items() if w > 0} if chosen == "stack" else {chosen: 1.0}
    models: list[PairModel] = [fitters[name](rows, targets) for name in parts]
    model = models[0] if len(models) == 1 else Blend(tuple(models), tuple(parts.values()))
    calibration = fit_calibration(pairs[chosen], data.edge, data.cloud)
    logger.info("chose %s among %s", chosen, scores)
    metrics = {name: _measure(pair, data) for name, pair in pairs.items()}
    metrics["difficulty"] = measure(_difficulty(data), data.edge, data.cloud)
    report = StageReport(
        chosen=chosen, candidates=metrics, weights=parts if chosen == "stack" else {}
    )
    return Stage(model=model, calibration=calibration, means=rows.mean(axis=0)), report


def _out_of_fold(fit: Fitter, rows: Floats, targets: Floats, folds: Folds) -> Numbers:
    import numpy as np

    pairs = np.zeros((len(rows), 2))
    for fold in np.unique(folds):
        held = folds == fold
        model = fit(rows[~held], targets[~held])
        pairs[held] = model.predict(rows[held])
    return pairs


def _gap_recovered(pairs: Numbers, data: Dataset) -> float:
    """Return APGR, or the negative error of the gain if the cloud is not better on the whole."""
    gains = pairs[:, 1] - pairs[:, 0]
    area = apgr(gains, data.edge, data.cloud)
    return -float(((data.cloud - data.edge - gains) ** 2).mean()) if area is None else area


def _measure(pairs: Numbers, data: Dataset) -> Metrics:
    calibration = fit_calibration(pairs, data.edge, data.cloud)
    p_edge, p_cloud, gain = calibration.apply(pairs)
    return measure(gain, data.edge, data.cloud, p_edge=p_edge, p_cloud=p_cloud)


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


def _notes(data: Dataset) -> tuple[str, ...]:
    notes = []
    if len(data) < 1_000:
        notes.append(
            f"{len(data)} rows are few: expect the order of questions to be little better than "
            f"chance, and profile more."
        )
    if data.cloud.mean() <= data.edge.mean():
        notes.append("The cloud is not better than the edge on the whole of these data.")
    if data.tags is None:
        notes.append("There is no column tag, category, domain or task; topics are not learnt.")
    return tuple(notes)
