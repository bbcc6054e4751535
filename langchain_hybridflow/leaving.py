"""Clients that leave before they are answered, told by the ASGI messages of their request."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias, TypeVar

__all__ = ["ClientGone", "Receive", "client_gone", "unless_gone"]

Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
"""Gives the next ASGI message of a request whose body has been read."""

_T = TypeVar("_T")


class ClientGone(Exception):
    """The client has left; nobody waits for the answer."""

    def __init__(self) -> None:
        super().__init__("The client has left.")


async def client_gone(receive: Receive) -> None:
    """Return when the client has left. The body of its request must have been read before."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def unless_gone(receive: Receive, work: Awaitable[_T]) -> _T:
    """Await some work, and cancel it when the client leaves: nobody waits for it any more.

    The work has ended, cancelled or not, when this returns.

    Raises:
        ClientGone: The client has left first.
    """
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(client_gone(receive))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientGone
        return await working
    finally:
        working.cancel()
        leaving.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)
