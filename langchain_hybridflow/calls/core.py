"""The routing core: decide -> reserve -> call -> commit | release, for a call of any kind.

`RoutedChatModel` and the subtask nodes of a graph both stand on this one class. It does no IO:
its methods are scripts, see `steps`.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, Literal, TypeAlias

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatResult

from langchain_hybridflow.budget import (
    Budget,
    RunBudget,
    Usage,
    estimate_prompt_tokens,
    estimate_text_tokens,
    usage_of,
)
from langchain_hybridflow.calls.deciding import check_decision, narrowed, permit
from langchain_hybridflow.calls.failures import describe_error, may_have_cost
from langchain_hybridflow.calls.inner import TierModel
from langchain_hybridflow.calls.options import prompted_schemas
from langchain_hybridflow.calls.retries import retry_wait_s
from langchain_hybridflow.calls.steps import (
    Call,
    Commit,
    Pause,
    Release,
    Reserve,
    Script,
    Snapshot,
)
from langchain_hybridflow.calls.types import Answer, Attempt, Purchase
from langchain_hybridflow.errors import (
    BudgetExceeded,
    CloudDeclined,
    ConfigurationError,
    DeadlineExceeded,
    LedgerError,
    ModelCallError,
    PolicyViolation,
    RoutingError,
    UnknownPriceError,
)
from langchain_hybridflow.routing import Policy, RouteDecision, Router, RouteRequest, Tier

__all__ = ["AttemptFailed", "OnError", "RoutingCore", "final_error", "other_tier"]

OnError: TypeAlias = Literal["fallback", "raise"]

_OUR_FAULT = (ConfigurationError, LedgerError, UnknownPriceError)
"""Errors that another tier would not cure, and that must not be hidden behind one."""


def other_tier(tier: Tier) -> Tier:
    """Return the tier that is not this one."""
    return "edge" if tier == "cloud" else "cloud"


class AttemptFailed(Exception):
    """An attempt went wrong; carries the record of it to whoever decides what comes next."""

    def __init__(
        self, attempt: Attempt, error: Exception, *, begun: bool = False, partial_text: str = ""
    ) -> None:
        self.attempt = attempt
        self.error = error
        self.begun = begun
        self.partial_text = partial_text
        super().__init__(attempt.error)


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingCore:
    """Both tiers, the router and the budget, and the rules between them.

    Attributes:
        models: The model of each tier.
        router: Decides the tier of a call.
        budget: What may be spent.
        policy: Which tiers may see a call at all; `None` is both.
        on_edge_error: Whether the cloud may answer when the edge fails.
        on_cloud_error: Whether the edge may answer when the cloud fails.
        on_router_error: The tier to take when the router itself fails, or "raise".
        max_output_tokens: The longest answer to reserve for, in tokens, where neither the model
            nor the call says so.
        max_retries: How often a tier is asked again after a rate limit or a server error.
        options: Call options of every call that does not give its own.
    """

    models: Mapping[Tier, TierModel]
    router: Router
    budget: Budget
    policy: Policy | None = None
    on_edge_error: OnError = "fallback"
    on_cloud_error: OnError = "fallback"
    on_router_error: Tier | Literal["raise"] = "edge"
    max_output_tokens: int = 1024
    max_retries: int = 2
    options: Mapping[str, Any] = field(default_factory=dict)

    def decide(self, request: RouteRequest, *, run: RunBudget) -> Script[RouteDecision]:
        """Ask the filters and, if both tiers may answer, the router.

        The router's request has the live state of the budget and the expected costs filled in.

        Raises:
            CapabilityError: Neither tier has what the call needs.
            PolicyViolation: The policy allows no tier that has.
            RoutingError: The router failed and `on_router_error` is "raise".
        """
        permitted = permit(request, models=self.models, policy=self.policy)
        snapshot = yield Snapshot(run)
        expected = Usage(
            input_tokens=request.prompt_tokens,
            output_tokens=request.expected_output_tokens or self.max_output_tokens,
        )
        costs = {
            tier: self.budget.cost_usd(tier, target.name, expected)
            for tier, target in self.models.items()
        }
        if len(permitted.allowed) > 1:
            return self._ask_router(replace(request, expected_cost_usd=costs, budget=snapshot))
        (tier,) = permitted.allowed
        return RouteDecision(
            tier=tier,
            reason=permitted.reason,
            router=permitted.filter,
            expected_cost_usd=costs[tier],
            allowed=permitted.allowed,
            kept_local=permitted.kept_local,
        )

    def _ask_router(self, request: RouteRequest) -> RouteDecision:
        name = type(self.router).__name__
        try:
            decision = self.router.route(request)
            check_decision(decision, name)
        except Exception as error:
            fault = describe_error(error, models=self._given_models())
            if self.on_router_error == "raise":
                raise RoutingError(
                    f"Router {name} failed: {fault}. Mend the router, or set "
                    f"on_router_error='edge' to go on without it."
                ) from error
            return RouteDecision(
                tier=self.on_router_error,
                reason=f"router {name} failed ({fault}): {self.on_router_error}",
                router=name,
                expected_cost_usd=request.expected_cost_usd.get(self.on_router_error),
            )
        if decision.expected_cost_usd is None:
            cost = request.expected_cost_usd.get(decision.tier)
            return decision.model_copy(update={"expected_cost_usd": cost})
        return decision

    def attempt(
        self,
        tier: Tier,
        messages: list[BaseMessage],
        *,
        run: RunBudget,
        lease_id: str,
        options: dict[str, Any] | None = None,
        timeout_s: float | None = None,
    ) -> Script[Purchase]:
        """Buy one answer from one tier: reserve, call, settle, whatever happens.

        Args:
            tier: Who is asked.
            messages: The prompt.
            run: The account that pays.
            lease_id: Identity of this purchase; never used for another one.
            options: Call options in neutral form; see `options.own_options`.
            timeout_s: Longest time to wait for the model, in seconds.

        Raises:
            AttemptFailed: From the error of the model or of the budget.
        """
        given = {**self.options, **(options or {})}
        try:
            target, options = self.models[tier].prepared(given)
        except NotImplementedError as error:  # it has no tools; the other tier may
            raise AttemptFailed(self.refusal(tier, error), error) from error
        cap = target.output_cap(options, self.max_output_tokens)
        prompt_tokens = estimate_prompt_tokens(messages, tools=prompted_schemas(given))
        bound = Usage(prompt_tokens, cap * target.answers(options), estimated=True)
        worst = self.budget.quote(tier, target.name, bound)
        if timeout_s is not None and timeout_s <= 0:
            late = DeadlineExceeded("The run", run.deadline_s or 0.0)
            raise AttemptFailed(self.refusal(tier, late), late)
        try:
            lease = yield Reserve(run, lease_id, worst)
        except BudgetExceeded as error:
            raise AttemptFailed(self.refusal(tier, error), error) from error
        if worst and self.budget.caps_output:
            options |= target.cap_kwargs(options, cap)
        call = Call(target, messages, options, timeout_s)
        handled = sys.exception()
        result: ChatResult | None = None
        try:
            result = yield from self._ask(call, run)
            held_to = target.output_cap(options, 0) or None
            purchase = self._purchase(target, result, messages, held_to)
        except BaseException as error:
            # An answer that is there and cannot be used has been paid for like any other.
            loss = _loss(error, call, bound, handled) if result is None else bound
            if loss is None:
                yield Release(run, lease)
            else:
                yield Commit(run, lease, self.budget.quote(tier, target.name, loss))
            if not isinstance(error, Exception):
                raise
            attempt = self._unanswered(target, "failed", error, loss)
            raise AttemptFailed(
                attempt, error, begun=call.begun, partial_text=_text(call)
            ) from error
        if purchase.cached:
            yield Release(run, lease)
        else:
            yield Commit(run, lease, self.budget.quote(tier, target.name, purchase.usage))
        return purchase

    def _ask(self, call: Call, run: RunBudget) -> Script[ChatResult]:
        """Call, and call again while the provider says "not now" and nothing has been billed."""
        tries = 1
        while True:
            try:
                result: ChatResult = yield call
            except Exception as error:
                wait_s = retry_wait_s(error, tries=tries)
                time_left_s = run.remaining_s()
                if call.begun or wait_s is None or tries > self.max_retries:
                    raise
                if time_left_s is not None and wait_s >= time_left_s:
                    raise
            else:
                return result
            yield Pause(wait_s)
            tries += 1
            call.streamed.clear()
            if call.timeout_s is not None and time_left_s is not None:
                call.timeout_s = min(call.timeout_s, time_left_s - wait_s)

    def refusal(self, tier: Tier, error: Exception) -> Attempt:
        """Record a call that was never made."""
        return self._unanswered(self.models[tier], "refused", error)

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
            return "edge" if tier == "cloud" and self.budget.on_exhausted == "edge" else None
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
    ) -> Script[Answer]:
        """Answer one call: decide once, then buy from the tiers that may answer, in turn.

        Raises:
            ModelCallError: More than one tier was asked and none answered, or a stream broke.
            Exception: The error itself if just one tier was asked.
        """
        decision = yield from self.decide(request, run=run)
        attempts: list[Attempt] = []
        tier = decision.tier
        while True:
            try:
                purchase = yield from self.attempt(
                    tier,
                    messages,
                    run=run,
                    lease_id=f"{lease_id}/{len(attempts)}-{tier}",
                    options=options,
                    timeout_s=run.remaining_s(),
                )
            except AttemptFailed as caught:
                failed = caught
            else:
                return Answer(decision, (*attempts, purchase.attempt), purchase)
            attempts.append(failed.attempt)
            # Another tier is another purchase: the policy is asked anew.
            decision = narrowed(decision, request, policy=self.policy)
            tried = [attempt.tier for attempt in attempts]
            following = self.next_tier(failed, tried=tried, allowed=decision.allowed)
            if following is None:
                raise final_error(attempts, failed)
            tier = following

    def _purchase(
        self, target: TierModel, result: ChatResult, messages: list[BaseMessage], cap: int | None
    ) -> Purchase:
        if not result.generations:
            raise ValueError(f"Model {target.name} returned no answer at all.")
        message = result.generations[0].message
        if not isinstance(message, AIMessage):
            raise TypeError(f"a chat model answers with an AIMessage, got {type(message).__name__}")
        # LangChain marks an answer from the model's own cache so; nobody bills it.
        reported: Mapping[str, object] = message.usage_metadata or {}
        cached = reported.get("total_cost") == 0
        usage = usage_of(message, prompt=messages, max_output_tokens=cap)
        if cached:
            usage = Usage(0, 0)
        cost = self.budget.cost_usd(target.tier, target.name, usage)
        attempt = Attempt(
            tier=target.tier,
            model=target.name,
            status="ok",
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            usage_estimated=usage.estimated,
            cost_usd=Decimal(0) if cached else cost,
        )
        return Purchase(attempt, usage, result, cached=cached)

    def _unanswered(
        self,
        target: TierModel,
        status: Literal["failed", "refused"],
        error: Exception,
        loss: Usage | None = None,
    ) -> Attempt:
        spent = loss or Usage(0, 0)
        return Attempt(
            tier=target.tier,
            model=target.name,
            status=status,
            input_tokens=spent.input_tokens,
            output_tokens=spent.output_tokens,
            usage_estimated=loss is not None,
            cost_usd=self.budget.cost_usd(target.tier, target.name, loss) if loss else Decimal(0),
            error=describe_error(error, models=self._given_models()),
        )

    def _given_models(self) -> list[BaseChatModel]:
        return [target.model for target in self.models.values()]


def final_error(attempts: Sequence[Attempt], failed: AttemptFailed) -> Exception:
    """Choose the error that the caller of a routed call gets to see."""
    if len(attempts) == 1 and not failed.begun:
        return failed.error
    tried = "; ".join(f"{attempt.tier} {attempt.status}: {attempt.error}" for attempt in attempts)
    streamed = f" after {len(failed.partial_text)} streamed characters" if failed.begun else ""
    error = ModelCallError(
        f"No tier could answer{streamed}. {tried}. Check that the servers are up and the keys "
        f"are right, or raise the budget.",
        tier=attempts[-1].tier,
        partial_text=failed.partial_text,
    )
    error.__cause__ = failed.error
    return error


def _heard(call: Call) -> str:
    """All that arrived of an answer, tool calls and reasoning included."""
    parts: list[str] = []
    for chunk in call.streamed:
        message = chunk.message
        parts.append(message.content if isinstance(message.content, str) else str(message.content))
        parts += [str(part["args"] or "") for part in getattr(message, "tool_call_chunks", ())]
        parts += map(str, message.additional_kwargs.values())
    return "".join(parts)


def _text(call: Call) -> str:
    return "".join(chunk.text for chunk in call.streamed)


def _loss(
    error: BaseException, call: Call, bound: Usage, handled: BaseException | None
) -> Usage | None:
    """What a failed call must be taken to have cost; `None` if it cost nothing for sure.

    A broken stream has cost its prompt and what arrived. A call that may have been answered
    unheard has cost the worst case: nobody knows how far the model had come.
    """
    if call.streamed:
        heard = min(estimate_text_tokens(_heard(call)), bound.output_tokens)
        return Usage(bound.input_tokens, heard, estimated=True)
    return bound if may_have_cost(error, handled=handled) else None
