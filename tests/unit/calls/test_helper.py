"""A thread that works for another one, which can stop waiting for it."""

from __future__ import annotations

import _thread
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from langchain_hybridflow.calls.drive import in_time
from langchain_hybridflow.calls.helper import Helper, has_ended

PATIENCE_S = 30.0


def here(work: Callable[[], Any]) -> Any:
    return work()


def in_other_thread(work: Callable[[], Any]) -> Any:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result(PATIENCE_S)


@contextmanager
def unseen_ctrl_c(begun: threading.Event) -> Iterator[None]:
    """Ctrl-C that does not end the main thread's sleep, once something has begun."""
    main = threading.main_thread().ident
    assert main is not None

    def interrupt() -> None:
        begun.wait(PATIENCE_S)
        while sys._current_frames()[main].f_code is not threading.Condition.wait.__code__:
            time.sleep(0.001)  # until it is asleep
        _thread.interrupt_main()

    watcher = threading.Thread(target=interrupt)
    watcher.start()
    try:
        yield
    finally:
        watcher.join(PATIENCE_S)


class LongJob:
    """A job that goes on until it is released, or for the whole patience."""

    def __init__(self) -> None:
        self.begun, self.release, self.ended = (threading.Event() for _ in range(3))

    def __call__(self) -> None:
        self.begun.set()
        self.release.wait(PATIENCE_S)
        self.ended.set()


@pytest.mark.parametrize("where", [here, in_other_thread])
@pytest.mark.parametrize("timeout_s", [None, PATIENCE_S])
def test_job_has_ended_when_it_was_waited_for(where: Any, timeout_s: float | None):
    with Helper() as helper:
        assert where(lambda: has_ended(helper.submit(int), timeout_s))


@pytest.mark.parametrize("where", [here, in_other_thread])
@pytest.mark.parametrize("timeout_s", [-1.0, 0.0, 0.01, 0.15])
def test_job_has_not_ended_when_the_time_is_over(where: Any, timeout_s: float):
    assert not where(lambda: has_ended(Future(), timeout_s))


@pytest.mark.parametrize("timeout_s", [None, PATIENCE_S])
def test_job_has_ended_when_it_timed_out_itself(timeout_s: float | None):
    def fail() -> None:
        raise TimeoutError("its own")

    with Helper() as helper:
        outcome = helper.submit(fail)
        assert has_ended(outcome, timeout_s)
        with pytest.raises(TimeoutError, match="its own"):
            outcome.result()


@pytest.mark.parametrize("timeout_s", [None, 2 * PATIENCE_S])
def test_waiting_ends_when_ctrl_c_does_not_wake_the_main_thread(timeout_s: float | None):
    job = LongJob()
    with Helper() as helper:
        with pytest.raises(KeyboardInterrupt), unseen_ctrl_c(job.begun):
            has_ended(helper.submit(job), timeout_s)
        assert not job.ended.is_set()
        job.release.set()


def test_timed_call_is_left_when_ctrl_c_does_not_wake_the_main_thread():
    job = LongJob()
    with pytest.raises(KeyboardInterrupt), unseen_ctrl_c(job.begun):
        in_time(job, 2 * PATIENCE_S, what="The call")
    assert not job.ended.is_set()
    job.release.set()
