"""What there is to draw of a router's evaluation: curves with a band, calibration, gains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from langchain_hybridflow.learning.metrics import gain_curve

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Numbers = NDArray[np.float64]

__all__ = ["Bin", "Portrait", "portray"]

_POINTS = 101
_BINS = 10
_GAIN_BINS = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Bin:
    """Questions of about the same predicted gain.

    Attributes:
        rows: How many.
        predicted: Mean predicted gain.
        observed: Mean observed gain.
        error: Standard error of the observed mean; 0 for a single question.
    """

    rows: int
    predicted: float
    observed: float
    error: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Portrait:
    """What there is to draw.

    Attributes:
        cloud_share: Shares of cloud calls, 0 to 1, 101 of them.
        accuracy: Accuracy at each share.
        low: Lower end of its 90 % band; empty without resampling.
        high: Upper end.
        oracle: Accuracy of a router that knows the outcomes.
        reliability: Ten bins of equally many questions, by predicted gain.
        gain_edges: Ends of the bins of the histogram of predicted gains, one more than counts.
        gain_counts: Questions in each.
    """

    cloud_share: tuple[float, ...]
    accuracy: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    oracle: tuple[float, ...]
    reliability: tuple[Bin, ...]
    gain_edges: tuple[float, ...]
    gain_counts: tuple[int, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON types, under the keys of `hybridflow evaluate --json`."""
        plain = asdict(self)
        names = ("cloud_share", "accuracy", "low", "high", "oracle")
        return {
            "curve": {name: list(plain[name]) for name in names},
            "reliability": list(plain["reliability"]),
            "gains": {"edges": list(self.gain_edges), "counts": list(self.gain_counts)},
        }


def portray(
    gains: Numbers,
    edge: Numbers,
    cloud: Numbers,
    *,
    groups: Sequence[object] | None = None,
    draws: int = 200,
    seed: int = 0,
) -> Portrait:
    """Prepare the pictures of an evaluation.

    Args:
        gains: Shape (n,), predicted P(cloud right) - P(edge right).
        edge: Shape (n,), scores of the edge's answers, 0 to 1.
        cloud: Shape (n,), those of the cloud's.
        groups: Questions of one group are drawn together; by default each is one.
        draws: Resamplings behind the band; 0 leaves it out.
        seed: Seed of the resampling.

    Raises:
        ConfigurationError: The lengths differ, there are no rows, or a number is not finite.

    Example:
        >>> import numpy as np
        >>> one = portray(np.array([0.1, 0.9]), np.array([1.0, 0.0]), np.ones(2), draws=0)
        >>> one.accuracy[0], one.accuracy[-1], sum(one.gain_counts)
        (0.5, 1.0, 2)
    """
    import numpy as np

    gains, edge, cloud = (np.asarray(values, dtype=float) for values in (gains, edge, cloud))
    grid = np.linspace(0, 1, _POINTS)
    accuracy = np.interp(grid, *gain_curve(gains, edge, cloud))
    oracle = np.interp(grid, *gain_curve(cloud - edge, edge, cloud))
    low = high = np.empty(0)
    if draws:
        names = np.arange(len(gains)) if groups is None else np.array(groups)
        curves = _resampled(gains, edge, cloud, names, grid, draws=draws, seed=seed)
        low, high = np.quantile(curves, [0.05, 0.95], axis=0)
    span = (min(float(gains.min()), -0.02), max(float(gains.max()), 0.02))
    counts, edges = np.histogram(gains, bins=_GAIN_BINS, range=span)
    return Portrait(
        cloud_share=tuple(grid.tolist()),
        accuracy=tuple(accuracy.tolist()),
        low=tuple(low.tolist()),
        high=tuple(high.tolist()),
        oracle=tuple(oracle.tolist()),
        reliability=_reliability(gains, cloud - edge),
        gain_edges=tuple(edges.tolist()),
        gain_counts=tuple(counts.tolist()),
    )


def _resampled(
    gains: Numbers,
    edge: Numbers,
    cloud: Numbers,
    groups: NDArray[Any],
    grid: Numbers,
    *,
    draws: int,
    seed: int,
) -> Numbers:
    """Curves of shape (draws, points), of groups drawn with replacement."""
    import numpy as np

    rng = np.random.default_rng(seed)
    _, number = np.unique(groups, return_inverse=True)
    order = np.argsort(number, kind="stable")
    members = np.split(order, np.cumsum(np.bincount(number))[:-1])
    curves = np.empty((draws, len(grid)))
    for place in range(draws):
        drawn = rng.integers(len(members), size=len(members))
        rows = np.concatenate([members[one] for one in drawn])
        curves[place] = np.interp(grid, *gain_curve(gains[rows], edge[rows], cloud[rows]))
    return curves


def _reliability(gains: Numbers, observed: Numbers) -> tuple[Bin, ...]:
    import numpy as np

    order = np.argsort(gains, kind="stable")
    found = []
    for rows in np.array_split(order, _BINS):
        if not len(rows):
            continue
        spread = float(np.std(observed[rows], ddof=1)) if len(rows) > 1 else 0.0
        found.append(
            Bin(
                rows=len(rows),
                predicted=float(gains[rows].mean()),
                observed=float(observed[rows].mean()),
                error=spread / float(np.sqrt(len(rows))),
            )
        )
    return tuple(found)
