"""A user's questions, from a file or from the sandbox.

Parquet, JSON lines or CSV (these two also .gz), a row for each question; names in brackets are
understood, too:

    question [text, prompt]             what is asked
    answer [reference]                  what is right; a list holds all that is. Whatever the
                                        scorer understands: text, number, letter, JSON
    choices [options]                   offered answers: a list, or a dict by letter; in CSV as
                                        JSON. They are shown to the models with their letters
    context                             a passage that is shown to the models before the question
    id                                  unique; the number of the row by default
    group                               questions that are nearly the same share one
    tag [category, domain, task]        kind of question

All other columns are carried through.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import ascii_uppercase
from typing import Any, Final

from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.learning.dataset import read_table
from langchain_hybridflow.profiling.records import Item
from langchain_hybridflow.sandbox import Puzzle, generate_problems, generate_puzzles

__all__ = ["check_items", "is_sandbox", "items_of", "puzzle_items", "read_items", "sandbox_items"]

_ALIASES: Final = {
    "question": ("question", "text", "prompt"),
    "reference": ("reference", "answer"),
    "choices": ("choices", "options"),
    "context": ("context",),
    "id": ("id",),
    "group": ("group",),
    "tag": ("tag", "category", "domain", "task"),
}
_SANDBOX: Final = re.compile(r"(sandbox|puzzles):(\d{1,6})")
_SHOWN: Final = 3


def read_items(data: str | Path, *, seed: int = 0) -> list[Item]:
    """Read questions from a file, or take them from the sandbox.

    Args:
        data: A file, or `sandbox:200` for so many of the sandbox's problems, or `puzzles:200` for
            so many of its puzzles.
        seed: Of the sandbox's problems and puzzles.

    Raises:
        ConfigurationError: The file cannot be read, or its questions cannot be asked.
        MissingExtraError: Parquet needs the extra `learning`.

    Example:
        >>> [item.tag for item in read_items("sandbox:2", seed=7)]
        ['stock', 'stock']
    """
    found = _SANDBOX.fullmatch(str(data))
    if found:
        make = sandbox_items if found[1] == "sandbox" else puzzle_items
        return make(int(found[2]), seed=seed)
    if is_sandbox(data):
        kind = str(data).partition(":")[0]
        raise ConfigurationError(f"{data!s} names no questions; write {kind}:200 for so many.")
    return items_of(read_table(data), source=str(data))


def sandbox_items(n: int, *, seed: int = 0) -> list[Item]:
    """Return problems of the sandbox, the same ones for the same seed on every machine.

    Raises:
        ConfigurationError: There are none.
    """
    if n < 1:
        raise ConfigurationError("sandbox:0 holds no question; write sandbox:200 for so many.")
    return [
        Item(id=one.id, question=one.question, reference=one.answer, tag=one.kind)
        for one in generate_problems(n, seed=seed)
    ]


def puzzle_items(n: int, *, seed: int = 0) -> list[Item]:
    """Return puzzles of the sandbox, the same ones for the same seed on every machine.

    Raises:
        ConfigurationError: There are none.

    Example:
        >>> [item.question for item in puzzle_items(1, seed=8)]
        ['Make 16 from 10, 13, 7.']
    """
    if n < 1:
        raise ConfigurationError("puzzles:0 holds no question; write puzzles:200 for so many.")
    return [
        Item(id=one.id, question=one.question, reference=_solution(one), tag=one.kind)
        for one in generate_puzzles(n, seed=seed)
    ]


def is_sandbox(data: str | Path) -> bool:
    """Whether questions are named that come from the sandbox, not from a file."""
    return str(data).startswith("sandbox") or str(data).partition(":")[0] == "puzzles"


def _solution(puzzle: Puzzle) -> Any:
    """Return what is right: a number, or what has to be made from which numbers."""
    if puzzle.target is None:
        return puzzle.answer
    return {"target": puzzle.target, "numbers": list(puzzle.numbers)}


def items_of(columns: Mapping[str, Sequence[Any]], *, source: str = "the data") -> list[Item]:
    """Make items of the columns of a table.

    Args:
        columns: As documented in this module, all of one length.
        source: What the table is called in errors.

    Raises:
        ConfigurationError: A column is missing, a question is empty, or two have the same id.

    Example:
        >>> columns = {"question": ["Largest?"], "choices": [["2", "3"]], "answer": ["B"]}
        >>> print(items_of(columns)[0].question)
        Largest?
        <BLANKLINE>
        A. 2
        B. 3
    """
    names = {
        what: next((alias for alias in aliases if alias in columns), None)
        for what, aliases in _ALIASES.items()
    }
    if names["question"] is None:
        raise ConfigurationError(
            f"{source} has no column question, text or prompt; its columns are "
            f"{', '.join(columns) or 'none'}."
        )
    used = {name for name in names.values() if name is not None}
    rest = [name for name in columns if name not in used]
    items = []
    for row in range(len(columns[names["question"]])):
        given = {
            what: None if name is None else _known(columns[name][row])
            for what, name in names.items()
        }
        extra = {name: _plain_json(columns[name][row]) for name in rest}
        items.append(_item(given, extra, number=row + 1, source=source))
    check_items(items, source=source)
    return items


def check_items(items: Sequence[Item], *, source: str = "the data") -> None:
    """Refuse items that cannot be told apart, and none at all.

    Raises:
        ConfigurationError: There are none, or two have the same id.
    """
    if not items:
        raise ConfigurationError(f"{source} holds no question.")
    counts = Counter(item.id for item in items)
    repeated = [item_id for item_id, count in counts.items() if count > 1]
    if repeated:
        raise ConfigurationError(
            f"{source} has {len(repeated)} ids more than once, such as "
            f"{', '.join(map(repr, repeated[:_SHOWN]))}. Answers are kept by id: make them "
            f"unique, or leave the column out to number the rows."
        )


def _item(given: Mapping[str, Any], extra: dict[str, Any], *, number: int, source: str) -> Item:
    question = given["question"]
    if not isinstance(question, str) or not question.strip():
        raise ConfigurationError(f"The question in row {number} of {source} is empty or no text.")
    labelled = _choices(given["choices"], number=number, source=source)
    choices = dict(zip(ascii_uppercase, labelled.values(), strict=False))
    letters = dict(zip(labelled, choices, strict=True))
    reference = given["reference"]
    if labelled and isinstance(reference, str | int) and not isinstance(reference, bool):
        reference = letters.get(str(reference).strip(), reference)
    return Item(
        id=str(number) if given["id"] is None else str(given["id"]),
        question=_with_choices(question, choices),
        reference=_plain_json(reference),
        choices=choices,
        context=str(given["context"] or ""),
        group=None if given["group"] is None else str(given["group"]),
        tag=None if given["tag"] is None else str(given["tag"]),
        extra=extra,
    )


def _choices(value: Any, *, number: int, source: str) -> dict[str, str]:
    """Return the offered answers by the label that the data give them; a list's have none."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            value = None if not value.strip() else value
    if value is None:
        return {}
    if isinstance(value, Mapping) and {"label", "text"} <= value.keys():
        value = dict(zip(map(str, value["label"]), value["text"], strict=False))
    if isinstance(value, Mapping):  # Parquet fills in the labels of other rows with nothing
        found = {str(label).strip(): one for label, one in value.items() if one is not None}
    elif isinstance(value, list | tuple):
        found = {f"choice {place}": one for place, one in enumerate(value)}
    else:
        raise ConfigurationError(
            f"The choices in row {number} of {source} are no list and no dict of texts."
        )
    if len(found) == 1 or len(found) > len(ascii_uppercase):
        raise ConfigurationError(
            f"Row {number} of {source} offers {len(found)} choices; it must be 2 to 26, or none."
        )
    return {label: " ".join(str(text).split()) for label, text in found.items()}


def _with_choices(question: str, choices: Mapping[str, str]) -> str:
    if not choices:
        return question
    lines = "\n".join(f"{letter}. {text}" for letter, text in choices.items())
    return f"{question.rstrip()}\n\n{lines}"


def _known(value: Any) -> Any:
    """Return a value, `None` for the NaN by which tables say that there is none."""
    return None if isinstance(value, float) and math.isnan(value) else value


def _plain_json(value: Any) -> Any:
    """Return a value in plain JSON types; dates and the like as text."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(name): _plain_json(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain_json(one) for one in value]
    return str(value)
