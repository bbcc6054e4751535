"""The values of one model call: what was tried, what it cost, what it returned."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatResult
from pydantic import BaseModel, ConfigDict

from langchain_hybridflow.budget import Usage
from langchain_hybridflow.routing import RouteDecision, Tier

__all__ = ["Answer", "Attempt", "Purchase", "total_cost"]


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


@dataclass(frozen=True, slots=True)
class Purchase:
    """A call that was answered, and paid for unless the model's own cache had the answer."""

    attempt: Attempt
    usage: Usage
    result: ChatResult
    cached: bool = False

    @property
    def message(self) -> AIMessage:
        """The model's answer."""
        message = self.result.generations[0].message
        if not isinstance(message, AIMessage):
            raise TypeError(f"a chat model answers with an AIMessage, got {type(message).__name__}")
        return message


@dataclass(frozen=True, slots=True)
class Answer:
    """The outcome of a routed call: the decision, every attempt, and the last one's result."""

    decision: RouteDecision
    attempts: tuple[Attempt, ...]
    purchase: Purchase

    @property
    def cost_usd(self) -> Decimal | None:
        """What all attempts cost together, in USD; `None` if one of them is unknown."""
        return total_cost(self.attempts)

    @property
    def degraded(self) -> bool:
        """Whether the edge answered because the budget refused the cloud."""
        return self.purchase.attempt.tier == "edge" and any(
            attempt.status == "refused" for attempt in self.attempts
        )

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
            "kept_local": self.decision.kept_local,
            "decision": self.decision.model_dump(mode="json"),
            "attempts": [attempt.model_dump(mode="json") for attempt in self.attempts],
        }


def total_cost(attempts: Iterable[Attempt]) -> Decimal | None:
    """Sum what attempts cost, in USD; `None` if one of them is unknown."""
    total = Decimal(0)
    for attempt in attempts:
        if attempt.cost_usd is None:
            return None
        total += attempt.cost_usd
    return total
