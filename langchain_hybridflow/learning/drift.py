"""Has the world changed since the router was trained? Tests on its decisions and their rewards.

Three things can change, and each has its test:

- *What is asked*: the histogram of each number of the context against that of a reference, by
  Pearson's chi^2 test of two samples. A difference that is no chance is an alarm if the population
  stability index is at least 0.1: less hardly changes a decision.
- *How good the tiers are*, against what was foreseen: the mean residual of each tier, by
  Bernstein's inequality with the variance that was foreseen, p (1 - p) at most. It holds for few
  answers, too, and where nearly all of them are right, which a z test does not.
- *The same, in the middle of the log*: the cut of ADWIN (Bifet & Gavalda, SDM 2007), whose bound
  holds for whatever distribution of rewards.

All tests together raise a false alarm with a probability of about `alpha` (Bonferroni).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import erfc, exp, fsum, gamma, isfinite, log, sqrt
from typing import Any, Final, Literal, Self

from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.learning.decision_log import LoggedDecision
from langchain_hybridflow.routing import TIERS

__all__ = [
    "FEWEST_CONTEXTS",
    "Change",
    "DriftReport",
    "Finding",
    "Reference",
    "check_drift",
    "find_change",
]

_BINS: Final = 10
_LEAST_INDEX: Final = 0.1
_LEAST_RESIDUAL: Final = 0.02
FEWEST_CONTEXTS: Final = 30
"""With fewer nothing is tested."""


@dataclass(frozen=True, slots=True)
class Reference:
    """How the numbers of contexts were distributed when all was well: a histogram each.

    Attributes:
        names: Names of the numbers.
        edges: For each, the inner edges of its bins; bins hold about the same number of values.
        counts: For each, how many values fell into each bin.
    """

    names: tuple[str, ...]
    edges: tuple[tuple[float, ...], ...]
    counts: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, names: Sequence[str], contexts: Sequence[Sequence[float]]) -> Self:
        """Make it from contexts, such as those of the training data.

        Raises:
            ConfigurationError: There are fewer than 30, or one has not a number for each name.
        """
        if len(contexts) < FEWEST_CONTEXTS or any(len(one) != len(names) for one in contexts):
            raise ConfigurationError(
                f"A reference takes at least {FEWEST_CONTEXTS} contexts of {len(names)} numbers, "
                f"got {len(contexts)}."
            )
        columns = [sorted(float(one[place]) for one in contexts) for place in range(len(names))]
        edges = tuple(
            tuple(sorted({column[len(column) * cut // _BINS] for cut in range(1, _BINS)}))
            for column in columns
        )
        return cls(tuple(names), edges, tuple(map(_counted, columns, edges)))

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON."""
        return {
            "names": list(self.names),
            "edges": [list(one) for one in self.edges],
            "counts": [list(one) for one in self.counts],
        }

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Self:
        """Read what `to_json` returned.

        Raises:
            ConfigurationError: It is something else.
        """
        try:
            names = tuple(map(str, plain["names"]))
            edges = tuple(tuple(map(float, one)) for one in plain["edges"])
            counts = tuple(tuple(map(int, one)) for one in plain["counts"])
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigurationError(f"This is no reference for drift: {error!r}.") from error
        sizes = [(len(inner) + 1, len(bins)) for inner, bins in zip(edges, counts, strict=False)]
        if not len(names) == len(edges) == len(counts) or any(one != two for one, two in sizes):
            raise ConfigurationError("This is no reference for drift: its parts do not fit.")
        return cls(names, edges, counts)


@dataclass(frozen=True, slots=True)
class Finding:
    """What one test found.

    Attributes:
        kind: "context" (what is asked), "residual" (how good a tier is) or "change" (the same, in
            the middle of the log).
        name: Of the number, or the tier.
        statistic: The stability index; the mean residual; how much it changed.
        alarm: Whether that is more than chance, and enough to matter.
        message: The finding in words.
    """

    kind: Literal["context", "residual", "change"]
    name: str
    statistic: float
    alarm: bool
    message: str


