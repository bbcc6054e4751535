"""The question of a run: found in the conversation, checked, and put into its context."""

from __future__ import annotations

from langchain_core.messages import AnyMessage

from langchain_hybridflow.errors import InputError

__all__ = ["in_context", "question_in"]

_HISTORY_CHARS = 6_000


def question_in(messages: list[AnyMessage], *, max_chars: int) -> tuple[AnyMessage, str]:
    """Find the message with the question, and its text.

    Raises:
        InputError: There is none, it is not text, or it is longer than `max_chars`.
    """
    asked = next((one for one in reversed(messages) if one.type == "human"), None)
    if asked is None:
        raise InputError("There is no question: messages must hold a human message.")
    if not isinstance(asked.content, str) and any(
        not isinstance(block, str) and block.get("type") != "text" for block in asked.content
    ):
        raise InputError(
            "The question holds images or other blocks that are not text, and subtasks would "
            "not see them. Ask in text, or call the RoutedChatModel itself."
        )
    text = asked.text.strip()
    if not text:
        raise InputError("The question is empty. Put text into the last human message.")
    if len(text) > max_chars:
        raise InputError(
            f"The question has {len(text):,} characters and at most "
            f"{max_chars:,} are taken. Shorten it, or raise "
            f"HybridFlowGraph(max_question_chars=...)."
        )
    if any("\ud800" <= char <= "\udfff" for char in text):
        raise InputError(
            "The question holds bytes that are not text (half of a surrogate pair). Decode it "
            "as UTF-8, with errors='replace' if need be."
        )
    return asked, text


def in_context(question: str, history: list[AnyMessage]) -> str:
    """Put what was said before in front of the question: subtasks see nothing else of it."""
    lines = [
        f"{'User' if message.type == 'human' else 'Assistant'}: {message.text}"
        for message in history
        if message.type in ("human", "ai") and message.text
    ]
    if not lines:
        return question
    said = "\n".join(lines)[-_HISTORY_CHARS:]
    return f"Conversation so far:\n{said}\n\nQuestion:\n{question}"
