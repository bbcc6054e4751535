"""The only place that reaches into the wrapped chat models.

A wrapper that calls `inner.invoke()` opens a second run: callbacks count each token twice and
streams show it twice. So the inner model's own generation methods are called under the wrapper's
run. They are protected by name yet stable by use: every chat model of the ecosystem implements
them. A contract test holds them to what is assumed here.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Generator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult

from langchain_hybridflow.calls.options import OUTPUT_CAP_FIELDS, own_options
from langchain_hybridflow.routing import Tier

__all__ = ["TierModel", "model_name"]

logger = logging.getLogger(__name__)

_NAME_FIELDS = ("model_name", "model", "model_id", "deployment_name")


def model_name(model: BaseChatModel) -> str:
    """Return the name under which a model's provider knows it, or its class name."""
    for field in _NAME_FIELDS:
        value = getattr(model, field, None)
        if isinstance(value, str) and value:
            return value
    return type(model).__name__


@dataclass(frozen=True, slots=True)
class TierModel:
    """A chat model in its place as edge or cloud.

    Attributes:
        tier: Its place.
        model: The model that is called.
        name: The name under which it is priced and reported.
        origin: The model as it was given; `model` may be a copy of it.
        provider: The provider under whose name LangSmith knows the model.
    """

    tier: Tier
    model: BaseChatModel
    name: str
    origin: BaseChatModel
    provider: str | None = None

    @classmethod
    def of(cls, tier: Tier, model: BaseChatModel) -> TierModel:
        """Take a model into a tier.

        Models of langchain-openai with a custom `base_url` stream no usage unless told to, and a
        ledger would then book nothing; they are copied (clients shared) with it switched on,
        unless the user has switched it off: some servers refuse the option. Their clients also
        repeat a call that timed out, behind the ledger's back; the copy does not.
        """
        update = _without_hidden_retries(model)
        if getattr(model, "stream_usage", True) is None:
            update["stream_usage"] = True
        called = model.model_copy(update=update) if update else model
        provider = model._get_ls_params().get("ls_provider")
        return cls(tier=tier, model=called, name=model_name(model), origin=model, provider=provider)

    def prepared(self, options: Mapping[str, Any]) -> tuple[TierModel, dict[str, Any]]:
        """Return whom a call with neutral options really asks, and the options in its own form.

        Raises:
            NotImplementedError: The call needs tools, and the model has none.
        """
        model, own = own_options(self.model, options)
        asked = own.get("model")  # a call may ask for another model of the same provider
        name = asked if isinstance(asked, str) and asked else self.name
        if model is self.model and name == self.name:
            return self, own
        return replace(self, model=model, name=name), own

    def output_cap(self, requested: dict[str, Any], default: int) -> int:
        """Return the longest answer this call can give, in tokens: asked for, set, or default."""
        asked = [cap for field in OUTPUT_CAP_FIELDS if (cap := _count(requested.get(field)))]
        if asked:
            return max(asked)
        for field in OUTPUT_CAP_FIELDS:
            own = _count(getattr(self.model, field, None))
            if own and field not in requested:  # asked for as None, it is lifted
                return own
        return default

    def cap_kwargs(self, requested: dict[str, Any], cap: int) -> dict[str, int]:
        """Return the call option that holds the model to `cap` tokens; empty if it has none."""
        if any(_count(requested.get(field)) for field in OUTPUT_CAP_FIELDS):
            return {}
        for field in OUTPUT_CAP_FIELDS:
            if field in type(self.model).model_fields:
                held = field not in requested and _count(getattr(self.model, field))
                return {} if held else {field: cap}
        return {}

    def answers(self, requested: dict[str, Any]) -> int:
        """Return how many answers this call generates side by side; each is billed."""
        return _count(requested.get("n")) or _count(getattr(self.model, "n", None)) or 1

    def generate(
        self,
        messages: list[BaseMessage],
        *,
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        """Generate under the caller's run, with the model's own cache and rate limiter."""
        return self.model._generate_with_cache(
            messages, stop=stop, run_manager=run_manager, **kwargs
        )

    async def agenerate(
        self,
        messages: list[BaseMessage],
        *,
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        """Async twin of `generate`."""
        return await self.model._agenerate_with_cache(
            messages, stop=stop, run_manager=run_manager, **kwargs
        )

    def stream(
        self, messages: list[BaseMessage], *, stop: list[str] | None = None, **kwargs: Any
    ) -> Generator[ChatGenerationChunk]:
        """Stream without a run of its own: the caller reports the tokens."""
        if not self.model._should_stream(async_api=False, **{**kwargs, "stream": True}):
            yield _as_chunk(self.generate(messages, stop=stop, run_manager=None, **kwargs))
            return
        if self.model.rate_limiter:
            self.model.rate_limiter.acquire(blocking=True)
        yield from self.model._stream(messages, stop=stop, **kwargs)

    async def astream(
        self, messages: list[BaseMessage], *, stop: list[str] | None = None, **kwargs: Any
    ) -> AsyncGenerator[ChatGenerationChunk]:
        """Async twin of `stream`."""
        if not self.model._should_stream(async_api=True, **{**kwargs, "stream": True}):
            yield _as_chunk(await self.agenerate(messages, stop=stop, run_manager=None, **kwargs))
            return
        if self.model.rate_limiter:
            await self.model.rate_limiter.aacquire(blocking=True)
        chunks = self.model._astream(messages, stop=stop, **kwargs)
        try:
            async for chunk in chunks:
                yield chunk
        finally:
            if isinstance(chunks, AsyncGenerator):
                await chunks.aclose()


def _without_hidden_retries(model: BaseChatModel) -> dict[str, Any]:
    """Return what to change in a model so that its client makes one request for each call."""
    if getattr(model, "max_retries", 0) == 0:  # unset, their clients take a number of their own
        return {}
    roots = [getattr(model, name, None) for name in ("root_client", "root_async_client")]
    if not all(hasattr(root, "with_options") for root in roots):
        logger.warning(
            "The client of %s may repeat a call on its own, and each request can be billed. "
            "Construct the model with max_retries=0; RoutedChatModel retries what is safe to.",
            model_name(model),
        )
        return {}
    client, async_client = (root.with_options(max_retries=0) for root in roots if root is not None)
    return {
        "max_retries": 0,
        "root_client": client,
        "root_async_client": async_client,
        "client": client.chat.completions,
        "async_client": async_client.chat.completions,
    }


def _count(value: object) -> int:
    return value if type(value) is int and value > 0 else 0


def _as_chunk(result: ChatResult) -> ChatGenerationChunk:
    generation = result.generations[0]
    fields = generation.message.model_dump(exclude={"type"})
    return ChatGenerationChunk(
        message=AIMessageChunk(**fields), generation_info=generation.generation_info
    )
