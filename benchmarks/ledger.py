"""What a reserved and booked call costs on each store, and what the store's own cheapest steps do.

    python -m benchmarks.ledger [--seconds 0.5] [--rounds 2] [--past 1000000] [--section FILE]

It starts throw-away servers itself (redis-server, PostgreSQL) and says which stores it leaves out
because a program is missing. `benchmarks/ledger_contenders.py` says who takes part. All ways take
turns within each round, on the same server, with 1 to 64 workers: threads of one process, and
processes. A figure is that of all rounds together; ratios are of one run. What a naive counter has
lost is counted, too: calls that were made and are not in it.

Then the same pair by one worker in a ledger that has seen 10 calls, and in one that remembers
1,000,000 settled ones (written there in bulk, as the ledger would have left them).
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import platform
import shutil
import sqlite3
import statistics
import sys
import tempfile
import threading
import time
from array import array
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import ledger_contenders as contenders
from benchmarks.ledger_contenders import ACCOUNT, Call, Contender
from langchain_hybridflow.budget.stores.opening import open_ledger

LEVELS = (1, 4, 16, 64)
WARM_UP = 20


@dataclass(slots=True)
class Figures:
    """What one way did with one number of workers."""

    seconds: float = 0.0
    took_s: list[float] = field(default_factory=list)
    made: int = 0
    lost: int = 0

    @property
    def per_s(self) -> float:
        return len(self.took_s) / self.seconds

    @property
    def p50_us(self) -> float:
        return self.quantile_us(0.5)

    def quantile_us(self, share: float) -> float:
        """Microseconds within which this share of the calls was done."""
        ordered = sorted(self.took_s)
        return ordered[int(share * (len(ordered) - 1))] * 1e6


def work(call: Call, worker: int, first: int, until: float) -> array[float]:
    """Call until then, and note how long each took."""
    took: array[float] = array("d")
    turn, clock = first, time.perf_counter
    begin = clock()
    while begin < until:
        call(worker, turn)
        end = clock()
        took.append(end - begin)
        turn, begin = turn + 1, clock()
    return took


def in_threads(contender: Contender, workers: int, seconds: float) -> Figures:
    """Run it in threads that share what it has opened."""
    call = contender.open()
    start = threading.Barrier(workers + 1)
    done: list[array[float]] = []

    def run(worker: int) -> None:
        for turn in range(WARM_UP):
            call(worker, turn)
        start.wait()
        done.append(work(call, worker, WARM_UP, until[0]))

    until = [0.0]
    threads = [threading.Thread(target=run, args=(worker,)) for worker in range(workers)]
    if contender.counted is not None:
        contender.counted()
    for thread in threads:
        thread.start()
    until[0] = time.perf_counter() + 600.0
    while start.n_waiting < workers:
        time.sleep(0.001)
    until[0] = time.perf_counter() + seconds
    start.wait()
    for thread in threads:
        thread.join()
    return _figures(contender, workers, seconds, done)


def in_processes(contender: Contender, workers: int, seconds: float) -> Figures:
    """Run it in forked processes, each of which opens it for itself."""
    fork = multiprocessing.get_context("fork")
    start, results = fork.Barrier(workers), fork.SimpleQueue()

    def run(worker: int) -> None:
        call = contender.open()
        for turn in range(WARM_UP):
            call(worker, turn)
        start.wait(timeout=120)
        took = work(call, worker, WARM_UP, time.perf_counter() + seconds)
        results.put(took.tobytes())

    if contender.counted is not None:
        contender.counted()
    processes = [fork.Process(target=run, args=(worker,)) for worker in range(workers)]
    for process in processes:
        process.start()
    done = []
    for _ in processes:
        took: array[float] = array("d")
        took.frombytes(results.get())
        done.append(took)
    for process in processes:
        process.join()
    return _figures(contender, workers, seconds, done)


def _figures(
    contender: Contender, workers: int, seconds: float, done: list[array[float]]
) -> Figures:
    took = [one for some in done for one in some]
    made = len(took) + workers * WARM_UP
    lost = 0 if contender.counted is None else made - contender.counted()
    return Figures(seconds, took, made, lost)


Cell = tuple[str, str, int]
"""Way, "threads" or "processes", workers."""


def race(
    field_: Sequence[Contender], *, levels: Sequence[int], seconds: float, rounds: int
) -> dict[Cell, Figures]:
    """Let all ways of a store take turns."""
    found: dict[Cell, Figures] = {}
    modes = {"threads": in_threads, "processes": in_processes}
    for _ in range(rounds):
        for workers in levels:
            for mode, run in modes.items():
                if mode == "processes" and (workers == 1 or field_[0].store == "memory"):
                    continue
                for contender in field_:
                    gc.collect()
                    new = run(contender, workers, seconds)
                    total = found.setdefault((contender.way, mode, workers), Figures())
                    total.seconds += new.seconds
                    total.took_s += new.took_s
                    total.made += new.made
                    total.lost += new.lost
        print(f"  {field_[0].store}: a round is done", file=sys.stderr, flush=True)
    return found


# ------------------------------------------------------------------- many past reservations


def past_in_memory(ledger: Any, count: int) -> None:
    """Really make them: nothing is quicker."""
    call = contenders.pairs(ledger)
    for turn in range(count):
        call(-1, turn)


def past_in_sqlite(path: Path, count: int) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        accounts = '[["team","budget",["1000000000",null,null],[],null]]'
        db.execute(
            "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < :count) "
            "INSERT INTO hybridflow_leases SELECT 'past/' || n, 1, 9000, 900, 1, :accounts, "
            ":now + 600, :now, 2000, 200, 1, 0, 0, 0, 2000, 200, 1 FROM n",
            {"count": count, "accounts": accounts, "now": time.time()},
        )
        db.execute(
            "UPDATE hybridflow_counters SET used_usd = used_usd + :n * 2000, "
            "used_tokens = used_tokens + :n * 200, used_calls = used_calls + :n",
            {"n": count},
        )


def past_in_redis(url: str, count: int) -> None:
    from redis import Redis

    script = """
    for i = tonumber(ARGV[1]), tonumber(ARGV[2]) do
      local id = 'past/' .. i
      redis.call('HSET', KEYS[1], id, 'committed! 2000 200 1')
      redis.call('RPUSH', KEYS[2], ARGV[3] .. ' ' .. id)
    end"""
    keys = [f"hybridflow:{{past}}:{name}" for name in ("settled", "remembered")]
    with closing(Redis.from_url(url)) as client:
        until = round((time.time() + 86_400) * 1_000_000)
        for first in range(1, count + 1, 20_000):
            last = min(first + 19_999, count)
            client.eval(script, 2, *keys, str(first), str(last), str(until))


def past_in_postgres(url: str, count: int) -> None:
    import psycopg

    with psycopg.connect(url, autocommit=True) as db:
        db.execute(
            "INSERT INTO past.leases (id, call, state, usd, tokens, calls, keys, accounts, "
            "expires_at, settled_at, used_usd, used_tokens, used_calls, over_usd, over_tokens, "
            "over_calls, actual) SELECT 'past/' || n, 'past', 1, 9000, 900, 1, '{team}', %s, "
            "at + 600, at, 2000, 200, "
            "1, 0, 0, 0, '{2000,200,1}' FROM generate_series(1, %s::integer) AS n, "
            "(SELECT extract(epoch FROM clock_timestamp())::float8 AS at) AS clock",
            ('[["team","budget",["1000000000",null,null],[],null]]', count),
        )
        db.execute("VACUUM ANALYZE past.leases")


def growth(few: Any, many: Any, *, pairs: int) -> tuple[float, float]:
    """Median microseconds of a pair in both ledgers, which take turns."""
    took: dict[int, list[float]] = {0: [], 1: []}
    calls = [contenders.pairs(ledger) for ledger in (few, many)]
    gc.collect()
    gc.freeze()  # a million remembered leases in memory are not looked through again and again
    for turn in range(pairs):
        for which, call in enumerate(calls):
            begin = time.perf_counter()
            call(0, turn)
            took[which].append(time.perf_counter() - begin)
    gc.unfreeze()
    return statistics.median(took[0]) * 1e6, statistics.median(took[1]) * 1e6


# ------------------------------------------------------------------- servers


@contextmanager
def redis_server() -> Iterator[str]:
    """The URL of a server that is gone afterwards."""
    from tests.integration.redis_server import RedisServer

    with tempfile.TemporaryDirectory() as folder, RedisServer(Path(folder)) as server:
        yield server.url


@contextmanager
def postgres_server() -> Iterator[str]:
    """The URL of a server that is gone afterwards; it waits for the disk as it comes."""
    from tests.integration.postgres_server import postgres_binaries, running_postgres

    binaries = postgres_binaries()
    assert binaries is not None
    with running_postgres(binaries) as server:
        yield server.url


def missing(store: str) -> str | None:
    """What a store lacks on this machine."""
    from importlib.util import find_spec

    from tests.integration.postgres_server import postgres_binaries

    if store == "redis":
        if shutil.which("redis-server") is None:
            return "redis-server"
        return None if find_spec("redis") else "redis (pip)"
    if store == "postgres":
        if postgres_binaries() is None:
            return "initdb and postgres"
        return None if find_spec("psycopg") else "psycopg (pip)"
    return None


@dataclass(slots=True)
class Result:
    """What was found on one store."""

    store: str
    cells: dict[Cell, Figures]
    growth_us: tuple[float, float] | None


def measure(store: str, options: argparse.Namespace) -> Result:
    """Run everything on one store."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url = ""
        if store == "redis":
            url = stack.enter_context(redis_server())
        elif store == "postgres":
            url = stack.enter_context(postgres_server())
        makers: dict[str, Any] = {
            "memory": contenders.memory,
            "sqlite": lambda: contenders.sqlite(folder),
            "redis": lambda: contenders.redis(url),
            "postgres": lambda: contenders.postgres(url),
        }
        cells = race(
            makers[store](),
            levels=options.workers,
            seconds=options.seconds,
            rounds=options.rounds,
        )
        return Result(store, cells, past(store, folder, url, options.past))


