from __future__ import annotations

import pytest

from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.learning import TrainingSettings, train
from langchain_hybridflow.learning._models import Blend
from langchain_hybridflow.learning._stages import Stages
from langchain_hybridflow.learning.state import from_state, to_state
from tests.unit.learning.outcomes import dataset, trained


@pytest.mark.parametrize("name", ["forest", "logistic"])
def test_predictor_foresees_the_same_when_it_was_a_state(name: str) -> None:
    settings = TrainingSettings(models=(name,), trees=5)
    predictor, _ = train(dataset(150), settings=settings)
    again = from_state(to_state(predictor))
    other = dataset(50, seed=1)
    gains = [p.foresee(other.questions, structure=other.structure).gain for p in (predictor, again)]
    assert gains[0].tolist() == gains[1].tolist()
    assert again.names == predictor.names
    assert again.costs.keys() == predictor.costs.keys()


def test_blend_survives_as_a_state() -> None:
    from dataclasses import replace

    predictor, _ = trained()
    stage = predictor.views["text"].before
    blended = replace(
        predictor,
        views={"text": Stages(before=replace(stage, model=Blend((stage.model,), (1.0,))))},
    )
    other = dataset(20, seed=1)
    gains = [
        p.foresee(other.questions, structure=other.structure).gain
        for p in (predictor, from_state(to_state(blended)))
    ]
    assert gains[0].tolist() == gains[1].tolist()


@pytest.mark.parametrize(
    "change",
    [{"views": {"text": {}}}, {"views": None}, {"representation": {"tags": []}}, {"costs": 1}],
)
def test_state_of_something_else_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError, match="no state of a trained predictor"):
        from_state({**to_state(trained()[0]), **change})


def test_state_of_another_version_of_the_features_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="version 99"):
        from_state({**to_state(trained()[0]), "schema": 99})
