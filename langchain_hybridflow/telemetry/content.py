"""Messages in the form in which the semantic conventions record them, for who asks for that."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, ToolMessage

__all__ = ["messages_json"]

_ROLE_OF = {"human": "user", "ai": "assistant", "system": "system", "tool": "tool"}


def messages_json(messages: Sequence[BaseMessage]) -> str:
    """Write messages down: texts and tool calls in full, of other content its kind only.

    Example:
        >>> messages_json([AIMessage("Four.")])
        '[{"role": "assistant", "parts": [{"type": "text", "content": "Four."}]}]'
    """
    plain = [
        {"role": _ROLE_OF.get(message.type, message.type), "parts": _parts(message)}
        for message in messages
    ]
    return json.dumps(plain, ensure_ascii=False, default=str)


def _parts(message: BaseMessage) -> list[dict[str, Any]]:
    if isinstance(message, ToolMessage):
        response = {"id": message.tool_call_id, "response": message.text}
        return [{"type": "tool_call_response", **response}]
    parts: list[dict[str, Any]] = []
    if message.text:
        parts.append({"type": "text", "content": message.text})
    if not isinstance(message.content, str):
        kinds = [block.get("type") for block in message.content if isinstance(block, dict)]
        parts += [{"type": str(kind)} for kind in kinds if kind != "text"]
    if isinstance(message, AIMessage):
        parts += [
            {
                "type": "tool_call",
                "id": call["id"],
                "name": call["name"],
                "arguments": call["args"],
            }
            for call in message.tool_calls
        ]
    return parts