def past(store: str, folder: Path, url: str, count: int) -> tuple[float, float] | None:
    """Compare a young ledger with one that remembers very many settled leases."""
    if not count:
        return None
    if store == "memory":
        few, many = (open_ledger("memory://", settled_memory=2 * count) for _ in range(2))
    elif store == "sqlite":
        few, many = (open_ledger(f"sqlite:///{folder}/{name}.db") for name in ("few", "past"))
    else:
        few, many = (open_ledger(url, namespace=name, timeout_s=60.0) for name in ("few", "past"))
    for ledger in (few, many):
        past_in_memory(ledger, 10)
    if store == "memory":
        past_in_memory(many, count)
    elif store == "sqlite":
        past_in_sqlite(folder / "past.db", count)
    elif store == "redis":
        past_in_redis(url, count)
    else:
        past_in_postgres(url, count)
    assert many.snapshot([ACCOUNT])[0].held.cloud_calls == 0
    found = growth(few, many, pairs=5_000 if store == "memory" else 1_000)
    few.close()
    many.close()
    print(f"  {store}: {count:,} past reservations are done", file=sys.stderr, flush=True)
    return found


# ------------------------------------------------------------------- the section


FLOORS = {
    "memory": "two additions under a lock",
    "sqlite": "two UPDATEs of a row, each committed",
    "redis": "two SETs",
    "postgres": "two UPDATEs of a row, each committed",
}
NAMES = {"memory": "Memory", "sqlite": "SQLite", "redis": "Redis", "postgres": "PostgreSQL"}


