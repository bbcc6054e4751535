"""A conversation in a form that another provider takes, without what only its writer can read.

Providers put things into their answers that only they can read back: reasoning with a signature or
in cipher, references to what they have stored, the calls of their own tools. Another provider
refuses them, or worse, takes them for something else.
"""

from __future__ import annotations

import re
from base64 import b32encode
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import Any

from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    InvalidToolCall,
    ToolCall,
    ToolMessage,
)

from langchain_hybridflow.calls.inner import TierModel

__all__ = ["portable_history"]

# Providers that one integration or another spells differently, in traces and in answers.
_FAMILY_OF = {
    "amazon_bedrock": "bedrock",
    "azure": "openai",
    "azure_openai": "openai",
    "bedrock_converse": "bedrock",
    "google_anthropic_vertex": "anthropic",
    "google_vertexai": "google",
    "google_genai": "google",
    "mistralai": "mistral",
}

# Who reads which mark of a prompt cache; the first two proxies pass them on.
_READERS_OF_MARK = {
    "cache_control": frozenset({"anthropic", "bedrock", "litellm", "openrouter"}),
    "cachePoint": frozenset({"bedrock"}),
    "prompt_cache_breakpoint": frozenset({"openai"}),
}

# OpenAI takes 40 characters, Anthropic and Bedrock these letters; what both take, all others do.
_COMMON_ID = re.compile(r"[A-Za-z0-9_-]{1,40}")
# Mistral's own servers refuse other ids, and so does vLLM with Mistral's tokenizer.
_MISTRAL_ID = re.compile(r"[A-Za-z0-9]{9}")
_MISTRAL_MODEL = re.compile(r"(?:mis|mix|minis|magis|devs|codes|pix)tral", re.IGNORECASE)

# Names of things that a provider has stored, as against the names that LangChain gives.
_STORED_ID = re.compile(r"(?:resp|msg|rs|fc|chatcmpl|gen)[_-]")
_VERSION = re.compile(r"(?:[-@:](?:\d[\d.-]*|latest))?")

# Provider-made extras of an answer that all providers read alike; the rest is the writer's own.
_COMMON_EXTRAS = frozenset({"function_call", "name"})

_MEDIA = {"image": "image/png", "audio": None, "video": None, "file": None, "text-plain": None}
_MEDIA_PARTS = ("type", "url", "base64", "mime_type", "text", "title", "context")
_MAYBE_MEDIA = re.compile(r"image|audio|video|file|media|document|text-plain|inline")


def portable_history(messages: list[BaseMessage], target: TierModel) -> list[BaseMessage]:
    """Return a conversation in a form that the target takes, whoever wrote its answers.

    Of answers that other models wrote, text, tool calls and media are kept. Reasoning,
    signatures, the calls and results of server-side tools, citations and references to what a
    provider has stored are dropped; tool-call ids that the target would refuse are replaced by
    ones that it takes, the same in calls and results, and the same at every turn. The target's
    own answers are left as they are: it wants its signatures back. Marks of a prompt cache are
    dropped from all messages for a target that does not read them.

    Who wrote an answer is what our record on it says; without one, the provider and model that
    its metadata name. An answer that does not say is taken for somebody else's.

    Args:
        messages: The conversation; neither the list nor a message in it is changed.
        target: Who is to go on with it.

    Returns:
        The same list if there was nothing to do.

    Example:
        >>> from langchain_core.messages import HumanMessage
        >>> from langchain_hybridflow.testing import ScriptedChatModel
        >>> thought = {"type": "thinking", "thinking": "...", "signature": "c2lnbmVk"}
        >>> answer = AIMessage([thought, {"type": "text", "text": "Four."}])
        >>> target = TierModel.of("edge", ScriptedChatModel(responses=["Six."]))
        >>> portable_history([HumanMessage("2 + 2?"), answer], target)[1].content
        'Four.'
    """
    family = _family(target.provider)
    renamed: dict[str, str] = {}
    changed: list[BaseMessage] | None = None
    for index, message in enumerate(messages):
        if isinstance(message, AIMessage):
            new: BaseMessage = message
            if not _has_bound_parts(message):
                continue
            if _is_own(message, target, family):
                for own in (*message.tool_calls, *message.invalid_tool_calls):
                    renamed.pop(str(own["id"]), None)  # from here on the id is this call's
            else:
                answered = _answered_ids(messages, index) if message.invalid_tool_calls else set()
                new = _neutral_answer(message, _id_rule(target, family), renamed, answered)
        else:
            new = _neutral_other(message, family, renamed)
        if new is not message:
            changed = changed if changed is not None else list(messages)
            changed[index] = new
    return messages if changed is None else changed


