"""One chat model made of two: each call goes to the edge or the cloud, under one budget."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, closing
from typing import Any, Literal, Self

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.ai import UsageMetadata, add_usage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from pydantic import Field, PrivateAttr, field_validator, model_validator

from langchain_hybridflow.budget import Budget, Usage, estimate_prompt_tokens
from langchain_hybridflow.calls import (
    Answer,
    AsyncStreamedScript,
    OnError,
    RoutingCore,
    StreamedScript,
    TierModel,
    adrive,
    drive,
)
from langchain_hybridflow.calls.steps import Script
from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.routing import DifficultyRouter, RouteRequest, Tier

__all__ = ["RoutedChatModel"]


class RoutedChatModel(BaseChatModel):
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
        on_edge_error: "fallback" lets the cloud answer when the edge fails, "raise" does not.
        on_cloud_error: "fallback" lets the edge answer when the cloud fails, "raise" does not.
        on_router_error: The tier to take when the router itself fails, or "raise".
        max_output_tokens: The longest answer to reserve money for, in tokens, where neither the
            model nor the call sets one. Under a limit on USD or tokens, cloud answers are held
            to it.
        max_retries: How often a tier is asked again after a rate limit (429, with its Retry-After)
            or a server error, neither of which is billed. Time-outs are not repeated: they may
            have been billed. The retries of langchain-openai's own clients are switched off.

    Raises:
        ConfigurationError: A tier is not a chat model, or the router has no `route` method.
        UnknownPriceError: USD are limited and nobody has said what the cloud model costs.
        BudgetExceeded: On a call, if the budget refuses it and `on_exhausted` is "raise".
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

    edge: BaseChatModel
    cloud: BaseChatModel
    budget: Budget = Field(default_factory=Budget)
    router: Any = Field(default_factory=DifficultyRouter)
    on_edge_error: OnError = "fallback"
    on_cloud_error: OnError = "fallback"
    on_router_error: Literal["edge", "cloud", "raise"] = "edge"
    max_output_tokens: int = Field(default=1024, gt=0)
    max_retries: int = Field(default=2, ge=0)

    # The inner models keep their own caches. One of ours would serve an answer of one tier to a
    # call that is routed to the other.
    cache: Any = Field(default=False, exclude=True)

    _core: tuple[tuple[object, ...], RoutingCore] | None = PrivateAttr(default=None)

    @field_validator("edge", "cloud", mode="before")
    @classmethod
    def _check_is_chat_model(cls, value: object) -> object:
        if not isinstance(value, BaseChatModel):
            raise ConfigurationError(
                f"edge and cloud must be chat models, got {type(value).__name__}. Give the model "
                f"itself, without bind(): call options go to RoutedChatModel.bind()."
            )
        return value

    @field_validator("router")
    @classmethod
    def _check_is_router(cls, value: object) -> object:
        if not callable(getattr(value, "route", None)):
            raise ConfigurationError(
                f"A router has a method route(request) -> RouteDecision; "
                f"{type(value).__name__} has none."
            )
        return value

    @model_validator(mode="after")
    def _check_cloud_has_price(self) -> Self:
        self.budget.quote("cloud", self.core.models["cloud"].name, Usage(0, 0))
        return self

    @property
    def core(self) -> RoutingCore:
        """The routing core that this model's calls go through; a graph uses the same one."""
        rules = (self.on_edge_error, self.on_cloud_error, self.on_router_error)
        parts = (self.edge, self.cloud, self.budget, self.router)
        key = (*map(id, parts), *rules, self.max_output_tokens, self.max_retries)
        if self._core is None or self._core[0] != key:  # fields can be assigned and copied over
            self._core = (key, self._build_core())
        return self._core[1]

    def _build_core(self) -> RoutingCore:
        models: dict[Tier, TierModel] = {
            "edge": TierModel.of("edge", self.edge),
            "cloud": TierModel.of("cloud", self.cloud),
        }
        return RoutingCore(
            models=models,
            router=self.router,
            budget=self.budget,
            on_edge_error=self.on_edge_error,
            on_cloud_error=self.on_cloud_error,
            on_router_error=self.on_router_error,
            max_output_tokens=self.max_output_tokens,
            max_retries=self.max_retries,
        )

    @property
    def _llm_type(self) -> str:
        return "hybridflow-routed"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {
            "edge": self.core.models["edge"].name,
            "cloud": self.core.models["cloud"].name,
            "router": type(self.router).__name__,
        }

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        answer = drive(
            self._script(messages, kwargs),
            lambda call: call.target.generate(
                call.messages, stop=stop, run_manager=run_manager, **call.options
            ),
        )
        return _labelled(answer)

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        answer = await adrive(
            self._script(messages, kwargs),
            lambda call: call.target.agenerate(
                call.messages, stop=stop, run_manager=run_manager, **call.options
            ),
        )
        return _labelled(answer)

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        streamed = StreamedScript(
            self._script(messages, kwargs),
            lambda call: call.target.stream(call.messages, stop=stop, **call.options),
        )
        with closing(iter(streamed)) as chunks:
            for chunk in chunks:
                if run_manager:
                    run_manager.on_llm_new_token(chunk.text, chunk=chunk)
                yield chunk
        yield _label_chunk(streamed.result)

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        streamed = AsyncStreamedScript(
            self._script(messages, kwargs),
            lambda call: call.target.astream(call.messages, stop=stop, **call.options),
        )
        async with aclosing(aiter(streamed)) as chunks:
            async for chunk in chunks:
                if run_manager:
                    await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
                yield chunk
        yield _label_chunk(streamed.result)

    def _script(self, messages: list[BaseMessage], options: dict[str, Any]) -> Script[Answer]:
        return self.core.answer(
            RouteRequest(
                text=last_human_text(messages),
                prompt_tokens=estimate_prompt_tokens(messages, tools=options.get("tools")),
            ),
            messages,
            run=self.budget.start_run(),
            lease_id=uuid.uuid4().hex,
            options=options,
        )


