"""Buy one answer from one tier, within the budget, and write down what came of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from itertools import count
from typing import Any, TypeVar

from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatResult

from langchain_hybridflow.budget import RunBudget
from langchain_hybridflow.calls import (
    Attempt,
    AttemptFailed,
    Call,
    Purchase,
    RoutingCore,
    adrive,
    total_cost,
)
from langchain_hybridflow.calls.steps import Script
from langchain_hybridflow.calls.verifying import Desk, VerifyRequest, logprobs_of
from langchain_hybridflow.errors import (
    BudgetExceeded,
    ConfigurationError,
    LedgerError,
    UnknownPriceError,
)
from langchain_hybridflow.profiling.judging import Grader
from langchain_hybridflow.profiling.records import Item
from langchain_hybridflow.profiling.scoring import Score
from langchain_hybridflow.routing import RouteRequest, Tier
from langchain_hybridflow.verify import Confidence, ConfidenceSignal

__all__ = ["Asker", "Bought", "Graded", "Measured", "utc_now"]

T = TypeVar("T")

_OUR_FAULT = (ConfigurationError, LedgerError, UnknownPriceError)
"""Errors that the next call would have, too: they are raised, and no outcome of a question."""

_CUT_OFF = ("length", "max_tokens", "MAX_TOKENS")


def utc_now() -> datetime:
    """Return the time of day, in UTC."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bought:
    """What came of one call: an answer, or an error.

    Attributes:
        attempt: The record of it: model, tokens, USD, and the error if there is no answer.
        text: The answer; `None` if the call failed.
        truncated: Whether the longest answer allowed cut it off.
        seconds: From request to whole answer, without retries and waiting.
        asked_at: When it began, ISO 8601, UTC.
        answered_at: When it ended.
        purchase: The answer with all that came with it; `None` if the call failed.
    """

    attempt: Attempt
    text: str | None
    truncated: bool
    seconds: float | None
    asked_at: str
    answered_at: str
    purchase: Purchase | None = None

    def facts(self) -> dict[str, Any]:
        """Return what of it goes into an `Outcome`."""
        failed = self.text is None
        return {
            "tier": self.attempt.tier,
            "model": self.attempt.model,
            "input_tokens": self.attempt.input_tokens,
            "output_tokens": self.attempt.output_tokens,
            "usage_estimated": self.attempt.usage_estimated,
            "usd": self.attempt.cost_usd,
            "error": (self.attempt.error or "no reason given") if failed else None,
            "seconds": self.seconds,
            "truncated": None if failed else self.truncated,
            "asked_at": self.asked_at,
            "answered_at": self.answered_at,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Graded:
    """What came of the grading of an answer by a model.

    Attributes:
        score: What it says; `None` if the call failed.
        usd: What that cost; `None` is unknown.
        error: Why the call failed, in one line, without secrets.
    """

    score: Score | None
    usd: Decimal | None
    error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What came of a look at how sure the edge was of an answer.

    Attributes:
        confidence: What the signal says; `None` if a call of its own failed.
        usd: What that cost; `None` is unknown.
        error: Why the call failed, in one line, without secrets.
    """

    confidence: Confidence | None
    usd: Decimal | None
    error: str | None


@dataclass(slots=True, kw_only=True)
class Asker:
    """Asks either tier, as often as wanted: reserve, call, settle, as every call of this package.

    Attributes:
        core: The routing core of a `RoutedChatModel`; its router is not asked.
        run: The account that pays. Its identity must be new in each process: what an earlier one
            had under way may have been billed.
        clock: Seconds, monotonic.
        now: The time of day, in UTC.
    """

    core: RoutingCore
    run: RunBudget
    clock: Callable[[], float] = time.monotonic
    now: Callable[[], datetime] = utc_now
    _numbers: Any = field(default_factory=count, repr=False)

    def lease_id(self) -> str:
        """Return an identity for a purchase, never used before."""
        return f"{self.run.run_id}/{next(self._numbers)}"

    async def ask(
        self,
        tier: Tier,
        messages: Sequence[BaseMessage],
        *,
        options: Mapping[str, Any] | None = None,
    ) -> Bought:
        """Buy an answer.

        Args:
            tier: Who is asked.
            messages: The prompt.
            options: Call options in neutral form, such as `max_tokens`.

        Returns:
            The answer, or why there is none: an error of the model is an outcome.

        Raises:
            BudgetExceeded: The budget does not allow the call; it was not made.
            ConfigurationError: No call of this kind can work.
            LedgerError: The call cannot be booked.
            UnknownPriceError: USD are limited, and nobody has said what the model costs.
        """
        asked_at = self.now()
        watch = Stopwatch(self.clock)
        script = self.core.attempt(
            tier,
            list(messages),
            run=self.run,
            lease_id=self.lease_id(),
            options=dict(options or {}),
        )
        text, truncated, purchase = None, False, None
        try:
            purchase = await watch.drive(script)
        except AttemptFailed as failed:
            if isinstance(failed.error, (BudgetExceeded, *_OUR_FAULT)):
                raise failed.error from failed
            attempt = failed.attempt
        else:
            attempt, text = purchase.attempt, purchase.message.text
            truncated = _is_cut_off(purchase)
        return Bought(
            attempt=attempt,
            text=text,
            truncated=truncated,
            seconds=watch.seconds,
            asked_at=asked_at.isoformat(timespec="milliseconds"),
            answered_at=self.now().isoformat(timespec="milliseconds"),
            purchase=purchase,
        )

    async def grade(self, grader: Grader, item: Item, answer: str) -> Graded:
        """Let a model score an answer.

        Raises:
            BudgetExceeded: The budget does not allow the call; it was not made.
            ConfigurationError: No call of this kind can work.
            LedgerError: The call cannot be booked.
            UnknownPriceError: USD are limited, and nobody has said what the model costs.
        """
        desk = self._desk(item)
        score, error = await self._bought_at(desk, grader.grade(item, answer, desk))
        return Graded(score=score, usd=total_cost(desk.attempts), error=error)

    async def measure(
        self,
        signal: ConfidenceSignal,
        item: Item,
        messages: Sequence[BaseMessage],
        answer: Purchase | str,
        *,
        options: Mapping[str, Any] | None = None,
    ) -> Measured:
        """Look how sure the edge was of an answer, as a `ConfidenceVerifier` does.

        Args:
            signal: What says so.
            item: What was asked.
            messages: The prompt.
            answer: The answer, or its text: to a signal that does not read log-probabilities.
            options: Call options of the answer.

        Raises:
            BudgetExceeded: The budget does not allow a call of the signal; it was not made.
            ConfigurationError: No call of this kind can work.
            LedgerError: The call cannot be booked.
            UnknownPriceError: USD are limited, and nobody has said what the model costs.
        """
        desk = self._desk(item, options)
        request = VerifyRequest(
            question=item.question,
            messages=messages,
            answer=AIMessage(answer) if isinstance(answer, str) else answer.message,
            logprobs=None if isinstance(answer, str) else logprobs_of(answer.result),
        )
        found, error = await self._bought_at(desk, signal.measure(request, desk))
        return Measured(confidence=found, usd=total_cost(desk.attempts), error=error)

    def _desk(self, item: Item, options: Mapping[str, Any] | None = None) -> Desk:
        return Desk(
            buyer=self.core,
            run=self.run,
            lease_id=self.lease_id(),
            request=RouteRequest(text=item.question),
            options=dict(options or {}),
        )

    async def _bought_at(self, desk: Desk, script: Script[T]) -> tuple[T | None, str | None]:
        """Run a script that buys at a desk; return its result, or why a call failed."""
        try:
            return await Stopwatch(self.clock).drive(script), None
        except AttemptFailed as failed:
            if isinstance(failed.error, (BudgetExceeded, *_OUR_FAULT)):
                raise failed.error from failed
            return None, failed.attempt.error or type(failed.error).__name__


@dataclass(slots=True)
class Stopwatch:
    """Runs scripts, and notes how long the last model call of each took."""

    clock: Callable[[], float]
    seconds: float | None = None

    async def drive(self, script: Script[T]) -> T:
        """Run a script to its end."""
        return await adrive(script, self._call)

    async def _call(self, call: Call) -> ChatResult:
        started = self.clock()
        try:
            return await call.target.agenerate(call.messages, run_manager=None, **call.options)
        finally:
            self.seconds = self.clock() - started


def _is_cut_off(purchase: Purchase) -> bool:
    first = purchase.result.generations[0]
    places = (first.message.response_metadata, first.generation_info or {})
    return any(
        place.get(name) in _CUT_OFF for place in places for name in ("finish_reason", "stop_reason")
    )
