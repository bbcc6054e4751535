"""How sure a sandbox model is of what it works out: about as likely as its steps were to succeed.

A model knows its own skill only so well. What it takes the chances of a step for is off by some
noise, and a wrong result looks less likely to it than a right one. Asked how sure it is, it says
too much.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

from langchain_core.messages import BaseMessage

__all__ = ["felt_chance", "how_sure", "question_before", "token_logprobs"]

_NOISE: Final = 1.0
_PLAIN: Final = math.log(0.995)
_BOAST: Final = 0.5
_ASKED: Final = re.compile(r"\bCONFIDENCE:\s*n\b")


def felt_chance(rate: float, *, right: bool, rng: random.Random) -> float:
    """Return what a model takes the chances of a result of its own for, within 0..1.

    Args:
        rate: The probability that the step comes out right.
        right: Whether it did.
        rng: Of the noise.

    Example:
        >>> felt_chance(0.9, right=True, rng=random.Random(1)) > 0.5
        True
    """
    chance = min(max(rate if right else 1 - rate, 1e-3), 1 - 1e-3)
    logit = math.log(chance / (1 - chance)) + rng.gauss(0, _NOISE)
    return 1 / (1 + math.exp(-logit))


def token_logprobs(tokens: Sequence[str], chances: Sequence[float]) -> list[dict[str, Any]]:
    """Return the log-probabilities of an answer's tokens, in the form that OpenAI gives them.

    A step's chance is that of the token after its "="; all other words come easily.

    Args:
        tokens: Of the answer.
        chances: Of the steps, in their order.

    Example:
        >>> [round(one["logprob"], 3) for one in token_logprobs(["6", " ", "=", " 6"], [0.5])]
        [-0.005, -0.005, -0.005, -0.693]
    """
    left = list(chances)
    found: list[dict[str, Any]] = []
    results = False
    for token in tokens:
        is_result = results and bool(token.strip())
        logprob = math.log(max(left.pop(0), 1e-9)) if is_result and left else _PLAIN
        found.append({"token": token, "logprob": logprob})
        results = (results and not is_result) or token.strip() == "="
    return found


def how_sure(chances: Iterable[float]) -> str:
    """Write how sure a model says it is of an answer that took steps with such chances.

    Example:
        >>> how_sure([0.5, 0.5])
        'CONFIDENCE: 50'
    """
    return f"CONFIDENCE: {5 * round(20 * math.prod(chances) ** _BOAST)}"


def question_before(messages: Sequence[BaseMessage]) -> Sequence[BaseMessage] | None:
    """Return the prompt of the answer that a model is asked to be sure of; `None` if it is not.

    The last message then asks for a line `CONFIDENCE: n`, and the one before it is the answer.
    """
    if len(messages) < 3 or messages[-1].type != "human" or messages[-2].type != "ai":
        return None
    return messages[:-2] if _ASKED.search(messages[-1].text) else None
