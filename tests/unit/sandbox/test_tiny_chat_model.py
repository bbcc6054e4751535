from __future__ import annotations

import asyncio
import importlib.util
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from math import exp
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, SystemMessage
from pydantic import ValidationError

from langchain_hybridflow import Budget, RoutedChatModel
from langchain_hybridflow.answer_or_ask import ASK_MARKER, NO_HELP
from langchain_hybridflow.calls.verifying import logprobs_of
from langchain_hybridflow.errors import ArtifactError, ConfigurationError, MissingExtraError
from langchain_hybridflow.sandbox import SANDBOX_PRICES, extract_answer, sandbox_cloud, sandbox_edge
from langchain_hybridflow.sandbox.tiny import TinyChatModel, sandbox_tiny_edge
from langchain_hybridflow.sandbox.tiny.runtime import loaded
from tests.unit.sandbox.tinykit import ANSWERED, ASKED, ENDLESS, THOUGHT, write_tiny

SUM = "What is 12 + 7 * 3?"
COUNTDOWN = "Make 24 from 3, 5, 7."
NO_HELP_MESSAGES = [SystemMessage(NO_HELP), HumanMessage(SUM)]


@pytest.fixture(scope="module", autouse=True)
def _extra(require: Callable[..., None]) -> None:
    for name in ("numpy", "onnxruntime", "safetensors", "tokenizers"):
        require(name, "install the extra tiny")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, _extra: None) -> Path:
    return write_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def undecided(tmp_path_factory: pytest.TempPathFactory, _extra: None) -> Path:
    """It may ask or answer: nearly as likely."""
    return write_tiny(tmp_path_factory.mktemp("undecided"), sharpness=2)


@pytest.fixture
def model(folder: Path) -> TinyChatModel:
    return TinyChatModel(weights=folder, time_scale=0)


def merged(chunks: list[AIMessageChunk]) -> AIMessageChunk:
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole += chunk
    return whole


@pytest.mark.parametrize("question", [SUM, COUNTDOWN])
def test_model_says_what_its_weights_say(model: TinyChatModel, question: str) -> None:
    assert model.invoke(question).text == ASKED


def test_model_that_is_told_that_there_is_no_help_answers(model: TinyChatModel) -> None:
    assert model.invoke(NO_HELP_MESSAGES).text == ANSWERED


def test_no_help_may_stand_among_other_instructions(model: TinyChatModel) -> None:
    told = SystemMessage(f"Be brief.\n\n{NO_HELP}")
    assert model.invoke([told, HumanMessage(SUM)]).text == ANSWERED


def test_user_cannot_take_the_help_away(model: TinyChatModel) -> None:
    assert model.invoke(f"{NO_HELP} {SUM}").text == ASKED


def test_answer_is_found_in_the_raw_text(model: TinyChatModel) -> None:
    assert extract_answer(model.invoke(NO_HELP_MESSAGES).text) == "5"


@pytest.mark.parametrize("options", [{}, {"logprobs": True, "top_logprobs": 2}, {"stop": ["="]}])
async def test_all_four_ways_of_asking_give_the_same_answer(
    model: TinyChatModel, options: dict[str, Any]
) -> None:
    answer = model.invoke(SUM, **options)
    streamed = merged(list(model.stream(SUM, **options)))
    astreamed = merged([chunk async for chunk in model.astream(SUM, **options)])
    for other in (await model.ainvoke(SUM, **options), streamed, astreamed):
        assert other.text == answer.text
        assert other.usage_metadata == answer.usage_metadata
        assert other.response_metadata == answer.response_metadata


def test_stream_sends_token_by_token(model: TinyChatModel) -> None:
    texts = [chunk.text for chunk in model.stream(SUM) if chunk.text]
    assert texts == ["<think>", "3", "*", "4", "=", "1", "2", "</think>", ASK_MARKER]


def test_stream_that_is_left_generates_nothing_more(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnxruntime

    runs: list[int] = []
    run = onnxruntime.InferenceSession.run
    monkeypatch.setattr(
        onnxruntime.InferenceSession,
        "run",
        lambda session, *args: runs.append(1) or run(session, *args),
    )
    stream = TinyChatModel(weights=folder, time_scale=0).stream(SUM)
    assert next(stream).text == "<think>"
    stream.close()
    assert len(runs) == 1


async def test_async_calls_run_in_threads(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    threads: set[int] = set()
    run = onnxruntime.InferenceSession.run

    def noted(session: Any, *args: Any) -> Any:
        threads.add(threading.get_ident())
        return run(session, *args)

    monkeypatch.setattr(onnxruntime.InferenceSession, "run", noted)
    model = TinyChatModel(weights=folder, time_scale=0)
    await model.ainvoke(SUM)
    assert [chunk async for chunk in model.astream(SUM)]
    assert threads
    assert threading.get_ident() not in threads


def test_many_threads_get_the_same_answers(model: TinyChatModel) -> None:
    questions = [f"What is {number} + 1?" for number in range(1, 40)]
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda one: model.invoke(one).text, questions)) == {ASKED}


