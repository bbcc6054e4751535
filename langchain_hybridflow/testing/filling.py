"""Fill a JSON schema from the words of a prompt, by rule: what an obedient model says."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["PromptWords"]

_MAX_DEPTH = 8  # a schema may contain itself
_NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?!\w)")
_QUOTED = re.compile(r"'([^'\n]+)'(?!\w)|\"([^\"\n]+)\"|`([^`\n]+)`")
# Capitalised words that do not open a sentence: "San Francisco, CA".
_NAME = re.compile(r"(?<=[a-z,] )[A-Z][\w-]*(?:,? [A-Z][\w-]*)*")
_DATE = re.compile(r"\b\d{4}-\d{2}-\d{2}\b")
_NO = re.compile(r"\b(?:no|not|never|without|false)\b", re.IGNORECASE)


class PromptWords:
    """The things that a prompt names, each to be used up once, in the order in which they stand.

    A string takes what is quoted, then a name, then the whole prompt; a number takes the next
    number. Where the prompt has nothing that fits, the schema's own default or bounds decide, so
    that the value is always valid.

    Args:
        text: The prompt.

    Example:
        >>> words = PromptWords("Book 2 seats on the 'Orient Express' for Ada Lovelace.")
        >>> words.fill(
        ...     {
        ...         "type": "object",
        ...         "properties": {
        ...             "train": {"type": "string"},
        ...             "seats": {"type": "integer", "minimum": 1},
        ...             "guest": {"type": "string"},
        ...             "note": {"type": "string", "default": ""},
        ...         },
        ...         "required": ["train", "seats", "guest"],
        ...     }
        ... )
        {'train': 'Orient Express', 'seats': 2, 'guest': 'Ada Lovelace'}
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self._strings = _strings(text)
        self._numbers = (float(number) for number in _NUMBER.findall(text))
        self._dates = iter(_DATE.findall(text))

    def fill(self, schema: Mapping[str, Any]) -> Any:
        """Return a value that is valid under a JSON schema; of optional properties, none."""
        return self._value(schema, definitions=schema, depth=0)

    def _value(
        self, schema: Mapping[str, Any], *, definitions: Mapping[str, Any], depth: int
    ) -> Any:
        schema = _resolved(schema, definitions)
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return self._choice(schema["enum"])
        kind = schema.get("type") or ("object" if "properties" in schema else "string")
        if isinstance(kind, list):
            kind = next((option for option in kind if option != "null"), "null")
        if kind == "object":
            return self._object(schema, definitions=definitions, depth=depth)
        if kind == "array":
            return self._array(schema, definitions=definitions, depth=depth)
        if kind in ("integer", "number"):
            return self._number(schema, whole=kind == "integer")
        if kind == "boolean":
            return not _NO.search(self.text)
        return None if kind == "null" else self._string(schema)

    def _object(
        self, schema: Mapping[str, Any], *, definitions: Mapping[str, Any], depth: int
    ) -> dict[str, Any]:
        properties: Mapping[str, Any] = schema.get("properties") or {}
        if depth >= _MAX_DEPTH:
            return {}
        return {
            name: self._value(properties[name], definitions=definitions, depth=depth + 1)
            for name in schema.get("required", ())
            if name in properties
        }

    def _array(
        self, schema: Mapping[str, Any], *, definitions: Mapping[str, Any], depth: int
    ) -> list[Any]:
        length = 0 if depth >= _MAX_DEPTH else max(schema.get("minItems", 1), 1)
        items = schema.get("items") or {}
        return [self._value(items, definitions=definitions, depth=depth + 1) for _ in range(length)]

    def _number(self, schema: Mapping[str, Any], *, whole: bool) -> float:
        low, high = _bounds(schema)
        number = next((value for value in self._numbers if low <= value <= high), None)
        if number is None:
            number = schema.get("default") or min(max(1.0, low), high)
        return int(number) if whole else float(number)

    def _string(self, schema: Mapping[str, Any]) -> str:
        if schema.get("format") == "date":
            return next(self._dates, "2000-01-01")
        text = next(self._strings, self.text or "nothing")
        return text[: schema.get("maxLength", len(text))]

    def _choice(self, options: list[Any]) -> Any:
        lowered = self.text.lower()
        return next((option for option in options if str(option).lower() in lowered), options[0])


def _strings(text: str) -> Iterator[str]:
    for quoted in _QUOTED.finditer(text):
        yield next(group for group in quoted.groups() if group)
    yield from _NAME.findall(_QUOTED.sub("", text))


def _bounds(schema: Mapping[str, Any]) -> tuple[float, float]:
    low = schema.get("minimum", schema.get("exclusiveMinimum", float("-inf")))
    high = schema.get("maximum", schema.get("exclusiveMaximum", float("inf")))
    return low + (1 if "exclusiveMinimum" in schema else 0), high - (
        1 if "exclusiveMaximum" in schema else 0
    )


def _resolved(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> Mapping[str, Any]:
    """Follow references, and of alternatives take the first that is not null."""
    for _ in range(_MAX_DEPTH):
        options = schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf")
        if "$ref" in schema:
            *_, section, name = str(schema["$ref"]).split("/")
            schema = definitions[section][name]
        elif options:
            schema = next((option for option in options if option.get("type") != "null"), {})
        else:
            break
    return schema
