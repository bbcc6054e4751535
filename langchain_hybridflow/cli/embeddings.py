"""Embeddings by name, as they are given on the command line.

```
openai:text-embedding-3-small         OpenAI; the key is in OPENAI_API_KEY
ollama:nomic-embed-text               Ollama on this machine
http://localhost:8000/v1#my-model     any OpenAI-compatible server; its key in HYBRIDFLOW_API_KEY
sentence-transformers:NAME            a model in this process; the extra embeddings
mistralai:mistral-embed               any provider that the package `langchain` knows
```
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from langchain_hybridflow.cli.display import is_interactive, say_error, screen
from langchain_hybridflow.cli.models import ModelSpec
from langchain_hybridflow.errors import ConfigurationError, ModelSpecError

if TYPE_CHECKING:
    from collections.abc import Callable

    from langchain_core.embeddings import Embeddings

    from langchain_hybridflow.learning import Dataset, EmbeddedTexts, TrainedPredictor

__all__ = ["Cache", "Spec", "build_embeddings", "embedded", "embedded_for"]

_FORMS: Final = (
    "openai:NAME, ollama:NAME, http://HOST:PORT/v1#NAME for any OpenAI-compatible server, "
    "sentence-transformers:NAME, or PROVIDER:NAME"
)
_TIMEOUT_S: Final = 60.0

Spec = Annotated[
    str | None,
    typer.Option(metavar="MODEL", help=f"Embeddings to learn from as well: {_FORMS}."),
]
Cache = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Where vectors are kept, so that no text is embedded twice; in the user's cache by "
        "default.",
    ),
]


def build_embeddings(text: str, *, environ: Mapping[str, str] = os.environ) -> Embeddings:
    """Make the embeddings of a name. No network is used before their first call.

    Raises:
        ModelSpecError: The name has none of the known forms, a key or a package is missing, or
            the provider is unknown.
        MissingExtraError: The extra `embeddings` is not installed.
    """
    provider, _, name = text.strip().partition(":")
    if provider == "sentence-transformers" and name:
        from langchain_hybridflow.learning import sentence_transformer

        return sentence_transformer(name)
    if text.strip() == "sandbox":
        raise ModelSpecError(f"The sandbox has no embeddings. Write {_FORMS}.")
    spec = ModelSpec.parse(text)
    if spec.provider not in ("openai", "ollama", "http"):
        return _by_provider(spec)
    from langchain_openai import OpenAIEmbeddings
    from pydantic import SecretStr

    key = spec.key(environ)
    if not key:
        raise ModelSpecError(
            f"Embeddings openai:{spec.name} need a key. Put it into the environment variable "
            f"OPENAI_API_KEY."
        )
    return OpenAIEmbeddings(
        model=spec.name,
        base_url=spec.base_url or None,
        api_key=SecretStr(key),
        timeout=_TIMEOUT_S,
        # Other servers take texts and not OpenAI's token numbers.
        check_embedding_ctx_length=spec.provider == "openai",
    )


def _by_provider(spec: ModelSpec) -> Embeddings:
    if find_spec("langchain") is None:
        raise ModelSpecError(
            f"Provider {spec.provider!r} needs the package langchain and the provider's own. "
            f"Without them embeddings are {_FORMS}."
        )
    init_embeddings = import_module("langchain.embeddings").init_embeddings
    try:
        made: Embeddings = init_embeddings(spec.name, provider=spec.provider)
    except (ImportError, TypeError, ValueError) as error:
        raise ModelSpecError(
            f"Embeddings {spec.provider}:{spec.name} cannot be built: {type(error).__name__}. "
            f"Write {_FORMS}."
        ) from error
    return made


def embedded(text: str, data: Dataset, cache: Path | None) -> EmbeddedTexts:
    """Embed the questions of a dataset, or take their vectors from the cache.

    Raises:
        EmbeddingError: The service fails.
        ModelSpecError: The name is not one of embeddings.
    """
    from langchain_hybridflow.learning import embed_texts

    made = build_embeddings(text)
    with _progress() as progress:
        return embed_texts(
            made, data.questions, cache=cache or _usual_cache(os.environ), progress=progress
        )


def embedded_for(
    predictor: TrainedPredictor, text: str | None, data: Dataset, cache: Path | None
) -> EmbeddedTexts | None:
    """Embed questions for a trained router, if that is wanted and it can make use of them.

    Raises:
        ConfigurationError: It was trained with other embeddings, or without any.
        EmbeddingError: The service fails.
    """
    if text is None:
        if predictor.embedding is not None:
            say_error(
                f"Note: the router was trained with the embeddings {predictor.embedding.name}. "
                f"Without --embeddings the text alone decides."
            )
        return None
    if predictor.embedding is None:
        raise ConfigurationError("This router was trained without embeddings.")
    found = embedded(text, data, cache)
    predictor.embedding.check(found.name, found.probe)
    return found


def _usual_cache(environ: Mapping[str, str]) -> Path:
    place = environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(place) / "langchain-hybridflow" / "embeddings.sqlite"


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None] | None]:
    console = screen(stderr=True)
    if not is_interactive(console):
        yield None
        return
    from rich.progress import MofNCompleteColumn, Progress

    with Progress(*Progress.get_default_columns(), MofNCompleteColumn(), console=console) as bar:
        task = bar.add_task("Embedding", total=None)
        yield lambda done, of: bar.update(task, completed=done, total=of)