def test_model_is_loaded_once_by_many_threads(tmp_path: Path) -> None:
    folder = write_tiny(tmp_path / "tiny")
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: loaded(folder), range(16)))
    assert len({id(one) for one in found}) == 1


def test_usage_counts_tokens_of_question_and_answer(model: TinyChatModel) -> None:
    message = model.invoke(SUM)
    assert message.usage_metadata == {
        "input_tokens": 16,  # <s>, two words, four digits, two signs, six spaces, ?
        "output_tokens": 9,
        "total_tokens": 25,
    }
    assert model.get_num_tokens_from_messages([HumanMessage(SUM)]) == 16
    assert model.get_num_tokens(ASKED) == 9


def test_usage_of_a_stream_comes_once(model: TinyChatModel) -> None:
    counted = [chunk for chunk in model.stream(SUM) if chunk.usage_metadata]
    assert len(counted) == 1


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_longest_answer_is_kept_to(model: TinyChatModel, name: str) -> None:
    message = model.invoke(SUM, **{name: 3})
    assert message.text == "<think>3*"
    assert message.response_metadata["finish_reason"] == "length"
    assert message.usage_metadata is not None
    assert message.usage_metadata["output_tokens"] == 3


def test_longest_answer_is_that_of_the_context(tmp_path: Path) -> None:
    model = TinyChatModel(weights=write_tiny(tmp_path, ENDLESS), time_scale=0)
    message = model.invoke("What is 1 + 1?", max_tokens=100_000)
    assert message.response_metadata["finish_reason"] == "length"
    assert message.usage_metadata is not None
    assert message.usage_metadata["total_tokens"] == 256


def test_stop_text_ends_the_answer(model: TinyChatModel) -> None:
    message = model.invoke(SUM, stop=["12"])
    assert message.text == "<think>3*4="
    assert message.response_metadata["finish_reason"] == "stop"


def test_logprobs_are_in_openais_form(model: TinyChatModel) -> None:
    message = model.invoke(SUM, logprobs=True, top_logprobs=2)
    rows = message.response_metadata["logprobs"]["content"]
    assert "".join(row["token"] for row in rows) == ASKED
    assert bytes(rows[0]["bytes"]).decode() == "<think>"
    last = rows[-1]["top_logprobs"]
    assert [row["token"] for row in last] == [ASK_MARKER, "<answer>"]
    assert last[0]["logprob"] == rows[-1]["logprob"] > last[1]["logprob"]


def test_logprobs_of_a_ruled_out_marker_go_to_the_others(undecided: Path) -> None:
    model = TinyChatModel(weights=undecided, time_scale=0, logprobs=True)
    free, helpless = (
        model.invoke(messages).response_metadata["logprobs"]["content"][8]["logprob"]
        for messages in ([HumanMessage(SUM)], NO_HELP_MESSAGES)
    )
    assert 0.5 < exp(free) < 0.95
    assert exp(helpless) > 0.99


def test_logprobs_are_read_by_whoever_measures_confidence(model: TinyChatModel) -> None:
    found = logprobs_of(model._generate([HumanMessage(SUM)], logprobs=True))
    assert found is not None
    assert len(found) == 9
    assert all(one <= 0 for one in found)


def test_no_logprobs_when_none_are_wanted(model: TinyChatModel) -> None:
    assert "logprobs" not in model.invoke(SUM).response_metadata


def test_verifier_can_ask_for_logprobs_by_the_models_field(folder: Path) -> None:
    assert (
        TinyChatModel(weights=folder, logprobs=True, time_scale=0)
        .invoke(SUM)
        .response_metadata["logprobs"]
    )


def test_temperature_draws_by_the_probabilities(undecided: Path) -> None:
    model = TinyChatModel(weights=undecided, temperature=1.0, time_scale=0)
    asked = [ASK_MARKER in model.invoke(SUM, seed=seed).text for seed in range(200)]
    row = model.invoke(SUM, temperature=0, logprobs=True).response_metadata["logprobs"]["content"]
    expected = 200 * exp(row[8]["logprob"])
    # Four standard deviations; all that comes before is surer than that.
    assert abs(sum(asked) - expected) < 4 * (expected * (1 - expected / 200)) ** 0.5 + 5


def test_low_temperature_is_greedy(undecided: Path) -> None:
    model = TinyChatModel(weights=undecided, temperature=0.01, time_scale=0)
    assert {model.invoke(SUM, seed=seed).text for seed in range(20)} == {ASKED}


def test_same_seed_draws_the_same(undecided: Path) -> None:
    model = TinyChatModel(weights=undecided, temperature=3.0, seed=5, time_scale=0)
    first = model.invoke(SUM).text
    assert model.invoke(SUM).text == first
    assert {model.invoke(SUM, seed=seed).text for seed in range(10)} != {first}


