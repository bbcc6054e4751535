"""What the default router is fitted to: outcomes on public questions, and on sandbox subtasks.

The scores to learn from are means over several edge and several cloud models where there are any:
a default router does not know its two models, and means say more about a question than one model's
luck. The scores to measure on are those of one pair of models.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from langchain_hybridflow.graph.prompts import subtask_messages
from langchain_hybridflow.learning import read_table
from langchain_hybridflow.sandbox import (
    CLOUD_PROFILE,
    EDGE_PROFILE,
    SandboxChatModel,
    TierProfile,
    draft_plan,
    extract_answer,
    generate_problems,
)

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Source:
    """A table of outcomes.

    `edges` and `clouds` are columns of `wide`, a table that is matched by `id`; without them the
    pair's own scores are learnt from.
    """

    name: str
    pair: str
    file: str
    origin: str
    licence: str
    wide: str | None = None
    edges: tuple[str, ...] = ()
    clouds: tuple[str, ...] = ()


SOURCES = (
    Source(
        name="MMLU-Pro",
        pair="Llama-3.1-8B-Instruct, Gemini-1.5-Pro-002",
        file="mmlu_pro_llama8b_vs_gemini15pro.parquet",
        origin="TIGER-AI-Lab/MMLU-Pro, eval_results",
        licence="Apache-2.0",
        wide="mmlu_pro_wide.parquet",
        edges=tuple(
            f"correct:{name}"
            for name in (
                "Meta-Llama-3-8B", "Meta-Llama-3_1-8B-Instruct", "Mistral-7B-Instruct-v0.1",
                "Mistral-7B-Instruct-v0.2", "Phi-3-mini-4k-instruct", "Qwen1.5-7B-Chat",
                "Yi-6b-Chat", "gemma-7b", "mathstral-7B",
            )
        ),
        clouds=tuple(
            f"correct:{name}"
            for name in (
                "DeepSeek-Coder-V2", "Meta-Llama-3_1-70B-Instruct", "gemini-1.5-flash-002",
                "gemini-1.5-pro-002",
            )
        ),
    ),
    Source(
        name="RouteLLM MMLU",
        pair="Mixtral-8x7B-Instruct, GPT-4-1106",
        file="routellm_mmlu.parquet",
        origin="lm-sys/RouteLLM, evals/mmlu",
        licence="Apache-2.0",
    ),
    Source(
        name="LLMRouter QA",
        pair="Mistral-7B-Instruct-v0.3, Nemotron-51B",
        file="llmrouter_qa.parquet",
        origin="ulab-uiuc/LLMRouter",
        licence="MIT",
        wide="llmrouter_qa.parquet",
        edges=tuple(
            f"score:{name}"
            for name in (
                "codegemma-7b", "gemma-2-9b-it", "llama-3.1-8b-instruct",
                "llama3-chatqa-1.5-8b", "mistral-7b-instruct-v0.3", "qwen2.5-7b-instruct",
            )
        ),
        clouds=tuple(
            f"score:{name}"
            for name in (
                "llama-3.1-nemotron-51b-instruct", "llama-3.3-nemotron-super-49b-v1",
            )
        ),
    ),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Outcomes:
    """The n rows of a source.

    `edge` and `cloud` are the pair's scores, shape (n,); `targets`, shape (n, 2), the mean gain
    and the mean score of the edges; questions of one `clusters` number are nearly the same, in
    whichever table they are.
    """

    source: Source
    questions: tuple[str, ...]
    edge: Floats
    cloud: Floats
    targets: Floats
    clusters: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.questions)


def load(directory: Path) -> list[Outcomes]:
    tables = [(source, read_table(directory / source.file)) for source in SOURCES]
    clusters = _clusters(
        [
            {f"{source.name}/{group}", _stem(question)}
            for source, table in tables
            for group, question in zip(table["group"], table["question"], strict=True)
        ]
    )
    ends = np.cumsum([len(table["question"]) for _, table in tables])
    return [
        Outcomes(
            source=source,
            questions=tuple(map(str, table["question"])),
            edge=np.array(table["weak_correct"], dtype=float),
            cloud=np.array(table["strong_correct"], dtype=float),
            targets=_targets(source, table, directory),
            clusters=own,
        )
        for (source, table), own in zip(tables, np.split(clusters, ends[:-1]), strict=True)
    ]


def data_sha256(sets: Iterable[Outcomes]) -> str:
    """Hash what is learnt from, so that a file says which data it was made of."""
    digest = sha256()
    for one in sets:
        for question in one.questions:
            digest.update(question.encode("utf-8", "surrogatepass") + b"\0")
        for values in (one.edge, one.cloud, one.targets):
            digest.update(np.round(values, 6).astype("<f8").tobytes())
    return digest.hexdigest()


def _targets(source: Source, table: Mapping[str, Sequence[Any]], directory: Path) -> Floats:
    edge = np.array(table["weak_correct"], dtype=float)
    cloud = np.array(table["strong_correct"], dtype=float)
    if source.wide is not None:
        wide = read_table(directory / source.wide)
        rows = {one: i for i, one in enumerate(wide["id"])}
        order = [rows[one] for one in table["id"]]
        edge = _mean_of_known(wide, source.edges)[order]
        cloud = _mean_of_known(wide, source.clouds)[order]
    return np.column_stack([cloud - edge, edge])


def _mean_of_known(table: Mapping[str, Sequence[Any]], columns: Sequence[str]) -> Floats:
    scores = [
        [np.nan if value is None else float(value) for value in table[name]] for name in columns
    ]
    return np.asarray(np.nanmean(np.array(scores), axis=0))


_OFFERED = re.compile(r"^[ \t]*\(?[A-P][.):][ \t]", re.MULTILINE)


def _stem(question: str) -> str:
    """The question without its offered answers: MMLU-Pro is MMLU with more of them."""
    return re.sub(r"\W+", " ", _OFFERED.split(question, maxsplit=1)[0].lower()).strip()


def _clusters(names: Sequence[set[str]]) -> NDArray[np.int64]:
    """Number the connected components of rows that share a name."""
    parents = list(range(len(names)))

    def root(row: int) -> int:
        while parents[row] != row:
            parents[row] = parents[parents[row]]
            row = parents[row]
        return row

    first: dict[str, int] = {}
    for row, own in enumerate(names):
        for name in sorted(own):
            other = root(first.setdefault(name, row))
            parents[max(other, root(row))] = min(other, root(row))
    return np.array([root(row) for row in range(len(names))])


SUBTASK_PROBLEMS = 400
PROBLEM_SEED = 101
EDGE_SKILLS = (-1.0, 0.0, 1.0)
"""Edges that are worse and better than the sandbox's own: which one it will be is not known."""


