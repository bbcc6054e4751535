"""What telemetry is told of a routed call: its decision, each model that was asked, the outcome."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from time import perf_counter, time_ns
from typing import Any, TypeVar
from urllib.parse import urlsplit

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage

from langchain_hybridflow.calls.inner import TierModel
from langchain_hybridflow.calls.steps import Commit, Script, Step
from langchain_hybridflow.calls.types import Answer, Attempt, Purchase
from langchain_hybridflow.routing import RouteDecision, Tier
from langchain_hybridflow.telemetry import NO_SPAN, OpenSpan, Telemetry, error_type, names
from langchain_hybridflow.telemetry.content import messages_json

__all__ = [
    "decision_facts",
    "observed",
    "route_span",
    "tell_answer",
    "tell_decision",
    "tell_move",
    "watched",
]

T = TypeVar("T")

_URL_FIELDS = (
    "openai_api_base",
    "azure_endpoint",
    "anthropic_api_url",
    "base_url",
    "endpoint",
    "endpoint_url",
)


def route_span(telemetry: Telemetry | None) -> OpenSpan:
    """Begin the span of a routed call, below whatever span is current."""
    if telemetry is None or not telemetry.is_heard:
        return NO_SPAN
    return telemetry.start(names.ROUTE_SPAN)


def tell_decision(span: OpenSpan, decision: RouteDecision) -> None:
    """Tell who is to answer, and why."""
    if span.is_recording:
        span.tell(decision_facts(decision))


def decision_facts(decision: RouteDecision) -> dict[str, Any]:
    """Return a decision as attributes."""
    # Where a router has failed, the reason quotes its error, and that may quote the prompt.
    fault = decision.reason.find(" failed (")
    cost = decision.expected_cost_usd
    return {
        names.DECIDED_TIER: decision.tier,
        names.ROUTER: decision.router,
        names.REASON: decision.reason if fault < 0 else decision.reason[: fault + len(" failed")],
        names.SCORE: decision.score,
        names.THRESHOLD: decision.threshold,
        names.PRICE: decision.price,
        names.EXPECTED_COST_USD: None if cost is None else float(cost),
        names.KEPT_LOCAL: decision.kept_local,
    }


def tell_move(span: OpenSpan, event: str, tier: Tier, error: Exception | None = None) -> None:
    """Tell that another tier is asked, and why the first one was not enough."""
    kind = None if error is None else error_type(error)
    span.event(event, {names.TIER: tier, names.ERROR_TYPE: kind})


def tell_answer(span: OpenSpan, answer: Answer) -> None:
    """Tell how a call has ended."""
    if not span.is_recording:
        return
    cost = answer.cost_usd
    span.tell(
        {
            names.TIER: answer.purchase.attempt.tier,
            names.COST_USD: None if cost is None else float(cost),
            names.DEGRADED: answer.degraded,
            names.ASKED: answer.asked,
            names.KEPT_LOCAL: answer.decision.kept_local,
            names.ATTEMPTS: len(answer.attempts),
        }
    )


def observed(
    telemetry: Telemetry | None,
    script: Script[Purchase],
    *,
    model: TierModel,
    messages: Sequence[BaseMessage],
    parent: OpenSpan | None = None,
) -> Script[Purchase]:
    """Return a purchase that tells of itself, in a span below `parent` or the current one."""
    if telemetry is None or parent is NO_SPAN or not telemetry.is_heard:
        return script
    return _observed(telemetry, script, model, messages, parent)


def _observed(
    telemetry: Telemetry,
    script: Script[Purchase],
    model: TierModel,
    messages: Sequence[BaseMessage],
    parent: OpenSpan | None,
) -> Script[Purchase]:
    observer = _Observer(telemetry, model, messages, parent)  # its clock starts with the script
    # What a broken call was booked with is known to nobody but the ledger.
    booked: list[Commit] = []

    def notice(step: Step) -> None:
        if isinstance(step, Commit):
            booked.append(step)

    try:
        purchase = yield from watched(script, notice)
    except BaseException as error:
        # One that went wrong in the usual way carries its record, and the cause.
        attempt: Attempt | None = getattr(error, "attempt", None)
        micros = sum(commit.actual.usd_micros for commit in booked)
        observer.tell_failure(getattr(error, "error", error), attempt, micros / 1_000_000)
        raise
    observer.tell_success(purchase)
    return purchase


def watched(
    script: Script[T],
    before: Callable[[Step], None],
    after: Callable[[Step, Any], None] | None = None,
) -> Script[T]:
    """Run a script as it is, and let others see its steps.

    Args:
        script: What to run.
        before: Sees each step before it is performed.
        after: Sees each step that went well, with its result.
    """
    reply: Any = None
    error: BaseException | None = None
    while True:
        try:
            step = script.send(reply) if error is None else script.throw(error)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]
        before(step)
        reply = error = None
        try:
            reply = yield step
        except GeneratorExit:
            script.close()
            raise
        except BaseException as caught:  # noqa: BLE001 - the script settles, then raises it
            error = caught
        else:
            if after is not None:
                after(step, reply)


class _Observer:
    """Tells of one purchase when it is over.

    The span is made then, with the time at which it began: a call that is refused is none.
    """

    def __init__(
        self,
        telemetry: Telemetry,
        model: TierModel,
        messages: Sequence[BaseMessage],
        parent: OpenSpan | None,
    ) -> None:
        self._telemetry = telemetry
        self._model = model
        self._messages = messages
        self._parent = parent
        self._began_ns = time_ns()
        self._began_s = perf_counter()

    def tell_success(self, purchase: Purchase) -> None:
        """Tell of an answer."""
        attempt, metadata = purchase.attempt, purchase.message.response_metadata
        answered_by = metadata.get("model_name")
        facts = self._facts(attempt.model) | {
            names.RESPONSE_MODEL: answered_by if isinstance(answered_by, str) else None
        }
        with self._span(attempt.model, facts) as span:
            self._tell_attempt(span, attempt)
            reason = metadata.get("finish_reason")
            span.tell({names.FINISH_REASONS: [reason] if isinstance(reason, str) else None})
            self._tell_content(span, purchase)
        self._count(facts, attempt, None if attempt.cost_usd is None else float(attempt.cost_usd))

    def tell_failure(
        self, error: BaseException, attempt: Attempt | None, booked_usd: float
    ) -> None:
        """Tell of a call that was refused, failed, or was broken off (which has no record)."""
        kind = error_type(error)
        if attempt is not None and attempt.status == "refused":
            if self._parent is not None:
                facts = {names.TIER: attempt.tier, names.ERROR_TYPE: kind}
                self._parent.event(names.REFUSAL_EVENT, facts)
            return
        facts = self._facts(attempt.model if attempt else self._model.name)
        facts[names.ERROR_TYPE] = kind
        with self._span(str(facts[names.REQUEST_MODEL]), facts) as span:
            span.tell({names.COST_USD: booked_usd})
            if attempt is not None:
                self._tell_attempt(span, attempt)
            self._tell_content(span, None)
            span.fail(kind)
        self._count(facts, attempt, booked_usd)

    def _facts(self, model_name: str) -> dict[str, Any]:
        return {
            names.OPERATION: names.CHAT,
            names.PROVIDER: names.provider_name(self._model.provider),
            names.REQUEST_MODEL: model_name,
            names.TIER: self._model.tier,
            **_server(self._model.model),
        }

    def _span(self, model_name: str, facts: dict[str, Any]) -> OpenSpan:
        return self._telemetry.start(
            f"{names.CHAT} {model_name}",
            parent=self._parent,
            kind="client",
            start_ns=self._began_ns,
            attributes={name: value for name, value in facts.items() if value is not None},
        )

    def _tell_attempt(self, span: OpenSpan, attempt: Attempt) -> None:
        cost = attempt.cost_usd
        span.tell(
            {
                names.INPUT_TOKENS: attempt.input_tokens,
                names.OUTPUT_TOKENS: attempt.output_tokens,
                names.USAGE_ESTIMATED: attempt.usage_estimated,
                names.COST_USD: None if cost is None else float(cost),
            }
        )

    def _tell_content(self, span: OpenSpan, purchase: Purchase | None) -> None:
        if self._telemetry.record_content and span.is_recording:
            span.tell({names.INPUT_MESSAGES: messages_json(self._messages)})
            if purchase is not None:
                span.tell({names.OUTPUT_MESSAGES: messages_json([purchase.message])})

    def _count(
        self, facts: dict[str, Any], attempt: Attempt | None, cost_usd: float | None
    ) -> None:
        self._telemetry.measure(
            {name: value for name, value in facts.items() if value is not None},
            seconds=perf_counter() - self._began_s,
            input_tokens=attempt.input_tokens if attempt else 0,
            output_tokens=attempt.output_tokens if attempt else 0,
            cost_usd=cost_usd or 0.0,
        )


def _server(model: BaseChatModel) -> dict[str, Any]:
    """The host that a model talks to, where the model knows it."""
    for name in _URL_FIELDS:
        url = getattr(model, name, None)
        if isinstance(url, str) and url:
            address, port = _host(url)
            return {names.SERVER_ADDRESS: address, names.SERVER_PORT: port}
    return {}


@lru_cache(maxsize=256)
def _host(url: str) -> tuple[str | None, int | None]:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None, None
    return parts.hostname, port
