from __future__ import annotations

import sys
from dataclasses import replace
from types import FrameType

import pytest

from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.plan import (
    Plan,
    PlanBuilder,
    RepairedPlan,
    Role,
    Subtask,
    SubtaskDraft,
    parse_plan,
)


def draft(subtask_id: str, role: str | None = "analyze", *deps: str) -> SubtaskDraft:
    return SubtaskDraft(
        subtask_id, f"task {subtask_id}", Role(role) if role else None, tuple(deps), 5, 128
    )


EXPLAIN = draft("1", "explain")


def settled_by(*drafts: SubtaskDraft, max_subtasks: int = 6) -> list[list[str]]:
    """Ids that settle with each draft."""
    builder = PlanBuilder(max_subtasks)
    return [[subtask.id for subtask in builder.add(item)] for item in drafts]


def repaired(*drafts: SubtaskDraft, max_subtasks: int = 6, question: str = "Q?") -> RepairedPlan:
    builder = PlanBuilder(max_subtasks, question=question)
    for item in drafts:
        builder.add(item)
    return builder.finish()


def shape(plan: Plan | None) -> list[str]:
    """Write each subtask as `id role <- dependencies`."""
    assert plan is not None
    return [f"{s.id} {s.role} <- {','.join(s.depends_on)}".rstrip(" <-") for s in plan.subtasks]


def repair_codes(result: RepairedPlan) -> list[tuple[str, str]]:
    return [(repair.code, repair.subtask_id) for repair in result.repairs]


# --------------------------------------------------------------------------------------- settling


def test_explain_and_analyze_settle_at_once_when_their_roles_are_written() -> None:
    assert settled_by(EXPLAIN, draft("2", "analyze", "1"), draft("3", "analyze")) == [
        ["1"],
        ["2"],
        ["3"],
    ]


def test_subtask_without_a_role_settles_when_another_follows() -> None:
    assert settled_by(draft("1", None), draft("2", None, "1"), draft("3", None, "2")) == [
        [],
        ["1"],
        ["2"],
    ]


def test_generate_does_not_settle_when_others_follow() -> None:
    assert settled_by(EXPLAIN, draft("2", "generate", "1"), draft("3", "analyze", "1")) == [
        ["1"],
        [],
        ["3"],
    ]


def test_subtask_settles_after_what_it_waits_for_when_that_is_listed_later() -> None:
    assert settled_by(EXPLAIN, draft("2", "analyze", "3"), draft("3", "analyze", "1")) == [
        ["1"],
        [],
        ["3", "2"],
    ]


@pytest.mark.parametrize("deps", [("9",), ("4",)], ids=["unknown", "generate"])
def test_subtask_never_settles_when_it_waits_for(deps: tuple[str, ...]) -> None:
    later = [draft("4", "generate", "1"), draft("5", "analyze", "1")]
    assert settled_by(EXPLAIN, draft("2", "analyze", *deps), *later) == [["1"], [], [], ["5"]]


def test_cycle_never_settles_when_others_do() -> None:
    cycle = [draft("2", "analyze", "3"), draft("3", "analyze", "2")]
    assert settled_by(EXPLAIN, *cycle, draft("4", "analyze", "1")) == [["1"], [], [], ["4"]]


def test_first_settles_as_the_explain_when_it_says_analyze_and_another_follows() -> None:
    builder = PlanBuilder()
    assert builder.add(draft("1", "analyze", "2")) == []
    (first, second) = builder.add(draft("2", "explain", "1"))
    assert (first.role, first.depends_on) == (Role.EXPLAIN, ())
    assert (second.role, second.depends_on) == (Role.ANALYZE, ("1",))


def test_settled_subtask_depends_on_nothing_bad_when_its_draft_does() -> None:
    builder = PlanBuilder()
    builder.add(EXPLAIN)
    (subtask,) = builder.add(draft("2", "analyze", "1", "2"))
    assert subtask.depends_on == ("1",)


@pytest.mark.parametrize(("cap", "count"), [(1, 0), (2, 1), (3, 2), (6, 5), (9, 7)])
def test_one_place_is_kept_for_the_sink_when_there_is_a_cap(cap: int, count: int) -> None:
    drafts = [EXPLAIN, *(draft(str(n), "analyze", "1") for n in range(2, 8))]
    assert sum(len(ids) for ids in settled_by(*drafts, max_subtasks=cap)) == count


def test_finish_does_not_end_the_building_when_called_early() -> None:
    builder = PlanBuilder(question="Q?")
    builder.add(EXPLAIN)
    assert shape(builder.finish().plan) == ["1 explain", "answer generate <- 1"]
    builder.add(draft("2", "generate", "1"))
    assert builder.finish() == builder.finish()
    assert shape(builder.finish().plan) == ["1 explain", "2 generate <- 1"]


# ----------------------------------------------------------------------------------------- repair


