"""One model call: decide, reserve, call, settle, fall back. The core that everything shares."""

from __future__ import annotations

from langchain_hybridflow.calls.breaker import Breaker
from langchain_hybridflow.calls.buying import AttemptFailed
from langchain_hybridflow.calls.core import (
    OnError,
    RoutingCore,
    final_error,
    other_tier,
)
from langchain_hybridflow.calls.deciding import narrowed, request_of, was_kept_local
from langchain_hybridflow.calls.drive import (
    AsyncStreamedScript,
    StreamedScript,
    adrive,
    drive,
    in_time,
    merged,
)
from langchain_hybridflow.calls.failures import describe_error
from langchain_hybridflow.calls.inner import TierModel, model_name
from langchain_hybridflow.calls.steps import Call
from langchain_hybridflow.calls.types import Answer, Attempt, Purchase, degrades, total_cost

__all__ = [
    "Answer",
    "AsyncStreamedScript",
    "Attempt",
    "AttemptFailed",
    "Breaker",
    "Call",
    "OnError",
    "Purchase",
    "RoutingCore",
    "StreamedScript",
    "TierModel",
    "adrive",
    "degrades",
    "describe_error",
    "drive",
    "final_error",
    "in_time",
    "merged",
    "model_name",
    "narrowed",
    "other_tier",
    "request_of",
    "total_cost",
    "was_kept_local",
]
