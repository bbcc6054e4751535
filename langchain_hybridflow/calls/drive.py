"""The two thin IO edges of a routed call: perform its steps, blocking or awaiting.

Each driver hands errors back into the script, so that its `except` and `finally` clauses settle
what is open, and goes on performing the steps they yield. That holds for cancellation and for a
stream whose reader goes away, too.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import aclosing, closing
from functools import partial
from typing import Any, Generic, TypeVar

from langchain_core.outputs import ChatGenerationChunk, ChatResult

from langchain_hybridflow.calls.helper import Helper, has_ended
from langchain_hybridflow.calls.steps import Call, Pause, Reserve, Script, Show, Step
from langchain_hybridflow.calls.tether import tether_here
from langchain_hybridflow.errors import DeadlineExceeded

__all__ = ["AsyncStreamedScript", "StreamedScript", "adrive", "drive", "in_time", "merged"]

T = TypeVar("T")

_BEGINNINGS = (Reserve, Call, Pause)
"""The steps that are not taken for a reader who has gone; those that settle are."""


def drive(script: Script[T], call: Callable[[Call], ChatResult]) -> T:
    """Run a script to its end, blocking.

    Args:
        script: What to run.
        call: Calls the model of a `Call` step.

    Raises:
        RunAbandoned: Whoever the run is for has gone, and the script was about to begin a call.
    """
    tether = tether_here()
    reply: Any = None
    error: BaseException | None = None
    while True:
        try:
            step = _advance(script, reply, error)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]
        reply = error = None
        try:
            if tether is not None and isinstance(step, _BEGINNINGS):
                tether.check()
            if not isinstance(step, Call):
                reply = step.perform()
            elif step.timeout_s is None:
                reply = call(step)
            else:
                reply = _in_time(call, step)
        except BaseException as caught:  # noqa: BLE001 - the script settles, then raises it
            error = caught


async def adrive(script: Script[T], call: Callable[[Call], Awaitable[ChatResult]]) -> T:
    """Async twin of `drive`."""
    reply: Any = None
    error: BaseException | None = None
    while True:
        try:
            step = _advance(script, reply, error)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]
        reply = error = None
        try:
            if not isinstance(step, Call):
                reply = await step.aperform()
            elif step.timeout_s is None:
                reply = await call(step)
            else:
                reply = await _await_in_time(call(step), step, step.timeout_s)
        except BaseException as caught:  # noqa: BLE001 - the script settles, then raises it
            error = caught


class StreamedScript(Generic[T]):
    """A script whose model calls stream: iterate over the chunks, then read `result`."""

    result: T

    def __init__(
        self, script: Script[T], call: Callable[[Call], Generator[ChatGenerationChunk]]
    ) -> None:
        self._script = script
        self._call = call

    def __iter__(self) -> Generator[ChatGenerationChunk]:
        reply: Any = None
        error: BaseException | None = None
        while True:
            try:
                step = _advance(self._script, reply, error)
            except StopIteration as stop:
                self.result = stop.value
                return
            reply = error = None
            try:
                if isinstance(step, Call):
                    with closing(_until(self._call(step), step)) as chunks:
                        for chunk in chunks:
                            yield from step.take(chunk)
                    yield from step.rest()
                    reply = merged(step)
                elif isinstance(step, Show):
                    yield from step.chunks
                else:
                    reply = step.perform()
            except BaseException as caught:  # noqa: BLE001 - the script settles, then raises it
                error = caught


class AsyncStreamedScript(Generic[T]):
    """Async twin of `StreamedScript`."""

    result: T

    def __init__(
        self, script: Script[T], call: Callable[[Call], AsyncGenerator[ChatGenerationChunk]]
    ) -> None:
        self._script = script
        self._call = call

    async def __aiter__(self) -> AsyncGenerator[ChatGenerationChunk]:
        reply: Any = None
        error: BaseException | None = None
        while True:
            try:
                step = _advance(self._script, reply, error)
            except StopIteration as stop:
                self.result = stop.value
                return
            reply = error = None
            try:
                if isinstance(step, Call):
                    async with aclosing(_auntil(self._call(step), step)) as chunks:
                        async for chunk in chunks:
                            for passed in step.take(chunk):
                                yield passed
                    for passed in step.rest():
                        yield passed
                    reply = merged(step)
                elif isinstance(step, Show):
                    for passed in step.chunks:
                        yield passed
                else:
                    reply = await step.aperform()
            except BaseException as caught:  # noqa: BLE001 - the script settles, then raises it
                error = caught


class _Abandoned(BaseException):
    """Stands for a `GeneratorExit` inside a script.

    `yield from` does not pass that one on: it closes the inner script, which then may not yield
    the step that settles the call.
    """


def _advance(script: Script[Any], reply: Any, error: BaseException | None) -> Step:
    """Hand a step's result or error to the script, and return its next step."""
    try:
        if error is None:
            return script.send(reply)
        return script.throw(_Abandoned() if isinstance(error, GeneratorExit) else error)
    except _Abandoned:
        raise GeneratorExit from None


