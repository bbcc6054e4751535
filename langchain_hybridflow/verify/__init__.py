"""Ready checks of edge answers, for `RoutedChatModel(verify=...)`.

Any function from a `VerifyRequest` to a bool or a `Verdict` is one, too, async or not.
"""

from __future__ import annotations

from langchain_hybridflow.calls.verifying import Verdict, VerifyRequest
from langchain_hybridflow.verify.calibrated import ConfidenceVerifier
from langchain_hybridflow.verify.consistency import SelfConsistency
from langchain_hybridflow.verify.judging import JudgeVerifier
from langchain_hybridflow.verify.logprobs import LogprobVerifier
from langchain_hybridflow.verify.predicting import PredictorVerifier
from langchain_hybridflow.verify.signals import (
    AskMarker,
    Confidence,
    ConfidenceSignal,
    SampleAgreement,
    StatedConfidence,
    TokenProbability,
    signal_from_settings,
    signal_settings,
)

__all__ = [
    "AskMarker",
    "Confidence",
    "ConfidenceSignal",
    "ConfidenceVerifier",
    "JudgeVerifier",
    "LogprobVerifier",
    "PredictorVerifier",
    "SampleAgreement",
    "SelfConsistency",
    "StatedConfidence",
    "TokenProbability",
    "Verdict",
    "VerifyRequest",
    "signal_from_settings",
    "signal_settings",
]
