"""A small world for routers that learn: tiers that are right as often as they are made to be."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from langchain_hybridflow.budget import BudgetSnapshot
from langchain_hybridflow.learning.online import OnlineRouter
from langchain_hybridflow.routing import Prediction, RouteDecision, RouteRequest, Tier

Qualities = Callable[[int], dict[Tier, float]]
"""How often each tier is right, by difficulty 1 to 9."""


def as_trained(difficulty: int) -> dict[Tier, float]:
    """The edge fails at hard questions, and the cloud hardly ever."""
    return {"edge": 0.9 - 0.08 * difficulty, "cloud": 0.9 - 0.02 * difficulty}


def with_a_worse_cloud(difficulty: int) -> dict[Tier, float]:
    """The cloud is another model now, and not a good one."""
    return {"edge": as_trained(difficulty)["edge"], "cloud": 0.35 - 0.02 * difficulty}


@dataclass
class Trained:
    """Foresees the world as it was when it was trained."""

    qualities: Qualities = as_trained

    def predict(self, requests: Sequence[RouteRequest]) -> Sequence[Prediction]:
        found = [self.qualities(one.difficulty or 5) for one in requests]
        return [Prediction(edge_quality=one["edge"], cloud_quality=one["cloud"]) for one in found]


@dataclass
class World:
    """Asks, routes, answers, rewards; counts what was chosen right."""

    router: OnlineRouter
    qualities: Qualities = as_trained
    price: float = 100.0
    usd: str = "0.001"
    seed: int = 0
    choices: list[bool] = field(default_factory=list)
    decisions: list[RouteDecision] = field(default_factory=list)
    rewards: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def run(self, calls: int) -> None:
        for _ in range(calls):
            difficulty = self._random.randint(1, 9)
            request = RouteRequest(
                text=f"question {len(self.choices)}",
                difficulty=difficulty,
                expected_cost_usd={"edge": Decimal(0), "cloud": Decimal(self.usd)},
                budget=BudgetSnapshot(shadow_price=self.price),
            )
            decision = self.router.route(request)
            quality = self.qualities(difficulty)
            gain = quality["cloud"] - quality["edge"] - self.price * float(self.usd)
            self.choices.append((gain > 0) == (decision.tier == "cloud"))
            reward = int(self._random.random() < quality[decision.tier])
            assert decision.decision_id is not None
            self.router.feedback(decision.decision_id, float(reward))
            self.decisions.append(decision)
            self.rewards.append(reward)

    def share_right(self, last: int) -> float:
        return sum(self.choices[-last:]) / last
