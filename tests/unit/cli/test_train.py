"""`hybridflow train`: what it writes and says, and that bad data leave nothing behind."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from langchain_hybridflow.chat_models import RoutedChatModel
from langchain_hybridflow.learning import LearnedRouter, load_router, read_table
from langchain_hybridflow.routing import AlwaysEdge
from langchain_hybridflow.sandbox import sandbox_cloud, sandbox_edge
from tests.unit.cli.learnt import content, outcomes, saved_router
from tests.unit.learning.outcomes import columns, dataset

Run = Callable[..., Result]


@pytest.fixture(scope="module")
def run_of_training(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    from typer.testing import CliRunner

    from langchain_hybridflow.cli import app

    place = tmp_path_factory.mktemp("training")
    data = outcomes(place / "data.jsonl", 150, weak_model=["small"] * 150)
    args = ["train", "--data", str(data), "--out", str(place / "router"), "--seed", "3"]
    return place / "router", CliRunner().invoke(app, args, env={"COLUMNS": "80"})


def test_train_reports_candidates_and_baselines(run_of_training: tuple[Path, Result]) -> None:
    _, result = run_of_training
    assert result.exit_code == 0, result.stderr
    for word in ("APGR", "CPT50 %", "CPT80 %", "AUROC", "Brier", "ECE", "random", "difficulty"):
        assert word in result.stdout
    for name in ("forest", "logistic", "always-edge", "always-cloud", "Once the edge has answered"):
        assert name in result.stdout


def test_train_writes_a_router_that_knows_its_data(run_of_training: tuple[Path, Result]) -> None:
    place, _ = run_of_training
    manifest = load_router(place).manifest
    assert manifest.file_format == "skops"
    assert manifest.training_data["rows"] == 150
    assert manifest.training_data["edge_model"] == "small"
    assert manifest.training_data["seed"] == 3
    assert 0 < manifest.metrics["apgr"] <= manifest.metrics["apgr_oracle"]
    assert "small" in (place / "MODEL_CARD.md").read_text()
    assert [path.name for path in place.parent.iterdir() if path.name.startswith(".")] == []


def test_train_keeps_no_text_of_the_questions(run_of_training: tuple[Path, Result]) -> None:
    place, _ = run_of_training
    everything = b"".join(content(place).values())
    assert b"Prove that" not in everything


async def test_routed_model_uses_the_trained_router(run_of_training: tuple[Path, Result]) -> None:
    place, _ = run_of_training
    model = RoutedChatModel(
        edge=sandbox_edge(time_scale=0),
        cloud=sandbox_cloud(time_scale=0),
        router=LearnedRouter.load(place, min_gain=0.3),
    )
    proof = await model.ainvoke("Prove that the sequence 17 n + 4 converges modulo 5.")
    total = await model.ainvoke("What is 3 + 4?\nA. 3\nB. 7\nC. 4")
    tiers = [one.response_metadata["hybridflow"]["tier"] for one in (proof, total)]
    assert tiers == ["cloud", "edge"]


async def test_verifier_decides_by_the_answer_with_the_trained_predictor(
    run_of_training: tuple[Path, Result],
) -> None:
    from langchain_hybridflow.testing import ScriptedChatModel
    from langchain_hybridflow.verify import PredictorVerifier

    place, _ = run_of_training
    predictor = LearnedRouter.load(place).predictor

    async def escalated(answer: str) -> bool:
        model = RoutedChatModel(
            edge=ScriptedChatModel(responses=[answer]),
            cloud=sandbox_cloud(time_scale=0),
            router=AlwaysEdge(),
            verify=PredictorVerifier(predictor, min_gain=0.5),
        )
        message = await model.ainvoke("Prove that the sequence 17 n + 4 converges modulo 5.")
        return bool(message.response_metadata["hybridflow"]["escalated"])

    assert await escalated("x" * 800)
    assert not await escalated("x" * 60)


def test_ask_takes_a_directory_as_its_router(hybridflow: Run, tmp_path: Path) -> None:
    place = saved_router(tmp_path / "router")
    sandbox = ("--edge", "sandbox", "--cloud", "sandbox", "--time-scale", "0", "--json")
    result = hybridflow("ask", "What is 3 + 4?", *sandbox, "--router", str(place))
    assert result.exit_code in (0, 1), result.stderr
    reasons = [row["reason"] for row in json.loads(result.stdout)["subtasks"]]
    assert any("gain" in str(reason) for reason in reasons)


def test_ask_refuses_a_router_that_does_not_exist(hybridflow: Run) -> None:
    result = hybridflow("ask", "?", "--edge", "sandbox", "--cloud", "sandbox", "--router", "no")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "'no' is neither a router" in result.stderr


NOT_A_NUMBER = [float("nan"), *[0, 1] * 74, 1]


@pytest.mark.parametrize(
    ("rows", "changes", "message"),
    [
        (10, {}, "10 rows in 10 groups are too few"),
        (150, {"edge_correct": [1] * 150}, "The edge has the score 1 on all 150 rows"),
        (150, {"edge_correct": NOT_A_NUMBER}, "edge_correct must be from 0 to 1 in every row"),
        (150, {"cloud_correct": None}, "There is no column 'cloud_correct'"),
        (150, {"question": None}, "There is no column 'question'"),
        (150, {"question": ["again"] * 150}, "in 1 groups are too few"),
        (150, {"edge_correct": ["yes"] * 150}, "A number was expected"),
    ],
)
def test_train_refuses_data_that_teach_nothing(
    hybridflow: Run, tmp_path: Path, rows: int, changes: dict[str, Any], message: str
) -> None:
    data = outcomes(tmp_path / "data.jsonl", rows, **changes)
    result = hybridflow("train", "--data", str(data), "--out", str(tmp_path / "router"))
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())
    assert [path.name for path in tmp_path.iterdir()] == ["data.jsonl"]


def test_train_leaves_a_router_as_it_is_when_the_data_are_bad(
    hybridflow: Run, tmp_path: Path
) -> None:
    place = saved_router(tmp_path / "router")
    before = content(place)
    data = outcomes(tmp_path / "data.jsonl", 10)
    result = hybridflow("train", "--data", str(data), "--out", str(place))
    assert result.exit_code == 2
    assert content(place) == before


def test_train_refuses_a_directory_of_something_else(hybridflow: Run, tmp_path: Path) -> None:
    data = outcomes(tmp_path / "data.jsonl")
    result = hybridflow("train", "--data", str(data), "--out", str(tmp_path))
    assert result.exit_code == 2
    assert "files that are no router" in " ".join(result.stderr.split())
    assert [path.name for path in tmp_path.iterdir()] == ["data.jsonl"]


@pytest.mark.parametrize("place", ["data.jsonl", "data.jsonl/router"])
def test_train_refuses_a_place_it_cannot_write_to(
    hybridflow: Run, tmp_path: Path, place: str
) -> None:
    data = outcomes(tmp_path / "data.jsonl")
    result = hybridflow("train", "--data", str(data), "--out", str(tmp_path / place))
    assert (result.exit_code, result.stdout) == (2, "")


@pytest.mark.parametrize("name", ["missing.parquet", "data.txt", "broken.parquet", "broken.jsonl"])
def test_train_refuses_a_file_it_cannot_read(hybridflow: Run, tmp_path: Path, name: str) -> None:
    if name != "missing.parquet":
        (tmp_path / name).write_text("{")
    result = hybridflow("train", "--data", str(tmp_path / name), "--out", str(tmp_path / "router"))
    assert (result.exit_code, result.stdout) == (2, "")
    assert not (tmp_path / "router").exists()


def test_after_edge_needs_the_length_of_answers(hybridflow: Run, tmp_path: Path) -> None:
    data = outcomes(tmp_path / "data.jsonl", edge_answer_chars=None)
    out = ("--out", str(tmp_path / "router"), "--after-edge")
    result = hybridflow("train", "--data", str(data), *out)
    assert result.exit_code == 2
    assert "needs the length of the edge's answers" in " ".join(result.stderr.split())


def test_aux_adds_scores_of_other_models_by_question() -> None:
    from langchain_hybridflow.cli.train import _others

    own = {"question": ["a", "b", "c"], "strong_model": ["big"] * 3}
    others = {"question": ["c", "a"], "correct:mid": [1, 0], "correct:big": [1, 1]}
    assert _others(own, others, Path("aux")) == {"correct:mid": [0, None, 1]}


@pytest.mark.parametrize(
    ("aux", "message"),
    [
        ({"tag": None, "edge_answer_chars": None}, "no column correct:NAME"),
        ({"question": None, "score:mid": [1] * 150}, "cannot be matched"),
        ({"question": ["else"] * 150, "score:mid": [1] * 150}, "No row of aux.jsonl"),
    ],
)
def test_aux_that_does_not_fit_is_refused(
    hybridflow: Run, tmp_path: Path, aux: dict[str, Any], message: str
) -> None:
    data = outcomes(tmp_path / "data.jsonl")
    other = outcomes(tmp_path / "aux.jsonl", **aux)
    out = ("--out", str(tmp_path / "router"))
    result = hybridflow("train", "--data", str(data), "--aux", str(other), *out)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())


def test_parquet_with_a_damaged_text_is_refused(hybridflow: Run, tmp_path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    path = tmp_path / "data.parquet"
    table = pyarrow.table({"question": ["to be damaged"] * 60})
    parquet.write_table(table, path, compression="none")
    path.write_bytes(path.read_bytes().replace(b"to be damaged", b"to be \xff\xfeaged"))
    result = hybridflow("train", "--data", str(path), "--out", str(tmp_path / "router"))
    assert result.exit_code == 2
    assert "not a readable Parquet file" in " ".join(result.stderr.split())


def test_csv_holds_the_same_dataset_as_json_lines(tmp_path: Path) -> None:
    import csv

    from langchain_hybridflow.learning import Dataset

    table = columns(60, seed=1) | {"edge_no_answer": ["False"] * 60}
    with (tmp_path / "data.csv").open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.writer(file)
        writer.writerow(table)
        writer.writerows(zip(*table.values(), strict=True))
    found = Dataset.from_rows(read_table(tmp_path / "data.csv"))
    wanted = dataset(60, seed=1)
    assert found.questions == wanted.questions
    assert found.edge.tolist() == wanted.edge.tolist()
    assert found.no_answer is not None
    assert found.no_answer.tolist() == [0.0] * 60
    assert found.costs["cloud_tokens"].tolist() == wanted.costs["cloud_tokens"].tolist()


def test_csv_with_a_short_row_is_refused(hybridflow: Run, tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("question,edge_correct\nwhat?\n")
    out = ("--out", str(tmp_path / "router"))
    result = hybridflow("train", "--data", str(tmp_path / "data.csv"), *out)
    assert result.exit_code == 2
    assert "each row must have 2 fields" in " ".join(result.stderr.split())
