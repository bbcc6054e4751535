"""What the place in a plan tells a router: the sandbox's subtasks, with and without it.

A plan is drafted for each problem; both tiers answer each of its subtasks with the right results of
those before it. Where a subtask goes right is drawn by the sandbox from the difficulty of its
steps, which the planner's difficulty and length hint at: that structure says something here is by
construction. How much of it is left without the columns, and how much the text makes up for, is
what this shows.
"""

from __future__ import annotations

import random
from statistics import mean, pstdev
from typing import Any

from langchain_core.messages import BaseMessage

from langchain_hybridflow.graph.packets import works_of
from langchain_hybridflow.graph.prompts import subtask_messages
from langchain_hybridflow.learning import (
    Dataset,
    TrainingSettings,
    evaluate,
    train,
)
from langchain_hybridflow.learning.features import STRUCTURE_COLUMNS
from langchain_hybridflow.sandbox import (
    CLOUD_PROFILE,
    EDGE_PROFILE,
    SandboxChatModel,
    draft_plan,
    extract_answer,
    generate_problems,
)

PROBLEMS = 600
CLOUD_SKILL = 8.0  # at its usual 9.9 it is right in all subtasks, and nothing is left to learn


def subtasks(problems: int = PROBLEMS) -> dict[str, list[Any]]:
    """Return the outcomes of both tiers on every subtask of so many problems."""
    models = {
        name: SandboxChatModel(tier_profile=profile, time_scale=0, seed=seed)
        for seed, (name, profile) in enumerate(
            {
                "edge": EDGE_PROFILE,
                "cloud": CLOUD_PROFILE.model_copy(update={"skill": CLOUD_SKILL}),
                "exact": CLOUD_PROFILE.model_copy(update={"skill": 99.0, "name": "exact"}),
            }.items()
        )
    }

    def answer(name: str, messages: list[BaseMessage]) -> str:
        return models[name].invoke(messages).text

    names = ("question", "edge_correct", "cloud_correct", "group", "edge_answer_chars")
    table: dict[str, list[Any]] = {name: [] for name in (*names, *STRUCTURE_COLUMNS)}
    for problem in generate_problems(problems, seed=5):
        plan = draft_plan(problem.question, rng=random.Random(problem.id))
        works, known = works_of(plan), dict[str, str]()
        for one in plan.order:
            subtask = plan[one]
            given = {parent: known[parent] for parent in subtask.depends_on}
            messages = subtask_messages(subtask, question=problem.question, answers=given)
            known[one] = answer("exact", messages)
            right = extract_answer(known[one])
            edge, cloud = answer("edge", messages), answer("cloud", messages)
            row = {
                "question": subtask.task,
                "edge_correct": int(extract_answer(edge) == right),
                "cloud_correct": int(extract_answer(cloud) == right),
                "group": problem.id,
                "edge_answer_chars": len(edge),
                "role": subtask.role.value,
                "difficulty": subtask.difficulty,
                "expected_output_tokens": subtask.expected_output_tokens,
                "depth": works[one]["depth"],
                "fan_in": len(subtask.depends_on),
                "fan_out": works[one]["fan_out"],
                "on_critical_path": works[one]["on_critical_path"],
                "parent_cloud_share": None,
            }
            for name, value in row.items():
                table[name].append(value)
    return table


def structure(seeds: int) -> list[dict[str, Any]]:
    """Train with and without the place in the plan."""
    from router import split

    table = subtasks()
    without = {name: values for name, values in table.items() if name not in STRUCTURE_COLUMNS}
    hinted = {"difficulty", "expected_output_tokens"}
    variants = {
        "text and structure": table,
        "no structure": without,
        "no difficulty, no length": {n: v for n, v in table.items() if n not in hinted},
    }
    lines = []
    for name, columns in variants.items():
        data = Dataset.from_rows(columns)
        found = []
        for seed in range(seeds):
            rows, held = split(data, seed)
            predictor, _ = train(rows, settings=TrainingSettings(models=("forest",)))
            found.append(evaluate(predictor, held, seed=seed, draws=100))
        areas = [one.before.apgr or 0.5 for one in found]
        late = [one.after.apgr or 0.5 for one in found if one.after is not None]
        lines.append(
            {
                "variant": name,
                "rows": len(data),
                "edge": float(data.edge.mean()),
                "cloud": float(data.cloud.mean()),
                "apgr": mean(areas),
                "spread": pstdev(areas),
                "low": mean(one.apgr_interval.low for one in found if one.apgr_interval),
                "high": mean(one.apgr_interval.high for one in found if one.apgr_interval),
                "after": mean(late),
                "oracle": mean(one.before.apgr_oracle or 0.5 for one in found),
                "ece": mean(one.before.ece for one in found),
            }
        )
        print(lines[-1], flush=True)
    return lines
