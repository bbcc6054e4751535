"""Reads runs from files: one as JSON, or many as JSON lines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final, TextIO

from langchain_hybridflow.errors import InputError
from langchain_hybridflow.report.run import Run

__all__ = ["load_runs", "read_json"]

_MAX_CHARS: Final = 500_000_000


def load_runs(path: str | Path | TextIO) -> list[Run]:
    """Read the runs of a file.

    Args:
        path: JSON with one run or a list of them, or JSON lines; as `Run.save`,
            `hybridflow ask --run-out` or `hybridflow ask --json` have written them. A path, or an
            open file.

    Raises:
        InputError: The file cannot be read, or holds no run, or something that is none.
    """
    runs = []
    for place, value in read_json(path):
        try:
            runs.append(Run.from_json(value))
        except InputError as error:
            raise InputError(f"{_name(path)}{place}: {error}") from error
    if not runs:
        raise InputError(f"{_name(path)} holds no run.")
    return runs


def read_json(path: str | Path | TextIO) -> list[tuple[str, Any]]:
    """Read the JSON values of a file, each with its place in it for errors.

    Args:
        path: A path, or an open file.

    Raises:
        InputError: The file cannot be read, or is neither JSON nor JSON lines.
    """
    name = _name(path)
    try:
        text = _text(path)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise InputError(f"{name} cannot be read: {reason}.") from error
    if len(text) > _MAX_CHARS:
        raise InputError(f"{name} has more than {_MAX_CHARS:,} characters.")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        return _lines(name, text, error)
    if not isinstance(value, list):
        return [("", value)]
    return [(f" item {number}", one) for number, one in enumerate(value, start=1)]


def _name(path: str | Path | TextIO) -> str:
    return str(path) if isinstance(path, str | Path) else "Standard input"


def _text(path: str | Path | TextIO) -> str:
    if not isinstance(path, str | Path):
        return path.read(_MAX_CHARS + 1)
    with Path(path).open(encoding="utf-8-sig") as file:
        return file.read(_MAX_CHARS + 1)


def _lines(path: str, text: str, whole: Exception) -> list[tuple[str, Any]]:
    """Read JSON lines; a file whose first line is no JSON is told to be no JSON at all."""
    values: list[tuple[str, Any]] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            values.append((f" line {number}", json.loads(line)))
        except (ValueError, RecursionError) as error:
            if not values:
                raise InputError(f"{path} is not JSON: {whole}.") from error
            raise InputError(f"{path} line {number} is not JSON: {error}.") from error
    return values
