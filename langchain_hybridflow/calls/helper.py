"""A thread that works for another one, which can stop waiting for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from contextvars import Context, copy_context
from functools import cache
from queue import SimpleQueue
from typing import Any, Self, TypeVar

__all__ = ["Helper", "has_ended"]

T = TypeVar("T")

_NAP_S = 0.1
"""How long the main thread sleeps before it looks whether there was a signal."""

_unfinished: set[threading.Thread] = set()
"""Helpers without an owner, whose work is to be done before the process ends."""


class Helper:
    """A thread that does one thing after another, so that its owner can stop waiting for it.

    Args:
        context: Where it works; a copy of the owner's by default.
    """

    def __init__(self, context: Context | None = None) -> None:
        self._jobs: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._context = copy_context() if context is None else context
        self._thread = threading.Thread(target=self._work, daemon=True, name="hybridflow-call")
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.dismiss()

    def submit(self, job: Callable[[], T]) -> Future[T]:
        """Let it do something as soon as it is free."""
        outcome: Future[T] = Future()
        self._jobs.put((outcome, job))
        return outcome

    def dismiss(self) -> None:
        """Let it go when it has done what it was given."""
        self._jobs.put(None)

    def dismiss_before_exit(self) -> None:
        """Let it go when it has done what it was given; a process that ends waits for that."""
        _unfinished.add(self._thread)
        with suppress(RuntimeError):  # the process is ending already
            _wait_at_exit()
        self.dismiss()

    def _work(self) -> None:
        while (item := self._jobs.get()) is not None:
            outcome, job = item
            try:
                outcome.set_result(self._context.run(job))
            except BaseException as error:  # noqa: BLE001 - the owner gets it
                outcome.set_exception(error)
            del item, outcome, job  # nothing is kept while it waits
        _unfinished.discard(self._thread)


def has_ended(outcome: Future[Any], timeout_s: float | None = None) -> bool:
    """Wait until a job has ended, or the time is over, and say whether it has.

    Ctrl-C interrupts that. The main thread, which has to see it, does not always wake up: not if
    the system gives the signal to another thread, nor if it comes in the moment between the
    release of the interpreter's lock and sleep. It would see it when the job has ended, and who
    works for it would go on till then. So it sleeps in short naps, and looks in between.
    """
    is_main = threading.current_thread() is threading.main_thread()
    nap_s = _NAP_S if is_main else threading.TIMEOUT_MAX
    ends_at_s = None if timeout_s is None else time.monotonic() + timeout_s
    while not outcome.done():
        left_s = nap_s if ends_at_s is None else ends_at_s - time.monotonic()
        if left_s <= 0:
            return False
        with suppress(TimeoutError):
            outcome.exception(timeout=min(left_s, nap_s))  # returned here, not raised
    return True


@cache
def _wait_at_exit() -> None:
    """Have the interpreter wait for unfinished work before it closes the thread pools.

    `atexit` comes too late: the interpreter shuts all pools first, and whoever then hands work to
    one, as LangGraph does to save a result, gets an error. `concurrent.futures` itself uses this
    hook. Where it is missing, nobody waits.
    """
    register = getattr(threading, "_register_atexit", None)
    if register is not None:
        register(_finish)


def _finish() -> None:
    for thread in tuple(_unfinished):
        thread.join()
