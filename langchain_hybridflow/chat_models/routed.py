"""One chat model made of two: each call goes to the edge or the cloud, under one budget."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, closing
from typing import Any, TypeVar

from langchain_core.callbacks import (
    AsyncCallbackManagerForLLMRun,
    BaseRunManager,
    CallbackManagerForLLMRun,
)
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
    Purchase,
    StreamedScript,
    adrive,
    drive,
    request_of,
)
from langchain_hybridflow.calls.listening import overheard
from langchain_hybridflow.calls.options import STRUCTURED_OUTPUT, prompted_schemas
from langchain_hybridflow.calls.steps import Call, Script
from langchain_hybridflow.chat_models.asides import ReportAsides
from langchain_hybridflow.chat_models.context import CallContext, ContextualModel
from langchain_hybridflow.chat_models.labels import (
    label_chunk,
    label_run,
    labelled,
    last_human_text,
)
from langchain_hybridflow.chat_models.structured import (
    Method,
    StructuredAnswerParser,
    parsed_by,
    usual_method,
)
from langchain_hybridflow.chat_models.tools import ToolChoice, ToolLike, neutral_tools
from langchain_hybridflow.errors import ConfigurationError

__all__ = ["RoutedChatModel"]

_MethodT = TypeVar("_MethodT", bound=Callable[..., Any])


def _signed(method: _MethodT) -> _MethodT:
    """Write a method's signature down: LangChain asks for it at every call."""
    method.__signature__ = inspect.signature(method)  # type: ignore[attr-defined]
    return method


