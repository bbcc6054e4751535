from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from langchain_hybridflow.errors import ArtifactError, ConfigurationError
from langchain_hybridflow.learning import LearnedRouter, load_router, save_router
from langchain_hybridflow.learning._manifest import Manifest
from langchain_hybridflow.learning.features import FEATURE_SCHEMA
from langchain_hybridflow.learning.persistence import save_artifact
from tests.unit.learning.outcomes import dataset, trained

SHA = "cd" * 32


def saved(place: Path, **options: Any) -> Path:
    save_router(place, trained()[0], data=dataset(), data_sha256=SHA, **options)
    return place


@pytest.mark.parametrize(("file_format", "trust"), [("skops", False), ("joblib", True)])
def test_router_foresees_the_same_when_it_was_saved(
    tmp_path: Path, file_format: Any, trust: bool
) -> None:
    place = saved(tmp_path / "router", file_format=file_format)
    router = LearnedRouter.load(place, trust=trust)
    other = dataset(40, seed=1)
    gains = [
        predictor.foresee(other.questions, structure=other.structure).gain.tolist()
        for predictor in (trained()[0], router.predictor)
    ]
    assert gains[0] == gains[1]


def test_joblib_router_is_refused_without_trust(tmp_path: Path) -> None:
    place = saved(tmp_path / "router", file_format="joblib")
    with pytest.raises(ArtifactError, match="runs the code"):
        LearnedRouter.load(place)


def test_operating_point_is_loaded_unless_another_is_given(tmp_path: Path) -> None:
    place = saved(tmp_path / "router", min_gain=0.25)
    assert LearnedRouter.load(place).rule.min_gain == 0.25
    assert LearnedRouter.load(place, min_gain=0.1).rule.min_gain == 0.1
    assert LearnedRouter.load(place, price_per_usd=7.0).rule.price_per_usd == 7.0


def test_hash_of_the_manifest_vouches_for_the_router(tmp_path: Path) -> None:
    found = save_router(tmp_path / "router", trained()[0], data=dataset(), data_sha256=SHA)
    assert LearnedRouter.load(tmp_path / "router", manifest_sha256=found.sha256)
    with pytest.raises(ArtifactError, match=r"manifest\.json is not what was saved"):
        LearnedRouter.load(tmp_path / "router", manifest_sha256=SHA)


def test_saved_router_knows_what_it_has_seen_and_no_text(tmp_path: Path) -> None:
    router = load_router(saved(tmp_path / "router"))
    old, new = dataset(20), replace(dataset(20), questions=tuple(f"new {i}" for i in range(20)))
    assert not router.unseen(old).any()
    assert router.unseen(new).all()


def test_nothing_is_left_when_saving_fails(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="file_format"):
        saved(tmp_path / "router", file_format="pickle")
    assert list(tmp_path.iterdir()) == []


def test_saving_twice_replaces_the_router(tmp_path: Path) -> None:
    place = saved(tmp_path / "router")
    load_router(place).tuned(0.5, {"by": "hand"}).save(place)
    again = load_router(place)
    assert again.min_gain == 0.5
    assert again.manifest.parameters["tuning"] == {"by": "hand"}
    assert len(list(place.glob("*.skops"))) == 2


@pytest.mark.parametrize(
    ("objects", "parameters"),
    [
        ({"predictor": {}, "seen": np.zeros(1, dtype=np.uint64)}, {}),
        ({"predictor": {}, "seen": np.zeros(1, dtype=np.uint64)}, {"min_gain": 7}),
        ({"predictor": {}}, {"min_gain": 0}),
        ({"residual": {}}, {"min_gain": 0}),
        ({"predictor": {}, "seen": np.zeros(1, dtype=np.uint64)}, {"min_gain": 0}),
    ],
)
def test_directory_of_something_else_is_refused(
    tmp_path: Path, objects: dict[str, object], parameters: dict[str, object]
) -> None:
    manifest = Manifest(
        feature_schema=FEATURE_SCHEMA, training_data_sha256=SHA, parameters=parameters
    )
    save_artifact(tmp_path / "other", objects, manifest)
    with pytest.raises(ConfigurationError):
        LearnedRouter.load(tmp_path / "other")
