"""Runs of a graph that somebody has saved: their questions, plans and answers are used again.

A JSON file (an object, or a list of them) or JSON lines, each a run in one of these forms:

- what a graph returns (`out`): `messages` in any form that LangChain writes, `plan`, `results`,
  `report`;
- what `hybridflow ask --json` prints: `question`, `plan`, `subtasks`.

Beside that an object may have, as in the data of questions, `reference` (what is right), `id`,
`group` and `tag`. A run has an `answer` already: its own, which may be wrong.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import isnan
from pathlib import Path
from typing import Any, Final

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from pydantic import ValidationError

from langchain_hybridflow.errors import ConfigurationError, InputError, PlanError
from langchain_hybridflow.graph import SubtaskRecord
from langchain_hybridflow.graph.questions import in_context, question_in
from langchain_hybridflow.graph.state import inputs_hash
from langchain_hybridflow.plan import Plan
from langchain_hybridflow.profiling.items import check_items
from langchain_hybridflow.profiling.records import Item
from langchain_hybridflow.routing import TIERS

__all__ = ["RecordedRun", "read_runs", "recorded_run", "with_references"]

_MAX_QUESTION_CHARS: Final = 200_000
_LARGEST: Final = 1e10  # seconds since the epoch, or tokens: of this century
_HUMAN: Final = frozenset({"human", "user", "HumanMessage", "HumanMessageChunk"})
_AI: Final = frozenset({"ai", "assistant", "AIMessage", "AIMessageChunk"})


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedRun:
    """A question that was answered by a plan.

    Attributes:
        item: The question, and what is right.
        question: The question as the subtasks saw it, with what was said before it.
        plan: The plan.
        results: What became of the subtasks; those without a usable answer are left out.
        planned: How the plan came about: "planner", "trivial", "given", "fallback"; `None` if
            that is not recorded.
    """

    item: Item
    question: str
    plan: Plan
    results: Mapping[str, SubtaskRecord]
    planned: str | None = None


def read_runs(path: str | Path) -> list[RecordedRun]:
    """Read saved runs.

    Raises:
        ConfigurationError: The file cannot be read, or holds something that is no run; the message
            says which one and what it lacks.
    """
    path = Path(path)
    try:
        raw = path.read_bytes()
        text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8-sig")
    except (OSError, EOFError, ValueError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}.") from error
    runs = [
        recorded_run(row, number=number, source=str(path))
        for number, row in enumerate(_objects(text, path), start=1)
    ]
    check_items([run.item for run in runs], source=str(path))
    return runs


def recorded_run(row: Any, *, number: int = 1, source: str = "the data") -> RecordedRun:
    """Take a run out of what a graph returned, or `hybridflow ask --json` printed.

    Args:
        row: The object.
        number: Its number; its id, unless it says one.
        source: What the data are called in errors.

    Raises:
        ConfigurationError: It is no run.

    Example:
        >>> plan = {"subtasks": [{"id": "1", "task": "6 * 7?", "role": "generate"}]}
        >>> row = {"id": "1", "status": "ok", "tier": "edge", "answer": "42"}
        >>> run = recorded_run({"question": "6 * 7?", "plan": plan, "subtasks": [row]})
        >>> run.results["1"]["tier"], run.item.id
        ('edge', '1')
    """
    try:
        if not isinstance(row, Mapping):
            raise InputError("it is no JSON object")
        asked, question = _question(row)
        plan = Plan.model_validate(row.get("plan"))
        results = _results(row, plan, question)
        item = Item(
            id=str(row.get("id") or number),
            question=asked,
            reference=row.get("reference"),
            group=_text(row.get("group")),
            tag=_text(row.get("tag")),
        )
    except (InputError, PlanError, ValidationError) as error:
        raise ConfigurationError(
            f"Run {number} of {source} cannot be used: {_why(error)}. A run has messages "
            f"(or question), plan and results (or subtasks), as a graph returns them."
        ) from error
    return RecordedRun(
        item=item, question=question, plan=plan, results=results, planned=_planned(row)
    )


def with_references(runs: Sequence[RecordedRun], items: Sequence[Item]) -> list[RecordedRun]:
    """Give runs that do not know what is right the reference of the same question.

    Group and tag come with it where the run has none.

    Args:
        runs: The runs.
        items: Questions with references; told apart by their text.

    Raises:
        ConfigurationError: A run has no reference, and no question has its text.
    """
    known = {_normal(item.question): item for item in items}
    found = []
    for run in runs:
        if run.item.reference is not None:
            found.append(run)
            continue
        item = known.get(_normal(run.item.question))
        if item is None:
            raise ConfigurationError(
                f"Run {run.item.id!r} has no reference, and none of the {len(items)} questions "
                f"has its text. Put a field 'reference' into the run, or its question into the "
                f"data."
            )
        same = replace(
            run.item,
            reference=item.reference,
            choices=item.choices,
            group=run.item.group or item.group,
            tag=run.item.tag or item.tag,
        )
        found.append(replace(run, item=same))
    return found


def _objects(text: str, path: Path) -> list[Any]:
    try:
        whole = json.loads(text)
    except (RecursionError, ValueError):
        whole = None
    if isinstance(whole, list):
        return whole
    if whole is not None:
        return [whole]
    rows = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            rows.append(json.loads(line))
        except (RecursionError, ValueError) as error:
            raise ConfigurationError(
                f"{path} is neither JSON nor JSON lines; line {number}: {error}."
            ) from error
    return rows


def _question(row: Mapping[str, Any]) -> tuple[str, str]:
    """Return the question as it was asked, and as the subtasks saw it."""
    if row.get("messages") is None:
        asked = row.get("question")
        messages: list[AnyMessage] = [HumanMessage(asked if isinstance(asked, str) else "")]
    elif isinstance(row["messages"], list):
        messages = [one for one in map(_message, row["messages"]) if one is not None]
    else:
        raise InputError("its messages are no list")
    message, text = question_in(messages, max_chars=_MAX_QUESTION_CHARS)
    return text, in_context(text, messages[: messages.index(message)])


def _message(value: Any) -> AnyMessage | None:
    """Read a message in whatever form; `None` if it is of neither the user nor the assistant.

    LangChain's own loader makes objects that a file names. Here only kind and text are taken.
    """
    if isinstance(value, HumanMessage | AIMessage):
        return value
    if isinstance(value, list | tuple) and len(value) == 2:
        kind, content = value
    elif isinstance(value, Mapping):
        inside = value.get("data") or value.get("kwargs") or value
        named = value.get("id")
        made_by = named[-1] if value.get("lc") and isinstance(named, list) and named else None
        kind = made_by or value.get("type") or value.get("role")
        content = inside.get("content") if isinstance(inside, Mapping) else None
    else:
        raise InputError("one of its messages is no message")
    if not isinstance(content, str | list):
        raise InputError("one of its messages has no content")
    if kind in _HUMAN:
        return HumanMessage(content)
    return AIMessage(content) if kind in _AI else None


def _planned(row: Mapping[str, Any]) -> str | None:
    report = row.get("report")
    inside = report if isinstance(report, Mapping) else row
    planning = inside.get("planning")
    return _text(planning.get("source")) if isinstance(planning, Mapping) else None


def _results(row: Mapping[str, Any], plan: Plan, question: str) -> dict[str, SubtaskRecord]:
    """Return the usable answers: each with all that it was made from."""
    given = row.get("results")
    if given is None and isinstance(row.get("subtasks"), list):
        rows = [one for one in row["subtasks"] if isinstance(one, Mapping)]
        given = {str(one.get("id")): one for one in rows}
    if not isinstance(given, Mapping):
        raise InputError("it has neither results nor subtasks")
    results: dict[str, SubtaskRecord] = {}
    for subtask_id in plan.order:
        subtask, facts = plan[subtask_id], given.get(subtask_id)
        if not isinstance(facts, Mapping) or any(one not in results for one in subtask.depends_on):
            continue
        answers = {one: results[one]["answer"] or "" for one in subtask.depends_on}
        fingerprint = inputs_hash(subtask, question, answers)
        record = _record(subtask_id, facts, fingerprint)
        if record is not None:
            results[subtask_id] = record
    return results


def _record(subtask_id: str, facts: Mapping[str, Any], fingerprint: str) -> SubtaskRecord | None:
    """Return the record of an answer; `None` if there is none, or it answers something else."""
    answer, tier = facts.get("answer"), facts.get("tier")
    if facts.get("status") != "ok" or tier not in TIERS or not isinstance(answer, str):
        return None
    if not answer.strip() or facts.get("inputs_hash", fingerprint) != fingerprint:
        return None
    start, end = (
        _number(facts.get(f"{what}ed_at", facts.get(f"{what}_s"))) for what in ("start", "end")
    )
    return SubtaskRecord(
        id=subtask_id,
        status="ok",
        answer=answer,
        error=None,
        tier=tier,
        model=_text(facts.get("model")),
        decision=None,
        attempts=[],
        cost_usd=_text(facts.get("cost_usd")),
        input_tokens=int(_number(facts.get("input_tokens"))),
        output_tokens=int(_number(facts.get("output_tokens"))),
        degraded=bool(facts.get("degraded")),
        kept_local=bool(facts.get("kept_local")),
        ready_at=start,
        started_at=start,
        ended_at=max(end, start),
        message_id=None,
        inputs_hash=fingerprint,
    )


def _number(value: Any) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return min(max(float(value), 0.0), _LARGEST) if is_number and not isnan(value) else 0.0


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _normal(text: str) -> str:
    return " ".join(text.split()).casefold()


def _why(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "plan"
        return f"{where}: {first['msg']}"
    lines = str(error).strip().splitlines()[:2]  # the first fault of a plan is in the second one
    return " ".join(line.strip(" -") for line in lines).rstrip(".:")
