"""The only place that reaches into the wrapped chat models.

A wrapper that calls `inner.invoke()` opens a second run: callbacks count each token twice and
streams show it twice. So the inner model's own generation methods are called under the wrapper's
run. They are protected by name yet stable by use: every chat model of the ecosystem implements
them. A contract test holds them to what is assumed here.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Generator, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.language_models.base import LangSmithParams
from langchain_core.messages import AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult

from langchain_hybridflow.calls.options import OUTPUT_CAP_FIELDS, own_options
from langchain_hybridflow.routing import Tier

__all__ = ["TierModel", "as_chunk", "model_name"]

logger = logging.getLogger(__name__)

GenerationT = TypeVar("GenerationT", bound=ChatGeneration)

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
    def of(
        cls, tier: Tier, model: BaseChatModel, *, connect_timeout_s: float | None = None
    ) -> TierModel:
        """Take a model into a tier.

        Models of langchain-openai with a custom `base_url` stream no usage unless told to, and a
        ledger would then book nothing; they are copied (clients shared) with it switched on,
        unless the user has switched it off: some servers refuse the option. Their clients also
        repeat a call that timed out, behind the ledger's back; the copy does not. And where no
        time-out was given they wait for a connection for ever; the copy does not, either.

        Args:
            tier: Its place.
            model: The model.
            connect_timeout_s: Longest wait for a connection, in seconds, for such a model.
        """
        update = _with_client_of_ours(model, connect_timeout_s)
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
        if not options:
            return self, {}
        model, own = own_options(self.model, options)
        asked = own.get("model")  # a call may ask for another model of the same provider
        name = asked if isinstance(asked, str) and asked else self.name
        if model is self.model and name == self.name:
            return self, own
        return replace(self, model=model, name=name), own

    def output_cap(self, requested: dict[str, Any], default: int) -> int:
        """Return the longest answer this call can give, in tokens: asked for, set, or default."""
        asked = _caps(requested) if requested else None
        if asked:
            return max(asked)
        fields = vars(self.model)  # asking a pydantic model for what it lacks takes microseconds
        for field in OUTPUT_CAP_FIELDS:
            own = fields.get(field)
            if own and _count(own) and field not in requested:  # asked for as None, it is lifted
                return _count(own)
        return default

    def cap_kwargs(self, requested: dict[str, Any], cap: int) -> dict[str, int]:
        """Return the call option that holds the model to `cap` tokens; empty if it has none."""
        if requested and _caps(requested):
            return {}
        fields = vars(self.model)
        for field in OUTPUT_CAP_FIELDS:
            if field in fields:
                held = field not in requested and _count(fields[field])
                return {} if held else {field: cap}
        return {}

    def logprob_options(self, requested: Mapping[str, Any], *, top: int = 0) -> dict[str, int]:
        """Return the call options that ask for log-probabilities; empty if the model has none.

        Args:
            requested: The options that the call has.
            top: How many alternatives to each token to ask for, too.
        """
        known = type(self.model).model_fields
        if "logprobs" in requested or "logprobs" not in known:
            return {}
        if top and "top_logprobs" in known and "top_logprobs" not in requested:
            return {"logprobs": True, "top_logprobs": top}
        return {"logprobs": True}

    def traced_as(self, stop: list[str] | None, **options: Any) -> LangSmithParams:
        """Return what traces say of a call: provider, model, settings."""
        return self.model._get_ls_params(stop=stop, **options)

    def answers(self, requested: dict[str, Any]) -> int:
        """Return how many answers this call generates side by side; each is billed."""
        return _count(requested.get("n")) or _count(vars(self.model).get("n")) or 1

    def generate(
        self,
        messages: list[BaseMessage],
        *,
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        """Generate under the caller's run, with the model's own cache and rate limiter."""
        return _unlabelled(
            self.model._generate_with_cache(messages, stop=stop, run_manager=run_manager, **kwargs)
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
        return _unlabelled(
            await self.model._agenerate_with_cache(
                messages, stop=stop, run_manager=run_manager, **kwargs
            )
        )

    def stream(
        self, messages: list[BaseMessage], *, stop: list[str] | None = None, **kwargs: Any
    ) -> Generator[ChatGenerationChunk]:
        """Stream without a run of its own: the caller reports the tokens."""
        if not self.model._should_stream(async_api=False, **{**kwargs, "stream": True}):
            yield as_chunk(self.generate(messages, stop=stop, run_manager=None, **kwargs))
            return
        if self.model.rate_limiter:
            self.model.rate_limiter.acquire(blocking=True)
        chunks = self.model._stream(messages, stop=stop, **kwargs)
        try:
            for chunk in chunks:
                yield _without_record(chunk)
        finally:
            if isinstance(chunks, Generator):
                chunks.close()

    async def astream(
        self, messages: list[BaseMessage], *, stop: list[str] | None = None, **kwargs: Any
    ) -> AsyncGenerator[ChatGenerationChunk]:
        """Async twin of `stream`."""
        if not self.model._should_stream(async_api=True, **{**kwargs, "stream": True}):
            yield as_chunk(await self.agenerate(messages, stop=stop, run_manager=None, **kwargs))
            return
        if self.model.rate_limiter:
            await self.model.rate_limiter.aacquire(blocking=True)
        chunks = self.model._astream(messages, stop=stop, **kwargs)
        try:
            async for chunk in chunks:
                yield _without_record(chunk)
        finally:
            if isinstance(chunks, AsyncGenerator):
                await chunks.aclose()


def _with_client_of_ours(model: BaseChatModel, connect_timeout_s: float | None) -> dict[str, Any]:
    """Return what to change in a model so that its client makes one request for each call.

    And does not wait for its connection for ever.
    """
    roots = [getattr(model, name, None) for name in ("root_client", "root_async_client")]
    ours = all(hasattr(root, "with_options") for root in roots)
    repeats = getattr(model, "max_retries", 0) != 0  # unset, the clients take their own number
    waits = ours and connect_timeout_s is not None and _waits_for_ever(roots)
    if not repeats and not waits:
        return {}
    if not ours:
        if model._llm_type == "hybridflow-routed":  # its retries are not billed, as ours are not
            return {}
        logger.warning(
            "The client of %s may repeat a call on its own, and each request can be billed. "
            "Construct the model with max_retries=0; RoutedChatModel retries what is safe to.",
            model_name(model),
        )
        return {}
    settings: dict[str, Any] = {"max_retries": 0}
    if waits:
        settings["timeout"] = _connecting_within(connect_timeout_s)
    client, async_client = (root.with_options(**settings) for root in roots if root is not None)
    return {
        "max_retries": 0,
        "root_client": client,
        "root_async_client": async_client,
        "client": client.chat.completions,
        "async_client": async_client.chat.completions,
    }


def _waits_for_ever(clients: Iterable[Any]) -> bool:
    """Whether clients of openai have no time-out, which is what langchain-openai gives them."""
    return all(getattr(client, "timeout", 0) is None for client in clients)


def _connecting_within(seconds: float | None) -> Any:
    from openai import Timeout  # such a client is at hand, so it is loaded

    return Timeout(None, connect=seconds)


def _caps(requested: Mapping[str, Any]) -> list[int]:
    """The longest answers that a call asks for, under whatever name."""
    return [cap for field in OUTPUT_CAP_FIELDS if (cap := _count(requested.get(field)))]


def _count(value: object) -> int:
    return value if type(value) is int and value > 0 else 0


def _unlabelled(result: ChatResult) -> ChatResult:
    """An answer without the record that an inner routed model has put on it."""
    generations = [_without_record(generation) for generation in result.generations]
    if all(new is old for new, old in zip(generations, result.generations, strict=True)):
        return result
    return ChatResult(generations=generations, llm_output=result.llm_output)


def _without_record(generation: GenerationT) -> GenerationT:
    """The same without a record of ours: where chunks are merged, two would be added up."""
    message = generation.message
    if "hybridflow" not in message.response_metadata:
        return generation
    kept = {
        name: value for name, value in message.response_metadata.items() if name != "hybridflow"
    }
    inner = message.model_copy(update={"response_metadata": kept})
    return generation.model_copy(update={"message": inner})


def as_chunk(result: ChatResult) -> ChatGenerationChunk:
    """Return a whole answer as one piece of a stream."""
    generation = result.generations[0]
    fields = generation.message.model_dump(exclude={"type"})
    return ChatGenerationChunk(
        message=AIMessageChunk(**fields), generation_info=generation.generation_info
    )
