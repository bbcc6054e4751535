"""The tables of a profile of plans, and its figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from decimal import Decimal
from math import sqrt
from statistics import fmean
from typing import Any, Final

from langchain_hybridflow.profiling._plan_runner import PlanRunner
from langchain_hybridflow.profiling._trials import Subject
from langchain_hybridflow.profiling.credit import Credit
from langchain_hybridflow.profiling.records import Key, Outcome
from langchain_hybridflow.profiling.tables import Wide, wide_table
from langchain_hybridflow.routing import TIERS

__all__ = ["PlansSummary", "credits_of", "subtask_table", "summarise_plans"]

_TOP_UP: Final = "other tier"
_Z: Final = 1.96


@dataclass(frozen=True, slots=True, kw_only=True)
class PlansSummary:
    """The figures of a profile of plans.

    Attributes:
        questions: Questions wanted.
        plans: Those with a plan that was run.
        subtasks: Subtasks of these plans.
        rows: Subtasks in the table that training reads.
        left_out: How many are not, by reason.
        trials: Interventions with a final score on both tiers.
        failed_trials: Those without.
        mean_credit: Mean credit of a subtask; `None` without any.
        mean_se: Root of the mean square of their standard errors.
        clear: Subtasks whose credit is more than 1.96 standard errors from 0.
        all_cloud_gain: What the cloud adds to a plan as a whole, as the credits of its subtasks
            say: mean of their sums, over plans with a credit for each; `None` without any.
        calls: Answers bought, by what for: "run", "other tier", "credit"; "recorded" were there.
        usd: What these cost, likewise; `None` if some cost is unknown.
        planning_usd: What planning cost, and in this run the questions whose planning failed;
            `None` if that is unknown.
    """

    questions: int
    plans: int
    subtasks: int
    rows: int
    left_out: Mapping[str, int]
    trials: int
    failed_trials: int
    mean_credit: float | None
    mean_se: float | None
    clear: int
    all_cloud_gain: float | None
    calls: Mapping[str, int]
    usd: Mapping[str, Decimal | None]
    planning_usd: Decimal | None

    def to_json(self) -> dict[str, Any]:
        """Return the figures in plain JSON types; USD as text."""
        money = {name: None if usd is None else str(usd) for name, usd in self.usd.items()}
        planning = None if self.planning_usd is None else str(self.planning_usd)
        return asdict(self) | {"usd": money, "planning_usd": planning}


def credits_of(runner: PlanRunner) -> dict[tuple[str, str], Credit]:
    """Return the credits that are known, by question and subtask."""
    if runner.design is None:
        return {}
    return {
        (subject.id, one): credit
        for subject in runner.subjects
        for one in subject.free
        if (credit := subject.credit(one, runner.design)) is not None
    }


def subtask_table(runner: PlanRunner, known: Mapping[tuple[str, str], Credit]) -> Wide:
    """Return a row for each subtask that both tiers answered, with what that changed in the end.

    Its scores are those of the final answer with the subtask on either tier; without trials, those
    of its own answer, which only the last subtask of a plan has.
    """
    outcomes: dict[Key, Outcome] = {}
    ids: list[str] = []
    left_out: dict[str, str] = {}
    for subject in runner.subjects:
        for one in subject.run.plan.order:
            row_id = f"{subject.id}/{one}"
            reason = _why_not(runner, subject, one, known)
            if reason:
                left_out[row_id] = reason
                continue
            ids.append(row_id)
            credit = known.get((subject.id, one))
            item = runner.items[subject.id, one]
            for tier in TIERS:
                outcome = runner.store.outcomes[Key(item.id, tier)]
                scored = outcome if credit is None else _credited(outcome, credit, runner)
                outcomes[Key(row_id, tier)] = replace(scored, item_id=row_id, plan=item.plan)
    wide = wide_table(outcomes, item_ids=ids)
    return Wide(wide.columns, {**left_out, **wide.left_out})


def _why_not(
    runner: PlanRunner, subject: Subject, one: str, known: Mapping[tuple[str, str], Credit]
) -> str:
    if one not in subject.requests:
        return "not routed: what it builds on has no answer"
    if one not in subject.free:
        return "no choice: a filter allows one tier only, or it has no answer"
    item = runner.items.get((subject.id, one))
    for tier in TIERS:
        outcome = None if item is None else runner.store.outcomes.get(Key(item.id, tier))
        if outcome is None:
            return "missing"
        if not outcome.is_answered:
            return "failed"
    if runner.design is not None and (subject.id, one) not in known:
        return "no trial"
    return ""


def _credited(outcome: Outcome, credit: Credit, runner: PlanRunner) -> Outcome:
    """Give an answer the score of what it leads to."""
    facts = {
        "credit": credit.credit,
        "credit_se": credit.se,
        "credit_samples": credit.samples,
        "credit_is_exact": credit.is_exact,
    }
    mean = credit.edge if outcome.tier == "edge" else credit.cloud
    extra = {name: outcome.extra[name] for name in ("question_id", "subtask_id")}
    return replace(
        outcome,
        status="scored",
        score=min(max(mean, 0.0), 1.0),  # a mean may be off by rounding
        scorer=f"credit:{runner.scorer.name}",
        score_reason=None,
        extra=extra | facts,
    )


def summarise_plans(
    runner: PlanRunner, wide: Wide, known: Mapping[tuple[str, str], Credit], *, questions: int
) -> PlansSummary:
    """Return the figures of a profile."""
    subjects, found = runner.subjects, list(known.values())
    bought = _by_purpose(runner.store)
    sums = [
        sum(known[subject.id, one].credit for one in subject.run.plan.order)
        for subject in subjects
        if all((subject.id, one) in known for one in subject.run.plan.order)
    ]
    made = [attempt for row in runner.plans.rows for attempt in row["planning"]["attempts"]]
    planning = [attempt["cost_usd"] for attempt in (*made, *runner.lost)]
    return PlansSummary(
        questions=questions,
        plans=len(subjects),
        subtasks=sum(len(subject.run.plan) for subject in subjects),
        rows=len(wide),
        left_out=dict(Counter(wide.left_out.values())),
        trials=sum(credit.samples for credit in found),
        failed_trials=sum(subject.failed_trials for subject in subjects),
        mean_credit=fmean(credit.credit for credit in found) if found else None,
        mean_se=sqrt(fmean(credit.se**2 for credit in found)) if found else None,
        clear=sum(abs(credit.credit) > _Z * credit.se for credit in found),
        all_cloud_gain=fmean(sums) if sums else None,
        calls={name: len(outcomes) for name, outcomes in bought.items()},
        usd={name: _sum(one.spent_usd for one in outcomes) for name, outcomes in bought.items()},
        planning_usd=_sum(None if usd is None else Decimal(usd) for usd in planning),
    )


def _by_purpose(outcomes: Iterable[Outcome]) -> dict[str, Sequence[Outcome]]:
    """Return the calls by what they were made for; one that was scored later stands there twice."""
    calls = {(one.key, one.attempt): one for one in outcomes}
    found: dict[str, list[Outcome]] = {}
    for one in calls.values():
        found.setdefault(str(one.extra.get("bought_for", _TOP_UP)), []).append(one)
    return dict(found)


def _sum(amounts: Iterable[Decimal | None]) -> Decimal | None:
    total = Decimal(0)
    for amount in amounts:
        if amount is None:
            return None
        total += amount
    return total
