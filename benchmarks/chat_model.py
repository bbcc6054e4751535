"""What a routed call costs above the call of the model that answers it, in microseconds.

    python benchmarks/chat_model.py [--rounds 1000] [--seed 0] [--json FILE]

Timed: `invoke`, `ainvoke`, and the first chunk of `stream`, on scripted models that answer at
once, streamed in three chunks. The contenders:
- bare:          the answering model alone; all figures are what the others add to it;
- ours:          `RoutedChatModel` with its default router, a budget in USD kept by the memory
                 ledger, and a price on the answering model, so that every call is reserved and
                 booked. The question is an easy one: the edge answers;
- branch:        a `RunnableBranch` written by hand that looks at the length of the question. It
                 routes, and keeps no books;
- cascadeflow:   its LangChain wrapper as it comes, if it is installed. The answer is long enough
                 for its check to accept it: the drafter answers, its verifier is never called;
- cascadeflow-:  the same without its router and without cost tracking: a check of the answer only.

Each contender has models of its own, all alike, which are called once a call; a run that calls the
other tier, or any model twice, stops with an error. In each round every contender makes one call,
in an order that is drawn anew. The figures are medians over all rounds; the garbage collector
runs between rounds only. Sync calls are made outside of any event loop, async ones all within the
same one. No tracer and no callbacks are set.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import platform
import random
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeAlias

from langchain_core.messages import BaseMessage, HumanMessage
from langchain_core.runnables import Runnable, RunnableBranch, RunnableLambda

from langchain_hybridflow import Budget, Price, RoutedChatModel
from langchain_hybridflow.testing import ScriptedChatModel

QUESTION = [HumanMessage("What is the capital of France?")]
ANSWER = [
    "The capital of France is Paris.",
    " It lies on the Seine, has been the seat of government for most of a thousand years, and is",
    " home to a little more than two million people today, with twelve million in and around it.",
]
WARM_UP_ROUNDS = 50
MICROSECONDS = 1e6

Timed: TypeAlias = Callable[[Runnable[Any, Any]], float]
"""Makes one call and returns how long it took, in seconds."""


@dataclass(frozen=True, slots=True)
class Contender:
    """Something that stands before two models, of which the edge is to answer."""

    name: str
    runnable: Runnable[Any, Any]
    edge: ScriptedChatModel
    cloud: ScriptedChatModel

    def check_calls(self, expected: int) -> None:
        """Raise unless the edge answered every call, and nobody answered twice."""
        seen = len(self.edge.calls), len(self.cloud.calls)
        if seen != (expected, 0):
            raise RuntimeError(f"{self.name}: {expected} calls, but (edge, cloud) saw {seen}")


def no_wait(_seconds: float) -> None:
    """Let no time pass; even `time.sleep(0)` takes longer than what is measured here."""


async def no_await(_seconds: float) -> None:
    """Let no time pass, and no other task run."""


def two_models() -> tuple[ScriptedChatModel, ScriptedChatModel]:
    """Make models that answer at once; cascadeflow's price list knows their names."""
    edge, cloud = (
        ScriptedChatModel(responses=[ANSWER], model_name=name, sleep=no_wait, asleep=no_await)
        for name in ("gpt-4o-mini", "gpt-4o")
    )
    return edge, cloud


def ours() -> Contender:
    """Route by difficulty, reserve and book every call."""
    edge, cloud = two_models()
    prices = {"gpt-4o-mini": Price("0.15", "0.6"), "gpt-4o": Price("2.5", "10")}
    budget = Budget(limit_usd=1_000_000, prices=prices)
    return Contender("ours", RoutedChatModel(edge=edge, cloud=cloud, budget=budget), edge, cloud)


def branch() -> Contender:
    """What one writes at first."""
    edge, cloud = two_models()

    def is_long(messages: list[BaseMessage]) -> bool:
        return len(messages[-1].text) > 500

    async def is_long_too(messages: list[BaseMessage]) -> bool:
        return is_long(messages)

    condition = RunnableLambda(is_long, is_long_too)  # else async calls ask it in a thread
    return Contender("branch", RunnableBranch((condition, cloud), edge), edge, cloud)