@dataclass(frozen=True, slots=True)
class DriftReport:
    """What all tests found.

    Attributes:
        findings: One for each test that could be made.
        decisions: How many were looked at.
        rewarded: How many of them have a reward.
    """

    findings: tuple[Finding, ...]
    decisions: int
    rewarded: int

    @property
    def alarms(self) -> tuple[Finding, ...]:
        """The findings that a person should know of."""
        return tuple(one for one in self.findings if one.alarm)


@dataclass(frozen=True, slots=True)
class Change:
    """Where the mean of a sequence changed.

    Attributes:
        place: Index of the first value after the change.
        before: Mean until then.
        after: Mean from then on.
    """

    place: int
    before: float
    after: float


def check_drift(
    reference: Reference | None, decisions: Sequence[LoggedDecision], *, alpha: float = 0.01
) -> DriftReport:
    """Test a log for drift.

    Args:
        reference: Contexts as they were; `None` tests the rewards only.
        decisions: The log, the oldest first; see `decision_log`.
        alpha: Probability in 0..1 of any false alarm.

    Raises:
        ConfigurationError: `alpha` is no probability, or the contexts do not fit the reference.
    """
    if not 0.0 < alpha < 1.0:
        raise ConfigurationError(f"alpha must be between 0 and 1, got {alpha!r}.")
    names = reference.names if reference is not None else ()
    each = alpha / (len(names) + 2 * len(TIERS))
    findings: list[Finding] = []
    if reference is not None and len(decisions) >= FEWEST_CONTEXTS:
        if any(len(one.context) != len(names) for one in decisions):
            raise ConfigurationError(
                f"The reference has {len(names)} numbers a context, and the log has others."
            )
        for place in range(len(names)):
            values = [one.context[place] for one in decisions]
            findings.append(_stability(reference, place, values, each))
    for tier in TIERS:
        answered = [one for one in decisions if one.tier == tier]
        answered = [one for one in answered if one.reward is not None]
        residuals = [one.residual for one in answered if one.residual is not None]
        if len(residuals) >= FEWEST_CONTEXTS:
            foreseen = [one.quality(tier) for one in answered]
            findings += [_bias(tier, residuals, foreseen, each), _changed(tier, residuals, each)]
    rewarded = sum(one.reward is not None for one in decisions)
    return DriftReport(tuple(findings), len(decisions), rewarded)


def find_change(values: Sequence[float], *, delta: float = 0.01) -> Change | None:
    """Find where the mean of a sequence in -1..1 has changed: the cut of ADWIN.

    Of all ways to cut the sequence in two, the one whose means differ most beyond the bound is
    returned; `None` if none of them does.

    Args:
        values: The sequence.
        delta: Probability in 0..1 of finding a change where there is none.

    Example:
        >>> find_change([0.5, -0.5] * 50 + [0.9, 0.1] * 50)
        Change(place=100, before=0.0, after=0.5)
    """
    count = len(values)
    if count < 2:
        return None
    sums = list(accumulate(values, initial=0.0))
    mean = sums[-1] / count
    variance = fsum((value - mean) ** 2 for value in values) / count
    # The bound is stated for values in 0..1. These range over 2: so does the second term; in the
    # first the variance is theirs already.
    term = log(2.0 * log(max(count, 3)) / delta)
    best, found = 0.0, None
    for place in range(1, count):
        before, after = sums[place] / place, (sums[-1] - sums[place]) / (count - place)
        harmonic = 1.0 / (1.0 / place + 1.0 / (count - place))
        bound = sqrt(2.0 / harmonic * variance * term) + 2.0 * 2.0 / (3.0 * harmonic) * term
        margin = abs(before - after) - bound
        if margin > best:
            best, found = margin, Change(place, round(before, 12), round(after, 12))
    return found


