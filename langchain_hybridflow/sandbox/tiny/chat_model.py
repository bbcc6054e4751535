"""The tiny model as a chat model: tokens are really generated, and may really be wrong."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import LangSmithParams, ModelProfile
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from pydantic import Field, model_validator

from langchain_hybridflow.answer_or_ask import ASK_MARKER, NO_HELP
from langchain_hybridflow.sandbox.chat_model import SandboxChatModel, sandbox_edge
from langchain_hybridflow.sandbox.profiles import TINY_NAME
from langchain_hybridflow.sandbox.tiny.reading import question_of
from langchain_hybridflow.sandbox.tiny.runtime import SHIPPED, TinyLlama, check_extra, loaded
from langchain_hybridflow.sandbox.tiny.speaking import Drawing, Said, Token, Utterance, draw
from langchain_hybridflow.sandbox.tokens import count_message_tokens, tokenize
from langchain_hybridflow.sandbox.writing import DO_NOT_KNOW

__all__ = ["TinyChatModel", "sandbox_tiny_edge"]

# About as fast as the simulated edge model, whose tokens have four characters.
_TTFT_S: Final = 0.15
_TOKENS_PER_S: Final = 200.0


@dataclass(frozen=True, slots=True)
class _Speech:
    """One answer on its way: what is said, to how long a prompt, and how much is told with it."""

    utterance: Utterance
    prompt_tokens: int
    top: int | None


class TinyChatModel(BaseChatModel):
    """Answers puzzles with a language model of a million parameters, which runs in this process.

    It knows two kinds of questions, "What is 12 + 7 * 3?" and "Make 24 from 3, 5, 7.", and ends
    each answer by giving it or by asking for help: `<think>...</think><answer>33</answer>`, or
    `ASK_MARKER` instead of the answer. Wrap it into a `SelfRouter` with `contract="trained"` to
    have that read. Told by a system message that there is none (`NO_HELP`), it cannot ask.

    Any other prompt goes to the model `beyond`. Call options are those of OpenAI: `temperature`,
    `seed`, `max_tokens`, `stop`, `logprobs`, `top_logprobs`; others are not read. The model is
    loaded at its first call, once for a process, and async calls run in threads.

    Args:
        beyond: Who answers what is not of the model's small world; `None` says that it does not
            know.
        temperature: 0 always takes the most likely token.
        seed: With one, a temperature gives the same answer to the same prompt each time.
        max_tokens: The longest answer, in tokens; a longer one is cut.
        logprobs: Whether answers come with the log-probabilities of their tokens, as
            `response_metadata["logprobs"]`, in OpenAI's form.
        top_logprobs: How many of the likeliest tokens are named with each.
        time_scale: 1 speaks as fast as a model of three billion parameters on a laptop, 0.1 ten
            times as fast; 0 as fast as it can.
        weights: A folder with another model, as `benchmarks/selfrouting/export.py` writes it.

    Raises:
        MissingExtraError: The extra `tiny` is not installed.

    Example:
        >>> model = sandbox_tiny_edge(time_scale=0)
        >>> model.invoke("Who wrote Faust?").text[:13]
        'I do not know'
    """

    beyond: SandboxChatModel | None = None
    temperature: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    seed: int | None = None
    max_tokens: int | None = Field(default=None, gt=0)
    logprobs: bool = False
    top_logprobs: int = Field(default=0, ge=0)
    time_scale: float = Field(default=1.0, ge=0)
    weights: Path | None = None

    @model_validator(mode="after")
    def _check_extra(self) -> TinyChatModel:
        check_extra()
        return self

    @property
    def model_name(self) -> str:
        """The name under which it is priced and reported."""
        return TINY_NAME

    @property
    def answers_or_asks(self) -> bool:
        """Whether it was trained to end by an answer or by asking: what a `SelfRouter` wants."""
        return True

    @property
    def _llm_type(self) -> str:
        return "hybridflow-sandbox-tiny"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {
            "model_name": self.model_name,
            "temperature": self.temperature,
            "seed": self.seed,
            "max_tokens": self.max_tokens,
            "logprobs": self.logprobs,
            "top_logprobs": self.top_logprobs,
            "weights": str(self.weights or SHIPPED.name),
            "beyond": None if self.beyond is None else self.beyond._identifying_params,
        }

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        params = super()._get_ls_params(stop=stop, **kwargs)
        params["ls_provider"] = "hybridflow-sandbox"
        params["ls_model_name"] = kwargs.get("model") or self.model_name
        return params

    def _resolve_model_profile(self) -> ModelProfile | None:
        return ModelProfile(
            name=self.model_name,
            text_inputs=True,
            text_outputs=True,
            image_inputs=False,
            tool_calling=False,
            structured_output=False,
        )

    def get_num_tokens(self, text: str) -> int:
        """Return how many tokens the model takes `text` for."""
        return len(self._model.encode(text)) - 1

    def get_num_tokens_from_messages(
        self, messages: Sequence[BaseMessage], tools: Sequence[Any] | None = None
    ) -> int:
        """Return how many tokens are read of `messages`: the question's. Tools are not read."""
        del tools
        question = question_of(messages)
        if question is None:
            return count_message_tokens(messages)
        return len(self._model.encode(question))

    @property
    def _model(self) -> TinyLlama:
        return loaded(self.weights or SHIPPED)

    # `beyond` is one of our own, and part of this model: a run of its own would be counted twice.

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        question = question_of(messages)
        if question is None and self.beyond is not None:
            return self.beyond._generate(messages, stop, run_manager, **kwargs)
        started = time.monotonic()
        speech = self._speech(messages, question, stop, kwargs)
        said = speech.utterance.rest()
        self._wait_for(speech, started)
        return self._result(speech, said)

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        question = question_of(messages)
        if question is None and self.beyond is not None:
            return await self.beyond._agenerate(messages, stop, run_manager, **kwargs)
        started = time.monotonic()
        speech = await asyncio.to_thread(self._speech, messages, question, stop, kwargs)
        said = await asyncio.to_thread(speech.utterance.rest)
        await self._await_for(speech, started)
        return self._result(speech, said)

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        question = question_of(messages)
        if question is None and self.beyond is not None:
            yield from self.beyond._stream(messages, stop, run_manager, **kwargs)
            return
        started = time.monotonic()
        speech = self._speech(messages, question, stop, kwargs)
        while (said := speech.utterance.step()) is not None:
            self._wait_for(speech, started)
            if said.text:
                chunk = self._chunk(speech, said)
                if run_manager:
                    run_manager.on_llm_new_token(said.text, chunk=chunk)
                yield chunk
        yield self._last_chunk(speech)

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        question = question_of(messages)
        if question is None and self.beyond is not None:
            async for chunk in self.beyond._astream(messages, stop, run_manager, **kwargs):
                yield chunk
            return
        started = time.monotonic()
        speech = await asyncio.to_thread(self._speech, messages, question, stop, kwargs)
        while (said := await asyncio.to_thread(speech.utterance.step)) is not None:
            await self._await_for(speech, started)
            if said.text:
                chunk = self._chunk(speech, said)
                if run_manager:
                    await run_manager.on_llm_new_token(said.text, chunk=chunk)
                yield chunk
        yield self._last_chunk(speech)

    # Waiting is until a point in time, not for a time: sleeping late does not add up.

    def _wait_for(self, speech: _Speech, started: float) -> None:
        delay_s = self._delay_s(speech, started)
        if delay_s > 0:
            time.sleep(delay_s)

    async def _await_for(self, speech: _Speech, started: float) -> None:
        delay_s = self._delay_s(speech, started)
        if delay_s > 0:
            await asyncio.sleep(delay_s)

    def _delay_s(self, speech: _Speech, started: float) -> float:
        due_s = _TTFT_S + max(0, speech.utterance.drawn - 1) / _TOKENS_PER_S
        return started + due_s * self.time_scale - time.monotonic()

    def _speech(
        self,
        messages: Sequence[BaseMessage],
        question: str | None,
        stop: Sequence[str] | None,
        options: Mapping[str, Any],
    ) -> _Speech:
        """Begin an answer; this may load the model."""
        limit = options.get("max_tokens") or options.get("max_completion_tokens") or self.max_tokens
        top = self._top(options)
        stop = tuple(stop or ())
        if question is None:
            tokens = iter([Token(piece) for piece in tokenize(DO_NOT_KNOW)])
            return _Speech(Utterance(tokens, stop, limit), count_message_tokens(messages), top)
        model = self._model
        prompt = model.encode(question)
        helpless = any(message.type == "system" and NO_HELP in message.text for message in messages)
        temperature, seed = (self._option(options, name) for name in ("temperature", "seed"))
        how = Drawing(
            temperature=temperature,
            seed=None if seed is None else f"{seed}/{question}",
            banned=model.ids_of(ASK_MARKER) if helpless else (),
            top=top or 0,
        )
        room = model.context - len(prompt)
        limit = room if limit is None else min(limit, room)
        return _Speech(Utterance(draw(model, prompt, how), stop, limit), len(prompt), top)

    def _option(self, options: Mapping[str, Any], name: str) -> Any:
        given = options.get(name)
        return getattr(self, name) if given is None else given

    def _top(self, options: Mapping[str, Any]) -> int | None:
        """How many likely tokens are told with each; `None` if no log-probabilities are."""
        if not self._option(options, "logprobs"):
            return None
        count: int = self._option(options, "top_logprobs")
        return count

    def _result(self, speech: _Speech, said: Said) -> ChatResult:
        message = AIMessage(
            content=said.text,
            usage_metadata=_usage(speech),
            response_metadata={**self._metadata(speech), **_logprobs(speech, said)},
        )
        return ChatResult(generations=[ChatGeneration(message=message)])

    def _chunk(self, speech: _Speech, said: Said) -> ChatGenerationChunk:
        message = AIMessageChunk(content=said.text, response_metadata=_logprobs(speech, said))
        return ChatGenerationChunk(message=message)

    def _last_chunk(self, speech: _Speech) -> ChatGenerationChunk:
        # Usage and metadata come once, in a chunk of their own: merging chunks adds them up.
        message = AIMessageChunk(
            content="",
            usage_metadata=_usage(speech),
            response_metadata=self._metadata(speech),
            chunk_position="last",
        )
        return ChatGenerationChunk(message=message)

    def _metadata(self, speech: _Speech) -> dict[str, Any]:
        return {"model_name": self.model_name, "finish_reason": speech.utterance.finish_reason}


