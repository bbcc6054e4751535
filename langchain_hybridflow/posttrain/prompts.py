"""From a row of the data to what the model, the verifier and the cloud are asked."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final

from langchain_core.messages import BaseMessage, HumanMessage, SystemMessage, convert_to_messages

from langchain_hybridflow.answer_or_ask import ASK_MARKER, strip_markers
from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.profiling.records import Item

__all__ = ["INSTRUCTIONS", "cloud_messages", "item_of", "packed", "row_of"]

INSTRUCTIONS: Final = f"""\
Solve the problem. First think between <think> and </think>. Then do one of two things. If you are \
confident of your answer, write it between <answer> and </answer>. If you are not, write exactly \
this and stop:
{ASK_MARKER}"""
"""System message of a chat model that is trained; whoever uses it later sends the same one."""

_OURS: Final = frozenset({"answer", "context", "id", "item", "prompt", "question", "reference"})


def item_of(row: Mapping[str, Any], prompt: Any = None) -> Item:
    """Return a row of the data as the item that verifiers know.

    Args:
        row: The row: `answer` (or `reference`) is right, `question` is what is asked, a `context`
            stands before it; all further columns go along in `extra`.
        prompt: What the model is sent, text or chat messages; by default that of the row.

    Example:
        >>> item_of({"prompt": "6 * 7?", "answer": "42"}).question
        '6 * 7?'
    """
    if isinstance(row.get("item"), str):
        return Item(**json.loads(row["item"]))
    prompt = row.get("prompt") if prompt is None else prompt
    question = row.get("question")
    reference = row.get("answer", row.get("reference"))
    asked = question if isinstance(question, str) and question.strip() else _asked(prompt)
    key = row.get("id")
    if key is None:
        text = json.dumps([prompt, reference], sort_keys=True, default=str)
        key = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return Item(
        id=str(key),
        question=asked,
        reference=reference,
        context=str(row.get("context") or ""),
        extra={name: value for name, value in row.items() if name not in _OURS},
    )


def packed(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row as the trainer keeps it: the prompt, and all else as one JSON text.

    Columns of a table have one type each, and the answers of a list of rows need not.

    Raises:
        ConfigurationError: There is no prompt, or a value is no plain JSON.
    """
    prompt = row.get("prompt")
    if not prompt:
        raise ConfigurationError(f"A row has no prompt; its columns are {', '.join(row)}.")
    return _row(item_of(row, prompt), prompt) | {"own_question": bool(row.get("question"))}


def row_of(item: Item, *, instructions: str | None, chat: bool) -> dict[str, Any]:
    """Return an item as a row of the trainer.

    What belongs to the format is taken out of the question: nobody asks in the model's name.

    Args:
        item: What is asked.
        instructions: What the model is told first; `None` is `INSTRUCTIONS` for a chat model, and
            nothing for one that has a form of its own.
        chat: Whether the model has a chat template.
    """
    asked = strip_markers(_shown(item))
    told = (INSTRUCTIONS if chat else "") if instructions is None else instructions
    if not chat:
        prompt: Any = f"{told}\n\n{asked}" if told else asked
    else:
        system = [{"role": "system", "content": told}] if told else []
        prompt = [*system, {"role": "user", "content": asked}]
    return _row(item, prompt) | {"own_question": True}


def cloud_messages(row: Mapping[str, Any], *, instructions: str | None = None) -> list[BaseMessage]:
    """Return what the cloud is sent for a row: the conversation without its system messages.

    Args:
        row: The row; if it has a `question`, that is all that is sent.
        instructions: The cloud's own system message.

    Example:
        >>> row = {"prompt": "<s>6 * 7?<think>", "question": "6 * 7?"}
        >>> [one.content for one in cloud_messages(row)]
        ['6 * 7?']
    """
    told: list[BaseMessage] = [SystemMessage(instructions)] if instructions else []
    prompt = row.get("prompt")
    has_question = row.get("own_question", bool(row.get("question")))
    if has_question or isinstance(prompt, str) or not prompt:
        return [*told, HumanMessage(_shown(item_of(row)))]
    talk = [one for one in convert_to_messages(prompt) if not isinstance(one, SystemMessage)]
    return [*told, *talk]


def _shown(item: Item) -> str:
    return "\n\n".join(part for part in (item.context, item.question) if part)


def _row(item: Item, prompt: Any) -> dict[str, Any]:
    kept = {
        "id": item.id,
        "question": item.question,
        "reference": item.reference,
        "choices": dict(item.choices),
        "context": item.context,
        "extra": dict(item.extra),
    }
    try:
        return {"prompt": prompt, "item": json.dumps(kept)}
    except (TypeError, ValueError) as error:
        raise ConfigurationError(
            f"The row {item.id!r} holds a value that is no plain JSON: {error}. Keep it outside, "
            f"and find it by the row's id."
        ) from error


def _asked(prompt: Any) -> str:
    """Return the last thing that the user says."""
    if isinstance(prompt, str):
        return prompt
    messages = convert_to_messages(prompt or [])
    asked = [one.text for one in messages if isinstance(one, HumanMessage)]
    return asked[-1] if asked else "\n".join(one.text for one in messages)
