"""`--embeddings`: what it takes, and what happens when they do not answer."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from typer.testing import Result

from langchain_hybridflow.cli.embeddings import build_embeddings
from langchain_hybridflow.errors import ModelSpecError
from langchain_hybridflow.learning import load_router
from tests.unit.cli.learnt import outcomes

Run = Callable[..., Result]
MODEL = "sentence-transformers:tiny"


class TinyTransformer:
    """Stands in for a model of sentence-transformers."""

    broken = False

    def __init__(self, place: str) -> None:
        if place == "absent":
            raise OSError(place)

    def encode(self, texts: list[str], **options: Any) -> Any:
        if self.broken:
            raise RuntimeError("out of memory")
        return np.array([[1.0, "Prove" in text, "hides" in text] for text in texts], dtype=float)


@pytest.fixture(autouse=True)
def transformers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    module = ModuleType("sentence_transformers")
    module.SentenceTransformer = TinyTransformer  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "sentence_transformers", module)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_router_is_trained_and_measured_with_embeddings(hybridflow: Run, tmp_path: Path) -> None:
    data, router = str(outcomes(tmp_path / "a.jsonl", 200, seed=0)), str(tmp_path / "r")
    args = ("train", "--data", data, "--out", router, "--embeddings", MODEL, "--json")
    report = json.loads(hybridflow(*args).stdout)
    assert set(report["with"]) == {"tag", "embedding", "embedding and tag"}
    about = load_router(router).manifest.training_data
    assert about["embeddings"] == {"name": "tiny", "dimension": 3}
    assert (tmp_path / "cache" / "langchain-hybridflow" / "embeddings.sqlite").is_file()
    new = str(outcomes(tmp_path / "b.jsonl", 200, seed=4))
    args = ("evaluate", "--router", router, "--data", new, "--json")
    seen = json.loads(hybridflow(*args, "--embeddings", MODEL).stdout)
    plain = hybridflow(*args)
    assert seen["without_embeddings"]["apgr"] == json.loads(plain.stdout)["apgr"]
    assert seen["apgr"] != seen["without_embeddings"]["apgr"]
    assert "Without --embeddings the text alone decides" in " ".join(plain.stderr.split())


def test_training_fails_clearly_when_the_embeddings_do_not_answer(
    hybridflow: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TinyTransformer, "broken", True)
    data = str(outcomes(tmp_path / "a.jsonl", 100, seed=0))
    args = ("train", "--data", data, "--out", str(tmp_path / "r"), "--embeddings", MODEL)
    result = hybridflow(*args)
    assert result.exit_code == 1
    assert "tiny do not answer: RuntimeError" in " ".join(result.stderr.split())
    assert not (tmp_path / "r").exists()


def test_training_goes_on_without_them_when_they_are_optional(
    hybridflow: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TinyTransformer, "broken", True)
    data = str(outcomes(tmp_path / "a.jsonl", 100, seed=0))
    args = ("train", "--data", data, "--out", str(tmp_path / "r"), "--embeddings", MODEL)
    result = hybridflow(*args, "--embeddings-optional")
    assert result.exit_code == 0
    assert "Note: trained without embeddings" in " ".join(result.stderr.split())
    assert load_router(tmp_path / "r").predictor.embedding is None


def test_router_without_embeddings_refuses_some(hybridflow: Run, tmp_path: Path) -> None:
    data = str(outcomes(tmp_path / "a.jsonl", 100, seed=0))
    hybridflow("train", "--data", data, "--out", str(tmp_path / "r"))
    args = ("evaluate", "--router", str(tmp_path / "r"), "--data", data, "--embeddings", MODEL)
    result = hybridflow(*args)
    assert result.exit_code == 2
    assert "trained without embeddings" in " ".join(result.stderr.split())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("openai:text-embedding-3-small", "OPENAI_API_KEY"),
        ("sandbox", "has no embeddings"),
        ("nonsense", "does not name a model"),
        ("http://localhost:8000/v1", "which model of the server"),
        ("nobody:model", "cannot be built"),
    ],
)
def test_name_that_leads_nowhere_is_refused(name: str, message: str) -> None:
    with pytest.raises(ModelSpecError, match=message):
        build_embeddings(name, environ={})


@pytest.mark.parametrize(
    ("name", "model", "url"),
    [
        ("openai:text-embedding-3-small", "text-embedding-3-small", None),
        ("ollama:nomic-embed-text", "nomic-embed-text", "http://localhost:11434/v1"),
        ("http://localhost:8000/v1#bge", "bge", "http://localhost:8000/v1"),
    ],
)
def test_embeddings_of_a_server_are_named_like_models(
    name: str, model: str, url: str | None
) -> None:
    made: Any = build_embeddings(name, environ={"OPENAI_API_KEY": "sk-test-1234"})
    assert (made.model, made.openai_api_base) == (model, url)
    assert made.check_embedding_ctx_length == (url is None)


def test_local_model_that_is_not_there_is_named(hybridflow: Run, tmp_path: Path) -> None:
    data = str(outcomes(tmp_path / "a.jsonl", 100, seed=0))
    args = ("train", "--data", data, "--out", str(tmp_path / "r"))
    result = hybridflow(*args, "--embeddings", "sentence-transformers:absent")
    assert result.exit_code == 1
    assert "The model absent cannot be loaded" in " ".join(result.stderr.split())


def test_options_of_embeddings_need_some(hybridflow: Run, tmp_path: Path) -> None:
    data = str(outcomes(tmp_path / "a.jsonl", 100, seed=0))
    args = ("train", "--data", data, "--out", str(tmp_path / "r"), "--embeddings-optional")
    result = hybridflow(*args)
    assert result.exit_code == 2
    assert "--embeddings MODEL" in result.stderr
