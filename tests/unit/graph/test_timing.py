"""A deadline is divided among the subtasks, and what would be late goes to the edge."""

from __future__ import annotations

import pytest
from flowkit import CHAIN, DIAMOND, Face, Held, ask, asked, make_flow, plan_of, worker
from hypothesis import given
from hypothesis import strategies as st

from langchain_hybridflow import Budget
from langchain_hybridflow.graph.packets import early_work, works_of
from langchain_hybridflow.graph.timing import SHORTEST_S, TierTimes, TimeBox, share_of
from langchain_hybridflow.routing import AlwaysCloud
from langchain_hybridflow.testing import ManualClock

LONG = plan_of({"1": "", "2": "1", "3": "1", "4": "2 3"}, {"1": 100, "2": 300, "3": 50, "4": 100})


def box(tier="cloud", share=1.0, remaining_s=60.0, times=None, edge_follows=True) -> TimeBox:
    work = {"urgency": 100 / share, "subtask": {"expected_output_tokens": 100}}
    return TimeBox.of(
        tier,
        work,
        remaining_s=remaining_s,
        times=times or TierTimes(),
        edge_follows=edge_follows,
    )


# ------------------------------------------------------------------------- shares


def test_share_is_the_part_of_the_longest_way_to_the_answer() -> None:
    works = works_of(LONG)
    shares = {key: share_of(works[key]) for key in LONG.order}
    assert shares == pytest.approx({"1": 0.2, "2": 0.75, "3": 1 / 3, "4": 1.0})


def test_share_is_a_half_while_the_plan_is_being_written() -> None:
    assert share_of(early_work(LONG["2"], 1, 2)) == 0.5


@pytest.mark.parametrize("tier", ["edge", "cloud"])
def test_call_has_no_limit_when_the_run_has_none(tier) -> None:
    assert box(tier, remaining_s=None) == TimeBox(None)


@given(st.floats(0, 1e4), st.floats(0.01, 1), st.sampled_from(["edge", "cloud"]), st.booleans())
def test_call_never_gets_more_than_the_run_has(remaining_s, share, tier, edge_follows) -> None:
    limit_s = box(tier, share, remaining_s, edge_follows=edge_follows).limit_s
    assert limit_s is not None
    assert 0 <= limit_s <= remaining_s


def test_edge_gets_its_share_and_a_second_at_least() -> None:
    assert box("edge", 0.25).limit_s == 15
    assert box("edge", 0.01).limit_s == SHORTEST_S
    assert box("edge", 0.01, remaining_s=0.4).limit_s == 0.4


def test_cloud_leaves_a_quarter_to_the_edge_when_nobody_knows_how_long_that_takes() -> None:
    assert box(share=0.5).limit_s == 22.5
    assert box(share=0.5, edge_follows=False).limit_s == 30


def test_cloud_leaves_the_edge_the_time_that_its_calls_take() -> None:
    times = TierTimes()
    times.note("edge", 4.0)
    assert box(share=0.5, times=times).limit_s == 26


@pytest.mark.parametrize(("expected_s", "fits"), [(44.0, True), (46.0, False)])
def test_cloud_does_not_fit_when_its_calls_take_longer(expected_s, fits) -> None:
    times = TierTimes()
    times.note("cloud", expected_s)
    assert box(times=times).fits is fits
    assert box(times=times, edge_follows=False).fits  # nobody else could answer


def test_times_follow_what_calls_take_now() -> None:
    times = TierTimes()
    for _ in range(20):
        times.note("cloud", 10.0)
    for _ in range(20):
        times.note("cloud", 1.0)
    assert times.expected_s("cloud") == pytest.approx(1.0, abs=0.1)


# ------------------------------------------------------------------------- runs


async def test_late_cloud_call_is_answered_by_the_edge(face: Face):
    slow = Held("too late")
    edge, cloud = worker(), worker({"2": slow}, model_name="cloud")
    flow = make_flow(edge, cloud, router=AlwaysCloud(), budget=Budget(deadline_s=1.0))
    out = await face.invoke(flow.compile(plan=CHAIN), ask())
    slow.release.open()
    record = out["results"]["2"]
    assert (record["tier"], record["degraded"]) == ("edge", True)
    assert "longer than" in record["attempts"][0]["error"]
    assert out["report"]["complete"]


async def test_cloud_is_not_asked_when_it_is_known_to_be_late(face: Face):
    edge, cloud = worker(), worker(model_name="cloud")
    flow = make_flow(edge, cloud, router=AlwaysCloud(), budget=Budget(deadline_s=60))
    flow._runner.times.note("cloud", 100.0)
    out = await face.invoke(flow.compile(plan=DIAMOND), ask())
    assert cloud.calls == []
    assert (out["report"]["complete"], out["report"]["degraded"]) == (True, True)
    attempt = out["results"]["4"]["attempts"][0]
    assert attempt["status"] == "refused"
    assert "expected to take 100 s" in attempt["error"]


async def test_cloud_is_asked_when_the_run_has_no_deadline_however_long_it_takes(face: Face):
    cloud = worker(model_name="cloud")
    flow = make_flow(worker(), cloud, router=AlwaysCloud())
    flow._runner.times.note("cloud", 1e6)
    await face.invoke(flow.compile(plan=CHAIN), ask())
    assert len(cloud.calls) == 3


async def test_cloud_is_asked_when_the_edge_may_not_answer_for_it(face: Face):
    cloud = worker(model_name="cloud")
    flow = make_flow(
        worker(),
        cloud,
        router=AlwaysCloud(),
        budget=Budget(deadline_s=60),
        model={"on_cloud_error": "raise"},
    )
    flow._runner.times.note("cloud", 100.0)
    await face.invoke(flow.compile(plan=CHAIN), ask())
    assert asked(cloud) == ["1", "2", "3"]


async def test_calls_teach_how_long_a_tier_takes(face: Face):
    clock = ManualClock()

    def takes_3_s(_: object) -> str:
        clock.advance(3.0)
        return "done"

    edge = worker(dict.fromkeys("123", takes_3_s))
    flow = make_flow(edge, budget=Budget(deadline_s=600, clock=clock))
    await face.invoke(flow.compile(plan=CHAIN), ask())
    assert flow._runner.times.expected_s("edge") == 3.0
    assert flow._runner.times.expected_s("cloud") is None


async def test_answer_says_what_is_missing_when_there_is_no_time_for_the_edge(face: Face):
    clock = ManualClock()

    def takes_it_all(_: object) -> str:
        clock.advance(100.0)
        return "done"

    edge = worker({"1": takes_it_all})
    flow = make_flow(edge, budget=Budget(deadline_s=60, clock=clock))
    out = await face.invoke(flow.compile(plan=CHAIN), ask())
    assert not out["report"]["complete"]
    assert out["report"]["missing"] == ["2", "3"]
    assert "Missing: Part 2?" in out["answer"]
    assert "Found: Part 1? done" in out["answer"]
