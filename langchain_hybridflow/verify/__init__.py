"""Ready checks of edge answers, for `RoutedChatModel(verify=...)`.

Any function from a `VerifyRequest` to a bool or a `Verdict` is one, too, async or not.
"""

from __future__ import annotations

from langchain_hybridflow.calls.verifying import Verdict, VerifyRequest
from langchain_hybridflow.verify.consistency import SelfConsistency
from langchain_hybridflow.verify.judging import JudgeVerifier
from langchain_hybridflow.verify.logprobs import LogprobVerifier
from langchain_hybridflow.verify.predicting import PredictorVerifier

__all__ = [
    "JudgeVerifier",
    "LogprobVerifier",
    "PredictorVerifier",
    "SelfConsistency",
    "Verdict",
    "VerifyRequest",
]
