"""Outcomes of both tiers on the same questions: what a router learns from.

A row is a question (or a subtask) with the score of the edge's and of the cloud's answer, 0 to 1.
Columns, in Parquet, JSON lines or CSV (these two also .gz); other names in brackets are
understood, too:

    question [text, prompt]             what was asked
    edge_correct [weak_correct]         score of the edge's answer, 0 to 1
    cloud_correct [strong_correct]      score of the cloud's
    group                               questions that are nearly the same share one; optional
    tag [category, domain, task]        kind of question; optional, a request may declare it, too
    edge_answer_chars [weak_...]        length of the edge's answer, for decisions made after it
    edge_no_answer [weak_...]           1 if the edge gave none
    correct:<model>, score:<model>      scores of other models: how hard the question is; optional
    role, difficulty, expected_output_tokens, depth, fan_in, fan_out, on_critical_path,
    parent_cloud_share                  place in the plan, as in `RouteRequest`; optional
    edge_tokens, cloud_tokens, edge_seconds, cloud_seconds, edge_usd, cloud_usd   optional

Everything that is known only after a call is a target, never a feature - but for the length of
the edge's answer and its refusal, which a decision made after the edge has answered may use.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langchain_hybridflow.errors import ConfigurationError, MissingExtraError
from langchain_hybridflow.learning.features import STRUCTURE_COLUMNS, structure_matrix

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = ["COST_COLUMNS", "MIN_ROWS", "Dataset", "concatenate", "load_dataset", "read_table"]

MIN_ROWS = 50
"""Fewer rows than this teach nothing that a validation could confirm."""

COST_COLUMNS = tuple(
    f"{tier}_{what}" for tier in ("edge", "cloud") for what in ("tokens", "seconds", "usd")
)
_ALIASES = {
    "question": ("question", "text", "prompt"),
    "edge_correct": ("edge_correct", "weak_correct"),
    "cloud_correct": ("cloud_correct", "strong_correct"),
    "group": ("group",),
    "tag": ("tag", "category", "domain", "task"),
    "answer_chars": ("edge_answer_chars", "weak_answer_chars"),
    "no_answer": ("edge_no_answer", "weak_no_answer"),
}
_AUXILIARY = ("correct:", "score:")


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """Questions and what both tiers made of them; n rows.

    Attributes:
        questions: The texts, n of them.
        edge: Shape (n,), scores of the edge's answers, 0 to 1.
        cloud: Shape (n,), those of the cloud's.
        groups: Names of near-duplicate groups; splits never tear a group apart.
        tags: Kinds of question, empty where nobody has said; `None` if nobody has said of any.
        answer_chars: Shape (n,), characters of the edge's answer; `None` if not recorded.
        no_answer: Shape (n,), 1 where the edge gave no answer; `None` if not recorded.
        hardness: Shape (n,), mean score of other models, NaN where unknown; `None` without any.
        structure: Shape (n, features of structure): the place in a plan.
        costs: Tokens, seconds and USD a tier by column name, NaN where unknown.
        notes: What the loading found that a person should know.
    """

    questions: tuple[str, ...]
    edge: Floats
    cloud: Floats
    groups: tuple[str, ...]
    structure: Floats
    tags: tuple[str, ...] | None = None
    answer_chars: Floats | None = None
    no_answer: Floats | None = None
    hardness: Floats | None = None
    costs: Mapping[str, Floats] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.questions)

    @classmethod
    def from_rows(cls, columns: Mapping[str, Sequence[Any]]) -> Dataset:
        """Make a dataset of columns.

        Raises:
            ConfigurationError: A column is missing, its length differs, or a score is not a
                number from 0 to 1.

        Example:
            >>> data = Dataset.from_rows(
            ...     {"question": ["1 + 1?"], "edge_correct": [1], "cloud_correct": [1]}
            ... )
            >>> len(data), data.tags
            (1, None)
        """
        import numpy as np

        named = _named(columns)
        questions = tuple("" if text is None else str(text) for text in named["question"])
        rows = len(questions)
        wrong = {name: len(values) for name, values in columns.items() if len(values) != rows}
        if wrong:
            raise ConfigurationError(f"There are {rows} questions, but columns of length {wrong}.")
        groups, notes = _groups(questions, named.get("group"))
        other = [name for name in columns if name.startswith(_AUXILIARY)]
        scores = np.array([_numbers(columns[name]) for name in other]).reshape(len(other), rows)
        return cls(
            questions=questions,
            edge=_scores("edge_correct", named["edge_correct"]),
            cloud=_scores("cloud_correct", named["cloud_correct"]),
            groups=groups,
            tags=_tags(named.get("tag")),
            answer_chars=_known(named.get("answer_chars")),
            no_answer=_known(named.get("no_answer")),
            hardness=_mean_of_known(scores) if other else None,
            structure=structure_matrix(
                {name: columns[name] for name in STRUCTURE_COLUMNS if name in columns}, rows
            ),
            costs={name: _numbers(columns[name]) for name in COST_COLUMNS if name in columns},
            notes=notes,
        )

    def take(self, rows: NDArray[np.integer[Any]] | Sequence[int]) -> Dataset:
        """Return a dataset of some of the rows, in the given order."""
        import numpy as np

        index = np.asarray(rows, dtype=int)

        def texts(values: tuple[str, ...] | None) -> Any:
            return None if values is None else tuple(values[i] for i in index)

        def numbers(values: Floats | None) -> Any:
            return None if values is None else values[index]

        return Dataset(
            questions=texts(self.questions),
            edge=self.edge[index],
            cloud=self.cloud[index],
            groups=texts(self.groups),
            tags=texts(self.tags),
            answer_chars=numbers(self.answer_chars),
            no_answer=numbers(self.no_answer),
            hardness=numbers(self.hardness),
            structure=self.structure[index],
            costs={name: values[index] for name, values in self.costs.items()},
            notes=self.notes,
        )

    def check_trainable(self) -> None:
        """Refuse data that nothing can be learnt from.

        Raises:
            ConfigurationError: There are fewer than 50 rows or fewer than 10 groups, or a tier
                has the same score on all of them, or the tiers never differ.
        """
        if len(self) < MIN_ROWS or len(set(self.groups)) < MIN_ROWS // 5:
            raise ConfigurationError(
                f"{len(self)} rows in {len(set(self.groups))} groups are too few to learn from: "
                f"at least {MIN_ROWS} rows in {MIN_ROWS // 5} groups are needed, 1,000 to be of "
                f"use. Profile more questions, or route by difficulty until then."
            )
        for name, scores in (("edge", self.edge), ("cloud", self.cloud)):
            if scores.min() == scores.max():
                raise ConfigurationError(
                    f"The {name} has the score {scores[0]:g} on all {len(self)} rows: there is "
                    f"nothing to tell apart. Check how the answers were scored, or use a fixed "
                    f"tier."
                )
        if (self.edge == self.cloud).all():
            raise ConfigurationError(
                "Both tiers score the same on every row, so the cloud adds nothing: "
                "use AlwaysEdge, or check that the columns are of two models."
            )

    def overlap(self, other: Dataset) -> tuple[int, int]:
        """Count this dataset's rows whose text, and whose group, is in the other one, too."""
        texts = {_normal(text) for text in other.questions}
        groups = set(other.groups)
        same_text = sum(_normal(text) in texts for text in self.questions)
        return same_text, sum(group in groups for group in self.groups)

    def fingerprints(self) -> NDArray[np.uint64]:
        """Return a hash of each question's text, shape (n,); case and spaces do not count."""
        import numpy as np

        digests = (
            hashlib.blake2b(_normal(text).encode(errors="replace"), digest_size=8).digest()
            for text in self.questions
        )
        return np.frombuffer(b"".join(digests), dtype=np.uint64)


