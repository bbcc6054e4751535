"""A cap on the share of cloud calls holds for whatever a routed model buys from the cloud."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.messages import BaseMessage
from routedkit import PROMPT, Way, every_way, plain_ways, scripted

from langchain_hybridflow import Budget, Scope
from langchain_hybridflow.answer_or_ask import ASK_MARKER, NO_HELP
from langchain_hybridflow.budget import MemoryLedger
from langchain_hybridflow.errors import CloudShareExceeded
from langchain_hybridflow.routing import SelfRouter
from langchain_hybridflow.testing import ScriptedChatModel
from langchain_hybridflow.verify import JudgeVerifier, VerifyRequest


def never(_: VerifyRequest) -> bool:
    return False


def capped(share: float = 0.25, burst: int = 1, **options: Any) -> Budget:
    return Budget(max_cloud_share=share, share_burst=burst, **options)


def shares(model: Any) -> tuple[int, int, int]:
    """Prompts, cloud calls, and cloud calls under way."""
    shown = model.budget.snapshot()["cloud_share"]
    return shown["prompts"], shown["cloud_calls"], shown["held"]


def tiers(model: Any, prompts: int) -> str:
    answers = [model.invoke(PROMPT) for _ in range(prompts)]
    return "".join(one.response_metadata["hybridflow"]["tier"][0] for one in answers)


@every_way
async def test_edge_answers_when_the_cloud_has_its_share(way: Way) -> None:
    model = scripted("cloud", budget=capped(0, 1))
    await way(model)
    before = len(model.cloud.calls)
    answer = await way(model)
    assert len(model.cloud.calls) == before == 1
    found = answer.response_metadata["hybridflow"]
    assert (found["tier"], found["degraded"]) == ("edge", True)
    assert "0 % of the answered prompts" in found["attempts"][0]["error"]


def test_share_of_a_router_that_wants_the_cloud_is_the_cap() -> None:
    model = scripted("cloud", budget=capped(0.25, 2))
    assert tiers(model, 13) == "cceec" + "eeec" * 2


@plain_ways
async def test_prompt_that_escalates_is_one_prompt_with_one_call(way: Way) -> None:
    model = scripted("edge", verify=never, budget=capped(0.5, 5))
    await way(model)
    assert shares(model) == (1, 1, 0)


def test_escalations_stop_when_the_cloud_has_its_share() -> None:
    model = scripted("edge", verify=never, budget=capped(0.5, 1))
    assert tiers(model, 6) == "cecece"
    assert shares(model) == (6, 3, 0)


def test_fallback_to_the_cloud_takes_a_call() -> None:
    model = scripted(
        "edge",
        edge=ScriptedChatModel(responses=[ValueError("no")]),
        budget=capped(0.5, 1),
        max_retries=0,
    )
    assert model.invoke(PROMPT).text
    assert shares(model) == (1, 1, 0)
    with pytest.raises(Exception, match="cloud-share"):
        model.invoke(PROMPT)
    assert shares(model) == (1, 1, 0)


def test_judge_in_the_cloud_takes_a_call_and_is_no_prompt() -> None:
    judged = scripted(
        "edge",
        verify=JudgeVerifier(),
        cloud=ScriptedChatModel(responses=["All well. SCORE: 9"]),
        budget=capped(0, 1),
    )
    judged.invoke(PROMPT)
    assert shares(judged) == (1, 1, 0)


def test_edge_answer_stands_when_its_judge_has_taken_the_last_call() -> None:
    model = scripted(
        "edge",
        verify=JudgeVerifier(),
        cloud=ScriptedChatModel(responses=["Bad. SCORE: 0"]),
        budget=capped(0.5, 1),
    )
    answer = model.invoke(PROMPT)
    # The edge's answer has filled half a call: not enough for a second one.
    assert answer.response_metadata["hybridflow"]["tier"] == "edge"
    assert shares(model) == (1, 1, 0)


def test_failed_cloud_call_takes_a_call_and_its_prompt_counts_once() -> None:
    model = scripted(
        "cloud",
        cloud=ScriptedChatModel(responses=[TimeoutError("slow")]),
        budget=capped(0, 1),
        max_retries=0,
    )
    assert tiers(model, 2) == "ee"
    assert len(model.cloud.calls) == 1
    assert shares(model) == (2, 1, 0)


def test_call_of_a_cloud_that_is_down_is_given_back() -> None:
    model = scripted(
        "cloud",
        cloud=ScriptedChatModel(responses=[ConnectionRefusedError("down"), "up again"]),
        budget=capped(0, 1),
        max_retries=0,
    )
    assert tiers(model, 2) == "ec"


def test_answer_from_a_cache_takes_no_call_and_counts_no_prompt() -> None:
    model = scripted(
        "cloud",
        cloud=ScriptedChatModel(responses=["yes"], cache=InMemoryCache()),
        budget=capped(0, 2),
    )
    assert tiers(model, 3) == "ccc"
    assert len(model.cloud.calls) == 1
    assert shares(model) == (1, 1, 0)


def test_edge_that_always_asks_is_helped_up_to_the_share() -> None:
    """Beyond it, it is asked again, and told that there is no help."""

    def edge(messages: list[BaseMessage]) -> str:
        alone = any(NO_HELP in message.text for message in messages)
        return "my own guess" if alone else f"<think>No idea.</think>{ASK_MARKER}"

    model = scripted(
        edge=ScriptedChatModel(responses=[edge]), router=SelfRouter(), budget=capped(0.25, 2)
    )
    answers = [model.invoke(PROMPT) for _ in range(12)]
    helped = [one.response_metadata["hybridflow"]["tier"] == "cloud" for one in answers]
    assert [number for number, one in enumerate(helped) if one] == [0, 1, 4, 8]
    alone = {one.text for one, help_ in zip(answers, helped, strict=True) if not help_}
    assert alone == {"my own guess"}
    assert shares(model) == (12, len(model.cloud.calls), 0) == (12, 4, 0)


def test_retry_of_a_call_is_the_same_call() -> None:
    class Busy(Exception):
        status_code = 429

    model = scripted(
        "cloud",
        cloud=ScriptedChatModel(responses=[Busy("later"), "now"]),
        budget=capped(0, 1),
        max_retries=1,
    )
    assert model.invoke(PROMPT).text == "now"
    assert shares(model) == (1, 1, 0)


def test_stream_that_is_left_takes_its_call_and_counts_no_prompt() -> None:
    model = scripted("cloud", budget=capped(0.5, 3))
    stream = model.stream(PROMPT)
    next(stream)
    stream.close()
    del stream
    gc.collect()
    assert shares(model) == (0, 1, 0)


def test_refusal_is_raised_when_the_budget_says_so() -> None:
    model = scripted("cloud", budget=capped(0, 1, on_exhausted="raise"))
    model.invoke(PROMPT)
    with pytest.raises(CloudShareExceeded) as caught:
        model.invoke(PROMPT)
    assert caught.value.remaining == 0


def test_nobody_is_asked_for_more_than_the_share() -> None:
    """And it is no error that there is nobody: a share is not lifted unless it is named."""
    model = scripted("cloud", budget=capped(0, 1, on_exhausted="ask"))
    assert tiers(model, 2) == "ce"


def test_share_holds_for_models_that_count_in_one_ledger() -> None:
    ledger = MemoryLedger()
    models = [scripted("cloud", budget=capped(0.25, 2, ledger=ledger)) for _ in range(2)]
    said = "".join(tiers(models[number % 2], 1) for number in range(13))
    assert said == "cceec" + "eeec" * 2


def test_each_user_of_a_model_has_a_share() -> None:
    budget = Budget(scopes=[Scope("user", max_cloud_share=0, share_burst=1)])
    model = scripted("cloud", budget=budget)

    def ask(user: str) -> str:
        answer = model.invoke(PROMPT, {"configurable": {"user_id": user}})
        return str(answer.response_metadata["hybridflow"]["tier"])

    assert [ask(user) for user in ("ada", "bob", "ada", "bob")] == ["cloud", "cloud"] + ["edge"] * 2


async def test_share_holds_when_many_ask_at_once() -> None:
    model = scripted(
        "cloud",
        cloud=ScriptedChatModel(responses=["yes"], latency_s=0.001),
        budget=capped(0.25, 3),
    )
    answers = await asyncio.gather(*(model.ainvoke(PROMPT) for _ in range(200)))
    made = sum(one.response_metadata["hybridflow"]["tier"] == "cloud" for one in answers)
    assert made == len(model.cloud.calls) <= 0.25 * 200 + 3
    assert shares(model) == (200, made, 0)
