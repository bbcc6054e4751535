from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessageChunk, HumanMessage, SystemMessage
from pydantic import ValidationError

from langchain_hybridflow.budget import Price
from langchain_hybridflow.sandbox import (
    CLOUD_PROFILE,
    SANDBOX_PRICES,
    SandboxChatModel,
    TierProfile,
    draft_plan,
    generate_problems,
    is_correct,
    sandbox_cloud,
    sandbox_edge,
)
from langchain_hybridflow.sandbox.tokens import tokenize

QUESTION = generate_problems(1, seed=9)[0].question
SUM = "What is 6 * 7?"
SUM_ANSWER = "6 * 7 = 42, so the result of 6 * 7 is 42.\nAnswer: 42"


@pytest.fixture
def cloud() -> SandboxChatModel:
    return sandbox_cloud(time_scale=0)


def merged(chunks: list[AIMessageChunk]) -> AIMessageChunk:
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole += chunk
    return whole


async def test_all_four_ways_of_asking_give_the_same_answer(cloud: SandboxChatModel) -> None:
    answer = cloud.invoke(QUESTION)
    streamed = merged(list(cloud.stream(QUESTION)))
    astreamed = merged([chunk async for chunk in cloud.astream(QUESTION)])
    others = [await cloud.ainvoke(QUESTION), streamed, astreamed]
    assert {other.text for other in others} == {answer.text}
    assert all(other.usage_metadata == answer.usage_metadata for other in others)
    assert all(other.response_metadata == answer.response_metadata for other in others)


def test_stream_sends_token_by_token(cloud: SandboxChatModel) -> None:
    chunks = [chunk.text for chunk in cloud.stream(SUM)]
    assert [text for text in chunks if text] == tokenize(SUM_ANSWER)


def test_usage_is_exact(cloud: SandboxChatModel) -> None:
    message = cloud.invoke(SUM)
    assert message.usage_metadata is not None
    assert message.usage_metadata["output_tokens"] == len(tokenize(message.text))
    assert message.usage_metadata["input_tokens"] == cloud.get_num_tokens_from_messages(
        [HumanMessage(SUM)]
    )


def test_usage_counts_the_system_message(cloud: SandboxChatModel) -> None:
    bare, full = (
        cloud.invoke(messages).usage_metadata
        for messages in ([HumanMessage(SUM)], [SystemMessage("Be brief."), HumanMessage(SUM)])
    )
    assert bare is not None
    assert full is not None
    assert full["input_tokens"] > bare["input_tokens"]


def test_metadata_names_the_model_and_why_it_stopped(cloud: SandboxChatModel) -> None:
    assert cloud.invoke(SUM).response_metadata == {
        "model_name": "sandbox-cloud",
        "finish_reason": "stop",
    }


@pytest.mark.parametrize("stream", [False, True])
def test_answer_is_cut_when_it_is_longer_than_max_tokens(
    cloud: SandboxChatModel, *, stream: bool
) -> None:
    bound = cloud.bind(max_tokens=5)
    message = merged(list(bound.stream(SUM))) if stream else bound.invoke(SUM)
    assert message.text == "".join(tokenize(SUM_ANSWER)[:5])
    assert message.response_metadata["finish_reason"] == "length"
    assert message.usage_metadata is not None
    assert message.usage_metadata["output_tokens"] == 5


def test_max_tokens_of_the_model_holds_when_the_call_sets_none() -> None:
    model = SandboxChatModel(tier_profile=CLOUD_PROFILE, time_scale=0, max_tokens=3)
    assert len(tokenize(model.invoke(SUM).text)) == 3


def test_answer_ends_before_a_stop_sequence(cloud: SandboxChatModel) -> None:
    message = cloud.invoke(SUM, stop=["Answer:", "never"])
    assert message.text == SUM_ANSWER.partition("Answer:")[0]
    assert message.response_metadata["finish_reason"] == "stop"


