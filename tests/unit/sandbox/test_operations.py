"""Every operation against a result worked out by hand or by the calendar."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest

from langchain_hybridflow.sandbox.language import Value
from langchain_hybridflow.sandbox.operations import OPERATIONS, read_table, write_table

D = Decimal


@pytest.mark.parametrize(
    ("operation", "args", "result"),
    [
        ("add", (D(3), D(4)), D(7)),
        ("subtract", (D(3), D(4)), D(-1)),
        ("multiply", (D(3), D(4)), D(12)),
        ("divide", (D(3), D(4)), D("0.75")),
        ("add_product", (D(5), D(3), D(4)), D(17)),
        ("subtract_product", (D(50), D(3), D(4)), D(38)),
        ("percent_off", (D(80), D(25)), D(60)),
        ("percent_on", (D(80), D(25)), D(100)),
        ("around", (D(30), D(20)), D(100)),
        ("metres_at_speed", (D(18), D(135)), D(40_500)),
        ("sum", (D(1), D(2), D(3)), D(6)),
        ("spread", (D(9), D(2), D(3)), D(7)),
        ("days_after", (date(2024, 2, 28), D(2)), date(2024, 3, 1)),
        ("working_days_after", (date(2026, 11, 20), D(1)), date(2026, 11, 23)),
        ("working_days_after", (date(2026, 11, 21), D(6)), date(2026, 11, 30)),
        ("latest", (date(2024, 1, 1), date(2025, 1, 1)), date(2025, 1, 1)),
        ("days_between", (date(2024, 3, 1), date(2024, 2, 1)), D(29)),
        ("weekday", (date(2026, 11, 20), date(2026, 11, 21)), "Saturday"),
        ("leading", ("Ada", D(3), "Bo", D(5)), "Bo"),
        ("eliminate", ("Ada, Bo", "cat, dog", "Ada: cat"), "Ada: dog; Bo: cat"),
        ("look_up", ("Ada: dog; Bo: cat", "Bo", "cat", D(3), "dog", D(7)), D(3)),
    ],
)
def test_operation_computes_exactly(operation: str, args: tuple[Value, ...], result: Value) -> None:
    assert OPERATIONS[operation].compute(args) == result
    assert type(result) is OPERATIONS[operation].result
    assert OPERATIONS[operation].show(args)


def test_eliminate_refuses_when_there_are_too_many_people_to_try_all_ways() -> None:
    people = ", ".join(f"P{n}" for n in range(50))
    with pytest.raises(ValueError, match="50 people"):
        OPERATIONS["eliminate"].compute((people, people, ""))


def test_working_days_refuses_when_counting_would_take_forever() -> None:
    with pytest.raises(ValueError, match="too many"):
        OPERATIONS["working_days_after"].compute((date(2024, 1, 1), D(10**12)))


def test_table_survives_writing_and_reading() -> None:
    table = {"Ada": "cat", "Bo": "dog"}
    assert read_table(write_table(table)) == table
