"""A small router in a directory, and files of outcomes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from langchain_hybridflow.learning import save_router
from tests.unit.learning.outcomes import columns, dataset, trained

SHA = "ab" * 32


def new_questions(rows: int, *, seed: int) -> list[str]:
    """Return questions that the router was not trained on; by chance the world repeats some."""
    return [
        text.replace("the door number", "the gate number")
        for text in columns(rows, seed=seed)["question"]
    ]


def outcomes(path: Path, rows: int = 150, *, seed: int = 1, **changes: Any) -> Path:
    """Write outcomes of the small world as JSON lines; `None` drops a column."""
    own = {"question": new_questions(rows, seed=seed)}
    table = columns(rows, seed=seed) | own | changes
    kept = {name: values for name, values in table.items() if values is not None}
    lines = (dict(zip(kept, row, strict=True)) for row in zip(*kept.values(), strict=True))
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return path


def saved_router(directory: Path) -> Path:
    """Save a router of the small world, trained on its seed 0."""
    save_router(
        directory,
        trained()[0],
        data=dataset(),
        data_sha256=SHA,
        training_data={"edge_model": "small"},
    )
    return directory


def content(directory: Path) -> dict[str, bytes]:
    """Return what every file of a directory holds."""
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir())}
