"""Post-training: teach a small model to answer, or to ask the cloud, by reinforcement learning.

`GAPGTrainer` needs the extra `rl`; all else here is torch-free.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_hybridflow.posttrain.answers import AnswerCache
from langchain_hybridflow.posttrain.cloud import CloudAnswers, CloudCounts
from langchain_hybridflow.posttrain.filtering import PromptFilter, rho_of_share, share_of_rho
from langchain_hybridflow.posttrain.groups import METHODS
from langchain_hybridflow.posttrain.prompts import INSTRUCTIONS
from langchain_hybridflow.posttrain.rewards import RewardScheme
from langchain_hybridflow.posttrain.ruling import AnswerVerifier, Ruling
from langchain_hybridflow.posttrain.running import PosttrainResult, build_trainer, posttrain
from langchain_hybridflow.posttrain.settings import PosttrainSettings
from langchain_hybridflow.posttrain.verifying import VERIFIERS, verifier_of

if TYPE_CHECKING:
    from langchain_hybridflow.posttrain.config import GAPGConfig
    from langchain_hybridflow.posttrain.trainer import GAPGTrainer

__all__ = [
    "INSTRUCTIONS",
    "METHODS",
    "VERIFIERS",
    "AnswerCache",
    "AnswerVerifier",
    "CloudAnswers",
    "CloudCounts",
    "GAPGConfig",
    "GAPGTrainer",
    "PosttrainResult",
    "PosttrainSettings",
    "PromptFilter",
    "RewardScheme",
    "Ruling",
    "build_trainer",
    "posttrain",
    "rho_of_share",
    "share_of_rho",
    "verifier_of",
]

# They bring torch, so they are loaded when they are asked for.
_LATE = {"GAPGConfig": "config", "GAPGTrainer": "trainer"}


def __getattr__(name: str) -> Any:
    if name in _LATE:
        from importlib import import_module

        return getattr(import_module(f"{__name__}.{_LATE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
