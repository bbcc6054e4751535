"""Scripted models, plans and gates for the tests of the graph."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Protocol

from hypothesis import strategies as st
from langchain_core.messages import BaseMessage, HumanMessage

from langchain_hybridflow import Budget, HybridFlowGraph, Plan, RoutedChatModel, Subtask
from langchain_hybridflow.calls import helper
from langchain_hybridflow.plan import plan_to_xml
from langchain_hybridflow.routing import AlwaysEdge
from langchain_hybridflow.testing import ScriptedChatModel

QUESTION = "How long does it take in total, and why?"
PATIENCE_S = 30.0
"""Nothing here takes long; a wait that does is a deadlock."""

_SUBTASK = re.compile(r'<subtask id="([^"]+)"')
_RESULT = re.compile(r'<result subtask="([^"]+)">\n(.*?)\n</result>', re.DOTALL)


def ask(text: str = QUESTION) -> dict[str, Any]:
    return {"messages": [HumanMessage(text)]}


def subtask_of(messages: list[BaseMessage]) -> str:
    """The id of the subtask that a prompt asks for; "plan" for a planning call."""
    found = _SUBTASK.search(messages[-1].text)
    return found[1] if found else "plan"


def results_in(messages: list[BaseMessage]) -> dict[str, str]:
    """The earlier results that a prompt shows, by subtask."""
    return dict(_RESULT.findall(messages[-1].text))


def plan_of(depends_on: Mapping[str, str], tokens: Mapping[str, int] | None = None) -> Plan:
    """A plan from `{"1": "", "2": "1", "3": "1", "4": "2 3"}`: first explains, last generates."""
    ids = list(depends_on)
    return Plan(
        subtasks=[
            Subtask(
                id=key,
                task=f"Part {key}?",
                role=_role(key, ids),
                depends_on=needs.split(),
                expected_output_tokens=(tokens or {}).get(key, 100),
            )
            for key, needs in depends_on.items()
        ]
    )


def _role(key: str, ids: list[str]) -> str:
    if key == ids[-1]:
        return "generate"
    return "explain" if key == ids[0] else "analyze"


DIAMOND = plan_of({"1": "", "2": "1", "3": "1", "4": "2 3"})
CHAIN = plan_of({"1": "", "2": "1", "3": "2"})


def wide_plan(width: int) -> Plan:
    """One explain, `width` analyzes that need only it, one generate that needs them all."""
    middle = {f"m{index}": "1" for index in range(width)}
    return plan_of({"1": "", **middle, "end": " ".join(middle)})


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Any valid plan of up to nine subtasks, listed in any order its ids allow."""
    size = draw(st.integers(1, 9))
    if size == 1:
        return plan_of({"only": ""})
    needs: dict[str, set[str]] = {"0": set()}
    for index in range(1, size - 1):
        parents = draw(st.sets(st.integers(0, index - 1), max_size=3))
        needs[str(index)] = {str(parent) for parent in parents}
    used = set().union(*needs.values())
    needs["end"] = {key for key in needs if key not in used}
    first, *rest = needs
    *middle, last = rest
    shuffled = [first, *draw(st.permutations(middle)), last]
    tokens = {key: draw(st.integers(1, 500)) for key in shuffled}
    return plan_of({key: " ".join(sorted(needs[key])) for key in shuffled}, tokens)


class Gate:
    """Something that happens once, and can be waited for from threads and event loops."""

    def __init__(self) -> None:
        self._future: Future[None] = Future()

    @property
    def is_open(self) -> bool:
        return self._future.done()

    def open(self) -> None:
        if not self._future.done():
            self._future.set_result(None)

    def wait(self) -> None:
        self._future.result(timeout=PATIENCE_S)

    async def wait_async(self) -> None:
        await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(self._future)), PATIENCE_S)


@dataclass
class Held:
    """An answer that is given when `release` opens; `began` opens when the call has come in."""

    answer: Any = "held"
    began: Gate = field(default_factory=Gate)
    release: Gate = field(default_factory=Gate)


