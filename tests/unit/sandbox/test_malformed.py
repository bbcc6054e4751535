from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import pytest

from langchain_hybridflow.plan import Subtask, parse_plan
from langchain_hybridflow.sandbox import generate_problems, is_correct, sandbox_cloud
from langchain_hybridflow.sandbox.malformed import STRUCTURE_FAULTS, TEXT_FAULTS
from langchain_hybridflow.sandbox.planning import draft_plan, write_plan

PROBLEMS = generate_problems(60, seed=4)


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ("cycle", "cycle"),
        ("unknown_dependency", "unknown_dependency"),
        ("duplicate_id", "duplicate_id"),
        ("two_sinks", "multiple_sinks"),
    ],
)
def test_structure_fault_is_what_its_name_says(fault: str, code: str) -> None:
    subtasks = draft_plan(PROBLEMS[0].question).subtasks
    broken = STRUCTURE_FAULTS[fault](subtasks)
    assert code in {issue.code for issue in parse_plan(_xml(broken)).issues}


@pytest.mark.parametrize("fault", sorted(TEXT_FAULTS))
def test_text_fault_changes_the_text(fault: str) -> None:
    text = write_plan(PROBLEMS[0].question, rng=random.Random(0))
    assert TEXT_FAULTS[fault](text, random.Random(0)) != text


def test_unescaped_quotes_are_inside_a_task() -> None:
    text = write_plan(PROBLEMS[0].question, rng=random.Random(0))
    broken = TEXT_FAULTS["unescaped_quotes"](text, random.Random(0))
    assert broken.count('"') == text.count('"') + 2


def test_share_of_broken_plans_is_the_malformed_rate() -> None:
    broken = 0
    for number, problem in enumerate(generate_problems(300, seed=5)):
        well = write_plan(problem.question, rng=random.Random(number))
        broken += well != write_plan(
            problem.question, rng=random.Random(number), malformed_rate=0.3
        )
    assert 0.2 < broken / 300 < 0.4


def test_broken_plans_exercise_every_repair() -> None:
    codes = set[str]()
    for number, problem in enumerate(PROBLEMS * 3):
        text = write_plan(problem.question, rng=random.Random(number), malformed_rate=1)
        repaired = parse_plan(text, question=problem.question)
        assert repaired.plan is not None
        codes |= {issue.code for issue in repaired.issues}
    assert codes >= {
        "cycle",
        "unknown_dependency",
        "duplicate_id",
        "multiple_sinks",
        "too_many_subtasks",
    }


def test_repaired_plans_still_lead_to_the_answer(run_plan: Callable[..., dict[str, str]]) -> None:
    cloud, right = sandbox_cloud(time_scale=0), 0
    for number, problem in enumerate(PROBLEMS):
        text = write_plan(problem.question, rng=random.Random(number), malformed_rate=1)
        plan = parse_plan(text, question=problem.question).plan
        assert plan is not None
        texts = run_plan(problem.question, plan, lambda _: cloud)
        right += is_correct(problem, texts[plan.order[-1]])
    assert right >= 0.9 * len(PROBLEMS)


def _xml(subtasks: Sequence[Subtask]) -> str:
    steps = "".join(
        f'<Step ID="{s.id}" Role="{s.role.value}" Task="{s.task}" Rely="{",".join(s.depends_on)}"/>'
        for s in subtasks
    )
    return f"<Plan>{steps}</Plan>"
