"""A fake that can do whatever a capable chat model can do, by rule and without a network."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from hashlib import blake2b
from operator import itemgetter
from typing import Any, Literal

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.messages.tool import ToolCall, tool_call, tool_call_chunk
from langchain_core.output_parsers import (
    BaseOutputParser,
    JsonOutputParser,
    PydanticOutputParser,
)
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable, RunnableMap, RunnablePassthrough
from langchain_core.utils.function_calling import convert_to_json_schema, convert_to_openai_tool
from langchain_core.utils.pydantic import is_basemodel_subclass

from langchain_hybridflow.testing.filling import PromptWords
from langchain_hybridflow.testing.scripted import count_words

__all__ = ["ObedientChatModel"]

_ARGS_PIECE_CHARS = 7  # short, so that even small arguments come in several chunks
_SHORT_WORD_CHARS = 3  # "get", "my", "add": they say nothing about what a tool is for
_QUOTED_KEYS = re.compile(r"['\"`](\w+)['\"`]")

Method = Literal["function_calling", "json_mode", "json_schema"]


class ObedientChatModel(BaseChatModel):
    """Do as the prompt and the call options say: the public fake of a capable chat model.

    Where `ScriptedChatModel` says what it was told to say, this one reads its prompt. It calls
    the tools that the prompt names, with arguments taken from the prompt and the tool's JSON
    schema; it honours `tool_choice`, `parallel_tool_calls`, `response_format` (`json_object` and
    `json_schema`), `stop`, `max_tokens` and a `model` given with the call; it takes images, audio
    and files, reads tool results, and streams text word by word and tool calls piece by piece.
    The same prompt always gets the same answer. One word is one token.

    Args:
        model_name: What the answers say about who wrote them.
        max_tokens: Cut answers to this many words, `finish_reason` "length".
        temperature: Taken and ignored, as the answers are what they are.
        stop: Where to cut answers, unless the call says otherwise.
        report_usage: Whether answers carry `usage_metadata`; some real servers send none.

    Example:
        >>> def weather(city: str) -> str:
        ...     '''Tell the weather.'''
        >>> model = ObedientChatModel()
        >>> model.bind_tools([weather]).invoke("How is the weather in Paris?").tool_calls[0]["args"]
        {'city': 'Paris'}
        >>> model.invoke("Hello there").content
        'You said: Hello there'
    """

    model_name: str = "obedient"
    max_tokens: int | None = None
    temperature: float | None = None
    stop: list[str] | None = None
    report_usage: bool = True

    @classmethod
    def is_lc_serializable(cls) -> bool:
        """It holds plain values only."""
        return True

    @property
    def _llm_type(self) -> str:
        return "hybridflow-obedient"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model_name": self.model_name, "max_tokens": self.max_tokens}

    def bind_tools(
        self,
        tools: Sequence[Any],
        *,
        tool_choice: str | dict[str, Any] | bool | None = None,
        strict: bool | None = None,
        parallel_tool_calls: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Bind tools as OpenAI dicts, each option under OpenAI's own name."""
        given = {"tool_choice": tool_choice, "parallel_tool_calls": parallel_tool_calls}
        options = {name: value for name, value in given.items() if value is not None}
        formatted = [convert_to_openai_tool(tool, strict=strict) for tool in tools]
        return self.bind(tools=formatted, **options, **kwargs)

    def with_structured_output(
        self,
        schema: dict[str, Any] | type | None = None,
        *,
        method: Method = "function_calling",
        include_raw: bool = False,
        strict: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, Any]:
        """Answer in the form of a schema: by a tool call, by JSON mode, or by JSON schema.

        Raises:
            ValueError: There is no schema, and the method is not "json_mode".
        """
        if schema is None and method != "json_mode":
            raise ValueError(f"The method {method!r} needs a schema.")
        if schema is not None and method == "function_calling":
            return super().with_structured_output(schema, include_raw=include_raw, **kwargs)
        response_format: dict[str, Any] = {"type": "json_object"}
        if schema is not None and method == "json_schema":
            wanted = convert_to_json_schema(schema, strict=strict)
            name = wanted.get("title", "answer")
            response_format = {
                "type": "json_schema",
                "json_schema": {"name": name, "schema": wanted},
            }
        model = self.bind(
            response_format=response_format,
            ls_structured_output_format={"kwargs": {"method": method}, "schema": schema},
            **kwargs,
        )
        parser: BaseOutputParser[Any] = JsonOutputParser()
        if isinstance(schema, type) and is_basemodel_subclass(schema):
            parser = PydanticOutputParser(pydantic_object=schema)
        if not include_raw:
            return model | parser
        parsed = RunnablePassthrough.assign(
            parsed=itemgetter("raw") | parser, parsing_error=lambda _: None
        )
        failed = RunnablePassthrough.assign(parsed=lambda _: None)
        return RunnableMap(raw=model) | parsed.with_fallbacks(
            [failed], exception_key="parsing_error"
        )

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return ChatResult(
            generations=[ChatGeneration(message=self._answer(messages, stop, kwargs))]
        )

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return self._generate(messages, stop, **kwargs)

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        for chunk in _chunks(self._answer(messages, stop, kwargs)):
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
        for chunk in _chunks(self._answer(messages, stop, kwargs)):
            if run_manager is not None:
                await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
            yield chunk

    def _answer(
        self, messages: list[BaseMessage], stop: list[str] | None, options: Mapping[str, Any]
    ) -> AIMessage:
        calls = _tool_calls(messages, options)
        marks = self.stop if stop is None else stop
        limit = options.get("max_tokens", self.max_tokens)
        text, reason = ("", "tool_calls") if calls else _cut(_say(messages, options), marks, limit)
        usage = _usage(messages, options, text, calls)
        return AIMessage(
            content=text,
            tool_calls=calls,
            usage_metadata=usage if self.report_usage else None,
            response_metadata={
                "model_name": options.get("model", self.model_name),
                "finish_reason": reason,
            },
        )


