"""Requests that are counted by a storage of few connections."""

from __future__ import annotations

import asyncio
from typing import Any

from langchain_hybridflow.serving import Identity, RateLimits


class Storage:
    """Counts how many ask it at once, and answers when all have come that may."""

    def __init__(self) -> None:
        self.here = self.most = 0

    async def hit(self, item: Any, key: str) -> bool:
        self.here += 1
        self.most = max(self.most, self.here)
        for _ in range(50):
            await asyncio.sleep(0)
        self.here -= 1
        return True

    async def get_window_stats(self, item: Any, key: str) -> Any:
        from limits.util import WindowStats

        return WindowStats(reset_time=0.0, remaining=1)


async def test_many_requests_at_once_wait_for_their_turn_at_the_storage() -> None:
    rates, storage = RateLimits(1_000), Storage()
    rates._limiter = storage
    turns = [rates.turn(Identity(user=f"{number}")) for number in range(200)]
    found = await asyncio.gather(*turns)
    assert all(turn.problem is None for turn in found)
    assert storage.most == 32
