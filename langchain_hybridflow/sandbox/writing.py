"""How a sandbox model puts its answer into words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from langchain_hybridflow.sandbox.language import Value, format_value, listing, sentences
from langchain_hybridflow.sandbox.program import Node, Program, Ref, Working

__all__ = ["DO_NOT_KNOW", "write_answer", "write_long_answer"]

DO_NOT_KNOW: Final = (
    "I do not know. I am a sandbox model: I can only read the word problems of the sandbox and "
    "plain sums.\nAnswer: unknown"
)
"""What a sandbox model says to a prompt that it cannot read."""

# More than any of our questions has: around it there may be a megabyte of something else.
_MAX_FACTS: Final = 12


def write_answer(workings: Sequence[Working], *, target: Node, value: Value) -> str:
    """Write one line for each step and then the answer.

    Args:
        workings: The steps as they were done; none if the result was given.
        target: The step that was asked for.
        value: Its result.
    """
    lines = [
        f"{working.sum_text} = {format_value(working.value)}, so {working.node.label} is "
        f"{format_value(working.value)}."
        for working in workings
    ]
    if not lines:
        lines = [f"As found before, {target.label} is {format_value(value)}."]
    return "\n".join([*lines, f"Answer: {format_value(value)}"])


def write_long_answer(workings: Sequence[Working], *, program: Program, question: str) -> str:
    """Write a chain of thought about a whole question: facts, way, each step, a check, the answer.

    Args:
        workings: All steps as they were done.
        program: The program they belong to.
        question: The question, whose sentences are the facts.
    """
    value = format_value(workings[-1].value)
    parts = ["Let me first write down what is known.", *_facts(question)]
    parts.append(f"What is asked for is {program.sink.label}. I will go step by step.")
    for number, working in enumerate(workings, start=1):
        parts.append(_think(number, working, program))
    parts.append("Let me go through the results once more before I answer.")
    parts += [
        f"- {working.node.label}: {working.sum_text} = {format_value(working.value)}. This fits."
        for working in workings
    ]
    parts.append(f"All steps fit together, so {program.sink.label} is {value}.")
    return "\n".join([*parts, f"Answer: {value}"])


def _facts(question: str) -> list[str]:
    return [f"- {sentence}" for sentence in sentences(question)[:_MAX_FACTS]]


def _think(number: int, working: Working, program: Program) -> str:
    node, value = working.node, format_value(working.value)
    needs = [program[arg.name].label for arg in node.args if isinstance(arg, Ref)]
    source = f"For that I take {listing(needs)} from above" if needs else "The text has all of it"
    return (
        f"Step {number}: now I need {node.label}. {source}. The calculation is {working.sum_text}, "
        f"and I do it slowly: {working.sum_text} = {value}. So {node.label} is {value}."
    )
