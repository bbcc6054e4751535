"""How good a router is: the curve of accuracy over cloud calls, and what is read off it.

APGR and CPT are RouteLLM's (arXiv 2406.18665, section 3.2). With PGR(x) the share of the gap
between the tiers that is recovered when the share x of all calls goes to the cloud:

    APGR   = area under PGR over x in [0, 1]; a router that draws lots has 0.5
    CPT(q) = the least share of cloud calls that recovers q of the gap

RouteLLM's own script reads the curve at ten quantiles of the scores (`points=10`); the default
here is the whole curve, which that approaches with more points. Equal scores cannot be told
apart by a threshold, so the curve runs straight through them, whatever order the rows have.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import sqrt
from typing import TYPE_CHECKING, Any, Final

from langchain_hybridflow.errors import ConfigurationError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = [
    "Metrics",
    "apgr",
    "aurc",
    "auroc",
    "brier",
    "cpt",
    "ece",
    "gain_curve",
    "measure",
    "risk_coverage",
    "share_interval",
]

_Z: Final = 1.96


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """What `measure` found.

    Attributes:
        rows: Number of questions.
        edge_accuracy: Mean score of the edge.
        cloud_accuracy: Mean score of the cloud.
        apgr: Area under the recovered gap; `None` if the cloud is not better than the edge.
        apgr_10: The same read at ten quantiles, as RouteLLM's script does.
        apgr_oracle: The same of a router that knows the outcomes.
        cpt_50: Share of cloud calls, 0 to 1, that recovers half of the gap.
        cpt_80: The same for four fifths of it.
        auroc: How well dq tells the questions that only the cloud answers from all others; 0.5
            is chance, `None` if there are none of one kind.
        brier_edge: Mean squared error of P(edge right).
        brier_cloud: Mean squared error of P(cloud right).
        ece: Calibration error of dq, see `ece`.
        ece_equal_mass: The same in ten bins of equally many questions.
        ece_noise: The `ece_equal_mass` that a perfectly calibrated dq has on so few questions.
        regret: Accuracy lost against the oracle, mean over all shares of cloud calls.
    """

    rows: int
    edge_accuracy: float
    cloud_accuracy: float
    apgr: float | None
    apgr_10: float | None
    apgr_oracle: float | None
    cpt_50: float | None
    cpt_80: float | None
    auroc: float | None
    brier_edge: float | None
    brier_cloud: float | None
    ece: float
    ece_equal_mass: float
    ece_noise: float
    regret: float

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return asdict(self)


def gain_curve(scores: Floats, edge: Floats, cloud: Floats) -> tuple[Floats, Floats]:
    """Return shares of cloud calls, 0 to 1, and the accuracy at each of them.

    Questions go to the cloud from the highest score down.

    Args:
        scores: Shape (n,), the higher the sooner the cloud.
        edge: Shape (n,), scores of the edge's answers, 0 to 1.
        cloud: Shape (n,), those of the cloud's.

    Raises:
        ConfigurationError: The lengths differ, there are no rows, or a number is not finite.

    Example:
        >>> import numpy as np
        >>> edge, cloud = np.array([1.0, 0.0]), np.array([1.0, 1.0])
        >>> [line.tolist() for line in gain_curve(np.array([0.1, 0.9]), edge, cloud)]
        [[0.0, 0.5, 1.0], [0.5, 1.0, 1.0]]
    """
    import numpy as np

    scores, edge, cloud = (np.asarray(values, dtype=float) for values in (scores, edge, cloud))
    if not scores.shape == edge.shape == cloud.shape or scores.ndim != 1 or not len(scores):
        raise ConfigurationError(
            f"scores, edge and cloud must be three lists of one length, with at least one row; "
            f"got shapes {scores.shape}, {edge.shape} and {cloud.shape}."
        )
    if not all(np.isfinite(values).all() for values in (scores, edge, cloud)):
        raise ConfigurationError("A score or an outcome is not a finite number.")
    order = np.argsort(-scores, kind="stable")
    _, tied, counts = np.unique(-scores[order], return_inverse=True, return_counts=True)
    gains = np.bincount(tied, (cloud - edge)[order]) / counts
    shares = np.arange(len(scores) + 1) / len(scores)
    return shares, edge.mean() + np.concatenate([[0.0], np.cumsum(gains[tied])]) / len(scores)


def apgr(scores: Floats, edge: Floats, cloud: Floats, *, points: int | None = None) -> float | None:
    """Return the area under the recovered gap, or `None` if there is no gap to recover.

    Args:
        scores: Shape (n,), the higher the sooner the cloud.
        edge: Shape (n,), scores of the edge's answers, 0 to 1.
        cloud: Shape (n,), those of the cloud's.
        points: Read the curve at so many quantiles of the scores; `None` takes all of it.

    Example:
        >>> import numpy as np
        >>> apgr(np.array([3.0, 2.0, 1.0, 0.0]), np.zeros(4), np.array([1.0, 0, 0, 0]))
        0.875
    """
    import numpy as np

    shares, accuracy = gain_curve(scores, edge, cloud)
    gap = accuracy[-1] - accuracy[0]
    if gap <= 0:
        return None
    if points is not None:
        shares, accuracy = _at_quantiles(np.asarray(scores, dtype=float), edge, cloud, points)
    width = shares[-1] - shares[0]
    area = np.trapezoid(accuracy - np.mean(np.asarray(edge, dtype=float)), shares)
    return float(area / (gap * width)) if width > 0 else None


def _at_quantiles(
    scores: Floats, edge: Floats, cloud: Floats, points: int
) -> tuple[Floats, Floats]:
    import numpy as np

    thresholds = np.quantile(scores, np.linspace(0, 1, points + 1))
    chosen = [scores >= threshold for threshold in thresholds[:-1]]
    chosen.append(scores > thresholds[-1])
    pairs = sorted((float(c.mean()), float(np.where(c, cloud, edge).mean())) for c in chosen)
    return np.array([share for share, _ in pairs]), np.array([value for _, value in pairs])


def cpt(scores: Floats, edge: Floats, cloud: Floats, *, recovered: float) -> float | None:
    """Return the least share of cloud calls that recovers so much of the gap between the tiers.

    Args:
        scores: Shape (n,), the higher the sooner the cloud.
        edge: Shape (n,), scores of the edge's answers, 0 to 1.
        cloud: Shape (n,), those of the cloud's.
        recovered: Part of the gap, 0 to 1: 0.5 for RouteLLM's CPT(50 %).

    Example:
        >>> import numpy as np
        >>> cpt(np.array([3.0, 2, 1, 0]), np.zeros(4), np.array([1.0, 1, 0, 0]), recovered=0.5)
        0.25
    """
    shares, accuracy = gain_curve(scores, edge, cloud)
    gap = accuracy[-1] - accuracy[0]
    if gap <= 0:
        return None
    # The last point always qualifies; the margin is for sums in another order.
    return float(shares[(accuracy >= accuracy[0] + recovered * gap - 1e-12).argmax()])


def auroc(scores: Floats, labels: Floats) -> float | None:
    """Return the chance that a positive row scores above a negative one, ties counting half.

    Example:
        >>> import numpy as np
        >>> auroc(np.array([0.1, 0.4, 0.35, 0.8]), np.array([0, 0, 1, 1]))
        0.75
    """
    import numpy as np

    positive = np.asarray(labels) > 0.5
    many, few = int(positive.sum()), int((~positive).sum())
    if not many or not few:
        return None
    _, tied, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[tied]
    return float((ranks[positive].sum() - many * (many + 1) / 2) / (many * few))


def brier(probabilities: Floats, outcomes: Floats) -> float:
    """Return the mean squared error of probabilities.

    Example:
        >>> import numpy as np
        >>> brier(np.array([0.5, 1.0]), np.array([1.0, 1.0]))
        0.125
    """
    import numpy as np

    return float(np.mean((np.asarray(probabilities) - np.asarray(outcomes)) ** 2))


def ece(
    gains: Floats,
    observed: Floats,
    *,
    bins: int = 10,
    equal_mass: bool = False,
    lowest: float = -1.0,
) -> float:
    """Return the expected calibration error of predicted gains, or of probabilities.

    Questions are put in bins by their predicted gain; the error is the distance between mean
    predicted and mean observed gain in a bin, averaged over the questions. The bins are equally
    wide over [-1, 1], the range of a gain, as Guo et al. (arXiv 1706.04599) do over [0, 1] for
    probabilities, or hold equally many questions.

    Note that even perfect predictions have an error on a sample: about
    0.8 sd(gain) sqrt(bins / n) with equal masses, 0.03 for n = 2,500.

    Args:
        gains: Shape (n,), predicted P(cloud right) - P(edge right).
        observed: Shape (n,), the cloud's score less the edge's.
        bins: How many bins.
        equal_mass: Bins of equally many questions.
        lowest: Where the range begins that equally wide bins divide: 0 for probabilities.

    Example:
        >>> import numpy as np
        >>> round(ece(np.array([0.5, 0.5]), np.array([1.0, 0.0])), 3)
        0.0
    """
    import numpy as np

    gains, observed = np.asarray(gains, dtype=float), np.asarray(observed, dtype=float)
    inner = np.linspace(0, 1, bins + 1)[1:-1]
    edges = np.quantile(gains, inner) if equal_mass else lowest + (1 - lowest) * inner
    number = np.digitize(gains, edges)
    return float(np.abs(np.bincount(number, gains - observed)).sum() / len(gains))


def risk_coverage(scores: Floats, correct: Floats) -> tuple[Floats, Floats]:
    """Return shares of answers that are kept, and how many of those are wrong.

    Answers are kept from the highest score down (El-Yaniv and Wiener, 2010). Equal scores cannot
    be told apart by a threshold, so they count with the errors that they have on average.

    Args:
        scores: Shape (n,), the higher the surer.
        correct: Shape (n,), 1 for a right answer, 0 for a wrong one.

    Returns:
        The coverages 1/n to 1, and the share of wrong answers among the kept at each.

    Raises:
        ConfigurationError: The lengths differ, there are no rows, or a number is not finite.

    Example:
        >>> import numpy as np
        >>> found = risk_coverage(np.array([0.9, 0.4]), np.array([1.0, 0.0]))
        >>> [line.tolist() for line in found]
        [[0.5, 1.0], [0.0, 0.5]]
    """
    import numpy as np

    wrong = 1 - np.asarray(correct, dtype=float)
    kept, errors = gain_curve(scores, np.zeros_like(wrong), wrong)
    return kept[1:], errors[1:] / kept[1:]


def aurc(scores: Floats, correct: Floats) -> float:
    """Return the area under the risk-coverage curve; the lower the better.

    It is the mean share of wrong answers among the kept, over all coverages (Geifman et al.,
    arXiv 1805.08206). Scores that say nothing have the share of wrong answers of all.

    Example:
        >>> import numpy as np
        >>> aurc(np.array([0.9, 0.4]), np.array([1.0, 0.0]))
        0.25
    """
    return float(risk_coverage(scores, correct)[1].mean())


def share_interval(successes: float, tries: int) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a share; of scores between 0 and 1 it is a wide one.

    Example:
        >>> low, high = share_interval(19, 20)
        >>> round(low, 2), round(high, 2)
        (0.76, 0.99)
    """
    share, square = successes / tries, _Z * _Z / tries
    middle = (share + square / 2) / (1 + square)
    spread = _Z * sqrt(share * (1 - share) / tries + square / (4 * tries)) / (1 + square)
    return max(0.0, min(share, middle - spread)), min(1.0, max(share, middle + spread))


