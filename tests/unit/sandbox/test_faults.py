from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from langchain_hybridflow.sandbox.faults import Fault, FaultKind, Faults


def drawn(faults: Faults, model: str, n: int) -> list[FaultKind | None]:
    hits = [faults.draw(model) for _ in range(n)]
    return [hit.kind if hit else None for hit in hits]


def test_faults_strike_nothing_when_none_wait() -> None:
    assert Faults().draw("edge") is None


@given(times=st.integers(1, 20))
def test_fault_strikes_as_often_as_it_should(times: int) -> None:
    faults = Faults(Fault(kind="hang", times=times))
    expected = [FaultKind.HANG] * times + [None] * 2
    assert drawn(faults, "edge", times + 2) == expected


def test_fault_without_end_stays() -> None:
    faults = Faults(Fault(kind="hang", times=None))
    assert drawn(faults, "edge", 5) == [FaultKind.HANG] * 5
    assert len(faults.waiting) == 1


def test_fault_spares_other_models() -> None:
    faults = Faults(Fault(kind="hang", model="cloud"))
    assert drawn(faults, "edge", 3) == [None] * 3
    assert faults.draw("cloud") is not None


def test_faults_strike_in_the_order_they_were_added() -> None:
    faults = Faults(Fault(kind="hang"))
    faults.add(Fault(kind="empty"))
    assert drawn(faults, "edge", 3) == [FaultKind.HANG, FaultKind.EMPTY, None]


def test_probability_is_kept_in_the_long_run_and_repeats_with_the_seed() -> None:
    fault = Fault(kind="server_error", times=None, probability=0.25)
    first, second = (drawn(Faults(fault, seed=3), "edge", 2_000) for _ in range(2))
    assert first == second
    assert 400 < sum(hit is not None for hit in first) < 600


def test_clear_forgets_all() -> None:
    faults = Faults(Fault(kind="hang"), Fault(kind="empty"))
    faults.clear()
    assert faults.draw("edge") is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "earthquake"},
        {"kind": "hang", "times": 0},
        {"kind": "hang", "probability": 1.5},
        {"kind": "hang", "retry_after_s": -1},
        {"kind": "hang", "colour": "red"},
    ],
)
def test_fault_is_refused_when_it_makes_no_sense(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Fault.model_validate(wrong)
