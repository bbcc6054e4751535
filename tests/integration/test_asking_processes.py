"""A run asks for more in one process, and is answered in another one: exactly one question."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).with_name("asking_process.py")


def step(folder: Path, face: str, answer: str) -> dict[str, Any]:
    """Run one step of the run in a process of its own."""
    command = [sys.executable, str(SCRIPT), str(folder), face, answer]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("face", ["sync", "async"])
@pytest.mark.timeout(300)
def test_question_is_answered_in_another_process(tmp_path: Path, face: str) -> None:
    first = step(tmp_path, face, "ask")
    assert len(first["questions"]) == 1
    assert first["questions"][0]["dimension"] == "cloud_calls"
    assert first["calls"]["held"] == 0
    second = step(tmp_path, face, "yes")
    assert second["questions"] == []
    assert (second["complete"], second["degraded"], second["edge"]) == (True, False, 0)
    assert first["cloud"] + second["cloud"] == 6
    assert second["calls"] == {"limit": 1, "spent": 6, "held": 0, "remaining": 0}
    assert second["allowance"] == 5


@pytest.mark.timeout(300)
def test_no_is_an_answer_in_another_process_too(tmp_path: Path) -> None:
    first = step(tmp_path, "async", "ask")
    second = step(tmp_path, "async", "no")
    assert (second["questions"], second["complete"], second["degraded"]) == ([], True, True)
    assert first["cloud"] + second["cloud"] == 1
    assert second["calls"]["spent"] == 1
