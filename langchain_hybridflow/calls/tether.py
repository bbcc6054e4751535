"""What ties a run to its reader, so that nothing new is bought for a reader who has gone."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["RunAbandoned", "Tether", "tether_here"]


class RunAbandoned(BaseException):  # control flow: no border for errors may hold it up
    """Whoever the run was for has gone; nothing new is begun for it."""

    def __init__(self) -> None:
        super().__init__("nobody reads this run any more")


class Tether:
    """Ties those who work for a run, in whatever thread, to its reader.

    It needs no lock: it can be cut anywhere, also by the garbage collector that finds a stream
    which nobody holds any more, in the middle of whatever the thread was doing.

    Args:
        outer: The tether of the run inside which this one takes place; one that is cut cuts this
            one, too.
    """

    def __init__(self, outer: Tether | None = None) -> None:
        self._outer = outer
        self._cut = False
        self._wakers: dict[object, Callable[[], object]] = {}

    @property
    def is_cut(self) -> bool:
        """Whether the reader has gone."""
        return self._cut or (self._outer is not None and self._outer.is_cut)

    def tie(self) -> None:
        """Be the tether of all that is done from here on in this context, and in copies of it."""
        _tether.set(self)

    def cut(self) -> None:
        """Note that the reader has gone; those who wait notice when they are woken."""
        self._cut = True

    def wake(self) -> None:
        """Wake those who wait."""
        for waker in self._wakers.copy().values():
            waker()

    @contextmanager
    def waking(self, waker: Callable[[], object]) -> Iterator[None]:
        """Have this called when the tether is cut, or at once if it is; perhaps twice."""
        key = object()
        self._wakers[key] = waker
        try:
            if self.is_cut:
                waker()
            yield
        finally:
            self._wakers.pop(key, None)

    def check(self) -> None:
        """Stop whoever is about to begin something new.

        Raises:
            RunAbandoned: The reader has gone.
        """
        if self.is_cut:
            raise RunAbandoned

    def pause(self, seconds: float) -> None:
        """Wait so long, or until it is cut."""
        cut = threading.Event()
        with self.waking(cut.set):
            cut.wait(seconds)


_tether: ContextVar[Tether | None] = ContextVar("hybridflow_tether", default=None)


def tether_here() -> Tether | None:
    """Return the tether of the run that is worked for here; `None` where nobody can leave one."""
    return _tether.get()