EXPLAINED = """\
Reserve + commit, by 1 to 64 workers; microseconds. The floor is two of the cheapest round trips of
the same server and client in the same run, which keep no books; the ratio is that of the medians,
ours to the floor. Naive is get, compare, set, twice; lost are calls that its counter has not seen.
limits is one `hit`, which cannot refund.\
""".splitlines()


def section(results: Sequence[Result], skipped: dict[str, str], past_count: int) -> str:
    """Write it as Markdown."""
    lines = ["## Ledgers: `python -m benchmarks.ledger`", "", *EXPLAINED]
    for result in results:
        lines += ["", f"{NAMES[result.store]} (floor: {FLOORS[result.store]})", ""]
        lines += _table(result)
    grown = [result for result in results if result.growth_us is not None]
    if grown:
        lines += [
            "",
            f"One pair with 10 and with {past_count:,} past reservations, median microseconds:",
            "",
            f"| | 10 | {past_count:,} | ratio |",
            "|---|---|---|---|",
        ]
        for result in grown:
            few, many = result.growth_us or (0.0, 0.0)
            row = (f"{few:,.1f}", f"{many:,.1f}", f"{many / few:.2f}")
            lines.append(f"| {NAMES[result.store]} | {' | '.join(row)} |")
    for store, what in skipped.items():
        lines += ["", f"**{NAMES[store]} was left out: {what} is not on this machine.**"]
    return "\n".join(lines) + "\n"


