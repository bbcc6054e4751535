"""What runs are made from: the output of a graph, and what `hybridflow ask --json` prints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from langchain_hybridflow.errors import InputError

__all__ = ["FORMAT", "VERSION", "cleaned", "fields_of"]

FORMAT: Final = "hybridflow-run"
VERSION: Final = 1

_LATEST_S: Final = 1e9
_NEITHER: Final = (
    "This is not a run. Give what HybridFlowGraph(...).compile().invoke(...) returned, a file of "
    "Run.save or of hybridflow ask --run-out, or what hybridflow ask --json printed."
)


def fields_of(out: Mapping[str, Any]) -> dict[str, Any]:
    """Read the fields of a run; all times count from the first of them.

    Raises:
        InputError: It is neither an output of a graph nor one of `hybridflow ask --json`.
    """
    try:
        return _relative(_fields(out))
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise InputError(f"{_NEITHER} ({type(error).__name__}: {error})") from error


def _fields(out: Mapping[str, Any]) -> dict[str, Any]:
    if {"plan", "results", "report"} <= out.keys():
        if not out["report"]:
            raise InputError("This run has not come to its end: it has no report yet.")
        report, rows = out["report"], out["results"]
        planning, question = report.get("planning") or {}, _question_in(out.get("messages"))
    elif {"plan", "subtasks", "totals", "planning"} <= out.keys():
        report, rows = out, {row["id"]: _of_row(row) for row in out["subtasks"]}
        # The planner's clock is not that of the rows.
        planning = {**(out["planning"] or {}), "timeline": []}
        question = out.get("question") or ""
    elif {"apgr", "curve"} <= out.keys():
        raise InputError("This is an evaluation of a router: give it with --evaluation.")
    else:
        raise InputError(_NEITHER)
    ids = [row["id"] for row in report["subtasks"]]
    if not ids:
        raise InputError(_NEITHER)
    totals = report.get("totals") or {}
    return {
        "question": question,
        "answer": out.get("answer") or "",
        "complete": bool(report.get("complete")),
        "plan": out["plan"],
        "planning": dict(planning),
        "subtasks": [dict(rows[one]) for one in ids],
        "edge": totals.get("edge") or {},
        "cloud": totals.get("cloud") or {},
        "critical_path": report.get("critical_path") or _critical(report),
        "critical_path_s": report.get("critical_path_s") or 0.0,
        "makespan_s": report.get("makespan_s") or 0.0,
    }


def _relative(fields: dict[str, Any]) -> dict[str, Any]:
    """Count all times from the first of them: nobody compares epochs.

    A clock that was set back meanwhile makes no time negative.
    """
    planning, subtasks = fields["planning"], fields["subtasks"]
    times = [float(one["ready_at"]) for one in subtasks]
    for one in (planning, *subtasks):
        times += [float(moment["at"]) for moment in one.get("timeline") or ()]
    origin = min(times)
    fields["planning"] = planning | {"timeline": _moments(planning.get("timeline"), origin)}
    fields["subtasks"] = [_timed(one, origin) for one in subtasks]
    fields["started_at"] = origin if origin > _LATEST_S else None
    return fields


def cleaned(value: Any) -> Any:
    """Replace what UTF-8 cannot carry in all texts: models do write halves of surrogate pairs.

    Raises:
        InputError: It is nested too deeply to be read.
    """
    try:
        return _cleaned(value)
    except RecursionError:  # no chain of it: that alone would be a thousand lines
        raise InputError("This is nested too deeply to be a run or an evaluation.") from None


def _cleaned(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, Mapping):
        return {_cleaned(key): _cleaned(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_cleaned(one) for one in value]
    return value


def _timed(one: Mapping[str, Any], origin: float) -> dict[str, Any]:
    ready = max(float(one["ready_at"]) - origin, 0.0)
    start = max(float(one["started_at"]) - origin, ready)
    end = max(float(one["ended_at"]) - origin, start)
    times = {"ready_s": ready, "start_s": start, "end_s": end}
    return {**one, **times, "timeline": _moments(one.get("timeline"), origin)}


def _moments(timeline: Any, origin: float) -> list[dict[str, Any]]:
    return [{**moment, "at_s": max(float(moment["at"]) - origin, 0.0)} for moment in timeline or ()]


def _of_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """The record of a subtask from its row in a report, which has fewer details."""
    decided = row.get("decided")
    names = ("score", "threshold", "price", "expected_cost_usd")
    said = {"tier": decided, "reason": row.get("reason") or ""}
    decision = None if decided is None else said | {name: row.get(name) for name in names}
    times = {there: row.get(here) for here, there in _TIMES.items()}
    plain = {key: value for key, value in row.items() if key not in ("attempts", "timeline")}
    return plain | times | {"decision": decision}


_TIMES: Final = {"ready_s": "ready_at", "start_s": "started_at", "end_s": "ended_at"}


def _critical(report: Mapping[str, Any]) -> list[str]:
    return [str(row["id"]) for row in report["subtasks"] if row.get("on_critical_path")]


def _question_in(messages: Any) -> str:
    """The last thing that a person said, as an object of LangChain's or as JSON."""
    for message in reversed(messages if isinstance(messages, list | tuple) else ()):
        plain = message if isinstance(message, Mapping) else vars(message)
        if plain.get("type") in ("human", "user") or plain.get("role") == "user":
            content = plain.get("content")
            text = getattr(message, "text", None)
            return text if isinstance(text, str) else content if isinstance(content, str) else ""
    return ""
