"""Counterfactual credit: what a subtask's tier changes in the final answer.

A subtask has no right answer of its own, so the gain of sending it to the cloud is measured at the
end of the plan. With r the tiers of all subtasks and i the subtask in question

    dq_i = E[score(final) | do(r_i = cloud)] - E[score(final) | do(r_i = edge)]

where the expectation is over the tiers of the *others*. How those are drawn says what the number
means. Each is on the cloud with probability p, independently:

- p uniform on (0, 1), the default: dq_i is the Shapley value of i (Owen 1972). Contexts that are
  mostly on the edge and mostly on the cloud count alike, nobody has to know how much of the cloud
  will be used, and the credits of a plan add up to what the cloud changes on the whole of it.
- p fixed: the sum of r_i dq_i is the best additive approximation of the score, in the mean square
  over such tiers (Hammer and Holzman 1992, for p = 1/2) - and a sum of gains is what a knapsack
  maximises (HybridFlow, arXiv 2512.22137). Best where the share that will be used is known.
- p = 0, each subtask alone, is not recommended: two hard subtasks in a row are then worth nothing
  each, since one of them alone does not save the answer.

Nothing in here asks a model.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import product
from math import comb, isclose, sqrt

from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.routing import TIERS, Tier

__all__ = ["Credit", "CreditDesign", "Trial", "estimate_credit"]

_GOLDEN = (sqrt(5) - 1) / 2
_MOST_SAMPLES = 4_096


@dataclass(frozen=True, slots=True)
class Trial:
    """One intervention: the final scores with a subtask on either tier, all else being the same.

    Attributes:
        edge: Score of the final answer with the subtask on the edge, 0 to 1.
        cloud: The same with it on the cloud.
        weight: How much this context counts; all alike when contexts are drawn.
    """

    edge: float
    cloud: float
    weight: float = 1.0

    @property
    def gain(self) -> float:
        """What the cloud changed."""
        return self.cloud - self.edge


@dataclass(frozen=True, slots=True, kw_only=True)
class Credit:
    """What is known of a subtask's credit.

    Attributes:
        credit: The estimate of dq, -1 to 1.
        se: Its standard error over contexts. Never 0 unless all contexts were tried: a few trials
            without a difference do not prove that there is none, so two more, one each way, are
            reckoned with (Agresti and Caffo 2000). The answers themselves are taken as they are:
            a model that answers otherwise each time adds an error that is not in here.
        samples: The number of trials.
        edge: Mean score of the final answer with the subtask on the edge, 0 to 1.
        cloud: The same with it on the cloud.
        is_exact: Whether all contexts were tried.
    """

    credit: float
    se: float
    samples: int
    edge: float
    cloud: float
    is_exact: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CreditDesign:
    """Which tiers the other subtasks have in which trial.

    A plan with no more contexts than `samples` has all of them tried, each with its probability as
    weight; the credit is then exact. Otherwise contexts are drawn in pairs that mirror each other
    (where the one has the cloud the other has the edge), with p spread evenly over the pairs: one
    pair is enough where subtasks matter alone or two by two, and more are needed as far as three
    and more have to be right together. Contexts belong to the seed and the question: they are the
    same in each process, whatever the order of work.

    Args:
        samples: Contexts for each question, 1 to 4,096.
        share: Probability p of the cloud for each of the others; `None` draws it anew, uniform on
            (0, 1), for each pair of contexts.
        seed: Other seeds give other contexts.
        focus: Whether to go on after two contexts only with plans in which something has changed
            the final score by then. Most plans are so easy or so hard that nothing does; the
            money is better spent on the others (see benchmarks/README.md). It draws credits
            towards 0, by up to a fifth where many subtasks have to be right together.

    Raises:
        ConfigurationError: A number is out of its range.

    Example:
        >>> design = CreditDesign(samples=2)
        >>> design.contexts("question 1", ["1", "2"])
        ({'1': 'edge', '2': 'edge'}, {'1': 'cloud', '2': 'cloud'})
    """

    samples: int = 8
    share: float | None = None
    seed: int = 0
    focus: bool = True

    def __post_init__(self) -> None:
        if not 1 <= self.samples <= _MOST_SAMPLES:
            raise ConfigurationError(
                f"A credit takes 1 to {_MOST_SAMPLES:,} samples, got {self.samples!r}."
            )
        if self.share is not None and not 0.0 <= self.share <= 1.0:
            raise ConfigurationError(
                f"share is the probability of the cloud (0 to 1), got {self.share!r}."
            )

    def tier(self, question_id: str, number: int, subtask_id: str) -> Tier:
        """Draw the tier of a subtask in a context, without knowing the rest of the plan."""
        pair, is_mirrored = divmod(number, 2)
        draw = self._draw(question_id, pair, subtask_id)
        share = self.share
        if share is None:
            share = (self._draw(question_id, 0, "") + pair * _GOLDEN) % 1.0
            share = 1.0 - share if is_mirrored else share
        return "cloud" if (1.0 - draw if is_mirrored else draw) < share else "edge"

    def contexts(
        self, question_id: str, subtask_ids: Sequence[str]
    ) -> tuple[Mapping[str, Tier], ...]:
        """Return the tiers of all subtasks, context by context; a trial flips one of them."""
        if self.tries_all(len(subtask_ids)):
            # Of an even number on the cloud: each context of each subtask is in there once. Those
            # that differ most come first.
            even = [
                tiers
                for tiers in product(TIERS, repeat=len(subtask_ids))
                if tiers.count("cloud") % 2 == 0
            ]
            even.sort(key=lambda tiers: -abs(2 * tiers.count("cloud") - len(tiers)))
            return tuple(dict(zip(subtask_ids, tiers, strict=True)) for tiers in even)
        return tuple(
            {one: self.tier(question_id, number, one) for one in subtask_ids}
            for number in range(self.samples)
        )

    def tries_all(self, subtasks: int) -> bool:
        """Whether a plan of so many subtasks has all its contexts tried."""
        return subtasks <= 13 and 2 ** (subtasks - 1) <= self.samples

    def weight(self, tiers: Mapping[str, Tier], subtask_id: str) -> float:
        """Return how much a context counts in the credit of a subtask."""
        others = len(tiers) - 1
        if not self.tries_all(others + 1):
            return 1.0
        on_cloud = sum(tier == "cloud" for one, tier in tiers.items() if one != subtask_id)
        if self.share is None:
            return 1.0 / ((others + 1) * comb(others, on_cloud))
        return float(self.share**on_cloud * (1.0 - self.share) ** (others - on_cloud))

    def _draw(self, question_id: str, pair: int, subtask_id: str) -> float:
        key = f"{self.seed}\x00{pair}\x00{subtask_id}\x00{question_id}"
        digest = blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        return int.from_bytes(digest, "big") / 2**64


def estimate_credit(trials: Iterable[Trial], *, tried_all: bool = False) -> Credit | None:
    """Estimate a credit from trials; `None` without any.

    Args:
        trials: What came of the interventions.
        tried_all: Whether these are meant to be all contexts. If their weights do not add up to 1,
            some are missing, and the estimate is over those that are there.

    Example:
        >>> found = estimate_credit([Trial(0.0, 1.0), Trial(0.0, 1.0), Trial(1.0, 1.0)])
        >>> round(found.credit, 3), round(found.se, 3), found.samples
        (0.667, 0.358, 3)
    """
    weighed = [trial for trial in trials if trial.weight > 0]
    if not weighed:
        return None
    total = sum(trial.weight for trial in weighed)
    shares = [trial.weight / total for trial in weighed]

    def mean(values: Iterable[float]) -> float:
        return sum(share * value for share, value in zip(shares, values, strict=True))

    edge, cloud = mean(one.edge for one in weighed), mean(one.cloud for one in weighed)
    is_exact = tried_all and isclose(total, 1.0)
    count = 1.0 / sum(share * share for share in shares)
    # Two trials more, +1 and -1: they leave the sum as it is.
    middle = count * (cloud - edge) / (count + 2)
    square = (count * mean(one.gain**2 for one in weighed) + 2) / (count + 2)
    return Credit(
        credit=cloud - edge,
        se=0.0 if is_exact else sqrt(max(square - middle * middle, 0.0) / (count + 2)),
        samples=len(weighed),
        edge=edge,
        cloud=cloud,
        is_exact=is_exact,
    )
