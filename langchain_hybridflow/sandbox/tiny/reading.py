"""Is a prompt about the model's small world? If so, the question in words that it has learnt."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Final

from langchain_core.messages import BaseMessage

from langchain_hybridflow.sandbox.arithmetic import pieces_of
from langchain_hybridflow.sandbox.operations import Unsolvable
from langchain_hybridflow.sandbox.planning import planning_question
from langchain_hybridflow.sandbox.program import Node
from langchain_hybridflow.sandbox.solver import read_assignment

__all__ = ["question_of"]

# About what `generate_puzzles` makes. Beyond that the model has seen nothing like it.
_MAX_NUMBER: Final = 99
_MAX_OPERATIONS: Final = 5
_SIGNS: Final = frozenset("+-*()")
_COUNTDOWN_NUMBERS: Final = (3, 4)
_LABEL: Final = "the result of "


def question_of(messages: Sequence[BaseMessage]) -> str | None:
    """Return what a prompt asks, as the model was taught to be asked; `None` if it was not.

    Nothing else of the prompt reaches the model: it knows too few words to read any of it.

    Args:
        messages: The prompt. The last human message counts, which may be that of a subtask.

    Example:
        >>> from langchain_core.messages import HumanMessage
        >>> question_of([HumanMessage("Please work out 3 times (4 plus 5).")])
        'What is 3 * (4 + 5)?'
        >>> question_of([HumanMessage("Who wrote Faust?")]) is None
        True
    """
    if planning_question(messages) is not None:
        return None
    human = [message.text for message in messages if message.type == "human"]
    try:
        assignment = read_assignment(human[-1] if human else "")
    except Unsolvable:
        return None
    program = assignment.program
    if program.kind == "countdown":
        return _countdown(program.sink)
    if program.kind == "arithmetic" and len(program.nodes) <= _MAX_OPERATIONS:
        return _expression(program.sink.label.removeprefix(_LABEL))
    return None


def _expression(text: str) -> str | None:
    for piece in pieces_of(text):
        if piece not in _SIGNS and not (piece.isdigit() and int(piece) <= _MAX_NUMBER):
            return None
    # A sign before a number is no operation, and the model knows none.
    is_signed = text.startswith("-") or "(-" in text or any(f"{sign} -" in text for sign in "+-*")
    return None if is_signed else f"What is {text}?"


def _countdown(node: Node) -> str | None:
    target, *numbers = (int(arg) for arg in node.args if isinstance(arg, Decimal))
    if len(numbers) not in _COUNTDOWN_NUMBERS or max(target, *numbers) > _MAX_NUMBER:
        return None
    return f"Make {target} from {', '.join(map(str, numbers))}."
