"""Trust an edge answer as much as answers that the edge was as sure of have deserved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from langchain_hybridflow.calls.steps import Script
from langchain_hybridflow.calls.verifying import Desk, Verdict, VerifyRequest
from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.learning.confidence import ConfidenceCalibrator
from langchain_hybridflow.verify.signals import (
    ConfidenceSignal,
    signal_from_settings,
    signal_settings,
)

__all__ = ["ConfidenceVerifier"]


@dataclass(frozen=True, slots=True)
class ConfidenceVerifier:
    """Accept an edge answer if the calibrator keeps answers that the edge is so sure of.

    The calibrator was fitted to labelled answers of the same edge model by `hybridflow calibrate`:
    it knows how often such answers were right, and from which score on to keep them so that the
    wanted share goes to the cloud. That share was met on *those* questions; a hard limit is the
    budget's business.

    Args:
        calibrator: What scores are worth; also in plain JSON types.
        signal: What makes the scores; by default the one that the calibrator was fitted to. Must
            be given if that is your own, or holds a function.

    Raises:
        ArtifactError: The calibrator is none.
        ConfigurationError: The signal is another one than the calibrator was fitted to, or nobody
            has said which.

    Example:
        >>> from langchain_hybridflow import RoutedChatModel
        >>> from langchain_hybridflow.learning.confidence import ConfidencePoint, PlattCurve
        >>> from langchain_hybridflow.testing import ScriptedChatModel
        >>> calibrator = ConfidenceCalibrator(
        ...     curve=PlattCurve(6.0, -4.0),
        ...     point=ConfidencePoint(min_score=0.7, cloud_share=0.3),
        ...     signal={"name": "StatedConfidence"},
        ... )
        >>> model = RoutedChatModel(
        ...     edge=ScriptedChatModel(responses=["Lyon", "CONFIDENCE: 40"]),
        ...     cloud=ScriptedChatModel(responses=["Paris"]),
        ...     verify=ConfidenceVerifier(calibrator),
        ... )
        >>> model.invoke("Capital of France?").text
        'Paris'
    """

    calibrator: ConfidenceCalibrator
    signal: ConfidenceSignal = field(kw_only=True, default=None)  # type: ignore[assignment]

    def __post_init__(self) -> None:
        calibrator: Any = self.calibrator
        if isinstance(calibrator, Mapping):
            calibrator = ConfidenceCalibrator.from_json(calibrator)
        if not isinstance(calibrator, ConfidenceCalibrator):
            raise ConfigurationError(
                f"calibrator must be a ConfidenceCalibrator, not {type(calibrator).__name__}; "
                f"ConfidenceVerifier.load reads one from a file."
            )
        signal: ConfidenceSignal | None = self.signal
        if signal is None:
            signal = _signal_of(calibrator)
        given = signal_settings(signal)
        if calibrator.signal and _in_full(calibrator.signal) != given:
            raise ConfigurationError(
                f"The calibrator was fitted to the scores of {dict(calibrator.signal)}, and the "
                f"signal is {given}: their scores do not mean the same. Calibrate anew."
            )
        object.__setattr__(self, "calibrator", replace(calibrator, signal=given))
        object.__setattr__(self, "signal", signal)

    @classmethod
    def load(cls, path: str | Path, *, signal: ConfidenceSignal | None = None) -> Self:
        """Read the calibrator from the file of `hybridflow calibrate`.

        Raises:
            ArtifactError: The file cannot be read, or holds no calibrator.
            ConfigurationError: The signal does not go with it.
        """
        calibrator = ConfidenceCalibrator.load(path)
        return cls(calibrator) if signal is None else cls(calibrator, signal=signal)

    @property
    def reads_logprobs(self) -> bool:
        """Whether the edge model is to be asked for log-probabilities: if the signal says so."""
        return bool(getattr(self.signal, "reads_logprobs", False))

    @property
    def reads_top_logprobs(self) -> int:
        """How many alternatives to each token it is to be asked for."""
        return int(getattr(self.signal, "reads_top_logprobs", 0))

    def check(self, request: VerifyRequest, desk: Desk) -> Script[Verdict]:
        """Look at an answer."""
        found = yield from self.signal.measure(request, desk)
        accept = self.calibrator.keeps(found.score, question=request.question)
        if found.score is None:
            return Verdict(accept, reason=f"{found.reason}: {self.calibrator.on_missing}")
        right = self.calibrator.probability(found.score)
        return Verdict(accept, score=right, reason=f"{found.reason}: {self._verdict(right)}")

    def settings(self) -> dict[str, Any] | None:
        """Write it down in plain JSON types; `None` if its signal is code."""
        try:
            same = signal_from_settings(self.calibrator.signal) == self.signal
        except ConfigurationError:
            return None
        return {"calibrator": self.calibrator.to_json()} if same else None

    def _verdict(self, right: float) -> str:
        least = self.calibrator.point.min_score
        if least is None:
            return f"right with probability {right:.3f}; all are kept"
        bound = self.calibrator.probability(least)
        return f"right with probability {right:.3f}; kept from {bound:.3f} (score {least:.4g}) on"


def _in_full(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with what goes without saying; as they are if the signal is code."""
    try:
        return signal_settings(signal_from_settings(settings))
    except ConfigurationError:
        return dict(settings)


def _signal_of(calibrator: ConfidenceCalibrator) -> ConfidenceSignal:
    if not calibrator.signal:
        raise ConfigurationError(
            "Nobody has said which signal this calibrator was fitted to: give it as signal=..."
        )
    return signal_from_settings(calibrator.signal)
