"""`hybridflow router show | explain | tune`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from langchain_hybridflow.learning import LearnedRouter, load_router
from langchain_hybridflow.verify import PredictorVerifier
from tests.unit.cli.learnt import SHA, content, new_questions, outcomes, saved_router
from tests.unit.learning.outcomes import columns

Run = Callable[..., Result]
PROOF = "Prove that the sequence 17 n + 4 converges modulo 5."


@pytest.fixture
def router(tmp_path: Path) -> Path:
    return saved_router(tmp_path / "router")


def test_show_tells_where_a_router_comes_from(hybridflow: Run, router: Path) -> None:
    result = hybridflow("router", "show", str(router))
    assert result.exit_code == 0, result.stderr
    assert "min_gain" in result.stdout
    assert SHA in "".join(result.stdout.split())
    assert json.loads(hybridflow("router", "show", str(router), "--json").stdout)["files"]


def test_explain_names_the_tier_and_the_reasons(hybridflow: Run, router: Path) -> None:
    result = hybridflow("router", "explain", str(router), PROOF)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith("cloud: ")
    assert "any request" in result.stdout


def test_explanation_adds_up_in_json(hybridflow: Run, router: Path) -> None:
    found = json.loads(hybridflow("router", "explain", str(router), "--json", stdin=PROOF).stdout)
    total = found["start"] + sum(found["contributions"].values())
    assert total == pytest.approx(found["gain"], abs=1e-4)
    assert found["tier"] == "cloud"


def test_explanation_counts_the_answer_of_the_edge(hybridflow: Run, router: Path) -> None:
    args = ("router", "explain", str(router), PROOF, "--json")
    before = json.loads(hybridflow(*args).stdout)
    after = json.loads(hybridflow(*args, "--answer", "x" * 800).stdout)
    assert "length of the edge's answer" in after["contributions"]
    assert "length of the edge's answer" not in before["contributions"]


def test_tune_writes_the_operating_point_for_a_share(
    hybridflow: Run, router: Path, tmp_path: Path
) -> None:
    data = str(outcomes(tmp_path / "new.jsonl", 300))
    args = ("router", "tune", str(router), "--data", data, "--target-share", "0.3")
    point = json.loads(hybridflow(*args, "--json").stdout)
    assert 0.2 < point["cloud_share"] <= 0.3
    saved = load_router(router)
    assert saved.min_gain == point["min_gain"]
    assert saved.manifest.parameters["tuning"]["by"] == "--target-share 0.3"
    assert LearnedRouter.load(router).rule.min_gain == point["min_gain"]
    args = ("evaluate", "--router", str(router), "--data", data, "--json")
    evaluated = json.loads(hybridflow(*args).stdout)["operating_point"]
    assert evaluated["cloud_share"] == pytest.approx(point["cloud_share"])
    assert evaluated["accuracy"] == pytest.approx(point["accuracy"])


def test_tune_after_the_edge_sets_the_point_of_a_verifier(
    hybridflow: Run, router: Path, tmp_path: Path
) -> None:
    before = load_router(router).min_gain
    data = str(outcomes(tmp_path / "new.jsonl", 300))
    args = ("--data", data, "--target-share", "0.3", "--after-edge", "--json")
    point = json.loads(hybridflow("router", "tune", str(router), *args).stdout)
    saved = load_router(router)
    assert (saved.min_gain, saved.after_edge_min_gain) == (before, point["min_gain"])
    assert PredictorVerifier.load(router).rule.min_gain == point["min_gain"]
    assert PredictorVerifier.load(router, min_gain=0.9).rule.min_gain == 0.9


def test_explain_counts_a_declared_tag(hybridflow: Run, router: Path) -> None:
    args = ("router", "explain", str(router), "Something else.", "--json")
    gains = [
        json.loads(hybridflow(*args, "--tag", tag).stdout)["gain"] for tag in ("proof", "riddle")
    ]
    assert gains[0] > gains[1]
    unknown = hybridflow(*args, "--tag", "cookery")
    assert "knows proof, riddle, sum" in " ".join(unknown.stderr.split())
    assert json.loads(unknown.stdout) == json.loads(hybridflow(*args).stdout)


def test_tune_keeps_to_a_limit(hybridflow: Run, router: Path, tmp_path: Path) -> None:
    data = outcomes(tmp_path / "new.jsonl", 200, cloud_usd=[0.01] * 200)
    args = ("router", "tune", str(router), "--data", str(data), "--json")
    point = json.loads(hybridflow(*args, "--limit-usd", "0.5").stdout)
    assert 0 < point["cloud_share"] <= 0.25
    assert point["usd_per_question"] * 200 <= 0.5
    wider = json.loads(hybridflow(*args, "--limit-usd", "0.5", "--questions", "100").stdout)
    assert point["cloud_share"] < wider["cloud_share"] <= 0.5


def test_tune_reaches_a_quality_with_few_cloud_calls(
    hybridflow: Run, router: Path, tmp_path: Path
) -> None:
    data = outcomes(tmp_path / "new.jsonl", 300)
    args = ("router", "tune", str(router), "--data", str(data), "--json")
    point = json.loads(hybridflow(*args, "--min-quality", "0.55").stdout)
    assert point["accuracy"] >= 0.55
    assert 0 < point["cloud_share"] < 0.7


def test_tune_leaves_out_what_was_trained_on(hybridflow: Run, router: Path, tmp_path: Path) -> None:
    mixed = columns(50, seed=0)["question"] + new_questions(100, seed=7)
    data = outcomes(tmp_path / "mixed.jsonl", question=mixed)
    args = ("--data", str(data), "--target-share", "0.5", "--json")
    result = hybridflow("router", "tune", str(router), *args)
    assert json.loads(result.stdout)["rows"] == 100
    assert "50 of 150 questions were in the training data" in " ".join(result.stderr.split())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "Give one of"),
        (("--target-share", "0.3", "--min-quality", "0.5"), "Give one of"),
        (("--min-quality", "1"), "No operating point reaches a quality of 1"),
        (("--limit-usd", "1"), "no column cloud_usd"),
    ],
)
def test_tune_changes_nothing_when_it_cannot_work(
    hybridflow: Run, router: Path, tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    before = content(router)
    data = outcomes(tmp_path / "new.jsonl")
    result = hybridflow("router", "tune", str(router), "--data", str(data), *options)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in " ".join(result.stderr.split())
    assert content(router) == before


def test_tune_refuses_what_was_all_trained_on(
    hybridflow: Run, router: Path, tmp_path: Path
) -> None:
    data: Any = outcomes(tmp_path / "old.jsonl", 150, seed=0, question=columns(150)["question"])
    args = ("--data", str(data), "--target-share", "0.5")
    result = hybridflow("router", "tune", str(router), *args)
    assert result.exit_code == 2
    assert "too few to tune" in " ".join(result.stderr.split())


def test_default_router_is_shown_without_a_directory(hybridflow: Run) -> None:
    result = hybridflow("router", "show", "default")
    assert result.exit_code == 0, result.stderr
    assert "MMLU-Pro, other sets" in result.stdout
    shown = json.loads(hybridflow("router", "show", "default", "--json").stdout)
    assert shown["parameters"]["min_gain"] > 0


def test_default_router_is_explained_without_a_directory(hybridflow: Run) -> None:
    args = ("router", "explain", "default", "What is the capital of France?")
    assert hybridflow(*args).stdout.startswith("edge: the text (")
    found = json.loads(hybridflow(*args, "--json").stdout)
    total = found["start"] + sum(found["contributions"].values())
    assert (found["tier"], total) == ("edge", pytest.approx(found["gain"]))


def test_default_router_says_that_it_knows_no_answers(hybridflow: Run) -> None:
    result = hybridflow("router", "explain", "default", PROOF, "--answer", "42")
    assert result.exit_code == 2
    assert "before any call" in result.stderr
