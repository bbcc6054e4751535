"""Profile both tiers on the subtasks of plans, and what each subtask's tier changes in the end.

In the directory of the profile: `log.jsonl` (all answers, each on the disk before work goes on),
`plans.jsonl` (the plans), `budget.db` (the ledger), and what is written at the end: `outcomes`
(the wide table that `hybridflow train` reads) and `answers` (the long one). The wide table has the
columns of `langchain_hybridflow.learning.dataset`, and:

| Column | Meaning |
|---|---|
| `question` | The subtask's task: what a router sees as `RouteRequest.text`. |
| `edge_correct`, `cloud_correct` | Mean score of the *final* answer with this subtask there. |
| `group` | The whole question: no split tears its subtasks apart. |
| `credit` | `cloud_correct` - `edge_correct`: what the cloud is worth here; see `credit`. |
| `credit_se`, `credit_samples`, `credit_is_exact` | How well that is known, see `Credit`. |
| `role` ... `parent_cloud_share` | What the router saw in the run that was profiled. |
| `question_id`, `subtask_id` | Where it belongs. |

Tokens, seconds and USD are those of this subtask's own answers, in the context of that run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, Literal

from langchain_core.language_models import BaseChatModel
from pydantic import ValidationError

from langchain_hybridflow.budget import Budget, Price
from langchain_hybridflow.calls import model_name
from langchain_hybridflow.errors import ConfigurationError, PlanError
from langchain_hybridflow.plan import Plan
from langchain_hybridflow.planner import ChatPlanner, Planner
from langchain_hybridflow.profiling._plan_runner import PlanProgress, PlanRunner
from langchain_hybridflow.profiling._replaying import Replayer
from langchain_hybridflow.profiling._subtask_tables import (
    PlansSummary,
    credits_of,
    subtask_table,
    summarise_plans,
)
from langchain_hybridflow.profiling._sync import run_here
from langchain_hybridflow.profiling.asking import Asker
from langchain_hybridflow.profiling.credit import CreditDesign
from langchain_hybridflow.profiling.inquiry import Shop, inquiry_of
from langchain_hybridflow.profiling.items import read_items
from langchain_hybridflow.profiling.judging import Grader
from langchain_hybridflow.profiling.recorded import RecordedRun, read_runs, with_references
from langchain_hybridflow.profiling.records import Item
from langchain_hybridflow.profiling.running import Stop
from langchain_hybridflow.profiling.scoring import Scorer
from langchain_hybridflow.profiling.store import AppendLog, ProfileStore
from langchain_hybridflow.profiling.tables import long_table, table_format, write_table
from langchain_hybridflow.routing import Policy, Tier
from langchain_hybridflow.sandbox import SANDBOX_PRICES

__all__ = [
    "PlanProgress",
    "PlanRunner",
    "PlansSummary",
    "SubtaskProfile",
    "aprofile_plans",
    "profile_plans",
]

_LEDGER: Final = "budget.db"
_PLANS: Final = "plans.jsonl"
_TRIALS: Final = CreditDesign()


@dataclass(frozen=True, slots=True, kw_only=True)
class SubtaskProfile:
    """What came of a profile of plans.

    Attributes:
        outcomes: Path of the wide table, that `hybridflow train` reads.
        answers: Path of the long one.
        summary: The figures.
        stop: Why the run ended before everything was there; `None` if it did not.
        notes: What a person should know.
        failed: Questions without a plan that was run, with the reason.
        budget: What the ledger says, see `Budget.snapshot`.
    """

    outcomes: Path
    answers: Path
    summary: PlansSummary
    stop: Stop | None
    notes: tuple[str, ...]
    failed: Mapping[str, str]
    budget: Mapping[str, Any]

    @property
    def is_complete(self) -> bool:
        """Whether there is nothing that another run of the same profile could still get."""
        return self.stop is None and not self.failed and not self.summary.failed_trials

    def to_json(self) -> dict[str, Any]:
        """Return it in plain JSON types; USD as text."""
        stop = self.stop
        return {
            "complete": self.is_complete,
            "outcomes": str(self.outcomes),
            "answers": str(self.answers),
            **self.summary.to_json(),
            "stopped": None
            if stop is None
            else {"kind": stop.kind, "tier": stop.tier, "cause": stop.cause},
            "notes": list(self.notes),
            "failed": dict(self.failed),
            "budget": dict(self.budget),
        }


def profile_plans(
    data: str | Path | Sequence[Item] | None = None, **options: Any
) -> SubtaskProfile:
    """Profile the subtasks of plans; see `aprofile_plans`.

    Not for use within a running event loop.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from langchain_hybridflow.sandbox import sandbox_cloud, sandbox_edge
        >>> with TemporaryDirectory() as place:
        ...     profile = profile_plans(
        ...         "sandbox:3",
        ...         edge=sandbox_edge(time_scale=0),
        ...         cloud=sandbox_cloud(time_scale=0),
        ...         out=place,
        ...         credit=CreditDesign(samples=2),
        ...     )
        >>> profile.is_complete, profile.summary.rows == profile.summary.subtasks
        (True, True)
    """
    return run_here(lambda: aprofile_plans(data, **options), instead="aprofile_plans")


async def aprofile_plans(
    data: str | Path | Sequence[Item] | None = None,
    *,
    edge: BaseChatModel,
    cloud: BaseChatModel,
    out: str | Path,
    runs: str | Path | Sequence[RecordedRun] | None = None,
    scorer: str | Scorer | Grader | None = None,
    planner: Planner | ChatPlanner | BaseChatModel | Literal["auto", "always"] = "auto",
    stream_plan: bool = True,
    credit: CreditDesign | None = _TRIALS,
    policy: Policy | None = None,
    limit_usd: Decimal | float | str | None = None,
    prices: Mapping[str, Price] | None = None,
    parallel_edge: int = 1,
    parallel_cloud: int = 8,
    parallel_plans: int = 4,
    seed: int = 0,
    max_tokens: int = 2048,
    temperature: float | None = None,
    timeout_s: float = 120.0,
    restart: bool = False,
    max_failures: int = 10,
    on_start: Callable[[PlanRunner], None] = lambda _: None,
    on_progress: Callable[[PlanProgress], None] = lambda _: None,
) -> SubtaskProfile:
    """Plan questions, profile each subtask on both tiers, and find out what its tier changes.

    First each question is planned and answered as a graph would do it, with tiers by chance (or
    taken from `runs`). Then the tier that did not answer a subtask is asked, too, with the same
    parents' answers. Then come the trials, see `credit`: each sets one subtask's tier in a context
    of others', runs what follows from it, and scores the final answer. What does not follow keeps
    its answer: nothing is bought twice, neither in one run nor when the same call goes on after it
    was ended. When the budget ends, each question has had about as many trials as any other.

    Args:
        data: Questions: a file (see `items`), `"sandbox:200"`, or items. With `runs` it only says
            what is right.
        edge: The cheap model.
        cloud: The expensive one.
        out: The directory of the profile.
        runs: A file of saved runs (see `recorded`), or such runs. Their plans and answers are used,
            and only what they lack is bought.
        scorer: How final answers are scored, as in `aprofile_questions`.
        planner: As in `HybridFlowGraph`: the one that will be used.
        stream_plan: As in `HybridFlowGraph`: what a router sees of a subtask depends on it.
        credit: The trials to make. `None` makes none; then only last subtasks have a score.
        policy: As in `RoutedChatModel`. What it keeps on the edge is never sent to the cloud.
        limit_usd: What all runs of this profile together may spend, a hard limit.
        prices: Prices by model name, before the built-in list.
        parallel_edge: Edge calls at once.
        parallel_cloud: Cloud calls at once.
        parallel_plans: Plans that are worked on at once.
        seed: Of the tiers in the runs, of the sandbox's problems and of all orders.
        max_tokens: The longest answer, in tokens.
        temperature: Of both models; `None` leaves it to them.
        timeout_s: Longest wait for a whole answer, in seconds.
        restart: Begin anew; what was there is kept in a directory `before-N`.
        max_failures: Failures in a row, of a tier or of the scorer, that end the run.
        on_start: Is given the run before its first call, to follow or stop it.
        on_progress: Is told as work goes on; must not block.

    Raises:
        ConfigurationError: Something cannot work as it was given; nothing was asked then.
        UnknownPriceError: USD are limited, and nobody has said what the cloud model costs.
    """
    if type(parallel_plans) is not int or parallel_plans < 1:
        raise ConfigurationError(f"parallel_plans must be an integer >= 1, not {parallel_plans!r}.")
    source = _source(data, runs, scorer, seed=seed)
    shop = Shop(edge, cloud, limit_usd, {**SANDBOX_PRICES, **(prices or {})}, timeout_s)
    base = credit or CreditDesign(seed=seed)
    options = {"max_tokens": max_tokens, "temperature": temperature}
    settings = source.settings() | shop.models(source.scorer)
    settings |= {"seed": seed, "tiers": [base.seed, base.share], "options": options}
    if source.runs is None:
        settings |= {"planner": _name_of(planner), "stream_plan": stream_plan}
    _check_models(source.runs or (), shop.models())
    with (
        ProfileStore(Path(out), settings=settings, restart=restart) as store,
        AppendLog(store.directory / _PLANS) as plans,
    ):
        _check_continues(plans, source)
        budget = shop.budget(store.directory / _LEDGER)
        replayer = Replayer(
            shop.model(budget, policy=policy, max_output_tokens=max_tokens, **options),
            planner=planner,
            stream_plan=stream_plan,
            edge_slots=parallel_edge,
            cloud_slots=parallel_cloud,
        )
        runner = PlanRunner(
            store=store,
            plans=plans,
            replayer=replayer,
            asker=Asker(core=replayer.model.core, run=budget.start_run()),
            scorer=source.scorer,
            design=credit,
            base=base,
            parallel={"edge": parallel_edge, "cloud": parallel_cloud},
            at_once=parallel_plans,
            max_failures=max_failures,
            seed=seed,
            stream_plan=stream_plan,
            on_progress=on_progress,
        )
        on_start(runner)
        return await _run(runner, source, budget)


@dataclass(frozen=True, slots=True)
class _Source:
    """What is profiled: questions, or runs that were recorded."""

    items: Sequence[Item]
    runs: Sequence[RecordedRun] | None
    scorer: Scorer | Grader
    notes: tuple[str, ...]

    def settings(self) -> dict[str, Any]:
        """Return what of it makes outcomes comparable."""
        return {"kind": "subtasks", "scorer": self.scorer.name}


def _source(
    data: str | Path | Sequence[Item] | None,
    runs: str | Path | Sequence[RecordedRun] | None,
    scorer: str | Scorer | Grader | None,
    *,
    seed: int,
) -> _Source:
    if runs is None:
        if data is None:
            raise ConfigurationError("There is nothing to profile: give questions, or runs.")
        inquiry = inquiry_of(data, scorer, instructions=None, seed=seed)
        return _Source(inquiry.items, None, inquiry.scorer, inquiry.notes)
    recorded = read_runs(runs) if isinstance(runs, str | Path) else list(runs)
    if data is not None:
        is_named = isinstance(data, str | Path)
        if is_named and str(data).startswith("sandbox:"):
            scorer = scorer or "sandbox"
        known = read_items(data, seed=seed) if isinstance(data, str | Path) else list(data)
        recorded = with_references(recorded, known)
    items = [run.item for run in recorded]
    try:
        inquiry = inquiry_of(items, scorer, instructions=None, seed=seed)
    except ConfigurationError as error:
        if any(item.reference is not None for item in items):
            raise
        raise ConfigurationError(
            f"None of the {len(items)} runs says what is right: the answer in it is its own. Put "
            f"a field 'reference' into each, give the questions with their answers, too (--data), "
            f"or choose a scorer that needs none, such as judge."
        ) from error
    wanted = {item.id for item in inquiry.items}
    kept = [run for run in recorded if run.item.id in wanted]
    return _Source(inquiry.items, kept, inquiry.scorer, inquiry.notes)


def _check_models(runs: Sequence[RecordedRun], models: Mapping[Tier, str]) -> None:
    """Refuse answers of other models: they say nothing about these."""
    for run in runs:
        for record in run.results.values():
            model, tier = record["model"], record["tier"] or "edge"
            if model is not None and model != models[tier]:
                raise ConfigurationError(
                    f"Run {run.item.id!r} was answered by {model!r} on the {tier}, which is "
                    f"{models[tier]!r} now: their answers cannot be compared. Profile it with its "
                    f"own models, or without --runs."
                )


def _check_continues(plans: AppendLog, source: _Source) -> None:
    """Refuse plans of other questions than these; new questions are welcome."""
    _check_plans(plans)
    now = {item.id: item.sha256 for item in source.items}
    changed = [row for row in plans.rows if now.get(row["item_id"]) != row["item_sha256"]]
    if changed:
        first = changed[0]["item_id"]
        what = "is another one now" if first in now else "is not in the data any more"
        raise ConfigurationError(
            f"{plans.path} has plans of other questions: {len(changed)} of them changed, such as "
            f"{first!r}, which {what}. Continue with its own data (questions may be added), "
            f"choose another --out, or begin anew with --restart."
        )


def _check_plans(plans: AppendLog) -> None:
    """Refuse a log of plans that somebody has edited, or another version has written."""
    for number, row in enumerate(plans.rows, start=1):
        try:
            Plan.model_validate(row["plan"])
            lacks = {"item_id", "item_sha256", "question", "planned"} - row.keys()
        except (KeyError, PlanError, ValidationError):
            lacks = {"plan"}
        if lacks:
            raise ConfigurationError(
                f"Line {number} of {plans.path} lacks a valid {min(lacks)}: it was edited, or "
                f"written by another version. Restore it, or begin anew with --restart."
            )


async def _run(runner: PlanRunner, source: _Source, budget: Budget) -> SubtaskProfile:
    """Do all there is to do; however that ends, the tables are written."""
    try:
        if source.runs is None:
            await runner.run_questions(source.items)
        else:
            await runner.run_recorded(source.runs)
    finally:
        spent = budget.snapshot()
        await budget.aclose()
        profile = _finished(runner, source, spent)
    return profile


def _finished(runner: PlanRunner, source: _Source, spent: Mapping[str, Any]) -> SubtaskProfile:
    """Write the tables, and say what came of it."""
    known = credits_of(runner)
    wide = subtask_table(runner, known)
    directory, ending = runner.store.directory, table_format()
    paths = directory / f"outcomes.{ending}", directory / f"answers.{ending}"
    write_table(paths[0], wide.columns)
    write_table(paths[1], long_table(runner.store.outcomes.values()))
    return SubtaskProfile(
        outcomes=paths[0],
        answers=paths[1],
        summary=summarise_plans(runner, wide, known, questions=len(source.items)),
        stop=runner.stop,
        notes=source.notes,
        failed=dict(runner.failed),
        budget=spent,
    )


def _name_of(planner: object) -> str:
    if isinstance(planner, str):
        return planner
    model = planner.model if isinstance(planner, ChatPlanner) else planner
    name = model_name(model) if isinstance(model, BaseChatModel) else ""
    return f"{type(planner).__name__} {name}".strip()
