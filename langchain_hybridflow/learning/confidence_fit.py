"""Fit a calibrator to labelled runs.

Isotonic regression takes any rising shape and needs many answers; Platt's sigmoid has two numbers
and is steadier on few. Either never falls: where a signal orders answers the wrong way round, the
result is level, and says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, get_args

from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.learning._confidence_curves import fit_curve, scored
from langchain_hybridflow.learning.confidence import ConfidenceCalibrator, Method, OnMissing
from langchain_hybridflow.learning.confidence_points import (
    Ties,
    check_target,
    point_for_risk,
    point_for_share,
)
from langchain_hybridflow.learning.confidence_report import ConfidenceReport, measure_confidence
from langchain_hybridflow.learning.confidence_runs import LabelledRuns
from langchain_hybridflow.learning.dataset import MIN_ROWS

__all__ = ["ConfidenceFit", "fit_confidence"]


@dataclass(frozen=True, slots=True)
class ConfidenceFit:
    """A calibrator, and how well it does.

    Attributes:
        calibrator: To be saved, and given to a `ConfidenceVerifier`.
        report: To be looked at.
    """

    calibrator: ConfidenceCalibrator
    report: ConfidenceReport


def fit_confidence(
    runs: LabelledRuns,
    *,
    cloud_share: float | None = None,
    max_risk: float | None = None,
    confidence: float = 0.9,
    method: Method = "isotonic",
    ties: Ties = "stay",
    on_missing: OnMissing = "accept",
    signal: Mapping[str, Any] | None = None,
    folds: int = 5,
    seed: int = 0,
) -> ConfidenceFit:
    """Make probabilities of scores, and choose which answers the edge may keep.

    Args:
        runs: At least 50 answers of the edge model that is to be used, to questions like those to
            come, with labels.
        cloud_share: Send at most this share of answers to the cloud, 0 to 1; see
            `point_for_share`.
        max_risk: Or keep as many as can be kept with at most this share of wrong ones among them,
            0 to 1; see `point_for_risk`.
        confidence: Probability with which the risk is to be kept to.
        method: "isotonic", or "platt" for few answers.
        ties: What happens to equal scores that a share would tear apart: "stay" or "draw".
        on_missing: What happens to answers without a score.
        signal: What made the scores, see `verify.signal_settings`.
        folds: Parts for the cross-fitted figures; the calibrator itself is fitted to all runs.
        seed: Of the parts.

    Raises:
        ConfigurationError: Not exactly one target is given, there are too few answers, or the
            target cannot be kept to.
        MissingExtraError: The extra `learning` is not installed.

    Example:
        >>> runs = LabelledRuns(
        ...     scores=tuple(n / 100 for n in range(100)),
        ...     correct=tuple(n >= 40 for n in range(100)),
        ... )
        >>> fit = fit_confidence(runs, cloud_share=0.4)
        >>> fit.calibrator.keeps(0.9), fit.calibrator.keeps(0.2), fit.report.cloud_share
        (True, False, 0.4)
    """
    check_target(cloud_share, max_risk, confidence=confidence)
    if method not in get_args(Method) or ties not in get_args(Ties):
        raise ConfigurationError(
            f"method is 'isotonic' or 'platt' and ties is 'stay' or 'draw', got {method!r} and "
            f"{ties!r}."
        )
    if type(folds) is not int or folds < 2:
        raise ConfigurationError(f"folds must be an integer >= 2, not {folds!r}.")
    _check_rows(runs)
    if cloud_share is not None:
        target = {"cloud_share": cloud_share}
        point = point_for_share(runs, cloud_share, ties=ties, on_missing=on_missing)
    else:
        risk = 0.0 if max_risk is None else max_risk
        target = {"max_risk": risk, "confidence": confidence}
        point = point_for_risk(runs, risk, confidence=confidence, on_missing=on_missing)
    calibrator = ConfidenceCalibrator(
        curve=fit_curve(*scored(runs), method=method),
        point=point,
        signal=dict(signal or {}),
        on_missing=on_missing,
    )
    report = measure_confidence(runs, calibrator, target, folds=folds, seed=seed)
    facts = {"target": target, **report.figures(), "notes": list(report.notes)}
    return ConfidenceFit(replace(calibrator, facts=facts), report)


def _check_rows(runs: LabelledRuns) -> None:
    known = len(runs) - runs.missing
    if known < MIN_ROWS:
        raise ConfigurationError(
            f"{known} labelled answers with a score ({runs.missing} have none) are too few to "
            f"calibrate on: at least {MIN_ROWS} are needed, some hundreds to be of use."
        )
