"""Choose from which score on an answer is kept: for a share of cloud calls, or for a risk."""

from __future__ import annotations

from importlib.util import find_spec
from math import inf, nextafter
from typing import Final, Literal, TypeAlias

from langchain_hybridflow.errors import ConfigurationError, MissingExtraError
from langchain_hybridflow.learning.confidence import ConfidencePoint, OnMissing
from langchain_hybridflow.learning.confidence_runs import LabelledRuns

__all__ = ["Ties", "check_target", "point_for_risk", "point_for_share"]

Ties: TypeAlias = Literal["stay", "draw"]
"""What happens to equal scores that the target would tear apart: all stay, or lots are drawn."""

_ROUNDING: Final = 1e-9
_LEVELS: Final = 20


def check_target(
    cloud_share: float | None, max_risk: float | None, *, confidence: float = 0.9
) -> None:
    """Refuse what no point can be chosen for, before anybody is asked for labelled answers.

    Raises:
        ConfigurationError: Not exactly one target is given, or a number is out of its range.
        MissingExtraError: The extra `learning` is not installed.
    """
    if (cloud_share is None) == (max_risk is None):
        raise ConfigurationError("Give one target: cloud_share or max_risk.")
    if cloud_share is not None:
        _check_share(cloud_share)
    if max_risk is not None:
        _check_risk(max_risk, confidence)
    if any(find_spec(name) is None for name in ("scipy", "sklearn")):
        raise MissingExtraError("Fitting a calibrator", "learning")


def _check_share(share: float) -> None:
    if not 0 <= share <= 1:
        raise ConfigurationError(f"A share is from 0 to 1, not {share!r}: write 0.3 for 30 %.")


def _check_risk(risk: float, confidence: float) -> None:
    if not (0 < risk < 1 and 0 < confidence < 1):
        raise ConfigurationError(
            f"A risk and a confidence are between 0 and 1, got {risk!r} and {confidence!r}."
        )


def point_for_share(
    runs: LabelledRuns,
    share: float,
    *,
    ties: Ties = "stay",
    on_missing: OnMissing = "accept",
) -> ConfidencePoint:
    """Send the least sure answers to the cloud, as many as the share allows.

    A threshold cannot tell equal scores apart. By default they all stay where one of them must, so
    that on these runs the share is never passed, though not always reached. With lots it is
    reached, and passed by chance alone: the expected share is the target.

    Args:
        runs: What to choose on; labels are not looked at.
        share: Of all answers, those without a score included, 0 to 1.
        ties: What happens to equal scores that the share would tear apart.
        on_missing: Where answers without a score go.

    Raises:
        ConfigurationError: There are no scores, the share is not in 0..1, or answers without a
            score alone would pass it.

    Example:
        >>> runs = LabelledRuns(scores=(0.2, 0.4, 0.4, 0.9), correct=(True,) * 4)
        >>> point_for_share(runs, 0.5)
        ConfidencePoint(min_score=0.30000000000000004, cloud_share=0.25, tied_cloud_share=0.0)
        >>> point_for_share(runs, 0.5, ties="draw")
        ConfidencePoint(min_score=0.4, cloud_share=0.5, tied_cloud_share=0.5)
    """
    _check_share(share)
    values, counts = _levels(runs)
    gone = runs.missing if on_missing == "escalate" else 0
    allowed = share * len(runs) - gone
    if allowed < -_ROUNDING:
        raise ConfigurationError(
            f"{gone} of {len(runs)} answers have no score, and on_missing='escalate' sends all of "
            f"them to the cloud: more than the share of {share:g}. Allow "
            f"{gone / len(runs):.3f}, or say on_missing='accept'."
        )
    if allowed <= _ROUNDING:
        return ConfidencePoint(min_score=None, cloud_share=gone / len(runs))
    whole = sum(total <= allowed + _ROUNDING for total in _running(counts))
    below = sum(counts[:whole])
    over = allowed - below
    if ties == "draw" and whole < len(values) and over > _ROUNDING:
        return ConfidencePoint(
            min_score=values[whole],
            cloud_share=min(1.0, (gone + allowed) / len(runs)),
            tied_cloud_share=min(1.0, over / counts[whole]),
        )
    return ConfidencePoint(
        min_score=_threshold(values, whole), cloud_share=(gone + below) / len(runs)
    )


