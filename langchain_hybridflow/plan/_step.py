"""Reads one `<Step ...>` element, character by character, the way weak models write them.

On well-formed XML it reads what any XML parser reads. Where a model forgot to escape, the end of
an attribute is told by what follows its quote: another attribute, or the end of the tag. Each
character is looked at a bounded number of times, and nothing is ever guessed from what has not
arrived yet, so the result does not depend on how the text was cut into chunks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Final, NamedTuple

from langchain_hybridflow.plan._text import normalise_blanks, unescape
from langchain_hybridflow.plan.draft import field_name

__all__ = ["STEP_TAGS", "THOUGHT_TAGS", "StepScanner", "is_name_char"]

STEP_TAGS: Final = frozenset({"<step", "<subtask"})
THOUGHT_TAGS: Final = frozenset({"<think", "<thinking", "<reasoning"})
_STEP_ENDS: Final = frozenset({"</step", "</subtask"})
# Tags that cannot stand inside a step: where one shows up, the step's own end is missing.
_OUTER_TAGS: Final = frozenset({"<plan", "</plan"})
_BODY_BREAKS: Final = _OUTER_TAGS | STEP_TAGS | THOUGHT_TAGS
_LONGEST_TAG: Final = 16
_QUOTES: Final = frozenset("\"'")


class _PossibleEnd(NamedTuple):
    """A quote in an attribute that may be its end: where the value ends, where the rest begins."""

    value_length: int
    rest_start: int


class StepScanner:
    """Push automaton for one element, fed from right after `<Step`.

    Attributes:
        done: The element has ended, or turned out to be broken.
        is_whole: The element was read to its end; what there is of a broken one is in `fields`.
        fields: Attributes and child elements by name, as written, references resolved.
        leftover: Text that was read but lies behind the element.
    """

    def __init__(self) -> None:
        self.done = False
        self.is_whole = False
        self.fields: dict[str, str] = {}
        self.leftover = ""
        self._state: Callable[[str], None] = self._between
        self._name: list[str] = []
        self._quote = ""
        self._value: list[str] = []
        self._inner_quotes = 0
        self._possible_end: _PossibleEnd | None = None
        self._ahead: list[str] = []
        self._ahead_name: list[str] = []
        self._body: list[str] = []

    def push(self, char: str) -> None:
        """Take the next character; not to be called any more once `done`."""
        self._state(char)

    def close(self) -> None:
        """Take notice that the text ends here, inside the element."""
        if self._state in {self._quoted, self._quoted_tag, self._quoted_tag_name}:
            self._break_value("".join(self._ahead) if self._state != self._quoted else "")
            return
        if self._state in self._after_quote_states:
            self._store_value()
        # Without its dependencies a step would run too early; without a task it says nothing.
        written = {field_name(name) for name in self.fields}
        is_closed = self._state == self._closing_tag
        self._finish(whole=is_closed or {"task", "depends_on"} <= written)

    # ------------------------------------------------------------------ between the attributes

    def _between(self, char: str) -> None:
        if char == "/":
            self._state = self._slash
        elif char == ">":
            self._state = self._in_body
        elif char == "<":
            self._finish(leftover=char)
        elif _starts_name(char):
            self._name = [char]
            self._state = self._in_name

    def _slash(self, char: str) -> None:
        if char == ">":
            self._finish()
        else:
            self._state = self._between
            self._between(char)

    def _in_name(self, char: str) -> None:
        if is_name_char(char):
            self._name.append(char)
        elif char == "=":
            self._state = self._after_equals
        elif char.isspace():
            self._state = self._after_name
        else:
            self._state = self._between
            self._between(char)

    def _after_name(self, char: str) -> None:
        if char == "=":
            self._state = self._after_equals
        elif not char.isspace():
            self._state = self._between
            self._between(char)

    def _after_equals(self, char: str) -> None:
        if char in _QUOTES:
            self._start_value(char)
        elif char in "/<>":
            self._state = self._between
            self._between(char)
        elif not char.isspace():
            self._value = [char]
            self._state = self._unquoted

    def _unquoted(self, char: str) -> None:
        if char.isspace() or char in "/<>":
            self._store_value()
            self._state = self._between
            self._between(char)
        else:
            self._value.append(char)

    # ---------------------------------------------------------------------- inside a quoted value

    def _start_value(self, quote: str) -> None:
        self._quote = quote
        self._value = []
        self._inner_quotes = 0
        self._possible_end = None
        self._state = self._quoted

    def _quoted(self, char: str) -> None:
        if char == self._quote:
            self._ahead = [char]
            self._state = self._after_quote
        elif char == "<":
            self._ahead = [char]
            self._state = self._quoted_tag
        else:
            self._value.append(char)

    def _after_quote(self, char: str) -> None:
        if char.isspace():
            self._ahead.append(char)
        elif char == "/":
            self._ahead.append(char)
            self._state = self._after_quote_slash
        elif char == ">":
            self._end_of_tag(char)
        elif char == "<":
            # The end of the tag may be missing; whether it is shows when a new step begins.
            self._note_possible_end()
            self._quote_was_text(char)
        elif _starts_name(char):
            self._ahead_name = [char]
            self._ahead.append(char)
            self._state = self._after_quote_name
        else:
            self._quote_was_text(char)

    def _after_quote_slash(self, char: str) -> None:
        if char == ">":
            self._end_of_tag(char)
        else:
            self._quote_was_text(char)

    def _after_quote_name(self, char: str) -> None:
        if is_name_char(char):
            self._ahead_name.append(char)
            self._ahead.append(char)
        elif char == "=" or char.isspace():
            self._ahead.append(char)
            self._state = self._after_quote_equals if char == "=" else self._after_quote_spaces
        else:
            self._quote_was_text(char)

    def _after_quote_spaces(self, char: str) -> None:
        if char == "=" or char.isspace():
            self._ahead.append(char)
            self._state = self._after_quote_equals if char == "=" else self._after_quote_spaces
        else:
            self._quote_was_text(char)

    def _after_quote_equals(self, char: str) -> None:
        if char.isspace():
            self._ahead.append(char)
        elif self._next_attribute_is_likely(is_quoted=char in _QUOTES):
            self._store_value()
            self._name = self._ahead_name
            self._after_equals(char)
        else:
            self._quote_was_text(char)

    @property
    def _after_quote_states(self) -> tuple[Callable[[str], None], ...]:
        return (
            self._after_quote,
            self._after_quote_slash,
            self._after_quote_name,
            self._after_quote_spaces,
            self._after_quote_equals,
        )

    def _next_attribute_is_likely(self, *, is_quoted: bool) -> bool:
        """Whether `" name=` starts an attribute or is text: unescaped quotes come in pairs.

        A name that this format has is believed anyway: it also ends `5" pipe" Difficulty="4"`.
        """
        is_known = field_name("".join(self._ahead_name)) is not None
        is_paired = self._inner_quotes % 2 == 0
        is_apart = self._ahead[1].isspace()
        return (is_known or (is_apart and is_paired)) if is_quoted else (is_known and is_paired)

    def _end_of_tag(self, char: str) -> None:
        """Decide what `"/>` or `">` is: the end, or text after the second quote of a pair."""
        self._ahead.append(char)
        if self._inner_quotes % 2 == 0:
            self._store_value()
            if self._ahead[-2] == "/":
                self._finish()
            else:
                self._state = self._in_body
            return
        last = self._ahead.pop()
        self._note_possible_end(extra=1)
        self._quote_was_text(last)

    def _note_possible_end(self, *, extra: int = 0) -> None:
        start = len(self._value)
        self._possible_end = _PossibleEnd(start, start + len(self._ahead) + extra)

    def _quote_was_text(self, char: str) -> None:
        """Go on in the value: what followed the quote does not follow the end of an attribute."""
        self._inner_quotes += 1
        self._value += self._ahead
        self._state = self._quoted
        self._quoted(char)

    def _quoted_tag(self, char: str) -> None:
        """Read a tag's name inside a value, where well-formed XML has none."""
        if (is_name_char(char) or char == "/") and len(self._ahead) < _LONGEST_TAG:
            self._ahead.append(char)
            return
        tag = "".join(self._ahead).lower()
        if tag in _OUTER_TAGS and (char == ">" or char.isspace()):
            self._break_value("".join(self._ahead) + char)
        elif tag in STEP_TAGS and char.isspace():
            self._ahead.append(char)
            self._state = self._quoted_tag_name
        else:
            self._tag_was_text(char)

    def _quoted_tag_name(self, char: str) -> None:
        """Read on after `<Step `: only `<Step name=` is a new step, "<step by step>" is text."""
        self._ahead.append(char)
        if char == "=":
            self._break_value("".join(self._ahead))
        elif not (is_name_char(char) or char.isspace()):
            self._ahead.pop()
            self._tag_was_text(char)

    def _tag_was_text(self, char: str) -> None:
        self._value += self._ahead
        self._state = self._quoted
        self._quoted(char)

    def _break_value(self, ahead: str) -> None:
        """End a value whose closing quote is missing, or was taken for text."""
        end = self._possible_end
        if end is None:
            self._finish(whole=False, leftover=ahead)
            return
        rest = "".join(self._value[end.rest_start :])
        del self._value[end.value_length :]
        self._store_value()
        self._finish(leftover=rest + ahead)

    def _store_value(self) -> None:
        text = "".join(self._value)
        if self._quote:
            # Only in a value that has unescaped quotes: elsewhere a backslash is a backslash.
            text = text.replace(f"\\{self._quote}", self._quote)
        self.fields.setdefault("".join(self._name), unescape(normalise_blanks(text)))
        self._quote = ""

    # ------------------------------------------------------------------------ between the tags

    def _in_body(self, char: str) -> None:
        if char == "<":
            self._ahead = [char]
            self._state = self._body_tag
        else:
            self._body.append(char)

    def _body_tag(self, char: str) -> None:
        if (is_name_char(char) or char == "/") and len(self._ahead) < _LONGEST_TAG:
            self._ahead.append(char)
            return
        tag = "".join(self._ahead).lower()
        if tag in _STEP_ENDS:
            self._read_body()
            self._state = self._closing_tag
            self._closing_tag(char)
        elif tag in _BODY_BREAKS and (char in "/>" or char.isspace()):
            self._read_body()
            self._finish(leftover="".join(self._ahead) + char)
        else:
            self._body += self._ahead
            self._state = self._in_body
            self._in_body(char)

    def _closing_tag(self, char: str) -> None:
        if char == ">":
            self._finish()
        elif char == "<":
            self._finish(leftover=char)

    def _read_body(self) -> None:
        for name, value in _children("".join(self._body)).items():
            self.fields.setdefault(name, value)

    def _finish(self, *, whole: bool = True, leftover: str = "") -> None:
        self.done = True
        self.is_whole = whole
        self.leftover = leftover


