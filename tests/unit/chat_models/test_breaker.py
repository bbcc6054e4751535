"""A routed model leaves a tier alone that keeps failing, whichever way it is called."""

from __future__ import annotations

import asyncio
import pickle
from typing import Any

import pytest
from langchain_core.load import dumpd, load
from routedkit import PROMPT, Way, plain_ways, scripted

from langchain_hybridflow import Budget, RoutedChatModel
from langchain_hybridflow.calls.breaker import Breaker
from langchain_hybridflow.errors import CircuitOpen, DeadlineExceeded
from langchain_hybridflow.routing import AlwaysCloud
from langchain_hybridflow.testing import ManualClock, ScriptedChatModel

DOWN = ConnectionError("nobody there")


def failing(*responses: Any, clock: ManualClock, **fields: Any) -> RoutedChatModel:
    """A routed model whose cloud gives these responses in turn, and whose breaker takes two."""
    cloud = ScriptedChatModel(responses=list(responses), model_name="big", at_end="repeat")
    breaker = Breaker(fail_max=2, reset_timeout_s=10.0, clock=clock)
    return scripted("cloud", cloud=cloud, **({"breaker": breaker, "max_retries": 0} | fields))


def attempts(message: Any) -> list[tuple[str, str]]:
    record = message.response_metadata["hybridflow"]
    return [(attempt["tier"], attempt["status"]) for attempt in record["attempts"]]


@plain_ways
async def test_tier_is_not_asked_when_its_circuit_is_open(way: Way) -> None:
    model = failing(DOWN, clock=ManualClock())
    for _ in range(2):
        assert attempts(await way(model)) == [("cloud", "failed"), ("edge", "ok")]
    answer = await way(model)
    assert attempts(answer) == [("cloud", "refused"), ("edge", "ok")]
    assert len(model.cloud.calls) == 2  # type: ignore[attr-defined]
    error = answer.response_metadata["hybridflow"]["attempts"][0]["error"]
    assert error.startswith("CircuitOpen: The cloud failed 2 times in a row")


@plain_ways
async def test_tier_is_asked_again_when_its_time_is_over(way: Way) -> None:
    clock = ManualClock()
    model = failing(DOWN, DOWN, "back again", clock=clock)
    for _ in range(3):
        await way(model)
    clock.advance(10)
    assert attempts(await way(model)) == [("cloud", "ok")]
    assert attempts(await way(model)) == [("cloud", "ok")]


def test_open_circuit_is_raised_when_nobody_else_may_answer() -> None:
    model = failing(DOWN, clock=ManualClock(), on_cloud_error="raise")
    for _ in range(2):
        with pytest.raises(ConnectionError):
            model.invoke(PROMPT)
    with pytest.raises(CircuitOpen):
        model.invoke(PROMPT)


def test_open_circuit_reserves_nothing() -> None:
    # Calls that were broken off are charged; a call that is not made is not.
    model = failing(DOWN, clock=ManualClock(), budget=Budget(max_cloud_calls=2))
    for _ in range(4):
        model.invoke(PROMPT)
    calls = model.budget.snapshot()["cloud_calls"]
    assert (calls["spent"], calls["held"]) == (2, 0)


@pytest.mark.parametrize(
    "response", [ValueError("a mistake of the caller"), "", KeyError("what?")], ids=repr
)
def test_circuit_stays_closed_when_the_tier_is_not_at_fault(response: Any) -> None:
    model = failing(response, clock=ManualClock())
    for _ in range(4):
        model.invoke(PROMPT)
    assert model.core.circuits["cloud"].state == "closed"


def test_circuit_stays_closed_when_the_budget_refuses() -> None:
    model = failing("yes", clock=ManualClock(), budget=Budget(max_cloud_calls=0))
    for _ in range(4):
        assert attempts(model.invoke(PROMPT))[0] == ("cloud", "refused")
    assert model.core.circuits["cloud"].state == "closed"


