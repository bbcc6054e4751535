"""`hybridflow ask` with the sandbox's models."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from typer.testing import Result

from langchain_hybridflow.cli.trials import typical
from langchain_hybridflow.plan import Plan
from langchain_hybridflow.sandbox import generate_problems, is_correct

Run = Callable[..., Result]
PROBLEM = typical(generate_problems(40))
SANDBOX = ("--edge", "sandbox", "--cloud", "sandbox", "--time-scale", "0")


def answered(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_answer_comes_with_plan_cost_and_who_did_what(hybridflow: Run) -> None:
    result = hybridflow("ask", PROBLEM.question, *SANDBOX, "--limit-usd", "0.05")
    assert result.exit_code == 0
    assert is_correct(PROBLEM, result.stdout)
    assert re.search(r"cloud · [\d.]+ s · \$0\.00\d\d → .* · planned difficulty", result.stdout)
    assert re.search(r"edge · [\d.]+ s · \$0 → .* · planned difficulty", result.stdout)
    assert "of $0.0500" in result.stdout


def test_nothing_is_told_on_stderr_when_nobody_watches(hybridflow: Run) -> None:
    assert hybridflow("ask", PROBLEM.question, *SANDBOX).stderr == ""


def test_events_are_told_on_stderr_as_they_come_when_lines_are_wanted(hybridflow: Run) -> None:
    result = hybridflow("ask", PROBLEM.question, *SANDBOX, "--progress", "lines")
    lines = result.stderr.splitlines()
    assert "1 planned: " in lines[0]
    assert any("1 routed to edge: " in line for line in lines)
    assert any("done by cloud ($0.00" in line for line in lines)


def test_json_is_one_object_and_nothing_else(hybridflow: Run) -> None:
    result = hybridflow("ask", PROBLEM.question, *SANDBOX, "--json")
    found = answered(result)
    assert result.stderr == ""
    assert found["complete"]
    assert is_correct(PROBLEM, found["answer"])
    assert {row["id"] for row in found["subtasks"]} == {
        subtask.id for subtask in Plan.model_validate(found["plan"]).subtasks
    }
    assert found["models"] == {"edge": "sandbox-edge", "cloud": "sandbox-cloud"}
    assert Decimal(str(found["budget"]["usd"]["spent"])) == Decimal(found["cost_usd"]) > 0


def test_real_small_model_answers_or_asks(hybridflow: Run, require: Callable[..., None]) -> None:
    require("onnxruntime", "install the extra tiny")
    models = ("--edge", "sandbox:tiny", "--cloud", "sandbox", "--time-scale", "0")
    found = answered(hybridflow("ask", "What is 2 + 3?", *models, "--router", "self", "--json"))
    assert found["models"]["edge"] == "sandbox-tiny"
    assert found["totals"]["edge"]["output_tokens"] > 0
    assert not any(tag in found["answer"] for tag in ("<think>", "<answer>", "<unknown>"))


def test_question_is_read_from_stdin(hybridflow: Run) -> None:
    found = answered(hybridflow("ask", *SANDBOX, "--json", stdin=PROBLEM.question))
    assert is_correct(PROBLEM, found["answer"])


@pytest.mark.parametrize(
    ("options", "calls"),
    [
        (("--router", "always-edge"), 0),
        (("--router", "self"), 0),  # the simulated edge never asks
        (("--max-cloud-calls", "1"), 1),
        (("--limit-usd", "0"), 0),
        (("--max-cloud-tokens", "0"), 0),
        (("--max-cloud-share", "0", "--share-burst", "1"), 1),
    ],
)
def test_cloud_is_held_to_what_was_allowed(
    hybridflow: Run, options: tuple[str, ...], calls: int
) -> None:
    found = answered(hybridflow("ask", PROBLEM.question, *SANDBOX, *options, "--json"))
    assert found["totals"]["cloud"]["calls"] == calls
    assert found["degraded"] == ("--router" not in options)


@pytest.mark.parametrize("router", ["threshold", "random", "always-cloud"])
def test_router_is_the_one_that_was_named(hybridflow: Run, router: str) -> None:
    found = answered(hybridflow("ask", PROBLEM.question, *SANDBOX, "--router", router, "--json"))
    reasons = {row["reason"] for row in found["subtasks"]}
    assert not any("planned difficulty" in reason for reason in reasons)


def test_trivial_question_goes_without_a_plan_unless_one_is_always_wanted(hybridflow: Run) -> None:
    auto = answered(hybridflow("ask", "Hello!", *SANDBOX, "--json"))
    always = answered(hybridflow("ask", "Hello!", *SANDBOX, "--planner", "always", "--json"))
    assert auto["planning"]["source"] == "trivial"
    assert auto["planning"]["attempts"] == []
    assert always["planning"]["attempts"]


def test_planner_can_be_a_model_of_its_own(hybridflow: Run) -> None:
    found = answered(
        hybridflow("ask", PROBLEM.question, *SANDBOX, "--planner", "sandbox", "--json")
    )
    assert found["planning"]["source"] == "planner"


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("", *SANDBOX), "empty"),
        (("x" * 300_000, *SANDBOX), "300,000"),
        (("?", *SANDBOX, "--limit-usd", "-1"), "negative"),
        (("?", *SANDBOX, "--deadline-s", "0"), "deadline_s"),
        (("?", *SANDBOX, "--price", "x"), "MODEL=IN,OUT"),
        (("?", *SANDBOX, "--approve-cloud"), "terminal"),
        (("?", "--edge", "gpt", "--cloud", "sandbox"), "provider"),
        (("?", "--edge", "sandbox", "--cloud", "openai:gpt-4.1"), "OPENAI_API_KEY"),
        (
            ("?", "--edge", "sandbox", "--cloud", "http://127.0.0.1:1/v1#own", "--limit-usd", "1"),
            "--price own=IN,OUT",
        ),
    ],
)
def test_what_cannot_work_is_said_in_one_line(
    hybridflow: Run, args: tuple[str, ...], says: str
) -> None:
    result = hybridflow("ask", *args)
    assert (result.exit_code, result.stdout) == (2, "")
    assert says.lower() in result.stderr.lower()
    assert result.stderr.count("\n") == 1


def test_no_question_at_all_is_misuse(hybridflow: Run) -> None:
    result = hybridflow("ask", *SANDBOX, stdin="")
    assert (result.exit_code, result.stdout) == (2, "")
