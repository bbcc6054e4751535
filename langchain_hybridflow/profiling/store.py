"""An append-only log of JSON lines that a process can die over at any moment.

A line is on the disk when `append` returns. A process that is killed leaves at most one torn line
at the end, which the next one cuts off. Two processes cannot have the same log open.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from tempfile import NamedTemporaryFile
from types import TracebackType
from typing import IO, Any, Final, Self

from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.profiling.records import Key, Outcome
from langchain_hybridflow.routing import Tier

if sys.platform != "win32":  # there nobody watches over a second process
    import fcntl

__all__ = ["AppendLog", "ProfileStore", "settings_of", "write_atomically"]

_LOG: Final = "log.jsonl"
_SETTINGS: Final = "settings.json"
_LOCK: Final = ".lock"


class AppendLog:
    r"""JSON objects, one a line, added at the end and never changed.

    Args:
        path: The file; made if it is not there.

    Attributes:
        rows: What was in it when it was opened, and what was added since.
        repaired_bytes: Length of the torn line that was cut off its end.

    Raises:
        ConfigurationError: The file cannot be read or written, or is no such log.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as place:
        ...     path = Path(place) / "log.jsonl"
        ...     with AppendLog(path) as log:
        ...         log.append({"id": 1})
        ...     _ = path.write_bytes(path.read_bytes() + b'{"id": 2, "te')
        ...     with AppendLog(path) as log:
        ...         log.rows, log.repaired_bytes
        ([{'id': 1}], 13)
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[dict[str, Any]] = []
        self.repaired_bytes = 0
        try:
            self._file: IO[bytes] = path.open("a+b")
        except OSError as error:
            raise _unusable(path, error) from error
        try:
            self._read()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def append(self, row: Mapping[str, Any]) -> None:
        """Add a line, and return when it is on the disk.

        Raises:
            ConfigurationError: It cannot be written; a part of it that was is taken back.
        """
        # ASCII: half a surrogate pair, as models do write, is no UTF-8.
        line = json.dumps(row, separators=(",", ":"), allow_nan=False).encode("ascii") + b"\n"
        end = self._file.seek(0, os.SEEK_END)
        try:
            self._file.write(line)
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            with suppress(OSError):
                self._file.truncate(end)
            raise _unusable(self.path, error) from error
        self.rows.append(dict(row))

    def close(self) -> None:
        """Close the file; harmless when done twice."""
        self._file.close()

    def _read(self) -> None:
        self._file.seek(0)
        end = 0
        for number, line in enumerate(self._file, start=1):
            row = _parsed(line)
            if row is None:
                self._cut(end, number, line)
                return
            self.rows.append(row)
            end += len(line)

    def _cut(self, end: int, number: int, line: bytes) -> None:
        """Take off a last line that was not finished; anything else is damage."""
        if self._file.read(1):
            raise ConfigurationError(
                f"Line {number} of {self.path} is no JSON object, and it is not the last one: "
                f"the file was damaged. Restore it, or take the line out."
            )
        self.repaired_bytes = len(line)
        self._file.truncate(end)
        os.fsync(self._file.fileno())