def cascades() -> list[Contender]:
    """The rival's wrapper as it comes, and stripped; nothing if it is not installed."""
    if find_spec("cascadeflow") is None:
        return []
    from cascadeflow.langchain import CascadeFlow

    found = []
    stripped = {"enable_pre_router": False, "enable_cost_tracking": False}
    variants: dict[str, dict[str, Any]] = {"cascadeflow": {}, "cascadeflow-": stripped}
    for name, settings in variants.items():
        edge, cloud = two_models()
        wrapper = CascadeFlow(drafter=edge, verifier=cloud, **settings)
        found.append(Contender(name, wrapper, edge, cloud))
    return found


def contenders() -> list[Contender]:
    """All that are installed; the bare model comes first."""
    edge, cloud = two_models()
    return [Contender("bare", edge, edge, cloud), ours(), branch(), *cascades()]


def invoke(runnable: Runnable[Any, Any]) -> float:
    """Time a call."""
    start = time.perf_counter()
    runnable.invoke(QUESTION)
    return time.perf_counter() - start


def first_chunk(runnable: Runnable[Any, Any]) -> float:
    """Time a stream up to its first chunk; the rest is read with the clock stopped."""
    start = time.perf_counter()
    chunks = runnable.stream(QUESTION)
    next(chunks)
    taken_s = time.perf_counter() - start
    for _ in chunks:
        pass
    return taken_s


def ainvoke_in(loop: asyncio.Runner) -> Timed:
    """Time an async call from within the loop; entering and leaving the loop is not counted."""

    async def call(runnable: Runnable[Any, Any]) -> float:
        start = time.perf_counter()
        await runnable.ainvoke(QUESTION)
        return time.perf_counter() - start

    return lambda runnable: loop.run(call(runnable))


def medians(
    timed: Timed, field: list[Contender], *, rounds: int, rng: random.Random
) -> dict[str, float]:
    """Let all contenders call in turn; return the median of each, in microseconds."""
    taken_s: dict[str, list[float]] = {contender.name: [] for contender in field}
    gc.disable()
    try:
        for number in range(WARM_UP_ROUNDS + rounds):
            for contender in rng.sample(field, k=len(field)):
                seconds = timed(contender.runnable)
                if number >= WARM_UP_ROUNDS:
                    taken_s[contender.name].append(seconds)
            gc.collect(0)
    finally:
        gc.enable()
    for contender in field:
        contender.check_calls(WARM_UP_ROUNDS + rounds)
    return {name: statistics.median(values) * MICROSECONDS for name, values in taken_s.items()}


def measure(*, rounds: int, seed: int) -> dict[str, dict[str, float]]:
    """Time every way to call; return medians by way and contender, in microseconds."""
    rng = random.Random(seed)
    found = {}
    with asyncio.Runner() as loop:
        ways: dict[str, Timed] = {
            "invoke": invoke,
            "ainvoke": ainvoke_in(loop),
            "first chunk": first_chunk,
        }
        for way, timed in ways.items():
            found[way] = medians(timed, contenders(), rounds=rounds, rng=rng)
    return found


def show(found: dict[str, dict[str, float]]) -> None:
    """Print the medians, what is added to the bare call, and its ratio to what we add."""
    print(
        f"{'':<12} {'':<13} {'us a call':>10} {'added us':>10} {'x bare':>7} {'added / ours':>13}"
    )
    for way, medians_us in found.items():
        bare, added_by_us = medians_us["bare"], medians_us["ours"] - medians_us["bare"]
        for name, taken in medians_us.items():
            added = taken - bare
            print(
                f"{way:<12} {name:<13} {taken:>10.1f} {added:>10.1f} {taken / bare:>7.2f} "
                f"{added / added_by_us:>13.2f}"
            )
        print()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found = measure(rounds=options.rounds, seed=options.seed)
    names = ["langchain-core", *(["cascadeflow"] if find_spec("cascadeflow") else [])]
    packages = ", ".join(f"{name} {version(name)}" for name in names)
    print(f"\nmedians of {options.rounds} rounds, Python {platform.python_version()}, {packages}")
    if not find_spec("cascadeflow"):
        print("SKIPPED: cascadeflow is not installed (pip install cascadeflow)")
    show(found)
    if options.json:
        options.json.write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main()