def measure(
    gains: Floats,
    edge: Floats,
    cloud: Floats,
    *,
    p_edge: Floats | None = None,
    p_cloud: Floats | None = None,
) -> Metrics:
    """Measure predicted gains against what both tiers really scored.

    Args:
        gains: Shape (n,), dq as predicted: what the cloud would add.
        edge: Shape (n,), scores of the edge's answers, 0 to 1.
        cloud: Shape (n,), those of the cloud's.
        p_edge: Shape (n,), predicted P(edge right), for its Brier score.
        p_cloud: Shape (n,), predicted P(cloud right).
    """
    import numpy as np

    gains, edge, cloud = (np.asarray(values, dtype=float) for values in (gains, edge, cloud))
    shares, accuracy = gain_curve(gains, edge, cloud)
    _, best = gain_curve(cloud - edge, edge, cloud)
    spread = float(np.std(cloud - edge - gains))
    return Metrics(
        rows=len(gains),
        edge_accuracy=float(edge.mean()),
        cloud_accuracy=float(cloud.mean()),
        apgr=apgr(gains, edge, cloud),
        apgr_10=apgr(gains, edge, cloud, points=10),
        apgr_oracle=apgr(cloud - edge, edge, cloud),
        cpt_50=cpt(gains, edge, cloud, recovered=0.5),
        cpt_80=cpt(gains, edge, cloud, recovered=0.8),
        auroc=auroc(gains, (cloud > edge).astype(float)),
        brier_edge=None if p_edge is None else brier(p_edge, edge),
        brier_cloud=None if p_cloud is None else brier(p_cloud, cloud),
        ece=ece(gains, cloud - edge),
        ece_equal_mass=ece(gains, cloud - edge, equal_mass=True),
        # The mean of |N(0, s / sqrt(n / 10))|.
        ece_noise=spread * float(np.sqrt(2 / np.pi * 10 / len(gains))),
        regret=float(np.trapezoid(best - accuracy, shares)),
    )
