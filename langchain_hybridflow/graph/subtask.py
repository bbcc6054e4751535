"""One subtask as a small LangGraph: route -> edge | cloud, with a way from each to the other.

With a verifier the way from the edge leads past it: edge -> verify -> cloud, or the end.

The functions that do the work are scripts (see `langchain_hybridflow.calls.steps`): one piece of
logic, driven blocking or awaiting.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import RunnableConfig
from langgraph.constants import TAG_NOSTREAM
from langgraph.errors import GraphInterrupt
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph

from langchain_hybridflow.calls import (
    Call,
    adrive,
    describe_error,
    drive,
)
from langchain_hybridflow.calls.readmodel import ReadModel
from langchain_hybridflow.calls.steps import Script
from langchain_hybridflow.calls.tether import tether_here
from langchain_hybridflow.errors import (
    CapabilityError,
    PolicyViolation,
    SubtaskError,
)
from langchain_hybridflow.graph.answering import SubtaskAnswerer, Update, emit
from langchain_hybridflow.graph.asking import asking_node, asking_once
from langchain_hybridflow.graph.finals import DropEarmarks
from langchain_hybridflow.graph.nodes import Node
from langchain_hybridflow.graph.records import barred, skipped
from langchain_hybridflow.graph.setups import Setup
from langchain_hybridflow.graph.showing import call_metadata, drafting
from langchain_hybridflow.graph.state import (
    SubtaskOutput,
    SubtaskRecord,
    SubtaskState,
    inputs_hash,
)
from langchain_hybridflow.graph.timeline import Timeline
from langchain_hybridflow.graph.wave import Wave
from langchain_hybridflow.plan import Subtask
from langchain_hybridflow.routing import Tier, terms_of

__all__ = ["SubtaskRunner"]


@dataclass(frozen=True, kw_only=True)
class SubtaskRunner(SubtaskAnswerer):
    """Runs subtasks: each as a node with a subgraph of its own."""

    def node(self, name: str) -> Node:
        """Build the node of a subtask: its subgraph, with a guard around it.

        Whatever happens inside, nobody is left waiting for a result that will not come.
        """
        subgraph = self._subgraph(name)

        def run(state: SubtaskState, config: RunnableConfig) -> Any:
            wave = self.waves.get(state["packet"]["wave"])
            dropping = DropEarmarks(None if wave is None else wave.run)
            try:
                with self._member(state["packet"]):
                    if wave is not None and wave.final is not None:
                        wave.final.perform()
                    ended = subgraph.invoke(state, config)
                    self._check_reader(ended)
                    self._finish(state["packet"], ended)
                if self._is_final(wave, ended):
                    dropping.perform()
            except BaseException:
                dropping.perform()
                raise
            return ended

        async def arun(state: SubtaskState, config: RunnableConfig) -> Any:
            wave = self.waves.get(state["packet"]["wave"])
            dropping = DropEarmarks(None if wave is None else wave.run)
            try:
                with self._member(state["packet"]):
                    if wave is not None and wave.final is not None:
                        await wave.final.aperform()
                    ended = await subgraph.ainvoke(state, config)
                    self._finish(state["packet"], ended)
                if self._is_final(wave, ended):
                    await dropping.aperform()
            except BaseException:
                await dropping.aperform()
                raise
            return ended

        return Node(run, arun, first=self.setups)

    @staticmethod
    def _is_final(wave: Wave | None, ended: Any) -> bool:
        """Whether the subtask has ended for which something was held; it may not have spent it."""
        if wave is None or wave.final is None:
            return False
        return wave.final.subtask_id in ((ended or {}).get("results") or {})

    @contextmanager
    def _member(self, packet: Mapping[str, Any]) -> Iterator[None]:
        try:
            with self.waves.inside(packet["wave"]):
                yield
        except GraphInterrupt:  # the siblings go on
            work = self._work(packet)
            self.waves.end_run(packet["run_id"])
            self.spans.interrupt(packet["run_id"], work["subtask"]["id"] if work else None)
            raise
        except BaseException as error:
            self.waves.abandon(packet["wave"])
            self.spans.end(packet["run_id"], error=error)
            raise
        finally:
            self._depart(packet)

    def _finish(self, packet: Mapping[str, Any], ended: Any) -> None:
        # Not in the node's own function: LangGraph looks at all that it names, to find the
        # subgraph, and the spans are known in a run only.
        self.spans.finish(packet["run_id"], ended)

    def _check_reader(self, ended: Any) -> None:
        """Leave the step unfinished if there is no result because the run's caller has gone.

        A step that ends is written down as the newest state, perhaps after that of a run that was
        resumed meanwhile.
        """
        tether = tether_here()
        if tether is not None and not (ended and ended.get("results")):
            tether.check()

    def _subgraph(self, name: str) -> CompiledStateGraph[Any, Any, Any, Any]:
        graph = StateGraph(SubtaskState, output_schema=SubtaskOutput)
        graph.add_node("route", self._scripted(self._route))
        graph.add_node("edge", self._asking("edge", partial(self._ask, "edge")))
        graph.add_node("cloud", self._asking("cloud", partial(self._ask, "cloud")))
        graph.add_edge(START, "route")
        after = Node(_next, _anext)
        graph.add_conditional_edges("route", after, ["edge", "cloud", END])
        from_edge: list[str] = [*self._fallbacks("edge")]
        may = self.setups.may
        if may(lambda it: terms_of(it.core.router) is not None):
            from_edge += [tier for tier in ("cloud", "edge") if tier not in from_edge]
        asking = ["ask"] if may(lambda it: it.core.budget.on_exhausted == "ask") else []
        if may(lambda it: it.core.verifier is not None):
            # A node of its own: a run that is killed there does not lose the answer.
            graph.add_node("verify", self._asking("verify", self._verify))
            graph.add_conditional_edges("verify", after, ["cloud", *asking, END])
            from_edge.append("verify")
        graph.add_conditional_edges("edge", after, [*from_edge, *asking, END])
        graph.add_conditional_edges("cloud", after, [*self._fallbacks("cloud"), *asking, END])
        if asking:
            graph.add_node("ask", asking_node())
            buyers: list[str] = [
                name for name in ("edge", "cloud", "verify") if name in graph.nodes
            ]
            graph.add_conditional_edges("ask", after, buyers)
        return graph.compile(name=name)

    def _fallbacks(self, tier: Tier) -> list[Tier]:
        if tier == "edge":
            falls_back = self.setups.may(lambda it: it.core.on_edge_error == "fallback")
            return ["cloud"] if falls_back else []
        return ["edge"] if self.setups.may(_cloud_gives_way) else []

    def _asking(self, node: str, script: Callable[[SubtaskState], Script[Update]]) -> Node:
        """Make a node whose purchases may ask the question of the run."""
        return self._scripted(
            asking_once(
                script,
                node=node,
                model_of=lambda: self.core.models["cloud"].name,
                run_of=lambda packet: self._wave_and_run(packet)[1],
            )
        )

    def _scripted(self, script: Callable[[SubtaskState], Script[Update]]) -> Node:
        def run(state: SubtaskState, config: RunnableConfig) -> Update:
            def call(step: Call) -> ChatResult:
                around = _call_config(config, state, step)
                if step.reading is not None:
                    reader = ReadModel.of(step, on_draft=drafting(state))
                    return reader.result(reader.invoke(step.messages, around, **step.options))
                message = step.target.model.invoke(step.messages, around, **step.options)
                return ChatResult(generations=[ChatGeneration(message=message)])

            return drive(script(state), call)

        async def arun(state: SubtaskState, config: RunnableConfig) -> Update:
            async def call(step: Call) -> ChatResult:
                around = _call_config(config, state, step)
                if step.reading is not None:
                    reader = ReadModel.of(step, on_draft=drafting(state))
                    said = await reader.ainvoke(step.messages, around, **step.options)
                    return reader.result(said)
                message = await step.target.model.ainvoke(step.messages, around, **step.options)
                return ChatResult(generations=[ChatGeneration(message=message)])

            return await adrive(script(state), call)

        return Node(run, arun)

    def _depart(self, packet: Mapping[str, Any]) -> None:
        wave = self.waves.get(packet["wave"])
        if wave is None:
            return
        work = self._work(packet)
        if work is not None:
            wave.result(work["subtask"]["id"]).keep(None)
        self.waves.leave(wave.id)

    def _work(self, packet: Mapping[str, Any]) -> Any:
        """What a member does, as far as it is known."""
        wave = self.waves.get(packet["wave"])
        return packet["work"] or (wave.slot(packet["slot"]).value if wave else None)

    @staticmethod
    def _parents(
        wave: Wave, subtask: Subtask, known: Mapping[str, SubtaskRecord]
    ) -> Script[dict[str, Any] | None]:
        """Wait for the results that a subtask builds on; `None` if one will not come."""
        parents: dict[str, Any] = {}
        for parent_id in subtask.depends_on:
            parent = known.get(parent_id) or (yield wave.result(parent_id))
            if parent is None:
                return None
            parents[parent_id] = parent
        return parents

    def _route(self, state: SubtaskState) -> Script[Update]:
        """Wait for the dependencies, then decide who is to be asked."""
        packet = state["packet"]
        wave = self.waves.get(packet["wave"])
        if wave is None:
            return _YIELD  # resumed in another process: the next wave will take it up
        work = packet["work"] or (yield wave.slot(packet["slot"]))
        if work is None:
            return _YIELD  # the plan has fewer subtasks than there were nodes sent
        subtask = Subtask.model_validate(work["subtask"])
        parents = yield from self._parents(wave, subtask, packet["results"])
        if parents is None:
            return _YIELD  # interrupted: they will be there in a later wave
        ready_at = self.clock()
        lost = [parent_id for parent_id, parent in parents.items() if parent["status"] != "ok"]
        if lost:
            record = skipped(subtask, lost, now=ready_at)
            return self._deliver(wave, record)
        answers = {parent_id: parent["answer"] or "" for parent_id, parent in parents.items()}
        fingerprint = inputs_hash(subtask, packet["question"], answers)
        kept_local = packet["kept_local"] or any(one["kept_local"] for one in parents.values())
        previous = packet["previous"]
        if previous and previous["status"] == "ok" and previous["inputs_hash"] == fingerprint:
            kept_local = kept_local or previous["kept_local"]
            return self._deliver(wave, previous | {"kept_local": kept_local})
        work = work | {  # a copy: all runs of a compiled plan begin with the same one
            "answers": answers,
            "inputs_hash": fingerprint,
            "ready_at": ready_at,
            "parent_tiers": [parent["tier"] for parent in parents.values()],
            "kept_local": kept_local,
            "attempts": [],
            "timeline": [],
        }
        return (yield from self._decided(wave, packet, subtask, work))

    def _decided(
        self, wave: Wave, packet: Mapping[str, Any], subtask: Subtask, work: Update
    ) -> Script[Update]:
        """Decide who is to be asked, or that nobody can be."""
        request = self._request(subtask, work, packet["question"])
        self.spans.subtask(packet["run_id"], subtask)
        try:
            planned = wave.planned.get(subtask.id)
            chosen = yield from Timeline(work["timeline"], clock=self.clock).of_decision(
                self.core.decide(request, run=wave.run, planned=planned),
                expected_usd=self.core.expected_costs(request),
            )
        except (CapabilityError, PolicyViolation) as error:
            if self.raise_errors:
                raise SubtaskError(subtask.id, describe_error(error)) from error
            record = barred(subtask, error, inputs_hash=work["inputs_hash"], now=work["ready_at"])
            return self._deliver(wave, record)
        decision = self.core.on_terms(chosen, {})
        emit("routed", subtask, tier=decision.tier, reason=decision.reason)
        self.spans.route(packet["run_id"], subtask, decision)
        work["decision"] = decision.model_dump(mode="json")
        return {"work": work, "next": decision.tier}


_YIELD: Update = {"next": ""}


def _cloud_gives_way(setup: Setup) -> bool:
    """Whether the edge may answer a subtask that was meant for the cloud."""
    core = setup.core
    is_refused = setup.approve_cloud or core.budget.on_exhausted != "raise"
    return is_refused or core.on_cloud_error == "fallback"


def _next(state: SubtaskState, config: RunnableConfig) -> str:  # noqa: ARG001 - a node's face
    return state["next"] or END


async def _anext(state: SubtaskState, config: RunnableConfig) -> str:  # noqa: ARG001 - likewise
    return state["next"] or END


def _call_config(config: RunnableConfig, state: SubtaskState, step: Call) -> RunnableConfig:
    subtask, tier = state["work"]["subtask"], step.target.tier
    tags = [f"hybridflow:{tier}", f"hybridflow:{subtask['role']}"]
    if not step.shown:
        tags.append(TAG_NOSTREAM)  # the calls of a verifier, and what it is to look at
    around = config.get("metadata", {})
    return {
        **config,
        "run_name": f"{subtask['role']} {subtask['id']} on {tier}",
        "tags": [*config.get("tags", ()), *tags],
        "metadata": call_metadata(around, state["work"], tier, step.target.name),
    }
