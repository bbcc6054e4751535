"""How well a signal, once calibrated, says whether an answer is right.

Figures of the probabilities (ECE, Brier, the bins) are cross-fitted: each answer is foreseen by a
curve that was fitted to the answers of other groups. Those of the order (AUROC, AURC) need no
curve, and those of the operating point are of the answers that it was chosen on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.learning._confidence_curves import fit_curve, scored
from langchain_hybridflow.learning.confidence import ConfidenceCalibrator, Method
from langchain_hybridflow.learning.confidence_runs import LabelledRuns
from langchain_hybridflow.learning.metrics import (
    aurc,
    auroc,
    brier,
    ece,
    risk_coverage,
    share_interval,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = ["ConfidenceBin", "ConfidenceReport", "measure_confidence"]

_BINS: Final = 10
_POINTS: Final = 101
_FEW: Final = 200
_ENOUGH: Final = 300
_CHANCE: Final = 0.55
_SHORT: Final = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfidenceBin:
    """Answers that were foreseen to be right about equally often.

    Attributes:
        rows: How many.
        predicted: Mean cross-fitted P(right).
        observed: Share that was right.
        low: Lower end of its 95 % interval (Wilson).
        high: Upper end.
    """

    rows: int
    predicted: float
    observed: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfidenceReport:
    """How well a signal, once calibrated, says whether an answer is right.

    Attributes:
        method: How scores became probabilities.
        rows: Answers, those without a score included.
        missing: Answers without a score; all figures below are of the others.
        accuracy: Share of right answers.
        ece: Cross-fitted calibration error in ten equally wide bins, 0 to 1.
        ece_noise: What a perfect calibrator's would be on so few answers.
        brier: Cross-fitted mean squared error of P(right).
        auroc: Chance that a right answer scores above a wrong one; `None` if all are of one kind.
        aurc: Mean risk over all coverages, see `metrics.aurc`.
        aurc_oracle: The same of a signal that knows which answers are right.
        reliability: Bins by cross-fitted P(right), without empty ones.
        coverage: Shares of answers that are kept, up to 101 of them, rising.
        risk: Share of wrong answers among the kept at each.
        oracle: The same of a signal that knows.
        min_score: Where the operating point is, see `ConfidencePoint`.
        min_probability: P(right) there; `None` if all answers are kept.
        cloud_share: Share of all answers that goes to the cloud by it.
        cloud_share_low: Lower end of its 95 % interval on new questions like these.
        cloud_share_high: Upper end.
        kept_risk: Share of wrong answers among those that are kept; `None` if none is.
        kept_risk_low: Lower end of its 95 % interval.
        kept_risk_high: Upper end.
        notes: What a person should know.
    """

    method: Method
    rows: int
    missing: int
    accuracy: float
    ece: float
    ece_noise: float
    brier: float
    auroc: float | None
    aurc: float
    aurc_oracle: float
    reliability: tuple[ConfidenceBin, ...]
    coverage: tuple[float, ...]
    risk: tuple[float, ...]
    oracle: tuple[float, ...]
    min_score: float | None
    min_probability: float | None
    cloud_share: float
    cloud_share_low: float
    cloud_share_high: float
    kept_risk: float | None
    kept_risk_low: float | None
    kept_risk_high: float | None
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON types, under the keys of `hybridflow calibrate --json`."""
        plain = {name: list(one) if isinstance(one, tuple) else one for name, one in self._fields()}
        return {"kind": "confidence", **plain}

    def figures(self) -> dict[str, Any]:
        """Return the figures alone, for a calibrator's facts."""
        return {
            name: one
            for name, one in self._fields()
            if one is None or isinstance(one, int | float | str)
        }

    def _fields(self) -> Iterator[tuple[str, Any]]:
        yield from asdict(self).items()


def measure_confidence(
    runs: LabelledRuns,
    calibrator: ConfidenceCalibrator,
    target: Mapping[str, float],
    *,
    folds: int,
    seed: int,
) -> ConfidenceReport:
    """Measure a calibrator on the runs that it was fitted to, with the help of others like it.

    Args:
        runs: The runs.
        calibrator: What was fitted to them.
        target: What the point was chosen for: `cloud_share` or `max_risk`.
        folds: Parts for the cross-fitted figures.
        seed: Of the parts.

    Raises:
        ConfigurationError: All answers are of one group.
        MissingExtraError: The extra `learning` is not installed.
    """
    import numpy as np

    scores, correct = scored(runs)
    foreseen = _cross_fitted(runs, method=calibrator.method, folds=folds, seed=seed)
    bins = _reliability(foreseen, correct)
    coverage, risk = risk_coverage(scores, correct)
    _, oracle = risk_coverage(correct, correct)
    shown = np.unique(
        np.linspace(0, len(scores) - 1, min(_POINTS, len(scores))).round().astype(int)
    )
    point, rows = calibrator.point, len(runs)
    low, high = share_interval(point.cloud_share * rows, rows)
    kept_risk, kept_low, kept_high = _kept_risk(runs, calibrator)
    order = auroc(scores, correct)
    return ConfidenceReport(
        method=calibrator.method,
        rows=rows,
        missing=runs.missing,
        accuracy=float(correct.mean()),
        ece=ece(foreseen, correct, bins=_BINS, lowest=0.0),
        ece_noise=_noise(bins),
        brier=brier(foreseen, correct),
        auroc=order,
        aurc=aurc(scores, correct),
        aurc_oracle=aurc(correct, correct),
        reliability=bins,
        coverage=tuple(coverage[shown].tolist()),
        risk=tuple(risk[shown].tolist()),
        oracle=tuple(oracle[shown].tolist()),
        min_score=point.min_score,
        min_probability=None
        if point.min_score is None
        else calibrator.probability(point.min_score),
        cloud_share=point.cloud_share,
        cloud_share_low=low,
        cloud_share_high=high,
        kept_risk=kept_risk,
        kept_risk_low=kept_low,
        kept_risk_high=kept_high,
        notes=tuple(_notes(runs, calibrator, target, order)),
    )


