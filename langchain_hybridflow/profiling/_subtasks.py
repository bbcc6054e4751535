"""Subtasks as items of a profile: what is asked, what is written down, and the way back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Final, Literal, TypeAlias

from langchain_core.messages import BaseMessage

from langchain_hybridflow.graph import SubtaskRecord
from langchain_hybridflow.graph.prompts import subtask_messages
from langchain_hybridflow.learning.features import gives_no_answer, structure_facts
from langchain_hybridflow.plan import Subtask
from langchain_hybridflow.profiling._answers import Slot
from langchain_hybridflow.profiling.records import Item, Outcome
from langchain_hybridflow.routing import RouteRequest

__all__ = [
    "Purpose",
    "failure_of",
    "outcome_of",
    "prompt_of",
    "record_of",
    "slot_of",
    "subtask_item",
]

Purpose: TypeAlias = Literal["recorded", "run", "credit"]
"""What an answer was bought for: before, by the run that was recorded; the run that a profile
begins with; a trial. Those of the other tier, in the context of the run, say nothing."""

_INTERMEDIATE: Final = "an intermediate answer has no right answer of its own; see its credit"


def subtask_item(
    question: Item,
    subtask: Subtask,
    slot: Slot,
    *,
    messages: list[BaseMessage],
    request: RouteRequest | None = None,
) -> Item:
    """Describe a subtask, with what it builds on, as something that both tiers can be asked.

    Args:
        question: The whole question.
        subtask: The subtask.
        slot: Where its answer belongs; the tier does not matter.
        messages: Its prompt.
        request: What the router sees of it, for the features.
    """
    return Item(
        id=f"{question.id}/{subtask.id}/{slot.inputs_hash[:16]}",
        question=subtask.task,
        context=messages[-1].text,
        group=question.group or question.id,
        tag=question.tag,
        plan={} if request is None else structure_facts(request),
        extra={
            "question_id": question.id,
            "subtask_id": subtask.id,
            "inputs_hash": slot.inputs_hash,
        },
    )


def prompt_of(
    subtask: Subtask, question: str, results: Mapping[str, SubtaskRecord]
) -> list[BaseMessage]:
    """Write the prompt that the graph writes for a subtask whose parents were answered so."""
    answers = {one: results[one]["answer"] or "" for one in subtask.depends_on}
    return subtask_messages(subtask, question=question, answers=answers)


def outcome_of(item: Item, record: SubtaskRecord, *, attempt: int, bought: Purpose) -> Outcome:
    """Write down an answer, still without a score."""
    answer = record["answer"] or ""
    return Outcome.about(
        _marked(item, bought),
        **_facts(record, attempt),
        status="unscored",
        score_reason=_INTERMEDIATE,
        answer=answer,
        answer_chars=len(answer),
        no_answer=gives_no_answer(answer),
    )


def failure_of(item: Item, record: SubtaskRecord, *, attempt: int, bought: Purpose) -> Outcome:
    """Write down that there is no answer, and what that cost."""
    last = record["attempts"][-1]
    facts = _facts(record, attempt) | {"tier": last["tier"], "model": last["model"]}
    error = str(record["error"] or "no reason given")
    return Outcome.about(_marked(item, bought), **facts, status="failed", error=error)


def record_of(outcome: Outcome) -> SubtaskRecord:
    """Return the record that a run would hold of an answer in the log."""
    began, ended = _seconds(outcome.asked_at), _seconds(outcome.answered_at)
    return SubtaskRecord(
        id=str(outcome.extra["subtask_id"]),
        status="ok",
        answer=outcome.answer,
        error=None,
        tier=outcome.tier,
        model=outcome.model,
        decision=None,
        attempts=[],
        cost_usd=None if outcome.usd is None else str(outcome.usd),
        input_tokens=outcome.input_tokens,
        output_tokens=outcome.output_tokens,
        degraded=False,
        kept_local=False,
        ready_at=began,
        started_at=began,
        ended_at=max(began, ended),
        message_id=None,
        inputs_hash=str(outcome.extra["inputs_hash"]),
    )


def slot_of(outcome: Outcome) -> Slot:
    """Say where an answer in the log belongs."""
    extra = outcome.extra
    return Slot(str(extra["subtask_id"]), str(extra["inputs_hash"]), outcome.tier)


def _marked(item: Item, bought: Purpose) -> Item:
    return replace(item, extra={**item.extra, "bought_for": bought})


def _facts(record: SubtaskRecord, attempt: int) -> dict[str, Any]:
    seconds = max(record["ended_at"] - record["started_at"], 0.0)
    return {
        "tier": record["tier"],
        "model": record["model"] or "unknown",
        "attempt": attempt,
        "input_tokens": record["input_tokens"],
        "output_tokens": record["output_tokens"],
        "usd": _usd(record["cost_usd"]),
        "seconds": seconds or None,
        "asked_at": _time(record["started_at"]),
        "answered_at": _time(record["ended_at"]),
    }


def _usd(text: str | None) -> Decimal | None:
    try:
        amount = None if text is None else Decimal(text)
    except InvalidOperation:
        return None
    return amount if amount is not None and amount.is_finite() and amount >= 0 else None


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp() if text else 0.0
