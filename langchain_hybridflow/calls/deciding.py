"""Who may answer a call, and who is to: capabilities first, then the policy, then the router."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.messages import BaseMessage

from langchain_hybridflow.calls.inner import TierModel
from langchain_hybridflow.calls.options import STRUCTURED_OUTPUT
from langchain_hybridflow.errors import CapabilityError, PolicyViolation, RoutingError
from langchain_hybridflow.routing import (
    TIERS,
    Content,
    Needs,
    Policy,
    RouteDecision,
    RouteRequest,
    Tier,
    ask_policy,
    lacks,
    read_content,
)
from langchain_hybridflow.routing.capabilities import fewest_tokens

__all__ = ["Permit", "check_decision", "narrowed", "permit", "request_of", "was_kept_local"]


def request_of(
    messages: Sequence[BaseMessage],
    options: Mapping[str, Any],
    *,
    read_options: bool,
    kept_local: bool = False,
    **features: Any,
) -> RouteRequest:
    """Describe a call to the filters and the router.

    A conversation with an answer that was kept local in it builds on that answer.

    Args:
        messages: The prompt.
        options: Call options in neutral form.
        read_options: Whether the text of the options counts, too: they are sent like the prompt.
            Only a policy wants to know, and long schemas take time to read.
        kept_local: Whether it is known to build on an answer that was kept local.
        **features: Whatever else is known; see `RouteRequest`.
    """
    content = read_content(messages, options if read_options else None)
    return RouteRequest(
        prompt=content.text,
        attachments=bool(content.media),
        needs=_needs(content, options),
        kept_local=kept_local or was_kept_local(messages),
        **features,
    )


def was_kept_local(messages: Iterable[BaseMessage]) -> bool:
    """Whether one of the messages is an answer of ours that a policy kept on the edge."""
    records = (message.response_metadata.get("hybridflow") for message in messages)
    return any(isinstance(record, Mapping) and record.get("kept_local") for record in records)


def _needs(content: Content, options: Mapping[str, Any]) -> Needs:
    shortest = fewest_tokens(content.text)
    if not options and not content.media:
        return Needs(min_prompt_tokens=shortest)
    if options.get("model"):  # another model than the profile's: nobody knows what it can do
        return Needs()
    wish = options.get(STRUCTURED_OUTPUT) or {}
    how = wish.get("method") if wish else _method(options.get("response_format"))
    return Needs(
        tools=bool(options.get("tools")) or how == "function_calling",
        structured_output=how == "json_schema",
        any_structured_output=bool(wish) and how is None,
        image_inputs="image" in content.media,
        audio_inputs="audio" in content.media,
        pdf_inputs="pdf" in content.media,
        video_inputs="video" in content.media,
        min_prompt_tokens=shortest,
    )


def _method(response_format: object) -> str | None:
    """Say what a provider's own option asks for: a schema as OpenAI's dict, or as a class."""
    if isinstance(response_format, Mapping):
        return "json_schema" if response_format.get("type") == "json_schema" else "json_mode"
    return "json_schema" if isinstance(response_format, type) else None


@dataclass(frozen=True, slots=True)
class Permit:
    """Who may answer a call.

    Attributes:
        allowed: The tiers, never none.
        kept_local: Whether a policy ruled the cloud out.
        reason: Why another tier may not answer, in words; empty if both may.
        filter: Who says so: "capabilities" or "policy".
    """

    allowed: tuple[Tier, ...] = TIERS
    kept_local: bool = False
    reason: str = ""
    filter: str = ""


_EVERYBODY = Permit()


def permit(
    request: RouteRequest, *, models: Mapping[Tier, TierModel], policy: Policy | None
) -> Permit:
    """Ask the filters who may answer: capabilities, then the policy.

    Raises:
        CapabilityError: Neither tier can answer.
        PolicyViolation: The policy allows no tier that can.
    """
    lacking: dict[str, tuple[str, ...]] = {
        tier: lacks(models[tier].model.profile, request.needs) for tier in TIERS
    }
    able = tuple(tier for tier in TIERS if not lacking[tier])
    if not able:
        raise CapabilityError(lacking)
    if policy is None and not request.kept_local:
        if able == TIERS:
            return _EVERYBODY
        return Permit(able, reason=_because(lacking, able), filter="capabilities")
    verdict = ask_policy(policy, request)
    allowed = tuple(tier for tier in able if tier in verdict)
    if not allowed:
        missing: dict[str, tuple[str, ...]] = {tier: lacking[tier] for tier in verdict}
        raise PolicyViolation(verdict.reason, allowed=tuple(verdict), lacking=missing)
    if allowed == TIERS:
        return _EVERYBODY
    kept_local = "cloud" not in verdict
    if len(verdict) < len(TIERS):
        return Permit(allowed, kept_local, _refused(verdict.reason, allowed), "policy")
    return Permit(allowed, kept_local, _because(lacking, able), "capabilities")


def narrowed(
    decision: RouteDecision, request: RouteRequest, *, policy: Policy | None
) -> RouteDecision:
    """Ask the policy again, as before every purchase: it may forbid more by now, never less."""
    if policy is None:
        return decision
    verdict = ask_policy(policy, request)
    allowed = tuple(tier for tier in decision.allowed if tier in verdict)
    if allowed == decision.allowed:
        return decision
    return decision.model_copy(
        update={
            "allowed": allowed,
            "kept_local": decision.kept_local or "cloud" not in verdict,
            "reason": f"{decision.reason}; then {_refused(verdict.reason, allowed)}",
        }
    )


def check_decision(decision: object, router: str) -> None:
    """Refuse what is no decision; a router is anybody's code.

    Raises:
        RoutingError: It is none.
    """
    if inspect.iscoroutine(decision):
        decision.close()
    if not isinstance(decision, RouteDecision):
        raise RoutingError(
            f"{router}.route() must return a RouteDecision, got {type(decision).__name__}."
        )
    if decision.tier not in TIERS:  # a decision can be made without validation
        raise RoutingError(f"{router} chose {decision.tier!r}, which is no tier.")
    if decision.tier not in decision.allowed:
        raise RoutingError(f"{router} chose {decision.tier}, which it does not allow.")


def _because(lacking: Mapping[str, Sequence[str]], able: Sequence[Tier]) -> str:
    return "; ".join(
        f"not {tier}: it lacks {', '.join(lacking[tier])}" for tier in TIERS if tier not in able
    )


def _refused(reason: str, allowed: Sequence[Tier]) -> str:
    tiers = " or ".join(tier for tier in TIERS if tier not in allowed)
    return f"not {tiers}: {reason or 'the policy does not allow it'}"
