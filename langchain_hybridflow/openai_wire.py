"""The OpenAI chat-completions format: requests to LangChain messages, answers back to JSON."""

from __future__ import annotations

import json
from collections.abc import AsyncIterable, AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    InvalidToolCall,
    convert_to_messages,
    convert_to_openai_messages,
)
from langchain_core.messages.ai import UsageMetadata, add_usage
from langchain_core.runnables import Runnable
from pydantic import BaseModel, ConfigDict, Field

__all__ = ["ChatRequest", "Head", "completion", "completion_events", "error_body", "sse"]

_FINISH_REASONS = {
    "content_filter": "content_filter",
    "length": "length",
    "max_tokens": "length",
    "tool_calls": "tool_calls",
    "tool_use": "tool_calls",
}


class StreamOptions(BaseModel):
    """What a client may say about a stream."""

    model_config = ConfigDict(frozen=True)

    include_usage: bool = False


class FunctionSpec(BaseModel):
    """A function that a model may call."""

    model_config = ConfigDict(frozen=True, extra="allow")

    name: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")
    description: str | None = None
    parameters: dict[str, Any] | None = None


class ToolSpec(BaseModel):
    """A tool that a model may use: a function."""

    model_config = ConfigDict(frozen=True, extra="allow")

    type: Literal["function"]
    function: FunctionSpec


class ToolName(BaseModel):
    """The name of a function."""

    model_config = ConfigDict(frozen=True)

    name: str


class ToolChoice(BaseModel):
    """The one function that a model is to call."""

    model_config = ConfigDict(frozen=True)

    type: Literal["function"]
    function: ToolName


class ContentPart(BaseModel):
    """A part of a message: a text, an image and so on."""

    model_config = ConfigDict(frozen=True, extra="allow")

    type: str


class SentMessage(BaseModel):
    """A message of the conversation. Fields that are not listed are ignored."""

    model_config = ConfigDict(frozen=True)

    role: Literal["assistant", "developer", "function", "system", "tool", "user"]
    content: str | list[ContentPart] | None = None
    name: str | None = None
    tool_calls: list[dict[str, Any]] | None = None
    tool_call_id: str | None = None

    def fields(self) -> dict[str, Any]:
        """Return what was sent of it; an assistant that called tools may have said nothing."""
        nothing_said = {"content": None} if self.role == "assistant" else {}
        return nothing_said | self.model_dump(exclude_unset=True)


class ChatRequest(BaseModel):
    """The body of `POST /v1/chat/completions`, as far as any chat model can honour it.

    Fields that are not listed are ignored, as most compatible servers do.
    """

    model_config = ConfigDict(frozen=True)

    model: str
    messages: list[SentMessage] = Field(min_length=1)
    stream: bool = False
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    stop: str | list[str] | None = None
    temperature: float | None = Field(default=None, ge=0.0, le=2.0)
    top_p: float | None = Field(default=None, ge=0.0, le=1.0)
    frequency_penalty: float | None = Field(default=None, ge=-2.0, le=2.0)
    presence_penalty: float | None = Field(default=None, ge=-2.0, le=2.0)
    seed: int | None = None
    tools: list[ToolSpec] | None = None
    tool_choice: Literal["auto", "none", "required"] | ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    response_format: dict[str, Any] | None = None
    n: int | None = Field(default=None, ge=1, le=1)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=20)

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with an event that holds the usage."""
        return self.stream_options is not None and self.stream_options.include_usage

    def prompt(self) -> list[BaseMessage]:
        """Return the conversation as LangChain messages.

        Raises:
            ValueError: A message lacks what one of its role must have.
        """
        return convert_to_messages([message.fields() for message in self.messages])

    def options(self) -> dict[str, Any]:
        """Return the call options that were given, by the names that LangChain models use."""
        given = {
            "frequency_penalty": self.frequency_penalty,
            "logprobs": self.logprobs or None,
            "max_tokens": self.max_completion_tokens or self.max_tokens,
            "presence_penalty": self.presence_penalty,
            "response_format": self.response_format,
            "seed": self.seed,
            "stop": [self.stop] if isinstance(self.stop, str) else self.stop,
            "temperature": self.temperature,
            "top_logprobs": self.top_logprobs if self.logprobs else None,
            "top_p": self.top_p,
        }
        return {name: value for name, value in given.items() if value is not None}

    def bound(self, model: BaseChatModel) -> Runnable[LanguageModelInput, AIMessage]:
        """Return the model with the request's tools bound to it, in the model's own way.

        Raises:
            NotImplementedError: There are tools and the model cannot use any.
            ValueError: The tool that is to be called is none of them.
        """
        if not self.tools:
            return model
        choice: object = self.tool_choice
        if isinstance(choice, ToolChoice):
            if choice.function.name not in {tool.function.name for tool in self.tools}:
                raise ValueError("tool_choice names none of the tools.")
            choice = choice.model_dump()
        given = {"parallel_tool_calls": self.parallel_tool_calls, "tool_choice": choice}
        options: dict[str, Any] = {
            name: value for name, value in given.items() if value is not None
        }
        tools = [tool.model_dump(exclude_unset=True) for tool in self.tools]
        return model.bind_tools(tools, **options)


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """What every part of one answer repeats."""

    id: str
    created: int
    model: str

    def wrap(self, kind: str, **fields: object) -> dict[str, object]:
        """Return one object of the answer: a `chat.completion` or a `chat.completion.chunk`."""
        head = {"id": self.id, "object": kind, "created": self.created, "model": self.model}
        return head | fields


def error_body(message: str, *, kind: str, code: str | None = None) -> dict[str, object]:
    """Return a body that OpenAI's clients turn into their own typed error."""
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def completion(
    message: AIMessage, head: Head, *, logprobs: bool = False, **more: object
) -> dict[str, object]:
    """Return a whole answer; without a `usage` field if the model did not say what it used.

    Args:
        message: What the model answered.
        head: Its id, time and model.
        logprobs: Whether the log-probabilities of its tokens go along, if the model told them.
        **more: Further fields of the answer, beyond OpenAI's own.
    """
    text = _encodable(str(message.text))
    answer: dict[str, object] = {"role": "assistant", "content": text}
    calls = _tool_calls(message)
    if calls:
        answer |= {"content": text or None, "tool_calls": calls}
    reason = _finish_reason(message.response_metadata, has_tool_calls=bool(calls))
    likely = _logprobs(message) if logprobs else None
    choice = {"index": 0, "message": answer, "logprobs": likely, "finish_reason": reason}
    usage = {} if message.usage_metadata is None else {"usage": _usage(message.usage_metadata)}
    return head.wrap("chat.completion", choices=[choice], **usage, **more)


