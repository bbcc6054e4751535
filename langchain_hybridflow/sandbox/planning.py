"""The sandbox planner: from a question to an Explain-Analyze-Generate plan, as XML text.

Source: the plan format of HybridFlow (arXiv 2512.22137).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final
from xml.sax.saxutils import quoteattr

from langchain_core.messages import BaseMessage

from langchain_hybridflow.plan import Plan, Role, Subtask
from langchain_hybridflow.sandbox.language import listing
from langchain_hybridflow.sandbox.malformed import damage
from langchain_hybridflow.sandbox.program import Node, Program
from langchain_hybridflow.sandbox.solver import between, read_program
from langchain_hybridflow.sandbox.tokens import tokenize

__all__ = ["draft_plan", "planning_question", "write_plan"]

_ASKS: Final = ("What is {what}?", "Work out {what}.", "Find {what}.")
_SOURCES: Final = (" Take {given}.", " Use {given}.", " You are given {given}.")
# An answer shows each calculation, names its result, and repeats the last one after "Answer:".
_TOKENS_PER_STEP: Final = 14
_TOKENS_PER_ARGUMENT: Final = 5
_TOKENS_PER_ANSWER: Final = 6
_MAX_DIFFICULTY: Final = 9


def draft_plan(question: str, *, rng: random.Random | None = None) -> Plan:
    """Return the smallest plan that lets all independent parts of `question` run side by side.

    A question that the sandbox cannot read gets a plan of one subtask.

    Args:
        question: The question, in natural language.
        rng: Chooses the wording of the tasks; None always takes the first wording.

    Example:
        >>> [subtask.role.value for subtask in draft_plan("What is 6 * 7?").subtasks]
        ['generate']
    """
    program = read_program(question)
    groups = _branches(program) if program is not None else ()
    return Plan(subtasks=_subtasks(program, groups, rng=rng))


def write_plan(question: str, *, rng: random.Random, malformed_rate: float = 0.0) -> str:
    """Write a plan for `question` as XML, sometimes broken.

    Args:
        question: The question, in natural language.
        rng: Chooses the wording, and whether and how the plan is broken.
        malformed_rate: The share of plans, 0 to 1, that are broken.
    """
    program = read_program(question)
    groups = _branches(program) if program is not None else ()
    subtasks = _subtasks(program, groups, rng=rng)
    if rng.random() >= malformed_rate:
        return _to_xml(subtasks)
    # What a planner writes that does not see which steps belong together: one subtask a step.
    singles = tuple((node,) for node in program.nodes) if program is not None else ()
    return damage(subtasks, _subtasks(program, singles, rng=rng), write=_to_xml, rng=rng)


def planning_question(messages: Sequence[BaseMessage]) -> str | None:
    """Return the question of a planning call, or None if `messages` are no planning call.

    A planning call has a system message that shows the `<Plan>` format, and a human message with
    the `<question>`.
    """
    if not any(message.type == "system" and "<Plan>" in message.text for message in messages):
        return None
    human = [message.text for message in messages if message.type == "human"]
    for text in reversed(human):
        question = between(text, "<question>", "</question>")
        if question is not None:
            return question
    return human[-1] if human else None


def _branches(program: Program) -> tuple[tuple[Node, ...], ...]:
    """Group the steps: a step joins the only one that needs it, but never the first or the last."""
    users: dict[str, list[str]] = {node.name: [] for node in program.nodes}
    for node in program.nodes:
        for name in node.depends_on:
            users[name].append(node.name)
    alone = {program.nodes[0].name, program.sink.name}
    home: dict[str, str] = {}
    for node in reversed(program.nodes):
        joins = node.name not in alone and len(users[node.name]) == 1
        user = users[node.name][0] if joins else program.sink.name
        home[node.name] = node.name if user in alone else home[user]
    groups: dict[str, list[Node]] = {}
    for node in program.nodes:
        groups.setdefault(home[node.name], []).append(node)
    return tuple(tuple(group) for group in groups.values())


def _subtasks(
    program: Program | None,
    groups: tuple[tuple[Node, ...], ...],
    *,
    rng: random.Random | None,
) -> tuple[Subtask, ...]:
    """Write one subtask for each group of steps, numbered from 1."""
    if program is None:
        return (
            Subtask(
                id="1", task="What is the answer to the question?", role=Role.GENERATE, difficulty=5
            ),
        )
    number = {node.name: str(n) for n, group in enumerate(groups, start=1) for node in group}
    subtasks = []
    for group in groups:
        needs = tuple(
            dict.fromkeys(
                name
                for node in group
                for name in node.depends_on
                if number[name] != number[node.name]
            )
        )
        role = Role.ANALYZE
        if group[0] is program.nodes[0]:
            role = Role.EXPLAIN
        elif group[-1] is program.sink:
            role = Role.GENERATE
        subtasks.append(
            Subtask(
                id=number[group[0].name],
                task=_task(group[-1], [(program[name].label, number[name]) for name in needs], rng),
                role=role,
                depends_on=tuple(number[name] for name in needs),
                difficulty=_difficulty(group),
                expected_output_tokens=_expected_tokens(group),
            )
        )
    return tuple(subtasks)


def _task(target: Node, needs: list[tuple[str, str]], rng: random.Random | None) -> str:
    choose = rng.choice if rng is not None else lambda wordings: wordings[0]
    task = choose(_ASKS).replace("{what}", target.label)
    if not needs:
        return task
    given = listing([f"{label} from [{number}]" for label, number in needs])
    return task + choose(_SOURCES).replace("{given}", given)


def _difficulty(group: tuple[Node, ...]) -> int:
    """Judge a subtask: as hard as its hardest step, and a long one is a little harder."""
    return min(_MAX_DIFFICULTY, max(node.difficulty for node in group) + (len(group) > 2))


def _expected_tokens(group: tuple[Node, ...]) -> int:
    steps = (
        _TOKENS_PER_STEP + _TOKENS_PER_ARGUMENT * len(node.args) + len(tokenize(node.label))
        for node in group
    )
    return _TOKENS_PER_ANSWER + sum(steps)


def _to_xml(subtasks: Sequence[Subtask]) -> str:
    lines = [
        f'<Step ID="{subtask.id}" Role="{subtask.role.value}" Task={quoteattr(subtask.task)} '
        f'Difficulty="{subtask.difficulty}" Token="{subtask.expected_output_tokens}" '
        f'Rely="{",".join(subtask.depends_on)}"/>'
        for subtask in subtasks
    ]
    return "\n".join(["<Plan>", *lines, "</Plan>"])
