"""`hybridflow plan` with the sandbox's planner."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from typer.testing import Result

from langchain_hybridflow.cli.trials import typical
from langchain_hybridflow.plan import Plan
from langchain_hybridflow.sandbox import generate_problems

Run = Callable[..., Result]
QUESTION = typical(generate_problems(40)).question


def test_plan_is_a_tree(hybridflow: Run) -> None:
    result = hybridflow("plan", QUESTION)
    assert (result.exit_code, result.stderr) == (0, "")
    assert "├── 1 explain " in result.stdout
    assert "└── 5 generate (needs 2, 3, 4) " in result.stdout


def test_plan_is_mermaid(hybridflow: Run) -> None:
    result = hybridflow("plan", "--mermaid", stdin=QUESTION)
    assert result.stdout.startswith("flowchart TD\n")
    assert result.exit_code == 0


def test_plan_is_a_picture(hybridflow: Run, tmp_path: Path) -> None:
    picture = tmp_path / "plan.png"
    result = hybridflow("plan", QUESTION, "--png", str(picture))
    assert (result.exit_code, result.stdout.strip()) == (0, str(picture))
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_plan_is_json_that_is_a_plan_again(hybridflow: Run) -> None:
    found = json.loads(hybridflow("plan", QUESTION, "--json").stdout)
    plan = Plan.model_validate({"subtasks": found["subtasks"]})
    assert found["metrics"]["critical_path"][-1] == plan.sink.id
    assert found["planning"]["source"] == "planner"


def test_plan_never_works_on_the_subtasks(hybridflow: Run) -> None:
    found = json.loads(hybridflow("plan", QUESTION, "--json").stdout)
    assert len(found["planning"]["attempts"]) == 1
    assert "answer" not in found


def test_hint_is_given_when_the_sandbox_cannot_read_the_question(hybridflow: Run) -> None:
    result = hybridflow("plan", "Compare Rust and Go for a command line tool.")
    assert result.exit_code == 0
    assert "--planner" in result.stderr


def test_two_formats_at_once_are_misuse(hybridflow: Run) -> None:
    result = hybridflow("plan", QUESTION, "--mermaid", "--json")
    assert (result.exit_code, result.stdout) == (2, "")


def test_picture_that_cannot_be_written_is_one_clear_line(hybridflow: Run, tmp_path: Path) -> None:
    result = hybridflow("plan", QUESTION, "--png", str(tmp_path / "no" / "such.png"))
    assert (result.exit_code, result.stdout) == (2, "")
    assert "could not be written" in result.stderr


def test_empty_question_is_misuse(hybridflow: Run) -> None:
    assert hybridflow("plan", "  ").exit_code == 2
