"""What is lost by deciding subtask by subtask, compared with the whole plan, and with hindsight.

    python benchmarks/decision.py [--plans 400] [--seed 0] [--json FILE]

Random plans of 3 to 20 subtasks (a DAG; gains, costs and times drawn at random) each have a limit
in USD that pays for 30 % of what they would cost in the cloud. The true gain of a subtask is known
only in hindsight; policies see a prediction of it, exact or noisy. Policies:
- price:      `UtilityRouter.route`, one subtask after the other as they become ready, at the price
              that was best on other plans;
- plan:       `UtilityRouter.route_plan`, the exact knapsack of what is predicted;
- first come: every subtask goes to the cloud until the limit is reached;
- random:     the same in random order;
- hindsight:  the exact knapsack of the true gains; by definition 1.
The figure is the value that a policy gets over that of hindsight, summed over all plans, with the
95 % interval of the bootstrap. In the second table one limit of 30 % holds for all plans together,
each rule has the price at which it spent the limit on other plans, and hindsight is the Lagrangian
bound, which no policy can pass. Value is the gain in quality, and with `delay` less 0.01 quality
a second of makespan beyond the makespan of the edge alone.
The last table is how long `knapsack.select` takes, and how often it proves that it is right.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from statistics import quantiles
from typing import Any

from langchain_hybridflow.budget import Amounts, BudgetSnapshot, Limits
from langchain_hybridflow.budget.snapshot import Gauge
from langchain_hybridflow.plan import Plan, Role, Subtask, slack
from langchain_hybridflow.routing import Prediction, RouteRequest, UtilityRouter
from langchain_hybridflow.routing.knapsack import Item, makespan, select

LIMIT_SHARE = 0.3
PRICE_PER_S = 0.01
PRICES = [0.0, *(10 * 1.25**step for step in range(40))]


@dataclass(frozen=True)
class Case:
    """A plan, what is true of it, and what is foreseen."""

    plan: Plan
    items: tuple[Item, ...]  # with the true gains
    foreseen: Mapping[str, Prediction]
    critical: Mapping[str, bool]
    limit_micros: int
    edge_makespan_s: float

    def value(self, cloud: frozenset[str] | set[str], per_s: float) -> float:
        times = [one.cloud_s if one.id in cloud else one.edge_s for one in self.items]
        late = makespan(self.items, times) - self.edge_makespan_s
        return sum(one.gain for one in self.items if one.id in cloud) - per_s * late

    def spent(self, cloud: set[str]) -> int:
        return sum(one.cost.usd_micros for one in self.items if one.id in cloud)


def random_plan(draw: random.Random, size: int) -> Plan:
    steps = [Subtask(id="1", task="?", role=Role.EXPLAIN)]
    for place in range(2, size):
        known = [str(one) for one in range(1, place)]
        parents = draw.sample(known, min(len(known), draw.choice([1, 1, 1, 2, 3])))
        steps.append(Subtask(id=str(place), task="?", depends_on=parents))
    waited_for = {parent for step in steps for parent in step.depends_on}
    ends = [step.id for step in steps if step.id not in waited_for]
    steps.append(Subtask(id=str(size), task="?", role=Role.GENERATE, depends_on=ends))
    return Plan(subtasks=steps)


def random_case(draw: random.Random, size: int, noise: float) -> Case:
    plan = random_plan(draw, size)
    items: list[Item] = []
    foreseen: dict[str, Prediction] = {}
    for one in plan.order:
        edge = draw.betavariate(2, 2)
        cloud = min(1.0, max(0.0, edge + draw.gauss(0.2, 0.25)))
        tokens = round(draw.lognormvariate(6.0, 0.7))
        times = {"edge": 0.5 + tokens * 0.004, "cloud": 1.0 + tokens * 0.008}
        cost = Amounts(usd_micros=10 * tokens, cloud_tokens=tokens, cloud_calls=1)
        items.append(
            Item(
                id=one,
                gain=cloud - edge,
                cost=cost,
                edge_s=times["edge"],
                cloud_s=times["cloud"],
                depends_on=plan[one].depends_on,
            )
        )
        seen = min(1.0, max(0.0, cloud + draw.gauss(0, noise)))
        foreseen[one] = Prediction(edge_quality=edge, cloud_quality=seen, seconds=times)
    alone = {one.id: one.edge_s for one in items}
    total = sum(one.cost.usd_micros for one in items)
    return Case(
        plan=plan,
        items=tuple(items),
        foreseen=foreseen,
        critical={one: spare == 0 for one, spare in slack(plan, alone).items()},
        limit_micros=int(LIMIT_SHARE * total),
        edge_makespan_s=makespan(items, [one.edge_s for one in items]),
    )


class Foretelling:
    """Knows the predictions of one case by heart."""

    def __init__(self, case: Case) -> None:
        self.case = case

    def predict(self, requests: Sequence[RouteRequest]) -> list[Prediction]:
        return [self.case.foreseen[str(one.subtask_id)] for one in requests]


def request(case: Case, item: Item, spent: int, price: float) -> RouteRequest:
    usd = Gauge(Decimal(spent) / 10**6, Decimal(0), Decimal(case.limit_micros) / 10**6)
    return RouteRequest(
        text="?",
        subtask_id=item.id,
        on_critical_path=case.critical[item.id],
        expected_cost_usd={"edge": Decimal(0), "cloud": item.cost.usd},
        budget=BudgetSnapshot(usd=usd, shadow_price=price),
    )


def by_price(case: Case, price: float, per_s: float) -> set[str]:
    weight = per_s / price if price else 0.0
    router = UtilityRouter(Foretelling(case), delay_weight_usd_per_s=weight)
    cloud: set[str] = set()
    for item in case.items:
        spent = case.spent(cloud)
        fits = spent + item.cost.usd_micros <= case.limit_micros
        if fits and router.route(request(case, item, spent, price)).tier == "cloud":
            cloud.add(item.id)
    return cloud


def by_plan(case: Case, per_s: float) -> set[str]:
    # A price so low that money counts for nothing beside the limit, and time at its full price.
    price = 1e-6 if per_s else 0.0
    weight = per_s / price if price else 0.0
    router = UtilityRouter(Foretelling(case), delay_weight_usd_per_s=weight)
    asked = {one.id: request(case, one, 0, price) for one in case.items}
    decisions = router.route_plan(case.plan, asked)
    return {one for one, decision in decisions.items() if decision.tier == "cloud"}


def in_turn(case: Case, items: Sequence[Item]) -> set[str]:
    cloud: set[str] = set()
    for item in items:
        if case.spent(cloud) + item.cost.usd_micros <= case.limit_micros:
            cloud.add(item.id)
    return cloud


def in_hindsight(case: Case, per_s: float) -> frozenset[str]:
    limits = Limits(usd=Decimal(case.limit_micros) / 10**6)
    return select(case.items, limits=limits, price_per_s=per_s).cloud


def best_price(cases: Sequence[Case], per_s: float) -> float:
    prices = PRICES[1:] if per_s else PRICES
    return max(
        prices,
        key=lambda price: sum(case.value(by_price(case, price, per_s), per_s) for case in cases),
    )


def ratio(values: Sequence[float], best: Sequence[float], draw: random.Random) -> dict[str, float]:
    count = len(values)
    shares = []
    for _ in range(1_000):
        places = draw.choices(range(count), k=count)
        shares.append(sum(values[one] for one in places) / sum(best[one] for one in places))
    cuts = quantiles(shares, n=40)
    return {"ratio": sum(values) / sum(best), "low": cuts[0], "high": cuts[-1]}


def compare(plans: int, sizes: tuple[int, int], noise: float, per_s: float, seed: int) -> Any:
    draw = random.Random(f"{seed}/{sizes}/{noise}/{per_s}")
    train = [random_case(draw, draw.randint(*sizes), noise) for _ in range(max(plans // 4, 20))]
    cases = [random_case(draw, draw.randint(*sizes), noise) for _ in range(plans)]
    price = best_price(train, per_s)
    policies: dict[str, Callable[[Case], set[str]]] = {
        "price": lambda case: by_price(case, price, per_s),
        "plan": lambda case: by_plan(case, per_s),
        "first come": lambda case: in_turn(case, case.items),
        "random": lambda case: in_turn(case, draw.sample(case.items, len(case.items))),
    }
    best = [case.value(in_hindsight(case, per_s), per_s) for case in cases]
    found: dict[str, Any] = {}
    for name, policy in policies.items():
        chosen = [policy(case) for case in cases]
        for case, cloud in zip(cases, chosen, strict=True):
            assert case.spent(cloud) <= case.limit_micros, "a limit was passed"
        values = [case.value(cloud, per_s) for case, cloud in zip(cases, chosen, strict=True)]
        found[name] = ratio(values, best, draw)
    return found


def compare_shared(plans: int, noise: float, per_s: float, seed: int) -> dict[str, float]:
    """One limit for all plans: the value of both rules over the bound of hindsight."""
    draw = random.Random(f"shared/{seed}/{noise}/{per_s}")
    halves = [[random_case(draw, draw.randint(4, 12), noise) for _ in range(plans)] for _ in "ab"]
    train, cases = halves
    limit = sum(case.limit_micros for case in cases)

    def choose(case: Case, price: float, rule: str) -> set[str]:
        weight = per_s / price if price else 0.0
        router = UtilityRouter(Foretelling(case), delay_weight_usd_per_s=weight)
        free = replace(case, limit_micros=10**9)
        asked = {one.id: request(free, one, 0, price) for one in case.items}
        if rule == "plan":
            found = dict(router.route_plan(case.plan, asked))
        else:
            found = {one: router.route(asked[one]) for one in asked}
        return {one for one, decision in found.items() if decision.tier == "cloud"}

    found: dict[str, float] = {}
    for rule in ("price", "plan"):

        def spent_by(price: float, rule: str = rule) -> int:
            return sum(case.spent(choose(case, price, rule)) for case in train)

        low, price = 1.0, 1e5
        while price / low > 1.002:
            middle = (low * price) ** 0.5
            low, price = (low, middle) if spent_by(middle) <= limit else (middle, price)
        left, value = limit, 0.0
        for case in cases:
            cloud = choose(case, price, rule)
            cloud = cloud if case.spent(cloud) <= left else set()
            left -= case.spent(cloud)
            value += case.value(cloud, per_s)
        found[rule] = value
    bound = min(
        sum(
            select(case.items, price_per_usd=price, price_per_s=per_s).value
            + per_s * case.edge_makespan_s
            for case in cases
        )
        + price * limit * 1e-6
        for price in PRICES
    )
    return {rule: value / bound for rule, value in found.items()}


def timings(seed: int) -> list[dict[str, Any]]:
    rows = []
    for size in (6, 10, 15, 20):
        for per_s in (0.0, PRICE_PER_S):
            draw = random.Random(f"{seed}/{size}")
            took, proved = [], 0
            for _ in range(60):
                case = random_case(draw, size, 0.0)
                limits = Limits(usd=Decimal(case.limit_micros) / 10**6)
                begun = time.perf_counter()
                found = select(case.items, limits=limits, price_per_s=per_s)
                took.append(time.perf_counter() - begun)
                proved += found.optimal
            took.sort()
            rows.append(
                {
                    "subtasks": size,
                    "delay": bool(per_s),
                    "p50_ms": 1e3 * took[30],
                    "max_ms": 1e3 * took[-1],
                    "proved": proved / 60,
                }
            )
    return rows


def hard_items(draw: random.Random) -> list[Item]:
    """Subtasks that promise as much per USD as one another, in even micro-USD: hard to prove."""
    costs = [2 * draw.randint(1_000, 9_000) for _ in range(20)]
    return [
        Item(id=str(place), gain=1e-5 * cost, cost=Amounts(usd_micros=cost))
        for place, cost in enumerate(costs)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--plans", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    results = []
    print(
        "sizes  noise delay  "
        + "".join(f"{name:>24}" for name in ("price", "plan", "first come", "random"))
    )
    for sizes in ((4, 7), (8, 20)):
        for noise in (0.0, 0.2):
            for per_s in (0.0, PRICE_PER_S):
                found = compare(options.plans, sizes, noise, per_s, options.seed)
                results.append({"sizes": sizes, "noise": noise, "delay": bool(per_s)} | found)
                cells = (
                    f"{one['ratio']:.3f} ({one['low']:.3f}..{one['high']:.3f})"
                    for one in found.values()
                )
                head = f"{sizes[0]}-{sizes[1]:<4} {noise:<5} {'yes' if per_s else 'no':<5}"
                print(head + "".join(f"{cell:>24}" for cell in cells), flush=True)
    print("\none limit for all plans\nnoise delay   price    plan")
    shared = []
    for noise in (0.0, 0.2):
        for per_s in (0.0, PRICE_PER_S):
            one = compare_shared(options.plans, noise, per_s, options.seed)
            shared.append({"noise": noise, "delay": bool(per_s)} | one)
            print(
                f"{noise:<5} {'yes' if per_s else 'no':<5} {one['price']:>7.3f} {one['plan']:>7.3f}"
            )
    rows = timings(options.seed)
    print("\nsubtasks delay   p50 ms   max ms  proved")
    for row in rows:
        print(
            f"{row['subtasks']:>8} {'yes' if row['delay'] else 'no':<5} {row['p50_ms']:>8.2f} "
            f"{row['max_ms']:>8.2f}  {row['proved']:.0%}"
        )
    hard = hard_items(random.Random(options.seed))
    half = sum(one.cost.usd_micros for one in hard) // 4 * 2 + 1  # odd: it cannot be spent
    begun = time.perf_counter()
    found = select(hard, limits=Limits(usd=Decimal(half) / 10**6))
    took, left = time.perf_counter() - begun, half - found.cost.usd_micros
    print(
        f"20 subtasks of one density: {1e3 * took:.0f} ms, proved: {found.optimal}, "
        f"{left} of {half:,} micro-USD left"
    )
    if options.json:
        options.json.write_text(
            json.dumps({"ratios": results, "shared": shared, "timings": rows}, indent=2)
        )


if __name__ == "__main__":
    main()
