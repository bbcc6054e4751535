"""The model that ships without torch does what torch does: same scores, same texts, same bytes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from langchain_hybridflow.sandbox.tiny.runtime import SHIPPED, TinyLlama

SCRIPTS = Path(__file__).parents[2] / "benchmarks" / "selfrouting"
FILES = ["config.json", "model.onnx", "model.safetensors", "tokenizer.json"]


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The script that writes the model, which imports its neighbours."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import export

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield export
    torch.set_num_threads(threads)


def checkpoint(folder: Path, **changes: Any) -> Path:
    """A model with random weights, large enough that its texts are not all the same."""
    from world import save_tokenizer

    tokenizer = save_tokenizer(folder)
    sizes = {
        "vocab_size": len(tokenizer),
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 64,
        "tie_word_embeddings": True,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    torch.manual_seed(1)
    model = LlamaForCausalLM(LlamaConfig(**(sizes | changes)))
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(6) if weight.dim() > 1 else weight.add_(torch.randn_like(weight) / 4)
    model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"num_key_value_heads": 2},
        {"num_key_value_heads": 1},
        {"tie_word_embeddings": False},
        {"head_dim": 32},
        {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}},
    ],
    ids=str,
)
def test_runtime_does_what_torch_does(
    scripts: ModuleType, tmp_path: Path, changes: dict[str, Any]
) -> None:
    made = checkpoint(tmp_path / "made", **changes)
    scripts.export(made, tmp_path / "tiny", dtype="float32")
    found = scripts.compare(made, tmp_path / "tiny", prompts=4)
    assert found.score_error < 1e-4
    assert found.rounding_error == found.score_error
    assert (found.texts_changed, found.texts_rounded) == (0, 0)


def test_comparison_notices_another_model(scripts: ModuleType, tmp_path: Path) -> None:
    made = checkpoint(tmp_path / "made")
    scripts.export(made, tmp_path / "tiny", dtype="float32")
    other = checkpoint(tmp_path / "other", rms_norm_eps=0.1)
    found = scripts.compare(other, tmp_path / "tiny", prompts=4)
    assert found.score_error > scripts.TOLERANCE
    assert found.texts_changed > 0


def test_half_precision_is_half_the_size_and_close(scripts: ModuleType, tmp_path: Path) -> None:
    made = checkpoint(tmp_path / "made")
    sizes = {}
    for dtype in ("float16", "float32"):
        scripts.export(made, tmp_path / dtype, dtype=dtype)
        sizes[dtype] = (tmp_path / dtype / "model.safetensors").stat().st_size
    found = scripts.compare(made, tmp_path / "float16", prompts=4)
    assert sizes["float16"] < 0.55 * sizes["float32"]
    assert found.score_error < 1e-4 < found.rounding_error < 0.1


def test_same_checkpoint_gives_the_same_bytes(scripts: ModuleType, tmp_path: Path) -> None:
    made = checkpoint(tmp_path / "made")
    for name in ("one", "other"):
        scripts.export(made, tmp_path / name)
    one, other = tmp_path / "one", tmp_path / "other"
    assert sorted(path.name for path in one.iterdir()) == FILES
    assert [(one / name).read_bytes() for name in FILES] == [
        (other / name).read_bytes() for name in FILES
    ]


def test_what_was_written_can_be_exported_again(scripts: ModuleType, tmp_path: Path) -> None:
    scripts.export(checkpoint(tmp_path / "made"), tmp_path / "one")
    scripts.export(tmp_path / "one", tmp_path / "again")
    assert [(tmp_path / "one" / name).read_bytes() for name in FILES] == [
        (tmp_path / "again" / name).read_bytes() for name in FILES
    ]


@pytest.mark.parametrize(
    "changes",
    [
        {"attention_bias": True},
        {"hidden_act": "gelu"},
        {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}},
    ],
    ids=str,
)
def test_part_that_the_graph_has_not_is_refused(
    scripts: ModuleType, tmp_path: Path, changes: dict[str, Any]
) -> None:
    made = checkpoint(tmp_path / "made", **changes)
    with pytest.raises(ValueError, match=f"{next(iter(changes)).removesuffix('_parameters')}"):
        scripts.export(made, tmp_path / "tiny")


def test_shipped_graph_is_that_of_the_script(scripts: ModuleType) -> None:
    import llama_graph

    config = json.loads((SHIPPED / "config.json").read_text())
    made = llama_graph.build_graph(config)
    assert (SHIPPED / "model.onnx").read_bytes() == made.SerializeToString(deterministic=True)


def test_shipped_model_does_what_torch_does(scripts: ModuleType) -> None:
    found = scripts.compare(SHIPPED, SHIPPED, prompts=8)
    assert found.score_error < scripts.TOLERANCE
    assert found.texts_changed == 0


def test_demo_asks_puzzles_that_nothing_was_trained_on(scripts: ModuleType) -> None:
    import world

    from langchain_hybridflow.cli.selftrial import HELD_OUT, HELD_OUT_SEED

    assert (HELD_OUT, HELD_OUT_SEED) == (world.TEST, world.TEST_SEED)


def test_shipped_tokens_are_those_of_the_training(scripts: ModuleType) -> None:
    from world import make_tokenizer

    tiny, tokenizer = TinyLlama.load(SHIPPED), make_tokenizer()
    text = "What is 12 + 7 * 3?<think>7*3=21,12+21=33</think><answer>33</answer>"
    assert tiny.encode(text) == tokenizer(text)["input_ids"]
    assert list(tiny.pieces) == tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
