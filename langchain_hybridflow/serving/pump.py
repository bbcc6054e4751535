"""Streams that end when their reader leaves, and are not silent for long."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Generic, TypeVar

from langchain_hybridflow.leaving import ClientGone, Receive, client_gone

__all__ = ["Pump"]

_T = TypeVar("_T")


class Pump(Generic[_T]):
    """Carries the parts of a stream from a task of its own to a response.

    The source runs in one task from its begin to its end, whoever reads: what it does before and
    after a part belongs together. If the client leaves, that task is cancelled, once: a task of
    the web server's would be cancelled again and again while it tidies up, and a graph could not
    stop its nodes.

    Args:
        source: Makes the parts; it is given a function to call as soon as there is one that is
            worth sending.
        receive: The request's, whose body has been read.
        beat: What is sent where nothing comes.
        beat_s: After how many seconds of silence; `None` for never.
        again_s: After how many seconds a source that was cancelled and goes on is cancelled once
            more; `None` for never.
    """

    def __init__(
        self,
        source: Callable[[Callable[[], None]], AsyncIterator[_T]],
        receive: Receive,
        *,
        beat: _T | None = None,
        beat_s: float | None = None,
        again_s: float | None = None,
    ) -> None:
        self._again_s = again_s
        self._cancelled = False
        self._beat = beat
        self._beat_s = beat_s
        self._parts: asyncio.Queue[_T | None] = asyncio.Queue()
        self._begun = asyncio.Event()
        self._task = asyncio.create_task(self._carry(source(self._begun.set)))
        self._watch = asyncio.create_task(client_gone(receive))
        self._watch.add_done_callback(self._leave)
        self._task.add_done_callback(_look_at)

    @property
    def task(self) -> asyncio.Task[None]:
        """The task that carries the stream; it may outlive the response, and books what it cost."""
        return self._task

    async def ready(self) -> None:
        """Return when there is something to send, or after a long silence.

        Raises:
            ClientGone: The client has left before.
            Exception: What the source has failed with before.
        """
        begun = asyncio.create_task(self._begun.wait())
        try:
            await asyncio.wait(
                {begun, self._task}, timeout=self._beat_s, return_when=asyncio.FIRST_COMPLETED
            )
            if self._task.done() and not self._begun.is_set():
                self._raise_failure()
        except BaseException:
            self._stop()
            raise
        finally:
            begun.cancel()

    async def parts(self) -> AsyncGenerator[_T]:
        """Yield the parts as they come, and comments where none come.

        Raises:
            Exception: What the source has failed with.
        """
        try:
            while True:
                try:
                    async with asyncio.timeout(self._beat_s):
                        part = await self._parts.get()
                except TimeoutError:
                    if self._beat is not None:
                        yield self._beat
                    continue
                if part is None:
                    break
                yield part
            await asyncio.wait({self._task})
            self._raise_failure()
        finally:
            self._stop()

    async def _carry(self, source: AsyncIterator[_T]) -> None:
        try:
            async for part in source:
                self._parts.put_nowait(part)
        finally:
            self._parts.put_nowait(None)

    def _raise_failure(self) -> None:
        if self._task.cancelled():
            raise ClientGone
        if (error := self._task.exception()) is not None:
            raise error

    def _leave(self, watch: asyncio.Task[None]) -> None:
        if not watch.cancelled():
            self._cancel()

    def _stop(self) -> None:
        self._watch.cancel()
        self._cancel()

    def _cancel(self) -> None:
        if self._cancelled:  # the client's leaving is noticed in more than one place
            return
        self._cancelled = True
        if self._task.cancel() and self._again_s is not None:
            asyncio.get_running_loop().call_later(self._again_s, self._task.cancel)


def _look_at(task: asyncio.Task[None]) -> None:
    """See how a task has failed: asyncio would log what nobody has looked at, with its text."""
    if not task.cancelled():
        task.exception()
