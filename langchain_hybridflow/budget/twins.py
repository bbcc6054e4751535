"""Logic over a ledger, written once for its sync and its async face.

It is a generator that does no IO: it yields what it wants of the ledger, and is sent the reply.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, NamedTuple, TypeAlias, TypeVar

from langchain_hybridflow.budget.ledger import Ledger

__all__ = ["Ask", "Script", "ado", "do"]

T = TypeVar("T")


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


def do(ledger: Ledger, script: Script[T]) -> T:
    """Run a script to its end, blocking."""
    try:
        ask = next(script)
        while True:
            try:
                reply = getattr(ledger, ask.method)(*ask.args, **ask.kwargs)
            except BaseException as error:  # noqa: BLE001 - the script decides, or raises it
                ask = script.throw(error)
            else:
                ask = script.send(reply)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]


async def ado(ledger: Ledger, script: Script[T]) -> T:
    """Run a script to its end, without blocking the event loop."""
    try:
        ask = next(script)
        while True:
            try:
                reply = await getattr(ledger, f"a{ask.method}")(*ask.args, **ask.kwargs)
            except BaseException as error:  # noqa: BLE001 - the script decides, or raises it
                ask = script.throw(error)
            else:
                ask = script.send(reply)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]
