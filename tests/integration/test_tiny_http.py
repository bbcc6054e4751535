"""The tiny model behind the sandbox server, as real clients of OpenAI's protocol see it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest
from langchain_core.messages import AIMessageChunk, HumanMessage, SystemMessage
from langchain_openai import ChatOpenAI

from langchain_hybridflow import RoutedChatModel
from langchain_hybridflow.answer_or_ask import ASK_MARKER, NO_HELP
from langchain_hybridflow.calls.verifying import logprobs_of
from langchain_hybridflow.routing import SelfRouter
from langchain_hybridflow.sandbox import sandbox_cloud
from langchain_hybridflow.sandbox.server import create_app, running_server
from langchain_hybridflow.sandbox.tiny import TinyChatModel
from tests.unit.sandbox.tinykit import ANSWERED, ASKED, write_tiny

SUM = "What is 12 + 7 * 3?"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory, require: Callable[..., None]) -> Iterator[str]:
    for name in ("numpy", "onnxruntime", "safetensors", "tokenizers"):
        require(name, "install the extra tiny")
    weights = write_tiny(tmp_path_factory.mktemp("tiny"))
    tiny = TinyChatModel(weights=weights, time_scale=0)
    with running_server(create_app({"sandbox-tiny": tiny})) as url:
        yield url


def client(url: str, **settings: Any) -> ChatOpenAI:
    return ChatOpenAI(
        model="sandbox-tiny", base_url=url, api_key="none", max_retries=0, timeout=30, **settings
    )


def merged(chunks: list[AIMessageChunk]) -> AIMessageChunk:
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole += chunk
    return whole


def test_client_gets_the_models_text_and_usage(url: str) -> None:
    answer = client(url).invoke(SUM)
    assert answer.text == ASKED
    assert answer.usage_metadata is not None
    assert answer.usage_metadata["output_tokens"] == 9


def test_client_can_rule_help_out(url: str) -> None:
    assert client(url).invoke([SystemMessage(NO_HELP), HumanMessage(SUM)]).text == ANSWERED


def test_client_gets_logprobs_as_from_openai(url: str) -> None:
    wanted = client(url, logprobs=True, top_logprobs=2)
    found = logprobs_of(wanted._generate([HumanMessage(SUM)]))
    assert found is not None
    assert len(found) == 9
    rows = wanted.invoke(SUM).response_metadata["logprobs"]["content"]
    assert "".join(row["token"] for row in rows) == ASKED
    assert [row["token"] for row in rows[-1]["top_logprobs"]] == [ASK_MARKER, "<answer>"]


def test_client_gets_the_same_logprobs_in_a_stream(url: str) -> None:
    wanted = client(url, logprobs=True)
    whole = wanted.invoke(SUM).response_metadata["logprobs"]["content"]
    streamed = merged(list(wanted.stream(SUM)))
    assert streamed.text == ASKED
    assert streamed.response_metadata["logprobs"]["content"] == whole


def test_bare_client_of_openai_reads_the_stream_with_its_logprobs(url: str) -> None:
    with openai.OpenAI(base_url=url, api_key="none", max_retries=0) as bare:
        chunks = bare.chat.completions.create(
            model="sandbox-tiny",
            messages=[{"role": "user", "content": SUM}],
            logprobs=True,
            stream=True,
        )
        rows = [
            row
            for chunk in chunks
            for choice in chunk.choices
            if choice.logprobs
            for row in choice.logprobs.content or ()
        ]
    assert "".join(row.token for row in rows) == ASKED
    assert all(row.logprob <= 0 for row in rows)


def test_no_logprobs_are_sent_that_nobody_wanted(url: str) -> None:
    assert not client(url).invoke(SUM).response_metadata.get("logprobs")


def test_options_of_the_client_reach_the_model(url: str) -> None:
    assert client(url, max_tokens=3).invoke(SUM).text == "<think>3*"
    assert client(url, stop=["12"]).invoke(SUM).text == "<think>3*4="
    drawn = {client(url, temperature=2, seed=seed).invoke(SUM).text for seed in range(4)}
    assert len(drawn) > 1


async def test_edge_behind_the_server_asks_the_cloud(url: str) -> None:
    model = RoutedChatModel(
        edge=client(url), cloud=sandbox_cloud(time_scale=0), router=SelfRouter(contract="trained")
    )
    answer = await model.ainvoke(SUM)
    assert answer.text.endswith("Answer: 33")
    assert answer.response_metadata["hybridflow"]["tier"] == "cloud"


def test_served_sandbox_offers_it() -> None:
    command = [sys.executable, "-c", "from langchain_hybridflow.cli import main; main()"]
    done = subprocess.run(
        [*command, "sandbox", "serve", "--port", "0", "--max-idle-s", "0.1"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Serving sandbox-edge, sandbox-cloud and sandbox-tiny at http")
