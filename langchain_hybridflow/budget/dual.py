"""The shadow price of a budget, as pure functions on frozen values.

HybridFlow (arXiv 2512.22137) sends subtask i to the cloud iff dq_i / c_i > lambda. Spending less
than the limit at a price of zero, or exactly the limit at a positive one, is what makes lambda the
dual variable of the knapsack; dual ascent moves it by how much faster than planned is spent:

    lambda <- max(0, lambda + eta * (spend rate - target rate)).

This is the same rule in units that have no scale, so that nothing is to be tuned. The price is
counted in quality per *average cloud call*; spending in average calls; the plan is not per second
but per *routed call*, that is what is left over the calls that are expected until the window ends;
and the step is multiplicative. So it is dual mirror descent with entropy, which has vanishing
regret for steady and for periodic traffic alike (Balseiro, Lu, Mirrokni: "The Best of Many Worlds",
Operations Research 2023), on a target from a forecast (Balseiro et al., arXiv 2302.02006).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import exp, isfinite, log, sqrt
from typing import Final

from langchain_hybridflow.budget.demand import Demand
from langchain_hybridflow.budget.types import DIMENSIONS, AccountState, Amounts
from langchain_hybridflow.budget.windows import Window

__all__ = ["MAX_PRICE", "MIN_PRICE", "Plan", "PriceState", "Reading", "advance"]

MIN_PRICE: Final = 0.003
"""Below this quality per average cloud call the budget does not bind, and the price is 0."""

MAX_PRICE: Final = 10.0
"""Above this nothing but calls far cheaper than the average would pass anyway."""

_FIRST_PRICE: Final = 0.05  # five points of quality for an average call
_LEAD: Final = 0.5  # how much of a change of plan goes into the price at once
_LONGEST_STEP: Final = 1.0  # of the logarithm of the price, in one update
_GAINS: Final = (0.01, 0.5)  # of the logarithm of the price, for one average call too many
_SHARES: Final = (1e-3, 10.0)  # of calls that the plan can afford
_CALL_MEMORY: Final = 100  # calls that the mean cost of earlier windows counts for
_STRIDES: Final = (1, 32)
_STEPS_PER_WINDOW: Final = 256
_UNKNOWN_CALLS: Final = 8 * _STEPS_PER_WINDOW  # how many a budget pays for, while none was bought
_MEMORY: Final = 0.5  # of a window: how far back the forecast looks
_ROLLING_BRAKE: Final = 16  # slower when less than a 16th of a rolling window's limit is left
_WORTH: Final = (0.01, 1.0)  # quality that an average call is taken to add, at least and at most


@dataclass(frozen=True, slots=True)
class Plan:
    """What the budget is spread over; see `Pacing`.

    Args:
        window: The stretch of time that the limits are for; `None` for ever.
        weights: The given demand of the 24 hours of a day (UTC); `None` learns it.
        expected_calls: Calls to be routed in a window, or altogether; `None` learns it.
    """

    window: Window | None = None
    weights: tuple[float, ...] | None = None
    expected_calls: int | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """What is known at one instant.

    Args:
        account: The counters that the limits are checked against.
        counter: The counters under the current key alone; the same unless the window rolls.
        routed: Calls that were routed, and that no reading told of before.
    """

    account: AccountState
    counter: AccountState
    routed: int


@dataclass(frozen=True, slots=True)
class PriceState:
    """The price of an account, and all that is needed to find the next one.

    Args:
        price: Quality, in 0..1, that an average cloud call must add to be bought.
        call_micros: Micro-USD of an average cloud call; 0 while unknown.
        call_tokens: Tokens of an average cloud call; 0 while unknown.
        stride: Calls that a process routes before it updates the price.
        at: When it was updated, in epoch seconds of the ledger.
        routed: Calls ever routed.
        bias: Logarithm of the price if the plan could afford every call.
        key: Key that `taken` was counted under.
        taken: What had been spent, open calls at their expected cost included; by dimension.
        before: `call_micros` and `call_tokens` as they were when the window began.
        hold: Micro-USD and tokens that an open call holds, on average; 0 while none was seen.
        demand: The forecast.
    """

    price: float = 0.0
    call_micros: float = 0.0
    call_tokens: float = 0.0
    stride: int = 1
    at: float = 0.0
    routed: int = 0
    bias: float | None = None
    key: str = ""
    taken: tuple[float, ...] = (0.0, 0.0, 0.0)
    before: tuple[float, float] = (0.0, 0.0)
    hold: tuple[float, float] = (0.0, 0.0)
    demand: Demand = field(default_factory=Demand)

    @property
    def per_usd(self) -> float:
        """The price in quality per USD (lambda): the cloud is worth it iff dq / c_usd is above.

        0 while nobody knows what a call costs.
        """
        return self.price / (self.call_micros * 1e-6) if self.call_micros else 0.0


def advance(state: PriceState | None, reading: Reading, plan: Plan) -> PriceState:
    """Return the price that follows from what has happened since the last one.

    With a window, or a number of calls to expect, the price follows the plan. Without either there
    is no plan: the price then rises with the share of the limit that is spent, by the rule of the
    online knapsack (Zhou, Chakrabarty, Lukose, WINE 2008), (U e / L)^z (L / e), for calls that add
    between L = 0.01 and U = 1 quality.

    Args:
        state: The last one; `None` if there is none.
        reading: The counters now. Limits may have changed in between.
        plan: What the limits are spread over.
    """
    now = reading.account.at
    if state is None:
        state = _begun(reading, plan)
    known = _with_mean_call(state, reading)
    demand = _demand(known, reading, plan)
    taken = _expected_amounts(reading.counter, known)
    following = replace(
        known,
        at=max(now, state.at),
        routed=state.routed + reading.routed,
        key=reading.counter.account.key,
        taken=taken,
        demand=demand,
    )
    if plan.window is None and plan.expected_calls is None:
        return _by_share_spent(following, reading)
    calls_left = max(_calls_left(following, plan), 1.0)
    same_window = state.key == following.key
    spent = [max(0.0, new - old) for new, old in zip(taken, state.taken, strict=True)]
    if not same_window:
        spent = [0.0, 0.0, 0.0]
    return _stepped(
        following, reading, plan, spent, calls_left, routed=reading.routed if same_window else 0
    )


def _begun(reading: Reading, plan: Plan) -> PriceState:
    """A state before the first call; a given number of calls counts like an eighth of a window.

    Without one, the first calls are taken to have come in a 256th of it, at least: those of one
    second must not be forecast for every second to come.
    """
    demand = Demand()
    if plan.window is not None:
        share, calls = (1 / 8, plan.expected_calls) if plan.expected_calls else (1 / 256, 0)
        demand = Demand.guess(calls * share, plan.window.seconds * share / 3_600)
    counter = reading.counter
    return PriceState(at=counter.at, key=counter.account.key, demand=demand)


def _with_mean_call(state: PriceState, reading: Reading) -> PriceState:
    """Learn what a cloud call costs on average, in this window and in those before."""
    new_window = state.key != reading.counter.account.key
    before = (state.call_micros, state.call_tokens) if new_window else state.before
    used, held = reading.account.used, reading.account.held
    weight = _CALL_MEMORY if before[1] or before[0] else 0
    calls, micros, tokens = used.cloud_calls, used.usd_micros, used.cloud_tokens
    if not calls and not weight:  # nothing but open calls: their worst case stands in
        calls, micros, tokens = held.cloud_calls, held.usd_micros, held.cloud_tokens
    state = replace(state, before=before, hold=_mean_hold(state.hold, held))
    if not calls + weight:
        return state
    return replace(
        state,
        call_micros=(before[0] * weight + micros) / (weight + calls),
        call_tokens=(before[1] * weight + tokens) / (weight + calls),
    )


def _mean_hold(known: tuple[float, float], held: Amounts) -> tuple[float, float]:
    if not held.cloud_calls:
        return known
    seen = (held.usd_micros / held.cloud_calls, held.cloud_tokens / held.cloud_calls)
    if not any(known):
        return seen
    micros, tokens = (old + (new - old) / 8 for old, new in zip(known, seen, strict=True))
    return micros, tokens


def _expected_amounts(account: AccountState, state: PriceState) -> tuple[float, ...]:
    """What is spent, with each open call at the cost of an average one, not at its worst case."""
    used, held = account.used, account.held
    open_calls = held.cloud_calls
    return (
        used.usd_micros + min(held.usd_micros, open_calls * state.call_micros),
        used.cloud_tokens + min(held.cloud_tokens, open_calls * state.call_tokens),
        float(used.cloud_calls + open_calls),
    )


def _demand(state: PriceState, reading: Reading, plan: Plan) -> Demand:
    if plan.window is None:
        return state.demand
    return state.demand.after(
        reading.routed,
        start_s=state.at,
        end_s=reading.account.at,
        memory_s=_MEMORY * plan.window.seconds,
        weights=plan.weights,
    )


def _calls_left(state: PriceState, plan: Plan) -> float:
    """How many calls are still to be routed on what is left."""
    if plan.window is None:
        expected = plan.expected_calls or 1
        # More calls than expected must not find nothing left: a tenth of those that came may
        # always follow.
        return max(expected - state.routed, state.routed / 10)
    if plan.window.rolling:
        end = state.at + plan.window.seconds
    else:
        _, end = plan.window.span(state.at)
    return _forecast(state, plan.window, state.at, end, plan.weights)


def _stepped(
    state: PriceState,
    reading: Reading,
    plan: Plan,
    spent: Sequence[float],
    calls_left: float,
    *,
    routed: int,
) -> PriceState:
    """Dual ascent on the tightest dimension: the one that most calls too many were bought of."""
    units = (state.call_micros, state.call_tokens, 1.0)
    left = _left(reading, state, plan)
    excess, share, budget_calls = -float("inf"), _SHARES[1], float("inf")
    for name, unit, rest, taken in zip(DIMENSIONS, units, left, spent, strict=True):
        limit = getattr(reading.account.account.limits, name)
        if limit is None or not unit:
            continue
        planned = (rest + taken) / (calls_left + routed)
        excess = max(excess, (taken - routed * planned) / unit)
        share = min(share, rest / calls_left / unit)
        budget_calls = min(budget_calls, limit / unit)
    if not isfinite(excess):  # nothing is limited, or nothing is known of what a call costs
        return replace(state, stride=_stride(state, _UNKNOWN_CALLS))
    lead = -_LEAD * log(max(share, _SHARES[0]))
    per_window = _calls_per_window(state, plan, calls_left)
    gain = 1.0 / sqrt(max(min(budget_calls, per_window), 1.0))
    gain = min(max(gain, _GAINS[0], 8 / (16 + state.routed)), _GAINS[1])
    step = min(max(gain * excess, -_LONGEST_STEP), _LONGEST_STEP)
    bias = (log(_FIRST_PRICE) - lead) if state.bias is None else state.bias + step
    price = min(max(exp(bias + lead), MIN_PRICE), MAX_PRICE)
    return replace(
        state,
        bias=log(price) - lead,  # what the bounds cut off is forgotten: no wind-up
        price=price if price > 1.001 * MIN_PRICE else 0.0,
        stride=_stride(state, per_window),
    )


def _stride(state: PriceState, calls: float) -> int:
    """Calls between two updates of a process, if so many are to be routed in a window.

    A young price moves with every call: what it knows of the traffic may be one second of it.
    """
    longest = min(_STRIDES[1], 1 + state.routed // 16)
    return round(min(max(calls / _STEPS_PER_WINDOW, _STRIDES[0]), longest))


def _left(reading: Reading, state: PriceState, plan: Plan) -> tuple[float, ...]:
    """What may be spent until the plan ends, by dimension; 0 where there is no limit.

    Of the very last of a limit nothing can be had: a call is refused if its worst case does not
    fit, although it will cost less.
    """
    taken = _expected_amounts(reading.account, state)
    margins = (
        max(0.0, state.hold[0] - state.call_micros),
        max(0.0, state.hold[1] - state.call_tokens),
        0.0,
    )
    rolling = plan.window is not None and plan.window.rolling
    rests = []
    for limit, gone, margin in zip(reading.account.account.limits, taken, margins, strict=True):
        rest = 0.0 if limit is None else max(0.0, limit - margin - gone)
        # A rolling limit is one for any such stretch, so also for the one that begins now.
        rests.append(min(limit or 0.0, rest * _ROLLING_BRAKE) if rolling else rest)
    return tuple(rests)


def _calls_per_window(state: PriceState, plan: Plan, calls_left: float) -> float:
    if plan.window is None:
        return float(plan.expected_calls or calls_left)
    return _forecast(state, plan.window, *plan.window.span(state.at), plan.weights)


def _forecast(
    state: PriceState,
    window: Window,
    start_s: float,
    end_s: float,
    weights: tuple[float, ...] | None,
) -> float:
    return state.demand.expected_calls(
        start_s, end_s, memory_s=_MEMORY * window.seconds, weights=weights
    )


def _by_share_spent(state: PriceState, reading: Reading) -> PriceState:
    taken = _expected_amounts(reading.account, state)
    shares = [
        min(gone / limit, 1.0) if limit else 1.0
        for limit, gone in zip(reading.account.account.limits, taken, strict=True)
        if limit is not None
    ]
    if not shares:
        return replace(state, stride=_stride(state, _UNKNOWN_CALLS))
    low, high = _WORTH
    share = max(shares)
    calls = reading.account.used.cloud_calls / share if share else _UNKNOWN_CALLS
    return replace(
        state,
        price=(high * exp(1.0) / low) ** share * low / exp(1.0),
        stride=_stride(state, calls),
    )
