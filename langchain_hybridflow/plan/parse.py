"""Reads plans out of model output, subtask by subtask, while it is being written.

There is no XML parser behind this, and so nothing that a document type or an entity could attack:
one tokenizer finds the elements and reads them. On well-formed elements it agrees with an XML
parser; beyond that it forgives what models get wrong.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Final, Literal

from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.plan._json import JsonScanner
from langchain_hybridflow.plan._step import STEP_TAGS, THOUGHT_TAGS, StepScanner, is_name_char
from langchain_hybridflow.plan.draft import SubtaskDraft
from langchain_hybridflow.plan.validate import IssueCode, PlanIssue

__all__ = ["PlanParser"]

_DECLARATIONS: Final = frozenset(
    {"<!doctype", "<!entity", "<!element", "<!attlist", "<!notation"},
)
_LONGEST_TAG: Final = 16


class PlanParser:
    """Incremental parser of a planner's answer.

    It reads `<Plan><Step ID="1" Role="explain" Task="...?" Difficulty="4" Token="50" Rely=""/>
    ...</Plan>` and `{"subtasks": [{"id": ..., "task": ..., "depends_on": [...]}, ...]}`, whichever
    comes first, with prose, code fences and `<think>...</think>` around it. What stands inside
    `<think>` or a comment is not the plan. Steps outside of any `<Plan>` count only if, at the end,
    there is nothing else. Nothing behind the end of the plan is read.

    It never fails: what cannot be read is left out and listed in `issues`. Document type and entity
    declarations end the reading. However the text is cut into chunks, the result is the same.

    Args:
        max_chars: How much text is read; what comes later is ignored.
        max_steps: How many elements are read; what comes later is ignored.

    Raises:
        ConfigurationError: A limit is below 1.

    Example:
        >>> parser = PlanParser()
        >>> parser.feed('Sure! <Plan><Step ID="1" Task="What is ')
        []
        >>> [draft.task for draft in parser.feed('"asked"?" Rely=""/><Step ID="2"')]
        ['What is "asked"?']
        >>> parser.close()
        []
        >>> [issue.code for issue in parser.issues]
        ['bad_step']
    """

    def __init__(self, *, max_chars: int = 2_000_000, max_steps: int = 1_000) -> None:
        if max_chars < 1 or max_steps < 1:
            raise ConfigurationError(
                f"max_chars is {max_chars} and max_steps is {max_steps}; both must be 1 or more."
            )
        self._chars_left = max_chars
        self._steps_left = max_steps
        self._issues: list[PlanIssue] = []
        self._ready: list[SubtaskDraft] = []
        self._loose: list[SubtaskDraft] = []
        self._format: Literal["xml", "json"] | None = None
        self._is_in_plan = False
        self._state: Callable[[str], None] = self._outside
        self._tag: list[str] = []
        self._end_mark = ""
        self._window = ""
        self._step = StepScanner()
        self._json = JsonScanner()

    @property
    def issues(self) -> tuple[PlanIssue, ...]:
        """What could not be read so far."""
        return tuple(self._issues)

    def feed(self, text: str) -> list[SubtaskDraft]:
        """Take the next piece of text and return the subtasks that it completed.

        Args:
            text: Any piece of the answer; also a single character, or nothing.

        Returns:
            In the order in which they were written.
        """
        if len(text) > self._chars_left and self._state != self._ignore:
            text = text[: self._chars_left]
            self._read(text)
            self._stop("too_large", "the plan is too long; the end of it was not read")
        else:
            self._read(text)
        self._chars_left -= len(text)
        return self._take_ready()

    def close(self) -> list[SubtaskDraft]:
        """Take notice that the text ends here, and return the subtasks still held back.

        A step that was cut off counts if its task and its dependencies are complete.
        """
        if self._state == self._in_step:
            self._step.close()
            self._end_step()
        elif self._state == self._in_json and self._json.is_inside_subtask:
            self._add_issue("bad_step", "the text ends inside a subtask, which was left out")
        if self._format is None:
            self._ready += self._loose
        self._state = self._ignore
        return self._take_ready()

    def _read(self, text: str) -> None:
        for char in text:
            self._state(char)

    def _take_ready(self) -> list[SubtaskDraft]:
        ready, self._ready = self._ready, []
        return ready

    # --------------------------------------------------------------------- outside of elements

    def _outside(self, char: str) -> None:
        if char == "<":
            self._tag = [char]
            self._state = self._in_tag_name
        elif char in "{[" and self._format != "xml":
            self._json = JsonScanner()
            self._state = self._in_json
            self._in_json(char)

    def _in_tag_name(self, char: str) -> None:
        is_part = is_name_char(char) or (char in "/!" and len(self._tag) == 1)
        if is_part and len(self._tag) < _LONGEST_TAG:
            self._tag.append(char)
            if self._tag == list("<!--"):
                self._skip_until("-->")
            return
        self._state = self._outside
        self._start_tag("".join(self._tag).lower())
        self._state(char)

    def _start_tag(self, tag: str) -> None:
        """Choose the state for what follows the tag's name."""
        if tag in _DECLARATIONS:
            self._stop(
                "forbidden_markup", f"{tag.upper()} is not allowed; nothing behind it is read"
            )
        elif tag in THOUGHT_TAGS:
            self._skip_until(f"</{tag[1:]}>")
        elif self._format == "json":
            return
        elif tag == "<plan":
            self._is_in_plan = True
        elif tag == "</plan":
            self._is_in_plan = False
            if self._format == "xml":
                self._state = self._ignore
        elif tag in STEP_TAGS:
            self._step = StepScanner()
            self._state = self._in_step

    def _skip_until(self, mark: str) -> None:
        self._end_mark = mark
        self._window = ""
        self._state = self._skip

    def _skip(self, char: str) -> None:
        self._window = (self._window + char.lower())[-len(self._end_mark) :]
        if self._window == self._end_mark:
            self._state = self._outside

    def _ignore(self, char: str) -> None:
        """The reading is over."""

    # ---------------------------------------------------------------------------- inside elements

    def _in_step(self, char: str) -> None:
        self._step.push(char)
        if self._step.done:
            self._end_step()

    def _end_step(self) -> None:
        step = self._step
        self._state = self._outside
        draft = SubtaskDraft.from_fields(step.fields) if step.is_whole else None
        if draft is not None:
            self._add_draft(draft, "xml" if self._is_in_plan else None)
        elif self._is_in_plan:
            why = "has no task" if step.is_whole else "is not complete or not readable"
            self._add_issue("bad_step", f"a step {why} and was left out")
            self._count_step()
        # What was read too far begins behind this element, so this does not go on forever.
        self._read(step.leftover)

    def _in_json(self, char: str) -> None:
        scanner = self._json
        scanner.push(char)
        for text in scanner.found:
            self._add_json(text, "json")
        scanner.found.clear()
        if not scanner.done:
            return
        if scanner.root is not None:
            self._add_json(scanner.root, self._format)
        is_plan = self._format == "json" and not scanner.leftover
        if self._state == self._in_json:
            self._state = self._ignore if is_plan else self._outside
        self._read(scanner.leftover)

    def _add_json(self, text: str, source: Literal["xml", "json"] | None) -> None:
        try:
            fields = json.loads(text, strict=False)
        except ValueError:
            self._add_issue("bad_step", "a subtask is not valid JSON and was left out")
            self._count_step()
            return
        draft = SubtaskDraft.from_fields(fields) if isinstance(fields, Mapping) else None
        if draft is not None:
            self._add_draft(draft, source)

    def _add_draft(self, draft: SubtaskDraft, source: Literal["xml", "json"] | None) -> None:
        if not self._count_step():
            return
        if source is None:
            self._loose.append(draft)
        else:
            self._format = source
            self._ready.append(draft)

    def _count_step(self) -> bool:
        if self._steps_left == 0:
            if self._state != self._ignore:
                self._stop("too_large", "the plan has too many steps; the rest was not read")
            return False
        self._steps_left -= 1
        return True

    # ------------------------------------------------------------------------------------ issues

    def _stop(self, code: IssueCode, message: str) -> None:
        self._add_issue(code, message)
        self._state = self._ignore

    def _add_issue(self, code: IssueCode, message: str) -> None:
        self._issues.append(PlanIssue(code, None, message))
