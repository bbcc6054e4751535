"""The contract of what is assumed about `BaseChatModel`, and what a tier does with its model."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.language_models import BaseChatModel, FakeListChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.rate_limiters import BaseRateLimiter
from langchain_openai import ChatOpenAI
from pydantic import Field

from langchain_hybridflow.calls import TierModel, model_name
from langchain_hybridflow.testing import ScriptedChatModel

PROMPT: list[BaseMessage] = [HumanMessage("Hello")]
TOOL_CALL = {"name": "add", "args": {"a": 1}, "id": "call_1", "type": "tool_call"}


class CountingLimiter(BaseRateLimiter):
    def __init__(self) -> None:
        self.acquired = 0

    def acquire(self, *, blocking: bool = True) -> bool:
        self.acquired += 1
        return True

    async def aacquire(self, *, blocking: bool = True) -> bool:
        return self.acquire(blocking=blocking)


class WholeOnly(BaseChatModel):
    """A model that implements the one method that every chat model must have."""

    max_output_tokens: int | None = None

    @property
    def _llm_type(self) -> str:
        return "whole-only"

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        answer = AIMessage("whole", tool_calls=[TOOL_CALL], id="m1")
        return ChatResult(generations=[ChatGeneration(message=answer)])


class SyncStreamOnly(WholeOnly):
    def _stream(self, *args: Any, **kwargs: Any) -> Iterator[ChatGenerationChunk]:
        for text in ("in ", "pieces"):
            yield ChatGenerationChunk(message=AIMessageChunk(text))


class Closing(ScriptedChatModel):
    """Notes when its streams are closed."""

    closed: list[str] = Field(default_factory=list)

    def _stream(self, *args: Any, **kwargs: Any) -> Iterator[ChatGenerationChunk]:
        try:
            yield from super()._stream(*args, **kwargs)
        finally:
            self.closed.append("sync")

    async def _astream(self, *args: Any, **kwargs: Any) -> AsyncIterator[ChatGenerationChunk]:
        try:
            async for chunk in super()._astream(*args, **kwargs):
                yield chunk
        finally:
            self.closed.append("async")


def tier(model: BaseChatModel) -> TierModel:
    return TierModel.of("cloud", model)


def streamed(model: BaseChatModel, **kwargs: Any) -> list[ChatGenerationChunk]:
    return list(tier(model).stream(PROMPT, stop=None, **kwargs))


async def astreamed(model: BaseChatModel, **kwargs: Any) -> list[ChatGenerationChunk]:
    return [chunk async for chunk in tier(model).astream(PROMPT, stop=None, **kwargs)]


# ------------------------------------------------------------- what BaseChatModel must go on doing


@pytest.mark.parametrize("name", ["_generate_with_cache", "_agenerate_with_cache"])
def test_base_model_takes_our_arguments_in_its_cached_generation(name: str) -> None:
    signature = inspect.signature(getattr(BaseChatModel, name))
    signature.bind(None, PROMPT, stop=None, run_manager=None, temperature=1)
    assert inspect.iscoroutinefunction(getattr(BaseChatModel, name)) == name.startswith("_a")


@pytest.mark.parametrize("name", ["_stream", "_astream"])
def test_base_model_takes_our_arguments_in_its_streams(name: str) -> None:
    inspect.signature(getattr(BaseChatModel, name)).bind(None, PROMPT, stop=None, temperature=1)


@pytest.mark.parametrize("async_api", [False, True])
@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (ScriptedChatModel(responses=["x"]), True),
        (ScriptedChatModel(responses=["x"], disable_streaming=True), False),
        (ScriptedChatModel(responses=["x"], disable_streaming="tool_calling"), True),
        (WholeOnly(), False),
        (SyncStreamOnly(), True),
    ],
)
def test_base_model_knows_whether_to_stream(
    model: BaseChatModel, *, expected: bool, async_api: bool
) -> None:
    assert model._should_stream(async_api=async_api, stream=True) is expected


def test_base_model_knows_whether_to_stream_tool_calls() -> None:
    model = ScriptedChatModel(responses=["x"], disable_streaming="tool_calling")
    assert not model._should_stream(async_api=False, stream=True, tools=[{"type": "function"}])


def test_base_model_marks_an_answer_from_the_cache_by_its_total_cost() -> None:
    model = ScriptedChatModel(responses=["x"], cache=InMemoryCache())
    first, second = (model._generate_with_cache(PROMPT).generations[0].message for _ in range(2))
    assert isinstance(first, AIMessage)
    assert isinstance(second, AIMessage)
    assert "total_cost" not in (first.usage_metadata or {})
    assert (second.usage_metadata or {}).get("total_cost") == 0


# -------------------------------------------------------------------------------- the tier itself


def test_generate_uses_the_models_own_cache() -> None:
    model = ScriptedChatModel(responses=["one", "two"], cache=InMemoryCache())
    texts = [tier(model).generate(PROMPT, stop=None, run_manager=None) for _ in range(2)]
    assert [result.generations[0].text for result in texts] == ["one", "one"]


async def test_limiter_is_asked_once_for_each_call() -> None:
    limiter = CountingLimiter()
    model = ScriptedChatModel(responses=["one two"], rate_limiter=limiter)
    counts = []
    tier(model).generate(PROMPT, stop=None, run_manager=None)
    counts.append(limiter.acquired)
    await tier(model).agenerate(PROMPT, stop=None, run_manager=None)
    counts.append(limiter.acquired)
    streamed(model)
    counts.append(limiter.acquired)
    await astreamed(model)
    counts.append(limiter.acquired)
    assert counts == [1, 2, 3, 4]


@pytest.mark.parametrize("model", [WholeOnly(), SyncStreamOnly(disable_streaming=True)])
async def test_stream_is_one_whole_piece_when_the_model_does_not_stream(
    model: BaseChatModel,
) -> None:
    for chunks in (streamed(model), await astreamed(model)):
        [chunk] = chunks
        assert isinstance(chunk.message, AIMessageChunk)
        assert (chunk.text, chunk.message.id) == ("whole", "m1")
        assert chunk.message.tool_calls == [TOOL_CALL]


async def test_stream_is_in_pieces_when_the_model_has_only_a_sync_stream() -> None:
    assert [chunk.text for chunk in streamed(SyncStreamOnly())] == ["in ", "pieces"]
    assert [chunk.text for chunk in await astreamed(SyncStreamOnly())] == ["in ", "pieces"]


async def test_stream_is_whole_for_tools_when_streaming_is_disabled_for_them() -> None:
    model = ScriptedChatModel(responses=["one two"], disable_streaming="tool_calling")
    tools = [{"type": "function", "function": {"name": "f"}}]
    assert len(streamed(model)) == 3
    assert len(streamed(model, tools=tools)) == 1
    assert len(await astreamed(model, tools=tools)) == 1


def test_closing_the_stream_closes_the_models() -> None:
    model = Closing(responses=["one two three"])
    stream = tier(model).stream(PROMPT, stop=None)
    next(stream)
    stream.close()
    assert model.closed == ["sync"]


async def test_closing_the_async_stream_closes_the_models() -> None:
    model = Closing(responses=["one two three"])
    stream = tier(model).astream(PROMPT, stop=None)
    await anext(stream)
    await stream.aclose()
    assert model.closed == ["async"]


# ------------------------------------------------------------------------------------------ names


@pytest.mark.parametrize(
    ("model", "name"),
    [
        (ScriptedChatModel(responses=["x"], model_name="big-1"), "big-1"),
        (ChatOpenAI(model="gpt-4.1", api_key="none"), "gpt-4.1"),
        (FakeListChatModel(responses=["x"]), "FakeListChatModel"),
    ],
)
def test_model_name_is_the_providers(model: BaseChatModel, name: str) -> None:
    assert model_name(model) == name


def test_server_of_ones_own_is_told_to_stream_its_usage() -> None:
    model = ChatOpenAI(model="m", base_url="http://127.0.0.1:9/v1", api_key="none")
    taken = tier(model)
    assert taken.model.stream_usage is True  # type: ignore[attr-defined]
    assert taken.origin is model
    assert model.stream_usage is None, "the user's own model is left alone"


def test_server_is_not_told_to_stream_its_usage_when_the_user_said_no() -> None:
    url = "http://127.0.0.1:9/v1"
    model = ChatOpenAI(model="m", base_url=url, api_key="none", stream_usage=False)
    assert tier(model).model.stream_usage is False


@pytest.mark.parametrize("settings", [{}, {"max_retries": 2}, {"max_retries": 0}])
def test_client_makes_one_request_a_call_whatever_its_settings(settings: dict[str, int]) -> None:
    model = ChatOpenAI(model="m", base_url="http://127.0.0.1:9/v1", api_key="none", **settings)
    called = tier(model).model
    assert called.root_client.max_retries == 0
    assert called.root_async_client.max_retries == 0


# ------------------------------------------------------------------------------------ output caps


@pytest.mark.parametrize(
    ("own", "asked", "cap"),
    [
        (None, {}, 99),
        (50, {}, 50),
        (50, {"max_tokens": 70}, 70),
        (50, {"max_completion_tokens": 500}, 500),
        (None, {"max_tokens": 7, "max_completion_tokens": 500}, 500),
        (50, {"max_tokens": None}, 99),
        (None, {"max_tokens": True}, 99),
    ],
)
def test_output_cap_is_the_longest_answer_that_can_come(
    own: int | None, asked: dict[str, Any], cap: int
) -> None:
    model = ScriptedChatModel(responses=["x"], max_tokens=own)
    assert tier(model).output_cap(asked, 99) == cap


@pytest.mark.parametrize(
    ("own", "asked", "kwargs"),
    [
        (None, {}, {"max_tokens": 99}),
        (50, {}, {}),
        (50, {"max_tokens": 70}, {}),
        (None, {"max_completion_tokens": 70}, {}),
        (50, {"max_tokens": None}, {"max_tokens": 99}),
        (None, {"max_tokens": None}, {"max_tokens": 99}),
    ],
)
def test_cap_is_passed_on_when_nothing_else_holds_the_model_to_it(
    own: int | None, asked: dict[str, Any], kwargs: dict[str, int]
) -> None:
    model = ScriptedChatModel(responses=["x"], max_tokens=own)
    assert tier(model).cap_kwargs(asked, 99) == kwargs


def test_cap_is_passed_on_under_the_models_own_name_for_it() -> None:
    assert tier(WholeOnly()).cap_kwargs({}, 99) == {"max_output_tokens": 99}


def test_cap_is_not_passed_on_when_the_model_knows_none() -> None:
    assert tier(FakeListChatModel(responses=["x"])).cap_kwargs({}, 99) == {}


@pytest.mark.parametrize(
    ("own", "asked", "answers"), [({}, {}, 1), ({"n": 3}, {}, 3), ({"n": 3}, {"n": 5}, 5)]
)
def test_answers_are_counted(own: dict[str, Any], asked: dict[str, Any], answers: int) -> None:
    model = ChatOpenAI(model="m", api_key="none", **own)
    assert tier(model).answers(asked) == answers