def test_same_prompt_gets_the_same_answer_in_another_process() -> None:
    code = (
        "from langchain_hybridflow.sandbox import generate_problems, sandbox_edge\n"
        "question = generate_problems(1, seed=9)[0].question\n"
        "print(sandbox_edge(seed=4, time_scale=0).invoke(question).text)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONHASHSEED": "77"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.strip() == sandbox_edge(seed=4, time_scale=0).invoke(QUESTION).text.strip()


def test_other_seeds_err_in_other_places() -> None:
    answers = {sandbox_edge(seed=seed, time_scale=0).invoke(QUESTION).text for seed in range(12)}
    assert len(answers) > 3


def test_answer_depends_on_nothing_but_the_prompt(cloud: SandboxChatModel) -> None:
    problem = generate_problems(1, seed=9)[0]
    changed = problem.question.replace("3", "4")
    assert changed != problem.question
    first = sandbox_cloud(time_scale=0).invoke(problem.question).text
    cloud.invoke(changed)
    assert cloud.invoke(problem.question).text == first


def test_thorough_model_thinks_at_length_about_a_whole_question_only(
    cloud: SandboxChatModel,
) -> None:
    assert len(tokenize(cloud.invoke(QUESTION).text)) > 400
    assert len(tokenize(sandbox_edge(time_scale=0).invoke(QUESTION).text)) < 400


@pytest.mark.parametrize("text", ["", "Who are you?", "<subtask", "\x00", "<question></question>"])
def test_prompt_that_cannot_be_read_gets_an_honest_answer(
    cloud: SandboxChatModel, text: str
) -> None:
    answer = cloud.invoke(text).text
    assert answer.startswith("I do not know")
    assert not any(is_correct(problem, answer) for problem in generate_problems(20))


def test_prompt_without_a_human_message_gets_an_honest_answer(cloud: SandboxChatModel) -> None:
    assert cloud.invoke([SystemMessage(SUM)]).text.startswith("I do not know")


@given(st.text(max_size=200))
def test_no_prompt_makes_the_model_raise(text: str) -> None:
    model = sandbox_edge(time_scale=0)
    for prompt in (text, [SystemMessage("<Plan>"), HumanMessage(text)]):
        assert model.invoke(prompt).text


async def test_time_is_that_of_the_profile_when_it_is_scaled() -> None:
    profile = TierProfile(name="slow", skill=99, ttft_s=4.0, tokens_per_s=5.0)
    model = SandboxChatModel(tier_profile=profile, time_scale=0.01)
    due_s = profile.due_s(len(tokenize(SUM_ANSWER))) * 0.01
    for ask in (model.invoke, lambda text: list(model.stream(text))):
        started = time.monotonic()
        ask(SUM)
        assert time.monotonic() - started >= due_s * 0.9
    started = time.monotonic()
    await asyncio.gather(*(model.ainvoke(SUM) for _ in range(20)))
    assert due_s * 0.9 <= time.monotonic() - started < due_s * 10


def test_first_token_comes_after_the_time_to_first_token() -> None:
    profile = TierProfile(name="slow", skill=99, ttft_s=0.05, tokens_per_s=1e6)
    started = time.monotonic()
    stream = SandboxChatModel(tier_profile=profile).stream(SUM)
    next(stream)
    assert time.monotonic() - started >= 0.05


async def test_long_stream_leaves_the_event_loop_to_others(cloud: SandboxChatModel) -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counter = asyncio.create_task(count())
    async for _ in cloud.astream(QUESTION):
        pass
    counter.cancel()
    assert turns > 100


def test_threads_do_not_disturb_each_other(cloud: SandboxChatModel) -> None:
    questions = [problem.question for problem in generate_problems(20, seed=6)] * 3
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda text: cloud.invoke(text).text, questions))
    assert together == [cloud.invoke(text).text for text in questions]


def test_slip_in_a_step_makes_the_final_answer_wrong(
    run_plan: Callable[..., dict[str, str]],
) -> None:
    hopeless = SandboxChatModel(
        tier_profile=CLOUD_PROFILE.model_copy(update={"skill": -99.0}), time_scale=0
    )
    perfect = SandboxChatModel(
        tier_profile=CLOUD_PROFILE.model_copy(update={"skill": 99.0}), time_scale=0
    )
    wrong = 0
    problems = [p for p in generate_problems(60, seed=8) if p.value.__class__ is Decimal]
    for problem in problems:
        plan = draft_plan(problem.question)
        texts = run_plan(
            problem.question, plan, lambda s: hopeless if s.role.value == "explain" else perfect
        )
        wrong += not is_correct(problem, texts[plan.order[-1]])
    assert wrong > 0.7 * len(problems)


def test_prices_of_the_sandbox_are_those_of_its_profiles() -> None:
    assert SANDBOX_PRICES["sandbox-edge"] == Price.FREE
    assert SANDBOX_PRICES["sandbox-cloud"] == Price(2, 8)


@pytest.mark.parametrize("bad", [{"time_scale": -1}, {"malformed_rate": 2}, {"max_tokens": 0}])
def test_model_refuses_settings_that_make_no_sense(bad: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        SandboxChatModel(tier_profile=CLOUD_PROFILE, **bad)  # type: ignore[arg-type]


def test_capabilities_say_that_there_are_no_tools() -> None:
    profile = sandbox_edge().profile
    assert profile is not None
    assert profile["tool_calling"] is False
