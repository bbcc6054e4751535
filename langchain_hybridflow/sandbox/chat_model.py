"""A chat model of the closed world: it knows nothing but its prompt, and errs like a real one."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import LangSmithParams, ModelProfile
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from pydantic import Field

from langchain_hybridflow.sandbox.certainty import (
    felt_chance,
    how_sure,
    question_before,
    token_logprobs,
)
from langchain_hybridflow.sandbox.language import Value
from langchain_hybridflow.sandbox.operations import Unsolvable
from langchain_hybridflow.sandbox.planning import planning_question, write_plan
from langchain_hybridflow.sandbox.profiles import CLOUD_PROFILE, EDGE_PROFILE, TierProfile
from langchain_hybridflow.sandbox.program import Node, evaluate
from langchain_hybridflow.sandbox.slips import plausible_mistake, success_rate
from langchain_hybridflow.sandbox.solver import Assignment, read_assignment
from langchain_hybridflow.sandbox.tokens import count_message_tokens, tokenize
from langchain_hybridflow.sandbox.writing import DO_NOT_KNOW, write_answer, write_long_answer

__all__ = ["SandboxChatModel", "sandbox_cloud", "sandbox_edge"]


@dataclass(frozen=True, slots=True)
class _Reply:
    """A whole answer, before any of it is sent."""

    tokens: tuple[str, ...]
    finish_reason: str
    usage: UsageMetadata
    logprobs: tuple[dict[str, Any], ...] | None = None

    @property
    def text(self) -> str:
        return "".join(self.tokens)


@dataclass(frozen=True, slots=True)
class _Said:
    """What a model has to say, and what it takes the chances of its steps for."""

    text: str
    chances: tuple[float, ...] = ()


class SandboxChatModel(BaseChatModel):
    r"""Answers the sandbox's questions, subtasks and planning calls from the text of its prompt.

    A step fails with a probability that grows with its difficulty and with the number of steps
    that the prompt asks for; a failed step has a plausible wrong result, with which the model goes
    on. The same prompt always gets the same answer, as with temperature 0; with a `temperature`
    above 0 and a `seed`, as call options, it is the same for the same seed. A prompt that the
    model cannot read is answered with "I do not know"; no prompt makes it raise. Asked after its
    answer for a line `CONFIDENCE: n`, it says how sure it is, and that is too sure.

    Args:
        tier_profile: Skill, speed and price.
        seed: Another seed is wrong in other places.
        time_scale: 1 answers as slowly as the profile says, 0.1 ten times as fast, 0 at once.
        malformed_rate: The share of plans, 0 to 1, that are broken in the ways in which the
            plans of weak models are.
        max_tokens: The longest answer, in tokens; a longer one is cut. Also an argument of each
            call.
        logprobs: Whether answers come with the log-probabilities of their tokens, as
            `response_metadata["logprobs"]`, in OpenAI's form. Also an argument of each call.

    Example:
        >>> sandbox_cloud(time_scale=0).invoke("What is 6 * 7?").text
        '6 * 7 = 42, so the result of 6 * 7 is 42.\nAnswer: 42'
    """

    tier_profile: TierProfile
    seed: int = 0
    time_scale: float = Field(default=1.0, ge=0)
    malformed_rate: float = Field(default=0.0, ge=0, le=1)
    max_tokens: int | None = Field(default=None, gt=0)
    logprobs: bool = False

    @property
    def model_name(self) -> str:
        """The name of the profile."""
        return self.tier_profile.name

    @property
    def _llm_type(self) -> str:
        return "hybridflow-sandbox"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {
            "model_name": self.tier_profile.name,
            "seed": self.seed,
            "malformed_rate": self.malformed_rate,
            "max_tokens": self.max_tokens,
        }

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        params = super()._get_ls_params(stop=stop, **kwargs)
        params["ls_provider"] = "hybridflow-sandbox"
        params["ls_model_name"] = self.tier_profile.name
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
        """Return the exact number of tokens of `text`."""
        return len(tokenize(text))

    def get_num_tokens_from_messages(
        self, messages: Sequence[BaseMessage], tools: Sequence[Any] | None = None
    ) -> int:
        """Return the exact number of prompt tokens of `messages`. Tools are not read."""
        del tools
        return count_message_tokens(messages)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        del run_manager
        started = time.monotonic()
        reply = self._reply(messages, stop=stop, **kwargs)
        self._wait_for(len(reply.tokens), started)
        return self._result(reply)

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        del run_manager
        started = time.monotonic()
        reply = self._reply(messages, stop=stop, **kwargs)
        await self._await_for(len(reply.tokens), started)
        return self._result(reply)

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        started = time.monotonic()
        reply = self._reply(messages, stop=stop, **kwargs)
        for number, token in enumerate(reply.tokens):
            self._wait_for(number, started)
            chunk = ChatGenerationChunk(message=AIMessageChunk(content=token))
            if run_manager:
                run_manager.on_llm_new_token(token, chunk=chunk)
            yield chunk
        yield self._last_chunk(reply)

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        started = time.monotonic()
        reply = self._reply(messages, stop=stop, **kwargs)
        for number, token in enumerate(reply.tokens):
            await self._await_for(number, started)
            chunk = ChatGenerationChunk(message=AIMessageChunk(content=token))
            if run_manager:
                await run_manager.on_llm_new_token(token, chunk=chunk)
            yield chunk
        yield self._last_chunk(reply)

    # Waiting is until a point in time, not for a time: sleeping late does not add up.

    def _wait_for(self, token: int, started: float) -> None:
        delay_s = self._delay_s(token, started)
        if delay_s > 0:
            time.sleep(delay_s)

    async def _await_for(self, token: int, started: float) -> None:
        # Also with nothing to wait for: a long answer must not keep the event loop to itself.
        await asyncio.sleep(max(0.0, self._delay_s(token, started)))

    def _delay_s(self, token: int, started: float) -> float:
        if self.time_scale == 0:
            return 0.0
        return started + self.tier_profile.due_s(token) * self.time_scale - time.monotonic()

    def _reply(
        self, messages: Sequence[BaseMessage], *, stop: Sequence[str] | None = None, **kwargs: Any
    ) -> _Reply:
        sample = _sample(kwargs)
        text = self._work_out(messages, sample=sample).text if sample else self._answer(messages)
        cuts = [text.index(mark) for mark in stop or () if mark and mark in text]
        tokens = tokenize(text[: min(cuts)] if cuts else text)
        limit = kwargs.get("max_tokens") or kwargs.get("max_completion_tokens") or self.max_tokens
        is_cut = limit is not None and len(tokens) > limit
        sent = tuple(tokens[:limit] if is_cut else tokens)
        prompt_tokens = count_message_tokens(messages)
        usage = UsageMetadata(
            input_tokens=prompt_tokens,
            output_tokens=len(sent),
            total_tokens=prompt_tokens + len(sent),
        )
        reason = "length" if is_cut else "stop"
        if not kwargs.get("logprobs", self.logprobs):
            return _Reply(sent, reason, usage)
        chances = self._work_out(messages, sample=sample).chances
        return _Reply(sent, reason, usage, tuple(token_logprobs(sent, chances)))

    def _result(self, reply: _Reply) -> ChatResult:
        message = AIMessage(
            content=reply.text,
            usage_metadata=reply.usage,
            response_metadata=self._metadata(reply),
        )
        return ChatResult(generations=[ChatGeneration(message=message)])

    def _last_chunk(self, reply: _Reply) -> ChatGenerationChunk:
        # Usage and metadata come once, in a chunk of their own: merging chunks adds them up.
        message = AIMessageChunk(
            content="",
            usage_metadata=reply.usage,
            response_metadata=self._metadata(reply),
            chunk_position="last",
        )
        return ChatGenerationChunk(message=message)

    def _metadata(self, reply: _Reply) -> dict[str, Any]:
        told = {"model_name": self.tier_profile.name, "finish_reason": reply.finish_reason}
        if reply.logprobs is None:
            return told
        return told | {"logprobs": {"content": list(reply.logprobs)}}

    def _answer(self, messages: Sequence[BaseMessage]) -> str:
        """Return the whole text that the model has to say to a prompt."""
        return self._work_out(messages).text

    def _work_out(self, messages: Sequence[BaseMessage], *, sample: str = "") -> _Said:
        before = question_before(messages)
        if before is not None:
            return _Said(how_sure(self._to_problem(before).chances or (0.5,)))
        return self._to_problem(messages, sample=sample)

    def _to_problem(self, messages: Sequence[BaseMessage], *, sample: str = "") -> _Said:
        prompt = "\n\n".join(f"{message.type}: {message.text}" for message in messages)
        question = planning_question(messages)
        if question is not None:
            rng = self._rng(prompt, "plan")
            return _Said(write_plan(question, rng=rng, malformed_rate=self.malformed_rate))
        human = [message.text for message in messages if message.type == "human"]
        text = human[-1] if human else ""
        try:
            return self._solve(read_assignment(text), prompt=prompt + sample, question=text)
        except Unsolvable:
            return _Said(DO_NOT_KNOW, (0.0,))

    def _solve(self, assignment: Assignment, *, prompt: str, question: str) -> _Said:
        program, target = assignment.program, assignment.program[assignment.target]
        steps_at_once = len(program.needed(target.name, given=assignment.given))
        chances: list[float] = []

        def slip(node: Node, args: tuple[Value, ...], value: Value) -> Value:
            rng = self._rng(prompt, node.name)
            rate = success_rate(
                self.tier_profile.skill, node.difficulty, steps_at_once=steps_at_once
            )
            right = rng.random() < rate
            doubt = self._rng(prompt, f"{node.name}/doubt")
            chances.append(felt_chance(rate, right=right, rng=doubt))
            return value if right else plausible_mistake(node, args, value, rng)

        workings = evaluate(program, target.name, given=assignment.given, slip=slip)
        value = workings[-1].value if workings else assignment.given[target.name]
        if self.tier_profile.thorough and not assignment.is_subtask and len(workings) > 1:
            text = write_long_answer(workings, program=program, question=question)
        else:
            text = write_answer(workings, target=target, value=value)
        return _Said(text, tuple(chances))

    def _rng(self, prompt: str, purpose: str) -> random.Random:
        # A text seed is hashed with SHA-512 by random itself: the same in every process.
        return random.Random(f"{self.seed}/{self.tier_profile.name}/{purpose}/{prompt}")


def _sample(options: Mapping[str, Any]) -> str:
    """Name the sample that the options of a call ask for; empty for the likeliest answer."""
    if not options.get("temperature") or options.get("seed") is None:
        return ""
    return f"/sample {options['seed']}"


def sandbox_edge(
    *, seed: int = 0, time_scale: float = 1.0, malformed_rate: float = 0.0
) -> SandboxChatModel:
    """Return the sandbox's edge model: free, quick to start, good at easy steps.

    Args:
        seed: Another seed is wrong in other places.
        time_scale: 1 is real time, 0 is no waiting.
        malformed_rate: Share of the plans that are broken, 0 to 1.

    Example:
        >>> sandbox_edge().model_name
        'sandbox-edge'
    """
    return SandboxChatModel(
        tier_profile=EDGE_PROFILE, seed=seed, time_scale=time_scale, malformed_rate=malformed_rate
    )


def sandbox_cloud(
    *, seed: int = 0, time_scale: float = 1.0, malformed_rate: float = 0.0
) -> SandboxChatModel:
    """Return the sandbox's cloud model: paid, slower to start, hardly ever wrong.

    Args:
        seed: Another seed is wrong in other places.
        time_scale: 1 is real time, 0 is no waiting.
        malformed_rate: Share of the plans that are broken, 0 to 1.

    Example:
        >>> sandbox_cloud().tier_profile.output_usd_per_mtok
        Decimal('8')
    """
    return SandboxChatModel(
        tier_profile=CLOUD_PROFILE, seed=seed, time_scale=time_scale, malformed_rate=malformed_rate
    )