def subtask_outcomes() -> tuple[NDArray[np.int64], Floats]:
    """Ask both tiers the subtasks of sandbox problems, with the true results of those before.

    Returns:
        The planner's difficulty, shape (n,), and the mean scores of the edges and of the cloud,
        shape (n, 2).
    """
    models = [_model(EDGE_PROFILE, skill) for skill in EDGE_SKILLS] + [_model(CLOUD_PROFILE, 0.0)]
    levels, scores = [], []
    for number, problem in enumerate(generate_problems(SUBTASK_PROBLEMS, seed=PROBLEM_SEED)):
        plan = draft_plan(problem.question, rng=random.Random(f"subtasks/{number}"))
        truths = {step.task.lower(): step.answer for step in problem.steps}
        answers: dict[str, str] = {}
        for one in plan.order:
            # The first thing that the task names is what it asks for; the rest is what it takes.
            asked = re.split(r" (?:Take|Use|You are given) ", plan[one].task)[0].lower()
            label = max((name for name in truths if name in asked), key=len)
            prompt = subtask_messages(plan[one], question=problem.question, answers=answers)
            right = [
                (extract_answer(model.invoke(prompt).text) or "").lower() == truths[label].lower()
                for model in models
            ]
            levels.append(plan[one].difficulty)
            scores.append((float(np.mean(right[:-1])), float(right[-1])))
            answers[one] = f"{label} is {truths[label]}.\nAnswer: {truths[label]}"
    return np.array(levels), np.array(scores)


def _model(profile: TierProfile, more: float) -> SandboxChatModel:
    skilled = profile.model_copy(update={"skill": profile.skill + more})
    return SandboxChatModel(tier_profile=skilled, seed=PROBLEM_SEED, time_scale=0)