class RoutedChatModel(ContextualModel):
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
        router: Decides the tier of each call; by default the one that ships trained,
            `DefaultRouter()`. With `SelfRouter()` the edge tries first, and answers or asks.
        policy: Says which tiers may see a call at all, before the router is asked and before each
            fallback: `KeepLocal()`, or a function from a `RouteRequest` to tiers. If it fails,
            only the edge may.
        on_edge_error: "fallback" lets the cloud answer when the edge fails, "raise" does not.
        on_cloud_error: "fallback" lets the edge answer when the cloud fails, "raise" does not.
        on_router_error: The tier to take when the router itself fails, or "raise".
        sticky: "thread" keeps a conversation on the cloud once it is there; what is on the edge
            still goes up when the router says so. Only the budget, a failure or a filter brings an
            answer back to the edge, and the next call tries the cloud again. Where a conversation
            is, is read from its answers' metadata; where they have lost it, this process remembers
            the last 10,000 threads by the `thread_id` of the call's config. For calls of the
            model itself: the subtasks of a graph are no conversation.
        verify: Looks at each edge answer that the cloud could give instead, and says whether it
            will do: `JudgeVerifier()`, `SelfConsistency()`, `LogprobVerifier()` of
            `langchain_hybridflow.verify`, or a function from a `VerifyRequest` to a bool or a
            `Verdict`, async or not. If not, the cloud is asked, too; if it is refused or fails,
            the edge answer stands, and the answer says `degraded`. Until it is accepted nothing of
            an edge answer is shown; then a stream brings it piece by piece as it was written. Both
            answers, and what the check has bought, are in `attempts` and are paid for; the
            answer's own usage is that of the model that gave it, the rest is counted in runs of
            its own, each under its own model's name.
        on_verify_error: What happens to an edge answer when the check itself fails: "accept" or
            "escalate".
        breaker: When a tier that keeps failing is left alone, and for how long; `None` never. It
            counts for each tier and for this model, in all its threads and event loops, and for
            copies of it; a pickle starts anew. A call that would have gone there is handled as one
            that failed, at once and without being charged.
        connect_timeout_s: Longest wait for a connection, in seconds, for models of langchain-openai
            that were given no time-out: they would wait for ever. `None` leaves them as they are.
        edge_timeout_s: Longest wait for a whole answer of the edge, in seconds, each retry alone.
            What a call that was given up is charged, is said in `Attempt`.
        cloud_timeout_s: The same for the cloud.
        first_token_timeout_s: Longest wait for the first part of a streamed answer, in seconds;
            after it the other tier may answer. A model that cannot stream brings its whole answer
            as one part; a call that is not streamed knows no such moment.
        max_output_tokens: The longest answer to reserve money for, in tokens, where neither the
            model nor the call sets one. Under a limit on USD or tokens, cloud answers are held
            to it.
        max_retries: How often a tier is asked again after a rate limit (429, with its Retry-After)
            or a server error, neither of which is billed. Time-outs are not repeated: they may
            have been billed. The retries of langchain-openai's own clients are switched off.
        telemetry: What is told to OpenTelemetry: a `Telemetry`; by default, if it is installed,
            spans and metrics without any text, to the application's own providers; `False` for
            nothing.
        temperature: A call option of every call that does not give its own, as are the next two.
        max_tokens: The longest answer of a call, in tokens, under the model's own name for it.
        stop: Where the models stop writing.
        streaming: Whether `invoke` streams from the models, too, so that callbacks see tokens.

    Raises:
        ConfigurationError: A tier is not a chat model, the router has no `route` method, or an
            argument belongs to the tiers' own models, such as a key.
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

    @_signed
    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        manager = None if self._keeps_quiet(kwargs) else run_manager

        def ask(call: Call) -> ChatResult:
            listener = overheard(call, manager if call.shown else None)
            return call.target.generate(call.messages, run_manager=listener, **call.options)

        answer = drive(self._script(messages, stop, kwargs, run_manager), ask)
        return labelled(answer)

    @_signed
    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        manager = None if self._keeps_quiet(kwargs) else run_manager

        def ask(call: Call) -> Awaitable[ChatResult]:
            listener = overheard(call, manager if call.shown else None)
            return call.target.agenerate(call.messages, run_manager=listener, **call.options)

        answer = await adrive(self._script(messages, stop, kwargs, run_manager), ask)
        return labelled(answer)

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        streamed = StreamedScript(
            self._script(messages, stop, kwargs, run_manager),
            lambda call: call.target.stream(call.messages, **call.options),
        )
        with closing(iter(streamed)) as chunks:
            for chunk in chunks:
                if run_manager:
                    run_manager.on_llm_new_token(chunk.text, chunk=chunk)
                yield chunk
        yield label_chunk(streamed.result)

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        streamed = AsyncStreamedScript(
            self._script(messages, stop, kwargs, run_manager),
            lambda call: call.target.astream(call.messages, **call.options),
        )
        async with aclosing(aiter(streamed)) as chunks:
            async for chunk in chunks:
                if run_manager:
                    await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
                yield chunk
        yield label_chunk(streamed.result)

    def _script(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None,
        options: dict[str, Any],
        run_manager: BaseRunManager | None,
    ) -> Script[Answer]:
        core = self.core
        context = self._take_context(options, run_manager)
        schemas = prompted_schemas(options)
        if stop is not None:
            options = {**options, "stop": stop}
        request = request_of(
            messages,
            {**core.options, **options},
            read_options=core.policy is not None,
            text=last_human_text(messages),
            prompt_tokens=estimate_prompt_tokens(messages, tools=schemas),
            **self._conversation(messages, context),
        )
        asides: list[Purchase] = []
        script = core.answer(
            request,
            messages,
            run=self._run_of(context),
            lease_id="call",  # the run is this call's own
            options=options,
            asides=asides,
        )
        return self._noted(script, context, asides)

    def _noted(
        self, script: Script[Answer], context: CallContext, asides: list[Purchase]
    ) -> Script[Answer]:
        """Run a call, and note who answered where it is looked for later."""
        try:
            answer = yield from script
        except BaseException:
            if asides:  # paid for, though the call has no answer or nobody waits for it
                yield ReportAsides(asides, context, self.callbacks)
            raise
        if answer.asides:
            yield ReportAsides(answer.asides, context, self.callbacks)
        label_run(context.handlers, context.run_id, answer)
        self._remember(context, answer)
        return answer

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
