"""Builds a valid plan from drafts as they arrive, and says early what is certain to stay."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.plan._repair import Node, Repair, RepairCode, repair
from langchain_hybridflow.plan._text import clean
from langchain_hybridflow.plan.draft import SubtaskDraft, fit_id
from langchain_hybridflow.plan.models import Plan
from langchain_hybridflow.plan.parse import PlanParser
from langchain_hybridflow.plan.subtask import (
    DEFAULT_DIFFICULTY,
    DEFAULT_OUTPUT_TOKENS,
    MAX_OUTPUT_TOKENS,
    Role,
    Subtask,
)
from langchain_hybridflow.plan.validate import PlanIssue, validate_subtasks

__all__ = ["DEFAULT_MAX_SUBTASKS", "PlanBuilder", "RepairedPlan", "parse_plan"]

DEFAULT_MAX_SUBTASKS = 6
"""The paper's planner is told to write fewer than seven subtasks."""

_LONGEST_BASE_OF_FRESH_ID = 24


@dataclass(frozen=True, slots=True)
class RepairedPlan:
    """A plan, what was wrong with it as it was written, and what was done about it.

    Attributes:
        plan: Valid; None only if there was nothing to make a plan of.
        issues: Every fault before the repair; empty for a plan that was valid as written.
        repairs: Every change; empty for a plan that was valid as written.
    """

    plan: Plan | None
    issues: tuple[PlanIssue, ...] = ()
    repairs: tuple[Repair, ...] = ()


@dataclass(slots=True)
class _Entry:
    """A draft in the builder.

    Attributes:
        node: The subtask under its final id; its dependencies are still references.
        reference: What the others call it: its id as written.
        position: In the stream.
        unmet: References that it waits for and that are not settled.
    """

    node: Node
    reference: str
    position: int
    unmet: set[str] = field(default_factory=set)


