"""A subtask as it was written, before anything about it has been checked."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Final

from langchain_hybridflow.plan._text import clean
from langchain_hybridflow.plan.subtask import Role

__all__ = ["SubtaskDraft", "field_name", "fit_id"]

_FIELD_OF: Final = {
    alias: field
    for field, aliases in {
        "id": ("id", "stepid", "subtaskid", "taskid"),
        "task": ("task", "question", "description", "subtask"),
        "role": ("role", "type", "kind"),
        "depends_on": (
            "rely",
            "relies",
            "relieson",
            "dependson",
            "dependencies",
            "deps",
            "requires",
        ),
        "difficulty": ("difficulty",),
        "expected_output_tokens": ("token", "tokens", "expectedoutputtokens", "expectedtokens"),
    }.items()
    for alias in aliases
}
_NO_DEPENDENCIES: Final = frozenset({"none", "null", "nil", "n/a", "na"})
_FILLER_WORDS: Final = frozenset({"step", "steps", "subtask", "subtasks", "task", "tasks", "and"})
_PUNCTUATION_IN_IDS: Final = frozenset("_.-")
_LONGEST_ID: Final = 32
_MOST_DIGITS: Final = 9
_MOST_DEPENDENCIES: Final = 1_000


@dataclass(frozen=True, slots=True)
class SubtaskDraft:
    """A subtask as a planner wrote it: the fields are read, nothing is checked or repaired.

    Attributes:
        id: Fit to be an id, or empty if there was none; may be used by others too.
        task: The question, never blank.
        role: What was written, or what a leading "Explain:", "Analyze:" or "Generate:" of the task
            says; None leaves it to the position in the plan.
        depends_on: Ids as written; they need not exist. At most a thousand are read.
        difficulty: As written, of any size; None if it was missing or not a number.
        expected_output_tokens: As written, of any size; None if it was missing or not a number.
    """

    id: str
    task: str
    role: Role | None = None
    depends_on: tuple[str, ...] = ()
    difficulty: int | None = None
    expected_output_tokens: int | None = None

    @classmethod
    def from_fields(cls, fields: Mapping[str, object]) -> SubtaskDraft | None:
        """Read one subtask from the attributes of an XML element or the members of a JSON object.

        Names are the paper's (ID, Task, Rely, ...) or this package's, in any case and spelling
        (`dependsOn`, `depends_on`). Of two names for one field the first counts.

        Returns:
            None if there is no task.

        Example:
            >>> draft = SubtaskDraft.from_fields({"ID": 2, "Task": "Analyze: why?", "Rely": "1"})
            >>> draft.id, draft.role.value, draft.depends_on
            ('2', 'analyze', ('1',))
        """
        known: dict[str, object] = {}
        for name, value in fields.items():
            if (field := field_name(name)) is not None and value not in ("", None):
                known.setdefault(field, value)
        task = known.get("task")
        if not isinstance(task, str) or not (text := clean(task).strip()):
            return None
        dependencies = dict.fromkeys(_dependencies(known.get("depends_on")))
        return cls(
            id="_".join(_id_tokens(known.get("id")))[:_LONGEST_ID],
            task=text,
            role=_read_role(known.get("role")) or _read_role(text.partition(":")[0]),
            depends_on=tuple(islice(dependencies, _MOST_DEPENDENCIES)),
            difficulty=_read_number(known.get("difficulty")),
            expected_output_tokens=_read_number(known.get("expected_output_tokens")),
        )


def field_name(name: str) -> str | None:
    """Tell which field a written name means; None if it means none."""
    return _FIELD_OF.get(name.lower().replace("_", "").replace("-", ""))


def _read_role(value: object) -> Role | None:
    if not isinstance(value, str):
        return None
    try:
        return Role(value.strip().lower())
    except ValueError:
        return None


def _read_number(value: object) -> int | None:
    """Read a whole number; of text the digits it starts with ("4/9", "50 tokens")."""
    if isinstance(value, str):
        text = value.strip()
        digits = len(text) - len(text.lstrip("0123456789"))
        return int(text[: min(digits, _MOST_DIGITS)]) if digits else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return int(value)


def _dependencies(value: object) -> Iterable[str]:
    if isinstance(value, str) and value.strip().lower() in _NO_DEPENDENCIES:
        return
    for item in value if isinstance(value, list | tuple) else (value,):
        yield from _id_tokens(item)


def _id_tokens(value: object) -> list[str]:
    """Read the ids in "1, 2", "1;2", "1 2", "[1]", "Step 1 and Step 2", 3 or 3.0."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value) if abs(value) < 10**_LONGEST_ID else ""
    if not isinstance(value, str):
        return []
    tokens: list[str] = []
    for piece in value.replace(";", ",").split(","):
        words = piece.split()
        # A filler word alone in its piece is an id that happens to be such a word.
        if len(words) > 1:
            words = [word for word in words if word.lower() not in _FILLER_WORDS]
        tokens += (token for word in words if (token := fit_id(word)))
    return tokens


def fit_id(word: str) -> str:
    """Make a word fit to be an id: the same word always becomes the same id."""
    chars = [char if _is_id_char(char) else " " for char in word]
    fitting = "_".join("".join(chars).split())
    return fitting.lstrip("_.-")[:_LONGEST_ID]


def _is_id_char(char: str) -> bool:
    return char.isascii() and (char.isalnum() or char in _PUNCTUATION_IN_IDS)
