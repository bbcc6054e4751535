"""`RoutedChatModel` as the rest of the ecosystem sees it: one chat model, counted once."""

from __future__ import annotations

import asyncio
import copy
import gc
import json
import pickle
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import BaseCallbackHandler, get_usage_metadata_callback
from langchain_core.globals import set_llm_cache
from langchain_core.language_models import BaseChatModel, FakeListChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessageChunk
from langchain_core.rate_limiters import BaseRateLimiter
from langgraph.graph import END, START, MessagesState, StateGraph
from pydantic import SecretStr, ValidationError

from langchain_hybridflow import Budget, Price, RoutedChatModel
from langchain_hybridflow.budget import Limits
from langchain_hybridflow.errors import (
    BudgetExceeded,
    ConfigurationError,
    ModelCallError,
    RoutingError,
    UnknownPriceError,
)
from langchain_hybridflow.routing import AlwaysCloud, AlwaysEdge, RandomRouter, RouteRequest
from langchain_hybridflow.testing import ScriptedChatModel, count_words

ANSWER = "Paris is the capital"
PROMPT = "Capital of France please"  # 4 words in, 4 words out
USAGE = {"input_tokens": 4, "output_tokens": 4, "total_tokens": 8}
PRICES = {"big": Price(1_000, 2_000)}
COST = Decimal("0.012")
KEYS = {
    "tier",
    "model",
    "cost_usd",
    "usage_estimated",
    "degraded",
    "escalated",
    "kept_local",
    "decision",
    "asked",
    "attempts",
}

Merge = Callable[[list[Any]], Any]


def edge(*responses: Any, **kwargs: Any) -> ScriptedChatModel:
    return ScriptedChatModel(responses=list(responses) or [ANSWER], model_name="little", **kwargs)


def cloud(*responses: Any, **kwargs: Any) -> ScriptedChatModel:
    return ScriptedChatModel(responses=list(responses) or [ANSWER], model_name="big", **kwargs)


def routed(**fields: Any) -> RoutedChatModel:
    settings: dict[str, Any] = {
        "edge": edge(),
        "cloud": cloud(),
        "router": AlwaysCloud(),
        "budget": Budget(prices=PRICES),
    }
    return RoutedChatModel(**(settings | fields))


def merged(chunks: list[Any]) -> Any:
    total = chunks[0]
    for chunk in chunks[1:]:
        total += chunk
    return total


async def by_invoke(model: RoutedChatModel, **config: Any) -> Any:
    return model.invoke(PROMPT, config or None)


async def by_ainvoke(model: RoutedChatModel, **config: Any) -> Any:
    return await model.ainvoke(PROMPT, config or None)


async def by_stream(model: RoutedChatModel, **config: Any) -> Any:
    return merged(list(model.stream(PROMPT, config or None)))


async def by_astream(model: RoutedChatModel, **config: Any) -> Any:
    return merged([chunk async for chunk in model.astream(PROMPT, config or None)])


async def by_batch(model: RoutedChatModel, **config: Any) -> Any:
    return model.batch([PROMPT], config or None)[0]


async def by_abatch(model: RoutedChatModel, **config: Any) -> Any:
    return (await model.abatch([PROMPT], config or None))[0]


Way = Callable[..., Awaitable[Any]]
WAYS: list[Way] = [by_invoke, by_ainvoke, by_stream, by_astream, by_batch, by_abatch]
every_way = pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
streaming_ways = pytest.mark.parametrize("way", [by_stream, by_astream])


def booked(model: RoutedChatModel) -> tuple[Decimal, int, int]:
    state = model.budget.snapshot()
    held = [state[key]["held"] for key in ("usd", "cloud_tokens", "cloud_calls")]
    assert held == [0, 0, 0], "the ledger does not balance"
    usd = Decimal(str(state["usd"]["spent"]))
    return usd, state["cloud_tokens"]["spent"], state["cloud_calls"]["spent"]


# ------------------------------------------------------------------------- one answer, counted once


@every_way
async def test_answer_is_the_inner_models(way: Way) -> None:
    answer = await way(routed())
    assert answer.text == ANSWER
    assert answer.response_metadata["model_name"] == "big"
    assert answer.response_metadata["finish_reason"] == "stop"


@every_way
async def test_usage_is_counted_once_under_the_inner_models_name(way: Way) -> None:
    with get_usage_metadata_callback() as counter:
        answer = await way(routed())
    assert answer.usage_metadata == USAGE
    assert counter.usage_metadata == {"big": USAGE}


