"""Ask both tiers everything that is not there yet, so many calls at once, until it is or must end.

Each tier has workers of its own. What they find is written down before they go on, so whatever
ends a run costs no more than the calls that were under way.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, Literal, TypeAlias

from langchain_core.messages import BaseMessage

from langchain_hybridflow.calls import other_tier
from langchain_hybridflow.errors import BudgetExceeded
from langchain_hybridflow.profiling.asking import Asker
from langchain_hybridflow.profiling.judging import Grader
from langchain_hybridflow.profiling.marking import marked
from langchain_hybridflow.profiling.records import Item, Key, Outcome
from langchain_hybridflow.profiling.scoring import CallableScorer, Scorer
from langchain_hybridflow.profiling.store import ProfileStore
from langchain_hybridflow.routing import TIERS, Tier

__all__ = ["Progress", "Runner", "Stop", "StopKind", "TierProgress"]

StopKind: TypeAlias = Literal["budget", "failures", "asked"]
"""Why a run ended before everything was there."""


@dataclass(frozen=True, slots=True)
class Stop:
    """Why a run ended before everything was there.

    Attributes:
        kind: "budget": a call was refused; "failures": a tier, or the scorer, kept failing;
            "asked": somebody asked for it.
        cause: The refusal, or the last failure.
        tier: Whose.
    """

    kind: StopKind
    cause: str = ""
    tier: Tier | None = None


@dataclass(slots=True)
class TierProgress:
    """How far a tier is: answers wanted, there with a score or without, and failed in this run."""

    total: int = 0
    done: int = 0
    failed: int = 0


@dataclass(slots=True)
class Progress:
    """How far a run is.

    Attributes:
        tiers: Each tier; what was there before counts as done.
        to_grade: Answers that a model is still to score.
        spent_usd: What all calls cost as far as known, those of earlier runs included.
        under_way: Calls that are under way.
        stopping: Whether nothing new is begun.
    """

    tiers: Mapping[Tier, TierProgress]
    to_grade: int = 0
    spent_usd: Decimal = Decimal(0)
    under_way: int = 0
    stopping: bool = False


@dataclass(frozen=True, slots=True)
class _Job:
    """A call to make: ask a tier, or let a model grade what it answered."""

    item: Item
    key: Key
    graded: Outcome | None = None
    text: str = ""


@dataclass(slots=True, kw_only=True)
class Runner:
    """One run over items; see the module.

    Attributes:
        store: Where outcomes are kept.
        asker: Buys answers.
        scorer: Scores them.
        prompt: What the models are sent for an item.
        options: Call options of every call, in neutral form.
        parallel: Calls at once, for each tier.
        samples: Answers wanted of each tier to each item.
        keep_answers: Whether the text of answers is written down.
        rescore: Whether answers that have a score get a new one.
        max_failures: Failures in a row, of a tier or of the scorer, that end the run.
        on_progress: Is told after each outcome; must not block.
        progress: How far it is.
        stop: Why it ended early; `None` if it did not.
    """

    store: ProfileStore
    asker: Asker
    scorer: Scorer | Grader
    prompt: Callable[[Item], Sequence[BaseMessage]]
    options: Mapping[str, Any] = field(default_factory=dict)
    parallel: Mapping[Tier, int] = field(default_factory=lambda: {"edge": 1, "cloud": 8})
    samples: int = 1
    keep_answers: bool = True
    rescore: bool = False
    max_failures: int = 10
    on_progress: Callable[[Progress], None] = lambda _: None
    progress: Progress = field(init=False)
    stop: Stop | None = field(init=False, default=None)
    _queues: dict[Tier, deque[_Job]] = field(init=False)
    _calling: dict[Tier, int] = field(init=False)
    _settled: dict[Tier, int] = field(init=False)
    _failures: dict[str, int] = field(init=False)
    _changed: asyncio.Condition = field(init=False)
    _halted: bool = field(init=False, default=False)
    _closed: set[Tier] = field(init=False, default_factory=set)
    _wake: asyncio.Future[None] | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.progress = Progress(
            {tier: TierProgress() for tier in TIERS}, spent_usd=self.store.spent_usd
        )
        self._queues = {tier: deque() for tier in TIERS}
        self._calling = dict.fromkeys(TIERS, 0)
        self._settled = dict.fromkeys(TIERS, 0)
        self._failures = dict.fromkeys((*TIERS, "scorer"), 0)

    async def run(self, items: Iterable[Item], *, seed: int = 0) -> None:
        """Get whatever is not there yet.

        Items are asked in an order of chance, so that what there is when a budget ends is a fair
        sample of them.

        Args:
            items: What is asked.
            seed: Of the order.

        Raises:
            ConfigurationError: No call can work as the models, the budget or the store are.
        """
        self._changed = asyncio.Condition()
        shuffled = list(items)
        random.Random(f"profile/{seed}").shuffle(shuffled)
        await self._line_up(shuffled)
        self.on_progress(self.progress)
        workers = [
            asyncio.create_task(self._work(tier))
            for tier in TIERS
            for _ in range(self.parallel[tier])
        ]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)

    def ask_to_stop(self) -> None:
        """Begin nothing new; calls that are under way are waited for. For the event loop only."""
        self._halt(Stop("asked"))
        self._wake = asyncio.ensure_future(self._notify())

    # What is to be done

    async def _line_up(self, items: Iterable[Item]) -> None:
        for item in items:
            for sample in range(self.samples):
                for tier in TIERS:
                    await self._line_up_one(item, Key(item.id, tier, sample))

    async def _line_up_one(self, item: Item, key: Key) -> None:
        progress = self.progress.tiers[key.tier]
        progress.total += 1
        known = self.store.outcomes.get(key)
        if known is None or not known.is_answered:
            self._queues[key.tier].append(_Job(item, key))
        elif known.status != "pending" and not self._is_to_be_rescored(item, known):
            progress.done += 1
        elif known.answer is None:  # its text was not kept, so it cannot be scored any more
            self._queues[key.tier].append(_Job(item, key))
        else:
            await self._score(item, _to_be_scored(item, known), known.answer)

    def _is_to_be_rescored(self, item: Item, known: Outcome) -> bool:
        """Whether a score is to be given again; a judge is not paid twice for the same."""
        if known.reference_sha256 != item.reference_sha256:  # somebody has mended the data
            return True
        if not self.rescore:
            return False
        return known.scorer != self.scorer.name or not isinstance(self.scorer, Grader)

    # Workers

    async def _work(self, tier: Tier) -> None:
        while (job := await self._next(tier)) is not None:
            try:
                if job.graded is None:
                    await self._ask(job)
                else:
                    await self._grade(tier, job, job.graded)
            finally:
                self.progress.under_way -= 1
                await self._notify()

    async def _next(self, tier: Tier) -> _Job | None:
        async with self._changed:
            while not self._halted:
                if self._queues[tier]:
                    self.progress.under_way += 1
                    return self._queues[tier].popleft()
                if not self.progress.under_way and not any(self._queues.values()):
                    break
                # Whatever is under way may still bring something to be graded.
                await self._changed.wait()
        return None

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    # Asking

    async def _ask(self, job: _Job) -> None:
        tier = job.key.tier
        bought = await self._when_it_fits(
            tier, lambda: self.asker.ask(tier, self.prompt(job.item), options=self.options)
        )
        if bought is None:
            return
        facts = bought.facts() | {
            "sample": job.key.sample,
            "attempt": self.store.attempts(job.key) + 1,
        }
        self.progress.spent_usd += bought.attempt.cost_usd or 0
        if bought.text is None:
            self._write(Outcome.about(job.item, **facts, status="failed"))
            self.progress.tiers[tier].failed += 1
            self._failed(tier, facts["error"])
            return
        self._failures[tier] = 0
        text = bought.text
        outcome = Outcome.about(
            job.item,
            **facts,
            status="pending",
            answer=text if self.keep_answers else None,
            answer_chars=len(text),
            no_answer=not text.strip(),
        )
        await self._score(job.item, outcome, text)

    async def _when_it_fits(self, tier: Tier, call: Callable[[], Any]) -> Any:
        """Make a call as soon as the budget allows it; `None` once it never will.

        What is held for calls under way is their worst case: much of it comes back.
        """
        while True:
            seen = self._settled[tier]
            self._calling[tier] += 1
            try:
                made = await call()
                self._settled[tier] += 1
            except BudgetExceeded as refused:
                error = refused
            else:
                return made
            finally:
                self._calling[tier] -= 1
                await self._notify()
            async with self._changed:
                while self._calling[tier] and self._settled[tier] == seen and not self._halted:
                    await self._changed.wait()
                if self._settled[tier] == seen:
                    self._close(tier, str(error))
                if self._halted or tier in self._closed:
                    return None

    # Scoring

    async def _score(self, item: Item, outcome: Outcome, text: str) -> None:
        """Score an answer and write it down; where that takes long, the answer comes first."""
        if isinstance(self.scorer, Grader) and text.strip():
            self._write(outcome)
            self._queues[self.scorer.tier].appendleft(_Job(item, outcome.key, outcome, text))
            self.progress.to_grade += 1
            return
        if isinstance(self.scorer, CallableScorer) and self._is_new(outcome):
            self._write(outcome)
        self._conclude(outcome, await marked(self.scorer, item, text, asker=self.asker))

    def _is_new(self, outcome: Outcome) -> bool:
        return self.store.outcomes.get(outcome.key) != outcome

    async def _grade(self, tier: Tier, job: _Job, outcome: Outcome) -> None:
        facts: dict[str, Any] | None = await self._when_it_fits(
            tier, lambda: marked(self.scorer, job.item, job.text, asker=self.asker)
        )
        if facts is not None:
            self.progress.to_grade -= 1
            self._conclude(outcome, facts)

    def _conclude(self, outcome: Outcome, facts: Mapping[str, Any]) -> None:
        """Write down what the scorer said; that it failed is no score."""
        self.progress.spent_usd += facts["judge_usd"] or 0
        done = facts["status"] != "pending"
        self.progress.tiers[outcome.tier].done += done
        told = dict(facts)
        if not self.keep_answers and (not done or isinstance(self.scorer, CallableScorer)):
            # What others say, of an answer or of their own failure, may repeat the answer.
            told["score_reason"] = None if done else "it failed"
        self._write(replace(outcome, **told))
        if done:
            self._failures["scorer"] = 0
        else:
            self._failed("scorer", facts["score_reason"])

    def _write(self, outcome: Outcome) -> None:
        self.store.append(outcome)
        self.on_progress(self.progress)

    # Ends

    def _failed(self, who: str, cause: str) -> None:
        self._failures[who] += 1
        if self._failures[who] >= self.max_failures:
            tier = next((tier for tier in TIERS if tier == who), None)
            self._halt(Stop("failures", cause, tier))

    def _close(self, tier: Tier, refusal: str) -> None:
        """Ask a tier nothing more; the other one only completes what this one has answered."""
        self.stop = self.stop or Stop("budget", refusal, tier)
        self._closed.add(tier)
        if isinstance(self.scorer, Grader) or len(self._closed) == len(TIERS):
            self._halt(self.stop)
            return
        self._queues[tier].clear()
        other = other_tier(tier)
        outcomes = self.store.outcomes
        self._queues[other] = deque(
            job
            for job in self._queues[other]
            if (partner := outcomes.get(job.key._replace(tier=tier))) and partner.is_answered
        )
        self.on_progress(self.progress)

    def _halt(self, stop: Stop) -> None:
        """Begin nothing new."""
        if self._halted:
            return
        self.stop = self.stop or stop
        self._halted = self.progress.stopping = True
        self.on_progress(self.progress)


def _to_be_scored(item: Item, known: Outcome) -> Outcome:
    """Return an answer as it was before anybody scored it; what that cost stays booked."""
    return replace(
        known,
        reference_sha256=item.reference_sha256,
        status="pending",
        score=None,
        scorer=None,
        score_reason=None,
        weak_judge=False,
        judge_usd=Decimal(0),
    )
