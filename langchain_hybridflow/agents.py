"""Routing and a budget for agents of `langchain` that are built around another model.

A `RoutedChatModel` can be an agent's model by itself: `create_agent(model=routed, ...)`. This
module is for agents whose model is not yours to choose. It needs the extra `agents`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from typing_extensions import override

from langchain_hybridflow.chat_models import RoutedChatModel
from langchain_hybridflow.errors import MissingExtraError

try:
    from langchain.agents.middleware.types import (
        AgentMiddleware,
        AgentState,
        ContextT,
        ModelRequest,
        ModelResponse,
        ResponseT,
    )
except ImportError as error:
    raise MissingExtraError("HybridFlowMiddleware", "agents") from error

__all__ = ["HybridFlowMiddleware"]


class HybridFlowMiddleware(AgentMiddleware[AgentState[ResponseT], ContextT, ResponseT]):
    """Let an agent's model calls be answered by a routed model, under its budget.

    Only the model of a call is exchanged; its messages, system prompt, tools, `tool_choice`,
    settings and response format stay. Where the form of structured output is left to the agent, it
    follows the routed model's profile. Each answer carries its record in
    `response_metadata["hybridflow"]`. Errors are those of `RoutedChatModel`, and agents that are
    given the same model share one budget.

    The last word on the model is that of the last middleware in the agent's list. Stand before one
    that falls back to another model, so that it can.

    Args:
        model: Answers in place of the agent's own model, which is not called.

    Example:
        >>> from langchain.agents import create_agent
        >>> from langchain_hybridflow import Budget
        >>> from langchain_hybridflow.testing import ObedientChatModel
        >>> routed = RoutedChatModel(
        ...     edge=ObedientChatModel(),
        ...     cloud=ObedientChatModel(),
        ...     budget=Budget(max_cloud_calls=9),
        ... )
        >>> agent = create_agent(ObedientChatModel(), middleware=[HybridFlowMiddleware(routed)])
        >>> answer = agent.invoke({"messages": [("user", "Hello")]})["messages"][-1]
        >>> answer.text, answer.response_metadata["hybridflow"]["tier"]
        ('You said: Hello', 'edge')
    """

    def __init__(self, model: RoutedChatModel) -> None:
        super().__init__()
        self.model = model

    @override
    def wrap_model_call(
        self,
        request: ModelRequest[ContextT],
        handler: Callable[[ModelRequest[ContextT]], ModelResponse[ResponseT]],
    ) -> ModelResponse[ResponseT]:
        """Let the routed model answer."""
        return handler(request.override(model=self.model))

    @override
    async def awrap_model_call(
        self,
        request: ModelRequest[ContextT],
        handler: Callable[[ModelRequest[ContextT]], Awaitable[ModelResponse[ResponseT]]],
    ) -> ModelResponse[ResponseT]:
        """Let the routed model answer."""
        return await handler(request.override(model=self.model))