def last_human_text(messages: list[BaseMessage]) -> str:
    """Return the text of the last human message, or of the last message if there is none.

    Example:
        >>> from langchain_core.messages import AIMessage, HumanMessage
        >>> last_human_text([HumanMessage("Why?"), AIMessage("Because.")])
        'Why?'
    """
    for message in reversed(messages):
        if message.type == "human":
            return message.text
    return messages[-1].text if messages else ""


def _labelled(answer: Answer) -> ChatResult:
    """The answering model's result, with our record beside its own metadata."""
    result = answer.purchase.result
    message = answer.purchase.message
    metadata = {
        "model_name": answer.purchase.attempt.model,
        **message.response_metadata,
        "hybridflow": answer.metadata(),
    }
    update: dict[str, Any] = {"response_metadata": metadata}
    missing = _missing_usage(answer)
    if missing:
        update["usage_metadata"] = add_usage(_reported_usage(message), missing)
    first = result.generations[0]
    labelled = ChatGeneration(
        message=message.model_copy(update=update), generation_info=first.generation_info
    )
    return ChatResult(generations=[labelled, *result.generations[1:]], llm_output=result.llm_output)


def _label_chunk(answer: Answer) -> ChatGenerationChunk:
    """Our record as one last, empty chunk: merging adds up what stands in more than one."""
    message = answer.purchase.message
    metadata: dict[str, Any] = {"hybridflow": answer.metadata()}
    generation = answer.purchase.result.generations[0]
    if "model_name" not in {**message.response_metadata, **(generation.generation_info or {})}:
        metadata["model_name"] = answer.purchase.attempt.model
    return ChatGenerationChunk(
        message=AIMessageChunk(
            content="",
            id=message.id,
            response_metadata=metadata,
            usage_metadata=_missing_usage(answer),
            chunk_position="last",
        )
    )


def _missing_usage(answer: Answer) -> UsageMetadata | None:
    """What has to be added to the provider's usage to make it what was booked."""
    usage, reported = answer.purchase.usage, _reported_usage(answer.purchase.message)
    if not usage.estimated:
        return None
    sent = usage.input_tokens - reported["input_tokens"]
    received = usage.output_tokens - reported["output_tokens"]
    return UsageMetadata(
        input_tokens=sent,
        output_tokens=received,
        total_tokens=usage.total_tokens - reported["total_tokens"],
    )


def _reported_usage(message: AIMessage) -> UsageMetadata:
    nothing = UsageMetadata(input_tokens=0, output_tokens=0, total_tokens=0)
    return message.usage_metadata or nothing
