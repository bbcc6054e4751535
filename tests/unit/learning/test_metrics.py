from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.learning import apgr, cpt, ece, gain_curve, measure
from langchain_hybridflow.learning.metrics import aurc, risk_coverage

EDGE = np.array([1.0, 0.0, 0.0, 1.0, 0.0])
CLOUD = np.array([1.0, 1.0, 0.0, 0.0, 1.0])


def test_apgr_is_half_when_all_scores_are_equal() -> None:
    assert apgr(np.zeros(5), EDGE, CLOUD) == pytest.approx(0.5)


def test_apgr_is_half_on_average_when_the_order_is_random() -> None:
    rng = np.random.default_rng(0)
    areas = [apgr(rng.random(5), EDGE, CLOUD) for _ in range(4_000)]
    assert np.mean([area for area in areas if area is not None]) == pytest.approx(0.5, abs=0.03)


def test_apgr_is_that_of_a_hand_count_when_scores_are_the_true_gains() -> None:
    # The gains 1, 1, 0, 0, -1 add up to 1, 2, 2, 2, 1 of a gap of 1, in steps of a fifth;
    # the tied ones lie on straight lines between.
    assert apgr(CLOUD - EDGE, EDGE, CLOUD) == pytest.approx((0.5 + 1.5 + 2 + 2 + 1.5) / 5)


def test_apgr_is_none_when_the_cloud_is_not_better() -> None:
    assert apgr(np.arange(5.0), CLOUD, EDGE) is None


def test_apgr_at_ten_quantiles_is_that_of_routellms_script_when_scores_differ() -> None:
    rng = np.random.default_rng(1)
    scores, edge = rng.random(1_000), (rng.random(1_000) < 0.4).astype(float)
    cloud = np.maximum(edge, (rng.random(1_000) < scores).astype(float))
    thresholds = np.quantile(scores, np.linspace(0, 1, 11))
    points = []
    for number, threshold in enumerate(thresholds):
        to_cloud = scores >= threshold if number < 10 else scores > threshold
        points.append((to_cloud.mean(), np.where(to_cloud, cloud, edge).mean()))
    share, accuracy = np.array(sorted(points)).T
    area = np.trapezoid(accuracy, share) - edge.mean()
    assert apgr(scores, edge, cloud, points=10) == pytest.approx(
        area / (cloud.mean() - edge.mean())
    )
    assert apgr(scores, edge, cloud) == pytest.approx(
        apgr(scores, edge, cloud, points=10), abs=0.02
    )


def test_cpt_is_the_share_that_recovers_the_part_when_the_order_is_best() -> None:
    scores = np.array([0.2, 0.9, 0.1, 0.0, 0.8])
    assert cpt(scores, EDGE, CLOUD, recovered=1.0) == pytest.approx(0.2)


@given(st.permutations(range(5)))
def test_curve_does_not_depend_on_the_order_of_rows(order: list[int]) -> None:
    scores = np.array([0.5, 0.5, 0.1, 0.5, 0.1])
    expected = gain_curve(scores, EDGE, CLOUD)[1]
    found = gain_curve(scores[order], EDGE[order], CLOUD[order])[1]
    assert found == pytest.approx(expected)


def test_ece_is_the_mean_distance_when_predictions_are_off_by_a_constant() -> None:
    gains = np.linspace(-0.8, 0.4, 50)
    assert ece(gains + 0.1, gains) == pytest.approx(0.1)
    assert ece(gains + 0.1, gains, equal_mass=True) == pytest.approx(0.1)


def test_noise_of_the_ece_is_what_perfect_predictions_get_on_average() -> None:
    rng = np.random.default_rng(2)
    p_edge, p_cloud = rng.random(1_000) * 0.5, 0.5 + rng.random(1_000) * 0.5
    found = []
    for _ in range(60):
        edge = (rng.random(1_000) < p_edge).astype(float)
        cloud = (rng.random(1_000) < p_cloud).astype(float)
        found.append(measure(p_cloud - p_edge, edge, cloud))
    noise = np.mean([metrics.ece_noise for metrics in found])
    assert np.mean([metrics.ece_equal_mass for metrics in found]) == pytest.approx(noise, rel=0.15)


@pytest.mark.parametrize("scores", [np.array([]), np.zeros(4), np.array([0, 0, np.nan, 0, 0])])
def test_curve_refuses_what_cannot_be_drawn(scores: np.ndarray) -> None:
    with pytest.raises(ConfigurationError):
        gain_curve(scores, EDGE[: len(scores)] if not len(scores) else EDGE, CLOUD)


# -------------------------------------------------------------------------- risk and coverage


def test_risk_at_each_coverage_is_that_of_a_hand_count() -> None:
    coverage, risk = risk_coverage(np.array([0.9, 0.8, 0.7, 0.6]), np.array([1.0, 0, 1, 0]))
    assert coverage.tolist() == [0.25, 0.5, 0.75, 1.0]
    assert risk.tolist() == pytest.approx([0, 1 / 2, 1 / 3, 1 / 2])


def test_aurc_of_equal_scores_is_the_share_of_wrong_answers() -> None:
    assert aurc(np.zeros(10), np.arange(10) < 7) == pytest.approx(0.3)


def test_aurc_of_equal_scores_is_the_mean_over_all_their_orders() -> None:
    correct = np.array([1.0, 1.0, 0.0, 1.0, 0.0])
    scores = np.array([0.9, 0.5, 0.5, 0.5, 0.1])
    areas = []
    for order in permutations([1, 2, 3]):
        broken = scores.copy()
        broken[list(order)] += [0.02, 0.01, 0.0]
        areas.append(aurc(broken, correct))
    assert aurc(scores, correct) == pytest.approx(np.mean(areas))


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=40))
def test_nothing_has_less_risk_than_knowing_which_answers_are_right(
    rows: list[tuple[float, bool]],
) -> None:
    scores, correct = np.array(rows, dtype=float).T
    assert aurc(correct, correct) <= aurc(scores, correct) + 1e-12


def test_calibration_error_of_probabilities_is_that_of_a_hand_count() -> None:
    said = np.array([0.05, 0.05, 0.95, 0.95])
    found = np.array([0.0, 0.0, 1.0, 0.0])
    assert ece(said, found, lowest=0.0) == pytest.approx((0.05 + 0.45) / 2)
