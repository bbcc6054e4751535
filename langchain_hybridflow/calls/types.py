"""The values of one model call: what was tried, what it cost, what it returned."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, Literal

from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from pydantic import BaseModel, ConfigDict

from langchain_hybridflow.answer_or_ask import Reply
from langchain_hybridflow.budget import Usage
from langchain_hybridflow.calls.steps import Call
from langchain_hybridflow.routing import RouteDecision, Tier

__all__ = ["Answer", "Attempt", "Purchase", "degrades", "tiers_tried", "total_cost"]


class Attempt(BaseModel):
    """One try at one tier, successful or not, as it goes into reports and metadata.

    Attributes:
        tier: Who was asked.
        model: The model's name.
        status: "ok"; "failed" if the call went wrong; "refused" if it was never made.
        input_tokens: Prompt tokens.
        output_tokens: Answer tokens.
        usage_estimated: Whether the token counts are ours, because the provider sent none.
        cost_usd: What was charged to the budget, in USD; `None` if the price is unknown.
        error: What went wrong, in one line, without secrets.
        purpose: "answer" to the caller's question, or "verify" one that was given.
        accepted: Whether a verifier was content with the answer; `None` if none looked at it.
        score: What the verifier measured, on its own scale.
        verdict: What the verifier said, or why it was not asked.
        asked: Whether the model asked for help instead of answering; see `SelfRouter`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    tier: Tier
    model: str
    status: Literal["ok", "failed", "refused"]
    input_tokens: int = 0
    output_tokens: int = 0
    usage_estimated: bool = False
    cost_usd: Decimal | None = Decimal(0)
    error: str | None = None
    purpose: Literal["answer", "verify"] = "answer"
    accepted: bool | None = None
    score: float | None = None
    verdict: str | None = None
    asked: bool = False


@dataclass(frozen=True, slots=True)
class Purchase:
    """A call that was answered, and paid for unless the model's own cache had the answer.

    Attributes:
        attempt: The record of it.
        usage: Its tokens.
        result: What the model returned.
        call: How it was asked.
        cached: Whether the model's own cache had the answer.
        reply: What it was read to be, of a model that might ask for help.
    """

    attempt: Attempt
    usage: Usage
    result: ChatResult
    call: Call
    cached: bool = False
    reply: Reply | None = None

    def noted(self, **facts: object) -> Purchase:
        """Return the same purchase with more on its record."""
        return replace(self, attempt=self.attempt.model_copy(update=facts))

    @property
    def unshown(self) -> tuple[ChatGenerationChunk, ...]:
        """Of a streamed answer that was held back, its chunks."""
        return () if self.call.shown else tuple(self.call.streamed)

    @property
    def message(self) -> AIMessage:
        """The model's answer."""
        message = self.result.generations[0].message
        if not isinstance(message, AIMessage):
            raise TypeError(f"a chat model answers with an AIMessage, got {type(message).__name__}")
        return message


@dataclass(frozen=True, slots=True)
class Answer:
    """The outcome of a routed call: the decision, every attempt, and what was answered.

    Attributes:
        decision: Who was to answer, and why.
        attempts: The records of all calls that were made or refused.
        purchase: The answer.
        asides: What else was bought: edge answers that were not accepted, calls of a verifier.
    """

    decision: RouteDecision
    attempts: tuple[Attempt, ...]
    purchase: Purchase
    asides: tuple[Purchase, ...] = ()

    @property
    def cost_usd(self) -> Decimal | None:
        """What all attempts cost together, in USD; `None` if one of them is unknown."""
        return total_cost(self.attempts)

    @property
    def degraded(self) -> bool:
        """Whether the edge answered where the cloud should have: see `degrades`."""
        return self.purchase.attempt.tier == "edge" and degrades(self.attempts)

    @property
    def escalated(self) -> bool:
        """Whether the cloud answered what the edge had tried: it asked, or a verifier said so."""
        return self.purchase.attempt.tier == "cloud" and any(
            attempt.asked or attempt.accepted is False for attempt in self.attempts
        )

    @property
    def asked(self) -> bool:
        """Whether the edge asked for help."""
        return any(attempt.asked for attempt in self.attempts)

    def metadata(self) -> dict[str, Any]:
        """Return the plain dict that goes into `response_metadata["hybridflow"]`."""
        last = self.purchase.attempt
        cost = self.cost_usd
        return {
            "tier": last.tier,
            "model": last.model,
            "cost_usd": None if cost is None else str(cost),
            "usage_estimated": last.usage_estimated,
            "degraded": self.degraded,
            "escalated": self.escalated,
            "asked": self.asked,
            "kept_local": self.decision.kept_local,
            "decision": self.decision.model_dump(mode="json"),
            "attempts": [attempt.model_dump(mode="json") for attempt in self.attempts],
        }


def degrades(attempts: Iterable[Attempt]) -> bool:
    """Whether an edge answer after these attempts is one that another was wanted for.

    The cloud was refused, by the budget for one; or a verifier did not accept the answer, or the
    edge asked for help, and the cloud gave none.
    """
    return any(
        attempt.accepted is False
        or attempt.asked
        or (attempt.status == "refused" and attempt.purpose == "answer")
        for attempt in attempts
    )


def tiers_tried(attempts: Iterable[Attempt]) -> list[Tier]:
    """Return who has been asked for an answer; who asked for help may be asked again."""
    return [one.tier for one in attempts if one.purpose == "answer" and not one.asked]


def total_cost(attempts: Iterable[Attempt]) -> Decimal | None:
    """Sum what attempts cost, in USD; `None` if one of them is unknown."""
    total = Decimal(0)
    for attempt in attempts:
        if attempt.cost_usd is None:
            return None
        total += attempt.cost_usd
    return total
