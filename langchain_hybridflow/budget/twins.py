"""Logic over a ledger, written once for its sync and its async face.

It is a generator that does no IO: it yields what it wants done, and is sent the reply.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from functools import partial
from typing import Any, NamedTuple, TypeAlias, TypeVar

from langchain_hybridflow.budget.ledger import Ledger

__all__ = ["Ask", "Script", "ado", "arun", "do", "run"]

T = TypeVar("T")
StepT = TypeVar("StepT")


class Ask(NamedTuple):
    """One call of a ledger's method.

    Attributes:
        method: Its name, without the "a" of the async twin.
        args: Its positional arguments.
        kwargs: Its keyword arguments.
    """

    method: str
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = {}  # noqa: RUF012 - a default of a tuple that nobody writes to


Script: TypeAlias = Generator[Ask, Any, T]
"""Yields what it asks of the ledger, is sent the replies and thrown the errors, returns `T`."""


def run(script: Generator[StepT, Any, T], perform: Callable[[StepT], Any]) -> T:
    """Run a script to its end, blocking.

    Args:
        script: What to run.
        perform: Does what the script yields; what it raises is thrown into the script.
    """
    try:
        step = next(script)
        while True:
            try:
                reply = perform(step)
            except BaseException as error:  # noqa: BLE001 - the script decides, or raises it
                step = script.throw(error)
            else:
                step = script.send(reply)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]


async def arun(script: Generator[StepT, Any, T], perform: Callable[[StepT], Awaitable[Any]]) -> T:
    """Async twin of `run`."""
    try:
        step = next(script)
        while True:
            try:
                reply = await perform(step)
            except BaseException as error:  # noqa: BLE001 - the script decides, or raises it
                step = script.throw(error)
            else:
                step = script.send(reply)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]


def do(ledger: Ledger, script: Script[T]) -> T:
    """Run a script over a ledger to its end, blocking."""
    return run(script, partial(_ask, ledger))


async def ado(ledger: Ledger, script: Script[T]) -> T:
    """Run a script over a ledger to its end, without blocking the event loop."""
    return await arun(script, partial(_aask, ledger))


def _ask(ledger: Ledger, ask: Ask) -> Any:
    return getattr(ledger, ask.method)(*ask.args, **ask.kwargs)


def _aask(ledger: Ledger, ask: Ask) -> Awaitable[Any]:
    reply: Awaitable[Any] = getattr(ledger, f"a{ask.method}")(*ask.args, **ask.kwargs)
    return reply
