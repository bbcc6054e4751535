"""How close the shadow price comes to the best that could have been bought with the same money.

    python benchmarks/pacing.py [--seeds 20] [--calls 4000] [--processes 4] [--plots] [--json FILE]

A day of calls arrives; each would gain some quality in the cloud, at some cost, and the day has a
limit that pays for about 30 % of it. Which calls go to the cloud is decided one by one:
- paced:       `Pacing()`: cloud iff gain / cost > shadow price; several processes, one ledger;
- first come:  cloud for every call until the limit is reached;
- yesterday:   a fixed price, the best one of the day before;
- hindsight:   a fixed price, the best one of the day itself;
- additive:    lambda <- max(0, lambda + eta * (spent - target)), with a target per second and an
               eta that moves the price by a tenth of yesterday's best for each 1 % overspent (on
               the first day: of that day's own best, which nobody could know);
- told:        for the surge only: yesterday's price until noon, and from then on the best one for
               what is left and what is to come, as if somebody had told.
The figure is quality over the offline optimum: the fractional knapsack of the whole day, which no
rule can pass. All of the ledger is the real one, its clock is simulated. Days: the first one
("cold": nothing is known) and the fourth ("learnt": the price and the day's rhythm are).
"""

from __future__ import annotations

import argparse
import heapq
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from langchain_hybridflow.budget import Account, Amounts, Denial, Limits, MemoryLedger
from langchain_hybridflow.budget.pacing import Paced, Pacer, Pacing
from langchain_hybridflow.budget.windows import Window
from langchain_hybridflow.testing import ManualClock

Floats = NDArray[np.float64]

DAY_S = 86_400.0
LIMIT_SHARE = 0.3
CAP_TOKENS = 4_096
INPUT_MICROS, OUTPUT_MICROS = 2, 8  # USD per million tokens = micro-USD per token
LATENCY_S = 4.0
EPOCH_S = 20_000 * DAY_S  # a midnight
KINDS = ("steady", "diurnal", "bursty", "gains fall", "surge")
POLICIES = ("paced", "first come", "yesterday", "hindsight", "additive", "told at noon")
HOURS = np.arange(24)
OFFICE = (
    0.15
    + np.exp(-(((HOURS - 10.5) / 2.5) ** 2))
    + 0.9 * np.exp(-(((HOURS - 15.5) / 3.0) ** 2))
    + 0.3 * np.exp(-(((HOURS - 20.5) / 2.0) ** 2))
)


@dataclass(frozen=True)
class Day:
    """Calls of one day in order: when, what the cloud would add, what it costs, at worst."""

    at_s: Floats
    gain: Floats
    micros: NDArray[np.int64]
    worst: NDArray[np.int64]


@dataclass(frozen=True)
class Outcome:
    """What one policy bought on one day."""

    bought: NDArray[np.bool_]
    price: Floats  # quality per micro-USD, at each call

    def quality(self, day: Day) -> float:
        return float(day.gain[self.bought].sum())

    def spent(self, day: Day) -> int:
        return int(day.micros[self.bought].sum())


def arrivals(rng: np.random.Generator, kind: str, calls: int, *, last: bool) -> Floats:
    """Moments of one day, in seconds since midnight."""
    count = int(rng.poisson(calls))
    if kind == "diurnal":
        hours = rng.choice(24, size=count, p=OFFICE / OFFICE.sum())
        at_s = (hours + rng.random(count)) * 3_600
    elif kind == "bursty":  # 40 % of the calls come in four bursts of a quarter of an hour
        base = rng.random(int(rng.poisson(0.6 * calls))) * DAY_S
        starts = rng.random(4) * (DAY_S - 900)
        bursts = [start + rng.random(int(rng.poisson(0.1 * calls))) * 900 for start in starts]
        at_s = np.concatenate([base, *bursts])
    elif kind == "surge" and last:  # from noon on eight times as many calls, and they stay
        extra = DAY_S / 2 * (1 + rng.random(int(rng.poisson(3.5 * calls))))
        at_s = np.concatenate([rng.random(count) * DAY_S, extra])
    else:
        at_s = rng.random(count) * DAY_S
    return np.sort(at_s)


