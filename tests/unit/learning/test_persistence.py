from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import skops.io
from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingRegressor
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline

from langchain_hybridflow.errors import ArtifactError, ConfigurationError
from langchain_hybridflow.learning.persistence import Manifest, Saved, load_artifact, save_artifact

TEXTS = [f"question {number} of {number % 3}" for number in range(30)]
LABELS = [number % 2 for number in range(30)]
X = np.random.default_rng(0).normal(size=(60, 4))
Y = (X[:, 0] > 0).astype(int)


def manifest(**fields: Any) -> Manifest:
    settings: dict[str, Any] = {
        "feature_schema": 1,
        "training_data_sha256": "ab" * 32,
        "training_data": {"rows": 30, "edge": "little"},
        "metrics": {"apgr": 0.61},
        "parameters": {"price_per_usd": 12.5},
    }
    return Manifest(**(settings | fields))


def pipeline() -> Any:
    return make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(TEXTS, LABELS)


@pytest.fixture
def saved(tmp_path: Path) -> Saved:
    return save_artifact(tmp_path / "router", {"model": pipeline()}, manifest())


def rewrite(saved: Saved, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the manifest as somebody would who may write to the directory."""
    path = saved.directory / "manifest.json"
    plain = json.loads(path.read_text())
    change(plain)
    path.write_text(json.dumps(plain))


def exchange(saved: Saved, content: bytes, *, ending: str = "skops") -> None:
    """Put another file in place of the saved one, and make the manifest vouch for it."""
    digest = hashlib.sha256(content).hexdigest()
    name = f"model-{digest[:16]}.{ending}"
    (saved.directory / name).write_bytes(content)

    def change(plain: dict[str, Any]) -> None:
        plain["file_format"] = ending
        plain["files"] = [{"name": "model", "file": name, "sha256": digest, "bytes": len(content)}]

    rewrite(saved, change)


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


# What is saved comes back


def test_pipeline_predicts_the_same_when_it_is_loaded(saved: Saved) -> None:
    artifact = load_artifact(saved.directory, feature_schema=1)
    assert np.array_equal(
        artifact.objects["model"].predict_proba(TEXTS), pipeline().predict_proba(TEXTS)
    )
    assert artifact.manifest == saved.manifest


@pytest.mark.parametrize(
    "model",
    [
        ExtraTreesClassifier(3, random_state=0),
        HistGradientBoostingRegressor(max_iter=3, loss="quantile", quantile=0.9),
        KNeighborsClassifier(),
        MLPClassifier((4,), solver="lbfgs", max_iter=200, random_state=0),
    ],
    ids=lambda model: type(model).__name__,
)
def test_candidates_for_predictors_can_be_saved(model: Any, tmp_path: Path) -> None:
    model.fit(X, Y)
    save_artifact(tmp_path, {"model": model}, manifest())
    loaded = load_artifact(tmp_path, feature_schema=1).objects["model"]
    assert np.array_equal(loaded.predict(X), model.predict(X))


def test_arrays_and_calibration_can_be_saved(tmp_path: Path) -> None:
    curve = IsotonicRegression().fit(X[:, 0], Y)
    save_artifact(tmp_path, {"arrays": {"w": X, "n": [1, 2.5, "x"]}, "curve": curve}, manifest())
    objects = load_artifact(tmp_path, feature_schema=1).objects
    assert np.array_equal(objects["arrays"]["w"], X)
    assert objects["arrays"]["n"] == [1, 2.5, "x"]
    assert np.array_equal(objects["curve"].predict(X[:, 0]), curve.predict(X[:, 0]))


def test_same_objects_are_saved_under_the_same_hash(tmp_path: Path) -> None:
    first, second = (
        save_artifact(tmp_path / name, {"w": {"w": X}}, manifest(), file_format="joblib")
        for name in "ab"
    )
    assert first.sha256 == second.sha256


def test_new_version_replaces_the_old_one(saved: Saved) -> None:
    newer = save_artifact(saved.directory, {"model": [1, 2]}, manifest())
    assert load_artifact(saved.directory, feature_schema=1).objects["model"] == [1, 2]
    files = {path.name for path in saved.directory.iterdir()}
    assert files == {"manifest.json", "MODEL_CARD.md", newer.manifest.files[0].file}


def test_old_version_holds_when_saving_is_cut_off(
    saved: Saved, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Path.replace

    def cut(self: Path, target: Path) -> Path:
        if target.name == "manifest.json":
            raise OSError("no space left on device")
        return original(self, target)

    with monkeypatch.context() as full:
        full.setattr(Path, "replace", cut)
        with pytest.raises(OSError, match="no space"):
            save_artifact(saved.directory, {"model": [1, 2]}, manifest())
    assert load_artifact(saved.directory, feature_schema=1).manifest == saved.manifest
    assert not list(saved.directory.glob(".*"))


def test_model_card_tells_what_the_manifest_knows(saved: Saved) -> None:
    card = (saved.directory / "MODEL_CARD.md").read_text()
    assert all(part in card for part in ("ab" * 32, "little", "apgr", "0.61", "12.5"))


def test_model_card_lets_no_data_become_markup(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script> | [x](http://x) \n# Title"
    save_artifact(tmp_path, {}, manifest(training_data={evil: evil}, about=evil))
    card = (tmp_path / "MODEL_CARD.md").read_text()
    assert "<script>" not in card
    assert "[x]" not in card
    assert "\n# Title" not in card


# What is harmed, or somebody else's, does not


def test_file_is_refused_when_one_byte_is_another(saved: Saved) -> None:
    path = saved.directory / saved.manifest.files[0].file
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match="is not what was saved"):
        load_artifact(saved.directory, feature_schema=1)


def test_file_is_refused_when_another_saved_one_stands_in_its_place(tmp_path: Path) -> None:
    one = save_artifact(tmp_path / "one", {"model": [1]}, manifest())
    two = save_artifact(tmp_path / "two", {"model": [2]}, manifest())
    target = one.directory / one.manifest.files[0].file
    target.write_bytes((two.directory / two.manifest.files[0].file).read_bytes())
    with pytest.raises(ArtifactError):
        load_artifact(one.directory, feature_schema=1)


def test_directory_is_refused_when_the_pinned_manifest_is_another(saved: Saved) -> None:
    load_artifact(saved.directory, feature_schema=1, manifest_sha256=saved.sha256)
    exchange(saved, skops.io.dumps([6, 6, 6]))
    with pytest.raises(ArtifactError, match=r"manifest\.json is not what was saved"):
        load_artifact(saved.directory, feature_schema=1, manifest_sha256=saved.sha256)


def test_joblib_file_is_refused_unless_it_is_trusted(tmp_path: Path) -> None:
    save_artifact(tmp_path, {"model": {"a": 1}}, manifest(), file_format="joblib")
    with pytest.raises(ArtifactError, match="trust=True"):
        load_artifact(tmp_path, feature_schema=1)
    assert load_artifact(tmp_path, feature_schema=1, trust=True).objects["model"] == {"a": 1}


def joblib_bytes(value: object) -> bytes:
    buffer = io.BytesIO()
    joblib.dump(value, buffer)
    return buffer.getvalue()


def test_malicious_joblib_file_does_not_run(saved: Saved, tmp_path: Path) -> None:
    sign = tmp_path / "was-here"
    exchange(saved, joblib_bytes(Bomb(sign)), ending="joblib")
    with pytest.raises(ArtifactError, match="trust=True"):
        load_artifact(saved.directory, feature_schema=1)
    assert not sign.exists()


def test_malicious_joblib_file_does_not_run_when_it_is_not_pinned(tmp_path: Path) -> None:
    saved = save_artifact(tmp_path / "r", {"model": [1]}, manifest(), file_format="joblib")
    sign = tmp_path / "was-here"
    (saved.directory / saved.manifest.files[0].file).write_bytes(joblib_bytes(Bomb(sign)))
    with pytest.raises(ArtifactError):
        load_artifact(saved.directory, feature_schema=1, trust=True)
    assert not sign.exists()


def test_pickle_under_the_name_of_skops_does_not_run(saved: Saved, tmp_path: Path) -> None:
    sign = tmp_path / "was-here"
    exchange(saved, joblib_bytes(Bomb(sign)))
    with pytest.raises(ArtifactError, match="no skops file"):
        load_artifact(saved.directory, feature_schema=1, trust=True)
    assert not sign.exists()


def test_skops_file_is_refused_when_it_wants_a_type_that_is_not_on_the_list(saved: Saved) -> None:
    exchange(saved, skops.io.dumps({"f": os.path.exists}))
    with pytest.raises(ArtifactError, match="not on the list"):
        load_artifact(saved.directory, feature_schema=1, trust=True)


def test_object_is_not_saved_when_it_could_not_be_loaded_again(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="Save their arrays"):
        save_artifact(tmp_path, {"model": manifest()}, manifest())
    assert not list(tmp_path.iterdir())


def test_skops_file_is_refused_when_it_unpacks_to_too_much(saved: Saved) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("schema.json", b" " * 50_000_000)
    exchange(saved, buffer.getvalue())
    with pytest.raises(ArtifactError, match="when unpacked"):
        load_artifact(saved.directory, feature_schema=1, max_bytes=10_000_000)


@pytest.mark.parametrize(
    "name",
    [
        "../model-0123456789abcdef.skops",
        "/etc/passwd",
        "sub/model-0123456789abcdef.skops",
        "model-0123456789abcdef.skops/..",
        "..",
        "model-0123456789abcdef.pkl",
        "other-0123456789abcdef.skops",
        "model-0123456789abcdef.skops\x00",
        "model-0123456789abcdef.skops\n",
        7,
    ],
)
def test_manifest_is_refused_when_a_name_leads_elsewhere(saved: Saved, name: object) -> None:
    rewrite(saved, lambda plain: plain["files"][0].update(file=name))
    with pytest.raises(ArtifactError, match="no name of a file"):
        load_artifact(saved.directory, feature_schema=1)


def test_link_out_of_the_directory_is_not_followed(saved: Saved, tmp_path: Path) -> None:
    path = saved.directory / saved.manifest.files[0].file
    elsewhere = tmp_path / "elsewhere"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)
    with pytest.raises(ArtifactError, match="links are not followed"):
        load_artifact(saved.directory, feature_schema=1)


def test_fifo_is_refused_and_not_waited_for(saved: Saved) -> None:
    path = saved.directory / saved.manifest.files[0].file
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ArtifactError, match="no regular file"):
        load_artifact(saved.directory, feature_schema=1)


@pytest.mark.parametrize(
    "change",
    [
        lambda plain: plain.update(format=2),
        lambda plain: plain.pop("files"),
        lambda plain: plain.update(versions=[]),
        lambda plain: plain.update(feature_schema="1"),
        lambda plain: plain.update(file_format="pickle"),
        lambda plain: plain.update(files=plain["files"] * 2),
        lambda plain: plain["files"][0].update(bytes=-1),
        lambda plain: plain["files"][0].update(sha256="00"),
        lambda plain: plain["files"][0].update(more=1),
        lambda plain: plain.update(file_format="joblib"),
    ],
)
def test_manifest_is_refused_when_it_is_not_well_formed(
    saved: Saved, change: Callable[[dict[str, Any]], object]
) -> None:
    rewrite(saved, change)
    with pytest.raises(ArtifactError, match="no manifest"):
        load_artifact(saved.directory, feature_schema=1, trust=True)


@pytest.mark.parametrize("content", [b"{", b"\xff", b"[" * 100_000, b" " * 2_000_000])
def test_manifest_is_refused_when_it_is_no_json(saved: Saved, content: bytes) -> None:
    (saved.directory / "manifest.json").write_bytes(content)
    with pytest.raises(ArtifactError):
        load_artifact(saved.directory, feature_schema=1)


def test_directory_is_refused_when_it_is_none(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"manifest\.json"):
        load_artifact(tmp_path / "nowhere", feature_schema=1)


# What does not fit is told so


def test_another_feature_schema_is_refused(saved: Saved) -> None:
    with pytest.raises(ArtifactError, match=r"schema 1, .*computes 2.*Train it again"):
        load_artifact(saved.directory, feature_schema=2)


def test_another_scikit_learn_is_refused_unless_forced(saved: Saved) -> None:
    rewrite(saved, lambda plain: plain["versions"].update({"scikit-learn": "0.99.1"}))
    with pytest.raises(ArtifactError, match=r"scikit-learn 0\.99\.1"):
        load_artifact(saved.directory, feature_schema=1)
    assert load_artifact(saved.directory, feature_schema=1, any_version=True).objects


def test_another_patch_of_scikit_learn_will_do(saved: Saved) -> None:
    major, minor, *_ = saved.manifest.versions["scikit-learn"].split(".")
    version = f"{major}.{minor}.99"
    rewrite(saved, lambda plain: plain["versions"].update({"scikit-learn": version}))
    assert load_artifact(saved.directory, feature_schema=1).objects


def test_file_is_refused_when_it_is_too_large(saved: Saved) -> None:
    with pytest.raises(ArtifactError, match="max_bytes"):
        load_artifact(saved.directory, feature_schema=1, max_bytes=10)


@pytest.mark.parametrize("name", ["", "Model", "a/b", "../a", "a" * 41])
def test_object_is_not_saved_when_its_name_is_none(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigurationError, match="names"):
        save_artifact(tmp_path, {name: 1}, manifest())


def test_format_is_refused_when_it_is_unknown(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="pickle"):
        save_artifact(tmp_path, {}, manifest(), file_format="pickle")  # type: ignore[arg-type]


def test_manifest_survives_json() -> None:
    one = replace(manifest(), about="words", versions={"python": "3.12"})
    assert Manifest.from_json(json.loads(json.dumps(one.to_json()))) == one
