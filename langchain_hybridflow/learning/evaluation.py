"""Measure a predictor on questions that it was not trained on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.learning._stages import Foreseen
from langchain_hybridflow.learning.dataset import Dataset
from langchain_hybridflow.learning.embeddings import EmbeddedTexts
from langchain_hybridflow.learning.metrics import Metrics, apgr, gain_curve, measure
from langchain_hybridflow.learning.predictor import TrainedPredictor

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Numbers = NDArray[np.float64]

__all__ = ["Evaluation", "Interval", "evaluate", "group_bootstrap", "group_draws"]

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
        after_interval: The same of `after.apgr`.
        shares: Shares of cloud calls, 0 to 1, 101 of them.
        accuracy: Accuracy at each share, deciding before any call.
        gains: What the cloud is foreseen to add to each question, before any call.
        by_tag: Metrics of each kind of question with at least 50 rows, when requests do not
            declare it.
        with_tag: The same when every request declares its tag; `None` if the data have no tags
            that the predictor knows.
        by_text: The same without embeddings, as while their service is down; `None` if this is
            without any.
    """

    before: Metrics
    after: Metrics | None
    apgr_interval: Interval | None
    shares: tuple[float, ...]
    accuracy: tuple[float, ...]
    gains: tuple[float, ...] = field(repr=False)
    by_tag: Mapping[str, Metrics] = field(default_factory=dict)
    with_tag: Evaluation | None = None
    by_text: Evaluation | None = None
    after_interval: Interval | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        from dataclasses import asdict

        return asdict(self)


def evaluate(
    predictor: TrainedPredictor,
    data: Dataset,
    *,
    embedded: EmbeddedTexts | None = None,
    draws: int = 200,
    seed: int = 0,
) -> Evaluation:
    """Measure a predictor on a dataset.

    Requests are taken not to declare their tags, as a plain call does not; what they gain by that
    is in `with_tag`.

    Args:
        predictor: What to measure.
        data: Questions that it was not trained on; see `Dataset.overlap`.
        embedded: The questions as vectors, of `embed_texts`, if it was trained with embeddings.
        draws: Resamplings behind the interval; 0 leaves it out.
        seed: Seed of the resampling.

    Raises:
        ConfigurationError: There are no rows, or it was trained with other embeddings.
    """
    if not len(data):
        raise ConfigurationError("There are no rows to evaluate on.")
    vectors = None
    if embedded is not None:
        if predictor.embedding is not None:
            predictor.embedding.check(embedded.name, embedded.probe)
        vectors = embedded.rows
    test = partial(_evaluated, predictor, data, draws=draws, seed=seed)
    found = test(None, vectors)
    if set(predictor.tags).intersection(data.tags or ()):
        found = replace(found, with_tag=test(data.tags, vectors))
    return found if vectors is None else replace(found, by_text=test(None, None))


def _evaluated(
    predictor: TrainedPredictor,
    data: Dataset,
    tags: tuple[str, ...] | None,
    vectors: Floats | None,
    *,
    draws: int,
    seed: int,
) -> Evaluation:
    import numpy as np

    found = predictor.foresee(data.questions, structure=data.structure, tags=tags, vectors=vectors)
    late = None
    if predictor.decides_after_edge and data.answer_chars is not None:
        late = predictor.foresee(
            data.questions,
            structure=data.structure,
            tags=tags,
            vectors=vectors,
            answer_chars=data.answer_chars,
            no_answer=data.no_answer,
        )

    def interval(gains: Numbers) -> Interval | None:
        return group_bootstrap(gains, data, draws=draws, seed=seed) if draws else None

    shares, accuracy = gain_curve(found.gain, data.edge, data.cloud)
    grid = np.linspace(0, 1, _CURVE_POINTS)
    return Evaluation(
        before=_metrics(found, data),
        after=None if late is None else _metrics(late, data),
        apgr_interval=interval(found.gain),
        after_interval=None if late is None else interval(late.gain),
        shares=tuple(grid.tolist()),
        accuracy=tuple(np.interp(grid, shares, accuracy).tolist()),
        gains=tuple(found.gain.tolist()),
        by_tag=_by_tag(found, data),
    )


def group_bootstrap(gains: Numbers, data: Dataset, *, draws: int, seed: int) -> Interval | None:
    """Return a 90 % interval of APGR by drawing groups with replacement.

    Returns:
        `None` if the cloud is not better than the edge.
    """
    import numpy as np

    drawn = group_draws(data, draws=draws, seed=seed)
    found = (apgr(gains[rows], data.edge[rows], data.cloud[rows]) for rows in drawn)
    areas = [area for area in found if area is not None]
    if not areas:
        return None
    low, high = np.quantile(areas, [0.05, 0.95])
    return Interval(float(low), float(high))


def group_draws(data: Dataset, *, draws: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """Yield the rows of as many groups as there are, drawn with replacement, `draws` times."""
    import numpy as np

    rng = np.random.default_rng(seed)
    _, number = np.unique(np.array(data.groups), return_inverse=True)
    order = np.argsort(number, kind="stable")
    members = np.split(order, np.cumsum(np.bincount(number))[:-1])
    for _ in range(draws):
        drawn = rng.integers(len(members), size=len(members))
        yield np.concatenate([members[i] for i in drawn])


def _metrics(found: Foreseen, data: Dataset) -> Metrics:
    return measure(found.gain, data.edge, data.cloud, p_edge=found.p_edge, p_cloud=found.p_cloud)


def _by_tag(found: Foreseen, data: Dataset, *, least: int = 50) -> dict[str, Metrics]:
    import numpy as np

    if data.tags is None:
        return {}
    tags = np.array(data.tags)
    names, counts = np.unique(tags, return_counts=True)
    metrics = {}
    for name in names[(counts >= least) & (names != "")]:
        rows = np.flatnonzero(tags == name)
        part = Foreseen(
            p_edge=found.p_edge[rows], p_cloud=found.p_cloud[rows], gain=found.gain[rows]
        )
        metrics[str(name)] = _metrics(part, data.take(rows))
    return metrics