def make_day(
    rng: np.random.Generator, kind: str, calls: int, *, last: bool, heavy: bool = False
) -> Day:
    """Draw a day: six calls of ten gain next to nothing in the cloud, as in real traffic."""
    at_s = arrivals(rng, kind, calls, last=last)
    count = len(at_s)
    hard = rng.random(count) < 0.4
    gain = np.where(hard, rng.beta(2, 3, count), rng.beta(1, 30, count))
    if kind == "gains fall" and last:  # from noon on the edge has become better
        gain = np.where(at_s > DAY_S / 2, 0.4 * gain, gain)
    prompt = np.ceil(rng.lognormal(math.log(600), 0.8, count))
    drawn = 150 * (1 + rng.pareto(1.3, count)) if heavy else rng.lognormal(5.7, 0.9, count)
    answer = np.minimum(np.ceil(drawn), CAP_TOKENS)
    micros = (INPUT_MICROS * prompt + OUTPUT_MICROS * answer).astype(np.int64)
    worst = (INPUT_MICROS * np.ceil(1.3 * prompt) + OUTPUT_MICROS * CAP_TOKENS).astype(np.int64)
    return Day(at_s, gain, micros, worst)


def optimum(day: Day, limit: int) -> tuple[float, float]:
    """Return quality and price of the fractional knapsack: an upper bound for every rule."""
    order = np.argsort(-day.gain / day.micros)
    total = np.cumsum(day.micros[order])
    whole = int(np.searchsorted(total, limit, side="right"))
    quality = float(day.gain[order][:whole].sum())
    if whole == len(order):
        return quality, 0.0
    price = float(day.gain[order][whole] / day.micros[order][whole])
    rest = limit - (int(total[whole - 1]) if whole else 0)
    return quality + price * rest, price


def priced(day: Day, limit: int, price_at: Callable[[int, int], float]) -> Outcome:
    """Route a day at a price that a rule gives for each call and the money spent so far."""
    bought, prices, spent = np.zeros(len(day.gain), bool), np.zeros(len(day.gain)), 0
    for index, (gain, micros) in enumerate(zip(day.gain, day.micros, strict=True)):
        prices[index] = price_at(index, spent)
        if gain > prices[index] * micros and spent + micros <= limit:
            bought[index] = True
            spent += int(micros)
    return Outcome(bought, prices)


def additive(day: Day, limit: int, *, start: float, good_price: float) -> Outcome:
    """Naive dual ascent: additive, towards the same spend in every second."""
    eta, price, last = 0.1 * good_price / (0.01 * limit), start, [0.0, 0]

    def price_at(index: int, spent: int) -> float:
        nonlocal price
        seconds, before = day.at_s[index] - last[0], last[1]
        price = max(0.0, price + eta * ((spent - before) - limit / DAY_S * seconds))
        last[:] = [day.at_s[index], spent]
        return price

    return priced(day, limit, price_at)


