"""How soon the online router finds out that the cloud is another model now, and what trying costs.

    python benchmarks/online.py [--seeds 10] [--calls 1000] [--json FILE]

A world of questions of nine levels; each tier is right with a probability that falls with the
level. The predictor knows that world by heart. Then the cloud is swapped for a worse one, or for a
better one, and the predictor knows nothing of it; each answer is rewarded with right or wrong.
The figures are shares of the calls that went where they were worth more at a price of 0.1 quality a
cloud call, by hundreds of calls after the swap; and what they gained (quality less the price) over
what could be gained by knowing all. "Frozen" is the router without feedback.
"""

from __future__ import annotations

import argparse
import json
import random
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from statistics import fmean
from typing import Any

from langchain_hybridflow.budget import BudgetSnapshot
from langchain_hybridflow.learning.online import CONTEXT, OnlineRouter
from langchain_hybridflow.learning.online_store import MemoryOnlineStore
from langchain_hybridflow.routing import Prediction, RouteRequest, Tier

PRICE, USD = 100.0, Decimal("0.001")
STEP = 100


def good_cloud(level: int) -> dict[Tier, float]:
    return {"edge": 0.9 - 0.08 * level, "cloud": 0.9 - 0.02 * level}


def bad_cloud(level: int) -> dict[Tier, float]:
    return {"edge": 0.9 - 0.08 * level, "cloud": 0.35 - 0.02 * level}


WORLDS = {"good": good_cloud, "bad": bad_cloud}


@dataclass
class Knowing:
    """Knows a world by heart."""

    world: str

    def predict(self, requests: list[RouteRequest]) -> list[Prediction]:
        found = [WORLDS[self.world](one.difficulty or 5) for one in requests]
        return [Prediction(edge_quality=one["edge"], cloud_quality=one["cloud"]) for one in found]


def run(options: dict[str, Any], swap: tuple[str, str], calls: int, seed: int) -> dict[str, Any]:
    before, after = swap
    learns = options.get("learns", True)
    store = MemoryOnlineStore(context_size=len(CONTEXT), discount=options.get("discount", 0.995))
    strategy = options.get("strategy", "thompson")
    router = OnlineRouter(Knowing(before), store=store, strategy=strategy, seed=seed)
    draw = random.Random(seed)
    right, gained, possible, tried = [], [], [], 0
    for number in range(2 * calls):
        level = draw.randint(1, 9)
        quality = WORLDS[before if number < calls else after](level)
        request = RouteRequest(
            text=f"question {number}",
            difficulty=level,
            expected_cost_usd={"edge": Decimal(0), "cloud": USD},
            budget=BudgetSnapshot(shadow_price=PRICE),
        )
        decision = router.route(request)
        worth = {"edge": quality["edge"], "cloud": quality["cloud"] - PRICE * float(USD)}
        right.append(worth[decision.tier] == max(worth.values()))
        gained.append(worth[decision.tier])
        possible.append(max(worth.values()))
        tried += "tried out" in decision.reason
        if learns:
            router.feedback(
                str(decision.decision_id), float(draw.random() < quality[decision.tier])
            )
    return {
        "before": fmean(right[calls // 2 : calls]),
        "after": [fmean(right[at : at + STEP]) for at in range(calls, 2 * calls, STEP)],
        "gained_before": sum(gained[:calls]) / sum(possible[:calls]),
        "gained_after": sum(gained[calls:]) / sum(possible[calls:]),
        "tried": tried / (2 * calls),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--calls", type=int, default=1_000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    routers: dict[str, dict[str, Any]] = {
        "thompson, 0.995": {},
        "linucb, 0.995": {"strategy": "linucb"},
        "thompson, 0.99": {"discount": 0.99},
        "thompson, 0.998": {"discount": 0.998},
        "thompson, 1": {"discount": 1.0},
        "frozen": {"learns": False},
    }
    results = []
    for swap in (("good", "bad"), ("bad", "good")):
        print(f"\nthe cloud was {swap[0]} and is {swap[1]}")
        print("router           before  after 100, 200, ...   gained before, after   tried out")
        for name, settings in routers.items():
            runs = [run(settings, swap, options.calls, seed) for seed in range(options.seeds)]
            after = [fmean(one["after"][at] for one in runs) for at in range(len(runs[0]["after"]))]
            mean = {key: fmean(one[key] for one in runs) for key in runs[0] if key != "after"}
            results.append({"swap": swap, "router": name, "after": after} | mean)
            print(
                f"{name:<16} {mean['before']:.2f}    {' '.join(f'{one:.2f}' for one in after)}"
                f"   {mean['gained_before']:.3f} {mean['gained_after']:.3f}   {mean['tried']:.3f}",
                flush=True,
            )
    if options.json:
        options.json.write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
