"""Ask the same problems in different ways, and measure what each way achieves."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from statistics import fmean
from typing import Any, TypeVar

from langchain_hybridflow.budget import Budget, usage_of
from langchain_hybridflow.chat_models import RoutedChatModel
from langchain_hybridflow.graph import HybridFlowGraph
from langchain_hybridflow.profiling.summary import share_interval as interval
from langchain_hybridflow.sandbox import (
    SANDBOX_PRICES,
    Problem,
    SandboxChatModel,
    draft_plan,
    is_correct,
    sandbox_cloud,
    sandbox_edge,
)

__all__ = ["Outcome", "Trial", "World", "interval", "try_all", "typical"]

MAX_OUTPUT_TOKENS = 300
"""The longest answer to a subtask to reserve money for: sandbox models need less than a third."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one problem.

    Attributes:
        correct: Whether the answer is the exact one.
        seconds: From question to answer, at real speed.
        cloud_calls: Calls that the cloud answered.
        cloud_tokens: Their prompt and answer tokens.
        cost_usd: What they cost.
        refused: Cloud calls that the budget did not allow.
    """

    correct: bool
    seconds: float
    cloud_calls: int = 0
    cloud_tokens: int = 0
    cost_usd: Decimal = Decimal(0)
    refused: int = 0


@dataclass(frozen=True, slots=True)
class Trial:
    """What one way of answering achieved over all problems."""

    name: str
    outcomes: tuple[Outcome, ...]

    @property
    def correct(self) -> int:
        """Number of correct answers."""
        return sum(one.correct for one in self.outcomes)

    @property
    def accuracy(self) -> float:
        """Share of correct answers, 0 to 1."""
        return self.correct / len(self.outcomes)

    @property
    def seconds(self) -> float:
        """Mean seconds per problem, at real speed."""
        return fmean(one.seconds for one in self.outcomes)

    @property
    def cost_usd(self) -> Decimal:
        """USD for all problems."""
        return sum((one.cost_usd for one in self.outcomes), Decimal(0))

    def total(self, count: str) -> int:
        """Sum one of the counts of `Outcome` over all problems."""
        return sum(getattr(one, count) for one in self.outcomes)

    def to_json(self) -> dict[str, Any]:
        """Return the figures in plain JSON types; USD as text."""
        low, high = interval(self.correct, len(self.outcomes))
        return {
            "name": self.name,
            "correct": self.correct,
            "problems": len(self.outcomes),
            "accuracy": self.accuracy,
            "accuracy_95_percent_interval": [low, high],
            "mean_seconds": self.seconds,
            "cloud_calls": self.total("cloud_calls"),
            "cloud_tokens": self.total("cloud_tokens"),
            "refused_calls": self.total("refused"),
            "cost_usd": str(self.cost_usd),
        }


Answer = Callable[[Problem], Awaitable[Outcome]]
QuestionT = TypeVar("QuestionT")


@dataclass(frozen=True, slots=True)
class World:
    """The sandbox's two models, and the ways of asking them.

    Attributes:
        seed: Of the models.
        time_scale: 1 is real speed, 0.1 ten times as fast, 0 does not wait.
    """

    seed: int = 0
    time_scale: float = 1.0

    @property
    def edge(self) -> SandboxChatModel:
        """The edge model."""
        return sandbox_edge(seed=self.seed, time_scale=self.time_scale)

    @property
    def cloud(self) -> SandboxChatModel:
        """The cloud model."""
        return sandbox_cloud(seed=self.seed, time_scale=self.time_scale)

    def budget(self, limit_usd: Decimal) -> Budget:
        """Make a budget that knows what the sandbox's models cost."""
        return Budget(limit_usd=limit_usd, prices=SANDBOX_PRICES)

    def flow(self, budget: Budget) -> HybridFlowGraph:
        """Make a flow with an edge device of its own; flows may share a budget."""
        model = RoutedChatModel(
            edge=self.edge,
            cloud=self.cloud,
            budget=budget,
            max_output_tokens=MAX_OUTPUT_TOKENS,
        )
        return HybridFlowGraph(model)

    def direct(self, model: SandboxChatModel) -> Answer:
        """Ask one model the whole question."""

        async def answer(problem: Problem) -> Outcome:
            started = time.monotonic()
            message = await model.ainvoke(problem.question)
            seconds = self._real(time.monotonic() - started)
            usage = usage_of(message, prompt=[])
            paid = model.tier_profile.name == "sandbox-cloud"
            return Outcome(
                correct=is_correct(problem, message.text),
                seconds=seconds,
                cloud_calls=int(paid),
                cloud_tokens=usage.total_tokens if paid else 0,
                cost_usd=model.tier_profile.price.cost_usd(usage),
            )

        return answer

    async def together(self, budget: Budget, problems: Sequence[Problem]) -> Answer:
        """Ask both models by a plan, all problems under one budget.

        The graphs are compiled beforehand: that is done once for many questions in real life.
        """
        graphs = {}
        for problem in problems:
            graphs[problem.id] = self.flow(budget).compile()
            await asyncio.sleep(0)  # whoever wants to stop all this gets a chance

        async def answer(problem: Problem) -> Outcome:
            graph = graphs[problem.id]
            started = time.monotonic()
            out = await graph.ainvoke({"messages": [("user", problem.question)]})
            seconds = self._real(time.monotonic() - started)
            totals = out["report"]["totals"]
            cloud = totals["cloud"]
            return Outcome(
                correct=is_correct(problem, out["answer"]),
                seconds=seconds,
                cloud_calls=cloud["calls"],
                cloud_tokens=cloud["input_tokens"] + cloud["output_tokens"],
                cost_usd=Decimal(totals["cost_usd"]),
                refused=cloud["refused"],
            )

        return answer

    def _real(self, seconds: float) -> float:
        return seconds / self.time_scale if self.time_scale else seconds


async def try_all(
    name: str,
    answer: Callable[[QuestionT], Awaitable[Outcome]],
    problems: Sequence[QuestionT],
    *,
    at_once: int,
    on_outcome: Callable[[Outcome], None] = lambda _: None,
) -> Trial:
    """Answer all problems, so many at a time."""
    free = asyncio.Semaphore(at_once)

    async def one(problem: QuestionT) -> Outcome:
        async with free:
            outcome = await answer(problem)
        on_outcome(outcome)
        return outcome

    return Trial(name, tuple(await asyncio.gather(*map(one, problems))))


def typical(problems: Sequence[Problem]) -> Problem:
    """Return the first problem whose plan is of medium size and has work for both tiers.

    If there is none, it is the first problem.
    """

    def has_both(problem: Problem) -> bool:
        levels = [subtask.difficulty for subtask in draft_plan(problem.question).subtasks]
        return 4 <= len(levels) <= 5 and min(levels) < 5 <= max(levels)

    return next(filter(has_both, problems), problems[0])