class Paceable:
    """Several processes, simulated in one, that share a ledger and a budget of a day."""

    def __init__(self, limit: int, *, processes: int, pacing: Pacing) -> None:
        self.clock = ManualClock()
        self.ledger = MemoryLedger(self.clock, epoch_s=EPOCH_S)
        self.window = Window("day")
        self.limits = Limits(usd=f"{limit}e-6")
        self.pacers = [Pacer(pacing) for _ in range(processes)]
        self.calls = 0
        self.refused = 0
        self.open: list[tuple[float, str, int]] = []

    def price(self, pacer: Pacer) -> tuple[float, Account]:
        """One snapshot, and now and then one note: as a routed call does it."""
        now = self.ledger.now()
        account = Account(f"budget/{self.window.keys(now)[0]}", "budget", self.limits)
        paced = Paced(account, self.window, "pace/budget")
        update = pacer.see(paced, self.ledger.snapshot(paced.reads))
        if update is not None:
            note = self.ledger.swap_note(
                update.key, expected_version=update.expected_version, text=update.text
            )
            pacer.wrote(update, note)
        return pacer.state(paced).per_usd * 1e-6, account

    def settle(self, until_s: float) -> None:
        """Let the calls that have ended by now be booked."""
        while self.open and self.open[0][0] <= until_s:
            _, lease_id, micros = heapq.heappop(self.open)
            self.ledger.commit(lease_id, Amounts(usd_micros=micros, cloud_calls=1))

    def route(self, day: Day, number: int, rng: np.random.Generator) -> Outcome:
        bought, prices = np.zeros(len(day.gain), bool), np.zeros(len(day.gain))
        turns = rng.integers(len(self.pacers), size=len(day.gain))
        for index, turn in enumerate(turns):
            at_s = number * DAY_S + float(day.at_s[index])
            self.settle(at_s)
            self.clock.advance(max(0.0, at_s - self.clock()))
            price, account = self.price(self.pacers[turn])
            prices[index] = price
            micros = int(day.micros[index])
            if day.gain[index] > price * micros:
                self.calls += 1
                worst = Amounts(usd_micros=int(day.worst[index]), cloud_calls=1)
                lease_id = str(self.calls)
                answer = self.ledger.reserve(lease_id, worst, accounts=[account], ttl_s=600)
                if isinstance(answer, Denial):
                    self.refused += 1
                    continue
                bought[index] = True
                heapq.heappush(self.open, (at_s + LATENCY_S, lease_id, micros))
        return Outcome(bought, prices)


def end_shares(day: Day, outcome: Outcome, price: float) -> tuple[float, float]:
    """Share of the last tenth of the window's calls that were bought, and that should have been."""
    late = day.at_s >= 0.9 * DAY_S
    best = day.gain > price * day.micros
    return float(outcome.bought[late].mean()), float(best[late].mean())


def absorbed_after(day: Day, outcome: Outcome, limit: int) -> int:
    """Calls from noon until the price stands within 10 % of what clears the rest of the day.

    That price is known in hindsight only: the one at which the calls from noon on cost exactly what
    is left at noon.
    """
    noon = int(np.searchsorted(day.at_s, DAY_S / 2))
    rest = Day(day.at_s[noon:], day.gain[noon:], day.micros[noon:], day.worst[noon:])
    left = limit - int(day.micros[:noon][outcome.bought[:noon]].sum())
    _, right = optimum(rest, left)
    reached = np.flatnonzero(outcome.price[noon:] >= 0.9 * right)
    return int(reached[0]) if len(reached) else len(rest.gain)


def reacted_after(day: Day, outcome: Outcome) -> int:
    """Calls from noon until the price is half as high again as its mean in the hour before."""
    noon = int(np.searchsorted(day.at_s, DAY_S / 2))
    before = outcome.price[(day.at_s > DAY_S / 2 - 3_600) & (day.at_s <= DAY_S / 2)].mean()
    higher = np.flatnonzero(outcome.price[noon:] >= 1.5 * before)
    return int(higher[0]) if len(higher) else len(day.gain) - noon


def told_at_noon(day: Day, limit: int, *, known: float) -> Outcome:
    """A fixed price until noon, then the best one for the rest of the day and of the money."""
    noon = int(np.searchsorted(day.at_s, DAY_S / 2))
    rest = Day(day.at_s[noon:], day.gain[noon:], day.micros[noon:], day.worst[noon:])
    later: list[float] = []

    def price_at(index: int, spent: int) -> float:
        if index < noon:
            return known
        if not later:
            later.append(optimum(rest, limit - spent)[1])
        return later[0]

    return priced(day, limit, price_at)


