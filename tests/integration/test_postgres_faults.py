"""What goes wrong around a ledger in PostgreSQL: not a unit is lost, and no limit is passed."""

from __future__ import annotations

import asyncio
import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from langchain_hybridflow.budget import NOTHING, Account, Amounts, Lease, Limits
from langchain_hybridflow.budget.stores.postgres import PostgresLedger
from langchain_hybridflow.errors import ConfigurationError, LedgerError, LedgerUnavailable
from langchain_hybridflow.testing import ManualClock
from tests.integration.cutting_proxy import CuttingProxy, Moment
from tests.integration.ledger_kit import ALL, ONE, Shoppers, fresh, limited, said, start
from tests.integration.postgres_server import PostgresServer, required_binaries, running_postgres

TIMEOUT_S = 1.0
LONGEST_S = 5.0
"""A call in the middle of which the line was lost, a new connection, and a busy machine."""


@pytest.fixture
def own_server(require: Callable[[str], None]) -> Iterator[PostgresServer]:
    """A server for one test to kill."""
    with running_postgres(required_binaries(require)) as server:
        yield server


@pytest.fixture
def proxy(postgres_server: PostgresServer) -> Iterator[CuttingProxy]:
    with CuttingProxy(postgres_server.port) as proxy:
        yield proxy


@pytest.fixture
def cut_ledger(proxy: CuttingProxy) -> Iterator[PostgresLedger]:
    """A ledger behind the proxy, connected."""
    url = f"postgresql://ledger@127.0.0.1:{proxy.port}/postgres?sslmode=disable&gssencmode=disable"
    ledger = PostgresLedger(url, namespace=fresh(), timeout_s=TIMEOUT_S)
    ledger.snapshot([ALL])
    yield ledger
    ledger.close()


@pytest.mark.parametrize("behind_pooler", [False, True])
def test_limit_holds_exactly_when_8_processes_start_at_once_and_spend_200_times_each(
    postgres_server: PostgresServer, pooler: str, *, behind_pooler: bool
) -> None:
    """All of them find a database without tables."""
    url = pooler if behind_pooler else postgres_server.url
    options = {"namespace": fresh(), "timeout_s": 20}
    jobs = [{"do": "spend", "worker": f"w{n}", "calls": 200, "limit": 1_000} for n in range(8)]
    workers = [start(job, url, **options) for job in jobs]
    bought = [said(worker)[0] for worker in workers]
    assert sum(each["granted"] for each in bought) == 1_000
    tokens = sum(each["tokens"] for each in bought)
    ledger = PostgresLedger(url, **options)
    state = ledger.snapshot([limited(1_000)])[0]
    assert state.used == Amounts(usd_micros=7 * tokens, cloud_tokens=tokens, cloud_calls=1_000)
    assert (state.held, state.overdraft) == (NOTHING, NOTHING)
    assert ledger.reconcile().differences == ()
    ledger.close()


def test_limit_holds_exactly_when_a_process_forks_with_an_open_connection(
    postgres_server: PostgresServer,
) -> None:
    job = {"do": "fork", "worker": "w", "children": 4, "calls": 50, "limit": 200}
    *bought, end = said(start(job, postgres_server.url, namespace=fresh(), timeout_s=20))
    assert end == {"failed": 0}
    assert sum(each["granted"] for each in bought) == 200


def test_lease_is_charged_when_its_process_was_killed_before_it_committed(
    postgres_server: PostgresServer,
) -> None:
    namespace = fresh()
    job = {"do": "hold", "worker": "lost", "ttl_s": 30, "limit": 10}
    process = start(job, postgres_server.url, namespace=namespace)
    assert process.stdout is not None
    assert json.loads(process.stdout.readline()) == "held"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    ledger = PostgresLedger(postgres_server.url, namespace=namespace)
    assert ledger.snapshot([ALL])[0].held == ONE
    in_a_while = PostgresLedger(
        postgres_server.url, namespace=namespace, clock=lambda: ledger.now() + 31
    )
    assert [lease.id for lease in in_a_while.expire()] == ["lost"]
    state = in_a_while.snapshot([ALL])[0]
    assert (state.used, state.held) == (ONE, NOTHING)
    ledger.close()
    in_a_while.close()


