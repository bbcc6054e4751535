"""Turns any list of subtasks into a valid plan, always the same way.

Each function mends one kind of fault in place and logs what it did. None of them changes a node
that is settled (it may be running already), nor anything in a list that is valid.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from langchain_hybridflow.plan._graph import cycles, dependents_of, topological_order
from langchain_hybridflow.plan._text import clean
from langchain_hybridflow.plan.subtask import MAX_OUTPUT_TOKENS, Role, Subtask

__all__ = ["Node", "Repair", "RepairCode", "repair"]

RepairCode = Literal[
    "renamed_id",
    "clamped_number",
    "dropped_dependency",
    "broke_cycle",
    "changed_role",
    "moved_first",
    "attached_orphan",
    "added_sink",
    "merged",
]

_SINK_WITHOUT_QUESTION: Final = "Answer the original question, using all the results."
_SINK_ID: Final = "answer"


@dataclass(frozen=True, slots=True)
class Repair:
    """One change that was made to a plan to make it valid.

    Attributes:
        code: What kind of change; stable over versions.
        subtask_id: The subtask that was changed, by the id that it has in the repaired plan.
        message: The change in words.
    """

    code: RepairCode
    subtask_id: str
    message: str

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


@dataclass(slots=True)
class Node:
    """A subtask under repair.

    Attributes:
        id: Unique.
        task: As in `Subtask`.
        role: As written; None leaves it to the position.
        depends_on: Ids of other nodes, without repeats.
        difficulty: As in `Subtask`.
        expected_output_tokens: As in `Subtask`.
        bad_deps: In words, what it was written to depend on and cannot.
        is_settled: It may be running already, so it must stay as it is.
    """

    id: str
    task: str
    role: Role | None
    depends_on: list[str]
    difficulty: int
    expected_output_tokens: int
    bad_deps: tuple[str, ...] = ()
    is_settled: bool = False

    def to_subtask(self, role: Role) -> Subtask:
        """Freeze the node, in the role that was found for it."""
        return Subtask(
            id=self.id,
            task=self.task,
            role=role,
            depends_on=tuple(self.depends_on),
            difficulty=self.difficulty,
            expected_output_tokens=self.expected_output_tokens,
        )


def repair(
    nodes: list[Node], *, max_subtasks: int, question: str
) -> tuple[list[Subtask], list[Repair]]:
    """Make a valid plan of at least one node with unique ids.

    Args:
        nodes: In stream order; changed by this function. A settled node depends on settled ones
            only, and there are fewer of them than `max_subtasks`.
        max_subtasks: How many may be left.
        question: The task of the sink, if there is none.
    """
    log: list[Repair] = []
    _log_bad_edges(nodes, log)
    _break_cycles(nodes, log)
    sink = _find_sink(nodes)
    if sink is None:
        sink = _add_sink(nodes, question, log)
    nodes = _fix_roles(nodes, sink, log)
    _attach_orphans(nodes, sink, log)
    nodes = _merge_beyond(max_subtasks, nodes, sink, log)
    roles = [Role.EXPLAIN] + [Role.ANALYZE] * (len(nodes) - 1)
    subtasks = [
        node.to_subtask(Role.GENERATE if node is sink else role)
        for node, role in zip(nodes, roles, strict=True)
    ]
    return subtasks, log


def _log_bad_edges(nodes: list[Node], log: list[Repair]) -> None:
    for node in nodes:
        for dep in node.bad_deps:
            message = f"subtask {node.id!r} no longer depends on {dep}"
            log.append(Repair("dropped_dependency", node.id, message))


def _break_cycles(nodes: list[Node], log: list[Repair]) -> None:
    """Within each cycle keep what follows the listing order: what is listed later waits."""
    for component in cycles(_deps(nodes)):
        position = {nodes[index].id: index for index in component}
        for index in component:
            node = nodes[index]
            against_order = [dep for dep in node.depends_on if position.get(dep, -1) > index]
            node.depends_on = [dep for dep in node.depends_on if position.get(dep, -1) <= index]
            for dep in against_order:
                message = f"subtask {node.id!r} no longer waits for {dep!r}, to end a cycle"
                log.append(Repair("broke_cycle", node.id, message))


def _find_sink(nodes: list[Node]) -> Node | None:
    """Find the last `generate` that nothing depends on.

    A last subtask without a role is one by its position; an only subtask always is.
    """
    if len(nodes) == 1 and not nodes[0].is_settled:
        return nodes[0]
    dependents = dependents_of(_deps(nodes))
    for index in reversed(range(len(nodes))):
        node = nodes[index]
        is_last = index == len(nodes) - 1
        is_generate = node.role is Role.GENERATE or (node.role is None and is_last)
        # Neither of the two kinds is ever settled, so none of them has been started as an analyze.
        if is_generate and not dependents[index]:
            return node
    return None


def _add_sink(nodes: list[Node], question: str, log: list[Repair]) -> Node:
    taken = {node.id for node in nodes}
    sink_id, number = _SINK_ID, 2
    while sink_id in taken:
        sink_id, number = f"{_SINK_ID}-{number}", number + 1
    leaves = [
        node.id
        for node, dependents in zip(nodes, dependents_of(_deps(nodes)), strict=True)
        if not dependents
    ]
    sink = Node(
        id=sink_id,
        task=clean(question).strip() or _SINK_WITHOUT_QUESTION,
        role=Role.GENERATE,
        depends_on=leaves,
        difficulty=max(node.difficulty for node in nodes),
        expected_output_tokens=max(node.expected_output_tokens for node in nodes),
    )
    nodes.append(sink)
    message = f"subtask {sink_id!r} was added to give the answer"
    log.append(Repair("added_sink", sink_id, message))
    return sink


def _fix_roles(nodes: list[Node], sink: Node, log: list[Repair]) -> list[Node]:
    """Let one subtask explain, listed first and waiting for nothing; the others analyze."""
    others = [node for node in nodes if node is not sink]
    # The first that is settled has been started as the explain.
    explain = next((node for node in others if node.is_settled), others[0] if others else None)
    for node in nodes:
        role = _role_of(node, sink=sink, explain=explain)
        if node.role not in {None, role}:
            message = f"subtask {node.id!r} is now {role}, not {node.role}"
            log.append(Repair("changed_role", node.id, message))
    if explain is None:
        return nodes
    if explain.depends_on:
        explain.depends_on.clear()
        message = f"subtask {explain.id!r} explains the question and no longer waits for others"
        log.append(Repair("dropped_dependency", explain.id, message))
    if nodes[0] is not explain:
        log.append(Repair("moved_first", explain.id, f"subtask {explain.id!r} is now listed first"))
        return [explain, *(node for node in nodes if node is not explain)]
    return nodes


def _role_of(node: Node, *, sink: Node, explain: Node | None) -> Role:
    if node is sink:
        return Role.GENERATE
    return Role.EXPLAIN if node is explain else Role.ANALYZE


def _attach_orphans(nodes: list[Node], sink: Node, log: list[Repair]) -> None:
    for node, dependents in zip(nodes, dependents_of(_deps(nodes)), strict=True):
        if not dependents and node is not sink:
            sink.depends_on.append(node.id)
            message = f"subtask {sink.id!r} now uses the result of {node.id!r}"
            log.append(Repair("attached_orphan", node.id, message))


def _merge_beyond(
    max_subtasks: int, nodes: list[Node], sink: Node, log: list[Repair]
) -> list[Node]:
    """Put the tasks that are too many into the sink, which then waits for what they waited for.

    Settled subtasks stay; then those that come first in topological order, so that nothing that
    stays depends on something that goes.
    """
    if len(nodes) <= max_subtasks:
        return nodes
    in_order = [nodes[index] for index in topological_order(_deps(nodes))]
    candidates = [node for node in in_order if not node.is_settled and node is not sink]
    settled_count = sum(node.is_settled for node in nodes)
    surplus = candidates[max_subtasks - 1 - settled_count :]
    gone = {node.id for node in surplus}
    lines = [f"[{node.id}] {node.task}" for node in surplus]
    sink.task = "\n".join(["First work these out, in this order:", *lines, f"Then: {sink.task}"])
    wanted = (dep for node in (*surplus, sink) for dep in node.depends_on if dep not in gone)
    sink.depends_on = list(dict.fromkeys(wanted))
    sink.difficulty = max(node.difficulty for node in (*surplus, sink))
    tokens = sum(node.expected_output_tokens for node in (*surplus, sink))
    sink.expected_output_tokens = min(tokens, MAX_OUTPUT_TOKENS)
    log += (
        Repair("merged", sink.id, f"subtask {node.id!r} is now a part of {sink.id!r}")
        for node in surplus
    )
    return [node for node in nodes if node.id not in gone]


def _deps(nodes: list[Node]) -> list[list[int]]:
    index = {node.id: position for position, node in enumerate(nodes)}
    return [[index[dep] for dep in node.depends_on] for node in nodes]