def one_seed(
    kind: str, seed: int, args: argparse.Namespace, *, heavy: bool
) -> list[dict[str, Any]]:
    """All policies on one draw of days; a row for each policy and each of the two days reported."""
    rng = np.random.default_rng((seed, KINDS.index(kind), heavy))
    last = args.days - 1
    days = [make_day(rng, kind, args.calls, last=n == last, heavy=heavy) for n in range(args.days)]
    if args.exact_holds:
        days = [replace(day, worst=day.micros) for day in days]
    limit = int(LIMIT_SHARE * np.mean([day.micros.sum() for day in days[:last]]))
    shop = Paceable(limit, processes=args.processes, pacing=Pacing())
    rows = []
    for number, day in enumerate(days):
        paced = shop.route(day, number, rng)
        if number not in (0, last):
            continue
        best, price = optimum(day, limit)
        outcomes = {"paced": paced, "first come": priced(day, limit, lambda *_: 0.0)}
        outcomes["hindsight"] = priced(day, limit, lambda *_, fixed=price: fixed)
        if number:
            known = optimum(days[number - 1], limit)[1]
            outcomes["yesterday"] = priced(day, limit, lambda *_, fixed=known: fixed)
            outcomes["additive"] = additive(day, limit, start=known, good_price=known)
            if kind == "surge":
                outcomes["told at noon"] = told_at_noon(day, limit, known=known)
        else:
            outcomes["additive"] = additive(day, limit, start=0.0, good_price=price)
        for policy, outcome in outcomes.items():
            spent = outcome.spent(day)
            end, best_end = end_shares(day, outcome, price)
            half = outcome.price[len(outcome.price) // 2 :]
            rows.append(
                {
                    "kind": kind,
                    "policy": policy,
                    "day": "learnt" if number else "cold",
                    "seed": seed,
                    "quality": outcome.quality(day) / best,
                    "equal_spend": outcome.quality(day) / max(optimum(day, spent)[0], 1e-9),
                    "spent": spent / limit,
                    "end": end,
                    "best_end": best_end,
                    "wobble": float(np.std(np.log(half[half > 0]))) if (half > 0).any() else 0.0,
                    "absorbed": absorbed_after(day, outcome, limit) if kind == "surge" else None,
                    "reacted": reacted_after(day, outcome) if kind == "surge" else None,
                }
            )
    return rows


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean and the half width of its 95 % interval."""
    array = np.asarray(values, float)
    half = 1.96 * array.std(ddof=1) / math.sqrt(len(array)) if len(array) > 1 else 0.0
    return float(array.mean()), float(half)


def show(rows: list[dict[str, Any]]) -> None:
    print(
        "| traffic | day | policy | quality / optimum | at equal spend | worst | spent | "
        "bought in the last tenth (optimum) | wobble |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for kind in KINDS:
        for day in ("cold", "learnt"):
            for policy in POLICIES:
                mine = [
                    r for r in rows if (r["kind"], r["day"], r["policy"]) == (kind, day, policy)
                ]
                if not mine:
                    continue
                mean, half = interval([r["quality"] for r in mine])
                equal, _ = interval([r["equal_spend"] for r in mine])
                spent, end, best_end, wobble = (
                    float(np.mean([r[name] for r in mine]))
                    for name in ("spent", "end", "best_end", "wobble")
                )
                worst = min(r["quality"] for r in mine)
                print(
                    f"| {kind} | {day} | {policy} | {100 * mean:.1f} ± {100 * half:.1f} | "
                    f"{100 * equal:.1f} | {100 * worst:.1f} | {100 * spent:.1f} % | "
                    f"{100 * end:.0f} % ({100 * best_end:.0f} %) | {wobble:.2f} |"
                )
    surge = [r for r in rows if r["absorbed"] is not None and r["day"] == "learnt"]
    for policy in ("paced", "additive"):
        for what in ("reacted", "absorbed"):
            calls = [r[what] for r in surge if r["policy"] == policy]
            if calls:
                print(
                    f"surge, {policy}: {what} after {np.median(calls):.0f} calls (median), "
                    f"{max(calls)} at most"
                )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--calls", type=int, default=4_000)
    parser.add_argument("--days", type=int, default=4)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--heavy", action="store_true", help="answers of a Pareto length")
    parser.add_argument("--exact-holds", action="store_true", help="hold what calls really cost")
    parser.add_argument("--kinds", nargs="+", default=KINDS, choices=KINDS)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    rows = [
        row
        for kind in args.kinds
        for seed in range(args.seeds)
        for row in one_seed(kind, seed, args, heavy=args.heavy)
    ]
    show(rows)
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