async def completion_events(
    chunks: AsyncIterable[BaseMessage],
    head: Head,
    *,
    include_usage: bool,
    logprobs: bool = False,
    ending: Callable[[Mapping[str, Any]], Mapping[str, object]] | None = None,
) -> AsyncIterator[dict[str, object]]:
    """Yield the events of a streamed answer: role, text and tool calls, finish reason, usage.

    Args:
        chunks: The model's own stream. A model that cannot stream sends one whole message.
        head: What every event repeats.
        include_usage: End with the usage, if the model says what it used.
        logprobs: Whether the log-probabilities of tokens go along, if the model tells them.
        ending: Makes further fields of the last event from the metadata of the whole answer.
    """
    usage: UsageMetadata | None = None
    metadata: dict[str, Any] = {}
    has_tool_calls = False
    yield _event(head, {"role": "assistant", "content": ""})
    async for chunk in chunks:
        metadata |= {name: value for name, value in chunk.response_metadata.items() if value}
        if isinstance(chunk, AIMessage) and chunk.usage_metadata is not None:
            usage = add_usage(usage, chunk.usage_metadata)
        calls = _tool_call_deltas(chunk)
        has_tool_calls = has_tool_calls or bool(calls)
        delta = {"content": str(chunk.text)} if chunk.text else {}
        if delta or calls:
            likely = _logprobs(chunk) if logprobs else None
            yield _event(head, delta | ({"tool_calls": calls} if calls else {}), logprobs=likely)
    more = ending(metadata) if ending else {}
    finish = _event(head, {}, _finish_reason(metadata, has_tool_calls=has_tool_calls))
    if include_usage and usage is not None:
        yield finish
        yield head.wrap("chat.completion.chunk", choices=[], usage=_usage(usage), **more)
    else:
        yield {**finish, **more}


def _event(
    head: Head,
    delta: Mapping[str, object],
    reason: str | None = None,
    *,
    logprobs: Mapping[str, Any] | None = None,
) -> dict[str, object]:
    choice = {"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": reason}
    return head.wrap("chat.completion.chunk", choices=[choice])


def _logprobs(message: BaseMessage) -> Mapping[str, Any] | None:
    """Find the log-probabilities of a message's tokens; models tell them in OpenAI's own form."""
    told = message.response_metadata.get("logprobs")
    return told if isinstance(told, Mapping) else None


def _tool_calls(message: BaseMessage) -> list[dict[str, Any]]:
    calls: list[dict[str, Any]] = convert_to_openai_messages(message).get("tool_calls", [])
    # Arguments that are no JSON are the client's to judge, as they are with OpenAI.
    invalid = message.invalid_tool_calls if isinstance(message, AIMessage) else []
    return [*calls, *map(_raw_call, invalid)]


def _raw_call(call: InvalidToolCall) -> dict[str, Any]:
    function = {"name": call["name"], "arguments": call["args"] or ""}
    return {"type": "function", "id": call["id"], "function": function}


def _tool_call_deltas(chunk: BaseMessage) -> list[dict[str, Any]]:
    if not isinstance(chunk, AIMessageChunk):
        return [{"index": index} | call for index, call in enumerate(_tool_calls(chunk))]
    deltas: list[dict[str, Any]] = []
    for position, call in enumerate(chunk.tool_call_chunks):
        index = position if call["index"] is None else call["index"]
        delta: dict[str, Any] = {"index": index, "function": {"arguments": call["args"] or ""}}
        if call["name"]:  # the first piece of a call names it, the others only add arguments
            delta |= {"id": call["id"], "type": "function"}
            delta["function"]["name"] = call["name"]
        deltas.append(delta)
    return deltas


def _finish_reason(metadata: Mapping[str, Any], *, has_tool_calls: bool) -> str:
    """Translate whatever a provider calls its finish reason."""
    for name in ("finish_reason", "stop_reason", "done_reason"):
        reason = _FINISH_REASONS.get(str(metadata.get(name)))
        if reason is not None:
            return reason
    return "tool_calls" if has_tool_calls else "stop"


def _usage(usage: UsageMetadata) -> dict[str, object]:
    cached = usage.get("input_token_details", {}).get("cache_read", 0)
    return {
        "prompt_tokens": usage["input_tokens"],
        "completion_tokens": usage["output_tokens"],
        "total_tokens": usage["total_tokens"],
        "prompt_tokens_details": {"cached_tokens": cached},
    }


def _encodable(text: str) -> str:
    """Join the halves of characters that a model has sent one by one; "?" for a single half."""
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def sse(event: Mapping[str, object]) -> bytes:
    """Return one server-sent event.

    It is ASCII: half a character of a model's has no other form, and some clients take U+2028 and
    its like for the end of a line.
    """
    return f"data: {json.dumps(event)}\n\n".encode("ascii")
