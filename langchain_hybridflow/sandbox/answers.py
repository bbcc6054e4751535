"""Find the answer in a model's text, and tell whether it is right."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

from langchain_hybridflow.sandbox.language import Value, parse_date, parse_number

__all__ = ["extract_answer", "matches"]

_MARK: Final = re.compile(
    r"answer(?:\*\*)?[ \t]*(?::|=|is\b:?)[ \t*]*([^\s*][^\n]*)", re.IGNORECASE
)
_TAGGED: Final = re.compile(r"<answer>\s*([^<\s][^<\n]*)</answer>")
_BOXED: Final = re.compile(r"\\boxed\{([^{}\n]*)\}")
# A text of up to so many words may be a bare answer; a longer one is prose that was cut off.
_MAX_WORDS: Final = 4
_TOLERANCE: Final = Decimal("0.005")


def extract_answer(text: str) -> str | None:
    r"""Return what a model's text gives as its answer, or None if it gives none.

    The last `<answer>...</answer>` counts, else the last `Answer: ...`, else the last
    `\boxed{...}`; a text of a few words without any is itself the answer.

    Example:
        >>> extract_answer("6 * 4 = 24.\nAnswer: 24")
        '24'
        >>> extract_answer("I had to stop before the end, because ran out of the tokens") is None
        True
    """
    for pattern in (_TAGGED, _MARK, _BOXED):
        found = [match[1] for match in pattern.finditer(text)]
        if found:
            return _bare(found[-1])
    is_bare = 0 < len(text.split(maxsplit=_MAX_WORDS)) <= _MAX_WORDS
    return _bare(text) if is_bare and not text.rstrip().endswith(":") else None


def matches(answer: str, truth: Value) -> bool:
    """Tell whether `answer` says `truth`.

    Numbers may differ by half a hundredth, dates may be written in any usual way, names in any
    case.

    Args:
        answer: What a model gave as its answer, without the reasoning.
        truth: The exact value.

    Example:
        >>> matches("1,250.5 euros", Decimal("1250.50"))
        True
    """
    if isinstance(truth, Decimal):
        number = parse_number(answer)
        return number is not None and abs(number - truth) <= _TOLERANCE
    if isinstance(truth, str):
        words = re.findall(r"\w+", answer.casefold())
        # A word or two may come with the name, as in "It is Ada." - but not all other names.
        is_one = len(words) <= _MAX_WORDS and "or" not in words
        return is_one and truth.casefold() in words
    return parse_date(answer) == truth


def _bare(answer: str) -> str:
    return answer.strip().strip("*`").rstrip(".").strip()
