from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest

from langchain_hybridflow.sandbox.language import Value
from langchain_hybridflow.sandbox.operations import Unsolvable
from langchain_hybridflow.sandbox.program import Node, Program, Ref, evaluate, read_value

D = Decimal
BOX = Node("box", "the pens in a box", "multiply", (D(6), D(4)), 2)
FULL = Node("full", "the pens after delivery", "add_product", (D(10), D(2), Ref("box")), 3)
LEFT = Node("left", "the pens left", "subtract", (Ref("full"), D(8)), 2)
OTHER = Node("other", "the mugs", "add", (D(1), D(1)), 1)
PROGRAM = Program("stock", (BOX, FULL, OTHER, LEFT))


def test_evaluate_does_only_the_steps_that_the_target_needs() -> None:
    assert [working.node.name for working in evaluate(PROGRAM, "left")] == ["box", "full", "left"]


def test_evaluate_ends_with_the_result_of_the_target() -> None:
    assert evaluate(PROGRAM, "left")[-1].value == D(50)


def test_evaluate_uses_given_results_as_they_are_when_they_are_wrong() -> None:
    assert evaluate(PROGRAM, "left", given={"box": D(25)})[-1].value == D(52)


def test_evaluate_returns_nothing_when_the_target_itself_is_given() -> None:
    assert evaluate(PROGRAM, "left", given={"left": D(1)}) == ()


def test_evaluate_goes_on_with_the_wrong_value_when_a_step_slips() -> None:
    def slip(node: Node, args: tuple[Value, ...], value: Value) -> Value:
        return D(100) if node.name == "full" else value

    assert evaluate(PROGRAM, "left", slip=slip)[-1].value == D(92)


@pytest.mark.parametrize(
    "node",
    [
        Node("x", "x", "divide", (D(1), D(0)), 1),
        Node("x", "x", "days_after", (date(9999, 12, 31), D(10)), 1),
        Node("x", "x", "eliminate", ("Ada", "cat", "Ada: cat"), 1),
        Node("x", "x", "look_up", ("Ada: cat", "Bo", "cat", D(1)), 1),
        Node("x", "x", "add", (D(1), "two"), 1),
    ],
)
def test_evaluate_raises_unsolvable_when_a_step_makes_no_sense(node: Node) -> None:
    with pytest.raises(Unsolvable):
        evaluate(Program("x", (node,)), "x")


def test_evaluate_is_exact_when_numbers_are_long() -> None:
    long = D("9" * 60)
    program = Program("x", (Node("x", "x", "multiply", (long, long), 1),))
    assert evaluate(program, "x")[-1].value == int(long) ** 2


def test_read_value_reads_the_type_of_the_step() -> None:
    day = Node("day", "the day", "days_after", (), 1)
    assert read_value("It is 3 May 2024", node=day) == date(2024, 5, 3)
    assert read_value("12", node=day) is None
