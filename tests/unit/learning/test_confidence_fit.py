"""Calibrators fitted to labelled runs: shares, risks, and figures that are not flattered."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.learning import ConfidenceCalibrator, LabelledRuns, fit_confidence
from langchain_hybridflow.learning._confidence_curves import fit_curve
from langchain_hybridflow.learning.confidence import PlattCurve
from langchain_hybridflow.learning.confidence_points import point_for_risk, point_for_share
from langchain_hybridflow.learning.confidence_runs import read_labelled_runs

methods = pytest.mark.parametrize("method", ["isotonic", "platt"])

# Few different values, so that there are ties.
some_scores = st.lists(
    st.one_of(st.none(), st.integers(0, 6).map(lambda n: n / 6), st.floats(-1e3, 1e3)),
    min_size=1,
    max_size=60,
).filter(lambda scores: any(one is not None for one in scores))


def runs(scores: Any, correct: Any = None, **fields: Any) -> LabelledRuns:
    labels = [True] * len(scores) if correct is None else correct
    return LabelledRuns(scores=tuple(scores), correct=tuple(bool(one) for one in labels), **fields)


def world(n: int = 600, *, seed: int = 0) -> LabelledRuns:
    """Answers that are right with the probability that is their score, squared."""
    rng = np.random.default_rng(seed)
    scores = rng.random(n)
    return runs(scores.tolist(), rng.random(n) < scores**2)


def to_cloud(found: LabelledRuns, keeps: Any) -> float:
    return sum(not keeps(score) for score in found.scores) / len(found)


# ------------------------------------------------------------------------------- the share


@given(some_scores, st.floats(0, 1))
def test_share_is_never_passed_on_the_runs_it_was_chosen_on(
    scores: list[float | None], share: float
) -> None:
    found = runs(scores)
    point = point_for_share(found, share)
    gone = to_cloud(found, lambda score: score is None or point.keeps(score))
    assert gone <= share + 1e-9
    assert gone == pytest.approx(point.cloud_share)


@given(some_scores, st.floats(0, 1))
def test_share_is_as_large_as_ties_allow(scores: list[float | None], share: float) -> None:
    found = runs(scores)
    point = point_for_share(found, share)
    kept = sorted(one for one in scores if one is not None and point.keeps(one))
    if kept:  # the least sure of those that stay: with all its equals it would be too many
        more = kept.count(kept[0]) / len(found)
        assert point.cloud_share + more > share - 1e-9


@given(some_scores, st.floats(0, 1))
def test_lots_reach_the_share_in_expectation(scores: list[float | None], share: float) -> None:
    found = runs(scores)
    point = point_for_share(found, share, ties="draw")
    gone = 0.0
    for score in found.scores:
        if score is None:
            continue
        tied = score == point.min_score and point.tied_cloud_share > 0
        gone += point.tied_cloud_share if tied else not point.keeps(score)
    assert gone / len(found) == pytest.approx(point.cloud_share)
    assert point.cloud_share == pytest.approx(min(share, 1 - found.missing / len(found)))


@given(some_scores, st.floats(0, 1))
def test_answers_without_a_score_count_in_the_share_when_they_go(
    scores: list[float | None], share: float
) -> None:
    found = runs(scores)
    if found.missing / len(found) > share + 1e-9:
        with pytest.raises(ConfigurationError, match="have no score"):
            point_for_share(found, share, on_missing="escalate")
        return
    point = point_for_share(found, share, on_missing="escalate")
    gone = to_cloud(found, lambda score: score is not None and point.keeps(score))
    assert gone <= share + 1e-9
    assert gone == pytest.approx(point.cloud_share)


def test_share_of_a_third_is_not_lost_to_rounding() -> None:
    assert point_for_share(runs([0.1, 0.2, 0.3]), 1 / 3).cloud_share == pytest.approx(1 / 3)
    assert point_for_share(runs([n / 10 for n in range(10)]), 0.3).cloud_share == 0.3


def test_share_of_nothing_keeps_what_is_less_sure_than_all_that_was_seen() -> None:
    assert point_for_share(runs([0.5, 0.6]), 0.0).keeps(-9.0)


def test_share_of_all_keeps_nothing_that_was_seen() -> None:
    point = point_for_share(runs([0.5, 0.6]), 1.0)
    assert not any(point.keeps(score) for score in (0.5, 0.6))


def test_equal_scores_all_stay_when_the_share_would_tear_them_apart() -> None:
    point = point_for_share(runs([0.5] * 10), 0.3)
    assert (point.cloud_share, point.keeps(0.5), point.keeps(0.4)) == (0.0, True, False)


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(ConfigurationError, match="0 to 1"):
        point_for_share(runs([0.5]), share)


def test_runs_without_any_score_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="No answer has a score"):
        point_for_share(runs([None, None]), 0.5)


# -------------------------------------------------------------------------------- the risk


def test_risk_is_kept_to_on_new_questions_as_often_as_promised() -> None:
    held = 0
    for seed in range(60):
        point = point_for_risk(world(1_500, seed=seed), 0.35, confidence=0.8)
        # Right with probability s squared: of those above t so many are wrong.
        low = point.min_score or 0.0
        held += 1 - (1 - low**3) / 3 / (1 - low) <= 0.35
    assert held / 60 >= 0.8


def test_risk_keeps_more_answers_when_more_may_be_wrong() -> None:
    strict, lax = (point_for_risk(world(2_000), risk) for risk in (0.3, 0.5))
    assert lax.cloud_share < strict.cloud_share < 1


def test_risk_that_cannot_be_shown_is_refused_with_the_best_that_can() -> None:
    with pytest.raises(ConfigurationError, match=r"best that can be shown is 0\.\d{3}"):
        point_for_risk(world(100), 0.01)


def test_wrong_answers_without_a_score_count_when_they_stay() -> None:
    known = runs([0.9] * 300 + [None] * 100, [True] * 300 + [False] * 100)
    assert point_for_risk(known, 0.1, on_missing="escalate").cloud_share == 0.25
    with pytest.raises(ConfigurationError, match="No threshold"):
        point_for_risk(known, 0.1, on_missing="accept")


@pytest.mark.parametrize(("risk", "confidence"), [(0.0, 0.9), (1.0, 0.9), (0.1, 0.0), (0.1, 1.0)])
def test_risk_out_of_its_range_is_refused(risk: float, confidence: float) -> None:
    with pytest.raises(ConfigurationError, match="between 0 and 1"):
        point_for_risk(world(100), risk, confidence=confidence)


# ------------------------------------------------------------------------------ the curve


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.floats(-100, 100), st.booleans()), min_size=4, max_size=80).filter(
        lambda rows: len({right for _, right in rows}) == 2
    )
)
def test_isotonic_curve_read_back_from_json_foresees_what_sklearn_does(
    rows: list[tuple[float, bool]],
) -> None:
    from sklearn.isotonic import IsotonicRegression

    scores, right = np.array(rows, dtype=float).T
    fitted = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(scores, right)
    one = ConfidenceCalibrator(
        curve=fit_curve(scores, right, method="isotonic"),
        point=point_for_share(runs(scores.tolist()), 0.3),
    )
    again = ConfidenceCalibrator.from_json(json.loads(json.dumps(one.to_json())))
    places = np.concatenate([scores, np.linspace(-120, 120, 41)])
    expected = fitted.predict(places)
    assert [again.probability(float(place)) for place in places] == pytest.approx(
        expected.tolist(), abs=1e-9
    )


def test_platt_curve_foresees_what_sklearn_does() -> None:
    from sklearn.linear_model import LogisticRegression

    data = world()
    scores, right = np.array(data.scores, dtype=float), np.array(data.correct, dtype=float)
    plus, minus = right.sum(), len(right) - right.sum()
    soft = np.where(right > 0, (plus + 1) / (plus + 2), 1 / (minus + 2))
    twice = np.tile(scores, 2)[:, None]
    model = LogisticRegression(C=np.inf, tol=1e-10, max_iter=10_000).fit(
        twice, np.repeat([1, 0], len(right)), sample_weight=np.concatenate([soft, 1 - soft])
    )
    curve = fit_curve(scores, right, method="platt")
    places = np.linspace(-0.5, 1.5, 21)
    expected = model.predict_proba(places[:, None])[:, 1]
    assert [curve.at(float(place)) for place in places] == pytest.approx(expected, abs=1e-3)


@methods
@settings(max_examples=30, deadline=None)
@given(
    rows=st.lists(st.tuples(st.floats(-1e3, 1e3), st.booleans()), min_size=2, max_size=50),
    at=st.lists(st.floats(-1e4, 1e4), min_size=2, max_size=20),
)
def test_fitted_curve_never_falls(
    method: Any, rows: list[tuple[float, bool]], at: list[float]
) -> None:
    scores, right = np.array(rows, dtype=float).T
    curve = fit_curve(scores, right, method=method)
    found = [curve.at(one) for one in sorted(at)]
    assert found == sorted(found)
    assert all(0 <= one <= 1 for one in found)


@methods
@pytest.mark.parametrize(("right", "level"), [(True, 101 / 102), (False, 1 / 102)])
def test_labels_of_one_kind_prove_neither_0_nor_1(method: Any, right: bool, level: float) -> None:
    curve = fit_curve(np.linspace(0, 1, 100), np.full(100, float(right)), method=method)
    assert [curve.at(score) for score in (-1, 0.5, 2)] == pytest.approx([level] * 3)


@methods
def test_scores_the_wrong_way_round_make_a_level_curve(method: Any) -> None:
    scores = np.linspace(0, 1, 200)
    curve = fit_curve(scores, (scores < 0.5).astype(float), method=method)
    assert curve.at(0.0) == pytest.approx(curve.at(1.0)) == pytest.approx(0.5, abs=0.01)


@methods
def test_equal_scores_make_a_level_curve_at_the_accuracy(method: Any) -> None:
    curve = fit_curve(np.full(100, 0.7), np.arange(100) < 60, method=method)
    assert curve.at(0.7) == pytest.approx(0.6, abs=0.01)


def test_sigmoid_stands_scores_far_from_1() -> None:
    scores = np.linspace(-3e6, -1e6, 400)
    curve = fit_curve(
        scores, (np.arange(400) % 400 > np.arange(400)[::-1]).astype(float), method="platt"
    )
    assert isinstance(curve, PlattCurve)
    assert curve.at(-3e6) < 0.05 < 0.95 < curve.at(-1e6)


# ------------------------------------------------------------------------------ the report


def test_figures_are_cross_fitted() -> None:
    # Scores that say nothing: fitted and measured on the same answers they seem to.
    rng = np.random.default_rng(1)
    noise = runs(rng.random(100).tolist(), rng.random(100) < 0.5)
    fit = fit_confidence(noise, cloud_share=0.3)
    scores, right = np.array(noise.scores, dtype=float), np.array(noise.correct, dtype=float)
    foreseen = np.array([fit.calibrator.probability(float(one)) for one in scores])
    assert np.mean((foreseen - right) ** 2) < 0.24 < 0.25 < fit.report.brier


def test_calibrated_probabilities_are_kept_on_new_questions() -> None:
    fit = fit_confidence(world(4_000), cloud_share=0.3)
    new = world(4_000, seed=1)
    foreseen = [fit.calibrator.probability(one or 0.0) for one in new.scores]
    bins = np.array_split(np.argsort(foreseen), 5)
    for rows in bins:
        said = np.mean([foreseen[row] for row in rows])
        assert np.mean([new.correct[row] for row in rows]) == pytest.approx(said, abs=0.05)
    assert fit.report.ece < 0.05


def test_answers_of_one_group_are_foreseen_from_other_groups() -> None:
    # The 30 answers of a group have one score and one label: only its own answers tell it.
    rng = np.random.default_rng(0)
    scores = rng.random(20)
    labels = rng.random(20) < scores
    table = {"scores": np.repeat(scores, 30).tolist(), "correct": np.repeat(labels, 30)}
    names = tuple(np.repeat(np.arange(20), 30).astype(str).tolist())
    alone = fit_confidence(runs(**table), cloud_share=0.3).report
    grouped = fit_confidence(runs(**table, groups=names), cloud_share=0.3).report
    assert alone.brier < 0.8 * grouped.brier


def test_report_tells_the_share_and_the_risk_at_the_point() -> None:
    data = world()
    fit = fit_confidence(data, cloud_share=0.4)
    kept = [right for score, right in zip(data.scores, data.correct, strict=True)
            if fit.calibrator.keeps(score)]  # fmt: skip
    report = fit.report
    assert len(kept) == 360
    assert report.kept_risk == pytest.approx(1 - sum(kept) / len(kept))
    assert report.cloud_share_low < 0.4 < report.cloud_share_high
    assert sum(one.rows for one in report.reliability) == 600
    assert all(one.low <= one.observed <= one.high for one in report.reliability)
    assert report.risk[-1] == pytest.approx(1 - report.accuracy)
    assert report.aurc_oracle < report.aurc < 1 - report.accuracy
    assert fit.calibrator.facts["target"] == {"cloud_share": 0.4}
    json.dumps(report.as_dict(), allow_nan=False)


def test_signal_is_worth_what_it_is_whatever_its_scale() -> None:
    plain = world()
    other = runs([None if one is None else 7 * one - 100 for one in plain.scores], plain.correct)
    for method in ("isotonic", "platt"):
        first, second = (
            fit_confidence(one, cloud_share=0.3, method=method).report for one in (plain, other)
        )
        assert second.ece == pytest.approx(first.ece, abs=1e-3)
        assert (second.auroc, second.cloud_share) == (first.auroc, first.cloud_share)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (runs([0.5] * 100, [True, False] * 50), "All scores are equal"),
        (runs([n / 100 for n in range(100)]), "All answers are right"),
        (runs([n / 100 for n in range(100)], [False] * 100), "All answers are wrong"),
        (runs([n / 100 for n in range(100)], [n < 50 for n in range(100)]), "wrong way round"),
        (runs([n % 4 for n in range(100)], [n % 3 for n in range(100)]), "ties: draw"),
        (runs([0.1, 0.9, None] * 40, [False, True, True] * 40), "40 of 120 answers have no score"),
        (runs([n / 60 for n in range(60)], [n % 3 for n in range(60)]), "platt is steadier"),
    ],
)
def test_what_a_person_should_know_is_said(data: LabelledRuns, said: str) -> None:
    notes = fit_confidence(data, cloud_share=0.2).report.notes
    assert any(said in note for note in notes), notes


def test_groups_of_several_answers_are_said_to_count_too_much() -> None:
    scores = [n / 400 for n in range(400)]
    own, shared = tuple(map(str, range(400))), tuple(str(n // 4) for n in range(400))
    correct = [n % 7 > 2 * (n < 200) for n in range(400)]
    for groups, said in ((own, False), (shared, True), (None, False)):
        data = LabelledRuns(scores=tuple(scores), correct=tuple(correct), groups=groups)
        notes = fit_confidence(data, cloud_share=0.2).report.notes
        assert any("400 answers are in 100 groups" in note for note in notes) is said


def test_risk_of_the_answers_it_was_chosen_on_is_said_to_be_that() -> None:
    notes = fit_confidence(world(1_000), max_risk=0.4).report.notes
    assert any("the threshold was chosen on" in note for note in notes)


def test_nothing_is_said_of_many_answers_and_a_good_signal() -> None:
    assert fit_confidence(world(1_000), cloud_share=0.3).report.notes == ()


def test_report_of_lots_says_what_is_expected() -> None:
    data = runs([0.0, 1.0] * 100, [False, True] * 100)
    report = fit_confidence(data, cloud_share=0.25, ties="draw").report
    assert report.cloud_share == 0.25
    assert report.kept_risk == pytest.approx(50 / 150)


def test_report_has_no_risk_when_nothing_is_kept() -> None:
    report = fit_confidence(world(100), cloud_share=1.0).report
    assert (report.kept_risk, report.cloud_share) == (None, 1.0)


# ------------------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({}, "one target"),
        ({"cloud_share": 0.3, "max_risk": 0.1}, "one target"),
        ({"cloud_share": 0.3, "method": "guess"}, "isotonic"),
        ({"cloud_share": 0.3, "ties": "guess"}, "draw"),
        ({"cloud_share": 0.3, "folds": 1}, "folds"),
        ({"cloud_share": float("nan")}, "from 0 to 1"),
        ({"max_risk": 0.3, "confidence": float("nan")}, "between 0 and 1"),
        ({"cloud_share": 0.3, "on_missing": "guess"}, "on_missing"),
    ],
)
def test_settings_that_make_no_sense_are_refused(options: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigurationError, match=why):
        fit_confidence(world(100), **options)


def test_few_answers_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"49 labelled answers .* too few"):
        fit_confidence(world(49), cloud_share=0.3)


def test_answers_of_a_single_group_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="one group"):
        fit_confidence(runs([n / 60 for n in range(60)], groups=("a",) * 60), cloud_share=0.3)


# -------------------------------------------------------------------------------- tables


def test_labelled_runs_are_read_from_json_lines(tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    path.write_text(
        '{"score": 0.5, "correct": 1, "group": "a"}\n{"score": null, "correct": false}\n'
    )
    found = read_labelled_runs(path)
    assert (found.scores, found.correct) == ((0.5, None), (True, False))
    assert found.groups == ("a", "row 1")


def test_labelled_runs_are_read_from_csv(tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    path.write_text("confidence,edge_correct\n0.5,1\n,0\n")
    found = read_labelled_runs(path)
    assert (found.scores, found.correct, found.groups) == ((0.5, None), (True, False), None)


@pytest.mark.parametrize(
    ("columns", "why"),
    [
        ({"score": [0.5]}, "no column 'correct'"),
        ({"correct": [1]}, "no column 'score'"),
        ({"score": ["x"], "correct": [1]}, "row 1 is no number"),
        ({"score": [float("inf")], "correct": [1]}, "not finite"),
        ({"score": [0.5], "correct": [0.5]}, "must be 0 or 1"),
        ({"score": [0.5], "correct": [None]}, "must be 0 or 1"),
        ({"score": [0.5, 0.6], "correct": [1]}, "2 scores and 1 labels"),
    ],
)
def test_table_that_says_too_little_is_refused(columns: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigurationError, match=why):
        LabelledRuns.from_rows(columns)


def test_score_that_is_nan_is_one_that_nobody_knows() -> None:
    assert LabelledRuns.from_rows({"score": [float("nan")], "correct": [1]}).missing == 1


@pytest.mark.parametrize("name", ["score", "correct"])
def test_number_beyond_all_floats_is_refused(name: str) -> None:
    columns = {"score": [0.5, 0.5], "correct": [1, 0]} | {name: [10**400, 0]}
    with pytest.raises(ConfigurationError, match="row 1"):
        LabelledRuns.from_rows(columns)
