"""The demo's experiment: the same problems, put to each tier alone and to both together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import Any, Final

from langchain_hybridflow.budget import Budget
from langchain_hybridflow.cli.selftrial import HELD_OUT, AskingExperiment
from langchain_hybridflow.cli.trials import Trial, World, try_all
from langchain_hybridflow.sandbox import Problem, generate_problems

__all__ = ["APPROACHES", "Experiment", "Findings", "Squeeze", "run"]

APPROACHES: Final = ("edge only", "cloud only", "HybridFlow")
_SHARES: Final = (Decimal("0.5"), Decimal("0.125"))
_SECONDS_THAT_COUNT: Final = 0.02


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """What is to be tried.

    Attributes:
        problems: Number of problems.
        seed: Of the problems and of the models.
        limit_usd: What HybridFlow may spend on all of them.
        time_scale: Speed of the models; 1 is real time.
        at_once: Problems under way at once.
        puzzles: Number of puzzles of the experiment with a real model; `None` is five for each
            problem, 0 leaves it out.
    """

    problems: int
    seed: int
    limit_usd: Decimal
    time_scale: float
    at_once: int
    puzzles: int | None = None

    @property
    def world(self) -> World:
        """The models, at the experiment's speed."""
        return World(seed=self.seed, time_scale=self.time_scale)

    @cached_property
    def questions(self) -> list[Problem]:
        """The problems; the same seed gives the same ones on every machine."""
        return generate_problems(self.problems, seed=self.seed)

    @cached_property
    def asking(self) -> AskingExperiment:
        """The experiment with a real model on the edge."""
        return AskingExperiment(
            puzzles=min(5 * self.problems if self.puzzles is None else self.puzzles, HELD_OUT),
            seed=self.seed,
            time_scale=self.time_scale,
            at_once=self.at_once,
        )

    @property
    def command(self) -> str:
        """The command that repeats it."""
        puzzles = "" if self.puzzles is None else f" --puzzles {self.puzzles}"
        return (
            f"hybridflow demo --problems {self.problems} --seed {self.seed} "
            f"--limit-usd {self.limit_usd.normalize():f} --time-scale {self.time_scale:g}{puzzles}"
        )


@dataclass(frozen=True, slots=True)
class Squeeze:
    """HybridFlow under one limit.

    Attributes:
        limit_usd: The limit of all problems together.
        spent_usd: What the ledger says was spent.
        held_usd: What is still reserved at the end; anything but 0 is a leak.
        trial: What was achieved.
    """

    limit_usd: Decimal
    spent_usd: Decimal
    held_usd: Decimal
    trial: Trial

    @classmethod
    def of(cls, budget: Budget, trial: Trial) -> Squeeze:
        """Read a budget at the end of a trial."""
        usd = budget.snapshot()["usd"]
        limit, spent, held = (Decimal(str(usd[key])) for key in ("limit", "spent", "held"))
        return cls(limit, spent, held, trial)

    @property
    def kept(self) -> bool:
        """Whether the limit was kept, and nothing is still reserved."""
        return self.spent_usd <= self.limit_usd and self.held_usd == 0

    def to_json(self) -> dict[str, Any]:
        """Return the figures in plain JSON types; USD as text."""
        return {
            "limit_usd": str(self.limit_usd),
            "spent_usd": str(self.spent_usd),
            "held_usd": str(self.held_usd),
            "kept": self.kept,
            "refused_calls": self.trial.total("refused"),
            "correct": self.trial.correct,
            "accuracy": self.trial.accuracy,
        }


@dataclass(frozen=True, slots=True)
class Findings:
    """What came of the experiment.

    Attributes:
        experiment: What was tried.
        trials: One for each of `APPROACHES`.
        squeezes: HybridFlow under its limit, and under smaller ones.
        lag_s: How late, on average, this machine woke up whoever slept, at real speed. Every
            wait of a model is longer by it.
    """

    experiment: Experiment
    trials: tuple[Trial, ...]
    squeezes: tuple[Squeeze, ...]
    lag_s: float

    @property
    def seconds_are_honest(self) -> bool:
        """Whether the machine had enough time for the seconds to be those of the models."""
        return self.lag_s < _SECONDS_THAT_COUNT

    def to_json(self) -> dict[str, Any]:
        """Return all figures in plain JSON types."""
        return {
            "command": self.experiment.command,
            "problems": self.experiment.problems,
            "seed": self.experiment.seed,
            "time_scale": self.experiment.time_scale,
            "scheduling_lag_seconds": self.lag_s,
            "approaches": [trial.to_json() for trial in self.trials],
            "budgets": [squeeze.to_json() for squeeze in self.squeezes],
        }


def run(experiment: Experiment, *, on_progress: Callable[[str], None] = lambda _: None) -> Findings:
    """Do the experiment; `on_progress` is told the approach of each problem that is answered."""
    return asyncio.run(_run(experiment, on_progress))


async def _run(experiment: Experiment, on_progress: Callable[[str], None]) -> Findings:
    world, problems = experiment.world, experiment.questions
    budget = world.budget(experiment.limit_usd)
    answers = (
        world.direct(world.edge),
        world.direct(world.cloud),
        await world.together(budget, problems),
    )
    trials: list[Trial] = []
    lags: list[float] = []
    watch = asyncio.create_task(_measure_lag(lags))
    try:
        for name, answer in zip(APPROACHES, answers, strict=True):

            def progress(_: object, name: str = name) -> None:
                on_progress(name)

            trials.append(
                await try_all(
                    name, answer, problems, at_once=experiment.at_once, on_outcome=progress
                )
            )
    finally:
        watch.cancel()
    limits = [experiment.limit_usd * share for share in _SHARES]
    smaller = [await _squeeze(experiment, limit, on_progress) for limit in limits]
    squeezes = (Squeeze.of(budget, trials[-1]), *smaller)
    scale = experiment.time_scale
    lag_s = sum(lags) / len(lags) / scale if lags and scale else 0.0
    return Findings(experiment, tuple(trials), squeezes, lag_s)


async def _squeeze(
    experiment: Experiment, limit_usd: Decimal, on_progress: Callable[[str], None]
) -> Squeeze:
    """Answer all problems with less money; one after the other, and without waiting."""
    world = World(seed=experiment.seed, time_scale=0)
    problems, budget = experiment.questions, world.budget(limit_usd)
    trial = await try_all(
        "HybridFlow",
        await world.together(budget, problems),
        problems,
        at_once=1,
        on_outcome=lambda _: on_progress("smaller budgets"),
    )
    return Squeeze.of(budget, trial)


async def _measure_lag(lags: list[float], every_s: float = 0.02) -> None:
    """Note how much later than asked for the event loop wakes up."""
    loop = asyncio.get_running_loop()
    while True:
        asked = loop.time() + every_s
        await asyncio.sleep(every_s)
        lags.append(loop.time() - asked)
