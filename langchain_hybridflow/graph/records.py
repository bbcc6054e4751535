"""What is written down about subtasks, and told of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Literal

from langchain_core.messages import AIMessage

from langchain_hybridflow.answer_or_ask import Reply
from langchain_hybridflow.calls import (
    Attempt,
    AttemptFailed,
    Purchase,
    degrades,
    describe_error,
    total_cost,
)
from langchain_hybridflow.calls.verifying import logprobs_of
from langchain_hybridflow.errors import ModelCallError
from langchain_hybridflow.graph.state import SubtaskRecord
from langchain_hybridflow.plan import Subtask

__all__ = [
    "asked",
    "barred",
    "held_answer",
    "no_text",
    "noted_reply",
    "reply_of",
    "skipped",
    "summary",
]


def asked(
    work: Mapping[str, Any],
    attempts: list[dict[str, Any]],
    last: Attempt,
    message: AIMessage | None,
    *,
    started_at: float,
    now: float,
) -> SubtaskRecord:
    """Record a subtask that models were asked for.

    Args:
        work: What is known of it.
        attempts: All calls, in plain JSON types.
        last: The call that gave the answer, or failed to.
        message: The answer, if there is one.
        started_at: When that call began, in seconds since the epoch.
        now: Seconds since the epoch.
    """
    made = [Attempt.model_validate(attempt) for attempt in attempts]
    cost, late = total_cost(made), work.get("late", False)
    return SubtaskRecord(
        id=work["subtask"]["id"],
        status="failed" if message is None else "ok",
        answer=None if message is None else message.text,
        error=None if message else "; ".join(f"{one.tier}: {one.error}" for one in made),
        tier=None if message is None else last.tier,
        model=None if message is None else last.model,
        decision=work["decision"],
        attempts=attempts,
        cost_usd=None if cost is None else str(cost),
        input_tokens=sum(attempt.input_tokens for attempt in made),
        output_tokens=sum(attempt.output_tokens for attempt in made),
        degraded=message is not None and last.tier == "edge" and (late or degrades(made)),
        kept_local=work["decision"]["kept_local"],
        ready_at=work["ready_at"],
        started_at=started_at,
        ended_at=now,
        message_id=None if message is None else message.id,
        inputs_hash=work["inputs_hash"],
        timeline=work.get("timeline", []),
    )


def skipped(subtask: Subtask, lost: list[str], *, now: float) -> SubtaskRecord:
    """Record a subtask that needs answers which are not there."""
    error = f"needs the result of {', '.join(lost)}, which has none"
    return _unasked(subtask, error, status="skipped", now=now)


def barred(subtask: Subtask, error: Exception, *, inputs_hash: str, now: float) -> SubtaskRecord:
    """Record a subtask that no tier may or can answer."""
    record = _unasked(subtask, describe_error(error), status="failed", now=now)
    return {**record, "inputs_hash": inputs_hash}


def held_answer(purchase: Purchase, attempt: int, started_at: float) -> dict[str, Any]:
    """Write down an edge answer that is still to be looked at, so that it outlives the process.

    Args:
        purchase: The answer.
        attempt: Its place among the attempts.
        started_at: When its call began.
    """
    message, logprobs = purchase.message, logprobs_of(purchase.result)
    return {
        "text": message.text,
        "message_id": message.id,
        "logprobs": None if logprobs is None else list(logprobs),
        "attempt": attempt,
        "started_at": started_at,
    }


def noted_reply(purchase: Purchase) -> dict[str, Any] | None:
    """Write down what an edge has said that asked for help, so that it outlives the process."""
    return None if purchase.reply is None else asdict(purchase.reply)


def reply_of(noted: Mapping[str, Any] | None) -> Reply | None:
    """Read what `noted_reply` wrote down."""
    return None if noted is None else Reply(**noted)


def no_text(purchase: Purchase) -> AttemptFailed:
    """Return the failure of a purchase without text.

    An answer without text was paid for, and is none: the other tier may give a better one.
    """
    reason = purchase.message.response_metadata.get("finish_reason")
    hint = "; raise max_output_tokens" if reason == "length" else ""
    error = ModelCallError(
        f"the model returned no text (finish reason: {reason or 'not given'}{hint})",
        tier=purchase.attempt.tier,
    )
    failed = purchase.attempt.model_copy(update={"status": "failed", "error": str(error)})
    return AttemptFailed(failed, error)


def summary(record: SubtaskRecord) -> dict[str, Any]:
    """Tell the custom stream what became of a subtask."""
    return {
        "subtask_id": record["id"],
        "status": record["status"],
        "tier": record["tier"],
        "model": record["model"],
        "cost_usd": record["cost_usd"],
        "error": record["error"],
        "answer": record["answer"],
    }


def _unasked(
    subtask: Subtask, error: str, *, status: Literal["failed", "skipped"], now: float
) -> SubtaskRecord:
    return SubtaskRecord(
        id=subtask.id,
        status=status,
        answer=None,
        error=error,
        tier=None,
        model=None,
        decision=None,
        attempts=[],
        cost_usd="0",
        input_tokens=0,
        output_tokens=0,
        degraded=False,
        kept_local=False,
        ready_at=now,
        started_at=now,
        ended_at=now,
        message_id=None,
        inputs_hash="",
        timeline=[],
    )