class PlanBuilder:
    """Collects drafts in stream order, tells which subtasks may start, and repairs the rest.

    A subtask is *settled* when nothing that can still come changes its id, task, role or
    dependencies. It may be started at once, and `finish` returns it unchanged. Settled are the
    explain, and each analyze whose dependencies are all settled, as long as fewer than
    `max_subtasks - 1` are (the last place is the sink's; what is too many is merged into the sink).
    A `generate` is never settled early, and a subtask without a role only when another one follows,
    since the last one is the generate.

    Nothing here fails because of what the drafts say. The result depends on the drafts and their
    order only.

    Args:
        max_subtasks: How many subtasks the plan may have.
        question: What the plan is to answer: the task of the sink, if there is none.

    Raises:
        ConfigurationError: `max_subtasks` is below 1.

    Example:
        >>> builder = PlanBuilder(question="Who pays more?")
        >>> [subtask.id for subtask in builder.add(SubtaskDraft("1", "What is asked?"))]
        []
        >>> [subtask.id for subtask in builder.add(SubtaskDraft("2", "Ann?", depends_on=("1",)))]
        ['1']
        >>> [subtask.id for subtask in builder.finish().plan.subtasks]
        ['1', '2']
    """

    def __init__(self, max_subtasks: int = DEFAULT_MAX_SUBTASKS, *, question: str = "") -> None:
        if max_subtasks < 1:
            raise ConfigurationError(f"max_subtasks is {max_subtasks}; it must be 1 or more.")
        self._max_subtasks = max_subtasks
        self._question = question
        self._entries: list[_Entry] = []
        self._owners: dict[str, _Entry] = {}
        self._taken_ids: set[str] = set()
        self._next_suffix: dict[str, int] = {}
        self._waiting_for: dict[str, list[_Entry]] = {}
        self._explain: _Entry | None = None
        self._settled_count = 0
        self._repairs: list[Repair] = []
        self._issues: list[PlanIssue] = []

    def add(self, draft: SubtaskDraft) -> list[Subtask]:
        """Take the next draft.

        Returns:
            The subtasks that are settled now and were not before, each after those that it depends
            on. Not always the one that was added.
        """
        if not clean(draft.task).strip():
            self._issues.append(PlanIssue("bad_step", draft.id or None, "a subtask has no task"))
            return []
        entry = self._register(draft)
        previous = self._entries[-2:-1]
        return [subtask for known in (*previous, entry) for subtask in self._settle(known)]

    def finish(self, *, parse_issues: Sequence[PlanIssue] = ()) -> RepairedPlan:
        """Repair what has come so far into a valid plan.

        The builder is not changed: this is the plan if nothing more comes.

        Args:
            parse_issues: What the parser could not read; put in front of the issues.
        """
        found = (*parse_issues, *self._issues)
        if not self._entries:
            return RepairedPlan(None, (*found, *validate_subtasks(())))
        written = [self._as_written(entry) for entry in self._entries]
        issues = validate_subtasks(written, max_subtasks=self._max_subtasks)
        subtasks, repairs = repair(
            [self._resolved(entry) for entry in self._entries],
            max_subtasks=self._max_subtasks,
            question=self._question,
        )
        return RepairedPlan(
            Plan(subtasks=tuple(subtasks)), (*found, *issues), (*self._repairs, *repairs)
        )

    # -------------------------------------------------------------------------------- arrival

    def _register(self, draft: SubtaskDraft) -> _Entry:
        position = len(self._entries)
        reference = fit_id(draft.id)
        if not reference:
            by_position = str(position + 1)
            reference = self._fresh_id(by_position) if by_position in self._owners else by_position
        final_id = self._fresh_id(reference) if reference in self._taken_ids else reference
        self._taken_ids.add(final_id)
        if final_id != draft.id:
            self._log("renamed_id", final_id, f"the id was {draft.id!r} and is now {final_id!r}")
        deps = dict.fromkeys(token for dep in draft.depends_on if (token := fit_id(dep)))
        node = Node(
            id=final_id,
            task=clean(draft.task).strip(),
            role=draft.role,
            depends_on=list(deps),
            difficulty=self._clamp(draft.difficulty, DEFAULT_DIFFICULTY, 9, final_id),
            expected_output_tokens=self._clamp(
                draft.expected_output_tokens, DEFAULT_OUTPUT_TOKENS, MAX_OUTPUT_TOKENS, final_id
            ),
        )
        entry = _Entry(node, reference, position)
        self._entries.append(entry)
        self._owners.setdefault(reference, entry)
        if self._explain is None and draft.role is not Role.GENERATE:
            self._explain = entry
        else:
            self._note_unmet(entry)
        return entry

    def _fresh_id(self, wanted: str) -> str:
        """Find an id that nothing has. A later draft that wants it is renamed in its turn."""
        base = wanted[:_LONGEST_BASE_OF_FRESH_ID]
        while True:
            number = self._next_suffix.get(base, 2)
            self._next_suffix[base] = number + 1
            if (candidate := f"{base}-{number}") not in self._taken_ids:
                return candidate

    def _clamp(self, value: int | None, default: int, most: int, subtask_id: str) -> int:
        if value is None:
            return default
        clamped = min(max(value, 1), most)
        if clamped != value:
            self._log(
                "clamped_number", subtask_id, f"{value} is now {clamped}, as 1-{most} is allowed"
            )
        return clamped

    def _log(self, code: RepairCode, subtask_id: str, message: str) -> None:
        self._repairs.append(Repair(code, subtask_id, message))

    # -------------------------------------------------------------------------------- settling

    def _note_unmet(self, entry: _Entry) -> None:
        for reference in entry.node.depends_on:
            owner = self._owners.get(reference)
            if owner is entry or (owner is not None and owner.node.is_settled):
                continue
            entry.unmet.add(reference)
            self._waiting_for.setdefault(reference, []).append(entry)

    def _settle(self, entry: _Entry) -> list[Subtask]:
        """Settle an entry if that is possible, and then all that only waited for it."""
        settled: list[Subtask] = []
        to_try = deque([entry])
        while to_try and self._settled_count < self._max_subtasks - 1:
            candidate = to_try.popleft()
            role = self._certain_role(candidate)
            if role is None or candidate.unmet or candidate.node.is_settled:
                continue
            candidate.node.is_settled = True
            self._settled_count += 1
            if candidate is self._explain and candidate.node.depends_on:
                message = "it explains the question and waits for nothing"
                self._log("dropped_dependency", candidate.node.id, message)
            settled.append(self._resolved(candidate).to_subtask(role))
            if self._owners[candidate.reference] is not candidate:
                continue
            for waiting in self._waiting_for.pop(candidate.reference, ()):
                waiting.unmet.discard(candidate.reference)
                to_try.append(waiting)
        return settled

    def _certain_role(self, entry: _Entry) -> Role | None:
        """Tell the role that repair will give to the entry whatever else comes, if there is one."""
        role = entry.node.role
        is_followed = entry.position < len(self._entries) - 1
        if entry is self._explain:
            # On its own it would be the generate, unless it says that it is not.
            return Role.EXPLAIN if is_followed or role is Role.EXPLAIN else None
        if role is Role.GENERATE:
            return None
        # A second explain becomes an analyze.
        return Role.ANALYZE if is_followed or role is not None else None

    # ---------------------------------------------------------------------------------- result

    def _resolved(self, entry: _Entry) -> Node:
        """Copy the node, with each reference replaced by the id of the subtask that it means."""
        if entry is self._explain and entry.node.is_settled:
            return replace(entry.node, depends_on=[])
        ids: dict[str, None] = {}
        bad: list[str] = []
        for reference in entry.node.depends_on:
            owner = self._owners.get(reference)
            if owner is None:
                bad.append(f"{reference!r}, which does not exist")
            elif owner is entry:
                bad.append("itself")
            else:
                ids[owner.node.id] = None
        return replace(entry.node, depends_on=list(ids), bad_deps=tuple(bad))

    def _as_written(self, entry: _Entry) -> Subtask:
        role = entry.node.role
        if role is None:
            by_position = {len(self._entries) - 1: Role.GENERATE, 0: Role.EXPLAIN}
            role = by_position.get(entry.position, Role.ANALYZE)
            if len(self._entries) == 1:
                role = Role.GENERATE
        return replace(entry.node, id=entry.reference).to_subtask(role)


