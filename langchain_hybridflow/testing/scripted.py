"""A chat model that answers what a test tells it to, and remembers what it was asked."""

from __future__ import annotations

import asyncio
import inspect
import json
import re
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import Field, PrivateAttr

__all__ = ["ScriptEnded", "ScriptedChatModel", "count_words"]


class ScriptEnded(AssertionError):
    """A scripted model with `at_end="raise"` was called more often than it has responses."""


def count_words(text: str) -> int:
    """Count tokens as `ScriptedChatModel` does: one for each word.

    Example:
        >>> count_words("to be, or not to be")
        6
    """
    return len(text.split())


@dataclass(frozen=True, slots=True)
class _Answer:
    """One answer, ready to be sent whole or piece by piece."""

    message: AIMessage
    pieces: tuple[str, ...]


class ScriptedChatModel(BaseChatModel):
    """Answer from a script: the public fake for tests of routers, graphs and budgets.

    Streams natively, sync and async; counts one token a word; safe to share by threads and tasks.

    Args:
        responses: What to answer, call by call. A `str` or an `AIMessage` is the answer (tool
            calls included); a list of `str` is the answer in exactly these stream chunks; an
            exception is raised; a callable gets the messages and returns any of these (and, for
            async calls, may be a coroutine function).
        at_end: After the last response start again, repeat it, or raise `ScriptEnded`.
        model_name: What the answers say about who wrote them.
        max_tokens: Cut answers to this many words, `finish_reason` "length". A call may pass its
            own `max_tokens`.
        report_usage: Whether answers carry `usage_metadata`; some real servers send none.
        fail_after_chunks: Break every answer off after this many chunks, with `stream_error`.
        stream_error: What such a break raises.
        latency_s: Wait before the first chunk.
        chunk_latency_s: Wait before each further chunk.
        sleep: How the sync calls wait.
        asleep: How the async calls wait. It is awaited for waits of 0, too, so that other tasks
            get their turn as they do with a real model.

    Example:
        >>> shout = lambda messages: messages[-1].text.upper()
        >>> model = ScriptedChatModel(responses=["Paris.", shout])
        >>> model.invoke("Capital of France?").content
        'Paris.'
        >>> [chunk.content for chunk in model.stream("to be or not") if chunk.content]
        ['TO', ' BE', ' OR', ' NOT']
        >>> len(model.calls), model.calls[1][0].content
        (2, 'to be or not')
    """

    responses: list[Any]
    at_end: Literal["cycle", "repeat", "raise"] = "cycle"
    model_name: str = "scripted"
    max_tokens: int | None = None
    report_usage: bool = True
    fail_after_chunks: int | None = None
    stream_error: Exception = Field(default_factory=lambda: ConnectionError("The stream broke."))
    latency_s: float = 0.0
    chunk_latency_s: float = 0.0
    sleep: Callable[[float], None] = time.sleep
    asleep: Callable[[float], Awaitable[Any]] = asyncio.sleep

    _lock: Any = PrivateAttr(default_factory=threading.Lock)
    _calls: list[list[BaseMessage]] = PrivateAttr(default_factory=list)
    _call_kwargs: list[dict[str, Any]] = PrivateAttr(default_factory=list)
    _running: int = PrivateAttr(default=0)
    _max_running: int = PrivateAttr(default=0)

    @property
    def calls(self) -> list[list[BaseMessage]]:
        """The messages of each call so far, in the order in which the calls came."""
        with self._lock:
            return list(self._calls)

    @property
    def call_kwargs(self) -> list[dict[str, Any]]:
        """The keyword arguments of each call (`tools`, `max_tokens`, `stop`, ...)."""
        with self._lock:
            return list(self._call_kwargs)

    @property
    def max_concurrency_seen(self) -> int:
        """The largest number of calls that were under way at once."""
        with self._lock:
            return self._max_running

    @property
    def running(self) -> int:
        """The number of calls that are under way now."""
        with self._lock:
            return self._running

    @property
    def _llm_type(self) -> str:
        return "hybridflow-scripted"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model_name": self.model_name, "max_tokens": self.max_tokens}

    def bind_tools(
        self, tools: Sequence[Any], *, tool_choice: str | None = None, **kwargs: Any
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Bind tools as OpenAI dicts; the script decides whether the answer calls them."""
        formatted = [convert_to_openai_tool(tool) for tool in tools]
        if tool_choice is not None:
            kwargs["tool_choice"] = tool_choice
        return self.bind(tools=formatted, **kwargs)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        with self._call(messages, stop, kwargs) as script:
            answer = self._answer(_now(script(messages)), messages, stop, kwargs)
            for seconds in self._waits(answer):
                self.sleep(seconds)
            return self._result(answer)

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        with self._call(messages, stop, kwargs) as script:
            answer = self._answer(await _later(script(messages)), messages, stop, kwargs)
            for seconds in self._waits(answer):
                await self.asleep(seconds)
            return self._result(answer)

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        with self._call(messages, stop, kwargs) as script:
            answer = self._answer(_now(script(messages)), messages, stop, kwargs)
            for seconds, chunk in zip(self._waits(answer), _chunks(answer), strict=True):
                self.sleep(seconds)
                if run_manager is not None:
                    run_manager.on_llm_new_token(chunk.text, chunk=chunk)
                yield chunk

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        with self._call(messages, stop, kwargs) as script:
            answer = self._answer(await _later(script(messages)), messages, stop, kwargs)
            for seconds, chunk in zip(self._waits(answer), _chunks(answer), strict=True):
                await self.asleep(seconds)
                if run_manager is not None:
                    await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
                yield chunk

    @contextmanager
    def _call(
        self, messages: list[BaseMessage], stop: list[str] | None, kwargs: dict[str, Any]
    ) -> Iterator[Callable[[list[BaseMessage]], Any]]:
        """Record a call, count it as running, and hand out the response that is its turn."""
        with self._lock:
            index = len(self._calls)
            self._calls.append(list(messages))
            self._call_kwargs.append({**kwargs, **({"stop": stop} if stop else {})})
            self._running += 1
            self._max_running = max(self._max_running, self._running)
        try:
            response = self._response(index)
            yield response if callable(response) else lambda _: response
        finally:
            with self._lock:
                self._running -= 1

    def _response(self, index: int) -> Any:
        count = len(self.responses)
        if index >= count and (self.at_end == "raise" or not count):
            raise ScriptEnded(f"Call {index + 1} of a script of {count} responses.")
        return self.responses[min(index, count - 1) if self.at_end == "repeat" else index % count]

    def _answer(
        self,
        response: Any,
        messages: list[BaseMessage],
        stop: list[str] | None,
        kwargs: dict[str, Any],
    ) -> _Answer:
        if isinstance(response, BaseException):
            raise response
        scripted = response if isinstance(response, AIMessage) else AIMessage("")
        if isinstance(response, AIMessage):
            pieces = _split(response.text)
        else:
            pieces = _split(response) if isinstance(response, str) else tuple(response)
        limit = kwargs.get("max_tokens", self.max_tokens)
        pieces, finish_reason = _cut(pieces, stop or (), limit)
        if scripted.tool_calls:
            finish_reason = "tool_calls"
        text = "".join(pieces)
        usage = scripted.usage_metadata or _usage(messages, pieces, scripted)
        message = scripted.model_copy(
            update={
                "content": scripted.content if text == scripted.text else text,
                "usage_metadata": usage if self.report_usage else None,
                "response_metadata": {
                    "model_name": self.model_name,
                    "finish_reason": finish_reason,
                    **scripted.response_metadata,
                },
            }
        )
        return _Answer(message, pieces)

    def _waits(self, answer: _Answer) -> Iterator[float]:
        """Seconds to wait before each chunk; raises where the answer breaks off."""
        for index in range(len(answer.pieces) + 1):  # the last chunk has the metadata
            if self.fail_after_chunks is not None and index >= self.fail_after_chunks:
                raise self.stream_error
            yield self.chunk_latency_s if index else self.latency_s

    def _result(self, answer: _Answer) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=answer.message)])


def _now(response: Any) -> Any:
    if inspect.isawaitable(response):
        if inspect.iscoroutine(response):
            response.close()
        raise TypeError("A coroutine function as a response serves async calls only.")
    return response


async def _later(response: Any) -> Any:
    return await response if inspect.isawaitable(response) else response


def _split(text: str) -> tuple[str, ...]:
    """The words of a text with the space before them; joined again they are the text."""
    return tuple(re.findall(r"\s*\S+|\s+$", text))


def _cut(
    pieces: tuple[str, ...], stop: Sequence[str], limit: int | None
) -> tuple[tuple[str, ...], str]:
    """The pieces up to the first stop sequence, and at most `limit` words of them."""
    finish_reason = "stop"
    text = "".join(pieces)
    ends = [text.index(mark) for mark in stop if mark and mark in text]
    words = list(re.finditer(r"\S+", text))
    if limit is not None and len(words) > limit:
        limit_end = words[limit - 1].end() if limit > 0 else 0
        if not ends or limit_end <= min(ends):
            finish_reason = "length"
        ends.append(limit_end)
    if not ends:
        return pieces, finish_reason
    kept: list[str] = []
    left = min(ends)
    for piece in pieces:
        if left <= 0:
            break
        kept.append(piece[:left])
        left -= len(piece)
    return tuple(kept), finish_reason


def _usage(
    messages: Sequence[BaseMessage], pieces: Sequence[str], scripted: AIMessage
) -> UsageMetadata:
    sent = sum(count_words(message.text) for message in messages)
    calls = sum(count_words(f"{call['name']} {call['args']}") for call in scripted.tool_calls)
    received = count_words("".join(pieces)) + calls
    return UsageMetadata(input_tokens=sent, output_tokens=received, total_tokens=sent + received)


def _chunks(answer: _Answer) -> Iterator[ChatGenerationChunk]:
    """The answer piece by piece; tool calls and metadata come once, with the last chunk."""
    message = answer.message
    for piece in answer.pieces:
        yield ChatGenerationChunk(message=AIMessageChunk(content=piece, id=message.id))
    calls = [
        tool_call_chunk(
            name=call["name"], args=json.dumps(call["args"]), id=call["id"], index=index
        )
        for index, call in enumerate(message.tool_calls)
    ]
    last = AIMessageChunk(
        content="",
        id=message.id,
        tool_call_chunks=calls,
        usage_metadata=message.usage_metadata,
        response_metadata=message.response_metadata,
        additional_kwargs=message.additional_kwargs,
        chunk_position="last",
    )
    yield ChatGenerationChunk(message=last)
