"""What stands in a prompt: all its text, and what there is beside text.

Content comes in many forms: LangChain's own blocks, those of each provider, and either of them
inside tool messages. Here every form is read to its last string, since what is not read cannot
be filtered.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage

__all__ = ["Content", "Medium", "read_content"]

Medium: TypeAlias = Literal["audio", "file", "image", "pdf", "video"]
"""Content that is not text; "file" is a document of any other kind."""

_KINDS: tuple[Medium, ...] = ("image", "audio", "video")
_DOCUMENTS = ("document", "file", "media", "text-plain")
_DATA = frozenset({"base64", "bytes", "data", "file_data"})
_ARGUMENTS = frozenset({"args", "arguments", "input"})  # of a tool: no content, whatever they say
_TYPES = ("mime_type", "media_type", "format", "filename", "file_data", "url")


@dataclass(frozen=True, slots=True)
class Content:
    """The content of a prompt.

    Attributes:
        text: All text of all messages, also of tool calls and their results.
        media: What there is beside text.
    """

    text: str
    media: frozenset[Medium] = frozenset()


def read_content(messages: Sequence[BaseMessage], beside: object = None) -> Content:
    """Read all that would be sent to a model.

    Args:
        messages: The prompt.
        beside: What is sent with it: tools, schemas and other call options.

    Example:
        >>> from langchain_core.messages import HumanMessage
        >>> image = {"type": "image", "url": "https://example.org/cat.png"}
        >>> content = read_content([HumanMessage(["What is it?", image])])
        >>> sorted(content.media), "What is it?" in content.text, "cat.png" in content.text
        (['image'], True, True)
    """
    reader = _Reader()
    for message in messages:
        if isinstance(message.content, str):
            reader.texts.append(message.content)
        else:
            reader.read(message.content, blocks=True)
        if message.name:
            reader.texts.append(message.name)
        fields = vars(message)  # asking a pydantic model for a field it lacks takes microseconds
        for extra in _EXTRAS:
            if fields.get(extra):
                reader.read(fields[extra])
    if beside:
        reader.read(beside)
    texts = reader.texts
    return Content(
        texts[0] if len(texts) == 1 else "\n".join(texts), frozenset(reader.media) or _NO_MEDIA
    )


_EXTRAS = ("tool_calls", "invalid_tool_calls", "additional_kwargs")
_NO_MEDIA: frozenset[Medium] = frozenset()


class _Reader:
    """Walks through content, and keeps what it finds."""

    __slots__ = ("media", "texts")

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.media: set[Medium] = set()

    def read(self, value: object, *, blocks: bool = False) -> None:
        """Read a value of any form; `blocks` says whether it is, or holds, blocks of content."""
        if isinstance(value, str):
            self._read_text(value, blocks=blocks)
        elif isinstance(value, Mapping):
            self._read_mapping(value, blocks=blocks)
        elif isinstance(value, bytes | bytearray | memoryview):
            self.media.add("file")
        elif isinstance(value, type):
            self.texts.append(_schema_text(value))
        elif isinstance(value, Iterable):
            for item in value:
                self.read(item, blocks=blocks)
        elif value is not None and not isinstance(value, bool):
            self.texts.append(str(value))

    def _read_text(self, text: str, *, blocks: bool) -> None:
        if blocks and text.startswith("data:") and ";base64," in text[:100]:
            self.media.add(_of_type(text))
        else:
            self.texts.append(text)

    def _read_mapping(self, block: Mapping[Any, Any], *, blocks: bool) -> None:
        if blocks and block.get("type") == "text" and isinstance(block.get("text"), str):
            self.texts.append(block["text"])
            block = {name: block[name] for name in block if name not in ("type", "text")}
        medium = _medium(block) if blocks else None
        if medium is not None:
            self.media.add(medium)
            block = _described(block)
        for name, value in block.items():
            self.texts.append(str(name))
            self.read(value, blocks=blocks and name not in _ARGUMENTS)


def _medium(block: Mapping[Any, Any]) -> Medium | None:
    """Say what a block holds beside text; `None` if it is text, or no block of content at all."""
    kind = block.get("type")
    if kind is None and len(block) == 1:  # Bedrock names its blocks by their only key
        ((kind, value),) = block.items()
        if not (isinstance(value, Mapping) and "source" in value):
            return None
    if not isinstance(kind, str):
        return None
    for name in _KINDS:
        if name in kind:
            return name
    if not any(name in kind for name in _DOCUMENTS) or _is_plain_text(block):
        return None
    return next((found for found in map(_of_type, _types(block)) if found != "file"), "file")


def _described(block: Mapping[Any, Any]) -> dict[Any, Any]:
    """Leave the data of a medium out, here and one level below, where providers put it."""
    return {
        name: {key: value[key] for key in value if key not in _DATA}
        if isinstance(value, Mapping)
        else value
        for name, value in block.items()
        if name not in _DATA
    }


def _is_plain_text(block: Mapping[Any, Any]) -> bool:
    """Whether a document stands there as text, so that it is read like any other."""
    source = block.get("source")
    if isinstance(source, Mapping) and source.get("type") == "text":
        return True
    described = any(name in block for name in (*_DATA, "source", "file", "file_id", "url"))
    return not described


def _types(block: Mapping[Any, Any]) -> list[str]:
    parts = [block, *(part for part in block.values() if isinstance(part, Mapping))]
    found = (part.get(name) for part in parts for name in _TYPES)
    return [value for value in found if isinstance(value, str)]


def _of_type(name: str) -> Medium:
    """Say what medium a MIME type, a data URL or a file name speaks of."""
    start = name[:100].lower().removeprefix("data:")
    if start.startswith(("application/pdf", "pdf")) or name[-4:].lower() == ".pdf":
        return "pdf"
    return next((kind for kind in _KINDS if start.startswith(f"{kind}/")), "file")


def _schema_text(schema: type) -> str:
    """Write a schema as it is sent; what is no schema, by its name."""
    from langchain_core.utils.function_calling import convert_to_openai_tool

    try:
        return str(convert_to_openai_tool(schema))
    except (AttributeError, NameError, TypeError, ValueError):
        return f"{schema.__name__} {schema.__doc__ or ''}"