def load_dataset(path: str | Path) -> Dataset:
    """Read a dataset from Parquet, JSON lines or CSV.

    Raises:
        ConfigurationError: The file cannot be read, or its columns are not as documented.
        MissingExtraError: Parquet needs the extra `learning`.
    """
    return Dataset.from_rows(read_table(path))


def read_table(path: str | Path) -> dict[str, list[Any]]:
    """Read the columns of a Parquet, JSON lines or CSV file.

    Raises:
        ConfigurationError: There is no such file, or it is of another format.
        MissingExtraError: Parquet needs the extra `learning`.
    """
    path = Path(path)
    if not path.is_file():
        raise ConfigurationError(f"There is no file {path}.")
    if path.suffix == ".parquet":
        try:
            from pyarrow import ArrowException
            from pyarrow.parquet import read_table as read_parquet
        except ImportError as error:
            raise MissingExtraError("Reading Parquet", "learning") from error
        try:
            columns: dict[str, list[Any]] = read_parquet(path).to_pydict()
        except (ArrowException, OSError, ValueError) as error:
            raise ConfigurationError(f"{path} is not a readable Parquet file: {error}") from error
        return columns
    name = path.name.removesuffix(".gz")
    if name.endswith((".jsonl", ".ndjson")):
        return _json_lines(path)
    if name.endswith(".csv"):
        return _csv(path)
    raise ConfigurationError(
        f"{path} must end in .parquet, .jsonl or .csv; the latter two also in .gz."
    )


