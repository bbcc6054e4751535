"""Embeddings as a further view of a text: asked carefully, and done without when they fail.

While training, every text is embedded, in batches, and what was embedded is kept on disk: a
training that was interrupted, or is done again, asks for nothing twice. When a router decides, one
slow or broken service must not hold up every call: it has a moment to answer, and after a failure
it is left alone for a while. Meanwhile the text alone decides, and the decision says so.
"""

from __future__ import annotations

import hashlib
import logging
import sqlite3
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from langchain_hybridflow.errors import ConfigurationError, EmbeddingError, MissingExtraError
from langchain_hybridflow.learning._embedding import EmbeddingBlock
from langchain_hybridflow.learning._offers import shortened

if TYPE_CHECKING:
    import numpy as np
    from langchain_core.embeddings import Embeddings
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

__all__ = [
    "PROBE",
    "EmbeddedTexts",
    "EmbeddingService",
    "embed_texts",
    "embeddings_name",
    "sentence_transformer",
]

PROBE: Final = "How many of the 24 students in the class have read both books?"
"""The text whose vector tells whether embeddings are those that a router was trained with."""

BATCH: Final = 128
_REMEMBERED: Final = 1_024
_MODEL_ATTRIBUTES: Final = ("model", "model_name", "model_id", "deployment")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddedTexts:
    """Texts as vectors.

    Attributes:
        name: What the embeddings are called.
        rows: Shape (n, dimension), one for each text.
        probe: Shape (dimension,), the vector of a known text.
    """

    name: str
    rows: Floats
    probe: Floats


def embeddings_name(embeddings: Embeddings) -> str:
    """Return what embeddings are called: the name of their model, or else of their class.

    Example:
        >>> from langchain_core.embeddings import DeterministicFakeEmbedding
        >>> embeddings_name(DeterministicFakeEmbedding(size=8))
        'DeterministicFakeEmbedding'
    """
    for attribute in _MODEL_ATTRIBUTES:
        name = getattr(embeddings, attribute, None)
        if isinstance(name, str) and name.strip():
            return name.strip()
    return type(embeddings).__name__


