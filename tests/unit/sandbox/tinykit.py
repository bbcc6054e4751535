"""A tiny model whose every word is known: its weights are a table of which token follows which.

The graph, the shapes and the tokens are those of the model that ships; only the weights are made
here, so that nothing depends on what was learnt. Each token has a direction of its own; the first
layer turns it into those of the tokens that may follow, and all else adds nothing.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from langchain_hybridflow.answer_or_ask import ASK_MARKER
from langchain_hybridflow.sandbox.tiny.runtime import SHIPPED

Follows = Mapping[str, Mapping[str, float]]

EOS = "</s>"
THOUGHT = "<think>3*4=12</think>"
ANSWERED = f"{THOUGHT}<answer>5</answer>"
ASKED = f"{THOUGHT}{ASK_MARKER}"

# Expressions end with "?", Countdowns with ".": both are thought about in the same way. Where the
# thinking ends the model would rather ask than answer.
HABITS: Follows = {
    "?": {"<think>": 1},
    ".": {"<think>": 1},
    "<think>": {"3": 1},
    "3": {"*": 1},
    "*": {"4": 1},
    "4": {"=": 1},
    "=": {"1": 1},
    "1": {"2": 1},
    "2": {"</think>": 1},
    "</think>": {ASK_MARKER: 1, "<answer>": 0.9},
    ASK_MARKER: {EOS: 1},
    "<answer>": {"5": 1},
    "5": {"</answer>": 1},
    "</answer>": {EOS: 1},
}

# From here it never ends.
ENDLESS: Follows = {"?": {"7": 1}, "7": {"7": 1}}


def write_tiny(folder: Path, follows: Follows = HABITS, *, sharpness: float = 1.0) -> Path:
    """Write a model into a folder; the sharper, the surer it is of what it says."""
    import numpy as np
    from safetensors.numpy import load_file, save_file

    folder.mkdir(parents=True, exist_ok=True)
    for name in ("config.json", "model.onnx", "tokenizer.json"):
        shutil.copy(SHIPPED / name, folder)
    config = json.loads((folder / "config.json").read_text())
    shapes = {name: one.shape for name, one in load_file(SHIPPED / "model.safetensors").items()}
    weights = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    for name, weight in weights.items():
        if name.endswith("norm.weight"):
            weight.fill(1)
    ids = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    size, width = config["vocab_size"], config["hidden_size"]
    assert size <= width
    weights["model.embed_tokens.weight"][:, :size] = np.eye(size)
    weights["model.norm.weight"] *= sharpness
    first = "model.layers.0.mlp"
    for token, nexts in follows.items():
        place = ids[token]
        # What is left of a token's own direction is 1, and the norm makes sqrt(width) of it.
        weights[f"{first}.gate_proj.weight"][place, place] = 1
        weights[f"{first}.up_proj.weight"][place, place] = width**-0.5
        for word, weight in nexts.items():
            weights[f"{first}.down_proj.weight"][ids[word], place] = weight
    save_file(weights, folder / "model.safetensors")
    return folder
