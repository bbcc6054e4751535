from __future__ import annotations

import numpy as np
import pytest

from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.learning import tune
from langchain_hybridflow.learning.tuning import operating_points
from tests.unit.learning.outcomes import dataset, trained

PREDICTOR = trained()[0]
DATA = dataset(200, seed=1, cloud_usd=[0.01] * 200, edge_usd=[0.001] * 200)


def test_operating_points_are_what_routing_by_them_does() -> None:
    gain = PREDICTOR.foresee(DATA.questions, structure=DATA.structure).gain
    points = operating_points(PREDICTOR, DATA)
    assert (points[0].cloud_share, points[-1].cloud_share) == (0.0, 1.0)
    for point in points:
        chosen = gain > point.min_gain
        assert point.cloud_share == pytest.approx(chosen.mean())
        assert point.accuracy == pytest.approx(np.where(chosen, DATA.cloud, DATA.edge).mean())
        usd = np.where(chosen, 0.01, 0.001).mean()
        assert point.usd_per_question == pytest.approx(usd)


def test_share_is_the_largest_that_is_allowed() -> None:
    shares = [point.cloud_share for point in operating_points(PREDICTOR, DATA)]
    found = tune(PREDICTOR, DATA, target_share=0.4)
    assert found.cloud_share == max(share for share in shares if share <= 0.4)


def test_quality_is_reached_with_the_fewest_cloud_calls() -> None:
    points = operating_points(PREDICTOR, DATA)
    found = tune(PREDICTOR, DATA, min_quality=0.5)
    assert found.accuracy >= 0.5
    assert all(p.accuracy < 0.5 for p in points if p.cloud_share < found.cloud_share)


def test_money_buys_the_best_accuracy_that_it_can() -> None:
    points = operating_points(PREDICTOR, DATA)
    found = tune(PREDICTOR, DATA, usd_per_question=0.005)
    affordable = [p for p in points if (p.usd_per_question or 0) <= 0.005]
    assert found.accuracy == max(p.accuracy for p in affordable)


def test_unknown_costs_are_taken_to_be_the_mean_of_the_others() -> None:
    data = dataset(60, seed=1, cloud_usd=[0.01, None] * 30)
    assert operating_points(PREDICTOR, data)[-1].usd_per_question == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        ({}, "Give one of"),
        ({"target_share": 0.3, "min_quality": 0.3}, "Give one of"),
        ({"target_share": 30.0}, "from 0 to 1"),
        ({"min_quality": float("nan")}, "Give one of"),
        ({"min_quality": 0.99}, "No operating point reaches"),
        ({"usd_per_question": 0.0001}, "less than the edge alone costs"),
    ],
)
def test_bound_that_cannot_be_kept_is_refused(bounds: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        tune(PREDICTOR, DATA, **bounds)


def test_too_few_questions_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="too few to tune"):
        tune(PREDICTOR, dataset(49, seed=1), target_share=0.5)


def test_point_after_the_edge_is_what_a_verifier_does() -> None:
    gain = PREDICTOR.foresee(
        DATA.questions,
        structure=DATA.structure,
        answer_chars=DATA.answer_chars,
        no_answer=DATA.no_answer,
    ).gain
    found = tune(PREDICTOR, DATA, target_share=0.4, after_edge=True)
    chosen = gain > found.min_gain
    assert found.cloud_share == pytest.approx(chosen.mean())
    assert found.accuracy > tune(PREDICTOR, DATA, target_share=0.4).accuracy


def test_edge_is_paid_for_every_question_when_it_answers_first() -> None:
    points = operating_points(PREDICTOR, DATA, after_edge=True)
    assert points[0].usd_per_question == pytest.approx(0.001)
    assert points[-1].usd_per_question == pytest.approx(0.011)


def test_point_after_the_edge_needs_the_length_of_answers() -> None:
    data = dataset(60, seed=1, edge_answer_chars=None)
    with pytest.raises(ConfigurationError, match="edge_answer_chars"):
        tune(PREDICTOR, data, target_share=0.4, after_edge=True)
