"""One subtask as a small LangGraph: route -> edge | cloud, with a way from each to the other.

The functions that do the work are scripts (see `langchain_hybridflow.calls.steps`): one piece of
logic, driven blocking or awaiting.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import RunnableConfig
from langgraph.config import get_stream_writer
from langgraph.errors import GraphInterrupt
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import interrupt

from langchain_hybridflow.budget import RunBudget
from langchain_hybridflow.calls import (
    Attempt,
    AttemptFailed,
    Call,
    Purchase,
    RoutingCore,
    adrive,
    describe_error,
    drive,
    narrowed,
    request_of,
    total_cost,
)
from langchain_hybridflow.calls.steps import Script
from langchain_hybridflow.errors import (
    CapabilityError,
    CloudDeclined,
    DeadlineExceeded,
    ModelCallError,
    PolicyViolation,
    SubtaskError,
)
from langchain_hybridflow.graph.nodes import Node
from langchain_hybridflow.graph.prompts import prompt_tokens, subtask_messages
from langchain_hybridflow.graph.records import barred, skipped, summary
from langchain_hybridflow.graph.slots import TierSlots
from langchain_hybridflow.graph.state import (
    SubtaskOutput,
    SubtaskRecord,
    SubtaskState,
    inputs_hash,
)
from langchain_hybridflow.graph.wave import Wave, WaveRegistry
from langchain_hybridflow.plan import Subtask
from langchain_hybridflow.routing import RouteDecision, RouteRequest, Tier

__all__ = ["SubtaskRunner"]

Update = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class SubtaskRunner:
    """Runs subtasks: what all subtask nodes of one graph share.

    Attributes:
        core: Decides and buys.
        slots: The slots of each tier.
        waves: Where a subtask finds the promises of those it depends on.
        approve_cloud: Whether a person is asked before each cloud call.
        raise_errors: Whether a failed subtask ends the run.
        subtask_timeout_s: Longest model call, in seconds.
        clock: Seconds since the epoch, for records.
    """

    core: RoutingCore
    slots: dict[Tier, TierSlots]
    waves: WaveRegistry
    approve_cloud: bool = False
    raise_errors: bool = False
    subtask_timeout_s: float | None = None
    clock: Callable[[], float] = field(default=time.time)

    def node(self, name: str) -> Node:
        """Build the node of a subtask: its subgraph, with a guard around it.

        Whatever happens inside, nobody is left waiting for a result that will not come.
        """
        subgraph = self._subgraph(name)

        def run(state: SubtaskState, config: RunnableConfig) -> Any:
            with self._member(state["packet"]):
                return subgraph.invoke(state, config)

        async def arun(state: SubtaskState, config: RunnableConfig) -> Any:
            with self._member(state["packet"]):
                return await subgraph.ainvoke(state, config)

        return Node(run, arun)

    @contextmanager
    def _member(self, packet: Mapping[str, Any]) -> Iterator[None]:
        self.waves.enter(packet["wave"])
        try:
            yield
        except GraphInterrupt:  # the siblings go on
            self.waves.end_run(packet["run_id"])
            raise
        except BaseException:
            self.waves.abandon(packet["wave"])
            raise
        finally:
            self._depart(packet)

    def _subgraph(self, name: str) -> CompiledStateGraph[Any, Any, Any, Any]:
        graph = StateGraph(SubtaskState, output_schema=SubtaskOutput)
        graph.add_node("route", self._scripted(self._route))
        graph.add_node("edge", self._scripted(partial(self._ask, "edge")))
        graph.add_node("cloud", self._scripted(partial(self._ask, "cloud")))
        graph.add_edge(START, "route")
        after = Node(_next, _anext)
        graph.add_conditional_edges("route", after, ["edge", "cloud", END])
        graph.add_conditional_edges("edge", after, [*self._fallbacks("edge"), END])
        graph.add_conditional_edges("cloud", after, [*self._fallbacks("cloud"), END])
        return graph.compile(name=name)

    def _fallbacks(self, tier: Tier) -> list[Tier]:
        if tier == "edge":
            return ["cloud"] if self.core.on_edge_error == "fallback" else []
        degrades = self.approve_cloud or self.core.budget.on_exhausted == "edge"
        return ["edge"] if degrades or self.core.on_cloud_error == "fallback" else []

    def _scripted(self, script: Callable[[SubtaskState], Script[Update]]) -> Node:
        def run(state: SubtaskState, config: RunnableConfig) -> Update:
            def call(step: Call) -> ChatResult:
                message = step.target.model.invoke(
                    step.messages, _call_config(config, state, step), **step.options
                )
                return ChatResult(generations=[ChatGeneration(message=message)])

            return drive(script(state), call)

        async def arun(state: SubtaskState, config: RunnableConfig) -> Update:
            async def call(step: Call) -> ChatResult:
                message = await step.target.model.ainvoke(
                    step.messages, _call_config(config, state, step), **step.options
                )
                return ChatResult(generations=[ChatGeneration(message=message)])

            return await adrive(script(state), call)

        return Node(run, arun)

    def _depart(self, packet: Mapping[str, Any]) -> None:
        wave = self.waves.get(packet["wave"])
        if wave is None:
            return
        work = packet["work"] or wave.slot(packet["slot"]).value
        if work is not None:
            wave.result(work["subtask"]["id"]).keep(None)
        self.waves.leave(wave.id)

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
        parents: dict[str, Any] = {}
        for parent_id in subtask.depends_on:
            parent = packet["results"].get(parent_id) or (yield wave.result(parent_id))
            if parent is None:
                return _YIELD  # interrupted: it will be there in a later wave
            parents[parent_id] = parent
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
        work |= {
            "answers": answers,
            "inputs_hash": fingerprint,
            "ready_at": ready_at,
            "parent_tiers": [parent["tier"] for parent in parents.values()],
            "kept_local": kept_local,
            "attempts": [],
        }
        request = self._request(subtask, work, packet["question"])
        try:
            decision = yield from self.core.decide(request, run=wave.run)
        except (CapabilityError, PolicyViolation) as error:
            if self.raise_errors:
                raise SubtaskError(subtask.id, describe_error(error)) from error
            record = barred(subtask, error, inputs_hash=fingerprint, now=ready_at)
            return self._deliver(wave, record)
        emit("routed", subtask, tier=decision.tier, reason=decision.reason)
        work["decision"] = decision.model_dump(mode="json")
        return {"work": work, "next": decision.tier}

    def _request(self, subtask: Subtask, work: Update, question: str) -> RouteRequest:
        answers = work["answers"]
        return request_of(
            subtask_messages(subtask, question=question, answers=answers),
            self.core.options,
            read_options=self.core.policy is not None,
            text=subtask.task,
            kept_local=work["kept_local"],
            prompt_tokens=prompt_tokens(subtask, question=question, answers=answers),
            subtask_id=subtask.id,
            role=subtask.role,
            difficulty=subtask.difficulty,
            expected_output_tokens=subtask.expected_output_tokens,
            depth=work["depth"],
            fan_in=len(subtask.depends_on),
            fan_out=work["fan_out"],
            on_critical_path=work["on_critical_path"],
            parent_tiers=tuple(work["parent_tiers"]),
        )

    def _ask(self, tier: Tier, state: SubtaskState) -> Script[Update]:
        """Buy the answer from one tier, or say who is to be asked instead."""
        packet, work = state["packet"], state["work"]
        subtask = Subtask.model_validate(work["subtask"])
        wave = self.waves.get(packet["wave"])
        # A sibling that goes on while a person is asked keeps its own account and clock.
        run = wave.run if wave is not None else self.waves.run(packet["run_id"], self.core.budget)
        started_at = self.clock()
        decision = self._narrowed(subtask, work, packet["question"])
        work = work | {"decision": decision.model_dump(mode="json")}
        try:
            if tier not in decision.allowed:
                stopped = PolicyViolation(decision.reason, allowed=decision.allowed)
                raise AttemptFailed(self.core.refusal(tier, stopped), stopped)
            if tier == "cloud" and self.approve_cloud:
                self._ask_person(subtask, work["decision"])
            purchase, started_at = yield from self._buy(
                tier, subtask, work, packet["question"], run
            )
        except AttemptFailed as failed:
            attempts = [*work["attempts"], failed.attempt.model_dump(mode="json")]
            tried = [attempt["tier"] for attempt in attempts]
            following = self.core.next_tier(failed, tried=tried, allowed=decision.allowed)
            if following is not None:
                emit("redirected", subtask, tier=following, reason=failed.attempt.error)
                return {"work": work | {"attempts": attempts}, "next": following}
            if self.raise_errors:
                raise SubtaskError(
                    subtask.id, failed.attempt.error or "no answer"
                ) from failed.error
            record = self._record(work, attempts, started_at, failed.attempt, None)
        else:
            attempts = [*work["attempts"], purchase.attempt.model_dump(mode="json")]
            record = self._record(work, attempts, started_at, purchase.attempt, purchase.message)
        return self._deliver(wave, record)

    def _narrowed(self, subtask: Subtask, work: Update, question: str) -> RouteDecision:
        """Read the decision, which may be from another process, and ask the policy anew."""
        decision = RouteDecision.model_validate(work["decision"])
        if self.core.policy is None:
            return decision
        request = self._request(subtask, work, question)
        return narrowed(decision, request, policy=self.core.policy)

    def _buy(
        self, tier: Tier, subtask: Subtask, work: Update, question: str, run: RunBudget
    ) -> Script[tuple[Purchase, float]]:
        messages = subtask_messages(subtask, question=question, answers=work["answers"])
        slots = self.slots[tier]
        try:
            yield slots.turn(urgency=work["urgency"], timeout_s=run.remaining_s())
        except DeadlineExceeded as late:
            raise AttemptFailed(self.core.refusal(tier, late), late) from late
        try:
            started_at = self.clock()
            emit("started", subtask, tier=tier)
            purchase = yield from self.core.attempt(
                tier,
                messages,
                run=run,
                lease_id=f"{subtask.id}/{len(work['attempts'])}-{tier}/{uuid.uuid4().hex[:8]}",
                timeout_s=_least(self.subtask_timeout_s, run.remaining_s()),
            )
        finally:
            slots.leave()
        if not purchase.message.text.strip():
            raise _no_text(purchase)
        return purchase, started_at

    def _ask_person(self, subtask: Subtask, decision: Mapping[str, Any]) -> None:
        """Interrupt the run until a person has approved the cloud call; raise if they do not."""
        target = self.core.models["cloud"]
        verdict = interrupt(
            {
                "type": "approve_cloud",
                "subtask_id": subtask.id,
                "task": subtask.task,
                "model": target.name,
                "reason": decision["reason"],
                "expected_cost_usd": decision["expected_cost_usd"],
                "resume_with": {"approve": True},
            }
        )
        if not _approved(verdict):
            declined = CloudDeclined(subtask.id)
            raise AttemptFailed(self.core.refusal("cloud", declined), declined)

    def _record(
        self,
        work: Update,
        attempts: list[dict[str, Any]],
        started_at: float,
        last: Attempt,
        message: AIMessage | None,
    ) -> SubtaskRecord:
        made = [Attempt.model_validate(attempt) for attempt in attempts]
        cost = total_cost(made)
        refused = any(attempt.status == "refused" for attempt in made)
        return SubtaskRecord(
            id=work["subtask"]["id"],
            status="failed" if message is None else "ok",
            answer=None if message is None else message.text,
            error=None if message else "; ".join(f"{one.tier}: {one.error}" for one in made),
            tier=None if message is None else last.tier,
            model=None if message is None else last.model,
            decision=work["decision"],
            attempts=attempts,
            cost_usd=None if cost is None else str(cost),
            input_tokens=sum(attempt.input_tokens for attempt in made),
            output_tokens=sum(attempt.output_tokens for attempt in made),
            degraded=message is not None and last.tier == "edge" and refused,
            kept_local=work["decision"]["kept_local"],
            ready_at=work["ready_at"],
            started_at=started_at,
            ended_at=self.clock(),
            message_id=None if message is None else message.id,
            inputs_hash=work["inputs_hash"],
        )

    def _deliver(self, wave: Wave | None, record: SubtaskRecord) -> Update:
        """Let the dependents go on at once, and write the record to the run's state."""
        if wave is not None:
            wave.result(record["id"]).keep(dict(record))
        get_stream_writer()({"event": "finished", **summary(record)})
        return {"results": {record["id"]: record}, "next": ""}


