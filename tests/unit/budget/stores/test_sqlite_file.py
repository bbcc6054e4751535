"""What SQLiteLedger does with files: it refuses what is none of its own, and shares what is."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from langchain_hybridflow.budget import NOTHING, Account, Amounts, Lease, Limits
from langchain_hybridflow.budget.stores._sqlite_statements import for_keys, statements
from langchain_hybridflow.budget.stores.sqlite import SQLiteLedger
from langchain_hybridflow.errors import ConfigurationError, LedgerError, LedgerUnavailable
from langchain_hybridflow.testing import ManualClock

ONE = Amounts(usd_micros=700, cloud_tokens=100, cloud_calls=1)
ALL = Account("team", "team")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "budget.db"


def test_ledger_goes_on_where_it_was_when_the_file_is_opened_again(path: Path) -> None:
    ledger = SQLiteLedger(path)
    ledger.reserve("a", ONE, accounts=[ALL], ttl_s=60)
    ledger.close()
    again = SQLiteLedger(path)
    assert again.commit("a", ONE) is True
    assert again.snapshot([ALL])[0].used == ONE


def test_ledgers_are_apart_when_their_namespaces_are(path: Path) -> None:
    ledger, other = SQLiteLedger(path, namespace="one"), SQLiteLedger(path, namespace="two")
    ledger.reserve("a", ONE, accounts=[ALL], ttl_s=60)
    assert other.snapshot([ALL])[0].held == NOTHING
    assert other.release("a") is False


def test_ledger_says_so_when_the_directory_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"no directory .*nowhere"):
        SQLiteLedger(tmp_path / "nowhere" / "budget.db")


def test_ledger_says_so_when_the_path_is_a_directory(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="is a directory"):
        SQLiteLedger(tmp_path)


def test_ledger_says_so_when_the_directory_cannot_be_written() -> None:
    # Nobody can, not even root: a file system without files of its own, or no such directory.
    with pytest.raises(ConfigurationError, match=r"/proc"):
        SQLiteLedger("/proc/budget.db")


def test_ledger_says_so_when_the_file_cannot_be_written(path: Path) -> None:
    SQLiteLedger(path).close()
    path.with_name("budget.db-wal").mkdir()  # what the write-ahead log would be
    with pytest.raises(ConfigurationError, match="readable and writable"):
        SQLiteLedger(path)


@pytest.mark.parametrize("path", ["", ":memory:"])
def test_ledger_points_to_the_memory_ledger_when_there_is_no_file(path: str) -> None:
    with pytest.raises(ConfigurationError, match=r"MemoryLedger\(\)"):
        SQLiteLedger(path)


def test_ledger_changes_nothing_when_the_file_is_no_database(path: Path) -> None:
    path.write_text("Dear diary, " * 100)
    before = path.read_bytes()
    with pytest.raises(ConfigurationError, match=r"not a database.* It was not changed"):
        SQLiteLedger(path)
    assert path.read_bytes() == before


def test_ledger_changes_nothing_when_the_database_is_that_of_another_program(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE checkpoints (id TEXT)")
        connection.commit()
    before = path.read_bytes()
    with pytest.raises(ConfigurationError, match=r"another program .* It was not changed"):
        SQLiteLedger(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("version", [0, 2])
def test_ledger_changes_nothing_when_the_tables_have_another_version(
    path: Path, version: int
) -> None:
    SQLiteLedger(path).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {version}")
    before = path.read_bytes()
    with pytest.raises(ConfigurationError, match=rf"version {version} .* knows 1"):
        SQLiteLedger(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("namespace", ["", "1st", "a-b", 'a"; DROP TABLE x', "a" * 41])
def test_ledger_refuses_a_namespace_that_cannot_name_a_table(path: Path, namespace: str) -> None:
    with pytest.raises(ConfigurationError, match="namespace"):
        SQLiteLedger(path, namespace=namespace)


def test_reserve_fails_closed_when_another_process_keeps_the_file_locked(path: Path) -> None:
    ledger = SQLiteLedger(path, timeout_s=0.05)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerUnavailable, match=r"locked for 0\.05 s"):
            ledger.reserve("a", ONE, accounts=[ALL], ttl_s=60)
        other.execute("ROLLBACK")
    assert isinstance(ledger.reserve("a", ONE, accounts=[ALL], ttl_s=60), Lease)


async def test_event_loop_is_not_blocked_when_another_process_keeps_the_file_locked(
    path: Path,
) -> None:
    ledger = SQLiteLedger(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        task = asyncio.ensure_future(ledger.areserve("a", ONE, accounts=[ALL], ttl_s=60))
        ticks, begin = 0, time.monotonic()
        while time.monotonic() - begin < 0.3:
            await asyncio.sleep(0.005)
            ticks += 1
        assert not task.done()
        other.execute("ROLLBACK")
    assert isinstance(await task, Lease)
    assert ticks > 10
    await ledger.aclose()


async def test_cancelled_reserve_leaves_nothing_held_when_it_was_waiting_for_the_file(
    path: Path,
) -> None:
    ledger = SQLiteLedger(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        task = asyncio.ensure_future(ledger.areserve("a", ONE, accounts=[ALL], ttl_s=60))
        await asyncio.wait([task], timeout=0.05)
        task.cancel()
        await asyncio.wait([task], timeout=0.05)
        assert not task.done()  # it waits to know whether there is something to free
        other.execute("ROLLBACK")
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ledger.snapshot([ALL])[0].held == NOTHING
    await ledger.aclose()


def test_time_does_not_go_back_when_the_clock_of_the_machine_does(path: Path) -> None:
    clock = ManualClock(5_000.0)
    ledger = SQLiteLedger(path, clock=clock)
    ledger.reserve("a", ONE, accounts=[ALL], ttl_s=10)
    set_back = SQLiteLedger(path, clock=ManualClock(1_000.0))  # another process, later
    assert set_back.now() == 5_000.0
    lease = set_back.reserve("b", ONE, accounts=[ALL], ttl_s=10)
    assert isinstance(lease, Lease)
    assert lease.expires_at == 5_010.0
    clock.advance(11)
    assert {lease.id for lease in ledger.expire()} == {"a", "b"}


def test_time_goes_on_when_the_clock_of_the_machine_was_set_back(path: Path) -> None:
    SQLiteLedger(path, clock=ManualClock(time.time() + 3_600)).reserve(
        "a", ONE, accounts=[ALL], ttl_s=10
    )
    ledger = SQLiteLedger(path)
    begin = ledger.now()
    assert begin > time.time() + 3_500
    end = time.monotonic() + 5
    while ledger.now() == begin:
        assert time.monotonic() < end


def test_lease_can_be_settled_in_the_middle_of_reading_when_another_process_writes(
    path: Path,
) -> None:
    """As the garbage collector may do: what was read is old, and the write must not be refused."""
    SQLiteLedger(path).reserve("a", ONE, accounts=[ALL], ttl_s=60)
    other = SQLiteLedger(path)
    settled: list[bool] = []

    def clock() -> float:
        if armed and not settled:
            other.reserve("b", ONE, accounts=[ALL], ttl_s=60)
            settled.append(False)  # before it comes here again
            settled[0] = ledger.commit("a", ONE)
        return time.time()

    armed = False
    ledger = SQLiteLedger(path, clock=clock)
    armed = True
    state = ledger.snapshot([ALL])[0]
    assert settled == [True]
    assert (state.used, state.held) == (ONE, ONE)


def test_old_leases_become_opening_balances_when_they_need_not_be_remembered(path: Path) -> None:
    clock = ManualClock(1_000.0)
    ledger = SQLiteLedger(path, settled_keep_s=50, clock=clock)
    run = Account("run", "run", keep_s=20)
    for turn in range(300):
        ledger.reserve(f"{turn}", ONE, accounts=[ALL, run], ttl_s=60)
        ledger.commit(f"{turn}", ONE)
        clock.advance(1.0)
    with closing(sqlite3.connect(path)) as connection:
        (remembered,) = connection.execute("SELECT count(*) FROM hybridflow_leases").fetchone()
    assert remembered < 50 + 64
    assert ledger.snapshot([ALL])[0].used.cloud_calls == 300
    assert ledger.reconcile().differences == ()
    clock.advance(21)
    ledger.expire()
    assert ledger.snapshot([run])[0].used == NOTHING
    assert ledger.reconcile().differences == ()
    with pytest.raises(LedgerError, match="unknown"):
        ledger.commit("0", ONE)


def test_reconcile_finds_and_repairs_what_somebody_has_changed_by_hand(path: Path) -> None:
    ledger = SQLiteLedger(path)
    ledger.reserve("a", ONE, accounts=[ALL], ttl_s=60)
    ledger.reserve("b", ONE, accounts=[ALL], ttl_s=60)
    ledger.commit("a", ONE)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("UPDATE hybridflow_counters SET used_calls = 0, held_tokens = 7")
    found = ledger.reconcile()
    assert [
        (each.column, each.dimension, each.counted, each.journal) for each in found.differences
    ] == [
        ("used", "cloud_calls", 0, 1),
        ("held", "cloud_tokens", 7, 100),
    ]
    assert not found.repaired
    assert ledger.reconcile(repair=True).repaired
    assert ledger.reconcile().differences == ()
    state = ledger.snapshot([ALL])[0]
    assert (state.used, state.held) == (ONE, ONE)


def test_no_statement_of_a_call_reads_a_whole_table(path: Path) -> None:
    """So what a call costs does not grow with what was spent before."""
    ledger = SQLiteLedger(path)
    with closing(sqlite3.connect(path)) as connection:
        for name, text in statements("hybridflow").items():
            if name in {"counted", "journal"}:  # of a reconciliation
                continue
            sql = for_keys(text, 3)
            plan = connection.execute(f"EXPLAIN QUERY PLAN {sql}", [1] * sql.count("?")).fetchall()
            read = [row[3] for row in plan if row[3].startswith("SCAN hybridflow_")]
            assert set(read) <= {"SCAN hybridflow_clock"}, name
    ledger.close()


def test_ledger_refuses_amounts_that_would_overflow(path: Path) -> None:
    ledger = SQLiteLedger(path, namespace="big")
    account = Account("big", "big", Limits(cloud_tokens=2**53))
    with pytest.raises(LedgerError, match=r"at most 1e\+15"):
        ledger.reserve("a", Amounts(cloud_tokens=10**16), accounts=[account], ttl_s=60)
    assert isinstance(
        ledger.reserve("b", Amounts(cloud_tokens=10**15), accounts=[account], ttl_s=60), Lease
    )