def test_finish_gives_no_plan_when_nothing_came() -> None:
    result = repaired()
    assert result.plan is None
    assert [issue.code for issue in result.issues] == ["empty"]


def test_later_duplicate_gets_a_fresh_id_when_the_first_is_referred_to() -> None:
    result = repaired(
        EXPLAIN, draft("2", "analyze", "1"), draft("2", "analyze", "2"), draft("3", "generate", "2")
    )
    assert shape(result.plan) == [
        "1 explain",
        "2 analyze <- 1",
        "2-2 analyze <- 2",
        "3 generate <- 2,2-2",
    ]
    assert repair_codes(result) == [("renamed_id", "2-2"), ("attached_orphan", "2-2")]
    assert ("duplicate_id", "2") in [(issue.code, issue.subtask_id) for issue in result.issues]


def test_references_mean_what_was_written_when_a_fresh_id_is_taken_later() -> None:
    result = repaired(
        EXPLAIN,
        draft("1", "analyze", "1"),
        draft("1-2", "analyze", "1"),
        draft("4", "generate", "1-2"),
    )
    assert result.plan is not None
    assert [s.id for s in result.plan.subtasks] == ["1", "1-2", "1-2-2", "4"]
    assert result.plan["4"].depends_on[0] == "1-2-2"


def test_dangling_reference_is_dropped_when_it_looks_like_a_fresh_id() -> None:
    result = repaired(
        EXPLAIN, draft("1", "analyze", "1"), draft("4", "generate", "1-2"), question="Q?"
    )
    assert ("dropped_dependency", "4") in repair_codes(result)


@pytest.mark.parametrize("bad", ["2", "9"], ids=["self", "unknown"])
def test_bad_dependency_is_dropped_when_it_is(bad: str) -> None:
    result = repaired(EXPLAIN, draft("2", "analyze", "1", bad), draft("3", "generate", "2"))
    assert shape(result.plan) == ["1 explain", "2 analyze <- 1", "3 generate <- 2"]
    assert repair_codes(result) == [("dropped_dependency", "2")]


def test_back_edge_is_broken_toward_listing_order_when_there_is_a_cycle() -> None:
    result = repaired(
        EXPLAIN, draft("2", "analyze", "1", "3"), draft("3", "generate", "2"), max_subtasks=6
    )
    assert shape(result.plan) == ["1 explain", "2 analyze <- 1", "3 generate <- 2"]
    assert repair_codes(result) == [("broke_cycle", "2")]


def test_forward_edge_stays_when_it_is_on_no_cycle() -> None:
    result = repaired(
        EXPLAIN, draft("2", "generate", "3"), draft("3", "analyze", "1"), max_subtasks=6
    )
    assert shape(result.plan) == ["1 explain", "2 generate <- 3", "3 analyze <- 1"]
    assert result.repairs == ()


def test_roles_are_fixed_when_each_is_wrong() -> None:
    result = repaired(
        draft("1", "analyze"),
        draft("2", "generate", "1"),
        draft("3", "explain", "2"),
        draft("4", "generate", "3"),
    )
    assert shape(result.plan) == [
        "1 explain",
        "2 analyze <- 1",
        "3 analyze <- 2",
        "4 generate <- 3",
    ]
    assert repair_codes(result) == [
        ("changed_role", "1"),
        ("changed_role", "2"),
        ("changed_role", "3"),
    ]


def test_only_the_last_generates_when_two_sinks_do() -> None:
    result = repaired(EXPLAIN, draft("2", "generate", "1"), draft("3", "generate", "1"))
    assert shape(result.plan) == ["1 explain", "2 analyze <- 1", "3 generate <- 1,2"]


def test_explain_is_moved_to_the_front_when_the_generate_is_listed_first() -> None:
    result = repaired(
        draft("3", "generate", "2"), draft("1", "explain"), draft("2", "analyze", "1")
    )
    assert shape(result.plan) == ["1 explain", "3 generate <- 2", "2 analyze <- 1"]
    assert ("moved_first", "1") in repair_codes(result)


def test_orphans_are_attached_to_the_sink_when_they_lead_nowhere() -> None:
    result = repaired(EXPLAIN, draft("2"), draft("3"), draft("4", "generate", "3"))
    assert shape(result.plan)[-1] == "4 generate <- 3,1,2"


@pytest.mark.parametrize(
    ("question", "task"),
    [(" Who\x00? ", "Who\ufffd?"), ("", "Answer the original question, using all the results.")],
)
def test_sink_asks_the_question_when_it_is_added(question: str, task: str) -> None:
    result = repaired(EXPLAIN, draft("answer", "analyze", "1"), question=question)
    assert shape(result.plan)[-1] == "answer-2 generate <- answer"
    assert result.plan is not None
    assert result.plan.sink.task == task
    assert repair_codes(result) == [("added_sink", "answer-2")]


