"""A thousand calls at once on one instance: each gets its own answer, and the books are exact."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

from langchain_core.callbacks import UsageMetadataCallbackHandler
from langchain_core.messages import BaseMessage
from langchain_openai import ChatOpenAI

from langchain_hybridflow import Budget, Price, RoutedChatModel
from langchain_hybridflow.routing import RouteDecision, RouteRequest
from langchain_hybridflow.sandbox.server import create_app, running_server
from langchain_hybridflow.testing import ScriptedChatModel

CALLS = 1_000
OVER_HTTP = 120
LOOPS = 4
PRICES = {"little": Price(100, 100), "big": Price(1_000, 1_000)}


class ByNumber:
    """Odd questions go to the cloud."""

    def route(self, request: RouteRequest) -> RouteDecision:
        tier = "cloud" if number_in(request.text) % 2 else "edge"
        return RouteDecision(tier=tier, reason="by number", router="test")


def number_in(text: str) -> int:
    return int(re.findall(r"[0-9]+", text)[-1])


def echo(messages: list[BaseMessage]) -> str:
    return f"This is answer {number_in(messages[-1].text)}"


def fake(name: str) -> ScriptedChatModel:
    return ScriptedChatModel(responses=[echo], model_name=name)


def routed(edge: Any, cloud: Any) -> RoutedChatModel:
    budget = Budget(limit_usd=1_000, max_cloud_calls=CALLS, prices=PRICES)
    return RoutedChatModel(edge=edge, cloud=cloud, router=ByNumber(), budget=budget)


async def ask_in_loop(model: RoutedChatModel, numbers: Iterable[int], usage: Any) -> list[Any]:
    """Half of the calls whole, the other half streamed, all of them at once."""
    config: Any = {"callbacks": [usage]}

    async def ask(number: int) -> Any:
        if number % 4 < 2:
            return await model.ainvoke(f"Question {number}", config=config)
        chunks = [chunk async for chunk in model.astream(f"Question {number}", config=config)]
        total = chunks[0]
        for chunk in chunks[1:]:
            total += chunk
        return total

    return await asyncio.gather(*map(ask, numbers))


def ask_from_everywhere(
    model: RoutedChatModel, calls: int, usage: UsageMetadataCallbackHandler
) -> dict[int, Any]:
    """Call from several event loops and many threads at the same time."""
    numbers = range(calls)
    in_loops = [numbers[start :: 2 * LOOPS] for start in range(LOOPS)]
    in_threads = [number for number in numbers if number % (2 * LOOPS) >= LOOPS]
    config: Any = {"callbacks": [usage]}
    with ThreadPoolExecutor(LOOPS + 16) as threads:
        loops = [threads.submit(asyncio.run, ask_in_loop(model, mine, usage)) for mine in in_loops]
        plain = [
            threads.submit(model.invoke, f"Question {number}", config=config)
            for number in in_threads
        ]
        found = {
            number: answer
            for mine, loop in zip(in_loops, loops, strict=True)
            for number, answer in zip(mine, loop.result(), strict=True)
        }
        found |= {number: call.result() for number, call in zip(in_threads, plain, strict=True)}
    return found


def check(model: RoutedChatModel, answers: dict[int, Any], calls: int, usage: Any) -> None:
    assert sorted(answers) == list(range(calls))
    for number, answer in answers.items():
        assert answer.text == f"This is answer {number}"
        assert answer.response_metadata["model_name"] == ("big" if number % 2 else "little")
    attempts = [
        attempt
        for answer in answers.values()
        for attempt in answer.response_metadata["hybridflow"]["attempts"]
    ]
    assert [attempt["status"] for attempt in attempts] == ["ok"] * calls
    snapshot = model.budget.snapshot()
    assert snapshot["cloud_calls"]["spent"] == calls // 2
    # Two words in and four out, each at 100 or 1,000 USD for a million.
    expected = (calls // 2) * (Decimal("0.0006") + Decimal("0.006"))
    assert Decimal(str(snapshot["usd"]["spent"])) == expected
    assert sum(Decimal(attempt["cost_usd"]) for attempt in attempts) == expected
    assert [snapshot[what]["held"] for what in ("usd", "cloud_tokens", "cloud_calls")] == [0, 0, 0]
    assert {name: counts["total_tokens"] for name, counts in usage.usage_metadata.items()} == {
        "little": 6 * (calls // 2),
        "big": 6 * (calls // 2),
    }


def test_a_thousand_calls_at_once_hold() -> None:
    model, usage = routed(fake("little"), fake("big")), UsageMetadataCallbackHandler()
    check(model, ask_from_everywhere(model, CALLS, usage), CALLS, usage)
    assert (model.edge.running, model.cloud.running) == (0, 0)  # type: ignore[attr-defined]


async def test_a_thousand_calls_in_one_loop_hold() -> None:
    model, usage = routed(fake("little"), fake("big")), UsageMetadataCallbackHandler()
    found = await ask_in_loop(model, range(CALLS), usage)
    check(model, dict(enumerate(found)), CALLS, usage)
    assert model.cloud.max_concurrency_seen > CALLS // 4  # type: ignore[attr-defined]


def test_calls_over_real_connections_hold() -> None:
    usage = UsageMetadataCallbackHandler()
    with running_server(create_app({"little": fake("little"), "big": fake("big")})) as url:
        edge, cloud = (
            ChatOpenAI(model=name, base_url=url, api_key="none", max_retries=0, timeout=60)
            for name in ("little", "big")
        )
        # Its connections belong to the loop that opened them, so all calls are made in one.
        model = routed(edge, cloud)
        found = asyncio.run(ask_in_loop(model, range(OVER_HTTP), usage))
        check(model, dict(enumerate(found)), OVER_HTTP, usage)
