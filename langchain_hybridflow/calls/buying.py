"""One purchase from one tier: reserve -> call -> commit | release, whatever happens."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, Literal

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatResult

from langchain_hybridflow.budget import (
    Budget,
    Lease,
    RunBudget,
    Usage,
    estimate_prompt_tokens,
    estimate_text_tokens,
    usage_of,
)
from langchain_hybridflow.calls.breaker import Circuit
from langchain_hybridflow.calls.failures import answered, describe_error, may_have_cost
from langchain_hybridflow.calls.history import portable_history
from langchain_hybridflow.calls.inner import TierModel
from langchain_hybridflow.calls.observing import observed
from langchain_hybridflow.calls.options import prompted_schemas
from langchain_hybridflow.calls.replies import Reading
from langchain_hybridflow.calls.retries import retry_wait_s
from langchain_hybridflow.calls.steps import Call, Commit, Pause, Release, Reserve, Script
from langchain_hybridflow.calls.types import Attempt, Purchase
from langchain_hybridflow.errors import BudgetExceeded, CircuitOpen, DeadlineExceeded
from langchain_hybridflow.routing import Tier
from langchain_hybridflow.telemetry import OpenSpan, Telemetry

__all__ = ["AttemptFailed", "Buyer", "least", "usage_of_call"]


class AttemptFailed(Exception):
    """An attempt went wrong; carries the record of it to whoever decides what comes next."""

    def __init__(
        self,
        attempt: Attempt,
        error: Exception,
        *,
        begun: bool = False,
        partial_text: str = "",
        healthy: bool | None = None,
        purchase: Purchase | None = None,
    ) -> None:
        self.attempt = attempt
        self.error = error
        self.begun = begun
        self.partial_text = partial_text
        self.healthy = healthy
        self.purchase = purchase  # what was bought, if it was answered and is no answer
        super().__init__(attempt.error)


@dataclass(frozen=True, slots=True, kw_only=True)
class Buyer:
    """Buys answers from either tier; knows the rules of one purchase, and nothing of routing.

    Attributes:
        models: The model of each tier.
        budget: What may be spent.
        max_output_tokens: The longest answer to reserve for, in tokens, where neither the model
            nor the call says so.
        max_retries: How often a tier is asked again after a rate limit or a server error.
        options: Call options of every call that does not give its own.
        timeouts_s: Longest call of a tier, in seconds.
        first_token_timeout_s: Longest wait for the beginning of a streamed answer, in seconds.
        circuits: The circuit breaker of a tier.
        telemetry: Is told of each purchase.
    """

    models: Mapping[Tier, TierModel]
    budget: Budget
    max_output_tokens: int = 1024
    max_retries: int = 2
    options: Mapping[str, Any] = field(default_factory=dict)
    timeouts_s: Mapping[Tier, float] = field(default_factory=dict)
    first_token_timeout_s: float | None = None
    circuits: Mapping[Tier, Circuit] = field(default_factory=dict)
    telemetry: Telemetry | None = None

    def attempt(
        self,
        tier: Tier,
        messages: list[BaseMessage],
        *,
        run: RunBudget,
        lease_id: str,
        options: dict[str, Any] | None = None,
        timeout_s: float | None = None,
        shown: bool = True,
        prompt_tokens: int | None = None,
        role: str | None = None,
        parent: OpenSpan | None = None,
        reading: Reading | None = None,
    ) -> Script[Purchase]:
        """Buy one answer from one tier: reserve, call, settle, whatever happens.

        A tier that keeps failing is not asked, see `Breaker`.

        Args:
            tier: Who is asked.
            messages: The prompt.
            run: The account that pays.
            lease_id: Identity of this purchase; never used for another one.
            options: Call options in neutral form; see `options.own_options`.
            timeout_s: Longest time to wait for the model, in seconds, besides the time-out of the
                tier and the deadline of the run.
            shown: Whether the reader of a stream gets the answer while it is being written.
            prompt_tokens: What `estimate_prompt_tokens` says of this call, if it was asked before.
            role: Role of the subtask that is asked: answers of one role are about as long.
            parent: The span that the purchase is a part of; by default the current one.
            reading: Reads the reply as it comes, of a model that may ask for help.

        Raises:
            AttemptFailed: From the error of the model or of the budget.
        """
        return self.buy(
            self.models[tier],
            messages,
            run=run,
            lease_id=lease_id,
            options={**self.options, **(options or {})},
            timeout_s=timeout_s,
            shown=shown,
            prompt_tokens=prompt_tokens,
            role=role,
            parent=parent,
            reading=reading,
        )

    def buy(
        self,
        model: TierModel,
        messages: list[BaseMessage],
        *,
        run: RunBudget,
        lease_id: str,
        options: Mapping[str, Any] | None = None,
        timeout_s: float | None = None,
        shown: bool = True,
        prompt_tokens: int | None = None,
        role: str | None = None,
        parent: OpenSpan | None = None,
        reading: Reading | None = None,
    ) -> Script[Purchase]:
        """Do what `attempt` does, at any model, with no other options than those given.

        Raises:
            AttemptFailed: From the error of the model or of the budget.
        """
        is_tier = model is self.models[model.tier]
        limit_s = least(timeout_s, self.timeouts_s.get(model.tier) if is_tier else None)
        circuit = self.circuits.get(model.tier) if is_tier else None
        given = options or {}
        script = self._buy(
            model,
            messages,
            given,
            run,
            lease_id,
            limit_s,
            prompt_tokens,
            shown=shown,
            role=role,
            reading=reading,
        )
        script = script if circuit is None else self._guarded(script, model, circuit)
        return observed(self.telemetry, script, model=model, messages=messages, parent=parent)

    def _guarded(
        self, script: Script[Purchase], model: TierModel, circuit: Circuit
    ) -> Script[Purchase]:
        try:
            admission = circuit.admit()
        except CircuitOpen as error:
            script.close()
            raise self._refused(model, error) from error
        healthy: bool | None = None
        try:
            purchase = yield from script
            healthy = None if purchase.cached else True
        except AttemptFailed as failed:
            healthy = failed.healthy
            raise
        finally:
            circuit.settle(admission, healthy=healthy)
        return purchase

    def _buy(
        self,
        model: TierModel,
        messages: list[BaseMessage],
        given: Mapping[str, Any],
        run: RunBudget,
        lease_id: str,
        timeout_s: float | None,
        prompt_tokens: int | None,
        *,
        shown: bool,
        role: str | None,
        reading: Reading | None,
    ) -> Script[Purchase]:
        try:
            target, own = model.prepared(given)
        except NotImplementedError as error:  # it has no tools; the other tier may
            raise self._refused(model, error) from error
        sent = portable_history(messages, target)
        cap = target.output_cap(own, self.max_output_tokens)
        if prompt_tokens is None or sent is not messages:
            prompt_tokens = estimate_prompt_tokens(sent, tools=prompted_schemas(given))
        answers = target.answers(own)
        bound = Usage(prompt_tokens, cap * answers, estimated=True)
        likely = answers * self.budget.estimates.output_tokens(
            cap, tier=target.tier, model=target.name, role=role
        )
        expected = (
            bound if likely == bound.output_tokens else Usage(prompt_tokens, likely, estimated=True)
        )
        held = self.budget.quote(target.tier, target.name, expected)
        left_s = run.remaining_s()
        if left_s is not None and left_s <= 0:
            late = DeadlineExceeded("The run", run.deadline_s or 0.0)
            raise self._refused(model, late) from late
        try:
            lease = yield Reserve(run, lease_id, held)
        except BudgetExceeded as error:
            raise self._refused(model, error) from error
        if held and self.budget.caps_output:
            own |= target.cap_kwargs(own, cap)
        limit_s = least(timeout_s, left_s)
        call = Call(
            target,
            sent,
            own,
            limit_s,
            self.first_token_timeout_s,
            shown,
            run_left_s=left_s,
            reading=reading,
        )
        handled = sys.exception()
        result: ChatResult | None = None
        try:
            result = yield from self._ask(call, run)
            purchase = self._purchase(call, result)
        except BaseException as error:
            # An answer that is there and cannot be used has been paid for like any other.
            loss = _loss(error, call, bound, handled) if result is None else bound
            yield self._settlement(run, lease, target, loss, answered=False)
            if not isinstance(error, Exception):
                raise
            raise AttemptFailed(
                self._unanswered(target, "failed", error, loss),
                error,
                begun=call.begun and shown,
                partial_text=_text(call) if shown else "",
                healthy=self._healthy(error, handled, target.tier),
            ) from error
        yield self._settlement(
            run, lease, target, None if purchase.cached else purchase.usage, answered=True
        )
        if not purchase.cached and not purchase.usage.estimated:
            each = -(-purchase.usage.output_tokens // answers)
            self.budget.estimates.observe(each, tier=target.tier, model=target.name, role=role)
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
            call.restart()
            if call.timeout_s is not None and time_left_s is not None:
                call.run_left_s = time_left_s - wait_s
                call.timeout_s = min(call.timeout_s, call.run_left_s)

    def _healthy(
        self, error: BaseException, handled: BaseException | None, tier: Tier
    ) -> bool | None:
        """Whether a failed call shows its tier to be up or down; the run's own end does not."""
        own_limits_s = (self.timeouts_s.get(tier), self.first_token_timeout_s)
        if isinstance(error, DeadlineExceeded) and error.limit_s not in own_limits_s:
            return None
        return answered(error, handled=handled)

    def refusal(self, tier: Tier, error: Exception) -> Attempt:
        """Record a call that was never made."""
        return self._unanswered(self.models[tier], "refused", error)

    def _settlement(
        self,
        run: RunBudget,
        lease: Lease,
        target: TierModel,
        spent: Usage | None,
        *,
        answered: bool,
    ) -> Commit | Release:
        if spent is None:
            return Release(run, lease)
        return Commit(run, lease, self.budget.quote(target.tier, target.name, spent), answered)

    def _refused(self, model: TierModel, error: Exception) -> AttemptFailed:
        return AttemptFailed(self._unanswered(model, "refused", error), error)

    def _purchase(self, call: Call, result: ChatResult) -> Purchase:
        target = call.target
        if not result.generations:
            raise ValueError(f"Model {target.name} returned no answer at all.")
        message = result.generations[0].message
        if not isinstance(message, AIMessage):
            raise TypeError(f"a chat model answers with an AIMessage, got {type(message).__name__}")
        # LangChain marks an answer from the model's own cache so; nobody bills it.
        reported: Mapping[str, object] = message.usage_metadata or {}
        cached = reported.get("total_cost") == 0
        usage = usage_of_call(call, message)
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
        return Purchase(attempt, usage, result, call, cached=cached)

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
            error=describe_error(
                error, models=[*self._given_models(), target.model, target.origin]
            ),
        )

    def _given_models(self) -> list[BaseChatModel]:
        return [target.model for target in self.models.values()]


def least(*limits_s: float | None) -> float | None:
    """Return the shortest of some limits; `None` if there is none."""
    given = [limit for limit in limits_s if limit is not None]
    return min(given) if given else None


def usage_of_call(call: Call, message: AIMessage) -> Usage:
    """Say what a call used that was answered, or that was broken off because it was decided."""
    # Where the provider sent no usage, an estimate does not pass the cap of the call.
    reported: Mapping[str, object] = message.usage_metadata or {}
    cap = 0 if reported.get("output_tokens") else call.target.output_cap(call.options, 0)
    usage = usage_of(message, prompt=call.messages, max_output_tokens=cap or None)
    is_whole = len(call.streamed) == 1 and reported.get("output_tokens")  # it did not stream
    if is_whole or not call.is_decided:
        return usage
    # What was counted by then is not all that was written.
    heard = min(estimate_text_tokens(_heard(call)), cap or sys.maxsize)
    return replace(usage, output_tokens=max(usage.output_tokens, heard), estimated=True)


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