def test_ledger_fails_closed_and_goes_on_when_its_server_is_killed_and_restarted(
    own_server: PostgresServer,
) -> None:
    """None of the purchases is lost, and none is counted twice."""
    ledger = PostgresLedger(own_server.url, timeout_s=TIMEOUT_S)
    shoppers = Shoppers(ledger, threads=4, patience_s=60)
    shoppers.wait_for_more(shoppers.committed, 40)
    own_server.stop()
    shoppers.wait_for_more(shoppers.refused_after_s, 8)
    own_server.start()
    shoppers.wait_for_more(shoppers.committed, 40)
    shoppers.stop()
    state = ledger.snapshot([ALL])[0]
    assert state.used.cloud_calls == len(shoppers.committed)
    assert (state.held, state.overdraft) == (NOTHING, NOTHING)
    assert ledger.reconcile().differences == ()
    assert max(shoppers.refused_after_s) < LONGEST_S
    ledger.close()


@pytest.mark.parametrize("when", ["before", "inside", "after"])
def test_call_counts_once_when_the_line_is_cut_in_the_middle_of_it(
    proxy: CuttingProxy, cut_ledger: PostgresLedger, when: Moment
) -> None:
    proxy.cut(when, marker=b"reserve")
    lease = cut_ledger.reserve("a", ONE, accounts=[limited(1)], ttl_s=60)
    assert isinstance(lease, Lease)
    assert cut_ledger.snapshot([ALL])[0].held == ONE
    proxy.cut(when, marker=b"settle")
    cut_ledger.commit("a", ONE)
    state = cut_ledger.snapshot([ALL])[0]
    assert (state.used, state.held, state.overdraft) == (ONE, NOTHING, NOTHING)
    assert proxy.cuts_made == 2


@pytest.mark.parametrize("when", ["before", "inside", "after"])
async def test_async_call_counts_once_when_the_line_is_cut_in_the_middle_of_it(
    proxy: CuttingProxy, cut_ledger: PostgresLedger, when: Moment
) -> None:
    await cut_ledger.asnapshot([ALL])
    proxy.cut(when, marker=b"reserve")
    lease = await cut_ledger.areserve("a", ONE, accounts=[limited(1)], ttl_s=60)
    assert isinstance(lease, Lease)
    proxy.cut(when, marker=b"settle")
    await cut_ledger.acommit("a", ONE)
    state = (await cut_ledger.asnapshot([ALL]))[0]
    assert (state.used, state.held, state.overdraft) == (ONE, NOTHING, NOTHING)
    assert proxy.cuts_made == 2


def test_reserve_fails_closed_and_can_be_sent_again_when_the_line_stays_cut(
    proxy: CuttingProxy, cut_ledger: PostgresLedger
) -> None:
    proxy.cut("after", marker=b"reserve", times=2)
    with pytest.raises(LedgerUnavailable):
        cut_ledger.reserve("a", ONE, accounts=[limited(1)], ttl_s=60)
    assert cut_ledger.snapshot([ALL])[0].held == ONE
    assert isinstance(cut_ledger.reserve("a", ONE, accounts=[limited(1)], ttl_s=60), Lease)
    assert cut_ledger.snapshot([ALL])[0].held == ONE


def test_ledger_fails_closed_in_time_when_its_server_says_nothing(
    proxy: CuttingProxy, cut_ledger: PostgresLedger
) -> None:
    proxy.silence(on=True)
    begin = time.monotonic()
    with pytest.raises(LedgerUnavailable, match="no answer in time"):
        cut_ledger.reserve("a", ONE, accounts=[ALL], ttl_s=60)
    assert time.monotonic() - begin < LONGEST_S
    proxy.silence(on=False)
    assert cut_ledger.snapshot([ALL])[0].held == NOTHING


async def test_async_ledger_fails_closed_in_time_when_its_server_says_nothing(
    proxy: CuttingProxy, cut_ledger: PostgresLedger
) -> None:
    await cut_ledger.asnapshot([ALL])
    proxy.silence(on=True)
    begin = time.monotonic()
    with pytest.raises(LedgerUnavailable, match="no answer in time"):
        await cut_ledger.areserve("a", ONE, accounts=[ALL], ttl_s=60)
    assert time.monotonic() - begin < LONGEST_S


