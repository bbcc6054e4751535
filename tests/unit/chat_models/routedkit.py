"""Two tiers that can be told apart, and every way to call what is made of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import reduce
from operator import add
from typing import Any

import pytest
from langchain_core.language_models import LanguageModelInput
from langchain_core.messages import AIMessage
from langchain_core.runnables import Runnable

from langchain_hybridflow import RoutedChatModel
from langchain_hybridflow.routing import AlwaysCloud, AlwaysEdge
from langchain_hybridflow.testing import ObedientChatModel, ScriptedChatModel

ROUTERS = {"edge": AlwaysEdge(), "cloud": AlwaysCloud()}
ANSWER = "Paris is the capital"
PROMPT = "Capital of France please"  # 4 words in, 4 words out
USAGE = {"input_tokens": 4, "output_tokens": 4, "total_tokens": 8}

both_tiers = pytest.mark.parametrize("tier", ["edge", "cloud"])


def weather(city: str) -> str:
    """Tell the weather in a city."""
    return f"Sunny in {city}"


def sums(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def obedient(tier: str = "edge", **fields: Any) -> RoutedChatModel:
    """A routed model of two capable fakes, of which one always answers."""
    settings = {
        "edge": ObedientChatModel(model_name="little"),
        "cloud": ObedientChatModel(model_name="big"),
        "router": ROUTERS[tier],
    }
    return RoutedChatModel(**(settings | fields))


def scripted(tier: str = "edge", **fields: Any) -> RoutedChatModel:
    """A routed model of two fakes that note what reaches them."""
    settings = {
        "edge": ScriptedChatModel(responses=[ANSWER], model_name="little"),
        "cloud": ScriptedChatModel(responses=[ANSWER], model_name="big"),
        "router": ROUTERS[tier],
    }
    return RoutedChatModel(**(settings | fields))


def options_seen(model: RoutedChatModel, tier: str) -> dict[str, Any]:
    """The options of the last call of a tier's scripted model."""
    fake = getattr(model, tier)
    assert isinstance(fake, ScriptedChatModel)
    return fake.call_kwargs[-1]


Model = Runnable[LanguageModelInput, AIMessage]


def merged(chunks: Sequence[Any]) -> Any:
    """All chunks of a stream as one."""
    return reduce(add, chunks)


async def by_invoke(model: Model, prompt: Any = PROMPT, **kwargs: Any) -> Any:
    return model.invoke(prompt, **kwargs)


async def by_ainvoke(model: Model, prompt: Any = PROMPT, **kwargs: Any) -> Any:
    return await model.ainvoke(prompt, **kwargs)


async def by_stream(model: Model, prompt: Any = PROMPT, **kwargs: Any) -> Any:
    return merged(list(model.stream(prompt, **kwargs)))


async def by_astream(model: Model, prompt: Any = PROMPT, **kwargs: Any) -> Any:
    return merged([chunk async for chunk in model.astream(prompt, **kwargs)])


async def by_batch(model: Model, prompt: Any = PROMPT, **kwargs: Any) -> Any:
    return model.batch([prompt], **kwargs)[0]


async def by_abatch(model: Model, prompt: Any = PROMPT, **kwargs: Any) -> Any:
    return (await model.abatch([prompt], **kwargs))[0]


async def by_events(model: Model, prompt: Any = PROMPT, **kwargs: Any) -> Any:
    stream = model.stream_events(prompt, version="v3", **kwargs)
    list(stream)
    return stream.output  # type: ignore[union-attr]


async def by_aevents(model: Model, prompt: Any = PROMPT, **kwargs: Any) -> Any:
    stream: Any = await model.astream_events(prompt, version="v3", **kwargs)  # type: ignore[misc]
    [event async for event in stream]
    output = await stream.output
    # The task that fills the stream tells the callbacks of its end when the reader has the answer.
    await asyncio.gather(*asyncio.all_tasks() - {asyncio.current_task()})
    return output


Way = Callable[..., Awaitable[Any]]
WAYS: list[Way] = [
    by_invoke,
    by_ainvoke,
    by_stream,
    by_astream,
    by_batch,
    by_abatch,
    by_events,
    by_aevents,
]
every_way = pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
plain_ways = pytest.mark.parametrize("way", WAYS[:6], ids=lambda way: way.__name__)
