"""`RoutedChatModel` over real langchain-openai clients, real HTTP, and servers that misbehave."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import openai
import pytest
from langchain_core.callbacks import get_usage_metadata_callback
from langchain_core.language_models import BaseChatModel
from langchain_openai import ChatOpenAI
from starlette.applications import Starlette

from langchain_hybridflow import Budget, Price, RoutedChatModel
from langchain_hybridflow.errors import ModelCallError
from langchain_hybridflow.routing import AlwaysCloud, AlwaysEdge
from langchain_hybridflow.sandbox.server import Fault, create_app, running_server
from langchain_hybridflow.testing import ScriptedChatModel

ANSWER = "Paris is the capital"
PROMPT = "Capital of France please"
USAGE = {"input_tokens": 4, "output_tokens": 4, "total_tokens": 8}
PRICES = {"big": Price(1_000, 2_000)}
COST = Decimal("0.012")


@dataclass(frozen=True)
class Site:
    """Both tiers behind one server, and a routed model of real clients before them."""

    app: Starlette
    url: str

    def client(self, name: str, **kwargs: Any) -> ChatOpenAI:
        settings = {"base_url": self.url, "api_key": "none", "max_retries": 0, "timeout": 30}
        return ChatOpenAI(model=name, **(settings | kwargs))

    def routed(self, *, client: dict[str, Any] | None = None, **fields: Any) -> RoutedChatModel:
        """A routed model; `client` are settings of the cloud's client."""
        settings: dict[str, Any] = {
            "edge": self.client("little"),
            "cloud": self.client("big", **(client or {})),
            "router": AlwaysCloud(),
            "budget": Budget(max_cloud_tokens=100_000, prices=PRICES),
            "max_retries": 0,
        }
        return RoutedChatModel(**(settings | fields))

    def fail(self, kind: str, **settings: Any) -> None:
        self.app.state.faults.add(Fault(kind=kind, **({"model": "big"} | settings)))

    @property
    def requests(self) -> list[Any]:
        return list(self.app.state.log)


def serve(models: dict[str, BaseChatModel], **kwargs: Any) -> Iterator[Site]:
    app = create_app(models, **kwargs)
    with running_server(app) as url:
        yield Site(app, url)


def tiers(answer: str = ANSWER) -> dict[str, BaseChatModel]:
    return {
        "little": ScriptedChatModel(responses=["from the edge"], model_name="little"),
        "big": ScriptedChatModel(responses=[answer], model_name="big"),
    }


# A server for each test: clients for one address share their connections, which are bound to the
# event loop that opened them.
@pytest.fixture
def site() -> Iterator[Site]:
    yield from serve(tiers())


async def by_invoke(model: RoutedChatModel) -> Any:
    return await asyncio.to_thread(model.invoke, PROMPT)


async def by_ainvoke(model: RoutedChatModel) -> Any:
    return await model.ainvoke(PROMPT)


async def by_stream(model: RoutedChatModel) -> Any:
    return merged(await asyncio.to_thread(lambda: list(model.stream(PROMPT))))


async def by_astream(model: RoutedChatModel) -> Any:
    return merged([chunk async for chunk in model.astream(PROMPT)])


def merged(chunks: list[Any]) -> Any:
    total = chunks[0]
    for chunk in chunks[1:]:
        total += chunk
    return total


Way = Callable[[RoutedChatModel], Awaitable[Any]]
every_way = pytest.mark.parametrize("way", [by_invoke, by_ainvoke, by_stream, by_astream])
whole_ways = pytest.mark.parametrize("way", [by_invoke, by_ainvoke])
streaming_ways = pytest.mark.parametrize("way", [by_stream, by_astream])


def booked(model: RoutedChatModel) -> tuple[Decimal, int, int]:
    state = model.budget.snapshot()
    held = [state[key]["held"] for key in ("usd", "cloud_tokens", "cloud_calls")]
    assert held == [0, 0, 0], "the ledger does not balance"
    usd = Decimal(str(state["usd"]["spent"]))
    return usd, state["cloud_tokens"]["spent"], state["cloud_calls"]["spent"]


def record(answer: Any) -> dict[str, Any]:
    return dict(answer.response_metadata["hybridflow"])


# ------------------------------------------------------------------------------ when all goes well


@every_way
async def test_answer_is_counted_once_and_booked_to_the_token(site: Site, way: Way) -> None:
    model = site.routed()
    with get_usage_metadata_callback() as counter:
        answer = await way(model)
    assert answer.text == ANSWER
    assert answer.response_metadata["model_name"] == "big"
    assert [usage["total_tokens"] for usage in counter.usage_metadata.values()] == [8]
    assert list(counter.usage_metadata) == ["big"]
    assert booked(model) == (COST, 8, 1)
    assert not record(answer)["usage_estimated"]
    assert len(site.requests) == 1


@streaming_ways
async def test_stream_has_usage_although_the_server_is_not_openais(site: Site, way: Way) -> None:
    answer = await way(site.routed())
    assert {key: answer.usage_metadata[key] for key in USAGE} == USAGE
    assert site.requests[0].body["stream_options"] == {"include_usage": True}


