"""Models that run in this process, as embeddings of LangChain."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from langchain_core.embeddings import Embeddings

__all__ = ["LocalEmbeddings", "place_of"]


class LocalEmbeddings(Embeddings):
    """A model of sentence-transformers.

    Args:
        transformer: The loaded model.
        model: What it is called.
    """

    def __init__(self, transformer: Any, *, model: str) -> None:
        self.model = model
        self._transformer = transformer

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Embed texts."""
        found: list[list[float]] = self._transformer.encode(
            texts, show_progress_bar=False, normalize_embeddings=True
        ).tolist()
        return found

    def embed_query(self, text: str) -> list[float]:
        """Embed one text, like any other: a router compares questions with questions."""
        (found,) = self.embed_documents([text])
        return found


def place_of(name: str) -> str:
    """Return where a model is: as it was named, or in the installed package of that name."""
    module = name.replace("-", "_")
    if not module.isidentifier() or Path(name).exists():
        return name
    spec = find_spec(module)
    for place in (spec and spec.submodule_search_locations) or ():
        inside = Path(place) / "model"
        if (inside / "modules.json").is_file():
            return str(inside)
    return name