def _family(provider: object) -> str:
    name = str(provider or "").lower()
    return _FAMILY_OF.get(name, name)


def _has_bound_parts(message: AIMessage) -> bool:
    """Whether there can be anything in an answer that only its writer understands."""
    return bool(
        not isinstance(message.content, str)
        or message.tool_calls
        or message.invalid_tool_calls
        or message.additional_kwargs
        or (message.id is not None and _STORED_ID.match(message.id))
        or _is_stored(message.response_metadata)
    )


def _is_stored(metadata: Mapping[str, Any]) -> bool:
    return bool(metadata) and str(metadata.get("id", "")).startswith("resp_")


def _is_own(message: AIMessage, target: TierModel, family: str) -> bool:
    """Whether the target wrote this answer itself."""
    metadata = message.response_metadata
    record = metadata.get("hybridflow")
    if isinstance(record, Mapping):
        return record.get("tier") == target.tier and record.get("model") == target.name
    writer = _family(metadata.get("model_provider"))
    name = metadata.get("model_name") or metadata.get("model")
    if not writer and not name:
        return False
    return writer in ("", family) and (not name or _is_version_of(str(name), target.name))


def _is_version_of(name: str, model: str) -> bool:
    """Whether a name is the model's own, perhaps with a date or version after it."""
    return name.startswith(model) and _VERSION.fullmatch(name, len(model)) is not None


def _id_rule(target: TierModel, family: str) -> re.Pattern[str]:
    is_mistral = family == "mistral" or _MISTRAL_MODEL.search(target.name)
    return _MISTRAL_ID if is_mistral else _COMMON_ID


def _answered_ids(messages: Sequence[BaseMessage], index: int) -> set[str]:
    """The ids of the tool calls that are answered after this message."""
    later = messages[index + 1 :]
    return {message.tool_call_id for message in later if isinstance(message, ToolMessage)}


def _neutral_answer(
    message: AIMessage, rule: re.Pattern[str], renamed: dict[str, str], answered: set[str]
) -> AIMessage:
    """Rewrite somebody else's answer; returns the message itself if it is neutral already."""
    content = _neutral_content(message)
    calls = [
        ToolCall(
            name=call["name"],
            args=call["args"],
            id=_valid_id(call["id"], rule, renamed),
            type="tool_call",
        )
        for call in message.tool_calls
    ]
    # A call that could not be read and that nobody has answered is refused by most providers.
    invalid = [
        InvalidToolCall(**{**call, "id": _valid_id(call["id"], rule, renamed)})
        for call in message.invalid_tool_calls
        if call["id"] in answered
    ]
    extras = {
        name: value
        for name, value in message.additional_kwargs.items()
        if name in _COMMON_EXTRAS or value is None
    }
    stored = message.id is not None and _STORED_ID.match(message.id) is not None
    if (
        content == message.content
        and calls == message.tool_calls
        and invalid == message.invalid_tool_calls
        and len(extras) == len(message.additional_kwargs)
        and not stored
        and not _is_stored(message.response_metadata)
    ):
        return message
    # Not a copy with other fields: one of a chunk would keep its pieces of tool calls.
    return AIMessage(
        content=content,
        tool_calls=calls,
        invalid_tool_calls=invalid,
        additional_kwargs=extras,
        response_metadata=_neutral_metadata(message.response_metadata),
        usage_metadata=message.usage_metadata,
        name=message.name,
        id=None if stored else message.id,
    )


