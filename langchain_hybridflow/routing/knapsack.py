"""Which subtasks of a whole plan go to the cloud: the 0-1 knapsack, solved exactly.

HybridFlow (arXiv 2512.22137) sends a subtask to the cloud by the knapsack: maximise
sum r_i dq_i subject to sum r_i c_i <= C. Its price rule r_i = [dq_i / c_i > lambda] needs nothing
but the subtask at hand, and so serves while the plan is streaming. When the whole plan is known,
the choice can be the best one there is.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import gcd, isfinite
from typing import Final

from langchain_hybridflow.budget import Amounts, Limits
from langchain_hybridflow.errors import ConfigurationError

__all__ = ["MAX_ITEMS", "Item", "Selection", "select"]

MAX_ITEMS: Final = 20
"""The largest plan that is solved exactly."""

_MAX_NODES: Final = 30_000
_NOISE: Final = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A subtask that could go to the cloud.

    Attributes:
        id: Its id.
        gain: Quality that the cloud would add; dq_i.
        cost: What the cloud call would cost, beyond what the edge costs.
        edge_s: How long the edge takes, in seconds.
        cloud_s: How long the cloud takes, in seconds.
        depends_on: Ids of the items that must end before it begins.
    """

    id: str
    gain: float
    cost: Amounts
    edge_s: float = 0.0
    cloud_s: float = 0.0
    depends_on: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """The items that go to the cloud.

    Attributes:
        cloud: Their ids.
        value: Gain less the price of cost and of time.
        gain: Quality that they add.
        cost: What they cost.
        makespan_s: How long the plan takes on its critical path, in seconds.
        optimal: Whether it is proved that no choice has a higher value. It always is, but for
            plans made to be hard: there the search ends at 30,000 partial choices.
        nodes: Partial choices that were looked at.
    """

    cloud: frozenset[str]
    value: float
    gain: float
    cost: Amounts
    makespan_s: float
    optimal: bool
    nodes: int


def select(
    items: Sequence[Item],
    *,
    limits: Limits | None = None,
    price_per_usd: float = 0.0,
    price_per_s: float = 0.0,
) -> Selection:
    """Choose the items whose way to the cloud is worth most, within all limits.

    Maximises sum r_i (dq_i - lambda c_i) - mu T(r) subject to the limits in USD, tokens and calls.
    T is the exact makespan: the longest path with as many slots as there are subtasks. Found by
    branch and bound (Land & Doig 1960; the bound is that of Dantzig 1957 in each dimension), which
    is exact. Of several best choices the same one is returned each time.

    Args:
        items: The subtasks, each after those it depends on; at most 20.
        limits: What may be spent on all of them.
        price_per_usd: lambda, quality per USD: what the money is worth elsewhere.
        price_per_s: mu, quality per second of makespan.

    Raises:
        ConfigurationError: There are more than 20 items, two have the same id, one depends on an
            item that is not before it, or a number is not finite or (but for gains) negative.

    Example:
        >>> items = [
        ...     Item(id="1", gain=0.30, cost=Amounts(usd_micros=600)),
        ...     Item(id="2", gain=0.25, cost=Amounts(usd_micros=500)),
        ...     Item(id="3", gain=0.20, cost=Amounts(usd_micros=500)),
        ... ]
        >>> sorted(select(items, limits=Limits(usd="0.001")).cloud)
        ['2', '3']
    """
    _check(items, price_per_usd, price_per_s)
    return _Search(items, limits or Limits(), price_per_usd, price_per_s).result()


def _check(items: Sequence[Item], *prices: float) -> None:
    if len(items) > MAX_ITEMS:
        raise ConfigurationError(
            f"At most {MAX_ITEMS} subtasks are solved exactly, got {len(items)}. Decide one by "
            f"one, by the price."
        )
    if not all(isfinite(price) and price >= 0 for price in prices):
        raise ConfigurationError(f"Prices must be finite and not negative, got {prices!r}.")
    known: set[str] = set()
    for item in items:
        if item.id in known or not known.issuperset(item.depends_on):
            raise ConfigurationError(
                f"Item {item.id!r} is there twice, or before one that it depends on."
            )
        known.add(item.id)
        times = (item.edge_s, item.cloud_s)
        if not (isfinite(item.gain) and all(isfinite(one) and one >= 0 for one in times)):
            raise ConfigurationError(
                f"Gain and seconds of item {item.id!r} must be finite, and seconds not negative; "
                f"got {item.gain!r} and {times!r}."
            )


def makespan(items: Sequence[Item], seconds: Sequence[float]) -> float:
    """Return the length of the critical path when each item takes the given time."""
    ends: dict[str, float] = {}
    for item, own in zip(items, seconds, strict=True):
        ends[item.id] = own + max((ends[one] for one in item.depends_on), default=0.0)
    return max(ends.values(), default=0.0)


