"""`hybridflow router drift | gate`."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from langchain_hybridflow.learning import LoggedDecision, save_router, train, write_log
from langchain_hybridflow.learning.online import CONTEXT
from langchain_hybridflow.learning.training import TrainingSettings
from tests.unit.cli.learnt import SHA, outcomes
from tests.unit.learning.outcomes import columns, dataset

Run = Callable[..., Result]


def log(
    path: Path, count: int, *, cloud_right: float = 0.8, hard: float = 0.5, seed: int = 0
) -> str:
    """Write decisions of a router that foresees 0.8 of the cloud and 0.5 of the edge."""
    rng = random.Random(seed)
    write_log(
        path,
        (
            LoggedDecision(
                decision_id=f"{seed}-{number}",
                tier=(tier := rng.choice(["edge", "cloud"])),
                propensity=0.5,
                edge_quality=0.5,
                cloud_quality=0.8,
                context=tuple(rng.gauss(hard, 1.0) for _ in CONTEXT),
                reward=float(rng.random() < (cloud_right if tier == "cloud" else 0.5)),
            )
            for number in range(count)
        ),
    )
    return str(path)


def test_drift_is_silent_when_nothing_has_changed(hybridflow: Run, tmp_path: Path) -> None:
    result = hybridflow("router", "drift", log(tmp_path / "a.jsonl", 600))
    assert result.exit_code == 0, result.stderr
    assert "600 decisions, 600 of them with a reward: no alarms." in result.stdout


def test_drift_warns_when_the_cloud_model_was_swapped(hybridflow: Run, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    log(path, 400)
    log(path, 400, cloud_right=0.3, seed=1)
    result = hybridflow("router", "drift", str(path), "--json")
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    alarms = {(one["kind"], one["name"]) for one in found["findings"] if one["alarm"]}
    assert alarms == {("residual", "cloud"), ("change", "cloud")}


def test_drift_warns_when_other_questions_are_asked(hybridflow: Run, tmp_path: Path) -> None:
    before = log(tmp_path / "before.jsonl", 400)
    now = log(tmp_path / "now.jsonl", 400, hard=2.0, seed=1)
    result = hybridflow("router", "drift", now, "--before", before)
    assert result.exit_code == 1
    assert "alarm" in result.stdout
    assert "train on new ones" in " ".join(result.stdout.split())


def test_drift_says_how_many_decisions_it_needs(hybridflow: Run, tmp_path: Path) -> None:
    result = hybridflow("router", "drift", log(tmp_path / "a.jsonl", 40))
    assert result.exit_code == 2
    words = " ".join(result.stderr.split())
    assert "a.jsonl has 20 decisions, and at least 30 are needed" in words
    assert "--before" in words


@pytest.mark.parametrize(
    ("content", "says"), [(None, "cannot be read"), ("{}", "line 1"), ("", "at least 30")]
)
def test_drift_refuses_what_is_no_log(
    hybridflow: Run, tmp_path: Path, content: str | None, says: str
) -> None:
    path = tmp_path / "log.jsonl"
    if content is not None:
        path.write_text(content)
    result = hybridflow("router", "drift", str(path))
    assert result.exit_code == 2
    assert says in result.stderr


def saved(place: Path, *, poisoned: bool) -> str:
    labels = [0] * 800 if poisoned else columns(800)["edge_correct"]
    labels[:20] = [1] * 20
    data = dataset(800, edge_correct=labels)
    predictor, _ = train(data, settings=TrainingSettings(models=("logistic",)))
    save_router(place, predictor, data=data, data_sha256=SHA, training_data={})
    return str(place)


def test_gate_lets_a_sound_router_in_and_refuses_a_poisoned_one(
    hybridflow: Run, tmp_path: Path
) -> None:
    sound = saved(tmp_path / "sound", poisoned=False)
    poisoned = saved(tmp_path / "poisoned", poisoned=True)
    frozen = str(outcomes(tmp_path / "frozen.jsonl", 500, seed=9))
    passes = hybridflow("router", "gate", sound, "--frozen", frozen)
    assert passes.exit_code == 0, passes.stdout
    assert "passes on " in passes.stdout
    result = hybridflow("router", "gate", poisoned, "--frozen", frozen, "--against", sound)
    assert result.exit_code == 1
    assert "the edge is 0." in " ".join(result.stdout.split())
    assert "REFUSED" in result.stdout
    found = json.loads(hybridflow("router", "gate", poisoned, "--frozen", frozen, "--json").stdout)
    assert found["passed"] is False


def test_gate_counts_no_question_of_the_training(hybridflow: Run, tmp_path: Path) -> None:
    sound = saved(tmp_path / "sound", poisoned=False)
    rows = [
        json.dumps({name: values[row] for name, values in columns(800).items()})
        for row in range(800)
    ]
    frozen = tmp_path / "same.jsonl"
    frozen.write_text("\n".join(rows))
    result = hybridflow("router", "gate", sound, "--frozen", str(frozen))
    assert result.exit_code == 2
    words = " ".join(result.stderr.split())
    assert "the router was trained on 800" in words
    assert "at least 200 others" in words
