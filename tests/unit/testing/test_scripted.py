"""The scripted chat model does what real ones do, when told to."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from langchain_core.callbacks import UsageMetadataCallbackHandler
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage

from langchain_hybridflow.testing import ScriptedChatModel, ScriptEnded

CALL = {"name": "look_up", "args": {"city": "Oslo"}, "id": "call-1", "type": "tool_call"}


def _merge(chunks: list[Any]) -> AIMessageChunk:
    merged: AIMessageChunk = chunks[0]
    for chunk in chunks[1:]:
        merged += chunk
    return merged


def test_responses_come_in_order_and_start_again() -> None:
    model = ScriptedChatModel(responses=["one", "two"])
    assert [model.invoke("?").text for _ in range(3)] == ["one", "two", "one"]


def test_last_response_is_repeated_when_told_to() -> None:
    model = ScriptedChatModel(responses=["one", "two"], at_end="repeat")
    assert [model.invoke("?").text for _ in range(3)] == ["one", "two", "two"]


def test_script_ends_with_an_error_when_told_to() -> None:
    model = ScriptedChatModel(responses=["one"], at_end="raise")
    model.invoke("?")
    with pytest.raises(ScriptEnded, match="Call 2 of a script of 1"):
        model.invoke("?")


def test_script_without_responses_is_at_its_end() -> None:
    with pytest.raises(ScriptEnded):
        ScriptedChatModel(responses=[]).invoke("?")


def test_exception_in_the_script_is_raised() -> None:
    model = ScriptedChatModel(responses=[TimeoutError("slow"), "then"])
    with pytest.raises(TimeoutError, match="slow"):
        model.invoke("?")
    assert model.invoke("?").text == "then"
    assert model.running == 0


def test_callable_gets_the_messages() -> None:
    def echo(messages: list[BaseMessage]) -> str:
        return messages[-1].text[::-1]

    assert ScriptedChatModel(responses=[echo]).invoke("abc").text == "cba"


async def test_coroutine_function_serves_async_calls() -> None:
    asked, gate = asyncio.Event(), asyncio.Event()

    async def wait(messages: list[BaseMessage]) -> str:
        asked.set()
        await gate.wait()
        return "opened"

    model = ScriptedChatModel(responses=[wait])
    call = asyncio.create_task(model.ainvoke("?"))
    await asked.wait()
    assert model.running == 1
    gate.set()
    assert (await call).text == "opened"


def test_coroutine_function_is_refused_by_sync_calls() -> None:
    async def never(messages: list[BaseMessage]) -> str:
        raise AssertionError

    with pytest.raises(TypeError, match="async calls only"):
        ScriptedChatModel(responses=[never]).invoke("?")


def test_stream_comes_word_by_word_and_adds_up() -> None:
    text = "To be,  or\nnot to be. "
    model = ScriptedChatModel(responses=[text])
    chunks = list(model.stream("?"))
    assert [chunk.text for chunk in chunks][:3] == ["To", " be,", "  or"]
    assert _merge(chunks).text == text


def test_stream_comes_in_exactly_the_chunks_of_the_script() -> None:
    model = ScriptedChatModel(responses=[["<Pl", "an", ">"]])
    assert [chunk.text for chunk in model.stream("?")] == ["<Pl", "an", ">", ""]


async def test_all_four_ways_of_calling_give_the_same_message() -> None:
    model = ScriptedChatModel(responses=["It is 4."], model_name="m")
    whole = [model.invoke("2 + 2?"), await model.ainvoke("2 + 2?")]
    streamed = [
        _merge(list(model.stream("2 + 2?"))),
        _merge([chunk async for chunk in model.astream("2 + 2?")]),
    ]
    for message in (*whole, *streamed):
        assert message.text == "It is 4."
        assert message.response_metadata == {"model_name": "m", "finish_reason": "stop"}
        assert message.usage_metadata == {
            "input_tokens": 3,
            "output_tokens": 3,
            "total_tokens": 6,
        }


def test_usage_is_counted_once_by_the_callback() -> None:
    handler = UsageMetadataCallbackHandler()
    list(ScriptedChatModel(responses=["a b c"]).stream("x y", config={"callbacks": [handler]}))
    assert handler.usage_metadata["scripted"]["total_tokens"] == 5


@pytest.mark.parametrize("ask", ["invoke", "stream"])
def test_usage_is_missing_when_told_to(ask: str) -> None:
    model = ScriptedChatModel(responses=["a b c"], report_usage=False)
    message = model.invoke("?") if ask == "invoke" else _merge(list(model.stream("?")))
    assert message.usage_metadata is None


def test_usage_of_the_script_goes_before_the_count() -> None:
    usage = {"input_tokens": 7, "output_tokens": 5, "total_tokens": 12}
    scripted = AIMessage("hi", usage_metadata=usage)  # type: ignore[arg-type]
    assert ScriptedChatModel(responses=[scripted]).invoke("?").usage_metadata == usage


@pytest.mark.parametrize(("of_model", "of_call"), [(2, {}), (None, {"max_tokens": 2})])
def test_answer_is_cut_at_max_tokens(of_model: int | None, of_call: dict[str, int]) -> None:
    model = ScriptedChatModel(responses=["a b c d"], max_tokens=of_model)
    answer = model.invoke("?", **of_call)
    assert answer.text == "a b"
    assert answer.response_metadata["finish_reason"] == "length"
    assert answer.usage_metadata is not None
    assert answer.usage_metadata["output_tokens"] == 2


def test_answer_is_whole_when_it_is_exactly_max_tokens_long() -> None:
    answer = ScriptedChatModel(responses=["a b c"], max_tokens=3).invoke("?")
    assert (answer.text, answer.response_metadata["finish_reason"]) == ("a b c", "stop")


def test_max_tokens_cuts_inside_a_scripted_chunk() -> None:
    model = ScriptedChatModel(responses=[["a b ", "c d ", "e"]], max_tokens=3)
    assert [chunk.text for chunk in model.stream("?")] == ["a b ", "c", ""]


def test_answer_ends_before_a_stop_sequence() -> None:
    answer = ScriptedChatModel(responses=["a b STOP c"]).invoke("?", stop=["STOP"])
    assert (answer.text, answer.response_metadata["finish_reason"]) == ("a b ", "stop")


@pytest.mark.parametrize("ask", ["invoke", "stream"])
def test_tool_calls_survive_every_way_of_calling(ask: str) -> None:
    model = ScriptedChatModel(responses=[AIMessage("", tool_calls=[CALL])])
    message = model.invoke("?") if ask == "invoke" else _merge(list(model.stream("?")))
    assert message.tool_calls == [CALL]
    assert message.response_metadata["finish_reason"] == "tool_calls"


def test_bound_tools_arrive_as_openai_dicts() -> None:
    def look_up(city: str) -> str:
        """Look up a city."""
        return city

    model = ScriptedChatModel(responses=["ok"])
    model.bind_tools([look_up], tool_choice="any").invoke("?")
    [kwargs] = model.call_kwargs
    assert kwargs["tools"][0]["function"]["name"] == "look_up"
    assert kwargs["tool_choice"] == "any"


def test_stream_breaks_after_the_chunks_it_was_told() -> None:
    error = ConnectionError("gone")
    model = ScriptedChatModel(responses=["a b c d"], fail_after_chunks=2, stream_error=error)
    stream = model.stream("?")
    assert [next(stream).text, next(stream).text] == ["a", " b"]
    with pytest.raises(ConnectionError, match="gone"):
        next(stream)
    assert model.running == 0


async def test_async_stream_breaks_after_the_chunks_it_was_told() -> None:
    model = ScriptedChatModel(responses=["a b c d"], fail_after_chunks=2)
    stream = model.astream("?")
    assert [(await anext(stream)).text, (await anext(stream)).text] == ["a", " b"]
    with pytest.raises(ConnectionError):
        await anext(stream)


def test_whole_call_breaks_too_when_the_stream_would() -> None:
    with pytest.raises(ConnectionError):
        ScriptedChatModel(responses=["a b c d"], fail_after_chunks=2).invoke("?")


def test_waiting_goes_through_the_injected_sleep() -> None:
    waits: list[float] = []
    model = ScriptedChatModel(
        responses=["a b"], latency_s=0.5, chunk_latency_s=0.1, sleep=waits.append
    )
    list(model.stream("?"))
    assert waits == [0.5, 0.1, 0.1]


async def test_async_waiting_goes_through_the_injected_sleep() -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    model = ScriptedChatModel(responses=["a b"], latency_s=0.5, asleep=sleep)
    await model.ainvoke("?")
    assert waits == [0.5, 0.0, 0.0]


async def test_concurrency_of_tasks_is_seen() -> None:
    model = ScriptedChatModel(responses=["a"])
    await asyncio.gather(*(model.ainvoke("?") for _ in range(10)))
    assert model.max_concurrency_seen == 10
    assert model.running == 0


def test_concurrency_of_threads_is_seen() -> None:
    together = threading.Barrier(8)
    model = ScriptedChatModel(responses=["a"], sleep=lambda _: together.wait(timeout=20))
    threads = [threading.Thread(target=model.invoke, args=("?",)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert model.max_concurrency_seen == 8
    assert len(model.calls) == 8


async def test_cancelled_call_does_not_count_as_running() -> None:
    asked = asyncio.Event()

    async def for_ever(seconds: float) -> None:
        asked.set()
        await asyncio.Event().wait()

    model = ScriptedChatModel(responses=["a"], asleep=for_ever)
    call = asyncio.create_task(model.ainvoke("?"))
    await asked.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert model.running == 0


def test_calls_are_remembered_as_they_were() -> None:
    model = ScriptedChatModel(responses=["a"])
    model.invoke([HumanMessage("one")])
    model.invoke([HumanMessage("two"), AIMessage("three")])
    assert [[m.text for m in call] for call in model.calls] == [["one"], ["two", "three"]]


def test_scripted_messages_are_not_changed_by_calls() -> None:
    scripted = AIMessage("a b c")
    model = ScriptedChatModel(responses=[scripted])
    model.invoke("?")
    list(model.stream("?"))
    assert scripted == AIMessage("a b c")
