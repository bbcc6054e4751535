"""The manual clock."""

from __future__ import annotations

import pytest

from langchain_hybridflow.testing import ManualClock


def test_clock_stands_still_until_it_is_moved() -> None:
    clock = ManualClock(start_s=3.0)
    assert [clock(), clock()] == [3.0, 3.0]
    assert clock.advance(0.5) == 3.5


def test_clock_refuses_to_go_back() -> None:
    with pytest.raises(ValueError, match="cannot go back"):
        ManualClock().advance(-1)
