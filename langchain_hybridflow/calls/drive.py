"""The two thin IO edges of a routed call: perform its steps, blocking or awaiting.

Each driver hands errors back into the script, so that its `except` and `finally` clauses settle
what is open, and goes on performing the steps they yield. That holds for cancellation and for a
stream whose reader goes away, too.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from concurrent.futures import Future, wait
from contextlib import aclosing, closing
from contextvars import copy_context
from queue import SimpleQueue
from typing import Any, Generic, Self, TypeVar

from langchain_core.outputs import ChatGenerationChunk, ChatResult

from langchain_hybridflow.calls.steps import Call, Script, Step
from langchain_hybridflow.errors import DeadlineExceeded

__all__ = ["AsyncStreamedScript", "StreamedScript", "adrive", "drive", "in_time", "merged"]

T = TypeVar("T")


def drive(script: Script[T], call: Callable[[Call], ChatResult]) -> T:
    """Run a script to its end, blocking.

    Args:
        script: What to run.
        call: Calls the model of a `Call` step.
    """
    reply: Any = None
    error: BaseException | None = None
    while True:
        try:
            step = _advance(script, reply, error)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]
        reply = error = None
        try:
            reply = _in_time(call, step) if isinstance(step, Call) else step.perform()
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
            if isinstance(step, Call):
                reply = await _await_in_time(call(step), step.timeout_s)
            else:
                reply = await step.aperform()
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
                    with closing(_until(self._call(step), step.timeout_s)) as chunks:
                        for chunk in chunks:
                            yield from step.take(chunk)
                    yield from step.rest()
                    reply = merged(step)
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
                    async with aclosing(_auntil(self._call(step), step.timeout_s)) as chunks:
                        async for chunk in chunks:
                            for passed in step.take(chunk):
                                yield passed
                    for passed in step.rest():
                        yield passed
                    reply = merged(step)
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


def _in_time(call: Callable[[Call], ChatResult], step: Call) -> ChatResult:
    return in_time(lambda: call(step), step.timeout_s, what=f"The call of {step.target.name}")


def in_time(work: Callable[[], T], timeout_s: float | None, *, what: str) -> T:
    """Do some work, and stop waiting after the time-out.

    A thread cannot be stopped, only left behind.

    Raises:
        DeadlineExceeded: The work took longer.
    """
    if timeout_s is None:
        return work()
    with _Helper() as helper:
        outcome = helper.submit(work)
        if not wait((outcome,), timeout=max(timeout_s, 0.0)).done:
            raise DeadlineExceeded(what, timeout_s)
        return outcome.result()


class _Helper:
    """A thread that does one thing after another, so that its owner can stop waiting for it."""

    def __init__(self) -> None:
        self._jobs: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._context = copy_context()
        threading.Thread(target=self._work, daemon=True, name="hybridflow-call").start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._jobs.put(None)

    def submit(self, job: Callable[[], T]) -> Future[T]:
        """Let it do something as soon as it is free."""
        outcome: Future[T] = Future()
        self._jobs.put((outcome, job))
        return outcome

    def _work(self) -> None:
        while (item := self._jobs.get()) is not None:
            outcome, job = item
            try:
                outcome.set_result(self._context.run(job))
            except BaseException as error:  # noqa: BLE001 - the owner gets it
                outcome.set_exception(error)


async def _await_in_time(reply: Awaitable[ChatResult], timeout_s: float | None) -> ChatResult:
    if timeout_s is None:
        return await reply
    timer = asyncio.timeout(max(timeout_s, 0.0))
    try:
        async with timer:
            return await reply
    except TimeoutError as error:
        if not timer.expired():
            raise
        raise DeadlineExceeded("A model call", timeout_s) from error


def _until(
    chunks: Generator[ChatGenerationChunk], timeout_s: float | None
) -> Generator[ChatGenerationChunk]:
    if timeout_s is None:
        with closing(chunks):
            yield from chunks
        return
    end_s = time.monotonic() + timeout_s
    with _Helper() as helper:
        try:
            while True:
                following = helper.submit(lambda: next(chunks, None))
                if not wait((following,), timeout=max(end_s - time.monotonic(), 0.0)).done:
                    raise DeadlineExceeded("A streamed model call", timeout_s)
                chunk = following.result()
                if chunk is None:
                    return
                yield chunk
        finally:
            helper.submit(chunks.close)  # at once, or when the model lets go of the thread


async def _auntil(
    chunks: AsyncGenerator[ChatGenerationChunk], timeout_s: float | None
) -> AsyncGenerator[ChatGenerationChunk]:
    end_s = None if timeout_s is None else asyncio.get_running_loop().time() + timeout_s
    async with aclosing(chunks):
        while True:
            timer = asyncio.timeout_at(end_s)
            try:
                async with timer:
                    chunk = await anext(chunks)
            except StopAsyncIteration:
                return
            except TimeoutError as error:
                if not timer.expired():
                    raise
                raise DeadlineExceeded("A streamed model call", timeout_s or 0.0) from error
            yield chunk
