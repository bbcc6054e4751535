"""What is asked when a profile is made, and what came of it: the long form.

A profile is a log of `Outcome`s, a line of JSON for each try at an answer. Of several lines with
the same item, tier and sample the last one counts: a failed call is tried again, and an answer
that is scored later is written again. The columns, in this order, also of the long table:

| Column | Type | Meaning |
|---|---|---|
| `schema` | integer | 1 |
| `item_id` | string | Which question or subtask. |
| `item_sha256` | string | Hash of what the models were shown. |
| `reference_sha256` | string or null | Hash of what was right when it was scored. |
| `question` | string | Its text, with the offered answers. |
| `context` | string or null | What else the models were shown: parents' answers, for a subtask. |
| `role` ... `parent_cloud_share` | as in `RouteRequest` | Place in the plan (`PLAN_COLUMNS`). |
| `group`, `tag` | string or null | As in the data. |
| `tier` | string | `"edge"` or `"cloud"`. |
| `model` | string | Name of the model. |
| `sample` | integer | 0 to samples - 1. |
| `attempt` | integer | 1 for the first try of this answer. |
| `status` | string | `"scored"`, `"unscored"`, `"pending"` or `"failed"`, see `Outcome`. |
| `answer` | string or null | The answer; null if it failed or answers are not kept. |
| `answer_chars` | integer or null | Its length. |
| `no_answer` | boolean or null | Whether it gives none: it is empty, has no number, no letter ... |
| `truncated` | boolean or null | Whether the longest answer allowed cut it off. |
| `score` | number or null | 0 to 1. |
| `scorer` | string or null | Who gave it. |
| `score_reason` | string or null | Why this score, or why none. |
| `weak_judge` | boolean | Whether a model gave it. |
| `input_tokens`, `output_tokens` | integer | Of this call. |
| `usage_estimated` | boolean | Whether we counted them: the provider sent none. |
| `seconds` | number or null | From request to whole answer, without waiting for a turn. |
| `usd` | string or null | What the call cost; null is unknown. |
| `judge_usd` | string or null | What grading the answer cost; null is unknown. |
| `error` | string or null | Why the call failed, in one line, without secrets. |
| `asked_at`, `answered_at` | string | ISO 8601, UTC. |
| `extra` | object | Further columns of the data. |
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from decimal import Decimal, InvalidOperation
from math import isfinite
from typing import Any, Final, Literal, NamedTuple, Self, TypeAlias, get_args

from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.routing import TIERS, Tier

__all__ = ["LONG_COLUMNS", "PLAN_COLUMNS", "SCHEMA", "Item", "Key", "Outcome", "Status"]

SCHEMA: Final = 1
"""Changes whenever a column of the long form is added, dropped or means something else."""

PLAN_COLUMNS: Final = (
    "role",
    "difficulty",
    "expected_output_tokens",
    "depth",
    "fan_in",
    "fan_out",
    "on_critical_path",
    "parent_cloud_share",
)
"""What is known of a subtask's place in its plan before it is asked."""

Status: TypeAlias = Literal["scored", "unscored", "pending", "failed"]
"""What became of a try at an answer; see `Outcome`."""

_AMOUNTS: Final = ("usd", "judge_usd")
_MONEY: TypeAlias = Decimal | None


