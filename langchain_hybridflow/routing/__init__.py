"""Who does it: policies that send a call to the edge or to the cloud."""

from __future__ import annotations

from langchain_hybridflow.routing.difficulty import DifficultyRouter
from langchain_hybridflow.routing.fixed import AlwaysCloud, AlwaysEdge
from langchain_hybridflow.routing.random import RandomRouter
from langchain_hybridflow.routing.surface import SurfaceDifficulty, surface_difficulty
from langchain_hybridflow.routing.threshold import ThresholdRouter
from langchain_hybridflow.routing.types import RouteDecision, Router, RouteRequest, Tier

__all__ = [
    "AlwaysCloud",
    "AlwaysEdge",
    "DifficultyRouter",
    "RandomRouter",
    "RouteDecision",
    "RouteRequest",
    "Router",
    "SurfaceDifficulty",
    "ThresholdRouter",
    "Tier",
    "surface_difficulty",
]
