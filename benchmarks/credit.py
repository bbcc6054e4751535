"""How well credit is estimated, for how much money, and what routing by it is worth.

    python benchmarks/credit.py [--problems 30] [--seed 5] [--json FILE]

Problems of the sandbox, planned by rule; both models answer the same prompt in the same way always,
so the exact credit (the Shapley value) is known from all 2^n assignments of tiers, which are worked
out here by asking the models directly, without the code that is measured. Two worlds: in "terse"
the answers of both tiers often agree to the letter, as the sandbox's do; in "wordy" no two answers
to different prompts, or of different tiers, ever agree, so that nothing is shared by luck.

"Own score" is the naive credit: is the subtask's own answer right on the cloud, is it on the edge.
It knows the right intermediate values, which nobody has outside a sandbox. "Routed" is the accuracy
that is reached when subtasks go to the cloud by estimated credit per USD until a share of the cost
of all on the cloud is spent; "exact" are the true credits, also those with others on the cloud with
another probability p. All else is over subtasks: USD is what a question cost, its own run included;
"whole" is what the same trials would cost if each were two whole runs.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import product
from math import comb, sqrt
from pathlib import Path
from statistics import correlation, fmean, stdev
from tempfile import TemporaryDirectory
from typing import Any

from langchain_core.messages import BaseMessage

from langchain_hybridflow.budget import usage_of
from langchain_hybridflow.calls import other_tier
from langchain_hybridflow.graph.prompts import subtask_messages
from langchain_hybridflow.plan import Plan
from langchain_hybridflow.profiling import Item, scorer_named
from langchain_hybridflow.profiling.credit import CreditDesign
from langchain_hybridflow.profiling.plans import PlanRunner, aprofile_plans
from langchain_hybridflow.routing import TIERS, Tier
from langchain_hybridflow.sandbox import (
    CLOUD_PROFILE,
    EDGE_PROFILE,
    Problem,
    SandboxChatModel,
    draft_plan,
    generate_problems,
    is_correct,
)

Tiers = tuple[Tier, ...]
Values = dict[tuple[str, str], float]

SAMPLES = (1, 2, 4, 8)
ALL = 64  # contexts: more than any of these plans has
SHARES = (0.1, 0.2, 0.3, 0.5)


class Wordy(SandboxChatModel):
    """A model of the sandbox whose answers never agree by luck."""

    def _answer(self, messages: Sequence[BaseMessage]) -> str:
        prompt = "".join(message.text for message in messages) + self.tier_profile.name
        note = hashlib.blake2b(prompt.encode(), digest_size=4).hexdigest()
        return f"(Note {note}.)\n{super()._answer(messages)}"


class ByRule:
    """Plans without a model."""

    tier = "edge"

    def plan(self, question: str) -> Plan:
        return draft_plan(question)


@dataclass
class Case:
    """A problem, and the final score and the cost under every assignment of tiers."""

    problem: Problem
    plan: Plan
    scores: dict[Tiers, float] = field(default_factory=dict)
    usd: dict[Tiers, float] = field(default_factory=dict)
    prompts: dict[Any, tuple[str, float]] = field(default_factory=dict)

    @property
    def item(self) -> Item:
        return Item(
            id=self.problem.id, question=self.problem.question, reference=self.problem.answer
        )

    def work_out(self, models: Mapping[Tier, SandboxChatModel]) -> None:
        for tiers in product(TIERS, repeat=len(self.plan)):
            answers: dict[str, str] = {}
            usd = 0.0
            for one, tier in zip(self.plan.order, tiers, strict=True):
                text, cost = self.ask(models, one, answers, tier)
                answers[one], usd = text, usd + cost
            self.scores[tiers] = float(is_correct(self.problem, answers[self.plan.sink.id]))
            self.usd[tiers] = usd

    def ask(
        self,
        models: Mapping[Tier, SandboxChatModel],
        one: str,
        answers: Mapping[str, str],
        tier: Tier,
    ) -> tuple[str, float]:
        subtask = self.plan[one]
        parents = {parent: answers[parent] for parent in subtask.depends_on}
        key = (one, tier, tuple(parents.items()))
        if key not in self.prompts:
            prompt = subtask_messages(subtask, question=self.problem.question, answers=parents)
            message = models[tier].invoke(prompt)
            price = models[tier].tier_profile.price
            self.prompts[key] = (
                message.text,
                float(price.cost_usd(usage_of(message, prompt=prompt))),
            )
        return self.prompts[key]

    def exact(self, one: str, share: float | None = None) -> float:
        """The credit by its definition, over all tiers of the others."""
        place, others = self.plan.order.index(one), len(self.plan) - 1
        total = 0.0
        rest: Tiers
        for rest in product(TIERS, repeat=others):
            clouds = rest.count("cloud")
            weight = 1 / ((others + 1) * comb(others, clouds))
            if share is not None:
                weight = share**clouds * (1 - share) ** (others - clouds)
            cloud: Tiers = (*rest[:place], "cloud", *rest[place:])
            edge: Tiers = (*rest[:place], "edge", *rest[place:])
            total += weight * (self.scores[cloud] - self.scores[edge])
        return total

    def own(
        self, one: str, models: Mapping[Tier, SandboxChatModel], base: Mapping[str, Tier]
    ) -> float:
        """Whether the subtask's own answer is right on the cloud, less the same on the edge."""
        answers: dict[str, str] = {}
        for each in self.plan.order:
            answers[each] = self.ask(models, each, answers, base[each])[0]
        step = next(s for s in self.problem.steps if f"What is {s.task}?" in self.plan[one].task)
        item, scorer = Item(id="", question="", reference=step.answer), scorer_named("sandbox")
        found = {
            tier: scorer.score(item, self.ask(models, one, answers, tier)[0]).value or 0.0
            for tier in TIERS
        }
        return found["cloud"] - found["edge"]


