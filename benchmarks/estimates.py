"""What a learned estimate of answer lengths risks, and what it frees.

    python benchmarks/estimates.py [--answers 20000] [--seeds 10] [--json FILE]

For several kinds of answers, at quantile 0.95: how many answers are longer than was reserved for
them, and how much is held of what the strict estimate (the cap) holds. Then limits are spent with
k calls open at a time: how far each is passed, beside what `LearnedEstimate` states,
k * (cap - reservation); and how much of the limit is spent when a call is refused for the first
time, because what is open holds the rest.
"""

from __future__ import annotations

import argparse
import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from langchain_hybridflow.budget import Account, Amounts, Denial, Limits, MemoryLedger
from langchain_hybridflow.budget.estimates import Estimator, LearnedEstimate, StrictEstimate

CAP = 4_096
QUANTILE = 0.95
PARALLEL = (1, 8, 64)
LIMIT = 100_000  # tokens: some 200 answers
WARM_UP = 500  # answers that the estimate has seen before
NAME = {"tier": "cloud", "model": "m"}

Lengths = NDArray[np.int64]


def lognormal(rng: np.random.Generator, count: int) -> Lengths:
    return rng.lognormal(5.8, 0.8, count).astype(np.int64)


def pareto(rng: np.random.Generator, count: int) -> Lengths:
    return (120 * (1 + rng.pareto(1.3, count))).astype(np.int64)


def two_kinds(rng: np.random.Generator, count: int) -> Lengths:
    """One answer in twelve is a long text: rarer than most, but not rarer than one in twenty."""
    long = rng.random(count) < 1 / 12
    return np.where(long, rng.normal(2_500, 300, count), rng.normal(180, 40, count)).astype(
        np.int64
    )


def drifting(rng: np.random.Generator, count: int) -> Lengths:
    """Answers get four times as long in the course of the trace: what no quantile foresees."""
    return (rng.lognormal(5.2, 0.6, count) * np.geomspace(1, 4, count)).astype(np.int64)


KINDS: dict[str, Callable[[np.random.Generator, int], Lengths]] = {
    "lognormal": lognormal,
    "Pareto 1.3": pareto,
    "two kinds": two_kinds,
    "drifting": drifting,
}


def clipped(lengths: Lengths) -> list[int]:
    return [int(length) for length in np.clip(lengths, 1, CAP)]


def one_by_one(lengths: list[int]) -> dict[str, float]:
    """Estimate each answer before it is observed."""
    estimate, above, held = LearnedEstimate(QUANTILE), 0, 0
    for length in lengths:
        reserved = estimate.output_tokens(CAP, **NAME)
        above += length > reserved
        held += reserved
        estimate.observe(length, **NAME)
    return {"above": above / len(lengths), "held": held / (CAP * len(lengths))}


def episode(estimate: Estimator, lengths: Iterator[int], parallel: int) -> dict[str, float] | None:
    """Spend one limit with up to `parallel` calls open; `None` if the answers run out.

    When a call is refused, the oldest open one is waited for; the end is when none is open.
    """
    ledger = MemoryLedger()
    account = Account("a", "budget", Limits(cloud_tokens=LIMIT))
    open_calls: deque[tuple[str, int]] = deque()
    stated, at_first_refusal, number = 0, None, 0

    def settle() -> None:
        lease_id, used = open_calls.popleft()
        ledger.commit(lease_id, Amounts(cloud_tokens=used))
        estimate.observe(used, **NAME)

    for number, length in enumerate(lengths):
        if len(open_calls) == parallel:
            settle()
        reserved = estimate.output_tokens(CAP, **NAME)
        hold = Amounts(cloud_tokens=reserved)
        while isinstance(ledger.reserve(str(number), hold, accounts=[account], ttl_s=60), Denial):
            used = ledger.snapshot([account])[0].used.cloud_tokens
            at_first_refusal = used if at_first_refusal is None else at_first_refusal
            if not open_calls:
                over = max(0, used - LIMIT)
                return {"over": over, "stated": stated, "at_first_refusal": at_first_refusal}
            settle()
        open_calls.append((str(number), length))
        stated = max(stated, parallel * (CAP - reserved))
    return None


def episodes(estimate: Estimator, lengths: list[int], parallel: int) -> list[dict[str, float]]:
    """Spend one limit after the other; the estimate has seen the first answers."""
    for length in lengths[:WARM_UP]:
        estimate.observe(length, **NAME)
    rest = iter(lengths[WARM_UP:])
    return list(iter(lambda: episode(estimate, rest, parallel), None))


def percent(values: Iterable[float], of: float) -> str:
    values = [100 * value / of for value in values]
    return f"{np.mean(values):.2f} / {max(values):.1f} %"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--answers", type=int, default=20_000)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    rows: list[dict[str, Any]] = []
    traces: dict[str, list[list[int]]] = {
        kind: [
            clipped(draw(np.random.default_rng((seed, number)), args.answers))
            for seed in range(args.seeds)
        ]
        for number, (kind, draw) in enumerate(KINDS.items())
    }
    print("| answers | longer than reserved | held, of the cap |")
    print("|---|---|---|")
    for kind, lengths in traces.items():
        single = [one_by_one(trace) for trace in lengths]
        above = [100 * row["above"] for row in single]
        held = 100 * np.mean([row["held"] for row in single])
        print(f"| {kind} | {np.mean(above):.2f} % (at most {max(above):.2f}) | {held:.0f} % |")
        rows.append({"kind": kind, "above": above, "held": held})
    print("\n| answers | open at once | limits spent | passed by, mean / worst | stated | ", end="")
    print("spent at the first refusal, learned | strict |")
    print("|---|---|---|---|---|---|---|")
    for kind, lengths in traces.items():
        for k in PARALLEL:
            learned = [e for t in lengths for e in episodes(LearnedEstimate(QUANTILE), t, k)]
            strict = [e for t in lengths for e in episodes(StrictEstimate(), t, k)]
            assert not any(each["over"] for each in strict)
            firsts = [
                100 * np.mean([each["at_first_refusal"] for each in group]) / LIMIT
                for group in (learned, strict)
            ]
            stated = 100 * max(each["stated"] for each in learned) / LIMIT
            over = percent((each["over"] for each in learned), LIMIT)
            print(f"| {kind} | {k} | {len(learned)} | {over} | {stated:.0f} % | ", end="")
            print(f"{firsts[0]:.0f} % | {firsts[1]:.0f} % |")
            rows.append({"kind": kind, "parallel": k, "episodes": learned})
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
