"""What a profile says: how good both tiers are, what they cost, and what is still missing."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from statistics import fmean
from typing import Any, Final

from langchain_hybridflow.learning.metrics import share_interval
from langchain_hybridflow.profiling.records import Key, Outcome
from langchain_hybridflow.profiling.tables import Columns
from langchain_hybridflow.routing import TIERS, Tier

__all__ = ["Gap", "Summary", "TierSummary", "paired_interval", "share_interval", "summarise"]

_Z: Final = 1.96
_HALF: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class TierSummary:
    """One tier, over all questions that it has a score for.

    Attributes:
        model: Its name.
        wanted: Answers wanted: questions times samples.
        answered: Answers there.
        scored: Answers with a score.
        unscored: Answers that could not be scored.
        pending: Answers that are still to be scored.
        failed: Answers whose last call failed.
        missing: Answers never asked for.
        no_answer: Answers that give none.
        truncated: Answers that the longest answer allowed cut off.
        accuracy: Mean score; `None` without any.
        interval: Its 95 % interval (Wilson).
        output_tokens: Mean tokens of an answer.
        input_tokens: Mean tokens of a prompt.
        seconds: Mean seconds of an answer; `None` if nobody measured.
        usd: What all its calls cost; `None` if some cost is unknown.
        common_error: The most frequent error of calls that failed.
        common_reason: The most frequent reason why an answer has no score.
    """

    model: str
    wanted: int
    answered: int
    scored: int
    unscored: int
    pending: int
    failed: int
    missing: int
    no_answer: int
    truncated: int
    accuracy: float | None
    interval: tuple[float, float] | None
    output_tokens: float | None
    input_tokens: float | None
    seconds: float | None
    usd: Decimal | None
    common_error: str | None
    common_reason: str | None

    def to_json(self) -> dict[str, Any]:
        """Return it in plain JSON types; USD as text."""
        found = {name: getattr(self, name) for name in self.__slots__}
        return found | {
            "interval": None if self.interval is None else list(self.interval),
            "usd": None if self.usd is None else str(self.usd),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """Both tiers on the questions that both have a score for.

    Attributes:
        questions: Number of them.
        mean: Mean of the cloud's score less the edge's.
        interval: Its 95 % interval, from the pairs.
        both: Share of questions that both answer right (a score of 0.5 or more).
        only_cloud: Share that only the cloud does.
        only_edge: Share that only the edge does.
        neither: Share that neither does.
    """

    questions: int
    mean: float
    interval: tuple[float, float]
    both: float
    only_cloud: float
    only_edge: float
    neither: float

    def to_json(self) -> dict[str, Any]:
        """Return it in plain JSON types."""
        found = {name: getattr(self, name) for name in self.__slots__}
        return found | {"interval": list(self.interval)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What a profile says.

    Attributes:
        questions: Number of questions.
        samples: Answers wanted of each tier to each question.
        tiers: Each tier.
        gap: Both together; `None` while no question has a score of both.
        left_out: Questions that are not in the wide table, by the reason.
        spent_usd: What all calls cost as far as known, failures and grading included.
        judged: Whether a model gave the scores.
    """

    questions: int
    samples: int
    tiers: Mapping[Tier, TierSummary]
    gap: Gap | None
    left_out: Mapping[str, int]
    spent_usd: Decimal
    judged: bool

    @property
    def missing(self) -> int:
        """Number of answers that are wanted and not there, or not scored yet."""
        return sum(one.missing + one.failed + one.pending for one in self.tiers.values())

    @property
    def is_complete(self) -> bool:
        """Whether every question has all that can be had."""
        return not self.missing

    def to_json(self) -> dict[str, Any]:
        """Return it in plain JSON types; USD as text."""
        return {
            "questions": self.questions,
            "samples": self.samples,
            "tiers": {tier: one.to_json() for tier, one in self.tiers.items()},
            "gap": None if self.gap is None else self.gap.to_json(),
            "left_out": dict(self.left_out),
            "missing": self.missing,
            "complete": self.is_complete,
            "spent_usd": str(self.spent_usd),
            "weak_judge": self.judged,
        }


