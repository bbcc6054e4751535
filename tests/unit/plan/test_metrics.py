from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.plan import (
    Plan,
    Subtask,
    compression_ratio,
    critical_path,
    depth,
    longest_remaining,
    slack,
    width,
)


def plan_of(**deps: str) -> Plan:
    """Make a plan of one-letter ids; the first explains, the last generates."""
    first, *_, last = deps
    roles = dict.fromkeys(deps, "analyze") | {first: "explain", last: "generate"}
    return Plan(
        subtasks=[
            Subtask(id=name, task="?", role=roles[name], depends_on=list(parents))
            for name, parents in deps.items()
        ]
    )


SINGLE = Plan(subtasks=[Subtask(id="a", task="?", role="generate")])
CHAIN = plan_of(a="", b="a", c="b", d="c")
DIAMOND = plan_of(a="", b="a", c="a", d="bc")
# By levels only two at once: {a}, {b, e}, {c, d}, ... but c, d and e can run together.
STAGGERED = plan_of(a="", b="a", e="a", c="b", d="b", f="e", g="cdf")
DURATIONS = {"a": 1.0, "b": 2.0, "c": 5.0, "d": 0.5}


@st.composite
def small_plans(draw: st.DrawFn) -> tuple[Plan, dict[str, float]]:
    names = "abcdefgh"[: draw(st.integers(2, 8))]
    deps = {names[0]: ""}
    for position, name in enumerate(names[1:-1], start=1):
        deps[name] = "".join(draw(st.sets(st.sampled_from(names[:position]))))
    used = set("".join(deps.values()))
    deps[names[-1]] = "".join(name for name in names[:-1] if name not in used)
    return plan_of(**deps), {name: draw(st.floats(0.0, 1e6)) for name in names}


def all_paths(plan: Plan) -> list[list[str]]:
    """Every way from a root to the sink."""
    unfinished = [[subtask.id] for subtask in plan.subtasks if not subtask.depends_on]
    finished = []
    while unfinished:
        path = unfinished.pop()
        following = plan.dependents(path[-1])
        unfinished += [[*path, name] for name in following]
        finished += [] if following else [path]
    return finished


@pytest.mark.parametrize(("plan", "expected"), [(SINGLE, 1), (CHAIN, 4), (DIAMOND, 3)])
def test_depth_counts_the_longest_chain_when_plan_is(plan: Plan, expected: int) -> None:
    assert depth(plan) == expected


@pytest.mark.parametrize(
    ("plan", "expected"), [(SINGLE, 1), (CHAIN, 1), (DIAMOND, 2), (STAGGERED, 3)]
)
def test_width_counts_what_can_run_together_when_plan_is(plan: Plan, expected: int) -> None:
    assert width(plan) == expected


@given(small_plans())
def test_width_is_the_largest_antichain_when_compared_with_brute_force(
    drawn: tuple[Plan, dict[str, float]],
) -> None:
    plan, _ = drawn
    ancestors = {subtask.id: plan.ancestors(subtask.id) for subtask in plan.subtasks}
    largest = max(
        len(names)
        for size in range(1, len(plan) + 1)
        for names in itertools.combinations(ancestors, size)
        if all(ancestors[name].isdisjoint(names) for name in names)
    )
    assert width(plan) == largest


@given(small_plans())
def test_critical_path_is_the_longest_when_compared_with_all_paths(
    drawn: tuple[Plan, dict[str, float]],
) -> None:
    plan, durations = drawn
    ids, length = critical_path(plan, durations)
    paths = all_paths(plan)
    assert list(ids) in paths
    assert math.isclose(length, max(sum(durations[n] for n in path) for path in paths))


@given(small_plans())
def test_slack_can_be_used_up_without_delay_when_one_subtask_is_late(
    drawn: tuple[Plan, dict[str, float]],
) -> None:
    plan, durations = drawn
    length = critical_path(plan, durations).length
    for name, spare in slack(plan, durations).items():
        later = critical_path(plan, durations | {name: durations[name] + spare}).length
        assert math.isclose(later, length, rel_tol=1e-9)
        much_later = critical_path(plan, durations | {name: durations[name] + spare + 1}).length
        assert much_later > length


@given(small_plans())
def test_slack_is_exactly_zero_when_on_the_critical_path(
    drawn: tuple[Plan, dict[str, float]],
) -> None:
    plan, durations = drawn
    spare = slack(plan, durations)
    assert [spare[name] for name in critical_path(plan, durations).ids] == [0.0] * len(
        critical_path(plan, durations).ids
    )


def test_critical_path_goes_through_the_first_listed_when_paths_tie() -> None:
    assert critical_path(DIAMOND) == (("a", "b", "d"), 3 * 128)


def test_compression_ratio_is_work_over_length_when_durations_are_given() -> None:
    assert compression_ratio(DIAMOND, DURATIONS) == 8.5 / 6.5


def test_compression_ratio_is_one_when_all_durations_are_zero() -> None:
    assert compression_ratio(DIAMOND, dict.fromkeys("abcd", 0.0)) == 1.0


def test_longest_remaining_includes_the_subtask_itself_when_measured() -> None:
    assert longest_remaining(DIAMOND, DURATIONS) == {"a": 6.5, "b": 2.5, "c": 5.5, "d": 0.5}


def test_slack_is_the_difference_of_the_branches_when_one_is_shorter() -> None:
    assert slack(DIAMOND, DURATIONS) == {"a": 0.0, "b": 3.0, "c": 0.0, "d": 0.0}


@pytest.mark.parametrize("value", [None, -1.0, math.nan, math.inf])
@pytest.mark.parametrize("metric", [critical_path, compression_ratio, longest_remaining, slack])
def test_metrics_refuse_when_a_duration_is_missing_or_no_duration(
    metric: object, value: float | None
) -> None:
    durations = {
        name: time for name, time in (DURATIONS | {"c": value}).items() if time is not None
    }
    with pytest.raises(ConfigurationError, match="'c'"):
        metric(DIAMOND, durations)


def test_width_is_found_when_plan_is_large() -> None:
    middle = {f"m{n}": "a" for n in range(300)}
    subtasks = [Subtask(id="a", task="?", role="explain")]
    subtasks += [Subtask(id=name, task="?", depends_on=["a"]) for name in middle]
    subtasks.append(Subtask(id="z", task="?", role="generate", depends_on=list(middle)))
    assert width(Plan(subtasks=subtasks)) == 300
