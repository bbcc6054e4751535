"""Answers of an edge model with how sure it was and whether they were right: what to calibrate on.

A row is an answer. Columns, in Parquet, JSON lines or CSV (these two also .gz); names in brackets
are understood, too:

    score [confidence]                  how sure, any finite number: the higher, the surer. Empty
                                        where nobody knows
    correct [edge_correct]              1 if the answer is right, 0 if it is wrong
    group                               questions that are nearly the same share one; optional
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any, Final, Self

from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.learning.dataset import read_table

__all__ = ["LabelledRuns", "read_labelled_runs"]

_ALIASES: Final = {"score": ("score", "confidence"), "correct": ("correct", "edge_correct")}


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledRuns:
    """Answers with how sure the model was, and whether they were right; n of them.

    Args:
        scores: The higher, the surer; `None` where nobody knows.
        correct: Whether each was right.
        groups: Questions that are nearly the same share one; by default each has its own.

    Raises:
        ConfigurationError: The lengths differ, or a score is not finite.

    Example:
        >>> runs = LabelledRuns(scores=(0.9, None, 0.4), correct=(True, True, False))
        >>> len(runs), runs.missing, runs.accuracy
        (3, 1, 0.6666666666666666)
    """

    scores: tuple[float | None, ...]
    correct: tuple[bool, ...]
    groups: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        lengths = {len(self.scores), len(self.correct)}
        if self.groups is not None:
            lengths.add(len(self.groups))
        if len(lengths) != 1:
            raise ConfigurationError(
                f"There are {len(self.scores)} scores and {len(self.correct)} labels, and groups "
                f"for as many rows are needed if any."
            )
        if not all(one is None or isfinite(one) for one in self.scores):
            raise ConfigurationError("A score is not a finite number; leave it empty if unknown.")

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def missing(self) -> int:
        """How many have no score."""
        return sum(one is None for one in self.scores)

    @property
    def accuracy(self) -> float:
        """Share of right answers, 0 to 1."""
        return sum(self.correct) / len(self.correct)

    @classmethod
    def from_rows(cls, columns: Mapping[str, Sequence[Any]]) -> Self:
        """Make them of columns.

        Raises:
            ConfigurationError: A column is missing, a score is no number, or a label is neither
                0 nor 1.

        Example:
            >>> LabelledRuns.from_rows({"score": [0.9, None], "correct": [1, 0]}).missing
            1
        """
        named = {}
        for name, aliases in _ALIASES.items():
            found = next((alias for alias in aliases if alias in columns), None)
            if found is None:
                raise ConfigurationError(
                    f"There is no column {' or '.join(map(repr, aliases))}; the columns are "
                    f"{', '.join(columns) or 'none'}."
                )
            named[name] = columns[found]
        groups = columns.get("group")
        return cls(
            scores=tuple(_score(one, row) for row, one in enumerate(named["score"], start=1)),
            correct=tuple(_label(one, row) for row, one in enumerate(named["correct"], start=1)),
            groups=None
            if groups is None
            else tuple(f"row {row}" if one is None else str(one) for row, one in enumerate(groups)),
        )


def read_labelled_runs(path: str | Path) -> LabelledRuns:
    """Read labelled runs from Parquet, JSON lines or CSV.

    Raises:
        ConfigurationError: The file cannot be read, or its columns are not as documented.
        MissingExtraError: Parquet needs the extra `learning`.
    """
    return LabelledRuns.from_rows(read_table(path))


def _score(value: Any, row: int) -> float | None:
    try:
        number = None if value is None else float(value)
    except (OverflowError, TypeError, ValueError):
        raise ConfigurationError(f"The score in row {row} is no number: {value!r}.") from None
    if number is None or number != number:  # by NaN tables say that there is none
        return None
    if not isfinite(number):
        raise ConfigurationError(f"The score in row {row} is not finite: {value!r}.")
    return number


def _label(value: Any, row: int) -> bool:
    try:
        number = float(value)
    except (OverflowError, TypeError, ValueError):
        number = -1.0
    if number not in (0.0, 1.0):
        raise ConfigurationError(
            f"Whether the answer in row {row} is right must be 0 or 1, not {value!r}. Leave rows "
            f"out of which nobody knows; of marks in between say from which on they count as right."
        )
    return number == 1.0
