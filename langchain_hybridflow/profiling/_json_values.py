"""JSON in answers, and whether two values are the same."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from langchain_hybridflow.errors import ConfigurationError, MissingExtraError
from langchain_hybridflow.profiling._texts import MAX_CHARS

__all__ = ["json_in", "json_of", "read_schema", "same_json", "schema_check"]

_FENCE: Final = re.compile(r"```[a-zA-Z]*\s*\n(.*?)```", re.DOTALL)
_OPENING: Final = re.compile(r"[{\[]")
_MAX_OPENINGS: Final = 1_000


def json_in(answer: str) -> tuple[bool, Any]:
    """Find the JSON value of an answer: whether there is one, and which."""
    text = answer[-MAX_CHARS:]
    for candidate in (*reversed(_FENCE.findall(text)), text):
        try:
            return True, json.loads(candidate)
        except (ValueError, RecursionError):
            continue
    return _embedded(text)


def _embedded(text: str) -> tuple[bool, Any]:
    decoder = json.JSONDecoder()
    found, value, position = False, None, 0
    for _ in range(_MAX_OPENINGS):
        opening = _OPENING.search(text, position)
        if opening is None:
            break
        try:
            value, position = decoder.raw_decode(text, opening.start())
            found = True
        except (ValueError, RecursionError):
            position = opening.start() + 1
    return found, value


def json_of(reference: Any) -> Any:
    """Read a reference: what is written as JSON, or a value that is one."""
    if not isinstance(reference, str):
        return reference
    try:
        return json.loads(reference)
    except (ValueError, RecursionError):
        return reference


def same_json(one: Any, other: Any) -> bool:
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(same_json(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same_json, one, other))
    return bool(one == other)


def schema_check(schema: Mapping[str, Any]) -> Callable[[Any], str]:
    try:
        import jsonschema
    except ImportError as error:
        raise MissingExtraError("Checking a JSON schema", "jsonschema") from error
    kind = jsonschema.validators.validator_for(schema)
    try:
        kind.check_schema(schema)
    except jsonschema.SchemaError as error:
        raise ConfigurationError(f"This is no JSON schema: {error.message}") from error
    validator = kind(schema)

    def check(value: Any) -> str:
        faults: Iterator[Any] = validator.iter_errors(value)
        fault = next(faults, None)  # its message would repeat the answer
        return "" if fault is None else f"the schema does not admit it ({fault.validator})"

    return check


def read_schema(path: str) -> Mapping[str, Any]:
    try:
        schema = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"The JSON schema {path} cannot be read: {error}") from error
    if not isinstance(schema, dict):
        raise ConfigurationError(f"The JSON schema {path} is no JSON object.")
    return schema
