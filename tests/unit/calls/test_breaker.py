"""A tier that keeps failing is left alone, and one call at a time finds out whether it is back."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from langchain_hybridflow.calls.breaker import Breaker, Circuit
from langchain_hybridflow.calls.failures import answered
from langchain_hybridflow.errors import CircuitOpen, ConfigurationError
from langchain_hybridflow.testing import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(start_s=100.0)


@pytest.fixture
def circuit(clock: ManualClock) -> Circuit:
    return Circuit("cloud", Breaker(fail_max=3, reset_timeout_s=10.0, clock=clock))


def fail(circuit: Circuit, times: int = 1) -> None:
    for _ in range(times):
        circuit.settle(circuit.admit(), healthy=False)


def test_circuit_opens_when_outages_come_in_a_row(circuit: Circuit) -> None:
    fail(circuit, 3)
    with pytest.raises(CircuitOpen) as refused:
        circuit.admit()
    assert (refused.value.tier, refused.value.retry_in_s) == ("cloud", 10.0)


def test_circuit_stays_closed_when_an_answer_comes_in_between(circuit: Circuit) -> None:
    fail(circuit, 2)
    circuit.settle(circuit.admit(), healthy=True)
    fail(circuit, 2)
    assert circuit.state == "closed"


def test_circuit_does_not_count_calls_that_say_nothing_of_the_tier(circuit: Circuit) -> None:
    fail(circuit, 2)
    circuit.settle(circuit.admit(), healthy=None)
    fail(circuit, 1)
    assert circuit.state == "open"


def test_circuit_says_how_long_it_stays_open(circuit: Circuit, clock: ManualClock) -> None:
    fail(circuit, 3)
    clock.advance(7.5)
    with pytest.raises(CircuitOpen, match=r"another 2\.5 s"):
        circuit.admit()


def test_one_call_probes_when_the_time_is_over(circuit: Circuit, clock: ManualClock) -> None:
    fail(circuit, 3)
    clock.advance(10)
    assert circuit.admit() is not None
    with pytest.raises(CircuitOpen):
        circuit.admit()


def test_circuit_closes_when_the_probe_is_answered(circuit: Circuit, clock: ManualClock) -> None:
    fail(circuit, 3)
    clock.advance(10)
    circuit.settle(circuit.admit(), healthy=True)
    assert circuit.state == "closed"
    fail(circuit, 2)  # the count starts anew
    assert circuit.admit() is None


def test_circuit_opens_for_the_whole_time_when_the_probe_fails(
    circuit: Circuit, clock: ManualClock
) -> None:
    fail(circuit, 3)
    clock.advance(10)
    fail(circuit)
    clock.advance(9)
    with pytest.raises(CircuitOpen):
        circuit.admit()
    clock.advance(1)
    assert circuit.admit() is not None


def test_next_call_probes_when_the_probe_was_cancelled(
    circuit: Circuit, clock: ManualClock
) -> None:
    fail(circuit, 3)
    clock.advance(10)
    circuit.settle(circuit.admit(), healthy=None)
    assert circuit.admit() is not None


def test_another_call_probes_when_the_probe_never_comes_back(
    circuit: Circuit, clock: ManualClock
) -> None:
    fail(circuit, 3)
    clock.advance(10)
    lost = circuit.admit()
    clock.advance(10)
    second = circuit.admit()
    assert second is not None
    circuit.settle(lost, healthy=False)  # it comes back after all, and is not asked any more
    circuit.settle(second, healthy=True)
    assert circuit.state == "closed"


def test_late_answers_do_not_close_an_open_circuit(circuit: Circuit) -> None:
    late = circuit.admit()
    fail(circuit, 3)
    circuit.settle(late, healthy=True)
    assert circuit.state == "open"


def test_late_failures_do_not_prolong_an_open_circuit(circuit: Circuit, clock: ManualClock) -> None:
    late = circuit.admit()
    fail(circuit, 3)
    clock.advance(9)
    circuit.settle(late, healthy=False)
    clock.advance(1)
    assert circuit.admit() is not None


def test_exactly_one_of_many_threads_probes(circuit: Circuit, clock: ManualClock) -> None:
    fail(circuit, 3)
    clock.advance(10)
    together = threading.Barrier(16)

    def admitted(_: int) -> bool:
        together.wait()
        try:
            return circuit.admit() is not None
        except CircuitOpen:
            return False

    with ThreadPoolExecutor(16) as threads:
        assert sum(threads.map(admitted, range(16))) == 1


def test_threads_lose_no_outage(clock: ManualClock) -> None:
    circuit = Circuit("edge", Breaker(fail_max=400, clock=clock))
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: fail(circuit, 50), range(7)))
    assert circuit.state == "closed"
    fail(circuit, 50)
    assert circuit.state == "open"


@pytest.mark.parametrize("wrong", [{"fail_max": 0}, {"reset_timeout_s": 0.0}])
def test_breaker_refuses_numbers_that_make_no_sense(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError):
        Breaker(**wrong)  # type: ignore[arg-type]


class StatusError(Exception):
    def __init__(self, status_code: int) -> None:
        self.status_code = status_code
        super().__init__(f"HTTP {status_code}")


@pytest.mark.parametrize(
    ("error", "healthy"),
    [
        (ConnectionRefusedError(), False),
        (ConnectionResetError(), False),
        (TimeoutError(), False),
        (EOFError(), False),
        (StatusError(500), False),
        (StatusError(503), False),
        (StatusError(429), False),
        (StatusError(408), False),
        (StatusError(400), True),
        (StatusError(401), True),
        (StatusError(404), True),
        (KeyError("a mistake of ours"), None),
        (KeyboardInterrupt(), None),
        (GeneratorExit(), None),
    ],
    ids=repr,
)
def test_error_says_whether_its_server_is_up(error: BaseException, healthy: bool | None) -> None:
    assert answered(error) is healthy
