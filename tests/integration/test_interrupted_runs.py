"""A process that gets Ctrl-C ends, loses nothing it has paid for, and begins nothing more."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from langchain_hybridflow import Budget

SCRIPT = Path(__file__).with_name("interrupted_run.py")


def run(folder: Path, call: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), str(folder), str(call)]
    return subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)


def calls(folder: Path) -> list[str]:
    return (folder / "calls").read_text().split()


@pytest.mark.timeout(200)
@pytest.mark.parametrize("call", [1, 2, 4, 6])
def test_interrupted_process_keeps_what_it_paid_for_and_begins_nothing_more(
    tmp_path: Path, call: int
):
    ended = run(tmp_path, call)
    assert ended.returncode == -signal.SIGINT, ended.stderr
    assert ended.stderr.rstrip().endswith("KeyboardInterrupt")
    assert "exception calling callback" not in ended.stderr  # LangGraph could save all results
    made = calls(tmp_path)
    assert "late" not in made
    assert call <= len(made) <= 6
    budget = Budget(max_cloud_calls=100, store=f"sqlite:///{tmp_path / 'ledger.db'}")
    state = budget.snapshot()["cloud_calls"]
    assert (state["spent"], state["held"]) == (len(made), 0)
    budget.close()

    resumed = run(tmp_path, 0)
    assert resumed.returncode == 0, resumed.stderr
    assert json.loads(resumed.stdout) == "answer 6"
    assert sorted(calls(tmp_path)) == ["1", "2", "3", "4", "5", "6"]
