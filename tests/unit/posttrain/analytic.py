"""A policy with three outputs - wrong, right, ask - whose gradients can be written down.

A prompt is easy or hard; on a hard one no answer is ever right. The policy cannot see which it is:
it has one logit for its skill and one for asking. So asking that is learned on hard prompts is done
on easy ones, too.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import exp

from langchain_hybridflow.answer_or_ask import ASK_MARKER, Reply, read_reply
from langchain_hybridflow.posttrain.advantages import normalised
from langchain_hybridflow.posttrain.groups import Group, Response, Teacher

RIGHT: Reply = read_reply("<think>1</think><answer>right</answer>")
WRONG: Reply = read_reply("<think>1</think><answer>wrong</answer>")
ASK: Reply = read_reply(f"<think>1</think>{ASK_MARKER}")

OUTPUTS = ("wrong", "right", "ask")


def sigmoid(value: float) -> float:
    return 1 / (1 + exp(-value))


def response(output: str) -> Response:
    """Return a response: "wrong", "right", "ask", or "unknown" for one nobody could verify."""
    if output == "ask":
        return Response(ASK)
    if output == "right":
        return Response(RIGHT, "correct")
    return Response(WRONG, "wrong" if output == "wrong" else "unverified")


def group_of(*outputs: str, cloud: str | None = "correct") -> Group:
    return Group(tuple(map(response, outputs)), cloud)  # type: ignore[arg-type]


@dataclass
class Policy:
    """Two logits, and how far a step goes."""

    skill: float
    asking: float
    step: float = 0.3

    @property
    def ask_rate(self) -> float:
        return sigmoid(self.asking)

    def probabilities(self, *, hard: bool) -> dict[str, float]:
        right = 0.0 if hard else (1 - self.ask_rate) * sigmoid(self.skill)
        return {"wrong": 1 - self.ask_rate - right, "right": right, "ask": self.ask_rate}

    def score(self, output: str, *, hard: bool) -> tuple[float, float]:
        """Return grad log pi(output), for skill and asking."""
        skill = sigmoid(self.skill)
        for_ask = (1 - self.ask_rate) if output == "ask" else -self.ask_rate
        for_skill = {"right": 1 - skill, "wrong": -skill, "ask": 0.0}[output]
        return 0.0 if hard else for_skill, for_ask


@dataclass
class School:
    """Trains a policy batch by batch, with the lessons that the trainer gets."""

    teacher: Teacher
    policy: Policy
    prompts: int = 32
    size: int = 8
    hard_share: float = 0.5
    rng: random.Random = field(default_factory=lambda: random.Random(0))
    rates: list[float] = field(default_factory=list)

    def run(self, steps: int) -> None:
        for step in range(steps):
            self._step(step)

    def late_rate(self, steps: int) -> float:
        return sum(self.rates[-steps:]) / steps

    def _step(self, step: int) -> None:
        hard = [self.rng.random() < self.hard_share for _ in range(self.prompts)]
        outputs = [self._sample(hard=one) for one in hard]
        lesson = self.teacher.teach([group_of(*one) for one in outputs], seed=str(step))
        self.rates.append(lesson.metrics["ask_rate"])
        weights: Sequence[float] = lesson.weights
        if self.teacher.method == "grpo":  # in the trainer, TRL does this
            weights = self._by_std(lesson.rewards)
        gradient = [0.0, 0.0]
        flat = [(output, one) for own, one in zip(outputs, hard, strict=True) for output in own]
        for weight, (output, one) in zip(weights, flat, strict=True):
            for place, value in enumerate(self.policy.score(output, hard=one)):
                gradient[place] += weight * value
        self.policy.skill += self.policy.step * gradient[0]
        self.policy.asking += self.policy.step * gradient[1]

    def _sample(self, *, hard: bool) -> list[str]:
        chances = self.policy.probabilities(hard=hard)
        return self.rng.choices(OUTPUTS, [chances[one] for one in OUTPUTS], k=self.size)

    def _by_std(self, rewards: Sequence[float | None]) -> list[float]:
        weights: list[float] = []
        for start in range(0, len(rewards), self.size):
            group = normalised(rewards[start : start + self.size])
            weights += [(one or 0.0) / (self.size * self.prompts) for one in group]
        return weights
