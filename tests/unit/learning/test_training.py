from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.learning import TrainingSettings, evaluate, train
from langchain_hybridflow.learning._forest import FlatForest
from langchain_hybridflow.learning.calibration import fit_calibration
from tests.unit.learning.outcomes import FAST, dataset, trained


def test_training_finds_the_questions_that_only_the_cloud_can_answer() -> None:
    predictor, _ = trained()
    found = evaluate(predictor, dataset(seed=1), draws=20)
    assert found.before.apgr is not None
    assert found.before.apgr > 0.7
    assert found.before.ece < 0.08
    assert found.apgr_interval is not None
    assert found.apgr_interval.low < found.before.apgr < found.apgr_interval.high
    assert set(found.by_tag) == {"sum", "proof", "riddle"}


def test_an_answer_of_the_edge_helps_when_its_length_gives_it_away() -> None:
    found = evaluate(trained()[0], dataset(seed=1), draws=0)
    assert found.after is not None
    assert found.before.apgr is not None
    assert found.after.apgr is not None
    assert found.after.apgr > found.before.apgr


def test_training_is_the_same_when_it_is_done_again() -> None:
    data, other = dataset(150), dataset(50, seed=1)
    gains = [
        train(data, settings=FAST)[0].foresee(other.questions, structure=other.structure).gain
        for _ in range(2)
    ]
    assert gains[0].tolist() == gains[1].tolist()


def test_training_never_sees_the_tags_of_what_it_foresees() -> None:
    data = dataset(seed=1)
    without = replace(data, tags=None)
    predictor, _ = trained()
    assert evaluate(predictor, data, draws=0).before == evaluate(predictor, without, draws=0).before


def test_report_holds_the_candidates_and_the_baselines() -> None:
    _, report = trained()
    assert set(report.before.candidates) == {"forest", "logistic", "stack", "difficulty"}
    assert set(report.baselines) == {"always edge", "always cloud", "random"}
    assert any("400 rows are few" in note for note in report.notes)


@pytest.mark.parametrize("name", ["forest", "logistic", "boosting", "knn", "mlp"])
def test_each_candidate_beats_chance(name: str) -> None:
    settings = TrainingSettings(models=(name,), trees=20)
    _, report = train(dataset(), settings=settings)
    area = report.before.candidates[name].apgr
    assert area is not None
    assert area > 0.65


def test_training_works_without_tags_groups_and_lengths() -> None:
    data = dataset(200, tag=None, group=None, edge_answer_chars=None)
    predictor, report = train(data, settings=FAST)
    assert report.after is None
    assert predictor.representation.tags == ()
    area = evaluate(predictor, dataset(seed=1), draws=0).before.apgr
    assert area is not None
    assert area > 0.65


def test_training_survives_when_the_cloud_is_worse() -> None:
    data = dataset(200)
    _, report = train(replace(data, edge=data.cloud, cloud=data.edge), settings=FAST)
    assert any("not better" in note for note in report.notes)
    assert report.before.candidates["forest"].apgr is None


@pytest.mark.parametrize(
    "wrong", [{"models": ("oracle",)}, {"models": ()}, {"trees": 0}, {"folds": 1}]
)
def test_settings_refuse_what_cannot_be_trained(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError):
        TrainingSettings(**wrong)  # type: ignore[arg-type]


def test_flat_forest_is_equal_to_that_of_scikit_learn() -> None:
    from sklearn.ensemble import ExtraTreesRegressor

    rng = np.random.default_rng(0)
    rows = rng.normal(size=(300, 7)).astype(np.float32)
    rows[:, 3] = np.round(rows[:, 3])
    targets = np.stack([rows[:, 0] > 0, rows[:, 3] > 0, rows[:, 1]], axis=1).astype(float)
    forest = ExtraTreesRegressor(15, min_samples_leaf=2, random_state=0).fit(rows, targets)
    flat = FlatForest.compile(forest)
    assert flat.predict(rows) == pytest.approx(forest.predict(rows)[:, :2], abs=1e-6)


def test_contributions_of_a_forest_add_up_to_its_prediction() -> None:
    from sklearn.ensemble import ExtraTreesRegressor

    rng = np.random.default_rng(0)
    rows = rng.normal(size=(300, 7)).astype(np.float32)
    targets = np.stack([rows[:, 0], rows[:, 1]], axis=1)
    flat = FlatForest.compile(ExtraTreesRegressor(15, random_state=0).fit(rows, targets))
    start, added = flat.contributions(rows[5])
    assert start + added.sum(axis=0) == pytest.approx(flat.predict(rows[5:6])[0], abs=1e-5)


def test_calibration_undoes_shrinkage_and_keeps_probabilities_and_gain_consistent() -> None:
    rng = np.random.default_rng(0)
    p_edge, p_cloud = rng.random(20_000), rng.random(20_000)
    edge = (rng.random(20_000) < p_edge).astype(float)
    cloud = (rng.random(20_000) < p_cloud).astype(float)
    shrunk = 0.5 + 0.4 * (np.stack([p_edge, p_cloud], axis=1) - 0.5)
    calibration = fit_calibration(shrunk, edge, cloud)
    assert calibration.gain_slope == pytest.approx(2.5, rel=0.05)
    found_edge, found_cloud, gain = calibration.apply(shrunk)
    assert found_cloud - found_edge == pytest.approx(gain)
    assert found_edge.min() >= 0
    assert found_cloud.max() <= 1


def test_training_survives_when_every_optional_column_has_holes() -> None:
    holes: list[Any] = [None, float("nan"), float("inf"), 3.0] * 50
    names = ("difficulty", "expected_output_tokens", "depth", "fan_out", "correct:other")
    tags = [None, "sum", "proof", float("nan")] * 50
    data = dataset(200, tag=tags, cloud_tokens=holes, **dict.fromkeys(names, holes))
    predictor, _ = train(data, settings=FAST)
    other = dataset(30, seed=1)
    found = predictor.foresee(other.questions, structure=other.structure, tags=other.tags)
    assert np.isfinite(found.gain).all()
    assert "" not in predictor.tags


def test_declared_tags_are_reported_and_measured_apart() -> None:
    predictor, report = trained()
    assert set(report.views) == {"tag"}
    assert report.views["tag"].after is not None
    found = evaluate(predictor, dataset(seed=1), draws=20)
    assert found.with_tag is not None
    assert found.with_tag.apgr_interval is not None
    assert found.with_tag.after is not None


def test_tag_counts_for_more_than_the_text_when_the_text_says_nothing() -> None:
    data = dataset(600)
    vague = replace(data, questions=tuple(f"Number {row}?" for row in range(len(data))))
    _, report = train(vague, settings=FAST)
    told = report.views["tag"].before.apgr
    untold = report.before.candidates[report.before.chosen].apgr
    assert told is not None
    assert untold is not None
    assert told > untold + 0.1


def test_validation_takes_fewer_trees_than_the_router() -> None:
    from langchain_hybridflow.learning._choosing import VALIDATION_TREES

    settings = TrainingSettings(models=("forest",), trees=VALIDATION_TREES + 10)
    predictor, _ = train(dataset(120), settings=settings)
    model = predictor.views["text"].before.model
    assert isinstance(model, FlatForest)
    assert len(model.roots) == VALIDATION_TREES + 10
