from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage

from langchain_hybridflow.plan import Role, Subtask, parse_plan, width
from langchain_hybridflow.sandbox import (
    SandboxChatModel,
    draft_plan,
    generate_problems,
    is_correct,
    sandbox_cloud,
)
from langchain_hybridflow.sandbox.planning import planning_question, write_plan
from langchain_hybridflow.sandbox.profiles import CLOUD_PROFILE

PROBLEMS = generate_problems(120, seed=3)
PERFECT = SandboxChatModel(
    tier_profile=CLOUD_PROFILE.model_copy(update={"skill": 1_000.0}), time_scale=0
)


def test_plan_as_written_is_valid_without_any_repair() -> None:
    for problem in PROBLEMS:
        repaired = parse_plan(write_plan(problem.question, rng=random.Random(0)))
        assert repaired.issues == ()
        assert repaired.repairs == ()


def test_plan_as_written_is_the_drafted_plan_apart_from_wording() -> None:
    for problem in PROBLEMS:
        plan = parse_plan(write_plan(problem.question, rng=random.Random(0))).plan
        assert plan is not None
        assert _shape(plan.subtasks) == _shape(draft_plan(problem.question).subtasks)


def test_plan_has_at_most_six_subtasks_and_runs_some_side_by_side() -> None:
    for problem in PROBLEMS:
        plan = draft_plan(problem.question)
        assert 3 <= len(plan.subtasks) <= 6
        assert width(plan) >= 2


def test_plan_has_one_subtask_for_each_part_that_the_answer_needs() -> None:
    for problem in PROBLEMS:
        parts = len(problem.steps[-1].depends_on)
        assert len(draft_plan(problem.question).subtasks) == 1 + parts + 1


def test_plan_tells_no_number_that_is_not_in_the_question() -> None:
    for problem in PROBLEMS:
        known = set(re.findall(r"\d+", problem.question))
        for subtask in draft_plan(problem.question).subtasks:
            told = re.findall(r"\d+", re.sub(r"\[\d+\]", "", subtask.task))
            assert set(told) <= known


def test_plan_names_a_source_for_every_dependency_and_no_other() -> None:
    for problem in PROBLEMS:
        for subtask in draft_plan(problem.question).subtasks:
            assert set(re.findall(r"\[(\d+)\]", subtask.task)) == set(subtask.depends_on)


def test_plan_calls_a_subtask_as_hard_as_its_hardest_step() -> None:
    for problem in PROBLEMS:
        hardest = max(subtask.difficulty for subtask in draft_plan(problem.question).subtasks)
        assert problem.difficulty <= hardest <= problem.difficulty + 1


def test_plan_expects_about_as_many_tokens_as_the_answers_have(
    run_plan: Callable[..., dict[str, str]],
) -> None:
    expected = written = 0
    for problem in PROBLEMS[:40]:
        plan = draft_plan(problem.question)
        texts = run_plan(problem.question, plan, lambda _: PERFECT)
        expected += sum(subtask.expected_output_tokens for subtask in plan.subtasks)
        written += sum(PERFECT.get_num_tokens(text) for text in texts.values())
    assert 0.7 < written / expected < 1.3


def test_plan_leads_to_the_answer_when_no_step_goes_wrong(
    run_plan: Callable[..., dict[str, str]],
) -> None:
    for problem in PROBLEMS:
        plan = draft_plan(problem.question)
        texts = run_plan(problem.question, plan, lambda _: PERFECT)
        assert is_correct(problem, texts[plan.order[-1]])


def test_plan_for_a_question_that_cannot_be_read_is_one_subtask() -> None:
    (only,) = draft_plan("Who wrote Hamlet?").subtasks
    assert only.role is Role.GENERATE


def test_wording_of_the_tasks_varies() -> None:
    question = PROBLEMS[0].question
    plans = {write_plan(question, rng=random.Random(seed)) for seed in range(10)}
    assert len(plans) > 5


def test_planning_question_is_found_in_a_planning_call(
    planning_messages: Callable[[str], list[BaseMessage]],
) -> None:
    assert planning_question(planning_messages("Why?")) == "Why?"


def test_planning_question_is_found_when_the_last_message_lists_faults_of_a_plan(
    planning_messages: Callable[[str], list[BaseMessage]],
) -> None:
    messages = [*planning_messages("Why?"), AIMessage("<Plan/>"), HumanMessage("It has a cycle.")]
    assert planning_question(messages) == "Why?"


def test_planning_question_is_none_when_the_call_is_for_an_answer() -> None:
    assert planning_question([SystemMessage("Solve it."), HumanMessage("<Plan> Why?")]) is None


def test_model_writes_a_plan_when_it_is_asked_for_one(
    planning_messages: Callable[[str], list[BaseMessage]],
) -> None:
    question = PROBLEMS[0].question
    text = sandbox_cloud(time_scale=0).invoke(planning_messages(question)).text
    plan = parse_plan(text).plan
    assert plan is not None
    assert len(plan.subtasks) == len(draft_plan(question).subtasks)


def _shape(subtasks: Sequence[Subtask]) -> list[tuple[object, ...]]:
    return [(s.id, s.role, s.depends_on, s.difficulty, s.expected_output_tokens) for s in subtasks]
