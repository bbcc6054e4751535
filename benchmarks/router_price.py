"""What the price in the rule is worth: quality at equal spend, on MMLU-Pro.

A day of held-out questions arrives in random order, and there is money for a part of what the cloud
would cost on all of them (USD 1.25 and 5 per million tokens, four characters a token; the length of
the cloud's answer is foreseen from the question). The policies see the same foreseen gains:

- first come:    cloud wherever the gain is above 0, until the money is gone: no price;
- one threshold: cloud wherever the gain is above one value, the best one in hindsight: no price
                 either, but as well placed as it can be;
- live price:    the budget's own pacing (`Pacing()`, as in `pacing.py`), which learns its price
                 while the day goes on, from nothing;
- best price:    gain / cost above one value, the best one in hindsight.

Quality is what was really answered right; the figure is the share of the gap between always-edge
and always-cloud that it makes up for.
"""

from __future__ import annotations

import heapq
from dataclasses import replace
from pathlib import Path
from statistics import mean, pstdev
from typing import Any

import numpy as np
from pacing import DAY_S, LATENCY_S, Day, Paceable

from langchain_hybridflow.budget import Amounts, Denial
from langchain_hybridflow.budget.pacing import Pacing
from langchain_hybridflow.learning import Dataset, TrainingSettings, read_table, train
from langchain_hybridflow.routing import RouteRequest

SHARES = (0.1, 0.2, 0.3, 0.5)
CHARS_A_TOKEN = 4
INPUT_MICROS, OUTPUT_MICROS = 1.25, 5.0
POLICIES = ("first come", "one threshold", "live price", "best price")


def priced(path: Path) -> Dataset:
    """Return the outcomes with what the cloud's answers cost, in USD."""
    columns = read_table(path)
    prompt, answer = (
        np.array([float(length) for length in lengths]) / CHARS_A_TOKEN
        for lengths in (map(len, columns["question"]), columns["strong_answer_chars"])
    )
    micros = INPUT_MICROS * prompt + OUTPUT_MICROS * answer
    return replace(
        Dataset.from_rows(columns | {"cloud_usd": (micros * 1e-6).tolist()}), answer_chars=None
    )


def price(path: Path, seeds: int) -> list[dict[str, Any]]:
    """Route a day of held-out questions by every policy, for several limits."""
    from router import split

    data = priced(path)
    found: dict[tuple[float, str], list[tuple[float, float]]] = {}
    for seed in range(seeds):
        rows, held = split(data, seed)
        predictor, _ = train(rows, settings=TrainingSettings(models=("forest",)))
        order = np.random.default_rng(seed).permutation(len(held))
        day, real, won = day_of(predictor, held.take(order), seed)
        for share in SHARES:
            limit = int(share * real.sum())
            for policy, bought in policies(day, real, limit).items():
                gap = float(won[bought].sum() / won.sum())
                spent = float(real[bought].sum() / limit)
                found.setdefault((share, policy), []).append((gap, spent))
    lines = [
        {
            "share": share,
            "policy": policy,
            "recovered": mean(gap for gap, _ in runs),
            "spread": pstdev(gap for gap, _ in runs),
            "spent": mean(spent for _, spent in runs),
        }
        for (share, policy), runs in found.items()
    ]
    for line in lines:
        print(line, flush=True)
    return lines


def day_of(predictor: Any, held: Dataset, seed: int) -> tuple[Day, Any, Any]:
    """Return a day of foreseen gains and costs, what it really costs, and what the cloud wins."""
    gains = predictor.foresee(held.questions, structure=held.structure).gain
    requests = [RouteRequest(text=text) for text in held.questions]
    foreseen = predictor.amounts(requests)["cloud_usd"] * 1e6
    at_s = np.sort(np.random.default_rng(seed).random(len(held))) * DAY_S
    expected, worst = (np.ceil(foreseen[:, column]).astype(np.int64) for column in (0, 1))
    real = np.ceil(held.costs["cloud_usd"] * 1e6).astype(np.int64)
    day = Day(at_s, gains, expected, np.maximum(worst, real))
    return day, real, held.cloud - held.edge


def policies(day: Day, real: Any, limit: int) -> dict[str, Any]:
    """Return which questions each policy sends to the cloud, never beyond the limit."""
    live = Paceable(limit, processes=1, pacing=Pacing())
    ratio = day.gain / np.maximum(day.micros, 1)
    return {
        "first come": within(real, day.gain > 0, limit),
        "one threshold": within(real, top(day.gain, real, limit), limit),
        "live price": bought_live(live, day, real),
        "best price": within(real, top(ratio, real, limit), limit),
    }


def top(scores: Any, real: Any, limit: int) -> Any:
    """Return the highest scores that the limit pays for."""
    order = np.argsort(-scores, kind="stable")
    chosen = np.zeros(len(scores), bool)
    chosen[order[np.cumsum(real[order]) <= limit]] = True
    return chosen & (scores > 0)


def within(real: Any, chosen: Any, limit: int) -> Any:
    """Return the chosen questions in their order until the money is gone."""
    bought, spent = np.zeros(len(real), bool), 0
    for index in np.flatnonzero(chosen):
        if spent + real[index] <= limit:
            bought[index] = True
            spent += int(real[index])
    return bought


def bought_live(shop: Paceable, day: Day, real: Any) -> Any:
    """Route by the live price: decided by foreseen costs, held at worst ones, paid by real ones."""
    bought = np.zeros(len(real), bool)
    for index, at_s in enumerate(day.at_s):
        shop.settle(at_s)
        shop.clock.advance(max(0.0, at_s - shop.clock()))
        per_micro, account = shop.price(shop.pacers[0])
        if day.gain[index] <= per_micro * day.micros[index]:
            continue
        worst = Amounts(usd_micros=int(day.worst[index]), cloud_calls=1)
        answer = shop.ledger.reserve(str(index), worst, accounts=[account], ttl_s=600)
        if not isinstance(answer, Denial):
            bought[index] = True
            heapq.heappush(shop.open, (at_s + LATENCY_S, str(index), int(real[index])))
    return bought
