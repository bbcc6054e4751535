"""One chat model made of two: each call goes to the edge or the cloud, under one budget."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import aclosing, closing
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import LanguageModelInput
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.utils.function_calling import convert_to_openai_tool
from typing_extensions import override

from langchain_hybridflow.budget import estimate_prompt_tokens
from langchain_hybridflow.calls import (
    Answer,
    AsyncStreamedScript,
    StreamedScript,
    TierModel,
    adrive,
    drive,
    request_of,
)
from langchain_hybridflow.calls.options import STRUCTURED_OUTPUT, prompted_schemas
from langchain_hybridflow.calls.steps import Script
from langchain_hybridflow.chat_models.base import TwoTierModel
from langchain_hybridflow.chat_models.labels import label_chunk, labelled, last_human_text
from langchain_hybridflow.chat_models.structured import (
    Method,
    StructuredAnswerParser,
    parsed_by,
    usual_method,
)
from langchain_hybridflow.chat_models.tools import ToolChoice, ToolLike, neutral_tools
from langchain_hybridflow.errors import ConfigurationError

__all__ = ["RoutedChatModel"]


class RoutedChatModel(TwoTierModel):
    """A chat model that answers each call on the edge or in the cloud.

    It stands wherever a chat model stands. Each call is routed, its worst case is reserved in the
    budget, the chosen model answers under this call's own run - so callbacks, usage and streams
    count it once - and what it really cost is booked. If the chosen tier fails before its first
    streamed chunk, the other one may answer, as a purchase of its own.

    `response_metadata["hybridflow"]` of the answer says who answered, why, and what it cost;
    `model_name` there is always the answering model's own.

    Args:
        edge: The cheap model close by. Free unless the budget's price table knows its name.
        cloud: The expensive model.
        budget: What may be spent. Without one nothing is limited, only counted.
        router: Decides the tier of each call; by default `DifficultyRouter()`.
        policy: Says which tiers may see a call at all, before the router is asked and before each
            fallback: `KeepLocal()`, or a function from a `RouteRequest` to tiers. If it fails,
            only the edge may.
        on_edge_error: "fallback" lets the cloud answer when the edge fails, "raise" does not.
        on_cloud_error: "fallback" lets the edge answer when the cloud fails, "raise" does not.
        on_router_error: The tier to take when the router itself fails, or "raise".
        max_output_tokens: The longest answer to reserve money for, in tokens, where neither the
            model nor the call sets one. Under a limit on USD or tokens, cloud answers are held
            to it.
        max_retries: How often a tier is asked again after a rate limit (429, with its Retry-After)
            or a server error, neither of which is billed. Time-outs are not repeated: they may
            have been billed. The retries of langchain-openai's own clients are switched off.
        temperature: A call option of every call that does not give its own, as are the next two.
        max_tokens: The longest answer of a call, in tokens, under the model's own name for it.
        stop: Where the models stop writing.
        streaming: Whether `invoke` streams from the models, too, so that callbacks see tokens.

    Raises:
        ConfigurationError: A tier is not a chat model, the router has no `route` method, or an
            argument belongs to the tiers' own models, such as a key or a time-out.
        UnknownPriceError: USD are limited and nobody has said what the cloud model costs.
        BudgetExceeded: On a call, if the budget refuses it and `on_exhausted` is "raise".
        CapabilityError: On a call that neither tier can answer, by their profiles.
        PolicyViolation: On a call, if the policy allows no tier that can answer it.
        ModelCallError: On a call, if no tier could answer, or a stream broke in the middle.

    Example:
        >>> from langchain_hybridflow import Budget, RoutedChatModel
        >>> from langchain_hybridflow.sandbox import sandbox_cloud, sandbox_edge
        >>> model = RoutedChatModel(
        ...     edge=sandbox_edge(time_scale=0),
        ...     cloud=sandbox_cloud(time_scale=0),
        ...     budget=Budget(max_cloud_calls=1),
        ... )
        >>> model.invoke("Hello!").response_metadata["hybridflow"]["tier"]
        'edge'
    """

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        manager = None if self._keeps_quiet(kwargs) else run_manager
        answer = drive(
            self._script(messages, stop, kwargs),
            lambda call: call.target.generate(call.messages, run_manager=manager, **call.options),
        )
        return labelled(answer, self._answering(answer))

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        manager = None if self._keeps_quiet(kwargs) else run_manager
        answer = await adrive(
            self._script(messages, stop, kwargs),
            lambda call: call.target.agenerate(call.messages, run_manager=manager, **call.options),
        )
        return labelled(answer, self._answering(answer))

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        streamed = StreamedScript(
            self._script(messages, stop, kwargs),
            lambda call: call.target.stream(call.messages, **call.options),
        )
        with closing(iter(streamed)) as chunks:
            for chunk in chunks:
                if run_manager:
                    run_manager.on_llm_new_token(chunk.text, chunk=chunk)
                yield chunk
        yield label_chunk(streamed.result, self._answering(streamed.result))

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        streamed = AsyncStreamedScript(
            self._script(messages, stop, kwargs),
            lambda call: call.target.astream(call.messages, **call.options),
        )
        async with aclosing(aiter(streamed)) as chunks:
            async for chunk in chunks:
                if run_manager:
                    await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
                yield chunk
        yield label_chunk(streamed.result, self._answering(streamed.result))

    def _answering(self, answer: Answer) -> TierModel:
        return self.core.models[answer.purchase.attempt.tier]

    def _script(
        self, messages: list[BaseMessage], stop: list[str] | None, options: dict[str, Any]
    ) -> Script[Answer]:
        core = self.core
        schemas = prompted_schemas(options)
        if stop is not None:
            options = {**options, "stop": stop}
        request = request_of(
            messages,
            {**core.options, **options},
            read_options=core.policy is not None,
            text=last_human_text(messages),
            prompt_tokens=estimate_prompt_tokens(messages, tools=schemas),
        )
        return core.answer(
            request,
            messages,
            run=self.budget.start_run(),
            lease_id=uuid.uuid4().hex,
            options=options,
        )

    def _keeps_quiet(self, options: Mapping[str, Any]) -> bool:
        """Whether no tokens may be shown, even if the answering model streams by itself."""
        if self.disable_streaming == "tool_calling":
            return bool(options.get("tools") or options.get(STRUCTURED_OUTPUT))
        return bool(self.disable_streaming)

    @override
    def _should_stream(self, *, async_api: bool, run_manager: Any = None, **kwargs: Any) -> bool:
        # LangChain looks for tools only; structured output may call one, too.
        return not self._keeps_quiet(kwargs) and super()._should_stream(
            async_api=async_api, run_manager=run_manager, **kwargs
        )

    @override
    def bind_tools(
        self,
        tools: Sequence[ToolLike],
        *,
        tool_choice: ToolChoice | None = None,
        strict: bool | None = None,
        parallel_tool_calls: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Let the answering model call tools.

        The tools are kept in a neutral form. Whichever model is chosen for a call binds them in
        its own way, so every option means on each tier what that tier's `bind_tools` makes of it.

        Args:
            tools: Functions, classes, LangChain tools, or dicts.
            tool_choice: A tool's name, "auto", "none", "any", or OpenAI's dict.
            strict: Whether arguments must follow the schemas exactly, where a model can do that.
            parallel_tool_calls: Whether an answer may hold more than one call.
            **kwargs: Other call options.

        Example:
            >>> from langchain_hybridflow.testing import ObedientChatModel
            >>> def weather(city: str) -> str:
            ...     '''Tell the weather.'''
            >>> model = RoutedChatModel(edge=ObedientChatModel(), cloud=ObedientChatModel())
            >>> model.bind_tools([weather]).invoke("Is there good weather in Rome?").tool_calls[0][
            ...     "args"
            ... ]
            {'city': 'Rome'}
        """
        given = {
            "tool_choice": tool_choice or None,
            "strict": strict,
            "parallel_tool_calls": parallel_tool_calls,
        }
        options = {name: value for name, value in given.items() if value is not None}
        return self.bind(tools=neutral_tools(tools, strict=strict), **options, **kwargs)

    @override
    def with_structured_output(
        self,
        schema: dict[str, Any] | type | None = None,
        *,
        method: Method | None = None,
        include_raw: bool = False,
        strict: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, Any]:
        """Let the answering model answer in the form of a schema.

        Whichever model is chosen for a call is asked in its own way; the answer is read wherever
        that model has put it.

        Args:
            schema: A pydantic class, a `TypedDict`, or a JSON schema; `None` for any JSON, with
                the method "json_mode".
            method: "function_calling", "json_mode" or "json_schema"; by default the one that each
                model takes by itself.
            include_raw: Return the answer itself, too: a dict of `raw`, `parsed`, `parsing_error`.
            strict: Whether the schema must be followed exactly, where a model can do that.
            **kwargs: Other call options.

        Raises:
            ConfigurationError: There is no schema, and the method is not "json_mode".

        Example:
            >>> from pydantic import BaseModel
            >>> from langchain_hybridflow.testing import ObedientChatModel
            >>> class City(BaseModel):
            ...     name: str
            >>> model = RoutedChatModel(edge=ObedientChatModel(), cloud=ObedientChatModel())
            >>> model.with_structured_output(City).invoke("I was in Rome.")
            City(name='Rome')
        """
        if schema is None and method != "json_mode":
            raise ConfigurationError("with_structured_output needs a schema but in json_mode.")
        method = method or usual_method(schema)
        # What the schema adds to the prompt is worked out once and not at every call.
        prompted = None if schema is None else convert_to_openai_tool(schema)
        wish = {"schema": schema, "method": method, "strict": strict, "prompted": prompted}
        how = {"method": method or "as the answering model likes", "strict": strict}
        model = self.bind(
            **{STRUCTURED_OUTPUT: wish},
            ls_structured_output_format={"kwargs": how, "schema": schema},
            **kwargs,
        )
        return parsed_by(StructuredAnswerParser(schema_=schema), model, include_raw=include_raw)