def _table(result: Result) -> Iterator[str]:
    ways = [way for way in ("ours", "floor", "naive", "limits") if _has(result, way)]
    heads = ["workers"]
    for way in ways:
        heads += [f"{way}, a second", "p50", "p99"]
        heads += ["ratio"] if way == "floor" else []
        heads += ["lost"] if way == "naive" else []
    yield f"| {' | '.join(heads)} |"
    yield "|" + "---|" * len(heads)
    places = sorted(
        {(mode, n) for _, mode, n in result.cells}, key=lambda p: (p[0] != "threads", p[1])
    )
    for mode, workers in places:
        cells = [f"{workers} {mode[:-1] if workers == 1 else mode}"]
        for way in ways:
            one = result.cells[way, mode, workers]
            cells += [f"{one.per_s:,.0f}", _short(one.p50_us), _short(one.quantile_us(0.99))]
            if way == "floor":
                mine = result.cells["ours", mode, workers]
                cells.append(f"**{mine.p50_us / one.p50_us:.2f}**")
            if way == "naive":
                cells.append(f"{one.lost / one.made:.0%}")
        yield f"| {' | '.join(cells)} |"


def _short(us: float) -> str:
    return f"{us:,.0f}" if us >= 100 else f"{us:.3g}"


def _has(result: Result, way: str) -> bool:
    return any(cell[0] == way for cell in result.cells)


def main() -> None:
    """Measure, and print the section."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stores", nargs="+", choices=tuple(NAMES), default=list(NAMES))
    parser.add_argument("--workers", nargs="+", type=int, default=list(LEVELS))
    parser.add_argument("--seconds", type=float, default=0.5, help="for each figure and round")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--past", type=int, default=1_000_000, help="0 leaves this part out")
    parser.add_argument("--section", type=Path, help="write the Markdown there")
    options = parser.parse_args()
    begin = time.monotonic()
    skipped = {store: what for store in options.stores if (what := missing(store)) is not None}
    for store, what in skipped.items():
        print(f"{NAMES[store]} is left out: {what} is not on this machine", file=sys.stderr)
    wanted = [store for store in options.stores if store not in skipped]
    results = [measure(store, options) for store in wanted]
    text = section(results, skipped, options.past)
    print(text)
    took = time.monotonic() - begin
    print(f"{platform.python_version()}, {took:.0f} s", file=sys.stderr)
    if options.section:
        options.section.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
