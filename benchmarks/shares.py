"""What a cap on the share of cloud calls costs each prompt, on each store.

    python -m benchmarks.shares [--prompts 400] [--rounds 5]

It starts throw-away servers itself (redis-server, PostgreSQL), and leaves out what is missing. One
worker answers prompts by turns, with and without a cap, on the same store: by the edge, which is
free, and by the cloud, which is reserved and booked. Figures are medians of a prompt, and of the
rounds.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from langchain_hybridflow import Budget
from langchain_hybridflow.budget import Amounts, Ledger, MemoryLedger
from langchain_hybridflow.budget.stores.opening import open_ledger

CLOUD, EDGE = Amounts(usd_micros=700, cloud_tokens=100, cloud_calls=1), Amounts()


@contextmanager
def ledgers() -> Iterator[dict[str, Ledger]]:
    """A fresh ledger on each store that is there."""
    from tests.integration.postgres_server import postgres_binaries, running_postgres
    from tests.integration.redis_server import RedisServer

    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        found: dict[str, Ledger] = {
            "memory": MemoryLedger(),
            "SQLite": open_ledger(f"sqlite:///{folder}/budget.db"),
        }
        if shutil.which("redis-server"):
            redis = stack.enter_context(RedisServer(folder))
            found["Redis"] = open_ledger(redis.url)
        if (binaries := postgres_binaries()) is not None:
            postgres = stack.enter_context(running_postgres(binaries))
            found["PostgreSQL"] = open_ledger(postgres.url)
        for ledger in found.values():
            stack.callback(ledger.close)
        yield found


def median_us(budget: Budget, amounts: Amounts, prompts: int) -> float:
    """The median time of a prompt."""
    took: list[float] = []
    for _ in range(prompts):
        run = budget.start_run()
        begin = time.perf_counter()
        lease = run.reserve("call/0", amounts)
        run.commit(lease, amounts)
        took.append(time.perf_counter() - begin)
    return statistics.median(took) * 1e6


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    print("| Store | Edge, no cap | Edge, capped | Cloud, no cap | Cloud, capped |")
    print("|---|---|---|---|---|")
    with ledgers() as found:
        for name, ledger in found.items():
            plain = Budget(limit_usd=10**6, ledger=ledger, name="plain")
            capped = Budget(limit_usd=10**6, max_cloud_share=1, ledger=ledger, name="capped")
            ways = [(budget, cost) for cost in (EDGE, CLOUD) for budget in (plain, capped)]
            rounds = [
                [median_us(budget, cost, options.prompts) for budget, cost in ways]
                for _ in range(options.rounds)
            ]
            cells = [f"{statistics.median(column):,.0f} us" for column in zip(*rounds, strict=True)]
            print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
