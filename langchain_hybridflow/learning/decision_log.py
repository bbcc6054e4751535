"""What was decided, how likely it was, and what came of it: a log that can be learnt from.

One JSON object a line, UTF-8. Of several lines of one decision the last one counts, so a reward
that comes later is logged by writing the line again. The keys:

| Key | Type | Meaning |
|---|---|---|
| `format` | integer | 1. |
| `decision_id` | string | Identity of the decision. |
| `tier` | string | Who was asked: `"edge"` or `"cloud"`. |
| `propensity` | number | Probability in (0, 1] with which this tier was chosen. |
| `edge_quality`, `cloud_quality` | number | What was foreseen of each tier, in 0..1. |
| `context` | list | The numbers that the online router saw; see `online.CONTEXT`. |
| `threshold` | number or null | What the gain had to pass. |
| `reward` | number or null | Quality of the answer in 0..1; `null` while nobody has said. |
| `cost_usd` | number or null | What was expected to be spent, in USD. |
| `at` | number or null | When, in epoch seconds. |

No text of a question or an answer stands in it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from math import isfinite
from pathlib import Path
from typing import Any, Self

from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.routing import TIERS, Tier

__all__ = ["LoggedDecision", "read_log", "write_log"]

_FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedDecision:
    """One line of the log; see the module for what the fields mean.

    Raises:
        ConfigurationError: A number is out of its range.

    Example:
        >>> one = LoggedDecision(
        ...     decision_id="7", tier="edge", propensity=0.9, edge_quality=0.4, cloud_quality=0.8
        ... )
        >>> LoggedDecision.from_json(one.to_json()) == one
        True
    """

    decision_id: str
    tier: Tier
    propensity: float
    edge_quality: float
    cloud_quality: float
    context: tuple[float, ...] = ()
    threshold: float | None = None
    reward: float | None = None
    cost_usd: float | None = None
    at: float | None = None

    def __post_init__(self) -> None:
        if not self.decision_id or self.tier not in TIERS:
            raise ConfigurationError(
                f"A decision has an id and a tier, got {self.decision_id!r} and {self.tier!r}."
            )
        if not 0.0 < self.propensity <= 1.0:
            raise ConfigurationError(
                f"Decision {self.decision_id!r} has propensity {self.propensity!r}: what was "
                f"chosen had a probability in (0, 1]."
            )
        rewards = () if self.reward is None else (self.reward,)
        for value in (self.edge_quality, self.cloud_quality, *rewards):
            if not 0.0 <= value <= 1.0:
                raise ConfigurationError(
                    f"Qualities and rewards are in 0..1, got {value!r} in decision "
                    f"{self.decision_id!r}."
                )
        others = (*self.context, self.threshold or 0.0, self.cost_usd or 0.0, self.at or 0.0)
        if not all(map(isfinite, others)):
            raise ConfigurationError(f"Decision {self.decision_id!r} has a number not finite.")

    def quality(self, tier: Tier) -> float:
        """Return what was foreseen of a tier."""
        return self.cloud_quality if tier == "cloud" else self.edge_quality

    @property
    def residual(self) -> float | None:
        """What the reward was beyond what was foreseen; `None` while there is none."""
        return None if self.reward is None else self.reward - self.quality(self.tier)

    def to_json(self) -> dict[str, Any]:
        """Return the line as plain JSON."""
        return {"format": _FORMAT, **asdict(self), "context": list(self.context)}

    @classmethod
    def from_json(cls, plain: object) -> Self:
        """Read a line.

        Raises:
            ConfigurationError: It is no such line, or of another format.
        """
        if not isinstance(plain, Mapping) or plain.get("format") != _FORMAT:
            found = plain.get("format") if isinstance(plain, Mapping) else plain
            raise ConfigurationError(
                f"This is no decision of format {_FORMAT}: {found!r}. Decisions are logged by "
                f"langchain_hybridflow.learning.decision_log."
            )
        fields = {name: value for name, value in plain.items() if name != "format"}
        try:
            return cls(**{**fields, "context": tuple(map(float, fields.get("context", ())))})
        except (TypeError, ValueError) as error:
            raise ConfigurationError(f"This is no logged decision: {error}.") from error


def write_log(path: Path, decisions: Iterable[LoggedDecision]) -> int:
    """Add decisions to a log; return how many.

    Raises:
        OSError: The file cannot be written.
    """
    count = 0
    with path.open("a", encoding="utf-8") as file:
        for decision in decisions:
            file.write(json.dumps(decision.to_json(), allow_nan=False, separators=(",", ":")))
            file.write("\n")
            count += 1
    return count


def read_log(path: Path) -> list[LoggedDecision]:
    """Read a log: each decision once, as its last line says, in the order of their first lines.

    Raises:
        ConfigurationError: A line is no logged decision; its number is in the message.
        OSError: The file cannot be read.
    """
    found: dict[str, LoggedDecision] = {}
    for number, line in _lines(path):
        try:
            decision = LoggedDecision.from_json(json.loads(line))
        except (ValueError, ConfigurationError) as error:
            raise ConfigurationError(f"{path.name}, line {number}: {error}") from error
        found[decision.decision_id] = decision
    return list(found.values())


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield number, line