@every_way
async def test_counted_is_booked(way: Way) -> None:
    model = routed()
    answer = await way(model)
    assert booked(model) == (COST, 8, 1)
    assert answer.response_metadata["hybridflow"]["cost_usd"] == str(COST.quantize(Decimal("1e-6")))


@every_way
async def test_usage_is_estimated_and_marked_when_the_provider_sends_none(way: Way) -> None:
    model = routed(cloud=cloud(report_usage=False))
    with get_usage_metadata_callback() as counter:
        answer = await way(model)
    assert answer.response_metadata["hybridflow"]["usage_estimated"]
    assert answer.usage_metadata["total_tokens"] == booked(model)[1] > 8
    assert counter.usage_metadata == {"big": answer.usage_metadata}


@every_way
async def test_usage_of_zero_is_replaced_by_the_estimate_that_is_booked(way: Way) -> None:
    nothing = {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}
    model = routed(cloud=cloud(AIMessage(ANSWER, usage_metadata=nothing)))
    answer = await way(model)
    assert answer.usage_metadata["total_tokens"] == booked(model)[1] > 8


@every_way
async def test_record_has_the_same_keys_everywhere_and_is_json(way: Way) -> None:
    answer = await way(routed())
    record = answer.response_metadata["hybridflow"]
    assert set(record) == KEYS
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert (record["tier"], record["model"], record["degraded"]) == ("cloud", "big", False)
    assert record["decision"]["router"] == "always_cloud"
    assert [attempt["status"] for attempt in record["attempts"]] == ["ok"]


async def test_record_is_the_same_in_every_way() -> None:
    records = [(await way(routed())).response_metadata["hybridflow"] for way in WAYS]
    assert all(record == records[0] for record in records)


@every_way
async def test_callbacks_see_one_run_that_starts_and_ends(way: Way) -> None:
    events: list[str] = []

    class Handler(BaseCallbackHandler):
        def on_chat_model_start(self, *args: Any, **kwargs: Any) -> None:
            events.append("start")

        def on_llm_end(self, *args: Any, **kwargs: Any) -> None:
            events.append("end")

        def on_llm_error(self, *args: Any, **kwargs: Any) -> None:
            events.append("error")

    await way(routed(), callbacks=[Handler()])
    assert events == ["start", "end"]


@every_way
async def test_inner_model_is_called_once(way: Way) -> None:
    inner = cloud()
    await way(routed(cloud=inner))
    assert len(inner.calls) == 1


@streaming_ways
async def test_each_token_is_reported_once(way: Way) -> None:
    tokens: list[str] = []

    class Handler(BaseCallbackHandler):
        def on_llm_new_token(self, token: str, **kwargs: Any) -> None:
            tokens.append(token)

    await way(routed(), callbacks=[Handler()])
    assert [token for token in tokens if token] == ["Paris", " is", " the", " capital"]


def test_chunks_of_one_answer_have_one_id() -> None:
    assert len({chunk.id for chunk in routed().stream(PROMPT)}) == 1


def test_chunks_of_one_answer_have_the_providers_id_when_there_is_one() -> None:
    model = routed(cloud=cloud(AIMessage(ANSWER, id="provider-7")))
    assert {chunk.id for chunk in model.stream(PROMPT)} == {"provider-7"}


def test_one_chunk_says_it_is_the_last() -> None:
    positions = [chunk.chunk_position for chunk in routed().stream(PROMPT)]
    assert positions[-1] == "last"


def test_batch_counts_every_answer() -> None:
    model = routed()
    with get_usage_metadata_callback() as counter:
        model.batch([PROMPT] * 5, {"max_concurrency": 2})
    assert counter.usage_metadata["big"]["total_tokens"] == 40 == booked(model)[1]


async def test_astream_events_shows_each_token_and_the_usage_once() -> None:
    events = [event async for event in routed().astream_events(PROMPT, version="v2")]
    names = [event["event"] for event in events]
    assert names.count("on_chat_model_start") == names.count("on_chat_model_end") == 1
    tokens = [e["data"]["chunk"].text for e in events if e["event"] == "on_chat_model_stream"]
    assert [token for token in tokens if token] == ["Paris", " is", " the", " capital"]
    message = events[-1]["data"]["output"]
    assert message.usage_metadata == USAGE
    assert message.response_metadata["model_name"] == "big"
    assert set(message.response_metadata["hybridflow"]) == KEYS


def graph_of(model: RoutedChatModel) -> Any:
    def ask(state: MessagesState) -> dict[str, Any]:
        return {"messages": [model.invoke(state["messages"])]}

    async def aask(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await model.ainvoke(state["messages"])]}

    from langchain_core.runnables import RunnableLambda

    graph = StateGraph(MessagesState)
    graph.add_node("ask", RunnableLambda(ask, aask))
    graph.add_edge(START, "ask")
    graph.add_edge("ask", END)
    return graph.compile()


