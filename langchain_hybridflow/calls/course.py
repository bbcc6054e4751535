"""One routed call under way: from one tier to the next, until there is an answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from langchain_core.messages import BaseMessage

from langchain_hybridflow.budget import RunBudget
from langchain_hybridflow.calls.buying import AttemptFailed
from langchain_hybridflow.calls.deciding import narrowed
from langchain_hybridflow.calls.helping import Offer
from langchain_hybridflow.calls.observing import tell_decision, tell_move
from langchain_hybridflow.calls.steps import Script, Show
from langchain_hybridflow.calls.types import Answer, Attempt, Purchase, tiers_tried
from langchain_hybridflow.calls.verifying import Desk, logprobs_of
from langchain_hybridflow.errors import ModelCallError
from langchain_hybridflow.routing import RouteDecision, RouteRequest, Tier
from langchain_hybridflow.telemetry import OpenSpan, names

if TYPE_CHECKING:
    from langchain_hybridflow.calls.core import RoutingCore

__all__ = ["Course", "final_error"]


@dataclass(slots=True, kw_only=True)
class Course:
    """One call under way: what was decided and bought so far.

    Attributes:
        core: Knows the rules.
        request: What is asked, as the filters and the router see it.
        messages: The prompt.
        run: The account that pays.
        lease_id: Start of the identities of the purchases.
        options: Call options in neutral form.
        span: The call's own.
        asides: What was bought and is not the answer, or not yet.
        attempts: The records of all calls.
        held: An edge answer that the verifier did not accept.
        asking: An edge reply that asked for help.
        given: The answer.
        decision: Who is to answer, and why.
    """

    core: RoutingCore
    request: RouteRequest
    messages: list[BaseMessage]
    run: RunBudget
    lease_id: str
    options: dict[str, Any]
    span: OpenSpan
    asides: list[Purchase]
    attempts: list[Attempt] = field(default_factory=list)
    held: Purchase | None = None
    asking: Purchase | None = None
    given: Purchase | None = None
    decision: RouteDecision = field(init=False)

    def answer(self) -> Script[Answer]:
        """Ask one tier after the other, until there is an answer."""
        decision = yield from self.core.decide(self.request, run=self.run)
        self.decision = self.core.on_terms(decision, self.options)
        tell_decision(self.span, self.decision)
        tier: Tier | None = self.decision.tier
        while tier is not None:
            failed: AttemptFailed | None = None
            try:
                tier = yield from self._ask(tier)
            except AttemptFailed as caught:
                failed = caught
            if failed is not None:  # not while it is handled: what is raised comes from its cause
                tier = self._after(failed)
        if self.given is None:
            raise AssertionError("a call ends with an answer or an error")
        yield Show(self.given.unshown)
        others = tuple(aside for aside in self.asides if aside is not self.given)
        return Answer(self.decision, tuple(self.attempts), self.given, others)

    def _ask(self, tier: Tier) -> Script[Tier | None]:
        """Buy from a tier, and look at what it says; return who is to be asked next, if anybody."""
        core, decision = self.core, self.decision
        doubted = core.doubts(tier, allowed=decision.allowed, attempts=self.attempts)
        before = self.asking.reply if self.asking else None
        offer = core.offer(
            tier, decision, options=self.options, attempts=self.attempts, before=before
        )
        messages = self._handed_over() if tier == "cloud" else self.messages
        purchase = yield from core.ask(
            tier,
            messages,
            offer=offer,
            run=self.run,
            lease_id=f"{self.lease_id}/{len(self.attempts)}-{tier}",
            options=core.asking(tier, self.options) if doubted else self.options,
            shown=not doubted,
            prompt_tokens=None if messages is not self.messages else self.request.prompt_tokens,
            role=self.request.role,
            parent=self.span,
        )
        if purchase.attempt.asked:
            following = self._asked(purchase)  # first: the reader may leave at the next step
            if offer is not None:
                yield Show(offer.reading.voided())
            return following
        if doubted:
            return (yield from self._verified(purchase, offer))
        self.given = core.unseen(purchase)
        self.attempts.append(self.given.attempt)
        return None

    def _handed_over(self) -> list[BaseMessage]:
        """The prompt for the cloud: with the edge's notes, if it asked and they may go along."""
        reply = self.asking.reply if self.asking else None
        if reply is None:
            return self.messages
        messages, stays = self.core.handed_over(self.messages, reply, request=self.request)
        self._note(stays)
        return self.messages if messages == self.messages else messages

    def _note(self, fact: str) -> None:
        if fact:
            reason = f"{self.decision.reason}; {fact}"
            self.decision = self.decision.model_copy(update={"reason": reason})

    def _asked(self, purchase: Purchase) -> Tier:
        """The edge asks for help: the cloud is next, unless the policy says otherwise by now."""
        self.asides.append(purchase)
        self.attempts.append(purchase.attempt)
        self.asking = purchase
        self.decision = narrowed(self.decision, self.request, policy=self.core.policy)
        if "cloud" not in self.decision.allowed:
            return "edge"
        tell_move(self.span, names.ESCALATION_EVENT, "cloud")
        return "cloud"

    def _verified(self, purchase: Purchase, offer: Offer | None) -> Script[Tier | None]:
        """Let the verifier look at an edge answer, and ask the cloud if it will not do."""
        core, place = self.core, len(self.asides)
        self.asides.append(purchase)  # until it is accepted
        desk = Desk(
            buyer=core,
            run=self.run,
            lease_id=self.lease_id,
            request=self.request,
            policy=core.policy,
            options={**core.options, **self.options},
            parent=self.span,
            purchases=self.asides,
        )
        verdict = yield from core.check(
            purchase.message,
            self.request,
            self.messages,
            logprobs=logprobs_of(purchase.result),
            desk=desk,
        )
        self.asides[place] = self.held = purchase.noted(**verdict.facts())
        self.attempts += [self.held.attempt, *desk.attempts]
        self.decision = narrowed(self.decision, self.request, policy=core.policy)
        if verdict.accept or "cloud" not in self.decision.allowed:
            self.given = self.held
            return None
        if offer is not None:
            yield Show(offer.reading.voided())
        tell_move(self.span, names.ESCALATION_EVENT, "cloud")
        return "cloud"

    def _after(self, failed: AttemptFailed) -> Tier | None:
        """Say who is to be asked after a failed attempt; nobody, if there is an answer that stands.

        Raises:
            Exception: Nobody may.
        """
        core = self.core
        self.attempts.append(failed.attempt)
        if failed.purchase is not None:
            self.asides.append(failed.purchase)
        if self.held is not None and core.stands(failed):
            self.given = self.held
            return None
        # Another tier is another purchase: the policy is asked anew.
        self.decision = narrowed(self.decision, self.request, policy=core.policy)
        following = core.next_tier(
            failed, tried=tiers_tried(self.attempts), allowed=self.decision.allowed
        )
        if following is None:
            raise final_error(self.attempts, failed)
        tell_move(self.span, names.FALLBACK_EVENT, following, failed.error)
        return following


def final_error(attempts: Sequence[Attempt], failed: AttemptFailed) -> Exception:
    """Choose the error that the caller of a routed call gets to see."""
    if sum(not attempt.asked for attempt in attempts) <= 1 and not failed.begun:
        return failed.error  # whoever asked for help has not failed
    tried = "; ".join(
        f"{attempt.tier} asked for help"
        if attempt.asked and attempt.status == "ok"
        else f"{attempt.tier} {attempt.status}: {attempt.error}"
        for attempt in attempts
    )
    streamed = f" after {len(failed.partial_text)} streamed characters" if failed.begun else ""
    error = ModelCallError(
        f"No tier could answer{streamed}. {tried}. Check that the servers are up and the keys "
        f"are right, or raise the budget.",
        tier=attempts[-1].tier,
        partial_text=failed.partial_text,
    )
    error.__cause__ = failed.error
    return error
