"""Who takes part in `benchmarks/ledger.py`: each is opened in the process that uses it.

A contender makes a function of worker and turn that does what stands for one paid call:

- ours:    reserve the worst case, commit what it cost: two round trips;
- floor:   the two cheapest round trips that the same server and client can do: two SETs, two
           single-row UPDATEs with a commit each. They keep no books;
- naive:   get the counter, compare, set it; then get and set it again with what the call cost;
- limits:  `hit` of the package `limits`, if it is installed: one round trip. It cannot refund,
           so there is no second one; it charges the worst case for good.
"""

from __future__ import annotations

import sqlite3
import threading
import uuid
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeAlias

from langchain_hybridflow.budget import Account, Amounts, Lease, Ledger, Limits
from langchain_hybridflow.budget.stores.opening import open_ledger

WORST = Amounts(usd_micros=9_000, cloud_tokens=900, cloud_calls=1)
ACTUAL = Amounts(usd_micros=2_000, cloud_tokens=200, cloud_calls=1)
ACCOUNT = Account("team", "budget", Limits(usd=10**9, cloud_tokens=10**15))
TIMEOUT_S = 30.0

Call: TypeAlias = Callable[[int, int], None]
"""One paid call: by this worker, at this turn."""


@dataclass(frozen=True, slots=True)
class Contender:
    """One way to keep a budget on one store.

    Args:
        store: Name of the store.
        way: ours, floor, naive or limits.
        open: Makes the function, in the process that calls it.
        counted: Returns how many calls its counter has seen, if that can differ from those made,
            and sets it to zero.
    """

    store: str
    way: str
    open: Callable[[], Call]
    counted: Callable[[], int] | None = None


def pairs(ledger: Ledger) -> Call:
    """Reserve and commit, under ids that nobody else has."""
    run = uuid.uuid4().hex[:12]

    def call(worker: int, turn: int) -> None:
        lease_id = f"{run}/{worker}/{turn}"
        lease = ledger.reserve(lease_id, WORST, accounts=(ACCOUNT,), ttl_s=600.0)
        assert isinstance(lease, Lease)
        ledger.commit(lease_id, ACTUAL)

    return call


def ours(store: str, url: str, **options: Any) -> Contender:
    """Our ledger at a URL."""
    return Contender(store, "ours", lambda: pairs(open_ledger(url, **options)))


def limits_library(store: str, url: str) -> list[Contender]:
    """The package `limits`, where it is installed and has such a store."""
    if find_spec("limits") is None:
        return []

    def opened() -> Call:
        from limits import RateLimitItemPerDay
        from limits.storage import storage_from_string
        from limits.strategies import FixedWindowRateLimiter

        limiter = FixedWindowRateLimiter(storage_from_string(url))
        item = RateLimitItemPerDay(10**12)

        def call(worker: int, turn: int) -> None:  # noqa: ARG001
            limiter.hit(item, "team", cost=WORST.usd_micros)

        return call

    return [Contender(store, "limits", opened)]


def memory() -> list[Contender]:
    """In one process: two steps under a lock are the floor."""
    ledger, lock = open_ledger("memory://"), threading.Lock()
    counters = {"floor": 0, "naive": 0}

    def floor(worker: int, turn: int) -> None:  # noqa: ARG001
        with lock:
            counters["floor"] += 9_000
        with lock:
            counters["floor"] -= 7_000

    def naive(worker: int, turn: int) -> None:  # noqa: ARG001
        for step in (1, 0):
            spent = counters["naive"]
            if spent < 10**15:
                counters["naive"] = spent + step

    def counted() -> int:
        counters["naive"], seen = 0, counters["naive"]
        return seen

    return [
        Contender("memory", "ours", lambda: pairs(ledger)),
        Contender("memory", "floor", lambda: floor),
        Contender("memory", "naive", lambda: naive, counted),
        *limits_library("memory", "memory://"),
    ]


