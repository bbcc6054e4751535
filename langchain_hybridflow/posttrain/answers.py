"""The cloud's answers on disk: what was bought once is never bought again.

A SQLite file, which any number of processes of one machine may share: the runs of several methods
and seeds buy each answer once. An answer is on the disk before it is used.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from langchain_core.messages import BaseMessage, message_to_dict

from langchain_hybridflow.errors import ConfigurationError

__all__ = ["AnswerCache", "answer_key"]

_WAIT_S: Final = 30.0
_TABLE: Final = (
    "CREATE TABLE IF NOT EXISTS cloud_answers_1 ("
    "key TEXT PRIMARY KEY, model TEXT NOT NULL, text TEXT NOT NULL, usd TEXT, "
    "input_tokens INTEGER, output_tokens INTEGER, answered_at TEXT NOT NULL) WITHOUT ROWID"
)


def answer_key(
    model: str, messages: Sequence[BaseMessage], options: Mapping[str, Any] | None = None
) -> str:
    """Return under what an answer is kept: a hash of model, messages and call options.

    Settings inside the model object, such as its temperature, are not seen. Models of one name
    whose answers must not be mixed need caches of their own.

    Example:
        >>> from langchain_core.messages import HumanMessage
        >>> answer_key("m", [HumanMessage("6 * 7?")]) == answer_key("m", [HumanMessage("6 * 8?")])
        False
    """
    said = []
    for message in messages:
        data = message_to_dict(message)
        said.append([data["type"], data["data"]["content"]])
    text = json.dumps([model, said, options or {}], sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


class AnswerCache:
    """Answers by their key, in a file.

    Args:
        path: The file; made if it is not there. It lies on a local disk, and its directory exists.

    Raises:
        ConfigurationError: The file cannot be used.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as place:
        ...     cache = AnswerCache(Path(place) / "answers.sqlite")
        ...     cache.put("k", "42", model="m")
        ...     cache.get(["k", "other"])
        {'k': '42'}
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).absolute()
        with self._open() as db:
            db.execute("PRAGMA journal_mode=WAL")
            db.execute(_TABLE)

    def get(self, keys: Sequence[str]) -> dict[str, str]:
        """Return what is there."""
        with self._open() as db:
            found = {}
            for key in dict.fromkeys(keys):
                query = "SELECT text FROM cloud_answers_1 WHERE key = ?"
                row = db.execute(query, (key,)).fetchone()
                if row is not None:
                    found[key] = str(row[0])
        return found

    def put(
        self,
        key: str,
        text: str,
        *,
        model: str,
        usd: object = None,
        input_tokens: int | None = None,
        output_tokens: int | None = None,
    ) -> None:
        """Keep an answer; return when it is on the disk. The first one of a key stays."""
        row = (
            key,
            model,
            text.encode("utf-8", "replace").decode(),  # half a surrogate pair is no text
            None if usd is None else str(usd),
            input_tokens,
            output_tokens,
            datetime.now(UTC).isoformat(timespec="seconds"),
        )
        with self._open() as db:
            db.execute("INSERT OR IGNORE INTO cloud_answers_1 VALUES (?, ?, ?, ?, ?, ?, ?)", row)

    def __len__(self) -> int:
        with self._open() as db:
            return int(db.execute("SELECT count(*) FROM cloud_answers_1").fetchone()[0])

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        # A connection for each use: none is shared by threads, or carried over a fork.
        try:
            with closing(sqlite3.connect(self.path, timeout=_WAIT_S)) as db:
                db.execute("PRAGMA synchronous=FULL")
                with db:
                    yield db
        except sqlite3.Error as error:
            raise ConfigurationError(
                f"{self.path} cannot be used for the cloud's answers: {error}. Choose another "
                f"file, in a directory that is there and that you may write to."
            ) from error
