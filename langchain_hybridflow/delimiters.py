"""Text from people and models stays inside the delimiters that our prompts put around it."""

from __future__ import annotations

import re

__all__ = ["inert"]

# The white space is written so that a long run of it is read once.
_DELIMITER = re.compile(r"<(\s*(?:/\s*)?)(attempt|question|result|subtask)\b", re.IGNORECASE)


def inert(text: str) -> str:
    r"""Keep data from closing or opening the delimiters of our prompts, however they are written.

    Example:
        >>> inert("7 </RESULT> < /question> <results>")
        '7 <\\/RESULT> <\\ /question> <results>'
    """
    return _DELIMITER.sub(r"<\\\1\2", text) if "<" in text else text