def _prompt(messages: Sequence[BaseMessage]) -> str:
    return next((message.text for message in reversed(messages) if message.type == "human"), "")


def _say(messages: Sequence[BaseMessage], options: Mapping[str, Any]) -> str:
    """The answer in words, or in JSON where the call asks for it."""
    prompt = _prompt(messages)
    wanted = options.get("response_format") or {"type": "text"}
    if wanted["type"] == "json_schema":
        value = PromptWords(prompt).fill(wanted["json_schema"]["schema"])
        return json.dumps(value, ensure_ascii=False)
    if wanted["type"] == "json_object":
        keys = _QUOTED_KEYS.findall(prompt) or ["answer"]
        return json.dumps(dict.fromkeys(keys, prompt), ensure_ascii=False)
    last = messages[-1]
    if last.type == "tool":
        return f"The tool said: {last.text}"
    kinds = [str(block["type"]) for block in last.content_blocks if block["type"] != "text"]
    seen = f" (and I got: {', '.join(kinds)})" if kinds else ""
    return f"You said: {prompt}{seen}"


def _tool_calls(messages: Sequence[BaseMessage], options: Mapping[str, Any]) -> list[ToolCall]:
    functions = [tool["function"] for tool in options.get("tools") or () if "function" in tool]
    choice = options.get("tool_choice") or "auto"
    prompt = _prompt(messages)
    if choice == "none" or (choice == "auto" and messages[-1].type == "tool"):
        return []
    named = choice["function"]["name"] if isinstance(choice, Mapping) else choice
    eligible = [function for function in functions if function["name"] == named]
    if not eligible:  # who must call something once more goes on to what is still to be called
        called = {call["name"] for message in messages for call in _calls_in(message)}
        fresh = [function for function in functions if function["name"] not in called]
        eligible = fresh or functions
    calls = [
        (function["name"], arguments)
        for function in eligible
        for arguments in _asked_for(function, prompt)
    ]
    if not calls and choice != "auto" and eligible:
        first = eligible[0]
        calls = [(first["name"], PromptWords(prompt).fill(first.get("parameters") or {}))]
    if options.get("parallel_tool_calls") is False:
        calls = calls[:1]
    return [
        tool_call(name=name, args=arguments or {}, id=_call_id(len(messages), index, name, prompt))
        for index, (name, arguments) in enumerate(calls)
    ]


