"""`hybridflow demo` without waiting and without a terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

Run = Callable[..., Result]
QUICK = ("--problems", "4", "--puzzles", "2", "--time-scale", "0")


def figures(result: Result) -> dict[str, Any]:
    assert (result.exit_code, result.stderr) == (0, "")
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_demo_shows_plan_table_budget_and_picture(hybridflow: Run, tmp_path: Path) -> None:
    picture = tmp_path / "demo.png"
    result = hybridflow("demo", *QUICK, "--picture", str(picture))
    assert (result.exit_code, result.stderr) == (0, "")
    for text in ("1 explain", "edge only", "cloud only", "HybridFlow", "still held", str(picture)):
        assert text in result.stdout.replace("\n", "") or text in result.stdout
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_demo_is_plain_and_narrow_when_nobody_watches(hybridflow: Run, tmp_path: Path) -> None:
    result = hybridflow("demo", *QUICK, "--picture", str(tmp_path / "demo.png"))
    for line in result.stdout.replace(str(tmp_path), "").splitlines():
        assert all(char.isprintable() for char in line)
        assert len(line) <= 80


def test_json_is_one_object_with_all_figures(hybridflow: Run) -> None:
    found = figures(hybridflow("demo", *QUICK, "--json"))
    assert [one["name"] for one in found["approaches"]] == ["edge only", "cloud only", "HybridFlow"]
    assert {one["problems"] for one in found["approaches"]} == {4}


def test_second_part_is_a_table_of_its_own(hybridflow: Run, tmp_path: Path) -> None:
    short = ("--problems", "1", "--time-scale", "0")
    result = hybridflow("demo", *short, "--picture", str(tmp_path / "demo.png"))
    first, second = result.stdout.split("A real language model on the edge")
    assert "HybridFlow" in first
    for text in ("5 puzzles", "random offload", "SelfRouter", "thinks:", "The same again"):
        assert text in second


def test_first_part_is_the_same_with_and_without_the_second(hybridflow: Run) -> None:
    without = figures(hybridflow("demo", *QUICK, "--puzzles", "0", "--json"))
    with_it = figures(hybridflow("demo", *QUICK, "--puzzles", "3", "--json"))
    keys = ("correct", "cloud_calls", "cloud_tokens", "cost_usd")
    for found in (without, with_it):
        found["approaches"] = [[one[key] for key in keys] for one in found["approaches"]]
    assert without["self_routing"] is None
    assert with_it["self_routing"]["puzzles"] == 3
    assert with_it["approaches"] == without["approaches"]
    assert with_it["budgets"] == without["budgets"]


def test_second_part_gives_the_same_answers_again(hybridflow: Run) -> None:
    def answers() -> list[Any]:
        found = figures(hybridflow("demo", *QUICK, "--puzzles", "6", "--json"))["self_routing"]
        keys = ("name", "correct", "cloud_share", "cost_usd")
        return [[one[key] for key in keys] for one in found["approaches"]]

    assert answers() == answers()


def test_second_part_is_left_out_in_a_line_without_its_extra(
    hybridflow: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    result = hybridflow("demo", *QUICK, "--picture", str(tmp_path / "demo.png"))
    assert (result.exit_code, result.stderr) == (0, "")
    (line,) = [line for line in result.stdout.splitlines() if line.startswith("Left out")]
    assert "pip install 'langchain-hybridflow[tiny]'" in line
    assert "SelfRouter" not in result.stdout
    found = figures(hybridflow("demo", *QUICK, "--json"))
    assert "langchain-hybridflow[tiny]" in found["self_routing"]["left_out"]


def test_budget_is_kept_at_every_limit_and_agrees_with_the_reports(hybridflow: Run) -> None:
    found = figures(hybridflow("demo", *QUICK, "--json"))
    together = found["approaches"][2]
    assert len(found["budgets"]) == 3
    for budget in found["budgets"]:
        assert budget["kept"]
        assert Decimal(budget["spent_usd"]) <= Decimal(budget["limit_usd"])
        assert Decimal(budget["held_usd"]) == 0
    assert Decimal(found["budgets"][0]["spent_usd"]) == Decimal(together["cost_usd"])


def test_no_money_means_no_cloud(hybridflow: Run) -> None:
    found = figures(hybridflow("demo", *QUICK, "--limit-usd", "0", "--json"))
    together = found["approaches"][2]
    assert (together["cloud_calls"], Decimal(together["cost_usd"])) == (0, 0)


def test_same_seed_gives_same_answers(hybridflow: Run) -> None:
    def answers(seed: str) -> list[Any]:
        found = figures(hybridflow("demo", *QUICK, "--seed", seed, "--json"))
        keys = ("correct", "cloud_calls", "cloud_tokens", "cost_usd")
        return [[one[key] for key in keys] for one in found["approaches"]]

    assert answers("3") == answers("3")
    assert answers("3") != answers("4")


def test_command_printed_gives_the_same_again(hybridflow: Run) -> None:
    found = figures(hybridflow("demo", *QUICK, "--seed", "5", "--json"))
    program, *args = found["command"].split()
    again = figures(hybridflow(*args, "--json"))
    assert program == "hybridflow"
    assert again["budgets"] == found["budgets"]


def test_demo_goes_on_without_matplotlib(
    hybridflow: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    loaded = [name for name in sys.modules if name.split(".")[0] == "matplotlib"]
    for name in {"matplotlib", "matplotlib.figure", *loaded}:
        monkeypatch.setitem(sys.modules, name, None)
    result = hybridflow("demo", *QUICK, "--picture", str(tmp_path / "demo.png"))
    assert result.exit_code == 0
    assert "langchain-hybridflow[plot]" in result.stdout
    assert "The same again" in result.stdout


def test_demo_says_so_when_the_picture_cannot_be_written(hybridflow: Run, tmp_path: Path) -> None:
    result = hybridflow("demo", *QUICK, "--picture", str(tmp_path / "no" / "such.png"))
    assert result.exit_code == 0
    assert "could not be written" in result.stdout


@pytest.mark.parametrize("limit", ["-1", "nan", "a lot"])
def test_limit_that_is_none_is_refused(hybridflow: Run, limit: str) -> None:
    result = hybridflow("demo", *QUICK, "--limit-usd", limit)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("hybridflow: ")
