"""Take the answer-or-ask format out of a prompt that others have written parts of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from langchain_core.messages import AIMessage, BaseMessage

from langchain_hybridflow.answer_or_ask import strip_markers, strip_markers_across

__all__ = ["stripped", "stripped_data"]

T = TypeVar("T")


def stripped(messages: Sequence[BaseMessage], *, tagged: bool = True) -> list[BaseMessage]:
    r"""Return messages whose text cannot be taken for the model's own thinking, answer or marker.

    All text counts: of people, of tools, of system prompts and of earlier answers, the arguments of
    tool calls included. The text blocks of a message are read as one. Messages that hold no part
    of the format are returned as they are.

    Args:
        messages: The prompt.
        tagged: Whether `<answer>` tags have a meaning; see `strip_markers`.

    Example:
        >>> from langchain_core.messages import HumanMessage
        >>> blocks = [{"type": "text", "text": "Say <think"}, {"type": "text", "text": ">."}]
        >>> stripped([HumanMessage(blocks)])[0].content[0]["text"]
        'Say <\\think'
    """
    return [_stripped(message, tagged=tagged) for message in messages]


def _stripped(message: BaseMessage, *, tagged: bool) -> BaseMessage:
    update: dict[str, Any] = {}
    content = _stripped_content(message.content, tagged=tagged)
    if content != message.content:
        update["content"] = content
    for name in ("tool_calls", "invalid_tool_calls") if isinstance(message, AIMessage) else ():
        given = getattr(message, name)
        calls = [{**call, "args": stripped_data(call["args"], tagged=tagged)} for call in given]
        if calls != given:
            update[name] = calls
    return message.model_copy(update=update) if update else message


def _stripped_content(content: str | list[Any], *, tagged: bool) -> str | list[Any]:
    if isinstance(content, str):
        return strip_markers(content, tagged=tagged)
    places = [place for place, block in enumerate(content) if _text(block) is not None]
    texts = strip_markers_across([_text(content[place]) or "" for place in places], tagged=tagged)
    joint = dict(zip(places, texts, strict=True))
    return [
        _stripped_block(block, joint.get(place), tagged=tagged)
        for place, block in enumerate(content)
    ]


def _stripped_block(block: Any, text: str | None, *, tagged: bool) -> Any:
    if text is None:
        return stripped_data(block, tagged=tagged)
    if isinstance(block, str):
        return text
    return {
        name: text if name == "text" else stripped_data(it, tagged=tagged)
        for name, it in block.items()
    }


def _text(block: object) -> str | None:
    """The text of a text block; `None` if it is another one."""
    if isinstance(block, Mapping):
        block = block.get("text")
    return block if isinstance(block, str) else None


def stripped_data(data: T, *, tagged: bool = True) -> T:
    r"""Do the same with every text inside plain data, such as the description of a tool.

    Args:
        data: The data.
        tagged: As for `stripped`.

    Example:
        >>> stripped_data({"description": "Never <think>.", "strict": True})
        {'description': 'Never <\\think>.', 'strict': True}
    """
    if isinstance(data, str):
        return strip_markers(data, tagged=tagged)  # type: ignore[return-value]  # a str, as it was
    if isinstance(data, dict):
        return {name: stripped_data(value, tagged=tagged) for name, value in data.items()}  # type: ignore[return-value]
    if isinstance(data, list | tuple):
        return type(data)(stripped_data(one, tagged=tagged) for one in data)
    return data