def _unpacked(path: Path) -> str:
    raw = path.read_bytes()
    return (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8-sig")


def _csv(path: Path) -> dict[str, list[Any]]:
    """Read texts; empty ones are unknown, and columns of true and false are 1 and 0."""
    try:
        # No limit that is set for the whole process: a field may have 131,072 characters.
        header, *rows = csv.reader(io.StringIO(_unpacked(path), newline=""), strict=True)
    except (OSError, EOFError, ValueError, csv.Error) as error:
        raise ConfigurationError(f"{path} is not a readable CSV file: {error}") from error
    rows = [row for row in rows if row]
    if any(len(row) != len(header) for row in rows):
        raise ConfigurationError(f"{path}: each row must have {len(header)} fields, as the first.")
    return {name: _plain([row[i] for row in rows]) for i, name in enumerate(header)}


def _plain(texts: list[str]) -> list[Any]:
    truths = {"true": 1, "false": 0, "": None}
    if any(texts) and all(text.lower() in truths for text in texts):
        return [truths[text.lower()] for text in texts]
    return [text or None for text in texts]


def _json_lines(path: Path) -> dict[str, list[Any]]:
    number, rows = 0, []
    try:
        for number, line in enumerate(_unpacked(path).split("\n"), start=1):
            if line.strip():
                rows.append(json.loads(line))
                if not isinstance(rows[-1], dict):
                    raise ConfigurationError(
                        f"{path}, line {number}: each line must be a JSON object."
                    )
    except (OSError, EOFError, ValueError) as error:
        where = f" in line {number}" if number else ""
        raise ConfigurationError(
            f"{path} is not a readable JSON lines file{where}: {error}"
        ) from error
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}


def concatenate(parts: Iterable[Mapping[str, Sequence[Any]]]) -> dict[str, list[Any]]:
    """Put tables below each other; what a table lacks is `None` in its rows."""
    tables = list(parts)
    names = dict.fromkeys(name for table in tables for name in table)
    lengths = [len(next(iter(table.values()), ())) for table in tables]
    return {
        name: [
            value
            for table, length in zip(tables, lengths, strict=True)
            for value in table.get(name, [None] * length)
        ]
        for name in names
    }


def _named(columns: Mapping[str, Sequence[Any]]) -> dict[str, Sequence[Any]]:
    named = {}
    for name, aliases in _ALIASES.items():
        found = next((alias for alias in aliases if alias in columns), None)
        if found is not None:
            named[name] = columns[found]
        elif name in {"question", "edge_correct", "cloud_correct"}:
            raise ConfigurationError(
                f"There is no column {' or '.join(map(repr, aliases))}; "
                f"the columns are {', '.join(columns) or 'none'}."
            )
    return named


def _numbers(values: Sequence[Any]) -> Floats:
    import numpy as np

    try:
        return np.array([np.nan if value is None else float(value) for value in values])
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"A number was expected in a column: {error}") from error


def _tags(values: Sequence[Any] | None) -> tuple[str, ...] | None:
    """Return the kinds of question, empty where unknown; `None` if there are none."""
    # What is missing is `None`, or NaN, which is not equal to itself.
    tags = tuple(
        "" if value is None or value != value else str(value).strip()
        for value in (() if values is None else values)
    )
    return tags if any(tags) else None


def _known(values: Sequence[Any] | None) -> Floats | None:
    """Return amounts, or `None` unless they are known, and none is negative, in every row."""
    import numpy as np

    if values is None:
        return None
    numbers = _numbers(values)
    return numbers if (np.isfinite(numbers) & (numbers >= 0)).all() else None


def _scores(name: str, values: Sequence[Any]) -> Floats:
    import numpy as np

    scores = _numbers(values)
    bad = np.flatnonzero(~((scores >= 0) & (scores <= 1)))
    if len(bad):
        raise ConfigurationError(
            f"{name} must be from 0 to 1 in every row; {len(bad)} of {len(scores)} are not, the "
            f"first is {scores[bad[0]]} in row {bad[0] + 1}. Leave out rows without a score."
        )
    return scores


def _mean_of_known(scores: Floats) -> Floats:
    import numpy as np

    known = np.isfinite(scores)
    counts = known.sum(axis=0)
    total = np.where(known, scores, 0.0).sum(axis=0)
    return np.where(counts > 0, total / np.maximum(counts, 1), np.nan)


def _normal(text: str) -> str:
    return " ".join(text.lower().split())


def _groups(
    questions: tuple[str, ...], given: Sequence[Any] | None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return a group a row: the given ones, joined where the same text is in several."""
    first: dict[str, str] = {}
    groups = []
    for row, text in enumerate(questions):
        own = str(given[row]) if given is not None and given[row] is not None else f"row {row}"
        groups.append(first.setdefault(_normal(text), own))
    repeated = len(questions) - len(first)
    note = f"{repeated} of {len(questions)} rows repeat a question; they share its group."
    return tuple(groups), (note,) if repeated else ()
