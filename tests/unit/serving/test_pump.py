from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from langchain_hybridflow.leaving import ClientGone, unless_gone
from langchain_hybridflow.serving.pump import Pump


class Client:
    """A client that leaves when it is told to."""

    def __init__(self) -> None:
        self.leaves = asyncio.Event()

    async def receive(self) -> dict[str, Any]:
        await self.leaves.wait()
        return {"type": "http.disconnect"}


async def read(pump: Pump[int]) -> list[int]:
    await pump.ready()
    return [part async for part in pump.parts()]


async def test_parts_arrive_in_order_and_end() -> None:
    async def source(begin: Callable[[], None]) -> AsyncIterator[int]:
        begin()
        for number in range(3):
            yield number

    assert await read(Pump(source, Client().receive)) == [0, 1, 2]


async def test_failure_before_the_begin_is_raised_where_it_is_waited_for() -> None:
    async def source(begin: Callable[[], None]) -> AsyncIterator[int]:
        yield 1
        raise ZeroDivisionError

    pump = Pump(source, Client().receive)
    with pytest.raises(ZeroDivisionError):
        await pump.ready()


async def test_failure_after_the_begin_is_raised_after_the_parts() -> None:
    async def source(begin: Callable[[], None]) -> AsyncIterator[int]:
        begin()
        yield 1
        raise ZeroDivisionError

    pump = Pump(source, Client().receive)
    await pump.ready()
    parts = pump.parts()
    assert await anext(parts) == 1
    with pytest.raises(ZeroDivisionError):
        await anext(parts)


@pytest.mark.parametrize("begun", [False, True])
async def test_source_is_cancelled_once_when_the_client_leaves(*, begun: bool) -> None:
    client, tidied = Client(), asyncio.Event()

    async def source(begin: Callable[[], None]) -> AsyncIterator[int]:
        if begun:
            begin()
            yield 1
        client.leaves.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)  # a second cancellation would strike here
            await asyncio.sleep(0)
            tidied.set()
        yield 2

    pump = Pump(source, client.receive)
    with pytest.raises(ClientGone):
        await read(pump)
    await asyncio.wait({pump.task}, timeout=5)
    assert tidied.is_set()


async def test_source_that_goes_on_is_cancelled_again_when_it_is_known_to() -> None:
    client, ended = Client(), asyncio.Event()

    async def source(begin: Callable[[], None]) -> AsyncIterator[int]:
        client.leaves.set()
        try:
            await asyncio.Event().wait()
        finally:
            try:
                await asyncio.Event().wait()  # waits for what it has started
            finally:
                ended.set()
        yield 1

    pump = Pump(source, client.receive, again_s=0.01)
    with pytest.raises(ClientGone):
        await pump.ready()
    assert ended.is_set()


async def test_source_is_cancelled_when_its_reader_stops_reading() -> None:
    ended = asyncio.Event()

    async def source(begin: Callable[[], None]) -> AsyncIterator[int]:
        begin()
        try:
            while True:
                yield 1
                await asyncio.sleep(0)
        finally:
            ended.set()

    pump = Pump(source, Client().receive)
    await pump.ready()
    parts = pump.parts()
    assert await anext(parts) == 1
    await parts.aclose()
    await asyncio.wait({pump.task}, timeout=5)
    assert ended.is_set()


async def test_work_is_cancelled_and_has_ended_when_the_client_leaves() -> None:
    client, ended = Client(), asyncio.Event()

    async def work() -> None:
        client.leaves.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.set()

    with pytest.raises(ClientGone):
        await unless_gone(client.receive, work())
    assert ended.is_set()


async def test_work_is_answered_when_the_client_stays() -> None:
    async def work() -> int:
        return 42

    assert await unless_gone(Client().receive, work()) == 42
