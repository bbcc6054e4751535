"""How hard a text looks from the outside: a plain, visible rule for when nobody has said.

Surface features say little about true difficulty (arXiv 2509.24050 makes that its argument), so
this is a stand-in for a planner's estimate, never an override of one. Length counts for at most
two of the nine levels: a long question is not a hard one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["SurfaceDifficulty", "surface_difficulty"]

_SCAN_LIMIT_CHARS = 20_000
_NUMBER = re.compile(r"\d+(?:[.,:/-]\d+)*")
_SENTENCE_END = re.compile(r"[.!?;](?:\s|$)")
_REASONING = re.compile(
    r"\b(?:why|how many|how much|prove|derive|compare|explain|analy[sz]e|calculate|compute|"
    r"estimate|optimi[sz]e|design|plan|debug|implement|trade-?offs?|step by step|in total|"
    r"altogether|at most|at least|percent|per|if|unless|except|then|after|before|each|remaining)\b",
    re.IGNORECASE,
)
_CODE_OR_MATH = re.compile(r"```|[=^∑∫√≤≥]|\\[a-z]+\{|\bdef \w+\(")


@dataclass(frozen=True, slots=True)
class SurfaceDifficulty:
    """A level from 1 to 9 and the signs it was read from."""

    level: int
    signs: tuple[str, ...]


def surface_difficulty(text: str) -> SurfaceDifficulty:
    """Estimate the difficulty of a question, 1 (trivial) to 9, from its surface.

    One level is the start. Added are: up to 3 for quantities, up to 3 for words that ask for
    reasoning, 1 for code or mathematics, up to 2 for the number of sentences. Only the first
    20,000 characters are read.

    Example:
        >>> surface_difficulty("What is the capital of France?").level
        1
        >>> surface_difficulty(
        ...     "A shop had 120 apples and sold 3/4 of them, then got 17 more. "
        ...     "How many remained after it gave away 20 percent?"
        ... ).signs
        ('4 quantities', '4 reasoning words', '2 sentences')
    """
    sample = text[:_SCAN_LIMIT_CHARS]
    quantities = len(_NUMBER.findall(sample))
    reasoning = len({word.lower() for word in _REASONING.findall(sample)})
    sentences = len(_SENTENCE_END.findall(sample))
    formal = bool(_CODE_OR_MATH.search(sample))
    signs = []
    if quantities:
        signs.append(f"{quantities} quantities")
    if reasoning:
        signs.append(f"{reasoning} reasoning words")
    if formal:
        signs.append("code or mathematics")
    if sentences > 1:
        signs.append(f"{sentences} sentences")
    level = 1 + min(quantities, 3) + min(reasoning, 3) + formal + min(max(sentences - 1, 0) // 2, 2)
    return SurfaceDifficulty(level=min(level, 9), signs=tuple(signs))