def summarise(
    outcomes: Mapping[Key, Outcome],
    wide: Columns,
    *,
    questions: int,
    samples: int,
    models: Mapping[Tier, str],
    spent: Mapping[Tier, Decimal | None],
    spent_usd: Decimal,
    left_out: Mapping[str, str],
) -> Summary:
    """Sum a profile up.

    Args:
        outcomes: The outcomes that count.
        wide: The wide table.
        questions: Number of questions.
        samples: Answers wanted of each tier to each.
        models: The name of each tier's model.
        spent: What all calls of a tier cost; `None` if some cost is unknown.
        spent_usd: What everything cost as far as known.
        left_out: Questions without a row in the wide table, with the reason.
    """
    tiers = {
        tier: _tier(
            [one for one in outcomes.values() if one.tier == tier],
            model=models[tier],
            wanted=questions * samples,
            usd=spent[tier],
        )
        for tier in TIERS
    }
    return Summary(
        questions=questions,
        samples=samples,
        tiers=tiers,
        gap=_gap(wide["edge_correct"], wide["cloud_correct"]),
        left_out=dict(Counter(left_out.values())),
        spent_usd=spent_usd,
        judged=any(one.weak_judge for one in outcomes.values()),
    )


def _tier(
    outcomes: Sequence[Outcome], *, model: str, wanted: int, usd: Decimal | None
) -> TierSummary:
    counts = Counter(one.status for one in outcomes)
    answered = [one for one in outcomes if one.is_answered]
    by_item: dict[str, list[float]] = {}
    for one in answered:
        if one.score is not None:
            by_item.setdefault(one.item_id, []).append(one.score)
    # Samples of one question are no more questions: the interval is over questions.
    means = [fmean(scores) for scores in by_item.values()]
    seconds = [one.seconds for one in answered if one.seconds is not None]
    return TierSummary(
        model=model,
        wanted=wanted,
        answered=len(answered),
        scored=counts["scored"],
        unscored=counts["unscored"],
        pending=counts["pending"],
        failed=counts["failed"],
        missing=wanted - len(outcomes),
        no_answer=sum(bool(one.no_answer) for one in answered),
        truncated=sum(bool(one.truncated) for one in answered),
        accuracy=fmean(means) if means else None,
        interval=share_interval(sum(means), len(means)) if means else None,
        output_tokens=fmean(one.output_tokens for one in answered) if answered else None,
        input_tokens=fmean(one.input_tokens for one in answered) if answered else None,
        seconds=fmean(seconds) if seconds else None,
        usd=usd,
        common_error=_most_frequent(one.error for one in outcomes),
        common_reason=_most_frequent(one.score_reason for one in answered if one.score is None),
    )


def _most_frequent(texts: Iterable[str | None]) -> str | None:
    counts = Counter(text for text in texts if text)
    return counts.most_common(1)[0][0] if counts else None


def paired_interval(differences: Sequence[float]) -> tuple[float, float]:
    """Return the 95 % interval of a mean of paired differences between scores.

    Agresti and Min's adjusted Wald interval (Statistics in Medicine 24, 2005), which adds half a
    pair of each kind: a few pairs that all agree are no certainty.

    Example:
        >>> low, high = paired_interval([0.0, 0.0, 1.0])
        >>> round(low, 2), round(high, 2)
        (-0.33, 0.73)
    """
    count = len(differences) + 2
    mean = math.fsum(differences) / count
    spread = (math.fsum(one * one for one in differences) + 1) / count - mean * mean
    half = _Z * math.sqrt(spread / count)
    return max(-1.0, mean - half), min(1.0, mean + half)


def _gap(edge: Sequence[float], cloud: Sequence[float]) -> Gap | None:
    if not edge:
        return None
    pairs = list(zip(edge, cloud, strict=True))
    differences = [above - below for below, above in pairs]
    right = Counter((below >= _HALF, above >= _HALF) for below, above in pairs)
    share = {kind: count / len(pairs) for kind, count in right.items()}
    return Gap(
        questions=len(pairs),
        mean=fmean(differences),
        interval=paired_interval(differences),
        both=share.get((True, True), 0.0),
        only_cloud=share.get((False, True), 0.0),
        only_edge=share.get((True, False), 0.0),
        neither=share.get((False, False), 0.0),
    )
