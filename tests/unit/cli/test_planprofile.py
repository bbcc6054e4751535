"""`hybridflow profile --as subtasks` and `--runs`, run in this process on the sandbox."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from langchain_hybridflow.learning import load_dataset
from langchain_hybridflow.sandbox import generate_problems
from tests.unit.cli.conftest import Run

SANDBOX = ("--edge", "sandbox", "--cloud", "sandbox", "--time-scale", "0")


def args(out: Path, *options: str) -> tuple[str, ...]:
    return ("profile", "--out", str(out), *SANDBOX, *options)


def test_subtasks_are_profiled_and_the_next_command_is_told(
    hybridflow: Run, tmp_path: Path
) -> None:
    out = tmp_path / "p"
    options = ("--as", "subtasks", "--data", "sandbox:12", "--credit-samples", "2")
    run = hybridflow(*args(out, *options))
    assert (run.exit_code, run.stderr) == (0, "")
    for part in ("12 of 12 questions", "for trials", "standard error", "All on the cloud"):
        assert part in run.stdout
    assert f"hybridflow train --data {out}/outcomes.parquet" in run.stdout
    assert all(len(line) <= 80 or str(tmp_path) in line for line in run.stdout.splitlines())
    data = load_dataset(out / "outcomes.parquet")
    assert len(set(data.groups)) == 12
    assert len(data) > 40


def test_what_ask_printed_is_profiled(hybridflow: Run, tmp_path: Path) -> None:
    question = generate_problems(2)[1].question
    asked = hybridflow("ask", question, *SANDBOX, "--limit-usd", "0.1", "--json")
    (tmp_path / "run.json").write_text(asked.stdout)
    options = ("--runs", str(tmp_path / "run.json"), "--data", "sandbox:2", "--json")
    run = hybridflow(*args(tmp_path / "p", *options))
    found = json.loads(run.stdout)
    assert run.exit_code == 0
    assert found["complete"]
    assert (
        found["calls"]["recorded"] == found["subtasks"] == len(json.loads(asked.stdout)["subtasks"])
    )
    assert "run" not in found["calls"]


def test_budget_that_ends_early_ends_with_1_and_says_how_to_go_on(
    hybridflow: Run, tmp_path: Path
) -> None:
    options = ("--as", "subtasks", "--data", "sandbox:6", "--max-tokens", "256")
    run = hybridflow(*args(tmp_path / "p", *options, "--limit-usd", "0.02"))
    assert run.exit_code == 1
    assert "higher --limit-usd" in " ".join(run.stderr.split())
    assert hybridflow(*args(tmp_path / "p", *options, "--limit-usd", "5")).exit_code == 0


def test_trials_are_left_out_when_not_wanted(hybridflow: Run, tmp_path: Path) -> None:
    options = ("--as", "subtasks", "--data", "sandbox:3", "--no-credit", "--json")
    found = json.loads(hybridflow(*args(tmp_path / "p", *options)).stdout)
    assert found["trials"] == 0
    assert found["rows"] == 3
    assert "credit" not in found["calls"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ((), "--data"),
        (("--as", "subtasks"), "nothing to profile"),
        (("--runs", "absent.json"), "cannot be read"),
        (("--as", "subtasks", "--data", "sandbox:3", "--samples", "2"), "--samples"),
        (("--as", "subtasks", "--data", "sandbox:3", "--no-answers"), "--no-answers"),
        (("--as", "subtasks", "--data", "sandbox:3", "--no-credit", "--credit-samples", "2"),
         "--no-credit"),
        (("--as", "steps", "--data", "sandbox:3"), "subtasks"),
        (("--as", "subtasks", "--data", "sandbox:3", "--credit-share", "2"), "--credit-share"),
    ],
)  # fmt: skip
def test_what_cannot_work_ends_with_2_and_says_why(
    hybridflow: Run, tmp_path: Path, options: tuple[str, ...], says: str
) -> None:
    run = hybridflow(*args(tmp_path / "p", *options))
    assert run.exit_code == 2
    assert says in run.stderr
    assert not (tmp_path / "p" / "log.jsonl").exists()


def test_servers_that_are_down_end_it_with_1_and_the_cause(hybridflow: Run, tmp_path: Path) -> None:
    down = "http://127.0.0.1:9/v1#m"
    where = ("--edge", down, "--cloud", down, "--out", str(tmp_path / "p"))
    run = hybridflow("profile", *where, "--as", "subtasks", "--data", "sandbox:20")
    assert run.exit_code == 1
    assert "kept failing" in run.stderr
    assert "0 of 20 questions" in run.stdout
    assert "no plan" in run.stdout
