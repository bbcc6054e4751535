"""The tables of a profile: the long form, and the wide one that `hybridflow train` reads."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from importlib.util import find_spec
from pathlib import Path
from statistics import fmean
from typing import Any, Final, Literal, TypeAlias

from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.profiling.records import LONG_COLUMNS, PLAN_COLUMNS, Key, Outcome
from langchain_hybridflow.profiling.store import write_atomically
from langchain_hybridflow.routing import TIERS, Tier

__all__ = ["Columns", "Wide", "long_table", "table_format", "wide_table", "write_table"]

Columns: TypeAlias = dict[str, list[Any]]

_MONEY: Final = ("usd", "judge_usd")
_LARGEST: Final = 2**63 - 1
_TIER_COLUMNS: Final = (
    "correct",
    "model",
    "answer_chars",
    "no_answer",
    "tokens",
    "seconds",
    "usd",
)


@dataclass(frozen=True, slots=True)
class Wide:
    """The wide table: a row for each item that both tiers have a score for.

    Attributes:
        columns: The table.
        left_out: Ids of items without a score of both tiers, with the reason.
    """

    columns: Columns
    left_out: Mapping[str, str]

    def __len__(self) -> int:
        return len(self.columns["question"])


def long_table(outcomes: Iterable[Outcome]) -> Columns:
    """Return a row for each answer: `LONG_COLUMNS`, money as numbers."""
    rows = [outcome.to_json() for outcome in outcomes]
    columns: Columns = {name: [row[name] for row in rows] for name in LONG_COLUMNS}
    for name in _MONEY:
        columns[name] = [None if usd is None else float(usd) for usd in columns[name]]
    columns["extra"] = [json.dumps(extra) if extra else None for extra in columns["extra"]]
    return columns


def wide_table(
    outcomes: Mapping[Key, Outcome],
    *,
    item_ids: Sequence[str] | None = None,
    references: Mapping[str, Any] | None = None,
) -> Wide:
    """Return a row for each item with what both tiers made of it: means over its samples.

    Its columns are those of `langchain_hybridflow.learning.dataset`, and what the data had
    besides; one that would hide a column of ours, or that training would take for something else,
    is called `data:NAME`.

    Args:
        outcomes: The outcomes that count.
        item_ids: Which items, in which order; all of them, as they came, by default.
        references: The right answers, to stand beside the questions.

    Example:
        >>> from langchain_hybridflow.profiling.records import Item
        >>> item = Item(id="7", question="6 * 7?")
        >>> both = [
        ...     Outcome.about(item, tier=tier, model="m", status="scored", score=score)
        ...     for tier, score in (("edge", 0.0), ("cloud", 1.0))
        ... ]
        >>> table = wide_table({one.key: one for one in both})
        >>> table.columns["edge_correct"], table.columns["cloud_correct"]
        ([0.0], [1.0])
    """
    by_item: dict[str, dict[Tier, list[Outcome]]] = {}
    for outcome in outcomes.values():
        by_item.setdefault(outcome.item_id, {}).setdefault(outcome.tier, []).append(outcome)
    rows: list[dict[str, Any]] = []
    left_out: dict[str, str] = {}
    for item_id in by_item if item_ids is None else item_ids:
        tiers = by_item.get(item_id, {})
        reason = _why_not(tiers)
        if reason:
            left_out[item_id] = reason
        else:
            rows.append(_wide_row(tiers, (references or {}).get(item_id)))
    needed = ("id", "question", *(f"{tier}_correct" for tier in TIERS))
    names = dict.fromkeys((*needed, *(name for row in rows for name in row)))
    columns = {name: [row.get(name) for row in rows] for name in names}
    unknown = [name for name in names if name not in needed and _is_empty(columns[name])]
    return Wide({name: columns[name] for name in names if name not in unknown}, left_out)


def table_format() -> Literal["parquet", "jsonl"]:
    """Say how tables are written: as Parquet if pyarrow is installed, or else as JSON lines."""
    return "parquet" if find_spec("pyarrow") is not None else "jsonl"


def write_table(path: Path, columns: Mapping[str, Sequence[Any]]) -> None:
    """Write a table at once, by the ending of its path: .parquet or .jsonl.

    Columns that hold values of several kinds are written as text.

    Raises:
        ConfigurationError: It cannot be written.
    """
    plain = {name: _of_one_kind(values) for name, values in columns.items()}
    content = _parquet(plain) if path.suffix == ".parquet" else _json_lines(plain)
    try:
        write_atomically(path, content)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written: {error.strerror or error}.") from error


def _why_not(tiers: Mapping[Tier, Sequence[Outcome]]) -> str:
    """Say why an item has no row; empty if it has one."""
    for tier in TIERS:
        outcomes = tiers.get(tier, ())
        if any(one.status == "scored" for one in outcomes):
            continue
        if not outcomes:
            return "missing"
        kinds = {one.status for one in outcomes}
        return next(kind for kind in ("failed", "pending", "unscored") if kind in kinds)
    return ""


def _wide_row(tiers: Mapping[Tier, Sequence[Outcome]], reference: Any) -> dict[str, Any]:
    first = tiers["edge"][0]
    row: dict[str, Any] = {
        "id": first.item_id,
        "question": first.question,
        "context": first.context,
        "reference": None if reference is None else _as_text(reference),
        "group": first.group,
        "tag": first.tag,
    }
    for tier in TIERS:
        scored = [one for one in tiers[tier] if one.status == "scored"]
        row |= {
            f"{tier}_correct": fmean(one.score for one in scored if one.score is not None),
            f"{tier}_model": scored[0].model,
            f"{tier}_answer_chars": _mean(one.answer_chars for one in scored),
            f"{tier}_no_answer": _mean(one.no_answer for one in scored),
            f"{tier}_tokens": _mean(one.output_tokens for one in scored),
            f"{tier}_seconds": _mean(one.seconds for one in scored),
            f"{tier}_usd": _mean(one.usd for one in scored),
        }
    row["samples"] = min(sum(one.score is not None for one in tiers[tier]) for tier in TIERS)
    row["scorer"] = next(one.scorer for one in tiers["cloud"] if one.status == "scored")
    row["weak_judge"] = any(one.weak_judge for tier in TIERS for one in tiers[tier])
    row |= first.plan
    return row | {_carried(name): value for name, value in first.extra.items()}


def _carried(name: str) -> str:
    tier, _, what = name.partition("_")
    ours = (*PLAN_COLUMNS, "id", "question", "text", "prompt", "context", "reference", "group")
    taken = (*ours, "tag", "category", "domain", "task", "samples", "scorer", "weak_judge")
    of_a_tier = tier in {*TIERS, "weak", "strong"} and what in _TIER_COLUMNS
    return f"data:{name}" if name in taken or of_a_tier else name


def _mean(values: Iterable[float | Decimal | None]) -> float | None:
    """Return the mean; `None` if one is unknown."""
    known = list(values)
    if not known or any(value is None for value in known):
        return None
    return fmean(float(value) for value in known if value is not None)


def _is_empty(values: Sequence[Any]) -> bool:
    return all(value is None for value in values)


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _of_one_kind(values: Sequence[Any]) -> list[Any]:
    """Return values that a typed column can hold; as text if they are of several kinds."""
    kinds = {type(one) for one in values if one is not None}
    small = all(abs(one) <= _LARGEST for one in values if type(one) is int)
    if kinds in ({bool}, {int}) and small:
        return list(values)
    if kinds <= {int, float} and small:
        return [None if one is None or not math.isfinite(one) else float(one) for one in values]
    # Half a surrogate pair, as models do write, is no UTF-8.
    return [None if one is None else _encodable(_as_text(one)) for one in values]


def _encodable(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")


def _json_lines(columns: Mapping[str, list[Any]]) -> bytes:
    rows = zip(*columns.values(), strict=True)
    lines = (json.dumps(dict(zip(columns, row, strict=True)), allow_nan=False) for row in rows)
    return "".join(f"{line}\n" for line in lines).encode("ascii")


def _parquet(columns: Mapping[str, list[Any]]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pa.table({name: pa.array(values) for name, values in columns.items()})
    except (pa.ArrowException, OverflowError) as error:
        raise ConfigurationError(f"The table cannot be written as Parquet: {error}") from error
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return bytes(sink.getvalue().to_pybytes())
