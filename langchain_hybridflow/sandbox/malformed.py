"""Plans broken in the ways in which the plans of weak models are."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final

from langchain_hybridflow.plan import Role, Subtask

__all__ = ["STRUCTURE_FAULTS", "TEXT_FAULTS", "damage"]

Write = Callable[[Sequence[Subtask]], str]

_MAX_SUBTASKS: Final = 6


def damage(
    subtasks: Sequence[Subtask], too_many: Sequence[Subtask], *, write: Write, rng: random.Random
) -> str:
    """Write a plan with one fault that `rng` chooses.

    Args:
        subtasks: The plan as it should be.
        too_many: A plan for the same question that is cut too fine.
        write: Writes subtasks as XML.
        rng: Chooses the fault.
    """
    faults = list(TEXT_FAULTS)
    if len(subtasks) > 2:
        faults += list(STRUCTURE_FAULTS)
    if len(too_many) > _MAX_SUBTASKS:
        faults.append("too_many")
    fault = rng.choice(faults)
    if fault == "too_many":
        return write(too_many)
    if fault in STRUCTURE_FAULTS:
        return write(STRUCTURE_FAULTS[fault](tuple(subtasks)))
    return TEXT_FAULTS[fault](write(subtasks), rng)


def _with(subtasks: tuple[Subtask, ...], index: int, **changes: object) -> tuple[Subtask, ...]:
    changed = subtasks[index].model_copy(update=changes)
    return tuple(changed if subtask is subtasks[index] else subtask for subtask in subtasks)


def _cycle(subtasks: tuple[Subtask, ...]) -> tuple[Subtask, ...]:
    return _with(subtasks, 1, depends_on=(*subtasks[1].depends_on, subtasks[-1].id))


def _unknown_dependency(subtasks: tuple[Subtask, ...]) -> tuple[Subtask, ...]:
    return _with(subtasks, -1, depends_on=(*subtasks[-1].depends_on, str(len(subtasks) + 3)))


def _duplicate_id(subtasks: tuple[Subtask, ...]) -> tuple[Subtask, ...]:
    return _with(subtasks, 2, id=subtasks[1].id)


def _two_sinks(subtasks: tuple[Subtask, ...]) -> tuple[Subtask, ...]:
    lost = subtasks[-2].id
    rest = tuple(needed for needed in subtasks[-1].depends_on if needed != lost)
    return _with(_with(subtasks, -1, depends_on=rest), -2, role=Role.GENERATE)


def _unescaped_quotes(text: str, rng: random.Random) -> str:
    """Put what a task asks for into quotation marks, without escaping them."""
    lines = text.split("\n")
    index = rng.randrange(1, len(lines) - 1)
    before, _, after = lines[index].partition('Task="')
    task, _, rest = after.partition('" Difficulty=')
    words = task.split(" ")
    words[-1] = f'"{words[-1]}"'
    lines[index] = f'{before}Task="{" ".join(words)}" Difficulty={rest}'
    return "\n".join(lines)


def _prose(text: str, rng: random.Random) -> str:
    del rng
    return (
        f"Sure! Here is a plan in <Plan> format for you:\n\n{text}\n\nEach step has its own line. "
        "Let me know if you need anything else!"
    )


def _code_fence(text: str, rng: random.Random) -> str:
    return f"```{rng.choice(('xml', ''))}\n{text}\n```"


def _missing_close(text: str, rng: random.Random) -> str:
    """Leave the last element, and the plan itself, open."""
    del rng
    return text.removesuffix("\n</Plan>").removesuffix("/>") + ">"


def _cut(text: str, rng: random.Random) -> str:
    """Stop in the middle, as at a limit of tokens."""
    return text[: rng.randrange(len(text) // 2, len(text) - len("/>\n</Plan>"))]


STRUCTURE_FAULTS: Final[Mapping[str, Callable[[tuple[Subtask, ...]], tuple[Subtask, ...]]]] = (
    MappingProxyType(
        {
            "cycle": _cycle,
            "unknown_dependency": _unknown_dependency,
            "duplicate_id": _duplicate_id,
            "two_sinks": _two_sinks,
        }
    )
)
"""Faults of what the plan says."""

TEXT_FAULTS: Final[Mapping[str, Callable[[str, random.Random], str]]] = MappingProxyType(
    {
        "unescaped_quotes": _unescaped_quotes,
        "prose": _prose,
        "code_fence": _code_fence,
        "missing_close": _missing_close,
        "cut": _cut,
    }
)
"""Faults of how it is written."""
