from __future__ import annotations

import pytest

from langchain_hybridflow.plan import Subtask, validate_subtasks


def subtask(subtask_id: str, role: str = "analyze", *deps: str) -> Subtask:
    return Subtask(id=subtask_id, task="Why?", role=role, depends_on=deps)


VALID = [subtask("1", "explain"), subtask("2", "analyze", "1"), subtask("3", "generate", "2")]


def found(*subtasks: Subtask, max_subtasks: int | None = None) -> list[tuple[str, str | None]]:
    issues = validate_subtasks(subtasks, max_subtasks=max_subtasks)
    return [(issue.code, issue.subtask_id) for issue in issues]


def test_nothing_is_found_when_plan_is_valid() -> None:
    assert found(*VALID, max_subtasks=3) == []


def test_nothing_is_found_when_only_subtask_generates() -> None:
    assert found(subtask("1", "generate")) == []


@pytest.mark.parametrize("role", ["explain", "analyze"])
def test_wrong_role_is_found_when_only_subtask_does_not_generate(role: str) -> None:
    assert found(subtask("1", role)) == [("wrong_role", "1")]


def test_empty_is_found_when_there_is_no_subtask() -> None:
    assert found() == [("empty", None)]


def test_too_many_is_found_when_beyond_the_cap() -> None:
    assert found(*VALID, max_subtasks=2) == [("too_many_subtasks", None)]


def test_duplicate_is_found_for_each_repeat_when_id_is_used_thrice() -> None:
    repeats = [subtask("2", "analyze", "1")] * 2
    sink = subtask("3", "generate", "2")
    codes = found(subtask("1", "explain"), subtask("2", "analyze", "1"), *repeats, sink)
    assert codes.count(("duplicate_id", "2")) == 2


def test_reference_means_the_first_when_id_is_used_twice() -> None:
    repeat = subtask("2", "analyze", "2")
    assert ("self_dependency", "2") not in found(VALID[0], VALID[1], repeat, VALID[2])


def test_self_dependency_is_found_when_subtask_waits_for_itself() -> None:
    assert found(VALID[0], subtask("2", "analyze", "1", "2"), VALID[2]) == [
        ("self_dependency", "2")
    ]


def test_unknown_dependencies_are_all_found_when_several() -> None:
    assert found(
        VALID[0], subtask("2", "analyze", "8", "9"), subtask("3", "generate", "1", "2")
    ) == [
        ("unknown_dependency", "2"),
        ("unknown_dependency", "2"),
    ]


def test_each_cycle_is_found_once_when_there_are_two() -> None:
    assert found(
        subtask("1", "explain"),
        subtask("2", "analyze", "3"),
        subtask("3", "analyze", "2"),
        subtask("4", "analyze", "1", "5"),
        subtask("5", "analyze", "4"),
        subtask("6", "generate", "2", "4"),
    ) == [("cycle", "2"), ("cycle", "4")]


def test_cycle_is_found_when_nothing_else_is_in_the_plan() -> None:
    codes = found(subtask("1", "explain", "2"), subtask("2", "generate", "1"))
    assert ("cycle", "1") in codes


@pytest.mark.parametrize(
    ("subtasks", "at_fault"),
    [
        ([subtask("1"), subtask("2", "generate", "1")], "1"),
        ([subtask("1", "explain", "2"), *VALID[1:]], "1"),
        ([VALID[0], subtask("2", "explain", "1"), VALID[2]], "2"),
        ([VALID[0], subtask("2", "generate", "1"), VALID[2]], "2"),
        ([VALID[0], VALID[1], subtask("3", "analyze", "2")], "3"),
    ],
    ids=["first", "first_waits", "second_explain", "generate_inside", "no_generate"],
)
def test_wrong_role_is_found_when_order_of_roles_is_broken(
    subtasks: list[Subtask], at_fault: str
) -> None:
    assert ("wrong_role", at_fault) in found(*subtasks)


def test_multiple_sinks_are_found_when_two_generate() -> None:
    assert found(*VALID, subtask("4", "generate", "1")) == [("multiple_sinks", "3")]


def test_multiple_sinks_are_found_when_none_generates() -> None:
    codes = found(VALID[0], subtask("2", "analyze", "1"), subtask("3", "analyze", "1"))
    assert codes == [("wrong_role", "3"), ("multiple_sinks", "2")]


def test_orphan_is_found_where_it_can_be_mended_when_a_line_is_dead() -> None:
    dead_line = [subtask("4", "analyze", "1"), subtask("5", "analyze", "4")]
    assert found(*VALID, *dead_line) == [("orphan", "5")]


def test_chain_of_thousands_is_checked_when_recursion_would_fail() -> None:
    chain = [subtask(str(n), "analyze", str(n - 1)) for n in range(2, 5_000)]
    assert found(subtask("1", "explain"), *chain, subtask("5000", "generate", "4999")) == []


def test_ring_of_thousands_is_one_cycle_when_recursion_would_fail() -> None:
    ring = [subtask(str(n), "analyze", str(n % 3_000 + 1)) for n in range(1, 3_001)]
    assert [code for code, _ in found(*ring)].count("cycle") == 1


def test_issue_reads_well_when_printed() -> None:
    (issue,) = validate_subtasks(())
    assert str(issue) == "empty: the plan has no subtasks"