def respond(messages: list[BaseMessage], actions: Mapping[str, Any], log: list[str]) -> Any:
    """Answer one call as told, on the face on which it came in."""
    key = subtask_of(messages)
    action = actions.get(key, f"answer {key}")
    log.append(f"+{key}")
    if callable(action):
        action = action(messages)
    if not isinstance(action, Held):
        log.append(f"-{key}")
        return action
    held = action
    held.began.open()

    def finish() -> Any:
        log.append(f"-{key}")
        return held.answer

    async def later() -> Any:
        await held.release.wait_async()
        return finish()

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        held.release.wait()
        return finish()
    return later()


def worker(
    actions: Mapping[str, Any] | None = None, log: list[str] | None = None, **fields: Any
) -> ScriptedChatModel:
    """A model that answers subtask x with `actions[x]`: a text, an error, `Held`, or a function."""
    actions = {} if actions is None else actions
    log = [] if log is None else log
    return ScriptedChatModel(
        responses=[lambda messages: respond(messages, actions, log)],
        **{"model_name": "edge", **fields},
    )


def planning_worker(plan: Plan, actions: Mapping[str, Any] | None = None, **fields: Any) -> Any:
    """A worker that also writes `plan` when it is asked to plan."""
    return worker({"plan": plan_to_xml(plan), **(actions or {})}, **fields)


def make_flow(
    edge: Any = None,
    cloud: Any = None,
    *,
    router: Any = None,
    budget: Budget | None = None,
    model: Mapping[str, Any] | None = None,
    **fields: Any,
) -> HybridFlowGraph:
    """A flow with wide slots that sends everything to the edge, unless told otherwise."""
    routed = RoutedChatModel(
        edge=edge or worker(),
        cloud=cloud or worker(model_name="cloud"),
        router=router or AlwaysEdge(),
        **({"budget": budget} if budget is not None else {}),
        **(model or {}),
    )
    return HybridFlowGraph(routed, **{"edge_slots": 64, "cloud_slots": 64, **fields})


class Face(Protocol):
    """One of the two ways to run a graph."""

    name: str

    async def invoke(self, graph: Any, given: Any, config: Any = None, **kwargs: Any) -> Any: ...

    async def stream(
        self, graph: Any, given: Any, config: Any = None, **kwargs: Any
    ) -> list[Any]: ...


class SyncFace:
    name = "sync"

    async def invoke(self, graph: Any, given: Any, config: Any = None, **kwargs: Any) -> Any:
        return await asyncio.to_thread(graph.invoke, given, config, **kwargs)

    async def stream(self, graph: Any, given: Any, config: Any = None, **kwargs: Any) -> list[Any]:
        return await asyncio.to_thread(lambda: list(graph.stream(given, config, **kwargs)))


class AsyncFace:
    name = "async"

    async def invoke(self, graph: Any, given: Any, config: Any = None, **kwargs: Any) -> Any:
        return await asyncio.wait_for(graph.ainvoke(given, config, **kwargs), 2 * PATIENCE_S)

    async def stream(self, graph: Any, given: Any, config: Any = None, **kwargs: Any) -> list[Any]:
        return [event async for event in graph.astream(given, config, **kwargs)]


def thread(name: str = "t", **fields: Any) -> dict[str, Any]:
    return {"configurable": {"thread_id": name}, **fields}


def asked(*models: ScriptedChatModel) -> list[str]:
    """Which subtasks models were asked, in the order of the calls."""
    return [subtask_of(call) for model in models for call in model.calls]


def assert_at_rest(flow: HybridFlowGraph, *, waves: int = 0, runs: int = 0) -> None:
    """Nothing is left of the runs: no slot taken, nothing held, no wave open."""
    for slots in flow._runner.slots.values():
        assert slots.free == slots.slots
    state = flow.model.budget.snapshot()
    assert [state[what]["held"] for what in ("usd", "cloud_tokens", "cloud_calls")] == [0, 0, 0]
    assert len(flow._waves) <= waves
    assert len(flow._waves._runs) <= runs


def wait_for_left_runs() -> None:
    """Wait until the runs whose readers have gone are at their end."""
    for left in tuple(helper._unfinished):
        left.join(PATIENCE_S)
        assert not left.is_alive()


async def until(is_so: Callable[[], bool]) -> None:
    """Let everything else run until something is so."""
    async with asyncio.timeout(PATIENCE_S):
        while not is_so():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.001)
