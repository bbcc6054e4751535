"""Profile the subtasks of plans: the run, then both tiers in its context, then the trials."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final, Literal, TypeAlias, TypeVar

from langchain_core.messages import BaseMessage

from langchain_hybridflow.calls.deciding import permit
from langchain_hybridflow.errors import CapabilityError, InputError, PolicyViolation
from langchain_hybridflow.graph import SubtaskRecord
from langchain_hybridflow.graph.requests import requests_of_run, settled_early
from langchain_hybridflow.plan import Plan
from langchain_hybridflow.planner import ChatPlanner
from langchain_hybridflow.profiling._answers import Answers
from langchain_hybridflow.profiling._finals import final_scorer
from langchain_hybridflow.profiling._replaying import Replayer
from langchain_hybridflow.profiling._subtasks import prompt_of, record_of, slot_of
from langchain_hybridflow.profiling._trials import Halted, Prober, Subject, refusal_in
from langchain_hybridflow.profiling.asking import Asker
from langchain_hybridflow.profiling.credit import CreditDesign
from langchain_hybridflow.profiling.judging import Grader
from langchain_hybridflow.profiling.recorded import RecordedRun
from langchain_hybridflow.profiling.records import Item, Key, Outcome
from langchain_hybridflow.profiling.running import Runner, Stop
from langchain_hybridflow.profiling.scoring import Scorer
from langchain_hybridflow.profiling.store import AppendLog, ProfileStore
from langchain_hybridflow.routing import TIERS, Tier

__all__ = ["Phase", "PlanProgress", "PlanRunner"]

Phase: TypeAlias = Literal["runs", "tiers", "trials"]
"""What a profile of plans is at: answering the questions, asking the other tier, making trials."""

T = TypeVar("T")

_FIRST: Final = 2
"""Contexts come in pairs that mirror each other."""


@dataclass(slots=True)
class PlanProgress:
    """How far a profile of plans is.

    Attributes:
        phase: What it is at.
        done: Runs and contexts that are there.
        total: Those that are wanted: one run and so many contexts for each question.
        stopping: Whether nothing new is begun.
    """

    phase: Phase = "runs"
    done: int = 0
    total: int = 0
    stopping: bool = False


@dataclass(slots=True, kw_only=True)
class PlanRunner:
    """One run over plans; see the module.

    Attributes:
        store: Where answers are kept.
        plans: Where plans are kept.
        replayer: Runs plans.
        asker: Buys single answers and grades.
        scorer: Scores final answers.
        design: The trials to make; `None` makes none.
        base: Draws the tiers of the runs, as its first context.
        parallel: Calls at once, for each tier.
        at_once: Plans that are worked on at once.
        max_failures: Failures in a row, of a tier or of the scorer, that end the run.
        seed: Of the tiers of the runs, and of all orders.
        stream_plan: Whether subtasks are routed while their plan is being written.
        on_progress: Is told as work goes on; must not block.
        subjects: The plans, as they came.
        failed: Questions without a run, with the reason.
        lost: Calls that were made for them in this run.
        items: The subtasks that both tiers are asked, by question and subtask id.
    """

    store: ProfileStore
    plans: AppendLog
    replayer: Replayer
    asker: Asker
    scorer: Scorer | Grader
    design: CreditDesign | None
    base: CreditDesign
    parallel: Mapping[Tier, int]
    at_once: int = 4
    max_failures: int = 10
    seed: int = 0
    stream_plan: bool = True
    on_progress: Callable[[PlanProgress], None] = lambda _: None
    subjects: list[Subject] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    lost: list[Mapping[str, Any]] = field(default_factory=list)
    items: dict[tuple[str, str], Item] = field(default_factory=dict)
    progress: PlanProgress = field(default_factory=PlanProgress)
    _prober: Prober = field(init=False)
    _asking: Runner | None = None
    _logged: dict[str, list[Outcome]] = field(init=False)

    def __post_init__(self) -> None:
        self._prober = Prober(
            replayer=self.replayer,
            asker=self.asker,
            scorer=self.scorer,
            store=self.store,
            max_failures=self.max_failures,
        )
        self._logged = {}
        for outcome in self.store.outcomes.values():
            self._logged.setdefault(str(outcome.extra["question_id"]), []).append(outcome)

    @property
    def stop(self) -> Stop | None:
        """Why it ended before everything was there; `None` if it did not."""
        return self._prober.stop

    def ask_to_stop(self) -> None:
        """Begin nothing new; calls that are under way are waited for. For the event loop only."""
        self._prober.stop = self._prober.stop or Stop("asked")
        self.progress.stopping = True
        if self._asking is not None:
            self._asking.ask_to_stop()

    async def run_questions(self, items: Sequence[Item]) -> None:
        """Plan questions and answer them, then profile their subtasks."""
        known = {row["item_id"]: row for row in self.plans.rows}

        async def begin(item: Item) -> Subject | None:
            row = known.get(item.id)
            try:
                return self._again(item, row) if row else await self._begin(item)
            except InputError as error:
                self.failed[item.id] = str(error)
                return None

        await self._profile(items, begin)
        place = {item.id: number for number, item in enumerate(items)}
        self.subjects.sort(key=lambda subject: place[subject.id])

    async def run_recorded(self, runs: Sequence[RecordedRun]) -> None:
        """Profile the subtasks of runs that were recorded; what they lack is bought first."""

        async def begin(run: RecordedRun) -> Subject:
            subject = self._subject(run, self._drawn(run.item, run.plan) | _tiers(run.results))
            for record in run.results.values():
                tier = record["tier"] or "edge"
                self._prober.take(subject, record, tier, results=run.results, bought="recorded")
            return subject

        await self._profile(runs, begin)
        place = {run.item.id: number for number, run in enumerate(runs)}
        self.subjects.sort(key=lambda subject: place[subject.id])

    async def _profile(
        self, sources: Sequence[T], begin: Callable[[T], Awaitable[Subject | None]]
    ) -> None:
        """Work through questions block by block up to the first trials, then make the others.

        So a budget that ends early has bought something for some, not half of it for all.
        """
        samples = self.design.samples if self.design else 0
        self.progress.total = len(sources) * (1 + samples)
        shuffled = self._shuffled(sources)
        for start in range(0, len(shuffled), self.at_once):
            block: list[Subject] = []

            async def answer(source: T, block: list[Subject] = block) -> None:
                subject = await begin(source)
                if subject is not None:
                    self.subjects.append(subject)
                    block.append(subject)
                    await self._complete(subject)

            await self._each("runs", shuffled[start : start + self.at_once], answer)
            await self._ask_both(block)
            await self._try(block, range(min(_FIRST, samples)))
        await self._try(self._shuffled(self.subjects), range(_FIRST, samples))

    # The run that a profile is about

    async def _begin(self, item: Item) -> Subject | None:
        """Plan a question and answer it, with tiers by chance."""
        self._prober.check()
        question = shown(item)
        out = await self.replayer.begin(question, lambda one: self._draw(item, one), tag=item.tag)
        planning, plan = out["report"]["planning"], Plan.model_validate(out["plan"])
        lost = [one for one in planning["attempts"] if one["status"] != "ok"]
        if planning["source"] == "fallback" and lost:
            self.failed[item.id] = f"no plan: {planning['reason']}"
            self.lost += planning["attempts"]
            self.lost += [one for result in out["results"].values() for one in result["attempts"]]
            if lost[-1]["status"] == "refused":
                self._prober.stop = Stop("budget", lost[-1]["error"] or "", lost[-1]["tier"])
            else:
                self._prober.fail(planning["reason"], lost[-1]["tier"])
            return None
        run = RecordedRun(
            item=item, question=question, plan=plan, results={}, planned=planning["source"]
        )
        self.plans.append(_row_of(run, planning))
        subject = self._subject(run, self._drawn(item, plan))
        for one in plan.order:
            record, tier = out["results"][one], subject.tiers[one]
            if refusal_in(record, tier) is None:
                self._prober.take(subject, record, tier, results=out["results"], bought="run")
        return subject

    def _again(self, item: Item, row: Mapping[str, Any]) -> Subject:
        """Take up a question whose plan was made before."""
        plan = Plan.model_validate(row["plan"])
        run = RecordedRun(
            item=item, question=row["question"], plan=plan, results={}, planned=row["planned"]
        )
        return self._subject(run, self._drawn(item, plan))

    def _subject(self, run: RecordedRun, tiers: Mapping[str, Tier]) -> Subject:
        subject = Subject(run, tiers, Answers(run.question, run.plan))
        for outcome in self._logged.get(run.item.id, ()):
            if outcome.answer and outcome.extra["subtask_id"] in run.plan:
                subject.answers.add(record_of(outcome), outcome.tier)
        return subject

    async def _complete(self, subject: Subject) -> None:
        """Get what the run lacks, and say what the router saw in it."""
        await self._prober.final_score(subject, subject.tiers, bought="run")
        run, core = subject.run, self.replayer.model.core
        results, early = subject.results, self._early(run)
        requests = requests_of_run(
            run.plan,
            results,
            question=run.question,
            core=core,
            early=early or frozenset(),
            tag=run.item.tag,
        )
        free = []
        for one, request in requests.items():
            try:
                allowed = permit(request, models=core.models, policy=core.policy).allowed
            except (CapabilityError, PolicyViolation):
                continue
            if allowed == TIERS and one in results:
                free.append(one)
        subject.free = tuple(free)
        if early is None:
            # A learned router decides on a plan that is known as a whole, before any answer.
            requests = {one: replace(it, parent_tiers=()) for one, it in requests.items()}
        subject.requests = requests

    def _early(self, run: RecordedRun) -> frozenset[str] | None:
        """Return what is routed before the plan is complete; `None` if nothing is."""
        planner = self.replayer.planner
        if not (self.stream_plan and isinstance(planner, ChatPlanner)):
            return None
        if run.planned not in ("planner", None) or len(run.plan) == 1:
            return None
        return settled_early(run.plan, question=run.question, max_subtasks=planner.max_subtasks)

    def _draw(self, item: Item, subtask_id: str) -> Tier:
        return self.base.tier(item.id, 0, subtask_id)

    def _drawn(self, item: Item, plan: Plan) -> dict[str, Tier]:
        return {one: self._draw(item, one) for one in plan.order}

    # Both tiers in the context of the run, then the trials

    async def _ask_both(self, subjects: Sequence[Subject]) -> None:
        """Ask the tier, too, that did not answer a subtask in the run."""
        prompts: dict[str, list[BaseMessage]] = {}
        finals: dict[str, Item] = {}
        for subject in subjects:
            results, plan = subject.results, subject.run.plan
            for one in subject.free:
                item = self.items[subject.id, one] = subject.item(one, results)
                prompts[item.id] = prompt_of(plan[one], subject.run.question, results)
                if one == plan.sink.id:
                    finals[item.id] = subject.run.item
        if prompts and self.stop is None:
            wanted = [item for item in self.items.values() if item.id in prompts]
            await self._run_both(wanted, prompts, finals)
        for subject in subjects:
            self._learn(subject)

    async def _run_both(
        self,
        items: Sequence[Item],
        prompts: Mapping[str, list[BaseMessage]],
        finals: Mapping[str, Item],
    ) -> None:
        self.progress.phase = "tiers"
        self._asking = Runner(
            store=self.store,
            asker=self.asker,
            scorer=final_scorer(self.scorer, finals),
            prompt=lambda item: prompts[item.id],
            parallel=self.parallel,
            max_failures=self.max_failures,
            on_progress=lambda _: self._tell(),
        )
        await self._asking.run(items, seed=self.seed)
        self._prober.stop = self._prober.stop or self._asking.stop
        self._asking = None

    async def _try(self, subjects: Sequence[Subject], contexts: Iterable[int]) -> None:
        """Make the trials of these contexts, one context of all plans after the other."""
        design = self.design
        if design is None:
            return
        for number in contexts:
            chosen = [one for one in subjects if number < _FIRST or one.varies or not design.focus]
            self.progress.total -= len(subjects) - len(chosen)
            await self._each(
                "trials", chosen, partial(self._prober.probe, number=number, design=design)
            )

    def _learn(self, subject: Subject) -> None:
        """Know from now on what both tiers answered in the context of the run."""
        for one in subject.free:
            for tier in TIERS:
                outcome = self.store.outcomes.get(Key(self.items[subject.id, one].id, tier))
                if outcome is None:
                    continue
                if outcome.answer and outcome.answer.strip():
                    subject.answers.add(record_of(outcome), tier)
                else:
                    subject.answers.fail(slot_of(outcome), outcome.error or "it returned no text")

    # How work is told and divided

    def _shuffled(self, things: Iterable[T]) -> list[T]:
        shuffled = list(things)
        random.Random(f"plans/{self.seed}").shuffle(shuffled)
        return shuffled

    async def _each(
        self, phase: Phase, things: Iterable[T], work: Callable[[T], Awaitable[None]]
    ) -> None:
        """Work on so many at once; nothing new is begun once nothing can be bought.

        Raises:
            HybridFlowError: Nothing of it can go on, such as with a full disk.
        """
        self.progress.phase = phase
        free = asyncio.Semaphore(self.at_once)

        async def one(thing: T) -> None:
            async with free:
                if self.stop is not None:
                    return
                try:
                    await work(thing)
                except Halted:
                    return
                self.progress.done += 1
                self._tell()

        errors: Sequence[Exception] = ()
        try:
            async with asyncio.TaskGroup() as group:
                for thing in things:
                    group.create_task(one(thing))
        except ExceptionGroup as group_of_errors:
            # Whoever called deals with one error, and has no use for what it broke off.
            errors = group_of_errors.exceptions
        if errors:
            raise errors[0]

    def _tell(self) -> None:
        self.progress.stopping = self.stop is not None
        self.on_progress(self.progress)


def shown(item: Item) -> str:
    """Return what of a question the planner and the subtasks see."""
    return "\n\n".join(part for part in (item.context, item.question) if part)


def _tiers(results: Mapping[str, SubtaskRecord]) -> dict[str, Tier]:
    return {one: record["tier"] for one, record in results.items() if record["tier"]}


def _row_of(run: RecordedRun, planning: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "item_id": run.item.id,
        "item_sha256": run.item.sha256,
        "question": run.question,
        "plan": run.plan.model_dump(mode="json"),
        "planned": run.planned,
        "planning": dict(planning),
    }