def check_messages(seen: list[BaseMessageChunk], model: RoutedChatModel) -> None:
    assert [each.text for each in seen if each.text] == ["Paris", " is", " the", " capital"]
    assert len({each.id for each in seen}) == 1
    whole = merged(seen)
    assert whole.usage_metadata == USAGE
    assert whole.response_metadata["model_name"] == "big"
    assert booked(model) == (COST, 8, 1)


def test_graph_in_messages_mode_streams_each_token_once() -> None:
    model = routed()
    with get_usage_metadata_callback() as counter:
        stream = graph_of(model).stream({"messages": [("user", PROMPT)]}, stream_mode="messages")
        seen = [message for message, _ in stream]
    check_messages(seen, model)
    assert counter.usage_metadata == {"big": USAGE}


async def test_async_graph_in_messages_mode_streams_each_token_once() -> None:
    model = routed()
    with get_usage_metadata_callback() as counter:
        stream = graph_of(model).astream({"messages": [("user", PROMPT)]}, stream_mode="messages")
        seen = [message async for message, _ in stream]
    check_messages(seen, model)
    assert counter.usage_metadata == {"big": USAGE}


@every_way
async def test_tool_calls_come_through(way: Way) -> None:
    call = {"name": "add", "args": {"a": 1}, "id": "c1", "type": "tool_call"}
    answer = await way(routed(cloud=cloud(AIMessage("", tool_calls=[call]))))
    assert answer.tool_calls == [call]


@every_way
async def test_empty_answer_is_an_answer(way: Way) -> None:
    answer = await way(routed(cloud=cloud("")))
    assert answer.text == ""
    assert answer.response_metadata["hybridflow"]["tier"] == "cloud"


def test_options_and_stop_words_reach_the_inner_model() -> None:
    inner = cloud()
    answer = routed(cloud=inner).invoke(PROMPT, stop=["the"], temperature=0.5)
    assert answer.text == "Paris is "
    assert inner.call_kwargs == [{"temperature": 0.5, "stop": ["the"]}]


def test_bound_options_reach_the_inner_model() -> None:
    inner = cloud()
    assert routed(cloud=inner).bind(max_tokens=2).invoke(PROMPT).text == "Paris is"


@every_way
async def test_megabyte_of_prompt_is_answered_on_the_edge_when_it_does_not_fit(way: Way) -> None:
    budget = Budget(max_cloud_tokens=100_000, prices=PRICES)
    model = routed(budget=budget, edge=edge("short"))
    messages = "word " * 200_000
    assert model.invoke(messages).response_metadata["hybridflow"]["degraded"]


# ---------------------------------------------------------------- what the inner models bring along


class CountingLimiter(BaseRateLimiter):
    def __init__(self) -> None:
        self.acquired = 0

    def acquire(self, *, blocking: bool = True) -> bool:
        self.acquired += 1
        return True

    async def aacquire(self, *, blocking: bool = True) -> bool:
        return self.acquire(blocking=blocking)


@every_way
async def test_inner_rate_limiter_is_asked_once(way: Way) -> None:
    limiter = CountingLimiter()
    await way(routed(cloud=cloud(rate_limiter=limiter)))
    assert limiter.acquired == 1


@pytest.mark.parametrize("way", [by_invoke, by_ainvoke])
async def test_inner_cache_answers_again_for_nothing(way: Way) -> None:
    model = routed(cloud=cloud("first", "second", cache=InMemoryCache()))
    first, second = await way(model), await way(model)
    assert (first.text, second.text) == ("first", "first")
    assert booked(model)[2] == 1, "nobody bills an answer from the cache"
    assert second.response_metadata["hybridflow"]["cost_usd"] == "0"


@streaming_ways
async def test_inner_model_that_shall_not_stream_gives_one_piece(way: Way) -> None:
    inner = cloud(disable_streaming=True)
    model = routed(cloud=inner)
    chunks = [chunk for chunk in model.stream(PROMPT) if chunk.text]
    assert [chunk.text for chunk in chunks] == [ANSWER]
    assert (await way(model)).usage_metadata == USAGE


@streaming_ways
async def test_model_that_cannot_stream_gives_one_piece(way: Way) -> None:
    answer = await way(routed(cloud=FakeListChatModel(responses=[ANSWER])))
    assert answer.text == ANSWER
    assert answer.response_metadata["model_name"] == "FakeListChatModel"


