"""A chat model as it looks from outside while its reply is read under the answer-or-ask contract.

Whoever listens to a run of a model - traces, event streams, counters of tokens - hears what the
model says. Under the contract that may be tags and a marker, and what nobody is to see. This model
is called in its place: it streams from it, stops it when it asks for help, and says the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing, closing
from typing import Any, Self

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.language_models.base import LangSmithParams
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from pydantic import ConfigDict, Field
from typing_extensions import override

from langchain_hybridflow.calls.buying import usage_of_call
from langchain_hybridflow.calls.drive import merged
from langchain_hybridflow.calls.replies import Reading
from langchain_hybridflow.calls.steps import Call
from langchain_hybridflow.calls.tether import RunAbandoned

__all__ = ["ReadModel"]


class ReadModel(BaseChatModel):
    """Stands for the model of one call, whose chunks it notes in the step.

    Args:
        step: The call, with its reading.
        on_draft: Is told of each draft, if there is a reader for them.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    step: Any = Field(exclude=True)
    on_draft: Any = Field(default=None, exclude=True)
    cache: Any = Field(default=False, exclude=True)  # the model's own; ours would skip the reading

    @classmethod
    def of(cls, step: Call, *, on_draft: Callable[[ChatGenerationChunk], None]) -> Self:
        """Stand for the model of a call."""
        return cls(step=step, on_draft=on_draft)

    @property
    def _llm_type(self) -> str:
        return "hybridflow-read"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model_name": self.step.target.name}

    @override
    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        params: LangSmithParams = self.step.target.traced_as(stop, **kwargs)
        return params

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        step: Call = self.step
        with closing(step.target.stream(messages, stop=stop, **kwargs)) as chunks:
            for chunk in chunks:
                self._take(chunk)
                if step.is_decided:
                    break
        return self._said()

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        step: Call = self.step
        async with aclosing(step.target.astream(messages, stop=stop, **kwargs)) as chunks:
            async for chunk in chunks:
                self._take(chunk)
                if step.is_decided:
                    break
        return self._said()

    def result(self, said: AIMessage) -> ChatResult:
        """Return what the model has really said, under the name of what others have heard."""
        result = merged(self.step)
        message = result.generations[0].message
        message.id = message.id or said.id
        return result

    def _take(self, chunk: ChatGenerationChunk) -> None:
        for draft in self.step.take(chunk):
            self.on_draft(draft)
        if self.step.given_up:
            raise RunAbandoned

    def _said(self) -> ChatResult:
        """What it said, for those who listen to it."""
        step: Call = self.step
        reading: Reading | None = step.reading
        result = merged(step)
        message = result.generations[0].message
        if reading is None or not isinstance(message, AIMessage):
            return result
        cleaned = reading.cleaned(result, reading.read(message))
        said = cleaned.generations[0].message
        if isinstance(said, AIMessage) and step.is_decided:  # its end, with the count, is not there
            usage = usage_of_call(step, message)
            said.usage_metadata = UsageMetadata(
                input_tokens=usage.input_tokens,
                output_tokens=usage.output_tokens,
                total_tokens=usage.total_tokens,
            )
            said.response_metadata = {"model_name": step.target.name, **said.response_metadata}
        return cleaned