@streaming_ways
async def test_usage_is_estimated_when_the_user_switched_it_off(site: Site, way: Way) -> None:
    model = site.routed(client={"stream_usage": False})
    answer = await way(model)
    assert "stream_options" not in site.requests[0].body
    assert record(answer)["usage_estimated"]
    assert answer.usage_metadata["total_tokens"] == booked(model)[1] > 8


@every_way
async def test_answer_is_capped_over_the_wire(site: Site, way: Way) -> None:
    answer = await way(site.routed(max_output_tokens=2))
    assert answer.text == "Paris is"
    assert answer.response_metadata["finish_reason"] == "length"
    assert booked(site.routed())[1] == 0


def test_chunks_have_one_id(site: Site) -> None:
    assert len({chunk.id for chunk in site.routed().stream(PROMPT)}) == 1


async def test_astream_events_streams_each_token_once(site: Site) -> None:
    events = [event async for event in site.routed().astream_events(PROMPT, version="v2")]
    chunks = [e["data"]["chunk"] for e in events if e["event"] == "on_chat_model_stream"]
    assert "".join(chunk.text for chunk in chunks) == ANSWER
    assert events[-1]["data"]["output"].usage_metadata["total_tokens"] == 8
    assert events[-1]["data"]["output"].response_metadata["model_name"] == "big"


async def test_many_calls_at_once_are_all_booked(site: Site) -> None:
    model = site.routed()
    await model.abatch([PROMPT] * 30)
    assert booked(model) == (COST * 30, 240, 30)


async def test_exhausted_budget_sends_no_request_to_the_cloud(site: Site) -> None:
    model = site.routed(budget=Budget(max_cloud_calls=2, prices=PRICES))
    answers = await model.abatch([PROMPT] * 6)
    assert [each.text for each in answers].count("from the edge") == 4
    assert [request.model for request in site.requests].count("big") == 2


# ----------------------------------------------------------------------------- when things go wrong


@every_way
@pytest.mark.parametrize("kind", ["rate_limit", "server_error", "unauthorized"])
async def test_refusal_by_the_server_is_free_and_the_edge_answers(
    site: Site, way: Way, kind: str
) -> None:
    site.fail(kind)
    model = site.routed()
    answer = await way(model)
    assert (answer.text, answer.response_metadata["model_name"]) == ("from the edge", "little")
    assert booked(model) == (0, 0, 0)
    assert [attempt["status"] for attempt in record(answer)["attempts"]] == ["failed", "ok"]


@every_way
@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("rate_limit", openai.RateLimitError),
        ("server_error", openai.InternalServerError),
        ("unauthorized", openai.AuthenticationError),
    ],
)
async def test_refusal_by_the_server_keeps_its_type_when_it_may_not_be_replaced(
    site: Site, way: Way, kind: str, error: type[Exception]
) -> None:
    site.fail(kind)
    with pytest.raises(error):
        await way(site.routed(on_cloud_error="raise"))


@every_way
async def test_server_that_hangs_is_charged_and_the_edge_answers(site: Site, way: Way) -> None:
    site.fail("hang")
    model = site.routed(client={"timeout": 0.3}, max_output_tokens=50)
    answer = await way(model)
    assert answer.text == "from the edge"
    assert booked(model)[1] > 50, "the worst case: nobody knows what the server did"
    assert record(answer)["attempts"][0]["cost_usd"] == record(answer)["cost_usd"]


async def test_time_out_is_not_repeated_behind_the_budgets_back(site: Site) -> None:
    site.fail("hang", times=None)
    model = site.routed(client={"timeout": 0.2, "max_retries": 2}, max_retries=2)
    assert (await by_ainvoke(model)).text == "from the edge"
    assert [request.model for request in site.requests] == ["big", "little"]


@every_way
async def test_deadline_ends_a_server_that_hangs(site: Site, way: Way) -> None:
    site.fail("hang")
    budget = Budget(deadline_s=0.3, prices=PRICES, max_cloud_calls=5)
    model = site.routed(budget=budget, client={"timeout": 2})  # a thread can only be left behind
    with pytest.raises(ModelCallError, match="DeadlineExceeded"):
        await way(model)
    assert booked(model)[2] == 1


@streaming_ways
@pytest.mark.parametrize("kind", ["hang_mid_stream", "drop_mid_stream"])
async def test_stream_that_dies_after_its_first_words_is_an_error_with_them(
    site: Site, way: Way, kind: str
) -> None:
    site.fail(kind, after_parts=3)
    model = site.routed(client={"timeout": 0.3})
    with pytest.raises(ModelCallError) as caught:
        await way(model)
    assert caught.value.partial_text == "Paris is"
    assert [request.model for request in site.requests] == ["big"]
    assert 0 < booked(model)[1] < 100


@streaming_ways
async def test_stream_that_dies_before_its_first_word_is_replaced(site: Site, way: Way) -> None:
    site.fail("drop_mid_stream", after_parts=1)
    model = site.routed()
    answer = await way(model)
    assert (answer.text, answer.response_metadata["model_name"]) == ("from the edge", "little")
    assert booked(model)[2] == 1


