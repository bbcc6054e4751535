"""Where a conversation has been so far, and what it would cost to take it elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage

from langchain_hybridflow.budget import Budget, estimate_prompt_tokens
from langchain_hybridflow.calls.inner import TierModel
from langchain_hybridflow.routing import TIERS, Tier

__all__ = ["MIN_CACHED_TOKENS", "cached_prompt_tokens", "conversation_tier", "tier_of_answer"]

MIN_CACHED_TOKENS = 1_024
"""The large providers cache no shorter prompts."""

_FILTERS = frozenset({"capabilities", "policy"})


def tier_of_answer(record: Mapping[str, Any]) -> Tier | None:
    """Return the tier that an answer puts its conversation on; `None` if it says nothing.

    That is the tier that answered; the cloud, too, if it was meant to answer and the edge had to
    step in, because the budget refused or the call failed. An answer of the edge that was the only
    one a filter allowed says nothing: it was no decision.

    Args:
        record: What stands in the answer's `response_metadata["hybridflow"]`.

    Example:
        >>> tier_of_answer({"tier": "edge", "decision": {"tier": "cloud", "router": "difficulty"}})
        'cloud'
        >>> tier_of_answer({"tier": "edge", "decision": {"tier": "edge", "router": "policy"}})
    """
    tier, decision = record.get("tier"), record.get("decision")
    meant = decision if isinstance(decision, Mapping) else {}
    if "cloud" in (tier, meant.get("tier")):
        return "cloud"
    return "edge" if tier in TIERS and meant.get("router") not in _FILTERS else None


def conversation_tier(messages: Sequence[BaseMessage]) -> Tier | None:
    """Return the tier that a conversation is on, as its last telling answer of ours says.

    Example:
        >>> answer = AIMessage("Hi.", response_metadata={"hybridflow": {"tier": "edge"}})
        >>> conversation_tier([answer])
        'edge'
    """
    for message in reversed(messages):
        if isinstance(message, AIMessage):
            tier = tier_of_answer(_record(message))
            if tier is not None:
                return tier
    return None


def cached_prompt_tokens(
    messages: Sequence[BaseMessage], tier: Tier | None, *, budget: Budget, target: TierModel | None
) -> int:
    """Estimate the tokens of a prompt that a tier has probably in its cache.

    That is the conversation up to the last answer that came from this tier, if its model has a
    price for cached tokens and the text is long enough to be cached at all.

    Args:
        messages: The prompt.
        tier: The tier that the conversation is on; `None` has nothing cached.
        budget: Knows the prices.
        target: The model of that tier.
    """
    if tier is None or target is None:
        return 0
    price = budget.prices.get(target.name)
    if price is None or price.cached_input_usd_per_mtok is None:
        return 0
    for index in range(len(messages) - 1, -1, -1):
        message = messages[index]
        # One that does not say who wrote it may be of this tier, too.
        if isinstance(message, AIMessage) and _record(message).get("tier", tier) == tier:
            tokens = estimate_prompt_tokens(messages[: index + 1])
            return tokens if tokens >= MIN_CACHED_TOKENS else 0
    return 0


def _record(message: AIMessage) -> Mapping[str, Any]:
    record = message.response_metadata.get("hybridflow")
    return record if isinstance(record, Mapping) else {}
