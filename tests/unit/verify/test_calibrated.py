"""The verifier that keeps what its calibrator keeps: in every way to call, and from a dump."""

from __future__ import annotations

import asyncio
import json
import pickle
from dataclasses import replace
from math import log
from pathlib import Path
from typing import Any

import pytest
from langchain_core.load import dumps, load
from langchain_core.messages import AIMessage

from langchain_hybridflow import Budget, HybridFlowGraph, Price, RoutedChatModel
from langchain_hybridflow.answer_or_ask import ASK_MARKER
from langchain_hybridflow.calls.steps import Script
from langchain_hybridflow.calls.verifying import Desk, VerifyRequest
from langchain_hybridflow.errors import ArtifactError, ConfigurationError
from langchain_hybridflow.learning.confidence import (
    ConfidenceCalibrator,
    ConfidencePoint,
    IsotonicCurve,
)
from langchain_hybridflow.plan import Plan, Subtask
from langchain_hybridflow.routing import AlwaysEdge, SelfRouter
from langchain_hybridflow.testing import ScriptedChatModel
from langchain_hybridflow.verify import (
    AskMarker,
    Confidence,
    ConfidenceSignal,
    ConfidenceVerifier,
    SampleAgreement,
    StatedConfidence,
    TokenProbability,
    signal_settings,
)
from tests.unit.chat_models.routedkit import PROMPT, Way, every_way

pytestmark = pytest.mark.filterwarnings("ignore:The (method|function) .* is in beta")


def calibrator(signal: ConfidenceSignal | None, **fields: Any) -> ConfidenceCalibrator:
    settings = {
        "curve": IsotonicCurve((0.0, 1.0), (0.1, 0.9)),
        "point": ConfidencePoint(min_score=0.5, cloud_share=0.3),
        "signal": {} if signal is None else signal_settings(signal),
    }
    return ConfidenceCalibrator(**(settings | fields))


def verifier(signal: ConfidenceSignal, **fields: Any) -> ConfidenceVerifier:
    return ConfidenceVerifier(calibrator(signal, **fields))


def model(verify: Any, *edge: Any, **fields: Any) -> RoutedChatModel:
    settings = {
        "edge": ScriptedChatModel(responses=list(edge), model_name="little", at_end="raise"),
        "cloud": ScriptedChatModel(responses=["from the cloud"] * 9, model_name="big"),
        "router": AlwaysEdge(),
        "max_retries": 0,
        "on_verify_error": "accept",
    }
    return RoutedChatModel(verify=verify, **(settings | fields))


def first(message: Any) -> dict[str, Any]:
    found = message.response_metadata["hybridflow"]["attempts"][0]
    assert isinstance(found, dict)
    return found


@every_way
@pytest.mark.parametrize(("sure", "text"), [(50, "from the edge"), (49, "from the cloud")])
async def test_answer_is_kept_from_the_chosen_score_on(way: Way, sure: int, text: str) -> None:
    asked = model(verifier(StatedConfidence()), "from the edge", f"CONFIDENCE: {sure}")
    assert (await way(asked)).text == text


def test_verdict_is_the_probability_in_words() -> None:
    asked = model(verifier(StatedConfidence()), "from the edge", "CONFIDENCE: 75")
    found = first(asked.invoke(PROMPT))
    assert found["score"] == pytest.approx(0.7)
    assert found["verdict"] == (
        "the model says it is 75 % sure: right with probability 0.700; kept from 0.500 (score "
        "0.5) on"
    )


@pytest.mark.parametrize(
    ("on_missing", "text"), [("accept", "from the edge"), ("escalate", "from the cloud")]
)
def test_answer_without_a_score_has_a_rule(on_missing: Any, text: str) -> None:
    answer = model(verifier(TokenProbability(), on_missing=on_missing), "from the edge").invoke("?")
    assert answer.text == text
    assert first(answer)["verdict"] == f"the provider sent no log-probabilities: {on_missing}"
    assert first(answer)["score"] is None


