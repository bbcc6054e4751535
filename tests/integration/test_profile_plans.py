"""A profile of plans over HTTP that is killed goes on where it was, and is fit to learn from."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import BaseMessage
from pydantic import PrivateAttr

from langchain_hybridflow.learning import load_dataset
from langchain_hybridflow.learning.dataset import read_table
from langchain_hybridflow.sandbox import CLOUD_PROFILE, EDGE_PROFILE, SandboxChatModel
from langchain_hybridflow.sandbox.server import create_app, running_server

HYBRIDFLOW = [sys.executable, "-c", "from langchain_hybridflow.cli import main; main()"]
PATIENCE_S = 60.0


class Counting(SandboxChatModel):
    """A model of the sandbox that remembers its prompts."""

    _asked: Counter[str] = PrivateAttr(default_factory=Counter)
    _lock: Any = PrivateAttr(default_factory=threading.Lock)

    @property
    def asked(self) -> Counter[str]:
        with self._lock:
            return Counter(self._asked)

    def _answer(self, messages: Sequence[BaseMessage]) -> str:
        with self._lock:
            self._asked["\n".join(message.text for message in messages)] += 1
        return super()._answer(messages)


@pytest.fixture
def models() -> dict[str, Counting]:
    profiles = (EDGE_PROFILE, CLOUD_PROFILE)
    return {one.name: Counting(tier_profile=one, time_scale=0.02) for one in profiles}


@pytest.fixture
def base_url(models: dict[str, Counting]) -> Iterator[str]:
    with running_server(create_app(models)) as url:
        yield url


def command(base_url: str, out: Path) -> list[str]:
    tiers = ["--edge", f"{base_url}#sandbox-edge", "--cloud", f"{base_url}#sandbox-cloud"]
    what = ["--as", "subtasks", "--data", "sandbox:12", "--credit-samples", "2", "--json"]
    return [*HYBRIDFLOW, "profile", *tiers, "--out", str(out), "--limit-usd", "5", *what]


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.endswith("API_KEY")}


def test_killed_profile_goes_on_and_buys_nothing_twice(
    models: dict[str, Counting], base_url: str, tmp_path: Path
) -> None:
    out = tmp_path / "profile"
    log = out / "log.jsonl"
    with (tmp_path / "first.txt").open("wb") as said:
        first = subprocess.Popen(
            command(base_url, out), env=environment(), stdout=said, stderr=said
        )
        deadline = time.monotonic() + PATIENCE_S
        while not (log.exists() and log.read_bytes().count(b"\n") >= 60):
            assert first.poll() is None, (tmp_path / "first.txt").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        first.send_signal(signal.SIGKILL)
        first.wait(PATIENCE_S)
    second = subprocess.run(
        command(base_url, out),
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    assert second.returncode == 0, second.stderr
    found = json.loads(second.stdout)
    assert found["complete"]
    assert found["rows"] == found["subtasks"]
    lines = log.read_text().splitlines()
    assert all(json.loads(line) for line in lines)
    repeated = [count - 1 for model in models.values() for count in model.asked.values()]
    # What was under way when it was killed, and the run of a question whose plan was not yet
    # written down, are asked again: at most four plans were being worked on.
    assert sum(repeated) <= 4 * 8
    assert sum(repeated) < 0.25 * sum(model.asked.total() for model in models.values())

    data = load_dataset(out / Path(found["outcomes"]).name)
    columns = read_table(out / Path(found["outcomes"]).name)
    assert len(data) == found["rows"]
    assert len(set(data.groups)) == 12
    for row, credit in enumerate(columns["credit"]):
        assert credit == pytest.approx(data.cloud[row] - data.edge[row])
    assert max(columns["credit"]) > 0
    assert min(columns["credit_se"]) >= 0