def _neutral_metadata(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what integrations read back: a stored answer's id, and the form of the content."""
    foreign = {"output_version", "id"} if _is_stored(metadata) else {"output_version"}
    return {name: value for name, value in metadata.items() if name not in foreign}


def _neutral_content(message: AIMessage) -> str | list[str | dict[Any, Any]]:
    """The text and media of an answer; just a string if there are no media."""
    if isinstance(message.content, str):
        return message.content
    blocks: list[str | dict[Any, Any]] = []
    for block in message.content:
        blocks += _neutral_blocks(block, message.response_metadata)
    texts = [block["text"] for block in blocks if isinstance(block, dict) and _is_text(block)]
    return "".join(texts) if len(texts) == len(blocks) else blocks


def _is_text(block: Mapping[str, Any]) -> bool:
    return block.get("type") == "text"


def _neutral_blocks(block: Any, metadata: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    if isinstance(block, str):
        return [{"type": "text", "text": block}] if block else []
    if not isinstance(block, Mapping):
        return []
    kind = str(block.get("type") or "")
    text = block.get("text") if kind != "refusal" else block.get("refusal")
    if kind in ("text", "output_text", "refusal"):
        return [{"type": "text", "text": text}] if isinstance(text, str) and text else []
    if not _MAYBE_MEDIA.search(kind) or kind.endswith("_result"):
        return []
    return _neutral_media(dict(block), metadata)


def _neutral_media(block: dict[str, Any], metadata: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Media as LangChain's standard blocks; those that only the writer has stored are lost."""
    media: list[dict[str, Any]] = []
    for item in [block] if _is_standard(block) else _translated(block, metadata):
        parts = {name: value for name in _MEDIA_PARTS if (value := item.get(name)) is not None}
        if _is_standard(parts):
            usual_type = _MEDIA[parts["type"]]
            if usual_type and "base64" in parts:
                parts.setdefault("mime_type", usual_type)
            media.append(parts)
    return media


def _is_standard(block: Mapping[str, Any]) -> bool:
    return block.get("type") in _MEDIA and any(
        isinstance(block.get(name), str) for name in ("url", "base64", "text")
    )


def _translated(block: dict[str, Any], metadata: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """A provider's block as standard ones; nothing if it is not what its type says."""
    for provider in dict.fromkeys((metadata.get("model_provider"), None)):
        message = AIMessage(content=[block], response_metadata={"model_provider": provider})
        try:
            found = [item for item in message.content_blocks if item["type"] in _MEDIA]
        except (AttributeError, KeyError, TypeError, ValueError):
            continue
        if found:
            return list(found)
    return []


def _neutral_other(message: BaseMessage, family: str, renamed: Mapping[str, str]) -> BaseMessage:
    """Rewrite what no model wrote; returns the message itself if there is nothing to do."""
    update: dict[str, Any] = {}
    if renamed and isinstance(message, ToolMessage) and message.tool_call_id in renamed:
        update["tool_call_id"] = renamed[message.tool_call_id]
    if not isinstance(message.content, str):
        unread = [mark for mark, readers in _READERS_OF_MARK.items() if family not in readers]
        blocks = [_unmarked(block, unread) for block in message.content]
        kept = [block for block in blocks if block is not None]
        before = message.content
        if len(kept) < len(before) or any(a is not b for a, b in zip(kept, before, strict=True)):
            update["content"] = kept
    return message.model_copy(update=update) if update else message


def _unmarked(block: Any, unread: Iterable[str]) -> Any:
    """A block without marks that the reader does not know; `None` if it is nothing but one."""
    if not isinstance(block, dict):
        return block
    extras = block.get("extras")
    inner = extras if isinstance(extras, dict) else {}
    marks = [mark for mark in unread if mark in block or mark in inner]
    if not marks:
        return block
    kept = {name: value for name, value in block.items() if name not in marks}
    if inner:
        kept["extras"] = {name: value for name, value in inner.items() if name not in marks}
        if not kept["extras"]:
            del kept["extras"]
    return kept if kept.keys() - {"type"} else None


def _valid_id(given: str | None, rule: re.Pattern[str], renamed: dict[str, str]) -> str | None:
    """Return a tool call's id if the target takes it, or else one that follows from it."""
    if given is None or rule.fullmatch(given):
        return given
    if given not in renamed:
        digest = blake2b(given.encode("utf-8", "surrogatepass"), digest_size=15).digest()
        letters = b32encode(digest).decode("ascii").lower()
        renamed[given] = letters[:9] if rule is _MISTRAL_ID else f"call_{letters}"
    return renamed[given]
