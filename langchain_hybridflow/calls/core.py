"""The routing core: decide -> reserve -> call -> commit | release, for a call of any kind.

`RoutedChatModel` and the subtask nodes of a graph both stand on this one class. It does no IO:
its methods are scripts, see `steps`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from langchain_core.messages import AIMessage, BaseMessage

from langchain_hybridflow.budget import RunBudget
from langchain_hybridflow.calls.buying import AttemptFailed
from langchain_hybridflow.calls.course import Course, final_error
from langchain_hybridflow.calls.observing import route_span, tell_answer
from langchain_hybridflow.calls.offering import Offerer
from langchain_hybridflow.calls.steps import Script
from langchain_hybridflow.calls.types import Answer, Attempt, Purchase
from langchain_hybridflow.calls.verifying import (
    BuyingVerifier,
    Desk,
    OnVerifyError,
    Verdict,
    Verifier,
    VerifyRequest,
    judge,
)
from langchain_hybridflow.errors import (
    BudgetExceeded,
    CloudDeclined,
    ConfigurationError,
    LedgerError,
    PolicyViolation,
    UnknownPriceError,
)
from langchain_hybridflow.routing import RouteRequest, Tier

__all__ = ["OnError", "RoutingCore", "final_error", "other_tier"]

OnError: TypeAlias = Literal["fallback", "raise"]

_OUR_FAULT = (ConfigurationError, LedgerError, UnknownPriceError)
"""Errors that another tier would not cure, and that must not be hidden behind one."""


def other_tier(tier: Tier) -> Tier:
    """Return the tier that is not this one."""
    return "edge" if tier == "cloud" else "cloud"


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingCore(Offerer):
    """Both tiers, the router and the budget, and the rules between them.

    Attributes:
        on_edge_error: Whether the cloud may answer when the edge fails.
        on_cloud_error: Whether the edge may answer when the cloud fails.
        verifier: Looks at edge answers, if the cloud may be asked instead.
        on_verify_error: What happens to an edge answer when the verifier fails.
    """

    on_edge_error: OnError = "fallback"
    on_cloud_error: OnError = "fallback"
    verifier: Verifier | BuyingVerifier | None = None
    on_verify_error: OnVerifyError = "accept"

    def next_tier(
        self, failed: AttemptFailed, *, tried: Collection[Tier], allowed: Collection[Tier]
    ) -> Tier | None:
        """Say who may answer after a failed attempt; `None` if nobody may.

        A tier that is not `allowed` never may, whatever the other rules say. Once a part of an
        answer has been streamed nobody may: two models are never spliced.
        """
        tier = failed.attempt.tier
        other = other_tier(tier)
        if other in tried or other not in allowed or failed.begun:
            return None
        if isinstance(failed.error, _OUR_FAULT):
            return None
        if isinstance(failed.error, CloudDeclined | PolicyViolation):
            return other
        if isinstance(failed.error, BudgetExceeded):
            return "edge" if tier == "cloud" and self.budget.on_exhausted != "raise" else None
        rule = self.on_cloud_error if tier == "cloud" else self.on_edge_error
        return other if rule == "fallback" else None

    def answer(
        self,
        request: RouteRequest,
        messages: list[BaseMessage],
        *,
        run: RunBudget,
        lease_id: str,
        options: dict[str, Any] | None = None,
        asides: list[Purchase] | None = None,
    ) -> Script[Answer]:
        """Answer one call: decide once, then buy from the tiers that may answer, in turn.

        An edge answer that the verifier does not accept goes on to the cloud; it stands if the
        cloud is refused, or fails. An edge that asks for help gets it from the cloud; if the cloud
        is refused, or fails, it is asked again with help ruled out.

        Args:
            request: What is asked.
            messages: The prompt.
            run: The account that pays.
            lease_id: Start of the identities of the purchases.
            options: Call options in neutral form.
            asides: Where to note at once what is bought and is not the answer, for a call that
                may end without one.

        Raises:
            ModelCallError: More than one tier was asked and none answered, or a stream broke.
            Exception: The error itself if just one tier was asked.
        """
        with route_span(self.telemetry) as span:
            course = Course(
                core=self,
                request=request,
                messages=messages,
                run=run,
                lease_id=lease_id,
                options=options or {},
                span=span,
                asides=[] if asides is None else asides,
            )
            answer = yield from course.answer()
            tell_answer(span, answer)
        return answer

    def doubts(self, tier: Tier, *, allowed: Collection[Tier], attempts: Iterable[Attempt]) -> bool:
        """Whether a tier's answer is to be looked at: an edge one, if the cloud may follow."""
        if self.verifier is None or tier == "cloud" or "cloud" not in allowed:
            return False
        return not any(
            attempt.tier == "cloud" and attempt.purpose == "answer" for attempt in attempts
        )

    def asking(self, tier: Tier, options: Mapping[str, Any] | None) -> dict[str, Any]:
        """Return the options of a call whose answer is looked at: the verifier may want more."""
        given = dict(options or {})
        if getattr(self.verifier, "reads_logprobs", False):
            top = getattr(self.verifier, "reads_top_logprobs", 0)
            given |= self.models[tier].logprob_options({**self.options, **given}, top=top)
        return given

    def check(
        self,
        answer: AIMessage,
        request: RouteRequest,
        messages: Sequence[BaseMessage],
        *,
        logprobs: tuple[float, ...] | None,
        desk: Desk,
    ) -> Script[Verdict]:
        """Let the verifier look at an edge answer.

        Args:
            answer: The answer.
            request: What was asked, as the router saw it.
            messages: The prompt.
            logprobs: The log-probabilities of the answer's tokens, if there are any.
            desk: Where the verifier buys, and where its purchases are found afterwards.
        """
        if self.verifier is None:
            return Verdict(accept=True)
        asked = VerifyRequest(
            question=request.text,
            messages=messages,
            answer=answer,
            logprobs=logprobs,
            subtask_id=request.subtask_id,
            routed=request,
        )
        return (yield from judge(self.verifier, asked, desk, on_error=self.on_verify_error))

    def unseen(self, purchase: Purchase) -> Purchase:
        """Note on an edge answer that the verifier was not asked, if there is one."""
        if self.verifier is None or purchase.attempt.tier == "cloud":
            return purchase
        return purchase.noted(verdict="not verified: the cloud may not answer instead")

    def stands(self, failed: AttemptFailed) -> bool:
        """Whether an edge answer stands when the cloud, asked for a better one, gave none."""
        return not failed.begun and not isinstance(failed.error, _OUR_FAULT)