def test_point_that_keeps_all_says_so() -> None:
    point = ConfidencePoint(min_score=None, cloud_share=0.0)
    answer = model(verifier(AskMarker(), point=point), "from the edge").invoke("?")
    assert first(answer)["verdict"].endswith("right with probability 0.900; all are kept")


def test_ties_are_drawn_by_the_question() -> None:
    point = ConfidencePoint(min_score=1.0, cloud_share=0.5, tied_cloud_share=0.5)
    verify = verifier(AskMarker(), point=point)

    def tiers() -> list[str]:
        asked = model(verify, *["from the edge"] * 40)
        answers = [asked.invoke(f"{number} + 1?") for number in range(40)]
        return [one.response_metadata["hybridflow"]["tier"] for one in answers]

    found = tiers()
    assert 10 < found.count("cloud") < 30
    assert found == tiers()


def test_signal_that_cannot_be_paid_for_is_a_failed_check() -> None:
    budget = Budget(limit_usd="0.030", prices=dict.fromkeys(("little", "big"), Price(1_000, 1_000)))
    asked = model(
        verifier(StatedConfidence()), "a b", budget=budget, max_tokens=2, on_verify_error="accept"
    )
    answer = asked.invoke("one two")
    assert answer.text == "a b"
    assert "the verifier failed (BudgetExceeded" in first(answer)["verdict"]


class WithLogprobs(ScriptedChatModel):
    logprobs: bool | None = None
    top_logprobs: int | None = None


@pytest.mark.parametrize(
    ("signal", "options"),
    [
        (TokenProbability(), {"logprobs": True}),
        (AskMarker(alternatives=3), {"logprobs": True, "top_logprobs": 3}),
        (AskMarker(alternatives=0), {}),
    ],
)
def test_edge_is_asked_for_what_the_signal_reads(
    signal: ConfidenceSignal, options: dict[str, Any]
) -> None:
    edge = WithLogprobs(responses=["from the edge"])
    model(verifier(signal), edge=edge).invoke(PROMPT)
    assert edge.call_kwargs == [options]


# ------------------------------------------------------------------------- self-routing


@every_way
async def test_marker_comes_first_and_no_signal_is_asked_then(way: Way) -> None:
    asked = model(verifier(StatedConfidence()), ASK_MARKER, router=SelfRouter())
    assert (await way(asked)).text == "from the cloud"
    assert len(asked.edge.calls) == 1  # type: ignore[attr-defined]


@every_way
@pytest.mark.parametrize(("sure", "text"), [(90, "from the edge"), (10, "from the cloud")])
async def test_answer_that_does_not_ask_is_looked_at_by_the_verifier(
    way: Way, sure: int, text: str
) -> None:
    edge = ["<think>So.</think>from the edge", f"CONFIDENCE: {sure}"]
    asked = model(verifier(StatedConfidence()), *edge, router=SelfRouter())
    assert (await way(asked)).text == text


@pytest.mark.parametrize(("chance", "text"), [(0.3, "from the edge"), (0.6, "from the cloud")])
def test_answer_of_a_model_that_nearly_asked_goes_on(chance: float, text: str) -> None:
    tokens = {
        "</think>": {},
        "<answer>": {ASK_MARKER: chance},
        "from the edge": {},
        "</answer>": {},
    }
    content = [
        {"token": t, "logprob": log(1 - sum(o.values())), "top_logprobs": [
            {"token": other, "logprob": log(p)} for other, p in o.items()]}
        for t, o in tokens.items()
    ]  # fmt: skip
    said = AIMessage(
        "<think></think><answer>from the edge</answer>",
        response_metadata={"logprobs": {"content": content}},
    )
    router = SelfRouter(contract="trained")
    assert model(verifier(AskMarker()), said, router=router).invoke(PROMPT).text == text


# ------------------------------------------------------------------------------- graphs