def _stability(reference: Reference, place: int, values: Sequence[float], alpha: float) -> Finding:
    name, before = reference.names[place], reference.counts[place]
    now = _counted(values, reference.edges[place])
    index = _stability_index(before, now)
    bins = sum(1 for one, two in zip(before, now, strict=True) if one + two)
    chance = _chi_square_tail(_chi_square(before, now), bins - 1) if bins > 1 else 1.0
    alarm = chance < alpha and index >= _LEAST_INDEX
    return Finding(
        "context",
        name,
        index,
        alarm,
        f"{name}: stability index {index:.3f}, by chance with probability {chance:.2g}"
        f"{': the questions are others than before; train on new ones' if alarm else ''}",
    )


def _bias(
    tier: str, residuals: Sequence[float], foreseen: Sequence[float], alpha: float
) -> Finding:
    count = len(residuals)
    total = fsum(residuals)
    mean = total / count
    variance = fsum(quality * (1.0 - quality) for quality in foreseen)
    spread = 2.0 * (variance + abs(total) / 3.0)
    chance = min(1.0, 2.0 * exp(-total * total / spread)) if total else 1.0
    alarm = chance < alpha and abs(mean) >= _LEAST_RESIDUAL
    worse = "worse" if mean < 0 else "better"
    return Finding(
        "residual",
        tier,
        mean,
        alarm,
        f"{tier}: {mean:+.3f} beside what was foreseen in {count} answers, by chance with "
        f"probability {chance:.2g} at most"
        f"{f': it is {worse} than when the router was trained; train again' if alarm else ''}",
    )


def _changed(tier: str, residuals: Sequence[float], alpha: float) -> Finding:
    change = find_change(residuals, delta=alpha)
    if change is None:
        return Finding("change", tier, 0.0, alarm=False, message=f"{tier}: no change in the log")
    moved = change.after - change.before
    return Finding(
        "change",
        tier,
        moved,
        alarm=True,
        message=(
            f"{tier}: from its answer {change.place + 1} of {len(residuals)} on it is "
            f"{moved:+.3f} {'better' if moved > 0 else 'worse'} than before; was its model changed?"
        ),
    )


def _counted(values: Sequence[float], edges: Sequence[float]) -> tuple[int, ...]:
    counts = [0] * (len(edges) + 1)
    for value in values:
        if not isfinite(value):
            raise ConfigurationError(f"A context has a number that is not finite: {value!r}.")
        counts[bisect_right(edges, value)] += 1
    return tuple(counts)


def _chi_square(before: Sequence[int], now: Sequence[int]) -> float:
    """Pearson's statistic of two histograms over the same bins; empty bins do not count."""
    scale = sqrt(sum(now) / sum(before))
    return fsum(
        (one * scale - two / scale) ** 2 / (one + two)
        for one, two in zip(before, now, strict=True)
        if one + two
    )


def _stability_index(before: Sequence[int], now: Sequence[int]) -> float:
    """Sum over the bins of (p - q) ln(p / q); empty bins count as half a value."""
    pairs = [
        (max(one, 0.5), max(two, 0.5)) for one, two in zip(before, now, strict=True) if one + two
    ]
    total_before, total_now = (sum(one[side] for one in pairs) for side in (0, 1))
    shares = [(one / total_before, two / total_now) for one, two in pairs]
    return fsum((now - before) * log(now / before) for before, now in shares)


def _chi_square_tail(value: float, freedom: int) -> float:
    """Probability that chi^2 with so many degrees of freedom is above a value.

    By the recurrence Q(k + 2) = Q(k) + (x/2)^(k/2) e^(-x/2) / Gamma(k/2 + 1), from Q(1) and Q(2).
    """
    half = value / 2.0
    tail = erfc(sqrt(half)) if freedom % 2 else exp(-half)
    for step in range(1 if freedom % 2 else 2, freedom, 2):
        tail += half ** (step / 2.0) * exp(-half) / gamma(step / 2.0 + 1.0)
    return min(tail, 1.0)
