"""A gate that poisoned routers do not pass."""

from __future__ import annotations

import random
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.learning import Dataset, TrainedPredictor, TrainingSettings, train
from langchain_hybridflow.learning.gate import Gate, GateReport, check_gate
from tests.unit.learning.outcomes import columns, dataset


@cache
def frozen() -> Dataset:
    """Questions that nobody but us can write to."""
    return dataset(600, seed=7)


ROWS = 1_500
SCORES = ("edge_correct", "cloud_correct")
QUICK = TrainingSettings(models=("logistic",))


@cache
def sound() -> TrainedPredictor:
    return trained_on()


def trained_on(**changes: Any) -> TrainedPredictor:
    return train(dataset(ROWS, **changes), settings=QUICK)[0]


def refused(report: GateReport) -> set[str]:
    return {test.name for test in report.refusals}


def test_sound_router_passes() -> None:
    report = check_gate(sound(), frozen())
    assert report.passed, report.refusals
    assert {test.name for test in report.tests} >= {"order", "edge", "cloud", "gain", "gain of sum"}
    assert report.rows == 600


def test_sound_router_passes_beside_itself() -> None:
    report = check_gate(sound(), frozen(), incumbent=sound())
    assert report.passed
    assert next(test.value for test in report.tests if test.name == "incumbent") == 0


def test_edge_that_was_made_to_look_worse_is_caught() -> None:
    rng = random.Random(1)
    labels = [int(one and rng.random() > 0.3) for one in columns(ROWS)["edge_correct"]]
    report = check_gate(trained_on(edge_correct=labels), frozen())
    assert not report.passed
    assert refused(report) & {"edge", "gain", "gain of sum"}


def test_poison_in_one_kind_of_question_is_caught_there() -> None:
    table = columns(ROWS)
    labels = [
        0 if tag == "sum" else label
        for tag, label in zip(table["tag"], table["edge_correct"], strict=True)
    ]
    report = check_gate(trained_on(edge_correct=labels), frozen())
    assert "gain of sum" in refused(report)
    assert "gain of riddle" not in refused(report)


def test_labels_in_disorder_are_caught_beside_the_incumbent() -> None:
    table = columns(ROWS)
    rows = list(range(ROWS))
    random.Random(3).shuffle(rows)
    mixed = {name: [table[name][row] for row in rows] for name in SCORES}
    report = check_gate(trained_on(**mixed, tag=None), frozen(), incumbent=sound())
    assert "incumbent" in refused(report)
    assert not refused(report) & {"edge", "cloud"}  # on average all looks well


def test_labels_turned_round_are_caught_by_the_order() -> None:
    table = columns(ROWS)
    pairs = zip(table["cloud_correct"], table["edge_correct"], table["tag"], strict=True)
    labels = [edge if tag == "proof" else 1 - cloud for cloud, edge, tag in pairs]
    assert "order" in refused(check_gate(trained_on(cloud_correct=labels), frozen()))


def test_refusal_says_what_was_measured() -> None:
    labels = [1] * (ROWS - 1) + [0]
    report = check_gate(trained_on(cloud_correct=labels), frozen())
    words = {test.name: test.message for test in report.tests}
    assert words["cloud"].startswith("the cloud is 0.")
    assert "worse than foreseen on 600 questions; up to 0." in words["cloud"]


def test_report_is_plain_json() -> None:
    found = check_gate(sound(), frozen()).as_dict()
    assert found["passed"] is True
    assert set(found["tests"][0]) == {"name", "value", "bound", "passed", "message"}


def test_same_seed_gives_the_same_report() -> None:
    one, two = (check_gate(sound(), frozen(), incumbent=sound()) for _ in range(2))
    assert one == two


def test_sound_routers_are_hardly_ever_refused() -> None:
    """None of eight, with the margins; without them and with alpha = 0.5 some are."""
    sets = [dataset(400, seed=seed) for seed in range(20, 28)]
    assert all(check_gate(sound(), one).passed for one in sets)
    strict = Gate(alpha=0.5, most_bias=0.0, most_bias_of_part=0.0)
    assert sum(check_gate(sound(), one, gate=strict).passed for one in sets) < len(sets)


def test_few_questions_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="at least 200"):
        check_gate(sound(), dataset(199))


def test_set_without_a_gap_is_refused() -> None:
    data = replace(frozen(), cloud=np.zeros(600), edge=np.ones(600))
    with pytest.raises(ConfigurationError, match="nothing to route for"):
        check_gate(sound(), data)


@pytest.mark.parametrize(
    "options", [{"alpha": 0.0}, {"alpha": 1.0}, {"most_bias": -0.1}, {"most_loss": float("nan")}]
)
def test_gate_out_of_range_is_refused(options: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        Gate(**options)