def routed(cases: Sequence[Case], values: Values, share: float) -> float:
    """Accuracy when credit per USD decides who goes to the cloud, for a share of all its cost."""
    limit = share * sum(max(case.usd.values()) for case in cases)
    tiers: dict[str, dict[str, Tier]] = {
        case.problem.id: dict.fromkeys(case.plan.order, "edge") for case in cases
    }
    by_id = {case.problem.id: case for case in cases}

    def alone(case: Case, one: str) -> float:
        tiers: dict[str, Tier] = dict.fromkeys(case.plan.order, "edge")
        tiers[one] = "cloud"
        return case.usd[tuple(tiers.values())]

    wanted = [
        (values.get((case.problem.id, one), 0.0) / max(alone(case, one), 1e-9), case, one)
        for case in cases
        for one in case.plan.order
    ]
    spent = 0.0
    for worth, case, one in sorted(wanted, key=lambda item: -item[0]):
        if worth <= 0:
            break
        mine = tiers[case.problem.id]
        after: dict[str, Tier] = {**mine, one: "cloud"}
        usd = case.usd[tuple(after.values())] - case.usd[tuple(mine.values())]
        if spent + usd <= limit:
            mine[one], spent = "cloud", spent + usd
    return fmean(by_id[one].scores[tuple(mine.values())] for one, mine in tiers.items())


def estimate(
    cases: Sequence[Case],
    models: Mapping[Tier, SandboxChatModel],
    design: CreditDesign | None,
) -> tuple[PlanRunner, dict[str, Any]]:
    """Profile all problems; without a design just both tiers."""
    runners: list[PlanRunner] = []
    # In memory where there is such a place: the disk is not what is measured.
    memory = Path("/dev/shm")  # noqa: S108
    with TemporaryDirectory(dir=memory if memory.is_dir() else None) as place:
        profile = asyncio.run(
            aprofile_plans(
                [case.item for case in cases],
                edge=models["edge"],
                cloud=models["cloud"],
                out=place,
                scorer="sandbox",
                planner=ByRule(),
                credit=design,
                max_tokens=512,
                parallel_plans=8,
                on_start=runners.append,
            )
        )
    return runners[0], profile.to_json()


def compare(cases: Sequence[Case], truth: Values, values: Values) -> dict[str, float]:
    errors = [values[key] - truth[key] for key in truth]
    return {
        "rmse": sqrt(fmean(error * error for error in errors)),
        "bias": fmean(errors),
        "bias_se": stdev(errors) / sqrt(len(errors)),
        "correlation": correlation([values[key] for key in truth], list(truth.values())),
    } | {f"routed_{share:g}": routed(cases, values, share) for share in SHARES}


