"""What the default router reads of a text: its words, as hashes, and six facts of its surface.

It is read in plain Python within a tenth of a millisecond, whatever its length: of a long text only
both ends count. Answers that are offered ("A. ...") are left out, since how many there are and how
they look tells where a question comes from rather than how hard it is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from zlib import crc32

__all__ = ["MAX_CHARS", "SURFACE_NAMES", "Reading", "read", "word_key"]

MAX_CHARS = 2_000
"""Longer texts are read at both ends: the instruction is usually first, the question last."""

SURFACE_NAMES = (
    "quantities", "formal signs", "a plain question", "length", "words of reasoning", "people",
)  # fmt: skip
"""What the surface is described by, each from 0 to 1.

The length counts up to 250 characters only: it tells a line from a story, and a long question is
not a hard one.
"""

_OPTION = re.compile(r"^[ \t]*\(?[A-P][.):][ \t]", re.MULTILINE)
_WORD = re.compile(r"[^\W\d_]+")
_NUMBER = re.compile(r"\d+(?:[.,:/]\d+)*")
_FORMAL = re.compile(r"[=^∑∫√≤≥<>*+/|{}∈∀∃→²³\\`]")
_REASONING = frozenset({
    "why", "prove", "show", "derive", "compare", "explain", "analyze", "analyse", "calculate",
    "compute", "estimate", "determine", "solve", "optimize", "optimise", "design", "plan", "debug",
    "implement", "many", "much", "altogether", "total", "percent", "per", "if", "unless", "except",
    "then", "each", "remaining", "suppose", "assume"
})  # fmt: skip
_PEOPLE = frozenset({
    "he", "she", "his", "her", "him", "man", "woman", "patient", "plaintiff", "defendant", "boy",
    "girl", "i", "my"
})  # fmt: skip
_NO_WORDS: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Reading:
    """A text as the default router sees it.

    Attributes:
        words: Its distinct words, in lower case.
        surface: The facts that `SURFACE_NAMES` names, each from 0 to 1.
    """

    words: frozenset[str]
    surface: tuple[float, ...]


def read(text: str) -> Reading:
    r"""Read a text; what it says beyond its first and last 1,000 characters does not count.

    Example:
        >>> reading = read("What is 2 + 2?\nA. 3\nB. 4")
        >>> sorted(reading.words), reading.surface[SURFACE_NAMES.index("a plain question")]
        (['is', 'what'], 1.0)
    """
    if len(text) > MAX_CHARS:
        text = f"{text[: MAX_CHARS // 2]}\n{text[-MAX_CHARS // 2 :]}"
    text = _question(text).strip()
    if not text:
        return Reading(_NO_WORDS, (0.0,) * len(SURFACE_NAMES))
    words = frozenset(_WORD.findall(text.lower()))
    return Reading(
        words,
        (
            min(len(_NUMBER.findall(text)), 6) / 6,
            min(len(_FORMAL.findall(text)), 8) / 8,
            float(text[-1] == "?"),
            min(len(text), 250) / 250,
            min(len(words & _REASONING), 4) / 4,
            min(len(words & _PEOPLE), 3) / 3,
        ),
    )


def word_key(word: str) -> int:
    """Return the hash that a word is known by: CRC-32 of its UTF-8 bytes.

    Example:
        >>> word_key("prove")
        4193302655
    """
    return crc32(word.encode("utf-8", "surrogatepass"))


def _question(text: str) -> str:
    """Leave out offered answers, and the word that asks for one."""
    offered = _OPTION.search(text)
    if offered is not None and _OPTION.search(text, offered.end()) is not None:
        return text[: offered.start()]
    return text.rstrip().removesuffix("Answer:")
