"""Measure a predictor on questions that it was not trained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.learning.dataset import Dataset
from langchain_hybridflow.learning.metrics import Metrics, apgr, gain_curve, measure
from langchain_hybridflow.learning.predictor import Foreseen, TrainedPredictor

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Numbers = NDArray[np.float64]

__all__ = ["Evaluation", "Interval", "evaluate", "group_bootstrap"]

_CURVE_POINTS = 101


@dataclass(frozen=True, slots=True)
class Interval:
    """A confidence interval.

    Attributes:
        low: Its lower end.
        high: Its upper end.
    """

    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """How well a predictor routes a dataset.

    Attributes:
        before: Metrics of decisions made before any call.
        after: Metrics of decisions made once the edge has answered; `None` if the predictor or
            the data know nothing of its answers.
        apgr_interval: 90 % interval of `before.apgr`, from resampled groups.
        shares: Shares of cloud calls, 0 to 1, 101 of them.
        accuracy: Accuracy at each share, deciding before any call.
        by_tag: Metrics of each kind of question with at least 50 rows.
    """

    before: Metrics
    after: Metrics | None
    apgr_interval: Interval | None
    shares: tuple[float, ...]
    accuracy: tuple[float, ...]
    by_tag: Mapping[str, Metrics] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        from dataclasses import asdict

        return asdict(self)


def evaluate(
    predictor: TrainedPredictor, data: Dataset, *, draws: int = 200, seed: int = 0
) -> Evaluation:
    """Measure a predictor on a dataset.

    Args:
        predictor: What to measure.
        data: Questions that it was not trained on; see `Dataset.overlap`.
        draws: Resamplings behind the interval; 0 leaves it out.
        seed: Seed of the resampling.

    Raises:
        ConfigurationError: There are no rows.
    """
    import numpy as np

    if not len(data):
        raise ConfigurationError("There are no rows to evaluate on.")
    found = predictor.foresee(data.questions, structure=data.structure)
    shares, accuracy = gain_curve(found.gain, data.edge, data.cloud)
    grid = np.linspace(0, 1, _CURVE_POINTS)
    return Evaluation(
        before=_metrics(found, data),
        after=_after(predictor, data),
        apgr_interval=group_bootstrap(found.gain, data, draws=draws, seed=seed) if draws else None,
        shares=tuple(grid.tolist()),
        accuracy=tuple(np.interp(grid, shares, accuracy).tolist()),
        by_tag=_by_tag(found, data),
    )


def group_bootstrap(gains: Numbers, data: Dataset, *, draws: int, seed: int) -> Interval | None:
    """Return a 90 % interval of APGR by drawing groups with replacement.

    Returns:
        `None` if the cloud is not better than the edge.
    """
    import numpy as np

    rng = np.random.default_rng(seed)
    _, number = np.unique(np.array(data.groups), return_inverse=True)
    order = np.argsort(number, kind="stable")
    members = np.split(order, np.cumsum(np.bincount(number))[:-1])
    areas = []
    for _ in range(draws):
        drawn = rng.integers(len(members), size=len(members))
        rows = np.concatenate([members[i] for i in drawn])
        area = apgr(gains[rows], data.edge[rows], data.cloud[rows])
        if area is not None:
            areas.append(area)
    if not areas:
        return None
    low, high = np.quantile(areas, [0.05, 0.95])
    return Interval(float(low), float(high))


def _after(predictor: TrainedPredictor, data: Dataset) -> Metrics | None:
    if predictor.after is None or data.answer_chars is None:
        return None
    found = predictor.foresee(
        data.questions,
        structure=data.structure,
        answer_chars=data.answer_chars,
        no_answer=data.no_answer,
    )
    return _metrics(found, data)


def _metrics(found: Foreseen, data: Dataset) -> Metrics:
    return measure(found.gain, data.edge, data.cloud, p_edge=found.p_edge, p_cloud=found.p_cloud)


def _by_tag(found: Foreseen, data: Dataset, *, least: int = 50) -> dict[str, Metrics]:
    import numpy as np

    if data.tags is None:
        return {}
    tags = np.array(data.tags)
    names, counts = np.unique(tags, return_counts=True)
    metrics = {}
    for name in names[counts >= least]:
        rows = np.flatnonzero(tags == name)
        part = Foreseen(
            p_edge=found.p_edge[rows], p_cloud=found.p_cloud[rows], gain=found.gain[rows]
        )
        metrics[str(name)] = _metrics(part, data.take(rows))
    return metrics
