"""The demo's puzzles, with models on the edge whose habits are known."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from langchain_hybridflow.answer_or_ask import ASK_MARKER
from langchain_hybridflow.cli.selftrial import (
    ASKING_APPROACHES,
    HELD_OUT_SEED,
    AskingExperiment,
    AskingFindings,
    run_asking,
)
from langchain_hybridflow.sandbox import generate_puzzles
from tests.unit.sandbox.tinykit import EOS, HABITS, write_tiny

PUZZLES = 12

# What its thinking ends with, and what it says at once to a Countdown.
NEVER_ASKS = {**HABITS, "</think>": {"<answer>": 1}}
ASKS_ABOUT_EXPRESSIONS = {**HABITS, ".": {"<answer>": 1}, ASK_MARKER: {EOS: 1}}


@pytest.fixture(autouse=True)
def _extra(require: Callable[..., None]) -> None:
    for name in ("numpy", "onnxruntime", "safetensors", "tokenizers"):
        require(name, "install the extra tiny")


def findings(
    folder: Path, habits: Mapping[str, Mapping[str, float]] = HABITS, *, seed: int = 0
) -> AskingFindings:
    experiment = AskingExperiment(
        puzzles=PUZZLES, seed=seed, time_scale=0, at_once=4, weights=write_tiny(folder, habits)
    )
    return run_asking(experiment)


def shares(found: AskingFindings) -> dict[str, float]:
    return {trial.name: found.share(trial) for trial in found.trials}


def test_edge_that_always_asks_is_as_good_as_the_cloud(tmp_path: Path) -> None:
    found = findings(tmp_path)
    edge, cloud, offload, asking = found.trials
    assert edge.correct == 0
    assert [one.correct for one in asking.outcomes] == [one.correct for one in cloud.outcomes]
    assert asking.cost_usd == cloud.cost_usd > 0
    assert offload.outcomes == cloud.outcomes
    assert shares(found) == dict(zip(ASKING_APPROACHES, (0, 1, 1, 1), strict=True))


def test_edge_that_never_asks_costs_nothing(tmp_path: Path) -> None:
    found = findings(tmp_path, NEVER_ASKS)
    edge, _, offload, asking = found.trials
    assert offload.outcomes == edge.outcomes
    assert (asking.correct, asking.cost_usd) == (edge.correct, 0)
    assert shares(found)["SelfRouter"] == 0


def test_random_offload_sends_as_many_to_the_cloud(tmp_path: Path) -> None:
    found = findings(tmp_path, ASKS_ABOUT_EXPRESSIONS)
    expressions = [one.kind == "expression" for one in found.experiment.questions]
    asking, offload = found.trials[3], found.trials[2]
    assert [one.cloud_calls for one in asking.outcomes] == expressions
    assert 0 < sum(expressions) < PUZZLES
    assert shares(found)["random offload"] == shares(found)["SelfRouter"]
    assert [one.cloud_calls for one in offload.outcomes] != expressions


def test_other_seed_offloads_other_puzzles(tmp_path: Path) -> None:
    def offloaded(seed: int) -> list[int]:
        found = findings(tmp_path, ASKS_ABOUT_EXPRESSIONS, seed=seed)
        return [one.cloud_calls for one in found.trials[2].outcomes]

    assert offloaded(1) == offloaded(1) != offloaded(2)


def test_other_seed_asks_other_puzzles_of_those_held_out() -> None:
    def questions(seed: int) -> list[str]:
        experiment = AskingExperiment(puzzles=5, seed=seed, time_scale=0, at_once=1)
        return [one.question for one in experiment.questions]

    assert questions(0) == [one.question for one in generate_puzzles(5, seed=HELD_OUT_SEED)]
    assert not set(questions(0)) & set(questions(1))
    assert len(questions(-1)) == len(questions(987_654)) == 5


def test_one_answered_and_one_asked_puzzle_are_shown(tmp_path: Path) -> None:
    answered, asked = findings(tmp_path, ASKS_ABOUT_EXPRESSIONS).shown
    assert (answered.puzzle.kind, answered.edge.answer, answered.cloud) == ("countdown", "5", None)
    assert (asked.puzzle.kind, asked.edge.asks) == ("expression", True)
    assert asked.edge.thinking == "3*4=12"
    assert asked.correct
    assert asked.cloud is not None
    assert asked.puzzle.answer in asked.cloud


def test_only_what_there_is_gets_shown(tmp_path: Path) -> None:
    (asked,) = findings(tmp_path).shown
    assert asked.edge.asks


def test_figures_are_plain_json(tmp_path: Path) -> None:
    figures = findings(tmp_path).to_json()
    assert [one["name"] for one in figures["approaches"]] == list(ASKING_APPROACHES)
    assert figures["approaches"][1]["cloud_share"] == 1
    assert figures["shown"][0]["edge_asks"] is True
    assert isinstance(figures["approaches"][1]["cost_usd"], str)


def test_progress_tells_the_approaches_that_are_run(tmp_path: Path) -> None:
    told: list[str] = []
    experiment = AskingExperiment(
        puzzles=3, seed=0, time_scale=0, at_once=1, weights=write_tiny(tmp_path)
    )
    run_asking(experiment, on_progress=told.append)
    assert sorted(told[:6]) == ["cloud only"] * 3 + ["edge only"] * 3
    assert told[6:] == ["SelfRouter"] * 3