def merged(step: Call) -> ChatResult:
    """Put the pieces of a streamed answer together.

    Raises:
        EOFError: There were none: the call was made, and nothing came of it.
    """
    if not step.streamed:
        raise EOFError(f"Model {step.target.name} ended its stream without sending anything.")
    first, *rest = step.streamed
    return ChatResult(generations=[first + rest if rest else first])


def in_time(work: Callable[[], T], timeout_s: float | None, *, what: str) -> T:
    """Do some work, and stop waiting after the time-out.

    A thread cannot be stopped, only left behind.

    Raises:
        DeadlineExceeded: The work took longer.
    """
    if timeout_s is None:
        return work()
    with Helper() as helper:
        outcome = helper.submit(work)
        if not has_ended(outcome, timeout_s):
            raise DeadlineExceeded(what, timeout_s)
        return outcome.result()


def _in_time(call: Callable[[Call], ChatResult], step: Call) -> ChatResult:
    what = f"The call of {step.target.name}"
    try:
        return in_time(partial(call, step), step.timeout_s, what=what)
    except DeadlineExceeded:
        step.given_up = True
        raise


async def _await_in_time(reply: Awaitable[ChatResult], step: Call, timeout_s: float) -> ChatResult:
    timer = asyncio.timeout(max(timeout_s, 0.0))
    try:
        async with timer:
            return await reply
    except TimeoutError as error:
        if not timer.expired():
            raise
        step.given_up = True  # it may be at work in a thread of its own
        raise DeadlineExceeded("A model call", timeout_s) from error


def _until(chunks: Generator[ChatGenerationChunk], step: Call) -> Generator[ChatGenerationChunk]:
    """Pass on a stream until it ends, no more of it is wanted, or the time is over."""
    if step.limit_s() is None:
        with closing(chunks):
            for piece in chunks:
                yield piece
                if step.is_decided:
                    return
        return
    patience = _Patience(step, time.monotonic)
    with Helper() as helper:
        try:
            while True:
                with patience:
                    following = helper.submit(lambda: next(chunks, None))
                    if not has_ended(following, patience.left_s()):
                        raise patience.over()
                    chunk = following.result()
                if chunk is None:
                    return
                yield chunk
                if step.is_decided:
                    return
        finally:
            helper.submit(chunks.close)  # at once, or when the model lets go of the thread


async def _auntil(
    chunks: AsyncGenerator[ChatGenerationChunk], step: Call
) -> AsyncGenerator[ChatGenerationChunk]:
    patience = _Patience(step, asyncio.get_running_loop().time)
    async with aclosing(chunks):
        while True:
            timer = asyncio.timeout(patience.left_s())
            try:
                with patience:
                    async with timer:
                        chunk = await anext(chunks)
            except StopAsyncIteration:
                return
            except TimeoutError as error:
                if not timer.expired():
                    raise
                raise patience.over() from error
            yield chunk
            if step.is_decided:
                return


class _Patience:
    """How long a stream may still be waited for: inside it the clock of the model runs.

    A reader who takes his time is not the model's fault, and it takes no time from it. The time of
    the run goes on meanwhile.
    """

    def __init__(self, step: Call, clock: Callable[[], float]) -> None:
        self._step = step
        self._clock = clock
        self._started_at_s = clock()
        self._waited_s = 0.0
        self._since_s = 0.0
        self._limit_s = 0.0

    def __enter__(self) -> None:
        self._since_s = self._clock()

    def __exit__(self, *_: object) -> None:
        self._waited_s += self._clock() - self._since_s

    def left_s(self) -> float | None:
        """Return how long the next piece may take, in seconds."""
        limits: list[tuple[float, float]] = []
        if (limit_s := self._step.limit_s()) is not None:
            limits.append((limit_s - self._waited_s, limit_s))
        if (run_left_s := self._step.run_left_s) is not None:
            limits.append((run_left_s - (self._clock() - self._started_at_s), run_left_s))
        if not limits:
            return None
        left_s, self._limit_s = min(limits)
        return max(left_s, 0.0)

    def over(self) -> DeadlineExceeded:
        """Return the error that says which limit it was."""
        return DeadlineExceeded(_what(self._step), self._limit_s)


def _what(step: Call) -> str:
    part = "A streamed call" if step.begun else "The beginning of a streamed call"
    return f"{part} of {step.target.name}"