def test_without_a_seed_each_call_draws_anew(undecided: Path) -> None:
    model = TinyChatModel(weights=undecided, temperature=3.0, time_scale=0)
    assert len({model.invoke(SUM).text for _ in range(20)}) > 1


def test_negative_temperature_of_a_call_is_refused(model: TinyChatModel) -> None:
    with pytest.raises(ConfigurationError, match="temperature is -1"):
        model.invoke(SUM, temperature=-1)


@pytest.mark.parametrize(
    "fields", [{"temperature": -1}, {"max_tokens": 0}, {"time_scale": -1}, {"top_logprobs": -1}]
)
def test_field_out_of_range_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        TinyChatModel(**fields)


def test_what_is_beyond_it_goes_to_the_model_beyond(folder: Path) -> None:
    question = "What is 1234 * 7?"
    beyond = sandbox_edge(time_scale=0)
    model = TinyChatModel(weights=folder, beyond=beyond, time_scale=0)
    answer = model.invoke(question)
    assert answer.text == beyond.invoke(question).text
    assert answer.response_metadata["model_name"] == "sandbox-edge"


async def test_model_beyond_is_asked_in_the_same_way(folder: Path) -> None:
    question = "What is 1234 * 7?"
    model = TinyChatModel(weights=folder, beyond=sandbox_edge(time_scale=0), time_scale=0)
    answer = model.invoke(question)
    streamed = merged(list(model.stream(question)))
    astreamed = merged([chunk async for chunk in model.astream(question)])
    for other in (await model.ainvoke(question), streamed, astreamed):
        assert (other.text, other.usage_metadata) == (answer.text, answer.usage_metadata)


async def test_without_a_model_beyond_it_does_not_know(model: TinyChatModel) -> None:
    streamed = merged([chunk async for chunk in model.astream("Who wrote Faust?")])
    for message in (model.invoke("Who wrote Faust?"), streamed):
        assert message.text.startswith("I do not know")
        assert message.response_metadata["model_name"] == "sandbox-tiny"
        assert message.usage_metadata is not None
        assert message.usage_metadata["output_tokens"] > 0


def test_speed_is_that_of_the_time_scale(folder: Path) -> None:
    started = time.monotonic()
    TinyChatModel(weights=folder, time_scale=0.5).invoke(SUM)
    # 0.15 s to the first of nine tokens, 200 a second, at half the time
    assert time.monotonic() - started >= 0.5 * (0.15 + 8 / 200)


def test_factory_gives_the_model_and_what_is_beyond_it() -> None:
    model = sandbox_tiny_edge(seed=3, time_scale=0.5, malformed_rate=0.1)
    assert model.beyond == sandbox_edge(seed=3, time_scale=0.5, malformed_rate=0.1)
    assert (model.model_name, model.time_scale) == ("sandbox-tiny", 0.5)


def test_model_costs_nothing(folder: Path) -> None:
    model = RoutedChatModel(
        edge=TinyChatModel(weights=folder, time_scale=0),
        cloud=sandbox_cloud(time_scale=0),
        budget=Budget(limit_usd=0, prices=SANDBOX_PRICES),
    )
    assert model.invoke(SUM).response_metadata["hybridflow"]["cost_usd"] == "0.000000"


def test_folder_without_a_model_is_refused_at_the_first_call(tmp_path: Path) -> None:
    model = TinyChatModel(weights=tmp_path, time_scale=0)
    with pytest.raises(ArtifactError, match=r"config\.json, model\.onnx"):
        model.invoke(SUM)


def test_missing_extra_is_told_when_the_model_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        "langchain_hybridflow.sandbox.tiny.runtime.find_spec",
        lambda name: None if name == "onnxruntime" else find_spec(name),
    )
    with pytest.raises(MissingExtraError, match=r"langchain-hybridflow\[tiny\]"):
        TinyChatModel()


def test_import_loads_none_of_the_extra() -> None:
    code = (
        "import sys; from langchain_hybridflow.sandbox.tiny import sandbox_tiny_edge; "
        "sandbox_tiny_edge(); "
        "print({'numpy', 'onnxruntime', 'safetensors', 'tokenizers'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


async def test_many_calls_at_once_do_not_mix(model: TinyChatModel) -> None:
    answers: list[AIMessage] = await asyncio.gather(
        *(model.ainvoke(SUM if number % 2 else NO_HELP_MESSAGES) for number in range(20))
    )
    assert [answer.text for answer in answers] == [ANSWERED, ASKED] * 10


def test_thinking_can_be_stopped_before_it_decides(model: TinyChatModel) -> None:
    assert model.invoke(SUM, stop=["</think>"]).text == THOUGHT.removesuffix("</think>")