def parse_plan(
    text: str, *, max_subtasks: int = DEFAULT_MAX_SUBTASKS, question: str = ""
) -> RepairedPlan:
    """Read a plan out of a planner's whole answer, and repair it if it needs that.

    Args:
        text: XML or JSON, with anything around it; see `PlanParser`.
        max_subtasks: How many subtasks the plan may have; more are merged.
        question: What the plan is to answer: the task of the sink, if there is none.

    Returns:
        A plan that is None only if the text holds no subtask.

    Raises:
        ConfigurationError: `max_subtasks` is below 1.

    Example:
        >>> repaired = parse_plan('''Here is my plan:
        ... <Plan>
        ... <Step ID="1" Task="Explain: what is asked?" Rely=""/>
        ... <Step ID="2" Task="Generate: who pays more?" Rely="1,7"/>
        ... </Plan>''')
        >>> [(subtask.id, subtask.role.value) for subtask in repaired.plan.subtasks]
        [('1', 'explain'), ('2', 'generate')]
        >>> [str(repair) for repair in repaired.repairs]
        ["dropped_dependency: subtask '2' no longer depends on '7', which does not exist"]
    """
    parser = PlanParser()
    builder = PlanBuilder(max_subtasks, question=question)
    for draft in (*parser.feed(text), *parser.close()):
        builder.add(draft)
    return builder.finish(parse_issues=parser.issues)
