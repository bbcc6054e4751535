"""How parallel a plan is, and which of its subtasks hold up the answer.

A duration is any cost that adds up along a path and is the same unit for all subtasks: measured
seconds, or, where none are given, the planner's `expected_output_tokens`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.plan.models import Plan

__all__ = [
    "CriticalPath",
    "compression_ratio",
    "critical_path",
    "depth",
    "longest_remaining",
    "slack",
    "width",
]


class CriticalPath(NamedTuple):
    """The chain of subtasks that no amount of parallelism makes shorter.

    Attributes:
        ids: From a root to the sink.
        length: Sum of the durations along it, in their unit.
    """

    ids: tuple[str, ...]
    length: float


def depth(plan: Plan) -> int:
    """Count the subtasks on the longest chain of dependencies.

    Example:
        >>> from langchain_hybridflow.plan import parse_plan
        >>> plan = parse_plan("<Plan><Step ID='1' Task='What is asked?'/></Plan>").plan
        >>> depth(plan)
        1
    """
    return int(critical_path(plan, dict.fromkeys(plan.order, 1.0)).length)


def width(plan: Plan) -> int:
    """Count the subtasks that can run at the same time at most.

    This is the largest set in which no subtask waits for another (the largest antichain). By
    Dilworth's theorem it is the number of subtasks less the largest matching between subtasks and
    subtasks that wait for them.
    """
    bit = {subtask_id: 1 << position for position, subtask_id in enumerate(plan.order)}
    waiting: list[int] = []
    descendants: dict[str, int] = {}
    for subtask_id in reversed(plan.order):
        mask = 0
        for dependent in plan.dependents(subtask_id):
            mask |= bit[dependent] | descendants[dependent]
        descendants[subtask_id] = mask
        waiting.append(mask)
    return len(plan) - _matching_size(waiting)


def critical_path(plan: Plan, durations: Mapping[str, float] | None = None) -> CriticalPath:
    """Find the longest path through the plan: the least time in which it can be answered.

    Of several paths of the same length the one through the subtasks listed first is given.

    Args:
        plan: Any plan.
        durations: Duration by subtask id; the default is `expected_output_tokens`.

    Raises:
        ConfigurationError: A subtask has no duration, or one that is negative or not a number.
    """
    remaining = longest_remaining(plan, durations)
    roots = [subtask.id for subtask in plan.subtasks if not subtask.depends_on]
    path = [max(roots, key=remaining.__getitem__)]
    while dependents := plan.dependents(path[-1]):
        path.append(max(dependents, key=remaining.__getitem__))
    return CriticalPath(tuple(path), remaining[path[0]])


def compression_ratio(plan: Plan, durations: Mapping[str, float] | None = None) -> float:
    """Say how many times faster than one-after-another the plan can be.

    The sum of all durations over the length of the critical path: 1.0 for a chain, and for a plan
    whose durations are all zero.

    Args:
        plan: Any plan.
        durations: Duration by subtask id; the default is `expected_output_tokens`.

    Raises:
        ConfigurationError: A subtask has no duration, or one that is negative or not a number.
    """
    checked = _checked_durations(plan, durations)
    length = critical_path(plan, checked).length
    return math.fsum(checked.values()) / length if length > 0 else 1.0


def longest_remaining(plan: Plan, durations: Mapping[str, float] | None = None) -> dict[str, float]:
    """Give, for each subtask, the longest path from its start to the final answer.

    The larger it is, the more urgent the subtask: it is the priority when slots are short.

    Args:
        plan: Any plan.
        durations: Duration by subtask id; the default is `expected_output_tokens`.

    Returns:
        By subtask id, in listing order; the subtask's own duration is included.

    Raises:
        ConfigurationError: A subtask has no duration, or one that is negative or not a number.
    """
    checked = _checked_durations(plan, durations)
    remaining: dict[str, float] = {}
    for subtask_id in reversed(plan.order):
        after = (remaining[dependent] for dependent in plan.dependents(subtask_id))
        remaining[subtask_id] = checked[subtask_id] + max(after, default=0.0)
    return {subtask.id: remaining[subtask.id] for subtask in plan.subtasks}


def slack(plan: Plan, durations: Mapping[str, float] | None = None) -> dict[str, float]:
    """Give, for each subtask, how much longer it may take without delaying the answer.

    Args:
        plan: Any plan.
        durations: Duration by subtask id; the default is `expected_output_tokens`.

    Returns:
        By subtask id, in listing order; exactly 0.0 on a critical path.

    Raises:
        ConfigurationError: A subtask has no duration, or one that is negative or not a number.
    """
    checked = _checked_durations(plan, durations)
    remaining = longest_remaining(plan, checked)
    length = critical_path(plan, checked).length
    earliest_start: dict[str, float] = {}
    for subtask_id in plan.order:
        ends = (earliest_start[dep] + checked[dep] for dep in plan[subtask_id].depends_on)
        earliest_start[subtask_id] = max(ends, default=0.0)
    spare = {
        subtask.id: length - (earliest_start[subtask.id] + remaining[subtask.id])
        for subtask in plan.subtasks
    }
    # The two sums add the same numbers in different orders: less than this is rounding, not slack.
    noise = length * 1e-12
    return {subtask_id: value if value > noise else 0.0 for subtask_id, value in spare.items()}


def _checked_durations(plan: Plan, durations: Mapping[str, float] | None) -> dict[str, float]:
    if durations is None:
        return {subtask.id: float(subtask.expected_output_tokens) for subtask in plan.subtasks}
    checked: dict[str, float] = {}
    for subtask in plan.subtasks:
        value = durations.get(subtask.id)
        if value is None or not (0.0 <= value < math.inf):
            raise ConfigurationError(
                f"The duration of subtask {subtask.id!r} is {value!r}. Give every subtask of the "
                f"plan a finite duration of 0 or more."
            )
        checked[subtask.id] = float(value)
    return checked


def _matching_size(edges: list[int]) -> int:
    """Size of the largest bipartite matching; `edges[left]` is a bit mask of right nodes.

    Augmenting paths by breadth-first search, each right node being looked at once a search.
    """
    owner: dict[int, int] = {}
    for start in range(len(edges)):
        seen = 0
        reached_from: dict[int, int] = {}
        queue = [start]
        for left in queue:
            fresh = edges[left] & ~seen
            seen |= fresh
            free = None
            while fresh:
                right = fresh.bit_length() - 1
                fresh ^= 1 << right
                reached_from[right] = left
                if right not in owner:
                    free = right
                    break
                queue.append(owner[right])
            if free is not None:
                _flip_path(owner, reached_from, start, free)
                break
    return len(owner)


def _flip_path(owner: dict[int, int], reached_from: dict[int, int], start: int, free: int) -> None:
    """Rematch along the augmenting path that ends at the free right node."""
    match_of = {left: right for right, left in owner.items()}
    right: int | None = free
    while right is not None:
        left = reached_from[right]
        owner[right] = left
        right = None if left == start else match_of[left]
