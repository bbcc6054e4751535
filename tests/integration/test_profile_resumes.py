"""The real `hybridflow profile` against the real sandbox server: killed, resumed, trained on."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from langchain_hybridflow.sandbox import sandbox_cloud, sandbox_edge
from langchain_hybridflow.sandbox.server import RequestLog, create_app, running_server

MAIN = "from langchain_hybridflow.cli import main; main()"
HYBRIDFLOW = [sys.executable, "-c", MAIN]
QUESTIONS = 30
PARALLEL = 1 + 4
KEYS = ("OPENAI_API_KEY", "HYBRIDFLOW_API_KEY")


def environment() -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if name not in KEYS}
    return clean | {
        "COLUMNS": "80",
        # Shared clients of langchain-openai are closed by nobody, see pyproject.toml.
        "PYTHONWARNINGS": "error,ignore:unclosed transport:ResourceWarning",
        "OMP_NUM_THREADS": "1",  # threads that spin make a busy machine a slow one
    }


@contextmanager
def served(*, time_scale: float) -> Iterator[tuple[str, RequestLog]]:
    """Serve the sandbox's models over HTTP; yields the base URL, and what was asked."""
    models = (sandbox_edge(time_scale=time_scale), sandbox_cloud(time_scale=time_scale))
    app = create_app({model.model_name: model for model in models})
    with running_server(app) as url:
        yield url, app.state.log


def profile(base_url: str, out: Path, *options: str) -> list[str]:
    return [
        *HYBRIDFLOW,
        "profile",
        *("--data", f"sandbox:{QUESTIONS}", "--out", str(out), "--parallel-cloud", "4"),
        *("--edge", f"{base_url}#sandbox-edge", "--cloud", f"{base_url}#sandbox-cloud"),
        *options,
    ]


def run(command: Sequence[str], *, check: bool = False) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=250,
        check=check,
    )


def answered(out: Path) -> set[tuple[str, str]]:
    """The answers on the disk: tier and question of each whole line of the log."""
    log = out / "log.jsonl"
    lines = log.read_bytes().split(b"\n")[:-1] if log.exists() else []
    rows = [json.loads(line) for line in lines]
    return {(row["tier"], row["question"]) for row in rows if row["error"] is None}


def requests(log: RequestLog) -> Counter[tuple[str, str]]:
    """How often the server was asked what, and as which tier."""
    return Counter(
        (one.model.removeprefix("sandbox-"), one.body["messages"][-1]["content"]) for one in log
    )


def wait_for(out: Path, answers: int, process: subprocess.Popen[Any]) -> None:
    """Wait until so many answers are on the disk; pytest's own time-out ends a hang."""
    log = out / "log.jsonl"
    while not log.exists() or log.read_bytes().count(b"\n") < answers:
        assert process.poll() is None, "it ended too early"
        time.sleep(0.02)


def test_killed_profile_is_resumed_and_nothing_is_bought_twice(tmp_path: Path) -> None:
    out = tmp_path / "profile"
    with served(time_scale=0.01) as (url, log):
        first = subprocess.Popen(profile(url, out), env=environment())
        wait_for(out, 20, first)
        first.send_signal(signal.SIGKILL)
        assert first.wait() == -signal.SIGKILL
        before = answered(out)
        assert len(before) < 2 * QUESTIONS
        with (out / "log.jsonl").open("ab") as file:  # what a torn write leaves
            file.write(b'{"schema":1,"item_id":"mo')

        done = run(profile(url, out, "--json"))
        asked = requests(log)
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert found["complete"]
    assert found["tiers"]["edge"]["scored"] == found["tiers"]["cloud"]["scored"] == QUESTIONS
    assert len(asked) == 2 * QUESTIONS
    assert all(asked[one] == 1 for one in before), "an answer on the disk was bought again"
    # Only what was under way when the process died can have been asked for once more.
    assert sum(asked.values()) <= 2 * QUESTIONS + PARALLEL


def test_limit_holds_over_a_kill_and_is_raised(tmp_path: Path) -> None:
    out = tmp_path / "profile"
    limit = ("--limit-usd", "0.15")
    with served(time_scale=0.01) as (url, log):
        first = subprocess.Popen(profile(url, out, *limit), env=environment())
        wait_for(out, 8, first)
        first.kill()
        first.wait()
        stopped = run(profile(url, out, *limit, "--json"))
        found = json.loads(stopped.stdout)
        assert stopped.returncode == 1
        assert found["stopped"]["kind"] == "budget"
        assert found["budget"]["usd"]["spent"] + found["budget"]["usd"]["held"] <= 0.15
        assert "Repeat the command with a higher --limit-usd" in stopped.stderr
        assert run(profile(url, out, "--limit-usd", "5")).returncode == 0
        asked = requests(log)
    assert sum(asked.values()) <= 2 * QUESTIONS + PARALLEL


def test_ctrl_c_keeps_what_was_answered(tmp_path: Path) -> None:
    out = tmp_path / "profile"
    with served(time_scale=0.05) as (url, log):
        person, program = pty.openpty()
        process = subprocess.Popen(
            profile(url, out),
            stdin=program,
            stdout=program,
            stderr=program,
            env=environment() | {"TERM": "xterm-256color"},
            start_new_session=True,
        )
        os.close(program)
        seen, pressed = "", False
        try:
            while chunk := read(person):
                seen += chunk
                if not pressed and len(answered(out)) >= 4:
                    process.send_signal(signal.SIGINT)
                    pressed = True
            assert process.wait(timeout=60) == 130
        finally:
            process.kill()
            os.close(person)
        kept = answered(out)
        assert "calls are under way and waited for" in seen
        assert "hybridflow: Interrupted: " in seen
        assert "Traceback" not in seen
        assert re.search(r"edge.*/30", seen)
        assert (out / "outcomes.parquet").exists()
        assert run(profile(url, out)).returncode == 0
        asked = requests(log)
    assert all(asked[one] == 1 for one in kept)


def read(person: int) -> str:
    try:
        return os.read(person, 65_536).decode("utf-8", "replace")
    except OSError:  # how Linux says that nobody is at the other end any more
        return ""


@pytest.mark.timeout(300)  # five processes, one of which trains
def test_profile_trains_a_router_that_is_evaluated(tmp_path: Path) -> None:
    def sandbox(name: str, questions: int, *options: str) -> list[str]:
        data = ("--data", f"sandbox:{questions}", "--out", str(tmp_path / name))
        models = ("--edge", "sandbox", "--cloud", "sandbox", "--time-scale", "0")
        return [*HYBRIDFLOW, "profile", *data, *models, *options, "--json"]

    made = json.loads(run(sandbox("profile", 80), check=True).stdout)
    router = str(tmp_path / "router")
    assert made["next"].startswith("hybridflow train --data ")
    trained = run([*HYBRIDFLOW, *made["next"].split()[1:-1], router, "--json"], check=True)
    assert json.loads(trained.stdout)["rows"] == 80
    held_out = json.loads(run(sandbox("held-out", 60, "--seed", "1"), check=True).stdout)
    data = ("--data", held_out["outcomes"])
    judged = run([*HYBRIDFLOW, "evaluate", "--router", router, *data, "--json"], check=True)
    found = json.loads(judged.stdout)
    assert (found["rows"], found["seen_in_training"]) == (60, 0)
    assert found["cloud_accuracy"] > found["edge_accuracy"]
