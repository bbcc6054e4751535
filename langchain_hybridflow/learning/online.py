"""Keep learning while answering: a residual on the trained predictor, and careful exploration."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from hashlib import blake2b
from math import erf, log1p, sqrt
from typing import Any, Final, Literal

from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.learning.decision_log import LoggedDecision
from langchain_hybridflow.learning.online_store import MemoryOnlineStore, OnlineStore
from langchain_hybridflow.learning.residual import Posterior
from langchain_hybridflow.routing import (
    TIERS,
    Prediction,
    Predictor,
    RouteDecision,
    RouteRequest,
    Tier,
    UtilityRule,
)
from langchain_hybridflow.routing.prediction import check_predictions
from langchain_hybridflow.routing.utility import Weighing, delay_s, extra_usd

__all__ = ["CONTEXT", "OnlineRouter", "context_of"]

CONTEXT: Final = ("one", "edge quality", "cloud quality", "difficulty", "depth", "prompt length")
"""The numbers that the residual is linear in, each about -1..1."""


def context_of(request: RouteRequest, prediction: Prediction) -> tuple[float, ...]:
    """Return the numbers that the residual is linear in.

    Example:
        >>> context_of(RouteRequest(text="?"), Prediction(edge_quality=0.5, cloud_quality=0.75))
        (1.0, 0.0, 0.5, 0.0, 0.0, 0.0)
    """
    return (
        1.0,
        2.0 * prediction.edge_quality - 1.0,
        2.0 * prediction.cloud_quality - 1.0,
        0.0 if request.difficulty is None else (request.difficulty - 5) / 4,
        min(request.depth, 8) / 8,
        min(log1p(request.prompt_tokens) / 10.0, 1.0),
    )


class OnlineRouter:
    """`UtilityRouter` that goes on learning from rewards, and tries the other tier now and then.

    To the gain that the predictor foresees it adds the residual learnt so far, and decides by the
    same rule (`UtilityRule`). The less is known of a residual the more often the choice is tried
    that looks worse; how often is never above `max_exploration`, and each decision carries the
    probability of its choice (`propensity`), so that the log can be evaluated (see `ope`).

    The cloud is never tried out where it does not fit what is left of the budget, nor when more
    than `explore_below` of a limit is gone, nor where its cost is unknown; filters and limits hold
    for explored calls like for any other. `route` only reads: what is learnt goes into the store,
    by `feedback`, at any later time and from any process that shares the store.

    Args:
        predictor: The warm start.
        store: Where it learns into; by default into this process, with a discount of 0.995: it
            then follows a tier that becomes another model within about 500 rewards.
        strategy: "thompson" tries a choice as often as it is likely to be the better one. "linucb"
            always tries the choice whose upper bound (mean + `optimism` deviations) is the higher.
            Both within the bounds of exploration.
        delay_weight_usd_per_s: See `UtilityRouter`.
        price_per_usd: See `UtilityRouter`.
        min_gain: See `UtilityRouter`.
        unknown_cost_usd: See `UtilityRouter`.
        max_exploration: Highest probability in 0..0.5 of the choice that looks worse.
        min_exploration: Lowest one; above 0 it keeps every choice in the log that could be made.
        explore_below: Share of the tightest limit up to which the cloud is tried out.
        prior: Standard deviation that the residual's weights have at first: how wrong the
            predictor may be.
        optimism: Deviations above the mean, for "linucb".
        seed: Seed of the draws. A draw depends on it and on the request, nothing else.
        clock: Epoch seconds for the log; `None` logs no times.

    Raises:
        ConfigurationError: A number is out of its range, or the store is for another context.

    Example:
        >>> class Halves:
        ...     def predict(self, requests):
        ...         return [Prediction(edge_quality=0.5, cloud_quality=0.6) for _ in requests]
        >>> router = OnlineRouter(Halves(), max_exploration=0, min_exploration=0)
        >>> for _ in range(20):
        ...     decision = router.route(RouteRequest(text="?", prompt_tokens=_))
        ...     right = 0.0 if decision.tier == "cloud" else 0.5
        ...     learnt = router.feedback(decision.decision_id, right)
        >>> router.route(RouteRequest(text="?")).tier
        'edge'
    """

    def __init__(
        self,
        predictor: Predictor,
        *,
        store: OnlineStore | None = None,
        strategy: Literal["thompson", "linucb"] = "thompson",
        delay_weight_usd_per_s: float = 0.0,
        price_per_usd: float = 0.0,
        min_gain: float = 0.0,
        unknown_cost_usd: float | None = None,
        max_exploration: float = 0.05,
        min_exploration: float = 0.01,
        explore_below: float = 0.9,
        prior: float = 0.25,
        optimism: float = 1.0,
        seed: int = 0,
        clock: Callable[[], float] | None = None,
    ) -> None:
        _check(max_exploration, min_exploration, explore_below, prior, optimism)
        if strategy not in ("thompson", "linucb"):
            raise ConfigurationError(f"strategy is 'thompson' or 'linucb', got {strategy!r}.")
        self.predictor = predictor
        self.store = store or MemoryOnlineStore(context_size=len(CONTEXT), discount=0.995)
        self.strategy = strategy
        self.rule = UtilityRule(
            delay_weight_usd_per_s=delay_weight_usd_per_s,
            price_per_usd=price_per_usd,
            min_gain=min_gain,
            unknown_cost_usd=unknown_cost_usd,
        )
        self.max_exploration = max_exploration
        self.min_exploration = min_exploration
        self.explore_below = explore_below
        self.prior = prior
        self.optimism = optimism
        self.seed = seed
        self._clock = clock
        self._pending: deque[LoggedDecision] = deque(maxlen=10_000)
        self._lock = threading.Lock()
        self.refresh()

    def refresh(self) -> None:
        """Take over what was learnt, by whichever process, since the last time.

        Raises:
            ConfigurationError: The store is for another context.
        """
        state = self.store.state()
        if state.size != len(CONTEXT):
            raise ConfigurationError(
                f"The store learns from contexts of {state.size} numbers, this router has "
                f"{len(CONTEXT)}. Make it with context_size={len(CONTEXT)}."
            )
        self._beliefs = {
            tier: Posterior(state.arms[tier], prior=self.prior, sigma=0.5) for tier in TIERS
        }

    def flush(self) -> None:
        """Put the decisions made here into the store, so that other processes can reward them."""
        with self._lock:
            waiting = list(self._pending)
            self._pending.clear()
        self.store.note(waiting)

    def feedback(self, decision_id: str, reward: float) -> bool:
        """Learn what an answer was worth: a user's thumb, a verifier's verdict, agreement.

        It must be an answer of the tier that was decided for. After a fallback or an escalation
        somebody else has answered; `feedback_on` takes care of that.

        Args:
            decision_id: `decision_id` of the decision, from the metadata of the answer.
            reward: Quality of the answer in 0..1.

        Returns:
            Whether it was learnt from at once. If not, the decision has been rewarded before, or is
            not in the store yet; then the reward waits there for it.

        Raises:
            ConfigurationError: The reward is not in 0..1.
        """
        self.flush()
        learnt = self.store.reward({decision_id: reward})
        self.refresh()
        return learnt > 0

    def feedback_on(self, record: Mapping[str, Any], reward: float) -> bool:
        """Learn what an answer was worth, by its metadata.

        Args:
            record: `response_metadata["hybridflow"]` of an answer, or the record of a subtask.
            reward: Quality of the answer in 0..1.

        Returns:
            Whether it was learnt from at once; see `feedback`. Never from an answer that another
            tier has given than was decided, nor from a decision of another router.
        """
        decision = record.get("decision") or {}
        decision_id = decision.get("decision_id")
        if decision_id is None or decision["tier"] != record.get("tier"):
            return False
        return self.feedback(decision_id, reward)

    def route(self, request: RouteRequest) -> RouteDecision:
        """Decide on one call."""
        (prediction,) = check_predictions(self.predictor.predict([request]), 1)
        context, beliefs = context_of(request, prediction), self._beliefs
        residual = {tier: beliefs[tier].mean(context) for tier in TIERS}
        deviation = {tier: beliefs[tier].deviation(context) for tier in TIERS}
        weighing = self.rule.weigh(
            prediction.gain + residual["cloud"] - residual["edge"],
            extra_usd=extra_usd(request, prediction),
            delay_s=delay_s(request, prediction),
            price=self.rule.price(request.budget),
        )
        best: Tier = "cloud" if weighing.cloud else "edge"
        decision_id = _identity(self.seed, request)
        chance = self._exploration(request, weighing, deviation)
        explored = int(decision_id, 16) / 16 ** len(decision_id) < chance
        tier: Tier = _other(best) if explored else best
        propensity = chance if explored else 1.0 - chance
        self._note(request, prediction, weighing, decision_id, tier, propensity, context)
        learnt = residual["cloud"] - residual["edge"]
        return RouteDecision(
            tier=tier,
            score=round(weighing.gain, 9),
            threshold=None if weighing.threshold is None else round(weighing.threshold, 9),
            price=weighing.price,
            reason=(
                f"edge {prediction.edge_quality:.2f}, cloud {prediction.cloud_quality:.2f}, learnt "
                f"{learnt:+.3f}: {weighing.reason}"
                f"{f'; tried out (chance {chance:.3f})' if explored else ''}"
            ),
            router=f"online_{self.strategy}",
            expected_cost_usd=request.expected_cost_usd.get(tier),
            seed=self.seed,
            decision_id=decision_id,
            propensity=propensity,
        )

    def _exploration(
        self, request: RouteRequest, weighing: Weighing, deviation: Mapping[Tier, float]
    ) -> float:
        """Return the probability of the choice that looks worse."""
        if weighing.threshold is None or request.kept_local:
            return 0.0
        if not weighing.cloud and not self._affords(request):
            return 0.0
        margin = abs(weighing.gain - weighing.threshold)
        if self.strategy == "thompson":
            doubt = sqrt(deviation["cloud"] ** 2 + deviation["edge"] ** 2)
            wrong = 0.5 * (1.0 - erf(margin / (doubt * sqrt(2.0))))
        else:
            better: Tier = "cloud" if weighing.cloud else "edge"
            bonus = self.optimism * (deviation[_other(better)] - deviation[better])
            wrong = float(bonus > margin)
        return min(max(wrong, self.min_exploration), self.max_exploration)

    def _affords(self, request: RouteRequest) -> bool:
        """Whether a cloud call that is not needed fits what is left, and leaves something."""
        budget, usd = request.budget, request.expected_cost_usd.get("cloud")
        left_usd, left_tokens = budget.usd.remaining, budget.cloud_tokens.remaining
        if budget.exhausted or budget.pressure > self.explore_below:
            return False
        if left_usd is not None and (usd is None or usd > left_usd):
            return False
        tokens = request.prompt_tokens + (request.expected_output_tokens or 0)
        return left_tokens is None or tokens <= left_tokens

    def _note(
        self,
        request: RouteRequest,
        prediction: Prediction,
        weighing: Weighing,
        decision_id: str,
        tier: Tier,
        propensity: float,
        context: tuple[float, ...],
    ) -> None:
        usd = request.expected_cost_usd.get(tier)
        logged = LoggedDecision(
            decision_id=decision_id,
            tier=tier,
            propensity=propensity,
            edge_quality=prediction.edge_quality,
            cloud_quality=prediction.cloud_quality,
            context=context,
            threshold=weighing.threshold,
            cost_usd=None if usd is None else float(usd),
            at=None if self._clock is None else self._clock(),
        )
        with self._lock:
            self._pending.append(logged)


def _other(tier: Tier) -> Tier:
    return "edge" if tier == "cloud" else "cloud"


def _identity(seed: int, request: RouteRequest) -> str:
    """Name a decision by all that it rests on: the live budget and its clock set calls apart."""
    text = f"{seed}\x00{request!r}"
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _check(
    max_exploration: float,
    min_exploration: float,
    explore_below: float,
    prior: float,
    optimism: float,
) -> None:
    if not 0.0 <= min_exploration <= max_exploration <= 0.5:
        raise ConfigurationError(
            f"0 <= min_exploration <= max_exploration <= 0.5 must hold, got {min_exploration!r} "
            f"and {max_exploration!r}."
        )
    if not (0.0 <= explore_below <= 1.0 and 0.0 < prior < 10.0 and 0.0 <= optimism < 100.0):
        raise ConfigurationError(
            f"explore_below is in 0..1, prior in 0..10 and not 0, optimism in 0..100; got "
            f"{explore_below!r}, {prior!r} and {optimism!r}."
        )
