"""How many tokens a call used, and how many it can use at worst.

Before a call, its prompt is counted offline and generously, because a reservation that is too
small lets a limit be passed. After the call, the provider's own count is what is billed; where a
server sends none, the same generous count stands in for it and the usage says `estimated`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from langchain_hybridflow.errors import ConfigurationError

if TYPE_CHECKING:
    from langchain_core.messages import AIMessage, BaseMessage

__all__ = [
    "IMAGE_TOKENS",
    "Usage",
    "estimate_prompt_tokens",
    "estimate_text_tokens",
    "usage_of",
]

IMAGE_TOKENS = 2_048
"""Tokens counted for one image: about what the large providers bill for a full-size one."""

_MESSAGE_TOKENS = 6  # role and separators around each message, whatever the chat template
_PROMPT_TOKENS = 16  # the template's own start, and the opening of the answer
_MEDIA_CHARS_PER_TOKEN = 16  # audio and documents: rough, from the length of their base64 text

# Tenths of a token per character. English prose has 4 characters a token with the older
# tokenizers and 3 with some of the newest; digits, brackets and operators are often a token each;
# beyond ASCII the number of UTF-8 bytes says what kind of script it is.
_LETTER, _OTHER_ASCII, _TWO_BYTES, _THREE_BYTES, _FOUR_BYTES = 4, 10, 10, 15, 30

_LETTERS_AND_SPACES = bytes(b for b in range(128) if chr(b).isalpha() or chr(b).isspace())
_LEADS_OF_TWO = bytes(range(0xC0, 0xE0))
_LEADS_OF_THREE = bytes(range(0xE0, 0xF0))
_LEADS_OF_FOUR = bytes(range(0xF0, 0x100))
_NON_ASCII = bytes(range(0x80, 0x100))


@dataclass(frozen=True, slots=True)
class Usage:
    """The tokens of one call.

    Args:
        input_tokens: Prompt tokens, the cached ones included.
        output_tokens: Answer tokens, reasoning tokens included: they are billed alike.
        cached_input_tokens: The part of `input_tokens` that the provider read from its cache.
        estimated: Whether we counted, because the provider sent no usage.
        cache_write_tokens: The part of `input_tokens` that the provider wrote to its cache, which
            some charge extra for; `None` if nobody knows, as before a call: prices then assume
            the worst.

    Raises:
        ConfigurationError: If a count is not an integer, is negative, or more is read from and
            written to the cache than sent.

    Example:
        >>> Usage(120, 30).total_tokens
        150
    """

    input_tokens: int
    output_tokens: int
    cached_input_tokens: int = 0
    estimated: bool = False
    cache_write_tokens: int | None = None

    def __post_init__(self) -> None:
        written = self.cache_write_tokens or 0
        for value in (self.input_tokens, self.output_tokens, self.cached_input_tokens, written):
            if type(value) is not int or value < 0:
                raise ConfigurationError(f"Token counts must be integers >= 0: {self!r}.")
        if self.cached_input_tokens + written > self.input_tokens:
            raise ConfigurationError(f"More input tokens are cached than sent: {self!r}.")

    @property
    def total_tokens(self) -> int:
        """Prompt and answer together."""
        return self.input_tokens + self.output_tokens


def estimate_text_tokens(text: str) -> int:
    """Count the tokens of a text offline, rather too many than too few, in linear time.

    Example:
        >>> estimate_text_tokens("the quick brown fox jumps over the lazy dog")  # 9 to 11 in truth
        18
        >>> estimate_text_tokens("")
        0
    """
    if not text:
        return 0
    if text.isascii():
        letters = len(text) - len(text.encode().translate(None, _LETTERS_AND_SPACES))
        return -(-(letters * _LETTER + (len(text) - letters) * _OTHER_ASCII) // 10)
    # "surrogatepass": text cut in the middle of a pair is still text to be counted.
    data = text.encode("utf-8", "surrogatepass")
    ascii_count = len(data.translate(None, _NON_ASCII))
    letters = len(data) - len(data.translate(None, _LETTERS_AND_SPACES))
    two = len(data) - len(data.translate(None, _LEADS_OF_TWO))
    three = len(data) - len(data.translate(None, _LEADS_OF_THREE))
    four = len(data) - len(data.translate(None, _LEADS_OF_FOUR))
    tenths = (
        letters * _LETTER
        + (ascii_count - letters) * _OTHER_ASCII
        + two * _TWO_BYTES
        + three * _THREE_BYTES
        + four * _FOUR_BYTES
    )
    return -(-tenths // 10)


def estimate_prompt_tokens(
    messages: Sequence[BaseMessage], *, tools: Sequence[Any] | None = None
) -> int:
    """Count the prompt tokens of a call offline, rather too many than too few.

    Meant for reservations. An image counts as `IMAGE_TOKENS`; audio and documents are counted
    roughly by the length of their data, so a limit that must hold to the token should not rest on
    them.

    Args:
        messages: What the model gets.
        tools: Tools as OpenAI dicts, or anything that `bind_tools` takes.

    Example:
        >>> from langchain_core.messages import HumanMessage
        >>> estimate_prompt_tokens([HumanMessage("hello world")])
        27
    """
    count = _PROMPT_TOKENS
    for message in messages:
        count += _MESSAGE_TOKENS + _message_tokens(message)
    for tool in tools or ():
        count += _MESSAGE_TOKENS + estimate_text_tokens(_tool_json(tool))
    return count


def usage_of(
    message: AIMessage,
    *,
    prompt: Sequence[BaseMessage],
    max_output_tokens: int | None = None,
) -> Usage:
    """Say what a call used: the provider's count, or else an estimate that is marked as one.

    A count of zero for a prompt that was sent, or for an answer that has content, is what some
    servers send instead of no usage; it is replaced by the estimate, too.

    Args:
        message: The answer; of a stream, all chunks merged.
        prompt: What the model got.
        max_output_tokens: The cap that the call was made with; an estimate does not pass it.

    Example:
        >>> from langchain_core.messages import AIMessage, HumanMessage
        >>> usage_of(AIMessage("Paris"), prompt=[HumanMessage("Capital of France?")])
        Usage(input_tokens=30, output_tokens=2, cached_input_tokens=0, estimated=True,
              cache_write_tokens=None)
    """
    reported: Mapping[str, Any] = message.usage_metadata or {}
    input_tokens = _count(reported.get("input_tokens"))
    output_tokens = _count(reported.get("output_tokens"))
    estimated = False
    if not input_tokens and prompt:
        input_tokens, estimated = estimate_prompt_tokens(prompt), True
    if not output_tokens:
        output_tokens = _message_tokens(message)
        estimated = estimated or bool(output_tokens)
        if max_output_tokens is not None:
            output_tokens = min(output_tokens, max_output_tokens)
    details: Mapping[str, Any] = reported.get("input_token_details") or {}
    cached = min(_count(details.get("cache_read")), input_tokens)
    written = min(_count(details.get("cache_creation")), input_tokens - cached)
    return Usage(input_tokens, output_tokens, cached, estimated, None if estimated else written)


def _count(value: object) -> int:
    return value if isinstance(value, int) and value > 0 else 0


def _message_tokens(message: BaseMessage) -> int:
    count = _content_tokens(message.content)
    if message.name:
        count += estimate_text_tokens(message.name)
    # Not getattr(): asking a pydantic model for a field that it lacks takes microseconds.
    calls = vars(message).get("tool_calls")
    if calls:
        count += estimate_text_tokens(_to_json(calls))
    return count


def _content_tokens(content: str | Iterable[Any]) -> int:
    if isinstance(content, str):
        return estimate_text_tokens(content)
    return sum(_block_tokens(block) for block in content)


def _block_tokens(block: Any) -> int:
    if isinstance(block, str):
        return estimate_text_tokens(block)
    if not isinstance(block, Mapping):
        return estimate_text_tokens(str(block))
    kind = str(block.get("type", ""))
    if "image" in kind:
        return IMAGE_TOKENS
    text = block.get("text")
    if kind == "text" and isinstance(text, str):
        return estimate_text_tokens(text)
    serialised = _to_json(block)
    if any(word in kind for word in ("audio", "video", "file", "document", "media")):
        return max(IMAGE_TOKENS, len(serialised) // _MEDIA_CHARS_PER_TOKEN)
    return estimate_text_tokens(serialised)


def _tool_json(tool: Any) -> str:
    if isinstance(tool, Mapping):
        return _to_json(tool)
    # Imported on use: nothing else here needs the tool machinery at run time.
    from langchain_core.utils.function_calling import convert_to_openai_tool

    return _to_json(convert_to_openai_tool(tool))


def _to_json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)