@pytest.fixture
def global_cache() -> Iterator[InMemoryCache]:
    cache = InMemoryCache()
    set_llm_cache(cache)
    yield cache
    set_llm_cache(None)


class Alternating:
    """Edge, cloud, edge, cloud, ..."""

    def __init__(self) -> None:
        self.count = 0

    def route(self, request: RouteRequest) -> Any:
        self.count += 1
        return (AlwaysEdge() if self.count % 2 else AlwaysCloud()).route(request)


@pytest.mark.parametrize("way", [by_invoke, by_ainvoke])
async def test_global_cache_never_serves_one_tiers_answer_for_the_other(
    way: Way, global_cache: InMemoryCache
) -> None:
    model = routed(edge=edge("from edge"), cloud=cloud("from cloud"), router=Alternating())
    answers = [await way(model) for _ in range(4)]
    assert [answer.text for answer in answers] == ["from edge", "from cloud"] * 2
    tiers = [answer.response_metadata["hybridflow"]["tier"] for answer in answers]
    assert tiers == ["edge", "cloud"] * 2


# --------------------------------------------------------------------------------------- fall back


@every_way
async def test_edge_answers_when_the_cloud_is_down(way: Way) -> None:
    model = routed(cloud=cloud(ConnectionRefusedError("no net")), edge=edge("from edge"))
    with get_usage_metadata_callback() as counter:
        answer = await way(model)
    assert answer.text == "from edge"
    assert answer.response_metadata["model_name"] == "little"
    assert set(counter.usage_metadata) == {"little"}
    failed, good = answer.response_metadata["hybridflow"]["attempts"]
    assert (failed["tier"], failed["status"], failed["cost_usd"]) == ("cloud", "failed", "0")
    assert failed["error"] == "ConnectionRefusedError: no net"
    assert (good["tier"], good["status"]) == ("edge", "ok")
    assert booked(model) == (0, 0, 0)


@every_way
async def test_cloud_answers_when_the_edge_is_down(way: Way) -> None:
    model = routed(router=AlwaysEdge(), edge=edge(ConnectionRefusedError()))
    assert (await way(model)).response_metadata["model_name"] == "big"
    assert booked(model) == (COST, 8, 1)


@every_way
async def test_failure_of_both_tiers_names_both(way: Way) -> None:
    model = routed(cloud=cloud(ConnectionRefusedError()), edge=edge(ValueError("off")))
    with pytest.raises(ModelCallError, match=r"cloud failed: .*edge failed: ValueError: off"):
        await way(model)
    assert booked(model) == (0, 0, 0)


@every_way
async def test_error_of_the_model_comes_out_when_it_may_not_be_replaced(way: Way) -> None:
    model = routed(cloud=cloud(ConnectionRefusedError("mine")), on_cloud_error="raise")
    with pytest.raises(ConnectionRefusedError, match="mine"):
        await way(model)
    assert booked(model) == (0, 0, 0)


@streaming_ways
async def test_broken_stream_is_not_continued_by_the_other_tier(way: Way) -> None:
    spare = edge("never")
    model = routed(cloud=cloud(fail_after_chunks=2), edge=spare)
    with pytest.raises(ModelCallError) as caught:
        await way(model)
    assert caught.value.partial_text == "Paris is"
    assert caught.value.tier == "cloud"
    assert isinstance(caught.value.__cause__, ConnectionError)
    assert spare.calls == []
    usd, tokens, calls = booked(model)
    assert usd > 0
    assert 0 < tokens < 60, "the prompt and what came, not the worst case"
    assert calls == 1


class SelfStreaming(ScriptedChatModel):
    """Streams whenever it is called, as a model with this switch does."""

    streaming: bool = True


