"""`hybridflow budget` in front of a person: a real (pseudo) terminal of 80 columns."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest

from langchain_hybridflow.budget import Amounts, Budget
from tests.integration.test_cli_terminal import ESCAPE, read, terminal


@pytest.fixture
def store(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path}/budget.db"
    budget = Budget(limit_usd=2, max_cloud_calls=10, window="day", store=url, name="team")
    run = budget.start_run()
    run.snapshot()
    run.commit(run.reserve("a", Amounts(cloud_calls=1)), Amounts(usd_micros=500_000, cloud_calls=1))
    budget.close()
    return url


def test_watch_burns_down_and_ends_cleanly_on_ctrl_c(store: str) -> None:
    args = ("budget", "watch", "--store", store, "--every", "0.1")
    budget = Budget(limit_usd=2, max_cloud_calls=10, window="day", store=store, name="team")
    run, seen, spent, pressed = budget.start_run(), "", False, False
    with terminal(*args) as (process, person):
        for text in read(person):
            seen += text
            if not spent and "75%" in seen:
                run.commit(run.reserve("b", Amounts()), Amounts(usd_micros=1_000_000))
                spent = True
            if not pressed and "25%" in seen:
                process.send_signal(signal.SIGINT)
                pressed = True
        assert process.wait(timeout=60) == 0
    budget.close()
    assert "Traceback" not in seen
    assert seen.count("\x1b[?25l") == seen.count("\x1b[?25h")  # the cursor is visible again
    lines = ESCAPE.sub("", seen).replace("\r", "\n").splitlines()
    assert max(map(len, lines)) <= 80
    assert any(re.search(r"team \(day\) +██░{8} +25% USD +\$0\.5000", line) for line in lines)


def test_watch_ends_by_itself_when_its_time_is_over(store: str) -> None:
    with terminal("budget", "watch", "--store", store, "--for", "0.3") as (process, person):
        seen = "".join(read(person))
        assert process.wait(timeout=60) == 0
    assert "team (day)" in seen


@pytest.mark.parametrize(("answer", "spent"), [(b"y\n", 0.0), (b"n\n", 0.5)])
def test_reset_asks_first(store: str, answer: bytes, spent: float) -> None:
    seen, answered = "", False
    args = ("budget", "reset", "--store", store, "--name", "team")
    with terminal(*args) as (process, person):
        for text in read(person):
            seen += text
            if not answered and "[y/N]" in seen:
                os.write(person, answer)
                answered = True
        assert process.wait(timeout=60) == 0
    assert "$0.5000" in seen
    budget = Budget(limit_usd=2, window="day", store=store, name="team")
    assert budget.snapshot()["usd"]["spent"] == spent
    budget.close()
