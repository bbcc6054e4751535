"""Offer the edge that it may ask for help instead of answering, and hand over what it has found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.messages import BaseMessage

from langchain_hybridflow.answer_or_ask import Reply
from langchain_hybridflow.calls.buying import AttemptFailed
from langchain_hybridflow.calls.choosing import Chooser
from langchain_hybridflow.calls.helping import Offer, forced_form, form_of, no_help_because
from langchain_hybridflow.calls.sharing import handed_over
from langchain_hybridflow.calls.steps import Script, Show
from langchain_hybridflow.calls.types import Attempt, Purchase
from langchain_hybridflow.routing import HelpTerms, RouteDecision, RouteRequest, Tier, terms_of

__all__ = ["Offerer"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Offerer(Chooser):
    """The part of a `RoutingCore` that lets the edge ask for help; see `SelfRouter`."""

    def on_terms(self, decision: RouteDecision, options: Mapping[str, Any]) -> RouteDecision:
        """Take back that the edge may ask for help, if it may not in a call with these options."""
        if not decision.may_ask:
            return decision
        given = {**self.options, **options}
        form = form_of((terms_of(self.router) or HelpTerms()).form, self.models["edge"], given)
        why = no_help_because(form, self.models["edge"], given)
        if why is None:
            return decision
        reason = f"{decision.reason}; it may not here: {why}"
        return decision.model_copy(update={"may_ask": False, "reason": reason})

    def offer(
        self,
        tier: Tier,
        decision: RouteDecision,
        *,
        options: Mapping[str, Any],
        attempts: Sequence[Attempt],
        before: Reply | None = None,
    ) -> Offer | None:
        """Say what the edge is offered besides answering; `None` for a plain call.

        It may ask once, and only while the cloud can answer. A model that was trained to ask is
        told when it may not.

        Args:
            tier: Who is about to be asked.
            decision: Whether it may ask at all.
            options: Call options in neutral form.
            attempts: What was tried before.
            before: What the edge said when it asked for help.
        """
        terms = terms_of(self.router) or (HelpTerms() if decision.may_ask else None)
        if terms is None or tier != "edge":
            return None
        given = {**self.options, **options}
        form = form_of(terms.form, self.models["edge"], given)
        asked = any(attempt.asked for attempt in attempts)
        tried = any(one.tier == "cloud" and one.purpose == "answer" for one in attempts)
        may_ask = decision.may_ask and "cloud" in decision.allowed and not asked and not tried
        if not may_ask and not asked and form != "trained":
            return None
        structured = forced_form(form, given) is not None
        return Offer.of(form, terms, help=may_ask, structured=structured, before=before)

    def ask(
        self,
        tier: Tier,
        messages: list[BaseMessage],
        *,
        offer: Offer | None,
        options: Mapping[str, Any] | None = None,
        shown: bool = True,
        prompt_tokens: int | None = None,
        **how: Any,
    ) -> Script[Purchase]:
        """Buy one answer from one tier, as `attempt` does, under an offer if there is one.

        Nothing of a reply under an offer is shown while it is being written.

        Raises:
            AttemptFailed: From the error of the model or of the budget, or there is no answer.
        """
        if offer is None:
            given = dict(options or {})
            return (
                yield from self.attempt(
                    tier,
                    messages,
                    options=given,
                    shown=shown,
                    prompt_tokens=prompt_tokens or None,
                    **how,
                )
            )
        try:
            purchase = yield from self.attempt(
                tier,
                offer.prompt(messages),
                options=offer.options({**self.options, **(options or {})}),
                shown=False,
                reading=offer.reading,
                **how,
            )
            purchase = offer.read(purchase)
        except AttemptFailed:
            yield Show(offer.reading.voided())
            raise
        return purchase

    def handed_over(
        self, messages: list[BaseMessage], reply: Reply, *, request: RouteRequest
    ) -> tuple[list[BaseMessage], str]:
        """Return the prompt for the cloud when the edge has asked, and what is not in it, and why.

        Args:
            messages: The prompt.
            reply: What the edge said.
            request: The call, as the policy sees it.
        """
        share = (terms_of(self.router) or HelpTerms()).share_reasoning
        return handed_over(messages, reply, share=share, request=request, policy=self.policy)
