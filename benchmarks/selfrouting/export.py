"""Write a trained model as the package runs it, and check that it does what torch does.

    python benchmarks/selfrouting/export.py CHECKPOINT [--to FOLDER] [--dtype float32]

CHECKPOINT is a folder that transformers' `save_pretrained` wrote, with its tokenizer. FOLDER is by
default where the package keeps the model that it ships. It gets four files:

- `model.safetensors`: the weights, rounded to half precision, which halves the file;
- `model.onnx`: the graph without them (`llama_graph.py`), the same bytes for the same shapes;
- `config.json` and `tokenizer.json`, as transformers reads them.

The same checkpoint gives the same bytes. Then the folder is run, and compared with torch:

- the runtime: scores within 1e-3 of those that torch has with the rounded weights, and the same
  greedy texts, but for ties;
- the rounding: how many greedy texts it changed, which is printed.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from llama_graph import build_graph, weights_of
from safetensors.numpy import save
from transformers import LlamaForCausalLM
from transformers.utils.logging import disable_progress_bar

from langchain_hybridflow.sandbox.puzzles import generate_puzzles
from langchain_hybridflow.sandbox.tiny.runtime import SHIPPED, TinyLlama
from langchain_hybridflow.sandbox.tiny.speaking import Drawing, draw

TOLERANCE = 1e-3
PROMPTS = 64
SEED = 99
# What a model is; the rest of a configuration says how it was made, and changes with transformers.
_KEPT = (
    "architectures",
    "attention_bias",
    "bos_token_id",
    "eos_token_id",
    "head_dim",
    "hidden_act",
    "hidden_size",
    "intermediate_size",
    "max_position_embeddings",
    "mlp_bias",
    "model_type",
    "num_attention_heads",
    "num_hidden_layers",
    "num_key_value_heads",
    "pad_token_id",
    "rms_norm_eps",
    "rope_parameters",
    "tie_word_embeddings",
    "vocab_size",
)


@dataclass(frozen=True)
class Fidelity:
    """How close what was written comes to the checkpoint.

    Attributes:
        prompts: Puzzles that were tried.
        score_error: Largest difference of a score (logit) to torch with the rounded weights.
        texts_changed: Greedy texts that differ from those of torch with the rounded weights.
        rounding_error: Largest difference of a score to torch with the weights as they were.
        texts_rounded: Greedy texts that differ from those of torch with the weights as they were.
    """

    prompts: int
    score_error: float
    texts_changed: int
    rounding_error: float
    texts_rounded: int

    def __str__(self) -> str:
        return (
            f"{self.prompts} puzzles; scores within {self.score_error:.1e} of torch, "
            f"{self.texts_changed} greedy texts differ; by rounding the weights, scores within "
            f"{self.rounding_error:.1e}, {self.texts_rounded} greedy texts differ"
        )


def export(checkpoint: Path, folder: Path, *, dtype: str = "float16") -> None:
    """Write a checkpoint's four files into `folder`.

    Raises:
        ValueError: The model has a part that the graph has not, or is not its tokenizer's.
    """
    model = _torch_model(checkpoint)
    config = _config(model, dtype)
    graph = build_graph(config)
    state = model.state_dict()
    weights = {
        name: state[name].numpy().astype(np.dtype(dtype)) for name in sorted(weights_of(graph))
    }
    tokenizer = json.loads((checkpoint / "tokenizer.json").read_text(encoding="utf-8"))
    tokenizer |= {"padding": None, "truncation": None}  # the trainer's business
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.safetensors").write_bytes(save(weights, metadata={"format": "pt"}))
    (folder / "model.onnx").write_bytes(graph.SerializeToString(deterministic=True))
    _write_json(folder / "config.json", config)
    _write_json(folder / "tokenizer.json", tokenizer)


def compare(
    checkpoint: Path, folder: Path, *, prompts: int = PROMPTS, seed: int = SEED
) -> Fidelity:
    """Compare what was written with its checkpoint, on random puzzles.

    Each prompt's score differences are taken along torch's greedy text with the weights in
    question, as a whole and token by token.
    """
    tiny = TinyLlama.load(folder)
    original, rounded = _torch_model(checkpoint), _torch_model(checkpoint)
    with torch.no_grad():
        for name, weight in rounded.named_parameters():
            weight.copy_(torch.from_numpy(tiny.weights[name]))
    errors: dict[str, list[float]] = {"rounded": [], "original": []}
    changed = dict.fromkeys(errors, 0)
    for puzzle in generate_puzzles(prompts, seed=seed):
        prompt = tiny.encode(puzzle.question)
        text = "".join(token.text for token in draw(tiny, prompt, Drawing()))
        for name, model in (("rounded", rounded), ("original", original)):
            ids = _greedy(model, prompt, tiny)
            errors[name].append(_difference(model, tiny, ids, split=len(prompt)))
            said = "".join(tiny.pieces[one] for one in ids[len(prompt) :] if one != tiny.eos_id)
            changed[name] += said != text
    return Fidelity(
        prompts=prompts,
        score_error=max(errors["rounded"]),
        texts_changed=changed["rounded"],
        rounding_error=max(errors["original"]),
        texts_rounded=changed["original"],
    )


def _torch_model(checkpoint: Path) -> LlamaForCausalLM:
    return LlamaForCausalLM.from_pretrained(checkpoint, dtype=torch.float32).eval()


def _config(model: LlamaForCausalLM, dtype: str) -> dict[str, Any]:
    config = model.config.to_dict()
    return {name: config[name] for name in _KEPT} | {"dtype": dtype}


def _write_json(path: Path, value: Any) -> None:
    text = json.dumps(value, indent=1, ensure_ascii=False, sort_keys=path.name == "config.json")
    path.write_text(text + "\n", encoding="utf-8")


@torch.no_grad()
def _greedy(model: LlamaForCausalLM, prompt: Sequence[int], tiny: TinyLlama) -> list[int]:
    """Return prompt and greedy continuation, up to the end of the text or of the context."""
    out = model.generate(
        torch.tensor([list(prompt)]),
        attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
        do_sample=False,
        max_length=tiny.context,
        pad_token_id=tiny.eos_id,
    )
    ids: list[int] = out[0].tolist()
    return ids


@torch.no_grad()
def _difference(
    model: LlamaForCausalLM, tiny: TinyLlama, ids: Sequence[int], *, split: int
) -> float:
    wanted = model(torch.tensor([list(ids)])).logits[0].numpy()
    whole, _ = tiny.read(ids)
    first, cache = tiny.read(ids[:split])
    rows = [first]
    for one in ids[split:]:
        row, cache = tiny.read([one], cache)
        rows.append(row)
    pieces = np.concatenate(rows)
    return float(max(np.abs(whole - wanted).max(), np.abs(pieces - wanted).max()))


def main() -> int:
    """Read the command line; 1 if what was written does not do what the checkpoint does."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--to", type=Path, default=SHIPPED, metavar="FOLDER")
    parser.add_argument("--dtype", choices=("float16", "float32"), default="float16")
    parser.add_argument("--prompts", type=int, default=PROMPTS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    disable_progress_bar()
    beside = options.to.with_name(options.to.name + ".new")
    shutil.rmtree(beside, ignore_errors=True)
    export(options.checkpoint, beside, dtype=options.dtype)
    fidelity = compare(options.checkpoint, beside, prompts=options.prompts)
    print(fidelity)
    if fidelity.score_error > TOLERANCE or fidelity.texts_changed:
        print(f"Not what torch does: {beside} is left to be looked at.", file=sys.stderr)
        return 1
    shutil.rmtree(options.to, ignore_errors=True)
    beside.rename(options.to)
    size = sum(path.stat().st_size for path in options.to.iterdir())
    print(f"{options.to}: {size / 1e6:.2f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
