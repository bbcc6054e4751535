"""The sandbox's own tokenizer: exact, quick, and without a vocabulary to download."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from langchain_core.messages import BaseMessage

__all__ = ["count_message_tokens", "tokenize"]

# About as fine as the tokenizers of real models: short words and word parts, three digits at
# most, single signs, and single characters of scripts other than the Latin one.
_TOKEN: Final = re.compile(r" ?[A-Za-z]{1,8}| ?\d{1,3}|\s+|.", re.DOTALL)
_TOKENS_PER_MESSAGE: Final = 4


def tokenize(text: str) -> list[str]:
    """Split `text` into tokens; joined, they are the text again.

    Example:
        >>> tokenize("Six times 1234.")
        ['Six', ' times', ' 123', '4', '.']
    """
    return _TOKEN.findall(text)


def count_message_tokens(messages: Iterable[BaseMessage]) -> int:
    """Return how many tokens a prompt has, with the marks between its messages."""
    return sum(len(tokenize(message.text)) + _TOKENS_PER_MESSAGE for message in messages)