def embed_texts(
    embeddings: Embeddings,
    texts: Sequence[str],
    *,
    cache: Path | str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> EmbeddedTexts:
    """Embed texts in batches; for training and evaluation.

    Args:
        embeddings: Any embeddings of LangChain.
        texts: n texts; the same one is embedded once.
        cache: An SQLite file with the vectors of earlier texts, under hashes of their content and
            the name of the embeddings; made if it does not exist.
        progress: Told after each batch how many of how many texts there are.

    Raises:
        EmbeddingError: The service fails, or what it returns are no vectors of one length.
        ConfigurationError: The cache cannot be used.

    Example:
        >>> from langchain_core.embeddings import DeterministicFakeEmbedding
        >>> embed_texts(DeterministicFakeEmbedding(size=8), ["a", "b", "a"]).rows.shape
        (3, 8)
    """
    import numpy as np

    texts = [_sendable(text) for text in texts]
    wanted = list(dict.fromkeys([*texts, PROBE]))
    name = embeddings_name(embeddings)
    with _store(cache) as store:
        known = {text: store.get(name, text) for text in wanted}
        missing = [text for text in wanted if known[text] is None]
        for start in range(0, len(missing), BATCH):
            batch = missing[start : start + BATCH]
            found = _asked(embeddings, batch)
            known |= dict(zip(batch, found, strict=True))
            store.put(name, batch, found)
            if progress is not None:
                progress(len(wanted) - len(missing) + start + len(batch), len(wanted))
    sizes = {len(vector) for vector in known.values() if vector is not None}
    if len(sizes) > 1:
        raise EmbeddingError(
            f"{name} has returned vectors of {', '.join(map(str, sorted(sizes)))} numbers. If the "
            f"model was changed under its name, remove the cache of its vectors."
        )
    (size,) = sizes
    rows = np.array([known[text] for text in texts], dtype=np.float32).reshape(len(texts), size)
    return EmbeddedTexts(name=name, rows=rows, probe=np.array(known[PROBE], dtype=np.float32))


def _sendable(text: str) -> str:
    """Return a text that no service chokes on: neither too long, nor empty, nor half a character.

    Otherwise one such text, perhaps sent on purpose, would pass for an outage.
    """
    return shortened(text).encode(errors="replace").decode() if text.strip() else "(empty)"


def _asked(embeddings: Embeddings, texts: list[str]) -> Floats:
    """Ask for vectors, and look at what comes back."""
    import numpy as np

    name = embeddings_name(embeddings)
    try:
        found = embeddings.embed_documents(texts)
    except Exception as error:  # anybody's code, and any client's own errors
        raise EmbeddingError(
            f"The embeddings {name} do not answer: {type(error).__name__}. Check that the service "
            f"is up and the key is right."
        ) from error
    try:
        vectors = np.array(found, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise EmbeddingError(f"{name} has returned vectors of several lengths.") from error
    if vectors.ndim != 2 or len(vectors) != len(texts) or not vectors.shape[1]:
        raise EmbeddingError(
            f"{name} was asked for {len(texts)} vectors, and returned something of shape "
            f"{vectors.shape}."
        )
    bad = int((~np.isfinite(vectors).all(axis=1)).sum())
    if bad:
        raise EmbeddingError(
            f"{bad} of {len(texts)} vectors of {name} hold numbers that are not finite (NaN)."
        )
    return vectors


class EmbeddingService:
    """Embeddings at the moment of a decision: a vector soon, or none.

    Safe to share by threads. The vectors of the last 1,024 texts are remembered: a decision after
    the edge's answer asks about the same text again.

    Args:
        embeddings: Any embeddings of LangChain.
        timeout_s: How long a decision waits for them, in seconds.
        pause_s: How long they are left alone after a failure, in seconds.
        clock: Seconds, monotonic.

    Raises:
        ConfigurationError: A time is not positive.
    """

    def __init__(
        self,
        embeddings: Embeddings,
        *,
        timeout_s: float = 2.0,
        pause_s: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not (timeout_s > 0 and pause_s > 0):
            raise ConfigurationError(
                f"timeout_s and pause_s must be positive, got {timeout_s!r} and {pause_s!r}."
            )
        self.name = embeddings_name(embeddings)
        self._embeddings = embeddings
        self._timeout_s, self._pause_s, self._clock = timeout_s, pause_s, clock
        self._lock = threading.Lock()
        self._remembered: OrderedDict[bytes, Floats] = OrderedDict()
        self._left_alone_until_s = float("-inf")

    def check(self, block: EmbeddingBlock) -> None:
        """Refuse embeddings that a router was not trained with.

        If they do not answer now, only their name is compared, and the length of vectors later.

        Raises:
            ConfigurationError: They are others.
        """
        block.check(self.name, None)
        try:
            (probe,) = self._in_time([PROBE])
        except EmbeddingError as error:
            self._fail(error)
            return
        block.check(self.name, probe)

    def vectors(self, texts: Sequence[str], *, dimension: int) -> Floats | None:
        """Return vectors, shape (n, dimension), or `None` if there are none to be had now.

        Args:
            texts: n texts.
            dimension: How many numbers a vector has to have.
        """
        import numpy as np

        texts = [_sendable(text) for text in texts]
        with self._lock:
            found = {text: self._remembered.get(_key(self.name, text)) for text in texts}
            missing = [text for text, vector in found.items() if vector is None]
            # One caller at a time finds out whether they are back.
            if missing and self._clock() < self._left_alone_until_s:
                return None
            was_down = self._left_alone_until_s > float("-inf")
            if missing and was_down:
                self._left_alone_until_s = self._clock() + self._pause_s
        if missing:
            try:
                asked = self._in_time(missing)
                if asked.shape[1] != dimension:
                    raise EmbeddingError(
                        f"{self.name} returns vectors of {asked.shape[1]} numbers, and the router "
                        f"was trained on {dimension}."
                    )
            except EmbeddingError as error:
                self._fail(error)
                return None
            found |= dict(zip(missing, asked, strict=True))
            self._note(missing, asked)
        return np.array([found[text] for text in texts], dtype=np.float32)

    def _in_time(self, texts: list[str]) -> Floats:
        """Ask in a thread of its own: no client is trusted to keep to a time-out."""
        result: list[Any] = []

        def ask() -> None:
            try:
                result.append(_asked(self._embeddings, texts))
            except EmbeddingError as error:
                result.append(error)

        # A daemon: a service that never answers must not keep the process from ending.
        thread = threading.Thread(target=ask, daemon=True, name="hybridflow-embedding")
        thread.start()
        thread.join(self._timeout_s)
        if not result:
            raise EmbeddingError(f"{self.name} has not answered within {self._timeout_s:g} s.")
        (found,) = result
        if isinstance(found, EmbeddingError):
            raise found
        vectors: Floats = found
        return vectors

    def _fail(self, error: EmbeddingError) -> None:
        with self._lock:
            self._left_alone_until_s = self._clock() + self._pause_s
        # Not more than once a pause: nobody is asked meanwhile.
        logger.warning("Decisions are made by the text alone for %g s: %s", self._pause_s, error)

    def _note(self, texts: list[str], vectors: Floats) -> None:
        with self._lock:
            self._left_alone_until_s = float("-inf")
            for text, vector in zip(texts, vectors, strict=True):
                self._remembered[_key(self.name, text)] = vector
            while len(self._remembered) > _REMEMBERED:
                self._remembered.popitem(last=False)


def sentence_transformer(name: str) -> Embeddings:
    """Return a model of sentence-transformers as embeddings of LangChain.

    Args:
        name: A name on the Hugging Face hub, a directory with a model, or an installed package
            that carries one in its directory `model`.

    Raises:
        MissingExtraError: The extra `embeddings` is not installed.
        EmbeddingError: There is no such model, or it cannot be had.
    """
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise MissingExtraError("Embeddings of sentence-transformers", "embeddings") from error
    from langchain_hybridflow.learning._local_embeddings import LocalEmbeddings, place_of

    try:
        return LocalEmbeddings(SentenceTransformer(place_of(name)), model=Path(name).name)
    except (OSError, ValueError) as error:
        raise EmbeddingError(
            f"The model {name} cannot be loaded: {type(error).__name__}. Name one that is on this "
            f"machine, or let it be downloaded."
        ) from error


class _Nothing:
    """The store of those who keep nothing."""

    def get(self, name: str, text: str) -> Floats | None:
        return None

    def put(self, name: str, texts: list[str], vectors: Floats) -> None:
        """Forget."""


class _Kept:
    """Vectors on disk, under hashes of what they were made of."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        with connection:
            connection.execute(
                "CREATE TABLE IF NOT EXISTS vectors (key BLOB PRIMARY KEY, vector BLOB NOT NULL)"
            )

    def get(self, name: str, text: str) -> Floats | None:
        import numpy as np

        row = self._connection.execute(
            "SELECT vector FROM vectors WHERE key = ?", (_key(name, text),)
        ).fetchone()
        return None if row is None else np.frombuffer(row[0], dtype="<f4")

    def put(self, name: str, texts: list[str], vectors: Floats) -> None:
        rows = [
            (_key(name, text), vector.astype("<f4").tobytes())
            for text, vector in zip(texts, vectors, strict=True)
        ]
        with self._connection:
            self._connection.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?)", rows)


def _key(name: str, text: str) -> bytes:
    return hashlib.blake2b(f"{name}\x00{text}".encode(), digest_size=16).digest()


@contextmanager
def _store(cache: Path | str | None) -> Iterator[_Kept | _Nothing]:
    if cache is None:
        yield _Nothing()
        return
    path = Path(cache)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path)
        with closing(connection):
            yield _Kept(connection)
    except (OSError, sqlite3.Error) as error:
        raise ConfigurationError(
            f"{path} cannot keep vectors ({error}). Name another file for them."
        ) from error