def sqlite(folder: Path) -> list[Contender]:
    """A file; `limits` has no such store."""
    url = f"sqlite:///{folder}/ours.db"
    open_ledger(url).close()  # the tables are there before the race
    for way in ("floor", "naive"):
        with closing(_sqlite_connection(folder / f"{way}.db")) as db:
            db.execute("CREATE TABLE counters (id INTEGER PRIMARY KEY, n INTEGER)")
            db.execute("INSERT INTO counters VALUES (1, 0)")

    def floor() -> Call:
        db, lock = _sqlite_connection(folder / "floor.db"), threading.Lock()

        def call(worker: int, turn: int) -> None:  # noqa: ARG001
            for _ in range(2):
                with lock:
                    db.execute("BEGIN IMMEDIATE")
                    db.execute("UPDATE counters SET n = n + 1 WHERE id = 1")
                    db.execute("COMMIT")

        return call

    def naive() -> Call:
        db, lock = _sqlite_connection(folder / "naive.db"), threading.Lock()

        def call(worker: int, turn: int) -> None:  # noqa: ARG001
            for step in (1, 0):
                with lock:
                    ((spent,),) = db.execute("SELECT n FROM counters WHERE id = 1").fetchall()
                if spent < 10**15:
                    with lock:
                        db.execute("UPDATE counters SET n = ? WHERE id = 1", (spent + step,))

        return call

    def counted() -> int:
        with closing(_sqlite_connection(folder / "naive.db")) as db:
            seen = int(db.execute("SELECT n FROM counters").fetchone()[0])
            db.execute("UPDATE counters SET n = 0")
            return seen

    return [
        ours("sqlite", url, timeout_s=TIMEOUT_S),
        Contender("sqlite", "floor", floor),
        Contender("sqlite", "naive", naive, counted),
    ]


def _sqlite_connection(path: Path) -> sqlite3.Connection:
    """A connection with the settings of our ledger."""
    db = sqlite3.connect(path, timeout=TIMEOUT_S, isolation_level=None, check_same_thread=False)
    for pragma in ("journal_mode = WAL", "synchronous = NORMAL", "wal_autocheckpoint = 4000"):
        db.execute(f"PRAGMA {pragma}")
    return db


def redis(url: str) -> list[Contender]:
    """A Redis server, through redis-py."""
    from redis import Redis

    def floor() -> Call:
        client = Redis.from_url(url, protocol=2)

        def call(worker: int, turn: int) -> None:  # noqa: ARG001
            client.set("floor", turn)
            client.set("floor", turn)

        return call

    def naive() -> Call:
        client = Redis.from_url(url, protocol=2)

        def call(worker: int, turn: int) -> None:  # noqa: ARG001
            for step in (1, 0):
                spent = int(client.get("naive") or 0)
                if spent < 10**15:
                    client.set("naive", spent + step)

        return call

    def counted() -> int:
        with Redis.from_url(url) as client:
            return int(client.getset("naive", 0) or 0)

    return [
        ours("redis", url, timeout_s=TIMEOUT_S),
        Contender("redis", "floor", floor),
        Contender("redis", "naive", naive, counted),
        *limits_library("redis", url),
    ]


class _Rows:
    """Statements on PostgreSQL; each thread has a connection, as many at once as our ledger has."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._local = threading.local()
        self._places = threading.Semaphore(8)

    def __call__(self, statement: str, *values: object) -> list[Any]:
        import psycopg

        if not hasattr(self._local, "db"):
            self._local.db = psycopg.connect(self._url, autocommit=True)
        with self._places:
            cursor = self._local.db.execute(statement, values)
            return cursor.fetchall() if cursor.description else []


def postgres(url: str) -> list[Contender]:
    """A PostgreSQL server, through psycopg; `limits` has no such store."""
    import psycopg

    with psycopg.connect(url, autocommit=True) as db:
        db.execute("CREATE TABLE bench (id text PRIMARY KEY, n bigint) WITH (fillfactor = 50)")
        db.execute("INSERT INTO bench VALUES ('floor', 0), ('naive', 0)")
    ledger = open_ledger(url, timeout_s=TIMEOUT_S)
    ledger.snapshot([ACCOUNT])  # the tables are there before the race
    ledger.close()

    def floor() -> Call:
        run = _Rows(url)

        def call(worker: int, turn: int) -> None:  # noqa: ARG001
            run("UPDATE bench SET n = n + 1 WHERE id = 'floor'")
            run("UPDATE bench SET n = n + 1 WHERE id = 'floor'")

        return call

    def naive() -> Call:
        run = _Rows(url)

        def call(worker: int, turn: int) -> None:  # noqa: ARG001
            for step in (1, 0):
                ((spent,),) = run("SELECT n FROM bench WHERE id = 'naive'")
                if spent < 10**15:
                    run("UPDATE bench SET n = %s WHERE id = 'naive'", spent + step)

        return call

    def counted() -> int:
        rows = _Rows(url)
        seen = int(rows("SELECT n FROM bench WHERE id = 'naive'")[0][0])
        rows("UPDATE bench SET n = 0 WHERE id = 'naive'")
        return seen

    return [
        ours("postgres", url, timeout_s=TIMEOUT_S),
        Contender("postgres", "floor", floor),
        Contender("postgres", "naive", naive, counted),
    ]
