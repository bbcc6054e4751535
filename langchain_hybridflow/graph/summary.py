"""The run in figures, and the answer in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from langchain_core.messages import AIMessage

from langchain_hybridflow.graph.state import SubtaskRecord
from langchain_hybridflow.plan import Plan, critical_path

__all__ = ["final_answer", "final_message", "run_report"]


def final_answer(plan: Plan, results: Mapping[str, SubtaskRecord]) -> str:
    """Return the sink's answer, or say what is missing and what was found all the same."""
    answer = results[plan.sink.id]["answer"]
    if answer is not None:
        return answer
    lines = ["The question could not be answered completely."]
    for subtask_id in plan.order:
        record = results[subtask_id]
        if record["status"] != "ok":
            lines.append(f"- Missing: {_short(plan[subtask_id].task)} ({record['error']})")
    for subtask_id in plan.order:
        record = results[subtask_id]
        if record["status"] == "ok":
            lines.append(f"- Found: {_short(plan[subtask_id].task)} {record['answer']}")
    return "\n".join(lines)


def final_message(text: str, last: SubtaskRecord, report: Mapping[str, Any]) -> AIMessage:
    """Return the answer as the assistant's turn, with what its reader should know about the run.

    Args:
        text: The answer.
        last: What became of the last subtask.
        report: See `run_report`.
    """
    return AIMessage(
        content=text,
        id=last["message_id"],
        response_metadata={
            "model_name": last["model"] or "hybridflow",
            "hybridflow": {
                key: report[key]
                for key in ("complete", "missing", "degraded", "kept_local", "totals")
            },
        },
    )


def run_report(
    plan: Plan, results: Mapping[str, SubtaskRecord], planning: Mapping[str, Any]
) -> dict[str, Any]:
    """Sum up a run, in plain JSON types.

    Returns:
        `subtasks`: for each, in topological order, who answered, why, what it cost (USD as text,
        `None` unknown), its tokens, its start and end in seconds since the first subtask was
        ready, and whether it lay on the critical path. `totals`: calls, tokens and USD by tier,
        planning included, and `degraded` once more. `makespan_s` against `critical_path_s`, the
        time that no parallelism could have saved. `complete`: whether the last subtask has an
        answer; `missing`: the ids of those that have none; `degraded`: whether the budget, or the
        deadline, made the edge answer for the cloud; `kept_local`: whether a policy kept a subtask
        on the edge.
    """
    origin = min(record["ready_at"] for record in results.values())
    durations = {
        subtask_id: max(results[subtask_id]["ended_at"] - results[subtask_id]["started_at"], 0.0)
        for subtask_id in plan.order
    }
    path = critical_path(plan, durations)
    makespan_s = max(record["ended_at"] for record in results.values()) - origin
    attempts = [attempt for record in results.values() for attempt in record["attempts"]]
    return {
        "complete": results[plan.sink.id]["status"] == "ok",
        "missing": [key for key in plan.order if results[key]["status"] != "ok"],
        "degraded": any(record["degraded"] for record in results.values()),
        "kept_local": any(record["kept_local"] for record in results.values()),
        "makespan_s": makespan_s,
        "critical_path_s": path.length,
        "critical_path": list(path.ids),
        "planning": dict(planning),
        "totals": {
            **_totals([*planning.get("attempts", ()), *attempts]),
            "degraded": any(record["degraded"] for record in results.values()),
        },
        "subtasks": [
            _row(plan, results[subtask_id], origin=origin, critical=subtask_id in path.ids)
            for subtask_id in plan.order
        ],
    }


def _row(plan: Plan, record: SubtaskRecord, *, origin: float, critical: bool) -> dict[str, Any]:
    decision = record["decision"] or {}
    subtask = plan[record["id"]]
    return {
        "id": record["id"],
        "role": subtask.role.value,
        "task": subtask.task,
        "depends_on": list(subtask.depends_on),
        "status": record["status"],
        "error": record["error"],
        "tier": record["tier"],
        "model": record["model"],
        "decided": decision.get("tier"),
        "reason": decision.get("reason"),
        "score": decision.get("score"),
        "threshold": decision.get("threshold"),
        "price": decision.get("price"),
        "expected_cost_usd": decision.get("expected_cost_usd"),
        "cost_usd": record["cost_usd"],
        "input_tokens": record["input_tokens"],
        "output_tokens": record["output_tokens"],
        "attempts": len(record["attempts"]),
        "degraded": record["degraded"],
        "kept_local": record["kept_local"],
        "ready_s": record["ready_at"] - origin,
        "start_s": record["started_at"] - origin,
        "end_s": record["ended_at"] - origin,
        "on_critical_path": critical,
    }


def _totals(attempts: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Sum attempts by tier; a USD sum with an unknown part is unknown."""
    totals: dict[str, Any] = {}
    for tier in ("edge", "cloud"):
        mine = [attempt for attempt in attempts if attempt["tier"] == tier]
        made = [attempt for attempt in mine if attempt["status"] != "refused"]
        costs = [attempt["cost_usd"] for attempt in made]
        known = None if None in costs else sum((Decimal(cost) for cost in costs), Decimal(0))
        totals[tier] = {
            "calls": len(made),
            "refused": len(mine) - len(made),
            "input_tokens": sum(attempt["input_tokens"] for attempt in made),
            "output_tokens": sum(attempt["output_tokens"] for attempt in made),
            "cost_usd": None if known is None else str(known),
        }
    parts = [totals[tier]["cost_usd"] for tier in ("edge", "cloud")]
    totals["cost_usd"] = (
        None if None in parts else str(sum((Decimal(part) for part in parts), Decimal(0)))
    )
    return totals


def _short(text: str, limit: int = 120) -> str:
    line = " ".join(text.split())
    return line if len(line) <= limit else f"{line[: limit - 3]}..."
