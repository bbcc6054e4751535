from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from langchain_core.messages import AIMessage

from langchain_hybridflow import Budget, HybridFlowGraph, Price, RoutedChatModel
from langchain_hybridflow.budget.pacing import Pacing
from langchain_hybridflow.plan import Plan, Subtask
from langchain_hybridflow.routing import AlwaysEdge, EdgeAnswer, Prediction, RouteRequest
from langchain_hybridflow.testing import ScriptedChatModel
from langchain_hybridflow.verify import PredictorVerifier
from tests.unit.chat_models.routedkit import Way, every_way

pytestmark = pytest.mark.filterwarnings("ignore:The (method|function) .* is in beta")

PRICES = {"big": Price(1_000, 1_000)}  # 0.001 USD a token


class Noting:
    """Foresees one and the same, and notes what it was asked."""

    def __init__(self, gain: float, *, cloud_tokens: float = 90) -> None:
        self.gain = gain
        self.cloud_tokens = cloud_tokens
        self.asked: list[tuple[RouteRequest, EdgeAnswer]] = []

    def predict_answered(
        self, requests: Sequence[RouteRequest], answers: Sequence[EdgeAnswer]
    ) -> Sequence[Prediction]:
        self.asked += zip(requests, answers, strict=True)
        one = Prediction(
            edge_quality=0.4,
            cloud_quality=0.4 + self.gain,
            output_tokens={"cloud": self.cloud_tokens},
            seconds={"cloud": 2.0},
        )
        return [one for _ in requests]


def model(verify: Any, **fields: Any) -> RoutedChatModel:
    settings = {
        "edge": ScriptedChatModel(responses=["from the edge"] * 9, model_name="little"),
        "cloud": ScriptedChatModel(responses=["from the cloud"] * 9, model_name="big"),
        "router": AlwaysEdge(),
        "budget": Budget(prices=PRICES),
        "on_verify_error": "escalate",
    }
    return RoutedChatModel(verify=verify, **(settings | fields))


@every_way
@pytest.mark.parametrize(("gain", "text"), [(0.3, "from the cloud"), (-0.1, "from the edge")])
async def test_question_goes_on_when_a_gain_is_foreseen(way: Way, gain: float, text: str) -> None:
    assert (await way(model(PredictorVerifier(Noting(gain))))).text == text


@pytest.mark.parametrize(("price", "text"), [(2.0, "from the cloud"), (4.0, "from the edge")])
def test_answer_stands_when_the_cloud_is_not_worth_its_price(price: float, text: str) -> None:
    # About 100 tokens, 0.1 USD: a gain of 0.3 is worth it up to a price of about 3.
    answer = model(PredictorVerifier(Noting(0.3), price_per_usd=price)).invoke("What is it?")
    assert answer.text == text


def test_verdict_tells_the_gain_and_the_comparison() -> None:
    answer = model(PredictorVerifier(Noting(0.3), price_per_usd=4.0)).invoke("What is it?")
    attempt = answer.response_metadata["hybridflow"]["attempts"][0]
    assert (attempt["accepted"], attempt["score"]) == (True, pytest.approx(0.3))
    assert attempt["verdict"].startswith("gain 0.300 <= 0.")


def test_all_of_the_time_of_the_cloud_counts() -> None:
    verify = PredictorVerifier(Noting(0.3), price_per_usd=1.0, delay_weight_usd_per_s=0.2)
    assert model(verify).invoke("What is it?").text == "from the edge"  # 0.1 + 2 s * 0.2


def test_predictor_sees_the_question_and_the_answer() -> None:
    predictor = Noting(0.0)
    model(PredictorVerifier(predictor)).invoke("What is it?")
    ((request, answer),) = predictor.asked
    assert (request.text, answer.text) == ("What is it?", "from the edge")


def test_predictor_sees_the_logprobs_when_it_wants_them() -> None:
    class Wanting(Noting):
        reads_logprobs = True

    content = [{"token": "a", "logprob": -0.5}]
    edge = ScriptedChatModel(
        responses=[AIMessage("a", response_metadata={"logprobs": {"content": content}})]
    )
    predictor = Wanting(0.0)
    verify = PredictorVerifier(predictor)
    model(verify, edge=edge).invoke("What is it?")
    assert verify.reads_logprobs
    assert predictor.asked[0][1].logprobs == (-0.5,)


def test_predictor_sees_the_live_price_of_a_paced_budget() -> None:
    predictor = Noting(0.5)
    budget = Budget(max_cloud_calls=4, prices=PRICES, pacing=Pacing(expected_calls=30))
    routed = model(
        PredictorVerifier(predictor),
        budget=budget,
        edge=ScriptedChatModel(responses=["from the edge"] * 30, model_name="little"),
        cloud=ScriptedChatModel(responses=["from the cloud"] * 30, model_name="big"),
    )
    for _ in range(8):
        routed.invoke("What is it?")
    prices = [request.budget.shadow_price for request, _ in predictor.asked]
    assert prices[0] == 0 < prices[-1]


async def test_predictor_sees_the_place_in_the_plan() -> None:
    plan = Plan(
        subtasks=[
            Subtask(id="1", task="What is asked?", role="explain"),
            Subtask(id="2", task="Who pays?", role="generate", depends_on=["1"], difficulty=7),
        ]
    )
    predictor = Noting(0.0)
    graph = HybridFlowGraph(model(PredictorVerifier(predictor))).compile(plan=plan)
    await graph.ainvoke({"messages": [("user", "Who pays?")]})
    seen = {request.subtask_id: request for request, _ in predictor.asked}
    assert (seen["2"].difficulty, seen["2"].depth, seen["2"].on_critical_path) == (7, 1, True)


def test_failing_predictor_is_a_failed_check() -> None:
    class Broken:
        def predict_answered(self, requests: object, answers: object) -> list[Prediction]:
            raise OSError("no model")

    verify = PredictorVerifier(Broken())
    assert model(verify, on_verify_error="accept").invoke("?").text == "from the edge"
    assert model(verify, on_verify_error="escalate").invoke("?").text == "from the cloud"


def test_verdict_says_what_it_was_foreseen_from() -> None:
    class Telling(Noting):
        def predict_answered(self, requests: object, answers: object) -> list[Prediction]:
            return [Prediction(edge_quality=0.9, cloud_quality=0.9, why="by text alone")]

    answer = model(PredictorVerifier(Telling(0.0))).invoke("?")
    (attempt,) = answer.response_metadata["hybridflow"]["attempts"]
    assert attempt["verdict"].startswith("by text alone: gain 0.000")
