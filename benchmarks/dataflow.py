"""How close to the critical path plans run, and what a subtask costs in overhead.

    python benchmarks/dataflow.py [--plans 200] [--seed 0] [--time-scale 1.0] [--json FILE]

Makespan: random plans of 3-12 subtasks of 50-600 ms each, run by
- ours:        `HybridFlowGraph.compile(plan=...)`, with router, ledger and subgraphs;
- naive:       the same calls as a plain LangGraph, one node a subtask, edges = dependencies;
- sequential:  one subtask after the other; not run, it is the sum of the durations.
Ours and naive run one after the other in one process, in an order that is drawn for each plan.
The figure is makespan / critical path; 1 is as fast as the dependencies allow.

Overhead: the same graphs with models that answer at once, for plans of 6 to 200 subtasks; the time
of a whole run over the number of subtasks, best of several runs. A call of a LangChain chat model
takes time of its own even if the model answers at once; it is measured in the same run ("bare"),
since no graph can avoid it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import statistics
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

from langchain_core.messages import BaseMessage, HumanMessage
from langgraph.graph import END, START, StateGraph
from typing_extensions import TypedDict

from langchain_hybridflow import Budget, HybridFlowGraph, Plan, Price, RoutedChatModel, Subtask
from langchain_hybridflow.plan import critical_path
from langchain_hybridflow.routing import RandomRouter
from langchain_hybridflow.testing import ScriptedChatModel

QUESTION = {"messages": [HumanMessage("How long does it take?")]}
SUBTASK_ID = re.compile(r'<subtask id="(\w+)"')


def random_plan(rng: random.Random, size: int) -> Plan:
    """Draw a valid plan: an explain, analyzes that need one or two earlier ones, a generate."""
    subtasks = [Subtask(id="0", task="What is asked?", role="explain")]
    for index in range(1, size - 1):
        needs = rng.sample(range(index), k=min(index, rng.choice((1, 1, 2))))
        depends_on = [str(need) for need in sorted(needs)]
        subtasks.append(Subtask(id=str(index), task=f"Part {index}?", depends_on=depends_on))
    used = {need for subtask in subtasks for need in subtask.depends_on}
    open_ends = [subtask.id for subtask in subtasks if subtask.id not in used]
    sink = Subtask(id=str(size - 1), task="All?", role="generate", depends_on=open_ends)
    return Plan(subtasks=[*subtasks, sink])


def timed_model(name: str, durations: dict[str, float]) -> ScriptedChatModel:
    """A model that takes as long as the subtask in its prompt is meant to take."""

    async def respond(messages: list[BaseMessage]) -> str:
        found = SUBTASK_ID.search(messages[-1].text)
        await asyncio.sleep(durations[found[1]] if found else 0.0)
        return "done"

    return ScriptedChatModel(responses=[respond], model_name=name)


def our_graph(plan: Plan, durations: dict[str, float]) -> Any:
    """Our graph, all of it: half of the subtasks on each tier, under a USD budget."""
    model = RoutedChatModel(
        edge=timed_model("edge", durations),
        cloud=timed_model("cloud", durations),
        router=RandomRouter(cloud_share=0.5, seed=1),
        budget=Budget(limit_usd=1_000, prices={"cloud": Price(2, 8)}),
    )
    return HybridFlowGraph(model, edge_slots=1_000, cloud_slots=1_000).compile(plan=plan)


def naive_graph(plan: Plan, durations: dict[str, float]) -> Any:
    """What one writes at first: a node for each subtask, an edge for each dependency."""
    model = timed_model("edge", durations)

    class State(TypedDict, total=False):
        messages: list[Any]

    def node(subtask_id: str) -> Callable[[State], Awaitable[dict[str, Any]]]:
        async def work(state: State) -> dict[str, Any]:  # noqa: ARG001 - a node gets the state
            await model.ainvoke(f'<subtask id="{subtask_id}"')
            return {}

        return work

    graph = StateGraph(State)
    for subtask in plan.subtasks:
        graph.add_node(subtask.id, node(subtask.id))
        if subtask.depends_on:
            graph.add_edge(list(subtask.depends_on), subtask.id)
        else:
            graph.add_edge(START, subtask.id)
    graph.add_edge(plan.sink.id, END)
    return graph.compile()


async def seconds(run: Callable[[], Awaitable[Any]]) -> float:
    """Time one run."""
    start = time.perf_counter()
    await run()
    return time.perf_counter() - start


async def makespans(plans: int, seed: int, time_scale: float) -> dict[str, list[float]]:
    """Run every plan in all three ways; return the ratios to the critical path."""
    rng = random.Random(seed)
    ratios: dict[str, list[float]] = {"ours": [], "naive": [], "sequential": []}
    for number in range(plans):
        plan = random_plan(rng, rng.randint(3, 12))
        durations = {key: rng.uniform(0.05, 0.6) * time_scale for key in plan.order}
        path_s = critical_path(plan, durations).length
        ours, naive = our_graph(plan, durations), naive_graph(plan, durations)
        instant = dict.fromkeys(plan.order, 0.0)
        await our_graph(plan, instant).ainvoke(QUESTION)  # imports and caches are warm for all
        await naive_graph(plan, instant).ainvoke(QUESTION)
        ways = [("ours", ours), ("naive", naive)]
        rng.shuffle(ways)
        for way, graph in ways:
            ratios[way].append(await seconds(lambda g=graph: g.ainvoke(QUESTION)) / path_s)  # type: ignore[misc]
        ratios["sequential"].append(sum(durations.values()) / path_s)  # by definition
        if (number + 1) % 20 == 0:
            print(f"  {number + 1} of {plans} plans", flush=True)
    return ratios


async def overheads(sizes: tuple[int, ...], repeats: int = 9) -> dict[int, dict[str, float]]:
    """Milliseconds a subtask with models that answer at once: ours, naive, and the bare call."""
    found = {}
    for size in sizes:
        plan = random_plan(random.Random(size), size)
        instant = dict.fromkeys(plan.order, 0.0)
        model, prompt = timed_model("edge", instant), '<subtask id="0"'
        ours, naive = our_graph(plan, instant), naive_graph(plan, instant)

        async def bare(model: Any = model, prompt: str = prompt, size: int = size) -> None:
            await asyncio.gather(*(model.ainvoke(prompt) for _ in range(size)))

        ways = {
            "ours": partial(ours.ainvoke, QUESTION, {"recursion_limit": 1_000}),
            "naive": partial(naive.ainvoke, QUESTION, {"recursion_limit": 1_000}),
            "bare": bare,
        }
        times: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(repeats + 1):
            for way, run in ways.items():
                times[way].append(await seconds(run))
        found[size] = {way: min(taken[1:]) / size * 1_000 for way, taken in times.items()}
    return found


def main() -> None:
    """Run both measurements and print them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--plans", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--time-scale", type=float, default=1.0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    ratios = asyncio.run(makespans(options.plans, options.seed, options.time_scale))
    print(f"\nmakespan / critical path, {options.plans} plans, seed {options.seed}")
    for way, values in ratios.items():
        p95 = sorted(values)[int(0.95 * (len(values) - 1))]
        mean, worst = statistics.fmean(values), max(values)
        print(f"  {way:<11} mean {mean:.4f}   p95 {p95:.4f}   worst {worst:.4f}")
    costs = asyncio.run(overheads((6, 12, 50, 100, 200)))
    print("\nmilliseconds per subtask (models that answer at once, best of 9 runs)")
    for size, ms in costs.items():
        print(
            f"  {size:>4} subtasks: ours {ms['ours']:.3f}   naive {ms['naive']:.3f}   "
            f"bare model call {ms['bare']:.3f}   ours above it {ms['ours'] - ms['bare']:.3f}"
        )
    if options.json:
        figures = {"ratios": ratios, "overhead_ms": costs}
        options.json.write_text(json.dumps(figures), encoding="utf-8")


if __name__ == "__main__":
    main()