def _usage(speech: _Speech) -> UsageMetadata:
    read, drawn = speech.prompt_tokens, speech.utterance.drawn
    return UsageMetadata(input_tokens=read, output_tokens=drawn, total_tokens=read + drawn)


def _logprobs(speech: _Speech, said: Said) -> dict[str, Any]:
    """Return the log-probabilities of what was said, as OpenAI gives them, if they were wanted."""
    if speech.top is None:
        return {}
    rows = [
        _row(token.text, token.logprob)
        | {"top_logprobs": [_row(text, logprob) for text, logprob in token.likeliest]}
        for token in said.tokens
    ]
    return {"logprobs": {"content": rows}}


def _row(text: str, logprob: float) -> dict[str, Any]:
    return {"token": text, "logprob": logprob, "bytes": list(text.encode())}


def sandbox_tiny_edge(
    *, seed: int = 0, time_scale: float = 1.0, malformed_rate: float = 0.0
) -> TinyChatModel:
    """Return the sandbox's edge model that is a real one, if a small one: see `TinyChatModel`.

    What is beyond it goes to `sandbox_edge` with the same arguments.

    Args:
        seed: Another seed makes the model beyond it wrong in other places.
        time_scale: 1 is as fast as a larger model on a laptop, 0 as fast as it can.
        malformed_rate: Share of the plans that are broken, 0 to 1.

    Raises:
        MissingExtraError: The extra `tiny` is not installed.

    Example:
        >>> sandbox_tiny_edge().model_name
        'sandbox-tiny'
    """
    beyond = sandbox_edge(seed=seed, time_scale=time_scale, malformed_rate=malformed_rate)
    return TinyChatModel(beyond=beyond, time_scale=time_scale)
