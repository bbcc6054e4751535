"""From the text of a prompt to what is asked in it, and nothing from anywhere else.

There is no registry of problems and no question id: whatever a sandbox model knows, it has read in
the prompt that it got. That is what makes accuracy in the sandbox a measurement.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from langchain_hybridflow.sandbox.answers import extract_answer
from langchain_hybridflow.sandbox.arithmetic import read_sum
from langchain_hybridflow.sandbox.countdown import read_countdown
from langchain_hybridflow.sandbox.kinds import FAMILIES
from langchain_hybridflow.sandbox.language import Value, parse_number
from langchain_hybridflow.sandbox.operations import Unsolvable
from langchain_hybridflow.sandbox.program import Node, Program, read_value

__all__ = ["Assignment", "Mention", "between", "mentions", "read_assignment", "read_program"]

# Our questions have fewer than 1,000 characters. A model has a context window, too.
_MAX_QUESTION_CHARS: Final = 20_000
_RESULT: Final = re.compile(r'<result subtask="([^"\n]{1,32})">\n?')
_SUBTASK: Final = re.compile(r'<subtask id="[^"\n]{1,32}" role="(\w+)">\n?')
# What another model has tried; it is not what is asked, and it may be wrong.
_NOTES: Final = re.compile(r"<attempt>.*?</attempt>", re.DOTALL)
# What may stand between the name of a quantity and the subtask it is taken from.
_REFERENCE: Final = re.compile(
    r"[\s,(]*(?:(?:is|from|in|as|by|of|with)\s+)*(?:the\s+)?(?:result\s+of\s+)?"
    r"(?:subtask\s+([A-Za-z0-9][\w-]*)|\[([A-Za-z0-9][\w.-]{0,31})\])",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Assignment:
    """What a prompt asks for.

    Args:
        program: How to work out the question that the prompt is about.
        target: The step whose result is asked for.
        given: Results of steps as the prompt gives them, right or wrong.
        is_subtask: Whether the prompt asks for one subtask of a plan.
    """

    program: Program
    target: str
    given: Mapping[str, Value]
    is_subtask: bool


@dataclass(frozen=True, slots=True)
class Mention:
    """Where a text names the result of a step, and the subtask it is to be taken from, if any."""

    node: Node
    start: int
    subtask_id: str | None


def read_assignment(text: str) -> Assignment:
    """Work out what `text`, the last human message of a prompt, asks for.

    Args:
        text: A subtask prompt with its `<question>`, `<result>` and `<subtask>` parts, or a bare
            question.

    Raises:
        Unsolvable: The text is none of the questions that can be read.

    Example:
        >>> read_assignment("What is 6 * 7?").target
        'sum-1'
    """
    text = _NOTES.sub("", text)
    # The last one: a question or a result may quote a prompt.
    opening = next(reversed(list(_SUBTASK.finditer(text))), None)
    question = between(text, "<question>", "</question>")
    if opening is None:
        return _read_question(text if question is None else question)
    task = text[opening.end() :].partition("</subtask>")[0]
    return _read_subtask(
        task,
        question=question or "",
        blocks=_read_results(text[: opening.start()]),
        is_sink=opening[1] == "generate",
    )


def read_program(question: str) -> Program | None:
    """Read a word problem; None if it is none that is known."""
    for family in FAMILIES:
        story = family.read(question[:_MAX_QUESTION_CHARS])
        if story is not None:
            try:
                return family.program(story)
            except Unsolvable:
                return None
    return None


def between(text: str, opening: str, closing: str) -> str | None:
    """Return what stands between the first `opening` and the next `closing`, or None."""
    start = text.find(opening)
    if start < 0:
        return None
    end = text.find(closing, start)
    return text[start + len(opening) : end if end >= 0 else len(text)].strip()


def mentions(text: str, program: Program) -> list[Mention]:
    """Return where `text` names results of `program`, in order; longer names win over parts."""
    flat = " ".join(text.split())
    found: list[Mention] = []
    taken: list[tuple[int, int]] = []
    for node in sorted(program.nodes, key=lambda node: -len(node.label)):
        for match in re.finditer(rf"\b{re.escape(node.label)}\b", flat, re.IGNORECASE):
            if any(match.start() < end and start < match.end() for start, end in taken):
                continue
            taken.append(match.span())
            reference = _REFERENCE.match(flat, match.end())
            subtask_id = (reference[1] or reference[2]) if reference else None
            found.append(Mention(node, match.start(), subtask_id))
    return sorted(found, key=lambda mention: mention.start)


def _read_question(question: str) -> Assignment:
    program = read_program(question) or _read_puzzle(question[:_MAX_QUESTION_CHARS])
    return Assignment(program, program.sink.name, {}, is_subtask=False)


def _read_results(text: str) -> dict[str, str]:
    blocks: dict[str, str] = {}
    opening = _RESULT.search(text)
    # Block after block, not opening after opening: the work stays linear in the text.
    while opening is not None:
        end = text.find("</result>", opening.end())
        end = end if end >= 0 else len(text)
        blocks[opening[1]] = text[opening.end() : end].strip()
        opening = _RESULT.search(text, end)
    return blocks


def _read_subtask(
    task: str, *, question: str, blocks: Mapping[str, str], is_sink: bool
) -> Assignment:
    """Find out what a subtask asks for: a step, the whole question, or a plain sum."""
    task = task[:_MAX_QUESTION_CHARS]
    program = read_program(question) or read_program(task)
    if program is not None:
        found = mentions(task, program)
        asked = {mention.node.name for mention in found if mention.subtask_id not in blocks}
        given = {**_stated(blocks, program), **_referred(found, blocks)}
        # Merged subtasks ask for several results; the one that needs the others is the answer.
        targets = [node.name for node in program.nodes if node.name in asked]
        if targets or is_sink:
            target = targets[-1] if targets else program.sink.name
            return Assignment(program, target, given, is_subtask=True)
    numbers = {
        subtask_id: number
        for subtask_id, block in blocks.items()
        if (number := parse_number(extract_answer(block) or "")) is not None
    }
    try:
        program = _read_puzzle(task, results=numbers)
    except Unsolvable:
        if not is_sink:
            raise
        program = _read_puzzle(question[:_MAX_QUESTION_CHARS])
    return Assignment(program, program.sink.name, {}, is_subtask=True)


def _read_puzzle(text: str, *, results: Mapping[str, Value] | None = None) -> Program:
    """Read a Countdown puzzle, or a plain sum."""
    try:
        return read_countdown(text)
    except Unsolvable:
        return read_sum(text, results=results)


def _stated(blocks: Mapping[str, str], program: Program) -> dict[str, Value]:
    """Return the results that say themselves what they are the result of."""
    given = {}
    for block in blocks.values():
        named = mentions(block, program)
        if named and (value := _value_of(block, named[-1].node)) is not None:
            given[named[-1].node.name] = value
    return given


def _referred(found: list[Mention], blocks: Mapping[str, str]) -> dict[str, Value]:
    """Return the results that the task says where to take from."""
    given = {}
    for mention in found:
        block = blocks.get(mention.subtask_id or "")
        if block is not None and (value := _value_of(block, mention.node)) is not None:
            given[mention.node.name] = value
    return given


def _value_of(block: str, node: Node) -> Value | None:
    answer = extract_answer(block)
    return read_value(answer, node=node) if answer is not None else None
