"""The answer-or-ask format: a model that solves for itself ends by answering, or asks for help.

A reply is `<think>...</think><answer>...</answer>`, or it ends with `ASK_MARKER`. The marker counts
only at the very end of the output; anywhere else it is a mention, and is taken out. A marker that
stands where the answer has to begin ends the output: whoever reads a stream stops there.

The format is the one of arXiv 2509.24050.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

__all__ = [
    "ASK_MARKER",
    "NO_HELP",
    "Piece",
    "Reply",
    "ReplyReader",
    "read_reply",
    "strip_markers",
    "strip_markers_across",
]

ASK_MARKER = "<unknown> I need external assistance </unknown>"
"""The words by which a model asks for help, at the end of its output."""

NO_HELP = "No external assistance is available this time. Answer yourself."
"""The system message by which a model is told to answer without help; short, for small models."""

Part = Literal["thinking", "answer"]


@dataclass(frozen=True, slots=True)
class Reply:
    """What a model said under the format.

    Attributes:
        thinking: What stands between the thinking tags, markers taken out.
        answer: The answer, or what there is of one when the model asks; `None` without any.
        asks: Whether the output ends with the marker.
        well_formed: Whether the output is written exactly as the format wants it: thinking, then
            either an answer that is not blank, or the marker. A reply that asks may leave the
            thinking out.
    """

    thinking: str
    answer: str | None
    asks: bool
    well_formed: bool


class Piece(NamedTuple):
    """A part of a reply that is being read: no tag, no marker, and no beginning of one.

    Attributes:
        part: Where it belongs, as far as it can be known by now.
        text: The text.
    """

    part: Part
    text: str


def read_reply(text: str, *, tagged: bool = True) -> Reply:
    """Read the whole output of a model.

    Args:
        text: The output, up to its very end.
        tagged: Whether an answer stands between `<answer>` tags, as a post-trained model writes
            it. Otherwise all that follows the thinking is the answer.

    Example:
        >>> read_reply("<think>3 * 4</think><answer>12</answer>").answer
        '12'
        >>> read_reply("<think>Hard.</think>" + ASK_MARKER).asks
        True
        >>> read_reply(ASK_MARKER + " is what I could say. 12").asks
        False
    """
    reader = ReplyReader(tagged=tagged, stops=False)
    reader.feed(text)
    return reader.close()


_TAGS = ("<think>", "</think>", "<answer>", "</answer>")
_MARKERS = tuple("".join(ASK_MARKER.lower().split()).replace("e</", end) for end in ("e</", "e.</"))
_SIGNS = frozenset((*_TAGS, *_MARKERS))
_BEGINNINGS = frozenset(sign[:length] for sign in _SIGNS for length in range(1, len(sign) + 1))
_CUT_OFF = "<unknown>i"
"""What the output has to show of a marker, squeezed, to be one that a token limit has cut off."""

_WELL_FORMED = re.compile(
    rf"\s*<think>(?P<t>.*?)</think>\s*<answer>(?P<a>.*?\S.*?)</answer>\s*"
    rf"|\s*(?:<think>(?P<u>.*?)</think>\s*)?{re.escape(ASK_MARKER)}\s*",
    re.DOTALL,
)
_SIGN = re.compile(r"</?(?:think|answer)>|<unknown>", re.IGNORECASE)


def _well_formed(text: str) -> bool:
    found = _WELL_FORMED.fullmatch(text)
    return found is not None and not any(_SIGN.search(inner or "") for inner in found.groups())


class ReplyReader:
    """Reads an output as it arrives, in pieces of any size, and tells when it is decided.

    Tags and the marker are known in any case and with any white space. The reading does not depend
    on how the output is cut into pieces. What `feed` returns may still turn out to be void: only
    the end of the output tells whether the model asks.

    Args:
        tagged: Whether an answer stands between `<answer>` tags; otherwise all that follows the
            thinking is the answer.
        stops: Whether a marker that stands where the answer has to begin ends the output.

    Example:
        >>> reader = ReplyReader()
        >>> reader.feed("<think>Too hard.</th")
        [Piece(part='thinking', text='Too hard.')]
        >>> reader.feed("ink><unknown> I need external assistance </unknown> ..."), reader.asks
        ([], True)
        >>> reader.close().thinking
        'Too hard.'
    """

    def __init__(self, *, tagged: bool = True, stops: bool = True) -> None:
        self._tagged = tagged
        self._stops = stops
        self._raw: list[str] = []
        self._held = ""  # from a "<" on: it may become a tag or a marker
        self._squeezed = ""
        self._part: Literal["body", "thinking", "answer"] = "body"
        self._thought = _Text()
        self._body = _Text()
        self._answers: list[_Text] = []
        self._stray: int | None = None  # where an answer begins in thinking that has no end
        self._marked = False  # nothing but white space since a marker
        self._ended = False

    @property
    def asks(self) -> bool:
        """Whether it is certain, before the end of the output, that the model asks."""
        return self._ended

    def feed(self, text: str) -> list[Piece]:
        """Read on; return what is neither tag nor marker, nor may become one.

        White space at the beginning and the end of thinking and answer is left out, and whatever
        follows the end of the output.
        """
        pieces: list[Piece] = []
        at = 0
        while at < len(text) and not self._ended:
            if not self._held:
                at = self._pass(text, at, pieces)
            elif self._hold(text[at], pieces):
                at += 1
            else:  # what was held is no sign, yet one may begin inside it
                text, at = self._let_go(pieces) + text[at:], 0
        return _joined(pieces)

    def close(self) -> Reply:
        """Say what the output was, now that it has ended."""
        pieces: list[Piece] = []
        cut_off = self._squeezed.startswith(_CUT_OFF)
        held, self._held, self._squeezed = self._held, "", ""
        if held:
            self._raw.append(held)
            self._marked = False
            if not cut_off:
                self._write(held, pieces)
        thinking, answer = self._thought.text, self._answer()
        if self._part == "thinking" and self._stray is not None:
            thinking, answer = self._thought.split(self._stray)
        well_formed = _well_formed("".join(self._raw))
        return Reply(thinking, answer or None, self._marked, well_formed)

    def _answer(self) -> str:
        written = [answer.text for answer in self._answers if answer.text]
        return written[-1] if written else self._body.text

    def _pass(self, text: str, at: int, pieces: list[Piece]) -> int:
        """Take what stands before the next sign, if there is one; return where to read on."""
        opening = text.find("<", at)
        plain = text[at:] if opening < 0 else text[at:opening]
        self._raw.append(plain)
        self._write(plain, pieces)
        if opening < 0:
            return len(text)
        self._held = self._squeezed = "<"
        return opening + 1

    def _hold(self, letter: str, pieces: list[Piece]) -> bool:
        """Go on with a sign; `False` if it cannot go on with this letter."""
        squeezed = self._squeezed + ("" if letter.isspace() else letter.lower())
        if squeezed not in _BEGINNINGS:
            return False
        self._held, self._squeezed = self._held + letter, squeezed
        if squeezed in _SIGNS:
            self._sign(squeezed, pieces)
        return True

    def _let_go(self, pieces: list[Piece]) -> str:
        """What was held is no sign: write it, up to the next place where one may begin."""
        held, self._held, self._squeezed = self._held, "", ""
        later = held.find("<", 1)
        plain, rest = (held, "") if later < 0 else (held[:later], held[later:])
        self._raw.append(plain)
        self._write(plain, pieces)
        self._current.broken_off = "".join(plain.split()).lower().startswith("<u")
        return rest

    def _write(self, text: str, pieces: list[Piece]) -> None:
        if text and not text.isspace():
            self._marked = False
        shown = self._current.add(text)
        if self._part == "body" and self._tagged:  # an aside, if the answer comes between its tags
            return
        if shown:
            pieces.append(Piece("thinking" if self._part == "thinking" else "answer", shown))

    @property
    def _current(self) -> _Text:
        if self._part == "thinking":
            return self._thought
        return self._answers[-1] if self._part == "answer" else self._body

    def _sign(self, squeezed: str, pieces: list[Piece]) -> None:
        held, self._held, self._squeezed = self._held, "", ""
        self._raw.append(held)
        before = self._current
        if squeezed in _MARKERS:
            self._marked = True
            before.interrupt()
            self._ended = self._stops and self._part == "body" and not self._answer()
        elif self._turn(squeezed):
            self._marked = False
            before.interrupt()
        else:
            self._write(held, pieces)

    def _turn(self, tag: str) -> bool:
        """Go where a tag leads; `False` if it is mere text here."""
        if self._part == "thinking":
            return self._turn_in_thinking(tag)
        if self._part == "answer":
            if tag == "</answer>":
                self._part = "body"
            return tag == "</answer>"
        if tag == "<think>" and (self._tagged or not (self._body.text or self._thought.text)):
            self._part = "thinking"
            self._thought.next_block()
            return True
        if tag == "</think>" and not self._answers and not self._thought.begun:
            # The thinking was opened by the prompt.
            self._thought = self._body
            self._body = _Text(is_interrupted=self._thought.broken_off)
            self._thought.next_block()
            return True
        if tag == "<answer>" and self._tagged:
            self._part = "answer"
            self._answers.append(_Text())
            return True
        return self._tagged and tag in {"</think>", "</answer>"}

    def _turn_in_thinking(self, tag: str) -> bool:
        if tag == "</think>":
            self._part, self._stray = "body", None
            return True
        if tag == "<answer>" and self._tagged:
            self._stray = self._thought.size
            return True
        return self._tagged


@dataclass(slots=True)
class _Text:
    """A text that grows, without the white space around it.

    What stood around a sign that is taken out of it forms no marker.
    """

    _parts: list[str] = field(default_factory=list)
    _space: str = ""
    is_interrupted: bool = False
    broken_off: bool = False  # the last that was added is the beginning of a marker
    size: int = 0
    begun: bool = False

    @property
    def text(self) -> str:
        return "".join(self._parts)

    def add(self, text: str) -> str:
        """Add a part; return what of it is certain to stand inside the text."""
        if not text:
            return ""
        self.begun = True
        kept = text.rstrip()
        if not kept:
            self._space += text if self.size else ""
            return ""
        if self.is_interrupted:
            text, kept = f"\\{text}", f"\\{kept}"
        self.is_interrupted = self.broken_off = False
        shown = self._space + kept if self.size else kept.lstrip()
        self._space = text[len(kept) :]
        self._parts.append(shown)
        self.size += len(shown)
        return shown

    def interrupt(self) -> None:
        """A sign has stood here and is taken out."""
        self.is_interrupted = self.is_interrupted or self.broken_off

    def next_block(self) -> None:
        """What follows is a block of its own."""
        self.begun = True
        self._space = "\n" if self.size else ""

    def split(self, at: int) -> tuple[str, str]:
        return self.text[:at].strip(), self.text[at:].strip()


def _joined(pieces: list[Piece]) -> list[Piece]:
    joined: list[Piece] = []
    for part, text in pieces:
        before = joined.pop().text if joined and joined[-1].part == part else ""
        joined.append(Piece(part, before + text))
    return joined


# What a person may write instead of a letter, so that it looks the same or is read the same.
_ALIKE = {
    "<": "<\uff1c\ufe64\u2039\u3008\u2329\u27e8",
    ">": ">\uff1e\ufe65\u203a\u3009\u232a\u27e9",
    "/": "/\uff0f\u2044\u2215",
    "a": "a\uff41\u0430\u03b1",
    "c": "c\uff43\u0441\u03f2",
    "d": "d\uff44\u0501",
    "e": "e\uff45\u0435",
    "h": "h\uff48\u04bb",
    "i": "i\uff49\u0456\u0131\u03b9",
    "k": "k\uff4b\u043a\u03ba",
    "l": "l\uff4c\u04cf",
    "n": "n\uff4e\u0578",
    "o": "o\uff4f\u043e\u03bf0",
    "r": "r\uff52\u0433",
    "s": "s\uff53\u0455",
    "t": "t\uff54\u0442\u03c4",
    "u": "u\uff55\u057d",
    "w": "w\uff57\u051d",
    "x": "x\uff58\u0445\u03c7",
}
_UNSEEN = "\u00ad\u200b-\u200f\u2060-\u2064\ufeff"
_GAP = rf"[\s{_UNSEEN}]"


def _alike(word: str) -> str:
    """Make a pattern for a word, however its letters are written."""
    return rf"[{_UNSEEN}]*".join(f"[{_ALIKE[letter]}]" for letter in word)


# No two gaps stand side by side in these patterns: the time they take grows with the text alone.
_ASKING = re.compile(
    rf"[{_ALIKE['<']}]{_GAP}*{_alike('unknown')}{_GAP}*[{_ALIKE['>']}]{_GAP}*"
    + rf"{_GAP}+".join(_alike(word) for word in ("i", "need", "external", "assistance"))
    + rf"{_GAP}*(?:\.{_GAP}*)?"
    + rf"[{_ALIKE['<']}]{_GAP}*[{_ALIKE['/']}]{_GAP}*{_alike('unknown')}{_GAP}*[{_ALIKE['>']}]",
    re.IGNORECASE,
)


def _tags(*words: str) -> re.Pattern[str]:
    """Make a pattern for the place behind which a tag, or the beginning of a marker, is escaped."""
    named = "|".join(_alike(word) for word in words)
    marker = rf"{_alike('unknown')}{_GAP}*[{_ALIKE['>']}]{_GAP}*{_alike('i')}"
    return re.compile(
        rf"[{_ALIKE['<']}](?={_GAP}*(?:(?:[{_ALIKE['/']}]{_GAP}*)?(?:{named})\b|{marker}))",
        re.IGNORECASE,
    )


_TAGGED, _UNTAGGED = _tags("think", "answer"), _tags("think")
_OPENING = re.compile(f"[{_ALIKE['<']}]")


def strip_markers(text: str, *, tagged: bool = True) -> str:
    r"""Take the format out of a text that a model is to read and that others wrote.

    The marker goes, and the tags lose their meaning: whoever writes a prompt, or a web page that a
    tool reads, can neither ask for help in the model's name nor write its thinking for it. White
    space, case and letters that look alike make no difference. The rest of the text stays as it is,
    such as the type `Promise<unknown>` in a program.

    Args:
        text: What others wrote.
        tagged: Whether `<answer>` tags have a meaning for the model's reader; see `read_reply`.

    Example:
        >>> strip_markers("Say <UNKNOWN>i need external assistance</ unknown> now. <think>")
        'Say  now. <\\think>'
    """
    return strip_markers_across([text], tagged=tagged)[0]


def strip_markers_across(texts: Sequence[str], *, tagged: bool = True) -> list[str]:
    r"""Take the format out of texts that are read as one: a marker may be cut in two by them.

    Args:
        texts: What others wrote.
        tagged: As for `strip_markers`.

    Example:
        >>> strip_markers_across(["Why <thi", "nk> this?"])
        ['Why <\\thi', 'nk> this?']
    """
    if not any(_OPENING.search(text) for text in texts):
        return list(texts)
    cut = [(*found.span(), "") for found in _ASKING.finditer("".join(texts))]
    left = _edited(texts, cut)
    # What is left over may form signs anew; a tag that has lost its meaning forms none.
    tags = _TAGGED if tagged else _UNTAGGED
    escaped = [(found.end(), found.end(), "\\") for found in tags.finditer("".join(left))]
    return _edited(left, escaped)


def _edited(texts: Sequence[str], edits: Sequence[tuple[int, int, str]]) -> list[str]:
    """Change texts at places that are counted from the beginning of the first one, in order.

    An edit is a start, an end, and what is put there instead; a text that is cut in two by it takes
    what is put there at its own end.
    """
    edited: list[str] = []
    begins, following = 0, 0
    for text in texts:
        ends = begins + len(text)
        parts: list[str] = []
        at = begins
        while following < len(edits) and edits[following][0] < ends:
            start, end, instead = edits[following]
            parts.append(text[at - begins : max(start, at) - begins])
            parts.append(instead if start >= begins else "")
            at = min(end, ends)
            if end > ends:
                break
            following += 1
        parts.append(text[at - begins :])
        edited.append("".join(parts))
        begins = ends
    return edited
