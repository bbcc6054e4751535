"""What a call's config says: which thread it belongs to, who traces it, and who pays for it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler, BaseCallbackManager, BaseRunManager
from langchain_core.language_models import LanguageModelInput
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.runnables import RunnableConfig, ensure_config
from langchain_core.utils.uuid import uuid7
from pydantic import PrivateAttr
from typing_extensions import override

from langchain_hybridflow.budget import RunBudget, ScopeValues
from langchain_hybridflow.calls import Answer
from langchain_hybridflow.calls.asking import ask_a_person
from langchain_hybridflow.calls.conversation import (
    cached_prompt_tokens,
    conversation_tier,
    tier_of_answer,
)
from langchain_hybridflow.calls.scoping import tag_here, values_here
from langchain_hybridflow.chat_models.base import TwoTierModel
from langchain_hybridflow.routing.sticky import ThreadTiers

__all__ = ["CallContext", "ContextualModel"]

_CONTEXT: Final = "hybridflow_context"
"""The call option under which the context travels; it is taken out before anybody sees it."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class CallContext:
    """What a call's config says.

    Attributes:
        scopes: Whom the call is for.
        run_id: The call's run in traces.
        handlers: Who may keep that run, tracers among them.
        thread_id: The thread that the call belongs to.
        tag: What kind of request it is.
    """

    scopes: ScopeValues
    run_id: UUID | None = None
    handlers: Sequence[BaseCallbackHandler] = ()
    thread_id: str | None = None
    tag: str | None = None


class ContextualModel(TwoTierModel):
    """The part of a `RoutedChatModel` that knows what its calls belong to, and who pays for them.

    LangChain does not hand a call's config down to where a model answers, and a stream does not
    even learn its run. So what is needed of the config is read at each way in, and travels among
    the call's options. There it is always written anew: no option of a caller can say whom a call
    is for.
    """

    _threads: ThreadTiers = PrivateAttr(default_factory=ThreadTiers)

    @override
    def invoke(
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> AIMessage:
        return super().invoke(input, self._contextual(config, kwargs), stop=stop, **kwargs)

    @override
    async def ainvoke(
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> AIMessage:
        return await super().ainvoke(input, self._contextual(config, kwargs), stop=stop, **kwargs)

    # Streams are not generators around one: whoever closes the stream closes the call itself.

    @override
    def stream(
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> Iterator[AIMessageChunk]:
        return super().stream(input, self._contextual(config, kwargs), stop=stop, **kwargs)

    @override
    def astream(
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[AIMessageChunk]:
        return super().astream(input, self._contextual(config, kwargs), stop=stop, **kwargs)

    @override
    def stream_events(
        self, input: LanguageModelInput, config: RunnableConfig | None = None, **kwargs: Any
    ) -> Any:
        return super().stream_events(input, self._contextual(config, kwargs), **kwargs)

    @override
    def astream_events(
        self, input: LanguageModelInput, config: RunnableConfig | None = None, **kwargs: Any
    ) -> Any:
        return super().astream_events(input, self._contextual(config, kwargs), **kwargs)

    @override
    def _get_invocation_params(
        self, stop: list[str] | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        kwargs.pop(_CONTEXT, None)
        return super()._get_invocation_params(stop=stop, **kwargs)

    def _contextual(self, config: RunnableConfig | None, options: dict[str, Any]) -> RunnableConfig:
        """Put the context among the options of a call; returns the config with the run's id."""
        whole = ensure_config(config)
        thread_id = whole["configurable"].get("thread_id")
        run_id = whole.get("run_id") or uuid7()
        options[_CONTEXT] = CallContext(
            scopes=values_here(self.budget, config),
            run_id=run_id,
            handlers=_handlers(whole.get("callbacks")),
            thread_id=None if thread_id is None else str(thread_id),
            tag=tag_here(config),
        )
        return {**(config or {}), "run_id": run_id}

    def _take_context(
        self, options: dict[str, Any], run_manager: BaseRunManager | None
    ) -> CallContext:
        """Take the context out of a call's options; the run manager knows better who listens."""
        told = options.pop(_CONTEXT, None)
        if not isinstance(told, CallContext):  # not by one of the ways in, or somebody's own
            told = CallContext(scopes=values_here(self.budget), tag=tag_here())
        if run_manager is None:
            return told
        return replace(told, run_id=run_manager.run_id, handlers=run_manager.handlers)

    def _run_of(self, context: CallContext) -> RunBudget:
        """Start the run of a call in the budget of whoever it is for."""
        ask = ask_a_person if self.budget.on_exhausted == "ask" else None
        return self.budget.start_run(scope_values=context.scopes, ask=ask)

    def _conversation(self, messages: list[BaseMessage], context: CallContext) -> dict[str, Any]:
        """What a router is told of the conversation that a call belongs to, and of its kind."""
        tier = conversation_tier(messages)
        if tier is None and self.sticky is not None and context.thread_id is not None:
            tier = self._threads.get(context.thread_id)
        target = None if tier is None else self.core.models[tier]
        cached = cached_prompt_tokens(messages, tier, budget=self.budget, target=target)
        return {"previous_tier": tier, "cached_prompt_tokens": cached, "tag": context.tag}

    def _remember(self, context: CallContext, answer: Answer) -> None:
        """Note where an answer has put its thread."""
        if self.sticky is None or context.thread_id is None:
            return
        decision = {"tier": answer.decision.tier, "router": answer.decision.router}
        tier = tier_of_answer({"tier": answer.purchase.attempt.tier, "decision": decision})
        if tier is not None:
            self._threads.note(context.thread_id, tier)


def _handlers(callbacks: Any) -> Sequence[BaseCallbackHandler]:
    return callbacks.handlers if isinstance(callbacks, BaseCallbackManager) else callbacks or ()