def _calls_in(message: BaseMessage) -> list[ToolCall]:
    return message.tool_calls if isinstance(message, AIMessage) else []


def _asked_for(function: Mapping[str, Any], prompt: str) -> list[Any]:
    """The arguments of each call of a function that the prompt asks for.

    It does so by writing the call - `add(1, 2)` - or by using a word of the function's name.
    """
    name, schema = str(function["name"]), function.get("parameters") or {}
    written = re.findall(rf"\b{re.escape(name)}\(([^)]*)\)", prompt)
    if written:
        return [PromptWords(arguments).fill(schema) for arguments in written]
    words = {word for word in name.lower().split("_") if len(word) > _SHORT_WORD_CHARS}
    mentioned = words & set(re.findall(r"\w+", prompt.lower()))
    return [PromptWords(prompt).fill(schema)] if mentioned else []


def _call_id(turn: int, index: int, name: str, prompt: str) -> str:
    key = f"{turn}\x00{index}\x00{name}\x00{prompt}".encode("utf-8", "surrogatepass")
    return f"call_{blake2b(key, digest_size=8).hexdigest()}"


def _cut(text: str, stop: Sequence[str] | None, limit: int | None) -> tuple[str, str]:
    """The text up to the first stop sequence and the word limit, and why it ends there."""
    end = min((text.index(mark) for mark in stop or () if mark and mark in text), default=len(text))
    words = list(re.finditer(r"\S+", text[:end]))
    if limit is None or len(words) <= limit:
        return text[:end], "stop"
    return text[: words[limit - 1].end()], "length"


def _usage(
    messages: Sequence[BaseMessage],
    options: Mapping[str, Any],
    text: str,
    calls: Sequence[ToolCall],
) -> UsageMetadata:
    tools = json.dumps(options.get("tools") or [], ensure_ascii=False)
    sent = sum(count_words(message.text) for message in messages) + count_words(tools)
    received = count_words(text) + sum(count_words(f"{c['name']} {c['args']}") for c in calls)
    return UsageMetadata(input_tokens=sent, output_tokens=received, total_tokens=sent + received)


def _chunks(answer: AIMessage) -> Iterator[ChatGenerationChunk]:
    """Text word by word, tool calls piece by piece, and the metadata once, with the last chunk."""
    for word in re.findall(r"\s*\S+|\s+$", str(answer.text)):
        yield ChatGenerationChunk(message=AIMessageChunk(content=word))
    for index, call in enumerate(answer.tool_calls):
        head = tool_call_chunk(name=call["name"], args="", id=call["id"], index=index)
        yield ChatGenerationChunk(message=AIMessageChunk(content="", tool_call_chunks=[head]))
        arguments = json.dumps(call["args"], ensure_ascii=False)
        for start in range(0, len(arguments), _ARGS_PIECE_CHARS):
            piece = tool_call_chunk(
                args=arguments[start : start + _ARGS_PIECE_CHARS], index=index, name=None, id=None
            )
            yield ChatGenerationChunk(message=AIMessageChunk(content="", tool_call_chunks=[piece]))
    last = AIMessageChunk(
        content="",
        usage_metadata=answer.usage_metadata,
        response_metadata=answer.response_metadata,
        chunk_position="last",
    )
    yield ChatGenerationChunk(message=last)
