"""Look at an edge answer before anybody gets to see it, and say whether it will do."""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatResult

from langchain_hybridflow.budget import RunBudget
from langchain_hybridflow.calls.buying import AttemptFailed, Buyer
from langchain_hybridflow.calls.drive import in_time
from langchain_hybridflow.calls.failures import describe_error
from langchain_hybridflow.calls.helper import Helper
from langchain_hybridflow.calls.inner import TierModel
from langchain_hybridflow.calls.steps import Script
from langchain_hybridflow.calls.types import Attempt, Purchase
from langchain_hybridflow.errors import (
    ConfigurationError,
    LedgerError,
    PolicyViolation,
    UnknownPriceError,
)
from langchain_hybridflow.routing import Policy, RouteRequest, Tier, ask_policy, read_content
from langchain_hybridflow.telemetry import OpenSpan

__all__ = [
    "BuyingVerifier",
    "Desk",
    "OnVerifyError",
    "Verdict",
    "Verifier",
    "VerifyRequest",
    "answer_text",
    "judge",
    "logprobs_of",
]

logger = logging.getLogger(__name__)

OnVerifyError: TypeAlias = Literal["accept", "escalate"]
"""What happens to an edge answer when the verifier fails."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyRequest:
    """An edge answer, and what it is an answer to.

    Attributes:
        question: What was asked: the task of a subtask, or the last human message.
        messages: The whole prompt, as a tuple.
        answer: The answer, tool calls included.
        logprobs: The natural logarithms of the probabilities of the answer's tokens, each <= 0;
            `None` if the provider sent none.
        subtask_id: The id within the plan; `None` outside a plan.
        routed: What the router was asked, without the state of the budget; `None` if nobody was.
    """

    question: str
    messages: Sequence[BaseMessage]
    answer: AIMessage
    logprobs: tuple[float, ...] | None = None
    subtask_id: str | None = None
    routed: RouteRequest | None = None

    def __post_init__(self) -> None:
        # What the verifier does to it must not change what the cloud is asked afterwards.
        object.__setattr__(self, "messages", tuple(self.messages))


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether an answer will do.

    Args:
        accept: Whether it will, as a bool or a NumPy one. If not, the question goes on to the
            cloud.
        score: What the verifier measured, on its own scale.
        reason: The verdict in words, for reports; not the answer itself.

    Raises:
        ConfigurationError: `accept` is no bool, or the score is NaN or infinite.

    Example:
        >>> Verdict(accept=False, reason="no number in it")
        Verdict(accept=False, score=None, reason='no number in it')
    """

    accept: bool
    score: float | None = None
    reason: str = ""

    def __post_init__(self) -> None:
        accept = _plain(self.accept)
        if not isinstance(accept, bool):
            raise ConfigurationError(f"A verdict is True or False, not {self.accept!r}.")
        object.__setattr__(self, "accept", accept)
        if self.score is None:
            return
        if not isfinite(self.score):
            raise ConfigurationError(f"A verdict's score must be finite, not {self.score!r}.")
        object.__setattr__(self, "score", float(self.score))

    def facts(self) -> dict[str, bool | float | str | None]:
        """Return what goes on the record of the attempt that was looked at."""
        return {"accepted": self.accept, "score": self.score, "verdict": self.reason}


Verifier: TypeAlias = Callable[[VerifyRequest], bool | Verdict | Awaitable[bool | Verdict]]
"""Looks at an edge answer. It may block, or be async; it is never asked about a cloud answer."""


@runtime_checkable
class BuyingVerifier(Protocol):
    """A verifier that asks models itself, and pays for that from the budget of the call."""

    def check(self, request: VerifyRequest, desk: Desk) -> Script[Verdict]:
        """Look at an answer; a script, see `langchain_hybridflow.calls.steps`."""
        ...


@dataclass(slots=True, kw_only=True)
class Desk:
    """Where a verifier buys answers, within the budget of the call that it looks at.

    Attributes:
        buyer: Who buys.
        run: The account that pays.
        lease_id: Start of the identities of its purchases.
        request: The call that is looked at, as the policy saw it.
        policy: Says whether the cloud may see what the verifier asks; `None` allows it.
        options: The options of the call that is looked at, in neutral form.
        turn: Runs a purchase when it is the tier's turn.
        parent: The span of the call that is looked at.
        purchases: What was bought so far.
        attempts: The records of it, and of what failed.
    """

    buyer: Buyer
    run: RunBudget
    lease_id: str
    request: RouteRequest
    policy: Policy | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    turn: Callable[[Tier, Script[Purchase]], Script[Purchase]] = lambda _, script: script
    parent: OpenSpan | None = None
    purchases: list[Purchase] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)

    def ask(
        self,
        model: Tier | TierModel,
        messages: list[BaseMessage],
        *,
        options: Mapping[str, Any] | None = None,
    ) -> Script[Purchase]:
        """Buy an answer that nobody but the verifier gets to see.

        What goes to the cloud is shown to the policy first: the prompt was allowed to go there,
        but the edge's answer may say what was not.

        Args:
            model: A tier, or a model of the verifier's own.
            messages: The prompt.
            options: Call options, all of them.

        Raises:
            AttemptFailed: From the error of the model, of the budget or of the policy.
        """
        target = model if isinstance(model, TierModel) else self.buyer.models[model]
        if target.tier == "cloud":
            self._check_policy(target, messages, options or {})
        script = self.buyer.buy(
            target,
            messages,
            run=self.run,
            lease_id=f"{self.lease_id}/verify-{len(self.attempts)}",
            options=options,
            shown=False,
            parent=self.parent,
        )
        try:
            purchase = yield from self.turn(target.tier, script)
        except AttemptFailed as failed:
            self.attempts.append(failed.attempt.model_copy(update={"purpose": "verify"}))
            raise
        attempt = purchase.attempt.model_copy(update={"purpose": "verify"})
        self.attempts.append(attempt)
        self.purchases.append(replace(purchase, attempt=attempt))
        return purchase

    def _check_policy(
        self, target: TierModel, messages: list[BaseMessage], options: Mapping[str, Any]
    ) -> None:
        content = read_content(messages, options)
        sent = replace(self.request, prompt=content.text, attachments=bool(content.media))
        allowed = ask_policy(self.policy, sent)
        if "cloud" in allowed:
            return
        error = PolicyViolation(allowed.reason, allowed=tuple(allowed))
        facts = {"model": target.name, "purpose": "verify"}
        attempt = self.buyer.refusal("cloud", error).model_copy(update=facts)
        self.attempts.append(attempt)
        raise AttemptFailed(attempt, error)