class ProfileStore:
    """The directory of a profile: its settings, and the log of its outcomes.

    Args:
        directory: Where it is, or will be.
        settings: What makes outcomes comparable (models, prompt, samples, ...), plain JSON. A
            profile that was begun with others is not continued.
        restart: Begin anew. What was there is moved to a directory `before-N` inside.
        rescore: Let the setting `scorer` be another one than before.

    Attributes:
        directory: Where it is.
        settings: What it was made with.
        outcomes: The outcome that counts, by its key.

    Raises:
        ConfigurationError: The directory cannot be written, another process is at work in it, or
            the settings differ; the message says which, and what to do.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from langchain_hybridflow.profiling.records import Item
        >>> one = Outcome.about(
        ...     Item(id="7", question="6 * 7?"), tier="edge", model="m", status="scored", score=1.0
        ... )
        >>> with TemporaryDirectory() as place:
        ...     with ProfileStore(Path(place), settings={"edge": "m"}) as store:
        ...         store.append(one)
        ...     with ProfileStore(Path(place), settings={"edge": "m"}) as store:
        ...         store.outcomes[one.key] == one
        True
    """

    def __init__(
        self,
        directory: Path,
        *,
        settings: Mapping[str, Any],
        restart: bool = False,
        rescore: bool = False,
    ) -> None:
        self.directory = Path(directory)
        self.settings = dict(settings)
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            self._lock = _locked(self.directory)
        except OSError as error:
            raise _unusable(self.directory, error) from error
        try:
            if restart:
                _move_away(self.directory)
            self._check_settings(rescore=rescore)
            self._log = AppendLog(self.directory / _LOG)
            try:
                rows = enumerate(self._log.rows, start=1)
                self._history = [_outcome(row, number) for number, row in rows]
            except BaseException:
                self._log.close()
                raise
        except BaseException:
            self._lock.close()
            raise
        self.outcomes = {one.key: one for one in self._history}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[Outcome]:
        """All outcomes in the order in which they came, also those that no longer count."""
        return iter(self._history)

    def append(self, outcome: Outcome) -> None:
        """Write an outcome down; it counts from now on.

        Raises:
            ConfigurationError: It cannot be written.
        """
        self._log.append(outcome.to_json())
        self._history.append(outcome)
        self.outcomes[outcome.key] = outcome

    def attempts(self, key: Key) -> int:
        """Return how often an answer was tried for."""
        known = self.outcomes.get(key)
        return 0 if known is None else known.attempt

    @property
    def spent_usd(self) -> Decimal:
        """What all tries cost as far as it is known, in USD, those that failed included."""
        grades = [one.judge_usd for one in self._history]
        return sum((usd for usd in (*self._calls().values(), *grades) if usd), Decimal(0))

    def tier_usd(self, tier: Tier) -> Decimal | None:
        """Return what all calls of a tier cost, in USD; `None` if some cost is unknown."""
        paid = [usd for (key, _), usd in self._calls().items() if key.tier == tier]
        known = [usd for usd in paid if usd is not None]
        return sum(known, Decimal(0)) if len(known) == len(paid) else None

    def _calls(self) -> dict[tuple[Key, int], Decimal | None]:
        # An answer that was scored later stands there twice: its call was paid for once.
        return {(one.key, one.attempt): one.usd for one in self._history}

    def close(self) -> None:
        """Close the log and let others at it; harmless when done twice."""
        self._log.close()
        self._lock.close()

    def _check_settings(self, *, rescore: bool) -> None:
        path = self.directory / _SETTINGS
        log = self.directory / _LOG
        if not path.exists() and not (log.exists() and log.stat().st_size):
            write_atomically(path, _pretty(self.settings))
            return
        try:
            before = json.loads(path.read_bytes())
            if not isinstance(before, dict):
                raise TypeError("it is no JSON object")
        except (OSError, TypeError, ValueError) as error:
            raise ConfigurationError(
                f"{path} cannot be read ({error}), so nobody knows what {log} was made with. "
                f"Restore it, begin anew with --restart, or choose another --out."
            ) from error
        changed = [
            name
            for name in sorted({*before, *self.settings})
            if before.get(name) != self.settings.get(name)
        ]
        if rescore and changed == ["scorer"]:
            write_atomically(path, _pretty(self.settings))
        elif changed:
            raise ConfigurationError(_refusal(self.directory, before, self.settings, changed))


def settings_of(directory: Path) -> dict[str, Any]:
    """Return what a profile was begun with; nothing if there is none, or nobody can say."""
    try:
        found = json.loads((directory / _SETTINGS).read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file at once: whoever reads it, or restarts after a crash, sees old or new.

    Raises:
        OSError: It cannot be written.
    """
    with NamedTemporaryFile(dir=path.parent, prefix=".", suffix=".part", delete=False) as file:
        temporary = Path(file.name)
        try:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            temporary.chmod(0o644)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def _parsed(line: bytes) -> dict[str, Any] | None:
    if not line.endswith(b"\n"):
        return None
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None


def _outcome(row: Mapping[str, Any], number: int) -> Outcome:
    try:
        return Outcome.from_json(row)
    except ConfigurationError as error:
        raise ConfigurationError(f"Line {number} of the log: {error}") from error


def _pretty(settings: Mapping[str, Any]) -> bytes:
    return (json.dumps(settings, indent=2, sort_keys=True) + "\n").encode()


def _locked(directory: Path) -> IO[bytes]:
    file = (directory / _LOCK).open("ab")
    try:
        if sys.platform != "win32":
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise ConfigurationError(
            f"Another process is at work in {directory}. Wait for it, or choose another --out."
        ) from error
    return file


def _move_away(directory: Path) -> None:
    """Keep what was paid for: it goes into a directory of its own."""
    found = [path for path in directory.iterdir() if not path.name.startswith((".", "before-"))]
    if not found:
        return
    number = 1
    while (place := directory / f"before-{number}").exists():
        number += 1
    place.mkdir()
    for path in found:
        path.rename(place / path.name)


def _refusal(
    directory: Path, before: Mapping[str, Any], now: Mapping[str, Any], changed: list[str]
) -> str:
    facts = "; ".join(
        f"{name} was {_short(before.get(name))} and is {_short(now.get(name))}" for name in changed
    )
    rescore = " Score the answers again with --rescore, at no new calls;" * (changed == ["scorer"])
    return (
        f"The profile in {directory} was begun with other settings: {facts}. Outcomes of both "
        f"would not be comparable.{rescore} Continue it with its own settings, choose another "
        f"--out, or begin anew with --restart (which keeps the old one in before-N)."
    )


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _unusable(path: Path, error: OSError) -> ConfigurationError:
    return ConfigurationError(
        f"{path} cannot be used for a profile: {error.strerror or error}. Choose another --out, "
        f"or make room and give yourself the right to write there."
    )
