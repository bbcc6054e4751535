"""Interventions on a plan: set a subtask's tier, let what follows from it run, look at the end."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from langchain_hybridflow.calls import other_tier
from langchain_hybridflow.errors import BudgetExceeded
from langchain_hybridflow.graph import SubtaskRecord
from langchain_hybridflow.profiling._answers import Answers, Slot
from langchain_hybridflow.profiling._replaying import Replayer
from langchain_hybridflow.profiling._subtasks import (
    Purpose,
    failure_of,
    outcome_of,
    prompt_of,
    subtask_item,
)
from langchain_hybridflow.profiling.asking import Asker
from langchain_hybridflow.profiling.credit import Credit, CreditDesign, Trial, estimate_credit
from langchain_hybridflow.profiling.judging import Grader
from langchain_hybridflow.profiling.marking import marked
from langchain_hybridflow.profiling.recorded import RecordedRun
from langchain_hybridflow.profiling.records import Item, Key
from langchain_hybridflow.profiling.running import Stop
from langchain_hybridflow.profiling.scoring import Scorer
from langchain_hybridflow.profiling.store import ProfileStore
from langchain_hybridflow.routing import RouteRequest, Tier

__all__ = ["Halted", "Prober", "Subject", "refusal_in"]


class Halted(Exception):
    """Nothing more can be bought.

    Attributes:
        stop: Why.
    """

    def __init__(self, stop: Stop) -> None:
        self.stop = stop
        super().__init__(stop.cause)


@dataclass(slots=True)
class Subject:
    """One plan that trials are made on.

    Attributes:
        run: The question, the plan and the run that the profile is about.
        tiers: Who answered in that run; the tier that was to answer where nobody did.
        answers: All answers to its subtasks that are known.
        requests: What the router saw of each subtask in that run.
        free: The subtasks that a router decides on: both tiers may answer them.
        trials: What came of the interventions on each subtask.
        failed_trials: Interventions without a final score on both tiers.
    """

    run: RecordedRun
    tiers: Mapping[str, Tier]
    answers: Answers
    requests: Mapping[str, RouteRequest] = field(default_factory=dict)
    free: tuple[str, ...] = ()
    trials: dict[str, list[Trial]] = field(default_factory=dict)
    failed_trials: int = 0
    finals: dict[Slot, float | None] = field(default_factory=dict)
    _last: dict[str, SubtaskRecord] = field(default_factory=dict)
    _last_tiers: Mapping[str, Tier] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """The id of the question."""
        return self.run.item.id

    def item(self, subtask_id: str, results: Mapping[str, SubtaskRecord]) -> Item:
        """Describe a subtask whose parents were answered so."""
        subtask = self.run.plan[subtask_id]
        here = self.results
        is_here = all(
            one in here and results[one]["answer"] == here[one]["answer"]
            for one in subtask.depends_on
        )
        item = subtask_item(
            self.run.item,
            subtask,
            self.answers.slot(subtask, "edge", results),
            messages=prompt_of(subtask, self.run.question, results),
            request=self.requests.get(subtask_id) if is_here else None,
        )
        is_final = subtask_id == self.run.plan.sink.id
        return replace(item, reference=self.run.item.reference) if is_final else item

    @property
    def results(self) -> dict[str, SubtaskRecord]:
        """The results of the run that the profile is about, as far as they are known."""
        return self.answers.under(self.tiers)[0]

    def fits(self, record: SubtaskRecord, results: Mapping[str, SubtaskRecord]) -> bool:
        """Whether a result was made from these results of others."""
        if record["status"] != "ok":
            return True
        subtask = self.run.plan[record["id"]]
        if any(one not in results for one in subtask.depends_on):
            return False
        return self.answers.slot(subtask, "edge", results).inputs_hash == record["inputs_hash"]

    @property
    def varies(self) -> bool:
        """Whether some assignment of tiers gave another final score than another one."""
        return len({score for score in self.finals.values() if score is not None}) > 1

    def known(self, tiers: Mapping[str, Tier]) -> dict[str, SubtaskRecord]:
        """Return results to begin a replay with, also some that will stand only by luck."""
        results, _ = self.answers.under(tiers)
        likely = {
            one: record
            for one, record in self._last.items()
            if self._last_tiers[one] == tiers[one] and one not in results
        }
        return {**likely, **results}

    def remember(self, tiers: Mapping[str, Tier]) -> None:
        """Keep the results under an assignment: others that are like it share most of them."""
        self._last, self._last_tiers = self.answers.under(tiers)[0], tiers

    def credit(self, subtask_id: str, design: CreditDesign) -> Credit | None:
        """Estimate the credit of a subtask from its trials so far."""
        tried_all = design.tries_all(len(self.run.plan))
        return estimate_credit(self.trials.get(subtask_id, ()), tried_all=tried_all)


@dataclass(slots=True, kw_only=True)
class Prober:
    """Makes trials.

    Attributes:
        replayer: Runs what is not known yet.
        asker: Buys the grades of a judge.
        scorer: Scores final answers.
        store: Where answers are written down.
        max_failures: Failures in a row, of a tier or of the scorer, that end the profile.
        stop: Why it ended early; `None` if it did not.
    """

    replayer: Replayer
    asker: Asker
    scorer: Scorer | Grader
    store: ProfileStore
    max_failures: int = 10
    stop: Stop | None = None
    _failures: Counter[str] = field(default_factory=Counter)
    _at_work: int = 0
    _alone: asyncio.Lock = field(default_factory=asyncio.Lock)
    _idle: asyncio.Event = field(default_factory=asyncio.Event)

    async def probe(self, subject: Subject, number: int, design: CreditDesign) -> None:
        """Flip each free subtask of a plan in one context.

        The order is one of chance: if the budget ends in the middle, no place in the plan is worse
        off than another.
        """
        contexts = design.contexts(subject.id, subject.run.plan.order)
        if number >= len(contexts):
            return
        tiers = contexts[number]
        flips = [one for one in subject.free if design.weight(tiers, one) > 0]
        if not flips:
            return
        before = await self.final_score(subject, tiers, bought="credit")
        subject.remember(tiers)
        random.Random(f"{design.seed}/{number}/{subject.id}").shuffle(flips)
        for subtask_id in flips:
            if before is None:
                subject.failed_trials += 1
                continue
            flipped = {**tiers, subtask_id: other_tier(tiers[subtask_id])}
            after = await self.final_score(subject, flipped, bought="credit")
            if after is None:
                subject.failed_trials += 1
                continue
            scores = {tiers[subtask_id]: before, flipped[subtask_id]: after}
            trial = Trial(scores["edge"], scores["cloud"], design.weight(tiers, subtask_id))
            subject.trials.setdefault(subtask_id, []).append(trial)

    async def final_score(
        self, subject: Subject, tiers: Mapping[str, Tier], *, bought: Purpose
    ) -> float | None:
        """Return the score of the final answer under an assignment of tiers; `None` without any.

        Raises:
            Halted: It would have to be bought, and nothing is bought any more.
        """
        plan, answers = subject.run.plan, subject.answers
        results, failed = answers.under(tiers)
        if failed is not None:
            return None
        if len(results) < len(plan):
            await self._complete(subject, tiers, bought)
            results, failed = answers.under(tiers)
            if len(results) < len(plan):
                return None
        sink = results[plan.sink.id]
        slot = answers.slot(plan.sink, tiers[plan.sink.id], results)
        if slot not in subject.finals:
            subject.finals[slot] = await self._score(subject, results, sink)
        return subject.finals[slot]

    async def _complete(self, subject: Subject, tiers: Mapping[str, Tier], bought: Purpose) -> None:
        """Run what is not known, once more on its own if the budget refused a call.

        What is held for calls under way is their worst case: much of it comes back.
        """
        async with self._alone:
            self.check()
            self._at_work += 1
            self._idle.clear()
        try:
            refusal = await self._replay(subject, tiers, bought)
        finally:
            self._at_work -= 1
            if not self._at_work:
                self._idle.set()
        if refusal:
            async with self._alone:
                await self._idle.wait()
                before = -1
                while refusal and self.stop is None and before < len(subject.answers):
                    before = len(subject.answers)
                    refusal = await self._replay(subject, tiers, bought)
                if refusal:
                    self.stop = self.stop or Stop("budget", refusal, "cloud")
        self.check()

    async def _replay(
        self, subject: Subject, tiers: Mapping[str, Tier], bought: Purpose
    ) -> str | None:
        """Run what is not known; return why the budget refused a call, if it did."""
        run = subject.run
        seen = subject.known(tiers)
        given = dict(seen)
        waiting: list[SubtaskRecord] = []
        refusals: list[str] = []

        def take(record: SubtaskRecord) -> None:
            seen[record["id"]] = record
            waiting.append(record)
            # A result may be told of before the one that it was made from.
            for one in [one for one in waiting if subject.fits(one, seen)]:
                waiting.remove(one)
                tier = tiers[one["id"]]
                refusal = refusal_in(one, tier)
                if refusal is None:
                    self.take(subject, one, tier, results=seen, bought=bought)
                else:
                    refusals.append(refusal)

        await self.replayer.complete(
            run.question, run.plan, tiers, known=given, on_record=take, tag=run.item.tag
        )
        return refusals[0] if refusals else None

    def check(self) -> None:
        """Go on, if anything may still be bought.

        Raises:
            Halted: Nothing may.
        """
        if self.stop is not None:
            raise Halted(self.stop)

    def take(
        self,
        subject: Subject,
        record: SubtaskRecord,
        tier: Tier,
        *,
        results: Mapping[str, SubtaskRecord],
        bought: Purpose,
    ) -> None:
        """Write a result down, if it is new, and know it from now on.

        Args:
            subject: Whose.
            record: The result.
            tier: Who was to answer.
            results: Those that it builds on, at least.
            bought: What for.
        """
        if record["status"] == "ok":
            self._failures[record["tier"] or tier] = 0
            if not subject.answers.add(record, tier) or record["tier"] != tier:
                return
            write = outcome_of
        elif record["status"] == "failed":
            slot = Slot(record["id"], record["inputs_hash"], tier)
            subject.answers.fail(slot, record["error"] or "no reason given")
            if not record["attempts"]:  # a filter lets nobody answer
                return
            self.fail(record["error"] or "no reason given", tier)
            write = failure_of
        else:
            return
        item = subject.item(record["id"], results)
        attempt = self.store.attempts(Key(item.id, tier)) + 1
        self.store.append(write(item, record, attempt=attempt, bought=bought))

    async def _score(
        self, subject: Subject, results: Mapping[str, SubtaskRecord], sink: SubtaskRecord
    ) -> float | None:
        """Score a final answer, unless that was done before."""
        item = subject.item(sink["id"], results)
        known = self.store.outcomes.get(Key(item.id, sink["tier"] or "edge"))
        if known is not None and known.status != "pending":
            # Who scored it, and by what: somebody may have mended the data since.
            by = (known.scorer, known.reference_sha256)
            if by == (self.scorer.name, item.reference_sha256):
                return known.score
        self.check()
        try:
            facts = await marked(
                self.scorer, subject.run.item, sink["answer"] or "", asker=self.asker
            )
        except BudgetExceeded as refused:
            self.stop = Stop("budget", str(refused), getattr(self.scorer, "tier", None))
            raise Halted(self.stop) from refused
        if facts["status"] == "pending":
            self.fail(str(facts["score_reason"]))
        else:
            self._failures["scorer"] = 0
        if known is not None:
            sha256 = item.reference_sha256
            self.store.append(replace(known, reference_sha256=sha256, **facts))
        score: float | None = facts["score"]
        return score

    def fail(self, cause: str, tier: Tier | None = None) -> None:
        """Count a failure of a tier, or of the scorer, and end the profile after too many of it."""
        who = tier or "scorer"
        self._failures[who] += 1
        if self._failures[who] >= self.max_failures:
            self.stop = self.stop or Stop("failures", cause, tier)


def refusal_in(record: SubtaskRecord, tier: Tier) -> str | None:
    """Return why the budget did not let the tier answer that was to; `None` if it did."""
    if record["status"] == "ok" and (record["tier"] == tier or record["kept_local"]):
        return None
    refused = [one["error"] for one in record["attempts"] if one["status"] == "refused"]
    return str(refused[-1] or "no reason given") if refused else None