def _reliability(foreseen: Floats, correct: Floats) -> tuple[ConfidenceBin, ...]:
    import numpy as np

    number = np.minimum((foreseen * _BINS).astype(int), _BINS - 1)
    found = []
    for one in np.unique(number):
        rows = number == one
        right, count = float(correct[rows].sum()), int(rows.sum())
        low, high = share_interval(right, count)
        found.append(
            ConfidenceBin(
                rows=count,
                predicted=float(foreseen[rows].mean()),
                observed=right / count,
                low=low,
                high=high,
            )
        )
    return tuple(found)


def _noise(bins: tuple[ConfidenceBin, ...]) -> float:
    """Return the mean error that chance alone leaves in these bins: that of |N(0, s / sqrt(n))|."""
    import numpy as np

    rows = np.array([one.rows for one in bins], dtype=float)
    predicted = np.array([one.predicted for one in bins])
    deviations = np.sqrt(predicted * (1 - predicted) / rows)
    return float(np.sqrt(2 / np.pi) * (rows * deviations).sum() / rows.sum())


def _kept_risk(
    runs: LabelledRuns, calibrator: ConfidenceCalibrator
) -> tuple[float | None, float | None, float | None]:
    """Return the share of wrong answers among the kept, with its interval; lots as expected."""
    point, kept, wrong = calibrator.point, 0.0, 0.0
    for score, right in zip(runs.scores, runs.correct, strict=True):
        tied = score is not None and score == point.min_score
        stays = 1 - point.tied_cloud_share if tied else float(calibrator.keeps(score))
        kept += stays
        wrong += stays * (not right)
    if kept < 1:
        return None, None, None
    return (wrong / kept, *share_interval(wrong, max(1, round(kept))))


def _notes(
    runs: LabelledRuns,
    calibrator: ConfidenceCalibrator,
    target: Mapping[str, float],
    order: float | None,
) -> Iterator[str]:
    rows = len(runs) - runs.missing
    if runs.missing:
        done = "accepted" if calibrator.on_missing == "accept" else "sent to the cloud"
        yield f"{runs.missing:,} of {len(runs):,} answers have no score; such are {done}."
    if rows < _FEW and calibrator.method == "isotonic":
        yield f"{rows:,} answers are few for isotonic regression: platt is steadier."
    elif rows < _ENOUGH:
        yield f"{rows:,} answers are few: the intervals say how little is known from them."
    groups = len(runs) if runs.groups is None else len(set(runs.groups))
    if groups < len(runs):
        yield (
            f"{len(runs):,} answers are in {groups:,} groups of questions that resemble each "
            f"other: intervals, and what is shown of a risk, take each for one of its own, and "
            f"promise too much."
        )
    if "max_risk" in target:
        yield (
            "The share of wrong answers among the kept, with its interval, is of the answers that "
            "the threshold was chosen on: new ones may have more, up to the risk that was shown."
        )
    levels = len({one for one in runs.scores if one is not None})
    if levels == 1:
        yield "All scores are equal: the signal says nothing of these answers."
    elif order is None:
        kind = "right" if runs.accuracy > 0.5 else "wrong"
        yield f"All answers are {kind}: nobody can say what the signal is worth."
    elif order < _CHANCE:
        yield (
            f"The signal tells right from wrong hardly better than chance, or the wrong way round "
            f"(AUROC {order:.3f}; chance has 0.5)."
        )
    missed = target.get("cloud_share", 0.0) - calibrator.point.cloud_share
    if missed > _SHORT:
        yield (
            f"Only {calibrator.point.cloud_share:.1%} go to the cloud, not "
            f"{target['cloud_share']:.1%}: there are {levels} different scores, and equal ones "
            f"stay together. Draw lots among them (ties: draw), or take a finer signal."
        )


def _cross_fitted(runs: LabelledRuns, *, method: Method, folds: int, seed: int) -> Floats:
    """Return P(right) of each answer that has a score, by a curve that has not seen its group."""
    import numpy as np

    scores, correct = scored(runs)
    names = runs.groups or tuple(map(str, range(len(runs))))
    own = [name for name, one in zip(names, runs.scores, strict=True) if one is not None]
    _, group = np.unique(np.array(own), return_inverse=True)
    groups = int(group.max()) + 1
    if groups < 2:
        raise ConfigurationError(
            "All answers are of one group, so that none can be foreseen from the others."
        )
    dealt = np.random.default_rng(seed).permutation(groups) % min(folds, groups)
    fold = dealt[group]
    foreseen = np.empty(len(scores))
    for number in range(int(fold.max()) + 1):
        held = fold == number
        curve = fit_curve(scores[~held], correct[~held], method=method)
        foreseen[held] = [curve.at(float(score)) for score in scores[held]]
    return foreseen