def point_for_risk(
    runs: LabelledRuns,
    risk: float,
    *,
    confidence: float = 0.9,
    on_missing: OnMissing = "accept",
) -> ConfidencePoint:
    """Keep as many answers as possible while at most this share of those kept is wrong.

    Twenty thresholds, at equal steps of the share that is kept, are held against the risk with the
    upper end of Clopper and Pearson's interval, Bonferroni's correction included: if new questions
    are like these, the risk is kept to with the probability `confidence` (selective prediction
    with a guarantee; Geifman and El-Yaniv, arXiv 1705.08500).

    Args:
        runs: What to choose on.
        risk: Greatest share of wrong answers among the kept, 0 to 1.
        confidence: Probability with which that holds, 0 to 1.
        on_missing: Where answers without a score go.

    Raises:
        ConfigurationError: A number is out of its range, there are no scores, or no threshold can
            be shown to keep to the risk.
        MissingExtraError: The extra `learning` is not installed.

    Example:
        >>> runs = LabelledRuns(
        ...     scores=tuple(n / 200 for n in range(200)),
        ...     correct=tuple(n >= 100 for n in range(200)),
        ... )
        >>> point_for_risk(runs, 0.1).cloud_share
        0.5
    """
    _check_risk(risk, confidence)
    values, counts = _levels(runs)
    stays = on_missing == "accept"
    kept = runs.missing if stays else 0
    wrong = sum(
        not right for score, right in zip(runs.scores, runs.correct, strict=True) if score is None
    )
    wrong = wrong if stays else 0
    errors = dict.fromkeys(values, 0)
    for score, right in zip(runs.scores, runs.correct, strict=True):
        if score is not None and not right:
            errors[score] += 1
    found: tuple[int, int] | None = None
    best, level = inf, 1
    for place in range(len(values) - 1, -1, -1):
        kept += counts[place]
        wrong += errors[values[place]]
        if kept * _LEVELS < level * len(runs):
            continue
        level = kept * _LEVELS // len(runs) + 1
        bound = _upper_bound(wrong, kept, doubt=(1 - confidence) / _LEVELS)
        best = min(best, bound)
        if bound <= risk:
            found = (place, kept)
    if found is None:
        raise ConfigurationError(
            f"No threshold can be shown to keep the risk at {risk:g} with confidence "
            f"{confidence:g} on {len(runs)} answers: the best that can be shown is {best:.3f}. "
            f"Allow that, label more answers, or take a signal that tells right from wrong better."
        )
    place, kept = found
    return ConfidencePoint(
        min_score=_threshold(values, place), cloud_share=(len(runs) - kept) / len(runs)
    )


def _levels(runs: LabelledRuns) -> tuple[list[float], list[int]]:
    """Return the scores that differ, rising, and how many answers have each."""
    counts: dict[float, int] = {}
    for score in runs.scores:
        if score is not None:
            counts[score] = counts.get(score, 0) + 1
    if not counts:
        raise ConfigurationError(
            "No answer has a score, so there is nothing to choose by. A provider that sends no "
            "log-probabilities has other signals: agreement, or asking it how sure it is."
        )
    values = sorted(counts)
    return values, [counts[value] for value in values]


def _running(counts: list[int]) -> list[int]:
    total, found = 0, []
    for count in counts:
        total += count
        found.append(total)
    return found


def _threshold(values: list[float], place: int) -> float:
    """Return a threshold that keeps the values from a place on.

    In the middle between two values, so that the last digit of a score decides nothing. Whatever
    is below all that was seen is less sure than any of it, and goes.
    """
    if place == 0:
        return values[0]
    if place == len(values):
        return nextafter(values[-1], inf)
    low, high = values[place - 1], values[place]
    middle = low + (high - low) / 2
    return middle if low < middle <= high else high


def _upper_bound(wrong: int, kept: int, *, doubt: float) -> float:
    """Return the upper end of Clopper and Pearson's interval of a share, one-sided."""
    try:
        from scipy.stats import beta
    except ImportError as error:
        raise MissingExtraError("A guarantee of a risk", "learning") from error
    return 1.0 if wrong >= kept else float(beta.ppf(1 - doubt, wrong + 1, kept - wrong))
