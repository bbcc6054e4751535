"""What becomes of a subtask once it is routed: bought, looked at, sent on, written down.

The functions that do the work are scripts (see `langchain_hybridflow.calls.steps`): one piece of
logic, driven blocking or awaiting.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage
from langgraph.config import get_stream_writer
from langgraph.types import interrupt

from langchain_hybridflow.budget import RunBudget
from langchain_hybridflow.calls import (
    Attempt,
    AttemptFailed,
    Purchase,
    narrowed,
)
from langchain_hybridflow.calls.asking import is_approval
from langchain_hybridflow.calls.buying import least
from langchain_hybridflow.calls.helping import Offer
from langchain_hybridflow.calls.observing import tell_move
from langchain_hybridflow.calls.scoping import tag_here
from langchain_hybridflow.calls.steps import Script
from langchain_hybridflow.calls.types import tiers_tried
from langchain_hybridflow.calls.verifying import Desk
from langchain_hybridflow.errors import (
    CloudDeclined,
    DeadlineExceeded,
    PolicyViolation,
    SubtaskError,
)
from langchain_hybridflow.graph.packets import works_of
from langchain_hybridflow.graph.prompts import subtask_messages
from langchain_hybridflow.graph.records import (
    asked,
    held_answer,
    no_text,
    noted_reply,
    reply_of,
    summary,
)
from langchain_hybridflow.graph.requests import subtask_request
from langchain_hybridflow.graph.setups import Equipped
from langchain_hybridflow.graph.showing import show_held
from langchain_hybridflow.graph.slots import TierSlots
from langchain_hybridflow.graph.state import (
    SubtaskRecord,
    SubtaskState,
    unfinished,
)
from langchain_hybridflow.graph.timeline import Timeline
from langchain_hybridflow.graph.timing import TimeBox
from langchain_hybridflow.graph.wave import Wave, WaveRegistry
from langchain_hybridflow.plan import Plan, Subtask
from langchain_hybridflow.routing import PlanRouter, RouteDecision, RouteRequest, Tier
from langchain_hybridflow.telemetry import names

__all__ = ["SubtaskAnswerer", "Update", "emit"]

Update = dict[str, Any]
"""What a node writes to the state."""


@dataclass(frozen=True, kw_only=True)
class SubtaskAnswerer(Equipped):
    """Gets a subtask answered: what all subtask nodes of one graph share.

    Attributes:
        setups: Who decides and buys, and by which rules.
        slots: The slots of each tier.
        waves: Where a subtask finds the promises of those it depends on.
        raise_errors: Whether a failed subtask ends the run.
        subtask_timeout_s: Longest model call, in seconds.
        clock: Seconds since the epoch, for records.
    """

    slots: dict[Tier, TierSlots]
    waves: WaveRegistry
    raise_errors: bool = False
    subtask_timeout_s: float | None = None
    clock: Callable[[], float] = field(default=time.time)

    def _request(self, subtask: Subtask, work: Update, question: str) -> RouteRequest:
        return subtask_request(subtask, work, question=question, core=self.core, tag=tag_here())

    def plan_ahead(
        self,
        wave_id: str,
        plan: Plan,
        results: Mapping[str, SubtaskRecord],
        *,
        question: str,
        kept_local: bool,
    ) -> Script[None]:
        """Let the router decide on all of a plan that is still to do, if it is one that can.

        Nobody knows the answers yet that subtasks build on: they count with their planned length.
        """
        wave = self.waves.get(wave_id)
        if wave is None or not isinstance(self.core.router, PlanRouter):
            return
        works = works_of(plan)
        requests: dict[str, RouteRequest] = {}
        for one in unfinished(plan, question, results):
            parents = plan[one].depends_on
            done = {parent: results[parent] for parent in parents if parent in results}
            known = {
                "answers": dict.fromkeys(parents, "")
                | {parent: record["answer"] or "" for parent, record in done.items()},
                "parent_tiers": [record["tier"] for record in done.values() if record["tier"]],
                "kept_local": kept_local or any(record["kept_local"] for record in done.values()),
            }
            request = self._request(plan[one], works[one] | known, question)
            to_come = sum(plan[it].expected_output_tokens for it in parents if it not in done)
            requests[one] = replace(request, prompt_tokens=request.prompt_tokens + to_come)
        wave.planned = yield from self.core.decide_plan(plan, requests, run=wave.run)

    def _ask(self, tier: Tier, state: SubtaskState) -> Script[Update]:
        """Buy the answer from one tier, or say who is to be asked instead."""
        packet, work = state["packet"], state["work"]
        subtask = Subtask.model_validate(work["subtask"])
        wave, run = self._wave_and_run(packet)
        started_at = self.clock()
        decision = self._narrowed(subtask, work, packet["question"])
        work = work | {"decision": decision.model_dump(mode="json")}
        work["timeline"] = [*work.get("timeline", ())]  # of its own: a node may be run again
        tried = [Attempt.model_validate(attempt) for attempt in work["attempts"]]
        doubted = self.core.doubts(tier, allowed=decision.allowed, attempts=tried)
        offer = self.core.offer(
            tier, decision, options={}, attempts=tried, before=reply_of(work.get("asking"))
        )
        try:
            if tier not in decision.allowed:
                stopped = PolicyViolation(decision.reason, allowed=decision.allowed)
                raise AttemptFailed(self.core.refusal(tier, stopped), stopped)
            if tier == "cloud" and self._asks(packet) and not _has_asked(work, "cloud"):
                self._ask_person(subtask, work["decision"])
            purchase, started_at = yield from self._buy(
                tier, subtask, work, packet["question"], run, doubted=doubted, offer=offer
            )
        except AttemptFailed as failed:
            return self._not_bought(tier, packet, work, failed, decision.allowed, started_at)
        if purchase.attempt.asked:
            return self._asked_for_help(packet, work, purchase)
        purchase = purchase if doubted else self.core.unseen(purchase)
        attempts = [*work["attempts"], purchase.attempt.model_dump(mode="json")]
        if doubted or offer is not None:  # it was shown to nobody so far
            held = held_answer(purchase, len(work["attempts"]), started_at)
            work = work | {"attempts": attempts, "held": held}
            if doubted:
                return {"work": work, "next": "verify"}
            return self._deliver_held(wave, work, attempts)
        answer = purchase.message
        record = asked(
            work, attempts, purchase.attempt, answer, started_at=started_at, now=self.clock()
        )
        return self._deliver(wave, record)

    def _asked_for_help(
        self, packet: Mapping[str, Any], work: Update, purchase: Purchase
    ) -> Update:
        """Send the subtask on: the edge asks for help, and has said what it has found."""
        subtask = Subtask.model_validate(work["subtask"])
        attempts = [*work["attempts"], purchase.attempt.model_dump(mode="json")]
        work = work | {"attempts": attempts, "asking": noted_reply(purchase)}
        decision = self._narrowed(subtask, work, packet["question"])
        work = work | {"decision": decision.model_dump(mode="json")}
        if "cloud" not in decision.allowed:
            emit("redirected", subtask, tier="edge", reason=decision.reason)
            return {"work": work, "next": "edge"}
        emit("asked", subtask, tier="cloud", reason="the edge asked for help")
        span = self.spans.subtask(packet["run_id"], subtask)
        tell_move(span, names.ESCALATION_EVENT, "cloud")
        return {"work": work, "next": "cloud"}

    def _not_bought(
        self,
        tier: Tier,
        packet: Mapping[str, Any],
        work: Update,
        failed: AttemptFailed,
        allowed: Sequence[Tier],
        started_at: float,
    ) -> Update:
        """Keep the answer that is there, send the subtask to the other tier, or let it fail."""
        wave = self.waves.get(packet["wave"])
        attempts = [*work["attempts"], failed.attempt.model_dump(mode="json")]
        if work.get("held") and self.core.stands(failed):
            return self._deliver_held(wave, work, attempts)
        if tier == "cloud" and isinstance(failed.error, DeadlineExceeded):
            work = work | {"late": True}
        made = [Attempt.model_validate(attempt) for attempt in attempts]
        following = self.core.next_tier(failed, tried=tiers_tried(made), allowed=allowed)
        subtask = Subtask.model_validate(work["subtask"])
        if following is not None:
            emit("redirected", subtask, tier=following, reason=failed.attempt.error)
            span = self.spans.subtask(packet["run_id"], subtask)
            tell_move(span, names.FALLBACK_EVENT, following, failed.error)
            return {"work": work | {"attempts": attempts}, "next": following}
        if self.raise_errors:
            raise SubtaskError(subtask.id, failed.attempt.error or "no answer") from failed.error
        record = asked(
            work, attempts, failed.attempt, None, started_at=started_at, now=self.clock()
        )
        return self._deliver(wave, record)

    def _verify(self, state: SubtaskState) -> Script[Update]:
        """Let the verifier look at the edge's answer, and send the subtask on if it will not do."""
        packet, work = state["packet"], state["work"]
        work = work | {"timeline": [*work.get("timeline", ())]}
        subtask = Subtask.model_validate(work["subtask"])
        wave, run = self._wave_and_run(packet)
        held = work["held"]
        request = self._request(subtask, work, packet["question"])
        desk = Desk(
            buyer=self.core,
            run=run,
            request=request,
            policy=self.core.policy,
            lease_id=f"{subtask.id}/{uuid.uuid4().hex[:8]}",
            options=self.core.options,
            turn=partial(self._in_turn, subtask, work, run, asks=self._asks(packet)),
            parent=self.spans.subtask(run.run_id, subtask),
        )
        verdict = yield from self.core.check(
            AIMessage(held["text"], id=held["message_id"]),
            request,
            subtask_messages(subtask, question=packet["question"], answers=work["answers"]),
            logprobs=None if held["logprobs"] is None else tuple(held["logprobs"]),
            desk=desk,
        )
        attempts = [*work["attempts"]]
        attempts[held["attempt"]] |= verdict.facts()
        attempts += [attempt.model_dump(mode="json") for attempt in desk.attempts]
        work = work | {"attempts": attempts}
        decision = self._narrowed(subtask, work, packet["question"])
        if verdict.accept or "cloud" not in decision.allowed:
            return self._deliver_held(wave, work, attempts)
        emit("escalated", subtask, tier="cloud", reason=verdict.reason, score=verdict.score)
        tell_move(self.spans.subtask(run.run_id, subtask), names.ESCALATION_EVENT, "cloud")
        return {"work": work, "next": "cloud"}

    def _in_turn(
        self,
        subtask: Subtask,
        work: Update,
        run: RunBudget,
        tier: Tier,
        script: Script[Purchase],
        *,
        asks: bool,
    ) -> Script[Purchase]:
        """Run a purchase of a verifier when it is approved, and the tier has a slot for it."""
        if tier == "cloud" and asks and not _has_asked(work, "verify"):
            reason = "to verify the answer of the edge"
            self._ask_person(subtask, {"reason": reason, "expected_cost_usd": None})
        slots, timeline = self.slots[tier], Timeline(work["timeline"], clock=self.clock)
        timeline.note("queued", tier=tier, purpose="verify")
        yield slots.turn(urgency=work["urgency"], timeout_s=run.remaining_s())
        try:
            return (yield from timeline.of_call(script, tier=tier, purpose="verify"))
        finally:
            slots.leave()

    def _wave_and_run(self, packet: Mapping[str, Any]) -> tuple[Wave | None, RunBudget]:
        wave = self.waves.get(packet["wave"])
        # A sibling that goes on while a person is asked keeps its own account and clock.
        return wave, wave.run if wave else self.waves.run(packet["run_id"], self.core.budget)

    def _narrowed(self, subtask: Subtask, work: Update, question: str) -> RouteDecision:
        """Read the decision, which may be from another process, and ask the policy anew."""
        decision = RouteDecision.model_validate(work["decision"])
        if self.core.policy is None:
            return decision
        request = self._request(subtask, work, question)
        return narrowed(decision, request, policy=self.core.policy)

    def _buy(
        self,
        tier: Tier,
        subtask: Subtask,
        work: Update,
        question: str,
        run: RunBudget,
        *,
        doubted: bool,
        offer: Offer | None,
    ) -> Script[tuple[Purchase, float]]:
        messages = self._messages(tier, subtask, work, question)
        slots = self.slots[tier]
        self._time_box(tier, work, run)  # nobody stands in line for nothing
        timeline = Timeline(work["timeline"], clock=self.clock)
        timeline.note("queued", tier=tier)
        try:
            yield slots.turn(urgency=work["urgency"], timeout_s=run.remaining_s())
        except DeadlineExceeded as late:
            raise AttemptFailed(self.core.refusal(tier, late), late) from late
        begun_s = run.elapsed_s()
        try:
            box = self._time_box(tier, work, run)
            started_at = self.clock()
            emit("started", subtask, tier=tier)
            bought = self.core.ask(
                tier,
                messages,
                offer=offer,
                run=run,
                lease_id=f"{subtask.id}/{len(work['attempts'])}-{tier}/{uuid.uuid4().hex[:8]}",
                options=self.core.asking(tier, None) if doubted else None,
                timeout_s=least(self.subtask_timeout_s, box.limit_s),
                shown=not doubted,
                role=subtask.role,
                parent=self.spans.subtask(run.run_id, subtask),
            )
            purchase = yield from timeline.of_call(bought, tier=tier)
        except AttemptFailed as failed:
            if isinstance(failed.error, DeadlineExceeded) and failed.attempt.status == "failed":
                self.times.note(tier, run.elapsed_s() - begun_s)
            raise
        finally:
            slots.leave()
        if not purchase.cached:
            self.times.note(tier, run.elapsed_s() - begun_s)
        if not (purchase.attempt.asked or purchase.message.text.strip()):
            raise no_text(purchase)
        return purchase, started_at

    def _messages(
        self, tier: Tier, subtask: Subtask, work: Update, question: str
    ) -> list[BaseMessage]:
        """The prompt; for the cloud with the notes of an edge that has asked for its help."""
        messages = subtask_messages(subtask, question=question, answers=work["answers"])
        reply = reply_of(work.get("asking"))
        if tier == "edge" or reply is None:
            return messages
        request = self._request(subtask, work, question)
        return self.core.handed_over(messages, reply, request=request)[0]

    def _time_box(self, tier: Tier, work: Update, run: RunBudget) -> TimeBox:
        """Say how long the call may take; refuse the cloud if it would be late and the edge not."""
        edge_follows = (
            self.core.on_cloud_error == "fallback"
            and "edge" in work["decision"]["allowed"]
            and all(one["tier"] != "edge" or one.get("asked") for one in work["attempts"])
        )
        box = TimeBox.of(
            tier,
            work,
            remaining_s=run.remaining_s(),
            times=self.times,
            edge_follows=edge_follows,
        )
        if not box.fits:
            late = DeadlineExceeded(
                f"A call of {self.core.models[tier].name}",
                box.limit_s or 0.0,
                expected_s=self.times.expected_s(tier),
            )
            raise AttemptFailed(self.core.refusal(tier, late), late)
        return box

    def _asks(self, packet: Mapping[str, Any]) -> bool:
        """Whether a person is asked: a run that began so goes on so, whoever resumes it."""
        return bool(packet.get("approve_cloud")) or self.approve_cloud

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
        if not is_approval(verdict):
            declined = CloudDeclined(subtask.id)
            raise AttemptFailed(self.core.refusal("cloud", declined), declined)

    def _deliver_held(
        self, wave: Wave | None, work: Update, attempts: list[dict[str, Any]]
    ) -> Update:
        """Show the edge answer that was held back, and let the subtask keep it."""
        held = work["held"]
        last = Attempt.model_validate(attempts[held["attempt"]])
        message = AIMessage(held["text"], id=held["message_id"])
        show_held(work, last.model)
        record = asked(
            work, attempts, last, message, started_at=held["started_at"], now=self.clock()
        )
        return self._deliver(wave, record)

    def _deliver(self, wave: Wave | None, record: SubtaskRecord) -> Update:
        """Let the dependents go on at once, and write the record to the run's state."""
        if wave is not None:
            wave.result(record["id"]).keep(dict(record))
        get_stream_writer()({"event": "finished", **summary(record)})
        return {"results": {record["id"]: record}, "next": ""}


def emit(event: str, subtask: Subtask, **facts: Any) -> None:
    """Tell the custom stream what happens to a subtask."""
    get_stream_writer()({"event": event, "subtask_id": subtask.id, **facts})


def _has_asked(work: Update, node: str) -> bool:
    """Whether a node is run again because its purchase, approved already, was more than fits."""
    return bool((work.get("question") or {}).get("node") == node)
