"""Faults on demand: the ways in which a model server fails, to be asked for by tests and demos."""

from __future__ import annotations

import random
import threading
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Fault", "FaultKind", "Faults"]


class FaultKind(StrEnum):
    """What goes wrong.

    `HANG` and `HANG_MID_STREAM` last until the client leaves. `DROP_MID_STREAM` closes the
    connection in the middle of the HTTP body, so the transport notices; `TRUNCATE` ends the HTTP
    body in good order in the middle of the answer, so only who reads the answer can notice.
    """

    RATE_LIMIT = "rate_limit"
    """429 with a `Retry-After` header."""
    SERVER_ERROR = "server_error"
    """500 with an error body."""
    UNAUTHORIZED = "unauthorized"
    """401, as for a wrong key."""
    HANG = "hang"
    """The request is read, and nothing ever comes back."""
    HANG_MID_STREAM = "hang_mid_stream"
    """The answer begins, and stops coming."""
    DROP_MID_STREAM = "drop_mid_stream"
    """The answer begins, and the connection is closed."""
    TRUNCATE = "truncate"
    """Half of the answer, as if it were all of it: no end marker, JSON cut in two."""
    EMPTY = "empty"
    """A well-formed answer without any text."""
    GARBAGE = "garbage"
    """200, and a body that is not what was asked for."""


class Fault(BaseModel):
    """One thing that goes wrong, for which requests, and how often.

    Args:
        kind: What goes wrong.
        model: The name of the model whose requests are hit; `None` for all models.
        times: How many requests are hit before the fault is over; `None` for no end.
        probability: Chance in 0..1 that a request is hit, drawn from the seed of `Faults`.
        retry_after_s: What a `RATE_LIMIT` tells the client to wait, in seconds.
        after_parts: How many parts of the body the client still gets when the fault strikes in
            mid-stream. A streamed answer has one part for each event, any other has two halves.

    Raises:
        pydantic.ValidationError: A field is out of its range.

    Example:
        >>> Fault(kind="rate_limit", model="cloud", times=2).times
        2
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: FaultKind
    model: str | None = None
    times: int | None = Field(default=1, ge=1)
    probability: float = Field(default=1.0, ge=0.0, le=1.0)
    retry_after_s: float = Field(default=1.0, ge=0.0)
    after_parts: int = Field(default=1, ge=0)


class Faults:
    """The faults that wait for a server's next requests, in the order they were added.

    Safe to use from any thread, also while the server runs.

    Args:
        *faults: What waits from the start.
        seed: Seed of the draws of all faults with a probability below 1.

    Example:
        >>> faults = Faults(Fault(kind="server_error", model="cloud"))
        >>> faults.draw("edge"), faults.draw("cloud").kind.value, faults.draw("cloud")
        (None, 'server_error', None)
    """

    def __init__(self, *faults: Fault, seed: int = 0) -> None:
        self._lock = threading.Lock()
        self._random = random.Random(seed)
        self._waiting: list[Fault] = list(faults)

    @property
    def waiting(self) -> tuple[Fault, ...]:
        """The faults that have not struck as often as they should; `times` counts what is left."""
        with self._lock:
            return tuple(self._waiting)

    def add(self, fault: Fault) -> None:
        """Let a fault wait behind those that are waiting already."""
        with self._lock:
            self._waiting.append(fault)

    def clear(self) -> None:
        """Forget all faults: from now on nothing goes wrong."""
        with self._lock:
            self._waiting.clear()

    def draw(self, model: str) -> Fault | None:
        """Return the fault that strikes a request to this model, and count it as used.

        Args:
            model: Name of the model that the request asks for.

        Returns:
            The first waiting fault that fits and whose draw succeeds; `None` if all goes well.
        """
        with self._lock:
            for index, fault in enumerate(self._waiting):
                if fault.model not in {None, model} or self._random.random() >= fault.probability:
                    continue
                if fault.times == 1:
                    del self._waiting[index]
                elif fault.times is not None:
                    self._waiting[index] = fault.model_copy(update={"times": fault.times - 1})
                return fault
        return None
