"""`hybridflow evaluate`: stable keys, honest warnings, and refusals."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from tests.unit.cli.learnt import new_questions, outcomes, saved_router
from tests.unit.learning.outcomes import columns

Run = Callable[..., Result]
PAGE = Path(__file__).parents[3] / "docs" / "router.md"

FIGURES = {
    "rows", "edge_accuracy", "cloud_accuracy", "apgr", "apgr_10_points", "apgr_oracle", "cpt50",
    "cpt80", "auroc", "brier", "brier_edge", "brier_cloud", "ece", "ece_equal_mass", "ece_noise",
    "regret",
}  # fmt: skip
MORE = {
    "seen_in_training", "apgr_low", "apgr_high", "operating_point", "after_edge", "by_category",
    "curve", "reliability", "gains", "warnings", "with_tag", "without_embeddings",
}  # fmt: skip


@pytest.fixture(scope="module")
def router(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(saved_router(tmp_path_factory.mktemp("evaluate") / "router"))


def evaluated(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_json_has_the_documented_keys(hybridflow: Run, router: str, tmp_path: Path) -> None:
    data = outcomes(tmp_path / "new.jsonl", 300)
    found = evaluated(hybridflow("evaluate", "--router", router, "--data", str(data), "--json"))
    assert set(found) == FIGURES | MORE
    assert set(found["after_edge"]) == FIGURES
    assert set(found["by_category"]) == {"sum", "proof", "riddle"}
    assert set(found["by_category"]["sum"]) == FIGURES
    assert set(found["with_tag"]) == FIGURES | {"apgr_low", "apgr_high", "after_edge"}
    assert found["without_embeddings"] is None
    assert found["rows"] == 300
    assert 0.5 < found["apgr_low"] <= found["apgr"] <= found["apgr_high"]
    assert 0 < found["cpt50"] < found["cpt80"] <= 100
    assert found["curve"]["accuracy"][0] == pytest.approx(found["edge_accuracy"])
    assert found["curve"]["accuracy"][-1] == pytest.approx(found["cloud_accuracy"])


def test_headline_is_of_calls_that_declare_no_tag(
    hybridflow: Run, router: str, tmp_path: Path
) -> None:
    tagged, bare = outcomes(tmp_path / "a.jsonl"), outcomes(tmp_path / "b.jsonl", tag=None)
    with_tags, without = (
        evaluated(hybridflow("evaluate", "--router", router, "--data", str(data), "--json"))
        for data in (tagged, bare)
    )
    assert with_tags["apgr"] == without["apgr"]
    assert with_tags["after_edge"] == without["after_edge"]
    assert with_tags["with_tag"] is not None
    assert without["with_tag"] is None


def test_every_key_is_in_the_help_and_on_the_page(hybridflow: Run) -> None:
    told = hybridflow("evaluate", "--help").stdout
    page = PAGE.read_text(encoding="utf-8")
    for key in FIGURES | MORE:
        assert re.search(rf"\b{key}\b", told)
        assert f"`{key}`" in page


def test_table_shows_the_same_figures(hybridflow: Run, router: str, tmp_path: Path) -> None:
    args = ("evaluate", "--router", router, "--data", str(outcomes(tmp_path / "new.jsonl")))
    found = evaluated(hybridflow(*args, "--json"))
    shown = hybridflow(*args).stdout
    for key in ("apgr", "auroc", "brier", "ece", "regret"):
        assert f"{found[key]:.3f}" in shown
    assert f"{found['cpt50']:.1f}" in shown
    assert "oracle" in shown
    assert "always-cloud" in shown


def test_new_questions_bring_no_warning(hybridflow: Run, router: str, tmp_path: Path) -> None:
    args = ("--router", router, "--data", str(outcomes(tmp_path / "new.jsonl")))
    result = hybridflow("evaluate", *args, "--json")
    assert evaluated(result)["seen_in_training"] == 0
    assert result.stderr == ""


def test_questions_of_the_training_are_counted_and_warned_of(
    hybridflow: Run, router: str, tmp_path: Path
) -> None:
    old = columns(100, seed=0)["question"]
    # Another case and other spaces make no new question.
    mixed = [f"  {text.upper()}" for text in old[:30]] + new_questions(120, seed=5)
    data = outcomes(tmp_path / "mixed.jsonl", question=mixed)
    result = hybridflow("evaluate", "--router", router, "--data", str(data), "--json")
    assert evaluated(result)["seen_in_training"] == 30
    assert "30 of 150 questions were in the training data" in " ".join(result.stderr.split())


@pytest.mark.parametrize(("model", "warned"), [("small", False), ("other", True)])
def test_answers_of_another_model_are_warned_of(
    hybridflow: Run, router: str, tmp_path: Path, model: str, warned: bool
) -> None:
    data = outcomes(tmp_path / "new.jsonl", weak_model=[model] * 150)
    result = hybridflow("evaluate", "--router", router, "--data", str(data), "--json")
    assert result.exit_code == 0
    told = "trained on answers of small, and these are of other" in " ".join(result.stderr.split())
    assert told == warned


def test_what_does_not_exist_is_null(hybridflow: Run, router: str, tmp_path: Path) -> None:
    data = outcomes(tmp_path / "same.jsonl", cloud_correct=[0] * 150, edge_answer_chars=None)
    result = hybridflow("evaluate", "--router", router, "--data", str(data), "--json")
    found = evaluated(result)
    assert [found[key] for key in ("apgr", "cpt50", "apgr_low", "after_edge")] == [None] * 4
    assert "no gap to recover" in " ".join(result.stderr.split())


def change_schema(router: Path) -> None:
    manifest = json.loads((router / "manifest.json").read_text())
    (router / "manifest.json").write_text(json.dumps(manifest | {"feature_schema": 99}))


def damage(router: Path) -> None:
    next(router.glob("predictor-*")).write_bytes(b"something else")


def remove_manifest(router: Path) -> None:
    (router / "manifest.json").unlink()


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (change_schema, "schema 99"),
        (damage, "is not what was saved"),
        (remove_manifest, "cannot be read"),
    ],
)
def test_router_that_does_not_fit_is_refused(
    hybridflow: Run, tmp_path: Path, harm: Callable[[Path], None], message: str
) -> None:
    place = saved_router(tmp_path / "router")
    harm(place)
    data = outcomes(tmp_path / "new.jsonl")
    result = hybridflow("evaluate", "--router", str(place), "--data", str(data), "--json")
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in " ".join(result.stderr.split())
