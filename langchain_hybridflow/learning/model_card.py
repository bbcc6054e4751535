"""The model card of a saved router: what it is for, what it was trained on, how good it is."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping
from typing import Any

from langchain_hybridflow.learning._manifest import Manifest

__all__ = ["model_card"]

_USE = (
    "It foresees, before a call is made, how likely each of two language models is to answer "
    "right. It has seen the two models and the kind of questions below, and nothing else: with "
    "other models or questions, check it on some of your own, or train it on them. It says "
    "nothing about whether an answer is safe or lawful."
)


def model_card(manifest: Manifest) -> str:
    """Write the model card as Markdown.

    What comes from data (names of data sets and models, for example) is escaped.

    Example:
        >>> card = model_card(Manifest(feature_schema=3, training_data_sha256="ab" * 32))
        >>> card.splitlines()[0]
        '# A router between an edge and a cloud model'
    """
    about = manifest.about or "Predicts what the cloud model would add to an answer."
    parts = [
        "# A router between an edge and a cloud model",
        _escaped(about),
        "## Use",
        _USE,
        "## Training data",
        _table({**manifest.training_data, "sha256": manifest.training_data_sha256}),
        "## Results on held-out data",
        _table(manifest.metrics) if manifest.metrics else "None were given.",
        "## Parameters",
        _table(manifest.parameters) if manifest.parameters else "None.",
        "## Files",
        _table({one.file: f"{one.bytes:,} bytes, sha256 {one.sha256}" for one in manifest.files})
        if manifest.files
        else "None.",
        "## Versions",
        _table({"feature schema": manifest.feature_schema, **manifest.versions}),
    ]
    return "\n\n".join(parts) + "\n"


def _table(values: Mapping[str, Any]) -> str:
    rows = [f"| {_escaped(str(name))} | {_escaped(_written(values[name]))} |" for name in values]
    return "\n".join(["| | |", "|---|---|", *rows])


def _written(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, str):
        return value
    return json.dumps(value, sort_keys=True)


def _escaped(text: str) -> str:
    """Let no text become Markdown or HTML."""
    plain = html.escape(" ".join(text.split()), quote=False)
    for sign in "\\`*_[]|#!~":
        plain = plain.replace(sign, f"\\{sign}")
    return plain
