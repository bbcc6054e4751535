"""The state of a run: plain JSON, so that any checkpointer, server and viewer can carry it."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import Annotated, Any, Literal, NotRequired

from langchain_core.messages import AnyMessage
from langgraph.graph.message import add_messages
from typing_extensions import TypedDict

from langchain_hybridflow.plan import Plan, Subtask

__all__ = [
    "FlowInput",
    "FlowOutput",
    "FlowState",
    "SubtaskOutput",
    "SubtaskRecord",
    "SubtaskState",
    "inputs_hash",
    "is_current",
    "unfinished",
]


class SubtaskRecord(TypedDict):
    """What became of one subtask; `out["results"][subtask_id]`.

    `status` is "ok", "failed" (its call went wrong or was refused on every tier) or "skipped" (a
    subtask it depends on has no answer). Times are seconds since the epoch: when its dependencies
    were there, when its call began, when it ended. Costs are USD as text; `None` is unknown.
    `kept_local` says that a policy ruled the cloud out, for it or for one it builds on: whatever
    builds on it stays on the edge, too. `timeline` holds its moments (see
    `langchain_hybridflow.graph.timeline`); records in checkpoints of older versions have none.
    """

    id: str
    status: Literal["ok", "failed", "skipped"]
    answer: str | None
    error: str | None
    tier: Literal["edge", "cloud"] | None
    model: str | None
    decision: dict[str, Any] | None
    attempts: list[dict[str, Any]]
    cost_usd: str | None
    input_tokens: int
    output_tokens: int
    degraded: bool
    kept_local: bool
    ready_at: float
    started_at: float
    ended_at: float
    message_id: str | None
    inputs_hash: str
    timeline: NotRequired[list[dict[str, Any]]]


def merge_results(
    old: dict[str, SubtaskRecord] | None, new: dict[str, SubtaskRecord] | None
) -> dict[str, SubtaskRecord]:
    """Reduce parallel writes of results: each subtask's newest record stands."""
    return {**(old or {}), **(new or {})}


def merge_approval(old: dict[str, Any] | None, new: dict[str, Any] | None) -> dict[str, Any]:
    """Reduce what subtasks write of the run's question: most of them write nothing."""
    return new or old or {}


Results = Annotated[dict[str, SubtaskRecord], merge_results]
Approval = Annotated[dict[str, Any], merge_approval]


class FlowInput(TypedDict):
    """What a run is given: a conversation that ends with the question."""

    messages: Annotated[list[AnyMessage], add_messages]


class FlowOutput(TypedDict):
    """What a run returns.

    `answer` is the text of the answer, also appended to `messages`; `plan` the plan as it was run;
    `results` a record for each subtask by id; `report` the run in figures.
    """

    messages: Annotated[list[AnyMessage], add_messages]
    answer: str
    plan: dict[str, Any]
    results: Results
    report: dict[str, Any]


class FlowState(FlowOutput):
    """The whole state: the output and what the nodes tell one another.

    `question` is the text to be answered, `run_id` the account that pays, `wave` the wave that is
    open, `planning` how the plan came about (source, issues, repairs, attempts), `kept_local`
    whether the conversation holds an answer that a policy kept on the edge, `approve_cloud` whether
    a person is asked before each cloud call, `approval` what they said when the run asked for more
    than its budget (`approved`, and the `allowance`), empty if it did not ask.
    """

    question: str
    run_id: str
    wave: str
    kept_local: bool
    approve_cloud: bool
    planning: dict[str, Any]
    approval: Approval


class SubtaskState(TypedDict, total=False):
    """The state of one subtask's subgraph.

    `packet` is what the node was sent; `work` what is to be done and what became of it so far (the
    answers it builds on, the decision, the attempts); `next` the tier to ask, "" when there is
    nobody to ask any more.
    """

    packet: dict[str, Any]
    work: dict[str, Any]
    next: str
    results: Results
    approval: Approval


class SubtaskOutput(TypedDict, total=False):
    """What a subtask's subgraph returns to the run."""

    results: Results
    approval: Approval


def inputs_hash(subtask: Subtask, question: str, answers: Mapping[str, str]) -> str:
    """Fingerprint all that an answer depends on: the task, the question, the answers used.

    A result is taken for a subtask only if its fingerprint fits: after a crash, an edit or a fork
    no subtask gets an answer to another question.
    """
    digest = blake2b(digest_size=16)
    parts = [subtask.id, subtask.role.value, subtask.task, question]
    for subtask_id in sorted(subtask.depends_on):
        parts += [subtask_id, answers[subtask_id]]
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()


def is_current(subtask: Subtask, question: str, results: Mapping[str, SubtaskRecord]) -> bool:
    """Whether there is a result for exactly this subtask with exactly these inputs."""
    record = results.get(subtask.id)
    if record is None:
        return False
    answers = {}
    for subtask_id in subtask.depends_on:
        parent = results.get(subtask_id)
        if parent is None or parent["status"] != "ok":
            # Without all inputs there is only one result it can have.
            return parent is not None and record["status"] == "skipped"
        answers[subtask_id] = parent["answer"] or ""
    return record["inputs_hash"] == inputs_hash(subtask, question, answers)


def unfinished(plan: Plan, question: str, results: Mapping[str, SubtaskRecord]) -> tuple[str, ...]:
    """Ids of the subtasks that still have to run, each after those it depends on.

    A subtask below one that has to run has to run again: its input may change.
    """
    missing: dict[str, None] = {}
    for subtask_id in plan.order:
        subtask = plan[subtask_id]
        stale_input = any(parent in missing for parent in subtask.depends_on)
        if stale_input or not is_current(subtask, question, results):
            missing[subtask_id] = None
    return tuple(missing)