def whole_runs_usd(runner: PlanRunner, cases: Mapping[str, Case]) -> float:
    """What the trials of a profile would cost if each were two whole runs, for each question."""
    total = 0.0
    for subject in runner.subjects:
        case, design = cases[subject.id], runner.design
        assert design is not None
        tried = max(map(len, subject.trials.values()), default=0)
        for tiers in design.contexts(subject.id, case.plan.order)[:tried]:
            for one in case.plan.order:
                flipped = {**tiers, one: other_tier(tiers[one])}
                total += case.usd[tuple(tiers.values())] + case.usd[tuple(flipped.values())]
    return total / len(cases)


def measure(world: str, problems: int, seed: int) -> list[dict[str, Any]]:
    kind = Wordy if world == "wordy" else SandboxChatModel
    models: dict[Tier, SandboxChatModel] = {
        "edge": kind(tier_profile=EDGE_PROFILE, time_scale=0),
        "cloud": kind(tier_profile=CLOUD_PROFILE, time_scale=0),
    }
    cases = [Case(one, draft_plan(one.question)) for one in generate_problems(problems, seed=seed)]
    for case in cases:
        case.work_out(models)
    by_id = {case.problem.id: case for case in cases}
    truth = {(one.problem.id, it): one.exact(it) for one in cases for it in one.plan.order}
    rows = []

    def add(name: str, values: Values, usd: Decimal | float, **facts: Any) -> None:
        row = {"world": world, "credit": name, "usd": float(usd), **facts}
        rows.append(row | compare(cases, truth, values))
        show(rows[-1])

    for name, share in (("exact, p = 0", 0.0), ("exact, p = 0.25", 0.25), ("exact", None)):
        known = {
            (one.problem.id, it): one.exact(it, share) for one in cases for it in one.plan.order
        }
        add(name, known, 0.0, calls=0.0)
    runner, found = estimate(cases, models, None)
    own = {
        (subject.id, one): by_id[subject.id].own(one, models, subject.tiers)
        for subject in runner.subjects
        for one in subject.run.plan.order
    }
    add("own score", own, spent(found, problems), calls=calls(found, problems))
    designs = {f"contexts: {samples}": CreditDesign(samples=samples) for samples in SAMPLES}
    designs["8, all plans"] = CreditDesign(samples=8, focus=False)
    designs["all contexts"] = CreditDesign(samples=ALL, focus=False)
    for name, design in designs.items():
        runner, found = estimate(cases, models, design)
        estimates = {
            (subject.id, one): credit
            for subject in runner.subjects
            for one in subject.free
            if (credit := subject.credit(one, design)) is not None
        }
        drawn = {key: credit for key, credit in estimates.items() if not credit.is_exact}
        covered = [
            abs(credit.credit - truth[key]) <= 1.96 * credit.se for key, credit in drawn.items()
        ]
        add(
            name,
            {key: credit.credit for key, credit in estimates.items()},
            spent(found, problems),
            calls=calls(found, problems),
            whole_runs_usd=whole_runs_usd(runner, by_id),
            covered=fmean(covered) if covered else None,
        )
    return rows


def spent(found: Mapping[str, Any], problems: int) -> float:
    return float(found["budget"]["usd"]["spent"]) / problems


def calls(found: Mapping[str, Any], problems: int) -> float:
    return float(sum(found["calls"].values())) / problems


def show(row: Mapping[str, Any]) -> None:
    cover = row.get("covered")
    whole = row.get("whole_runs_usd")
    print(
        f"{row['credit']:<15} {row['calls']:>6.1f} {row['usd']:>8.4f} "
        f"{'' if whole is None else f'{whole:.4f}':>8}  {row['rmse']:.3f}  "
        f"{row['bias']:+.3f} ± {row['bias_se']:.3f}  {row['correlation']:.3f}  "
        f"{'' if cover is None else f'{cover:.0%}':>5}   "
        + "  ".join(f"{row[f'routed_{share:g}']:.3f}" for share in SHARES),
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--problems", type=int, default=30)
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    began, rows = time.monotonic(), []
    for world in ("terse", "wordy"):
        print(f"\n{world}: {options.problems} problems, seed {options.seed}")
        print(
            "credit           calls      USD    whole  rmse   bias            corr   cover   "
            f"routed at {', '.join(f'{share:.0%}' for share in SHARES)} of the cloud's cost"
        )
        rows += measure(world, options.problems, options.seed)
    print(f"\n{time.monotonic() - began:.0f} s, {time.process_time():.0f} s of CPU time")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2))


if __name__ == "__main__":
    main()