async def test_circuit_stays_closed_when_calls_are_cancelled() -> None:
    called = asyncio.Event()

    async def hang(_: Any) -> str:
        called.set()
        await asyncio.Event().wait()
        return "never"

    model = failing(hang, clock=ManualClock())
    for _ in range(4):
        call = asyncio.create_task(model.ainvoke(PROMPT))
        await called.wait()
        called.clear()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    assert model.core.circuits["cloud"].state == "closed"


def test_breaker_can_be_switched_off() -> None:
    model = failing(DOWN, clock=ManualClock(), breaker=None)
    for _ in range(6):
        model.invoke(PROMPT)
    assert len(model.cloud.calls) == 6  # type: ignore[attr-defined]


def test_breaker_is_on_by_default() -> None:
    cloud = ScriptedChatModel(responses=[DOWN])
    model = scripted("cloud", cloud=cloud)
    for _ in range(7):
        model.invoke(PROMPT)
    assert len(cloud.calls) == Breaker().fail_max


def test_copies_share_the_circuits() -> None:
    model = failing(DOWN, clock=ManualClock())
    for _ in range(2):
        model.invoke(PROMPT)
    copied = model.model_copy(update={"max_output_tokens": 7})
    assert attempts(copied.invoke(PROMPT))[0] == ("cloud", "refused")


def test_circuit_starts_anew_when_its_model_is_replaced() -> None:
    model = failing(DOWN, clock=ManualClock())
    for _ in range(2):
        model.invoke(PROMPT)
    healthy = ScriptedChatModel(responses=["fine"], model_name="other")
    replaced = model.model_copy(update={"cloud": healthy})
    assert attempts(replaced.invoke(PROMPT)) == [("cloud", "ok")]


def test_pickle_starts_anew_with_the_same_settings() -> None:
    model = RoutedChatModel(
        edge=ScriptedChatModel(responses=["a"]),
        cloud=ScriptedChatModel(responses=[DOWN]),
        router=AlwaysCloud(),
        breaker=Breaker(fail_max=1),
    )
    model.invoke(PROMPT)
    again = pickle.loads(pickle.dumps(model))
    assert again.breaker == Breaker(fail_max=1)
    assert again.core.circuits["cloud"].state == "closed"
    assert model.core.circuits["cloud"].state == "open"


@pytest.mark.parametrize("breaker", [Breaker(fail_max=2, reset_timeout_s=5.0), None], ids=repr)
def test_dump_holds_the_settings(breaker: Breaker | None) -> None:
    from langchain_openai import ChatOpenAI

    own = {"api_key": "none", "base_url": "http://127.0.0.1:9/v1"}
    model = RoutedChatModel(
        edge=ChatOpenAI(model="little", **own),  # type: ignore[arg-type]
        cloud=ChatOpenAI(model="big", **own),  # type: ignore[arg-type]
        breaker=breaker,
    )
    namespaces = ["langchain_hybridflow", "langchain_openai"]
    again = load(
        dumpd(model),
        valid_namespaces=namespaces,
        secrets_map={"OPENAI_API_KEY": "none"},
        allowed_objects=[RoutedChatModel, ChatOpenAI],
    )
    assert again.breaker == breaker


@pytest.mark.parametrize(
    ("limits", "state"),
    [({"cloud_timeout_s": 0.02}, "open"), ({"budget": Budget(deadline_s=0.02)}, "closed")],
    ids=["time-out of the tier", "deadline of the run"],
)
async def test_circuit_counts_the_time_outs_of_the_tier_only(
    limits: dict[str, Any], state: str
) -> None:
    async def hang(_: Any) -> str:
        await asyncio.Event().wait()
        return "never"

    model = failing(hang, clock=ManualClock(), on_cloud_error="raise", **limits)
    for _ in range(2):
        with pytest.raises(DeadlineExceeded):
            await model.ainvoke(PROMPT)
    assert model.core.circuits["cloud"].state == state