@pytest.mark.parametrize("role", [None, "analyze", "generate"])
def test_only_subtask_generates_when_it_is_not_an_explain(role: str | None) -> None:
    assert shape(repaired(draft("1", role, "7")).plan) == ["1 generate"]


def test_surplus_is_merged_into_the_sink_when_beyond_the_cap() -> None:
    result = repaired(
        EXPLAIN,
        draft("2", "analyze", "1"),
        replace(draft("3", "analyze", "2"), difficulty=8),
        draft("4", "analyze", "3", "1"),
        draft("5", "generate", "4"),
        max_subtasks=3,
    )
    assert shape(result.plan) == ["1 explain", "2 analyze <- 1", "5 generate <- 2,1"]
    assert result.plan is not None
    sink = result.plan.sink
    assert sink.task.splitlines()[1:] == ["[3] task 3", "[4] task 4", "Then: task 5"]
    assert (sink.difficulty, sink.expected_output_tokens) == (8, 3 * 128)
    assert [issue.code for issue in result.issues] == ["too_many_subtasks"]
    assert repair_codes(result) == [("merged", "5"), ("merged", "5")]


def test_everything_is_one_generate_when_the_cap_is_one() -> None:
    result = repaired(EXPLAIN, draft("2", "generate", "1"), max_subtasks=1)
    assert shape(result.plan) == ["2 generate"]
    assert result.plan is not None
    assert "[1] task 1" in result.plan.sink.task


def test_five_hundred_subtasks_are_merged_to_the_cap_when_streamed() -> None:
    drafts = [EXPLAIN, *(draft(str(n), "analyze", str(n - 1)) for n in range(2, 500))]
    result = repaired(*drafts, draft("500", "generate", "499"))
    assert result.plan is not None
    assert len(result.plan) == 6
    assert all(f"[{n}] task {n}\n" in result.plan.sink.task for n in range(6, 500))


def test_numbers_are_clamped_when_out_of_range() -> None:
    result = repaired(replace(draft("1", "generate"), difficulty=42, expected_output_tokens=-5))
    assert result.plan is not None
    assert (result.plan.sink.difficulty, result.plan.sink.expected_output_tokens) == (9, 1)
    assert repair_codes(result) == [("clamped_number", "1"), ("clamped_number", "1")]


def test_defaults_are_used_when_numbers_and_ids_are_missing() -> None:
    result = repaired(SubtaskDraft("", "first"), SubtaskDraft("", "last", depends_on=("1",)))
    assert result.plan is not None
    assert result.plan.subtasks == (
        Subtask(id="1", task="first", role="explain"),
        Subtask(id="2", task="last", role="generate", depends_on=["1"]),
    )


def test_blank_task_is_reported_when_a_draft_has_one() -> None:
    result = repaired(SubtaskDraft("1", " "))
    assert result.plan is None
    assert [issue.code for issue in result.issues] == ["bad_step", "empty"]


@pytest.mark.parametrize("max_subtasks", [0, -1])
def test_builder_refuses_when_no_subtask_is_allowed(max_subtasks: int) -> None:
    with pytest.raises(ConfigurationError, match="max_subtasks"):
        PlanBuilder(max_subtasks)


def calls_for(count: int) -> int:
    """Count the calls of Python functions that a plan of so many odd subtasks takes."""
    calls = 0

    def note(_frame: FrameType, event: str, _arg: object) -> None:
        nonlocal calls
        calls += event == "call"

    # Duplicates, dangling references, a long cycle, and a chain that waits for one late subtask.
    drafts = [EXPLAIN, *(draft("2", "analyze", f"gone{n}") for n in range(count))]
    drafts += [draft(f"r{n}", "analyze", f"r{(n + 1) % count}") for n in range(count)]
    drafts += [draft(f"w{n}", "analyze", f"w{n - 1}") for n in range(1, count)]
    drafts.append(draft("w0", "analyze", "1"))
    sys.setprofile(note)
    try:
        repaired(*drafts, max_subtasks=2 * count)
    finally:
        sys.setprofile(None)
    return calls


def test_work_grows_with_the_number_of_subtasks_only_when_all_are_odd() -> None:
    assert calls_for(400) < 2.2 * calls_for(200)


# -------------------------------------------------------------------------------------- parse_plan


def test_parse_plan_reports_what_the_parser_could_not_read_when_text_is_cut() -> None:
    result = parse_plan(
        '<Plan><Step ID="1" Role="explain" Task="What?" Rely=""/><Step ID="2" Task="Wh',
        question="Who pays?",
    )
    assert shape(result.plan) == ["1 explain", "answer generate <- 1"]
    assert "bad_step" in [issue.code for issue in result.issues]


def test_parse_plan_gives_the_same_when_called_twice() -> None:
    text = (
        '<Plan><Step Task="a" Rely="b"/><Step ID="b" Task="c" Rely="b,1"/><Step ID="b" Task="d"/>'
    )
    assert parse_plan(text) == parse_plan(text)
