from __future__ import annotations

import json

import numpy as np
import pytest

from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.learning.portrait import portray

RNG = np.random.default_rng(0)
EDGE = (RNG.random(400) < 0.4).astype(float)
CLOUD = (RNG.random(400) < 0.8).astype(float)
GAINS = np.clip(0.4 + 0.3 * (CLOUD - EDGE) + RNG.normal(0, 0.2, 400), -1, 1)


def test_curve_runs_from_the_edge_to_the_cloud_within_its_band() -> None:
    found = portray(GAINS, EDGE, CLOUD)
    assert found.accuracy[0] == pytest.approx(EDGE.mean())
    assert found.accuracy[-1] == pytest.approx(CLOUD.mean())
    inside = [a <= b <= c for a, b, c in zip(found.low, found.accuracy, found.high, strict=True)]
    assert all(inside)
    assert all(a <= b + 1e-9 for a, b in zip(found.accuracy, found.oracle, strict=True))


def test_bins_and_counts_hold_every_question_once() -> None:
    found = portray(GAINS, EDGE, CLOUD, draws=0)
    assert sum(one.rows for one in found.reliability) == 400
    assert sum(found.gain_counts) == 400
    assert len(found.gain_edges) == len(found.gain_counts) + 1
    predicted = [one.predicted for one in found.reliability]
    assert predicted == sorted(predicted)
    assert found.low == found.high == ()


def test_band_is_wider_when_questions_come_in_groups() -> None:
    alone = portray(GAINS, EDGE, CLOUD)
    order = np.argsort(CLOUD - EDGE)
    grouped = portray(GAINS[order], EDGE[order], CLOUD[order], groups=[n // 40 for n in range(400)])
    assert grouped.high[50] - grouped.low[50] > alone.high[50] - alone.low[50]


def test_same_seed_gives_the_same_band() -> None:
    assert portray(GAINS, EDGE, CLOUD, seed=3) == portray(GAINS, EDGE, CLOUD, seed=3)


def test_portrait_is_plain_json() -> None:
    plain = portray(GAINS, EDGE, CLOUD, draws=10).as_dict()
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert set(plain) == {"curve", "reliability", "gains"}


def test_few_questions_are_drawn_too() -> None:
    found = portray(np.array([0.0]), np.array([1.0]), np.array([1.0]))
    assert len(found.reliability) == 1


def test_no_rows_are_refused() -> None:
    with pytest.raises(ConfigurationError):
        portray(np.empty(0), np.empty(0), np.empty(0))
