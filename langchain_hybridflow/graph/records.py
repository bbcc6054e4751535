"""What is written down about subtasks that no model was asked for, and what is told of any."""

from __future__ import annotations

from typing import Any, Literal

from langchain_hybridflow.calls import describe_error
from langchain_hybridflow.graph.state import SubtaskRecord
from langchain_hybridflow.plan import Subtask

__all__ = ["barred", "skipped", "summary"]


def skipped(subtask: Subtask, lost: list[str], *, now: float) -> SubtaskRecord:
    """Record a subtask that needs answers which are not there."""
    error = f"needs the result of {', '.join(lost)}, which has none"
    return _unasked(subtask, error, status="skipped", now=now)


def barred(subtask: Subtask, error: Exception, *, inputs_hash: str, now: float) -> SubtaskRecord:
    """Record a subtask that no tier may or can answer."""
    record = _unasked(subtask, describe_error(error), status="failed", now=now)
    return {**record, "inputs_hash": inputs_hash}


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
    )
