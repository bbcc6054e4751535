"""Pick a router's operating point: the gain that a cloud call must promise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from math import isfinite
from typing import TYPE_CHECKING, Any

from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.learning.dataset import MIN_ROWS, Dataset
from langchain_hybridflow.learning.embeddings import EmbeddedTexts
from langchain_hybridflow.learning.predictor import TrainedPredictor

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Numbers = NDArray[np.float64]

__all__ = ["OperatingPoint", "operating_points", "tune"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatingPoint:
    """What a router does if it asks the cloud wherever the gain is above `min_gain`.

    Attributes:
        min_gain: The gain that a cloud call must promise, -1 to 1.
        cloud_share: Share of questions that went to the cloud, 0 to 1.
        accuracy: Mean score of the answers.
        usd_per_question: Mean cost in USD; `None` if the data do not say what calls cost.
        rows: Questions that this was found on.
    """

    min_gain: float
    cloud_share: float
    accuracy: float
    usd_per_question: float | None
    rows: int

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return asdict(self)


def tune(
    predictor: TrainedPredictor,
    data: Dataset,
    *,
    target_share: float | None = None,
    usd_per_question: float | None = None,
    min_quality: float | None = None,
    after_edge: bool = False,
    embedded: EmbeddedTexts | None = None,
) -> OperatingPoint:
    """Find the operating point that does best within one bound.

    Args:
        predictor: What foresees the gains.
        data: At least 50 questions that it was not trained on.
        target_share: At most this share of questions goes to the cloud, 0 to 1; as many as that
            allows do, also where little is gained.
        usd_per_question: An answer costs at most so many USD on average; data need `cloud_usd`.
        min_quality: Mean score of at least this, 0 to 1, for the least share of cloud calls.
        after_edge: Whether the point is for decisions made once the edge has answered, as a
            `PredictorVerifier` makes them: the edge is then paid for every question.
        embedded: The questions as vectors, of `embed_texts`, if the router decides by them.

    Raises:
        ConfigurationError: Not exactly one bound is given, there are too few rows, the data
            lack what is needed, or no operating point keeps to the bound.
    """
    bounds = (target_share, usd_per_question, min_quality)
    given = [bound for bound in bounds if bound is not None]
    if len(given) != 1 or not (isfinite(given[0]) and given[0] >= 0):
        raise ConfigurationError(
            "Give one of target_share, usd_per_question and min_quality, as a number of 0 or more."
        )
    if max(target_share or 0, min_quality or 0) > 1:
        raise ConfigurationError("A share and a quality are from 0 to 1: write 0.3 for 30 %.")
    if len(data) < MIN_ROWS:
        raise ConfigurationError(
            f"{len(data)} questions that the router was not trained on are too few to tune it: "
            f"at least {MIN_ROWS} are needed, some hundreds to be of use."
        )
    points = operating_points(predictor, data, after_edge=after_edge, embedded=embedded)
    if target_share is not None:
        share: float = target_share
        return [point for point in points if point.cloud_share <= share + 1e-12][-1]
    if usd_per_question is not None:
        return _within(points, usd_per_question)
    return _good_enough(points, given[0])


def operating_points(
    predictor: TrainedPredictor,
    data: Dataset,
    *,
    after_edge: bool = False,
    embedded: EmbeddedTexts | None = None,
) -> list[OperatingPoint]:
    """Return all operating points that differ on the data, from no cloud call up; see `tune`."""
    import numpy as np

    gains = _gains(predictor, data, after_edge=after_edge, embedded=embedded)
    order = np.argsort(-gains, kind="stable")
    ordered = gains[order]
    # After these many questions the next one has a lower gain: a threshold fits in between.
    cuts = np.concatenate([[0], np.flatnonzero(np.diff(ordered)) + 1, [len(gains)]])
    # In the middle, so that the last digit of a gain decides nothing.
    inner = (ordered[cuts[1:-1] - 1] + ordered[cuts[1:-1]]) / 2
    ends = max(-1.0, float(np.nextafter(ordered[-1], -2.0)))
    thresholds = np.concatenate([[ordered[0]], inner, [ends]])
    accuracy = _running_mean(data.edge, data.cloud, order)[cuts]
    usd = _usd(data, after_edge=after_edge)
    costs = None if usd is None else _running_mean(*usd, order)[cuts]
    return [
        OperatingPoint(
            min_gain=float(thresholds[number]),
            cloud_share=float(cut / len(gains)),
            accuracy=float(accuracy[number]),
            usd_per_question=None if costs is None else float(costs[number]),
            rows=len(gains),
        )
        for number, cut in enumerate(cuts)
    ]


def _gains(
    predictor: TrainedPredictor,
    data: Dataset,
    *,
    after_edge: bool,
    embedded: EmbeddedTexts | None,
) -> Numbers:
    if after_edge and data.answer_chars is None:
        raise ConfigurationError(
            "A point for decisions made once the edge has answered needs the length of its "
            "answers, and the data have no column edge_answer_chars that is filled in every row."
        )
    return predictor.foresee(
        data.questions,
        structure=data.structure,
        vectors=None if embedded is None else embedded.rows,
        answer_chars=data.answer_chars if after_edge else None,
        no_answer=data.no_answer if after_edge else None,
    ).gain


def _running_mean(edge: Numbers, cloud: Numbers, order: NDArray[np.int64]) -> Numbers:
    """Return the mean, shape (n + 1,), when the first 0, 1, ... n of the order go to the cloud."""
    import numpy as np

    gained = np.concatenate([[0.0], np.cumsum((cloud - edge)[order])])
    mean: Numbers = edge.mean() + gained / len(order)
    return mean


def _usd(data: Dataset, *, after_edge: bool) -> tuple[Numbers, Numbers] | None:
    """Return what each question costs if it stays or goes, in USD, if that is known of the cloud.

    After the edge's answer a question that goes costs both. What nobody knows of single calls is
    taken to be the mean of the others.
    """
    import numpy as np

    cloud = data.costs.get("cloud_usd")
    if cloud is None or not np.isfinite(cloud).any():
        return None
    edge = data.costs.get("edge_usd", np.zeros(len(data)))
    known = edge if np.isfinite(edge).any() else np.zeros(len(data))
    stays = np.where(np.isfinite(known), known, np.nanmean(known))
    goes = np.where(np.isfinite(cloud), cloud, np.nanmean(cloud))
    return stays, goes + stays if after_edge else goes


def _within(points: list[OperatingPoint], limit_usd: float) -> OperatingPoint:
    costs = [(point.usd_per_question, point) for point in points]
    if costs[0][0] is None:
        raise ConfigurationError(
            "Nobody knows what these questions cost: the data have no column cloud_usd. Tune to "
            "a share of cloud calls instead, or profile with prices."
        )
    fitting = [point for usd, point in costs if usd is not None and usd <= limit_usd]
    if not fitting:
        raise ConfigurationError(
            f"{limit_usd:.3g} USD a question is less than the edge alone costs "
            f"({costs[0][0]:.3g} USD a question)."
        )
    return _best(fitting, key=lambda point: point.accuracy)


def _good_enough(points: list[OperatingPoint], quality: float) -> OperatingPoint:
    good = next((point for point in points if point.accuracy >= quality - 1e-12), None)
    if good is None:
        best = _best(points, key=lambda point: point.accuracy)
        raise ConfigurationError(
            f"No operating point reaches a quality of {quality:g} on these {best.rows} "
            f"questions: the best is {best.accuracy:.3f}, with {best.cloud_share:.0%} in the "
            f"cloud."
        )
    return good


def _best(
    points: list[OperatingPoint], *, key: Callable[[OperatingPoint], float]
) -> OperatingPoint:
    """Return the best; of equal ones that with the fewest cloud calls."""
    return max(points, key=key)
