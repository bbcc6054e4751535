from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from langchain_hybridflow.errors import ArtifactError
from langchain_hybridflow.sandbox.tiny.runtime import SHIPPED, TinyLlama
from tests.unit.sandbox.tinykit import write_tiny

IDS = [1, 10, 24, 11, 24, 16, 15, 9]


@pytest.fixture(autouse=True)
def _extra(require: Callable[..., None]) -> None:
    for name in ("numpy", "onnxruntime", "safetensors", "tokenizers"):
        require(name, "install the extra tiny")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_tiny(tmp_path / "tiny")


def change_weights(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    from safetensors.numpy import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors")


@pytest.mark.parametrize("split", [1, 3, 7])
def test_scores_are_the_same_token_by_token(split: int) -> None:
    import numpy as np

    model = TinyLlama.load(SHIPPED)
    whole, _ = model.read(IDS)
    parts, cache = [], None
    for start in range(0, len(IDS), split):
        scores, cache = model.read(IDS[start : start + split], cache)
        parts.append(scores)
    np.testing.assert_allclose(np.concatenate(parts), whole, atol=1e-4)


def test_tokens_before_do_not_depend_on_those_after() -> None:
    import numpy as np

    model = TinyLlama.load(SHIPPED)
    one, _ = model.read(IDS)
    other, _ = model.read([*IDS[:4], 5, 6, 7])
    np.testing.assert_allclose(other[:4], one[:4], atol=1e-4)
    assert not np.allclose(other[4], one[4], atol=1e-2)


def test_place_of_a_token_counts() -> None:
    import numpy as np

    model = TinyLlama.load(SHIPPED)
    (scores, _) = model.read([1, 16, 17, 16])
    assert not np.allclose(scores[1], scores[3], atol=1e-2)


def test_cache_of_a_text_can_be_gone_on_from_twice() -> None:
    import numpy as np

    model = TinyLlama.load(SHIPPED)
    _, cache = model.read(IDS)
    first, _ = model.read([15], cache)
    model.read([16], cache)
    again, _ = model.read([15], cache)
    np.testing.assert_array_equal(again, first)


def test_text_is_its_pieces_put_together() -> None:
    model = TinyLlama.load(SHIPPED)
    text = "What is (12 + 7) * 3?<think>12+7=19,19*3=57</think><answer>57</answer>"
    ids = model.encode(text)
    assert ids[0] == model.bos_id
    assert "".join(model.pieces[one] for one in ids[1:]) == text


@pytest.mark.parametrize("name", ["config.json", "model.onnx", "model.safetensors"])
def test_missing_file_is_named(name: str, folder: Path) -> None:
    (folder / name).unlink()
    with pytest.raises(ArtifactError, match=f"{name} missing"):
        TinyLlama.load(folder)


@pytest.mark.parametrize(
    "name", ["config.json", "model.onnx", "model.safetensors", "tokenizer.json"]
)
def test_damaged_file_is_refused(name: str, folder: Path) -> None:
    (folder / name).write_bytes(b"{} nothing of the kind")
    with pytest.raises(ArtifactError, match="cannot be used"):
        TinyLlama.load(folder)


def test_weight_that_is_missing_is_refused(folder: Path) -> None:
    change_weights(folder, lambda weights: weights.pop("model.norm.weight"))
    # Releases of onnxruntime name the weight, or the place where it would have been.
    with pytest.raises(ArtifactError, match=r"model\.norm\.weight|given-by-name"):
        TinyLlama.load(folder)


def test_weight_of_another_shape_is_refused(folder: Path) -> None:
    name = "model.norm.weight"
    change_weights(folder, lambda weights: weights.update({name: weights[name][:3].copy()}))
    with pytest.raises(ArtifactError, match="dimensions"):
        TinyLlama.load(folder)


def test_tokenizer_of_another_model_is_refused(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"vocab_size": 99}))
    with pytest.raises(ArtifactError, match=r"\d+ tokens, it 99"):
        TinyLlama.load(folder)


def test_shipped_model_is_small() -> None:
    assert sum(path.stat().st_size for path in SHIPPED.iterdir()) < 3_000_000


def test_shipped_model_holds_its_files_and_nothing_else() -> None:
    assert sorted(path.name for path in SHIPPED.iterdir()) == [
        "config.json",
        "model.onnx",
        "model.safetensors",
        "tokenizer.json",
    ]
