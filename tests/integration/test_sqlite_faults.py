"""What goes wrong around a ledger in SQLite: not a unit is lost, and no limit is passed."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from langchain_hybridflow.budget import NOTHING, Account, Amounts, Limits
from langchain_hybridflow.budget.stores.sqlite import SQLiteLedger
from tests.integration.ledger_kit import ALL, ONE, said, start

PATIENT = {"timeout_s": 30}


def at(path: Path) -> str:
    return f"sqlite:///{path}"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "budget.db"


def test_limit_holds_exactly_when_8_processes_start_at_once_and_spend_200_times_each(
    path: Path,
) -> None:
    """All of them find that there is no file."""
    jobs = [{"do": "spend", "worker": f"w{n}", "calls": 200, "limit": 1_000} for n in range(8)]
    workers = [start(job, at(path), **PATIENT) for job in jobs]
    bought = [said(worker)[0] for worker in workers]
    assert sum(each["granted"] for each in bought) == 1_000
    tokens = sum(each["tokens"] for each in bought)
    ledger = SQLiteLedger(path)
    state = ledger.snapshot([Account("team", "team", Limits(cloud_calls=1_000))])[0]
    assert state.used == Amounts(usd_micros=7 * tokens, cloud_tokens=tokens, cloud_calls=1_000)
    assert (state.held, state.overdraft) == (NOTHING, NOTHING)
    assert ledger.reconcile().differences == ()


def test_limit_holds_exactly_when_a_process_forks_with_an_open_file(path: Path) -> None:
    job = {"do": "fork", "worker": "w", "children": 4, "calls": 50, "limit": 200}
    *bought, end = said(start(job, at(path), **PATIENT))
    assert end == {"failed": 0}
    assert sum(each["granted"] for each in bought) == 200
    assert SQLiteLedger(path).reconcile().differences == ()


def test_lease_is_charged_when_its_process_was_killed_before_it_committed(path: Path) -> None:
    process = start({"do": "hold", "worker": "lost", "ttl_s": 30, "limit": 10}, at(path))
    assert process.stdout is not None
    assert json.loads(process.stdout.readline()) == "held"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    ledger = SQLiteLedger(path)
    assert ledger.snapshot([ALL])[0].held == ONE
    in_a_while = SQLiteLedger(path, clock=lambda: ledger.now() + 31)
    assert [lease.id for lease in in_a_while.expire()] == ["lost"]
    state = in_a_while.snapshot([ALL])[0]
    assert (state.used, state.held) == (ONE, NOTHING)


def test_nothing_is_lost_when_a_process_is_killed_in_the_middle_of_its_work(path: Path) -> None:
    """Whatever it was doing, a transaction is done or is not."""
    for turn in range(3):
        job = {"do": "spend", "worker": f"w{turn}", "calls": 100_000, "limit": 1_000_000}
        process = start(job, at(path))
        ledger = SQLiteLedger(path, **PATIENT)
        before = ledger.snapshot([ALL])[0].used.cloud_calls
        while ledger.snapshot([ALL])[0].used.cloud_calls < before + 50:
            assert process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
        assert ledger.reconcile().differences == ()
        assert ledger.snapshot([ALL])[0].held.cloud_calls <= turn + 1
        ledger.close()
