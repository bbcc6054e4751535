"""An edge answer that will not do goes on to the cloud, and everything is counted."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import pytest
from langchain_core.callbacks import (
    AsyncCallbackHandler,
    BaseCallbackHandler,
    UsageMetadataCallbackHandler,
    get_usage_metadata_callback,
)
from langchain_core.messages import AIMessage, HumanMessage
from pydantic import BaseModel
from routedkit import (
    PROMPT,
    WAYS,
    Way,
    by_astream,
    by_invoke,
    by_stream,
    every_way,
    plain_ways,
    scripted,
    weather,
)

from langchain_hybridflow import Budget, Price, RoutedChatModel
from langchain_hybridflow.errors import ConfigurationError, ModelCallError, UnknownPriceError
from langchain_hybridflow.routing import AlwaysCloud, RouteRequest
from langchain_hybridflow.testing import ObedientChatModel, ScriptedChatModel
from langchain_hybridflow.verify import Verdict, VerifyRequest

EDGE, CLOUD = "Lyon I think", "Paris it is for sure"
PRICES = {"little": Price(1, 1), "big": Price(1_000, 1_000)}


def never(_: VerifyRequest) -> bool:
    return False


def always(_: VerifyRequest) -> bool:
    return True


def checked(verify: Any, *, edge: Any = EDGE, cloud: Any = CLOUD, **fields: Any) -> RoutedChatModel:
    """A model whose edge is always asked first."""
    return scripted(
        "edge",
        edge=ScriptedChatModel(responses=[edge], model_name="little"),
        cloud=ScriptedChatModel(responses=[cloud], model_name="big"),
        verify=verify,
        **({"max_retries": 0, "budget": Budget(prices=PRICES)} | fields),
    )


def record(message: Any) -> dict[str, Any]:
    found = message.response_metadata["hybridflow"]
    assert isinstance(found, dict)
    return found


def outcomes(message: Any) -> list[tuple[str, str, bool | None]]:
    return [(one["tier"], one["status"], one["accepted"]) for one in record(message)["attempts"]]


# ----------------------------------------------------------------------------- who answers


@every_way
async def test_edge_answers_when_its_answer_is_accepted(way: Way) -> None:
    answer = await way(checked(always))
    assert (answer.text, outcomes(answer)) == (EDGE, [("edge", "ok", True)])
    assert (record(answer)["escalated"], record(answer)["degraded"]) == (False, False)


@every_way
async def test_cloud_answers_when_the_edge_answer_is_not_accepted(way: Way) -> None:
    answer = await way(checked(never))
    assert answer.text == CLOUD
    assert outcomes(answer) == [("edge", "ok", False), ("cloud", "ok", None)]
    assert (record(answer)["tier"], record(answer)["escalated"]) == ("cloud", True)
    assert answer.response_metadata["model_name"] == "big"


@plain_ways
async def test_verdict_is_on_the_record(way: Way) -> None:
    verdict = Verdict(False, score=0.25, reason="no city")
    first = record(await way(checked(lambda _: verdict)))["attempts"][0]
    assert (first["accepted"], first["score"], first["verdict"]) == (False, 0.25, "no city")


async def test_verifier_sees_the_question_the_prompt_and_the_answer() -> None:
    seen: list[VerifyRequest] = []
    prompt = [HumanMessage("Once"), AIMessage("upon"), HumanMessage("a time?")]
    await by_invoke(checked(lambda request: not seen.append(request)), prompt)  # type: ignore[func-returns-value]
    (request,) = seen
    assert (request.question, request.answer.text) == ("a time?", EDGE)
    assert [message.text for message in request.messages] == ["Once", "upon", "a time?"]


async def test_cloud_answer_is_never_verified() -> None:
    asked: list[VerifyRequest] = []
    model = checked(lambda request: bool(asked.append(request)), router=AlwaysCloud())  # type: ignore[func-returns-value]
    for way in WAYS[:4]:
        answer = await way(model)
        assert outcomes(answer) == [("cloud", "ok", None)]
    assert asked == []


@plain_ways
async def test_edge_answer_is_not_verified_when_the_cloud_may_not_see_it(way: Way) -> None:
    def refuse(_: VerifyRequest) -> bool:
        raise AssertionError("asked for nothing")

    def local(_: RouteRequest) -> list[str]:
        return ["edge"]

    answer = await way(checked(refuse, policy=local))
    assert outcomes(answer) == [("edge", "ok", None)]
    assert record(answer)["attempts"][0]["verdict"].startswith("not verified")


async def test_edge_answer_is_not_verified_when_the_cloud_has_failed_before() -> None:
    model = checked(never, router=AlwaysCloud(), cloud=ConnectionError("down"))
    answer = await by_invoke(model)
    assert outcomes(answer) == [("cloud", "failed", None), ("edge", "ok", None)]


async def test_policy_is_asked_again_before_the_question_goes_on() -> None:
    asked = 0

    def until_verified(_: RouteRequest) -> list[str]:
        nonlocal asked
        asked += 1
        return ["edge", "cloud"] if asked == 1 else ["edge"]

    answer = await by_invoke(checked(never, policy=until_verified))
    assert (answer.text, outcomes(answer)) == (EDGE, [("edge", "ok", False)])
    assert record(answer)["degraded"]


# ------------------------------------------------------------------- when the cloud gives none


@every_way
@pytest.mark.parametrize("on_exhausted", ["edge", "raise"])
async def test_edge_answer_stands_when_the_budget_refuses_the_cloud(
    way: Way, on_exhausted: Any
) -> None:
    budget = Budget(max_cloud_calls=0, on_exhausted=on_exhausted)
    answer = await way(checked(never, budget=budget))
    assert (answer.text, record(answer)["degraded"]) == (EDGE, True)
    assert outcomes(answer) == [("edge", "ok", False), ("cloud", "refused", None)]
    assert answer.usage_metadata["total_tokens"] == 7


@every_way
@pytest.mark.parametrize("on_cloud_error", ["fallback", "raise"])
async def test_edge_answer_stands_when_the_cloud_fails(way: Way, on_cloud_error: Any) -> None:
    model = checked(never, cloud=ConnectionError("down"), on_cloud_error=on_cloud_error)
    answer = await way(model)
    assert (answer.text, record(answer)["degraded"]) == (EDGE, True)
    assert outcomes(answer) == [("edge", "ok", False), ("cloud", "failed", None)]


def test_stream_is_not_spliced_when_the_cloud_breaks_off() -> None:
    cloud = ScriptedChatModel(responses=[CLOUD], fail_after_chunks=2)
    shown: list[str] = []

    def read() -> None:
        for chunk in scripted("edge", cloud=cloud, verify=never).stream(PROMPT):
            shown.append(chunk.text)  # noqa: PERF401 - what came before the error is wanted

    with pytest.raises(ModelCallError):
        read()
    assert "".join(shown) == "Paris it"


def test_missing_price_is_raised_and_not_hidden_behind_the_edge_answer() -> None:
    # The price of a model that a call names itself is looked up when it is bought.
    model = checked(never, budget=Budget(limit_usd=1, prices=PRICES))
    with pytest.raises(UnknownPriceError):
        model.invoke(PROMPT, model="unheard-of")


# --------------------------------------------------------------------- verifiers of all kinds


async def later(request: VerifyRequest) -> bool:
    await asyncio.sleep(0)
    return request.answer.text != EDGE


class Later:
    async def __call__(self, request: VerifyRequest) -> bool:
        return await later(request)


@every_way
@pytest.mark.parametrize("verify", [later, Later()], ids=["function", "object"])
async def test_verifier_may_be_async_however_the_model_is_called(
    way: Way, verify: Callable[..., Any]
) -> None:
    assert (await way(checked(verify))).text == CLOUD


async def test_verifier_that_blocks_does_not_block_the_loop() -> None:
    loop = asyncio.get_running_loop()
    entered = asyncio.Event()

    def blocks(_: VerifyRequest) -> bool:
        loop.call_soon_threadsafe(entered.set)
        return asyncio.run_coroutine_threadsafe(asyncio.sleep(0, True), loop).result(10)

    answer, _ = await asyncio.gather(checked(blocks).ainvoke(PROMPT), entered.wait())
    assert answer.text == EDGE


def broken(_: VerifyRequest) -> bool:
    raise ZeroDivisionError("sk-abcdef123456")


@plain_ways
@pytest.mark.parametrize(("on_verify_error", "text"), [("accept", EDGE), ("escalate", CLOUD)])
async def test_failing_verifier_has_a_rule(way: Way, on_verify_error: Any, text: str) -> None:
    answer = await way(checked(broken, on_verify_error=on_verify_error))
    assert answer.text == text
    first = record(answer)["attempts"][0]
    assert first["verdict"] == f"the verifier failed (ZeroDivisionError: ***): {on_verify_error}"


@pytest.mark.parametrize("verdict", [None, 1, "yes", 0.7])
def test_verdict_that_is_none_counts_as_a_failure(verdict: Any) -> None:
    answer = checked(lambda _: verdict, on_verify_error="escalate").invoke(PROMPT)
    assert answer.text == CLOUD
    assert "returns a bool or a Verdict" in record(answer)["attempts"][0]["verdict"]


@pytest.mark.parametrize("as_verdict", [False, True])
@pytest.mark.parametrize(("score", "text"), [(0.1, CLOUD), (0.9, EDGE)])
def test_verdict_may_be_a_bool_of_numpy(
    require: Any, score: float, text: str, *, as_verdict: bool
) -> None:
    require("numpy")
    import numpy as np

    def verify(_: VerifyRequest) -> Any:
        accept = np.float64(score) > 0.5
        return Verdict(accept, score=np.float32(score)) if as_verdict else accept

    answer = checked(verify).invoke(PROMPT)
    assert answer.text == text
    assert record(answer)["attempts"][0]["accepted"] is (text == EDGE)


def test_failure_of_a_verifier_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="langchain_hybridflow"):
        checked(broken).invoke(PROMPT)
    assert [one.getMessage() for one in caplog.records] == [
        "Verifier broken failed: ZeroDivisionError: *** (accept the answer)"
    ]


def test_verifier_cannot_change_what_the_cloud_is_asked() -> None:
    def meddle(request: VerifyRequest) -> bool:
        request.messages.clear()  # type: ignore[attr-defined]
        return False

    model = checked(meddle, on_verify_error="escalate")
    model.invoke(PROMPT)
    assert [message.text for message in model.cloud.calls[0]] == [PROMPT]  # type: ignore[attr-defined]


async def test_cancelled_verifier_cancels_the_call_and_holds_nothing() -> None:
    entered = asyncio.Event()

    async def hang(_: VerifyRequest) -> bool:
        entered.set()
        await asyncio.Event().wait()
        return True

    model = checked(hang)
    call = asyncio.create_task(model.ainvoke(PROMPT))
    await entered.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert model.budget.snapshot()["usd"]["held"] == 0


@pytest.mark.parametrize("verify", [3, Later, "judge"])
def test_what_is_no_verifier_is_refused(verify: Any) -> None:
    with pytest.raises(ConfigurationError, match="verifier"):
        checked(verify)


# -------------------------------------------------------------------------------- streaming


def chunks_of(model: RoutedChatModel) -> list[str]:
    return [chunk.text for chunk in model.stream(PROMPT) if chunk.text]


def test_nothing_is_shown_of_an_answer_that_is_not_accepted() -> None:
    assert chunks_of(checked(never)) == ["Paris", " it", " is", " for", " sure"]


def test_accepted_answer_is_shown_in_the_pieces_it_came_in() -> None:
    assert chunks_of(checked(always)) == ["Lyon", " I", " think"]


def test_answer_is_shown_only_after_it_was_looked_at() -> None:
    order: list[str] = []

    def note(_: VerifyRequest) -> bool:
        order.append("verified")
        return True

    for chunk in checked(note).stream(PROMPT):
        order += [chunk.text] if chunk.text else []
    assert order == ["verified", "Lyon", " I", " think"]


class Listener(BaseCallbackHandler):
    def __init__(self) -> None:
        self.tokens: list[str] = []

    def on_llm_new_token(self, token: str, **kwargs: Any) -> None:
        self.tokens += [token] if token else []


def test_callbacks_see_no_token_of_an_answer_that_is_not_accepted() -> None:
    edge = ScriptedChatModel(responses=[EDGE], model_name="little", metadata={})
    model = checked(never).model_copy(update={"edge": edge, "streaming": True})
    listener = Listener()
    model.invoke(PROMPT, config={"callbacks": [listener]})
    assert "".join(listener.tokens) == CLOUD


def test_cloud_streams_live_after_the_edge_was_not_accepted() -> None:
    sent: list[str] = []

    def sleep(_: float) -> None:
        sent.append("chunk")

    cloud = ScriptedChatModel(responses=[CLOUD], sleep=sleep)
    stream = scripted("edge", cloud=cloud, verify=never).stream(PROMPT)
    next(stream)
    assert len(sent) == 1
    stream.close()


# --------------------------------------------------------------------------------- counting


class Runs(BaseCallbackHandler):
    """Counts what usage callbacks of any kind would: the usage at the end of each run."""

    def __init__(self) -> None:
        self.ended: list[tuple[str, int]] = []
        self.parents: list[Any] = []
        self.ids: list[Any] = []

    def on_chat_model_start(self, *args: Any, run_id: Any, parent_run_id: Any, **_: Any) -> None:
        self.ids.append(run_id)
        self.parents.append(parent_run_id)

    def on_llm_end(self, response: Any, **kwargs: Any) -> None:
        message = response.generations[0][0].message
        name = message.response_metadata["model_name"]
        self.ended.append((name, message.usage_metadata["total_tokens"]))


class AsyncRuns(AsyncCallbackHandler):
    def __init__(self) -> None:
        self.ended: list[str] = []

    async def on_llm_end(self, response: Any, **kwargs: Any) -> None:
        self.ended.append(response.generations[0][0].message.response_metadata["model_name"])


@every_way
async def test_both_answers_are_counted_once_under_their_models_names(way: Way) -> None:
    with get_usage_metadata_callback() as usage:
        answer = await way(checked(never))
    assert {name: counts["total_tokens"] for name, counts in usage.usage_metadata.items()} == {
        "little": 7,
        "big": 9,
    }
    assert answer.usage_metadata["total_tokens"] == 9


@every_way
async def test_callbacks_of_the_call_count_both_answers(way: Way) -> None:
    usage, runs = UsageMetadataCallbackHandler(), Runs()
    await way(checked(never), config={"callbacks": [usage, runs]})
    assert {name: counts["total_tokens"] for name, counts in usage.usage_metadata.items()} == {
        "little": 7,
        "big": 9,
    }
    assert sorted(runs.ended) == [("big", 9), ("little", 7)]
    assert runs.parents == [None, runs.ids[0]]


@every_way
async def test_accepted_answer_is_counted_once(way: Way) -> None:
    runs = Runs()
    await way(checked(always), config={"callbacks": [runs]})
    assert runs.ended == [("little", 7)]


async def test_async_callbacks_are_awaited() -> None:
    runs = AsyncRuns()
    await checked(never).ainvoke(PROMPT, config={"callbacks": [runs]})
    assert sorted(runs.ended) == ["big", "little"]


def usage_of(usage: UsageMetadataCallbackHandler) -> dict[str, int]:
    return {name: counts["total_tokens"] for name, counts in usage.usage_metadata.items()}


@pytest.mark.parametrize("way", [by_stream, by_astream])
async def test_answer_that_was_not_accepted_is_counted_when_the_cloud_breaks_off(way: Way) -> None:
    model = checked(never)
    model.cloud.fail_after_chunks = 1  # type: ignore[attr-defined]
    usage = UsageMetadataCallbackHandler()
    with pytest.raises(ModelCallError):
        await way(model, config={"callbacks": [usage]})
    assert usage_of(usage) == {"little": 7}


def test_answer_that_was_not_accepted_is_counted_when_the_reader_goes_away() -> None:
    usage = UsageMetadataCallbackHandler()
    stream = checked(never).stream(PROMPT, config={"callbacks": [usage]})
    next(stream)
    stream.close()
    assert usage_of(usage) == {"little": 7}


async def test_answer_that_was_not_accepted_is_counted_when_the_async_reader_goes_away() -> None:
    usage = UsageMetadataCallbackHandler()
    stream = checked(never).astream(PROMPT, config={"callbacks": [usage]})
    await anext(stream)
    await stream.aclose()
    # LangChain leaves the inner stream to the event loop, which closes it in a task.
    await asyncio.gather(*asyncio.all_tasks() - {asyncio.current_task()})
    assert usage_of(usage) == {"little": 7}


async def test_answer_is_counted_when_the_call_is_cancelled_while_it_is_looked_at() -> None:
    entered = asyncio.Event()

    async def hang(_: VerifyRequest) -> bool:
        entered.set()
        await asyncio.Event().wait()
        return True

    usage = UsageMetadataCallbackHandler()
    call = asyncio.create_task(checked(hang).ainvoke(PROMPT, config={"callbacks": [usage]}))
    await entered.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert usage_of(usage) == {"little": 7}


@plain_ways
async def test_answer_that_stands_is_counted_once(way: Way) -> None:
    usage = UsageMetadataCallbackHandler()
    model = checked(never, cloud=ConnectionError("down"))
    await way(model, config={"callbacks": [usage]})
    assert usage_of(usage) == {"little": 7}


async def test_callbacks_of_the_model_itself_count_both_answers() -> None:
    runs = Runs()
    await by_stream(checked(never, callbacks=[runs]))
    assert sorted(runs.ended) == [("big", 9), ("little", 7)]


@plain_ways
async def test_both_answers_are_paid_for(way: Way) -> None:
    model = checked(never)
    answer = await way(model)
    # 4 words in; 3 and 5 words out; 1 and 1,000 USD for a million tokens.
    assert Decimal(record(answer)["cost_usd"]) == Decimal("0.009007")
    assert model.budget.snapshot()["usd"]["spent"] == pytest.approx(0.009007)
    assert [attempt["purpose"] for attempt in record(answer)["attempts"]] == ["answer", "answer"]


# ----------------------------------------------------------------------- tools and structure


def test_tool_calls_are_verified_like_any_answer() -> None:
    seen: list[Sequence[Any]] = []

    def calls_a_tool(request: VerifyRequest) -> bool:
        seen.append(request.answer.tool_calls)
        return False

    model = RoutedChatModel(
        edge=ObedientChatModel(model_name="little"),
        cloud=ObedientChatModel(model_name="big"),
        verify=calls_a_tool,
    )
    answer = model.bind_tools([weather]).invoke("Is there good weather in Rome?")
    assert answer.response_metadata["model_name"] == "big"
    assert (answer.tool_calls[0]["name"], seen[0][0]["name"]) == ("weather", "weather")


class City(BaseModel):
    name: str


async def test_structured_output_comes_from_the_model_that_was_accepted() -> None:
    model = RoutedChatModel(
        edge=ObedientChatModel(model_name="little"),
        cloud=ObedientChatModel(model_name="big"),
        verify=never,
    )
    structured = model.with_structured_output(City, include_raw=True)
    found = await structured.ainvoke("I was in Rome.")
    assert found["parsed"] == City(name="Rome")
    assert found["raw"].response_metadata["model_name"] == "big"


def test_batch_verifies_each_answer() -> None:
    edge = ScriptedChatModel(responses=[lambda messages: messages[-1].text], model_name="little")
    model = scripted("edge", edge=edge, verify=lambda request: request.question == "two")
    found = model.batch(["one", "two", "three"])
    assert [message.response_metadata["model_name"] for message in found] == [
        "big",
        "little",
        "big",
    ]
