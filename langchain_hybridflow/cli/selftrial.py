"""The demo's second experiment: a real small language model that answers, or asks for the cloud."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from langchain_core.messages import BaseMessage, HumanMessage, SystemMessage

from langchain_hybridflow.answer_or_ask import NO_HELP, Reply, read_reply
from langchain_hybridflow.budget import Budget, usage_of
from langchain_hybridflow.chat_models import RoutedChatModel
from langchain_hybridflow.cli.trials import MAX_OUTPUT_TOKENS, Outcome, Trial, try_all
from langchain_hybridflow.routing import SelfRouter
from langchain_hybridflow.sandbox import (
    SANDBOX_PRICES,
    Puzzle,
    SandboxChatModel,
    generate_puzzles,
    is_solved,
    sandbox_cloud,
)
from langchain_hybridflow.sandbox.tiny import TinyChatModel

__all__ = [
    "ASKING_APPROACHES",
    "HELD_OUT",
    "HELD_OUT_SEED",
    "AskingExperiment",
    "AskingFindings",
    "Shown",
    "run_asking",
]

ASKING_APPROACHES: Final = ("edge only", "cloud only", "random offload", "SelfRouter")

HELD_OUT_SEED: Final = 4
HELD_OUT: Final = 2_000
"""So many puzzles of that seed were kept out of all training; see benchmarks/selfrouting."""

# The edge is a real model: more answers at once than this, and the processor is what is timed.
_EDGES_AT_ONCE: Final = 4


@dataclass(frozen=True, kw_only=True)
class AskingExperiment:
    """What is to be tried.

    Attributes:
        puzzles: Number of puzzles, at most `HELD_OUT`.
        seed: Chooses the puzzles, and is that of the cloud model and of the random offload.
        time_scale: Speed of the models; 1 is real time.
        at_once: Puzzles under way at once.
        weights: A folder with another model for the edge than the one that ships.
    """

    puzzles: int
    seed: int
    time_scale: float
    at_once: int
    weights: Path | None = None

    @cached_property
    def questions(self) -> list[Puzzle]:
        """The puzzles; the same seed gives the same ones on every machine."""
        start = self.seed * self.puzzles % (HELD_OUT - self.puzzles + 1)
        return generate_puzzles(start + self.puzzles, seed=HELD_OUT_SEED)[start:]

    @property
    def edge(self) -> TinyChatModel:
        """The model on the edge."""
        return TinyChatModel(time_scale=self.time_scale, weights=self.weights)

    @property
    def cloud(self) -> SandboxChatModel:
        """The model in the cloud."""
        return sandbox_cloud(seed=self.seed, time_scale=self.time_scale)


@dataclass(frozen=True, slots=True)
class Shown:
    """One puzzle, and what the edge made of it.

    Attributes:
        puzzle: The puzzle.
        edge: What the edge wrote.
        cloud: What the cloud answered, if the edge asked.
        correct: Whether the final answer is right.
    """

    puzzle: Puzzle
    edge: Reply
    cloud: str | None
    correct: bool

    def to_json(self) -> dict[str, Any]:
        """Return it in plain JSON types."""
        return {
            "question": self.puzzle.question,
            "edge_thinking": self.edge.thinking,
            "edge_answer": self.edge.answer,
            "edge_asks": self.edge.asks,
            "cloud_answer": self.cloud,
            "correct": self.correct,
        }


@dataclass(frozen=True, slots=True)
class AskingFindings:
    """What came of the experiment.

    Attributes:
        experiment: What was tried.
        trials: One for each of `ASKING_APPROACHES`.
        shown: A puzzle that the edge answered, and one where it asked, if there are such.
    """

    experiment: AskingExperiment
    trials: tuple[Trial, ...]
    shown: tuple[Shown, ...]

    def share(self, trial: Trial) -> float:
        """Share of the puzzles that went to the cloud, 0 to 1."""
        return _offloaded(trial) / len(trial.outcomes)

    def to_json(self) -> dict[str, Any]:
        """Return all figures in plain JSON types."""
        return {
            "puzzles": self.experiment.puzzles,
            "seed": self.experiment.seed,
            "approaches": [
                {**trial.to_json(), "cloud_share": self.share(trial)} for trial in self.trials
            ],
            "shown": [one.to_json() for one in self.shown],
        }


def run_asking(
    experiment: AskingExperiment, *, on_progress: Callable[[str], None] = lambda _: None
) -> AskingFindings:
    """Do the experiment; `on_progress` is told the approach of each puzzle that is answered."""
    return asyncio.run(_run(experiment, on_progress))


async def _run(experiment: AskingExperiment, on_progress: Callable[[str], None]) -> AskingFindings:
    await experiment.edge.ainvoke(experiment.questions[0].question)  # loads it; in nobody's time

    async def attempt(name: str, answer: Callable[[Puzzle], Any], at_once: int) -> Trial:
        return await try_all(
            name,
            answer,
            experiment.questions,
            at_once=at_once,
            on_outcome=lambda _: on_progress(name),
        )

    edges_at_once = min(experiment.at_once, _EDGES_AT_ONCE)
    # Side by side: one keeps the processor busy, the other one waits. Told that no help is to be
    # had, the edge answers itself.
    edge, cloud = await asyncio.gather(
        attempt("edge only", _direct(experiment, experiment.edge, NO_HELP), edges_at_once),
        attempt("cloud only", _direct(experiment, experiment.cloud), 2 * experiment.at_once),
    )
    asking = await attempt("SelfRouter", _asking(experiment), experiment.at_once)
    offload = _offload(edge, cloud, _offloaded(asking), seed=experiment.seed)
    shown = await _show(experiment, asking)
    return AskingFindings(experiment, (edge, cloud, offload, asking), shown)


def _direct(
    experiment: AskingExperiment, model: TinyChatModel | SandboxChatModel, system: str = ""
) -> Callable[[Puzzle], Any]:
    """Ask one model."""
    price = SANDBOX_PRICES[model.model_name]
    paid = isinstance(model, SandboxChatModel)

    async def answer(puzzle: Puzzle) -> Outcome:
        messages: list[BaseMessage] = [SystemMessage(system)] if system else []
        started = time.monotonic()
        message = await model.ainvoke([*messages, HumanMessage(puzzle.question)])
        seconds = time.monotonic() - started
        usage = usage_of(message, prompt=[])
        return Outcome(
            correct=is_solved(puzzle, message.text),
            seconds=seconds / (experiment.time_scale or 1.0),
            cloud_calls=int(paid),
            cloud_tokens=usage.total_tokens if paid else 0,
            cost_usd=price.cost_usd(usage),
        )

    return answer


def _asking(experiment: AskingExperiment) -> Callable[[Puzzle], Any]:
    """Ask the edge, which asks the cloud when it thinks that it had better."""
    model = RoutedChatModel(
        edge=experiment.edge,
        cloud=experiment.cloud,
        router=SelfRouter(contract="trained"),
        budget=Budget(prices=SANDBOX_PRICES),
        max_output_tokens=MAX_OUTPUT_TOKENS,
    )

    async def answer(puzzle: Puzzle) -> Outcome:
        started = time.monotonic()
        message = await model.ainvoke(puzzle.question)
        seconds = time.monotonic() - started
        record = message.response_metadata["hybridflow"]
        paid = [one for one in record["attempts"] if one["tier"] == "cloud"]
        return Outcome(
            correct=is_solved(puzzle, message.text),
            seconds=seconds / (experiment.time_scale or 1.0),
            cloud_calls=len(paid),
            cloud_tokens=sum(one["input_tokens"] + one["output_tokens"] for one in paid),
            cost_usd=Decimal(record["cost_usd"]),
        )

    return answer


def _offloaded(trial: Trial) -> int:
    return sum(one.cloud_calls > 0 for one in trial.outcomes)


def _offload(edge: Trial, cloud: Trial, count: int, *, seed: int) -> Trial:
    """Send `count` puzzles to the cloud, whatever they ask.

    The models answer as they did alone, so that nothing has to be asked again.
    """
    rng = random.Random(f"random offload/{seed}")
    drawn = set(rng.sample(range(len(edge.outcomes)), count))
    pairs = enumerate(zip(edge.outcomes, cloud.outcomes, strict=True))
    return Trial("random offload", tuple(pair[place in drawn] for place, pair in pairs))


async def _show(experiment: AskingExperiment, asking: Trial) -> tuple[Shown, ...]:
    """Pick a puzzle that the edge answered and one where it asked, right ones if there are any."""
    picked: list[Shown] = []
    for asked in (False, True):
        fitting = _fitting(experiment.questions, asking, asked=asked)
        if fitting is None:
            continue
        puzzle, correct = fitting
        edge = await experiment.edge.ainvoke(puzzle.question)
        cloud = await experiment.cloud.ainvoke(puzzle.question) if asked else None
        said = None if cloud is None else cloud.text
        picked.append(Shown(puzzle, read_reply(edge.text), said, correct))
    return tuple(picked)


def _fitting(
    puzzles: Sequence[Puzzle], asking: Trial, *, asked: bool
) -> tuple[Puzzle, bool] | None:
    pairs = zip(puzzles, asking.outcomes, strict=True)
    found = [(puzzle, one.correct) for puzzle, one in pairs if (one.cloud_calls > 0) == asked]
    return next((pair for pair in found if pair[1]), next(iter(found), None))
