from __future__ import annotations

from itertools import combinations, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_hybridflow.plan import Plan, Subtask
from langchain_hybridflow.report._layout import Box, Layout, lay_out


def plan_of(parents: dict[str, list[str]]) -> Plan:
    """A plan from the dependencies of each subtask; the first explains, the last generates."""
    ids = list(parents)
    roles = {ids[0]: "explain"} | {ids[-1]: "generate"}
    return Plan(
        subtasks=[
            Subtask(
                id=name,
                task=f"Task {name}?",
                role=roles.get(name, "analyze"),
                depends_on=tuple(deps),
            )
            for name, deps in parents.items()
        ]
    )


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Valid plans of 2 to 12 subtasks, of all shapes."""
    count = draw(st.integers(2, 12))
    parents: dict[int, set[int]] = {1: set()}
    for number in range(2, count):
        parents[number] = draw(st.sets(st.integers(1, number - 1), min_size=1, max_size=3))
    leads_on = set().union(*parents.values())
    parents[count] = {number for number in range(1, count) if number not in leads_on}
    parents[count] |= draw(st.sets(st.integers(1, count - 1), max_size=3))
    return plan_of({str(name): sorted(map(str, deps)) for name, deps in parents.items()})


def chain(count: int) -> Plan:
    return plan_of({str(n): [str(n - 1)] if n > 1 else [] for n in range(1, count + 1)})


def star(count: int) -> Plan:
    middle = [str(n) for n in range(2, count)]
    return plan_of({"1": [], **{name: ["1"] for name in middle}, str(count): middle})


def along(layout: Layout, box: Box) -> float:
    """How far into the future a box begins."""
    return layout.height - box.y - box.height if layout.downward else box.x


def touched(box: Box, point: tuple[float, float]) -> bool:
    slack = 1e-6
    return (
        box.x - slack <= point[0] <= box.x + box.width + slack
        and box.y - slack <= point[1] <= box.y + box.height + slack
    )


@given(plans())
def test_boxes_do_not_overlap_and_lie_inside(plan: Plan) -> None:
    layout = lay_out(plan)
    for one, other in combinations(layout.boxes.values(), 2):
        assert not one.overlaps(other)
    for box in layout.boxes.values():
        assert box.x > 0
        assert box.y > 0
        assert box.x + box.width < layout.width
        assert box.y + box.height < layout.height


@given(plans())
def test_dependencies_come_before_their_dependents(plan: Plan) -> None:
    layout = lay_out(plan)
    for subtask in plan.subtasks:
        for parent in subtask.depends_on:
            before, after = layout.boxes[parent], layout.boxes[subtask.id]
            assert along(layout, before) < along(layout, after)


@given(plans())
def test_each_dependency_is_drawn_from_its_box_to_its_dependent(plan: Plan) -> None:
    layout = lay_out(plan)
    for subtask in plan.subtasks:
        for parent in subtask.depends_on:
            pieces = [line for line in layout.lines if (parent, subtask.id) in line.dependencies]
            assert any(touched(layout.boxes[parent], piece.points[0]) for piece in pieces)
            assert any(
                piece.arrives and touched(layout.boxes[subtask.id], piece.points[-1])
                for piece in pieces
            )
    drawn = {pair for line in layout.lines for pair in line.dependencies}
    assert drawn == {(parent, task.id) for task in plan.subtasks for parent in task.depends_on}


@given(plans())
def test_straight_pieces_pass_beside_the_boxes(plan: Plan) -> None:
    layout = lay_out(plan)
    for line in layout.lines:
        for start, end in pairwise(line.points[:-1]):
            x, y = min(start[0], end[0]), min(start[1], end[1])
            passage = Box(x, y, abs(start[0] - end[0]), abs(start[1] - end[1]))
            assert not any(box.overlaps(passage) for box in layout.boxes.values())


@given(plans())
def test_same_plan_gives_the_same_layout(plan: Plan) -> None:
    assert lay_out(plan) == lay_out(plan)


def test_chain_goes_down_and_star_goes_right_so_that_both_stay_narrow() -> None:
    assert lay_out(chain(12)).downward
    assert not lay_out(star(12)).downward
    assert max(lay_out(chain(12)).width, lay_out(star(12)).width) < 9


def test_chain_is_a_straight_line() -> None:
    layout = lay_out(chain(6))
    assert len({round(box.x, 6) for box in layout.boxes.values()}) == 1


def test_diamond_is_symmetric() -> None:
    boxes = lay_out(plan_of({"1": [], "2": ["1"], "3": ["1"], "4": ["2", "3"]})).boxes
    assert boxes["1"].x == pytest.approx(boxes["4"].x)
    assert boxes["1"].x - boxes["2"].x == pytest.approx(boxes["3"].x - boxes["1"].x)


def test_lines_that_need_not_cross_do_not_cross() -> None:
    # Listed so that drawing in listing order would cross: 2 -> 5 and 3 -> 4.
    plan = plan_of({"1": [], "2": ["1"], "3": ["1"], "4": ["3"], "5": ["2"], "6": ["4", "5"]})
    boxes = lay_out(plan).boxes
    assert (boxes["2"].x < boxes["3"].x) == (boxes["5"].x < boxes["4"].x)


def test_boxes_that_share_an_edge_do_not_overlap() -> None:
    assert not Box(0, 0, 1, 1).overlaps(Box(1, 0, 1, 1))
    assert Box(0, 0, 1, 1).overlaps(Box(0.9, 0.9, 1, 1))