def is_name_char(char: str) -> bool:
    """Whether a character can stand inside the name of a tag or attribute."""
    return char.isalnum() or char in "_-.:"


def _starts_name(char: str) -> bool:
    return char.isalpha() or char == "_"


def _children(body: str) -> dict[str, str]:
    """Read `<Task>...</Task><Rely>...</Rely>`, or plain text, which is the task."""
    outside, *pieces = body.split("<")
    text = [outside]
    # Counted beforehand, so that a tag that is never closed need not be searched for.
    open_ends = Counter(piece.partition(">")[0] for piece in pieces if piece.startswith("/"))
    fields: dict[str, str] = {}
    child = ""
    value: list[str] = []
    for piece in pieces:
        tag, bracket, rest = piece.partition(">")
        open_ends[tag] -= 1
        if child and bracket and tag == f"/{child}":
            fields.setdefault(child, unescape(_without_cdata("".join(value))).strip())
            child = ""
            text.append(rest)
        elif child:
            value.append(f"<{piece}")
        elif bracket and field_name(tag) is not None and open_ends[f"/{tag}"] > 0:
            child = tag
            value = [rest]
        else:
            text.append(f"<{piece}")
    if not any(field_name(name) == "task" for name in fields):
        fields["task"] = unescape(_without_cdata("".join(text))).strip()
    return fields


def _without_cdata(text: str) -> str:
    return text.replace("<![CDATA[", "").replace("]]>", "")
