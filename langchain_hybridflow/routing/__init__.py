"""Who does it: policies that send a call to the edge or to the cloud."""

from __future__ import annotations

from langchain_hybridflow.routing.capabilities import Needs, lacks
from langchain_hybridflow.routing.content import Content, read_content
from langchain_hybridflow.routing.detectors import Preset
from langchain_hybridflow.routing.difficulty import DifficultyRouter
from langchain_hybridflow.routing.fixed import AlwaysCloud, AlwaysEdge
from langchain_hybridflow.routing.policy import KeepLocal, Policy, Verdict, ask_policy
from langchain_hybridflow.routing.random import RandomRouter
from langchain_hybridflow.routing.surface import SurfaceDifficulty, surface_difficulty
from langchain_hybridflow.routing.threshold import ThresholdRouter
from langchain_hybridflow.routing.types import TIERS, RouteDecision, Router, RouteRequest, Tier

__all__ = [
    "TIERS",
    "AlwaysCloud",
    "AlwaysEdge",
    "Content",
    "DifficultyRouter",
    "KeepLocal",
    "Needs",
    "Policy",
    "Preset",
    "RandomRouter",
    "RouteDecision",
    "RouteRequest",
    "Router",
    "SurfaceDifficulty",
    "ThresholdRouter",
    "Tier",
    "Verdict",
    "ask_policy",
    "lacks",
    "read_content",
    "surface_difficulty",
]
