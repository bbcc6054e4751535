"""Who does it: policies that send a call to the edge or to the cloud."""

from __future__ import annotations

from langchain_hybridflow.routing.capabilities import Needs, lacks
from langchain_hybridflow.routing.capped import CappedRouter
from langchain_hybridflow.routing.content import Content, read_content
from langchain_hybridflow.routing.default import DefaultRouter
from langchain_hybridflow.routing.detectors import Preset
from langchain_hybridflow.routing.difficulty import DifficultyRouter
from langchain_hybridflow.routing.explanation import Explanation
from langchain_hybridflow.routing.fixed import AlwaysCloud, AlwaysEdge
from langchain_hybridflow.routing.guarded import GuardedPredictor
from langchain_hybridflow.routing.policy import KeepLocal, Policy, Verdict, ask_policy
from langchain_hybridflow.routing.prediction import (
    AnswerPredictor,
    EdgeAnswer,
    Prediction,
    Predictor,
)
from langchain_hybridflow.routing.random import RandomRouter
from langchain_hybridflow.routing.self_routing import (
    HelpForm,
    HelpTerms,
    SelfRouter,
    ShareReasoning,
    terms_of,
)
from langchain_hybridflow.routing.surface import SurfaceDifficulty, surface_difficulty
from langchain_hybridflow.routing.threshold import ThresholdRouter
from langchain_hybridflow.routing.types import TIERS, RouteDecision, Router, RouteRequest, Tier
from langchain_hybridflow.routing.utility import PlanRouter, UtilityRouter, UtilityRule

__all__ = [
    "TIERS",
    "AlwaysCloud",
    "AlwaysEdge",
    "AnswerPredictor",
    "CappedRouter",
    "Content",
    "DefaultRouter",
    "DifficultyRouter",
    "EdgeAnswer",
    "Explanation",
    "GuardedPredictor",
    "HelpForm",
    "HelpTerms",
    "KeepLocal",
    "Needs",
    "PlanRouter",
    "Policy",
    "Prediction",
    "Predictor",
    "Preset",
    "RandomRouter",
    "RouteDecision",
    "RouteRequest",
    "Router",
    "SelfRouter",
    "ShareReasoning",
    "SurfaceDifficulty",
    "ThresholdRouter",
    "Tier",
    "UtilityRouter",
    "UtilityRule",
    "Verdict",
    "ask_policy",
    "lacks",
    "read_content",
    "surface_difficulty",
    "terms_of",
]
