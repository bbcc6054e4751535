"""A trained predictor as plain dicts, lists and arrays, and back: what persistence writes.

Nothing of ours is in a state, only types of Python, numpy and scikit-learn, so that a file format
needs to know no class of this package, and a class may change while its state stays.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.learning._embedding import EmbeddingBlock
from langchain_hybridflow.learning._forest import FlatForest
from langchain_hybridflow.learning._models import Blend, Constant, PairModel, SklearnPair
from langchain_hybridflow.learning._representation import Representation
from langchain_hybridflow.learning._stages import Stage, Stages
from langchain_hybridflow.learning.calibration import Calibration
from langchain_hybridflow.learning.costs import CostModel
from langchain_hybridflow.learning.predictor import TrainedPredictor

__all__ = ["from_state", "to_state"]


def to_state(predictor: TrainedPredictor) -> dict[str, Any]:
    """Return a predictor as dicts, lists, arrays and, unless it is a forest, estimators."""
    return {
        "schema": predictor.schema,
        "representation": _facts(predictor.representation),
        "views": {name: _stages_state(stages) for name, stages in predictor.views.items()},
        "embedding": None if predictor.embedding is None else _facts(predictor.embedding),
        "costs": {name: _facts(model) for name, model in predictor.costs.items()},
    }


def from_state(state: Mapping[str, Any]) -> TrainedPredictor:
    """Build the predictor of a state.

    Raises:
        ConfigurationError: The state is not one that `to_state` made, or is of another version of
            the features.
    """
    try:
        schema, embedding = state["schema"], state["embedding"]
        representation = dict(state["representation"])
        representation["tags"] = tuple(representation["tags"])
        parts: dict[str, Any] = {
            "representation": Representation(**representation),
            "views": {name: _stages(facts) for name, facts in state["views"].items()},
            "embedding": None if embedding is None else EmbeddingBlock(**embedding),
            "costs": {name: _cost_model(facts) for name, facts in state["costs"].items()},
        }
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ConfigurationError(
            f"This is no state of a trained predictor ({error!r}). Train it again."
        ) from error
    return TrainedPredictor(**parts, schema=schema)


def _facts(value: Any) -> dict[str, Any]:
    return {
        field.name: list(found) if isinstance(found, tuple) else found
        for field in fields(value)
        if field.init
        for found in [getattr(value, field.name)]
    }


def _cost_model(facts: Mapping[str, Any]) -> CostModel:
    low, high = facts["errors"]
    least, most = facts["limits"]
    return CostModel(**{**facts, "errors": (low, high), "limits": (least, most)})


def _stages_state(stages: Stages) -> dict[str, Any]:
    return {
        "before": _stage_state(stages.before),
        "after": None if stages.after is None else _stage_state(stages.after),
    }


def _stages(state: Mapping[str, Any]) -> Stages:
    after = state["after"]
    return Stages(before=_stage(state["before"]), after=None if after is None else _stage(after))


def _stage_state(stage: Stage) -> dict[str, Any]:
    return {
        "model": _model_state(stage.model),
        "calibration": asdict(stage.calibration),
        "means": stage.means,
    }


def _stage(state: Mapping[str, Any]) -> Stage:
    return Stage(
        model=_model(state["model"]),
        calibration=Calibration(**state["calibration"]),
        means=state["means"],
    )


def _model_state(model: PairModel) -> dict[str, Any]:
    match model:
        case FlatForest():
            return {"kind": "forest", **_facts(model)}
        case Blend():
            parts = [_model_state(part) for part in model.models]
            return {"kind": "blend", "models": parts, "weights": list(model.weights)}
        case SklearnPair():
            estimators = [
                {"constant": one.probability} if isinstance(one, Constant) else {"estimator": one}
                for one in model.estimators
            ]
            return {"kind": "scikit-learn", "scaler": model.scaler, "estimators": estimators}
    raise ConfigurationError(f"A model of type {type(model).__name__} has no state.")


def _model(state: Mapping[str, Any]) -> PairModel:
    facts = {name: value for name, value in state.items() if name != "kind"}
    match state["kind"]:
        case "forest":
            return FlatForest(**facts)
        case "blend":
            return Blend(tuple(map(_model, facts["models"])), tuple(facts["weights"]))
        case "scikit-learn":
            estimators = tuple(
                Constant(one["constant"]) if "constant" in one else one["estimator"]
                for one in facts["estimators"]
            )
            return SklearnPair(facts["scaler"], estimators)
    raise ValueError(f"unknown kind of model {state['kind']!r}")
