"""Finds the subtasks of a JSON plan while it is still being written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

__all__ = ["JsonScanner"]

_DEEPEST: Final = 32
_SCALAR_CHARS: Final = frozenset("+-.")
_CLOSER_OF: Final = {"{": "}", "[": "]"}


class JsonScanner:
    """Push automaton for one JSON value, fed from its first bracket on.

    The subtasks are the objects that stand directly in an array that stands in no other:
    `[{...}, {...}]`, `{"subtasks": [{...}]}`, `{"plan": {"steps": [{...}]}}`. What is not JSON ends
    it at once, so prose with a bracket costs nothing; a comma before a closing bracket is forgiven.

    Attributes:
        done: The value has ended, or turned out not to be JSON.
        found: Text of the subtask objects that ended since somebody last emptied the list.
        root: Text of the whole value, if it is an object that holds no such array.
        is_inside_subtask: A subtask object has begun and not ended.
        leftover: The character that is not JSON, if there was one.
    """

    def __init__(self) -> None:
        self.done = False
        self.found: list[str] = []
        self.root: str | None = None
        self.is_inside_subtask = False
        self.leftover = ""
        self._stack: list[str] = []
        self._array_depth: int | None = None
        self._captured: list[str] | None = []
        self._comma_at: int | None = None
        self._state: Callable[[str], None] = self._value

    def push(self, char: str) -> None:
        """Take the next character; not to be called any more once `done`."""
        if self._captured is not None:
            self._captured.append(char)
        self._state(char)

    def _fail(self, char: str) -> None:
        self.done = True
        self.leftover = char

    # -------------------------------------------------------------------------------- grammar

    def _value(self, char: str) -> None:
        if char in "{[":
            self._open(char)
        elif char == '"':
            self._state = self._string
        elif char.isalnum() or char == "-":
            self._state = self._scalar
        elif not char.isspace():
            self._fail(char)

    def _first_value(self, char: str) -> None:
        """Read what follows `[`. At the root only an object: "[1]" and "[note]" are prose."""
        if char == "]":
            self._close(char)
        elif len(self._stack) > 1 or char == "{" or char.isspace():
            self._value(char)
        else:
            self._fail(char)

    def _next_value(self, char: str) -> None:
        if char == "]":
            self._close(char)
        else:
            self._value(char)

    def _key(self, char: str) -> None:
        if char == '"':
            self._state = self._key_string
        elif char == "}":
            self._close(char)
        elif not char.isspace():
            self._fail(char)

    def _colon(self, char: str) -> None:
        if char == ":":
            self._state = self._value
        elif not char.isspace():
            self._fail(char)

    def _after_value(self, char: str) -> None:
        if char == ",":
            if self._captured is not None:
                self._comma_at = len(self._captured) - 1
            self._state = self._key if self._stack[-1] == "{" else self._next_value
        elif char in "}]":
            self._comma_at = None
            self._close(char)
        elif not char.isspace():
            self._fail(char)

    def _scalar(self, char: str) -> None:
        if not (char.isalnum() or char in _SCALAR_CHARS):
            self._state = self._after_value
            self._after_value(char)

    def _string(self, char: str) -> None:
        if char == '"':
            self._state = self._after_value
        elif char == "\\":
            self._state = self._string_escape
        elif char == "\n":
            self._fail(char)

    def _string_escape(self, _char: str) -> None:
        self._state = self._string

    def _key_string(self, char: str) -> None:
        if char == '"':
            self._state = self._colon
        elif char == "\\":
            self._state = self._key_escape
        elif char == "\n":
            self._fail(char)

    def _key_escape(self, _char: str) -> None:
        self._state = self._key_string

    # ------------------------------------------------------------------------------- structure

    def _open(self, char: str) -> None:
        if len(self._stack) == _DEEPEST:
            self._fail(char)
            return
        if char == "{" and self._array_depth == len(self._stack):
            self.is_inside_subtask = True
            self._captured = [char]
        self._comma_at = None
        self._stack.append(char)
        if char == "[" and self._array_depth is None:
            self._array_depth = len(self._stack)
        self._state = self._key if char == "{" else self._first_value

    def _close(self, char: str) -> None:
        if char != _CLOSER_OF[self._stack[-1]]:
            self._fail(char)
            return
        self._drop_trailing_comma()
        self._stack.pop()
        if self.is_inside_subtask and len(self._stack) == self._array_depth:
            self.found.append("".join(self._captured or ()))
            self.is_inside_subtask = False
            self._captured = None
        elif self._array_depth is not None and len(self._stack) < self._array_depth:
            self._array_depth = None
        self._state = self._after_value
        if not self._stack:
            self.done = True
            if char == "}" and self._captured is not None:
                self.root = "".join(self._captured)

    def _drop_trailing_comma(self) -> None:
        came_after_comma = self._state in {self._key, self._next_value}
        if came_after_comma and self._captured is not None and self._comma_at is not None:
            self._captured[self._comma_at] = " "
        self._comma_at = None