def judge(
    verifier: Verifier | BuyingVerifier,
    request: VerifyRequest,
    desk: Desk,
    *,
    on_error: OnVerifyError,
) -> Script[Verdict]:
    """Ask a verifier; whatever goes wrong in it becomes a verdict.

    Raises:
        ConfigurationError: It cannot work as given.
        LedgerError: Its purchases cannot be booked.
        UnknownPriceError: Nobody has said what its model costs.
    """
    try:
        if isinstance(verifier, BuyingVerifier):
            found: object = yield from verifier.check(request, desk)
        else:
            found = yield _Consult(verifier, request, desk.run.remaining_s())
        if isinstance(found, Verdict):
            return found
        return Verdict(_checked_bool(found))
    except (ConfigurationError, LedgerError, UnknownPriceError):
        raise
    except Exception as error:
        if _passes_by(error):
            raise
        fault = _fault(error, desk)
        if not isinstance(error, AttemptFailed) or error.attempt.status == "failed":
            name = getattr(verifier, "__name__", type(verifier).__name__)
            logger.warning("Verifier %s failed: %s (%s the answer)", name, fault, on_error)
        return Verdict(on_error == "accept", reason=f"the verifier failed ({fault}): {on_error}")


def _passes_by(error: Exception) -> bool:
    """Whether this is no failure, but LangGraph interrupting the run to ask a person."""
    return any(kind.__name__ == "GraphBubbleUp" for kind in type(error).__mro__)


def _fault(error: Exception, desk: Desk) -> str:
    if isinstance(error, AttemptFailed):  # its record knows the secrets of the model that failed
        return error.attempt.error or type(error.error).__name__
    return describe_error(error, models=[model.model for model in desk.buyer.models.values()])


def _checked_bool(found: object) -> bool:
    plain = _plain(found)
    if not isinstance(plain, bool):
        raise TypeError(f"a verifier returns a bool or a Verdict, got {type(found).__name__}")
    return plain


def _plain(value: object) -> object:
    """Return what stands in a scalar of NumPy and its like; anything else as it is."""
    item = getattr(value, "item", None)
    return item() if callable(item) else value


@dataclass(slots=True)
class _Consult:
    """Call a verifier that is a function."""

    verifier: Verifier
    request: VerifyRequest
    timeout_s: float | None

    def perform(self) -> object:
        """Call it; an async one runs in an event loop of its own."""
        return in_time(self._call, self.timeout_s, what="Verifying an answer")

    async def aperform(self) -> object:
        """Call it; one that is not async may block, and runs in a thread."""
        verifier = self.verifier
        awaits = inspect.iscoroutinefunction(verifier) or inspect.iscoroutinefunction(
            getattr(verifier, "__call__", None)  # noqa: B004 - its kind is asked
        )
        async with asyncio.timeout(self.timeout_s):
            found = (
                verifier(self.request)
                if awaits
                else await asyncio.to_thread(verifier, self.request)
            )
            return await found if inspect.isawaitable(found) else found

    def _call(self) -> object:
        found = self.verifier(self.request)
        if not inspect.isawaitable(found):
            return found

        async def wait() -> object:
            return await found

        # Not here: the caller's thread may be that of a loop that is running.
        with Helper() as helper:
            return helper.submit(lambda: asyncio.run(wait())).result()


def answer_text(message: AIMessage) -> str:
    """Return what an answer says, as one text: its text, and its tool calls as JSON.

    Example:
        >>> answer_text(AIMessage("", tool_calls=[{"name": "add", "args": {"a": 1}, "id": "x"}]))
        '{"name": "add", "args": {"a": 1}}'
    """
    calls = [{"name": call["name"], "args": call["args"]} for call in message.tool_calls]
    return "\n".join(
        part for part in (message.text, *(json.dumps(call, default=str) for call in calls)) if part
    )


def logprobs_of(result: ChatResult) -> tuple[float, ...] | None:
    """Return the log-probabilities of an answer's tokens, in the form that OpenAI gives them.

    Other servers that speak its protocol (vLLM, llama.cpp, SGLang) use the same.

    Returns:
        One for each token; `None` if the provider sent none.
    """
    generation = result.generations[0]
    for place in (generation.message.response_metadata, generation.generation_info or {}):
        given = place.get("logprobs")
        tokens = given.get("content") if isinstance(given, Mapping) else None
        if isinstance(tokens, Sequence) and tokens:
            found = [token.get("logprob") for token in tokens if isinstance(token, Mapping)]
            numbers = tuple(float(one) for one in found if isinstance(one, int | float))
            if len(numbers) == len(tokens):
                return numbers
    return None
