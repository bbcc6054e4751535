"""Who answers a chat request: a chat model, or a graph that looks like one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any, Final, Protocol

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda

from langchain_hybridflow.openai_wire import ChatRequest
from langchain_hybridflow.serving.problems import Refused

__all__ = ["Answerer", "GraphAnswerer", "ModelAnswerer", "answerer_of", "asking"]


class Answerer(Protocol):
    """Answers chat requests of OpenAI's form."""

    def check(self, asked: ChatRequest) -> None:
        """Refuse what cannot be honoured, before anything is spent.

        Raises:
            Refused: It asks for something that this cannot do.
        """
        ...

    async def answer(self, asked: ChatRequest, config: RunnableConfig) -> AIMessage:
        """Return the whole answer."""
        ...

    def stream(self, asked: ChatRequest, config: RunnableConfig) -> AsyncIterator[BaseMessage]:
        """Return the answer in chunks; the last one carries its usage and its metadata."""
        ...


def answerer_of(served: BaseChatModel | Runnable[Any, Any]) -> Answerer:
    """Return who answers for a chat model, or for a compiled `HybridFlowGraph`."""
    return ModelAnswerer(served) if isinstance(served, BaseChatModel) else GraphAnswerer(served)


class ModelAnswerer:
    """Lets a chat model answer."""

    def __init__(self, model: BaseChatModel) -> None:
        self._model = model

    def check(self, asked: ChatRequest) -> None:
        """Refuse tools of a model that knows none."""
        try:
            asked.bound(self._model)
        except NotImplementedError as error:
            message = "tools: this model cannot call any."
            raise Refused(400, "unsupported", message) from error
        except (KeyError, TypeError, ValueError) as error:
            message = (
                "tools: each must be a function with a name and a schema; see tool_choice, too."
            )
            raise Refused(400, "invalid_input", message) from error

    async def answer(self, asked: ChatRequest, config: RunnableConfig) -> AIMessage:
        """Return the model's answer."""
        return await asked.bound(self._model).ainvoke(asked.prompt(), config, **asked.options())

    def stream(self, asked: ChatRequest, config: RunnableConfig) -> AsyncIterator[BaseMessage]:
        """Return the model's stream."""
        return asked.bound(self._model).astream(asked.prompt(), config, **asked.options())


# These change what an answer is. Others, such as a temperature, are hints, which a graph leaves to
# the models that were set up for it.
_NOT_BY_A_GRAPH: Final = ("tools", "tool_choice", "response_format", "stop")


class GraphAnswerer:
    """Lets a `HybridFlowGraph` answer; what streams is the final answer, as it is written.

    The usage is that of all its calls, those of the plan included.
    """

    def __init__(self, graph: Runnable[Any, Any]) -> None:
        self._graph = graph

    def check(self, asked: ChatRequest) -> None:
        """Refuse what only a model can do."""
        given = [name for name in _NOT_BY_A_GRAPH if getattr(asked, name) is not None]
        if given:
            message = (
                f"{', '.join(given)}: a plan of subtasks takes no such option. Ask a model instead."
            )
            raise Refused(400, "unsupported", message)

    async def answer(self, asked: ChatRequest, config: RunnableConfig) -> AIMessage:
        """Return the graph's last message, with the usage of the whole run.

        Raises:
            Refused: The run has stopped before it, for somebody to approve something.
        """
        out = await self._graph.ainvoke({"messages": asked.prompt()}, config)
        last = out["messages"][-1]
        if "hybridflow" not in last.response_metadata:
            raise _unanswered()
        return _with_usage(last)

    def stream(self, asked: ChatRequest, config: RunnableConfig) -> AsyncIterator[BaseMessage]:
        """Return the tokens of the last subtask, then whatever else the answer says."""
        return _answer_of(self._graph, asked.prompt(), config)


def asking(graph: Runnable[Any, Any]) -> Runnable[str, str]:
    """Return a runnable from a question to its answer, streamed, for a page with two boxes.

    Args:
        graph: A compiled `HybridFlowGraph`.

    Example:
        >>> from langchain_hybridflow import HybridFlowGraph, RoutedChatModel
        >>> from langchain_hybridflow.sandbox import sandbox_cloud, sandbox_edge
        >>> model = RoutedChatModel(edge=sandbox_edge(time_scale=0), cloud=sandbox_cloud())
        >>> ask = asking(HybridFlowGraph(model).compile())
        >>> ask.get_input_jsonschema()["type"]
        'string'
    """

    async def ask(question: str, config: RunnableConfig) -> AsyncIterator[str]:
        async for chunk in _answer_of(graph, [HumanMessage(question)], config):
            yield str(chunk.text)

    # It takes generators, too, though its types do not say so.
    named: Runnable[str, str] = RunnableLambda(ask, name="ask")  # type: ignore[arg-type]
    return named.with_types(input_type=str, output_type=str)


async def _answer_of(
    graph: Runnable[Any, Any], messages: list[BaseMessage], config: RunnableConfig
) -> AsyncIterator[BaseMessage]:
    modes: Any = ["messages", "updates"]
    shown, answered = "", False
    parts = graph.astream({"messages": messages}, config, stream_mode=modes)
    async with aclosing(parts):  # type: ignore[type-var] # it is a generator
        async for mode, part in parts:
            if mode == "messages" and _is_final(*part) and part[0].text:
                shown += part[0].text
                yield AIMessageChunk(content=str(part[0].text))
            elif mode == "updates":
                for message in (part.get("answer") or {}).get("messages", ()):
                    answered = True
                    yield _rest(_with_usage(message), shown)
    if not answered:
        raise _unanswered()


def _unanswered() -> Refused:
    message = (
        "The run stopped before its answer, for somebody to approve something, which cannot be "
        "done here."
    )
    # No 409, after which OpenAI's clients would ask, and pay, twice more.
    return Refused(422, "unanswered", message)


def _is_final(message: BaseMessage, metadata: Mapping[str, Any]) -> bool:
    """Whether it is a piece of the last subtask's answer, while that is being written."""
    return isinstance(message, AIMessageChunk) and metadata.get("hybridflow_role") == "generate"


def _rest(message: AIMessage, shown: str) -> AIMessageChunk:
    """What the answer says beyond what was streamed: nothing, unless its writer failed."""
    text = str(message.text)
    rest = text.removeprefix(shown) if text.startswith(shown) else f"\n\n{text}"
    return AIMessageChunk(
        content="" if text == shown.strip() else rest,
        response_metadata=message.response_metadata,
        usage_metadata=message.usage_metadata,
    )


def _with_usage(message: AIMessage) -> AIMessage:
    totals = message.response_metadata["hybridflow"]["totals"]
    sent = sum(totals[tier]["input_tokens"] for tier in ("edge", "cloud"))
    received = sum(totals[tier]["output_tokens"] for tier in ("edge", "cloud"))
    usage = UsageMetadata(input_tokens=sent, output_tokens=received, total_tokens=sent + received)
    return message.model_copy(update={"usage_metadata": usage})