def test_verifier_works_in_a_graph() -> None:
    plan = Plan(
        subtasks=[
            Subtask(id="1", task="What is asked?", role="explain"),
            Subtask(id="2", task="Who pays?", role="generate", depends_on=["1"]),
        ]
    )
    asked = model(verifier(StatedConfidence()), "a", "CONFIDENCE: 90", "b", "CONFIDENCE: 10")
    graph = HybridFlowGraph(asked).compile(plan=plan)
    out = asyncio.run(graph.ainvoke({"messages": [("user", "Who pays?")]}))
    tiers = {name: one["tier"] for name, one in out["results"].items()}
    assert tiers == {"1": "edge", "2": "cloud"}


# ------------------------------------------------------------------- settings and dumps


@pytest.mark.parametrize(
    "signal",
    [TokenProbability(), SampleAgreement(samples=3), StatedConfidence(), AskMarker(alternatives=0)],
    ids=lambda one: type(one).__name__,
)
def test_verifier_comes_back_from_a_dump(signal: ConfidenceSignal) -> None:
    from langchain_openai import ChatOpenAI

    tiers = {
        tier: ChatOpenAI(model=tier, api_key="none", base_url="http://127.0.0.1:9/v1")  # type: ignore[arg-type]
        for tier in ("edge", "cloud")
    }
    verify = verifier(signal, facts={"notes": ["few"]})
    again = load(
        json.loads(dumps(RoutedChatModel(**tiers, verify=verify))),  # type: ignore[arg-type]
        allowed_objects=[RoutedChatModel, ChatOpenAI],
        valid_namespaces=["langchain_hybridflow"],
        secrets_map={"OPENAI_API_KEY": "none"},
    )
    assert again.verify == verify
    assert again.verify.signal == signal


def test_verifier_is_pickled() -> None:
    verify = verifier(SampleAgreement())
    assert pickle.loads(pickle.dumps(verify)) == verify


class Mine:
    """A signal that is not of the package."""

    def measure(self, request: VerifyRequest, desk: Desk) -> Script[Confidence]:
        yield from ()
        return Confidence(0.2, "as always")


def test_signal_of_ones_own_works_and_is_not_written_down() -> None:
    verify = ConfidenceVerifier(calibrator(None), signal=Mine())
    assert model(verify, "from the edge").invoke("?").text == "from the cloud"
    assert verify.settings() is None
    assert verify.calibrator.signal["name"].endswith(":Mine")


def test_function_in_a_signal_has_to_be_given_again(tmp_path: Path) -> None:
    signal = SampleAgreement(extract=len)
    verifier_of = ConfidenceVerifier(calibrator(None), signal=signal)
    verifier_of.calibrator.save(tmp_path / "c.json")
    assert verifier_of.settings() is None
    with pytest.raises(ConfigurationError, match=r"signal=\.\.\."):
        ConfidenceVerifier.load(tmp_path / "c.json")
    assert ConfidenceVerifier.load(tmp_path / "c.json", signal=signal) == verifier_of


def test_other_signal_than_the_calibrators_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="do not mean the same"):
        ConfidenceVerifier(
            calibrator(SampleAgreement(samples=5)), signal=SampleAgreement(samples=6)
        )


def test_settings_that_leave_defaults_out_are_those_of_the_signal() -> None:
    signal = SampleAgreement(samples=9)
    short = replace(calibrator(None), signal={"name": "SampleAgreement", "samples": 9})
    assert ConfidenceVerifier(short).signal == signal
    assert ConfidenceVerifier(short, signal=signal) == ConfidenceVerifier(calibrator(signal))


def test_calibrator_of_nobody_knows_which_signal_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="Nobody has said which signal"):
        ConfidenceVerifier(calibrator(None))


@pytest.mark.parametrize("wrong", ["file.json", None, 3])
def test_calibrator_that_is_none_is_refused(wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"ConfidenceVerifier\.load"):
        ConfidenceVerifier(wrong)
    with pytest.raises(ArtifactError):
        ConfidenceVerifier({})  # type: ignore[arg-type]
