"""The drawing of a compiled plan is the plan."""

from __future__ import annotations

from typing import Any

import pytest
from flowkit import DIAMOND, make_flow, plan_of
from hypothesis import given
from hypothesis import strategies as st

from langchain_hybridflow import Budget


def edges(graph: Any, **kwargs: Any) -> set[tuple[str, str]]:
    return {(edge.source, edge.target) for edge in graph.get_graph(**kwargs).edges}


def test_drawing_of_a_compiled_plan_has_exactly_its_edges():
    assert edges(make_flow().compile(plan=DIAMOND)) == {
        ("__start__", "dispatch"),
        ("dispatch", "explain_1"),
        ("explain_1", "analyze_2"),
        ("explain_1", "analyze_3"),
        ("analyze_2", "generate_4"),
        ("analyze_3", "generate_4"),
        ("generate_4", "answer"),
        ("answer", "__end__"),
    }


@given(st.integers(1, 7), st.randoms(use_true_random=False))
def test_drawing_has_the_edges_of_any_plan(size: int, random: Any):
    needs: dict[str, set[str]] = {"0": set()}
    for index in range(1, size):
        needs[str(index)] = {str(i) for i in range(index) if random.random() < 0.5}
    used = set().union(*needs.values())
    if size > 1:
        needs["end"] = {key for key in needs if key not in used}
    plan = plan_of({key: " ".join(sorted(value)) for key, value in needs.items()})
    name = {one.id: f"{one.role.value}_{one.id}" for one in plan.subtasks}
    expected = {
        ("__start__", "dispatch"),
        (name[plan.sink.id], "answer"),
        ("answer", "__end__"),
    }
    for one in plan.subtasks:
        expected |= {(name[parent], name[one.id]) for parent in one.depends_on}
        if not one.depends_on:
            expected.add(("dispatch", name[one.id]))
    assert edges(make_flow().compile(plan=plan)) == expected


def test_xray_shows_the_way_to_edge_and_cloud_in_each_subtask():
    drawn = edges(make_flow().compile(plan=DIAMOND), xray=True)
    for node in ("explain_1", "analyze_2", "analyze_3", "generate_4"):
        assert {(f"{node}:route", f"{node}:edge"), (f"{node}:route", f"{node}:cloud")} <= drawn
        assert (f"{node}:edge", f"{node}:cloud") in drawn  # the fallback


def test_xray_shows_no_fallback_that_cannot_be():
    flow = make_flow(
        model={"on_edge_error": "raise", "on_cloud_error": "raise"},
        budget=Budget(on_exhausted="raise"),
    )
    drawn = edges(flow.compile(plan=DIAMOND), xray=True)
    assert ("analyze_2:edge", "analyze_2:cloud") not in drawn
    assert ("analyze_2:cloud", "analyze_2:edge") not in drawn


def test_drawing_without_a_plan_shows_planner_and_subtask():
    assert edges(make_flow().compile()) == {
        ("__start__", "dispatch"),
        ("dispatch", "plan"),
        ("dispatch", "subtask"),
        ("plan", "answer"),
        ("subtask", "answer"),
        ("answer", "subtask"),
        ("answer", "__end__"),
    }


@pytest.mark.parametrize("xray", [False, True])
@pytest.mark.parametrize("plan", [None, DIAMOND])
def test_drawing_is_mermaid(plan: Any, xray: bool):
    text = make_flow().compile(plan=plan).get_graph(xray=xray).draw_mermaid()
    assert text.count("dispatch") > 1
    assert "answer" in text


def test_graph_has_the_name_it_is_given():
    assert make_flow().compile(name="Mine").name == "Mine"


def test_schemas_are_those_of_a_conversation():
    graph = make_flow().compile()
    assert list(graph.get_input_jsonschema()["properties"]) == ["messages"]
    assert set(graph.get_output_jsonschema()["properties"]) == {
        "messages",
        "answer",
        "plan",
        "results",
        "report",
    }
