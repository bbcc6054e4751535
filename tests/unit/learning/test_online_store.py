from __future__ import annotations

import multiprocessing
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.learning.online_store import (
    MemoryOnlineStore,
    OnlineStore,
    SQLiteOnlineStore,
)
from langchain_hybridflow.learning.residual import ResidualState
from langchain_hybridflow.testing import OnlineStoreConformance, logged_decision
from tests.unit.learning.online_worker import EACH, PROCESSES, learn_a_share


class TestMemoryOnlineStore(OnlineStoreConformance):
    def make_store(self, *, discount: float = 1.0, keep: int = 1_000) -> OnlineStore:
        return MemoryOnlineStore(context_size=2, discount=discount, keep=keep)


class TestSQLiteOnlineStore(OnlineStoreConformance):
    @pytest.fixture(autouse=True)
    def _place(self, tmp_path: Path) -> None:
        self.path = tmp_path / "online.db"

    def make_store(self, *, discount: float = 1.0, keep: int = 1_000) -> OnlineStore:
        return SQLiteOnlineStore(self.path, context_size=2, discount=discount, keep=keep)


@pytest.mark.parametrize("options", [{"discount": 0.0}, {"discount": 1.1}, {"keep": 0}], ids=str)
def test_store_is_refused_when_it_cannot_work(options: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError):
        MemoryOnlineStore(context_size=2, **options)
    with pytest.raises(ConfigurationError):
        SQLiteOnlineStore(tmp_path / "online.db", context_size=2, **options)


def test_what_was_learnt_is_there_when_the_file_is_opened_again(tmp_path: Path) -> None:
    first = SQLiteOnlineStore(tmp_path / "online.db", context_size=2)
    first.note([logged_decision(1)])
    first.reward({"1": 1.0})
    again = SQLiteOnlineStore(tmp_path / "online.db", context_size=2)
    assert again.state() == first.state()
    assert again.decisions() == first.decisions()


def test_file_is_refused_when_it_was_made_with_other_settings(tmp_path: Path) -> None:
    SQLiteOnlineStore(tmp_path / "online.db", context_size=2)
    with pytest.raises(ConfigurationError, match="was made with"):
        SQLiteOnlineStore(tmp_path / "online.db", context_size=3)


def test_file_is_refused_when_it_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "online.db"
    path.write_text("dear diary " * 100)
    with pytest.raises(ConfigurationError, match="cannot be used"):
        SQLiteOnlineStore(path, context_size=2)


def test_nothing_is_learnt_when_the_transaction_fails(tmp_path: Path) -> None:
    store = SQLiteOnlineStore(tmp_path / "online.db", context_size=2)
    store.note([logged_decision(1)])
    with sqlite3.connect(store.path) as connection:
        connection.execute("UPDATE hybridflow_decisions SET line = '{}'")
    with pytest.raises(ConfigurationError):
        store.reward({"1": 1.0})
    assert store.state().updates == 0


def test_file_is_opened_again_when_it_was_closed(tmp_path: Path) -> None:
    store = SQLiteOnlineStore(tmp_path / "online.db", context_size=2)
    store.note([logged_decision(1)])
    store.close()
    store.close()
    assert store.reward({"1": 1.0}) == 1


def test_no_update_is_lost_when_eight_processes_learn_into_one_file(tmp_path: Path) -> None:
    path = tmp_path / "online.db"
    SQLiteOnlineStore(path, context_size=2)
    spawn = multiprocessing.get_context("spawn")
    workers = [
        spawn.Process(target=learn_a_share, args=(str(path), process))
        for process in range(PROCESSES)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * PROCESSES
    expected = ResidualState.empty(2)
    for number in range(
        PROCESSES * EACH
    ):  # all numbers are binary fractions: sums are exact in any order
        one = logged_decision(number)
        expected = expected.after(one.tier, one.context, 1.0 - one.quality(one.tier))
    store = SQLiteOnlineStore(path, context_size=2)
    assert store.state().updates == PROCESSES * EACH
    assert store.state() == expected
