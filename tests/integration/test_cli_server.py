"""The real program against real servers: streams, exit codes, Ctrl-C, and keys that stay secret."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from langchain_hybridflow.cli.trials import typical
from langchain_hybridflow.sandbox import (
    generate_problems,
    is_correct,
    sandbox_cloud,
    sandbox_edge,
)
from langchain_hybridflow.sandbox.server import Fault, Faults, create_app, running_server

PROBLEM = typical(generate_problems(40))
CANARY = "hf-CANARY-7f3a9c"
HYBRIDFLOW = [
    sys.executable,
    "-c",
    "from langchain_hybridflow.cli import main; main()",
]
KEYS = ("OPENAI_API_KEY", "HYBRIDFLOW_API_KEY")


def environment(**keys: str) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if name not in KEYS}
    return clean | {"COLUMNS": "80", "PYTHONWARNINGS": "error"} | keys


def hybridflow(
    *args: str, stdin: str = "", env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*HYBRIDFLOW, *args],
        input=stdin,
        env=dict(env or environment()),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.fixture
def faults() -> Faults:
    return Faults()


@pytest.fixture
def base_url(faults: Faults) -> Iterator[str]:
    models = {
        "sandbox-edge": sandbox_edge(time_scale=0),
        "sandbox-cloud": sandbox_cloud(time_scale=0),
    }
    with running_server(create_app(models, faults=faults)) as url:
        yield url


def both(base_url: str) -> tuple[str, ...]:
    return ("--edge", f"{base_url}#sandbox-edge", "--cloud", f"{base_url}#sandbox-cloud")


def test_ask_answers_through_the_real_client(base_url: str) -> None:
    run = hybridflow("ask", PROBLEM.question, *both(base_url), "--limit-usd", "0.05", "--json")
    found = json.loads(run.stdout)
    assert (run.returncode, run.stderr) == (0, "")
    assert is_correct(PROBLEM, found["answer"])
    assert found["totals"]["cloud"]["calls"] > 0
    assert not any(one["usage_estimated"] for one in found["planning"]["attempts"])


def test_ask_reads_a_piped_question_and_prints_plain_text(base_url: str) -> None:
    run = hybridflow("ask", *both(base_url), stdin=PROBLEM.question)
    assert run.returncode == 0
    assert is_correct(PROBLEM, run.stdout)
    assert "\x1b" not in run.stdout + run.stderr


def test_plan_is_made_by_a_model_behind_a_url(base_url: str) -> None:
    run = hybridflow("plan", PROBLEM.question, "--planner", f"{base_url}#sandbox-edge", "--mermaid")
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.startswith("flowchart TD")


def test_answer_is_incomplete_with_exit_code_1_when_no_tier_answers(
    base_url: str, faults: Faults
) -> None:
    faults.add(Fault(kind="server_error", times=None))
    run = hybridflow("ask", PROBLEM.question, *both(base_url), "--json")
    found = json.loads(run.stdout)
    assert run.returncode == 1
    assert not found["complete"]
    assert found["missing"]
    assert found["budget"]["usd"]["held"] == 0


def test_plan_fails_with_its_reason_when_the_planner_cannot_be_reached() -> None:
    run = hybridflow("plan", PROBLEM.question, "--planner", "http://127.0.0.1:9/v1#nobody")
    assert run.returncode == 1
    assert "No plan could be made" in run.stderr
    assert "Traceback" not in run.stderr


class _Unauthorized(BaseHTTPRequestHandler):
    """A server that repeats the key it was sent in everything it says, as some do."""

    seen: list[str]

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        key = self.headers["authorization"]
        self.seen.append(key)
        error = {"message": f"Incorrect API key provided: {key}", "code": key, "type": key}
        body = json.dumps({"error": error}).encode()
        self.send_response(401, f"Bad key {key}")
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        """Say nothing."""


@contextmanager
def unauthorized() -> Iterator[tuple[str, list[str]]]:
    seen: list[str] = []
    handler = type("Handler", (_Unauthorized,), {"seen": seen})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1", seen
        finally:
            server.shutdown()


@pytest.mark.parametrize("key_name", KEYS)
@pytest.mark.parametrize("command", ["ask", "ask --json", "plan", "plan --json"])
def test_key_appears_nowhere_when_the_server_echoes_it(command: str, key_name: str) -> None:
    name, *options = command.split()
    with unauthorized() as (url, seen):
        model = f"{url}#m"
        who = ("--planner", model) if name == "plan" else ("--edge", model, "--cloud", model)
        run = hybridflow(
            name, PROBLEM.question, *who, *options, env=environment(**{key_name: CANARY})
        )
    assert run.returncode == 1
    assert f"Bearer {CANARY}" in seen
    assert CANARY not in run.stdout + run.stderr
    assert "***" in run.stdout + run.stderr
    assert "Traceback" not in run.stderr


def started(*args: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*HYBRIDFLOW, *args],
        env=environment() | {"PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def read_until(process: subprocess.Popen[str], text: str) -> Iterator[str]:
    """The lines of standard output up to the first one with this text."""
    assert process.stdout is not None
    for line in process.stdout:
        yield line
        if text in line:
            return
    pytest.fail(f"the program ended without saying {text!r}")


def test_interrupted_ask_ends_cleanly_and_says_what_it_booked() -> None:
    models = ("--edge", "sandbox", "--cloud", "sandbox", "--progress", "lines")
    process = started("ask", PROBLEM.question, *models)
    assert process.stderr is not None
    process.stderr.readline()  # something has happened: it is under way
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=30)
    assert (process.returncode, stdout) == (130, "")
    assert "Interrupted. Booked so far: $" in stderr
    assert "Traceback" not in stderr


def test_sandbox_serve_prints_examples_that_work_and_stops_on_ctrl_c() -> None:
    process = started("sandbox", "serve", "--port", "0", "--time-scale", "0", "--max-idle-s", "60")
    assert process.stdout is not None
    stdout = "".join(read_until(process, "curl "))
    base_url = re.search(r"http://127\.0\.0\.1:\d+/v1", stdout)
    assert base_url is not None
    try:
        run = hybridflow("ask", PROBLEM.question, *both(base_url[0]), "--limit-usd", "0.05")
    finally:
        process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=30)
    assert (process.returncode, stderr) == (0, "")
    assert (run.returncode, is_correct(PROBLEM, run.stdout)) == (0, True)
    assert "hybridflow ask '" in stdout
    assert "curl http://127.0.0.1:" in stdout


def test_sandbox_serve_stops_by_itself_when_idle() -> None:
    run = hybridflow("sandbox", "serve", "--port", "0", "--max-idle-s", "0.2")
    assert (run.returncode, run.stderr) == (0, "")


def test_port_that_is_taken_is_one_clear_line(base_url: str) -> None:
    port = base_url.rpartition(":")[2].removesuffix("/v1")
    run = hybridflow("sandbox", "serve", "--port", port)
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr.startswith(f"hybridflow: Cannot listen on 127.0.0.1:{port}")


def test_output_that_nobody_reads_to_the_end_is_no_crash(tmp_path: Path) -> None:
    process = started(
        "demo", "--problems", "2", "--time-scale", "0", "--picture", f"{tmp_path}/p.png"
    )
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr is not None
    assert "Traceback" not in process.stderr.read()
    process.stderr.close()
    process.wait(timeout=30)


def test_terminal_that_knows_only_ascii_is_no_crash(tmp_path: Path) -> None:
    env = environment() | {"PYTHONIOENCODING": "ascii"}
    run = hybridflow(
        *("demo", "--problems", "2", "--time-scale", "0", "--picture", f"{tmp_path}/p.png"), env=env
    )
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.isascii()