class _Search:
    """Branch and bound, depth first, over the items by their profit per cost."""

    def __init__(
        self, items: Sequence[Item], limits: Limits, price_per_usd: float, price_per_s: float
    ) -> None:
        self.items = items
        self.price_per_s = price_per_s
        places = [place for place, limit in enumerate(limits) if limit is not None]
        lambda_micro = price_per_usd * 1e-6
        self.profit = [item.gain - lambda_micro * item.cost.usd_micros for item in items]
        all_costs = [
            (item.cost.usd_micros, item.cost.cloud_tokens, item.cost.cloud_calls) for item in items
        ]
        self.costs = [tuple(one[place] for place in places) for one in all_costs]
        # What is left over of a limit because all costs share a factor would blur the bound.
        factors = [gcd(*(one[place] for one in all_costs)) or 1 for place in places]
        given = [limit for limit in limits if limit is not None]
        self.caps = [cap // one * one for cap, one in zip(given, factors, strict=True)]
        self.seconds = [min(item.edge_s, item.cloud_s) for item in items]
        self.order = sorted(range(len(items)), key=self._density, reverse=True)
        self.bounds = [
            [
                _relaxed(self.profit, self.costs, self.order[depth:], place)
                for place in range(len(places))
            ]
            or [_unlimited(self.profit, self.order[depth:])]
            for depth in range(len(items) + 1)
        ]
        self.best_value = -float("inf")
        self.best: tuple[int, ...] = ()
        self.nodes = 0

    def _density(self, place: int) -> tuple[float, int]:
        """Profit for the largest share of a limit that the item would take."""
        costs = zip(self.costs[place], self.caps, strict=True)
        share = max((cost / cap if cap else float(cost > 0) for cost, cap in costs), default=0.0)
        return self.profit[place] / max(share, 1e-9), -place

    def result(self) -> Selection:
        self._visit(0, 0.0, list(self.caps), [])
        cloud = [self.items[place] for place in sorted(self.best)]
        total = Amounts()
        for item in cloud:
            total += item.cost
        chosen = frozenset(item.id for item in cloud)
        return Selection(
            cloud=chosen,
            value=self.best_value,
            gain=sum(item.gain for item in cloud),
            cost=total,
            makespan_s=makespan(
                self.items, [one.cloud_s if one.id in chosen else one.edge_s for one in self.items]
            ),
            optimal=self.nodes < _MAX_NODES,
            nodes=self.nodes,
        )

    def _visit(self, depth: int, profit: float, left: list[int], taken: list[int]) -> None:
        if self.nodes >= _MAX_NODES:
            return
        self.nodes += 1
        late = self.price_per_s * makespan(self.items, self.seconds) if self.price_per_s else 0.0
        if depth == len(self.order):
            if profit - late > self.best_value + _NOISE:
                self.best_value, self.best = profit - late, tuple(taken)
            return
        rest = min(bound(room) for bound, room in zip(self.bounds[depth], left or [0], strict=True))
        if profit + rest - late <= self.best_value + _NOISE:
            return
        place = self.order[depth]
        item, costs = self.items[place], self.costs[place]
        fits = all(cost <= room for cost, room in zip(costs, left, strict=True))
        worthy = self.profit[place] > 0
        least = self.seconds[place]
        for cloud in (True, False) if worthy else (False, True):
            if cloud and not fits:
                continue
            # In the cloud without a profit and without saving time: never.
            if cloud and not worthy and not (self.price_per_s and item.cloud_s < item.edge_s):
                continue
            self.seconds[place] = item.cloud_s if cloud else item.edge_s
            if cloud:
                after = [room - cost for cost, room in zip(costs, left, strict=True)]
                self._visit(depth + 1, profit + self.profit[place], after, [*taken, place])
            else:
                self._visit(depth + 1, profit, left, taken)
        self.seconds[place] = least


def _unlimited(profit: Sequence[float], places: Sequence[int]) -> Callable[[int], float]:
    best = sum(max(profit[place], 0.0) for place in places)
    return lambda _: best


def _relaxed(
    profit: Sequence[float], costs: Sequence[Sequence[int]], places: Sequence[int], dimension: int
) -> Callable[[int], float]:
    """Return an upper bound on the profit of some items as a function of the room for them.

    It is the smaller of two: items may be cut (Dantzig), and as many of the best items as there
    can be of the cheapest. The second is exact where all cost the same, as calls do.
    """
    useful = [place for place in places if profit[place] > 0]
    free = sum(profit[place] for place in useful if not costs[place][dimension])
    priced = [(profit[place], costs[place][dimension]) for place in useful]
    priced = [(gain, cost) for gain, cost in priced if cost]
    dense = sorted(priced, key=lambda one: one[0] / one[1], reverse=True)
    room_used = list(accumulate((cost for _, cost in dense), initial=0))
    gained = list(accumulate((gain for gain, _ in dense), initial=0.0))
    cheapest = list(accumulate(sorted(cost for _, cost in priced)))
    best = list(accumulate(sorted((gain for gain, _ in priced), reverse=True), initial=0.0))

    def bound(room: int) -> float:
        whole = bisect_right(room_used, room) - 1
        cut = 0.0
        if whole < len(dense):
            gain, cost = dense[whole]
            cut = gain * (room - room_used[whole]) / cost
        return free + min(gained[whole] + cut, best[bisect_right(cheapest, room)])

    return bound