class Key(NamedTuple):
    """Which answer: at most one of its outcomes counts, the last."""

    item_id: str
    tier: Tier
    sample: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A question, or a subtask, that both tiers are asked.

    Attributes:
        id: Unique in the profile.
        question: What is asked, as a router will see it: with the offered answers, if any.
        reference: The right answer: a text, a number, a list of accepted ones, whatever the
            scorer understands; `None` if nobody knows.
        choices: The offered answers by their letter, in order.
        context: What else is shown to the models, such as the answers that a subtask builds on.
        group: Questions that are nearly the same share one.
        tag: Kind of question.
        plan: Place in the plan, some of `PLAN_COLUMNS`.
        extra: Whatever else is to be kept beside it; plain JSON.

    Example:
        >>> Item(id="1", question="6 * 7?", reference="42").sha256[:8]
        '880aada7'
    """

    id: str
    question: str
    reference: Any = None
    choices: Mapping[str, str] = field(default_factory=dict)
    context: str = ""
    group: str | None = None
    tag: str | None = None
    plan: Mapping[str, Any] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if unknown := sorted(set(self.plan) - set(PLAN_COLUMNS)):
            raise ConfigurationError(
                f"Item {self.id!r} has unknown plan features {unknown}; "
                f"known are {', '.join(PLAN_COLUMNS)}."
            )

    @property
    def sha256(self) -> str:
        """A hash of what the models are shown: an answer belongs to it, not to the id alone."""
        shown = json.dumps([self.question, self.context], ensure_ascii=False)
        return hashlib.sha256(shown.encode("utf-8", "surrogatepass")).hexdigest()

    @property
    def reference_sha256(self) -> str | None:
        """A hash of the right answer: a score belongs to it."""
        if self.reference is None:
            return None
        right = json.dumps(self.reference, sort_keys=True, default=str)
        return hashlib.sha256(right.encode("ascii")).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One try of one tier at one item; see the module for what the fields mean.

    `status` says what is still to be done. "scored" and "unscored" are final: the scorer gave a
    score, or said that it cannot. "pending": the answer is there and paid for, and no score yet.
    "failed": the call went wrong, which is no wrong answer; it may be tried again.

    Raises:
        ConfigurationError: The fields contradict each other.

    Example:
        >>> one = Outcome.about(
        ...     Item(id="7", question="6 * 7?"), tier="edge", model="m", status="scored", score=1.0
        ... )
        >>> Outcome.from_json(one.to_json()) == one, one.key
        (True, Key(item_id='7', tier='edge', sample=0))
    """

    item_id: str
    item_sha256: str
    question: str
    tier: Tier
    model: str
    status: Status
    reference_sha256: str | None = None
    context: str | None = None
    plan: Mapping[str, Any] = field(default_factory=dict)
    group: str | None = None
    tag: str | None = None
    sample: int = 0
    attempt: int = 1
    answer: str | None = None
    answer_chars: int | None = None
    no_answer: bool | None = None
    truncated: bool | None = None
    score: float | None = None
    scorer: str | None = None
    score_reason: str | None = None
    weak_judge: bool = False
    input_tokens: int = 0
    output_tokens: int = 0
    usage_estimated: bool = False
    seconds: float | None = None
    usd: _MONEY = Decimal(0)
    judge_usd: _MONEY = Decimal(0)
    error: str | None = None
    asked_at: str = ""
    answered_at: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.tier not in TIERS or self.status not in get_args(Status):
            raise ConfigurationError(
                f"An outcome has a tier and a status, got {self.tier!r} and {self.status!r}."
            )
        if (self.score is not None) != (self.status == "scored"):
            raise ConfigurationError(f"status {self.status!r} does not go with {self.score!r}.")
        if self.score is not None and not (isfinite(self.score) and 0 <= self.score <= 1):
            raise ConfigurationError(f"A score is from 0 to 1, not {self.score!r}.")
        if (self.error is not None) != (self.status == "failed"):
            raise ConfigurationError(f"status {self.status!r} does not go with {self.error!r}.")

    @classmethod
    def about(cls, item: Item, **facts: Any) -> Self:
        """Make the outcome of an item."""
        return cls(
            item_id=item.id,
            item_sha256=item.sha256,
            reference_sha256=item.reference_sha256,
            question=item.question,
            context=item.context or None,
            plan=item.plan,
            group=item.group,
            tag=item.tag,
            extra=item.extra,
            **facts,
        )

    @property
    def key(self) -> Key:
        """Which answer it is."""
        return Key(self.item_id, self.tier, self.sample)

    @property
    def is_answered(self) -> bool:
        """Whether there is an answer, scored or not."""
        return self.status != "failed"

    @property
    def spent_usd(self) -> Decimal | None:
        """What the call and its grading cost, in USD; `None` if one of them is unknown."""
        if self.usd is None or self.judge_usd is None:
            return None
        return self.usd + self.judge_usd

    def to_json(self) -> dict[str, Any]:
        """Return the outcome in plain JSON types, by the columns of the long form."""
        row: dict[str, Any] = {"schema": SCHEMA}
        for name in LONG_COLUMNS[1:]:
            row[name] = self.plan.get(name) if name in PLAN_COLUMNS else getattr(self, name)
        for name in _AMOUNTS:
            row[name] = None if row[name] is None else str(row[name])
        return row | {"extra": dict(self.extra)}

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Self:
        """Read what `to_json` has written.

        Raises:
            ConfigurationError: It is of another schema, or no outcome.
        """
        if row.get("schema") != SCHEMA:
            raise ConfigurationError(
                f"An outcome of schema {row.get('schema')!r} cannot be read; this version reads "
                f"schema {SCHEMA}."
            )
        plan = {name: row[name] for name in PLAN_COLUMNS if row.get(name) is not None}
        facts = {name: row[name] for name in _OWN if name in row}
        try:
            for name in _AMOUNTS:
                facts[name] = None if facts[name] is None else Decimal(facts[name])
            return cls(**facts, plan=plan)
        except (KeyError, TypeError, InvalidOperation) as error:
            raise ConfigurationError(f"This is no outcome: {error}") from error


def _long_columns() -> tuple[str, ...]:
    first = (
        "schema",
        "item_id",
        "item_sha256",
        "reference_sha256",
        "question",
        "context",
        *PLAN_COLUMNS,
    )
    rest = ("group", "tag", "tier", "model", "sample", "attempt", "status")
    own = tuple(one.name for one in fields(Outcome) if one.name != "plan")
    return (*first, *rest, *(name for name in own if name not in {*first, *rest}))


LONG_COLUMNS: Final = _long_columns()
"""The columns of the long form, in their order."""

_OWN: Final = tuple(name for name in LONG_COLUMNS if name not in {"schema", *PLAN_COLUMNS})
