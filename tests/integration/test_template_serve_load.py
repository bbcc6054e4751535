"""Four workers and two hundred clients at once: one budget, and to each their own answer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import httpx
import pytest

from tests.integration.redis_server import RedisServer
from tests.integration.serve_server import ServeServer, headers, serve_python, started

__all__ = ["serve_python"]

CLIENTS, ROUNDS, WORKERS = 200, 3, 4
LIMIT = Decimal("0.08")  # pays for some 270 of the 600 answers


@pytest.fixture(params=["sqlite", "redis"])
def server(
    request: pytest.FixtureRequest,
    serve_python: Path,
    tmp_path: Path,
    require: Callable[..., None],
) -> Iterator[ServeServer]:
    settings: dict[str, object] = {"LIMIT_USD": LIMIT, "USER_LIMIT_USD": 1, "ON_EXHAUSTED": "raise"}
    if request.param == "redis":
        redis: RedisServer = request.getfixturevalue("redis_server")
        url = f"{redis.url.rpartition('/')[0]}/7"
        settings |= {"STORE": url, "RATE_STORAGE": url}
    with started(tmp_path, serve_python, "--workers", str(WORKERS), **settings) as running:
        yield running


async def test_limit_holds_and_answers_find_their_askers_under_load(server: ServeServer) -> None:
    seen: list[Decimal] = []

    async def watch() -> None:
        while True:
            now = await asyncio.to_thread(server.spent)
            seen.append(now.usd + now.held)
            await asyncio.sleep(0.1)

    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(connected(server)) for _ in range(CLIENTS)]

        async def rounds(number: int) -> list[Said]:
            numbers = range(1000 + number, 1000 + number + CLIENTS * ROUNDS, CLIENTS)
            return [await ask(clients[number], one) for one in numbers]

        watching = asyncio.create_task(watch())
        everything = await asyncio.gather(*map(rounds, range(CLIENTS)))
        watching.cancel()
    answers = [one for some in everything for one in some]
    for said in answers:
        assert said.status in {200, 429}, said  # the reason is in its text
        # Whose answer it is, not whether it is right: the sandbox's models do err.
        expected = f"{said.product} = " if said.status == 200 else "budget"
        assert expected in said.text
    spent, held, _ = server.spent()
    assert held == 0
    assert spent == sum((said.cost_usd for said in answers), Decimal(0))
    assert {said.status for said in answers} == {200, 429}
    assert spent > LIMIT / 4  # what is refused while much is held does not come back
    assert max([*seen, spent]) <= LIMIT
    assert "Traceback" not in server.said()


@asynccontextmanager
async def connected(server: ServeServer) -> AsyncIterator[httpx.AsyncClient]:
    """A client of its own, with its connection; two hundred at one instant, some systems reset."""
    limits = httpx.Limits(max_connections=1, keepalive_expiry=200)
    async with httpx.AsyncClient(
        base_url=server.url, timeout=110, limits=limits, verify=False
    ) as client:
        await client.get("/health")
        yield client


@dataclass(frozen=True)
class Said:
    """What a client was told."""

    product: str
    status: int
    text: str
    cost_usd: Decimal


async def ask(client: httpx.AsyncClient, number: int) -> Said:
    """Ask for a product that nobody else asks for; every second client has it streamed."""
    product, streamed = f"{number} * {number + 7}", number % 2 == 1
    body = {
        "model": "cloud",
        "messages": [{"role": "user", "content": f"What is {product}?"}],
        "max_tokens": 64,
        "stream": streamed,
    }
    named = headers("ada" if number % 3 else "bob")
    said = await client.post("/v1/chat/completions", json=body, headers=named)
    text, cost = said.text, said.headers.get("x-hybridflow-cost-usd", "0")
    if streamed and said.status_code == 200:
        events = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]
        parts = [one["choices"][0]["delta"].get("content", "") for one in events if one["choices"]]
        text, cost = "".join(parts), events[-1]["hybridflow"]["cost_usd"]
    return Said(product, said.status_code, text, Decimal(cost))