@whole_ways
async def test_whole_answer_that_is_cut_off_is_charged_and_replaced(site: Site, way: Way) -> None:
    site.fail("drop_mid_stream")
    model = site.routed()
    assert (await way(model)).text == "from the edge"
    assert booked(model)[2] == 1


@whole_ways
async def test_broken_json_is_charged_and_replaced(site: Site, way: Way) -> None:
    site.fail("truncate")
    model = site.routed()
    assert (await way(model)).text == "from the edge"
    assert booked(model)[2] == 1


@every_way
async def test_garbage_is_contained(site: Site, way: Way) -> None:
    site.fail("garbage")
    model = site.routed()
    assert (await way(model)).text == "from the edge"
    booked(model)


@every_way
async def test_empty_answer_is_an_answer(site: Site, way: Way) -> None:
    site.fail("empty")
    model = site.routed()
    answer = await way(model)
    assert (answer.text, record(answer)["tier"]) == ("", "cloud")
    assert booked(model)[2] == 1


@every_way
async def test_both_tiers_down_is_one_clear_error(site: Site, way: Way) -> None:
    site.fail("server_error", model=None, times=None)
    model = site.routed()
    with pytest.raises(ModelCallError, match=r"cloud failed: .*edge failed: ") as caught:
        await way(model)
    assert isinstance(caught.value.__cause__, openai.InternalServerError)
    assert booked(model) == (0, 0, 0)
    assert len(site.requests) == 2


@every_way
async def test_server_that_is_not_there_is_free_and_replaced(site: Site, way: Way) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    model = site.routed(client={"base_url": f"http://127.0.0.1:{port}/v1"})
    assert (await way(model)).text == "from the edge"
    assert booked(model) == (0, 0, 0)


@every_way
async def test_wrong_key_is_an_error_without_the_key(way: Way) -> None:
    for site in serve(tiers(), api_key="right"):
        clients = {
            name: site.client(model, api_key="sk-CANARY-0123456789")
            for name, model in (("edge", "little"), ("cloud", "big"))
        }
        model = site.routed(**clients)
        with pytest.raises(ModelCallError) as caught:
            await way(model)
        assert "AuthenticationError" in str(caught.value)
        assert "CANARY" not in str(caught.value)
        assert booked(model) == (0, 0, 0)


@every_way
async def test_cloud_answers_for_an_edge_that_fails(site: Site, way: Way) -> None:
    site.fail("server_error", model="little")
    model = site.routed(router=AlwaysEdge())
    assert (await way(model)).text == ANSWER
    assert booked(model) == (COST, 8, 1)


# ------------------------------------------------------------------------------- callers that leave


async def test_cancelled_call_leaves_nothing_held_and_the_server_idle(site: Site) -> None:
    site.fail("hang")
    model = site.routed()
    task = asyncio.create_task(model.ainvoke(PROMPT))
    await until(lambda: bool(site.requests))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert booked(model)[2] == 1
    await until_idle(site)


async def test_reader_that_leaves_a_stream_closes_the_connection(site: Site) -> None:
    site.fail("hang_mid_stream", after_parts=3)
    model = site.routed()
    stream = model.astream(PROMPT)
    await anext(stream)
    await stream.aclose()  # type: ignore[attr-defined]
    await asyncio.get_running_loop().shutdown_asyncgens()
    assert booked(model)[2] == 1
    await until_idle(site)


async def until_idle(site: Site) -> None:
    await until(lambda: site.app.state.log.in_flight == 0)


async def until(happened: Callable[[], bool]) -> None:
    """Wait for what happens in the server's thread, which has no event of this loop to set."""
    async with asyncio.timeout(10):
        while not happened():  # noqa: ASYNC110 - see above
            await asyncio.sleep(0.01)


@every_way
@pytest.mark.parametrize("kind", ["rate_limit", "server_error"])
async def test_call_is_made_again_and_paid_once_when_the_server_says_not_now(
    site: Site, way: Way, kind: str
) -> None:
    site.fail(kind, retry_after_s=0.01)
    model = site.routed(max_retries=1)
    answer = await way(model)
    assert answer.text == ANSWER
    assert [attempt["status"] for attempt in record(answer)["attempts"]] == ["ok"]
    assert [request.model for request in site.requests] == ["big", "big"]
    assert booked(model) == (COST, 8, 1)


async def test_other_tier_answers_when_the_retries_are_used_up(site: Site) -> None:
    site.fail("rate_limit", times=None, retry_after_s=0.01)
    model = site.routed(max_retries=2)
    assert (await by_ainvoke(model)).text == "from the edge"
    assert [request.model for request in site.requests] == ["big", "big", "big", "little"]
    assert booked(model)[0] == 0


async def test_other_tier_answers_at_once_when_the_server_asks_for_too_long_a_wait(
    site: Site,
) -> None:
    site.fail("rate_limit", retry_after_s=3_600)
    model = site.routed(max_retries=2)
    assert (await by_ainvoke(model)).text == "from the edge"
    assert [request.model for request in site.requests] == ["big", "little"]
