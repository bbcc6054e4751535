"""The two IO edges: whatever happens while a step is performed, the ledger balances."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import AsyncGenerator, Generator, Sequence
from dataclasses import replace
from typing import Any

import pytest
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult

from langchain_hybridflow.budget import Account, Amounts, Budget, Denial, Lease, MemoryLedger, Price
from langchain_hybridflow.budget.types import AccountState
from langchain_hybridflow.calls import (
    Answer,
    AsyncStreamedScript,
    Call,
    RoutingCore,
    StreamedScript,
    TierModel,
    adrive,
    drive,
)
from langchain_hybridflow.calls.drive import _Patience
from langchain_hybridflow.calls.steps import Script
from langchain_hybridflow.errors import DeadlineExceeded, LedgerError, ModelCallError
from langchain_hybridflow.routing import AlwaysCloud, RouteRequest
from langchain_hybridflow.testing import ManualClock, ScriptedChatModel

PROMPT: list[BaseMessage] = [HumanMessage("Hello there")]
DONE = ChatResult(generations=[ChatGeneration(message=AIMessage("done"))])
PRICES = {"scripted": Price.FREE}


class RemoteLedger:
    """A ledger whose async methods wait for a gate, as those of a network store do."""

    def __init__(self) -> None:
        self.memory = MemoryLedger()
        self.now, self.anow = self.memory.now, self.memory.anow
        self.swap_note, self.aswap_note = self.memory.swap_note, self.memory.aswap_note
        self.reconcile, self.areconcile = self.memory.reconcile, self.memory.areconcile
        self.close, self.aclose = self.memory.close, self.memory.aclose
        self.gate = asyncio.Event()
        self.waiting = asyncio.Event()
        self.gate.set()

    async def _wait(self) -> None:
        self.waiting.set()
        await self.gate.wait()

    def reserve(self, *args: Any, **kwargs: Any) -> Lease | Denial:
        return self.memory.reserve(*args, **kwargs)

    def extend(self, lease_id: str, ttl_s: float) -> Lease:
        return self.memory.extend(lease_id, ttl_s)

    def commit(self, lease_id: str, actual: Amounts) -> bool:
        return self.memory.commit(lease_id, actual)

    def release(self, lease_id: str) -> bool:
        return self.memory.release(lease_id)

    def expire(self) -> tuple[Lease, ...]:
        return self.memory.expire()

    def snapshot(self, accounts: Sequence[Account]) -> tuple[AccountState, ...]:
        return self.memory.snapshot(accounts)

    async def areserve(self, *args: Any, **kwargs: Any) -> Lease | Denial:
        await self._wait()
        return self.memory.reserve(*args, **kwargs)

    async def aextend(self, lease_id: str, ttl_s: float) -> Lease:
        return self.memory.extend(lease_id, ttl_s)

    async def acommit(self, lease_id: str, actual: Amounts) -> bool:
        await self._wait()
        return self.memory.commit(lease_id, actual)

    async def arelease(self, lease_id: str) -> bool:
        await self._wait()
        return self.memory.release(lease_id)

    async def aexpire(self) -> tuple[Lease, ...]:
        return self.memory.expire()

    async def asnapshot(self, accounts: Sequence[Account]) -> tuple[AccountState, ...]:
        return self.memory.snapshot(accounts)


def core_of(budget: Budget) -> RoutingCore:
    model = ScriptedChatModel(responses=["x"])
    return RoutingCore(
        models={"edge": TierModel.of("edge", model), "cloud": TierModel.of("cloud", model)},
        router=AlwaysCloud(),
        budget=budget,
        on_cloud_error="raise",
        max_output_tokens=100,
    )


def script(budget: Budget) -> Script[Answer]:
    request = RouteRequest(text="Hello there")
    return core_of(budget).answer(request, PROMPT, run=budget.start_run(), lease_id="x")


def counts(budget: Budget) -> tuple[int, int]:
    state = budget.snapshot()["cloud_calls"]
    return state["held"], state["spent"]


def piece(text: str) -> ChatGenerationChunk:
    return ChatGenerationChunk(message=AIMessageChunk(text))


# ------------------------------------------------------------------------------- slow ledgers


async def test_cancelled_reservation_is_given_back_when_it_is_granted_after_all() -> None:
    ledger = RemoteLedger()
    budget = Budget(max_cloud_calls=1, ledger=ledger)
    ledger.gate.clear()

    async def never(step: Call) -> ChatResult:
        pytest.fail("the call was made")

    task = asyncio.create_task(adrive(script(budget), never))
    await ledger.waiting.wait()
    task.cancel()
    ledger.gate.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert counts(budget) == (0, 0)


async def test_cancelled_reservation_stays_cancelled_when_it_is_refused_after_all() -> None:
    ledger = RemoteLedger()
    budget = Budget(max_cloud_calls=0, ledger=ledger)
    ledger.gate.clear()

    async def never(step: Call) -> ChatResult:
        pytest.fail("the edge was asked although the caller has left")

    task = asyncio.create_task(adrive(script(budget), never))
    await ledger.waiting.wait()
    task.cancel()
    ledger.gate.set()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_commit_goes_through_when_it_is_cancelled() -> None:
    ledger = RemoteLedger()
    budget = Budget(max_cloud_calls=5, ledger=ledger)

    called = asyncio.Event()

    async def call(step: Call) -> ChatResult:
        ledger.gate.clear()
        ledger.waiting.clear()
        called.set()
        return DONE

    task = asyncio.create_task(adrive(script(budget), call))
    await called.wait()
    await ledger.waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert counts(budget) == (1, 0)
    ledger.gate.set()
    await asyncio.gather(*(asyncio.all_tasks() - {asyncio.current_task()}))
    assert counts(budget) == (0, 1)


async def test_ledger_that_fails_to_book_is_heard() -> None:
    class Broken(RemoteLedger):
        async def acommit(self, lease_id: str, actual: Amounts) -> bool:
            raise LedgerError("the store is gone")

    async def call(step: Call) -> ChatResult:
        return DONE

    with pytest.raises(LedgerError, match="the store is gone"):
        await adrive(script(Budget(max_cloud_calls=5, ledger=Broken())), call)


# ---------------------------------------------------------------------------------- cancellation


async def test_cancelled_call_costs_its_worst_case() -> None:
    budget = Budget(max_cloud_calls=1)
    called = asyncio.Event()

    async def call(step: Call) -> ChatResult:
        called.set()
        await asyncio.Event().wait()
        raise AssertionError

    task = asyncio.create_task(adrive(script(budget), call))
    await called.wait()
    assert counts(budget) == (1, 0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert counts(budget) == (0, 1)


async def test_cancelled_stream_costs_what_came() -> None:
    budget = Budget(max_cloud_tokens=10_000)
    came = asyncio.Event()

    async def call(step: Call) -> AsyncGenerator[ChatGenerationChunk]:
        yield piece("word ")
        came.set()
        await asyncio.Event().wait()

    async def read() -> None:
        async for _ in AsyncStreamedScript(script(budget), call):
            pass

    task = asyncio.create_task(read())
    await came.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    state = budget.snapshot()["cloud_tokens"]
    assert state["held"] == 0
    assert 0 < state["spent"] < 50, "the prompt and one word, not the worst case"


# ------------------------------------------------------------------------------------- time-outs


def test_call_that_hangs_is_left_behind_at_the_deadline() -> None:
    budget = Budget(deadline_s=0.05, max_cloud_calls=1)
    release = threading.Event()

    def call(step: Call) -> ChatResult:
        release.wait(30)
        return DONE

    with pytest.raises(DeadlineExceeded):
        drive(script(budget), call)
    assert counts(budget) == (0, 1)
    release.set()


async def test_async_call_that_hangs_is_cancelled_at_the_deadline() -> None:
    budget = Budget(deadline_s=0.05, max_cloud_calls=1)
    cancelled: list[bool] = []

    async def call(step: Call) -> ChatResult:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise
        raise AssertionError

    with pytest.raises(DeadlineExceeded):
        await adrive(script(budget), call)
    assert (counts(budget), cancelled) == ((0, 1), [True])


def test_stream_that_hangs_is_left_behind_at_the_deadline() -> None:
    budget = Budget(deadline_s=0.5, max_cloud_calls=1)
    release, closed = threading.Event(), threading.Event()

    def call(step: Call) -> Generator[ChatGenerationChunk]:
        try:
            yield piece("begun")
            release.wait(30)
            yield piece("too late")
        finally:
            closed.set()

    chunks: list[str] = []
    with pytest.raises(ModelCallError) as caught:
        chunks.extend(chunk.text for chunk in StreamedScript(script(budget), call))
    assert isinstance(caught.value.__cause__, DeadlineExceeded)
    assert (caught.value.partial_text, counts(budget)) == ("begun", (0, 1))
    release.set()
    assert closed.wait(10), "the stream is closed as soon as the model lets go of it"


async def test_async_stream_that_hangs_is_closed_at_the_deadline() -> None:
    budget = Budget(deadline_s=0.5, max_cloud_calls=1)
    closed: list[bool] = []

    async def call(step: Call) -> AsyncGenerator[ChatGenerationChunk]:
        try:
            yield piece("begun")
            await asyncio.Event().wait()
        finally:
            closed.append(True)

    with pytest.raises(ModelCallError) as caught:
        async for _ in AsyncStreamedScript(script(budget), call):
            pass
    assert isinstance(caught.value.__cause__, DeadlineExceeded)
    assert (counts(budget), closed) == ((0, 1), [True])


def test_time_out_of_the_model_itself_is_not_called_a_deadline() -> None:
    def call(step: Call) -> ChatResult:
        raise TimeoutError("the model's own")

    with pytest.raises(TimeoutError, match="the model's own"):
        drive(script(Budget(deadline_s=30)), call)


async def test_async_time_out_of_the_model_itself_is_not_called_a_deadline() -> None:
    async def call(step: Call) -> ChatResult:
        raise TimeoutError("the model's own")

    with pytest.raises(TimeoutError, match="the model's own"):
        await adrive(script(Budget(deadline_s=30)), call)


def test_call_under_a_deadline_sees_the_callers_context() -> None:
    variable = contextvars.ContextVar("variable", default="lost")
    variable.set("found")
    seen: list[str] = []

    def call(step: Call) -> ChatResult:
        seen.append(variable.get())
        return DONE

    def stream(step: Call) -> Generator[ChatGenerationChunk]:
        seen.append(variable.get())
        yield piece("done")

    drive(script(Budget(deadline_s=30)), call)
    list(StreamedScript(script(Budget(deadline_s=30)), stream))
    assert seen == ["found", "found"]


def test_stream_under_a_deadline_runs_in_one_thread_only() -> None:
    threads: set[int] = set()

    def stream(step: Call) -> Generator[ChatGenerationChunk]:
        for text in "abc":
            threads.add(threading.get_ident())
            yield piece(text)

    list(StreamedScript(script(Budget(deadline_s=30)), stream))
    assert len(threads) == 1


def test_helper_thread_ends_with_its_stream() -> None:
    def stream(step: Call) -> Generator[ChatGenerationChunk]:
        yield piece("a")

    list(StreamedScript(script(Budget(deadline_s=30)), stream))
    for thread in threading.enumerate():
        if thread.name == "hybridflow-call":
            thread.join(10)
            assert not thread.is_alive()


def patient_call(**limits: Any) -> Call:
    return Call(core_of(Budget()).models["edge"], PROMPT, {}, **limits)


def test_readers_time_is_not_counted_as_the_models() -> None:
    clock = ManualClock()
    patience = _Patience(patient_call(timeout_s=10.0), clock)
    with patience:
        clock.advance(4.0)
    clock.advance(1_000.0)  # the reader
    assert patience.left_s() == 6.0
    with patience:
        clock.advance(7.0)
    assert patience.left_s() == 0.0


def test_readers_time_is_counted_as_the_runs() -> None:
    clock = ManualClock()
    patience = _Patience(patient_call(timeout_s=10.0, run_left_s=30.0), clock)
    clock.advance(25.0)
    assert patience.left_s() == 5.0
    assert patience.over().limit_s == 30.0


def test_limit_that_ended_a_stream_is_the_one_that_was_waited_for() -> None:
    clock = ManualClock()
    patience = _Patience(patient_call(timeout_s=10.0, run_left_s=12.0), clock)
    with patience:
        assert patience.left_s() == 10.0
        clock.advance(10.0)
        assert patience.over().limit_s == 10.0


def test_slow_reader_does_not_break_its_own_stream() -> None:
    core = replace(core_of(Budget()), timeouts_s={"cloud": 0.2})

    def call(step: Call) -> Generator[ChatGenerationChunk]:
        yield from map(piece, "abc")

    routed = core.answer(RouteRequest(text="?"), PROMPT, run=core.budget.start_run(), lease_id="x")
    heard = []
    for chunk in StreamedScript(routed, call):
        heard.append(chunk.text)
        threading.Event().wait(0.15)  # a reader who takes his time
    assert heard == ["a", "b", "c"]


async def test_slow_reader_does_not_break_its_own_async_stream() -> None:
    core = replace(core_of(Budget()), timeouts_s={"cloud": 0.2})

    async def call(step: Call) -> AsyncGenerator[ChatGenerationChunk]:
        for text in "abc":
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            yield piece(text)

    routed = core.answer(RouteRequest(text="?"), PROMPT, run=core.budget.start_run(), lease_id="x")
    heard = []
    async for chunk in AsyncStreamedScript(routed, call):
        heard.append(chunk.text)
        await asyncio.sleep(0.15)  # a reader who takes his time
    assert heard == ["a", "b", "c"]


# ------------------------------------------------------------------------------ readers that leave


def test_abandoned_stream_costs_what_came_and_closes_the_models() -> None:
    budget = Budget(max_cloud_tokens=10_000)
    closed: list[bool] = []

    def call(step: Call) -> Generator[ChatGenerationChunk]:
        try:
            for _ in range(1_000):
                yield piece("word ")
        finally:
            closed.append(True)

    chunks = iter(StreamedScript(script(budget), call))
    next(chunks)
    assert budget.snapshot()["cloud_tokens"]["held"] > 0
    chunks.close()
    state = budget.snapshot()["cloud_tokens"]
    assert (state["held"], closed) == (0, [True])
    assert 0 < state["spent"] < 50


def test_stream_that_nobody_reads_reserves_nothing() -> None:
    budget = Budget(max_cloud_calls=1)

    def call(step: Call) -> Generator[ChatGenerationChunk]:
        yield piece("word ")

    iter(StreamedScript(script(budget), call)).close()
    assert counts(budget) == (0, 0)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(), ValueError("reader's own")])
def test_error_thrown_into_a_stream_settles_it_and_comes_out(error: BaseException) -> None:
    budget = Budget(max_cloud_calls=1)

    def call(step: Call) -> Generator[ChatGenerationChunk]:
        yield piece("word ")
        yield piece("word ")

    chunks = iter(StreamedScript(script(budget), call))
    next(chunks)
    with pytest.raises((type(error), ModelCallError)):
        chunks.throw(error)
    assert counts(budget) == (0, 1)


# ------------------------------------------------------------------------------- the first chunk


def tool_piece() -> ChatGenerationChunk:
    call = tool_call_chunk(name="add", args='{"a":', id="1", index=0)
    return ChatGenerationChunk(message=AIMessageChunk("", tool_call_chunks=[call]))


def core_with_fallback(budget: Budget) -> RoutingCore:
    core = core_of(budget)
    return RoutingCore(models=core.models, router=core.router, budget=budget)


def test_other_tier_answers_when_only_empty_chunks_had_come() -> None:
    budget = Budget(prices=PRICES)

    def call(step: Call) -> Generator[ChatGenerationChunk]:
        if step.target.tier == "cloud":
            yield ChatGenerationChunk(
                message=AIMessageChunk("", response_metadata={"model_name": "cloud"})
            )
            raise ConnectionResetError
        yield piece("from the edge")

    core = core_with_fallback(budget)
    routed = core.answer(RouteRequest(text="?"), PROMPT, run=budget.start_run(), lease_id="x")
    streamed = StreamedScript(routed, call)
    chunks = list(streamed)
    assert [chunk.text for chunk in chunks] == ["from the edge"]
    assert "model_name" not in chunks[0].message.response_metadata
    assert [attempt.status for attempt in streamed.result.attempts] == ["failed", "ok"]


@pytest.mark.parametrize("first", [piece("text"), piece(" "), tool_piece()])
def test_other_tier_does_not_answer_when_a_part_of_an_answer_had_come(
    first: ChatGenerationChunk,
) -> None:
    budget = Budget(prices=PRICES)

    def call(step: Call) -> Generator[ChatGenerationChunk]:
        assert step.target.tier == "cloud", "two models were spliced"
        yield first
        raise ConnectionResetError

    core = core_with_fallback(budget)
    routed = core.answer(RouteRequest(text="?"), PROMPT, run=budget.start_run(), lease_id="x")
    chunks: list[ChatGenerationChunk] = []
    with pytest.raises(ModelCallError):
        chunks.extend(iter(StreamedScript(routed, call)))
    assert chunks == [first] or chunks == []


def test_empty_chunks_are_passed_on_in_order_once_the_answer_begins() -> None:
    budget = Budget()

    def call(step: Call) -> Generator[ChatGenerationChunk]:
        for text in ("", "", "a", "", "b", ""):
            yield piece(text)

    chunks = StreamedScript(script(budget), call)
    assert [chunk.text for chunk in chunks] == ["", "", "a", "", "b", ""]


async def test_empty_chunks_are_passed_on_when_nothing_else_comes() -> None:
    async def call(step: Call) -> AsyncGenerator[ChatGenerationChunk]:
        yield piece("")
        yield piece("")

    streamed = AsyncStreamedScript(script(Budget()), call)
    assert [chunk.text async for chunk in streamed] == ["", ""]
    assert streamed.result.purchase.message.text == ""


def test_stream_without_any_chunk_is_a_failure_that_may_have_cost() -> None:
    budget = Budget(max_cloud_calls=1)

    def call(step: Call) -> Generator[ChatGenerationChunk]:
        yield from ()

    with pytest.raises(EOFError, match="without sending anything"):
        list(StreamedScript(script(budget), call))
    assert counts(budget) == (0, 1)


def test_broken_tool_call_stream_is_paid_for_what_came() -> None:
    budget = Budget(max_cloud_tokens=10_000)
    long = tool_call_chunk(name="add", args="x " * 40, id="1", index=0)

    def call(step: Call) -> Generator[ChatGenerationChunk]:
        yield ChatGenerationChunk(message=AIMessageChunk("", tool_call_chunks=[long]))
        raise ConnectionResetError

    with pytest.raises(ModelCallError):
        list(StreamedScript(script(budget), call))
    assert budget.snapshot()["cloud_tokens"]["spent"] > 50