async def test_cancelled_reserve_frees_what_it_opened_when_its_reply_is_lost(
    proxy: CuttingProxy, cut_ledger: PostgresLedger
) -> None:
    await cut_ledger.asnapshot([ALL])
    proxy.cut("after", marker=b"reserve")
    task = asyncio.ensure_future(cut_ledger.areserve("a", ONE, accounts=[ALL], ttl_s=60))
    while not proxy.cuts_made:
        await asyncio.wait([task], timeout=0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await cut_ledger.asnapshot([ALL]))[0].held == NOTHING


async def test_connections_are_not_lost_when_calls_are_cancelled_all_the_time(
    postgres_server: PostgresServer,
) -> None:
    ledger = PostgresLedger(postgres_server.url, namespace=fresh(), timeout_s=10)
    await ledger.asnapshot([ALL])
    for turns in range(100):
        task = asyncio.ensure_future(ledger.asnapshot([ALL]))
        for _ in range(turns % 10):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
    answers = await asyncio.gather(*(ledger.asnapshot([ALL]) for _ in range(40)))
    assert len(answers) == 40
    await ledger.aclose()


def test_same_id_is_held_once_when_many_threads_reserve_it_at_once(
    postgres_server: PostgresServer,
) -> None:
    ledger = PostgresLedger(postgres_server.url, namespace=fresh(), timeout_s=10)
    ledger.now()
    barrier = threading.Barrier(8)
    leases: list[object] = []

    def reserve() -> None:
        barrier.wait()
        leases.append(ledger.reserve("a", ONE, accounts=[limited(8)], ttl_s=60))

    threads = [threading.Thread(target=reserve) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert leases == [leases[0]] * 8
    assert ledger.snapshot([ALL])[0].held == ONE
    ledger.close()


def test_ledger_does_not_deadlock_when_accounts_come_in_every_order(
    postgres_server: PostgresServer,
) -> None:
    ledger = PostgresLedger(postgres_server.url, namespace=fresh(), timeout_s=20)
    accounts = [Account(f"a{n}", "any", Limits(cloud_calls=30)) for n in range(3)]
    granted: list[str] = []

    def spend(worker: int) -> None:
        mine = accounts[worker % 3 :] + accounts[: worker % 3]
        for turn in range(10):
            lease_id = f"{worker}/{turn}"
            if isinstance(ledger.reserve(lease_id, ONE, accounts=mine, ttl_s=60), Lease):
                granted.append(lease_id)
                ledger.commit(lease_id, ONE)

    threads = [threading.Thread(target=spend, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(granted) == 30
    assert [state.used.cloud_calls for state in ledger.snapshot(accounts)] == [30, 30, 30]
    ledger.close()


def test_old_leases_become_opening_balances_when_they_need_not_be_remembered(
    postgres_server: PostgresServer,
) -> None:
    clock = ManualClock(1_000.0)
    namespace = fresh()
    ledger = PostgresLedger(
        postgres_server.url, namespace=namespace, settled_keep_s=50, clock=clock
    )
    run = Account("run", "run", keep_s=20)
    for turn in range(300):
        ledger.reserve(f"{turn}", ONE, accounts=[ALL, run], ttl_s=60)
        ledger.commit(f"{turn}", ONE)
        clock.advance(1.0)
    with psycopg.connect(postgres_server.url) as connection:
        (remembered,) = connection.execute(f"SELECT count(*) FROM {namespace}.leases").fetchone()
    assert remembered < 50 + 64
    assert ledger.snapshot([ALL])[0].used.cloud_calls == 300
    assert ledger.reconcile().differences == ()
    clock.advance(21)
    ledger.expire()
    assert ledger.snapshot([run])[0].used == NOTHING
    assert ledger.reconcile().differences == ()
    with pytest.raises(LedgerError, match="unknown"):
        ledger.commit("0", ONE)
    ledger.close()


def test_ledger_says_what_is_wrong_when_its_tables_have_another_version(
    postgres_server: PostgresServer,
) -> None:
    namespace = fresh()
    PostgresLedger(postgres_server.url, namespace=namespace).snapshot([ALL])
    with psycopg.connect(postgres_server.url) as connection:
        connection.execute(f"UPDATE {namespace}.schema_version SET version = 7")
    ledger = PostgresLedger(postgres_server.url, namespace=namespace)
    with pytest.raises(ConfigurationError, match=r"version 7 .* knows 1"):
        ledger.reserve("a", ONE, accounts=[ALL], ttl_s=60)


def test_ledger_changes_nothing_when_the_schema_is_that_of_another_program(
    postgres_server: PostgresServer,
) -> None:
    namespace = fresh()
    with psycopg.connect(postgres_server.url) as connection:
        connection.execute(f"CREATE SCHEMA {namespace}")
        connection.execute(f"CREATE TABLE {namespace}.leases (flat text)")
    ledger = PostgresLedger(postgres_server.url, namespace=namespace)
    with pytest.raises(ConfigurationError, match="namespace of its own"):
        ledger.reserve("a", ONE, accounts=[ALL], ttl_s=60)
    with psycopg.connect(postgres_server.url) as connection:
        tables = connection.execute(
            "SELECT tablename FROM pg_tables WHERE schemaname = %s", [namespace]
        ).fetchall()
    assert tables == [("leases",)]


def test_ledger_says_so_when_the_user_may_not_make_a_schema(
    postgres_server: PostgresServer,
) -> None:
    with psycopg.connect(postgres_server.url) as connection:
        connection.execute("CREATE ROLE guest LOGIN")
    url = postgres_server.url.replace("ledger@", "guest@")
    with pytest.raises(ConfigurationError, match="permission denied"):
        PostgresLedger(url, namespace=fresh()).snapshot([ALL])


def test_ledger_fails_closed_when_no_server_is_there(require: Callable[[str], None]) -> None:
    require("psycopg")
    ledger = PostgresLedger("postgresql://me:s3cret@127.0.0.1:9/db?password=s3cret")
    with pytest.raises(LedgerUnavailable, match=r"127\.0\.0\.1:9/db .*refused") as caught:
        ledger.reserve("a", ONE, accounts=[ALL], ttl_s=60)
    assert "s3cret" not in f"{caught.value} {caught.value.__cause__} {ledger!r}"


def test_names_work_when_they_are_longer_than_an_index_can_hold(
    postgres_server: PostgresServer,
) -> None:
    clock = ManualClock(1_000.0)
    ledger = PostgresLedger(postgres_server.url, namespace=fresh(), clock=clock)
    account = Account(
        "界" * 1_000, "user", Limits(cloud_calls=2), earlier=("\N{MUSICAL SYMBOL G CLEF}" * 1_000,)
    )
    for lease_id in ("ß" * 1_000, "\N{MUSICAL SYMBOL F CLEF}" * 1_000):
        ledger.reserve(lease_id, ONE, accounts=[account], ttl_s=60)
    ledger.commit("ß" * 1_000, ONE)
    state = ledger.snapshot([account])[0]
    assert (state.used, state.held) == (ONE, ONE)
    clock.advance(61)
    assert [lease.id for lease in ledger.expire()] == ["\N{MUSICAL SYMBOL F CLEF}" * 1_000]
    ledger.close()


def test_reserve_fails_closed_and_holds_nothing_when_a_row_stays_locked(
    postgres_server: PostgresServer,
) -> None:
    """The server gives up before the client does, so that it cannot be granted behind its back."""
    namespace = fresh()
    ledger = PostgresLedger(postgres_server.url, namespace=namespace, timeout_s=0.5)
    ledger.reserve("a", ONE, accounts=[ALL], ttl_s=60)
    with psycopg.connect(postgres_server.url) as other:
        other.execute(f"SELECT 1 FROM {namespace}.counters FOR UPDATE")
        with pytest.raises(LedgerUnavailable, match="lock timeout"):
            ledger.reserve("b", ONE, accounts=[ALL], ttl_s=60)
    assert ledger.snapshot([ALL])[0].held == ONE
    ledger.close()


async def test_event_loop_is_not_blocked_when_a_row_is_locked(
    postgres_server: PostgresServer,
) -> None:
    namespace = fresh()
    ledger = PostgresLedger(postgres_server.url, namespace=namespace, timeout_s=10)
    await ledger.areserve("a", ONE, accounts=[ALL], ttl_s=60)
    with psycopg.connect(postgres_server.url) as other:
        other.execute(f"SELECT 1 FROM {namespace}.counters FOR UPDATE")
        task = asyncio.ensure_future(ledger.areserve("b", ONE, accounts=[ALL], ttl_s=60))
        ticks, begin = 0, time.monotonic()
        while time.monotonic() - begin < 0.3:
            await asyncio.sleep(0.005)
            ticks += 1
        assert not task.done()
    assert isinstance(await task, Lease)
    assert ticks > 10
    await ledger.aclose()


def test_time_is_that_of_the_server_and_never_goes_back(postgres_server: PostgresServer) -> None:
    ledger = PostgresLedger(postgres_server.url, namespace=fresh(), timeout_s=10)
    times = []
    for turn in range(50):
        times.append(ledger.now())
        state = ledger.snapshot([ALL])[0]
        assert abs(state.at - ledger.now()) < 1.0, turn
    assert times == sorted(times)
    ledger.close()


@pytest.mark.parametrize(
    "url",
    [
        "mysql://me:s3cret@localhost/db",
        "postgresql://me:s3cret@localhost:port/db",
        "postgresql://me:s3cret@localhost:99999/db",
        "postgresql://me:s3cret@localhost/db?nonsense=1",
        "postgresql://me:s3c%ret@localhost/db",
        "postgresql://[::1/db?password=s3cret",
    ],
)
def test_ledger_refuses_a_url_without_telling_its_password(
    require: Callable[[str], None], url: str
) -> None:
    require("psycopg")
    with pytest.raises(ConfigurationError, match="URL") as caught:
        PostgresLedger(url)
    assert "s3c" not in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [{"timeout_s": 0}, {"settled_keep_s": -1}, {"max_connections": 0}, {"on_expiry": "x"}],
)
def test_ledger_refuses_options_that_cannot_work(
    require: Callable[[str], None], options: dict[str, Any]
) -> None:
    require("psycopg")
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        PostgresLedger("postgresql://localhost/db", **options)


def test_reconcile_finds_and_repairs_what_somebody_has_changed_by_hand(
    postgres_server: PostgresServer,
) -> None:
    namespace = fresh()
    ledger = PostgresLedger(postgres_server.url, namespace=namespace, timeout_s=10)
    for lease_id in "ab":
        ledger.reserve(lease_id, ONE, accounts=[ALL], ttl_s=60)
    ledger.commit("a", ONE)
    with psycopg.connect(postgres_server.url) as connection:
        connection.execute(f"UPDATE {namespace}.counters SET used_calls = 0, held_tokens = 7")
    found = ledger.reconcile()
    assert [
        (each.column, each.dimension, each.counted, each.journal) for each in found.differences
    ] == [
        ("used", "cloud_calls", 0, 1),
        ("held", "cloud_tokens", 7, 100),
    ]
    assert ledger.reconcile(repair=True).repaired
    assert ledger.reconcile().differences == ()
    state = ledger.snapshot([ALL])[0]
    assert (state.used, state.held) == (ONE, ONE)
    ledger.close()


def test_what_a_call_costs_does_not_grow_with_what_was_spent_before(
    postgres_server: PostgresServer,
) -> None:
    """Counted in pages that the server looks at, which no busy machine changes."""
    namespace = fresh()
    ledger = PostgresLedger(postgres_server.url, namespace=namespace, timeout_s=30)

    def pages() -> int:
        sql = (
            f"SELECT sum(idx_blks_hit + idx_blks_read + heap_blks_hit + heap_blks_read)"
            f" FROM pg_statio_user_tables WHERE schemaname = '{namespace}'"
        )
        with psycopg.connect(postgres_server.url, autocommit=True) as connection:
            (before,) = connection.execute(sql).fetchone()
            for turn in range(130):  # chores and all
                ledger.reserve(f"{before}/{turn}", ONE, accounts=[ALL], ttl_s=60)
                ledger.commit(f"{before}/{turn}", ONE)
            ledger.close()  # statistics are sent when a connection ends
            end = time.monotonic() + 20
            after = before
            while after - before < 1_000 and time.monotonic() < end:
                time.sleep(0.05)
                (after,) = connection.execute(sql).fetchone()
        return int(after - before)

    ledger.snapshot([ALL])
    ledger.close()
    few = pages()
    with psycopg.connect(postgres_server.url, autocommit=True) as connection:
        connection.execute(
            f"INSERT INTO {namespace}.leases (id, call, state, usd, tokens, calls, keys, accounts,"
            f" expires_at, settled_at, used_usd, used_tokens, used_calls, over_usd, over_tokens,"
            f" over_calls) SELECT md5(i::text), '', 1, 0, 0, 0, '{{team}}', '[]', 0,"
            f" extract(epoch FROM now()), 0, 0, 0, 0, 0, 0 FROM generate_series(1, 50000) AS i"
        )
        connection.execute(f"VACUUM ANALYZE {namespace}.leases")
    assert pages() < 3 * few
