"""What another policy would have been worth, from the log of the one that ran.

Only the tier that was asked has a reward. Since it is known how likely it was to be asked, the
value of a policy that was never run can be estimated without bias:

- IPS, inverse propensity scoring (Horvitz & Thompson 1952): mean of w r, w = pi(tier) / propensity;
- SNIPS, its self-normalised form (Swaminathan & Joachims, NeurIPS 2015): sum w r / sum w, with far
  less variance, and a bias that vanishes as 1 / n;
- DR, doubly robust (Dudik, Langford, Li, ICML 2011): what was foreseen for the policy's choice,
  corrected by w times what the foresight missed. Unbiased like IPS, and the better the foresight
  the smaller the variance. The default to go by.

The intervals are those of the normal approximation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import fsum, sqrt
from statistics import NormalDist
from typing import TypeAlias

from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.learning.decision_log import LoggedDecision

__all__ = ["Estimate", "PolicyValue", "TargetPolicy", "evaluate_policy", "gain_policy"]

TargetPolicy: TypeAlias = Callable[[LoggedDecision], float]
"""The policy that is evaluated: the probability in 0..1 with which it would ask the cloud. It may
read what was known before the call, and not the tier, the propensity or the reward."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean reward, and the interval that it lies in.

    Attributes:
        value: The estimate.
        low: Lower end of the interval.
        high: Upper end of it.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyValue:
    """What a policy would have been worth.

    Attributes:
        ips: Inverse propensity scoring.
        snips: The same, self-normalised.
        dr: Doubly robust.
        cloud_share: Share of decisions that it would have sent to the cloud.
        rewarded: Decisions with a reward, which is all that counts.
        unrewarded: Decisions without one. If whether there is a reward depends on how good the
            answer is, every estimate is off.
        effective_size: (sum w)^2 / sum w^2 (Kish 1965): as many decisions of the policy itself say
            as much. Below about 50 the intervals are not to be trusted.
        unsupported_share: Share of decisions in which the policy might choose what the log never
            could. Nothing is known of those: above 0, IPS and SNIPS leave them out, and DR goes
            by what was foreseen.
    """

    ips: Estimate
    snips: Estimate
    dr: Estimate
    cloud_share: float
    rewarded: int
    unrewarded: int
    effective_size: float
    unsupported_share: float


def gain_policy(least_gain: float) -> TargetPolicy:
    """Return the policy that asks the cloud iff the gain foreseen is above a threshold."""

    def policy(decision: LoggedDecision) -> float:
        return float(decision.cloud_quality - decision.edge_quality > least_gain)

    return policy


def evaluate_policy(
    decisions: Sequence[LoggedDecision], policy: TargetPolicy, *, confidence: float = 0.95
) -> PolicyValue:
    """Estimate the mean reward that a policy would have had.

    Args:
        decisions: The log; see `decision_log`.
        policy: The policy.
        confidence: Probability in 0..1 that an interval holds the true value.

    Raises:
        ConfigurationError: Fewer than two decisions have a reward, the policy returned no
            probability, or the confidence is none.

    Example:
        >>> log = [
        ...     LoggedDecision(
        ...         decision_id=str(n),
        ...         tier="cloud" if n % 2 else "edge",
        ...         propensity=0.5,
        ...         edge_quality=0.25,
        ...         cloud_quality=0.75,
        ...         reward=float(n % 4 == 1),
        ...     )
        ...     for n in range(400)
        ... ]
        >>> value = evaluate_policy(log, lambda decision: 1.0)  # always the cloud
        >>> value.snips.value, round(value.effective_size)
        (0.5, 200)
    """
    if not 0.0 < confidence < 1.0:
        raise ConfigurationError(f"confidence must be between 0 and 1, got {confidence!r}.")
    rewarded = [one for one in decisions if one.reward is not None]
    if len(rewarded) < 2:
        raise ConfigurationError(
            f"{len(rewarded)} of {len(decisions)} decisions have a reward, and it takes two or "
            f"more. Give feedback first."
        )
    shares = [_probability(policy, one) for one in rewarded]
    rows = [_Row.of(one, share) for one, share in zip(rewarded, shares, strict=True)]
    width = NormalDist().inv_cdf(0.5 + confidence / 2)
    total = fsum(row.weight for row in rows)
    return PolicyValue(
        ips=_mean([row.weight * row.reward for row in rows], width),
        snips=_self_normalised(rows, total, width),
        dr=_mean([row.foreseen + row.weight * row.missed for row in rows], width),
        cloud_share=fsum(shares) / len(shares),
        rewarded=len(rewarded),
        unrewarded=len(decisions) - len(rewarded),
        effective_size=total**2 / fsum(row.weight**2 for row in rows) if total else 0.0,
        unsupported_share=sum(row.unsupported for row in rows) / len(rows),
    )


@dataclass(frozen=True, slots=True)
class _Row:
    """A decision as the estimators see it."""

    weight: float
    reward: float
    foreseen: float  # for the policy's choice
    missed: float  # by what was foreseen for the tier that was asked
    unsupported: bool

    @classmethod
    def of(cls, decision: LoggedDecision, cloud: float) -> _Row:
        taken = cloud if decision.tier == "cloud" else 1.0 - cloud
        reward = decision.reward or 0.0
        return cls(
            weight=taken / decision.propensity,
            reward=reward,
            foreseen=cloud * decision.cloud_quality + (1.0 - cloud) * decision.edge_quality,
            missed=reward - decision.quality(decision.tier),
            unsupported=decision.propensity == 1.0 and taken < 1.0,
        )


def _probability(policy: TargetPolicy, decision: LoggedDecision) -> float:
    share = policy(decision)
    if not 0.0 <= share <= 1.0:
        raise ConfigurationError(
            f"A policy returns the probability of the cloud in 0..1, got {share!r}."
        )
    return share


def _mean(values: Sequence[float], width: float) -> Estimate:
    count = len(values)
    mean = fsum(values) / count
    variance = fsum((value - mean) ** 2 for value in values) / (count - 1)
    half = width * sqrt(variance / count)
    return Estimate(mean, mean - half, mean + half)


def _self_normalised(rows: Sequence[_Row], total: float, width: float) -> Estimate:
    if not total:  # the policy agrees with the log nowhere: nothing is known
        return Estimate(0.0, -float("inf"), float("inf"))
    value = fsum(row.weight * row.reward for row in rows) / total
    # The delta method for a ratio of two means.
    half = width * sqrt(fsum((row.weight * (row.reward - value)) ** 2 for row in rows)) / total
    return Estimate(value, value - half, value + half)