class Tokens(BaseCallbackHandler):
    """What a handler is shown, token by token."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def on_llm_new_token(self, token: str, **kwargs: Any) -> None:
        self.seen.append(token)


@pytest.mark.parametrize("way", [by_invoke, by_ainvoke])
async def test_call_whose_tokens_were_shown_is_not_continued_by_the_other_tier(way: Way) -> None:
    spare, tokens = edge("never"), Tokens()
    breaking = SelfStreaming(
        responses=[ANSWER], model_name="big", fail_after_chunks=2, streaming=True
    )
    model = routed(cloud=breaking, edge=spare)
    with pytest.raises(ModelCallError) as caught:
        await way(model, callbacks=[tokens])
    assert (caught.value.partial_text, tokens.seen) == ("Paris is", ["Paris", " is"])
    assert spare.calls == []
    assert 0 < booked(model)[1] < 60, "the prompt and what came, not the worst case"


@pytest.mark.parametrize("way", [by_invoke, by_ainvoke])
async def test_tokens_of_a_model_that_streams_by_itself_are_counted_once(way: Way) -> None:
    tokens = Tokens()
    model = routed(cloud=SelfStreaming(responses=[ANSWER], model_name="big", streaming=True))
    with get_usage_metadata_callback() as usage:
        await way(model, callbacks=[tokens])
    assert "".join(tokens.seen) == ANSWER
    assert usage.usage_metadata["big"]["total_tokens"] == USAGE["total_tokens"]


def test_model_that_was_given_up_shows_nothing_any_more() -> None:
    release, stopped = threading.Event(), threading.Event()

    class Late(ScriptedChatModel):
        def _generate(self, *args: Any, run_manager: Any = None, **kwargs: Any) -> Any:
            try:
                release.wait(30)
                run_manager.on_llm_new_token("late")
                pytest.fail("it was not stopped")
            finally:
                stopped.set()

    tokens = Tokens()
    late = Late(responses=["."], model_name="big")
    model = routed(cloud=late, edge=edge("from edge"), cloud_timeout_s=0.05)
    assert model.invoke(PROMPT, {"callbacks": [tokens]}).text == "from edge"
    release.set()
    assert stopped.wait(30)
    assert tokens.seen == []


@streaming_ways
async def test_stream_that_breaks_before_its_first_chunk_is_replaced(way: Way) -> None:
    model = routed(cloud=cloud(fail_after_chunks=0), edge=edge("from edge"))
    assert (await way(model)).text == "from edge"
    assert booked(model)[2] == 1, "nobody knows whether the broken call was billed"


@every_way
async def test_fallback_costs_both_calls_when_the_first_may_have_been_answered(way: Way) -> None:
    prices = PRICES | {"little": Price(1, 1)}
    model = routed(cloud=cloud(TimeoutError()), budget=Budget(prices=prices))
    record = (await way(model)).response_metadata["hybridflow"]
    costs = [Decimal(attempt["cost_usd"]) for attempt in record["attempts"]]
    assert all(cost > 0 for cost in costs)
    assert Decimal(record["cost_usd"]) == sum(costs) == booked(model)[0]


# ----------------------------------------------------------------------------------------- budgets


@every_way
async def test_edge_answers_when_the_budget_is_exhausted(way: Way) -> None:
    model = routed(budget=Budget(max_cloud_calls=1, prices=PRICES))
    first, second = await way(model), await way(model)
    tiers = [answer.response_metadata["hybridflow"]["tier"] for answer in (first, second)]
    assert tiers == ["cloud", "edge"]
    assert second.response_metadata["hybridflow"]["degraded"]
    assert booked(model)[2] == 1


@every_way
async def test_exhausted_budget_raises_when_told_to(way: Way) -> None:
    model = routed(budget=Budget(max_cloud_calls=0, on_exhausted="raise", prices=PRICES))
    with pytest.raises(BudgetExceeded, match="cloud_calls"):
        await way(model)


def test_unknown_price_raises_at_construction_when_usd_are_limited() -> None:
    with pytest.raises(UnknownPriceError, match="'big'"):
        routed(budget=Budget(limit_usd=1))


def test_unknown_price_raises_at_construction_when_usd_are_limited_for_each_run() -> None:
    with pytest.raises(UnknownPriceError):
        routed(budget=Budget(per_run=Limits(usd=1)))


@every_way
async def test_unknown_price_is_none_when_usd_are_not_limited(way: Way) -> None:
    model = routed(budget=Budget(max_cloud_tokens=10_000))
    assert (await way(model)).response_metadata["hybridflow"]["cost_usd"] is None


@every_way
async def test_edge_with_a_price_is_charged(way: Way) -> None:
    model = routed(router=AlwaysEdge(), budget=Budget(prices=PRICES | {"little": Price(1_000, 0)}))
    assert (await way(model)).response_metadata["hybridflow"]["cost_usd"] == "0.004000"
    assert booked(model) == (Decimal("0.004"), 0, 0)


@every_way
async def test_cloud_answer_is_cut_at_max_output_tokens_when_tokens_are_limited(way: Way) -> None:
    model = routed(budget=Budget(max_cloud_tokens=1_000, prices=PRICES), max_output_tokens=2)
    answer = await way(model)
    assert answer.text == "Paris is"
    assert answer.response_metadata["finish_reason"] == "length"


@every_way
async def test_deadline_ends_a_call_that_hangs(way: Way) -> None:
    release = threading.Event()

    async def wait_for_ever(_seconds: float) -> None:
        await asyncio.Event().wait()

    inner = cloud(sleep=lambda _: release.wait(30) and None, asleep=wait_for_ever)
    model = routed(cloud=inner, budget=Budget(deadline_s=0.05, prices=PRICES))
    with pytest.raises(ModelCallError, match="DeadlineExceeded"):
        await way(model)
    release.set()
    assert booked(model)[2] == 1


class LimitWatch:
    """Checks, at every call of the model, that no limit is passed right now."""

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self.worst = 0.0

    def __call__(self, messages: Any) -> str:
        state = self.budget.snapshot()
        for key in ("usd", "cloud_tokens", "cloud_calls"):
            if state[key]["limit"] is not None:
                used = state[key]["spent"] + state[key]["held"]
                self.worst = max(self.worst, used / state[key]["limit"])
        return ANSWER


def hard_budget() -> Budget:
    return Budget(limit_usd=2, max_cloud_tokens=1_500, max_cloud_calls=40, prices=PRICES)


def test_64_threads_never_pass_a_limit() -> None:
    budget = hard_budget()
    watch = LimitWatch(budget)
    model = routed(budget=budget, cloud=cloud(watch), max_output_tokens=20)
    start = threading.Barrier(64)

    def work(_: int) -> list[str]:
        start.wait()
        answers = [model.invoke(PROMPT) for _ in range(3)]
        return [answer.response_metadata["hybridflow"]["tier"] for answer in answers]

    with ThreadPoolExecutor(64) as pool:
        tiers = [tier for row in pool.map(work, range(64)) for tier in row]
    usd, tokens, calls = booked(model)
    assert 0 < watch.worst <= 1
    assert calls == tiers.count("cloud") > 0
    assert (tokens, usd) == (8 * calls, COST * calls)


@pytest.mark.parametrize("streamed", [False, True])
async def test_200_coroutines_never_pass_a_limit(*, streamed: bool) -> None:
    budget = hard_budget()
    watch = LimitWatch(budget)
    model = routed(budget=budget, cloud=cloud(watch), max_output_tokens=20)
    way = by_astream if streamed else by_ainvoke
    answers = await asyncio.gather(*(way(model) for _ in range(200)))
    tiers = [answer.response_metadata["hybridflow"]["tier"] for answer in answers]
    usd, tokens, calls = booked(model)
    assert 0 < watch.worst <= 1
    assert calls == tiers.count("cloud") > 0
    assert (tokens, usd) == (8 * calls, COST * calls)


# ------------------------------------------------------------ whatever happens, the ledger balances


class Broken(BaseException):
    """As a KeyboardInterrupt would be, without ending the test run."""


FAILURES = [
    ConnectionRefusedError("refused"),
    ConnectionResetError("reset"),
    TimeoutError(),
    ValueError("bad"),
    RuntimeError("sk-CANARY0123456789"),
]


@every_way
@pytest.mark.parametrize("failure", FAILURES, ids=repr)
async def test_ledger_balances_when_the_call_fails(way: Way, failure: Exception) -> None:
    model = routed(cloud=cloud(failure), edge=edge(failure))
    with pytest.raises(ModelCallError) as caught:
        await way(model)
    booked(model)
    assert "CANARY" not in str(caught.value)


@pytest.mark.parametrize("way", [by_invoke, by_stream, by_ainvoke, by_astream])
async def test_ledger_balances_and_charges_when_the_call_is_interrupted(way: Way) -> None:
    def interrupt(messages: Any) -> str:
        raise Broken

    model = routed(cloud=cloud(interrupt))
    # LangChain's own `agenerate` stumbles over what is no Exception, after us.
    with pytest.raises((Broken, AttributeError)):
        await way(model)
    assert booked(model)[2] == 1


async def test_cancelled_call_is_charged() -> None:
    called = asyncio.Event()

    async def wait_for_ever(_seconds: float) -> None:
        called.set()
        await asyncio.Event().wait()

    for way in (by_ainvoke, by_astream):
        called.clear()
        model = routed(cloud=cloud(asleep=wait_for_ever))
        task = asyncio.create_task(way(model))  # type: ignore[arg-type]
        await called.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert booked(model)[2] == 1


async def test_stream_cancelled_in_the_middle_is_charged_what_came() -> None:
    seen = asyncio.Event()
    model = routed(cloud=cloud("word " * 900), max_output_tokens=1_000)

    async def read() -> None:
        async for _ in model.astream(PROMPT):
            seen.set()

    task = asyncio.create_task(read())
    await seen.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.get_running_loop().shutdown_asyncgens()
    _, tokens, calls = booked(model)
    assert calls == 1
    assert 0 < tokens < 200


def test_abandoned_stream_is_charged_what_came() -> None:
    model = routed(cloud=cloud("word " * 900), max_output_tokens=1_000)
    stream = model.stream(PROMPT)
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    _, tokens, calls = booked(model)
    assert calls == 1
    assert 0 < tokens < 100


def test_stream_is_settled_when_its_reader_breaks_off_and_forgets_it() -> None:
    model = routed(cloud=cloud("word " * 900))
    for _ in model.stream(PROMPT):
        break
    gc.collect()
    assert booked(model)[2] == 1


async def test_abandoned_async_stream_is_charged_what_came() -> None:
    model = routed(cloud=cloud("word " * 900), max_output_tokens=1_000)
    stream = model.astream(PROMPT)
    await anext(stream)
    await stream.aclose()  # type: ignore[attr-defined]
    await asyncio.get_running_loop().shutdown_asyncgens()
    _, tokens, calls = booked(model)
    assert calls == 1
    assert 0 < tokens < 100


def test_async_stream_is_settled_when_its_reader_breaks_off_and_its_loop_ends() -> None:
    model = routed(cloud=cloud("word " * 900))

    async def read() -> None:
        async for _ in model.astream(PROMPT):
            break

    asyncio.run(read())
    assert booked(model)[2] == 1


async def test_own_async_stream_is_settled_as_soon_as_it_is_closed() -> None:
    model = routed(cloud=cloud("word " * 900))
    stream = model._astream(model._convert_input(PROMPT).to_messages())
    await anext(stream)  # type: ignore[arg-type]
    await stream.aclose()  # type: ignore[attr-defined]
    assert booked(model)[2] == 1


def test_ledger_balances_when_a_callback_fails_in_mid_stream() -> None:
    class Handler(BaseCallbackHandler):
        raise_error = True

        def on_llm_new_token(self, *args: Any, **kwargs: Any) -> None:
            raise RuntimeError("handler")

    model = routed()
    with pytest.raises(RuntimeError, match="handler"):
        list(model.stream(PROMPT, {"callbacks": [Handler()]}))
    assert booked(model)[2] == 1


@every_way
async def test_router_failure_goes_to_the_edge_with_the_reason(way: Way) -> None:
    class Failing:
        def route(self, request: RouteRequest) -> Any:
            raise ValueError("no weights")

    record = (await way(routed(router=Failing()))).response_metadata["hybridflow"]
    assert record["tier"] == "edge"
    assert record["decision"]["reason"] == "router Failing failed (ValueError): edge"


@every_way
async def test_router_failure_raises_when_told_to(way: Way) -> None:
    class Failing:
        def route(self, request: RouteRequest) -> Any:
            return "cloud"

    with pytest.raises(RoutingError, match="got str"):
        await way(routed(router=Failing(), on_router_error="raise"))


def test_decisions_of_a_random_router_do_not_depend_on_the_order() -> None:
    prompts = [f"question {n}" for n in range(30)]
    model = routed(router=RandomRouter(seed=3))
    tiers = {p: model.invoke(p).response_metadata["hybridflow"]["tier"] for p in prompts}
    again = model.batch(list(reversed(prompts)))
    assert [a.response_metadata["hybridflow"]["tier"] for a in reversed(again)] == [*tiers.values()]
    assert len(set(tiers.values())) == 2


# ----------------------------------------------------------------------------------------- secrets


class KeyedChatModel(ScriptedChatModel):
    api_key: SecretStr = SecretStr("CANARY-plain-secret")


@every_way
async def test_key_of_a_model_is_in_no_record_and_no_message(way: Way) -> None:
    def leak(messages: Any) -> str:
        raise RuntimeError("Invalid key CANARY-plain-secret and sk-CANARY0123456789")

    model = routed(cloud=KeyedChatModel(responses=[leak], model_name="big"))
    answer = await way(model)
    assert "CANARY" not in repr(answer)
    assert "Invalid key *** and ***" in repr(answer)
    assert "CANARY" not in repr(model)


# ---------------------------------------------------------------------------- fields, copies, loops


@pytest.mark.parametrize("tier", ["edge", "cloud"])
def test_tier_that_is_no_chat_model_is_refused(tier: str) -> None:
    bound = edge().bind(temperature=1)
    with pytest.raises(ConfigurationError, match="Binding"):
        routed(**{tier: bound})


def test_router_without_a_method_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="str has none"):
        routed(router="cloud")


@pytest.mark.parametrize("field", [{"max_output_tokens": 0}, {"on_edge_error": "retry"}])
def test_field_out_of_its_range_is_refused(field: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        routed(**field)


def test_assigned_fields_take_effect() -> None:
    model = routed()
    assert model.invoke(PROMPT).response_metadata["model_name"] == "big"
    model.router = AlwaysEdge()
    assert model.invoke(PROMPT).response_metadata["model_name"] == "little"
    model.edge = ScriptedChatModel(responses=["new"], model_name="newest")
    assert model.invoke(PROMPT).response_metadata["model_name"] == "newest"
    model.router = AlwaysCloud()
    model.budget = Budget(max_cloud_calls=0, prices=PRICES)
    assert model.invoke(PROMPT).response_metadata["hybridflow"]["degraded"]


def test_copy_with_other_fields_has_them_and_leaves_the_original() -> None:
    model = routed()
    model.invoke(PROMPT)
    copied = model.model_copy(update={"router": AlwaysEdge()})
    assert copied.invoke(PROMPT).response_metadata["model_name"] == "little"
    assert model.invoke(PROMPT).response_metadata["model_name"] == "big"


def test_copy_shares_the_budget() -> None:
    model = routed(budget=Budget(max_cloud_calls=1, prices=PRICES))
    copied = model.model_copy()
    model.invoke(PROMPT)
    assert copied.invoke(PROMPT).response_metadata["hybridflow"]["degraded"]


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_budget_is_never_doubled_silently(duplicate: Callable[[Any], Any]) -> None:
    model = routed(budget=Budget(max_cloud_calls=1, prices=PRICES))
    with pytest.raises(TypeError, match="pickle"):
        duplicate(model)


def test_one_model_serves_several_event_loops() -> None:
    model = routed()
    texts = [asyncio.run(by_ainvoke(model)).text for _ in range(3)]  # type: ignore[arg-type]

    def in_a_thread(_: int) -> str:
        return str(asyncio.run(by_astream(model)).text)  # type: ignore[arg-type]

    with ThreadPoolExecutor(4) as pool:
        texts += pool.map(in_a_thread, range(8))
    assert texts == [ANSWER] * 11
    assert booked(model)[2] == 11


def test_routed_model_can_be_a_tier_of_another() -> None:
    inner = routed(budget=Budget(max_cloud_calls=5, prices=PRICES))
    outer = RoutedChatModel(edge=edge(), cloud=inner, router=AlwaysCloud())
    with get_usage_metadata_callback() as counter:
        answer = outer.invoke(PROMPT)
    assert answer.text == ANSWER
    assert counter.usage_metadata == {"big": USAGE}
    assert booked(inner)[2] == 1


@streaming_ways
@pytest.mark.parametrize("verify", [None, lambda _: False])
async def test_record_is_the_outer_models_when_a_routed_model_is_a_tier_of_another(
    way: Way, verify: Any
) -> None:
    inner = RoutedChatModel(edge=edge(), cloud=cloud(), router=AlwaysEdge(), verify=verify)
    outer = RoutedChatModel(edge=edge("never"), cloud=inner, router=AlwaysCloud())
    answer = await way(outer)
    record = answer.response_metadata["hybridflow"]
    assert (answer.text, record["tier"], len(record["attempts"])) == (ANSWER, "cloud", 1)
    assert answer.response_metadata["model_name"] == ("big" if verify else "little")


def test_nothing_is_said_of_hidden_retries_when_a_routed_model_is_a_tier_of_another(
    caplog: pytest.LogCaptureFixture,
) -> None:
    RoutedChatModel(edge=edge(), cloud=routed(), router=AlwaysCloud()).invoke(PROMPT)
    assert "may repeat a call" not in caplog.text


def test_text_to_route_is_the_last_human_message() -> None:
    seen: list[str] = []

    class Reading:
        def route(self, request: RouteRequest) -> Any:
            seen.append(request.text)
            return AlwaysEdge().route(request)

    model = routed(router=Reading())
    model.invoke([("system", "Be brief."), ("user", "Why?"), ("ai", "Because."), ("tool", "x")][:3])
    model.invoke([("system", "Only a system message.")])
    assert seen == ["Why?", "Only a system message."]


def test_model_says_what_it_is_made_of() -> None:
    assert routed()._identifying_params == {
        "edge": "little",
        "cloud": "big",
        "router": "AlwaysCloud",
    }


def test_scripted_usage_counts_words() -> None:
    assert count_words(PROMPT) == count_words(ANSWER) == 4
    assert isinstance(routed(), BaseChatModel)
    assert isinstance(next(iter(routed().stream(PROMPT))), AIMessageChunk)
