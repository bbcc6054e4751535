"""The rules of a valid plan, and every way in which a list of subtasks breaks them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from langchain_hybridflow.plan._graph import cycles, dependents_of
from langchain_hybridflow.plan.subtask import Role, Subtask

__all__ = ["IssueCode", "PlanIssue", "validate_subtasks"]

IssueCode = Literal[
    "empty",
    "too_many_subtasks",
    "duplicate_id",
    "self_dependency",
    "unknown_dependency",
    "cycle",
    "wrong_role",
    "multiple_sinks",
    "orphan",
    # Found while reading text, by PlanParser:
    "bad_step",
    "forbidden_markup",
    "too_large",
]


@dataclass(frozen=True, slots=True)
class PlanIssue:
    """One fault of a plan.

    Attributes:
        code: What kind of fault; stable over versions.
        subtask_id: The subtask at fault, or None if it is the plan as a whole.
        message: The fault in words, fit for a person and for the planner's next attempt.
    """

    code: IssueCode
    subtask_id: str | None
    message: str

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


def validate_subtasks(
    subtasks: Sequence[Subtask], *, max_subtasks: int | None = None
) -> tuple[PlanIssue, ...]:
    """Find all faults of a list of subtasks; an empty result means that it is a valid plan.

    The rules (Explain -> Analyze -> Generate): ids are unique; every dependency is known, is not
    the subtask itself and closes no cycle; exactly one subtask, the sink, has no dependents, and it
    is the only `generate`; of two or more subtasks the first listed is the only `explain` and waits
    for nothing, and all others are `analyze`. A plan of one subtask is a single `generate`.

    Each fault is reported once, where it can be mended: a dead end as `orphan`, or as
    `multiple_sinks` if it is one more `generate`; what leads only to it is not reported again.

    Args:
        subtasks: In listing order.
        max_subtasks: Report a list that is longer; None is no limit.

    Returns:
        The issues, in a fixed order: size, ids, dependencies, cycles, roles, sinks.

    Example:
        >>> issues = validate_subtasks([Subtask(id="1", task="Why?", depends_on=["7"])])
        >>> [(issue.code, issue.subtask_id) for issue in issues]
        [('unknown_dependency', '1'), ('wrong_role', '1')]
    """
    if not subtasks:
        return (PlanIssue("empty", None, "the plan has no subtasks"),)
    issues: list[PlanIssue] = []
    if max_subtasks is not None and len(subtasks) > max_subtasks:
        message = f"the plan has {len(subtasks)} subtasks and at most {max_subtasks} are allowed"
        issues.append(PlanIssue("too_many_subtasks", None, message))
    index = _first_holders(subtasks)
    issues += _id_issues(subtasks, index)
    issues += _edge_issues(subtasks, index)
    deps = [
        [index[dep] for dep in subtask.depends_on if index.get(dep, position) != position]
        for position, subtask in enumerate(subtasks)
    ]
    issues += _cycle_issues(subtasks, deps)
    is_sink = [not dependents for dependents in dependents_of(deps)]
    issues += _role_issues(subtasks, is_sink)
    issues += _sink_issues(subtasks, is_sink)
    return tuple(issues)


def _first_holders(subtasks: Sequence[Subtask]) -> dict[str, int]:
    """Map each id to the first subtask that has it: a reference means that one."""
    index: dict[str, int] = {}
    for position, subtask in enumerate(subtasks):
        index.setdefault(subtask.id, position)
    return index


def _id_issues(subtasks: Sequence[Subtask], index: dict[str, int]) -> list[PlanIssue]:
    return [
        PlanIssue("duplicate_id", subtask.id, f"more than one subtask has the id {subtask.id!r}")
        for position, subtask in enumerate(subtasks)
        if index[subtask.id] != position
    ]


def _edge_issues(subtasks: Sequence[Subtask], index: dict[str, int]) -> list[PlanIssue]:
    issues: list[PlanIssue] = []
    for position, subtask in enumerate(subtasks):
        for dep in subtask.depends_on:
            if dep not in index:
                message = f"subtask {subtask.id!r} depends on {dep!r}, which does not exist"
                issues.append(PlanIssue("unknown_dependency", subtask.id, message))
            elif index[dep] == position:
                message = f"subtask {subtask.id!r} depends on itself"
                issues.append(PlanIssue("self_dependency", subtask.id, message))
    return issues


def _cycle_issues(subtasks: Sequence[Subtask], deps: list[list[int]]) -> list[PlanIssue]:
    issues: list[PlanIssue] = []
    for component in cycles(deps):
        names = [subtasks[node].id for node in component]
        message = f"subtasks {', '.join(names)} wait for one another in a cycle"
        issues.append(PlanIssue("cycle", names[0], message))
    return issues


def _role_issues(subtasks: Sequence[Subtask], is_sink: list[bool]) -> list[PlanIssue]:
    first, *others = subtasks
    if not others:
        if first.role is Role.GENERATE:
            return []
        return [_wrong_role(first, "is the only subtask, so its role must be generate")]
    issues: list[PlanIssue] = []
    if first.role is not Role.EXPLAIN:
        issues.append(_wrong_role(first, "is listed first, so its role must be explain"))
    if first.depends_on:
        issues.append(_wrong_role(first, "is listed first, so it must not depend on anything"))
    issues += (
        _wrong_role(subtask, "is an explain, and only the first may be one")
        for subtask in others
        if subtask.role is Role.EXPLAIN
    )
    issues += (
        _wrong_role(subtask, "is a generate, and other subtasks depend on it")
        for subtask, sink in zip(subtasks, is_sink, strict=True)
        if subtask.role is Role.GENERATE and not sink
    )
    return issues


def _wrong_role(subtask: Subtask, why: str) -> PlanIssue:
    return PlanIssue("wrong_role", subtask.id, f"subtask {subtask.id!r} {why}")


def _sink_issues(subtasks: Sequence[Subtask], is_sink: list[bool]) -> list[PlanIssue]:
    sinks = [subtask for subtask, sink in zip(subtasks, is_sink, strict=True) if sink]
    if len(subtasks) == 1 or not sinks:
        return []
    generates = [subtask for subtask in sinks if subtask.role is Role.GENERATE]
    issues: list[PlanIssue] = []
    main = generates[-1] if generates else sinks[-1]
    if not generates:
        issues.append(_wrong_role(main, "is the last of its line, so its role must be generate"))
    for subtask in sinks:
        if subtask is main:
            continue
        if generates and subtask.role is not Role.GENERATE:
            message = f"subtask {subtask.id!r} leads nowhere; {main.id!r} should depend on it"
            issues.append(PlanIssue("orphan", subtask.id, message))
        else:
            message = f"nothing depends on {subtask.id!r} or {main.id!r}; only one may be the sink"
            issues.append(PlanIssue("multiple_sinks", subtask.id, message))
    return issues