_YIELD: Update = {"next": ""}


def _next(state: SubtaskState, config: RunnableConfig) -> str:  # noqa: ARG001 - a node's face
    return state["next"] or END


async def _anext(state: SubtaskState, config: RunnableConfig) -> str:  # noqa: ARG001 - likewise
    return state["next"] or END


def emit(event: str, subtask: Subtask, **facts: Any) -> None:
    """Tell the custom stream what happens to a subtask."""
    get_stream_writer()({"event": event, "subtask_id": subtask.id, **facts})


def _no_text(purchase: Purchase) -> AttemptFailed:
    """An answer without text was paid for, and is none: the other tier may give a better one."""
    reason = purchase.message.response_metadata.get("finish_reason")
    hint = "; raise max_output_tokens" if reason == "length" else ""
    error = ModelCallError(
        f"the model returned no text (finish reason: {reason or 'not given'}{hint})",
        tier=purchase.attempt.tier,
    )
    failed = purchase.attempt.model_copy(update={"status": "failed", "error": str(error)})
    return AttemptFailed(failed, error)


def _approved(verdict: object) -> bool:
    if isinstance(verdict, Mapping):
        verdict = verdict.get("approve")
    return verdict is True or verdict in ("approve", "yes", "cloud")


def _least(*limits_s: float | None) -> float | None:
    return min((limit for limit in limits_s if limit is not None), default=None)


def _call_config(config: RunnableConfig, state: SubtaskState, step: Call) -> RunnableConfig:
    subtask, tier = state["work"]["subtask"], step.target.tier
    tags = [f"hybridflow:{tier}", f"hybridflow:{subtask['role']}"]
    metadata = {
        "hybridflow_subtask": subtask["id"],
        "hybridflow_role": subtask["role"],
        "hybridflow_tier": tier,
    }
    return {
        **config,
        "run_name": f"{subtask['role']} {subtask['id']} on {tier}",
        "tags": [*config.get("tags", ()), *tags],
        "metadata": {**config.get("metadata", {}), **metadata},
    }
