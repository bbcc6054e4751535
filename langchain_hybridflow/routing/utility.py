"""The rule of HybridFlow with a learned predictor: the cloud iff its gain is worth its price."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from math import isfinite
from typing import ClassVar, Protocol, runtime_checkable

from langchain_hybridflow.budget import NOTHING, Amounts, BudgetSnapshot, Limits
from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.plan import Plan
from langchain_hybridflow.routing.knapsack import MAX_ITEMS, Item, select
from langchain_hybridflow.routing.prediction import Prediction, Predictor, check_predictions
from langchain_hybridflow.routing.types import RouteDecision, RouteRequest, Tier

__all__ = ["PlanRouter", "UtilityRouter", "UtilityRule", "Weighing"]

_MICROS_PER_USD = 1_000_000


@runtime_checkable
class PlanRouter(Protocol):
    """A router that can also decide on all subtasks of a plan at once, when the plan is known."""

    def route_plan(
        self, plan: Plan, requests: Mapping[str, RouteRequest]
    ) -> Mapping[str, RouteDecision]:
        """Decide where each subtask goes that there is a request for."""
        ...


@dataclass(frozen=True, slots=True)
class Weighing:
    """What came of weighing a gain against its price.

    Attributes:
        gain: Quality that it would add; dq.
        threshold: What the gain had to pass; `None` if the cost is unknown.
        price: lambda, in quality per USD.
        cost_usd: The cost with the delay in it, in USD; `None` if unknown.
        reason: The comparison in words.
    """

    gain: float
    threshold: float | None
    price: float
    cost_usd: float | None
    reason: str

    @property
    def cloud(self) -> bool:
        """Whether the cloud is worth it."""
        return self.threshold is not None and self.gain > self.threshold


@dataclass(frozen=True, slots=True, kw_only=True)
class UtilityRule:
    """Cloud iff dq > min_gain + lambda * c, with c = USD + weight * delay.

    That is HybridFlow's rule dq / c > lambda (arXiv 2512.22137), written so that a cost of 0 needs
    no case of its own. Time that the cloud saves is set off against its USD, but c is never below
    0: no worse answer is taken for it.

    Args:
        delay_weight_usd_per_s: What a second that the answer comes later is worth, in USD.
        price_per_usd: The lowest lambda, in quality per USD: what a USD is worth while the budget
            does not bind. The live price counts when it is higher.
        min_gain: Quality that the cloud must add whatever it costs; the operating point of
            deployments without prices.
        unknown_cost_usd: What a cloud call is taken to cost, in USD, when nobody knows. `None`
            leaves such a call on the edge while there is a price to pay (lambda > 0).

    Raises:
        ConfigurationError: A number is not finite, or (but for `min_gain`) negative.

    Example:
        >>> rule = UtilityRule(delay_weight_usd_per_s=0.001)
        >>> rule.weigh(0.2, extra_usd=0.004, delay_s=2.0, price=40).reason
        'gain 0.200 <= 0.240 (price 40/USD x 0.006 USD, 2 s of delay in it)'
    """

    delay_weight_usd_per_s: float = 0.0
    price_per_usd: float = 0.0
    min_gain: float = 0.0
    unknown_cost_usd: float | None = None

    def __post_init__(self) -> None:
        for name in ("delay_weight_usd_per_s", "price_per_usd", "min_gain", "unknown_cost_usd"):
            value = getattr(self, name)
            if value is None and name == "unknown_cost_usd":
                continue
            if not isfinite(value) or (value < 0 and name != "min_gain"):
                raise ConfigurationError(
                    f"{name} must be finite{'' if name == 'min_gain' else ' and not negative'}, "
                    f"got {value!r}."
                )

    def price(self, budget: BudgetSnapshot) -> float:
        """Return lambda: the live price of the budget, or the lowest one if that is higher."""
        return max(budget.shadow_price, self.price_per_usd)

    def usd_that_counts(self, extra_usd: float | None, price: float) -> float | None:
        """Return what a cloud call is taken to cost beyond the edge, in USD.

        Args:
            extra_usd: What it costs; `None` is unknown.
            price: lambda; at 0 no cost counts, so that none has to be known.

        Returns:
            `None` if it is unknown, counts, and nothing is assumed.
        """
        usd = self.unknown_cost_usd if extra_usd is None else extra_usd
        return 0.0 if usd is None and price == 0 else usd

    def weigh(
        self, gain: float, *, extra_usd: float | None, delay_s: float | None, price: float
    ) -> Weighing:
        """Weigh a gain against what it costs.

        Args:
            gain: dq.
            extra_usd: What the cloud costs beyond the edge, in USD; `None` is unknown.
            delay_s: How much later the answer comes, in seconds, below 0 if earlier; `None` is
                unknown and counts as no delay.
            price: lambda.
        """
        usd = self.usd_that_counts(extra_usd, price)
        if usd is None:
            return Weighing(gain, None, price, None, _unknown_cost(gain, price))
        cost = max(0.0, usd + self.delay_weight_usd_per_s * (delay_s or 0.0))
        threshold = self.min_gain + price * cost
        what = ", an assumed cost" if extra_usd is None else ""
        if self.delay_weight_usd_per_s:
            what += ", delay unknown" if delay_s is None else f", {delay_s:.3g} s of delay in it"
        paid = f"price {price:.4g}/USD x {cost:.3g} USD{what}" if price else "no price to pay now"
        least = f"{self.min_gain:.3g} and " if self.min_gain else ""
        sign = ">" if gain > threshold else "<="
        reason = f"gain {gain:.3f} {sign} {threshold:.3f} ({least}{paid})"
        return Weighing(gain, threshold, price, cost, reason)


class UtilityRouter:
    """Send a call to the cloud iff the gain foreseen there is worth its price.

    See `UtilityRule` for the comparison. The delay is what a call adds to the critical path: a
    call off it costs no time. While a plan is streaming, and outside of plans, each call is taken
    to be on it. When the plan is known `route_plan` finds the best choice for all its subtasks.

    Args:
        predictor: Foresees the quality and time of both tiers.
        delay_weight_usd_per_s: What a second that the answer comes later is worth, in USD.
        price_per_usd: The lowest lambda, in quality per USD; see `UtilityRule`.
        min_gain: Quality that the cloud must add whatever it costs.
        unknown_cost_usd: What a cloud call is taken to cost when nobody knows, in USD.

    Raises:
        ConfigurationError: A number is out of its range.

    Example:
        >>> class Always:
        ...     def predict(self, requests):
        ...         return [Prediction(edge_quality=0.5, cloud_quality=0.8) for _ in requests]
        >>> request = RouteRequest(
        ...     text="?",
        ...     expected_cost_usd={"edge": Decimal(0), "cloud": Decimal("0.002")},
        ...     budget=BudgetSnapshot(shadow_price=100.0),
        ... )
        >>> decision = UtilityRouter(Always()).route(request)
        >>> decision.tier, decision.score, decision.threshold, decision.price
        ('cloud', 0.3, 0.2, 100.0)
    """

    name: ClassVar[str] = "utility"
    """What its decisions call it."""

    def __init__(
        self,
        predictor: Predictor,
        *,
        delay_weight_usd_per_s: float = 0.0,
        price_per_usd: float = 0.0,
        min_gain: float = 0.0,
        unknown_cost_usd: float | None = None,
    ) -> None:
        self.predictor = predictor
        self.rule = UtilityRule(
            delay_weight_usd_per_s=delay_weight_usd_per_s,
            price_per_usd=price_per_usd,
            min_gain=min_gain,
            unknown_cost_usd=unknown_cost_usd,
        )

    def route(self, request: RouteRequest) -> RouteDecision:
        """Decide on one call."""
        return self.route_many([request])[0]

    def route_many(self, requests: Sequence[RouteRequest]) -> list[RouteDecision]:
        """Decide on many calls, each by itself: one look at the predictor for all of them."""
        found = check_predictions(self.predictor.predict(requests), len(requests))
        return [self.decide(*one) for one in zip(requests, found, strict=True)]

    def decide(self, request: RouteRequest, prediction: Prediction) -> RouteDecision:
        """Decide on one call whose prediction is known."""
        weighing = self.rule.weigh(
            prediction.gain,
            extra_usd=extra_usd(request, prediction),
            delay_s=delay_s(request, prediction),
            price=self.rule.price(request.budget),
        )
        return decision_of(request, prediction, weighing, router=self.name)

    def route_plan(
        self, plan: Plan, requests: Mapping[str, RouteRequest]
    ) -> Mapping[str, RouteDecision]:
        """Decide on all subtasks of a plan: the best choice within what is left of the budget.

        What is sought is the highest sum of gains less the price of their cost, with the delay of
        the plan as a whole counted exactly (`knapsack.select`). Subtasks without a request (they
        have ended, or may not go to the cloud) are not decided on and take no time. A plan of
        more than 20 subtasks, or with a cost that is unknown and has to be known, is decided on
        one by one.

        Args:
            plan: The plan.
            requests: By subtask id; all with the same state of the budget.
        """
        ids = [subtask_id for subtask_id in plan.order if subtask_id in requests]
        asked = [requests[subtask_id] for subtask_id in ids]
        found = check_predictions(self.predictor.predict(asked), len(ids))
        predictions = dict(zip(ids, found, strict=True))
        price = self.rule.price(asked[0].budget) if asked else 0.0
        costs = {
            one: self.rule.usd_that_counts(extra_usd(requests[one], predictions[one]), price)
            for one in ids
        }
        known = {one: usd for one, usd in costs.items() if usd is not None}
        if not ids or len(plan) > MAX_ITEMS or len(known) < len(ids):
            return {one: self.decide(requests[one], predictions[one]) for one in ids}
        selection = select(
            [
                self._item(plan, one, requests[one], predictions[one], known[one])
                if one in known
                else Item(id=one, gain=0.0, cost=NOTHING, depends_on=plan[one].depends_on)
                for one in plan.order
            ],
            limits=_limits(asked),
            price_per_usd=price,
            price_per_s=price * self.rule.delay_weight_usd_per_s,
        )
        tiers: dict[str, Tier] = {one: "cloud" if one in selection.cloud else "edge" for one in ids}
        gain = sum(predictions[one].gain for one in selection.cloud)
        words = (
            f"the best choice {'' if selection.optimal else 'found '}for the plan sends "
            f"{len(selection.cloud)} of {len(ids)} subtasks to the cloud, for {gain:+.3f} quality "
            f"at {selection.cost.usd} USD (price {price:.4g}/USD)"
        )
        return {
            one: _planned(requests[one], predictions[one], tiers[one], price, words, self.name)
            for one in ids
        }

    def _item(
        self, plan: Plan, one: str, request: RouteRequest, prediction: Prediction, usd: float
    ) -> Item:
        seconds = prediction.seconds if prediction.extra_seconds() is not None else {}
        length = prediction.output_tokens.get("cloud", request.expected_output_tokens or 0)
        return Item(
            id=one,
            gain=prediction.gain - self.rule.min_gain,
            cost=Amounts(
                usd_micros=max(0, round(usd * _MICROS_PER_USD)),
                cloud_tokens=request.prompt_tokens + round(length),
                cloud_calls=1,
            ),
            edge_s=seconds.get("edge", 0.0),
            cloud_s=seconds.get("cloud", 0.0),
            depends_on=plan[one].depends_on,
        )


def extra_usd(request: RouteRequest, prediction: Prediction) -> float | None:
    """Return what the cloud costs beyond the edge, in USD; `None` is unknown.

    An edge whose cost is unknown is taken to be free.
    """
    edge, cloud = (_usd(tier, request, prediction) for tier in ("edge", "cloud"))
    return None if cloud is None else cloud - (edge or 0.0)


def delay_s(request: RouteRequest, prediction: Prediction) -> float | None:
    """Return how much later the answer comes if the cloud is asked; `None` is unknown."""
    return 0.0 if request.on_critical_path is False else prediction.extra_seconds()


def decision_of(
    request: RouteRequest, prediction: Prediction, weighing: Weighing, *, router: str
) -> RouteDecision:
    """Write a weighing down as a decision."""
    tier: Tier = "cloud" if weighing.cloud else "edge"
    return RouteDecision(
        tier=tier,
        score=round(weighing.gain, 9),
        threshold=None if weighing.threshold is None else round(weighing.threshold, 9),
        price=weighing.price,
        reason=f"{_foreseen(prediction)}: {weighing.reason}",
        router=router,
        expected_cost_usd=request.expected_cost_usd.get(tier),
    )


def _planned(
    request: RouteRequest,
    prediction: Prediction,
    tier: Tier,
    price: float,
    words: str,
    router: str,
) -> RouteDecision:
    return RouteDecision(
        tier=tier,
        score=round(prediction.gain, 9),
        price=price,
        reason=f"{_foreseen(prediction)}: {words}",
        router=f"{router}_plan",
        expected_cost_usd=request.expected_cost_usd.get(tier),
    )


def _foreseen(prediction: Prediction) -> str:
    said = f"edge {prediction.edge_quality:.2f}, cloud {prediction.cloud_quality:.2f}"
    return f"{prediction.why}: {said}" if prediction.why else said


def _unknown_cost(gain: float, price: float) -> str:
    return (
        f"gain {gain:.3f}, but nobody has said what the cloud costs, and at a price of "
        f"{price:.4g}/USD that counts: set Budget(prices=...) or unknown_cost_usd"
    )


def _usd(tier: Tier, request: RouteRequest, prediction: Prediction) -> float | None:
    known = request.expected_cost_usd.get(tier)
    return prediction.cost_usd.get(tier) if known is None else float(known)


def _limits(requests: Sequence[RouteRequest]) -> Limits:
    """What is left for cloud calls, once the edge has been paid for every subtask."""
    budget = requests[0].budget
    edge = sum((one.expected_cost_usd.get("edge") or Decimal(0) for one in requests), Decimal(0))
    usd = budget.usd.remaining
    return Limits(
        usd=None if usd is None else max(Decimal(0), usd - edge),
        cloud_tokens=budget.cloud_tokens.remaining,
        cloud_calls=_calls_left(budget, len(requests)),
    )


def _calls_left(budget: BudgetSnapshot, subtasks: int) -> int | None:
    """What is left for a plan: while it is worked on, its answers earn it more of a share."""
    left, share = budget.cloud_calls.remaining, budget.cloud_share
    if share is None:
        return left
    calls = share.calls_for(subtasks - 1)  # the last answer comes too late
    return calls if left is None else min(left, calls)
