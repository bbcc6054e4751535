"""One subtask of a plan, and the three roles it can have."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

__all__ = ["Role", "Subtask"]

ID_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,31}$"
DEFAULT_DIFFICULTY: Final = 5
DEFAULT_OUTPUT_TOKENS: Final = 128
MAX_OUTPUT_TOKENS: Final = 1_000_000


class Role(StrEnum):
    """What a subtask is for (Explain -> Analyze -> Generate, arXiv 2512.22137).

    >>> Role("analyze") is Role.ANALYZE
    True
    """

    EXPLAIN = "explain"
    """Says what the question is about; the first subtask of a plan, which waits for nothing."""
    ANALYZE = "analyze"
    """Works out one part of the answer."""
    GENERATE = "generate"
    """Puts the parts together; its answer is the final answer."""


def _id_text(value: object) -> object:
    """Let whole numbers be ids, as planners number their steps."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value


def _stripped_text(text: str) -> str:
    if not (stripped := text.strip()):
        raise ValueError("a task must say something; it is empty or blank")
    try:
        stripped.encode()
    except UnicodeEncodeError as error:
        # It could not be sent to a model or written to a checkpoint: better to fail here.
        raise ValueError(f"a task must be text that UTF-8 can carry: {error}") from error
    return stripped


def _without_repeats(ids: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(ids))


SubtaskId = Annotated[str, BeforeValidator(_id_text), Field(pattern=ID_PATTERN)]


class Subtask(BaseModel):
    """One self-contained question of a plan, answered by one model.

    Surrounding blanks of `task` and repeated ids in `depends_on` are dropped. A value that does not
    fit raises `pydantic.ValidationError`.

    Attributes:
        id: Name of the subtask, unique in its plan: 1-32 letters, digits, `_`, `.` or `-`, starting
            with a letter or digit. A whole number is taken as its text.
        task: The question to answer.
        role: What the subtask is for.
        depends_on: Ids of the subtasks whose answers this one needs.
        difficulty: The planner's guess, 1 (trivial) to 9 (hard); the paper's reading is that 5 and
            more want the large model.
        expected_output_tokens: The planner's guess of the answer's length, 1 to 1,000,000 tokens.

    Example:
        >>> subtask = Subtask(id=2, task="How many apples are left?", depends_on=["1"])
        >>> subtask.id, subtask.role.value, subtask.depends_on
        ('2', 'analyze', ('1',))
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: SubtaskId
    task: Annotated[str, AfterValidator(_stripped_text)]
    role: Role = Role.ANALYZE
    depends_on: Annotated[tuple[SubtaskId, ...], AfterValidator(_without_repeats)] = ()
    difficulty: int = Field(default=DEFAULT_DIFFICULTY, ge=1, le=9)
    expected_output_tokens: int = Field(default=DEFAULT_OUTPUT_TOKENS, gt=0, le=MAX_OUTPUT_TOKENS)
